//! One row of the old database, read leniently: what it says, and what had to be repaired to say it here.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Utc};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::amount::{self, Amount};
use super::tables::Table;
use super::words::Words;
use crate::aggregates::values::{Address, Currency, Email, Hours, Money, Phone, Text};

/// A value that could not be taken over as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = LegacyRepair)]
pub struct Repair {
    /// The rule, `stage_spelling`.
    pub rule: String,
    /// The column.
    pub field: String,
    /// What it held.
    pub before: Value,
    /// What was taken instead; none if nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Why a row cannot be replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantine {
    /// A stable word, `amount_missing`.
    pub reason: String,
    /// A sentence for a person; names the parent if it is the parent's fault.
    pub detail: String,
}

impl Quarantine {
    pub(super) fn new(reason: &str, detail: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), detail: detail.into() }
    }

    /// The row belongs to one that is in quarantine itself, or to none.
    pub(super) fn with_parent(table: Table, id: &str) -> Self {
        Self::new("parent_quarantined", format!("{} {id} is in quarantine", table.name()))
    }
}

/// Times before this are not believed.
const EARLIEST_YEAR: i32 = 1970;
/// Dates from this year on are not believed.
const LATEST_YEAR: i32 = 2200;

/// A row of the old database.
#[derive(Debug, Clone)]
pub(super) struct Old {
    /// Its table.
    pub table: Table,
    /// Its primary key.
    pub pk: i64,
    fields: Map<String, Value>,
    /// Times after this are not believed: when the run began.
    now: DateTime<Utc>,
    /// What had to be repaired so far.
    pub repairs: Vec<Repair>,
}

impl Old {
    /// Reads a row's JSON; replacements that somebody asked for come first and are named.
    pub(super) fn read(
        table: Table,
        pk: i64,
        json: &str,
        now: DateTime<Utc>,
        maps: &super::maps::Maps,
    ) -> Result<Self, serde_json::Error> {
        let mut old = Self { table, pk, fields: serde_json::from_str(json)?, now, repairs: Vec::new() };
        for (field, before, after) in maps.apply(table, pk, &mut old.fields) {
            old.repairs.push(Repair { rule: "mapped".into(), field, before, after });
        }
        Ok(old)
    }

    /// What a column holds, as it is.
    pub(super) fn raw(&self, column: &str) -> Value {
        self.fields.get(column).cloned().unwrap_or(Value::Null)
    }

    /// As if a column had held nothing: that is how it was taken over.
    pub(super) fn forget(&mut self, column: &str) {
        if let Some(value) = self.fields.get_mut(column) {
            *value = Value::Null;
        }
    }

    /// Whether the table has the column.
    pub(super) fn has(&self, column: &str) -> bool {
        self.fields.contains_key(column)
    }

    /// A column's text without the space around it; none for null and for nothing but space.
    pub(super) fn plain(&self, column: &str) -> Option<String> {
        let text = match self.fields.get(column)? {
            Value::Null => return None,
            Value::String(text) => text.trim().to_owned(),
            other => other.to_string(),
        };
        (!text.is_empty()).then_some(text)
    }

    /// The old id that a column names, as it is looked up.
    pub(super) fn old_id(&self, column: &str) -> Option<String> {
        old_id(self.fields.get(column)?)
    }

    /// Names a repair.
    pub(super) fn repair(&mut self, rule: impl Into<String>, field: &str, after: Option<String>) {
        let before = self.raw(field);
        self.repairs.push(Repair { rule: rule.into(), field: field.to_owned(), before, after });
    }

    /// Whether a column was repaired under this rule.
    pub(super) fn was_repaired(&self, rule: &str) -> bool {
        self.repairs.iter().any(|repair| repair.rule == rule)
    }

