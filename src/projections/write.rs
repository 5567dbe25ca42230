//! How values of the domain become values of a row.

use std::fmt::Display;

use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::Value;

use crate::aggregates::values::{Money, Patch, Personal};

/// A value as its text.
pub(super) fn text<T: Display>(value: Option<&T>) -> Option<String> {
    value.map(ToString::to_string)
}

/// A value as JSON.
pub(super) fn json<T: Serialize>(value: Option<&T>) -> Option<Value> {
    value.and_then(|value| serde_json::to_value(value).ok())
}

/// A change of a value that is kept as JSON.
pub(super) fn patch_json<T: Serialize>(patch: &Patch<Personal<T>>, field: &mut Option<Value>) {
    match patch {
        Patch::Unchanged => {}
        Patch::Clear => *field = None,
        Patch::Set(value) => *field = json(Some(&**value)),
    }
}

/// Money as its two columns.
pub(super) fn money(money: Option<&Money>) -> (Option<Decimal>, Option<String>) {
    money.map(|money| (money.amount(), money.currency().code().to_owned())).unzip()
}
