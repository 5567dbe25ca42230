//! Many operations in one request: `POST /api/{noun}/batch`.
//!
//! ```text
//! operations ─► by record, in order; records side by side ─► the noun's own routes ─► an answer each
//! ```
//!
//! Each operation is answered by the route that it names, as the same caller: it does what the route does, checks
//! what the route checks and fails alone. All of them have one correlation id, so that one undo takes them back.

mod operation;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, http};
use futures::StreamExt as _;
use futures::stream;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tower::ServiceExt as _;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::caller::{Authenticated, Caller};
use super::headers::POSITION;
use super::rehearsal::Rehearsal;
use super::{App, Json, Problem, context, events};
use operation::{Asked, CUSTOMERS, INTERACTIONS, INVOICES, LEADS, NOTES, Noun, Operation, PROJECTS, USERS, requests};

/// The largest answer of one operation; none of ours comes near it.
const ANSWER_LIMIT: usize = 1024 * 1024;

/// The routes that operations are sent to: those of the server, without what a request passes through before them.
#[derive(Clone)]
pub(super) struct Operations(Router);

impl Operations {
    pub fn new(routes: Router) -> Self {
        Self(routes)
    }
}

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(batch_leads))
        .routes(routes!(batch_customers))
        .routes(routes!(batch_projects))
        .routes(routes!(batch_invoices))
        .routes(routes!(batch_users))
        .routes(routes!(batch_interactions))
        .routes(routes!(batch_notes))
}

/// Operations, in the order in which they are meant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"dry_run": false, "operations": [
    {"op": "create", "body": {"name": "Grace Hopper", "company": "Navy"}},
    {"op": "update", "id": "LED-001", "if_match": "v3", "body": {"phone": null}},
    {"op": "assign", "id": "LED-002", "body": {"user_id": "USR-004"}},
    {"op": "delete", "id": "LED-003"}]}))]
struct Batch {
    /// Only say what each would do; nothing is stored. An operation does not see what those before it would have done.
    #[serde(default)]
    dry_run: bool,
    /// 1 to 500 of them. Those on the same record are carried out in this order, others side by side.
    #[schema(min_items = 1, max_items = 500)]
    operations: Vec<Operation>,
}

/// The answer to each operation.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "correlation_id": "0192f8e3-7c1a-7d4e-9b7a-3f5d2c1b0a99", "dry_run": false, "succeeded": 1, "failed": 1,
    "results": [
        {"index": 0, "status": 200, "id": "LED-001", "etag": "\"v4\"", "body": {"id": "LED-001", "version": 4}},
        {"index": 1, "status": 404, "id": "LED-999",
         "problem": {"type": "/problems/not-found", "title": "Not found", "status": 404, "code": "not_found"}}]}))]
struct Answers {
    /// Names all that was changed, for `POST /api/commands/{correlation_id}/undo`; null if nothing was.
    correlation_id: Option<Uuid>,
    /// Whether it was only asked what would be.
    dry_run: bool,
    /// How many were carried out, or would be.
    succeeded: usize,
    /// How many were refused.
    failed: usize,
    /// One for each operation, in their order.
    results: Vec<Answer>,
}

/// The answer to one operation.
#[derive(Debug, Serialize, ToSchema)]
struct Answer {
    /// Which operation, from 0.
    index: usize,
    /// The status that its route answers with.
    status: u16,
    /// The record.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    /// Its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    /// dry_run: the events that would be stored; none if it would change nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    would: Option<Vec<String>>,
    /// What the route answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    body: Option<Box<RawValue>>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<super::problem::ProblemDetails>)]
    problem: Option<Box<RawValue>>,
}

/// Carry out up to 500 operations on leads.
///
/// `op` is `create`, `update`, `delete`, `restore`, `revert`, `assign`, `stage`, `qualify`, `score`, `convert`,
/// `lose`, `reopen` or `interactions`; each does what its own route does, with an answer for each, and fails alone.
/// All have one correlation id, so that one undo takes them back. The batch counts as one request.
#[utoipa::path(post, path = "/api/leads/batch", request_body = Batch, responses((status = 200, body = Answers)))]
async fn batch_leads(
    caller: Caller,
    State(app): State<App>,
    Extension(operations): Extension<Operations>,
    Json(body): Json<Batch>,
) -> Result<Response, Problem> {
    run(&app, &caller, &operations, &LEADS, body).await
}

