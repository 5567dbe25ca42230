//! Single records by their ids: read in one statement for all who want one of the same business and kind at the time.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::ptr;
use std::sync::Arc;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{PgPool, Row as _};

use super::list::ListSpec;
use super::standing::{by_key, open};
use crate::aggregates::ids::TenantId;
use crate::event_store::TenantScope;
use crate::gather::Question;

/// Whose records, and of which kind: those of a list, the ones that were taken away included.
#[derive(Debug, Clone, Copy)]
pub struct Lookup {
    tenant: TenantId,
    list: &'static ListSpec,
}

impl Lookup {
    /// The records of a list, which has to name their columns.
    #[must_use]
    pub fn new(scope: TenantScope, list: &'static ListSpec) -> Self {
        Self { tenant: scope.tenant(), list }
    }
}

/// The same list is the same place in the program: every request compares it, and its texts are many.
impl PartialEq for Lookup {
    fn eq(&self, other: &Self) -> bool {
        self.tenant == other.tenant && ptr::eq(self.list, other.list)
    }
}

impl Eq for Lookup {}

impl Hash for Lookup {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.tenant.hash(state);
        ptr::hash(self.list, state);
    }
}

/// Reads records: the columns of their list in its order, and then `record_owner`, `record_members`, `record_deleted` and
/// `owner_department`.
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
        let Lookup { tenant, list } = lookup;
        let columns = list.columns.concat().join(", ");
        let table = list.table;
        let owner = list.owner.unwrap_or("null::text");
        let members = list.members.unwrap_or("'{}'::text[]");
        let deleted = if list.hides_deleted { "deleted_at is not null" } else { "false" };
        // The tenant is named to row-level security in the statement itself, and `offset 0` keeps the planner from
        // looking anything up before that.
        let statement = format!(
            "with scope as materialized (select set_config('devhub.tenant_id', $1, true) as tenant_id)
             select t.*, u.department as owner_department
             from scope cross join unnest($2::text[]) asked (id) cross join lateral (
                 select {columns}, {owner} as record_owner, {members} as record_members, {deleted} as record_deleted
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
