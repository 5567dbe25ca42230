//! A change to one field, as JSON Merge Patch (RFC 7396) says it.

use std::borrow::Cow;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{OneOfBuilder, Schema};
use utoipa::openapi::{ObjectBuilder, RefOr, Type};
use utoipa::{PartialSchema, ToSchema};

/// Absent = unchanged, null = cleared, a value = set.
///
/// A field of this type needs `#[serde(default, skip_serializing_if = "Patch::is_unchanged")]`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// As it was.
    #[default]
    Unchanged,
    /// Emptied.
    Clear,
    /// This from now on.
    Set(T),
}

impl<T> Patch<T> {
    /// Whether nothing was said about the field.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        matches!(self, Self::Unchanged)
    }

    /// The value set, if one was.
    #[must_use]
    pub fn as_set(&self) -> Option<&T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Unchanged | Self::Clear => None,
        }
    }

    /// The same change to another type.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Patch<U> {
        match self {
            Self::Unchanged => Patch::Unchanged,
            Self::Clear => Patch::Clear,
            Self::Set(value) => Patch::Set(f(value)),
        }
    }

    /// Makes the change.
    pub fn apply_to(self, field: &mut Option<T>) {
        match self {
            Self::Unchanged => {}
            Self::Clear => *field = None,
            Self::Set(value) => *field = Some(value),
        }
    }

    /// Makes the change to a field that cannot be empty; clearing it is left undone.
    pub fn apply_to_required(self, field: &mut T) {
        if let Self::Set(value) = self {
            *field = value;
        }
    }
}

impl<T: PartialEq> Patch<T> {
    /// The same, or unchanged where it would change nothing.
    #[must_use]
    pub fn retain_changes(self, current: &Option<T>) -> Self {
        match (&self, current) {
            (Self::Clear, None) => Self::Unchanged,
            (Self::Set(next), Some(current)) if next == current => Self::Unchanged,
            _ => self,
        }
    }

    /// The same, or unchanged where it would change nothing, for a field that cannot be empty.
    #[must_use]
    pub fn retain_changes_to_required(self, current: &T) -> Self {
        match &self {
            Self::Set(next) if next == current => Self::Unchanged,
            _ => self,
        }
    }
}

impl<T> From<Option<T>> for Patch<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Clear, Self::Set)
    }
}

impl<T: Serialize> Serialize for Patch<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_set().serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::<T>::deserialize(deserializer).map(Self::from)
    }
}

impl<T: ToSchema> PartialSchema for Patch<T> {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new().item(ObjectBuilder::new().schema_type(Type::Null)).item(T::schema()).into()
    }
}

impl<T: ToSchema> ToSchema for Patch<T> {
    fn name() -> Cow<'static, str> {
        format!("{}Patch", T::name()).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        T::schemas(schemas);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Change {
        #[serde(default, skip_serializing_if = "Patch::is_unchanged")]
        phone: Patch<String>,
    }

    #[test]
    fn absent_null_and_value_are_three_things() {
        for (written, phone) in [
            (json!({}), Patch::Unchanged),
            (json!({"phone": null}), Patch::Clear),
            (json!({"phone": "1"}), Patch::Set("1".to_owned())),
        ] {
            let change: Change = serde_json::from_value(written.clone()).unwrap();
            assert_eq!(change, Change { phone });
            assert_eq!(serde_json::to_value(&change).unwrap(), written);
        }
    }

    #[test]
    fn what_changes_nothing_is_unchanged() {
        assert_eq!(Patch::<u8>::Clear.retain_changes(&None), Patch::Unchanged);
        assert_eq!(Patch::Set(1).retain_changes(&Some(1)), Patch::Unchanged);
        assert_eq!(Patch::Set(1).retain_changes(&Some(2)), Patch::Set(1));
        assert_eq!(Patch::Clear.retain_changes(&Some(2)), Patch::Clear);
    }
}
