//! The past: how a record or a list stood at an instant, on either clock, and each change of a record.
//!
//! ```text
//!                     ┌─ occurred: when it happened in the business
//! ?as_of=…&axis=… ────┤
//!                     └─ recorded: when the log took it
//! ```
//!
//! What the caller may see *today* decides whose past is shown: access that was revoked is revoked for the past too,
//! and a record that is shared now shows what it was before.

mod change;
mod history;
pub mod nouns;
pub(super) mod routes;

use std::future::Future;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::Deserialize;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row as _};
use utoipa::{IntoParams, ToSchema};

use super::caller::Caller;
use super::list::{ListQuery, ListScope, Moment, Parent, Visibility, moment};
use super::page::Page;
use super::query::Query;
use super::record::{Noun, Record, View as _, find, find_any, present_in, row_in};
use super::{App, Problem};
use crate::aggregates::ids::UserId;
use crate::event_store::TenantScope;
use crate::projections::row::{Row, Stored};

/// Which clock is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Axis {
    /// When it happened in the business.
    Occurred,
    /// When the log took it.
    Recorded,
}

impl Axis {
    /// The columns of a version table in which its period on this clock begins and ends.
    #[must_use]
    pub const fn period(self) -> (&'static str, &'static str) {
        match self {
            Self::Occurred => ("occurred_from", "occurred_to"),
            Self::Recorded => ("recorded_from", "recorded_to"),
        }
    }
}

/// An instant on one of the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsOf {
    /// The instant.
    pub at: DateTime<Utc>,
    /// On which clock.
    pub axis: Axis,
}

impl AsOf {
    /// Reads the two parameters. A day stands for its end (UTC): what happened on it is included.
    ///
    /// # Errors
    /// `malformed_request` for what is no instant or no clock, and for a clock without an instant.
    pub fn parse(as_of: Option<&str>, axis: Option<&str>) -> Result<Option<Self>, Problem> {
        let axis = match axis {
            None => None,
            Some("occurred") => Some(Axis::Occurred),
            Some("recorded") => Some(Axis::Recorded),
            Some(_) => return Err(Problem::malformed_request("axis is occurred or recorded")),
        };
        let Some(text) = as_of else {
            return match axis {
                None => Ok(None),
                Some(_) => Err(Problem::malformed_request("axis says on which clock as_of is meant: send as_of too")),
            };
        };
        let unreadable = || {
            Problem::malformed_request(
                "as_of takes a time like 2026-01-31T09:00:00Z, or a date, which includes its day",
            )
        };
        let Moment { start, end } = moment(text).ok_or_else(unreadable)?;
        // the last instant that the database tells apart from the next day
        let at = end.map_or(start, |end| end - TimeDelta::microseconds(1));
        Ok(Some(Self { at, axis: axis.unwrap_or(Axis::Occurred) }))
    }

    /// What day it was (UTC), for what is worked out from the day.
    #[must_use]
    pub fn day(self) -> NaiveDate {
        self.at.date_naive()
    }
}

/// At which instant something is read.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AsOfQuery {
    /// How it stood then: a time (RFC 3339), or a date, which includes that day (UTC).
    #[param(example = "2026-01-31")]
    as_of: Option<String>,
    /// On which clock `as_of` is meant: when things `occurred` in the business, the default, or when the log
    /// `recorded` them.
    #[param(value_type = Option<Axis>, inline)]
    axis: Option<String>,
}

/// The instant at which a record is wanted; none: now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct When(pub Option<AsOf>);

impl<S: Send + Sync> FromRequestParts<S> for When {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(AsOfQuery { as_of, axis }) = Query::from_request_parts(parts, state).await?;
        AsOf::parse(as_of.as_deref(), axis.as_deref()).map(Self)
    }
}

/// Who reads the past.
#[derive(Debug, Clone, Copy)]
pub enum Reader<'a> {
    /// Somebody inside the business, within what they may see.
    Caller(&'a Caller),
    /// The founder, from outside.
    Founder(TenantScope),
}