/// Carry out up to 500 operations on customers.
///
/// `op` is `create`, `update`, `delete`, `restore`, `revert`, `status`, `owner`, `merge`, `interactions` or `notes`;
/// each does what its own route does, with an answer for each, and fails alone. All have one correlation id.
#[utoipa::path(post, path = "/api/customers/batch", request_body = Batch, responses((status = 200, body = Answers)))]
async fn batch_customers(
    caller: Caller,
    State(app): State<App>,
    Extension(operations): Extension<Operations>,
    Json(body): Json<Batch>,
) -> Result<Response, Problem> {
    run(&app, &caller, &operations, &CUSTOMERS, body).await
}

/// Carry out up to 500 operations on projects.
///
/// `op` is `create`, `update`, `delete`, `restore`, `revert`, `status`, `owner`, `members`, `remove_member` (with
/// `user_id` in its body), `customers`, `remove_customer` (with `customer_id`) or `hours`; each does what its own route
/// does, with an answer for each, and fails alone. All have one correlation id.
#[utoipa::path(post, path = "/api/projects/batch", request_body = Batch, responses((status = 200, body = Answers)))]
async fn batch_projects(
    caller: Caller,
    State(app): State<App>,
    Extension(operations): Extension<Operations>,
    Json(body): Json<Batch>,
) -> Result<Response, Problem> {
    run(&app, &caller, &operations, &PROJECTS, body).await
}

/// Carry out up to 500 operations on invoices.
///
/// `op` is `create`, `update`, `revert`, `send`, `view`, `pay` or `void`; each does what its own route does, with an
/// answer for each, and fails alone. All have one correlation id.
#[utoipa::path(post, path = "/api/invoices/batch", request_body = Batch, responses((status = 200, body = Answers)))]
async fn batch_invoices(
    caller: Caller,
    State(app): State<App>,
    Extension(operations): Extension<Operations>,
    Json(body): Json<Batch>,
) -> Result<Response, Problem> {
    run(&app, &caller, &operations, &INVOICES, body).await
}

/// Carry out up to 500 operations on users, one after the other.
///
/// `op` is `create` (an invitation), `update`, `revert`, `lock`, `unlock`, `deactivate` or `reactivate`; each does what
/// its own route does, with an answer for each, and fails alone. All have one correlation id.
#[utoipa::path(post, path = "/api/users/batch", request_body = Batch, responses((status = 200, body = Answers)))]
async fn batch_users(
    caller: Caller,
    State(app): State<App>,
    Extension(operations): Extension<Operations>,
    Json(body): Json<Batch>,
) -> Result<Response, Problem> {
    run(&app, &caller, &operations, &USERS, body).await
}

/// Carry out up to 500 operations on interactions, one after the other.
///
/// `op` is `complete`, `cancel` or `revert`; new ones are the `interactions` of a lead or a customer. Each does what its
/// own route does, with an answer for each, and fails alone. All have one correlation id.
#[utoipa::path(post, path = "/api/interactions/batch", request_body = Batch, responses((status = 200, body = Answers)))]
async fn batch_interactions(
    caller: Caller,
    State(app): State<App>,
    Extension(operations): Extension<Operations>,
    Json(body): Json<Batch>,
) -> Result<Response, Problem> {
    run(&app, &caller, &operations, &INTERACTIONS, body).await
}

/// Carry out up to 500 operations on notes, one after the other.
///
/// `op` is `update`, `delete`, `restore` or `revert`; new ones are the `notes` of a customer. Each does what its own
/// route does, with an answer for each, and fails alone. All have one correlation id.
#[utoipa::path(post, path = "/api/notes/batch", request_body = Batch, responses((status = 200, body = Answers)))]
async fn batch_notes(
    caller: Caller,
    State(app): State<App>,
    Extension(operations): Extension<Operations>,
    Json(body): Json<Batch>,
) -> Result<Response, Problem> {
    run(&app, &caller, &operations, &NOTES, body).await
}

