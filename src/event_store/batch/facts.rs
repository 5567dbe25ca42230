//! What the database is asked before a batch can be judged: heads, counters and versions that are not known yet, and,
//! under the head row's lock, claims, keys and conditions.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use super::{Head, Known, TenantHead, appends, claim_changes, claim_entry};
use crate::aggregates::claims::ClaimKind;
use crate::aggregates::ids::{CustomerId, InteractionId, InvoiceId, LeadId, NoteId, ProjectId, TenantId, UserId};
use crate::event_store::append::{Append, Appended, StreamWrite};
use crate::event_store::appender::Job;
use crate::event_store::hash::GENESIS;
use crate::event_store::stream::StreamId;

/// What the database says, asked under the head row's lock.
#[derive(Default)]
pub(super) struct Facts {
    /// What is taken, and by which aggregate.
    pub(super) claimed: HashMap<(TenantId, ClaimKind, String), String>,
    pub(super) keys: HashSet<(String, String)>,
    pub(super) broken_conditions: HashSet<usize>,
    /// Of what comes in bulk, what is there already, by its place among the commands.
    pub(super) stored: HashMap<usize, Appended>,
}

/// An event that was asked for by its id, and is there.
#[derive(sqlx::FromRow)]
struct Found {
    event_id: Uuid,
    sequence: i64,
    position: i64,
    tenant_position: i64,
    recorded_at: DateTime<Utc>,
}

impl Facts {
    pub(super) async fn ask(connection: &mut PgConnection, known: &Known, jobs: &[Job]) -> sqlx::Result<Self> {
        let mut facts = Self::default();
        facts.ask_claims(connection, jobs).await?;
        facts.ask_keys(connection, jobs).await?;
        facts.ask_stored(connection, known, jobs).await?;
        for (index, append) in appends(jobs) {
            for condition in &append.conditions {
                let broken: bool = sqlx::query_scalar(
                    "select exists (select 1 from events
                      where tenant_id = $1 and tenant_position > $2 and event_type = any($3))",
                )
                .bind(append.tenant.to_string())
                .bind(condition.after)
                .bind(condition.event_types)
                .fetch_one(&mut *connection)
                .await?;
                if broken {
                    facts.broken_conditions.insert(index);
                    break;
                }
            }
        }
        Ok(facts)
    }

    /// Looks for what comes in bulk and too late: who was stopped and begins again tells what is there already.
    async fn ask_stored(&mut self, connection: &mut PgConnection, known: &Known, jobs: &[Job]) -> sqlx::Result<()> {
        let late = |write: &&StreamWrite| {
            let version = write.target.stream().and_then(|stream| known.versions.get(stream));
            version.is_some_and(|version| *version > write.expected)
        };
        let in_bulk = appends(jobs).filter(|(index, _)| jobs.get(*index).is_some_and(Job::in_bulk));
        let asked: Vec<(usize, &Append)> =
            in_bulk.filter(|(_, append)| append.writes.iter().any(|write| late(&write))).collect();
        if asked.is_empty() {
            return Ok(());
        }
        let streams: HashSet<&StreamId> = asked.iter().flat_map(|(_, append)| append.writes_to()).collect();
        let (types, ids): (Vec<&str>, Vec<String>) =
            streams.iter().map(|stream| (stream.aggregate_type, stream.aggregate_id())).unzip();
        let events = asked.iter().flat_map(|(_, append)| &append.writes).flat_map(|write| &write.events);
        let events: Vec<Uuid> = events.map(|event| event.event_id).collect();
        let found: Vec<Found> = sqlx::query_as(
            "select e.event_id, e.sequence, e.position, e.tenant_position, e.recorded_at
             from unnest($1::text[], $2::text[]) as s (aggregate_type, aggregate_id)
             join events e on e.aggregate_type = s.aggregate_type and e.aggregate_id = s.aggregate_id
             where e.event_id = any($3)",
        )
        .bind(types)
        .bind(ids)
        .bind(events)
        .fetch_all(connection)
        .await?;
        let there = found.into_iter().map(|event| (event.event_id, event)).collect();
        for (index, append) in asked {
            if let Some(appended) = stored(append, &there) {
                self.stored.insert(index, appended);
            }
        }
        Ok(())
    }

    async fn ask_claims(&mut self, connection: &mut PgConnection, jobs: &[Job]) -> sqlx::Result<()> {
        let (mut logins, mut tenants, mut kinds, mut keys) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (_, append) in appends(jobs) {
            for (_, change) in claim_changes(append) {
                match change.kind() {
                    ClaimKind::Login => logins.push(change.key().to_owned()),
                    kind @ ClaimKind::InvoiceNumber => {
                        tenants.push(append.tenant.to_string());
                        kinds.push(kind.as_str());
                        keys.push(change.key().to_owned());
                    }
                }
            }
        }
        if !logins.is_empty() {
            let taken: Vec<(String, String)> = sqlx::query_as(
                "select email_key, tenant_id || ':' || user_id from platform.logins where email_key = any($1)",
            )
            .bind(logins)
            .fetch_all(&mut *connection)
            .await?;
            for (key, holder) in taken {
                self.claimed.insert(claim_entry(TenantId::Platform, ClaimKind::Login, &key), holder);
            }
        }
        if !keys.is_empty() {
            let taken = sqlx::query(
                "select c.tenant_id, c.key, c.holder from claims c
                 join unnest($1::text[], $2::text[], $3::text[]) as w (tenant_id, kind, key)
                   on c.tenant_id = w.tenant_id and c.kind = w.kind and c.key = w.key",
            )
            .bind(tenants)
            .bind(kinds)
            .bind(keys)
            .fetch_all(&mut *connection)
            .await?;
            for row in taken {
                let tenant = parse_tenant(row.try_get("tenant_id")?)?;
                self.claimed.insert((tenant, ClaimKind::InvoiceNumber, row.try_get("key")?), row.try_get("holder")?);
            }
        }
        Ok(())
    }

    async fn ask_keys(&mut self, connection: &mut PgConnection, jobs: &[Job]) -> sqlx::Result<()> {
        let claims = appends(jobs).filter_map(|(_, append)| append.idempotency.as_ref());
        let (actors, keys): (Vec<&str>, Vec<&str>) =
            claims.map(|claim| (claim.actor.as_str(), claim.key.as_str())).unzip();
        if keys.is_empty() {
            return Ok(());
        }
        let used: Vec<(String, String)> = sqlx::query_as(
            "select i.actor, i.key from idempotency_keys i
             join unnest($1::text[], $2::text[]) as w (actor, key) on i.actor = w.actor and i.key = w.key",
        )
        .bind(actors)
        .bind(keys)
        .fetch_all(connection)
        .await?;
        self.keys.extend(used);
        Ok(())
    }
}

