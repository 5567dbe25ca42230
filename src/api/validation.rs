//! Turns what serde says about a value into what a caller can act on: every error, each with place, code and sentence.
//!
//! Field types refuse a value with a message of the form `code|sentence`; serde's own messages are translated.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;
use utoipa::ToSchema;

use super::Problem;
use super::problem::FieldError;

/// No answer lists more errors than this; it also bounds the work that one body can cause.
const MOST_ERRORS: usize = 100;

/// One thing that is wrong with a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// A member that the type does not have, and what to write instead.
    Unknown { name: String, detail: String },
    /// A member that the type needs.
    Missing { name: String },
    /// A value that the type does not accept.
    Invalid { code: String, detail: String },
}

impl Finding {
    /// Reads the message of a serde error.
    pub(super) fn from_message(message: &str) -> Self {
        let invalid = |code: &str, detail: String| Self::Invalid { code: code.to_owned(), detail };
        if let Some((code, sentence)) = message.split_once('|')
            && !code.is_empty()
            && code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        {
            return invalid(code, sentence.to_owned());
        }
        if let Some(rest) = message.strip_prefix("unknown field `") {
            let (name, expected) = rest.split_once("`, ").unwrap_or((rest.trim_end_matches('`'), ""));
            let known: Vec<&str> = quoted(expected).collect();
            return Self::Unknown { name: name.to_owned(), detail: unknown("field", name, &known) };
        }
        if let Some(rest) = message.strip_prefix("missing field `") {
            return Self::Missing { name: rest.trim_end_matches('`').to_owned() };
        }
        if let Some(rest) = message.strip_prefix("unknown variant `") {
            let known: Vec<&str> = rest.split_once("`, ").map(|(_, known)| quoted(known).collect()).unwrap_or_default();
            return invalid("unknown_value", format!("expected one of {}", known.join(", ")));
        }
        let expected = || message.rsplit_once(", expected ").map_or("another value", |(_, expected)| expected);
        if message.starts_with("invalid type: ") {
            return invalid("wrong_type", format!("expected {}", in_words(expected())));
        }
        if message.starts_with("invalid value: ") {
            return invalid("out_of_range", format!("expected {}", in_words(expected())));
        }
        if message.starts_with("invalid length ") {
            return invalid("wrong_length", format!("expected {}", in_words(expected())));
        }
        if message.starts_with("data did not match any variant") {
            return invalid("wrong_type", "has none of the accepted forms".to_owned());
        }
        invalid("invalid_value", message.to_owned())
    }
}

/// "there is no field `stge`; did you mean `stage`?"
pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let nearest = known.iter().map(|candidate| (distance(name, candidate), *candidate)).min();
    match nearest {
        Some((distance, candidate)) if distance <= 1 + name.chars().count() / 4 => {
            format!("there is no {what} `{name}`; did you mean `{candidate}`?")
        }
        Some(_) => format!("there is no {what} `{name}`; there are {}", known.join(", ")),
        None => format!("there is no {what} `{name}`, nor any other"),
    }
}

/// How many letters must change to make one word of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut left = i + 1;
        let mut next = vec![left];
        for ((y, &diagonal), &above) in b.iter().zip(&row).zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(x != *y)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

/// The names between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Rust's name of a type, as somebody who sends JSON would say it.
fn in_words(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "u128" | "usize" => "a whole number, not negative",
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a sequence" => "an array",
        "a map" => "an object",
        "a borrowed string" | "string or map" => "a string",
        named if named.starts_with("struct ") => "an object",
        other => other,
    }
}

