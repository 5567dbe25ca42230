//! The documentation as it is served: the OpenAPI document, and the pages that show it.
//!
//! The document is made when somebody first asks for it and kept as the bytes that are sent: as a tree it takes ten times
//! the memory, which a server has better use for.

use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{Problem, lists, openapi, routes};

/// Where the document is.
const PATH: &str = "/api/openapi.json";

/// The routes; they are not in the document themselves.
pub fn router() -> Router {
    Router::new().route(PATH, get(served)).merge(SwaggerUi::new("/api/docs").config(Config::from(PATH)))
}

/// The document, as text that people compare.
///
/// # Errors
/// If a schema cannot be written as JSON.
pub fn document() -> Result<String, serde_json::Error> {
    let (_, api) = routes().split_for_parts();
    openapi::render(&openapi::complete(&api, &lists())?)
}

async fn served() -> Result<Response, Problem> {
    static DOCUMENT: OnceCell<Bytes> = OnceCell::const_new();
    let document = DOCUMENT.get_or_try_init(async || match spawn_blocking(compact).await {
        Ok(Ok(document)) => Ok(document),
        Ok(Err(error)) => Err(Problem::internal(error)),
        Err(ended) => Err(Problem::internal(ended)),
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], document.await?.clone()).into_response())
}

fn compact() -> Result<Bytes, serde_json::Error> {
    let (_, api) = routes().split_for_parts();
    serde_json::to_vec(&openapi::complete(&api, &lists())?).map(Bytes::from)
}
