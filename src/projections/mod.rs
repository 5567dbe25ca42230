//! Read models: events in, rows out, and the questions asked of those rows.
//!
//! A projection is a pure fold over the log, keyed by entity. Each read model has two tables: the rows as they
//! are now, and every row that ever was with the period in which it held, on both clocks.

pub mod activity;
pub mod copy;
pub mod customers;
pub mod fact;
mod gauges;
pub mod interactions;
pub mod invoices;
pub mod leads;
pub mod model;
pub mod notes;
pub mod parking;
pub mod people;
mod progress;
pub mod projects;
pub mod rebuild;
pub mod replay;
pub mod row;
pub mod runner;
pub mod search;
mod standing;
pub mod statement;
pub mod status;
pub mod tenants;
pub mod users;
pub mod verify;
mod versioned;
mod write;
mod written;

pub use fact::{Event, Fact};
pub use progress::{Lagging, Progress, Projections};
pub use runner::Projector;

use model::{Model, Versioned};

/// Every projection there is. One that has never run is behind, not absent.
#[must_use]
pub fn all() -> Vec<Box<dyn Model>> {
    vec![
        Box::new(Versioned::<tenants::Tenants>::default()),
        Box::new(Versioned::<users::Users>::default()),
        Box::new(Versioned::<customers::Customers>::default()),
        Box::new(Versioned::<leads::Leads>::default()),
        Box::new(Versioned::<projects::Projects>::default()),
        Box::new(Versioned::<invoices::Invoices>::default()),
        Box::new(Versioned::<interactions::Interactions>::default()),
        Box::new(Versioned::<notes::Notes>::default()),
        Box::new(activity::Activity),
    ]
}