/// What the append was answered, if all of it is there.
fn stored(append: &Append, there: &HashMap<Uuid, Found>) -> Option<Appended> {
    let mut streams = Vec::with_capacity(append.writes.len());
    let mut last: Option<&Found> = None;
    for write in &append.writes {
        let events = write.events.iter().map(|event| there.get(&event.event_id));
        let end = events.collect::<Option<Vec<_>>>()?.pop()?;
        streams.push((write.target.stream()?.clone(), end.sequence));
        last = last.filter(|last| last.position > end.position).or(Some(end));
    }
    let Found { position, tenant_position, recorded_at, .. } = *last?;
    Some(Appended { position, tenant_position, recorded_at, streams })
}

pub(super) async fn read_head(connection: &mut PgConnection, cell: &str, lock: &str) -> sqlx::Result<Head> {
    let statement =
        format!("select position, greatest(recorded_at, 'epoch'), moves from cell_head where cell = $1{lock}");
    let (position, recorded_at, moves) = sqlx::query_as(&statement).bind(cell).fetch_one(connection).await?;
    Ok(Head { position, recorded_at, moves })
}

/// Reads the heads and counters of tenants that are not known yet.
pub(super) async fn learn_heads(connection: &mut PgConnection, known: &mut Known, jobs: &[Job]) -> sqlx::Result<()> {
    let mut missing: Vec<TenantId> =
        jobs.iter().map(|job| job.ask.tenant()).filter(|tenant| !known.tenants.contains_key(tenant)).collect();
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
    for tenant in missing {
        known.tenants.insert(tenant, TenantHead { position: 0, hash: GENESIS });
    }
    let heads = sqlx::query(
        "select t.tenant_id, e.position, e.hash from unnest($1::text[]) as t (tenant_id)
         cross join lateral (
             select tenant_position as position, hash from events where tenant_id = t.tenant_id
             order by tenant_position desc limit 1
         ) e",
    )
    .bind(&names)
    .fetch_all(&mut *connection)
    .await?;
    for row in heads {
        let hash: Vec<u8> = row.try_get("hash")?;
        let hash = hash.try_into().map_err(|_| sqlx::Error::Decode("a hash is 32 bytes".into()))?;
        let head = TenantHead { position: row.try_get("position")?, hash };
        known.tenants.insert(parse_tenant(row.try_get("tenant_id")?)?, head);
    }
    let counters = sqlx::query("select tenant_id, kind, next from counters where tenant_id = any($1)")
        .bind(&names)
        .fetch_all(&mut *connection)
        .await?;
    for row in counters {
        let kind: String = row.try_get("kind")?;
        let Some(kind) = KINDS.iter().find(|known| **known == kind) else { continue };
        known.counters.insert((parse_tenant(row.try_get("tenant_id")?)?, *kind), row.try_get("next")?);
    }
    Ok(())
}

/// Everything that is counted within a tenant.
const KINDS: [&str; 7] = [
    UserId::PREFIX,
    CustomerId::PREFIX,
    LeadId::PREFIX,
    ProjectId::PREFIX,
    InvoiceId::PREFIX,
    InteractionId::PREFIX,
    NoteId::PREFIX,
];

/// Reads the versions of all streams that the commands write or rely on.
pub(super) async fn learn_versions(connection: &mut PgConnection, known: &mut Known, jobs: &[Job]) -> sqlx::Result<()> {
    let mut streams: Vec<&StreamId> = Vec::new();
    for (_, append) in appends(jobs) {
        streams.extend(append.builds_on());
    }
    streams.sort_unstable();
    streams.dedup();
    let types: Vec<&str> = streams.iter().map(|stream| stream.aggregate_type).collect();
    let ids: Vec<String> = streams.iter().map(|stream| stream.aggregate_id()).collect();
    let versions: Vec<i64> = sqlx::query_scalar(
        "select coalesce((select max(e.sequence) from events e
                           where e.aggregate_type = s.aggregate_type and e.aggregate_id = s.aggregate_id), 0)
         from unnest($1::text[], $2::text[]) with ordinality as s (aggregate_type, aggregate_id, n)
         order by s.n",
    )
    .bind(types)
    .bind(ids)
    .fetch_all(connection)
    .await?;
    known.versions.extend(streams.into_iter().cloned().zip(versions));
    Ok(())
}

fn parse_tenant(text: &str) -> sqlx::Result<TenantId> {
    text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
