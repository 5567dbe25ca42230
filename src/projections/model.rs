//! A projection at work: a batch of events in, the rows they make out, as parts of one statement.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::error::BoxDynError;
use sqlx::postgres::PgConnection;

use super::fact::Fact;
use super::row::{COMMON_COLUMNS, Row, Stored};
use super::statement::{Columns, Statement};
use crate::aggregates::ids::TenantId;

/// Rows that a projection remembers before it forgets those that it has not touched for as long: it need not read
/// back what it wrote.
const REMEMBERED: usize = 20_000;

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
    /// The types of the aggregates whose events it looks at: a replay reads no others.
    const FED_BY: &'static [&'static str];
    /// Whether an entity is an aggregate, so that its own events alone make its row.
    const OF_ITS_AGGREGATE: bool = true;
    /// Whether it looks at the metadata of events.
    const USES_METADATA: bool = false;

    /// The entities whose row an event may change.
    fn touched(fact: &Fact) -> Vec<Touched>;

    /// The row of entity `id` after the event. None only as long as there is none.
    fn fold(row: Option<Self::Row>, id: &str, fact: &Fact) -> Option<Self::Row>;
}

/// Why a batch could not be folded.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// A row cannot be written down.
    #[error("a row cannot be written down: {0}")]
    Encode(#[from] BoxDynError),
}

/// A projection, whatever its rows.
#[async_trait]
pub trait Model: Send + Sync {
    /// The projection's name.
    fn name(&self) -> &'static str;

    /// Folds a batch and adds what is to be written to the statement, as parts over its one-row relation `ok`.
    /// What the model remembers holds only if that is written.
    async fn fold(
        &mut self,
        connection: &mut PgConnection,
        facts: &[Fact],
        statement: &mut Statement,
    ) -> Result<(), FoldError>;

    /// Forgets what it remembers: the batch was not written, or somebody else wrote.
    fn forget(&mut self);
}

/// Whose row, and which.
pub(super) type Key = (TenantId, String);
type Rows<R> = HashMap<Key, Option<Arc<Stored<R>>>>;

/// Keeps one projection's rows: as they are, and every one that ever was.
pub struct Versioned<P: Projection> {
    rows: Rows<P::Row>,
    /// Rows that have not been touched for long; those that are not touched at all are forgotten next.
    older: Rows<P::Row>,
    most: usize,
}

impl<P: Projection> Default for Versioned<P> {
    fn default() -> Self {
        Self::remembering(REMEMBERED)
    }
}

impl<P: Projection> Versioned<P> {
    /// One that remembers `most` rows and, of those before, what is touched again in time.
    #[must_use]
    pub fn remembering(most: usize) -> Self {
        Self { rows: HashMap::new(), older: HashMap::new(), most }
    }
}

/// A version and the end of the period in which it held; none as long as it holds.
struct Version<R> {
    stored: Arc<Stored<R>>,
    occurred_to: Option<DateTime<Utc>>,
    recorded_to: Option<DateTime<Utc>>,
}

/// The end of a version that was written by an earlier batch.
struct Closing {
    key: Key,
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
        // Once a batch at most: what the batch before touched may not be written yet, and must not be forgotten.
        if self.rows.len() > self.most {
            self.older = std::mem::take(&mut self.rows);
        }
        let (mut tenants, mut ids) = (Vec::new(), Vec::new());
        for fact in facts {
            for touched in P::touched(fact) {
                let tenant = fact.recorded.tenant_id;
                let (id, begins) = match touched {
                    Touched::New(id) => (id, true),
                    Touched::Known(id) => (id, false),
                };
                let Entry::Vacant(vacant) = self.rows.entry((tenant, id)) else { continue };
                let remembered = self.older.remove(vacant.key());
                if remembered.is_none() && !begins {
                    tenants.push(tenant.to_string());
                    ids.push(vacant.key().1.clone());
                }
                vacant.insert(remembered.flatten());
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
            let tenant = row.tenant_id.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            self.rows.insert((tenant, row.id.clone()), Some(Arc::new(row)));
        }
        Ok(())
    }

    fn changes(&mut self, facts: &[Fact]) -> Changes<P::Row> {
        let mut changes = Changes { versions: Vec::new(), latest: HashMap::new(), closings: Vec::new() };
        for fact in facts {
            for touched in P::touched(fact) {
                let (Touched::New(id) | Touched::Known(id)) = touched;
                let key = (fact.recorded.tenant_id, id);
                let before = self.rows.get(&key).cloned().flatten();
                let Some(after) = Self::next(before.as_deref(), &key, fact).map(Arc::new) else { continue };
                self.rows.insert(key.clone(), Some(Arc::clone(&after)));
                changes.add(key, before.as_deref(), after);
            }
        }
        changes
    }

