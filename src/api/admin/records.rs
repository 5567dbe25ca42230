//! What the founder reads of one business: its records, as its owner sees them.

use axum::extract::State;
use axum::http::Uri;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::TenantPath;
use crate::aggregates::ids::{CustomerId, InteractionId, InvoiceId, LeadId, NoteId, ProjectId, TenantId, UserId};
use crate::api::caller::Founder;
use crate::api::customers::{CustomerView, Customers};
use crate::api::interactions::{self, InteractionView, Interactions};
use crate::api::invoices::{InvoiceView, Invoices};
use crate::api::leads::{LeadView, Leads};
use crate::api::list::{ListQuery, ListScope, ListSpec, Visibility};
use crate::api::notes::{self, NoteView, Notes};
use crate::api::page::Page;
use crate::api::past::{self, AsOfQuery, Reader, Remembered, When};
use crate::api::projects::{ProjectView, Projects};
use crate::api::record::{Id, Noun, Record, View, list_spec, present_in, row_in};
use crate::api::tenant::Tenants;
use crate::api::users::{UserView, Users};
use crate::api::{App, Problem};

/// The lists, by their addresses.
pub(super) fn lists() -> Vec<(&'static str, &'static ListSpec)> {
    vec![
        ("/api/admin/tenants/{tenant_id}/users", list_spec::<Users>()),
        ("/api/admin/tenants/{tenant_id}/customers", list_spec::<Customers>()),
        ("/api/admin/tenants/{tenant_id}/customers/{id}/interactions", list_spec::<Interactions>()),
        ("/api/admin/tenants/{tenant_id}/customers/{id}/notes", list_spec::<Notes>()),
        ("/api/admin/tenants/{tenant_id}/leads", list_spec::<Leads>()),
        ("/api/admin/tenants/{tenant_id}/leads/{id}/interactions", list_spec::<Interactions>()),
        ("/api/admin/tenants/{tenant_id}/projects", list_spec::<Projects>()),
        ("/api/admin/tenants/{tenant_id}/invoices", list_spec::<Invoices>()),
    ]
}

/// The routes.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_users))
        .routes(routes!(read_user))
        .routes(routes!(list_customers))
        .routes(routes!(read_customer))
        .routes(routes!(list_customer_interactions))
        .routes(routes!(list_customer_notes))
        .routes(routes!(list_leads))
        .routes(routes!(read_lead))
        .routes(routes!(list_lead_interactions))
        .routes(routes!(read_interaction))
        .routes(routes!(read_note))
        .routes(routes!(list_projects))
        .routes(routes!(read_project))
        .routes(routes!(list_invoices))
        .routes(routes!(read_invoice))
}

/// Every row of a tenant, and of no other.
pub(in crate::api) fn everything<'a>(app: &'a App, founder: &Founder, tenant: TenantId) -> ListScope<'a> {
    let tenant = founder.scope(tenant).tenant();
    ListScope { tenant, schema: None, visibility: Visibility::Everything, cursor_key: &app.cursor_key }
}

/// One page of what a tenant has of a kind.
async fn list_of<N: Noun>(app: &App, founder: &Founder, tenant: TenantId, uri: &Uri) -> Result<Page<N::View>, Problem> {
    let query = ListQuery::parse(list_spec::<N>(), uri)?;
    let day = query.day(app.today());
    let query = N::asked(query, day);
    row_in::<Tenants>(app, founder.scope(tenant), &tenant.to_string()).await?;
    let scope = everything(app, founder, tenant);
    app.readers.page(&query, &scope, |stored| N::View::on(stored, day)).await
}

async fn read_of<N: Remembered>(
    app: &App,
    founder: &Founder,
    tenant: TenantId,
    id: &str,
    When(as_of): When,
) -> Result<Record<N::View>, Problem> {
    if let Some(as_of) = as_of {
        return past::read::<N>(app, Reader::Founder(founder.scope(tenant)), id, as_of).await;
    }
    let stored = row_in::<N>(app, founder.scope(tenant), id).await?;
    let version = stored.version;
    Ok(Record::read(N::View::on(stored, app.today()), version))
}

/// The two routes through which the founder reads what a tenant has of a kind.
macro_rules! read_routes {
    ($noun:ident, $view:ident, $id:ident, $path:literal, $list:ident, $list_doc:literal, $read:ident, $read_doc:literal) => {
        #[doc = $list_doc]
        #[utoipa::path(get, path = concat!("/api/admin/tenants/{tenant_id}/", $path),
                            params(("tenant_id" = TenantId, Path)), responses((status = 200, body = Page<$view>)))]
        async fn $list(
            founder: Founder,
            State(app): State<App>,
            TenantPath(tenant): TenantPath,
            uri: Uri,
        ) -> Result<Page<$view>, Problem> {
            list_of::<$noun>(&app, &founder, tenant, &uri).await
        }

        #[doc = $read_doc]
        #[utoipa::path(get, path = concat!("/api/admin/tenants/{tenant_id}/", $path, "/{id}"),
                            params(("tenant_id" = TenantId, Path), ("id" = $id, Path), AsOfQuery),
                            responses((status = 200, body = $view)))]
        async fn $read(
            founder: Founder,
            State(app): State<App>,
            TenantPath(tenant): TenantPath,
            Id(id): Id<$id>,
            when: When,
        ) -> Result<Record<$view>, Problem> {
            read_of::<$noun>(&app, &founder, tenant, &id.to_string(), when).await
        }
    };
}

