//! What the figures of reports are made of.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rust_decimal::{Decimal, RoundingStrategy};
use serde::ser::{Serialize, Serializer};
use utoipa::openapi::{ArrayBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::aggregates::values::{Currency, Money};

/// A sum in each currency that there is any of. It is kept exactly and shown rounded to the currency's decimals, half away
/// from zero; unlike what is put in, it may be 10¹⁵ and more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums(BTreeMap<String, Decimal>);

impl Sums {
    /// Adds an amount, if it is one in a currency.
    pub fn add(&mut self, currency: Option<&str>, amount: Option<Decimal>) {
        let (Some(currency), Some(amount)) = (currency, amount) else { return };
        let sum = self.0.entry(currency.to_owned()).or_default();
        *sum = sum.saturating_add(amount);
    }
}

/// As [`Money`] is shown.
#[derive(serde::Serialize)]
struct Sum<'a> {
    amount: Decimal,
    currency: &'a str,
}

impl Serialize for Sums {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|(currency, amount)| {
            let decimals = currency.parse::<Currency>().map_or(amount.scale(), Currency::decimals);
            let mut amount = amount.round_dp_with_strategy(decimals, RoundingStrategy::MidpointAwayFromZero);
            amount.rescale(decimals);
            Sum { amount, currency }
        }))
    }
}

impl PartialSchema for Sums {
    fn schema() -> RefOr<Schema> {
        ArrayBuilder::new().items(utoipa::openapi::Ref::from_schema_name(Money::name())).into()
    }
}

impl ToSchema for Sums {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Sums")
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Money::name().into_owned(), Money::schema()));
        Money::schemas(schemas);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_kept_exactly_and_shown_with_the_decimals_of_their_currency() {
        let mut sums = Sums::default();
        let third = Decimal::new(3_335, 3);
        for _ in 0..3 {
            sums.add(Some("USD"), Some(third));
        }
        sums.add(Some("JPY"), Some(Decimal::new(15, 1)));
        sums.add(Some("KWD"), Some(Decimal::from(10_i64.pow(15))));
        sums.add(None, Some(Decimal::ONE));
        sums.add(Some("EUR"), None);
        assert_eq!(
            serde_json::to_value(&sums).unwrap(),
            serde_json::json!([
                {"amount": "2", "currency": "JPY"},
                {"amount": "1000000000000000.000", "currency": "KWD"},
                {"amount": "10.01", "currency": "USD"},
            ])
        );
    }
}
