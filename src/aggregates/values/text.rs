//! A line or a paragraph of text: trimmed, not empty, not longer than allowed.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Rejected;

/// Text of 1 to `MAX` characters (Unicode scalar values), without surrounding blanks.
///
/// Line breaks and tabs are kept (`\r\n` becomes `\n`); other control characters are refused, since
/// PostgreSQL cannot store the first of them and no screen shows any.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// Reads a text.
    ///
    /// # Errors
    /// `blank`, `too_long` or `control_character`.
    pub fn new(text: &str) -> Result<Self, Rejected> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Rejected::new("blank", "must not be empty"));
        }
        let text = text.replace("\r\n", "\n");
        if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            return Err(Rejected::new("control_character", "must not contain control characters"));
        }
        if text.chars().count() > MAX {
            return Err(Rejected::new("too_long", format!("at most {MAX} characters")));
        }
        Ok(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, owned.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl<const MAX: usize> Deref for Text<MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MAX: usize> FromStr for Text<MAX> {
    type Err = Rejected;

    fn from_str(text: &str) -> Result<Self, Rejected> {
        Self::new(text)
    }
}

impl<const MAX: usize> Serialize for Text<MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Text<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl<const MAX: usize> utoipa::PartialSchema for Text<MAX> {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .min_length(Some(1))
            .max_length(Some(MAX))
            .description(Some(format!("Text of at most {MAX} characters")))
            .examples([serde_json::json!("Northwind Traders")])
            .into()
    }
}

impl<const MAX: usize> utoipa::ToSchema for Text<MAX> {
    fn name() -> std::borrow::Cow<'static, str> {
        format!("Text{MAX}").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        serde_json::from_value::<Text<5>>(serde_json::json!(text)).unwrap_err().to_string()
    }

    #[test]
    fn text_is_trimmed_and_counted_in_characters() {
        assert_eq!(Text::<5>::new("  größe\t").unwrap().as_str(), "größe");
        assert_eq!(Text::<5>::new("a\r\nb").unwrap().as_str(), "a\nb");
    }

    #[test]
    fn a_refusal_says_what_is_expected() {
        assert_eq!(refused(" \n "), "blank|must not be empty");
        assert_eq!(refused("sixsix"), "too_long|at most 5 characters");
        assert_eq!(refused("a\0b"), "control_character|must not contain control characters");
        assert_eq!(refused("a\u{1b}b"), "control_character|must not contain control characters");
    }
}
