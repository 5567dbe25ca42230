//! DevHub: an event-sourced CQRS backend for a multi-tenant CRM.
//!
//! ```text
//! HTTP ─► api ─► command ─► aggregate ─► events ─► appender ─► event store (PostgreSQL)
//!   ▲                                                             │ position
//!   └── rows ◄── read models (current + every version) ◄── projector ◄── batches in order
//! ```
//!
//! One way round: a request never writes a read model, a projection never sends a command,
//! an aggregate knows no clock, database or HTTP.
#![forbid(unsafe_code)]

pub mod access;
pub mod aggregates;
pub mod api;
pub mod cli;
pub mod clock;
pub mod config;
pub mod event_store;
pub mod founding;
pub mod gather;
pub mod legacy;
pub mod load;
pub mod postgres;
pub mod projections;
pub mod reports;
pub mod samples;

/// Of every program that this is part of, the server as well as what measures it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;
