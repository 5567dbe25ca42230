//! Which events are asked for, and how they are read from the log.

use axum::http::Uri;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use sqlx::{Postgres, QueryBuilder};
use utoipa::IntoParams;

use super::cloud_event::{CloudEvent, stored_type};
use super::withheld::{Eyes, withhold};
use crate::aggregates::ids::{TenantId, UserId};
use crate::api::list::{cursor, moment};
use crate::api::page::{self, Page};
use crate::api::{App, FieldError, Problem};
use crate::event_store::Recorded;

/// Which events of one's own business.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventsQuery {
    /// What happened: `LeadCaptured` or `devhub.lead.captured.v1`; several with commas.
    #[serde(rename = "type")]
    #[param(style = Form, explode = false)]
    kind: Vec<String>,
    /// Who did it: `USR-002`, `TNT-PLT:USR-000` or `system`.
    actor: Option<String>,
    /// To what kind of thing: `lead`.
    aggregate: Option<String>,
    /// To what: `LED-007`.
    subject: Option<String>,
    /// What belongs together.
    correlation_id: Option<String>,
    /// From this time on (RFC 3339, or a date).
    from: Option<String>,
    /// Up to this time (RFC 3339), or with this whole day.
    to: Option<String>,
    /// Events of a page: 50 if not said, 200 at most.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u16>,
    /// `page.next_cursor` of the page before, with everything else unchanged.
    cursor: Option<String>,
}

/// Which events of all businesses.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AdminEventsQuery {
    /// Of this business only.
    #[param(value_type = Option<TenantId>)]
    tenant_id: Option<String>,
    /// What happened: `LeadCaptured` or `devhub.lead.captured.v1`; several with commas.
    #[serde(rename = "type")]
    #[param(style = Form, explode = false)]
    kind: Vec<String>,
    /// Who did it: `TNT-001:USR-002` or `system`.
    actor: Option<String>,
    /// To what kind of thing: `lead`.
    aggregate: Option<String>,
    /// To what: `LED-007`.
    subject: Option<String>,
    /// What belongs together.
    correlation_id: Option<String>,
    /// From this time on (RFC 3339, or a date).
    from: Option<String>,
    /// Up to this time (RFC 3339), or with this whole day.
    to: Option<String>,
    /// Events of a page: 50 if not said, 200 at most.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u16>,
    /// `page.next_cursor` of the page before, with everything else unchanged.
    cursor: Option<String>,
}

/// Whose deeds are shown.
#[derive(Debug, Clone)]
pub enum By {
    /// Everybody's.
    Anybody,
    /// Those of the people of a department, and one's own.
    Department {
        /// Which department.
        department: String,
        /// Oneself, whole.
        me: String,
    },
    /// One's own.
    Me(String),
}

/// Whose history is read.
#[derive(Debug, Clone, Copy)]
enum Of {
    /// That of the caller's business, as far back as its plan shows it.
    Business { tenant: TenantId, since: Option<DateTime<Utc>>, reader: Option<UserId> },
    /// That of all businesses, or of one of them: only the founder reads it.
    Platform(Option<TenantId>),
}

impl Of {
    fn tenant(self) -> Option<TenantId> {
        match self {
            Self::Business { tenant, .. } => Some(tenant),
            Self::Platform(tenant) => tenant,
        }
    }

    fn is_platform(self) -> bool {
        matches!(self, Self::Platform(_))
    }
}

/// Events to be read, the newest first.
#[derive(Debug, Clone)]
pub struct Reading {
    of: Of,
    by: By,
    kinds: Vec<String>,
    actor: Option<String>,
    aggregate: Option<String>,
    subject: Option<String>,
    correlation_id: Option<String>,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    limit: u16,
    cursor: Option<String>,
    /// Only what stands before the event at this position, which is one of those.
    pub before: Option<i64>,
}

impl AdminEventsQuery {
    /// What is to be read.
    ///
    /// # Errors
    /// `validation_failed` for a value that is not accepted.
    pub fn reading(self) -> Result<Reading, Problem> {
        let tenant = self.tenant_id.as_deref().map(str::parse).transpose();
        let tenant = tenant.map_err(|error| wrong("tenant_id", "wrong_type", format!("{error}")))?;
        let query = EventsQuery {
            kind: self.kind,
            actor: self.actor,
            aggregate: self.aggregate,
            subject: self.subject,
            correlation_id: self.correlation_id,
            from: self.from,
            to: self.to,
            limit: self.limit,
            cursor: self.cursor,
        };
        query.bounded(Of::Platform(tenant), By::Anybody)
    }
}

