//! The tables in which an import keeps what it is doing: the only code of the import that writes to our database
//! beside the event store.
//!
//! ```text
//! source ─► staged ─► keys, dirty ─► outcomes, links, plan ─► (the log) ─► rows
//! ```
//!
//! `rows` and `keys` stay; the others belong to the run and are empty between runs. `rows` changes in one
//! transaction at the end of a run, when the log has everything: what it says is always what the log holds.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{Connection, PgConnection, PgPool, Row};
use utoipa::ToSchema;
use uuid::Uuid;

use super::ImportError;
use super::maps::{Mapping, Maps};
use super::source::SourceRow;
use super::tables::Table;
use crate::aggregates::ids::TenantId;
use crate::event_store::is_lock_refused;

/// The tables that belong to a run.
const OF_A_RUN: [&str; 5] = ["legacy_staged", "legacy_dirty", "legacy_links", "legacy_outcomes", "legacy_plan"];

/// How long another run may be about to end before it is one that is at work.
const LAST_BREATH: Duration = Duration::from_secs(5);
/// How soon it is looked again whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Why a row waits that is gone while what it became is still here.
pub(super) const DELETION_REFUSED: &str = "deletion_refused";
/// Why a row waits that was gone and is there again, while what it became is not.
pub(super) const RETURN_REFUSED: &str = "return_refused";

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr, strum::VariantNames, ToSchema)]
#[strum(serialize_all = "snake_case")]
#[schema(as = LegacyImportStatus, rename_all = "snake_case")]
pub enum Status {
    /// It copies what is new, changed or gone in the old database.
    Reading,
    /// It works out what happened.
    Planning,
    /// It writes that to the log; if it is interrupted, the next run goes on.
    Appending,
    /// It has ended, with a report.
    Done,
    /// It has ended before anything was appended.
    Failed,
}

/// The heap that a row lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Heap {
    /// Replayed as it was.
    Replayed,
    /// Replayed with a named repair.
    Repaired,
    /// Kept aside, with the reason.
    Quarantined,
}

/// A run that was interrupted.
pub(super) struct Interrupted {
    pub import_id: Uuid,
    pub started_at: DateTime<Utc>,
    pub status: Status,
    pub revision: String,
    /// Where it reads from.
    pub source: String,
}

/// What is to be known of a row that another one names.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub local_id: String,
    pub quarantined: bool,
}

/// An aggregate that a run is about.
pub(super) struct Root {
    pub pk: i64,
    pub local_id: String,
    pub legacy_id: Option<String>,
    /// The staged row; the inner none if it is gone; the outer none if it has not changed.
    pub staged: Option<Option<String>>,
    /// As it was when it was last replayed.
    pub imported: Option<String>,
    /// The repairs that were made then.
    pub repairs: String,
    /// It was gone and is there again.
    pub back: bool,
}

/// A staged row that belongs to another.
pub(super) struct Child {
    pub table: Table,
    pub pk: i64,
    pub parent_pk: i64,
    pub local_id: Option<String>,
    pub row: Option<String>,
    pub imported: Option<String>,
    pub repairs: String,
    /// It was gone and is there again.
    pub back: bool,
    /// It belonged to another when it was taken over.
    pub came: bool,
    /// It belongs to another now.
    pub left: bool,
}

/// A link of a project that a run is not about.
pub(super) struct Unchanged {
    pub parent_pk: i64,
    pub table: Table,
    pub pk: i64,
    pub imported: String,
    pub repairs: String,
}

/// A staged row whose parent is not there.
pub(super) struct Orphan {
    pub table: Table,
    pub pk: i64,
    pub parent: Option<String>,
    pub gone: bool,
    /// It was gone and is there again.
    pub back: bool,
}

/// A lead on its way to the customer that it becomes.
pub(super) struct Link {
    pub customer_id: String,
    pub lead_id: String,
    pub lead_pk: i64,
    pub converted_at: DateTime<Utc>,
    pub interactions: String,
    pub correlation_id: Uuid,
}

/// What a run found out about a row.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub table: Table,
    pub pk: i64,
    pub heap: Heap,
    pub reason: Option<String>,
    pub detail: Option<String>,
    pub repairs: String,
    pub events: i64,
}

/// An event that a run is going to append.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub occurred_at: DateTime<Utc>,
    pub rank: i16,
    pub number: i64,
    pub sequence: i64,
    pub stream_tenant: TenantId,
    pub aggregate_type: &'static str,
    pub local_id: String,
    pub event_type: String,
    pub event_version: String,
    pub payload: String,
    pub actor: String,
    pub table: Table,
    pub pk: i64,
    pub correlation_id: Uuid,
    pub first: bool,
}

/// The tables of one tenant's import.
#[derive(Clone)]
pub(super) struct Staging {
    pub pool: PgPool,
    tenant: String,
}

impl Staging {
    pub(super) fn new(pool: PgPool, tenant: TenantId) -> Self {
        Self { pool, tenant: tenant.to_string() }
    }

    /// Keeps every other run out until the connection is given back.
    ///
    /// A run that was killed a moment ago is waited for: its sessions are there until the server notices, which is after
    /// the statement that each of them is at.
    pub(super) async fn lock(&self) -> Result<PgConnection, ImportError> {
        let mut connection = self.pool.acquire().await?.detach();
        sqlx::query("select set_config('lock_timeout', $1, false)")
            .bind(format!("{}ms", LAST_BREATH.as_millis()))
            .execute(&mut connection)
            .await?;
        sqlx::query("select pg_advisory_lock(hashtext('devhub legacy'))")
            .execute(&mut connection)
            .await
            .map_err(|error| if is_lock_refused(&error) { ImportError::Busy } else { error.into() })?;
        let written_to = async {
            while Self::are_written_to(&mut connection).await? {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            Ok(())
        };
        tokio::time::timeout(LAST_BREATH, written_to).await.unwrap_or(Err(ImportError::Busy))?;
        Ok(connection)
    }

    /// Whether some session is writing to the tables of the import.
    async fn are_written_to(connection: &mut PgConnection) -> sqlx::Result<bool> {
        sqlx::query_scalar(
            "select exists (
                 select 1 from pg_locks l join pg_class c on c.oid = l.relation
                 where l.database = (select oid from pg_database where datname = current_database())
                   and c.relnamespace = current_schema()::regnamespace and starts_with(c.relname, 'legacy_')
                   and l.mode in ('RowExclusiveLock', 'AccessExclusiveLock'))",
        )
        .fetch_one(connection)
        .await
    }

