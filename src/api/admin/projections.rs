//! The founder's hold on the read models: where they are, whether they are right, and making them anew from the log.

use std::time::Duration;

use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::aggregates::ids::TenantId;
use crate::api::caller::Founder;
use crate::api::{App, Json, Problem};
use crate::event_store::{Cell, directory};
use crate::projections::rebuild::{self, Detail, Overview, Rebuild, RebuildError};
use crate::projections::replay;
use crate::projections::verify::{self, Scope, State as Verified, Verification, VerifyError};

/// How long an answer waits for a verification; one that takes longer is looked for at its own address.
const PATIENCE: Duration = Duration::from_secs(10);
/// Rebuilds or verifications of a projection that are listed.
const LISTED: i64 = 50;
/// Entities that a sample may have.
const LARGEST_SAMPLE: u32 = 100_000;

/// The routes.
pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(read))
        .routes(routes!(begin_rebuild))
        .routes(routes!(list_rebuilds))
        .routes(routes!(read_rebuild))
        .routes(routes!(begin_verification))
        .routes(routes!(list_verifications))
        .routes(routes!(read_verification))
}

/// The projection in a path, by its name, and what follows it.
struct Named {
    name: &'static str,
    id: Option<Uuid>,
}

impl FromRequestParts<App> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Path(params): Path<Vec<(String, String)>> =
            Path::from_request_parts(parts, app).await.map_err(|_| Problem::not_found())?;
        let param = |wanted: &str| params.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let named = param("name").and_then(replay::named).ok_or_else(Problem::not_found)?;
        let id = param("id").map(|id| id.parse().map_err(|_| Problem::not_found())).transpose()?;
        Ok(Self { name: named.name, id })
    }
}

/// What there is of something.
#[derive(Debug, Serialize, ToSchema)]
struct All<T> {
    /// All of it, or the newest fifty.
    data: Vec<T>,
}

fn cell(app: &App) -> &Cell {
    app.database.cell_of(TenantId::Platform)
}

/// List the read models: how far each is, and whether it is known to differ from the log.
#[utoipa::path(get, path = "/api/admin/projections", responses((status = 200, body = All<Overview>)))]
async fn list(_: Founder, State(app): State<App>) -> Result<Json<All<Overview>>, Problem> {
    Ok(Json(All { data: rebuild::overview(cell(&app)).await? }))
}

/// Read where one read model is, and which records it has set aside.
#[utoipa::path(get, path = "/api/admin/projections/{name}", params(("name" = String, Path, example = "leads")),
    responses((status = 200, body = Detail)))]
async fn read(_: Founder, State(app): State<App>, named: Named) -> Result<Json<Detail>, Problem> {
    rebuild::detail(cell(&app), named.name).await?.map(Json).ok_or_else(Problem::not_found)
}

/// What is to be made anew.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"tenant_id": "TNT-001"}))]
struct RebuildBody {
    /// Only this business's rows; if not said, everybody's.
    tenant_id: Option<TenantId>,
}

/// Make a read model anew from the log.
///
/// It is filled beside the one that is read, which serves until the new one takes its place in one transaction. The
/// answer does not wait for that: look at its address for how far it is. One rebuild of a read model runs at a time.
#[utoipa::path(post, path = "/api/admin/projections/{name}/rebuild", params(("name" = String, Path, example = "leads")),
    request_body = Option<RebuildBody>, responses((status = 202, body = rebuild::Record)))]
async fn begin_rebuild(
    _: Founder,
    State(app): State<App>,
    named: Named,
    body: Option<Json<RebuildBody>>,
) -> Result<Response, Problem> {
    let RebuildBody { tenant_id } = body.map(|Json(body)| body).unwrap_or_default();
    known(&app, tenant_id).await?;
    let rebuild = Rebuild::begin(cell(&app), &app.clock, named.name, tenant_id).await.map_err(not_rebuilt)?;
    let record = rebuild.record().clone();
    // What comes of it is written down there, and logged.
    tokio::spawn(rebuild.run(|_| {}));
    Ok(accepted(format!("/api/admin/projections/{}/rebuilds/{}", named.name, record.rebuild_id), record))
}

/// List the rebuilds of a read model, the newest first.
#[utoipa::path(get, path = "/api/admin/projections/{name}/rebuilds", params(("name" = String, Path, example = "leads")),
    responses((status = 200, body = All<rebuild::Record>)))]
async fn list_rebuilds(
    _: Founder,
    State(app): State<App>,
    named: Named,
) -> Result<Json<All<rebuild::Record>>, Problem> {
    Ok(Json(All { data: rebuild::list(&cell(&app).founder, named.name, LISTED).await? }))
}

/// Read how far a rebuild is, or what came of it.
#[utoipa::path(get, path = "/api/admin/projections/{name}/rebuilds/{id}",
    params(("name" = String, Path, example = "leads"), ("id" = Uuid, Path)),
    responses((status = 200, body = rebuild::Record)))]
