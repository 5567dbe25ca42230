//! Who somebody is and whether their business is active: what every request asks before anything else.

use std::collections::BTreeMap;
use std::str::FromStr;

use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgPool, Row};

use crate::aggregates::ids::{TenantId, UserId};
use crate::aggregates::permission::{Grants, Role};
use crate::aggregates::values::{Feature, Plan, Quota, TenantStatus, UserStatus};

/// A person, as far as access is concerned.
#[derive(Debug, Clone, PartialEq)]
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
    /// How many times they changed.
    pub version: i64,
}

/// A business, as far as access is concerned.
#[derive(Debug, Clone, PartialEq)]
pub struct Business {
    /// Its name.
    pub business_name: String,
    /// Whether its users get in.
    pub status: TenantStatus,
    /// What it subscribed to.
    pub plan: Plan,
    /// How many seats it has, if other than the plan's.
    pub seat_limit: Option<u32>,
    /// What is switched on or off for it, where that is other than the plan's.
    pub features: BTreeMap<String, bool>,
    /// Its quotas, where they are other than the plan's.
    pub limits: BTreeMap<String, u32>,
}

impl Business {
    /// How many seats it has; none: as many as it likes.
    #[must_use]
    pub fn seats(&self) -> Option<u32> {
        self.seat_limit.or(self.plan.allowance().seats)
    }

    /// How much it may have of something; none: as much as it likes.
    #[must_use]
    pub fn quota(&self, quota: Quota) -> Option<u32> {
        let switched = self.features.get(quota.feature().as_str()).copied();
        self.plan.quota_with(quota, self.limits.get(quota.as_str()).copied(), switched)
    }

    /// Whether it has a feature.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.features.get(feature.as_str()).copied().unwrap_or_else(|| self.plan.includes(feature))
    }
}

/// What is read of `users u`.
pub(crate) const IDENTITY: &str =
    "u.email, u.full_name, u.role, u.department, u.permissions, u.status as user_status, u.version";
/// What is read of `tenants t`.
pub(crate) const BUSINESS: &str =
    "t.business_name, t.status as tenant_status, t.subscription_plan, t.seat_limit, t.features, t.limits";

/// A person and the business that they enter, their own or another in a support session.
///
/// # Errors
/// The database's, or a row that this version of the program does not understand.
pub async fn standing(
    pool: &PgPool,
    home: TenantId,
    user: UserId,
    entered: TenantId,
) -> sqlx::Result<Option<(Identity, Business)>> {
    let statement = format!(
        "select {IDENTITY}, {BUSINESS} from users u, tenants t
         where u.tenant_id = $1 and u.id = $2 and t.tenant_id = $3 and t.id = $3"
    );
    let row = sqlx::query(&statement)
        .bind(home.to_string())
        .bind(user.to_string())
        .bind(entered.to_string())
        .fetch_optional(pool)
        .await?;
    row.map(|row| Ok((identity_of(&row)?, business_of(&row)?))).transpose()
}

/// A person.
///
/// # Errors
/// As [`standing`].
pub async fn identity(pool: &PgPool, tenant: TenantId, user: UserId) -> sqlx::Result<Option<Identity>> {
    let statement = format!("select {IDENTITY} from users u where u.tenant_id = $1 and u.id = $2");
    let row = sqlx::query(&statement).bind(tenant.to_string()).bind(user.to_string()).fetch_optional(pool).await?;
    row.as_ref().map(identity_of).transpose()
}

/// A business.
///
/// # Errors
/// As [`standing`].
pub async fn business(pool: &PgPool, tenant: TenantId) -> sqlx::Result<Option<Business>> {
    let statement = format!("select {BUSINESS} from tenants t where t.tenant_id = $1 and t.id = $1");
    let row = sqlx::query(&statement).bind(tenant.to_string()).fetch_optional(pool).await?;
    row.as_ref().map(business_of).transpose()
}

/// Reads [`IDENTITY`].
pub(crate) fn identity_of(row: &PgRow) -> sqlx::Result<Identity> {
    let Json(grants) = row.try_get("permissions")?;
    Ok(Identity {
        email: row.try_get("email")?,
        full_name: row.try_get("full_name")?,
        role: word(row, "role")?,
        department: row.try_get("department")?,
        grants,
        status: word(row, "user_status")?,
        version: row.try_get("version")?,
    })
}

/// Reads [`BUSINESS`].
pub(crate) fn business_of(row: &PgRow) -> sqlx::Result<Business> {
    let seats: Option<i32> = row.try_get("seat_limit")?;
    let (Json(features), Json(limits)) = (row.try_get("features")?, row.try_get("limits")?);
    Ok(Business {
        business_name: row.try_get("business_name")?,
        status: word(row, "tenant_status")?,
        plan: word(row, "subscription_plan")?,
        seat_limit: seats.and_then(|seats| u32::try_from(seats).ok()),
        features,
        limits,
    })
}

fn word<T: FromStr>(row: &PgRow, column: &str) -> sqlx::Result<T> {
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|_| sqlx::Error::Decode(format!("{text:?} is no {column}").into()))
}
