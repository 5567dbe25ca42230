//! What a caller asks of a list, read from the query string.

use std::collections::BTreeSet;
use std::fmt;

use axum::http::Uri;
use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use super::{Field, Kind, ListSpec};
use crate::aggregates::values::calendar;
use crate::api::Problem;
use crate::api::page::ListAddress;
use crate::api::past::AsOf;
use crate::api::problem::FieldError;
use crate::api::query::pairs;
use crate::api::validation::unknown;
use crate::reports::By;

/// The rows of a page, unless `limit` says otherwise.
pub const LIMIT_DEFAULT: u16 = 50;
/// The most rows that a page can have.
pub const LIMIT_MOST: u16 = 200;
/// The most values that one filter takes, and the most words of `q`.
const MOST_VALUES: usize = 100;
const MOST_WORDS: usize = 8;

/// How a filter compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the operator it names")]
pub enum Operator {
    /// `field=a,b`: one of these.
    Is,
    Ne,
    In,
    Gt,
    Gte,
    Lt,
    Lte,
    Contains,
}

impl Operator {
    /// What is appended to the field's name: `[gte]`, or nothing.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Is => "",
            Self::Ne => "[ne]",
            Self::In => "[in]",
            Self::Gt => "[gt]",
            Self::Gte => "[gte]",
            Self::Lt => "[lt]",
            Self::Lte => "[lte]",
            Self::Contains => "[contains]",
        }
    }

    const fn takes_many(self) -> bool {
        matches!(self, Self::Is | Self::Ne | Self::In)
    }
}

/// The values of a filter, as the database compares them.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Texts(Vec<String>),
    /// Words of the list's own, which stand in the statement itself: see `select`.
    Words(Vec<&'static str>),
    Integers(Vec<i64>),
    Decimals(Vec<Decimal>),
    Dates(Vec<NaiveDate>),
    Moments(Vec<Moment>),
    Bools(Vec<bool>),
}

/// A point in time, or a whole day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::api) struct Moment {
    pub start: DateTime<Utc>,
    /// Where the day is over; none for a point in time.
    pub end: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Filter {
    pub column: &'static str,
    pub is_array: bool,
    pub operator: Operator,
    pub operand: Operand,
    pub worked_out: Option<WorkedOut>,
}

impl Filter {
    /// Whether it is for what stands somewhere in a text.
    pub(super) fn is_part(&self) -> bool {
        self.operator == Operator::Contains && !self.is_array
    }
}

/// A word of a filter that no row holds: it stands for the rows with one of some other words and a date before a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkedOut {
    /// The column that is filtered by.
    pub column: &'static str,
    /// The word: `overdue`.
    pub word: &'static str,
    /// The words that its rows hold.
    pub among: &'static [&'static str],
    /// The column with the date.
    pub date: &'static str,
    /// The day before which it must be.
    pub before: NaiveDate,
}

/// An amount in the unit of a `…_key` column: ten-thousandths.
const AMOUNT_UNIT: Decimal = Decimal::from_parts(10_000, 0, 0, false, 0);

