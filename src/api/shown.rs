//! How values of rows are shown.

use rust_decimal::Decimal;

use crate::aggregates::values::{Currency, Money};

/// An amount and its currency as money.
#[must_use]
pub fn money(amount: Option<Decimal>, currency: Option<&str>) -> Option<Money> {
    let currency = currency?.parse::<Currency>().ok()?;
    Money::rounded(amount?, currency).ok()
}
