//! A projection's rows at work: as they are, and every one that ever was, with those set aside whose events it refuses.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::error::BoxDynError;
use sqlx::postgres::PgConnection;

use super::fact::{Fact, Told};
use super::model::{Affected, Batch, FoldError, Folded, Key, Model, Parked, Poison, Projection, Touched};
use super::parking::set_aside;
use super::row::{COMMON_COLUMNS, Row, Stored};
use super::search::{self, block_of};
use super::statement::{Columns, Statement};
use super::written::Written;
use crate::event_store::Recorded;

/// Rows that a projection remembers before it forgets those that it has not touched for as long: it need not read
/// back what it wrote.
const REMEMBERED: usize = 4_000;
/// More entities than this parked by [`NEARBY`] events of the log are no bad events, but a bad fold.
const MANY: usize = 50;
/// The stretch of the log in which they are counted, however it was cut into batches.
const NEARBY: u64 = 1_000;

type Rows<R> = HashMap<Key, Option<Arc<Stored<R>>>>;

/// Keeps one projection's rows: as they are, and every one that ever was.
pub struct Versioned<P: Projection> {
    rows: Rows<P::Row>,
    /// Rows that have not been touched for long; those that are not touched at all are forgotten next.
    older: Rows<P::Row>,
    most: usize,
    /// The entities that are set aside, and the position of the event for which they were; none: not looked up yet.
    parked: Option<HashMap<Key, i64>>,
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
        Self { rows: HashMap::new(), older: HashMap::new(), most, parked: None }
    }
}

/// A version and the end of the period in which it held; none as long as it holds.
struct Version<R> {
    stored: Arc<Stored<R>>,
    occurred_to: Option<DateTime<Utc>>,
    recorded_to: Option<DateTime<Utc>>,
    /// There was no row of this entity before the batch.
    begins: bool,
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
    /// The blocks in which what is searched has changed.
    searched: search::Touched,
    parkings: Vec<Parking>,
    held: Vec<(Key, i64)>,
}

/// An entity that is set aside for an event.
struct Parking {
    key: Key,
    position: i64,
    event_type: String,
    reason: Poison,
}