/// What a caller asks of a list: everything in it exists and has the right type.
#[derive(Debug, Clone)]
pub struct ListQuery {
    pub(super) spec: &'static ListSpec,
    pub(super) filters: Vec<Filter>,
    pub(super) words: Vec<String>,
    pub(super) sort: Vec<(&'static Field, bool)>,
    pub(super) limit: u16,
    pub(super) cursor: Option<String>,
    pub(super) counts: bool,
    /// At which instant it is read; none: now.
    pub(super) as_of: Option<AsOf>,
    /// What must hold of a row as it is now, for its past to be shown.
    pub(super) today: Vec<(&'static str, Vec<String>)>,
    /// By what its rows are grouped, for a report.
    pub(super) by: Option<&'static By>,
    extra: Vec<(&'static str, String)>,
    /// What a cursor is good for, but for the tenant: the parameters that choose rows, and the sort.
    canonical: (BTreeSet<(String, String)>, String),
    pub(super) address: ListAddress,
}

impl ListQuery {
    /// Reads the query string of a list's address. The address is the one the client sees: behind a nested router,
    /// `axum::extract::OriginalUri`.
    ///
    /// # Errors
    /// `unknown_parameter` for a parameter or operator that the list does not have, with what it has;
    /// `validation_failed` for values that are not of the right type, every one of them.
    pub fn parse(spec: &'static ListSpec, uri: &Uri) -> Result<Self, Problem> {
        let pairs = pairs(uri)?;
        let mut query = Self {
            spec,
            filters: Vec::new(),
            words: Vec::new(),
            sort: Vec::new(),
            limit: LIMIT_DEFAULT,
            cursor: None,
            counts: false,
            as_of: None,
            today: Vec::new(),
            by: spec.grouping.and_then(|grouping| grouping.by.iter().find(|by| Some(by.name) == grouping.default)),
            extra: Vec::new(),
            canonical: (BTreeSet::new(), String::new()),
            address: ListAddress::of(uri),
        };
        let mut sort = spec.default_sort;
        let (mut as_of, mut axis) = (None, None);
        let (mut wrong, mut unknown, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (name, value) in &pairs {
            if !seen.insert(name.as_str()) {
                wrong.push(FieldError::parameter(name, "repeated", "is given more than once"));
                continue;
            }
            let read = match name.as_str() {
                "by" if spec.grouping.is_some() => by(spec, value).map(|by| query.by = Some(by)),
                "limit" | "cursor" | "count" | "sort" if spec.grouping.is_some() => query.read_filter(name, value),
                "limit" => limit(value).map(|limit| query.limit = limit),
                "cursor" => {
                    query.cursor = Some(value.clone());
                    Ok(())
                }
                "count" => count(value).map(|()| query.counts = true),
                "sort" => {
                    sort = value;
                    Ok(())
                }
                "as_of" if spec.versions.is_some() => {
                    as_of = Some(value.as_str());
                    Ok(())
                }
                "axis" if spec.versions.is_some() => {
                    axis = Some(value.as_str());
                    Ok(())
                }
                "q" if !spec.search.is_empty() => words(value).map(|words| query.words = words),
                _ => query.read_filter(name, value),
            };
            match read {
                Ok(()) => {}
                Err(Refused::Unknown(detail)) => {
                    unknown.push(FieldError::parameter(name, "unknown_parameter", detail));
                }
                Err(Refused::Wrong(code, detail)) => wrong.push(FieldError::parameter(name, code, detail)),
            }
        }
        match sorting(spec, sort) {
            Ok(sort) => query.sort = sort,
            Err(detail) => wrong.push(FieldError::parameter("sort", "unknown_value", detail)),
        }
        if !unknown.is_empty() {
            return Err(Problem::unknown_parameter(unknown));
        }
        query.as_of = AsOf::parse(as_of, axis)?;
        if !wrong.is_empty() {
            return Err(Problem::validation_failed(wrong));
        }
        let chooses = |(name, _): &(String, String)| !matches!(name.as_str(), "limit" | "cursor" | "count" | "sort");
        query.canonical = (pairs.into_iter().filter(chooses).collect(), sort_text(&query.sort));
        Ok(query)
    }

    /// Only rows with this text in this column, for lists that belong to a record.
    #[must_use]
    pub fn only(self, column: &'static str, value: String) -> Self {
        self.among(column, vec![value])
    }

    /// Only rows with one of these texts in this column, or as this expression.
    #[must_use]
    pub fn among(mut self, column: &'static str, values: Vec<String>) -> Self {
        self.canonical.0.insert((column.to_owned(), values.join(",")));
        let operand = Operand::Texts(values);
        self.filters.push(Filter { column, is_array: false, operator: Operator::Is, operand, worked_out: None });
        self
    }

    /// Of rows in the past, only those of which this holds as they are now. Of rows as they are now it has to be said by
    /// [`Self::among`].
    #[must_use]
    pub fn among_today(mut self, column: &'static str, values: Vec<String>) -> Self {
        self.today.push((column, values));
        self
    }

    /// At which instant the list is read; none: now.
    #[must_use]
    pub fn as_of(&self) -> Option<AsOf> {
        self.as_of
    }

    /// What day it is, as far as this list is concerned.
    #[must_use]
    pub fn day(&self, today: NaiveDate) -> NaiveDate {
        self.as_of.map_or(today, AsOf::day)
    }

    /// Says what a word of a filter stands for that no row holds.
    #[must_use]
    pub fn worked_out(mut self, meaning: WorkedOut) -> Self {
        for filter in &mut self.filters {
            let said = matches!(&filter.operand, Operand::Words(words) if words.contains(&meaning.word));
            if said && filter.column == meaning.column {
                filter.worked_out = Some(meaning);
            }
        }
        self
    }

    /// A parameter that the route reads itself ([`ListSpec::extra`]).
    #[must_use]
    pub fn extra(&self, name: &str) -> Option<&str> {
        self.extra.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// The rows that a page has at most.
    #[must_use]
    pub fn limit(&self) -> u16 {
        self.limit
    }

    /// What a cursor of this list is good for.
    pub(super) fn context(&self, tenant: &str) -> Result<Vec<u8>, Problem> {
        serde_json::to_vec(&("list-cursor-1", self.spec.noun, tenant, &self.canonical)).map_err(Problem::internal)
    }

    fn read_filter(&mut self, name: &str, text: &str) -> Result<(), Refused> {
        if let Some(known) = self.spec.extra.iter().find(|known| **known == name) {
            self.extra.push((known, text.to_owned()));
            return Ok(());
        }
        let (stem, suffix) = name.split_at(name.find('[').unwrap_or(name.len()));
        let Some(field) = self.spec.field(stem).filter(|field| field.filter) else {
            return Err(Refused::Unknown(unknown("parameter", stem, &parameters(self.spec))));
        };
        let operators = field.kind.operators();
        let Some(&operator) = operators.iter().find(|operator| operator.suffix() == suffix) else {
            let there: Vec<&str> =
                operators.iter().map(|operator| operator.suffix()).filter(|s| !s.is_empty()).collect();
            return Err(Refused::Unknown(format!("`{stem}` has no operator `{suffix}`; it has {}", there.join(" "))));
        };
        let values: Vec<&str> =
            if operator.takes_many() { text.split(',').map(str::trim).collect() } else { vec![text] };
        if values.len() > MOST_VALUES {
            return Err(Refused::wrong("too_many", format!("at most {MOST_VALUES} values")));
        }
        if values.iter().any(|value| value.is_empty()) {
            return Err(Refused::wrong("empty", "has no value"));
        }
        let operand = operand(field.kind, &values)?;
        let is_array = field.kind == Kind::TextArray;
        self.filters.push(Filter { column: field.column, is_array, operator, operand, worked_out: None });
        Ok(())
    }
}

/// Why one parameter is not accepted.
enum Refused {
    Unknown(String),
    Wrong(&'static str, String),
}

impl Refused {
    fn wrong(code: &'static str, detail: impl fmt::Display) -> Self {
        Self::Wrong(code, detail.to_string())
    }
}

fn operand(kind: Kind, values: &[&str]) -> Result<Operand, Refused> {
    fn each<T>(values: &[&str], expected: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Refused> {
        let read =
            |value: &&str| read(value).ok_or_else(|| Refused::wrong("wrong_type", format!("expected {expected}")));
        values.iter().map(read).collect()
    }
    Ok(match kind {
        Kind::Text | Kind::TextArray => Operand::Texts(values.iter().map(|value| (*value).to_owned()).collect()),
        Kind::Id => Operand::Texts(each(values, "an id", |value| {
            let (prefix, number) = value.split_once('-')?;
            let upper = (1..=3).contains(&prefix.len()) && prefix.bytes().all(|b| b.is_ascii_uppercase());
            (upper && number.bytes().all(|b| b.is_ascii_alphanumeric())).then(|| value.to_owned())
        })?),
        Kind::Enum(known) => {
            let listed = |value: &&str| known.iter().find(|word| *word == value).copied();
            let words: Option<Vec<&'static str>> = values.iter().map(listed).collect();
            let refused = || Refused::wrong("unknown_value", format!("expected one of {}", known.join(", ")));
            Operand::Words(words.ok_or_else(refused)?)
        }
        Kind::Integer => Operand::Integers(each(values, "a whole number", |value| value.parse().ok())?),
        Kind::Decimal => {
            Operand::Decimals(each(values, "a decimal number", |value| Decimal::from_str_exact(value).ok())?)
        }
        Kind::Amount => Operand::Integers(each(values, "an amount like 1500.00", |value| {
            let exact = Decimal::from_str_exact(value).ok()?.checked_mul(AMOUNT_UNIT)?;
            exact.is_integer().then(|| exact.to_i64())?
        })?),
        Kind::Date => Operand::Dates(each(values, "a date like 2026-01-31", date)?),
        Kind::Timestamp => Operand::Moments(each(values, "a time like 2026-01-31T09:00:00Z, or a date", moment)?),
        Kind::Bool => Operand::Bools(each(values, "true or false", |value| value.parse().ok())?),
    })
}

/// `YYYY-MM-DD`.
fn date(text: &str) -> Option<NaiveDate> {
    calendar::parse_date(text).ok()
}

/// An RFC 3339 time, or a date.
pub(in crate::api) fn moment(text: &str) -> Option<Moment> {
    if let Some(day) = date(text) {
        let midnight = |day: NaiveDate| day.and_time(NaiveTime::MIN).and_utc();
        return Some(Moment { start: midnight(day), end: Some(midnight(day.checked_add_days(Days::new(1))?)) });
    }
    // a `+` that was not escaped arrives as a space
    let start = calendar::parse_time(&text.replacen(' ', "+", 1)).ok()?;
    Some(Moment { start, end: None })
}

fn limit(text: &str) -> Result<u16, Refused> {
    let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MOST).contains(limit));
    limit.ok_or_else(|| Refused::wrong("out_of_range", format!("expected a whole number from 1 to {LIMIT_MOST}")))
}

fn by(spec: &ListSpec, text: &str) -> Result<&'static By, Refused> {
    let known = spec.grouping.map_or(&[][..], |grouping| grouping.by);
    known.iter().find(|by| by.name == text).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|by| by.name).collect();
        Refused::wrong("unknown_value", format!("expected one of {}", names.join(", ")))
    })
}

fn count(text: &str) -> Result<(), Refused> {
    if text == "exact" { Ok(()) } else { Err(Refused::wrong("unknown_value", "expected exact")) }
}

fn words(text: &str) -> Result<Vec<String>, Refused> {
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    if words.len() > MOST_WORDS || text.chars().count() > 200 {
        return Err(Refused::wrong("too_long", format!("at most {MOST_WORDS} words and 200 characters")));
    }
    Ok(words)
}

fn sorting(spec: &'static ListSpec, text: &str) -> Result<Vec<(&'static Field, bool)>, String> {
    let mut sort: Vec<(&'static Field, bool)> = Vec::new();
    for name in text.split(',').map(str::trim) {
        let (name, descending) = name.strip_prefix('-').map_or((name, false), |name| (name, true));
        let Some(field) = spec.field(name).filter(|field| field.sort) else {
            let known: Vec<&str> = spec.sortable().collect();
            return Err(format!("expected some of {}, each with or without a leading -", known.join(", ")));
        };
        if sort.iter().any(|(known, _)| known.name == field.name) {
            return Err(format!("`{name}` is there twice"));
        }
        sort.push((field, descending));
    }
    Ok(sort)
}

fn sort_text(sort: &[(&'static Field, bool)]) -> String {
    let names = sort.iter().map(|(field, descending)| format!("{}{}", if *descending { "-" } else { "" }, field.name));
    names.collect::<Vec<_>>().join(",")
}

fn parameters(spec: &ListSpec) -> Vec<&'static str> {
    let fields = spec.fields.iter().filter(|field| field.filter).map(|field| field.name);
    let q = (!spec.search.is_empty()).then_some("q");
    let past: &[&str] = if spec.versions.is_some() { &["as_of", "axis"] } else { &[] };
    let form: &[&str] = if spec.grouping.is_some() { &["by"] } else { &["sort", "limit", "cursor", "count"] };
    fields.chain(spec.extra.iter().copied()).chain(q).chain(past.iter().copied()).chain(form.iter().copied()).collect()
}

#[cfg(test)]
mod tests;
