//! The statement that stores a batch: the head row moves and everything else is inserted, or nothing happens.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use sqlx::{Encode, Postgres, QueryBuilder, Type};

use super::{Batch, Columns};

impl Batch<'_> {
    /// Sends the statement. False: the head was elsewhere, and nothing is stored.
    pub(super) async fn execute(&self, connection: &mut PgConnection, cell: &str) -> sqlx::Result<bool> {
        let mut sql = QueryBuilder::new("with ");
        self.push_head(&mut sql, cell);
        self.push_events(&mut sql);
        self.push_counters(&mut sql);
        self.columns.push(&mut sql, self.now);
        sql.push(" select count(*) from head");
        let advanced: i64 = sql.build_query_scalar().fetch_one(connection).await?;
        Ok(advanced == 1)
    }

    /// The head row moves, or nothing else happens. It moves for a batch without an event as well: what others remember
    /// of the counters holds no longer.
    fn push_head<'q>(&self, sql: &mut QueryBuilder<'q, Postgres>, cell: &'q str) {
        sql.push("head as (update cell_head set position = ").push_bind(self.position);
        sql.push(", moves = moves + 1, recorded_at = ").push_bind(self.now);
        sql.push(" where cell = ").push_bind(cell);
        sql.push(" and position = ").push_bind(self.known.position());
        sql.push(" and moves = ").push_bind(self.known.moves());
        if !self.unverified.is_empty() {
            let types: Vec<&str> = self.unverified.iter().map(|(stream, _)| stream.aggregate_type).collect();
            let ids: Vec<String> = self.unverified.iter().map(|(stream, _)| stream.aggregate_id()).collect();
            let sequences: Vec<i64> = self.unverified.iter().map(|(_, sequence)| *sequence).collect();
            sql.push(" and not exists (select from unnest(");
            sql.separated(", ").push_bind(types).push_bind(ids).push_bind(sequences);
            sql.push(
                ") as b (aggregate_type, aggregate_id, sequence)
                 where not exists (select from events e where e.aggregate_type = b.aggregate_type
                                   and e.aggregate_id = b.aggregate_id and e.sequence = b.sequence))",
            );
        }
        sql.push(" returning cell)");
    }

    fn push_events<'q>(&'q self, sql: &mut QueryBuilder<'q, Postgres>) {
        let placed = &self.placed;
        let insert = "insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
                          metadata, tenant_id, position, tenant_position, event_id, occurred_at, recorded_at, hash)
                      select r.aggregate_type, r.aggregate_id, r.sequence, r.event_type, r.event_version,
                          r.payload::jsonb, r.metadata::jsonb, r.tenant_id, r.position, r.tenant_position, r.event_id,
                          r.occurred_at, r.recorded_at, r.hash";
        part(sql, "new_events", insert, placed.len(), "", |rows| {
            rows.column("aggregate_type", placed.iter().map(|placed| placed.aggregate_type))
                .column("aggregate_id", placed.iter().map(|placed| &*placed.aggregate_id))
                .column("sequence", placed.iter().map(|placed| placed.sequence))
                .column("event_type", placed.iter().map(|placed| placed.event.event_type.as_str()))
                .column("event_version", placed.iter().map(|placed| placed.event.event_version.as_str()))
                .column("payload", placed.iter().map(|placed| placed.event.payload.as_str()))
                .column("metadata", placed.iter().map(|placed| &*placed.event.metadata))
                .column("tenant_id", placed.iter().map(|placed| &*placed.tenant_id))
                .column("position", placed.iter().map(|placed| placed.position))
                .column("tenant_position", placed.iter().map(|placed| placed.tenant_position))
                .column("event_id", placed.iter().map(|placed| placed.event.event_id))
                .column("occurred_at", placed.iter().map(|placed| placed.event.occurred_at))
                .column("recorded_at", placed.iter().map(|placed| placed.recorded_at))
                .column("hash", placed.iter().map(|placed| placed.hash));
        });
    }

    fn push_counters(&self, sql: &mut QueryBuilder<'_, Postgres>) {
        let insert = "insert into counters (tenant_id, kind, next) select r.tenant_id, r.kind, r.next";
        let or_else = " on conflict (tenant_id, kind) do update set next = greatest(counters.next, excluded.next)";
        part(sql, "new_counters", insert, self.counters.len(), or_else, |rows| {
            rows.column("tenant_id", self.counters.keys().map(|(tenant, _)| tenant.to_string()))
                .column("kind", self.counters.keys().map(|(_, kind)| *kind))
                .column("next", self.counters.values().copied());
        });
    }
}

