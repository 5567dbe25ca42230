//! The names of things: `PREFIX-NNN`, at least three digits, then as many as it takes.
//!
//! Tenants are counted over the platform; everything else is counted within its tenant, so that
//! nobody can read another tenant's volume off its own numbers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A text that is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an id like {example}")]
pub struct InvalidId {
    /// What such an id looks like.
    pub example: &'static str,
}

/// Reads the digits of `PREFIX-NNN`: three or more, no superfluous leading zero.
fn number(text: &str, prefix: &str) -> Option<u32> {
    let digits = text.strip_prefix(prefix)?.strip_prefix('-')?;
    let canonical = digits.len() == 3 || (digits.len() > 3 && !digits.starts_with('0'));
    if !canonical || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// What all ids share: how they are written, read and documented.
macro_rules! written_as_text {
    ($name:ident, $example:literal, $pattern:literal, $doc:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::Type::String)
                    .pattern(Some($pattern))
                    .description(Some($doc))
                    .examples([serde_json::json!($example)])
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}

/// A business that uses DevHub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TenantId {
    /// `TNT-PLT`: DevHub Enterprise, the founder's own business.
    Platform,
    /// `DEV-000`: the business that migrated data belongs to.
    Legacy,
    /// `TNT-000`, `TNT-001`, …
    Business(u32),
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform => f.write_str("TNT-PLT"),
            Self::Legacy => f.write_str("DEV-000"),
            Self::Business(number) => write!(f, "TNT-{number:03}"),
        }
    }
}

impl FromStr for TenantId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text {
            "TNT-PLT" => Ok(Self::Platform),
            "DEV-000" => Ok(Self::Legacy),
            _ => number(text, "TNT").map(Self::Business).ok_or(InvalidId { example: "TNT-001" }),
        }
    }
}

written_as_text!(TenantId, "TNT-001", "^(TNT-PLT|DEV-000|TNT-[0-9]{3,})$", "A business that uses DevHub");

macro_rules! numbered_id {
    ($(#[$meta:meta])* $name:ident, $prefix:literal, $example:literal, $pattern:literal, $doc:literal) => {
        #[doc = $doc]
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl $name {
            /// The letters before the number.
            pub const PREFIX: &'static str = $prefix;
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "-{:03}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                number(text, $prefix).map(Self).ok_or(InvalidId { example: $example })
            }
        }

        written_as_text!($name, $example, $pattern, $doc);
    };
}

numbered_id!(UserId, "USR", "USR-001", "^USR-[0-9]{3,}$", "A person of one tenant who signs in");
numbered_id!(CustomerId, "CUS", "CUS-042", "^CUS-[0-9]{3,}$", "A client of a tenant; never signs in");
numbered_id!(LeadId, "LED", "LED-007", "^LED-[0-9]{3,}$", "Somebody who may become a customer");
numbered_id!(ProjectId, "PRJ", "PRJ-003", "^PRJ-[0-9]{3,}$", "Work that a tenant does for customers");
numbered_id!(InvoiceId, "INV", "INV-012", "^INV-[0-9]{3,}$", "Money that a customer owes a tenant");
numbered_id!(InteractionId, "INT", "INT-105", "^INT-[0-9]{3,}$", "A call, meeting, e-mail … with a customer or lead");
numbered_id!(NoteId, "NOT", "NOT-011", "^NOT-[0-9]{3,}$", "A note on a customer");

impl UserId {
    /// The platform founder, in `TNT-PLT`, and no one else's.
    pub const FOUNDER: Self = Self(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        for text in ["CUS-000", "CUS-042", "CUS-999", "CUS-1000", "CUS-12345"] {
            assert_eq!(text.parse::<CustomerId>().map(|id| id.to_string()).as_deref(), Ok(text));
        }
        for text in ["TNT-PLT", "DEV-000", "TNT-000", "TNT-1000"] {
            assert_eq!(text.parse::<TenantId>().map(|id| id.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for text in
            ["CUS-42", "CUS-0042", "cus-042", "CUS042", "LED-042", "CUS-", "CUS--42", "CUS-4x2", "", "CUS-99999999999"]
        {
            assert!(text.parse::<CustomerId>().is_err(), "{text}");
        }
        assert!("DEV-001".parse::<TenantId>().is_err());
    }
}
