//! One's own business over HTTP: what is known of it, what its plan allows, and who of the platform came in.

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::headers::IfMatch;
use super::list::{Field, Kind, ListSpec};
use super::page::Page;
use super::past::{self, AsOfQuery, Reader, When};
use super::record::{Merge, Noun, Record, answer, row, unchanged_since};
use super::support::{self, SupportSessionView};
use super::write::Attempts;
use super::{App, Problem};
use crate::access::api_keys;
use crate::aggregates::ids::TenantId;
use crate::aggregates::permission::{Action, Module, Permission};
use crate::aggregates::tenant::{Tenant, TenantCommand, TenantPatch};
use crate::aggregates::values::{Address, Feature, Plan, Quota, TenantStatus};
use crate::event_store::{StreamId, TenantScope};
use crate::projections::row::Stored;
use crate::projections::tenants::TenantRow;

const MANAGE: Permission = Permission { module: Module::Tenant, action: Action::Manage };

/// A business that uses DevHub.
#[derive(Debug, Serialize, ToSchema)]
pub struct TenantView {
    /// The business's id.
    #[schema(value_type = TenantId)]
    id: String,
    /// How many times it has changed; also the `ETag`.
    version: i64,
    /// Its name.
    business_name: String,
    /// Its e-mail address.
    business_email: String,
    /// Its telephone.
    business_phone: Option<String>,
    /// Its postal address.
    #[schema(value_type = Option<Address>)]
    address: Option<Value>,
    /// Its country.
    country: Option<String>,
    /// Where its data lives.
    region: String,
    /// What it subscribes to.
    #[schema(value_type = Plan)]
    subscription_plan: String,
    /// Seats, where they are set apart from the plan.
    seat_limit: Option<i32>,
    /// Other limits that are set apart from the plan.
    #[schema(value_type = BTreeMap<String, u32>)]
    limits: Value,
    /// Parts of the product that are switched on or off apart from the plan.
    #[schema(value_type = BTreeMap<String, bool>)]
    features: Value,
    /// Whether its users may sign in.
    #[schema(value_type = TenantStatus)]
    status: String,
    /// Why they may not.
    suspended_reason: Option<String>,
    /// When it came.
    created_at: DateTime<Utc>,
    /// When it last changed.
    updated_at: DateTime<Utc>,
}

impl From<Stored<TenantRow>> for TenantView {
    fn from(stored: Stored<TenantRow>) -> Self {
        let row = stored.row;
        Self {
            id: stored.id,
            version: stored.version,
            business_name: row.business_name,
            business_email: row.business_email,
            business_phone: row.business_phone,
            address: row.address,
            country: row.country,
            region: row.region,
            subscription_plan: row.subscription_plan,
            seat_limit: row.seat_limit,
            limits: row.limits,
            features: row.features,
            status: row.status,
            suspended_reason: row.suspended_reason,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
        }
    }
}

/// Businesses, as the API shows them. The list is the founder's, over all of them.
pub struct Tenants;

impl Noun for Tenants {
    type Row = TenantRow;
    type View = TenantView;
    const MODULE: Module = Module::Tenant;
    const LIST: ListSpec = ListSpec {
        of_tenants: false,
        search: &["business_name", "business_email", "id"],
        default_sort: "-created_at",
        hides_deleted: false,
        ..ListSpec::new("tenants", FIELDS)
    };

    fn stream(tenant: TenantId, _: &Stored<Self::Row>) -> StreamId {
        StreamId::of_tenant(tenant)
    }
}

const FIELDS: &[Field] = &[
    Field::new("id", Kind::Text).not_null().filter_only(),
    Field::new("business_name", Kind::Text).not_null(),
    Field::new("region", Kind::Text).not_null().filter_only(),
    Field::new("country", Kind::Text).filter_only(),
    Field::new("subscription_plan", Kind::Enum(Plan::WORDS)).not_null(),
    Field::new("status", Kind::Enum(TenantStatus::WORDS)).not_null(),
    Field::new("created_at", Kind::Timestamp).not_null(),
    Field::new("updated_at", Kind::Timestamp).not_null(),
];

/// How much of something a business may have, and has.
#[derive(Debug, Serialize, ToSchema)]
pub struct Limit {
    /// How many; null is without limit.
    #[schema(required)]
    limit: Option<u32>,
    /// How many there are.
    used: i64,
}