    /// A column as a text of at most `MAX` characters.
    pub(super) fn text<const MAX: usize>(&mut self, column: &str) -> Option<Text<MAX>> {
        let plain = self.plain(column)?;
        if let Ok(text) = Text::new(&plain) {
            return Some(text);
        }
        let clean: String = plain.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect();
        let clean = clean.trim();
        let (cut, rule) = match clean.char_indices().nth(MAX) {
            Some((end, _)) => (clean.get(..end).unwrap_or_default(), "text_too_long"),
            None => (clean, "control_characters"),
        };
        let text = Text::new(cut).ok();
        self.repair(rule, column, text.as_ref().map(ToString::to_string));
        text
    }

    /// A column as an e-mail address; what is none is left out.
    pub(super) fn email(&mut self, column: &str) -> Option<Email> {
        let plain = self.plain(column)?;
        let email = Email::new(&plain).ok();
        if email.is_none() {
            self.repair("email_invalid", column, None);
        }
        email
    }

    /// A column as a telephone number; what is none is left out.
    pub(super) fn phone(&mut self, column: &str) -> Option<Phone> {
        let plain = self.plain(column)?;
        let phone = Phone::new(&plain).ok();
        if phone.is_none() {
            self.repair("phone_invalid", column, None);
        }
        phone
    }

    /// The address columns that most tables share.
    pub(super) fn address(&mut self) -> Option<Address> {
        let address = Address {
            line1: self.text("address_line1"),
            line2: self.text("address_line2"),
            city: self.text("city"),
            state: self.text("state"),
            postal_code: self.text("postal_code"),
            country: self.text("country"),
        };
        (address != Address::default()).then_some(address)
    }

    /// A column as a flag, however it was written.
    pub(super) fn flag(&mut self, column: &str) -> Option<bool> {
        match self.fields.get(column)? {
            Value::Bool(flag) => Some(*flag),
            Value::Null => None,
            other => {
                let text = other.as_str().map_or_else(|| other.to_string(), |text| text.trim().to_lowercase());
                let flag = match text.as_str() {
                    "t" | "true" | "yes" | "y" | "1" | "on" => Some(true),
                    "f" | "false" | "no" | "n" | "0" | "off" => Some(false),
                    "" => return None,
                    _ => None,
                };
                self.repair("flag_spelling", column, flag.map(|flag| flag.to_string()));
                flag
            }
        }
    }

    /// A column as a time. Without a zone it is UTC; what cannot be read or believed is left out and named.
    pub(super) fn time(&mut self, column: &str) -> Option<DateTime<Utc>> {
        let plain = self.plain(column)?;
        match parse_time(&plain) {
            Some(at) if at.year() >= EARLIEST_YEAR && at <= self.now => Some(at),
            Some(_) => {
                self.repair("time_not_believed", column, None);
                None
            }
            None => {
                self.repair("time_unreadable", column, None);
                None
            }
        }
    }

    /// A column as a time that may lie ahead.
    pub(super) fn time_ahead(&mut self, column: &str) -> Option<DateTime<Utc>> {
        let plain = self.plain(column)?;
        let believed = |at: &DateTime<Utc>| (EARLIEST_YEAR..LATEST_YEAR).contains(&at.year());
        match parse_time(&plain) {
            Some(at) if believed(&at) => Some(at),
            found => {
                let rule = if found.is_some() { "time_not_believed" } else { "time_unreadable" };
                self.repair(rule, column, None);
                None
            }
        }
    }

    /// A column as a day, past or ahead.
    pub(super) fn date(&mut self, column: &str) -> Option<NaiveDate> {
        self.time_ahead(column).map(|at| at.date_naive())
    }

    /// A column as a whole number from 0 to 100; what lies outside is taken as the nearest.
    pub(super) fn percent(&mut self, column: &str) -> Option<u8> {
        let plain = self.plain(column)?;
        let Ok(number) = plain.trim_end_matches('%').trim().parse::<Decimal>() else {
            self.repair(format!("{column}_unreadable"), column, None);
            return None;
        };
        let nearest = number.round().clamp(Decimal::ZERO, Decimal::ONE_HUNDRED);
        let nearest = u8::try_from(nearest).unwrap_or(100);
        if Decimal::from(nearest) != number {
            self.repair(format!("{column}_out_of_range"), column, Some(nearest.to_string()));
        }
        Some(nearest)
    }

