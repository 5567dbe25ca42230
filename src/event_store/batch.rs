//! One batch: what the appender knows of the log, what its commands would add to it, and the statement that does.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::append::{Append, AppendError, Appended, IdempotencyClaim, StreamWrite};
use super::appender::{Answer, Ask, Job};
use super::hash::{GENESIS, Link};
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

/// What is known of the log, true as long as the cell's head is where this says it is.
#[derive(Default)]
pub(super) struct Known {
    head: Option<(i64, DateTime<Utc>)>,
    tenants: HashMap<TenantId, TenantHead>,
    counters: HashMap<(TenantId, &'static str), i64>,
    versions: HashMap<StreamId, i64>,
}

impl Known {
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    pub(super) fn position(&self) -> i64 {
        self.head.map_or(0, |(position, _)| position)
    }
}

/// What came of a batch.
pub(super) enum Outcome {
    /// It is stored; an answer for each command, some of which may have been refused.
    Stored(Vec<Result<Answer, AppendError>>),
    /// Nothing is stored: something can only be judged under the head row's lock.
    TakeTheLock,
}

/// What the database says, asked under the head row's lock.
#[derive(Default)]
struct Facts {
    /// What is taken, and by which aggregate.
    claimed: HashMap<(TenantId, ClaimKind, String), String>,
    keys: HashSet<(String, String)>,
    broken_conditions: HashSet<usize>,
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
    columns: Columns<'a>,
    answers: Vec<Result<Answer, AppendError>>,
}

/// The rows to insert, column by column.
#[derive(Default)]
struct Columns<'a> {
    aggregate_type: Vec<&'static str>,
    aggregate_id: Vec<String>,
    sequence: Vec<i64>,
    event_type: Vec<&'a str>,
    event_version: Vec<&'a str>,
    payload: Vec<&'a str>,
    metadata: Vec<&'a str>,
    tenant_id: Vec<String>,
    position: Vec<i64>,
    tenant_position: Vec<i64>,
    event_id: Vec<Uuid>,
    occurred_at: Vec<DateTime<Utc>>,
    recorded_at: Vec<DateTime<Utc>>,
    hash: Vec<[u8; 32]>,
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

/// Why one command is not part of the batch.
enum Refused {
    With(AppendError),
    /// It cannot be judged from memory.
    Unknown,
}

const WRITE: &str = "
with head as (
    update cell_head set position = $2, recorded_at = $3
    where cell = $1 and position = $4 and not exists (
        select from unnest($38::text[], $39::text[], $40::bigint[]) as b (aggregate_type, aggregate_id, sequence)
        where not exists (select from events e where e.aggregate_type = b.aggregate_type
                           and e.aggregate_id = b.aggregate_id and e.sequence = b.sequence)
    )
    returning cell
), new_events as (
    insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata,
                        tenant_id, position, tenant_position, event_id, occurred_at, recorded_at, hash)
    select e.aggregate_type, e.aggregate_id, e.sequence, e.event_type, e.event_version, e.payload::jsonb,
           e.metadata::jsonb, e.tenant_id, e.position, e.tenant_position, e.event_id, e.occurred_at,
           e.recorded_at, e.hash
    from head, unnest($5::text[], $6::text[], $7::bigint[], $8::text[], $9::text[], $10::text[], $11::text[],
                      $12::text[], $13::bigint[], $14::bigint[], $15::uuid[], $16::timestamptz[],
                      $17::timestamptz[], $18::bytea[])
         as e (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, tenant_id,
               position, tenant_position, event_id, occurred_at, recorded_at, hash)
), new_heads as (
    insert into tenant_heads (tenant_id, position, hash)
    select t.tenant_id, t.position, t.hash
    from head, unnest($19::text[], $20::bigint[], $21::bytea[]) as t (tenant_id, position, hash)
    on conflict (tenant_id) do update set position = excluded.position, hash = excluded.hash
), new_counters as (
    insert into counters (tenant_id, kind, next)
    select c.tenant_id, c.kind, c.next
    from head, unnest($22::text[], $23::text[], $24::bigint[]) as c (tenant_id, kind, next)
    on conflict (tenant_id, kind) do update set next = excluded.next
), new_claims as (
    insert into claims (tenant_id, kind, key, holder)
    select c.tenant_id, c.kind, c.key, c.holder
    from head, unnest($25::text[], $26::text[], $27::text[], $28::text[]) as c (tenant_id, kind, key, holder)
), new_logins as (
    insert into platform.logins (email_key, tenant_id, user_id)
    select l.email_key, l.tenant_id, l.user_id
    from head, unnest($29::text[], $30::text[], $31::text[]) as l (email_key, tenant_id, user_id)
), new_keys as (
    insert into idempotency_keys (tenant_id, actor, key, request_hash, position, correlation_id, created_at)
    select k.tenant_id, k.actor, k.key, k.request_hash, k.position, k.correlation_id, $3
    from head, unnest($32::text[], $33::text[], $34::text[], $35::bytea[], $36::bigint[], $37::text[])
         as k (tenant_id, actor, key, request_hash, position, correlation_id)
)
select count(*) from head";

