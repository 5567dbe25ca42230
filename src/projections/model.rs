//! A projection at work: a batch of events in, the rows they make out, as parts of one statement.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::postgres::PgConnection;

use super::fact::Fact;
use super::row::{COMMON_COLUMNS, Row, Stored};

/// Rows that a projection remembers, so that it need not read back what it wrote; beyond it all are forgotten.
const REMEMBERED: usize = 50_000;

/// An entity that an event touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// It begins with this event: there is no row to look for.
    New(String),
    /// There may be a row.
    Known(String),
}

impl Touched {
    /// The aggregate that the event is about, which `begins` with it or not.
    #[must_use]
    pub fn of(fact: &Fact, begins: bool) -> Self {
        let id = fact.recorded.local_id().to_owned();
        if begins { Self::New(id) } else { Self::Known(id) }
    }
}

/// Events in, rows out: a pure fold, keyed by entity.
pub trait Projection: Send + Sync + 'static {
    /// What it keeps of each entity.
    type Row: Row;
    /// Its name, for checkpoints and people.
    const NAME: &'static str;

    /// The entities whose row an event may change.
    fn touched(fact: &Fact) -> Vec<Touched>;

    /// The row of entity `id` after the event. None only as long as there is none.
    fn fold(row: Option<Self::Row>, id: &str, fact: &Fact) -> Option<Self::Row>;
}

/// One part of the statement that writes a batch: a data-modifying statement over the one-row relation `ok`,
/// whose only parameter, JSON, is written `{}`.
#[derive(Debug)]
pub struct Part {
    /// A name that no other part has.
    pub name: String,
    /// The statement.
    pub sql: String,
    /// Its rows.
    pub json: String,
}

/// Why a batch could not be folded.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// A row cannot be written down.
    #[error("a row cannot be written down: {0}")]
    Encode(#[from] serde_json::Error),
}

/// A projection, whatever its rows.
#[async_trait]
pub trait Model: Send + Sync {
    /// The projection's name.
    fn name(&self) -> &'static str;

    /// Folds a batch and says what is to be written. What it remembers holds only if that is written.
    async fn fold(&mut self, connection: &mut PgConnection, facts: &[Fact]) -> Result<Vec<Part>, FoldError>;

    /// Forgets what it remembers: the batch was not written, or somebody else wrote.
    fn forget(&mut self);
}

type Key = (String, String);

/// Keeps one projection's rows: as they are, and every one that ever was.
pub struct Versioned<P: Projection> {
    rows: HashMap<Key, Option<Stored<P::Row>>>,
}

impl<P: Projection> Default for Versioned<P> {
    fn default() -> Self {
        Self { rows: HashMap::new() }
    }
}

/// A version and the period in which it held.
#[derive(Serialize)]
struct Version<R> {
    #[serde(flatten)]
    stored: Stored<R>,
    occurred_to: Until,
    recorded_to: Until,
}

