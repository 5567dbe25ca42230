//! Putting right what a projection has set aside, after the cause was mended.

use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::aggregates::ids::TenantId;
use crate::api::caller::Founder;
use crate::api::{App, Json, Problem};
use crate::projections;
use crate::projections::model::FoldError;
use crate::projections::parking::{self, Which};

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(unpark))
}

/// Which of the parked records are to be replayed; all, where nothing is said.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"tenant_id": "TNT-001", "id": "LED-007"}))]
struct UnparkWhich {
    /// Those of this business.
    tenant_id: Option<TenantId>,
    /// Those with this id.
    id: Option<String>,
}

/// What became of the parked records.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"projection": "leads", "records": [
    {"tenant_id": "TNT-001", "id": "LED-007", "events": 3, "refused": null}]}))]
struct UnparkReport {
    /// The projection.
    projection: String,
    /// The records that were meant, in the order in which they had been parked.
    records: Vec<UnparkedRecord>,
}

/// What became of a parked record.
#[derive(Debug, Serialize, ToSchema)]
struct UnparkedRecord {
    /// Whose it is.
    tenant_id: TenantId,
    /// Which.
    id: String,
    /// How many events it had to catch up on.
    events: usize,
    /// Why it is still parked; null if it has caught up.
    #[schema(required)]
    refused: Option<String>,
}

/// Replay what parked records of a projection have missed, in order; one whose events are still refused stays parked.
#[utoipa::path(post, path = "/api/admin/projections/{name}/unpark",
    params(("name" = String, Path, description = "The projection, such as `leads`.")),
    request_body = UnparkWhich, responses((status = 200, body = UnparkReport)))]
async fn unpark(
    _: Founder,
    State(app): State<App>,
    Path(name): Path<String>,
    Json(which): Json<UnparkWhich>,
) -> Result<Json<UnparkReport>, Problem> {
    let pool = &app.database.cell_of(TenantId::Platform).projector;
    let which = Which { tenant: which.tenant_id, id: which.id };
    let unparked = parking::unpark(pool, projections::all(), &name, &which, app.clock.now()).await;
    let unparked = unparked.map_err(|error| match error {
        FoldError::Database(error) => error.into(),
        other => Problem::internal(other),
    })?;
    app.projections.look_at_parked(pool).await?;
    let records = unparked.ok_or_else(Problem::not_found)?.into_iter().map(|record| UnparkedRecord {
        tenant_id: record.tenant_id,
        id: record.id,
        events: record.events,
        refused: record.refused,
    });
    Ok(Json(UnparkReport { projection: name, records: records.collect() }))
}