async fn read_rebuild(_: Founder, State(app): State<App>, named: Named) -> Result<Json<rebuild::Record>, Problem> {
    let id = named.id.ok_or_else(Problem::not_found)?;
    rebuild::read(&cell(&app).founder, named.name, id).await?.map(Json).ok_or_else(Problem::not_found)
}

/// What is to be compared.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"tenant_id": "TNT-001", "sample": 200}))]
struct VerifyBody {
    /// Only this business's rows; if not said, everybody's.
    tenant_id: Option<TenantId>,
    /// Only about so many entities, picked at random; if not said, all.
    #[schema(minimum = 1, maximum = 100_000)]
    sample: Option<u32>,
}

/// Compare a read model with the log, row by row.
///
/// The log is folded once more, and each row that is missing, unexpected or different is named, the first hundred with
/// their columns. One that takes longer than ten seconds is answered with 202: look at its address for the result.
#[utoipa::path(post, path = "/api/admin/projections/{name}/verify", params(("name" = String, Path, example = "leads")),
    request_body = Option<VerifyBody>,
    responses((status = 200, body = verify::Record), (status = 202, body = verify::Record)))]
async fn begin_verification(
    _: Founder,
    State(app): State<App>,
    named: Named,
    body: Option<Json<VerifyBody>>,
) -> Result<Response, Problem> {
    let VerifyBody { tenant_id, sample } = body.map(|Json(body)| body).unwrap_or_default();
    known(&app, tenant_id).await?;
    if sample.is_some_and(|sample| !(1..=LARGEST_SAMPLE).contains(&sample)) {
        return Err(Problem::invalid_field("/sample", "out_of_range", format!("from 1 to {LARGEST_SAMPLE}")));
    }
    let scope = Scope { tenant: tenant_id, sample };
    let verification = Verification::begin(cell(&app), &app.clock, named.name, scope).await.map_err(not_verified)?;
    let id = verification.id();
    let running = tokio::spawn(verification.run(|_, _| {}));
    let _ = tokio::time::timeout(PATIENCE, running).await;
    let record = verify::read(&cell(&app).founder, named.name, id).await?.ok_or_else(Problem::not_found)?;
    if record.state == Verified::Running.to_string() {
        return Ok(accepted(format!("/api/admin/projections/{}/verifications/{id}", named.name), record));
    }
    Ok(Json(record).into_response())
}

/// List the verifications of a read model, the newest first.
#[utoipa::path(get, path = "/api/admin/projections/{name}/verifications",
    params(("name" = String, Path, example = "leads")), responses((status = 200, body = All<verify::Record>)))]
async fn list_verifications(
    _: Founder,
    State(app): State<App>,
    named: Named,
) -> Result<Json<All<verify::Record>>, Problem> {
    Ok(Json(All { data: verify::list(&cell(&app).founder, named.name, LISTED).await? }))
}

/// Read what a verification has found.
#[utoipa::path(get, path = "/api/admin/projections/{name}/verifications/{id}",
    params(("name" = String, Path, example = "leads"), ("id" = Uuid, Path)),
    responses((status = 200, body = verify::Record)))]
async fn read_verification(_: Founder, State(app): State<App>, named: Named) -> Result<Json<verify::Record>, Problem> {
    let id = named.id.ok_or_else(Problem::not_found)?;
    verify::read(&cell(&app).founder, named.name, id).await?.map(Json).ok_or_else(Problem::not_found)
}

/// Whether the log knows the business: its rows may be just what is missing.
async fn known(app: &App, tenant: Option<TenantId>) -> Result<(), Problem> {
    let Some(tenant) = tenant else { return Ok(()) };
    let known = directory::is_known(&app.database.cell_of(tenant).founder, tenant).await?;
    if known { Ok(()) } else { Err(Problem::invalid_field("/tenant_id", "unknown", "there is no such business")) }
}

fn accepted<T: Serialize>(address: String, record: T) -> Response {
    (StatusCode::ACCEPTED, [(header::LOCATION, address)], Json(record)).into_response()
}

fn not_rebuilt(error: RebuildError) -> Problem {
    let rule = match &error {
        RebuildError::Busy(_) => "one_rebuild_at_a_time",
        RebuildError::NotOwner => "owner_of_the_tables",
        RebuildError::Views(_) => "no_views_on_read_models",
        RebuildError::Unknown(_) => return Problem::not_found(),
        _ => return Problem::internal(error),
    };
    Problem::conflict(rule, error.to_string())
}

fn not_verified(error: VerifyError) -> Problem {
    match error {
        VerifyError::Unknown(_) => Problem::not_found(),
        VerifyError::Database(error) => error.into(),
        other => Problem::internal(other),
    }
}
