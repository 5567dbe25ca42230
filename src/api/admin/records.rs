//! What the founder reads of one business: its records, as its owner sees them.

use axum::extract::State;
use axum::http::Uri;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::TenantPath;
use crate::aggregates::ids::{CustomerId, InvoiceId, LeadId, ProjectId, TenantId, UserId};
use crate::api::caller::Founder;
use crate::api::customers::{CustomerView, Customers};
use crate::api::invoices::{InvoiceView, Invoices};
use crate::api::leads::{LeadView, Leads};
use crate::api::list::{ListQuery, ListScope, ListSpec, Visibility};
use crate::api::page::Page;
use crate::api::projects::{ProjectView, Projects};
use crate::api::record::{Id, Noun, Record, View, list_spec, row_in};
use crate::api::tenant::Tenants;
use crate::api::users::{UserView, Users};
use crate::api::{App, Problem};
use crate::projections::row::Stored;

/// The lists, by their addresses.
pub(super) fn lists() -> Vec<(&'static str, &'static ListSpec)> {
    vec![
        ("/api/admin/tenants/{tenant_id}/users", list_spec::<Users>()),
        ("/api/admin/tenants/{tenant_id}/customers", list_spec::<Customers>()),
        ("/api/admin/tenants/{tenant_id}/leads", list_spec::<Leads>()),
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
        .routes(routes!(list_leads))
        .routes(routes!(read_lead))
        .routes(routes!(list_projects))
        .routes(routes!(read_project))
        .routes(routes!(list_invoices))
        .routes(routes!(read_invoice))
}

/// Every row of a tenant, and of no other.
pub(super) fn everything<'a>(app: &'a App, founder: &Founder, tenant: TenantId) -> ListScope<'a> {
    let tenant = founder.scope(tenant).tenant();
    ListScope { tenant, schema: None, visibility: Visibility::Everything, cursor_key: &app.cursor_key }
}

/// One page of what a tenant has of a kind.
async fn list_of<N: Noun>(app: &App, founder: &Founder, tenant: TenantId, uri: &Uri) -> Result<Page<N::View>, Problem> {
    let query = N::asked(ListQuery::parse(list_spec::<N>(), uri)?, app.today());
    row_in::<Tenants>(app, founder.scope(tenant), &tenant.to_string()).await?;
    let mut connection = app.database.cell_of(tenant).request.acquire().await?;
    let page: Page<Stored<N::Row>> = query.page(&mut connection, &everything(app, founder, tenant)).await?;
    Ok(page.map(|stored| N::View::on(stored, app.today())))
}

async fn read_of<N: Noun>(
    app: &App,
    founder: &Founder,
    tenant: TenantId,
    id: &str,
) -> Result<Record<N::View>, Problem> {
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
            params(("tenant_id" = TenantId, Path), ("id" = $id, Path)), responses((status = 200, body = $view)))]
        async fn $read(
            founder: Founder,
            State(app): State<App>,
            TenantPath(tenant): TenantPath,
            Id(id): Id<$id>,
        ) -> Result<Record<$view>, Problem> {
            read_of::<$noun>(&app, &founder, tenant, &id.to_string()).await
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
    "Read a invoice of a business."
);
