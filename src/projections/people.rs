//! Who somebody is and whether they and their business are let in: what every request asks before anything else.

use std::collections::BTreeMap;

use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, PgPool, Row};

use crate::aggregates::ids::{TenantId, UserId};
use crate::aggregates::permission::{Grants, Role};
use crate::aggregates::values::{Feature, Plan, Quota, TenantStatus, UserStatus};

/// Who somebody is, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// What they sign in with.
    pub email: String,
    /// Their name.
    pub full_name: String,
    /// What they are.
    pub role: Role,
    /// Where they work.
    pub department: Option<String>,
    /// What they were granted or denied beside the role.
    pub grants: Grants,
    /// Whether they may sign in.
    pub status: UserStatus,
    /// The version of the user's stream.
    pub version: i64,
}

/// A business, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Business {
    /// Its name.
    pub business_name: String,
    /// Whether its users are let in.
    pub status: TenantStatus,
    /// What it subscribes to.
    pub plan: Plan,
    /// Its seats, if not the plan's.
    pub seat_limit: Option<u32>,
    /// Parts of the product switched on or off, where that is not as the plan says.
    pub features: BTreeMap<Feature, bool>,
    /// Its other limits, where they are not the plan's.
    pub limits: BTreeMap<Quota, u32>,
}

impl<'r> FromRow<'r, PgRow> for Identity {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        let Json(grants) = row.try_get("permissions")?;
        Ok(Self {
            email: row.try_get("email")?,
            full_name: row.try_get("full_name")?,
            role: word(row, "role")?,
            department: row.try_get("department")?,
            grants,
            status: word(row, "user_status")?,
            version: row.try_get("version")?,
        })
    }
}

impl<'r> FromRow<'r, PgRow> for Business {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        let Json(features) = row.try_get("features")?;
        let Json(limits) = row.try_get("limits")?;
        let seat_limit: Option<i64> = row.try_get("seat_limit")?;
        let seat_limit = seat_limit.map(u32::try_from).transpose().map_err(|error| unreadable("seat_limit", error))?;
        Ok(Self {
            business_name: row.try_get("business_name")?,
            status: word(row, "tenant_status")?,
            plan: word(row, "subscription_plan")?,
            seat_limit,
            features,
            limits,
        })
    }
}

/// A user. `pool` is the platform's, whose role reads users before there is a tenant to set.
///
/// # Errors
/// The database's.
pub async fn identity(pool: &PgPool, tenant: TenantId, user: UserId) -> sqlx::Result<Option<Identity>> {
    sqlx::query_as(
        "select email, full_name, role, department, permissions, status as user_status, version
         from users where tenant_id = $1 and id = $2",
    )
    .bind(tenant.to_string())
    .bind(user.to_string())
    .fetch_optional(pool)
    .await
}

/// A business. `pool` is the platform's.
///
/// # Errors
/// The database's.
pub async fn business(pool: &PgPool, tenant: TenantId) -> sqlx::Result<Option<Business>> {
    sqlx::query_as(
        "select business_name, status as tenant_status, subscription_plan, seat_limit, features, limits
         from tenants where tenant_id = $1 and id = $1",
    )
    .bind(tenant.to_string())
    .fetch_optional(pool)
    .await
}

/// A user of one business and the business that they act in, their own or one that they have entered, in one
/// round trip. None if there is no such user or no such business. `pool` is the platform's.
///
/// # Errors
/// The database's.
pub async fn standing(
    pool: &PgPool,
    tenant_of_user: TenantId,
    user: UserId,
    tenant_entered: TenantId,
) -> sqlx::Result<Option<(Identity, Business)>> {
    let row = sqlx::query(
        "select u.email, u.full_name, u.role, u.department, u.permissions, u.status as user_status, u.version,
                t.business_name, t.status as tenant_status, t.subscription_plan, t.seat_limit, t.features, t.limits
         from users u cross join tenants t
         where u.tenant_id = $1 and u.id = $2 and t.tenant_id = $3 and t.id = $3",
    )
    .bind(tenant_of_user.to_string())
    .bind(user.to_string())
    .bind(tenant_entered.to_string())
    .fetch_optional(pool)
    .await?;
    row.map(|row| Ok((Identity::from_row(&row)?, Business::from_row(&row)?))).transpose()
}

/// A word out of a fixed list.
fn word<T>(row: &PgRow, column: &str) -> sqlx::Result<T>
where
    T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|error| unreadable(column, error))
}

fn unreadable(column: &str, error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(error) }
}
