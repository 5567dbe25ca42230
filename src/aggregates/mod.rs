//! The rules of the business, pure: no clock, no database, no HTTP.
//!
//! ```text
//! command ─► decide (state) ─► events ─► apply ─► state
//!                └─► refusal
//! ```

pub mod claims;
mod contract;
pub mod customer;
pub mod ids;
pub mod interaction;
pub mod invoice;
pub mod lead;
pub mod permission;
pub mod plans;
pub mod project;
pub mod tenant;
pub mod user;
pub mod values;

pub use contract::{Refusal, Refused, event_types};
