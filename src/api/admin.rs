//! What the platform's founder sees and does: every business, as a whole and from outside.

mod projections;
mod records;
mod stats;
mod unpark;

use std::collections::BTreeMap;

use axum::extract::{FromRequestParts, Path, State};
use axum::http::Uri;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{DEFAULT_REGION, FIRST_OWNER};
use super::caller::Founder;
use super::headers::IfMatch;
use super::list::{ListQuery, ListSpec};
use super::page::Page;
use super::passwords::{OneTimeToken, issue};
use super::past::{self, AsOf, AsOfQuery, Reader, When};
use super::record::{Merge, Record, list_spec, row_in, set, unchanged_since};
use super::tenant::{PlanView, TenantView, Tenants, plan};
use super::users::{UserView, Users};
use super::write::{Attempts, Receipt};
use super::{App, Json, Problem};
use crate::access::one_time_tokens::Purpose;
use crate::aggregates::ids::TenantId;
use crate::aggregates::permission::{Grants, Role};
use crate::aggregates::tenant::{Tenant, TenantCommand, TenantDetails, TenantPatch};
use crate::aggregates::user::{User, UserCommand, UserDetails};
use crate::aggregates::values::{Address, Email, Feature, Patch, Phone, Plan, Quota, Text};
use crate::event_store::{StreamId, directory};
use crate::projections::row::Stored;
use crate::projections::tenants::TenantRow;
pub(super) use records::everything;
use stats::{Counts, counts_of};

/// The lists, by their addresses.
pub fn lists() -> Vec<(&'static str, &'static ListSpec)> {
    [("/api/admin/tenants", list_spec::<Tenants>())].into_iter().chain(records::lists()).collect()
}

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_tenants, create))
        .routes(routes!(read, change))
        .routes(routes!(suspend))
        .routes(routes!(reactivate))
        .merge(projections::router())
        .merge(records::router())
        .merge(stats::router())
        .merge(unpark::router())
}

/// The tenant in a path; one that cannot be an id is no different from one that is nobody's.
#[derive(Debug, Clone, Copy)]
pub struct TenantPath(pub TenantId);

impl FromRequestParts<App> for TenantPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Path(params): Path<Vec<(String, String)>> =
            Path::from_request_parts(parts, app).await.map_err(|_| Problem::not_found())?;
        let tenant = params.iter().find(|(name, _)| name == "tenant_id");
        tenant.and_then(|(_, id)| id.parse().ok()).map(Self).ok_or_else(Problem::not_found)
    }
}

/// A business, and how much it has of everything.
#[derive(Debug, Serialize, ToSchema)]
struct TenantSummary {
    #[serde(flatten)]
    tenant: TenantView,
    /// How much it has of everything.
    counts: Counts,
}

/// A business, how much it has of everything, and its plan.
#[derive(Debug, Serialize, ToSchema)]
struct TenantReport {
    #[serde(flatten)]
    tenant: TenantView,
    /// How much it has of everything.
    counts: Counts,
    /// What its plan allows and how much of it is used, now; not with `as_of`.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<PlanView>,
}

/// List all businesses.
#[utoipa::path(get, path = "/api/admin/tenants", responses((status = 200, body = Page<TenantSummary>)))]
async fn list_tenants(founder: Founder, State(app): State<App>, uri: Uri) -> Result<Page<TenantSummary>, Problem> {
    let query = ListQuery::parse(list_spec::<Tenants>(), &uri)?;
    let pool = &app.database.cell_of(TenantId::Platform).founder;
    let page: Page<Stored<TenantRow>> = {
        let mut connection = pool.acquire().await?;
        query.page(&mut connection, &everything(&app, &founder, TenantId::Platform)).await?
    };
    let mut counts = counts_of(pool, query.as_of(), page.data.iter().map(|tenant| tenant.id.clone()).collect()).await?;
    Ok(page.map(|stored| {
        let counts = counts.remove(&stored.id).unwrap_or_default();
        TenantSummary { tenant: stored.into(), counts }
    }))
}

/// A business to be made, with the owner to be invited.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"business_name": "Northwind Traders", "business_email": "office@northwind.example",
    "subscription_plan": "enterprise", "owner": {"email": "ada@northwind.example", "full_name": "Ada Lovelace"}}))]
struct CreateTenant {
    /// Its name.
    business_name: Text<200>,
    /// Its e-mail address.
    business_email: Email,
    /// Its telephone.
    #[serde(default)]
    business_phone: Option<Phone>,
    /// Its postal address.
    #[serde(default)]
    address: Option<Address>,
    /// Its country.
    #[serde(default)]
    country: Option<Text<100>>,
    /// What it subscribes to; `starter` if not said.
    #[serde(default)]
    subscription_plan: Plan,
    /// Seats, if not the plan's.
    #[serde(default)]
    seat_limit: Option<u32>,
    /// Where its data is to live.
    #[serde(default)]
    region: Option<Text<40>>,
    /// Who is to own it.
    owner: InviteOwner,
}

/// The first owner, to be invited.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct InviteOwner {
    /// What they will sign in with.
    email: Email,
    /// Their name.
    full_name: Text<200>,
}

