//! Completes the OpenAPI document that the handlers make, so that a handler says only what is its own.
//!
//! Every operation gets what follows from its method, path, security and body: problems, headers, parameters,
//! examples, an `operationId` and a tag. A public operation says so by `security(())`.

mod examples;
mod lists;
mod problems;
mod shared;

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;
use utoipa::{PartialSchema as _, ToSchema as _};

use super::accepted::Accepted;
use super::list::ListSpec;
use super::problem::ProblemDetails;

const DESCRIPTION: &str = "CRM for many businesses, event-sourced. Sign in with `POST /api/auth/login`, and send the \
    access token as `Authorization: Bearer …`. Everything is inside the caller's own business; ids of another one are \
    not found. Unknown fields and parameters are refused. Refusals are RFC 9457 problems.";

/// The document as it is served; `lists` says which `GET` is the list of which noun.
///
/// # Errors
/// Where a schema cannot be written as JSON.
pub fn complete(api: &OpenApi, lists: &[(&str, &ListSpec)]) -> Result<Value, serde_json::Error> {
    let mut document = into_object(serde_json::to_value(api)?).unwrap_or_default();
    let info = json!({
        "title": "DevHub", "version": env!("CARGO_PKG_VERSION"), "description": DESCRIPTION,
        "license": {"name": "MIT", "identifier": "MIT"},
    });
    let mut components = take_object(&mut document, "components");
    components.insert("securitySchemes".to_owned(), security_schemes());
    let mut schemas = components.remove("schemas").and_then(into_object).unwrap_or_default();
    let mut own = vec![(ProblemDetails::name().into_owned(), ProblemDetails::schema())];
    ProblemDetails::schemas(&mut own);
    own.push((Accepted::name().into_owned(), Accepted::schema()));
    for (name, schema) in own {
        schemas.insert(name, serde_json::to_value(schema)?);
    }

    let mut paths = take_object(&mut document, "paths");
    let taken = repeated_ids(&paths);
    let mut tags = BTreeSet::new();
    for (path, item) in &mut paths {
        let Some(item) = item.as_object_mut() else { continue };
        for (method, operation) in item.iter_mut() {
            let Some(operation) = operation.as_object_mut() else { continue };
            if !operation.contains_key("responses") {
                continue;
            }
            let list = lists.iter().find(|(listed, _)| method == "get" && listed == path).map(|(_, spec)| *spec);
            let place = Place { method, path, list, schemas: &schemas };
            place.complete(operation, &taken)?;
            tags.extend(operation.get("tags").and_then(|tags| tags.get(0)).and_then(Value::as_str).map(str::to_owned));
        }
    }
    // After the examples were made: a record that lags is none.
    schemas.values_mut().for_each(lagging);
    components.insert("schemas".to_owned(), Value::Object(schemas));
    shared::share(&mut paths, &mut components);
    for (name, value) in [
        ("openapi", json!("3.1.0")),
        ("info", info),
        ("servers", json!([{"url": "/"}])),
        ("security", json!([{"bearer": []}])),
        ("tags", tags.into_iter().map(|name| json!({"name": name})).collect()),
        ("paths", Value::Object(paths)),
        ("components", Value::Object(components)),
    ] {
        document.insert(name.to_owned(), value);
    }
    Ok(Value::Object(document))
}

/// The document as text: the same bytes for the same routes.
///
/// # Errors
/// None in practice: a JSON value can be written.
pub fn render(document: &Value) -> Result<String, serde_json::Error> {
    Ok(serde_json::to_string_pretty(document)? + "\n")
}

/// An operation's place, from which the rest follows.
struct Place<'a> {
    method: &'a str,
    path: &'a str,
    list: Option<&'a ListSpec>,
    schemas: &'a Map<String, Value>,
}

