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
mod answers;
mod as_of;
mod auth;
mod batch;
mod bulk;
mod cluster;
mod commands;
mod conditional;
mod consistency;
mod contract;
mod dates;
mod debts;
mod dependencies;
mod documented;
mod events;
mod founder;
mod gathered;
mod history;
mod house;
mod isolation;
mod keys;
mod lanes;
mod large;
mod leads;
mod legacy;
mod legacy_api;
mod lists;
mod load;
mod log;
mod lost;
mod passwords;
mod people;
mod poison;
mod postgres;
mod promised;
mod rebuild;
mod reports;
mod revert;
mod search;
mod told;
mod undo;
mod unheard;
mod verify;
mod walk;
mod world;
