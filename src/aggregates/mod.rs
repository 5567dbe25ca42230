//! The rules of the business, pure: no clock, no database, no HTTP.

pub mod claims;
pub mod ids;
pub mod permission;