/// Writes the commands on the strength of what is known, in one statement.
///
/// # Errors
/// The database's, after which the batch may or may not have been stored.
pub(super) async fn write_at_once(
    pool: &PgPool,
    cell: &str,
    known: &mut Known,
    jobs: &[Job],
    now: DateTime<Utc>,
) -> sqlx::Result<Outcome> {
    let mut connection = pool.acquire().await?;
    if known.head.is_none() {
        known.head = Some(read_head(&mut connection, cell, "").await?);
    }
    learn_heads(&mut connection, known, jobs).await?;

    let mut batch = Batch::new(known, None, now);
    for job in jobs {
        match batch.add(0, job) {
            Ok(answer) => batch.answers.push(Ok(answer)),
            Err(Refused::With(error)) => batch.answers.push(Err(error)),
            Err(Refused::Unknown) => return Ok(Outcome::TakeTheLock),
        }
    }
    // Only the statement shows that what is known still holds: a refusal needs that as much as a success.
    match batch.execute(&mut connection, cell).await {
        Ok(true) => {}
        Ok(false) => return Ok(Outcome::TakeTheLock),
        Err(error) if is_unique_violation(&error) => return Ok(Outcome::TakeTheLock),
        Err(error) => return Err(error),
    }
    let remembered = batch.remember();
    Ok(Outcome::Stored(remembered.into_known(known)))
}

