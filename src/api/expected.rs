//! What a route does not read, it is not sent: where no query parameter or no body is documented, each that comes is
//! refused instead of ignored.

use std::collections::HashSet;
use std::sync::LazyLock;

use axum::body::{Body, HttpBody as _};
use axum::extract::{MatchedPath, Request};
use axum::http::Method;
use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};

use super::body::whole;
use super::problem::FieldError;
use super::validation::push;
use super::{Problem, lists, query, routes};

/// Operations, by method and path.
type Operations = HashSet<(Method, String)>;

/// What reads query parameters and bodies.
static READING: LazyLock<Reading> = LazyLock::new(|| {
    let (_, api) = routes().split_for_parts();
    let mut reading = Reading::default();
    reading.parameters.extend(lists().into_iter().map(|(path, _)| (Method::GET, path.to_owned())));
    for (path, item) in api.paths.paths {
        for (method, operation) in operations(item) {
            if reads_parameters(&operation) {
                reading.parameters.insert((method.clone(), path.clone()));
            }
            if operation.request_body.is_some() {
                reading.bodies.insert((method, path.clone()));
            }
        }
    }
    reading
});

#[derive(Default)]
struct Reading {
    /// Those that document query parameters, and the lists.
    parameters: Operations,
    /// Those that document a body.
    bodies: Operations,
}

fn operations(item: PathItem) -> impl Iterator<Item = (Method, Operation)> {
    let PathItem { get, post, put, patch, delete, .. } = item;
    let all = [
        (Method::GET, get),
        (Method::POST, post),
        (Method::PUT, put),
        (Method::PATCH, patch),
        (Method::DELETE, delete),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation?)))
}

fn reads_parameters(operation: &Operation) -> bool {
    let mut parameters = operation.parameters.iter().flatten();
    parameters.any(|parameter| matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query))
}

/// Finds out which operations read what, before anybody asks.
pub(super) fn prepare() {
    LazyLock::force(&READING);
}

/// That a request has no query parameters and no body where its route reads none. An empty object says nothing, and
/// is no body.
///
/// # Errors
/// `unknown_parameter` for each parameter or member, `malformed_request` for a body that is no object,
/// `payload_too_large`.
pub(super) async fn only_what_is_read(request: Request) -> Result<Request, Problem> {
    let Some(path) = request.extensions().get::<MatchedPath>() else { return Ok(request) };
    let asked = !request.uri().query().is_none_or(str::is_empty);
    let sent = !request.body().is_end_stream() && !request.method().is_safe();
    if !asked && !sent {
        return Ok(request);
    }
    let method = if request.method() == Method::HEAD { Method::GET } else { request.method().clone() };
    let operation = (method, path.as_str().to_owned());
    if asked && !READING.parameters.contains(&operation) {
        let unknown = |(name, _): &(String, String)| {
            FieldError::parameter(name, "unknown_parameter", "there are no parameters here")
        };
        let errors: Vec<FieldError> = query::pairs(request.uri())?.iter().map(unknown).collect();
        if !errors.is_empty() {
            return Err(Problem::unknown_parameter(errors));
        }
    }
    if !sent || READING.bodies.contains(&operation) {
        return Ok(request);
    }
    let (parts, body) = request.into_parts();
    let bytes = whole(body).await?;
    nothing_said(&bytes)?;
    Ok(Request::from_parts(parts, Body::from(bytes)))
}

fn nothing_said(bytes: &[u8]) -> Result<(), Problem> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    let Ok(Value::Object(members)) = serde_json::from_slice(bytes) else {
        return Err(Problem::malformed_request("no body is read here"));
    };
    let unknown = |name: &String| {
        let mut pointer = String::new();
        push(&mut pointer, name);
        FieldError::at(pointer, "unknown_field", "there are no fields here")
    };
    let errors: Vec<FieldError> = members.keys().map(unknown).collect();
    if errors.is_empty() { Ok(()) } else { Err(Problem::unknown_parameter(errors)) }
}
