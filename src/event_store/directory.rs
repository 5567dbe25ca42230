//! Which tenants there are and where each lives: the part that every node of the platform shares.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use crate::aggregates::ids::TenantId;

/// Takes the next number of a tenant; it is never given again.
///
/// # Errors
/// The database's.
pub async fn next_tenant(platform: impl PgExecutor<'_>) -> sqlx::Result<TenantId> {
    let number: i64 = sqlx::query_scalar(
        "insert into platform.counters as c (kind, next) values ('TNT', 1)
         on conflict (kind) do update set next = c.next + 1
         returning next - 1",
    )
    .fetch_one(platform)
    .await?;
    u32::try_from(number).map(TenantId::Business).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Enters a tenant, in a cell of its region if there is one; a tenant that is there already stays where it is.
///
/// # Errors
/// The database's.
pub async fn enter(
    platform: impl PgExecutor<'_>,
    tenant: TenantId,
    region: &str,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query(
        "insert into platform.tenants (tenant_id, cell_id, region, created_at)
         select $1, cell_id, $2, $3 from platform.cells order by (region = $2) desc, cell_id limit 1
         on conflict (tenant_id) do nothing",
    )
    .bind(tenant.to_string())
    .bind(region)
    .bind(now)
    .execute(platform)
    .await
    .map(drop)
}

/// Takes back the entry of a tenant that did not come to be.
///
/// # Errors
/// The database's.
pub async fn leave(platform: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<()> {
    sqlx::query("delete from platform.tenants where tenant_id = $1")
        .bind(tenant.to_string())
        .execute(platform)
        .await
        .map(drop)
}

/// Whether a cell's log knows the tenant.
///
/// # Errors
/// The database's.
pub async fn is_known(cell: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from events where tenant_id = $1)")
        .bind(tenant.to_string())
        .fetch_one(cell)
        .await
}

/// Whether there is any business beside the platform's own and the one for old data.
///
/// # Errors
/// The database's.
pub async fn has_businesses(platform: impl PgExecutor<'_>) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from platform.tenants where tenant_id not in ($1, $2))")
        .bind(TenantId::Platform.to_string())
        .bind(TenantId::Legacy.to_string())
        .fetch_one(platform)
        .await
}

/// Sees to it that the number of a tenant that was named is never given to another.
///
/// # Errors
/// The database's.
pub async fn reserve(platform: impl PgExecutor<'_>, tenant: TenantId) -> sqlx::Result<()> {
    let TenantId::Business(number) = tenant else { return Ok(()) };
    sqlx::query(
        "insert into platform.counters as c (kind, next) values ('TNT', $1)
         on conflict (kind) do update set next = greatest(c.next, excluded.next)",
    )
    .bind(i64::from(number) + 1)
    .execute(platform)
    .await
    .map(drop)
}