impl Place<'_> {
    fn complete(&self, operation: &mut Map<String, Value>, taken: &BTreeSet<String>) -> Result<(), serde_json::Error> {
        let known = operation.get("operationId").and_then(Value::as_str).is_some_and(|id| !taken.contains(id));
        if !known {
            operation.insert("operationId".to_owned(), json!(operation_id(self.method, self.path)));
        }
        let tagged = operation.get("tags").and_then(Value::as_array).is_some_and(|tags| !tags.is_empty());
        if !tagged {
            operation.insert("tags".to_owned(), json!([self.tag()]));
        }
        let public = is_public(operation);
        self.parameters(operation, public);
        self.responses(operation, public)?;
        if let Some(body) = operation.get_mut("requestBody") {
            examples::fill(body, self.schemas);
        }
        Ok(())
    }

    fn is_write(&self) -> bool {
        matches!(self.method, "post" | "put" | "patch" | "delete")
    }

    /// Whether it stores events: who is invited again gets another token, and stays as they are.
    fn stores(&self) -> bool {
        self.is_write() && !self.path.ends_with("/invitation")
    }

    fn is_api(&self) -> bool {
        self.path.starts_with("/api/")
    }

    fn tag(&self) -> &str {
        let path = self.path.strip_prefix("/api/").unwrap_or(self.path.trim_start_matches('/'));
        path.split('/').next().unwrap_or("other")
    }

    fn parameters(&self, operation: &mut Map<String, Value>, public: bool) {
        let parameters = operation.entry("parameters").or_insert_with(|| json!([]));
        let Some(parameters) = parameters.as_array_mut() else { return };
        if let Some(spec) = self.list {
            parameters.extend(lists::parameters(spec));
        }
        if self.is_api() && self.is_write() {
            parameters.push(header(
                "Idempotency-Key",
                "Makes the write repeatable for 7 days: the same key and body give the stored answer.",
                &json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}),
            ));
        } else if self.is_api() && !public {
            parameters.push(header(
                "DevHub-Min-Position",
                "The answer includes everything up to this position (`DevHub-Position` of a write), or is 503.",
                &json!({"type": "integer", "format": "int64", "minimum": 0}),
            ));
        }
        // the header that a handler reads stands behind those that all have
        let (said, general): (Vec<Value>, Vec<Value>) =
            parameters.drain(..).partition(|one| one.get("name") == Some(&json!("If-Match")));
        parameters.extend(general.into_iter().chain(said));
        // what a handler says itself counts
        let mut seen = BTreeSet::new();
        parameters.retain(|parameter| {
            let part = |name| parameter.get(name).and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
            seen.insert((part("in"), part("name")))
        });
        if parameters.is_empty() {
            operation.remove("parameters");
        }
    }

    fn responses(&self, operation: &mut Map<String, Value>, public: bool) -> Result<(), serde_json::Error> {
        let kinds = self.problems(operation, public);
        let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return Ok(()) };
        // Whatever answers the record that it wrote may have to say that it cannot be read yet.
        let record = |response: &Value| examples::is_record(response, self.schemas);
        if self.stores() && ["200", "201"].iter().any(|status| responses.get(*status).is_some_and(record)) {
            responses.entry("202").or_insert_with(|| {
                json!({
                    "description": "Stored, and not readable yet. It is not to be sent again.",
                    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Accepted"}}},
                })
            });
        }
        for (status, content) in problems::responses(&kinds)? {
            let response = responses.entry(status).or_insert_with(|| json!({}));
            let Some(response) = response.as_object_mut() else { continue };
            for (name, value) in content {
                let blank = response.get(&name).is_none_or(|value| value.as_str().is_some_and(str::is_empty));
                if blank {
                    response.insert(name, value);
                }
            }
        }
        for (status, response) in responses.iter_mut() {
            examples::fill(response, self.schemas);
            let headers = self.headers(status, response, public);
            let Some(response) = response.as_object_mut() else { continue };
            describe(status, response);
            let Some(known) = response.entry("headers").or_insert_with(|| json!({})).as_object_mut() else { continue };
            for (name, description, kind) in headers {
                let header = || json!({"description": description, "schema": {"type": kind}});
                known.entry(name).or_insert_with(header);
            }
        }
        Ok(())
    }

    fn headers(&self, status: &str, response: &Value, public: bool) -> Vec<(&'static str, &'static str, &'static str)> {
        let mut headers = vec![("request-id", "Names this request, in the log as well.", "string")];
        if self.is_api() && !public {
            headers.push(("RateLimit-Policy", "The limits that this request counts against.", "string"));
            headers.push(("RateLimit", "What is left of them.", "string"));
        }
        match status {
            "401" => headers.push(("WWW-Authenticate", "`Bearer`, with `error` where a token was sent.", "string")),
            "405" => headers.push(("Allow", "The methods of this path.", "string")),
            "429" | "503" => headers.push(("Retry-After", "Seconds to wait.", "integer")),
            _ => {}
        }
        if !status.starts_with('2') || !self.is_api() {
            return headers;
        }
        if !public {
            let position = if self.is_write() {
                "The position in the business's history that this write reached; of one that changed nothing, as of a read."
            } else {
                "The position in the business's history up to which this answer includes everything."
            };
            headers.push(("DevHub-Position", position, "integer"));
        }
        if self.is_write() {
            headers.push((
                "DevHub-Correlation-Id",
                "Names all that this write changed, for the events and `POST /api/commands/{correlation_id}/undo`; \
                 absent if it changed nothing.",
                "string",
            ));
            headers.push((
                "Idempotent-Replayed",
                "`true` where the answer was stored by an earlier request.",
                "string",
            ));
        }
        if matches!(status, "201" | "202") {
            headers.push(("Location", "The address of what was made.", "string"));
        }
        if examples::is_record(response, self.schemas) {
            headers.push(("ETag", "The version of the record, for `If-Match`.", "string"));
        }
        if self.list.is_some() {
            headers.push(("Link", "The next page, as `rel=\"next\"`.", "string"));
        }
        headers
    }
}

