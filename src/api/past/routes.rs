//! The routes to the past of records: of one's own business, and for the founder of each.

use axum::extract::{FromRequestParts, OriginalUri, Path, State};
use axum::http::request::Parts;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Reader;
use super::change::{Difference, History, ShownHistory};
use super::history::{self, DiffQuery, HistoryQuery};
use crate::aggregates::ids::{CustomerId, InteractionId, InvoiceId, LeadId, NoteId, ProjectId, TenantId, UserId};
use crate::api::admin::TenantPath;
use crate::api::caller::{Caller, Founder};
use crate::api::customers::{CustomerView, Customers};
use crate::api::interactions::{InteractionView, Interactions};
use crate::api::invoices::{InvoiceView, Invoices};
use crate::api::leads::{LeadView, Leads};
use crate::api::notes::{NoteView, Notes};
use crate::api::projects::{ProjectView, Projects};
use crate::api::query::Query;
use crate::api::record::{Id, Record};
use crate::api::tenant::{TenantView, Tenants};
use crate::api::users::{UserView, Users};
use crate::api::{App, Json, Problem};

/// The version in a path; what cannot be one is no different from one that never was.
struct Version(u32);

impl FromRequestParts<App> for Version {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Path(params): Path<Vec<(String, String)>> =
            Path::from_request_parts(parts, app).await.map_err(|_| Problem::not_found())?;
        let version = params.iter().find(|(name, _)| name == "version").and_then(|(_, text)| text.parse().ok());
        version.map(Self).ok_or_else(Problem::not_found)
    }
}

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(users::router())
        .merge(customers::router())
        .merge(leads::router())
        .merge(projects::router())
        .merge(invoices::router())
        .merge(interactions::router())
        .merge(notes::router())
        .merge(tenant::router())
}

/// The six routes to the past of one noun.
macro_rules! past_routes {
    ($module:ident: $noun:ident, $view:ident, $id:ident, $path:literal, $one:literal) => {
        mod $module {
            use super::*;

            pub(super) fn router() -> OpenApiRouter<App> {
                OpenApiRouter::new()
                    .routes(routes!(history_of))
                    .routes(routes!(version_of))
                    .routes(routes!(diff_of))
                    .routes(routes!(history_for_founder))
                    .routes(routes!(version_for_founder))
                    .routes(routes!(diff_for_founder))
            }

            #[utoipa::path(get, path = concat!("/api/", $path, "/{id}/history"),
                summary = concat!("List what happened to ", $one, ", the newest first: who, when, why, before and after."),
                description = "Also of one that was taken away. As far back as the plan shows; `limited_to` says so.",
                params(("id" = $id, Path), HistoryQuery), responses((status = 200, body = History)))]
            async fn history_of(
                caller: Caller,
                State(app): State<App>,
                Id(id): Id<$id>,
                Query(query): Query<HistoryQuery>,
                OriginalUri(uri): OriginalUri,
            ) -> Result<History, Problem> {
                let window = ShownHistory::of(&app, &caller);
                history::history::<$noun>(&app, Reader::Caller(&caller), &id.to_string(), &query, window, &uri).await
            }

            #[utoipa::path(get, path = concat!("/api/", $path, "/{id}/versions/{version}"),
                summary = concat!("Read ", $one, " as a version of it was."),
                params(("id" = $id, Path), ("version" = u32, Path, minimum = 1)),
                responses((status = 200, body = $view)))]
            async fn version_of(
                caller: Caller,
                State(app): State<App>,
                Id(id): Id<$id>,
                Version(version): Version,
            ) -> Result<Record<$view>, Problem> {
                history::version::<$noun>(&app, Reader::Caller(&caller), &id.to_string(), version).await
            }

            #[utoipa::path(get, path = concat!("/api/", $path, "/{id}/diff"),
                summary = concat!("Compare two versions of ", $one, ", field by field."),
                params(("id" = $id, Path), DiffQuery), responses((status = 200, body = Difference)))]
            async fn diff_of(
                caller: Caller,
                State(app): State<App>,
                Id(id): Id<$id>,
                Query(query): Query<DiffQuery>,
            ) -> Result<Json<Difference>, Problem> {
                let (reader, id) = (Reader::Caller(&caller), id.to_string());
                history::diff::<$noun>(&app, reader, &id, &query).await.map(Json)
            }

            #[utoipa::path(get, path = concat!("/api/admin/tenants/{tenant_id}/", $path, "/{id}/history"),
                summary = concat!("List what happened to ", $one, " of a business, the newest first."),
                params(("tenant_id" = TenantId, Path), ("id" = $id, Path), HistoryQuery),
                responses((status = 200, body = History)))]
            async fn history_for_founder(
                founder: Founder,
                State(app): State<App>,
                TenantPath(tenant): TenantPath,
                Id(id): Id<$id>,
                Query(query): Query<HistoryQuery>,
                OriginalUri(uri): OriginalUri,
            ) -> Result<History, Problem> {
                let reader = Reader::Founder(founder.scope(tenant));
                history::history::<$noun>(&app, reader, &id.to_string(), &query, None, &uri).await
            }

            #[utoipa::path(get, path = concat!("/api/admin/tenants/{tenant_id}/", $path, "/{id}/versions/{version}"),
                summary = concat!("Read ", $one, " of a business as a version of it was."),
                params(("tenant_id" = TenantId, Path), ("id" = $id, Path), ("version" = u32, Path, minimum = 1)),
                responses((status = 200, body = $view)))]
            async fn version_for_founder(
                founder: Founder,
                State(app): State<App>,
                TenantPath(tenant): TenantPath,
                Id(id): Id<$id>,
                Version(version): Version,
            ) -> Result<Record<$view>, Problem> {
                let reader = Reader::Founder(founder.scope(tenant));
                history::version::<$noun>(&app, reader, &id.to_string(), version).await
            }

            #[utoipa::path(get, path = concat!("/api/admin/tenants/{tenant_id}/", $path, "/{id}/diff"),
                summary = concat!("Compare two versions of ", $one, " of a business, field by field."),
                params(("tenant_id" = TenantId, Path), ("id" = $id, Path), DiffQuery),
                responses((status = 200, body = Difference)))]
            async fn diff_for_founder(
                founder: Founder,
                State(app): State<App>,
                TenantPath(tenant): TenantPath,
                Id(id): Id<$id>,
                Query(query): Query<DiffQuery>,
            ) -> Result<Json<Difference>, Problem> {
                let reader = Reader::Founder(founder.scope(tenant));
                history::diff::<$noun>(&app, reader, &id.to_string(), &query).await.map(Json)
            }
        }
    };
}

