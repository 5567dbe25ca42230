//! From the plan to the log, through the ordinary append path.
//!
//! Every planned event has an id that follows from its stream and place. A run that was interrupted goes on after
//! its checkpoint and leaves out what the log has already, so the log is the same as if nothing had happened.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Postgres, Row, Transaction};
use uuid::Uuid;

use super::ImportError;
use super::progress::Progress;
use super::staging::Staging;
use super::tables::Table;
use crate::aggregates::claims::{ClaimChange, Claiming};
use crate::aggregates::customer::Customer;
use crate::aggregates::ids::TenantId;
use crate::aggregates::invoice::Invoice;
use crate::aggregates::lead::Lead;
use crate::aggregates::project::Project;
use crate::aggregates::tenant::Tenant;
use crate::aggregates::user::{User, UserEvent};
use crate::event_store::append::{Append, NewEvent, StreamWrite};
use crate::event_store::{AppendError, EventStore, StreamId, Target};

/// Events that are read and appended at once.
const PAGE: i64 = 4_000;
/// Times that an append is tried again while others write to the same stream.
const ATTEMPTS: u32 = 10;
/// The pause before the store is asked again that had too much to do.
const PAUSE: Duration = Duration::from_millis(100);

/// A place in the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Place {
    occurred_at: DateTime<Utc>,
    rank: i16,
    number: i64,
    sequence: i64,
}

impl Place {
    fn of(row: &PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            occurred_at: row.try_get("occurred_at")?,
            rank: row.try_get("rank")?,
            number: row.try_get("number")?,
            sequence: row.try_get("sequence")?,
        })
    }
}

/// An old row that an event carries, and what was repaired of it.
struct Carried {
    row: Option<String>,
    repairs: Option<String>,
}

type CarriedRows = HashMap<(Table, i64), Carried>;

/// A page of the plan as appends, each with the row that it comes from.
#[derive(Default)]
struct Page {
    appends: Vec<(Append, (Table, i64))>,
    events: u64,
    last: Option<Place>,
}

/// A stream that a page begins, with which event, and from which row.
type Begun = (StreamId, Uuid, (Table, i64));

/// Streams that do not come in, and how many of their events did not.
#[derive(Default)]
struct Refused {
    streams: HashSet<StreamId>,
    events: i64,
}

impl Refused {
    /// Whether the append is to such a stream; counts it if it is.
    fn leaves_out(&mut self, append: &Append) -> bool {
        let out = target(append).is_some_and(|stream| self.streams.contains(stream));
        if out {
            let events: usize = append.writes.iter().map(|write| write.events.len()).sum();
            self.events += i64::try_from(events).unwrap_or(0);
        }
        out
    }
}

/// Appends a plan.
pub(super) struct Replay<'a> {
    pub staging: &'a Staging,
    pub store: &'a EventStore,
    pub import_id: Uuid,
    pub revision: &'a str,
    pub progress: &'a Progress,
}

