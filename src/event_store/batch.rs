//! One batch: what the appender knows of the log, what its commands would add to it, and the statement that does.

mod facts;
mod statement;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use uuid::Uuid;

use facts::{Facts, learn_heads, learn_versions, read_head};

use super::append::{Append, AppendError, Appended, IdempotencyClaim, NewEvent, StreamWrite};
use super::appender::{Answer, Ask, Job};
use super::envelope::Recorded;
use super::hash::{GENESIS, Link};
use super::reader::{Entry, entry_metadata};
use super::stream::{StreamId, Target};
use crate::aggregates::claims::{ClaimChange, ClaimKind};
use crate::aggregates::ids::{CustomerId, InvoiceId, LeadId, ProjectId, TenantId, UserId};

/// Streams whose version is remembered, at most; beyond it all are forgotten and learnt again.
const REMEMBERED_STREAMS: usize = 50_000;

/// The kinds of ids that are also streams: a stream created under a name of its own moves the counter past it.
const COUNTED_STREAMS: [&str; 5] =
    [UserId::PREFIX, CustomerId::PREFIX, LeadId::PREFIX, ProjectId::PREFIX, InvoiceId::PREFIX];

/// USR-000 is the founder; everything else is counted from 000.
fn first_number(kind: &str) -> i64 {
    i64::from(kind == UserId::PREFIX)
}

#[derive(Debug, Clone)]
struct TenantHead {
    position: i64,
    hash: [u8; 32],
}

/// Where the cell's log ends.
#[derive(Debug, Clone, Copy)]
struct Head {
    position: i64,
    recorded_at: DateTime<Utc>,
    /// How often it was moved, by batches without an event, too: those that only take numbers leave the position.
    moves: i64,
}

/// What is known of the log, true as long as the cell's head is where this says it is.
#[derive(Default)]
pub(super) struct Known {
    head: Option<Head>,
    tenants: HashMap<TenantId, TenantHead>,
    counters: HashMap<(TenantId, &'static str), i64>,
    versions: HashMap<StreamId, i64>,
}

impl Known {
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Where the head is; none if that is not known.
    pub(super) fn head(&self) -> Option<i64> {
        self.head.map(|head| head.position)
    }

    pub(super) fn position(&self) -> i64 {
        self.head().unwrap_or(0)
    }

    fn moves(&self) -> i64 {
        self.head.map_or(0, |head| head.moves)
    }
}

/// What came of a batch.
pub(super) enum Outcome {
    /// It is stored.
    Stored {
        /// An answer for each command, some of which may have been refused.
        answers: Vec<Result<Answer, AppendError>>,
        /// The events, as whoever reads the log would find them.
        entries: Vec<Entry>,
    },
    /// Nothing is stored: something can only be judged under the head row's lock, or once more there.
    TakeTheLock,
    /// It was stored by an earlier try, and what that had to answer is lost.
    StoredBefore,
}

struct Batch<'a> {
    known: &'a Known,
    facts: Option<&'a Facts>,
    now: DateTime<Utc>,
    position: i64,
    tenants: HashMap<TenantId, TenantHead>,
    counters: HashMap<(TenantId, &'static str), i64>,
    versions: HashMap<StreamId, i64>,
    taken: HashSet<(TenantId, ClaimKind, String)>,
    released: HashSet<(TenantId, ClaimKind, String)>,
    keys: HashSet<(String, String)>,
    /// Streams whose version is not known: the event that a write builds on must be there.
    unverified: Vec<(StreamId, i64)>,
    /// What came in bulk together and the streams that nothing more of it is written to.
    closed: HashSet<(usize, &'a StreamId)>,
    placed: Vec<Placed<'a>>,
    columns: Columns<'a>,
    answers: Vec<Result<Answer, AppendError>>,
}

/// The other rows to insert, column by column.
#[derive(Default)]
struct Columns<'a> {
    claim_tenant: Vec<String>,
    claim_kind: Vec<&'static str>,
    claim_key: Vec<&'a str>,
    claim_holder: Vec<String>,
    login_key: Vec<&'a str>,
    login_tenant: Vec<String>,
    login_user: Vec<String>,
    key_tenant: Vec<String>,
    key_actor: Vec<&'a str>,
    key: Vec<&'a str>,
    key_hash: Vec<[u8; 32]>,
    key_position: Vec<i64>,
    key_correlation: Vec<String>,
}

/// An event and where it comes to stand.
struct Placed<'a> {
    event: &'a NewEvent,
    tenant: TenantId,
    tenant_id: Arc<str>,
    aggregate_type: &'static str,
    aggregate_id: Arc<str>,
    sequence: i64,
    position: i64,
    tenant_position: i64,
    recorded_at: DateTime<Utc>,
    hash: [u8; 32],
}