past_routes!(users: Users, UserView, UserId, "users", "a user");
past_routes!(customers: Customers, CustomerView, CustomerId, "customers", "a customer");
past_routes!(leads: Leads, LeadView, LeadId, "leads", "a lead");
past_routes!(projects: Projects, ProjectView, ProjectId, "projects", "a project");
past_routes!(invoices: Invoices, InvoiceView, InvoiceId, "invoices", "an invoice");
past_routes!(interactions: Interactions, InteractionView, InteractionId, "interactions", "an interaction");
past_routes!(notes: Notes, NoteView, NoteId, "notes", "a note");

/// The same of a business itself, which has no id within itself.
mod tenant {
    use super::*;

    pub(super) fn router() -> OpenApiRouter<App> {
        OpenApiRouter::new()
            .routes(routes!(history_of))
            .routes(routes!(version_of))
            .routes(routes!(diff_of))
            .routes(routes!(history_for_founder))
            .routes(routes!(version_for_founder))
            .routes(routes!(diff_for_founder))
    }

    /// List what happened to one's own business, the newest first: who, when, why, before and after.
    ///
    /// As far back as the plan shows; `limited_to` says so.
    #[utoipa::path(get, path = "/api/tenant/history", params(HistoryQuery), responses((status = 200, body = History)))]
    async fn history_of(
        caller: Caller,
        State(app): State<App>,
        Query(query): Query<HistoryQuery>,
        OriginalUri(uri): OriginalUri,
    ) -> Result<History, Problem> {
        let (id, window) = (caller.tenant().to_string(), ShownHistory::of(&app, &caller));
        history::history::<Tenants>(&app, Reader::Caller(&caller), &id, &query, window, &uri).await
    }

    /// Read one's own business as a version of it was.
    #[utoipa::path(get, path = "/api/tenant/versions/{version}", params(("version" = u32, Path, minimum = 1)),
        responses((status = 200, body = TenantView)))]
    async fn version_of(
        caller: Caller,
        State(app): State<App>,
        Version(version): Version,
    ) -> Result<Record<TenantView>, Problem> {
        let id = caller.tenant().to_string();
        history::version::<Tenants>(&app, Reader::Caller(&caller), &id, version).await
    }

    /// Compare two versions of one's own business, field by field.
    #[utoipa::path(get, path = "/api/tenant/diff", params(DiffQuery), responses((status = 200, body = Difference)))]
    async fn diff_of(
        caller: Caller,
        State(app): State<App>,
        Query(query): Query<DiffQuery>,
    ) -> Result<Json<Difference>, Problem> {
        let id = caller.tenant().to_string();
        history::diff::<Tenants>(&app, Reader::Caller(&caller), &id, &query).await.map(Json)
    }

    /// List what happened to a business, the newest first.
    #[utoipa::path(get, path = "/api/admin/tenants/{tenant_id}/history",
        params(("tenant_id" = TenantId, Path), HistoryQuery), responses((status = 200, body = History)))]
    async fn history_for_founder(
        founder: Founder,
        State(app): State<App>,
        TenantPath(tenant): TenantPath,
        Query(query): Query<HistoryQuery>,
        OriginalUri(uri): OriginalUri,
    ) -> Result<History, Problem> {
        let reader = Reader::Founder(founder.scope(tenant));
        history::history::<Tenants>(&app, reader, &tenant.to_string(), &query, None, &uri).await
    }

    /// Read a business as a version of it was.
    #[utoipa::path(get, path = "/api/admin/tenants/{tenant_id}/versions/{version}",
        params(("tenant_id" = TenantId, Path), ("version" = u32, Path, minimum = 1)),
        responses((status = 200, body = TenantView)))]
    async fn version_for_founder(
        founder: Founder,
        State(app): State<App>,
        TenantPath(tenant): TenantPath,
        Version(version): Version,
    ) -> Result<Record<TenantView>, Problem> {
        let reader = Reader::Founder(founder.scope(tenant));
        history::version::<Tenants>(&app, reader, &tenant.to_string(), version).await
    }

    /// Compare two versions of a business, field by field.
    #[utoipa::path(get, path = "/api/admin/tenants/{tenant_id}/diff",
        params(("tenant_id" = TenantId, Path), DiffQuery), responses((status = 200, body = Difference)))]
    async fn diff_for_founder(
        founder: Founder,
        State(app): State<App>,
        TenantPath(tenant): TenantPath,
        Query(query): Query<DiffQuery>,
    ) -> Result<Json<Difference>, Problem> {
        let reader = Reader::Founder(founder.scope(tenant));
        history::diff::<Tenants>(&app, reader, &tenant.to_string(), &query).await.map(Json)
    }
}