impl EventsQuery {
    /// What is to be read of a business by one of its people, if `reader` is one: whose deeds, and recorded since when,
    /// if its plan limits that.
    ///
    /// # Errors
    /// `validation_failed` for a value that is not accepted.
    pub fn reading(
        self,
        (tenant, reader): (TenantId, Option<UserId>),
        by: By,
        since: Option<DateTime<Utc>>,
    ) -> Result<Reading, Problem> {
        self.bounded(Of::Business { tenant, since, reader }, by)
    }

    fn bounded(self, of: Of, by: By) -> Result<Reading, Problem> {
        let kinds = self.kind.iter().map(|text| {
            stored_type(text).ok_or_else(|| wrong("type", "unknown_value", format!("there is no event {text}")))
        });
        let kinds = kinds.collect::<Result<_, _>>()?;
        let limit = page::limit(self.limit)?;
        let actor = self.actor.map(|actor| whole_actor(actor, of.tenant())).transpose()?;
        Ok(Reading {
            of,
            by,
            kinds,
            actor,
            aggregate: self.aggregate,
            subject: self.subject,
            correlation_id: self.correlation_id,
            from: self.from.map(|text| instant("from", &text, false)).transpose()?,
            to: self.to.map(|text| instant("to", &text, true)).transpose()?,
            limit,
            cursor: self.cursor,
            before: None,
        })
    }
}

impl Reading {
    /// One page.
    ///
    /// # Errors
    /// `invalid_cursor`.
    pub async fn page(mut self, app: &App, uri: &Uri) -> Result<Page<CloudEvent>, Problem> {
        let context = self.context()?;
        if let Some(text) = &self.cursor {
            let keys = cursor::open(&app.cursor_key, &context, text)?;
            let position = keys.into_iter().next().flatten().and_then(|key| key.parse().ok());
            self.before = Some(position.ok_or_else(Problem::invalid_cursor)?);
        }
        let (data, next) = self.some(app, i64::from(self.limit)).await?;
        let after = next.map(|position| vec![Some(position.to_string())]);
        Page::sealed(data, after.as_ref(), (&app.cursor_key, &context), uri)
    }

