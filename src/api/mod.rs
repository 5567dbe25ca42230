//! HTTP: parse, authorise, send a command or ask a read model, answer. One file a noun.
//!
//! ```text
//! request id, log, limits ─► who is calling ─► answered before? ─► handler ─► command or query ─► answer
//! ```

pub mod accepted;
pub mod admin;
pub mod api_keys;
pub mod app;
pub mod auth;
pub mod authentication;
pub mod batch;
pub mod body;
pub mod caller;
pub mod consistency;
pub mod context;
pub mod customers;
mod documentation;
pub mod events;
mod expected;
pub mod headers;
pub mod idempotency;
pub mod interactions;
pub mod invoices;
pub mod leads;
pub mod legacy;
pub mod limits;
pub mod list;
pub mod lookup;
pub mod me;
pub mod notes;
pub mod openapi;
pub mod page;
pub mod passwords;
pub mod past;
pub mod problem;
pub mod projects;
pub mod query;
pub mod readers;
pub mod record;
mod rehearsal;
pub mod reports;
pub mod request;
pub mod revert;
mod shown;
mod sign_in;
pub mod standing;
pub mod support;
pub mod system;
mod take_back;
pub mod tenant;
pub mod undo;
pub mod users;
mod validation;
pub mod write;

use axum::middleware::from_fn_with_state;
use axum::{Extension, Router};
use utoipa_axum::router::OpenApiRouter;

pub use app::{App, Tasks};
pub use body::Json;
pub use documentation::document;
pub use problem::{FieldError, Problem};
pub use query::Query;

/// Every route with its documentation.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(auth::router())
        .merge(passwords::router())
        .merge(me::router())
        .merge(users::router())
        .merge(tenant::router())
        .merge(api_keys::router())
        .merge(customers::router())
        .merge(notes::router())
        .merge(leads::router())
        .merge(interactions::router())
        .merge(projects::router())
        .merge(invoices::router())
        .merge(past::routes::router())
        .merge(events::router())
        .merge(reports::router())
        .merge(admin::router())
        .merge(support::router())
        .merge(legacy::router())
        .merge(revert::router())
        .merge(batch::router())
        .merge(undo::router())
        .merge(system::router())
}

/// Which `GET` is the list of which noun.
fn lists() -> Vec<(&'static str, &'static list::ListSpec)> {
    [
        ("/api/leads", record::list_spec::<leads::Leads>()),
        ("/api/leads/{id}/interactions", record::list_spec::<interactions::Interactions>()),
    ]
    .into_iter()
    .chain(customers::lists())
    .chain(projects::lists())
    .chain(invoices::lists())
    .chain(users::lists())
    .chain(reports::lists())
    .chain(admin::lists())
    .chain(legacy::lists())
    .collect()
}

/// The whole server.
pub fn router(app: &App) -> Router {
    system::recorder();
    expected::prepare();
    let (router, _) = routes().split_for_parts();
    let operations = batch::Operations::new(router.clone().with_state(app.clone()));
    let api = router
        .layer((from_fn_with_state(app.clone(), authentication::authenticate), Extension(operations)))
        .with_state(app.clone())
        .merge(problem::routes())
        .merge(documentation::router());
    request::with_middleware(api, request::RequestLimits::default())
}