/// A record can lag behind its history; then it says so.
fn lagging(schema: &mut Value) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    if properties.contains_key("id") && properties.contains_key("version") {
        let degraded = json!({
            "type": "boolean",
            "default": false,
            "description": "`true` where the record lags behind its history, because something of that could not be \
                            taken in; absent otherwise.",
        });
        properties.entry("degraded").or_insert(degraded);
    }
}

/// A response has a description, in OpenAPI; that of one of which nothing is said are the words of its status.
fn describe(status: &str, response: &mut Map<String, Value>) {
    let said = response.get("description").and_then(Value::as_str).unwrap_or_default();
    if said.is_empty() {
        let status = status.parse().ok().and_then(|status: StatusCode| status.canonical_reason());
        response.insert("description".to_owned(), json!(status.unwrap_or_default()));
    }
}

/// Whether the handler reads `If-Match`, as it says itself.
fn conditional(operation: &Map<String, Value>) -> bool {
    let parameters = operation.get("parameters").and_then(Value::as_array);
    parameters.is_some_and(|all| all.iter().any(|parameter| parameter.get("name") == Some(&json!("If-Match"))))
}

fn is_public(operation: &Map<String, Value>) -> bool {
    let security = operation.get("security").and_then(Value::as_array);
    security.is_some_and(|any| any.iter().all(|scheme| scheme.as_object().is_none_or(Map::is_empty)))
}

fn header(name: &str, description: &str, schema: &Value) -> Value {
    json!({"in": "header", "name": name, "description": description, "required": false, "schema": schema})
}

fn security_schemes() -> Value {
    json!({"bearer": {
        "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
        "description": "The access token of `POST /api/auth/login`; good for 15 minutes.",
    }})
}

/// `GET /api/leads/{id}` is `get_leads_by_id`.
fn operation_id(method: &str, path: &str) -> String {
    let mut id = method.to_owned();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != "api") {
        id.push('_');
        match part.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(name) => id.push_str(&format!("by_{name}")),
            None => id.extend(part.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })),
        }
    }
    id
}

/// The ids that more than one operation has: modules that name their handlers alike.
fn repeated_ids(paths: &Map<String, Value>) -> BTreeSet<String> {
    let mut counts = BTreeMap::new();
    for operation in paths.values().filter_map(Value::as_object).flat_map(Map::values) {
        if let Some(id) = operation.get("operationId").and_then(Value::as_str) {
            *counts.entry(id.to_owned()).or_insert(0_u32) += 1;
        }
    }
    counts.into_iter().filter(|(_, count)| *count > 1).map(|(id, _)| id).collect()
}

fn take_object(document: &mut Map<String, Value>, name: &str) -> Map<String, Value> {
    document.remove(name).and_then(into_object).unwrap_or_default()
}

fn into_object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(members) => Some(members),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