    /// Up to so many events, and the position before which it goes on, if it does.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn some(&self, app: &App, limit: i64) -> Result<(Vec<CloudEvent>, Option<i64>), Problem> {
        let readers = if self.of.is_platform() { &app.founder_readers } else { &app.readers };
        let mut recorded: Vec<Recorded> = readers.rows(|| self.statement(limit + 1)).await?;
        let more = i64::try_from(recorded.len()).is_ok_and(|found| found > limit);
        recorded.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let last = recorded.last().map(|event| event.position);
        let mut events = Vec::with_capacity(recorded.len());
        for event in recorded {
            let position = event.position;
            let meant = CloudEvent::read(event, self.of.is_platform())?;
            events.extend(meant.into_iter().map(|event| (position, event)));
        }
        withhold(app, self.eyes(), &mut events).await?;
        Ok((events.into_iter().map(|(_, event)| event).collect(), last.filter(|_| more)))
    }

    /// The statement that reads up to so many events, the columns of `events`.
    #[must_use]
    pub fn statement(&self, limit: i64) -> QueryBuilder<'static, Postgres> {
        let mut sql = QueryBuilder::new("");
        if let Of::Business { tenant, .. } = self.of {
            sql.push("with scope as materialized (select set_config('devhub.tenant_id', ");
            sql.push_bind(tenant.to_string()).push(", true) as tenant_id) ");
            sql.push("select x.* from scope cross join lateral (");
        } else {
            sql.push("select x.* from (");
        }
        sql.push(
            "select e.* from activity a
             join events e on e.tenant_id = a.tenant_id and e.tenant_position = a.tenant_position where true",
        );
        if let Some(tenant) = self.of.tenant() {
            sql.push(" and a.tenant_id = ");
            self.push_tenant(&mut sql, tenant);
        }
        match &self.by {
            By::Anybody => {}
            By::Me(me) => {
                sql.push(" and a.actor = ").push_bind(me.clone());
            }
            By::Department { department, me } => {
                sql.push(" and (a.actor = ").push_bind(me.clone());
                sql.push(
                    " or a.actor in (select u.tenant_id || ':' || u.id from users u where u.tenant_id = a.tenant_id",
                );
                sql.push(" and u.department = ").push_bind(department.clone()).push("))");
            }
        }
        if !self.kinds.is_empty() {
            sql.push(" and a.event_type = any(").push_bind(self.kinds.clone()).push(")");
        }
        let equal = [
            ("a.actor", &self.actor),
            ("lower(a.aggregate_type)", &self.aggregate.as_ref().map(|name| name.to_lowercase())),
            ("a.subject", &self.subject),
            ("a.correlation_id", &self.correlation_id),
        ];
        for (column, value) in equal {
            if let Some(value) = value {
                sql.push(format_args!(" and {column} = ")).push_bind(value.clone());
            }
        }
        for (comparison, bound) in [("a.occurred_at >= ", self.from), ("a.occurred_at < ", self.to)] {
            if let Some(bound) = bound {
                sql.push(format_args!(" and {comparison}")).push_bind(bound);
            }
        }
        if let Of::Business { since: Some(since), .. } = self.of {
            // The time only ever goes on along a history, so that what was recorded since then begins at one position:
            // a page is read in the order of the positions down to there, and not sorted out of all that was recorded.
            sql.push(
                " and a.tenant_position >= (select min(f.tenant_position) from (select b.tenant_position
                 from activity b where b.tenant_id = scope.tenant_id
                 and b.recorded_at = (select c.recorded_at from activity c where c.tenant_id = scope.tenant_id
                 and c.recorded_at >= ",
            );
            sql.push_bind(since).push(" order by c.recorded_at limit 1) offset 0) f)");
        }
        match (self.before, self.of.tenant()) {
            // By the order in which the activity is read, so that a late page costs no more than an early one.
            (Some(before), Some(tenant)) => {
                sql.push(" and a.tenant_position < (select b.tenant_position from events b where b.position = ");
                sql.push_bind(before).push(" and b.tenant_id = ");
                self.push_tenant(&mut sql, tenant);
                sql.push(")");
            }
            (Some(before), None) => {
                sql.push(" and e.position < ").push_bind(before);
            }
            (None, _) => {}
        }
        // Within a tenant both orders are the same; the activity has the one, the log both.
        let order = if self.of.tenant().is_some() { "a.tenant_position" } else { "e.position" };
        sql.push(format_args!(" order by {order} desc limit ")).push_bind(limit);
        sql.push(") x order by x.position desc");
        sql
    }

    /// The tenant that is read: the one that row-level security was told, or of all of them this one.
    fn push_tenant(&self, sql: &mut QueryBuilder<'static, Postgres>, tenant: TenantId) {
        if self.of.is_platform() {
            sql.push_bind(tenant.to_string());
        } else {
            sql.push("scope.tenant_id");
        }
    }

    fn eyes(&self) -> Eyes {
        match self.of {
            Of::Business { tenant, reader, .. } => Eyes { within: Some(tenant), author: reader },
            Of::Platform(_) => Eyes { within: None, author: Some(UserId::FOUNDER) },
        }
    }

    /// What a cursor of this reading is good for.
    fn context(&self) -> Result<Vec<u8>, Problem> {
        let by = format!("{:?}", self.by);
        serde_json::to_vec(&(
            "events-cursor-1",
            self.of.tenant(),
            self.of.is_platform(),
            by,
            &self.kinds,
            (&self.actor, &self.aggregate, &self.subject, &self.correlation_id),
            (self.from, self.to),
        ))
        .map_err(Problem::internal)
    }
}

/// `USR-002` means the one of the business that is read.
fn whole_actor(actor: String, tenant: Option<TenantId>) -> Result<String, Problem> {
    match (actor.parse::<UserId>(), tenant) {
        (Ok(user), Some(tenant)) => Ok(format!("{tenant}:{user}")),
        (Ok(_), None) => Err(wrong("actor", "ambiguous", "say of which business: TNT-001:USR-002")),
        (Err(_), _) => Ok(actor),
    }
}

fn instant(name: &'static str, text: &str, end: bool) -> Result<DateTime<Utc>, Problem> {
    let expected = || wrong(name, "wrong_type", "expected a time like 2026-01-31T09:00:00Z, or a date");
    let moment = moment(text).ok_or_else(expected)?;
    Ok(moment.end.filter(|_| end).unwrap_or(moment.start))
}

fn wrong(name: &str, code: &str, detail: impl Into<String>) -> Problem {
    Problem::validation_failed(vec![FieldError::parameter(name, code, detail)])
}