/// A business that was made, and the means for its owner to come in.
#[derive(Debug, Serialize, ToSchema)]
struct Created {
    #[serde(flatten)]
    tenant: TenantView,
    /// The owner.
    owner: UserView,
    /// To be passed on to the owner; shown this once.
    invitation: OneTimeToken,
}

/// Make a business and invite its owner.
#[utoipa::path(post, path = "/api/admin/tenants", request_body = CreateTenant,
    responses((status = 201, body = Created)))]
async fn create(
    founder: Founder,
    State(app): State<App>,
    Json(body): Json<CreateTenant>,
) -> Result<Record<Created>, Problem> {
    let region = match body.region {
        Some(region) => region,
        None => Text::new(DEFAULT_REGION).map_err(|error| Problem::internal(format!("{error:?}")))?,
    };
    let tenant = directory::next_tenant(&app.access.pool).await?;
    directory::enter(&app.access.pool, tenant, region.as_str(), app.clock.now()).await?;
    let register = TenantCommand::Register {
        details: TenantDetails {
            business_name: body.business_name,
            business_email: body.business_email,
            business_phone: body.business_phone,
            address: body.address,
            country: body.country,
        },
        region,
        plan: body.subscription_plan,
        seat_limit: body.seat_limit,
        platform: false,
    };
    let details = UserDetails {
        email: body.owner.email,
        full_name: body.owner.full_name,
        role: Role::BusinessOwner,
        department: None,
        permissions: Grants::new(),
    };
    let invite = UserCommand::Invite { details, invited_by: founder.0.user };
    let receipt = match come(&app, &founder, tenant, &register, &invite).await {
        Ok(receipt) => receipt,
        Err(problem) => {
            // A database that failed may have stored it all the same; then the entry stays.
            if !problem.is_our_fault() {
                directory::leave(&app.access.pool, tenant).await?;
            }
            return Err(problem);
        }
    };
    let location = format!("/api/admin/tenants/{tenant}");
    if !receipt.visible() {
        return Ok(Record::stored(&tenant.to_string(), &receipt).created(&location));
    }
    let scope = founder.scope(tenant);
    let stored = row_in::<Tenants>(&app, scope, &tenant.to_string()).await?;
    let owner = row_in::<Users>(&app, scope, &FIRST_OWNER.to_string()).await?;
    let invitation = issue(&app, &founder.0, Purpose::Invitation, scope, FIRST_OWNER).await?;
    let version = stored.version;
    let created = Created { tenant: stored.into(), owner: owner.into(), invitation };
    Ok(Record::read(created, version).after(&receipt).created(&location))
}

/// The business and its owner, together or not at all.
async fn come(
    app: &App,
    founder: &Founder,
    tenant: TenantId,
    register: &TenantCommand,
    invite: &UserCommand,
) -> Result<Receipt, Problem> {
    let mut attempts = Attempts::default();
    loop {
        let work = app.begin_in(founder, tenant);
        work.execute::<Tenant>(StreamId::of_tenant(tenant), register.clone()).await?;
        work.execute::<User>(work.stream::<User>(FIRST_OWNER), invite.clone()).await?;
        if let Some(receipt) = app.commit(&founder.0, work, &mut attempts).await? {
            return Ok(receipt);
        }
    }
}

/// Read a business, with how much it has of everything and its plan.
#[utoipa::path(get, path = "/api/admin/tenants/{tenant_id}", params(("tenant_id" = TenantId, Path), AsOfQuery),
    responses((status = 200, body = TenantReport)))]
async fn read(
    founder: Founder,
    State(app): State<App>,
    TenantPath(tenant): TenantPath,
    When(as_of): When,
) -> Result<Record<TenantReport>, Problem> {
    report(&app, &founder, tenant, as_of).await
}

async fn report(
    app: &App,
    founder: &Founder,
    tenant: TenantId,
    as_of: Option<AsOf>,
) -> Result<Record<TenantReport>, Problem> {
    let (scope, id) = (founder.scope(tenant), tenant.to_string());
    let (stored, plan) = match as_of {
        Some(as_of) => (past::find_then::<Tenants>(app, Reader::Founder(scope), &id, as_of).await?, None),
        None => (row_in::<Tenants>(app, scope, &id).await?, Some(plan(app, scope).await?)),
    };
    let counts = counts_of(&app.database.cell_of(tenant).founder, as_of, vec![stored.id.clone()]).await?;
    let counts = counts.into_values().next().unwrap_or_default();
    let version = stored.version;
    Ok(Record::read(TenantReport { tenant: stored.into(), counts, plan }, version))
}

