//! The one error that leaves the process: RFC 9457 problem details.

mod kind;
mod pages;

use std::fmt;

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

pub use kind::{Entry, ProblemKind};
pub use pages::{markdown, routes};

use super::context;
use crate::event_store::is_lost;
use crate::gather::Unanswered;

/// The media type of RFC 9457.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request was refused, ready to be sent.
///
/// Boxed, because it is the error half of most results in this part of the code.
#[derive(Debug, Clone)]
pub struct Problem(Box<Refusal>);

#[derive(Debug, Clone)]
struct Refusal {
    kind: ProblemKind,
    headers: HeaderMap,
    details: ProblemDetails,
}

/// A refusal (RFC 9457). `code` is for programs, `detail` for people; `type` leads to a page that explains it.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemDetails {
    /// The page that explains this type of problem.
    #[serde(rename = "type")]
    #[schema(examples("/problems/not-found"))]
    pub type_uri: String,
    /// The same few words for every problem of this type.
    #[schema(examples("Not found"))]
    pub title: &'static str,
    /// The status of the answer.
    #[schema(examples(404), minimum = 400, maximum = 599)]
    pub status: u16,
    /// What is wrong with this very request, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The type of problem, as a word for programs.
    #[schema(examples("not_found"))]
    pub code: &'static str,
    /// Names the request in the server's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Each field or parameter that is to blame.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<FieldError>,
    /// permission_denied: what is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission: Option<String>,
    /// conflict: the name of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// plan_limit: how many the plan allows. payload_too_large: bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// plan_limit: how many are in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// plan_limit: the smallest plan that lifts the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// version_conflict: the version that the record has now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_version: Option<u64>,
    /// version_conflict: what others changed since the version in `If-Match`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub changes_since: Option<Vec<serde_json::Value>>,
    /// rate_limited, overloaded, projection_lagging, and the conflict key_in_use: seconds to wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

/// One field of the body, or one parameter, that was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Where it is in the body: a JSON pointer (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(examples("/estimated_value/amount"))]
    pub pointer: Option<String>,
    /// The name of the query parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// What is wrong, as a word for programs.
    #[schema(examples("decimal_scale"))]
    pub code: String,
    /// What is wrong, in a few words for people.
    #[schema(examples("at most 2 decimals"))]
    pub detail: String,
}

impl FieldError {
    /// Something in the body, by its JSON pointer.
    #[must_use]
    pub fn at(pointer: impl Into<String>, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: Some(pointer.into()), parameter: None, code: code.into(), detail: detail.into() }
    }

    /// A query parameter, by its name.
    #[must_use]
    pub fn parameter(name: impl Into<String>, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: None, parameter: Some(name.into()), code: code.into(), detail: detail.into() }
    }
}

impl Problem {
    fn new(kind: ProblemKind) -> Self {
        let entry = kind.entry();
        Self(Box::new(Refusal {
            kind,
            headers: HeaderMap::new(),
            details: ProblemDetails {
                type_uri: kind.uri(),
                title: entry.title,
                status: entry.status.as_u16(),
                code: entry.code,
                ..ProblemDetails::default()
            },
        }))
    }

    fn detailed(kind: ProblemKind, detail: impl Into<String>) -> Self {
        let mut problem = Self::new(kind);
        problem.0.details.detail = Some(detail.into());
        problem
    }

    fn later(kind: ProblemKind, detail: impl Into<String>, seconds: u64) -> Self {
        let mut problem = Self::detailed(kind, detail);
        problem.0.details.retry_after = Some(seconds);
        problem.0.headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        problem
    }

    /// 400: the request cannot be read.
    pub fn malformed_request(detail: impl Into<String>) -> Self {
        Self::detailed(ProblemKind::MalformedRequest, detail)
    }