impl Placed<'_> {
    /// As it is read from the log, but for the hash, which such entries do not have.
    fn entry(&self) -> Entry {
        let Self { event, .. } = self;
        let recorded = Recorded {
            tenant_id: self.tenant,
            aggregate_type: self.aggregate_type.to_owned(),
            aggregate_id: self.aggregate_id.to_string(),
            sequence: self.sequence,
            position: self.position,
            tenant_position: self.tenant_position,
            event_id: event.event_id,
            event_type: event.event_type.clone(),
            event_version: event.event_version.clone(),
            payload: Value::Null,
            metadata: entry_metadata(&event.metadata),
            occurred_at: event.occurred_at,
            recorded_at: self.recorded_at,
            hash: Vec::new(),
        };
        Entry { recorded, payload: event.payload.clone() }
    }
}

/// Why one command is not part of the batch.
enum Refused {
    With(AppendError),
    /// It cannot be judged from memory.
    Unknown,
}

/// Writes the commands on the strength of what is known, in one statement.
///
/// # Errors
/// The database's, after which the batch may or may not have been stored.
pub(super) async fn write_at_once(
    connection: &mut PgConnection,
    cell: &str,
    known: &mut Known,
    jobs: &[Job],
    now: DateTime<Utc>,
) -> sqlx::Result<Outcome> {
    if known.head.is_none() {
        known.head = Some(read_head(connection, cell, "").await?);
    }
    learn_heads(connection, known, jobs).await?;

    let mut batch = Batch::new(known, None, now);
    for job in jobs {
        match batch.add(0, job) {
            Ok(answer) => batch.answer(job, Ok(answer)),
            Err(Refused::With(error)) => batch.answer(job, Err(error)),
            Err(Refused::Unknown) => return Ok(Outcome::TakeTheLock),
        }
    }
    // Only the statement shows that what is known still holds: a refusal needs that as much as a success.
    match batch.execute(connection, cell).await {
        Ok(true) => {}
        Ok(false) => return Ok(Outcome::TakeTheLock),
        Err(error) if is_unique_violation(&error) => return Ok(Outcome::TakeTheLock),
        Err(error) => return Err(error),
    }
    Ok(batch.stored().into_known(known))
}