/// Writes the commands under the head row's lock, having asked the database about each.
///
/// # Errors
/// The database's, after which the batch may or may not have been stored.
pub(super) async fn write_locked(
    pool: &PgPool,
    cell: &str,
    known: &mut Known,
    jobs: &mut [Job],
    now: DateTime<Utc>,
) -> sqlx::Result<Outcome> {
    let mut transaction = pool.begin().await?;
    known.forget();
    known.head = Some(read_head(&mut transaction, cell, " for update").await?);
    learn_heads(&mut transaction, known, jobs).await?;
    learn_versions(&mut transaction, known, jobs).await?;
    let facts = Facts::ask(&mut transaction, jobs).await?;

    let mut batch = Batch::new(known, Some(&facts), now);
    for (index, job) in jobs.iter().enumerate() {
        match batch.add(index, job) {
            Ok(answer) => batch.answers.push(Ok(answer)),
            Err(Refused::With(error)) => batch.answers.push(Err(error)),
            Err(Refused::Unknown) => batch.answers.push(Err(AppendError::Conflict("what this relied on".into()))),
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
    if !batch.execute(&mut transaction, cell).await? {
        return Err(sqlx::Error::Protocol("the head row moved under its own lock".into()));
    }
    transaction.commit().await?;
    let remembered = batch.remember();
    Ok(Outcome::Stored(remembered.into_known(known)))
}

impl<'a> Batch<'a> {
    fn new(known: &'a Known, facts: Option<&'a Facts>, now: DateTime<Utc>) -> Self {
        let (position, recorded_at) = known.head.unwrap_or((0, now));
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
                self.check(index, append).map_err(|refused| match refused {
                    // Of something repeated, the key says so; the versions only say that it comes too late.
                    Refused::With(AppendError::Conflict(_))
                        if job.in_bulk() && append.idempotency.is_some() && self.facts.is_none() =>
                    {
                        Refused::Unknown
                    }
                    refused => refused,
                })?;
                Ok(Answer::Appended(self.stage(append)))
            }
        }
    }

    /// Everything that could speak against a command, before any of it is staged.
    fn check(&self, index: usize, append: &Append) -> Result<(), Refused> {
        if let Some(IdempotencyClaim { actor, key, .. }) = &append.idempotency {
            let entry = (actor.clone(), key.clone());
            if self.keys.contains(&entry) || self.facts.is_some_and(|facts| facts.keys.contains(&entry)) {
                return Err(Refused::With(AppendError::KeyUsed));
            }
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
        let tenant = append.tenant.to_string();
        let added = self.columns.tenant_id.iter().zip(&self.columns.event_type);
        added
            .filter(|(of, _)| **of == tenant)
            .any(|(_, event_type)| append.conditions.iter().any(|condition| condition.event_types.contains(event_type)))
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
                    if self.taken.contains(&entry) || !free {
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
        let tenant_id = tenant.to_string();
        let aggregate_id = stream.aggregate_id();
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
            let columns = &mut self.columns;
            columns.aggregate_type.push(stream.aggregate_type);
            columns.aggregate_id.push(aggregate_id.clone());
            columns.sequence.push(sequence);
            columns.event_type.push(&event.event_type);
            columns.event_version.push(&event.event_version);
            columns.payload.push(&event.payload);
            columns.metadata.push(&event.metadata);
            columns.tenant_id.push(tenant_id.clone());
            columns.position.push(self.position);
            columns.tenant_position.push(head.position);
            columns.event_id.push(event.event_id);
            columns.occurred_at.push(event.occurred_at);
            columns.recorded_at.push(self.now);
            columns.hash.push(head.hash);
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

    /// Sends the statement. False: the head was elsewhere, and nothing is stored.
    async fn execute(&mut self, connection: &mut PgConnection, cell: &str) -> sqlx::Result<bool> {
        let c = std::mem::take(&mut self.columns);
        let (mut head_tenant, mut head_position, mut head_hash) = (Vec::new(), Vec::new(), Vec::new());
        for (tenant, head) in &self.tenants {
            head_tenant.push(tenant.to_string());
            head_position.push(head.position);
            head_hash.push(head.hash);
        }
        let (mut counter_tenant, mut counter_kind, mut counter_next) = (Vec::new(), Vec::new(), Vec::new());
        for ((tenant, kind), next) in &self.counters {
            counter_tenant.push(tenant.to_string());
            counter_kind.push(*kind);
            counter_next.push(*next);
        }
        let (mut base_type, mut base_id, mut base_sequence) = (Vec::new(), Vec::new(), Vec::new());
        for (stream, sequence) in &self.unverified {
            base_type.push(stream.aggregate_type);
            base_id.push(stream.aggregate_id());
            base_sequence.push(*sequence);
        }
        let advanced: i64 = sqlx::query_scalar(WRITE)
            .bind(cell)
            .bind(self.position)
            .bind(self.now)
            .bind(self.known.position())
            .bind(c.aggregate_type)
            .bind(c.aggregate_id)
            .bind(c.sequence)
            .bind(c.event_type)
            .bind(c.event_version)
            .bind(c.payload)
            .bind(c.metadata)
            .bind(c.tenant_id)
            .bind(c.position)
            .bind(c.tenant_position)
            .bind(c.event_id)
            .bind(c.occurred_at)
            .bind(c.recorded_at)
            .bind(c.hash)
            .bind(head_tenant)
            .bind(head_position)
            .bind(head_hash)
            .bind(counter_tenant)
            .bind(counter_kind)
            .bind(counter_next)
            .bind(c.claim_tenant)
            .bind(c.claim_kind)
            .bind(c.claim_key)
            .bind(c.claim_holder)
            .bind(c.login_key)
            .bind(c.login_tenant)
            .bind(c.login_user)
            .bind(c.key_tenant)
            .bind(c.key_actor)
            .bind(c.key)
            .bind(c.key_hash)
            .bind(c.key_position)
            .bind(c.key_correlation)
            .bind(base_type)
            .bind(base_id)
            .bind(base_sequence)
            .fetch_one(connection)
            .await?;
        Ok(advanced == 1)
    }

    /// What is known once the batch is stored.
    fn remember(self) -> Remembered {
        Remembered {
            head: (self.position, self.now),
            tenants: self.tenants,
            counters: self.counters,
            versions: self.versions,
            answers: self.answers,
        }
    }
}

/// What a stored batch adds to what is known.
struct Remembered {
    head: (i64, DateTime<Utc>),
    tenants: HashMap<TenantId, TenantHead>,
    counters: HashMap<(TenantId, &'static str), i64>,
    versions: HashMap<StreamId, i64>,
    answers: Vec<Result<Answer, AppendError>>,
}

impl Remembered {
    fn into_known(self, known: &mut Known) -> Vec<Result<Answer, AppendError>> {
        known.head = Some(self.head);
        known.tenants.extend(self.tenants);
        known.counters.extend(self.counters);
        if known.versions.len() > REMEMBERED_STREAMS {
            known.versions.clear();
        }
        known.versions.extend(self.versions);
        self.answers
    }
}

impl Facts {
    async fn ask(connection: &mut PgConnection, jobs: &[Job]) -> sqlx::Result<Self> {
        let mut facts = Self::default();
        facts.ask_claims(connection, jobs).await?;
        facts.ask_keys(connection, jobs).await?;
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

async fn read_head(connection: &mut PgConnection, cell: &str, lock: &str) -> sqlx::Result<(i64, DateTime<Utc>)> {
    let statement = format!("select position, greatest(recorded_at, 'epoch') from cell_head where cell = $1{lock}");
    sqlx::query_as(&statement).bind(cell).fetch_one(connection).await
}

/// Reads the heads and counters of tenants that are not known yet.
async fn learn_heads(connection: &mut PgConnection, known: &mut Known, jobs: &[Job]) -> sqlx::Result<()> {
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
    let heads = sqlx::query("select tenant_id, position, hash from tenant_heads where tenant_id = any($1)")
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
    crate::aggregates::ids::InteractionId::PREFIX,
    crate::aggregates::ids::NoteId::PREFIX,
];

/// Reads the versions of all streams that the commands write or rely on.
async fn learn_versions(connection: &mut PgConnection, known: &mut Known, jobs: &[Job]) -> sqlx::Result<()> {
    let mut streams: Vec<&StreamId> = Vec::new();
    for (_, append) in appends(jobs) {
        streams.extend(append.guards.iter().map(|guard| &guard.stream));
        streams.extend(append.writes.iter().filter_map(|write| match &write.target {
            Target::Named(stream) => Some(stream),
            Target::Next { .. } => None,
        }));
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

fn parse_tenant(text: &str) -> sqlx::Result<TenantId> {
    text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn is_unique_violation(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}
