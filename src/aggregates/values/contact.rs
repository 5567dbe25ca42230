//! How somebody is reached: e-mail, telephone, postal address.

use std::fmt;
use std::str::FromStr;

use email_address::{EmailAddress, Options};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::{Rejected, Text};

/// An address as RFC 5321 or a browser's form allows it, at most 254 octets (RFC 3696, erratum 1690), spelled as it was
/// given.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Email(String);

impl Email {
    /// Reads an address; surrounding blanks are dropped.
    ///
    /// # Errors
    /// `blank`, `too_long` or `invalid_email`.
    pub fn new(text: &str) -> Result<Self, Rejected> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Rejected::new("blank", "must not be empty"));
        }
        if text.len() > 254 {
            return Err(Rejected::new("too_long", "at most 254 characters"));
        }
        let syntax = Options::default().without_display_text().without_domain_literal();
        if EmailAddress::parse_with_options(text, syntax).is_err() && !a_browser_accepts(text) {
            return Err(Rejected::new("invalid_email", "expected an address like ada@example.com"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The address as it was spelled.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What two spellings of one address have in common: compare and index by this.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_lowercase()
    }
}

/// What a form in a browser takes for an e-mail address (the WHATWG's HTML standard): wider than RFC 5321 where people
/// have such addresses, as `a..b@example.com`.
fn a_browser_accepts(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let atom = |c: char| c.is_ascii_alphanumeric() || ".!#$%&'*+/=?^_`{|}~-".contains(c);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    !local.is_empty() && local.chars().all(atom) && domain.split('.').all(label)
}

/// A telephone number as people write it: at most 40 characters, with a digit, not normalised.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Phone(String);

impl Phone {
    /// Reads a number: digits, blanks, `+ - ( ) . /`, `x` and `ext` for an extension.
    ///
    /// # Errors
    /// `blank`, `too_long` or `invalid_phone`.
    pub fn new(text: &str) -> Result<Self, Rejected> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Rejected::new("blank", "must not be empty"));
        }
        if text.chars().count() > 40 {
            return Err(Rejected::new("too_long", "at most 40 characters"));
        }
        let bare = text.to_lowercase().replace("ext", "x");
        let fits = bare.chars().all(|c| c.is_ascii_digit() || " +-()./x".contains(c));
        if !fits || !bare.contains(|c: char| c.is_ascii_digit()) {
            return Err(Rejected::new("invalid_phone", "expected a number like +1 (555) 010-0199 ext 12"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The number as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! written_as_text {
    ($name:ident, $max:literal, $format:expr, $example:literal, $doc:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = Rejected;

            fn from_str(text: &str) -> Result<Self, Rejected> {
                Self::new(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::Type::String)
                    .format($format)
                    .max_length(Some($max))
                    .description(Some($doc))
                    .examples([serde_json::json!($example)])
                    .into()
            }
        }

        impl ToSchema for $name {}
    };
}

written_as_text!(
    Email,
    254,
    Some(utoipa::openapi::SchemaFormat::KnownFormat(utoipa::openapi::KnownFormat::Email)),
    "ada@example.com",
    "An e-mail address"
);
written_as_text!(Phone, 40, None, "+1 (555) 010-0199", "A telephone number, as people write it");

/// A postal address; also read from a plain text, which becomes its first line. Not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[schema(example = json!({"line1": "1 Main Street", "city": "Springfield", "postal_code": "62701", "country": "US"}))]
pub struct Address {
    /// Street and number, or all that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line1: Option<Text<500>>,
    /// Flat, floor, building.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line2: Option<Text<200>>,
    /// City or town.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub city: Option<Text<100>>,
    /// State, province or region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Text<100>>,
    /// Postal code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postal_code: Option<Text<20>>,
    /// Country, as it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<Text<100>>,
}

impl Address {
    /// An address of which only one text is known.
    #[must_use]
    pub fn of_line(line: Text<500>) -> Self {
        Self { line1: Some(line), ..Self::default() }
    }

    fn filled(self) -> Result<Self, Rejected> {
        if self == Self::default() {
            return Err(Rejected::new("blank", "must have at least one line"));
        }
        Ok(self)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.line1.as_deref(),
            self.line2.as_deref(),
            self.city.as_deref(),
            self.state.as_deref(),
            self.postal_code.as_deref(),
            self.country.as_deref(),
        ];
        for (n, part) in parts.into_iter().flatten().enumerate() {
            if n > 0 {
                f.write_str(", ")?;
            }
            f.write_str(part)?;
        }
        Ok(())
    }
}

/// The object form, read field by field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default)]
    line1: Option<Text<500>>,
    #[serde(default)]
    line2: Option<Text<200>>,
    #[serde(default)]
    city: Option<Text<100>>,
    #[serde(default)]
    state: Option<Text<100>>,
    #[serde(default)]
    postal_code: Option<Text<20>>,
    #[serde(default)]
    country: Option<Text<100>>,
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrObject;

        impl<'de> Visitor<'de> for TextOrObject {
            type Value = Address;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address, as an object or a text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Address, E> {
                Text::new(text).map(Address::of_line).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Address, A::Error> {
                let Fields { line1, line2, city, state, postal_code, country } =
                    Fields::deserialize(MapAccessDeserializer::new(map))?;
                let address = Address { line1, line2, city, state, postal_code, country };
                address.filled().map_err(serde::de::Error::custom)
            }
        }

        deserializer.deserialize_any(TextOrObject)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_email_keeps_its_spelling_and_compares_without_case() {
        let email = Email::new(" Ada@Example.COM ").unwrap();
        assert_eq!(email.as_str(), "Ada@Example.COM");
        assert_eq!(email.key(), "ada@example.com");
    }

    #[test]
    fn an_email_that_a_browser_takes_is_one() {
        for text in ["zo..rossi@example.com", "a.@example.com", "ada+crm@example.com"] {
            assert_eq!(Email::new(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn what_is_not_an_email_is_refused() {
        for text in [
            "ada",
            "ada@x..example",
            "ada@-x.example",
            "n/a",
            "ada@",
            "@example.com",
            "a b@example.com",
            "Ada <ada@example.com>",
            "a@b@c.org",
        ] {
            assert_eq!(Email::new(text).unwrap_err().code, "invalid_email", "{text}");
        }
        assert_eq!(Email::new("").unwrap_err().code, "blank");
        assert_eq!(Email::new(&format!("{}@example.com", "a".repeat(250))).unwrap_err().code, "too_long");
    }

    #[test]
    fn a_phone_is_read_leniently() {
        for text in ["+1 (555) 010-0199", "030/1234 56", "555.0100 ext 12", "5550100x3"] {
            assert_eq!(Phone::new(text).unwrap().as_str(), text);
        }
        for text in ["call me", "-", "12a", "555; drop"] {
            assert_eq!(Phone::new(text).unwrap_err().code, "invalid_phone", "{text}");
        }
        assert_eq!(Phone::new(&"1".repeat(41)).unwrap_err().code, "too_long");
    }

    #[test]
    fn an_address_is_an_object_or_a_text() {
        let full: Address =
            serde_json::from_value(json!({"line1": "1 Main St", "city": null, "country": "US"})).unwrap();
        assert_eq!(serde_json::to_value(&full).unwrap(), json!({"line1": "1 Main St", "country": "US"}));
        assert_eq!(full.to_string(), "1 Main St, US");
        let plain: Address = serde_json::from_value(json!("1 Main St\nSpringfield")).unwrap();
        assert_eq!(serde_json::to_value(&plain).unwrap(), json!({"line1": "1 Main St\nSpringfield"}));
    }

    #[test]
    fn an_address_without_a_line_is_refused() {
        let refused = |value| serde_json::from_value::<Address>(value).unwrap_err().to_string();
        assert_eq!(refused(json!({})), "blank|must have at least one line");
        assert_eq!(refused(json!(" ")), "blank|must not be empty");
        assert!(refused(json!({"street": "1 Main St"})).contains("unknown field"));
    }
}
