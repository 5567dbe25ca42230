//! Whole numbers from 0 to 100.

use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Rejected;

macro_rules! zero_to_hundred {
    ($name:ident, $example:literal, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u8);

        impl $name {
            /// 0.
            pub const ZERO: Self = Self(0);
            /// 100.
            pub const HUNDRED: Self = Self(100);

            /// A whole number from 0 to 100.
            ///
            /// # Errors
            /// `out_of_range`.
            pub fn new(number: u64) -> Result<Self, Rejected> {
                match u8::try_from(number) {
                    Ok(number @ 0..=100) => Ok(Self(number)),
                    _ => Err(Rejected::new("out_of_range", "between 0 and 100")),
                }
            }

            /// The nearest to a number that may lie outside.
            #[must_use]
            pub const fn at_most_hundred(number: u8) -> Self {
                if number > 100 { Self::HUNDRED } else { Self(number) }
            }

            /// The number.
            #[must_use]
            pub const fn value(self) -> u8 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u8(self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let number = deserializer.deserialize_u64(WholeNumber)?;
                Self::new(number).map_err(serde::de::Error::custom)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::Type::Integer)
                    .minimum(Some(0))
                    .maximum(Some(100))
                    .description(Some($doc))
                    .examples([serde_json::json!($example)])
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}

/// Reads a whole number; a negative one or a fraction is refused with its own words.
struct WholeNumber;

impl Visitor<'_> for WholeNumber {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number between 0 and 100")
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<u64, E> {
        u64::try_from(number).map_err(|_| E::custom(Rejected::new("out_of_range", "between 0 and 100")))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<u64, E> {
        Err(E::custom(Rejected::new("not_a_whole_number", "a whole number between 0 and 100")))
    }
}

zero_to_hundred!(Score, 70, "How promising something is, 0 to 100");
zero_to_hundred!(Percent, 40, "A percentage, 0 to 100");

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_percentage_is_a_whole_number_from_0_to_100() {
        let read = |value| serde_json::from_value::<Percent>(value).map_err(|error| error.to_string());
        assert_eq!(read(json!(0)), Ok(Percent::ZERO));
        assert_eq!(read(json!(100)), Ok(Percent::HUNDRED));
        for outside in [json!(101), json!(-1), json!(100_000)] {
            assert_eq!(read(outside), Err("out_of_range|between 0 and 100".into()));
        }
        assert!(read(json!(12.5)).unwrap_err().starts_with("not_a_whole_number|"));
    }
}
