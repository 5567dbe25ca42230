//! What an answer includes: `DevHub-Position` on every one, `DevHub-Min-Position` before every read, and which records
//! of it lag behind their history.
//!
//! It stands around every route, so that none can forget it. The position is that of the business which the address
//! names, for the founder, else of the one that the caller acts in.

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::caller::{Authenticated, Founder};
use super::headers::{MinPosition, POSITION};
use super::{App, Problem, idempotency};
use crate::event_store::TenantScope;

/// The largest answer that is looked through for records that lag; a page of the longest records is smaller.
const LOOKED_THROUGH: usize = 64 * 1024 * 1024;
/// What a record has whose row is set aside.
const DEGRADED: &str = "degraded";

/// Waits for the position that a read asks for, and says which one the answer includes.
pub(super) async fn consistent(app: &App, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let Some(scope) = concerned(&mut parts, app).await else {
        return idempotency::answer_once(app, Request::from_parts(parts, body), next).await;
    };
    let before = match before(app, scope, &mut parts).await {
        Ok(position) => position,
        Err(problem) => return problem.into_response(),
    };
    let answer = idempotency::answer_once(app, Request::from_parts(parts, body), next).await;
    let mut response = marked(app, scope, answer).await;
    // A write says itself how far it came.
    response.headers_mut().entry(POSITION).or_insert(HeaderValue::from(before));
    response
}

/// Whose history the request is about; none if nobody is signed in.
async fn concerned(parts: &mut Parts, app: &App) -> Option<TenantScope> {
    let Authenticated(caller) = parts.extensions.get::<Authenticated>()?.clone();
    let caller = caller.ok()?;
    if caller.is_founder() && parts.uri.path().starts_with("/api/admin/") {
        let params = RawPathParams::from_request_parts(parts, app).await.ok();
        let tenant = params.iter().flatten().find(|(name, _)| *name == "tenant_id").map(|(_, id)| id.parse());
        if let Some(Ok(tenant)) = tenant {
            return Some(Founder(caller).scope(tenant));
        }
    }
    Some(caller.scope())
}

/// The position that can be read before anything is, after waiting for the one that is asked for.
async fn before(app: &App, scope: TenantScope, parts: &mut Parts) -> Result<i64, Problem> {
    let mut includes = 0;
    if matches!(parts.method, Method::GET | Method::HEAD) {
        let MinPosition(wanted) = MinPosition::from_request_parts(parts, app).await?;
        if let Some(wanted) = wanted {
            includes = i64::try_from(wanted).unwrap_or(i64::MAX);
            app.seen(scope, includes).await?;
        }
    }
    Ok(app.position(scope).await?.max(includes))
}

/// The answer with `"degraded": true` on each record whose row is set aside. Nearly always there is none.
async fn marked(app: &App, scope: TenantScope, response: Response) -> Response {
    let Some(parked) = app.projections.parked_of(scope.tenant()) else { return response };
    let json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if !json {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = match to_bytes(body, LOOKED_THROUGH).await {
        Ok(bytes) => bytes,
        Err(error) => return Problem::internal(error).into_response(),
    };
    let Ok(mut answer) = serde_json::from_slice::<Value>(&bytes) else {
        return Response::from_parts(parts, Body::from(bytes));
    };
    let mut found = false;
    let mut mark = |record: &mut Value| {
        let Value::Object(record) = record else { return };
        if record.get("id").and_then(Value::as_str).is_some_and(|id| parked.contains(id)) {
            record.insert(DEGRADED.to_owned(), Value::Bool(true));
            found = true;
        }
    };
    mark(&mut answer);
    if let Some(Value::Array(rows)) = answer.get_mut("data") {
        rows.iter_mut().for_each(&mut mark);
    }
    if !found {
        return Response::from_parts(parts, Body::from(bytes));
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(answer.to_string()))
}