    /// 400: fields, parameters or operators that do not exist.
    #[must_use]
    pub fn unknown_parameter(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [only] => only.detail.clone(),
            all => format!("{} fields or parameters are unknown", all.len()),
        };
        let mut problem = Self::detailed(ProblemKind::UnknownParameter, detail);
        problem.0.details.errors = errors;
        problem
    }

    /// 400: a cursor that belongs to no list, or to another one.
    #[must_use]
    pub fn invalid_cursor() -> Self {
        Self::detailed(
            ProblemKind::InvalidCursor,
            "the cursor belongs to another list, filter or sort; begin again without it",
        )
    }

    /// 401: no access token was sent.
    #[must_use]
    pub fn unauthenticated() -> Self {
        let mut problem = Self::detailed(ProblemKind::Unauthenticated, "an access token is needed");
        problem.0.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        problem
    }

    /// 401: a token was sent, and it is not good (RFC 6750, section 3.1). The detail tells no more than the caller may know.
    pub fn invalid_token(detail: impl Into<String>) -> Self {
        let mut problem = Self::detailed(ProblemKind::Unauthenticated, detail);
        problem.0.headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
        problem
    }

    /// 401: sign-in with credentials that do not fit; the same for an unknown e-mail and a wrong password.
    #[must_use]
    pub fn wrong_credentials() -> Self {
        let mut problem = Self::unauthenticated();
        problem.0.details.detail = Some("e-mail or password is wrong".to_owned());
        problem
    }

    /// 401: the credentials fit, and the account or its business may not sign in; told only to who knows the password.
    pub fn sign_in_refused(detail: impl Into<String>) -> Self {
        let mut problem = Self::unauthenticated();
        problem.0.details.detail = Some(detail.into());
        problem
    }

    /// 403: names the permission that is missing.
    pub fn permission_denied(permission: impl fmt::Display) -> Self {
        let mut problem =
            Self::detailed(ProblemKind::PermissionDenied, format!("this needs the permission {permission}"));
        problem.0.details.permission = Some(permission.to_string());
        problem
    }

    /// 403: a limit of the plan; `plan` is the smallest one that lifts it.
    pub fn plan_limit(detail: impl Into<String>, limit: u64, used: u64, plan: Option<&str>) -> Self {
        let mut problem = Self::detailed(ProblemKind::PlanLimit, detail);
        problem.0.details.limit = Some(limit);
        problem.0.details.used = Some(used);
        problem.0.details.plan = plan.map(str::to_owned);
        problem
    }

    /// 404: the same for what does not exist and what the caller may not know of.
    #[must_use]
    pub fn not_found() -> Self {
        Self::detailed(ProblemKind::NotFound, "there is nothing here, or nothing that you may see")
    }

    /// 405; the router adds `Allow`.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        Self::detailed(ProblemKind::MethodNotAllowed, "the header Allow lists the methods of this path")
    }

    /// 409: a rule of the business, by its name for programs and as a sentence for people.
    pub fn conflict(rule: impl Into<String>, sentence: impl Into<String>) -> Self {
        let mut problem = Self::detailed(ProblemKind::Conflict, sentence);
        problem.0.details.rule = Some(rule.into());
        problem
    }

    /// 409: the first request with the same `Idempotency-Key` is still worked on; its answer may be asked for again.
    #[must_use]
    pub fn key_in_use() -> Self {
        let sentence =
            "The first request with this Idempotency-Key is still worked on; send it again later for the answer.";
        let mut problem = Self::later(ProblemKind::Conflict, sentence, 5);
        problem.0.details.rule = Some("key_in_use".into());
        problem
    }

    /// 412: others changed the same fields since the version in `If-Match`.
    #[must_use]
    pub fn version_conflict(current_version: u64, changes_since: Vec<serde_json::Value>) -> Self {
        let detail = format!("the record is at version {current_version}");
        let mut problem = Self::detailed(ProblemKind::VersionConflict, detail);
        problem.0.details.current_version = Some(current_version);
        problem.0.details.changes_since = Some(changes_since);
        problem
    }

    /// 413: more than `limit` bytes.
    #[must_use]
    pub fn payload_too_large(limit: u64) -> Self {
        let mut problem = Self::detailed(ProblemKind::PayloadTooLarge, format!("a body may have {limit} bytes"));
        problem.0.details.limit = Some(limit);
        problem
    }

    /// 415: the body is not declared as one of these types.
    #[must_use]
    pub fn unsupported_media_type(accepted: &str) -> Self {
        Self::detailed(ProblemKind::UnsupportedMediaType, format!("send the body as {accepted}"))
    }

    /// 422: values that cannot be accepted, every one of them.
    #[must_use]
    pub fn validation_failed(errors: Vec<FieldError>) -> Self {
        let detail = match errors.len() {
            1 => "1 field is invalid".to_owned(),
            n => format!("{n} fields are invalid"),
        };
        let mut problem = Self::detailed(ProblemKind::ValidationFailed, detail);
        problem.0.details.errors = errors;
        problem
    }

    /// 422: one field of the body.
    pub fn invalid_field(pointer: impl Into<String>, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::validation_failed(vec![FieldError::at(pointer, code, detail)])
    }

    /// 422: an idempotency key that was used for another request.
    #[must_use]
    pub fn idempotency_mismatch() -> Self {
        Self::detailed(ProblemKind::IdempotencyMismatch, "this Idempotency-Key was sent with another request")
    }

    /// 429, with the seconds until the next request is accepted.
    #[must_use]
    pub fn rate_limited(seconds: u64) -> Self {
        Self::later(ProblemKind::RateLimited, "too many requests", seconds)
    }

    /// 503: the read models have not reached the position that the read asked for.
    #[must_use]
    pub fn projection_lagging() -> Self {
        Self::later(ProblemKind::ProjectionLagging, "the read models are behind the position asked for", 1)
    }

    /// 503: too much to do, or not done in time.
    pub fn overloaded(detail: impl Into<String>) -> Self {
        Self::later(ProblemKind::Overloaded, detail, 1)
    }

    /// 503: the database is not there, which may be over in a moment. The cause goes to the log, once, under the
    /// request's id.
    pub fn unreachable(cause: impl fmt::Display) -> Self {
        let request_id = context::request_id();
        let request_id = request_id.as_deref().unwrap_or("none");
        tracing::error!(request_id, %cause, "the database could not be reached for request {request_id}: {cause}");
        Self::overloaded("the database cannot be reached at the moment")
    }

    /// 500: the cause goes to the log, once, under the request's id; the answer says nothing of it.
    pub fn internal(cause: impl fmt::Display) -> Self {
        let request_id = context::request_id();
        let request_id = request_id.as_deref().unwrap_or("none");
        tracing::error!(request_id, %cause, "request {request_id} failed: {cause}");
        Self::unexplained()
    }

    /// 500, where there is no cause to log.
    pub(super) fn unexplained() -> Self {
        Self::new(ProblemKind::Internal)
    }

    /// The same, with everything that is to blame.
    #[must_use]
    pub fn blaming(mut self, errors: Vec<FieldError>) -> Self {
        self.0.details.errors = errors;
        self
    }

    /// Whether the request may be right, and something of ours is not.
    #[must_use]
    pub fn is_our_fault(&self) -> bool {
        self.0.kind.entry().status.is_server_error()
    }

    /// Which kind of problem this is.
    #[must_use]
    pub fn kind(&self) -> ProblemKind {
        self.0.kind
    }

    /// Whether it says that there is nothing, or nothing that the caller may know of.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self.0.kind, ProblemKind::NotFound)
    }

    /// What the answer will say.
    #[must_use]
    pub fn details(&self) -> &ProblemDetails {
        &self.0.details
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let details = &self.0.details;
        f.write_str(details.detail.as_deref().unwrap_or(details.title))
    }
}