    /// The row after an event; none if that changed nothing. An aggregate's own row follows each of its events,
    /// so that its version is always the aggregate's.
    pub(super) fn next(before: Option<&Stored<P::Row>>, key: &Key, fact: &Fact) -> Option<Stored<P::Row>> {
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
            tenant_id: key.0.to_string(),
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
    fn add(&mut self, key: Key, before: Option<&Stored<R>>, after: Arc<Stored<R>>) {
        let (occurred_to, recorded_to) = (after.occurred_from, after.recorded_from);
        let same_event = before.is_some_and(|before| before.position == after.position);
        let previous = self.latest.get(&key).copied();
        if let Some(version) = previous.and_then(|index| self.versions.get_mut(index)) {
            if same_event {
                version.stored = after;
                return;
            }
            version.occurred_to = Some(occurred_to);
            version.recorded_to = Some(recorded_to);
        } else if let Some(before) = before {
            self.closings.push(Closing { key: key.clone(), position: before.position, occurred_to, recorded_to });
        }
        self.latest.insert(key, self.versions.len());
        self.versions.push(Version { stored: after, occurred_to: None, recorded_to: None });
    }

    /// The versions go out once: those that still hold are the rows as they are now. Which parts there are depends
    /// on nothing but whether there is a change, so that few different statements have to be prepared.
    fn write(self, statement: &mut Statement) -> Result<(), BoxDynError> {
        if self.versions.is_empty() {
            return Ok(());
        }
        let (table, versions) = (R::TABLE, R::VERSIONS);
        let stored: Vec<&Stored<R>> = self.versions.iter().map(|version| &*version.stored).collect();
        let mut columns = Columns::default();
        Stored::add_columns(&stored, &mut columns, statement)?;
        let list = columns.names();
        let update = COMMON_COLUMNS
            .iter()
            .chain(R::COLUMNS)
            .filter(|column| !matches!(**column, "tenant_id" | "id"))
            .map(|column| format!("{column} = excluded.{column}"))
            .collect::<Vec<_>>()
            .join(", ");
        let ends = |of: fn(&Version<R>) -> Option<DateTime<Utc>>| self.versions.iter().map(of).collect::<Vec<_>>();
        columns.add(statement, "occurred_to", ends(|version| version.occurred_to))?;
        columns.add(statement, "recorded_to", ends(|version| version.recorded_to))?;
        statement.part(
            format_args!("{table}_rows"),
            format_args!("select {} from ok, {}", columns.values(), columns.rows()),
        );
        statement.part(
            format_args!("{table}_now"),
            format_args!(
                "insert into {table} ({list}) select {list} from {table}_rows where recorded_to is null
                 on conflict (tenant_id, id) do update set {update}"
            ),
        );
        statement.part(
            format_args!("{table}_versions"),
            format_args!(
                "insert into {versions} ({list}, occurred_to, recorded_to)
                 select {list}, coalesce(occurred_to, 'infinity'), coalesce(recorded_to, 'infinity') from {table}_rows"
            ),
        );
        close(&self.closings, table, versions, statement)
    }
}

/// Ends the versions of earlier batches that hold no longer.
fn close(closings: &[Closing], table: &str, versions: &str, statement: &mut Statement) -> Result<(), BoxDynError> {
    let mut columns = Columns::default();
    let tenants: Vec<String> = closings.iter().map(|closing| closing.key.0.to_string()).collect();
    let ids: Vec<&str> = closings.iter().map(|closing| closing.key.1.as_str()).collect();
    let ends = |of: fn(&Closing) -> DateTime<Utc>| closings.iter().map(of).collect::<Vec<_>>();
    columns.add(statement, "tenant_id", tenants)?;
    columns.add(statement, "id", ids)?;
    columns.add(statement, "position", closings.iter().map(|closing| closing.position).collect())?;
    columns.add(statement, "occurred_to", ends(|closing| closing.occurred_to))?;
    columns.add(statement, "recorded_to", ends(|closing| closing.recorded_to))?;
    statement.part(
        format_args!("{table}_closed"),
        format_args!(
            "update {versions} v set occurred_to = r.occurred_to, recorded_to = r.recorded_to from ok, {}
             where v.tenant_id = r.tenant_id and v.id = r.id and v.position = r.position",
            columns.rows()
        ),
    );
    Ok(())
}

#[async_trait]
impl<P: Projection> Model for Versioned<P> {
    fn name(&self) -> &'static str {
        P::NAME
    }

    async fn fold(
        &mut self,
        connection: &mut PgConnection,
        facts: &[Fact],
        statement: &mut Statement,
    ) -> Result<(), FoldError> {
        self.learn(connection, facts).await?;
        Ok(self.changes(facts).write(statement)?)
    }

    fn forget(&mut self) {
        self.rows.clear();
        self.older.clear();
    }
}