/// Writes the commands under the head row's lock, having asked the database about each; if an earlier try `began_at`
/// where the head was then, only if that try did not store them.
///
/// # Errors
/// The database's, after which the batch may or may not have been stored.
pub(super) async fn write_locked(
    connection: &mut PgConnection,
    cell: &str,
    known: &mut Known,
    (jobs, began_at): (&mut [Job], Option<i64>),
    now: DateTime<Utc>,
) -> sqlx::Result<Outcome> {
    let mut transaction = connection.begin().await?;
    known.forget();
    let head = read_head(&mut transaction, cell, " for update").await?;
    if let Some(position) = began_at.filter(|position| head.position != *position)
        && begins_at(&mut transaction, jobs, position + 1).await?
    {
        return Ok(Outcome::StoredBefore);
    }
    // Not before it is known what became of the earlier try: where that began would be forgotten.
    known.head = Some(head);
    learn_heads(&mut transaction, known, jobs).await?;
    learn_versions(&mut transaction, known, jobs).await?;
    let facts = Facts::ask(&mut transaction, known, jobs).await?;

    let mut batch = Batch::new(known, Some(&facts), now);
    for (index, job) in jobs.iter().enumerate() {
        match batch.add(index, job) {
            Ok(answer) => batch.answer(job, Ok(answer)),
            Err(Refused::With(error)) => batch.answer(job, Err(error)),
            Err(Refused::Unknown) => batch.answer(job, Err(AppendError::Conflict("what this relied on".into()))),
        }
    }
    for (tenant, kind, key) in &batch.released {
        let release = match kind {
            ClaimKind::Login => sqlx::query("delete from platform.logins where email_key = $1").bind(key),
            ClaimKind::InvoiceNumber => {
                sqlx::query("delete from claims where tenant_id = $1 and kind = $2 and key = $3")
                    .bind(tenant.to_string())
                    .bind(kind.as_str())
                    .bind(key)
            }
        };
        release.execute(&mut *transaction).await?;
    }
    match batch.execute(&mut transaction, cell).await {
        Ok(true) => transaction.commit().await?,
        Ok(false) => return Err(sqlx::Error::Protocol("the head row moved under its own lock".into())),
        // Not everything is written under this lock: answers to other requests take their keys without it.
        Err(error) if is_unique_violation(&error) => {
            transaction.rollback().await?;
            return Ok(Outcome::TakeTheLock);
        }
        Err(error) => return Err(error),
    }
    Ok(batch.stored().into_known(known))
}

/// Whether the event at this position is one of these commands'.
async fn begins_at(connection: &mut PgConnection, jobs: &[Job], position: i64) -> sqlx::Result<bool> {
    let there = sqlx::query_scalar("select event_id from events where position = $1").bind(position);
    let there: Option<Uuid> = there.fetch_optional(connection).await?;
    let mut writes = appends(jobs).flat_map(|(_, append)| &append.writes);
    Ok(there.is_some_and(|there| writes.any(|write| write.events.iter().any(|event| event.event_id == there))))
}

impl<'a> Batch<'a> {
    fn new(known: &'a Known, facts: Option<&'a Facts>, now: DateTime<Utc>) -> Self {
        let (position, recorded_at) = known.head.map_or((0, now), |head| (head.position, head.recorded_at));
        Self {
            known,
            facts,
            // The log's own clock never goes back, whatever the machine's does.
            now: now.max(recorded_at),
            position,
            tenants: HashMap::new(),
            counters: HashMap::new(),
            versions: HashMap::new(),
            taken: HashSet::new(),
            released: HashSet::new(),
            keys: HashSet::new(),
            unverified: Vec::new(),
            closed: HashSet::new(),
            placed: Vec::new(),
            columns: Columns::default(),
            answers: Vec::new(),
        }
    }

    fn add(&mut self, index: usize, job: &'a Job) -> Result<Answer, Refused> {
        match &job.ask {
            Ask::Numbers { tenant, kind, count } => Ok(Answer::First(self.take_numbers(*tenant, kind, *count))),
            Ask::Reserve { tenant, kind, at_least } => {
                self.pass_numbers(*tenant, kind, i64::from(*at_least));
                Ok(Answer::Reserved)
            }
            Ask::Append(append) => {
                if let Some(before) = self.facts.and_then(|facts| facts.stored.get(&index)) {
                    return Ok(Answer::Appended(before.clone()));
                }
                self.check(index, job, append).map_err(|refused| match refused {
                    // The versions only say that it comes too late: it may be there already, or its key.
                    Refused::With(AppendError::Conflict(_)) if job.in_bulk() && self.facts.is_none() => {
                        Refused::Unknown
                    }
                    refused => refused,
                })?;
                Ok(Answer::Appended(self.stage(append)))
            }
        }
    }