    /// A column as hours of work; what cannot be read is left out.
    pub(super) fn hours(&mut self, column: &str) -> Option<Hours> {
        let plain = self.plain(column)?;
        let read = amount::parse(&plain).filter(|amount| amount.currency.is_none());
        let hours = read.as_ref().and_then(|amount| Hours::new(amount.value.round_dp(2)).ok());
        match (&read, hours) {
            (Some(amount), Some(hours)) if amount.plain && hours.value() == amount.value => {}
            (_, Some(hours)) => self.repair("hours_format", column, Some(hours.to_string())),
            (_, None) => self.repair("hours_unreadable", column, None),
        }
        hours
    }

    /// A column as an amount of money in `currency`, or in the one that stands beside the number. Rounded to what the
    /// currency has, which is named. `Err` if there is something that is no amount.
    pub(super) fn money(&mut self, column: &str, currency: Currency) -> Result<Option<Money>, ()> {
        let Some(plain) = self.plain(column) else { return Ok(None) };
        let Some(Amount { value, currency: written, plain: is_plain }) = amount::parse(&plain) else { return Err(()) };
        let money = Money::rounded(value, written.unwrap_or(currency)).map_err(|_| ())?;
        if money.amount() != value {
            self.repair("amount_rounded", column, Some(money.to_string()));
        } else if !is_plain {
            self.repair("amount_format", column, Some(money.to_string()));
        }
        Ok(Some(money))
    }

    /// A column as one of the words that we have. A word of the old application that means the same, another
    /// spelling, nothing and an unknown word are each named after the field, `stage_unknown`.
    pub(super) fn word<W: Words>(&mut self, column: &str, field: &str) -> W {
        let Some(plain) = self.plain(column) else {
            let word = W::when_missing();
            if self.has(column) {
                self.repair(format!("{field}_missing"), column, Some(word.word().to_owned()));
            }
            return word;
        };
        let (word, rule) = match W::find(&plain) {
            Some(word) if word.word() == plain => return word,
            Some(word) if squashed(word.word()) == squashed(&plain) => (word, "spelling"),
            Some(word) => (word, "renamed"),
            None => (W::when_missing(), "unknown"),
        };
        self.repair(format!("{field}_{rule}"), column, Some(word.word().to_owned()));
        word
    }
}

/// Characters of an old id that count: no index takes a text of any length.
const ID_CHARACTERS: usize = 200;

/// An old id as it is looked up: without the space around it, and no longer than an index takes; none for nothing.
pub(super) fn old_id(value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.trim().to_owned(),
        other => other.to_string(),
    };
    let id: String = text.chars().take(ID_CHARACTERS).collect();
    (!id.is_empty()).then_some(id)
}