/// The end of a period.
#[derive(Clone, Copy, Serialize)]
#[serde(untagged)]
enum Until {
    At(DateTime<Utc>),
    Open(&'static str),
}

const STILL: Until = Until::Open("infinity");

/// The end of a version that was written by an earlier batch.
#[derive(Serialize)]
struct Closing {
    tenant_id: String,
    id: String,
    position: i64,
    occurred_to: DateTime<Utc>,
    recorded_to: DateTime<Utc>,
}

/// What a batch does to one projection's rows.
struct Changes<R> {
    versions: Vec<Version<R>>,
    /// Where each entity's latest version of this batch stands in `versions`.
    latest: HashMap<Key, usize>,
    closings: Vec<Closing>,
}

impl<P: Projection> Versioned<P> {
    async fn learn(&mut self, connection: &mut PgConnection, facts: &[Fact]) -> sqlx::Result<()> {
        if self.rows.len() > REMEMBERED {
            self.rows.clear();
        }
        let (mut tenants, mut ids) = (Vec::new(), Vec::new());
        for fact in facts {
            for touched in P::touched(fact) {
                let tenant = fact.recorded.tenant_id.to_string();
                match touched {
                    Touched::New(id) => {
                        self.rows.entry((tenant, id)).or_insert(None);
                    }
                    Touched::Known(id) => {
                        if let Entry::Vacant(vacant) = self.rows.entry((tenant.clone(), id.clone())) {
                            vacant.insert(None);
                            tenants.push(tenant);
                            ids.push(id);
                        }
                    }
                }
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        let select = format!(
            "select t.* from unnest($1::text[], $2::text[]) as k (tenant_id, id)
             join {} t on t.tenant_id = k.tenant_id and t.id = k.id",
            P::Row::TABLE
        );
        let stored: Vec<Stored<P::Row>> = sqlx::query_as(&select).bind(tenants).bind(ids).fetch_all(connection).await?;
        for row in stored {
            self.rows.insert((row.tenant_id.clone(), row.id.clone()), Some(row));
        }
        Ok(())
    }

    fn changes(&mut self, facts: &[Fact]) -> Changes<P::Row> {
        let mut changes = Changes { versions: Vec::new(), latest: HashMap::new(), closings: Vec::new() };
        for fact in facts {
            for touched in P::touched(fact) {
                let (Touched::New(id) | Touched::Known(id)) = touched;
                let key = (fact.recorded.tenant_id.to_string(), id);
                let before = self.rows.get(&key).cloned().flatten();
                let Some(after) = Self::next(before.as_ref(), &key, fact) else { continue };
                self.rows.insert(key.clone(), Some(after.clone()));
                changes.add(key, before.as_ref(), after);
            }
        }
        changes
    }

    /// The row after an event; none if that changed nothing. An aggregate's own row follows each of its events,
    /// so that its version is always the aggregate's.
    fn next(before: Option<&Stored<P::Row>>, key: &Key, fact: &Fact) -> Option<Stored<P::Row>> {
        let recorded = &fact.recorded;
        let row = P::fold(before.map(|stored| stored.row.clone()), &key.1, fact)?;
        if recorded.local_id() != key.1 && before.is_some_and(|before| before.row == row) {
            return None;
        }
        // An event that is recorded late cannot make an earlier version true for longer than it was: on the
        // business's clock, too, versions follow each other.
        let occurred_from =
            before.map_or(recorded.occurred_at, |before| before.occurred_from.max(recorded.occurred_at));
        Some(Stored {
            tenant_id: key.0.clone(),
            id: key.1.clone(),
            version: recorded.sequence,
            created_at: before.map_or(recorded.occurred_at, |before| before.created_at),
            updated_at: occurred_from,
            position: recorded.position,
            occurred_from,
            recorded_from: recorded.recorded_at,
            row,
        })
    }
}

impl<R: Row> Changes<R> {
    fn add(&mut self, key: Key, before: Option<&Stored<R>>, after: Stored<R>) {
        let (occurred_to, recorded_to) = (after.occurred_from, after.recorded_from);
        let same_event = before.is_some_and(|before| before.position == after.position);
        let previous = self.latest.get(&key).copied();
        if let Some(version) = previous.and_then(|index| self.versions.get_mut(index)) {
            if same_event {
                version.stored = after;
                return;
            }
            version.occurred_to = Until::At(occurred_to);
            version.recorded_to = Until::At(recorded_to);
        } else if let Some(before) = before {
            let (tenant_id, id) = key.clone();
            self.closings.push(Closing { tenant_id, id, position: before.position, occurred_to, recorded_to });
        }
        self.latest.insert(key, self.versions.len());
        self.versions.push(Version { stored: after, occurred_to: STILL, recorded_to: STILL });
    }

    fn parts(self) -> Result<Vec<Part>, serde_json::Error> {
        if self.versions.is_empty() {
            return Ok(Vec::new());
        }
        let (table, versions) = (R::TABLE, R::VERSIONS);
        let columns: Vec<&str> = COMMON_COLUMNS.iter().chain(R::COLUMNS).copied().collect();
        let list = columns.join(", ");
        let read = columns.iter().map(|column| format!("r.{column}")).collect::<Vec<_>>().join(", ");
        let update = columns
            .iter()
            .filter(|column| !matches!(**column, "tenant_id" | "id"))
            .map(|column| format!("{column} = excluded.{column}"))
            .collect::<Vec<_>>()
            .join(", ");
        let now: Vec<&Stored<R>> =
            self.latest.values().filter_map(|index| self.versions.get(*index)).map(|version| &version.stored).collect();
        let mut parts = vec![
            Part {
                name: format!("{table}_now"),
                sql: format!(
                    "insert into {table} ({list}) select {read} from ok, json_populate_recordset(null::{table}, {{}}) r
                     on conflict (tenant_id, id) do update set {update}"
                ),
                json: serde_json::to_string(&now)?,
            },
            Part {
                name: format!("{table}_versions"),
                sql: format!(
                    "insert into {versions} ({list}, occurred_to, recorded_to)
                     select {read}, r.occurred_to, r.recorded_to
                     from ok, json_populate_recordset(null::{versions}, {{}}) r"
                ),
                json: serde_json::to_string(&self.versions)?,
            },
        ];
        if !self.closings.is_empty() {
            parts.push(Part {
                name: format!("{table}_closed"),
                sql: format!(
                    "update {versions} v set occurred_to = c.occurred_to, recorded_to = c.recorded_to
                     from ok, json_to_recordset({{}}) as c (tenant_id text, id text, position bigint,
                                                           occurred_to timestamptz, recorded_to timestamptz)
                     where v.tenant_id = c.tenant_id and v.id = c.id and v.position = c.position"
                ),
                json: serde_json::to_string(&self.closings)?,
            });
        }
        Ok(parts)
    }
}

#[async_trait]
impl<P: Projection> Model for Versioned<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    async fn fold(&mut self, connection: &mut PgConnection, facts: &[Fact]) -> Result<Vec<Part>, FoldError> {
        self.learn(connection, facts).await?;
        Ok(self.changes(facts).parts()?)
    }

    fn forget(&mut self) {
        self.rows.clear();
    }
}
