//! How values of rows are shown.

use chrono::{DateTime, Datelike as _, Timelike as _, Utc};
use rust_decimal::Decimal;
use serde::{Serialize as _, Serializer};

use crate::aggregates::values::{Currency, Money};

/// An amount and its currency as money.
#[must_use]
pub fn money(amount: Option<Decimal>, currency: Option<&str>) -> Option<Money> {
    let currency = currency?.parse::<Currency>().ok()?;
    Money::rounded(amount?, currency).ok()
}

/// An instant of a row, which may have none, as `chrono` itself would show it. A page has three or more a row, and to
/// have each formatted piece by piece into the serializer takes as long as a quarter of all else that is written.
///
/// # Errors
/// The serializer's.
pub fn at<S: Serializer>(at: &impl Instant, serializer: S) -> Result<S::Ok, S::Error> {
    match at.instant() {
        Some(at) => instant(at, serializer),
        None => serializer.serialize_none(),
    }
}

/// What [`at`] shows.
pub trait Instant {
    /// The instant, if there is one.
    fn instant(&self) -> Option<DateTime<Utc>>;
}

impl Instant for DateTime<Utc> {
    fn instant(&self) -> Option<DateTime<Utc>> {
        Some(*self)
    }
}

impl Instant for Option<DateTime<Utc>> {
    fn instant(&self) -> Option<DateTime<Utc>> {
        *self
    }
}

/// RFC 3339 in UTC, with as many groups of three decimals of a second as are not zero.
fn instant<S: Serializer>(at: DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    let (Ok(year), nanos) = (u32::try_from(at.year()), at.nanosecond()) else { return at.serialize(serializer) };
    if year > 9_999 || nanos >= 1_000_000_000 {
        // More digits of the year; a leap second, which is told by more nanoseconds.
        return at.serialize(serializer);
    }
    let length = match nanos {
        0 => 20,
        nanos if nanos % 1_000_000 == 0 => 24,
        nanos if nanos % 1_000 == 0 => 27,
        _ => 30,
    };
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    for (end, value) in
        [(4, year), (7, at.month()), (10, at.day()), (13, at.hour()), (16, at.minute()), (19, at.second()), (29, nanos)]
    {
        let mut left = value;
        for digit in text.iter_mut().take(end).rev() {
            if left == 0 {
                break;
            }
            *digit = b'0' + u8::try_from(left % 10).unwrap_or_default();
            left /= 10;
        }
    }
    if let Some(last) = text.iter_mut().take(length).last() {
        *last = b'Z';
    }
    match text.get(..length).map(std::str::from_utf8) {
        Some(Ok(text)) => serializer.serialize_str(text),
        Some(Err(_)) | None => at.serialize(serializer),
    }
}

#[cfg(test)]
mod tests {
    use chrono::{NaiveDate, TimeZone as _};
    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;

    #[derive(Serialize)]
    struct Shown {
        #[serde(serialize_with = "at")]
        at: DateTime<Utc>,
        #[serde(serialize_with = "at")]
        perhaps: Option<DateTime<Utc>>,
        #[serde(serialize_with = "at")]
        never: Option<DateTime<Utc>>,
    }

    fn as_chrono_does(at: DateTime<Utc>) {
        let shown = serde_json::to_value(Shown { at, perhaps: Some(at), never: None }).unwrap();
        assert_eq!(shown, serde_json::json!({"at": at, "perhaps": at, "never": null}));
    }

    #[test]
    fn a_leap_second_is_shown_as_one() {
        let at = NaiveDate::from_ymd_opt(2016, 12, 31).unwrap().and_hms_nano_opt(23, 59, 59, 1_500_000_000).unwrap();
        as_chrono_does(at.and_utc());
    }

    proptest! {
        #[test]
        fn every_instant_is_shown_as_chrono_shows_it(
            // from the year -100 to 11,000: both ends of what has four digits
            second in -65_000_000_000_i64..285_000_000_000,
            nanos in prop_oneof![
                Just(0),
                (0_u32..1_000).prop_map(|millis| millis * 1_000_000),
                (0_u32..1_000_000).prop_map(|micros| micros * 1_000),
                0_u32..1_000_000_000,
            ],
        ) {
            as_chrono_does(Utc.timestamp_opt(second, nanos).unwrap());
        }
    }
}