/// A change of a business, as JSON Merge Patch.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"subscription_plan": "professional", "seat_limit": 60, "features": {"sql_access": true}}))]
struct ChangeTenant {
    /// Its name; cannot be cleared.
    #[schema(inline, value_type = Option<Text<200>>)]
    business_name: Patch<Text<200>>,
    /// Its e-mail address; cannot be cleared.
    #[schema(inline, value_type = Option<Email>)]
    business_email: Patch<Email>,
    /// Its telephone.
    #[schema(inline, value_type = Option<Phone>)]
    business_phone: Patch<Phone>,
    /// Its postal address.
    #[schema(inline, value_type = Option<Address>)]
    address: Patch<Address>,
    /// Its country.
    #[schema(inline, value_type = Option<Text<100>>)]
    country: Patch<Text<100>>,
    /// What it subscribes to; cannot be cleared.
    #[schema(inline, value_type = Option<Plan>)]
    subscription_plan: Patch<Plan>,
    /// Seats apart from the plan; null: as the plan says.
    #[schema(value_type = Option<u32>)]
    seat_limit: Patch<u32>,
    /// Parts of the product to be switched on or off apart from the plan; null: as the plan says.
    #[schema(value_type = BTreeMap<String, Option<bool>>)]
    features: BTreeMap<Feature, Option<bool>>,
    /// Other limits apart from the plan; null: as the plan says.
    #[schema(value_type = BTreeMap<String, Option<u32>>)]
    limits: BTreeMap<Quota, Option<u32>>,
}

impl ChangeTenant {
    fn commands(self) -> Vec<TenantCommand> {
        let details = TenantCommand::ChangeDetails(TenantPatch {
            business_name: self.business_name,
            business_email: self.business_email,
            business_phone: self.business_phone,
            address: self.address,
            country: self.country,
        });
        let plan = set(self.subscription_plan).map(|plan| TenantCommand::ChangePlan { plan });
        let seats = match self.seat_limit {
            Patch::Unchanged => None,
            Patch::Clear => Some(TenantCommand::ChangeSeatLimit { limit: None }),
            Patch::Set(limit) => Some(TenantCommand::ChangeSeatLimit { limit: Some(limit) }),
        };
        let features = self.features.into_iter().map(|(feature, on)| TenantCommand::SwitchFeature { feature, on });
        let limits = self.limits.into_iter().map(|(quota, limit)| TenantCommand::ChangeQuota { quota, limit });
        [details].into_iter().chain(plan).chain(seats).chain(features).chain(limits).collect()
    }
}

/// Change a business's plan, seats, features, limits or details (JSON Merge Patch).
#[utoipa::path(patch, path = "/api/admin/tenants/{tenant_id}", params(("tenant_id" = TenantId, Path), IfMatch),
    request_body = ChangeTenant, responses((status = 200, body = TenantReport)))]
async fn change(
    founder: Founder,
    State(app): State<App>,
    TenantPath(tenant): TenantPath,
    if_match: IfMatch,
    body: Merge<ChangeTenant>,
) -> Result<Record<TenantReport>, Problem> {
    if body.patch.subscription_plan == Patch::Clear {
        return Err(Problem::invalid_field("/subscription_plan", "required", "a business has a plan"));
    }
    send(&app, &founder, tenant, if_match, &body.fields, body.patch.commands()).await
}

/// Why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"reason": "Unpaid since March"}))]
struct SuspendTenant {
    /// The reason.
    reason: Text<500>,
}

/// Lock the users of a business out at once; its data stays.
#[utoipa::path(post, path = "/api/admin/tenants/{tenant_id}/suspend", params(("tenant_id" = TenantId, Path), IfMatch),
    request_body = SuspendTenant, responses((status = 200, body = TenantReport)))]
async fn suspend(
    founder: Founder,
    State(app): State<App>,
    TenantPath(tenant): TenantPath,
    if_match: IfMatch,
    Json(body): Json<SuspendTenant>,
) -> Result<Record<TenantReport>, Problem> {
    let command = TenantCommand::Suspend { reason: body.reason };
    send(&app, &founder, tenant, if_match, &["status".to_owned()], vec![command]).await
}

/// Let the users of a suspended business in again.
#[utoipa::path(post, path = "/api/admin/tenants/{tenant_id}/reactivate", params(("tenant_id" = TenantId, Path), IfMatch),
    responses((status = 200, body = TenantReport)))]
async fn reactivate(
    founder: Founder,
    State(app): State<App>,
    TenantPath(tenant): TenantPath,
    if_match: IfMatch,
) -> Result<Record<TenantReport>, Problem> {
    send(&app, &founder, tenant, if_match, &["status".to_owned()], vec![TenantCommand::Reactivate {}]).await
}

async fn send(
    app: &App,
    founder: &Founder,
    tenant: TenantId,
    if_match: IfMatch,
    fields: &[String],
    commands: Vec<TenantCommand>,
) -> Result<Record<TenantReport>, Problem> {
    let mut attempts = Attempts::default();
    loop {
        let stored = row_in::<Tenants>(app, founder.scope(tenant), &tenant.to_string()).await?;
        let mut work = app.begin_in(founder, tenant);
        unchanged_since::<Tenants>(app, &founder.0, &mut work, &stored, if_match, fields).await?;
        for command in commands.clone() {
            work.execute::<Tenant>(StreamId::of_tenant(tenant), command).await?;
        }
        if let Some(receipt) = app.commit(&founder.0, work, &mut attempts).await? {
            if !receipt.visible() {
                return Ok(Record::stored(&tenant.to_string(), &receipt));
            }
            return Ok(report(app, founder, tenant, None).await?.after(&receipt));
        }
    }
}