    /// Lets the next run in at once: a connection that is only dropped keeps it out until the server notices.
    pub(super) async fn unlock(mut lock: PgConnection) {
        if let Err(error) = sqlx::query("select pg_advisory_unlock_all()").execute(&mut lock).await {
            tracing::debug!(%error, "the lock of an import went with its connection: {error}");
        }
    }

    /// The run that was interrupted, if one was.
    pub(super) async fn interrupted(&self) -> Result<Option<Interrupted>, ImportError> {
        let row = sqlx::query(
            "select import_id, started_at, status, revision, source from legacy_imports
             where tenant_id = $1 and status in ('reading', 'planning', 'appending') order by started_at desc limit 1",
        )
        .bind(&self.tenant)
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            let status: &str = row.try_get("status")?;
            Ok(Interrupted {
                import_id: row.try_get("import_id")?,
                started_at: row.try_get("started_at")?,
                status: status.parse().map_err(|_| sqlx::Error::Decode("an unknown status".into()))?,
                revision: row.try_get("revision")?,
                source: row.try_get("source")?,
            })
        })
        .transpose()
    }

    /// Begins a run.
    pub(super) async fn begin(
        &self,
        import_id: Uuid,
        source: &str,
        revision: &str,
        dry_run: bool,
        now: DateTime<Utc>,
    ) -> Result<(), ImportError> {
        sqlx::query(
            "insert into legacy_imports (import_id, tenant_id, source, revision, dry_run, status, started_at)
             values ($1, $2, $3, $4, $5, 'reading', $6)",
        )
        .bind(import_id)
        .bind(&self.tenant)
        .bind(source)
        .bind(revision)
        .bind(dry_run)
        .bind(now)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Empties what belongs to a run. Names that were given to rows which never came in are taken back.
    pub(super) async fn clear(&self) -> Result<(), ImportError> {
        let mut transaction = self.begin_over_all().await?;
        self.throw_away(&mut transaction).await?;
        sqlx::query(
            "delete from legacy_keys k where k.tenant_id = $1 and not exists (
                 select 1 from legacy_rows r
                 where r.tenant_id = k.tenant_id and r.source_table = k.source_table and r.pk = k.pk)",
        )
        .bind(&self.tenant)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Empties the tables of a run; no other run is at work, but another tenant's may have been interrupted.
    async fn throw_away(&self, transaction: &mut PgConnection) -> Result<(), ImportError> {
        let others: bool = sqlx::query_scalar(
            "select exists (select 1 from legacy_imports
                            where tenant_id <> $1 and status in ('reading', 'planning', 'appending'))",
        )
        .bind(&self.tenant)
        .fetch_one(&mut *transaction)
        .await?;
        if !others {
            sqlx::query(&format!("truncate {}", OF_A_RUN.join(", "))).execute(transaction).await?;
            return Ok(());
        }
        for table in OF_A_RUN {
            sqlx::query(&format!("delete from {table} where tenant_id = $1"))
                .bind(&self.tenant)
                .execute(&mut *transaction)
                .await?;
        }
        Ok(())
    }

    pub(super) async fn set_status(&self, import_id: Uuid, status: Status) -> Result<(), ImportError> {
        sqlx::query("update legacy_imports set status = $2 where import_id = $1")
            .bind(import_id)
            .bind(<&str>::from(status))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Brings the planner's knowledge of the tables up to date: they were empty a moment ago. Only their owner may,
    /// which is usually who signed in; without it the plans are those of an empty table, slower and not wrong.
    pub(super) async fn analyze(&self, tables: &[&str]) -> Result<(), ImportError> {
        let mut connection = self.pool.acquire().await?.detach();
        sqlx::query("set role none").execute(&mut connection).await?;
        for table in tables {
            if let Err(error) = sqlx::query(&format!("analyze {table}")).execute(&mut connection).await {
                tracing::debug!(%error, "{table} was not analyzed: {error}");
            }
        }
        connection.close().await?;
        Ok(())
    }

    /// A transaction that is on disk, with all that came before it, once it is committed.
    async fn begin_durable(&self) -> Result<sqlx::Transaction<'static, sqlx::Postgres>, ImportError> {
        let mut transaction = self.begin_over_all().await?;
        sqlx::query("set local synchronous_commit = on").execute(&mut *transaction).await?;
        Ok(transaction)
    }

    /// A transaction for statements over whole tables: they are joined as wholes, whatever is known of their size.
    async fn begin_over_all(&self) -> Result<sqlx::Transaction<'static, sqlx::Postgres>, ImportError> {
        let mut transaction = self.pool.begin().await?;
        sqlx::query("set local enable_nestloop = off").execute(&mut *transaction).await?;
        Ok(transaction)
    }

    /// The replacements that were asked for, now and before.
    pub(super) async fn maps(&self, more: &[Mapping]) -> Result<Maps, ImportError> {
        let rows = sqlx::query(
            "select source_table, source_field, pk, old_value, new_value from legacy_maps where tenant_id = $1",
        )
        .bind(&self.tenant)
        .fetch_all(&self.pool)
        .await?;
        let mut mappings = Vec::with_capacity(rows.len() + more.len());
        for row in rows {
            let table: &str = row.try_get("source_table")?;
            let Ok(table) = table.parse() else { continue };
            mappings.push(Mapping {
                table,
                field: row.try_get("source_field")?,
                pk: row.try_get("pk")?,
                old: row.try_get("old_value")?,
                new: row.try_get("new_value")?,
            });
        }
        let same = |a: &Mapping, b: &Mapping| (a.table, a.pk, &a.field, &a.old) == (b.table, b.pk, &b.field, &b.old);
        mappings.retain(|known| !more.iter().any(|new| same(known, new)));
        mappings.extend(more.iter().cloned());
        Ok(Maps::new(mappings))
    }

    /// Keeps replacements, for this run and every later one.
    pub(super) async fn keep_maps(&self, mappings: &[Mapping]) -> Result<(), ImportError> {
        for mapping in mappings {
            sqlx::query(
                "insert into legacy_maps (tenant_id, source_table, source_field, pk, old_value, new_value)
                 values ($1, $2, $3, $4, $5, $6)
                 on conflict (tenant_id, source_table, source_field, pk, old_value)
                 do update set new_value = excluded.new_value",
            )
            .bind(&self.tenant)
            .bind(mapping.table.name())
            .bind(&mapping.field)
            .bind(mapping.pk)
            .bind(&mapping.old)
            .bind(&mapping.new)
            .execute(&self.pool)
            .await?;
        }
        Ok(())
    }

    /// What is known of the rows `from` … `to` of a table: as last read, and whether it lies in quarantine.
    pub(super) async fn read_rows(
        &self,
        table: Table,
        from: i64,
        to: i64,
    ) -> Result<HashMap<i64, (String, bool, bool)>, ImportError> {
        let rows: Vec<(i64, String, bool, bool)> = sqlx::query_as(
            "select pk, row, heap = 'quarantined' or repairs like '%_unresolved\"%', vanished from legacy_rows
             where tenant_id = $1 and source_table = $2 and pk between $3 and $4",
        )
        .bind(&self.tenant)
        .bind(table.name())
        .bind(from)
        .bind(to)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows.into_iter().map(|(pk, row, again, vanished)| (pk, (row, again, vanished))).collect())
    }

    /// The rows of a table between two keys that a run has not met: they are gone from the old database. Counts those
    /// of which that is new.
    pub(super) async fn stage_vanished(
        &self,
        table: Table,
        after: i64,
        before: i64,
        met: &[i64],
    ) -> Result<u64, ImportError> {
        let staged: i64 = sqlx::query_scalar(&format!(
            "with gone as (
                 select source_table, pk, parent_table, coalesce({}, parent_id) as parent_id,
                        reason is distinct from '{DELETION_REFUSED}' as new
                 from legacy_rows r
                 where tenant_id = $1 and source_table = $2 and pk > $3 and pk <= $4 and not vanished and pk <> all($5)
             ), staged as (
                 insert into legacy_staged (tenant_id, source_table, pk, parent_table, parent_id, row)
                 select $1, source_table, pk, parent_table, parent_id, null from gone
             )
             select count(*) from gone where new",
            imported_parent(table.parent().map_or("", |(_, column)| column))
        ))
        .bind(&self.tenant)
        .bind(table.name())
        .bind(after)
        .bind(before)
        .bind(met)
        .fetch_one(&self.pool)
        .await?;
        Ok(u64::try_from(staged).unwrap_or(0))
    }

    /// Stages rows, with the parent that each names.
    pub(super) async fn stage(
        &self,
        table: Table,
        rows: &[SourceRow],
        parents: &[Option<String>],
    ) -> Result<(), ImportError> {
        if rows.is_empty() {
            return Ok(());
        }
        let pks: Vec<i64> = rows.iter().map(|row| row.pk).collect();
        let texts: Vec<&str> = rows.iter().map(|row| row.json.as_str()).collect();
        sqlx::query(
            "insert into legacy_staged (tenant_id, source_table, pk, parent_table, parent_id, row)
             select $1, $2, s.pk, $3, s.parent_id, s.row
             from unnest($4::bigint[], $5::text[], $6::text[]) as s (pk, parent_id, row)",
        )
        .bind(&self.tenant)
        .bind(table.name())
        .bind(table.parent().map(|(parent, _)| parent.name()))
        .bind(pks)
        .bind(parents)
        .bind(texts)
        .execute(&self.pool)
        .await
        .map_err(|error| match error.as_database_error() {
            Some(database) if database.is_unique_violation() => {
                ImportError::Source(format!("two rows of {} have the same id", table.name()))
            }
            _ => error.into(),
        })?;
        Ok(())
    }

    /// Stages the rows in quarantine as they were last read, for another try without the old database.
    pub(super) async fn stage_quarantined(&self, table: Option<Table>, pk: Option<i64>) -> Result<u64, ImportError> {
        let staged = sqlx::query(
            "insert into legacy_staged (tenant_id, source_table, pk, parent_table, parent_id, row)
             select tenant_id, source_table, pk, parent_table, parent_id,
                    case when reason is distinct from $4 then row end
             from legacy_rows
             where tenant_id = $1 and not vanished and (heap = 'quarantined' or repairs like '%_unresolved\"%')
               and ($2::text is null or source_table = $2) and ($3::bigint is null or pk = $3)",
        )
        .bind(&self.tenant)
        .bind(table.map(Table::name))
        .bind(pk)
        .bind(DELETION_REFUSED)
        .execute(&self.pool)
        .await?;
        Ok(staged.rows_affected())
    }

    /// Remembers the ids that rows had; a row that has a name of ours keeps it.
    pub(super) async fn add_keys(
        &self,
        import_id: Uuid,
        table: Table,
        prefix: &str,
        keys: &[(i64, Option<String>, Option<i64>, bool)],
    ) -> Result<(), ImportError> {
        if keys.is_empty() {
            return Ok(());
        }
        let pks: Vec<i64> = keys.iter().map(|key| key.0).collect();
        let legacy_ids: Vec<Option<&str>> = keys.iter().map(|key| key.1.as_deref()).collect();
        let numbers: Vec<Option<i64>> = keys.iter().map(|key| key.2).collect();
        let canonical: Vec<bool> = keys.iter().map(|key| key.3).collect();
        sqlx::query(
            "insert into legacy_keys (tenant_id, source_table, pk, legacy_id, prefix, number, canonical, import_id)
             select $1, $2, k.pk, k.legacy_id, $3, k.number, k.canonical, $4
             from unnest($5::bigint[], $6::text[], $7::bigint[], $8::bool[]) as k (pk, legacy_id, number, canonical)
             on conflict (tenant_id, source_table, pk)
             do update set legacy_id = excluded.legacy_id, number = excluded.number, canonical = excluded.canonical",
        )
        .bind(&self.tenant)
        .bind(table.name())
        .bind(prefix)
        .bind(import_id)
        .bind(pks)
        .bind(legacy_ids)
        .bind(numbers)
        .bind(canonical)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Gives the founder's row the founder's name.
    pub(super) async fn name_founder(&self, pk: i64, name: &str) -> Result<(), ImportError> {
        sqlx::query(
            "update legacy_keys set local_id = $3
             where tenant_id = $1 and source_table = 'users' and pk = $2 and local_id is null",
        )
        .bind(&self.tenant)
        .bind(pk)
        .bind(name)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Finds out which row is meant by an old id that several have, or had: of those that are there, the first.
    async fn find_referable(&self, transaction: &mut PgConnection, prefix: &str) -> Result<(), ImportError> {
        let doubtful: bool = sqlx::query_scalar(
            "select exists (select 1 from legacy_staged where tenant_id = $1 and row is null)
                 or exists (select 1 from legacy_keys where tenant_id = $1 and prefix = $2 and not referable)
                 or exists (select 1 from legacy_keys where tenant_id = $1 and prefix = $2 and legacy_id is not null
                            group by source_table, legacy_id having count(*) > 1)",
        )
        .bind(&self.tenant)
        .bind(prefix)
        .fetch_one(&mut *transaction)
        .await?;
        if !doubtful {
            return Ok(());
        }
        sqlx::query(
            "update legacy_keys k set referable = t.place = 1 and t.live from (
                 select source_table, pk, live, row_number() over (
                     partition by source_table, legacy_id order by live desc, pk) as place
                 from (
                     select k.source_table, k.pk, k.legacy_id,
                            case when s.pk is not null then s.row is not null else not coalesce(r.vanished, false) end
                                as live
                     from legacy_keys k
                     left join legacy_staged s on s.tenant_id = $1 and s.source_table = k.source_table and s.pk = k.pk
                     left join legacy_rows r on r.tenant_id = $1 and r.source_table = k.source_table and r.pk = k.pk
                     where k.tenant_id = $1 and k.prefix = $2 and k.legacy_id is not null) keys) t
             where k.tenant_id = $1 and k.source_table = t.source_table and k.pk = t.pk
               and k.referable <> (t.place = 1 and t.live)",
        )
        .bind(&self.tenant)
        .bind(prefix)
        .execute(&mut *transaction)
        .await?;
        Ok(())
    }

    /// Gives every row of a kind that has no name of ours yet one: its own number if that is free, else the next after
    /// all that are known. The same rows always get the same names.
    ///
    /// `taken` is a statement for what the tenant uses already: the numbers of local ids, as `number`.
    pub(super) async fn assign_names(&self, prefix: &str, lowest: i64, taken: &str) -> Result<(), ImportError> {
        let mut transaction = self.begin_over_all().await?;
        self.find_referable(&mut transaction, prefix).await?;
        let named = format!(
            "with taken as materialized (
                 {taken}
                 union select number from (
                     select split_part(local_id, '-', 2)::bigint as number from legacy_keys
                     where tenant_id = $1 and prefix = $2 and local_id is not null) given
             ), wanted as (
                 select source_table, pk, number, row_number() over (
                     partition by number order by canonical desc, source_table, pk) as place
                 from legacy_keys
                 where tenant_id = $1 and prefix = $2 and local_id is null and number >= $3
             )
             update legacy_keys k
             set local_id = $2 || '-' || case when w.number < 1000 then lpad(w.number::text, 3, '0') else w.number::text end
             from wanted w
             where k.tenant_id = $1 and k.source_table = w.source_table and k.pk = w.pk and w.place = 1
               and not exists (select 1 from taken t where t.number = w.number)"
        );
        sqlx::query(&named).bind(&self.tenant).bind(prefix).bind(lowest).execute(&mut *transaction).await?;
        let next: i64 = sqlx::query_scalar(
            "select greatest($3,
                 coalesce((select next from counters where tenant_id = $1 and kind = $2), 0),
                 coalesce((select max(greatest(number, split_part(local_id, '-', 2)::bigint)) + 1
                           from legacy_keys where tenant_id = $1 and prefix = $2), 0))",
        )
        .bind(&self.tenant)
        .bind(prefix)
        .bind(lowest)
        .fetch_one(&mut *transaction)
        .await?;
        sqlx::query(
            "with nameless as (
                 select source_table, pk, $3 - 1 + row_number() over (order by source_table, pk) as number
                 from legacy_keys where tenant_id = $1 and prefix = $2 and local_id is null
             )
             update legacy_keys k
             set local_id = $2 || '-' || case when n.number < 1000 then lpad(n.number::text, 3, '0') else n.number::text end
             from nameless n where k.tenant_id = $1 and k.source_table = n.source_table and k.pk = n.pk",
        )
        .bind(&self.tenant)
        .bind(prefix)
        .bind(next)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Takes names back that this run has given and that somebody took for something new after `position`; `kinds` are
    /// prefixes and what they count. Returns how many.
    pub(super) async fn take_back_names(&self, position: i64, kinds: &[(&str, &str)]) -> Result<u64, ImportError> {
        let (prefixes, types): (Vec<&str>, Vec<&str>) = kinds.iter().copied().unzip();
        let taken = sqlx::query(
            "update legacy_keys k set local_id = null
             from unnest($3::text[], $4::text[]) as n (prefix, aggregate_type)
             join events e on e.aggregate_type = n.aggregate_type
             where e.position > $2 and e.tenant_id = $1 and e.sequence = 1
               and k.tenant_id = $1 and k.prefix = n.prefix and e.aggregate_id = $1 || ':' || k.local_id
               and not exists (select 1 from legacy_rows r
                               where r.tenant_id = $1 and r.source_table = k.source_table and r.pk = k.pk)",
        )
        .bind(&self.tenant)
        .bind(position)
        .bind(prefixes)
        .bind(types)
        .execute(&self.pool)
        .await?;
        Ok(taken.rows_affected())
    }

    /// The end of the log.
    pub(super) async fn head(&self) -> Result<i64, ImportError> {
        Ok(sqlx::query_scalar("select coalesce(max(position), 0) from events").fetch_one(&self.pool).await?)
    }

    /// Stages imported rows that a replacement touches, as they were last read. Returns, for each replacement, how many
    /// staged rows it touches.
    pub(super) async fn stage_mapped(&self, mappings: &[Mapping]) -> Result<Vec<i64>, ImportError> {
        let mut touched = Vec::with_capacity(mappings.len());
        for mapping in mappings {
            let touches = "source_table = $2 and row is not null
                           and (pk = $3 or ($3 < 0 and btrim(coalesce(row::json ->> $4, '')) = $5))";
            let stage = format!(
                "insert into legacy_staged (tenant_id, source_table, pk, parent_table, parent_id, row)
                 select tenant_id, source_table, pk, parent_table, parent_id, row from legacy_rows
                 where tenant_id = $1 and not vanished and reason is distinct from '{DELETION_REFUSED}' and {touches}
                 on conflict do nothing"
            );
            let count = format!("select count(*) from legacy_staged where tenant_id = $1 and {touches}");
            macro_rules! bound {
                ($query:expr) => {
                    $query
                        .bind(&self.tenant)
                        .bind(mapping.table.name())
                        .bind(mapping.pk)
                        .bind(&mapping.field)
                        .bind(&mapping.old)
                };
            }
            bound!(sqlx::query(&stage)).execute(&self.pool).await?;
            touched.push(bound!(sqlx::query_scalar(&count)).fetch_one(&self.pool).await?);
        }
        Ok(touched)
    }

    /// Of these replacements, those that were not in force before.
    pub(super) async fn new_maps(&self, mappings: &[Mapping]) -> Result<Vec<Mapping>, ImportError> {
        let known = self.maps(&[]).await?;
        Ok(mappings.iter().filter(|mapping| !known.has(mapping)).cloned().collect())
    }

    /// Finds the aggregates that staged rows are about.
    pub(super) async fn find_dirty(&self) -> Result<(), ImportError> {
        let mut transaction = self.begin_over_all().await?;
        sqlx::query(&format!(
            "insert into legacy_dirty (tenant_id, source_table, pk, children)
             select $1, d.source_table, d.pk, sum(d.children) from (
                 select source_table, pk, 0 as children from legacy_staged
                 where tenant_id = $1 and source_table in ('users', 'customers', 'leads', 'projects', 'invoices')
                 union all
                 select k.source_table, k.pk, 1 from legacy_staged s
                 join legacy_keys k on k.tenant_id = $1 and k.source_table = s.parent_table
                                   and k.legacy_id = s.parent_id and k.referable
                 where s.tenant_id = $1 and s.parent_table is not null
                 union all
                 select k.source_table, k.pk, 1 {}
             ) d group by d.source_table, d.pk",
            left_links()
        ))
        .bind(&self.tenant)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The aggregates that leads were converted into belong to the run as well.
    pub(super) async fn find_linked(&self) -> Result<(), ImportError> {
        let mut transaction = self.begin_over_all().await?;
        sqlx::query(
            "insert into legacy_dirty as d (tenant_id, source_table, pk, children)
             select $1, 'customers', k.pk, count(*) from legacy_links l
             join legacy_keys k on k.tenant_id = $1 and k.local_id = l.customer_id
             where l.tenant_id = $1 group by k.pk
             on conflict (tenant_id, source_table, pk) do update set children = d.children + excluded.children",
        )
        .bind(&self.tenant)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The next aggregates of a table after `after`, with so many children that they fit into memory.
    pub(super) async fn page(&self, table: Table, after: i64, most: i64) -> Result<Vec<Root>, ImportError> {
        let rows = sqlx::query(
            "with page as (
                 select pk, sum(1 + children) over (order by pk) - children as before
                 from (select pk, children from legacy_dirty
                       where tenant_id = $1 and source_table = $2 and pk > $3 order by pk limit $4) next
             )
             select p.pk, k.local_id, k.legacy_id, s.pk is not null as staged, s.row, r.imported,
                    coalesce(r.repairs, '[]') as repairs, coalesce(r.vanished or r.reason = $5, false) as back
             from page p
             join legacy_keys k on k.tenant_id = $1 and k.source_table = $2 and k.pk = p.pk
             left join legacy_staged s on s.tenant_id = $1 and s.source_table = $2 and s.pk = p.pk
             left join legacy_rows r on r.tenant_id = $1 and r.source_table = $2 and r.pk = p.pk
             where p.before <= $4 order by p.pk",
        )
        .bind(&self.tenant)
        .bind(table.name())
        .bind(after)
        .bind(most)
        .bind(RETURN_REFUSED)
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                let staged: bool = row.try_get("staged")?;
                Ok(Root {
                    pk: row.try_get("pk")?,
                    local_id: row.try_get::<Option<String>, _>("local_id")?.unwrap_or_default(),
                    legacy_id: row.try_get("legacy_id")?,
                    staged: if staged { Some(row.try_get("row")?) } else { None },
                    imported: row.try_get("imported")?,
                    repairs: row.try_get("repairs")?,
                    back: row.try_get("back")?,
                })
            })
            .collect()
    }

    /// The staged children of aggregates, those of each together and in the order of their keys; of projects, also the
    /// links that are another's now.
    pub(super) async fn children(&self, table: Table, pks: &[i64]) -> Result<Vec<Child>, ImportError> {
        let Some(column) = table.named_as() else { return Ok(Vec::new()) };
        let left = match table {
            Table::Projects => format!(
                "union all
                 select s.source_table, s.pk, k.pk, null, s.row, r.imported, r.repairs, false, false, true
                 {} and k.pk = any($3)",
                left_links()
            ),
            _ => String::new(),
        };
        let rows = sqlx::query(&format!(
            "select s.source_table, s.pk, p.pk as parent_pk, k.local_id, s.row, r.imported,
                    coalesce(r.repairs, '[]') as repairs, coalesce(r.vanished or r.reason = $4, false) as back,
                    coalesce(s.row is not null and {} <> s.parent_id, false) as came, false as left
             from legacy_keys p
             join legacy_staged s on s.tenant_id = $1 and s.parent_table = $2 and s.parent_id = p.legacy_id
             left join legacy_keys k on k.tenant_id = $1 and k.source_table = s.source_table and k.pk = s.pk
             left join legacy_rows r on r.tenant_id = $1 and r.source_table = s.source_table and r.pk = s.pk
             where p.tenant_id = $1 and p.source_table = $2 and p.pk = any($3) and p.referable
             {left}
             order by parent_pk, source_table, pk",
            imported_parent(column)
        ))
        .bind(&self.tenant)
        .bind(table.name())
        .bind(pks)
        .bind(RETURN_REFUSED)
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                let table: &str = row.try_get("source_table")?;
                Ok(Child {
                    table: table.parse().map_err(|_| sqlx::Error::Decode("an unknown table".into()))?,
                    pk: row.try_get("pk")?,
                    parent_pk: row.try_get("parent_pk")?,
                    local_id: row.try_get("local_id")?,
                    row: row.try_get("row")?,
                    imported: row.try_get("imported")?,
                    repairs: row.try_get("repairs")?,
                    back: row.try_get("back")?,
                    came: row.try_get("came")?,
                    left: row.try_get("left")?,
                })
            })
            .collect()
    }

    /// The links of projects that are not staged, as they were taken over.
    pub(super) async fn unchanged_links(&self, projects: &[i64]) -> Result<Vec<Unchanged>, ImportError> {
        if projects.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<(i64, String, i64, String, String)> = sqlx::query_as(
            "select p.pk, r.source_table, r.pk, r.imported, r.repairs from legacy_keys p
             join legacy_rows r on r.tenant_id = $1 and r.parent_table = 'projects' and r.parent_id = p.legacy_id
             where p.tenant_id = $1 and p.source_table = 'projects' and p.pk = any($2) and p.referable
               and r.source_table in ('project_customers', 'project_assignments') and not r.vanished
               and r.imported is not null and not exists (
                   select 1 from legacy_staged s
                   where s.tenant_id = $1 and s.source_table = r.source_table and s.pk = r.pk)",
        )
        .bind(&self.tenant)
        .bind(projects)
        .fetch_all(&self.pool)
        .await?;
        let unchanged = |(parent_pk, table, pk, imported, repairs): (i64, String, i64, String, String)| {
            Some(Unchanged { parent_pk, table: table.parse().ok()?, pk, imported, repairs })
        };
        Ok(rows.into_iter().filter_map(unchanged).collect())
    }

    /// Staged rows whose parent is not there at all.
    pub(super) async fn orphans(&self, after: (&str, i64), most: i64) -> Result<Vec<Orphan>, ImportError> {
        let mut transaction = self.begin_over_all().await?;
        let rows: Vec<(String, i64, Option<String>, bool, bool)> = sqlx::query_as(
            "select s.source_table, s.pk, s.parent_id, s.row is null,
                    coalesce(r.imported is not null and (r.vanished or r.reason = $5), false)
             from legacy_staged s
             left join legacy_rows r on r.tenant_id = $1 and r.source_table = s.source_table and r.pk = s.pk
             where s.tenant_id = $1 and s.parent_table is not null and (s.source_table, s.pk) > ($2, $3)
               and not exists (select 1 from legacy_keys k where k.tenant_id = $1 and k.source_table = s.parent_table
                               and k.legacy_id = s.parent_id and k.referable)
             order by s.source_table, s.pk limit $4",
        )
        .bind(&self.tenant)
        .bind(after.0)
        .bind(after.1)
        .bind(most)
        .bind(RETURN_REFUSED)
        .fetch_all(&mut *transaction)
        .await?;
        let orphan = |(table, pk, parent, gone, back): (String, i64, Option<String>, bool, bool)| {
            Some(Orphan { table: table.parse().ok()?, pk, parent, gone, back })
        };
        Ok(rows.into_iter().filter_map(orphan).collect())
    }

    /// What is known of rows that others name by their old ids.
    pub(super) async fn known(
        &self,
        names: &[(Table, String)],
    ) -> Result<HashMap<(Table, String), Known>, ImportError> {
        if names.is_empty() {
            return Ok(HashMap::new());
        }
        let (tables, ids): (Vec<&str>, Vec<&str>) = names.iter().map(|(table, id)| (table.name(), id.as_str())).unzip();
        let rows: Vec<(String, String, String, bool)> = sqlx::query_as(
            "select k.source_table, k.legacy_id, k.local_id,
                    (coalesce(o.heap, r.heap, 'replayed') = 'quarantined' and r.imported is null)
                        or coalesce(r.vanished and s.row is null, false)
             from unnest($2::text[], $3::text[]) as n (source_table, legacy_id)
             join legacy_keys k on k.tenant_id = $1 and k.source_table = n.source_table and k.legacy_id = n.legacy_id
                               and k.referable
             left join legacy_outcomes o on o.tenant_id = $1 and o.source_table = k.source_table and o.pk = k.pk
             left join legacy_staged s on s.tenant_id = $1 and s.source_table = k.source_table and s.pk = k.pk
             left join legacy_rows r on r.tenant_id = $1 and r.source_table = k.source_table and r.pk = k.pk
             where k.local_id is not null",
        )
        .bind(&self.tenant)
        .bind(tables)
        .bind(ids)
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .filter_map(|(table, id, local_id, quarantined)| {
                Some(((table.parse().ok()?, id), Known { local_id, quarantined }))
            })
            .collect())
    }

    /// Staged rows of a table that belongs to no aggregate of its own.
    pub(super) async fn staged(
        &self,
        table: Table,
        after: i64,
        most: i64,
    ) -> Result<Vec<(i64, Option<String>)>, ImportError> {
        Ok(sqlx::query_as(
            "select pk, row from legacy_staged
             where tenant_id = $1 and source_table = $2 and pk > $3 order by pk limit $4",
        )
        .bind(&self.tenant)
        .bind(table.name())
        .bind(after)
        .bind(most)
        .fetch_all(&self.pool)
        .await?)
    }

    /// The leads that customers take in, those of each together and in the order in which it happened.
    pub(super) async fn links(&self, customers: &[String]) -> Result<Vec<Link>, ImportError> {
        let rows = sqlx::query(
            "select customer_id, lead_id, lead_pk, converted_at, interactions, correlation_id from legacy_links
             where tenant_id = $1 and customer_id = any($2) order by customer_id, converted_at, lead_pk",
        )
        .bind(&self.tenant)
        .bind(customers)
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter()
            .map(|row| {
                Ok(Link {
                    customer_id: row.try_get("customer_id")?,
                    lead_id: row.try_get("lead_id")?,
                    lead_pk: row.try_get("lead_pk")?,
                    converted_at: row.try_get("converted_at")?,
                    interactions: row.try_get("interactions")?,
                    correlation_id: row.try_get("correlation_id")?,
                })
            })
            .collect()
    }

    pub(super) async fn add_links(&self, links: &[Link]) -> Result<(), ImportError> {
        if links.is_empty() {
            return Ok(());
        }
        let customers: Vec<&str> = links.iter().map(|link| link.customer_id.as_str()).collect();
        let leads: Vec<&str> = links.iter().map(|link| link.lead_id.as_str()).collect();
        let pks: Vec<i64> = links.iter().map(|link| link.lead_pk).collect();
        let times: Vec<DateTime<Utc>> = links.iter().map(|link| link.converted_at).collect();
        let interactions: Vec<&str> = links.iter().map(|link| link.interactions.as_str()).collect();
        sqlx::query(
            "insert into legacy_links (tenant_id, customer_id, lead_id, lead_pk, converted_at, interactions,
                                       correlation_id)
             select $1, l.* from unnest($2::text[], $3::text[], $4::bigint[], $5::timestamptz[], $6::text[],
                                        $7::uuid[]) l
             on conflict do nothing",
        )
        .bind(&self.tenant)
        .bind(customers)
        .bind(leads)
        .bind(pks)
        .bind(times)
        .bind(interactions)
        .bind(links.iter().map(|link| link.correlation_id).collect::<Vec<_>>())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(super) async fn add_outcomes(&self, outcomes: &[Outcome]) -> Result<(), ImportError> {
        if outcomes.is_empty() {
            return Ok(());
        }
        let tables: Vec<&str> = outcomes.iter().map(|outcome| outcome.table.name()).collect();
        let pks: Vec<i64> = outcomes.iter().map(|outcome| outcome.pk).collect();
        let heaps: Vec<&str> = outcomes.iter().map(|outcome| outcome.heap.into()).collect();
        let reasons: Vec<Option<&str>> = outcomes.iter().map(|outcome| outcome.reason.as_deref()).collect();
        let details: Vec<Option<&str>> = outcomes.iter().map(|outcome| outcome.detail.as_deref()).collect();
        let repairs: Vec<&str> = outcomes.iter().map(|outcome| outcome.repairs.as_str()).collect();
        let events: Vec<i64> = outcomes.iter().map(|outcome| outcome.events).collect();
        sqlx::query(
            "insert into legacy_outcomes (tenant_id, source_table, pk, heap, reason, detail, repairs, events)
             select $1, o.* from unnest($2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[],
                                        $8::bigint[]) o",
        )
        .bind(&self.tenant)
        .bind(tables)
        .bind(pks)
        .bind(heaps)
        .bind(reasons)
        .bind(details)
        .bind(repairs)
        .bind(events)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    pub(super) async fn add_plan(&self, events: &[Planned]) -> Result<(), ImportError> {
        if events.is_empty() {
            return Ok(());
        }
        macro_rules! column {
            ($of:expr) => {
                events.iter().map($of).collect::<Vec<_>>()
            };
        }
        sqlx::query(
            "insert into legacy_plan (tenant_id, occurred_at, rank, number, sequence, stream_tenant, aggregate_type,
                                      local_id, event_type, event_version, payload, actor, source_table, pk,
                                      correlation_id, first)
             select $1, p.* from unnest($2::timestamptz[], $3::smallint[], $4::bigint[], $5::bigint[], $6::text[],
                 $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[],
                 $14::bigint[], $15::uuid[], $16::bool[]) p",
        )
        .bind(&self.tenant)
        .bind(column!(|event| event.occurred_at))
        .bind(column!(|event| event.rank))
        .bind(column!(|event| event.number))
        .bind(column!(|event| event.sequence))
        .bind(column!(|event| event.stream_tenant.to_string()))
        .bind(column!(|event| event.aggregate_type))
        .bind(column!(|event| event.local_id.as_str()))
        .bind(column!(|event| event.event_type.as_str()))
        .bind(column!(|event| event.event_version.as_str()))
        .bind(column!(|event| event.payload.as_str()))
        .bind(column!(|event| event.actor.as_str()))
        .bind(column!(|event| event.table.name()))
        .bind(column!(|event| event.pk))
        .bind(column!(|event| event.correlation_id))
        .bind(column!(|event| event.first))
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Says that everything is planned: from here on a run that is interrupted goes on instead of beginning anew.
    pub(super) async fn planned(&self, import_id: Uuid) -> Result<(), ImportError> {
        let mut transaction = self.begin_durable().await?;
        let planned: i64 = sqlx::query_scalar("select count(*) from legacy_plan where tenant_id = $1")
            .bind(&self.tenant)
            .fetch_one(&mut *transaction)
            .await?;
        sqlx::query("update legacy_imports set status = 'appending', planned_events = $2 where import_id = $1")
            .bind(import_id)
            .bind(planned)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Takes what the run found out into the rows, and empties what belongs to the run: all at once.
    pub(super) async fn settle(&self, import_id: Uuid, report: &Value, now: DateTime<Utc>) -> Result<(), ImportError> {
        let mut transaction = self.begin_durable().await?;
        sqlx::query(
            "insert into legacy_rows as r (tenant_id, source_table, pk, parent_table, parent_id, heap, reason, detail,
                                           repairs, row, imported, events, import_id)
             select s.tenant_id, s.source_table, s.pk, s.parent_table, s.parent_id, o.heap, o.reason, o.detail,
                    o.repairs, s.row, case when o.heap <> 'quarantined' then s.row end, o.events, $2
             from legacy_staged s
             join legacy_outcomes o on o.tenant_id = s.tenant_id and o.source_table = s.source_table and o.pk = s.pk
             where s.tenant_id = $1 and s.row is not null
             on conflict (tenant_id, source_table, pk) do update
             set parent_table = excluded.parent_table, parent_id = excluded.parent_id, heap = excluded.heap,
                 reason = excluded.reason, detail = excluded.detail, repairs = excluded.repairs, row = excluded.row,
                 imported = coalesce(excluded.imported, r.imported), events = r.events + excluded.events,
                 vanished = false, import_id = excluded.import_id",
        )
        .bind(&self.tenant)
        .bind(import_id)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "update legacy_rows r
             set vanished = o.pk is null, heap = coalesce(o.heap, r.heap), reason = coalesce(o.reason, r.reason),
                 detail = coalesce(o.detail, r.detail), import_id = $2
             from legacy_staged s
             left join legacy_outcomes o on o.tenant_id = $1 and o.source_table = s.source_table and o.pk = s.pk
             where s.tenant_id = $1 and s.row is null
               and r.tenant_id = $1 and r.source_table = s.source_table and r.pk = s.pk",
        )
        .bind(&self.tenant)
        .bind(import_id)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "update legacy_imports set status = 'done', ended_at = $2, report = $3, checkpoint = null,
                    appended_events = planned_events
             where import_id = $1",
        )
        .bind(import_id)
        .bind(now)
        .bind(report)
        .execute(&mut *transaction)
        .await?;
        self.throw_away(&mut transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Keeps a report that says more than before.
    pub(super) async fn keep_report(&self, import_id: Uuid, report: &Value) -> Result<(), ImportError> {
        sqlx::query("update legacy_imports set report = $2 where import_id = $1")
            .bind(import_id)
            .bind(report)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Ends a run that is not to change anything, or that failed.
    pub(super) async fn end(
        &self,
        import_id: Uuid,
        status: Status,
        report: Option<&Value>,
        now: DateTime<Utc>,
    ) -> Result<(), ImportError> {
        sqlx::query("update legacy_imports set status = $2, ended_at = $3, report = $4 where import_id = $1")
            .bind(import_id)
            .bind(<&str>::from(status))
            .bind(now)
            .bind(report)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The tenant whose import it is, as it is written.
    pub(super) fn tenant(&self) -> &str {
        &self.tenant
    }
}

/// The statement's part for the parent that a row `r` had when it was taken over, as ids are looked up.
fn imported_parent(column: &str) -> String {
    format!("left(btrim(r.imported::json ->> '{column}'), 200)")
}

/// The statement's part for the staged links `s` that moved away from a project `k`.
fn left_links() -> String {
    format!(
        "from legacy_staged s
         join legacy_rows r on r.tenant_id = $1 and r.source_table = s.source_table and r.pk = s.pk
         join legacy_keys k on k.tenant_id = $1 and k.source_table = 'projects' and k.referable
                           and k.legacy_id = {}
         where s.tenant_id = $1 and s.source_table in ('project_customers', 'project_assignments')
           and s.row is not null and not r.vanished and s.parent_id is distinct from k.legacy_id",
        imported_parent("project_id")
    )
}
