//! The operations of a batch: which there are, how they are written, and the request that each stands for.

use axum::http::{HeaderValue, Method};
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::{FieldError, Problem};

/// Operations of one batch at most.
const MOST: usize = 500;
/// Records that are worked on side by side: as many as the appender gladly stores at once.
const ABREAST: usize = 32;

/// Which operations a noun has, and how many of its records are worked on side by side.
pub(super) struct Noun {
    name: &'static str,
    operations: &'static [&'static str],
    pub abreast: usize,
}

pub(super) const LEADS: Noun = Noun {
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
pub(super) const CUSTOMERS: Noun = Noun {
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
pub(super) const PROJECTS: Noun = Noun {
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
pub(super) const INVOICES: Noun = Noun {
    name: "invoices",
    operations: &["create", "update", "revert", "send", "view", "pay", "void"],
    abreast: ABREAST,
};
/// Whether somebody may go, or is the last owner, depends on all the others: one after the other.
pub(super) const USERS: Noun = Noun {
    name: "users",
    operations: &["create", "update", "revert", "lock", "unlock", "deactivate", "reactivate"],
    abreast: 1,
};
/// Several may belong to one customer or lead: one after the other.
pub(super) const INTERACTIONS: Noun =
    Noun { name: "interactions", operations: &["complete", "cancel", "revert"], abreast: 1 };
/// Several may belong to one customer: one after the other.
pub(super) const NOTES: Noun =
    Noun { name: "notes", operations: &["update", "delete", "restore", "revert"], abreast: 1 };

/// One request to the noun.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Operation {
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

/// An operation as a request to its route.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub id: Option<String>,
    pub method: Method,
    pub path: String,
    pub if_match: Option<HeaderValue>,
    pub body: Option<Vec<u8>>,
}

/// Every operation as a request, or everything that is wrong with how they are written.
pub(super) fn requests(noun: &Noun, operations: &[Operation]) -> Result<Vec<Asked>, Problem> {
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
