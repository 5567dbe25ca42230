//! Read models: events in, rows out, and the questions asked of those rows.
//!
//! A projection is a pure fold over the log, keyed by entity. Each read model has two tables: the rows as they
//! are now, and every row that ever was with the period in which it held, on both clocks.

pub mod fact;
pub mod model;
pub mod row;
pub mod runner;

pub use fact::{Event, Fact};
pub use runner::{Lagging, Progress, Projections, Projector};
