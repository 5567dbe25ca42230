//! Decimal numbers in JSON: a string or an integer, never a float.

use std::fmt;

use rust_decimal::Decimal;
use serde::Deserializer;
use serde::de::Visitor;

use super::Rejected;

/// Reads `-12.50`: digits, one point, nothing else. No exponent, no separators.
///
/// # Errors
/// `not_a_decimal`, or `out_of_range` where there are more digits than 28.
pub fn parse_decimal(text: &str) -> Result<Decimal, Rejected> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return Err(Rejected::new("not_a_decimal", "expected a decimal number like \"1500.00\""));
    }
    Decimal::from_str_exact(text).map_err(|_| Rejected::new("out_of_range", "at most 28 digits"))
}

/// For `#[serde(deserialize_with)]`: a decimal from a JSON string or integer.
pub(crate) fn plain_decimal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
    struct StringOrInteger;

    impl Visitor<'_> for StringOrInteger {
        type Value = Decimal;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a decimal number as a string")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Decimal, E> {
            parse_decimal(text).map_err(E::custom)
        }

        fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Decimal, E> {
            Ok(number.into())
        }

        fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Decimal, E> {
            Ok(number.into())
        }

        fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Decimal, E> {
            Err(E::custom(Rejected::new(
                "float_refused",
                "write a decimal as a string, like \"1500.00\": floats lose cents",
            )))
        }
    }

    deserializer.deserialize_any(StringOrInteger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly() {
        assert_eq!(parse_decimal("1500.00").unwrap().to_string(), "1500.00");
        assert_eq!(parse_decimal("-0.5").unwrap().to_string(), "-0.5");
        for text in ["", "1,5", "1e3", ".5", "5.", "+5", "1_000", "1.5k", "$5", "--1", " 1", "1.2.3"] {
            assert_eq!(parse_decimal(text).unwrap_err().code, "not_a_decimal", "{text}");
        }
        assert_eq!(parse_decimal(&"9".repeat(40)).unwrap_err().code, "out_of_range");
    }
}