/// A step into a JSON document.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// Reads `T` out of a document, and says everything that is wrong with it rather than the first thing.
///
/// Each member that is refused is noted and taken out, and the rest is read again. A `T` must deny unknown fields.
///
/// # Errors
/// `unknown_parameter` if there is any member that `T` does not have, else `validation_failed`.
pub(super) fn read<T: DeserializeOwned + ToSchema>(mut document: Value) -> Result<T, Problem> {
    let mut errors = Vec::new();
    find_nul(&document, &mut String::new(), &mut errors);
    let mut unknown = Vec::new();
    let mut removed = Vec::new();
    // serde would read an array as a struct, member by member, without their names
    if has_array(&document) {
        let mut found = Vec::new();
        compare_with_schema::<T>(&document, &mut found);
        errors.extend(found.into_iter().filter(|error| error.code == "wrong_type"));
    }
    let mut complete = false;
    while errors.len() + unknown.len() < MOST_ERRORS {
        let error = match serde_path_to_error::deserialize::<_, T>(&document) {
            Ok(value) if errors.is_empty() && unknown.is_empty() => return Ok(value),
            Ok(_) => break,
            Err(error) => error,
        };
        if !complete {
            let mut found = Vec::new();
            compare_with_schema::<T>(&document, &mut found);
            errors.extend(found.into_iter().filter(|error| error.code == "required"));
            complete = true;
        }
        let mut path = steps(error.path().iter(), &document);
        match Finding::from_message(&error.inner().to_string()) {
            Finding::Unknown { name, detail } => {
                if path.last() != Some(&Step::Key(name.clone())) {
                    path.push(Step::Key(name));
                }
                unknown.push(FieldError::at(pointer(&path, &removed), "unknown_field", detail));
            }
            Finding::Missing { name } => {
                let mut at = pointer(&path, &removed);
                push(&mut at, &name);
                // what was taken out as wrong is not missing as well
                note(&mut errors, FieldError::at(at, "required", "is required"));
            }
            Finding::Invalid { code, detail } => {
                let mut at = pointer(&path, &removed);
                // Money is refused as a whole; what is wrong with the number is wrong with its amount.
                if OF_A_NUMBER.contains(&code.as_str()) && has_amount(&document, &path) {
                    push(&mut at, "amount");
                }
                note(&mut errors, FieldError::at(at, code, detail));
            }
        }
        if !take_out(&mut document, path, &mut removed) {
            break;
        }
    }
    if unknown.is_empty() { Err(Problem::validation_failed(errors)) } else { Err(Problem::unknown_parameter(unknown)) }
}

/// Adds an error, unless something was said about the same place already.
fn note(errors: &mut Vec<FieldError>, error: FieldError) {
    if !errors.iter().any(|known| known.pointer == error.pointer) {
        errors.push(error);
    }
}

/// Codes that speak of a number.
const OF_A_NUMBER: [&str; 3] = ["decimal_scale", "out_of_range", "not_a_decimal"];

/// Whether the value at this place is an object with an amount.
fn has_amount(document: &Value, path: &[Step]) -> bool {
    let at = path.iter().try_fold(document, |value, step| match step {
        Step::Key(key) => value.get(key),
        Step::Index(index) => value.get(index),
    });
    at.is_some_and(|value| value.get("amount").is_some())
}

fn has_array(value: &Value) -> bool {
    match value {
        Value::Array(_) => true,
        Value::Object(members) => members.values().any(has_array),
        _ => false,
    }
}

/// Where serde stood, as steps that exist in the document.
fn steps<'a>(segments: impl Iterator<Item = &'a Segment>, document: &Value) -> Vec<Step> {
    let mut at = Some(document);
    let mut path = Vec::new();
    for segment in segments {
        let step = match segment {
            Segment::Seq { index } => Step::Index(*index),
            Segment::Map { key } => Step::Key(key.clone()),
            // the variant of an enum is a member only where it has content
            Segment::Enum { variant } if at.is_some_and(|value| value.get(variant).is_some()) => {
                Step::Key(variant.clone())
            }
            Segment::Enum { .. } => continue,
            Segment::Unknown => break,
        };
        at = at.and_then(|value| match &step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        });
        path.push(step);
    }
    path
}

/// Takes out what a path leads to, or the nearest thing around it that is there; false at the root.
fn take_out(document: &mut Value, mut path: Vec<Step>, removed: &mut Vec<(Vec<Step>, usize)>) -> bool {
    while let Some(last) = path.pop() {
        let parent = path.iter().try_fold(&mut *document, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            Step::Index(index) => value.get_mut(index),
        });
        match (parent, last) {
            (Some(Value::Object(members)), Step::Key(key)) if members.contains_key(&key) => {
                members.remove(&key);
                return true;
            }
            (Some(Value::Array(elements)), Step::Index(index)) if index < elements.len() => {
                elements.remove(index);
                let original = original_index(&path, index, removed);
                removed.push((path, original));
                return true;
            }
            _ => {}
        }
    }
    false
}

