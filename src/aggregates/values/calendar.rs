//! Dates and times as requests write them, for `#[serde(deserialize_with = …)]`.
//!
//! Of the years 1 to 9999, which are those that RFC 3339 has: what is stored is stored for good, and PostgreSQL, other
//! programs and people are to be able to read it.

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use serde::{Deserialize, Deserializer};

use super::{Patch, Rejected};

struct Day(NaiveDate);

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_date(&String::deserialize(deserializer)?).map(Self).map_err(serde::de::Error::custom)
    }
}

struct Moment(DateTime<Utc>);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parse_time(&String::deserialize(deserializer)?).map(Self).map_err(serde::de::Error::custom)
    }
}

/// A date, `YYYY-MM-DD`.
///
/// # Errors
/// `wrong_type` for anything else, and for a day that no calendar has.
pub fn parse_date(text: &str) -> Result<NaiveDate, Rejected> {
    let wrong = || Rejected::new("wrong_type", "expected a date like 2026-01-31");
    let is_written_so = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let date = text.parse::<NaiveDate>().ok().filter(|_| is_written_so).ok_or_else(wrong)?;
    if is_ordinary(date) { Ok(date) } else { Err(wrong()) }
}

/// A time with its offset, as RFC 3339 writes it.
///
/// # Errors
/// `wrong_type` for anything else, and for a time that no clock shows.
pub fn parse_time(text: &str) -> Result<DateTime<Utc>, Rejected> {
    let wrong = || Rejected::new("wrong_type", "expected a time like 2026-01-31T09:00:00Z");
    let time = DateTime::parse_from_rfc3339(text).map_err(|_| wrong())?.to_utc();
    if is_ordinary(time.date_naive()) { Ok(time) } else { Err(wrong()) }
}

/// Whether it is a day of the years 1 to 9999.
#[must_use]
pub fn is_ordinary(date: NaiveDate) -> bool {
    (1..=9999).contains(&date.year())
}

/// A date.
///
/// # Errors
/// As [`parse_date`].
pub fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NaiveDate, D::Error> {
    Day::deserialize(deserializer).map(|Day(date)| date)
}

/// A date or null.
///
/// # Errors
/// As [`parse_date`].
pub fn optional_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NaiveDate>, D::Error> {
    Ok(Option::<Day>::deserialize(deserializer)?.map(|Day(date)| date))
}

/// A change to a date.
///
/// # Errors
/// As [`parse_date`].
pub fn patched_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Patch<NaiveDate>, D::Error> {
    Ok(Patch::<Day>::deserialize(deserializer)?.map(|Day(date)| date))
}

/// A time or null.
///
/// # Errors
/// As [`parse_time`].
pub fn optional_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    Ok(Option::<Moment>::deserialize(deserializer)?.map(|Moment(time)| time))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_date_is_written_in_one_way() {
        assert_eq!(parse_date("2028-02-29").unwrap().to_string(), "2028-02-29");
        assert_eq!(parse_date("0001-01-01").unwrap().to_string(), "0001-01-01");
        for text in
            ["2026-02-29", "2026-1-1", "+2026-01-1", "-0001-01-1", "0000-01-01", "12026-01-01", "2026-01-31 ", ""]
        {
            assert_eq!(parse_date(text).unwrap_err().code, "wrong_type", "{text}");
        }
    }

    #[test]
    fn a_time_is_of_a_year_that_has_four_digits() {
        assert_eq!(parse_time("2026-01-31T10:00:00+01:00").unwrap().to_rfc3339(), "2026-01-31T09:00:00+00:00");
        for text in ["2026-01-31", "-9999-01-01T00:00:00Z", "+12026-01-01T00:00:00Z", "0001-01-01T00:30:00+01:00", ""] {
            assert_eq!(parse_time(text).unwrap_err().code, "wrong_type", "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_what_was_written(text in "[-+]?[0-9]{1,5}-[0-9]{1,2}-[0-9]{1,2}") {
            if let Ok(date) = parse_date(&text) {
                prop_assert_eq!(date.to_string(), text);
            }
        }
    }
}