impl Columns<'_> {
    fn push<'q>(&'q self, sql: &mut QueryBuilder<'q, Postgres>, now: DateTime<Utc>) {
        let texts = |texts: &'q [String]| texts.iter().map(String::as_str);
        let insert = "insert into claims (tenant_id, kind, key, holder) select r.tenant_id, r.kind, r.key, r.holder";
        part(sql, "new_claims", insert, self.claim_key.len(), "", |rows| {
            rows.column("tenant_id", texts(&self.claim_tenant))
                .column("kind", self.claim_kind.iter().copied())
                .column("key", self.claim_key.iter().copied())
                .column("holder", texts(&self.claim_holder));
        });
        let insert = "insert into platform.logins (email_key, tenant_id, user_id)
                      select r.email_key, r.tenant_id, r.user_id";
        part(sql, "new_logins", insert, self.login_key.len(), "", |rows| {
            rows.column("email_key", self.login_key.iter().copied())
                .column("tenant_id", texts(&self.login_tenant))
                .column("user_id", texts(&self.login_user));
        });
        let insert =
            "insert into idempotency_keys (tenant_id, actor, key, request_hash, position, correlation_id, created_at)
                      select r.tenant_id, r.actor, r.key, r.request_hash, r.position, r.correlation_id, r.created_at";
        part(sql, "new_keys", insert, self.key.len(), "", |rows| {
            rows.column("tenant_id", texts(&self.key_tenant))
                .column("actor", self.key_actor.iter().copied())
                .column("key", self.key.iter().copied())
                .column("request_hash", self.key_hash.iter().copied())
                .column("position", self.key_position.iter().copied())
                .column("correlation_id", texts(&self.key_correlation))
                .column("created_at", self.key.iter().map(|_| now));
        });
    }
}

/// The rows of a part, a column at a time: arrays, or the values themselves of a single row, which cost the server less
/// than to take arrays apart.
struct Rows<'s, 'q> {
    sql: &'s mut QueryBuilder<'q, Postgres>,
    names: Vec<&'static str>,
    single: bool,
}

impl<'q> Rows<'_, 'q> {
    fn column<T>(&mut self, name: &'static str, mut values: impl Iterator<Item = T>) -> &mut Self
    where
        T: Encode<'q, Postgres> + Type<Postgres> + 'q,
        Vec<T>: Encode<'q, Postgres> + Type<Postgres>,
    {
        if !self.names.is_empty() {
            self.sql.push(", ");
        }
        self.names.push(name);
        if self.single {
            self.sql.push_bind(values.next());
        } else {
            self.sql.push_bind(values.collect::<Vec<T>>());
        }
        self
    }
}

/// Adds a part that inserts `count` rows `r` if the head row has moved. None for none: a part costs the server something
/// even if it inserts nothing.
fn part<'q>(
    sql: &mut QueryBuilder<'q, Postgres>,
    name: &str,
    insert: &str,
    count: usize,
    or_else: &str,
    columns: impl FnOnce(&mut Rows<'_, 'q>),
) {
    if count == 0 {
        return;
    }
    let single = count == 1;
    let (opening, closing) = if single { ("(values (", "))") } else { ("unnest(", ")") };
    sql.push(format_args!(", {name} as ({insert} from head, {opening}"));
    let mut rows = Rows { sql, names: Vec::new(), single };
    columns(&mut rows);
    let names = rows.names.join(", ");
    sql.push(format_args!("{closing} as r ({names}){or_else})"));
}
