//! Examples of bodies and answers, made from the examples in their schemas.

use serde_json::{Map, Value, json};

/// The request id in every example.
pub(super) const REQUEST_ID: &str = "0192f8e3-7c1a-7d4e-9b7a-3f5d2c1b0a99";
/// How deep an example goes into a schema that contains itself.
const DEEPEST: usize = 12;

/// Gives each JSON content that has a schema and no example one.
pub(super) fn fill(holder: &mut Value, schemas: &Map<String, Value>) {
    let Some(content) = holder.get_mut("content").and_then(Value::as_object_mut) else { return };
    for (media_type, content) in content.iter_mut().filter(|(media_type, _)| media_type.contains("json")) {
        let Some(content) = content.as_object_mut() else { continue };
        if content.contains_key("example") || content.contains_key("examples") || media_type.contains("ndjson") {
            continue;
        }
        if let Some(example) = content.get("schema").and_then(|schema| of(schema, schemas, 0)) {
            content.insert("example".to_owned(), example);
        }
    }
}

/// Whether the answer is a record with a version, and so has an `ETag`.
pub(super) fn is_record(response: &Value, schemas: &Map<String, Value>) -> bool {
    response.pointer("/content/application~1json/schema").is_some_and(|schema| has_version(schema, schemas, 0))
}

fn has_version(schema: &Value, schemas: &Map<String, Value>, depth: usize) -> bool {
    let Some(schema) = resolved(schema, schemas).filter(|_| depth <= DEEPEST) else { return false };
    let own = schema.get("properties").is_some_and(|all| all.get("version").is_some() && all.get("id").is_some());
    let parts = schema.get("allOf").and_then(Value::as_array).into_iter().flatten();
    own || parts.into_iter().any(|part| has_version(part, schemas, depth + 1))
}

fn resolved<'a>(schema: &'a Value, schemas: &'a Map<String, Value>) -> Option<&'a Value> {
    match schema.get("$ref").and_then(Value::as_str) {
        Some(path) => schemas.get(path.rsplit('/').next()?),
        None => Some(schema),
    }
}

fn of(schema: &Value, schemas: &Map<String, Value>, depth: usize) -> Option<Value> {
    if depth > DEEPEST {
        return None;
    }
    for given in ["example", "const", "default"] {
        // a default of null says nothing
        if let Some(value) = schema.get(given).filter(|value| !value.is_null()) {
            return Some(value.clone());
        }
    }
    for given in ["examples", "enum"] {
        if let Some(value) = schema.get(given).and_then(|values| values.get(0)) {
            return Some(value.clone());
        }
    }
    if schema.get("$ref").is_some() {
        return of(resolved(schema, schemas)?, schemas, depth + 1);
    }
    if let Some(parts) = schema.get("allOf").and_then(Value::as_array) {
        let mut whole = Map::new();
        for part in parts.iter().filter_map(|part| of(part, schemas, depth + 1)) {
            match part {
                Value::Object(members) => whole.extend(members),
                other => return Some(other),
            }
        }
        return Some(Value::Object(whole));
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(parts) = schema.get(choice).and_then(Value::as_array) {
            return parts.iter().filter(|part| type_of(part) != "null").find_map(|part| of(part, schemas, depth + 1));
        }
    }
    match type_of(schema) {
        "object" => Some(object(schema, schemas, depth)),
        "array" => {
            let element = schema.get("items").and_then(|items| of(items, schemas, depth + 1));
            Some(Value::Array(element.into_iter().collect()))
        }
        "string" => Some(json!(text(schema))),
        "integer" => Some(schema.get("minimum").cloned().unwrap_or(json!(1))),
        "number" => Some(json!(1.5)),
        "boolean" => Some(json!(true)),
        _ => None,
    }
}

fn object(schema: &Value, schemas: &Map<String, Value>, depth: usize) -> Value {
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let required = schema.get("required").and_then(Value::as_array);
    let is_required = |name: &str| required.is_some_and(|names| names.iter().any(|required| required == name));
    let members = properties.filter_map(|(name, schema)| {
        // What may be anything has no example of its own, and is not to be missing for it.
        let anything = || is_required(name).then(|| json!("text"));
        Some((name.clone(), of(schema, schemas, depth + 1).or_else(anything)?))
    });
    Value::Object(members.collect())
}

/// The type, without the `null` beside it.
fn type_of(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(name)) => name,
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or_default()
        }
        _ if schema.get("properties").is_some() => "object",
        _ => "",
    }
}

fn text(schema: &Value) -> &str {
    match schema.get("format").and_then(Value::as_str) {
        Some("date-time") => "2026-01-31T09:00:00Z",
        Some("date") => "2026-01-31",
        Some("uuid") => REQUEST_ID,
        Some("email") => "grace@example.com",
        Some("uri") => "https://example.com",
        _ => "text",
    }
}