impl std::error::Error for Problem {}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        Self::from(&error)
    }
}

impl From<&sqlx::Error> for Problem {
    /// A database that gives no connection in time is too busy, one that breaks a connection off is gone for a moment; all
    /// else is a defect of ours.
    fn from(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut => Self::overloaded("no database connection was free in time"),
            lost if is_lost(lost) => Self::unreachable(lost),
            other => Self::internal(other),
        }
    }
}

impl From<Unanswered> for Problem {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Failed(error) => Self::from(&*error),
            Unanswered::TooSlow => Self::overloaded("the database did not answer in time"),
            Unanswered::Dropped => Self::internal(unanswered),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Refusal { kind, headers, mut details } = *self.0;
        details.request_id = context::request_id();
        let body = serde_json::to_vec(&details).unwrap_or_default();
        let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON))];
        (kind.entry().status, headers, content_type, body).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn json(problem: Problem) -> (Response<()>, serde_json::Value) {
        let (parts, body) = problem.into_response().into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        (Response::from_parts(parts, ()), serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn a_validation_problem_reads_as_documented() {
        let (response, body) = json(Problem::validation_failed(vec![
            FieldError::at("/estimated_value/amount", "decimal_scale", "at most 2 decimals"),
            FieldError::parameter("limit", "out_of_range", "from 1 to 200"),
        ]))
        .await;
        assert_eq!(response.status(), 422);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(
            body,
            serde_json::json!({
                "type": "/problems/validation-failed", "title": "Validation failed", "status": 422,
                "detail": "2 fields are invalid", "code": "validation_failed",
                "errors": [
                    {"pointer": "/estimated_value/amount", "code": "decimal_scale", "detail": "at most 2 decimals"},
                    {"parameter": "limit", "code": "out_of_range", "detail": "from 1 to 200"},
                ],
            })
        );
    }

    #[tokio::test]
    async fn what_failed_inside_stays_inside() {
        let (response, body) = json(Problem::internal("password of the database: hunter2")).await;
        assert_eq!(response.status(), 500);
        assert!(!body.to_string().contains("hunter2"));
        assert_eq!(body.get("detail"), None);
    }

    #[tokio::test]
    async fn the_headers_of_a_refusal_are_sent() {
        let (response, body) = json(Problem::rate_limited(17)).await;
        assert_eq!((response.headers()["retry-after"].as_bytes(), &body["retry_after"]), (&b"17"[..], &17.into()));
        let (response, _) = json(Problem::unauthenticated()).await;
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let (response, _) = json(Problem::invalid_token("the token has expired")).await;
        assert_eq!(response.headers()["www-authenticate"], "Bearer error=\"invalid_token\"");
    }

    #[test]
    fn every_kind_is_found_by_its_page() {
        for kind in ProblemKind::all() {
            assert_eq!(ProblemKind::from_slug(&kind.slug()), Some(*kind));
        }
    }
}