impl<P: Projection> Versioned<P> {
    async fn learn(&mut self, connection: &mut PgConnection, told: &[Told]) -> sqlx::Result<()> {
        self.learn_parked(connection).await?;
        // Once a batch at most: what the batch before touched may not be written yet, and must not be forgotten.
        if self.rows.len() > self.most {
            self.older = std::mem::take(&mut self.rows);
        }
        let (mut tenants, mut ids) = (Vec::new(), Vec::new());
        for fact in told.iter().flat_map(facts_of) {
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

    async fn learn_parked(&mut self, connection: &mut PgConnection) -> sqlx::Result<()> {
        if self.parked.is_none() {
            self.parked = Some(set_aside(connection, P::NAME).await?);
        }
        Ok(())
    }

    fn changes(&mut self, batch: Batch<'_>) -> Result<Changes<P::Row>, FoldError> {
        let mut changes = Changes::default();
        for told in batch.told {
            let Some(recorded) = told.recorded() else { continue };
            let refused =
                batch.refused.filter(|(position, _)| *position == recorded.position).map(|(_, poison)| poison);
            for id in affected::<P>(told)? {
                self.change((recorded.tenant_id, id), told, recorded, refused, &mut changes)?;
            }
        }
        Ok(changes)
    }

    /// What an event does to one entity: its row changes, or it is set aside, or waits since it was.
    fn change(
        &mut self,
        key: Key,
        told: &Told,
        recorded: &Recorded,
        refused: Option<&Poison>,
        changes: &mut Changes<P::Row>,
    ) -> Result<(), FoldError> {
        let parked = self.parked.get_or_insert_default();
        if parked.contains_key(&key) {
            changes.held.push((key, recorded.position));
            return Ok(());
        }
        let before = self.rows.get(&key).cloned().flatten();
        let after = match refused {
            Some(poison) => Err(poison.clone()),
            None => Self::after(before.as_ref(), &key, told),
        };
        match after {
            Ok(None) => Ok(()),
            Ok(Some(after)) => {
                self.rows.insert(key.clone(), Some(Arc::clone(&after)));
                changes.add(key, before.as_deref(), after);
                Ok(())
            }
            Err(reason) => {
                let position = recorded.position;
                parked.insert(key.clone(), position);
                let near = parked.values().filter(|at| position.abs_diff(**at) < NEARBY).count();
                if near > MANY {
                    return Err(FoldError::Stopped(format!(
                        "{near} entities are refused within {NEARBY} events, which looks like a mistake in the program; \
                         the last is {}:{} at {position} ({}): {reason}",
                        key.0, key.1, recorded.event_type
                    )));
                }
                changes.held.push((key.clone(), position));
                changes.parkings.push(Parking { key, position, event_type: recorded.event_type.clone(), reason });
                Ok(())
            }
        }
    }

    /// The row after an event, with all that it means; none if it changed nothing.
    pub(super) fn after(
        before: Option<&Arc<Stored<P::Row>>>,
        key: &Key,
        told: &Told,
    ) -> Result<Option<Arc<Stored<P::Row>>>, Poison> {
        if let Told::Unread(unread) = told {
            return Err(Poison::new(&unread.reason.to_string()));
        }
        let mut row = before.cloned();
        for fact in facts_of(told).iter().filter(|fact| touches::<P>(fact, &key.1)) {
            // A fold that panics is a fold that refuses: it takes what it was given and leaves nothing behind.
            let next = catch_unwind(AssertUnwindSafe(|| Self::next(row.as_deref(), key, fact)));
            let next =
                next.unwrap_or_else(|panic| Err(Poison::new(&format!("the fold panicked: {}", told_of(&*panic)))));
            if let Some(next) = next? {
                row = Some(Arc::new(next));
            }
        }
        let changed = match (before, &row) {
            (Some(before), Some(after)) => !Arc::ptr_eq(before, after),
            (None, after) => after.is_some(),
            (Some(_), None) => false,
        };
        Ok(row.filter(|_| changed))
    }

    /// The row after a fact; none if that changed nothing. An aggregate's own row follows each of its events,
    /// so that its version is always the aggregate's.
    fn next(before: Option<&Stored<P::Row>>, key: &Key, fact: &Fact) -> Result<Option<Stored<P::Row>>, Poison> {
        let recorded = &fact.recorded;
        let Some(mut row) = P::fold(before.map(|stored| stored.row.clone()), &key.1, fact)? else { return Ok(None) };
        // Before it is compared with anything: what is read back later is this.
        row.fit();
        if recorded.local_id() != key.1 && before.is_some_and(|before| before.row == row) {
            return Ok(None);
        }
        // An event that is recorded late cannot make an earlier version true for longer than it was: on the
        // business's clock, too, versions follow each other.
        let occurred_from =
            before.map_or(recorded.occurred_at, |before| before.occurred_from.max(recorded.occurred_at));
        Ok(Some(Stored {
            tenant_id: key.0.to_string(),
            id: key.1.clone(),
            version: recorded.sequence,
            created_at: before.map_or(recorded.occurred_at, |before| before.created_at),
            updated_at: occurred_from,
            position: recorded.position,
            occurred_from,
            recorded_from: recorded.recorded_at,
            row,
        }))
    }
}

/// What an event means, fact by fact.
pub(super) fn facts_of(told: &Told) -> &[Fact] {
    match told {
        Told::Understood(facts) => facts,
        Told::Unread(_) => &[],
    }
}

fn touches<P: Projection>(fact: &Fact, id: &str) -> bool {
    P::touched(fact).iter().any(|(Touched::New(touched) | Touched::Known(touched))| touched == id)
}

/// The entities that an event may change, each once.
pub(super) fn affected<P: Projection>(told: &Told) -> Result<Vec<String>, FoldError> {
    match told {
        Told::Understood(facts) => {
            let mut ids: Vec<String> = Vec::new();
            for Touched::New(id) | Touched::Known(id) in facts.iter().flat_map(P::touched) {
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
            Ok(ids)
        }
        Told::Unread(unread) => match P::affected(unread) {
            Affected::Nothing => Ok(Vec::new()),
            Affected::Rows(ids) => Ok(ids),
            Affected::Unknown => {
                Err(FoldError::Stopped(format!("{}, and whose row it changes cannot be told", unread.reason)))
            }
        },
    }
}

/// What a panic said.
pub(super) fn told_of(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

impl<R> Default for Changes<R> {
    fn default() -> Self {
        Self {
            versions: Vec::new(),
            latest: HashMap::new(),
            closings: Vec::new(),
            searched: search::Touched::new(),
            parkings: Vec::new(),
            held: Vec::new(),
        }
    }
}

impl<R: Row> Changes<R> {
    fn add(&mut self, key: Key, before: Option<&Stored<R>>, after: Arc<Stored<R>>) {
        let (occurred_to, recorded_to) = (after.occurred_from, after.recorded_from);
        let mut begins = before.is_none();
        if R::SEARCHED.is_some()
            && before.is_none_or(|before| !before.row.reads_like(&after.row))
            && let Some(block) = block_of(&after.id)
        {
            self.searched.insert((after.tenant_id.clone(), block));
        }
        let previous = self.latest.get(&key).copied();
        if let Some(version) = previous.and_then(|index| self.versions.get_mut(index)) {
            version.occurred_to = Some(occurred_to);
            version.recorded_to = Some(recorded_to);
            begins = version.begins;
        } else if let Some(before) = before {
            self.closings.push(Closing { key: key.clone(), position: before.position, occurred_to, recorded_to });
        }
        self.latest.insert(key, self.versions.len());
        self.versions.push(Version { stored: after, occurred_to: None, recorded_to: None, begins });
    }

    /// The rows as they are after the batch.
    fn rows(&self) -> Vec<Written> {
        let row = |(key, index): (&Key, &usize)| {
            Some(Written::new(key.clone(), Arc::clone(&self.versions.get(*index)?.stored)))
        };
        self.latest.iter().filter_map(row).collect()
    }

    /// The versions go out once: those that still hold are the rows as they are now. Which parts there are depends
    /// on nothing but whether there is a change, so that few different statements have to be prepared; on what there is
    /// to write as well if the statement is to be `lean`.
    fn write(mut self, statement: &mut Statement, lean: bool) -> Result<(), BoxDynError> {
        if self.versions.is_empty() {
            return Ok(());
        }
        // All indexes begin with the tenant: who is written after each other meets the same pages.
        self.versions.sort_by(|one, other| one.stored.tenant_id.cmp(&other.stored.tenant_id));
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
        columns.add(statement, "begins", self.versions.iter().map(|version| version.begins).collect())?;
        statement.part(
            format_args!("{table}_rows"),
            format_args!("select {} from ok, {}", columns.values(), columns.rows()),
        );
        let now = format!("insert into {table} ({list}) select {list} from {table}_rows where recorded_to is null");
        let some = |begins: bool| !lean || self.versions.iter().any(|version| version.begins == begins);
        if some(true) {
            // To look for a row first costs as much as an index more.
            statement.part(format_args!("{table}_new"), format_args!("{now} and begins"));
        }
        if some(false) {
            statement.part(
                format_args!("{table}_now"),
                format_args!("{now} and not begins on conflict (tenant_id, id) do update set {update}"),
            );
        }
        statement.part(
            format_args!("{table}_versions"),
            format_args!(
                "insert into {versions} ({list}, occurred_to, recorded_to)
                 select {list}, coalesce(occurred_to, 'infinity'), coalesce(recorded_to, 'infinity') from {table}_rows"
            ),
        );
        if !lean || !self.closings.is_empty() {
            close(&self.closings, table, versions, statement)?;
        }
        if let Some(searched) = R::SEARCHED
            && (!lean || !self.searched.is_empty())
        {
            search::mark(searched, self.searched, statement)?;
        }
        Ok(())
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

/// Sets entities aside, and notes what they have to catch up on.
fn park(
    projection: &'static str,
    parkings: &[Parking],
    held: &[(Key, i64)],
    now: DateTime<Utc>,
    statement: &mut Statement,
) -> Result<(), BoxDynError> {
    if !parkings.is_empty() {
        let mut columns = Columns::default();
        let texts = |of: fn(&Parking) -> String| parkings.iter().map(of).collect::<Vec<_>>();
        columns.add(statement, "tenant_id", texts(|parking| parking.key.0.to_string()))?;
        columns.add(statement, "id", texts(|parking| parking.key.1.clone()))?;
        columns.add(statement, "position", parkings.iter().map(|parking| parking.position).collect())?;
        columns.add(statement, "event_type", texts(|parking| parking.event_type.clone()))?;
        columns.add(statement, "reason", texts(|parking| parking.reason.to_string()))?;
        let (name, now) = (statement.bind(projection)?, statement.bind(now)?);
        let (names, values, rows) = (columns.names(), columns.values(), columns.rows());
        statement.part(
            format_args!("{projection}_parked"),
            format_args!(
                "insert into parked_entities (projection, parked_at, {names}) select {name}, {now}, {values} from ok, {rows}"
            ),
        );
    }
    if !held.is_empty() {
        let mut columns = Columns::default();
        columns.add(statement, "tenant_id", held.iter().map(|(key, _)| key.0.to_string()).collect())?;
        columns.add(statement, "id", held.iter().map(|(key, _)| key.1.as_str()).collect())?;
        columns.add(statement, "position", held.iter().map(|(_, position)| *position).collect())?;
        let name = statement.bind(projection)?;
        let (names, values, rows) = (columns.names(), columns.values(), columns.rows());
        statement.part(
            format_args!("{projection}_held"),
            format_args!("insert into parked_events (projection, {names}) select {name}, {values} from ok, {rows}"),
        );
    }
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
        batch: Batch<'_>,
        statement: &mut Statement,
    ) -> Result<Folded, FoldError> {
        self.learn(connection, batch.told).await?;
        let mut changes = self.changes(batch)?;
        let (parkings, held) = (std::mem::take(&mut changes.parkings), std::mem::take(&mut changes.held));
        let rows = if batch.awaited { changes.rows() } else { Vec::new() };
        changes.write(statement, batch.alike)?;
        park(P::NAME, &parkings, &held, batch.now, statement)?;
        Ok(Folded { parked: parkings.len(), rows })
    }

    async fn catch_up(
        &mut self,
        connection: &mut PgConnection,
        parked: Parked<'_>,
        statement: &mut Statement,
    ) -> Result<(), FoldError> {
        let select = format!("select * from {} where tenant_id = $1 and id = $2", P::Row::TABLE);
        let stored: Option<Stored<P::Row>> =
            sqlx::query_as(&select).bind(parked.tenant.to_string()).bind(parked.id).fetch_optional(connection).await?;
        let key = (parked.tenant, parked.id.to_owned());
        let mut row = stored.map(Arc::new);
        let mut changes = Changes::default();
        for told in parked.told {
            let after = Self::after(row.as_ref(), &key, told).map_err(|poison| {
                let position = told.recorded().map_or(0, |recorded| recorded.position);
                FoldError::Stopped(format!("event {position}: {poison}"))
            })?;
            if let Some(after) = after {
                changes.add(key.clone(), row.as_deref(), Arc::clone(&after));
                row = Some(after);
            }
        }
        Ok(changes.write(statement, false)?)
    }

    fn forget(&mut self) {
        self.rows.clear();
        self.older.clear();
        self.parked = None;
    }
}
