//! The statement that stores a batch: the head row moves and everything else is inserted, or nothing happens.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use sqlx::{Postgres, QueryBuilder};

use super::{Batch, Columns, Placed};

impl Batch<'_> {
    /// Sends the statement. False: the head was elsewhere, and nothing is stored.
    pub(super) async fn execute(&self, connection: &mut PgConnection, cell: &str) -> sqlx::Result<bool> {
        let mut sql = QueryBuilder::new("with ");
        self.push_head(&mut sql, cell);
        self.push_events(&mut sql);
        self.push_heads(&mut sql);
        self.push_counters(&mut sql);
        self.columns.push(&mut sql, self.now);
        sql.push(" select count(*) from head");
        let advanced: i64 = sql.build_query_scalar().fetch_one(connection).await?;
        Ok(advanced == 1)
    }

    /// The head row moves, or nothing else happens.
    fn push_head<'q>(&self, sql: &mut QueryBuilder<'q, Postgres>, cell: &'q str) {
        sql.push("head as (update cell_head set position = ").push_bind(self.position);
        sql.push(", recorded_at = ").push_bind(self.now);
        sql.push(" where cell = ").push_bind(cell);
        sql.push(" and position = ").push_bind(self.known.position());
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
        if placed.is_empty() {
            return;
        }
        sql.push(
            ", new_events as (
             insert into events (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata,
                                 tenant_id, position, tenant_position, event_id, occurred_at, recorded_at, hash)
             select e.aggregate_type, e.aggregate_id, e.sequence, e.event_type, e.event_version, e.payload::jsonb,
                    e.metadata::jsonb, e.tenant_id, e.position, e.tenant_position, e.event_id, e.occurred_at,
                    e.recorded_at, e.hash
             from head, unnest(",
        );
        sql.separated(", ")
            .push_bind(each(placed, |placed| placed.aggregate_type))
            .push_bind(each(placed, |placed| &*placed.aggregate_id))
            .push_bind(each(placed, |placed| placed.sequence))
            .push_bind(each(placed, |placed| placed.event.event_type.as_str()))
            .push_bind(each(placed, |placed| placed.event.event_version.as_str()))
            .push_bind(each(placed, |placed| placed.event.payload.as_str()))
            .push_bind(each(placed, |placed| &*placed.event.metadata))
            .push_bind(each(placed, |placed| &*placed.tenant_id))
            .push_bind(each(placed, |placed| placed.position))
            .push_bind(each(placed, |placed| placed.tenant_position))
            .push_bind(each(placed, |placed| placed.event.event_id))
            .push_bind(each(placed, |placed| placed.event.occurred_at))
            .push_bind(each(placed, |placed| placed.recorded_at))
            .push_bind(each(placed, |placed| placed.hash));
        sql.push(
            ") as e (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, tenant_id,
                     position, tenant_position, event_id, occurred_at, recorded_at, hash))",
        );
    }

    fn push_heads(&self, sql: &mut QueryBuilder<'_, Postgres>) {
        if self.tenants.is_empty() {
            return;
        }
        let tenants: Vec<String> = self.tenants.keys().map(ToString::to_string).collect();
        let positions: Vec<i64> = self.tenants.values().map(|head| head.position).collect();
        let hashes: Vec<[u8; 32]> = self.tenants.values().map(|head| head.hash).collect();
        sql.push(
            ", new_heads as (insert into tenant_heads (tenant_id, position, hash)
             select t.tenant_id, t.position, t.hash from head, unnest(",
        );
        sql.separated(", ").push_bind(tenants).push_bind(positions).push_bind(hashes);
        sql.push(
            ") as t (tenant_id, position, hash)
             on conflict (tenant_id) do update set position = excluded.position, hash = excluded.hash)",
        );
    }

    fn push_counters(&self, sql: &mut QueryBuilder<'_, Postgres>) {
        if self.counters.is_empty() {
            return;
        }
        let tenants: Vec<String> = self.counters.keys().map(|(tenant, _)| tenant.to_string()).collect();
        let kinds: Vec<&str> = self.counters.keys().map(|(_, kind)| *kind).collect();
        let next: Vec<i64> = self.counters.values().copied().collect();
        sql.push(
            ", new_counters as (insert into counters (tenant_id, kind, next)
             select c.tenant_id, c.kind, c.next from head, unnest(",
        );
        sql.separated(", ").push_bind(tenants).push_bind(kinds).push_bind(next);
        sql.push(
            ") as c (tenant_id, kind, next)
             on conflict (tenant_id, kind) do update set next = excluded.next)",
        );
    }
}

impl Columns<'_> {
    /// The parts of the statement for what there is: a part costs the server something even if it inserts nothing.
    fn push<'q>(&'q self, sql: &mut QueryBuilder<'q, Postgres>, now: DateTime<Utc>) {
        if !self.claim_key.is_empty() {
            sql.push(
                ", new_claims as (insert into claims (tenant_id, kind, key, holder)
                 select c.tenant_id, c.kind, c.key, c.holder from head, unnest(",
            );
            sql.separated(", ")
                .push_bind(&self.claim_tenant)
                .push_bind(&self.claim_kind)
                .push_bind(&self.claim_key)
                .push_bind(&self.claim_holder);
            sql.push(") as c (tenant_id, kind, key, holder))");
        }
        if !self.login_key.is_empty() {
            sql.push(
                ", new_logins as (insert into platform.logins (email_key, tenant_id, user_id)
                 select l.email_key, l.tenant_id, l.user_id from head, unnest(",
            );
            sql.separated(", ").push_bind(&self.login_key).push_bind(&self.login_tenant).push_bind(&self.login_user);
            sql.push(") as l (email_key, tenant_id, user_id))");
        }
        if !self.key.is_empty() {
            sql.push(
                ", new_keys as (insert into idempotency_keys
                     (created_at, tenant_id, actor, key, request_hash, position, correlation_id)
                 select ",
            );
            sql.push_bind(now);
            sql.push(", k.tenant_id, k.actor, k.key, k.request_hash, k.position, k.correlation_id from head, unnest(");
            sql.separated(", ")
                .push_bind(&self.key_tenant)
                .push_bind(&self.key_actor)
                .push_bind(&self.key)
                .push_bind(&self.key_hash)
                .push_bind(&self.key_position)
                .push_bind(&self.key_correlation);
            sql.push(") as k (tenant_id, actor, key, request_hash, position, correlation_id))");
        }
    }
}

/// A column.
fn each<'p, 'a, T>(placed: &'p [Placed<'a>], of: impl Fn(&'p Placed<'a>) -> T) -> Vec<T> {
    placed.iter().map(of).collect()
}
