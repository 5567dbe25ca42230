//! How values of the domain become values of a row.

use std::fmt::Display;

use serde::Serialize;
use serde_json::Value;

/// A value as its text.
pub(super) fn text<T: Display>(value: Option<&T>) -> Option<String> {
    value.map(ToString::to_string)
}

/// A value as JSON.
pub(super) fn json<T: Serialize>(value: Option<&T>) -> Option<Value> {
    value.and_then(|value| serde_json::to_value(value).ok())
}
