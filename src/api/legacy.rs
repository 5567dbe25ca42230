//! What imports of the old application's database did: each run with its report, and the rows that were kept aside.
//!
//! To look at only, and the founder's alone; `devhub legacy` runs an import and works the quarantine off.

use axum::extract::{OriginalUri, State};
use axum::http::Uri;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{FromRow, PgPool};
use strum::VariantNames;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::caller::Founder;
use super::list::{Field, Kind, ListQuery, ListScope, ListSpec, Visibility, cursor};
use super::page::{self, Page};
use super::query::Query;
use super::record::Id;
use super::{App, Json, Problem};
use crate::aggregates::ids::TenantId;
use crate::legacy::quarantine::{self, Quarantined, Which};
use crate::legacy::{ImportError, Report, Status, Table};

/// The lists, by their addresses.
pub fn lists() -> Vec<(&'static str, &'static ListSpec)> {
    vec![("/api/admin/legacy/imports", &IMPORTS)]
}

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list_imports)).routes(routes!(read_import)).routes(routes!(list_quarantine))
}

/// A run: one import, or one more try of rows in quarantine.
#[derive(Debug, Serialize, FromRow, ToSchema)]
#[schema(as = LegacyImport, example = json!({"id": "01928d3e-7a10-7c3e-9f5b-0a6f5e8a1c11", "tenant_id": "DEV-000",
    "source": "old-server/devhub", "revision": "fef60ef31522", "dry_run": false, "status": "done",
    "started_at": "2026-01-31T09:00:00Z", "ended_at": "2026-01-31T09:00:01Z", "planned_events": 4,
    "appended_events": 4}))]
struct ImportView {
    /// The run's id.
    #[schema(value_type = Uuid)]
    id: String,
    /// Whose history it became.
    #[schema(value_type = TenantId)]
    tenant_id: String,
    /// Where the old database is, as host and name; `quarantine` if rows in quarantine were tried again.
    source: String,
    /// The revision of the old database.
    revision: String,
    /// Whether everything was done but append.
    dry_run: bool,
    /// How far it is.
    #[schema(value_type = Status)]
    status: String,
    /// When it began.
    started_at: DateTime<Utc>,
    /// When it ended.
    #[schema(required)]
    ended_at: Option<DateTime<Utc>>,
    /// Events that it is to append.
    planned_events: i64,
    /// Events that it has appended.
    appended_events: i64,
}

/// A run with its report.
#[derive(Debug, Serialize, FromRow, ToSchema)]
#[schema(as = LegacyImportWithReport)]
struct ImportReport {
    #[serde(flatten)]
    #[sqlx(flatten)]
    import: ImportView,
    /// What came of it, as `devhub legacy import --format json` prints it; null until it is done.
    #[schema(required, value_type = Option<Report>)]
    report: Option<Value>,
}

/// Runs are few, so that no order of theirs needs an index; their reports may be long.
static IMPORTS: ListSpec = ListSpec {
    table: "(select import_id::text as id, tenant_id, source, revision, dry_run, status, started_at, ended_at,
                    planned_events, appended_events from legacy_imports)",
    of_tenants: false,
    default_sort: "-started_at",
    hides_deleted: false,
    ..ListSpec::new("legacy imports", FIELDS)
};

const FIELDS: &[Field] = &[
    Field::new("tenant_id", Kind::Text).not_null().filter_only(),
    Field::new("status", Kind::Enum(Status::VARIANTS)).not_null().filter_only(),
    Field::new("dry_run", Kind::Bool).not_null().filter_only(),
    Field::new("started_at", Kind::Timestamp).not_null(),
];

/// The founder's view of what imports have left.
fn pool(app: &App) -> &PgPool {
    &app.database.cell_of(TenantId::Platform).founder
}

