//! The replay of a projection that keeps rows of entities: each version goes out when the next one ends it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use sqlx::Executor;

use super::{COPY_BYTES, Folding, ReplayError, Settings};
use crate::projections::copy::{CopiedRows, Output};
use crate::projections::fact::{Fact, Told};
use crate::projections::model::{FoldError, Key, Poison, Projection, Touched, Versioned};
use crate::projections::row::{COMMON_COLUMNS, Row, Stored};
use crate::projections::versioned::{affected, facts_of};

/// The entities that an event may change.
pub(super) fn keys<P: Projection>(fact: &Fact) -> Vec<Key> {
    let tenant = fact.recorded.tenant_id;
    let id = |touched| match touched {
        Touched::New(id) | Touched::Known(id) => (tenant, id),
    };
    P::touched(fact).into_iter().map(id).collect()
}

pub(super) fn begin<P: Projection>(settings: Settings) -> Box<dyn Folding> {
    let columns = COMMON_COLUMNS.iter().chain(P::Row::COLUMNS).copied().collect::<Vec<_>>().join(", ");
    Box::new(Entities::<P> {
        current: settings.table(P::Row::TABLE),
        versions: settings.table(P::Row::VERSIONS),
        only: settings.only,
        kept: settings.kept,
        parked: settings.parked,
        columns,
        rows: HashMap::new(),
        older: HashMap::new(),
        put_aside: false,
        held: 0,
        settled: false,
        ended: CopiedRows::default(),
        written: 0,
    })
}

type Rows<R> = HashMap<Key, Arc<Stored<R>>>;

struct Entities<P: Projection> {
    current: String,
    versions: String,
    only: Option<HashSet<Key>>,
    kept: usize,
    parked: HashMap<Key, i64>,
    /// Those of the current rows; versions have their ends besides.
    columns: String,
    /// The rows that still hold.
    rows: Rows<P::Row>,
    /// Those that were not touched for long; put aside next.
    older: Rows<P::Row>,
    /// Some current rows are in their table and not in memory.
    put_aside: bool,
    /// How many rows are in the table of current ones.
    held: u64,
    settled: bool,
    /// Versions that have ended and are to be written.
    ended: CopiedRows,
    written: u64,
}

