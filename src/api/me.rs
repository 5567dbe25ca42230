//! Who am I, and what may I do: what a program asks first after signing in.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::record::row_in;
use super::support::Mode;
use super::tenant::{PlanView, TenantView, Tenants, plan};
use super::users::{UserView, Users};
use super::{App, Json, Problem};
use crate::access::permissions::Permissions;
use crate::access::tokens::SupportMode;
use crate::aggregates::ids::TenantId;
use crate::aggregates::permission::{Action, Module, Permission};
use crate::event_store::TenantScope;

/// The parts of the product, in the order of a menu, with what it takes to see each.
const MENU: [(&str, Module, Action); 10] = [
    ("leads", Module::Leads, Action::Read),
    ("customers", Module::Customers, Action::Read),
    ("projects", Module::Projects, Action::Read),
    ("invoices", Module::Invoices, Action::Read),
    ("reports", Module::Reports, Action::Read),
    ("audit", Module::Audit, Action::Read),
    ("users", Module::Users, Action::Read),
    ("user_management", Module::Users, Action::Manage),
    ("tenant", Module::Tenant, Action::Read),
    ("settings", Module::Tenant, Action::Manage),
];

/// The part that is the founder's alone.
const PLATFORM: &str = "platform";

/// Who is calling.
#[derive(Debug, Serialize, ToSchema)]
struct Me {
    /// The person.
    user: UserView,
    /// The business that is worked in: the person's own, or the visited one.
    tenant: TenantView,
    /// Whether this is the platform's founder, at home.
    is_founder: bool,
    /// What may be done there, and how far.
    permissions: Permissions,
    /// What the business's plan allows and how much of it is used.
    plan: PlanView,
    /// What the caller may see, in the order of a menu.
    can: Vec<&'static str>,
    /// Set during a support session.
    #[serde(skip_serializing_if = "Option::is_none")]
    support: Option<Visit>,
    /// The API key that was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<String>,
}

/// A support session.
#[derive(Debug, Serialize, ToSchema)]
struct Visit {
    /// The visited business.
    tenant_id: TenantId,
    /// What may be done there.
    mode: Mode,
}

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(me))
}

/// Read who is calling, what they may do, and what the plan allows.
#[utoipa::path(get, path = "/api/me", responses((status = 200, body = Me)))]
async fn me(caller: Caller, State(app): State<App>) -> Result<Json<Me>, Problem> {
    let user = row_in::<Users>(&app, TenantScope::of(caller.home), &caller.user.to_string()).await?;
    let tenant = row_in::<Tenants>(&app, caller.scope(), &caller.tenant().to_string()).await?;
    let visible = |(name, module, action)| {
        let permission = Permission { module, action };
        caller.permissions.scope(permission).map(|_| name)
    };
    let can = MENU.into_iter().filter_map(visible).chain(caller.is_founder().then_some(PLATFORM)).collect();
    let support = caller.support.map(|visit| Visit {
        tenant_id: visit.tenant,
        mode: match visit.mode {
            SupportMode::Read => Mode::Read,
            SupportMode::Write => Mode::Write,
        },
    });
    Ok(Json(Me {
        user: user.into(),
        tenant: tenant.into(),
        is_founder: caller.is_founder(),
        plan: plan(&app, caller.scope()).await?,
        can,
        support,
        api_key: caller.api_key.clone(),
        permissions: caller.permissions.clone(),
    }))
}