/// The letters and digits of a word, in lower case: `Closed-Lost` and `closed_lost` are the same.
pub(super) fn squashed(word: &str) -> String {
    word.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    let naive = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f"))
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M"))
        .ok()
        .or_else(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0));
    match naive {
        Some(naive) => Some(naive.and_utc()),
        None => DateTime::parse_from_rfc3339(text)
            .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z"))
            .ok()
            .map(|at| at.with_timezone(&Utc)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::aggregates::values::{LeadStage, Priority};
    use crate::legacy::maps::Maps;

    fn row(fields: Value) -> Old {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        Old::read(Table::Leads, 1, &fields.to_string(), now, &Maps::default()).unwrap()
    }

    fn rules(old: &Old) -> Vec<&str> {
        old.repairs.iter().map(|repair| repair.rule.as_str()).collect()
    }

    #[test]
    fn a_word_is_taken_as_it_is_meant_and_the_difference_is_named() {
        for (written, stage, rule) in [
            (json!("closed_won"), LeadStage::ClosedWon, None),
            (json!("Closed Won"), LeadStage::ClosedWon, Some("stage_spelling")),
            (json!("won"), LeadStage::ClosedWon, Some("stage_renamed")),
            (json!("prospect"), LeadStage::New, Some("stage_renamed")),
            (json!(" negotiation "), LeadStage::Negotiation, None),
            (json!(""), LeadStage::New, Some("stage_missing")),
            (json!(null), LeadStage::New, Some("stage_missing")),
            (json!("???"), LeadStage::New, Some("stage_unknown")),
        ] {
            let mut old = row(json!({ "stage": written }));
            assert_eq!(old.word::<LeadStage>("stage", "stage"), stage, "{written}");
            assert_eq!(rules(&old), rule.into_iter().collect::<Vec<_>>(), "{written}");
        }
        let mut without = row(json!({}));
        assert_eq!(without.word::<Priority>("priority", "priority"), Priority::Medium);
        assert!(without.repairs.is_empty(), "a column that is not there says nothing");
    }

    #[test]
    fn a_time_is_utc_and_believed_within_reason() {
        let at = |text: &str| Some(text.parse::<DateTime<Utc>>().unwrap());
        for (written, time, rule) in [
            ("2016-10-17T12:57:00", at("2016-10-17T12:57:00Z"), None),
            ("2016-10-17T12:57:00.123456", at("2016-10-17T12:57:00.123456Z"), None),
            ("2016-10-17 12:57:00", at("2016-10-17T12:57:00Z"), None),
            ("2016-10-17", at("2016-10-17T00:00:00Z"), None),
            ("2016-10-17T12:57:00+02:00", at("2016-10-17T10:57:00Z"), None),
            ("infinity", None, Some("time_unreadable")),
            ("0044-03-15T00:00:00 BC", None, Some("time_unreadable")),
            ("1066-10-14T09:00:00", None, Some("time_not_believed")),
            ("9999-12-31T23:59:59", None, Some("time_not_believed")),
        ] {
            let mut old = row(json!({ "created_at": written }));
            assert_eq!(old.time("created_at"), time, "{written}");
            assert_eq!(rules(&old), rule.into_iter().collect::<Vec<_>>(), "{written}");
        }
    }

    #[test]
    fn numbers_outside_are_taken_as_the_nearest() {
        for (written, number, rule) in [
            (json!(60), Some(60), None),
            (json!(150), Some(100), Some("probability_out_of_range")),
            (json!(-1), Some(0), Some("probability_out_of_range")),
            (json!("40 %"), Some(40), None),
            (json!("likely"), None, Some("probability_unreadable")),
            (json!(null), None, None),
        ] {
            let mut old = row(json!({ "probability": written }));
            assert_eq!(old.percent("probability"), number, "{written}");
            assert_eq!(rules(&old), rule.into_iter().collect::<Vec<_>>(), "{written}");
        }
    }

    #[test]
    fn money_is_read_as_people_write_it() {
        for (written, money, rule) in [
            (json!("1500"), "1500.00 USD", None),
            (json!("$1,500.00"), "1500.00 USD", Some("amount_format")),
            (json!("1.5k"), "1500.00 USD", Some("amount_format")),
            (json!("1500,50"), "1500.50 USD", Some("amount_format")),
            (json!(1500), "1500.00 USD", None),
            (json!("0.055"), "0.06 USD", Some("amount_rounded")),
        ] {
            let mut old = row(json!({ "estimated_value": written }));
            let read = old.money("estimated_value", Currency::USD).unwrap().unwrap();
            assert_eq!(read.to_string(), money, "{written}");
            assert_eq!(rules(&old), rule.into_iter().collect::<Vec<_>>(), "{written}");
        }
        assert_eq!(row(json!({"estimated_value": "TBD"})).money("estimated_value", Currency::USD), Err(()));
        assert_eq!(row(json!({"estimated_value": ""})).money("estimated_value", Currency::USD), Ok(None));
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_and_named() {
        let mut old = row(json!({"name": "x".repeat(300), "city": "a\u{7}b"}));
        assert_eq!(old.text::<200>("name").unwrap().len(), 200);
        assert_eq!(&*old.text::<100>("city").unwrap(), "ab");
        assert_eq!(rules(&old), ["text_too_long", "control_characters"]);
    }
}