impl<P: Projection> Entities<P> {
    fn is_wanted(&self, key: &Key) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(key))
    }

    /// Brings the rows that these events touch into memory, wherever they are.
    async fn learn(&mut self, told: &[Told], output: &mut Output) -> Result<(), ReplayError> {
        let mut missing = HashSet::new();
        for fact in told.iter().flat_map(facts_of) {
            for touched in P::touched(fact) {
                let (id, known) = match touched {
                    Touched::New(id) => (id, self.settled),
                    Touched::Known(id) => (id, true),
                };
                let key = (fact.recorded.tenant_id, id);
                if self.rows.contains_key(&key) || !self.is_wanted(&key) {
                    continue;
                }
                if let Some(row) = self.older.remove(&key) {
                    self.rows.insert(key, row);
                } else if known && self.put_aside {
                    missing.insert(key);
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let tenants: Vec<String> = missing.iter().map(|(tenant, _)| tenant.to_string()).collect();
        let ids: Vec<&str> = missing.iter().map(|(_, id)| id.as_str()).collect();
        let (current, versions) = (&self.current, &self.versions);
        // Once everything is in the tables, a version that still holds is there too, and is written anew with its row.
        let open = if self.settled {
            format!(
                "open as (delete from {versions} v using k
                 where v.tenant_id = k.tenant_id and v.id = k.id and v.recorded_to = 'infinity'), "
            )
        } else {
            String::new()
        };
        let taken = format!(
            "with k as (select * from unnest($1::text[], $2::text[]) as k (tenant_id, id)), {open}
             taken as (delete from {current} c using k where c.tenant_id = k.tenant_id and c.id = k.id returning c.*)
             select * from taken"
        );
        let connection = output.connection().await?;
        let stored: Vec<Stored<P::Row>> = sqlx::query_as(&taken).bind(tenants).bind(ids).fetch_all(connection).await?;
        self.held = self.held.saturating_sub(u64::try_from(stored.len()).unwrap_or(0));
        for row in stored {
            let tenant = row.tenant_id.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            self.rows.insert((tenant, row.id.clone()), Arc::new(row));
        }
        Ok(())
    }

    fn change(&mut self, told: &[Told]) -> Result<(), ReplayError> {
        for told in told {
            let Some(recorded) = told.recorded() else { continue };
            let refused = |reason: Poison| ReplayError::Refused {
                position: recorded.position,
                event_type: recorded.event_type.clone(),
                reason,
            };
            let ids = affected::<P>(told).map_err(|error| match error {
                FoldError::Database(error) => ReplayError::Database(error),
                FoldError::Encode(error) => ReplayError::Encode(error),
                FoldError::Stopped(reason) => refused(Poison::new(&reason)),
            })?;
            for id in ids {
                let key = (recorded.tenant_id, id);
                let waits = self.parked.get(&key).is_some_and(|from| recorded.position >= *from);
                if waits || !self.is_wanted(&key) {
                    continue;
                }
                let before = self.rows.get(&key);
                let Some(after) = Versioned::<P>::after(before, &key, told).map_err(refused)? else { continue };
                if let Some(before) = before {
                    self.ended.begin(COMMON_COLUMNS.len() + P::Row::COLUMNS.len() + 2);
                    before.copy(&mut self.ended)?;
                    self.ended.field(after.occurred_from)?;
                    self.ended.field(after.recorded_from)?;
                }
                self.rows.insert(key, after);
            }
        }
        Ok(())
    }

    async fn write_ended(&mut self, output: &mut Output) -> Result<(), ReplayError> {
        let rows = std::mem::take(&mut self.ended);
        self.written += rows.rows();
        let columns = format!("{}, occurred_to, recorded_to", self.columns);
        Ok(output.copy(&self.versions, &columns, rows).await?)
    }

    /// Puts current rows into their table.
    async fn put_aside(&mut self, rows: Rows<P::Row>, output: &mut Output) -> Result<(), ReplayError> {
        let mut copied = CopiedRows::default();
        self.held += u64::try_from(rows.len()).unwrap_or(0);
        for row in rows.values() {
            copied.begin(COMMON_COLUMNS.len() + P::Row::COLUMNS.len());
            row.copy(&mut copied)?;
            if copied.bytes() >= COPY_BYTES {
                output.copy(&self.current, &self.columns, std::mem::take(&mut copied)).await?;
            }
        }
        Ok(output.copy(&self.current, &self.columns, copied).await?)
    }

    /// Makes room: what was not touched since the last time goes to its table, where it can be looked for.
    async fn make_room(&mut self, output: &mut Output) -> Result<(), ReplayError> {
        let rows = std::mem::replace(&mut self.older, std::mem::take(&mut self.rows));
        if rows.is_empty() {
            return Ok(());
        }
        if !self.put_aside {
            let index = format!("create index on {} (tenant_id, id)", self.current);
            output.connection().await?.execute(&*index).await?;
            self.put_aside = true;
        }
        self.put_aside(rows, output).await
    }

    /// Rows that were touched go back to their table, and with an open end to the versions.
    async fn put_back(&mut self, output: &mut Output) -> Result<(), ReplayError> {
        let rows = std::mem::take(&mut self.rows);
        let mut copied = std::mem::take(&mut self.ended);
        for row in rows.values() {
            copied.begin(COMMON_COLUMNS.len() + P::Row::COLUMNS.len() + 2);
            row.copy(&mut copied)?;
            copied.field(Infinity)?;
            copied.field(Infinity)?;
        }
        self.written += copied.rows();
        let columns = format!("{}, occurred_to, recorded_to", self.columns);
        output.copy(&self.versions, &columns, copied).await?;
        self.put_aside(rows, output).await
    }
}

/// The end of a version that still holds.
struct Infinity;

impl<'q> sqlx::Encode<'q, sqlx::Postgres> for Infinity {
    fn encode_by_ref(
        &self,
        buffer: &mut sqlx::postgres::PgArgumentBuffer,
    ) -> Result<sqlx::encode::IsNull, sqlx::error::BoxDynError> {
        buffer.extend_from_slice(&i64::MAX.to_be_bytes());
        Ok(sqlx::encode::IsNull::No)
    }
}

#[async_trait]
impl<P: Projection> Folding for Entities<P> {
    async fn fold(&mut self, told: &[Told], output: &mut Output) -> Result<(), ReplayError> {
        if !self.settled && self.rows.len() > self.kept {
            self.make_room(output).await?;
        }
        self.learn(told, output).await?;
        self.change(told)?;
        if self.settled {
            return self.put_back(output).await;
        }
        if self.ended.bytes() >= COPY_BYTES {
            self.write_ended(output).await?;
        }
        Ok(())
    }

    async fn settle(&mut self, output: &mut Output) -> Result<Option<String>, ReplayError> {
        self.write_ended(output).await?;
        for rows in [std::mem::take(&mut self.older), std::mem::take(&mut self.rows)] {
            self.put_aside(rows, output).await?;
        }
        output.connection().await?;
        // Each current row is written, and is the version that holds.
        self.written += 2 * self.held;
        (self.put_aside, self.settled) = (true, true);
        let (current, versions, columns) = (&self.current, &self.versions, &self.columns);
        Ok(Some(format!(
            "insert into {versions} ({columns}, occurred_to, recorded_to)
             select {columns}, 'infinity', 'infinity' from {current}"
        )))
    }

    fn rows(&self) -> u64 {
        self.written + self.ended.rows() + u64::try_from(self.rows.len() + self.older.len()).unwrap_or(0)
    }
}