impl Reader<'_> {
    /// In which business.
    #[must_use]
    pub fn scope(self) -> TenantScope {
        match self {
            Self::Caller(caller) => caller.scope(),
            Self::Founder(scope) => scope,
        }
    }

    /// Which records of a noun the reader may see.
    #[must_use]
    pub fn visibility<N: Noun>(&self) -> Visibility<'_> {
        match self {
            Self::Founder(_) => Visibility::Everything,
            Self::Caller(caller) => {
                caller.require(N::READ).map_or(Visibility::Within(&[]), |scope| caller.visibility(scope))
            }
        }
    }

    /// As an author of private notes. The people of a business are counted from 001, so that what has the founder's
    /// number there was the founder's before an import.
    #[must_use]
    pub fn author(self) -> Option<UserId> {
        match self {
            Self::Caller(caller) => caller.own_user(),
            Self::Founder(_) => Some(UserId::FOUNDER),
        }
    }
}

/// A noun whose past is shown.
pub trait Remembered: Noun + Sized {
    /// What follows from other fields or from the day, and so is no change of its own.
    const WORKED_OUT: &'static [&'static str] = &[];
    /// The events that its records have, and whose story is told elsewhere.
    const TOLD_ELSEWHERE: &'static [&'static str] = &[];
    /// An expression over a version: who alone may see it, `''` for everybody. None: whoever sees the record.
    const SEEN_BY: Option<&'static str> = None;

    /// The record as it is now, taken away or not, if the reader may see it.
    fn now(app: &App, reader: Reader<'_>, id: &str) -> impl Future<Output = Result<Stored<Self::Row>, Problem>> + Send {
        find_now::<Self>(app, reader, id)
    }

    /// Whether a version could be read while it held.
    #[must_use]
    fn readable(_then: &Self::Row, deleted: bool) -> bool {
        !deleted
    }

    /// That what a record belonged to could be read as well.
    fn belonged(
        _app: &App,
        _scope: TenantScope,
        _then: &Self::Row,
        _as_of: AsOf,
    ) -> impl Future<Output = Result<(), Problem>> + Send {
        async { Ok(()) }
    }
}

/// A record with an owner of its own, as it is now.
async fn find_now<N: Noun>(app: &App, reader: Reader<'_>, id: &str) -> Result<Stored<N::Row>, Problem> {
    match reader {
        Reader::Caller(caller) => Ok(find_any::<N>(app, caller, id).await?.stored),
        Reader::Founder(scope) => row_in::<N>(app, scope, id).await,
    }
}

/// A record as it stood then.
///
/// # Errors
/// `not_found`: it was not there then, or the reader may not see it now.
pub async fn read<N: Remembered>(
    app: &App,
    reader: Reader<'_>,
    id: &str,
    as_of: AsOf,
) -> Result<Record<N::View>, Problem> {
    let then = find_then::<N>(app, reader, id, as_of).await?;
    let version = then.version;
    Ok(Record::read(N::View::on(then, as_of.day()), version))
}

/// The same as a row.
///
/// # Errors
/// As [`read`].
pub async fn find_then<N: Remembered>(
    app: &App,
    reader: Reader<'_>,
    id: &str,
    as_of: AsOf,
) -> Result<Stored<N::Row>, Problem> {
    N::now(app, reader, id).await?;
    let then = held::<N>(app, reader.scope(), reader.author(), id, as_of).await?;
    N::belonged(app, reader.scope(), &then.row, as_of).await?;
    Ok(then)
}

