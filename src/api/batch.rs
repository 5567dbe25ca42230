//! Many operations in one request: `POST /api/{noun}/batch`.
//!
//! ```text
//! operations ─► by record, in order; records side by side ─► the noun's own routes ─► an answer each
//! ```
//!
//! Each operation is answered by the route that it names, as the same caller: it does what the route does, checks
//! what the route checks and fails alone. All of them have one correlation id, so that one undo takes them back.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, http};
use futures::StreamExt as _;
use futures::stream;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tower::ServiceExt as _;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::caller::{Authenticated, Caller};
use super::headers::POSITION;
use super::rehearsal::Rehearsal;
use super::{App, FieldError, Json, Problem, context, events};

/// Operations of one batch at most.
const MOST: usize = 500;
/// Records that are worked on side by side: as many as the appender gladly stores at once.
const ABREAST: usize = 32;
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

/// Which operations a noun has, and how many of its records are worked on side by side.
struct Noun {
    name: &'static str,
    operations: &'static [&'static str],
    abreast: usize,
}

const LEADS: Noun = Noun {
    name: "leads",
    operations: &[
        "create",
        "update",
        "delete",
        "restore",
        "revert",
        "assign",
        "stage",
        "qualify",
        "score",
        "convert",
        "lose",
        "reopen",
        "interactions",
    ],
    abreast: ABREAST,
};
const CUSTOMERS: Noun = Noun {
    name: "customers",
    operations: &[
        "create",
        "update",
        "delete",
        "restore",
        "revert",
        "status",
        "owner",
        "merge",
        "interactions",
        "notes",
    ],
    abreast: ABREAST,
};
const PROJECTS: Noun = Noun {
    name: "projects",
    operations: &[
        "create",
        "update",
        "delete",
        "restore",
        "revert",
        "status",
        "owner",
        "members",
        "remove_member",
        "customers",
        "remove_customer",
        "hours",
    ],
    abreast: ABREAST,
};
const INVOICES: Noun = Noun {
    name: "invoices",
    operations: &["create", "update", "revert", "send", "view", "pay", "void"],
    abreast: ABREAST,
};
/// Whether somebody may go, or is the last owner, depends on all the others: one after the other.
const USERS: Noun = Noun {
    name: "users",
    operations: &["create", "update", "revert", "lock", "unlock", "deactivate", "reactivate"],
    abreast: 1,
};
/// Several may belong to one customer or lead: one after the other.
const INTERACTIONS: Noun = Noun { name: "interactions", operations: &["complete", "cancel", "revert"], abreast: 1 };
/// Several may belong to one customer: one after the other.
const NOTES: Noun = Noun { name: "notes", operations: &["update", "delete", "restore", "revert"], abreast: 1 };

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

/// One request to the noun.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Operation {
    /// `create`, `update`, `delete`, or the last part of one of the noun's own paths: `assign` for
    /// `POST /api/leads/{id}/assign`.
    op: String,
    /// Which record; all but `create` need it.
    #[serde(default)]
    id: Option<String>,
    /// The version that it was made for, as in `If-Match`: `v3`.
    #[serde(default)]
    if_match: Option<String>,
    /// What the route takes as its body.
    #[serde(default)]
    body: Option<Value>,
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

/// An operation as a request to its route.
#[derive(Debug, Clone)]
struct Asked {
    id: Option<String>,
    method: Method,
    path: String,
    if_match: Option<HeaderValue>,
    body: Option<Vec<u8>>,
}

/// Every operation as a request, or everything that is wrong with how they are written.
fn requests(noun: &Noun, operations: &[Operation]) -> Result<Vec<Asked>, Problem> {
    if operations.is_empty() || operations.len() > MOST {
        let detail = format!("1 to {MOST} operations, not {}", operations.len());
        return Err(Problem::invalid_field("/operations", "out_of_range", detail));
    }
    let (mut requests, mut errors) = (Vec::with_capacity(operations.len()), Vec::new());
    for (index, operation) in operations.iter().enumerate() {
        match request(noun, operation) {
            Ok(request) => requests.push(request),
            Err((field, code, detail)) => {
                errors.push(FieldError::at(format!("/operations/{index}/{field}"), code, detail));
            }
        }
    }
    if errors.is_empty() { Ok(requests) } else { Err(Problem::validation_failed(errors)) }
}

type Wrong = (&'static str, &'static str, String);

fn request(noun: &Noun, operation: &Operation) -> Result<Asked, Wrong> {
    let op = operation.op.as_str();
    if !noun.operations.contains(&op) {
        return Err(("op", "unknown_value", format!("expected one of {}", noun.operations.join(", "))));
    }
    let base = format!("/api/{}", noun.name);
    let id = match (op, operation.id.clone()) {
        ("create", Some(_)) => return Err(("id", "not_allowed", "what is created gets its id".to_owned())),
        ("create", None) => None,
        (_, None) => return Err(("id", "required", "is required".to_owned())),
        (_, Some(id)) if is_id(&id) => Some(id),
        (_, Some(_)) => return Err(("id", "wrong_type", "expected an id like LED-007".to_owned())),
    };
    let record = format!("{base}/{}", id.as_deref().unwrap_or_default());
    let part = |collection: &str, member: &'static str| {
        let named = operation.body.as_ref().and_then(|body| body.get(member)).and_then(Value::as_str);
        let alone = operation.body.as_ref().and_then(Value::as_object).is_some_and(|body| body.len() == 1);
        let named = named.filter(|named| alone && is_id(named));
        named
            .map(|named| format!("{record}/{collection}/{named}"))
            .ok_or_else(|| ("body", "required", format!("expected {member}, and nothing else")))
    };
    let (method, path, with_body) = match op {
        "create" => (Method::POST, base, true),
        "update" => (Method::PATCH, record, true),
        "delete" => (Method::DELETE, record, false),
        "remove_member" => (Method::DELETE, part("members", "user_id")?, false),
        "remove_customer" => (Method::DELETE, part("customers", "customer_id")?, false),
        action => (Method::POST, format!("{record}/{action}"), true),
    };
    let taken = with_body || path.contains("/members/") || path.contains("/customers/");
    if operation.body.is_some() && !taken {
        return Err(("body", "not_allowed", "this operation takes no body".to_owned()));
    }
    let if_match = operation.if_match.as_deref().map(version_tag).transpose()?;
    let body = operation.body.as_ref().filter(|_| with_body).map(|body| body.to_string().into_bytes());
    Ok(Asked { id, method, path, if_match, body })
}

/// Short, and of characters that lead to no other route.
fn is_id(text: &str) -> bool {
    (1..=40).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// `v3`, with or without the quotes of an `ETag`.
fn version_tag(text: &str) -> Result<HeaderValue, Wrong> {
    let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let digits = bare.strip_prefix('v').unwrap_or_default();
    let known = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let tag = HeaderValue::try_from(format!("\"{bare}\"")).ok().filter(|_| known);
    tag.ok_or_else(|| ("if_match", "wrong_type", "expected a version like v3".to_owned()))
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