/// Where an element was before others were taken out of its array.
///
/// Paths in `removed` are as they were at that time; arrays within arrays that both lose elements are rare enough.
fn original_index(array: &[Step], index: usize, removed: &[(Vec<Step>, usize)]) -> usize {
    let mut gone: Vec<usize> = removed.iter().filter(|(path, _)| path == array).map(|(_, index)| *index).collect();
    gone.sort_unstable();
    gone.into_iter().fold(index, |index, gone| if gone <= index { index + 1 } else { index })
}

/// The path as a JSON pointer into the body that was sent.
fn pointer(path: &[Step], removed: &[(Vec<Step>, usize)]) -> String {
    let mut pointer = String::new();
    for (depth, step) in path.iter().enumerate() {
        match step {
            Step::Key(key) => push(&mut pointer, key),
            Step::Index(index) => {
                let array = path.get(..depth).unwrap_or_default();
                push(&mut pointer, &original_index(array, *index, removed).to_string());
            }
        }
    }
    pointer
}

/// Appends a member's name to a JSON pointer (RFC 6901, section 3).
pub(super) fn push(pointer: &mut String, name: &str) {
    pointer.push('/');
    pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
}

/// PostgreSQL stores no NUL character in a text, so none gets in.
fn find_nul(value: &Value, at: &mut String, errors: &mut Vec<FieldError>) {
    let length = at.len();
    match value {
        _ if errors.len() >= MOST_ERRORS => {}
        Value::String(text) if text.contains('\0') => {
            errors.push(FieldError::at(at.clone(), "nul_character", "must not contain the character U+0000"));
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                push(at, &index.to_string());
                find_nul(element, at, errors);
                at.truncate(length);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                push(at, name);
                if name.contains('\0') {
                    errors.push(FieldError::at(at.clone(), "nul_character", "must not contain the character U+0000"));
                }
                find_nul(member, at, errors);
                at.truncate(length);
            }
        }
        _ => {}
    }
}

/// Notes every required member that is not there (serde stops at the first), and every array in place of an object.
fn compare_with_schema<T: ToSchema>(document: &Value, errors: &mut Vec<FieldError>) {
    let mut schemas = Vec::new();
    T::schemas(&mut schemas);
    let named: Map<String, Value> =
        schemas.into_iter().filter_map(|(name, schema)| Some((name, serde_json::to_value(schema).ok()?))).collect();
    if let Ok(schema) = serde_json::to_value(T::schema()) {
        compare(&schema, &named, document, &mut String::new(), errors);
    }
}

fn compare(schema: &Value, named: &Map<String, Value>, value: &Value, at: &mut String, errors: &mut Vec<FieldError>) {
    let length = at.len();
    if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next()) {
        if let Some(schema) = named.get(name) {
            compare(schema, named, value, at, errors);
        }
        return;
    }
    for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        compare(part, named, value, at, errors);
    }
    // `oneOf [null, X]` is how an optional X is written; of true alternatives none can be blamed
    let alternatives = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let mut real = alternatives.filter(|part| part.get("type").and_then(Value::as_str) != Some("null"));
    if let (Some(only), None) = (real.next(), real.next()) {
        compare(only, named, value, at, errors);
    }
    match value {
        Value::Object(members) => {
            let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
            let names: BTreeSet<&str> = required.filter_map(Value::as_str).collect();
            for name in names.into_iter().filter(|name| !members.contains_key(*name)) {
                push(at, name);
                errors.push(FieldError::at(at.clone(), "required", "is required"));
                at.truncate(length);
            }
            for (name, member) in members {
                if let Some(schema) = schema.get("properties").and_then(|properties| properties.get(name)) {
                    push(at, name);
                    compare(schema, named, member, at, errors);
                    at.truncate(length);
                }
            }
        }
        Value::Array(_) if is_object(schema) => {
            errors.push(FieldError::at(at.clone(), "wrong_type", "expected an object"));
        }
        Value::Array(elements) => {
            let Some(schema) = schema.get("items") else { return };
            for (index, element) in elements.iter().enumerate().take(MOST_ERRORS) {
                push(at, &index.to_string());
                compare(schema, named, element, at, errors);
                at.truncate(length);
            }
        }
        _ => {}
    }
}

/// Whether a schema's type is `object`, or `object` among others.
fn is_object(schema: &Value) -> bool {
    match schema.get("type") {
        Some(Value::String(name)) => name == "object",
        Some(Value::Array(names)) => names.iter().any(|name| name == "object"),
        _ => false,
    }
}