/// One page of what belongs to a record that the reader is known to see. Of the past, only what they may see as it is
/// now: what belonged to this record may belong to another today, to the first of `parents` that it names.
///
/// # Errors
/// `invalid_cursor`.
pub async fn list_within<N: Noun>(
    app: &App,
    reader: Reader<'_>,
    query: ListQuery,
    parents: &[Parent<'_>],
) -> Result<Page<N::View>, Problem> {
    let tenant = reader.scope().tenant();
    let restricted = parents.iter().any(|parent| parent.visibility != Visibility::Everything);
    let visibility = match query.as_of() {
        Some(_) if restricted => Visibility::Within(parents),
        _ => Visibility::Everything,
    };
    let bounds = ListScope { tenant, schema: None, visibility, cursor_key: &app.cursor_key };
    let day = query.day(app.today());
    app.readers.page(&query, &bounds, |stored| N::View::on(stored, day)).await
}

/// That a record to which others belong can be read, now or as of an instant.
///
/// # Errors
/// `not_found`.
pub async fn there<N: Remembered>(app: &App, reader: Reader<'_>, id: &str, as_of: Option<AsOf>) -> Result<(), Problem> {
    match (as_of, reader) {
        (Some(as_of), _) => find_then::<N>(app, reader, id, as_of).await.map(drop),
        (None, Reader::Caller(caller)) => find::<N>(app, caller, id).await.map(drop),
        (None, Reader::Founder(scope)) => present_in::<N>(app, scope, id).await.map(drop),
    }
}

/// The version of a record that held then, if it could be read, by `author` in case not all may see it.
async fn held<N: Remembered>(
    app: &App,
    scope: TenantScope,
    author: Option<UserId>,
    id: &str,
    as_of: AsOf,
) -> Result<Stored<N::Row>, Problem> {
    let (from, to) = as_of.axis.period();
    let statement = format!(
        "with scope as materialized (select set_config('devhub.tenant_id', $1, true) as tenant_id)
         select v.* from scope cross join lateral (
             select *, {deleted} as record_deleted from {versions}
             where tenant_id = scope.tenant_id and id = $2 and {from} <= $3 and {to} > $3 and {seen_by} = any($4)
         ) v",
        deleted = deleted::<N>(),
        versions = N::Row::VERSIONS,
        seen_by = N::SEEN_BY.unwrap_or("''"),
    );
    let row: Option<PgRow> = sqlx::query(&statement)
        .bind(scope.tenant().to_string())
        .bind(id)
        .bind(as_of.at)
        .bind(seers(author))
        .fetch_optional(&app.database.cell_of(scope.tenant()).request)
        .await?;
    let row = row.ok_or_else(Problem::not_found)?;
    let stored = Stored::<N::Row>::from_row(&row)?;
    if N::readable(&stored.row, row.try_get("record_deleted")?) { Ok(stored) } else { Err(Problem::not_found()) }
}

const fn deleted<N: Noun>() -> &'static str {
    if N::LIST.hides_deleted { "deleted_at is not null" } else { "false" }
}

/// Who may see a version that `author` may see, as [`Remembered::SEEN_BY`] names them.
fn seers(author: Option<UserId>) -> Vec<String> {
    std::iter::once(String::new()).chain(author.map(|author| author.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::problem::ProblemKind;

    fn read(as_of: Option<&str>, axis: Option<&str>) -> Result<Option<(String, Axis)>, ProblemKind> {
        let read = AsOf::parse(as_of, axis).map_err(|problem| problem.kind())?;
        Ok(read.map(|as_of| (as_of.at.to_rfc3339(), as_of.axis)))
    }

    #[test]
    fn an_instant_is_itself_and_a_day_is_its_end() {
        let noon = Some("2017-06-30T12:00:00+02:00");
        assert_eq!(read(noon, None), Ok(Some(("2017-06-30T10:00:00+00:00".into(), Axis::Occurred))));
        assert_eq!(
            read(Some("2017-06-30"), Some("recorded")),
            Ok(Some(("2017-06-30T23:59:59.999999+00:00".into(), Axis::Recorded)))
        );
        assert_eq!(AsOf::parse(Some("2017-06-30"), None).unwrap().unwrap().day().to_string(), "2017-06-30");
        assert_eq!(read(None, None), Ok(None));
    }

    #[test]
    fn what_is_no_instant_and_no_clock_is_refused() {
        for (as_of, axis) in [
            (Some("yesterday"), None),
            (Some(""), None),
            (Some("2017-6-30"), None),
            (Some("2017-06-30"), Some("valid")),
            (None, Some("recorded")),
        ] {
            assert_eq!(read(as_of, axis), Err(ProblemKind::MalformedRequest), "{as_of:?} {axis:?}");
        }
    }
}