impl Replay<'_> {
    /// Appends everything from the checkpoint on. Returns the position of the last event, and how many events did not
    /// come in because something was taken in the meantime.
    pub(super) async fn run(&self) -> Result<(i64, i64), ImportError> {
        let (checkpoint, done): (Option<serde_json::Value>, i64) =
            sqlx::query_as("select checkpoint, appended_events from legacy_imports where import_id = $1")
                .bind(self.import_id)
                .fetch_one(&self.staging.pool)
                .await?;
        let place: Option<Place> = checkpoint.map(serde_json::from_value).transpose().map_err(ImportError::Encode)?;
        let mut appended = u64::try_from(done).unwrap_or(0);
        self.progress.done(appended);
        let mut position = *self.store.head().borrow();
        let mut moved: HashMap<StreamId, i64> = HashMap::new();
        let mut refused = Refused::default();
        let mut plan = self.open(place.as_ref()).await?;
        let mut page = self.page(&mut plan).await?;
        while let Some(last) = page.last.take() {
            let events = page.events;
            self.leave_to_others(&page.appends, &mut refused).await?;
            let next = self.page(&mut plan);
            let appending = self.append(std::mem::take(&mut page.appends), &mut moved, &mut refused);
            let (next, reached) = tokio::join!(next, appending);
            position = position.max(reached?);
            appended += events;
            self.progress.done(events);
            self.checkpoint(&last, appended).await?;
            page = next?;
        }
        Ok((position, refused.events))
    }

    async fn checkpoint(&self, place: &Place, appended: u64) -> Result<(), ImportError> {
        sqlx::query("update legacy_imports set checkpoint = $2, appended_events = $3 where import_id = $1")
            .bind(self.import_id)
            .bind(json!(place))
            .bind(i64::try_from(appended).unwrap_or(i64::MAX))
            .execute(&self.staging.pool)
            .await?;
        Ok(())
    }

    /// Opens the plan after a place, in the order in which things happened.
    async fn open(&self, after: Option<&Place>) -> Result<Transaction<'static, Postgres>, ImportError> {
        let mut plan = self.staging.pool.begin().await?;
        sqlx::query(
            "declare plan no scroll cursor for
             select * from legacy_plan
             where tenant_id = $1 and ($2::timestamptz is null
                   or (occurred_at, rank, number, sequence) > ($2, $3::smallint, $4::bigint, $5::bigint))
             order by occurred_at, rank, number, sequence",
        )
        .bind(self.staging.tenant())
        .bind(after.map(|place| place.occurred_at))
        .bind(after.map(|place| place.rank))
        .bind(after.map(|place| place.number))
        .bind(after.map(|place| place.sequence))
        .execute(&mut *plan)
        .await?;
        Ok(plan)
    }

    /// The next page of the plan.
    async fn page(&self, plan: &mut PgConnection) -> Result<Page, ImportError> {
        let rows = sqlx::query(&format!("fetch forward {PAGE} from plan")).fetch_all(plan).await?;
        let carried = self.carried(&rows).await?;
        let mut page = Page { last: rows.last().map(Place::of).transpose()?, ..Page::default() };
        for row in &rows {
            page.events += 1;
            self.take(&mut page, row, &carried)?;
        }
        Ok(page)
    }

    /// The rows that the events of a page carry, and what was repaired of them.
    async fn carried(&self, rows: &[PgRow]) -> Result<CarriedRows, ImportError> {
        let (mut tables, mut pks) = (Vec::new(), Vec::new());
        for row in rows {
            if row.try_get("first")? {
                tables.push(row.try_get::<&str, _>("source_table")?);
                pks.push(row.try_get::<i64, _>("pk")?);
            }
        }
        let rows = sqlx::query(
            "select s.source_table, s.pk, s.row, o.repairs
             from unnest($2::text[], $3::bigint[]) as f (source_table, pk)
             join legacy_staged s on s.tenant_id = $1 and s.source_table = f.source_table and s.pk = f.pk
             left join legacy_outcomes o on o.tenant_id = $1 and o.source_table = f.source_table and o.pk = f.pk",
        )
        .bind(self.staging.tenant())
        .bind(tables)
        .bind(pks)
        .fetch_all(&self.staging.pool)
        .await?;
        rows.iter()
            .map(|row| {
                let carried = Carried { row: row.try_get("row")?, repairs: row.try_get("repairs")? };
                Ok(((parsed(row, "source_table")?, row.try_get("pk")?), carried))
            })
            .collect()
    }

    /// Adds an event to the page; what one row says of one stream in one go is one append.
    fn take(&self, page: &mut Page, row: &PgRow, carried: &CarriedRows) -> Result<(), ImportError> {
        let tenant: TenantId = parsed(row, "stream_tenant")?;
        let table: Table = parsed(row, "source_table")?;
        let pk: i64 = row.try_get("pk")?;
        let stream = stream_of(row.try_get("aggregate_type")?, tenant, row.try_get("local_id")?)?;
        let sequence: i64 = row.try_get("sequence")?;
        let payload: String = row.try_get("payload")?;
        let event = NewEvent {
            event_id: event_id(&stream, sequence, row.try_get("occurred_at")?),
            event_type: row.try_get("event_type")?,
            event_version: row.try_get("event_version")?,
            metadata: self.metadata(row, table, pk, carried)?,
            occurred_at: row.try_get("occurred_at")?,
            claims: claims(&stream, &payload)?,
            payload,
        };
        if let Some((append, from)) = page.appends.last_mut()
            && *from == (table, pk)
            && let [write] = append.writes.as_mut_slice()
            && write.target == Target::Named(stream.clone())
        {
            write.events.push(event);
            return Ok(());
        }
        let write = StreamWrite { target: stream.into(), expected: sequence - 1, events: vec![event] };
        let append =
            Append { tenant, writes: vec![write], guards: Vec::new(), conditions: Vec::new(), idempotency: None };
        page.appends.push((append, (table, pk)));
        Ok(())
    }

    /// Where the event comes from; its row's first event carries the row and what was repaired.
    fn metadata(&self, row: &PgRow, table: Table, pk: i64, carried: &CarriedRows) -> Result<Arc<str>, ImportError> {
        let correlation: Uuid = row.try_get("correlation_id")?;
        let carried = if row.try_get("first")? { carried.get(&(table, pk)) } else { None };
        let (actor, pk, correlation): (&str, _, _) = (row.try_get("actor")?, pk.to_string(), correlation.to_string());
        let repairs = carried.and_then(|carried| carried.repairs.as_deref());
        let original = carried.and_then(|carried| carried.row.as_deref());
        // Sorted keys and plain strings: this is RFC 8785.
        let mut metadata = BTreeMap::from([
            ("actor", actor),
            ("correlation_id", &correlation),
            ("legacy_key", &pk),
            ("legacy_revision", self.revision),
            ("legacy_table", table.name()),
            ("source", "legacy"),
        ]);
        if let Some(repairs) = repairs.filter(|repairs| *repairs != "[]") {
            metadata.insert("legacy_repairs", repairs);
        }
        if let Some(original) = original {
            metadata.insert("legacy_row", original);
        }
        Ok(serde_json::to_string(&metadata).map_err(ImportError::Encode)?.into())
    }

    /// Finds the streams that a page is to begin and that somebody else has begun: they are theirs, and nothing of the
    /// old database is told of them.
    async fn leave_to_others(
        &self,
        appends: &[(Append, (Table, i64))],
        refused: &mut Refused,
    ) -> Result<(), ImportError> {
        let begins = |append: &Append| {
            let stream = target(append)?;
            let first = append.writes.first().filter(|write| write.expected == 0)?.events.first()?;
            Some((stream.clone(), first.event_id))
        };
        let begun: HashMap<(&str, String), Begun> = appends
            .iter()
            .filter_map(|(append, row)| {
                let (stream, first) = begins(append)?;
                Some(((stream.aggregate_type, stream.aggregate_id()), (stream, first, *row)))
            })
            .collect();
        let (types, ids): (Vec<&str>, Vec<&str>) = begun.keys().map(|(kind, id)| (*kind, id.as_str())).unzip();
        let there: Vec<(String, String, Uuid)> = sqlx::query_as(
            "select e.aggregate_type, e.aggregate_id, e.event_id from unnest($1::text[], $2::text[]) as s (t, i)
             join events e on e.aggregate_type = s.t and e.aggregate_id = s.i and e.sequence = 1",
        )
        .bind(types)
        .bind(ids)
        .fetch_all(&self.staging.pool)
        .await?;
        for (kind, id, first) in there {
            let Some((stream, ours, row)) = begun.get(&(kind.as_str(), id)) else { continue };
            if *ours != first {
                refused.streams.insert(stream.clone());
                self.refuse_taken(stream, *row).await?;
            }
        }
        Ok(())
    }

    /// Takes out what the log has already. Returns the last position at which it has something of that; 0 for nothing.
    async fn leave_out_what_is_there(&self, appends: &mut Vec<(Append, (Table, i64))>) -> Result<i64, ImportError> {
        let (types, ids): (Vec<&str>, Vec<String>) = appends
            .iter()
            .flat_map(|(append, _)| &append.writes)
            .filter_map(|write| write.target.stream())
            .map(|stream| (stream.aggregate_type, stream.aggregate_id()))
            .unzip();
        let there: Vec<(Uuid, i64)> = sqlx::query_as(
            "select e.event_id, e.position from (select distinct t, i from unnest($1::text[], $2::text[]) as s (t, i)) s
             join events e on e.aggregate_type = s.t and e.aggregate_id = s.i",
        )
        .bind(types)
        .bind(ids)
        .fetch_all(&self.staging.pool)
        .await?;
        let there: HashMap<Uuid, i64> = there.into_iter().collect();
        let mut last = 0;
        for (append, _) in appends.iter_mut() {
            for write in &mut append.writes {
                let before = write.events.len();
                write.events.retain(|event| {
                    let at = there.get(&event.event_id);
                    last = last.max(at.copied().unwrap_or(0));
                    at.is_none()
                });
                write.expected += i64::try_from(before - write.events.len()).unwrap_or(0);
            }
            append.writes.retain(|write| !write.events.is_empty());
        }
        appends.retain(|(append, _)| !append.writes.is_empty());
        Ok(last)
    }

    async fn append(
        &self,
        mut appends: Vec<(Append, (Table, i64))>,
        moved: &mut HashMap<StreamId, i64>,
        refused: &mut Refused,
    ) -> Result<i64, ImportError> {
        let mut position = 0;
        for attempt in 0..ATTEMPTS {
            appends.retain(|(append, _)| !refused.leaves_out(append));
            if appends.is_empty() {
                return Ok(position);
            }
            for (append, _) in &mut appends {
                if let Some(by) = target(append).and_then(|stream| moved.get(stream)).copied() {
                    append.writes.iter_mut().for_each(|write| write.expected += by);
                }
            }
            let answers = self.store.append_all(appends.iter().map(|(append, _)| append.clone()).collect()).await;
            let mut again = Vec::new();
            let mut busy = false;
            for ((mut append, row), answer) in appends.into_iter().zip(answers) {
                match answer {
                    Ok(appended) => position = position.max(appended.position),
                    Err(AppendError::Conflict(_) | AppendError::Overloaded) => {
                        busy |= matches!(answer, Err(AppendError::Overloaded));
                        // As planned, before what is known of its stream is added anew.
                        if let Some(by) = target(&append).and_then(|stream| moved.get(stream)).copied() {
                            append.writes.iter_mut().for_each(|write| write.expected -= by);
                        }
                        again.push((append, row));
                    }
                    Err(AppendError::Claimed { kind, key }) => {
                        refused.streams.extend(target(&append).cloned());
                        refused.leaves_out(&append);
                        self.refuse(row, &format!("{kind}_taken"), &format!("{key} was taken in the meantime")).await?;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            appends = again;
            if busy {
                tokio::time::sleep(PAUSE * (attempt + 1)).await;
            }
            if appends.is_empty() {
                return Ok(position);
            }
            // Of what a run that was killed had on its way, the store knows again what comes as it did then. Where another
            // version of this program ended its pages elsewhere, only a part of it may be there.
            position = position.max(self.leave_out_what_is_there(&mut appends).await?);
            // Somebody else wrote to these streams since they were planned: what was told comes after that.
            self.catch_up(&appends, moved, refused).await?;
        }
        if appends.is_empty() { Ok(position) } else { Err(AppendError::Overloaded.into()) }
    }

    /// Finds out how much further than planned the streams of what was refused are, of which the log has none. What
    /// this run was to begin and somebody else has begun is theirs: nothing is told of it.
    async fn catch_up(
        &self,
        appends: &[(Append, (Table, i64))],
        moved: &mut HashMap<StreamId, i64>,
        refused: &mut Refused,
    ) -> Result<(), ImportError> {
        let mut seen = HashSet::new();
        for (append, row) in appends {
            let (Some(stream), Some(write)) = (target(append), append.writes.first()) else { continue };
            if !seen.insert(stream.clone()) {
                continue;
            }
            let at: i64 = sqlx::query_scalar(
                "select coalesce(max(sequence), 0) from events where aggregate_type = $1 and aggregate_id = $2",
            )
            .bind(stream.aggregate_type)
            .bind(stream.aggregate_id())
            .fetch_one(&self.staging.pool)
            .await?;
            if at < write.expected {
                // What it builds on did not come in, so this does not either.
                refused.streams.insert(stream.clone());
            } else if write.expected == 0 && at > 0 {
                refused.streams.insert(stream.clone());
                self.refuse_taken(stream, *row).await?;
            } else {
                moved.insert(stream.clone(), at - write.expected);
            }
        }
        Ok(())
    }

    /// Somebody else took the id of a row in the meantime: it waits, with all that belongs to it, and the next run gives
    /// it another.
    async fn refuse_taken(&self, stream: &StreamId, (table, pk): (Table, i64)) -> Result<(), ImportError> {
        let parts = Table::ALL.iter().filter(|part| part.parent().is_some_and(|(parent, _)| parent == table));
        let parts: Vec<&str> = parts.map(|part| part.name()).chain([table.name()]).collect();
        sqlx::query(
            "update legacy_outcomes o set heap = 'quarantined', reason = 'id_taken', detail = $5, events = 0
             from legacy_plan p
             where p.tenant_id = $1 and p.stream_tenant || ':' || p.local_id = $2 and p.aggregate_type = $3
               and p.source_table = any($4)
               and o.tenant_id = $1 and o.source_table = p.source_table and o.pk = p.pk",
        )
        .bind(self.staging.tenant())
        .bind(stream.aggregate_id())
        .bind(stream.aggregate_type)
        .bind(parts)
        .bind(format!("{} was taken in the meantime; import again, and it gets another id", stream.aggregate_id()))
        .execute(&self.staging.pool)
        .await?;
        sqlx::query("update legacy_keys set local_id = null where tenant_id = $1 and source_table = $2 and pk = $3")
            .bind(self.staging.tenant())
            .bind(table.name())
            .bind(pk)
            .execute(&self.staging.pool)
            .await?;
        Ok(())
    }

    /// A row that turned out not to come in.
    async fn refuse(&self, (table, pk): (Table, i64), reason: &str, detail: &str) -> Result<(), ImportError> {
        sqlx::query(
            "update legacy_outcomes set heap = 'quarantined', reason = $4, detail = $5, events = 0
             where tenant_id = $1 and source_table = $2 and pk = $3",
        )
        .bind(self.staging.tenant())
        .bind(table.name())
        .bind(pk)
        .bind(reason)
        .bind(detail)
        .execute(&self.staging.pool)
        .await?;
        Ok(())
    }
}

fn target(append: &Append) -> Option<&StreamId> {
    append.writes.first()?.target.stream()
}

fn stream_of(aggregate_type: &str, tenant: TenantId, local_id: &str) -> Result<StreamId, ImportError> {
    let known = [User::TYPE, Customer::TYPE, Lead::TYPE, Project::TYPE, Invoice::TYPE];
    if aggregate_type == Tenant::TYPE {
        return Ok(StreamId::of_tenant(tenant));
    }
    let known = known.into_iter().find(|known| *known == aggregate_type);
    let known = known.ok_or_else(|| sqlx::Error::Decode(format!("there is no aggregate {aggregate_type}").into()))?;
    Ok(StreamId::new(known, tenant, local_id))
}

/// What an event takes; of all that is imported, only people take something: the address that they sign in with.
fn claims(stream: &StreamId, payload: &str) -> Result<Vec<ClaimChange>, ImportError> {
    if stream.aggregate_type != User::TYPE {
        return Ok(Vec::new());
    }
    let event: UserEvent = serde_json::from_str(payload).map_err(ImportError::Encode)?;
    Ok(event.claims())
}

fn parsed<T: std::str::FromStr>(row: &PgRow, column: &str) -> Result<T, ImportError> {
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|_| sqlx::Error::Decode(format!("{text} is not understood").into()).into())
}

/// The id of a replayed event: a `UUIDv7` (RFC 9562) whose time is when it happened, and whose chance is not chance
/// but follows from its stream and place. So the same old database always makes the same log.
fn event_id(stream: &StreamId, sequence: i64, occurred_at: DateTime<Utc>) -> Uuid {
    let mut digest = Context::new(&SHA256);
    digest.update(format!("legacy/{}/{}/{sequence}", stream.aggregate_type, stream.aggregate_id()).as_bytes());
    let mut bytes = [0; 16];
    if let Some(start) = digest.finish().as_ref().first_chunk::<16>() {
        bytes = *start;
    }
    let milliseconds = u64::try_from(occurred_at.timestamp_millis()).unwrap_or(0);
    let random = u128::from_be_bytes(bytes);
    uuid::Builder::from_u128((u128::from(milliseconds) << 80) | (random & ((1 << 80) - 1)))
        .with_version(uuid::Version::SortRand)
        .with_variant(uuid::Variant::RFC4122)
        .into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_event_always_has_the_same_id_and_another_has_another() {
        let stream = StreamId::new("Lead", TenantId::Legacy, "LED-007");
        let at = "2017-03-01T12:10:00Z".parse().unwrap();
        let id = event_id(&stream, 1, at);
        assert_eq!(id, event_id(&stream, 1, at));
        assert_ne!(id, event_id(&stream, 2, at));
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(id.get_timestamp().unwrap().to_unix().0, 1_488_370_200);
    }
}
