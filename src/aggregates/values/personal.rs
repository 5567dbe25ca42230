//! Values that tell something about a person, kept apart by their type.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A value that tells something about a person: a name, an e-mail address, free text about somebody.
///
/// In events it is written as `{"personal": …}`, so that whoever handles an event's JSON finds all
/// of it without knowing the event. It does not print itself.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"personal": "Ada Lovelace"}))]
pub struct Personal<T> {
    personal: T,
}

impl<T> Personal<T> {
    /// Marks a value as personal.
    pub const fn new(value: T) -> Self {
        Self { personal: value }
    }

    /// The value itself.
    pub fn into_inner(self) -> T {
        self.personal
    }
}

impl<T> From<T> for Personal<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T> Deref for Personal<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.personal
    }
}

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Personal(…)")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_personal_value_is_marked_in_json_and_does_not_print_itself() {
        let name = Personal::new("Ada".to_owned());
        assert_eq!(serde_json::to_value(&name).unwrap(), json!({"personal": "Ada"}));
        assert_eq!(serde_json::from_value::<Personal<String>>(json!({"personal": "Ada"})).unwrap(), name);
        assert!(serde_json::from_value::<Personal<String>>(json!("Ada")).is_err());
        assert_eq!(format!("{name:?}"), "Personal(…)");
        assert_eq!(name.len(), 3);
    }
}
