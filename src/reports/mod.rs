//! Reports: each a question over the rows of a read model, as they stand now or stood on any day. One file a report.
//!
//! ```text
//! rows that the caller may see ─► a line for each group and currency, in SQL ─► figures of each group, and of all
//! ```
//!
//! A report says which rows it is about, by what they can be grouped, and what is worked out of them. Which rows there are
//! (of which business, for whom, filtered how, at which instant) is for whoever asks.

pub mod conversion;
mod figures;
pub mod pipeline;
pub mod projects;
pub mod receivables;

use std::collections::BTreeMap;

use chrono::NaiveDate;
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row as _};
use utoipa::ToSchema;

pub use figures::Sums;

/// The most groups that a report has.
pub const GROUPS_MOST: usize = 1_000;

/// By what the rows of a report can be grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grouping {
    /// Each with its name.
    pub by: &'static [By],
    /// The name of the one that is meant if nothing was said; none: rows are not grouped then.
    pub default: Option<&'static str>,
}

/// One thing to group by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct By {
    /// What `by` says.
    pub name: &'static str,
    /// An SQL expression over a row `t`, a text.
    pub expression: &'static str,
    /// Its words in their own order; none: by their length, then as texts, which puts `USR-1000` behind `USR-999`.
    pub order: &'static [&'static str],
}

impl By {
    /// By a column of this name.
    #[must_use]
    pub const fn column(name: &'static str) -> Self {
        Self { name, expression: name, order: &[] }
    }

    /// By a column of this name, which holds one of these words.
    #[must_use]
    pub const fn words(name: &'static str, order: &'static [&'static str]) -> Self {
        Self { name, expression: name, order }
    }
}

/// A question over the rows `t` of a read model, which have a column `currency`.
pub trait Report: 'static {
    /// Which rows it is about: an SQL condition; none: all.
    const WHICH: Option<&'static str>;
    /// By what they can be grouped.
    const GROUPING: Grouping;
    /// An SQL expression by which the rows of a group are told apart further, each with a line of its own.
    const SPLIT: Option<&'static str> = None;
    /// One line of what the database answers, without its group and currency.
    type Line: for<'r> FromRow<'r, PgRow> + Send + Unpin;
    /// What is worked out of the lines of a group.
    type Figures: Default + Serialize + ToSchema;

    /// The columns of a line: SQL aggregates over the rows `t`; `asked.day` is the day of the report.
    fn columns() -> String;

    /// Adds a line to the figures of its group.
    fn add(figures: &mut Self::Figures, currency: Option<&str>, line: &Self::Line);
}

/// A line with its group and currency.
#[derive(Debug)]
pub struct Keyed<L> {
    key: Option<String>,
    currency: Option<String>,
    line: L,
}

impl<'r, L: FromRow<'r, PgRow>> FromRow<'r, PgRow> for Keyed<L> {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        Ok(Self { key: row.try_get("key")?, currency: row.try_get("currency")?, line: L::from_row(row)? })
    }
}

/// What a report says.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Report)]
pub struct Told<F> {
    /// The day (UTC) for which it was worked out: that of `as_of`, or today.
    day: NaiveDate,
    /// By what it is grouped; null if it is not.
    #[schema(required)]
    by: Option<String>,
    /// The figures of each group that has any rows.
    groups: Vec<Group<F>>,
    /// The figures of all rows together.
    total: F,
}

/// The figures of a group.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ReportGroup)]
pub struct Group<F> {
    /// What its rows have in common; null for those that have no such value.
    #[schema(required)]
    key: Option<String>,
    #[serde(flatten)]
    figures: F,
}

/// More groups than [`GROUPS_MOST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are more than {GROUPS_MOST} groups")]
pub struct TooManyGroups;

impl<F: Default> Told<F> {
    /// What the lines of the database come to.
    ///
    /// # Errors
    /// [`TooManyGroups`].
    pub fn of<R: Report<Figures = F>>(
        day: NaiveDate,
        by: Option<&By>,
        lines: &[Keyed<R::Line>],
    ) -> Result<Self, TooManyGroups> {
        let mut total = F::default();
        let mut groups: BTreeMap<(usize, Option<&str>), F> = BTreeMap::new();
        for Keyed { key, currency, line } in lines {
            R::add(&mut total, currency.as_deref(), line);
            if let Some(by) = by {
                let figures = groups.entry((place(by, key.as_deref()), key.as_deref())).or_default();
                R::add(figures, currency.as_deref(), line);
            }
        }
        if groups.len() > GROUPS_MOST {
            return Err(TooManyGroups);
        }
        let groups =
            groups.into_iter().map(|((_, key), figures)| Group { key: key.map(str::to_owned), figures }).collect();
        Ok(Self { day, by: by.map(|by| by.name.to_owned()), groups, total })
    }
}

/// Where a group stands among others: rows without a value last.
fn place(by: &By, key: Option<&str>) -> usize {
    let Some(key) = key else { return usize::MAX };
    by.order.iter().position(|word| *word == key).unwrap_or(by.order.len() + key.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stand_in_the_order_of_their_words_and_of_their_numbers() {
        let mut stages = vec![Some("won"), None, Some("new"), Some("old")];
        let by = By::words("stage", &["new", "old", "won"]);
        stages.sort_by_key(|key| (place(&by, *key), *key));
        assert_eq!(stages, [Some("new"), Some("old"), Some("won"), None]);
        let mut people = vec![Some("USR-1000"), Some("USR-999"), None, Some("USR-001")];
        people.sort_by_key(|key| (place(&By::column("owner_id"), *key), *key));
        assert_eq!(people, [Some("USR-001"), Some("USR-999"), Some("USR-1000"), None]);
    }
}
