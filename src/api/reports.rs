//! Reports over HTTP: of what the caller may see, as it stands now or stood on any day.

use axum::extract::State;
use axum::http::Uri;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::admin::{TenantPath, everything};
use super::caller::{Caller, Founder};
use super::invoices::Invoices;
use super::leads::Leads;
use super::list::{ListQuery, ListScope, ListSpec};
use super::projects::Projects;
use super::record::{Noun, list_spec, row_in};
use super::tenant::Tenants;
use super::{App, FieldError, Json, Problem};
use crate::aggregates::ids::TenantId;
use crate::aggregates::permission::{Action, Module, Permission};
use crate::reports::conversion::{Conversion, ConversionFigures};
use crate::reports::pipeline::{Pipeline, PipelineFigures};
use crate::reports::projects::{Projects as ProjectsReport, ProjectsFigures};
use crate::reports::receivables::{Receivables, ReceivablesFigures};
use crate::reports::{Keyed, Report, Told};

const READ: Permission = Permission { module: Module::Reports, action: Action::Read };

/// A report, and the records that it is about.
trait About: Report {
    /// Of which kind they are.
    type Noun: Noun;
}

impl About for Pipeline {
    type Noun = Leads;
}

impl About for Conversion {
    type Noun = Leads;
}

impl About for Receivables {
    type Noun = Invoices;
}

impl About for ProjectsReport {
    type Noun = Projects;
}

/// What can be asked of a report: the filters of the list of its records, and by what they are grouped.
fn spec<R: About>() -> &'static ListSpec {
    const { &ListSpec { search: &[], condition: R::WHICH, grouping: Some(R::GROUPING), ..*list_spec::<R::Noun>() } }
}

/// What can be asked of the reports, by their addresses.
pub fn lists() -> Vec<(&'static str, &'static ListSpec)> {
    vec![
        ("/api/reports/pipeline", spec::<Pipeline>()),
        ("/api/reports/conversion", spec::<Conversion>()),
        ("/api/reports/receivables", spec::<Receivables>()),
        ("/api/reports/projects", spec::<ProjectsReport>()),
        ("/api/admin/tenants/{tenant_id}/reports/pipeline", spec::<Pipeline>()),
        ("/api/admin/tenants/{tenant_id}/reports/conversion", spec::<Conversion>()),
        ("/api/admin/tenants/{tenant_id}/reports/receivables", spec::<Receivables>()),
        ("/api/admin/tenants/{tenant_id}/reports/projects", spec::<ProjectsReport>()),
    ]
}

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(pipeline_report))
        .routes(routes!(conversion_report))
        .routes(routes!(receivables_report))
        .routes(routes!(projects_report))
        .routes(routes!(pipeline_report_of))
        .routes(routes!(conversion_report_of))
        .routes(routes!(receivables_report_of))
        .routes(routes!(projects_report_of))
}

/// A report of what the caller may see: of the records, and of what reports may be made of.
async fn of_caller<R: About>(app: &App, caller: &Caller, uri: &Uri) -> Result<Json<Told<R::Figures>>, Problem> {
    let reach = caller.require(READ)?.min(caller.require(R::Noun::READ)?);
    let scope = ListScope { visibility: caller.visibility(reach), ..caller.list_scope(app, READ)? };
    told::<R>(app, &scope, uri).await
}

/// A report of a whole business, from outside.
async fn of_tenant<R: About>(
    app: &App,
    founder: &Founder,
    tenant: TenantId,
    uri: &Uri,
) -> Result<Json<Told<R::Figures>>, Problem> {
    row_in::<Tenants>(app, founder.scope(tenant), &tenant.to_string()).await?;
    told::<R>(app, &everything(app, founder, tenant), uri).await
}

async fn told<R: About>(app: &App, scope: &ListScope<'_>, uri: &Uri) -> Result<Json<Told<R::Figures>>, Problem> {
    let query = ListQuery::parse(spec::<R>(), uri)?;
    let day = query.day(app.today());
    let query = R::Noun::asked(query, day);
    let lines: Vec<Keyed<R::Line>> = app.readers.rows(|| query.lines::<R>(scope, day)).await?;
    let told = Told::of::<R>(day, query.by(), &lines);
    told.map(Json).map_err(|error| {
        let detail = format!("{error}: leave some out by filters");
        Problem::validation_failed(vec![FieldError::parameter("by", "too_many", detail)])
    })
}

/// The two routes of a report: of the caller's business, and of any for the founder.
macro_rules! report_routes {
    ($report:ident, $figures:ident, $path:literal, $of_caller:ident, $of_tenant:ident, $doc:literal, $founders_doc:literal) => {
        #[doc = $doc]
        #[utoipa::path(get, path = concat!("/api/reports/", $path), responses((status = 200, body = Told<$figures>)))]
        async fn $of_caller(caller: Caller, State(app): State<App>, uri: Uri) -> Result<Json<Told<$figures>>, Problem> {
            of_caller::<$report>(&app, &caller, &uri).await
        }

        #[doc = $founders_doc]
        #[utoipa::path(get, path = concat!("/api/admin/tenants/{tenant_id}/reports/", $path),
                            params(("tenant_id" = TenantId, Path)), responses((status = 200, body = Told<$figures>)))]
        async fn $of_tenant(
            founder: Founder,
            State(app): State<App>,
            TenantPath(tenant): TenantPath,
            uri: Uri,
        ) -> Result<Json<Told<$figures>>, Problem> {
            of_tenant::<$report>(&app, &founder, tenant, &uri).await
        }
    };
}

report_routes!(
    Pipeline,
    PipelineFigures,
    "pipeline",
    pipeline_report,
    pipeline_report_of,
    "What open leads may be worth, and how long they have been at their stages.",
    "The pipeline of a business."
);
report_routes!(
    Conversion,
    ConversionFigures,
    "conversion",
    conversion_report,
    conversion_report_of,
    "What became of the leads that came in.",
    "What became of a business's leads."
);
report_routes!(
    Receivables,
    ReceivablesFigures,
    "receivables",
    receivables_report,
    receivables_report_of,
    "What customers owe, and for how long they should have paid.",
    "What the customers of a business owe."
);
report_routes!(
    ProjectsReport,
    ProjectsFigures,
    "projects",
    projects_report,
    projects_report_of,
    "How many projects there are and are late, and what they may cost and take.",
    "How the projects of a business stand."
);
