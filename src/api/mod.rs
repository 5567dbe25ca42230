//! HTTP: parse, authorise, send a command or ask a read model, answer.

pub mod body;
pub mod context;
pub mod headers;
pub mod limits;
pub mod list;
pub mod openapi;
pub mod page;
pub mod problem;
pub mod query;
pub mod request;
mod validation;

pub use body::Json;
pub use problem::Problem;
pub use query::Query;
