//! JSON as the hash chain covers it: RFC 8785.

use serde::Serialize;
use serde_json::{Number, Value};

/// What most payloads come to, in bytes: room for them is taken at once.
const ROOM: usize = 512;
/// Beyond this, RFC 8785 writes an integer as the double that it is closest to.
const EXACT: i64 = 1 << 53;

/// A value as RFC 8785 JSON.
///
/// What events consist of (names in ASCII, integers that a double can hold) has its members sorted and is written
/// down; everything else is left to the library, which for every value does what few of them need and takes several
/// times as long.
///
/// # Errors
/// If the value cannot be JSON.
pub fn to_string<T: Serialize>(value: &T) -> serde_json::Result<String> {
    let tree = serde_json::to_value(value)?;
    if is_simple(&tree) { written_down(&tree) } else { serde_json_canonicalizer::to_string(value) }
}

/// The same of what is a tree already.
///
/// # Errors
/// As [`to_string`].
pub fn of(tree: &Value) -> serde_json::Result<String> {
    if is_simple(tree) { written_down(tree) } else { serde_json_canonicalizer::to_string(tree) }
}

fn written_down(tree: &Value) -> serde_json::Result<String> {
    let mut text = Vec::with_capacity(ROOM);
    serde_json::to_writer(&mut text, tree)?;
    String::from_utf8(text).map_err(serde::ser::Error::custom)
}

/// Whether nothing is in it that RFC 8785 writes otherwise than with sorted members.
fn is_simple(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => is_exact(number),
        Value::Array(elements) => elements.iter().all(is_simple),
        // In ASCII, the order of bytes is that of UTF-16. Members are in that order unless some other crate of the build
        // asks serde_json to keep them as they came.
        Value::Object(members) => {
            members.keys().is_sorted() && members.iter().all(|(name, value)| name.is_ascii() && is_simple(value))
        }
    }
}

fn is_exact(number: &Number) -> bool {
    number.as_i64().is_some_and(|number| (-EXACT..=EXACT).contains(&number))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-20_i64..20).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[\u{0}-\u{7f}\u{e000}-\u{ffff}\u{10000}-\u{10020}]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            let names = prop_oneof![
                "[a-z_]{0,6}",
                "[\u{0}-\u{7f}]{0,3}",
                // The order of code points is not that of UTF-16 here.
                "[\u{e000}-\u{ffff}\u{10000}-\u{10020}]{0,2}",
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((names, inner), 0..5)
                    .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    proptest! {
        /// Whatever is written down is always what the library makes of it.
        #[test]
        fn it_is_always_rfc_8785(value in values()) {
            let canonical = serde_json_canonicalizer::to_string(&value).unwrap();
            prop_assert_eq!(&to_string(&value).unwrap(), &canonical);
            prop_assert_eq!(&of(&value).unwrap(), &canonical);
        }
    }

    #[test]
    fn members_are_sorted_and_what_needs_no_escape_has_none() {
        #[derive(Serialize)]
        struct Facts {
            name: &'static str,
            amount: i64,
            tags: [&'static str; 2],
        }
        let facts = Facts { name: "Zoë \"Z\"\n\u{1}\u{7f}", amount: -7, tags: ["b", "a"] };
        let expected = "{\"amount\":-7,\"name\":\"Zoë \\\"Z\\\"\\n\\u0001\u{7f}\",\"tags\":[\"b\",\"a\"]}";
        assert_eq!(to_string(&facts).unwrap(), expected);
        assert_eq!(to_string(&json!({"b": 1.0, "a": 1_u64 << 60})).unwrap(), r#"{"a":1152921504606847000,"b":1}"#);
    }
}
