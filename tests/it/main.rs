//! The stories that DevHub tells from outside, one file per feature, in one binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "a test that cannot go on says so"
)]

mod access;
mod auth;
mod bulk;
mod cluster;
mod contract;
mod dependencies;
mod founder;
mod house;
mod isolation;
mod leads;
mod legacy;
mod legacy_api;
mod lists;
mod log;
mod passwords;
mod people;
mod postgres;
mod rebuild;
mod verify;
mod walk;
mod world;