/// List the imports of the old application's database, the newest first.
#[utoipa::path(get, path = "/api/admin/legacy/imports", responses((status = 200, body = Page<ImportView>)))]
async fn list_imports(_: Founder, State(app): State<App>, uri: Uri) -> Result<Page<ImportView>, Problem> {
    let query = ListQuery::parse(&IMPORTS, &uri)?;
    let everything = ListScope {
        tenant: TenantId::Platform,
        schema: None,
        visibility: Visibility::Everything,
        cursor_key: &app.cursor_key,
    };
    query.page(&mut *pool(&app).acquire().await?, &everything).await
}

/// Read an import with its report.
#[utoipa::path(get, path = "/api/admin/legacy/imports/{id}", params(("id" = Uuid, Path)),
    responses((status = 200, body = ImportReport)))]
async fn read_import(_: Founder, State(app): State<App>, Id(id): Id<Uuid>) -> Result<Json<ImportReport>, Problem> {
    let import = sqlx::query_as("select import_id::text as id, i.* from legacy_imports i where import_id = $1")
        .bind(id)
        .fetch_optional(pool(&app))
        .await?;
    import.map(Json).ok_or_else(Problem::not_found)
}

/// Which rows in quarantine.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct QuarantineQuery {
    /// Of this table of the old database.
    #[param(inline)]
    table: Option<Table>,
    /// For this reason: `amount_missing`.
    reason: Option<String>,
    /// Rows of a page: 50 if not said, 200 at most.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u16>,
    /// `page.next_cursor` of the page before, with everything else unchanged.
    cursor: Option<String>,
}

/// List the rows that lie in quarantine, by table and primary key.
///
/// They are those of the business that the import was for, as they lie there now: every import tries all of them
/// again. How many an import left there, and why, is in its report.
#[utoipa::path(get, path = "/api/admin/legacy/imports/{id}/quarantine", params(("id" = Uuid, Path), QuarantineQuery),
    responses((status = 200, body = Page<Quarantined>)))]
async fn list_quarantine(
    _: Founder,
    State(app): State<App>,
    Id(id): Id<Uuid>,
    Query(query): Query<QuarantineQuery>,
    OriginalUri(uri): OriginalUri,
) -> Result<Page<Quarantined>, Problem> {
    let QuarantineQuery { table, reason, limit, cursor } = query;
    let limit = page::limit(limit)?;
    let tenant: Option<String> = sqlx::query_scalar("select tenant_id from legacy_imports where import_id = $1")
        .bind(id)
        .fetch_optional(pool(&app))
        .await?;
    let tenant: TenantId = tenant.ok_or_else(Problem::not_found)?.parse().map_err(Problem::internal)?;
    let context = ("legacy-quarantine-cursor-1", id, table.map(Table::name), &reason);
    let context = serde_json::to_vec(&context).map_err(Problem::internal)?;
    let after = cursor.map(|text| after(&cursor::open(&app.cursor_key, &context, &text)?)).transpose()?;
    let which = Which { table, key: None, reason, after, limit: i64::from(limit) + 1 };
    let mut rows = quarantine::list(&app.database.cell_of(tenant).founder, tenant, &which).await.map_err(failed)?;
    let more = rows.len() > usize::from(limit);
    rows.truncate(usize::from(limit));
    let last = rows.last().filter(|_| more).map(|row| vec![Some(row.table.clone()), Some(row.key.to_string())]);
    Page::sealed(rows, last.as_ref(), (&app.cursor_key, &context), &uri)
}

/// The row that a cursor names.
fn after(keys: &cursor::Keys) -> Result<(String, i64), Problem> {
    match keys.as_slice() {
        [Some(table), Some(key)] => Ok((table.clone(), key.parse().map_err(|_| Problem::invalid_cursor())?)),
        _ => Err(Problem::invalid_cursor()),
    }
}

fn failed(error: ImportError) -> Problem {
    match error {
        ImportError::Database(error) => error.into(),
        other => Problem::internal(other),
    }
}
