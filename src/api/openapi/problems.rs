//! Which problems an operation can answer with, each with an example.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Place, conditional, examples};
use crate::api::problem::{FieldError, PROBLEM_JSON, Problem, ProblemKind};

impl Place<'_> {
    /// The problems that follow from what the operation is; what else it can answer, its handler says.
    pub(super) fn problems(&self, operation: &Map<String, Value>, public: bool) -> Vec<ProblemKind> {
        use ProblemKind as Kind;
        let mut kinds = vec![Kind::Internal, Kind::UnknownParameter];
        if !self.is_api() {
            return kinds;
        }
        kinds.extend([Kind::Overloaded, Kind::RateLimited]);
        if self.is_write() {
            // An idempotency key can be written wrongly, be in use, or have been used for something else.
            kinds.extend([Kind::MalformedRequest, Kind::Conflict, Kind::IdempotencyMismatch]);
        }
        if !public {
            kinds.extend([Kind::Unauthenticated, Kind::PermissionDenied, Kind::MalformedRequest]);
            if !self.is_write() {
                kinds.push(Kind::ProjectionLagging);
            }
            if self.method == "post" {
                kinds.push(Kind::PlanLimit);
            }
        }
        if conditional(operation) {
            kinds.extend([Kind::VersionConflict, Kind::ProjectionLagging]);
        }
        if operation.get("responses").is_some_and(|said| said.get("401").is_some()) {
            kinds.push(Kind::Unauthenticated);
        }
        let parameters = operation.get("parameters").and_then(Value::as_array);
        let named =
            |name: &str| parameters.is_some_and(|all| all.iter().any(|one| one.get("name") == Some(&json!(name))));
        // A record was not there at every time, and has not had every version.
        if self.path.contains('{') || self.list.is_none() && named("as_of") || self.path.ends_with("/diff") {
            kinds.push(Kind::NotFound);
        }
        let queried = parameters.is_some_and(|all| all.iter().any(|one| one.get("in") == Some(&json!("query"))));
        if queried {
            kinds.extend([Kind::MalformedRequest, Kind::UnknownParameter, Kind::ValidationFailed]);
        }
        if self.list.is_some() {
            kinds.push(Kind::InvalidCursor);
        }
        if operation.contains_key("requestBody") {
            kinds.extend([Kind::MalformedRequest, Kind::UnknownParameter, Kind::ValidationFailed]);
            kinds.extend([Kind::PayloadTooLarge, Kind::UnsupportedMediaType]);
        }
        kinds
    }
}

/// Description and content of each status that these kinds have.
pub(super) fn responses(kinds: &[ProblemKind]) -> Result<BTreeMap<String, Map<String, Value>>, serde_json::Error> {
    let mut by_status: BTreeMap<String, (BTreeSet<&str>, Map<String, Value>)> = BTreeMap::new();
    for kind in ProblemKind::all().iter().filter(|kind| kinds.contains(kind)) {
        let entry = kind.entry();
        let (titles, examples) = by_status.entry(entry.status.as_u16().to_string()).or_default();
        titles.insert(entry.title);
        let mut details = example(*kind).details().clone();
        details.request_id = Some(examples::REQUEST_ID.to_owned());
        let value = serde_json::to_value(details)?;
        examples.insert(entry.code.to_owned(), json!({"summary": entry.title, "value": value}));
    }
    let response = |(status, (titles, examples)): (String, (BTreeSet<&str>, Map<String, Value>))| {
        let titles = titles.into_iter().collect::<Vec<_>>().join("; ");
        let schema = json!({"$ref": "#/components/schemas/Problem"});
        let mut content = Map::new();
        content.insert(PROBLEM_JSON.to_owned(), json!({"schema": schema, "examples": examples}));
        let parts = [("description".to_owned(), json!(titles)), ("content".to_owned(), Value::Object(content))];
        (status, parts.into_iter().collect())
    };
    Ok(by_status.into_iter().map(response).collect())
}

fn example(kind: ProblemKind) -> Problem {
    match kind {
        ProblemKind::MalformedRequest => {
            Problem::malformed_request("the body is not JSON: expected `:` at line 2 column 12")
        }
        ProblemKind::UnknownParameter => Problem::unknown_parameter(vec![FieldError::at(
            "/compnay",
            "unknown_field",
            "there is no field `compnay`; did you mean `company`?",
        )]),
        ProblemKind::InvalidCursor => Problem::invalid_cursor(),
        ProblemKind::Unauthenticated => Problem::unauthenticated(),
        ProblemKind::PermissionDenied => Problem::permission_denied("leads:convert"),
        ProblemKind::PlanLimit => Problem::plan_limit("all 5 seats are taken", 5, 5, Some("professional")),
        ProblemKind::NotFound => Problem::not_found(),
        ProblemKind::MethodNotAllowed => Problem::method_not_allowed(),
        ProblemKind::Conflict => Problem::conflict("already_converted", "the lead was converted to CUS-001"),
        ProblemKind::VersionConflict => Problem::version_conflict(
            12,
            vec![json!({"version": 12, "field": "phone", "from": "+1 202 555 0100", "to": "+1 202 555 0199"})],
        ),
        ProblemKind::PayloadTooLarge => Problem::payload_too_large(1_048_576),
        ProblemKind::UnsupportedMediaType => Problem::unsupported_media_type("application/json"),
        ProblemKind::ValidationFailed => {
            Problem::invalid_field("/estimated_value/amount", "decimal_scale", "at most 2 decimals")
        }
        ProblemKind::IdempotencyMismatch => Problem::idempotency_mismatch(),
        ProblemKind::RateLimited => Problem::rate_limited(17),
        ProblemKind::ProjectionLagging => Problem::projection_lagging(),
        ProblemKind::Overloaded => Problem::overloaded("too many requests are being worked on"),
        // without a cause, since nothing failed: there is nothing to log
        ProblemKind::Internal => Problem::unexplained(),
    }
}