    fn answer(&mut self, job: &'a Job, answer: Result<Answer, AppendError>) {
        if let Some(series) = job.series() {
            self.closed.extend(job.closes(&answer).map(|stream| (series, stream)));
        }
        self.answers.push(answer);
    }

    /// As [`Job::lacks`], of what is refused in this batch.
    fn lacks<'j>(&self, job: &Job, append: &'j Append) -> Option<&'j StreamId> {
        let series = job.series()?;
        append.builds_on().find(|stream| self.closed.contains(&(series, *stream)))
    }

    /// Everything that could speak against a command, before any of it is staged.
    fn check(&self, index: usize, job: &Job, append: &Append) -> Result<(), Refused> {
        if let Some(IdempotencyClaim { actor, key, .. }) = &append.idempotency {
            let entry = (actor.clone(), key.clone());
            if self.keys.contains(&entry) || self.facts.is_some_and(|facts| facts.keys.contains(&entry)) {
                return Err(Refused::With(AppendError::KeyUsed));
            }
        }
        if let Some(stream) = job.lacks(append).or_else(|| self.lacks(job, append)) {
            return Err(Refused::With(AppendError::Conflict(stream.to_string())));
        }
        if !append.conditions.is_empty() {
            let facts = self.facts.ok_or(Refused::Unknown)?;
            if facts.broken_conditions.contains(&index) || self.breaks_a_condition(append) {
                return Err(Refused::With(AppendError::Conflict("what this relied on".into())));
            }
        }
        for guard in &append.guards {
            match self.version(&guard.stream) {
                Some(version) if version == guard.version => {}
                Some(_) => return Err(Refused::With(AppendError::Conflict(guard.stream.to_string()))),
                None => return Err(Refused::Unknown),
            }
        }
        for write in &append.writes {
            if let Target::Named(stream) = &write.target
                && self.version(stream).is_some_and(|version| version != write.expected)
            {
                return Err(Refused::With(AppendError::Conflict(stream.to_string())));
            }
        }
        self.check_claims(append)
    }

    /// Whether a command before this one in the batch adds what this one relies on not being added.
    fn breaks_a_condition(&self, append: &Append) -> bool {
        self.placed.iter().filter(|placed| placed.tenant == append.tenant).any(|placed| {
            let added = placed.event.event_type.as_str();
            append.conditions.iter().any(|condition| condition.event_types.contains(&added))
        })
    }

    fn check_claims(&self, append: &Append) -> Result<(), Refused> {
        let mut own_releases = HashSet::new();
        for (write, change) in claim_changes(append) {
            let (kind, key) = (change.kind(), change.key());
            let entry = claim_entry(append.tenant, kind, key);
            match change {
                ClaimChange::Release { .. } => {
                    if self.facts.is_none() {
                        return Err(Refused::Unknown);
                    }
                    own_releases.insert(entry);
                }
                ClaimChange::Take { .. } => {
                    let free = own_releases.contains(&entry)
                        || self.released.contains(&entry)
                        || self.holds(write.target.name().as_deref(), &entry)
                        || !self.facts.is_some_and(|facts| facts.claimed.contains_key(&entry));
                    let reserved = is_reserved(&write.target, kind, key);
                    if self.taken.contains(&entry) || reserved || !free {
                        return Err(Refused::With(AppendError::Claimed { kind: kind.as_str(), key: key.to_owned() }));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the aggregate holds the claim already.
    fn holds(&self, aggregate_id: Option<&str>, entry: &(TenantId, ClaimKind, String)) -> bool {
        let holder = self.facts.and_then(|facts| facts.claimed.get(entry));
        holder.is_some() && holder.map(String::as_str) == aggregate_id
    }

    fn version(&self, stream: &StreamId) -> Option<i64> {
        self.versions.get(stream).or_else(|| self.known.versions.get(stream)).copied()
    }

    fn take_numbers(&mut self, tenant: TenantId, kind: &'static str, count: u32) -> i64 {
        let next = self.counter(tenant, kind);
        self.counters.insert((tenant, kind), next + i64::from(count));
        next
    }

    fn counter(&self, tenant: TenantId, kind: &'static str) -> i64 {
        let key = (tenant, kind);
        self.counters.get(&key).or_else(|| self.known.counters.get(&key)).copied().unwrap_or_else(|| first_number(kind))
    }

    /// A stream that was given its own name: its number is never given to another.
    fn pass_number(&mut self, stream: &StreamId) {
        let Some((kind, number)) = numbered(&stream.local) else { return };
        self.pass_numbers(stream.tenant, kind, number + 1);
    }

    /// The next number of a kind is `next`, unless it is higher already.
    fn pass_numbers(&mut self, tenant: TenantId, kind: &'static str, next: i64) {
        if self.counter(tenant, kind) < next {
            self.counters.insert((tenant, kind), next);
        }
    }

    fn stage(&mut self, append: &'a Append) -> Appended {
        let tenant = append.tenant;
        let mut head = self
            .tenants
            .get(&tenant)
            .or_else(|| self.known.tenants.get(&tenant))
            .cloned()
            .unwrap_or(TenantHead { position: 0, hash: GENESIS });
        let mut streams = Vec::with_capacity(append.writes.len());
        for write in &append.writes {
            let stream = self.stream_of(write);
            let version = self.stage_write(&mut head, tenant, &stream, write);
            self.versions.insert(stream.clone(), version);
            streams.push((stream, version));
        }
        let tenant_position = head.position;
        self.tenants.insert(tenant, head);
        if let Some(IdempotencyClaim { actor, key, request_hash, correlation_id }) = &append.idempotency {
            self.keys.insert((actor.clone(), key.clone()));
            self.columns.key_tenant.push(tenant.to_string());
            self.columns.key_actor.push(actor);
            self.columns.key.push(key);
            self.columns.key_hash.push(*request_hash);
            self.columns.key_position.push(self.position);
            self.columns.key_correlation.push(correlation_id.to_string());
        }
        Appended { position: self.position, tenant_position, recorded_at: self.now, streams }
    }

    fn stream_of(&mut self, write: &StreamWrite) -> StreamId {
        match &write.target {
            Target::Named(stream) => {
                if write.expected == 0 {
                    self.pass_number(stream);
                } else if self.version(stream).is_none() {
                    self.unverified.push((stream.clone(), write.expected));
                }
                stream.clone()
            }
            Target::Next { aggregate_type, tenant, prefix } => {
                let number = self.take_numbers(*tenant, prefix, 1);
                StreamId::new(aggregate_type, *tenant, format_args!("{prefix}-{number:03}"))
            }
        }
    }

    fn stage_write(
        &mut self,
        head: &mut TenantHead,
        tenant: TenantId,
        stream: &StreamId,
        write: &'a StreamWrite,
    ) -> i64 {
        let tenant_id: Arc<str> = tenant.to_string().into();
        let aggregate_id: Arc<str> = stream.aggregate_id().into();
        let mut sequence = write.expected;
        for event in &write.events {
            sequence += 1;
            self.position += 1;
            head.position += 1;
            let link = Link {
                tenant_id: &tenant_id,
                tenant_position: head.position,
                aggregate_type: stream.aggregate_type,
                aggregate_id: &aggregate_id,
                sequence,
                event_id: event.event_id,
                event_type: &event.event_type,
                event_version: &event.event_version,
                occurred_at: event.occurred_at,
                recorded_at: self.now,
                payload: event.payload.as_bytes(),
                metadata: event.metadata.as_bytes(),
            };
            head.hash = link.hash(&head.hash);
            self.placed.push(Placed {
                event,
                tenant,
                tenant_id: Arc::clone(&tenant_id),
                aggregate_type: stream.aggregate_type,
                aggregate_id: Arc::clone(&aggregate_id),
                sequence,
                position: self.position,
                tenant_position: head.position,
                recorded_at: self.now,
                hash: head.hash,
            });
            for change in &event.claims {
                self.stage_claim(stream, change);
            }
        }
        sequence
    }

    fn stage_claim(&mut self, stream: &StreamId, change: &'a ClaimChange) {
        let entry = claim_entry(stream.tenant, change.kind(), change.key());
        match change {
            ClaimChange::Release { .. } => {
                self.released.insert(entry);
            }
            ClaimChange::Take { .. } if self.holds(Some(&stream.aggregate_id()), &entry) => {}
            ClaimChange::Take { kind, key } => {
                self.taken.insert(entry);
                let columns = &mut self.columns;
                match kind {
                    ClaimKind::Login => {
                        columns.login_key.push(key);
                        columns.login_tenant.push(stream.tenant.to_string());
                        columns.login_user.push(stream.local.clone());
                    }
                    ClaimKind::InvoiceNumber => {
                        columns.claim_tenant.push(stream.tenant.to_string());
                        columns.claim_kind.push(kind.as_str());
                        columns.claim_key.push(key);
                        columns.claim_holder.push(stream.aggregate_id());
                    }
                }
            }
        }
    }

    /// What is known once the batch is stored.
    fn stored(self) -> Stored {
        Stored {
            head: Head { position: self.position, recorded_at: self.now, moves: self.known.moves() + 1 },
            tenants: self.tenants,
            counters: self.counters,
            versions: self.versions,
            answers: self.answers,
            entries: self.placed.iter().map(Placed::entry).collect(),
        }
    }
}

/// What a stored batch adds to what is known.
struct Stored {
    head: Head,
    tenants: HashMap<TenantId, TenantHead>,
    counters: HashMap<(TenantId, &'static str), i64>,
    versions: HashMap<StreamId, i64>,
    answers: Vec<Result<Answer, AppendError>>,
    entries: Vec<Entry>,
}

impl Stored {
    fn into_known(self, known: &mut Known) -> Outcome {
        known.head = Some(self.head);
        known.tenants.extend(self.tenants);
        known.counters.extend(self.counters);
        if known.versions.len() > REMEMBERED_STREAMS {
            known.versions.clear();
        }
        known.versions.extend(self.versions);
        Outcome::Stored { answers: self.answers, entries: self.entries }
    }
}

fn appends(jobs: &[Job]) -> impl Iterator<Item = (usize, &Append)> {
    jobs.iter().enumerate().filter_map(|(index, job)| match &job.ask {
        Ask::Append(append) => Some((index, append.as_ref())),
        Ask::Numbers { .. } | Ask::Reserve { .. } => None,
    })
}

fn claim_changes(append: &Append) -> impl Iterator<Item = (&StreamWrite, &ClaimChange)> {
    append
        .writes
        .iter()
        .flat_map(|write| write.events.iter().flat_map(|event| &event.claims).map(move |change| (write, change)))
}

/// Whether this may be taken by another record only.
pub(super) fn is_reserved(target: &Target, kind: ClaimKind, key: &str) -> bool {
    let named = target.stream().map(|stream| stream.local.as_str());
    kind.reserved_for(key).is_some_and(|id| named != Some(id.to_string().as_str()))
}

/// A login is unique on the platform, everything else within its tenant.
fn claim_entry(tenant: TenantId, kind: ClaimKind, key: &str) -> (TenantId, ClaimKind, String) {
    let owner = match kind {
        ClaimKind::Login => TenantId::Platform,
        ClaimKind::InvoiceNumber => tenant,
    };
    (owner, kind, key.to_owned())
}

/// `LED-007` → (`LED`, 7), for ids that are counted.
fn numbered(local: &str) -> Option<(&'static str, i64)> {
    let (prefix, number) = local.split_once('-')?;
    let kind = COUNTED_STREAMS.into_iter().find(|kind| *kind == prefix)?;
    Some((kind, number.parse().ok()?))
}

fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}
