//! Hours of work.

use std::fmt;

use rust_decimal::Decimal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Rejected, plain_decimal};

/// Hours, zero or more, with two decimals; in JSON `"1.50"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hours(Decimal);

impl Hours {
    /// None at all.
    pub const ZERO: Self = Self(Decimal::ZERO);

    /// Hours from a decimal; below one million, which is more than any project takes.
    ///
    /// # Errors
    /// `decimal_scale` or `out_of_range`.
    pub fn new(hours: Decimal) -> Result<Self, Rejected> {
        if hours.scale() > 2 {
            return Err(Rejected::new("decimal_scale", "at most 2 decimals"));
        }
        if (hours.is_sign_negative() && !hours.is_zero()) || hours >= Decimal::from(1_000_000) {
            return Err(Rejected::new("out_of_range", "0 or more, below 1000000"));
        }
        Ok(Self(hours))
    }

    /// The number.
    #[must_use]
    pub fn value(self) -> Decimal {
        self.0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// Both together. The sum of many entries may pass what a single entry may be.
    #[must_use]
    pub fn plus(self, more: Self) -> Self {
        Self(self.0.saturating_add(more.0))
    }

    /// These without those; none where that is more than there is.
    #[must_use]
    pub fn minus(self, less: Self) -> Option<Self> {
        (less.0 <= self.0).then(|| Self(self.0 - less.0))
    }
}

impl Default for Hours {
    fn default() -> Self {
        Self::ZERO
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2}", self.0)
    }
}

impl Serialize for Hours {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(plain_decimal(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for Hours {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .pattern(Some(r"^[0-9]+(\.[0-9]{1,2})?$"))
            .description(Some("Hours of work, with at most 2 decimals; an integer is read as well"))
            .examples([serde_json::json!("1.50")])
            .into()
    }
}

impl utoipa::ToSchema for Hours {}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: Value) -> Result<Hours, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn hours_are_written_with_two_decimals() {
        for (given, written) in [(json!("1.5"), "1.50"), (json!(3), "3.00"), (json!("0"), "0.00")] {
            assert_eq!(serde_json::to_value(read(given).unwrap()).unwrap(), json!(written));
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        assert_eq!(read(json!("-1")).unwrap_err(), "out_of_range|0 or more, below 1000000");
        assert_eq!(read(json!(1_000_000)).unwrap_err(), "out_of_range|0 or more, below 1000000");
        assert_eq!(read(json!("1.255")).unwrap_err(), "decimal_scale|at most 2 decimals");
        assert!(read(json!(1.5)).unwrap_err().starts_with("float_refused|"));
    }
}
