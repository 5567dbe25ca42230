//! Money: a decimal and a currency, never a float.

use std::fmt;

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::{Currency, Rejected, plain_decimal};

/// An amount in a currency, with exactly as many decimals as the currency has; below 10¹⁵ either way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Money {
    amount: Decimal,
    currency: Currency,
}

/// An amount that fits a currency, with exactly its decimals.
///
/// # Errors
/// `decimal_scale` or `out_of_range`.
pub fn exact_amount(mut amount: Decimal, currency: Currency) -> Result<Decimal, Rejected> {
    let decimals = currency.decimals();
    if amount.scale() > decimals {
        let detail = match decimals {
            0 => format!("no decimals in {currency}"),
            1 => "at most 1 decimal".to_owned(),
            _ => format!("at most {decimals} decimals"),
        };
        return Err(Rejected::new("decimal_scale", detail));
    }
    if amount.abs() >= Decimal::from(10_i64.pow(15)) {
        return Err(Rejected::new("out_of_range", "below 1000000000000000"));
    }
    amount.rescale(decimals);
    Ok(amount)
}

impl Money {
    /// An amount in a currency.
    ///
    /// # Errors
    /// `decimal_scale` where the currency has fewer decimals, `out_of_range` from 10¹⁵ on.
    pub fn new(amount: Decimal, currency: Currency) -> Result<Self, Rejected> {
        Ok(Self { amount: exact_amount(amount, currency)?, currency })
    }

    /// An amount worked out, rounded half away from zero to the currency's decimals.
    ///
    /// # Errors
    /// `out_of_range` from 10¹⁵ on.
    pub fn rounded(amount: Decimal, currency: Currency) -> Result<Self, Rejected> {
        Self::new(amount.round_dp_with_strategy(currency.decimals(), RoundingStrategy::MidpointAwayFromZero), currency)
    }

    /// Nothing, in a currency.
    #[must_use]
    pub fn zero(currency: Currency) -> Self {
        Self { amount: Decimal::new(0, currency.decimals()), currency }
    }

    /// The number.
    #[must_use]
    pub fn amount(&self) -> Decimal {
        self.amount
    }

    /// Its currency.
    #[must_use]
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// Whether it is less than nothing.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.amount.is_sign_negative() && !self.amount.is_zero()
    }

    /// Whether it is more than nothing.
    #[must_use]
    pub fn is_positive(&self) -> bool {
        self.amount.is_sign_positive() && !self.amount.is_zero()
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Money, example = json!({"amount": "1500.00", "currency": "USD"}))]
/// An amount in a currency
struct Fields {
    /// The number as a string, with at most the currency's decimals; an integer is read as well
    #[serde(deserialize_with = "plain_decimal")]
    #[schema(value_type = String, example = "1500.00")]
    amount: Decimal,
    /// Its currency
    currency: Currency,
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Fields { amount: self.amount, currency: self.currency }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Fields { amount, currency } = Fields::deserialize(deserializer)?;
        Self::new(amount, currency).map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for Money {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        Fields::schema()
    }
}

impl ToSchema for Money {
    fn schemas(schemas: &mut Vec<(String, utoipa::openapi::RefOr<utoipa::openapi::Schema>)>) {
        Fields::schemas(schemas);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(amount: Value, currency: &str) -> Result<Money, String> {
        serde_json::from_value(json!({"amount": amount, "currency": currency})).map_err(|error| error.to_string())
    }

    #[test]
    fn money_is_written_with_the_decimals_of_its_currency() {
        for (amount, currency, written) in [
            (json!("1500"), "USD", "1500.00"),
            (json!(1500), "USD", "1500.00"),
            (json!("1500.5"), "USD", "1500.50"),
            (json!("-3"), "KWD", "-3.000"),
            (json!(1500), "JPY", "1500"),
        ] {
            let money = read(amount, currency).unwrap();
            assert_eq!(serde_json::to_value(&money).unwrap(), json!({"amount": written, "currency": currency}));
        }
    }

    #[test]
    fn a_float_is_never_money() {
        assert!(read(json!(1500.0), "USD").unwrap_err().starts_with("float_refused|"));
    }

    #[test]
    fn what_a_currency_does_not_have_is_refused() {
        assert_eq!(read(json!("1.005"), "USD").unwrap_err(), "decimal_scale|at most 2 decimals");
        assert_eq!(read(json!("1.5"), "JPY").unwrap_err(), "decimal_scale|no decimals in JPY");
        assert_eq!(read(json!("1000000000000000"), "USD").unwrap_err(), "out_of_range|below 1000000000000000");
        assert_eq!(read(json!("1"), "usd").unwrap_err(), "unknown_currency|expected an ISO 4217 code like USD");
        assert!(read(json!("1500,50"), "USD").unwrap_err().starts_with("not_a_decimal|"));
    }

    #[test]
    fn what_is_worked_out_is_rounded_away_from_zero() {
        let cents = |amount: &str| Money::rounded(amount.parse().unwrap(), Currency::USD).unwrap().amount().to_string();
        assert_eq!(cents("1.005"), "1.01");
        assert_eq!(cents("-1.005"), "-1.01");
        assert_eq!(cents("1.0049"), "1.00");
    }

    proptest! {
        #[test]
        fn money_reads_as_it_was_written(cents in -99_999_999_999_999_999_i64..=99_999_999_999_999_999) {
            let money = Money::new(Decimal::new(cents, 2), Currency::EUR).unwrap();
            let read: Money = serde_json::from_str(&serde_json::to_string(&money).unwrap()).unwrap();
            prop_assert_eq!(read, money);
        }
    }
}
