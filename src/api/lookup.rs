//! Single records by their ids: read in one statement for all who want one of the same business and kind at the time.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{PgPool, Row as _};

use super::list::ListSpec;
use super::standing::{by_key, open};
use crate::aggregates::ids::TenantId;
use crate::event_store::TenantScope;
use crate::gather::Question;

/// Whose records, and of which kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Lookup {
    tenant: TenantId,
    table: &'static str,
    owner: &'static str,
    members: &'static str,
    deleted: &'static str,
}

impl Lookup {
    /// The records of a list, those that were taken away included.
    #[must_use]
    pub fn new(scope: TenantScope, list: &ListSpec) -> Self {
        Self {
            tenant: scope.tenant(),
            table: list.table,
            owner: list.owner.unwrap_or("null::text"),
            members: list.members.unwrap_or("'{}'::text[]"),
            deleted: if list.hides_deleted { "deleted_at is not null" } else { "false" },
        }
    }
}

/// Reads records: their columns, and `record_owner`, `record_members`, `record_deleted`, `owner_department`.
pub struct Records {
    options: PgConnectOptions,
}

impl Records {
    /// Over connections like those of this pool, which see the rows of one tenant.
    #[must_use]
    pub fn new(pool: &PgPool) -> Self {
        Self { options: by_key(pool) }
    }
}

impl Question for Records {
    type Group = Lookup;
    type Key = String;
    type Answer = Option<Arc<PgRow>>;
    type Desk = PgConnection;

    async fn open(&self) -> sqlx::Result<PgConnection> {
        open(&self.options).await
    }

    async fn ask(
        &self,
        desk: &mut PgConnection,
        lookup: &Lookup,
        ids: &[String],
    ) -> sqlx::Result<Vec<Option<Arc<PgRow>>>> {
        let Lookup { tenant, table, owner, members, deleted } = lookup;
        // The tenant is named to row-level security in the statement itself, and `offset 0` keeps the planner from
        // looking anything up before that.
        let statement = format!(
            "with scope as materialized (select set_config('devhub.tenant_id', $1, true) as tenant_id)
             select t.*, u.department as owner_department
             from scope cross join unnest($2::text[]) asked (id) cross join lateral (
                 select *, {owner} as record_owner, {members} as record_members, {deleted} as record_deleted
                 from {table} where tenant_id = scope.tenant_id and id = asked.id offset 0
             ) t
             left join lateral (
                 select department from users where tenant_id = scope.tenant_id and id = t.record_owner offset 0
             ) u on true"
        );
        let rows = sqlx::query(&statement).bind(tenant.to_string()).bind(ids).fetch_all(desk).await?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in rows {
            let id: String = row.try_get("id")?;
            found.insert(id, Arc::new(row));
        }
        Ok(ids.iter().map(|id| found.remove(id)).collect())
    }
}