async fn run(
    app: &App,
    caller: &Caller,
    Operations(routes): &Operations,
    noun: &Noun,
    batch: Batch,
) -> Result<Response, Problem> {
    let requests = requests(noun, &batch.operations)?;
    if let (Some(key), false) = (caller.pending_key(), batch.dry_run) {
        key.reserve(app, caller.home).await?;
    }
    let mut by_record: BTreeMap<usize, Vec<(usize, Asked)>> = BTreeMap::new();
    let mut first: HashMap<String, usize> = HashMap::new();
    for (index, request) in requests.into_iter().enumerate() {
        let of = request.id.clone().map_or(index, |id| *first.entry(id).or_insert(index));
        by_record.entry(of).or_default().push((index, request));
    }
    let results: Mutex<Vec<(Answer, Option<HeaderValue>)>> = Mutex::default();
    let results = Arc::new(results);
    stream::iter(by_record.into_values())
        .for_each_concurrent(noun.abreast, |operations| {
            let results = Arc::clone(&results);
            async move {
                for (index, asked) in operations {
                    let answer = carry_out(routes, caller, index, asked, batch.dry_run).await;
                    results.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
                }
            }
        })
        .await;
    let mut results = std::mem::take(&mut *results.lock().unwrap_or_else(PoisonError::into_inner));
    results.sort_by_key(|(answer, _)| answer.index);
    let number = |value: &HeaderValue| value.to_str().ok()?.parse::<i64>().ok();
    let position = results.iter().filter_map(|(_, position)| number(position.as_ref()?)).max();
    let headers: HeaderMap = position.map(|position| (POSITION, HeaderValue::from(position))).into_iter().collect();
    let results: Vec<Answer> = results.into_iter().map(|(answer, _)| answer).collect();
    let succeeded = results.iter().filter(|answer| answer.status < 300).count();
    let answers = Answers {
        correlation_id: context::current().and_then(|request| request.stored()),
        dry_run: batch.dry_run,
        succeeded,
        failed: results.len() - succeeded,
        results,
    };
    Ok((headers, Json(answers)).into_response())
}

/// Sends one operation to its route, as the caller of the batch.
async fn carry_out(
    routes: &Router,
    caller: &Caller,
    index: usize,
    asked: Asked,
    dry_run: bool,
) -> (Answer, Option<HeaderValue>) {
    let rehearsal = dry_run.then(Rehearsal::default);
    let response = match sent(routes, caller, &asked, rehearsal.clone()).await {
        Ok(response) => response,
        Err(error) => Problem::internal(error).into_response(),
    };
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, ANSWER_LIMIT).await.unwrap_or_default();
    let text = |name: http::HeaderName| parts.headers.get(name)?.to_str().ok().map(str::to_owned);
    let position = parts.headers.get(POSITION).cloned();
    let json = RawValue::from_string(String::from_utf8_lossy(&bytes).into_owned()).ok();
    let planned = rehearsal.as_ref().and_then(Rehearsal::planned);
    let mut answer = Answer {
        index,
        status: parts.status.as_u16(),
        id: asked.id.or_else(|| id_in(&bytes).filter(|_| parts.status.is_success())),
        etag: text(header::ETAG),
        would: None,
        body: None,
        problem: None,
    };
    match planned {
        Some(planned) => {
            answer.status = StatusCode::OK.as_u16();
            answer.would = Some(planned.iter().map(events::public_name).collect());
        }
        None if parts.status.is_success() => {
            answer.would = dry_run.then(Vec::new);
            answer.body = json;
        }
        None => answer.problem = json,
    }
    (answer, position)
}

async fn sent(
    routes: &Router,
    caller: &Caller,
    asked: &Asked,
    rehearsal: Option<Rehearsal>,
) -> Result<Response, http::Error> {
    let mut request = Request::builder().method(asked.method.clone()).uri(&asked.path);
    if let Some(if_match) = &asked.if_match {
        request = request.header(header::IF_MATCH, if_match);
    }
    if asked.body.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let body = asked.body.clone().map_or_else(Body::empty, |body| Body::from(Bytes::from(body)));
    let request = request.extension(Authenticated(Ok(caller.in_batch(rehearsal)))).body(body)?;
    match routes.clone().oneshot(request).await {
        Ok(response) => Ok(response),
        Err(never) => match never {},
    }
}

/// The id of what was made.
fn id_in(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Made {
        id: String,
    }
    serde_json::from_slice::<Made>(bytes).ok().map(|made| made.id)
}