/// What a business's plan allows, with what the founder has set apart from it, and how much of it is used.
#[derive(Debug, Serialize, ToSchema)]
pub struct PlanView {
    /// The plan.
    name: Plan,
    /// Users who are invited, active or locked.
    seats: Limit,
    /// Keys for programs.
    api_keys: Limit,
    /// Days of history that are shown; null is all.
    #[schema(required)]
    audit_days: Option<u32>,
    /// Parts of the product that are included.
    features: Vec<Feature>,
}

/// What the plan of a tenant allows and how much of it is used.
///
/// # Errors
/// If the database fails.
pub async fn plan(app: &App, scope: TenantScope) -> Result<PlanView, Problem> {
    let tenant = app.store.streams().load::<Tenant>(&StreamId::of_tenant(scope.tenant())).await?.state;
    let keys = api_keys::list(&app.access.pool, scope.tenant(), app.clock.now()).await?;
    Ok(PlanView {
        name: tenant.plan,
        seats: Limit { limit: tenant.seat_limit(), used: seats_used(app, scope).await? },
        api_keys: Limit { limit: tenant.quota(Quota::ApiKeys), used: i64::try_from(keys.len()).unwrap_or(i64::MAX) },
        audit_days: tenant.plan.allowance().audit_days,
        features: Feature::VARIANTS.iter().copied().filter(|feature| tenant.has(*feature)).collect(),
    })
}

/// Users who are invited, active or locked.
///
/// # Errors
/// If the database fails.
pub async fn seats_used(app: &App, scope: TenantScope) -> Result<i64, Problem> {
    Ok(sqlx::query_scalar(
        "with scope as materialized (select set_config('devhub.tenant_id', $1, true) as tenant_id)
         select (select count(*) from users u where u.tenant_id = scope.tenant_id and u.status <> 'deactivated')
         from scope",
    )
    .bind(scope.tenant().to_string())
    .fetch_one(&app.database.cell_of(scope.tenant()).request)
    .await?)
}

/// One's own business.
#[derive(Debug, Serialize, ToSchema)]
pub struct OwnTenant {
    #[serde(flatten)]
    tenant: TenantView,
    /// What its plan allows and how much of it is used, now; not with `as_of`.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<PlanView>,
}

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(read, change)).routes(routes!(list_support_sessions))
}

/// Read one's own business, with its plan and how much of it is used.
#[utoipa::path(get, path = "/api/tenant", params(AsOfQuery), responses((status = 200, body = OwnTenant)))]
async fn read(caller: Caller, State(app): State<App>, When(as_of): When) -> Result<Record<OwnTenant>, Problem> {
    caller.require(Tenants::READ)?;
    if let Some(as_of) = as_of {
        let id = caller.tenant().to_string();
        let then = past::find_then::<Tenants>(&app, Reader::Caller(&caller), &id, as_of).await?;
        let version = then.version;
        return Ok(Record::read(OwnTenant { tenant: then.into(), plan: None }, version));
    }
    let stored = row::<Tenants>(&app, &caller, &caller.tenant().to_string()).await?;
    let version = stored.version;
    Ok(Record::read(OwnTenant { tenant: stored.into(), plan: Some(plan(&app, caller.scope()).await?) }, version))
}

/// Change what is known of one's own business (JSON Merge Patch).
#[utoipa::path(patch, path = "/api/tenant", params(IfMatch), request_body = TenantPatch, responses((status = 200, body = TenantView)))]
async fn change(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    body: Merge<TenantPatch>,
) -> Result<Record<TenantView>, Problem> {
    caller.require(MANAGE)?;
    let id = caller.tenant().to_string();
    let mut attempts = Attempts::default();
    loop {
        let stored = row::<Tenants>(&app, &caller, &id).await?;
        let mut work = app.begin(&caller);
        unchanged_since::<Tenants>(&app, &caller, &mut work, &stored, if_match, &body.fields).await?;
        let command = TenantCommand::ChangeDetails(body.patch.clone());
        work.execute::<Tenant>(StreamId::of_tenant(caller.tenant()), command).await?;
        if let Some(receipt) = app.commit(&caller, work, &mut attempts).await? {
            return answer::<Tenants>(&app, &caller, &id, &receipt).await;
        }
    }
}

/// List the visits of the platform's founder: when, why, and for what.
#[utoipa::path(get, path = "/api/tenant/support-sessions",
    responses((status = 200, body = Page<SupportSessionView>)))]
async fn list_support_sessions(caller: Caller, State(app): State<App>) -> Result<Page<SupportSessionView>, Problem> {
    caller.require(Tenants::READ)?;
    support::sessions_of(&app, caller.scope()).await.map(Page::whole)
}