read_routes!(
    Users,
    UserView,
    UserId,
    "users",
    list_users,
    "List a business's users.",
    read_user,
    "Read a user of a business."
);
read_routes!(
    Customers,
    CustomerView,
    CustomerId,
    "customers",
    list_customers,
    "List a business's customers.",
    read_customer,
    "Read a customer of a business."
);
read_routes!(
    Leads,
    LeadView,
    LeadId,
    "leads",
    list_leads,
    "List a business's leads.",
    read_lead,
    "Read a lead of a business."
);
read_routes!(
    Projects,
    ProjectView,
    ProjectId,
    "projects",
    list_projects,
    "List a business's projects.",
    read_project,
    "Read a project of a business."
);
read_routes!(
    Invoices,
    InvoiceView,
    InvoiceId,
    "invoices",
    list_invoices,
    "List a business's invoices.",
    read_invoice,
    "Read an invoice of a business."
);

/// List the contact there was and will be with a lead of a business.
#[utoipa::path(get, path = "/api/admin/tenants/{tenant_id}/leads/{id}/interactions",
    params(("tenant_id" = TenantId, Path), ("id" = LeadId, Path)),
    responses((status = 200, body = Page<InteractionView>)))]
async fn list_lead_interactions(
    founder: Founder,
    State(app): State<App>,
    TenantPath(tenant): TenantPath,
    Id(id): Id<LeadId>,
    uri: Uri,
) -> Result<Page<InteractionView>, Problem> {
    interactions::list_of(&app, Reader::Founder(founder.scope(tenant)), interactions::Of::Lead(id), &uri).await
}

/// List the contact there was and will be with a customer of a business.
#[utoipa::path(get, path = "/api/admin/tenants/{tenant_id}/customers/{id}/interactions",
    params(("tenant_id" = TenantId, Path), ("id" = CustomerId, Path)),
    responses((status = 200, body = Page<InteractionView>)))]
async fn list_customer_interactions(
    founder: Founder,
    State(app): State<App>,
    TenantPath(tenant): TenantPath,
    Id(id): Id<CustomerId>,
    uri: Uri,
) -> Result<Page<InteractionView>, Problem> {
    interactions::list_of(&app, Reader::Founder(founder.scope(tenant)), interactions::Of::Customer(id), &uri).await
}

/// Read an interaction of a business.
#[utoipa::path(get, path = "/api/admin/tenants/{tenant_id}/interactions/{id}",
    params(("tenant_id" = TenantId, Path), ("id" = InteractionId, Path), AsOfQuery),
    responses((status = 200, body = InteractionView)))]
async fn read_interaction(
    founder: Founder,
    State(app): State<App>,
    TenantPath(tenant): TenantPath,
    Id(id): Id<InteractionId>,
    When(as_of): When,
) -> Result<Record<InteractionView>, Problem> {
    let scope = founder.scope(tenant);
    if let Some(as_of) = as_of {
        return past::read::<Interactions>(&app, Reader::Founder(scope), &id.to_string(), as_of).await;
    }
    let stored = present_in::<Interactions>(&app, scope, &id.to_string()).await?;
    // It lives with the customer once there is one, else with the lead.
    match (&stored.row.customer_id, &stored.row.lead_id) {
        (Some(customer), _) => drop(present_in::<Customers>(&app, scope, customer).await?),
        (None, Some(lead)) => drop(present_in::<Leads>(&app, scope, lead).await?),
        (None, None) => return Err(Problem::not_found()),
    }
    let version = stored.version;
    Ok(Record::read(stored.into(), version))
}

/// List the notes on a customer of a business; none that is private to somebody else.
#[utoipa::path(get, path = "/api/admin/tenants/{tenant_id}/customers/{id}/notes",
    params(("tenant_id" = TenantId, Path), ("id" = CustomerId, Path)),
    responses((status = 200, body = Page<NoteView>)))]
async fn list_customer_notes(
    founder: Founder,
    State(app): State<App>,
    TenantPath(tenant): TenantPath,
    Id(id): Id<CustomerId>,
    uri: Uri,
) -> Result<Page<NoteView>, Problem> {
    notes::list_of(&app, Reader::Founder(founder.scope(tenant)), id, &uri).await
}

/// Read a note of a business, unless it is private to somebody else.
#[utoipa::path(get, path = "/api/admin/tenants/{tenant_id}/notes/{id}",
    params(("tenant_id" = TenantId, Path), ("id" = NoteId, Path), AsOfQuery),
    responses((status = 200, body = NoteView)))]
async fn read_note(
    founder: Founder,
    State(app): State<App>,
    TenantPath(tenant): TenantPath,
    Id(id): Id<NoteId>,
    When(as_of): When,
) -> Result<Record<NoteView>, Problem> {
    let scope = founder.scope(tenant);
    if let Some(as_of) = as_of {
        return past::read::<Notes>(&app, Reader::Founder(scope), &id.to_string(), as_of).await;
    }
    let stored = present_in::<Notes>(&app, scope, &id.to_string()).await?;
    if !notes::seen_by(&stored.row, Reader::Founder(scope).author()) {
        return Err(Problem::not_found());
    }
    present_in::<Customers>(&app, scope, &stored.row.customer_id).await?;
    let version = stored.version;
    Ok(Record::read(stored.into(), version))
}
