//! What operators ask: is it alive, is it ready, how is it doing.

use std::sync::OnceLock;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Founder;
use super::{App, Json, Problem};
use crate::aggregates::ids::TenantId;
use crate::projections::verify::{self, Standing};

/// Events that the read models may be behind before the server says it is not ready.
const READY_LAG: i64 = 10_000;

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(live)).routes(routes!(ready)).routes(routes!(metrics_text))
}

/// How the server is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"status": "ok", "version": "0.1.0", "database": true, "position": 1200, "lag": 0}))]
pub struct Health {
    /// `ok`, `degraded` if a read model was found to differ from the log, or `unavailable`.
    status: &'static str,
    /// The version of the program.
    version: &'static str,
    /// Whether the database answers.
    database: bool,
    /// The position up to which the read models are written.
    position: i64,
    /// How many events they are behind.
    lag: i64,
    /// What holds the read models up.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<String>,
    /// The projections that have stopped; the others go on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    stopped: Vec<String>,
    /// The read models that were found to differ from the log, until that is put right.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differing: Vec<Standing>,
}

/// Whether the process runs.
#[utoipa::path(get, path = "/health/live", security(()), responses((status = 200, body = Alive)))]
async fn live() -> Json<Alive> {
    Json(Alive { status: "ok" })
}

/// The process runs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"status": "ok"}))]
struct Alive {
    /// Always `ok`.
    status: &'static str,
}

/// Whether requests can be served: the database answers and the read models follow the log.
#[utoipa::path(get, path = "/health/ready", security(()),
    responses((status = 200, body = Health), (status = 503, body = Health)))]
async fn ready(State(app): State<App>) -> Response {
    let cell = app.database.cell_of(TenantId::Platform);
    let head: sqlx::Result<i64> = sqlx::query_scalar("select position from cell_head where cell = $1")
        .bind(&*cell.name)
        .fetch_one(&cell.founder)
        .await;
    let progress = app.projections.progress();
    // A tenant who has much to read has a lane of its own, and is nobody else's lag.
    let lag = head.as_ref().map_or(0, |head| (head - progress.position).max(0));
    let differing = verify::standing(&cell.founder).await.unwrap_or_default();
    let stopped: Vec<String> = progress.stopped.iter().map(|(projection, _)| projection.clone()).collect();
    let ok = head.is_ok() && progress.failure.is_none() && stopped.is_empty() && lag <= READY_LAG;
    // The reason can quote an event; it stands in the log and in the founder's view.
    let failure = match (progress.failure, stopped.as_slice()) {
        (Some(_), _) => Some("the read models have stopped; the log says why".to_owned()),
        (None, []) => None,
        (None, names) => Some(format!("the read models of {} have stopped; the log says why", names.join(", "))),
    };
    let health = Health {
        // What differs is served all the same: a server that is taken out of service would not put it right.
        status: match (ok, differing.is_empty()) {
            (true, true) => "ok",
            (true, false) => "degraded",
            (false, _) => "unavailable",
        },
        version: env!("CARGO_PKG_VERSION"),
        database: head.is_ok(),
        position: progress.position,
        lag,
        failure,
        stopped,
        differing,
    };
    let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}

/// Metrics, as Prometheus reads them. Those that name a business are the founder's.
#[utoipa::path(get, path = "/metrics", security(()), responses((status = 200, body = String, content_type = "text/plain")))]
async fn metrics_text(founder: Result<Founder, Problem>) -> Response {
    let mut text = recorder().map(PrometheusHandle::render).unwrap_or_default();
    if founder.is_err() {
        text = text.lines().filter(|line| !line.contains("tenant=\"")).flat_map(|line| [line, "\n"]).collect();
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Bounds of the durations of requests, in seconds.
const DURATIONS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Bounds of how many commands go into one batch.
const COMMANDS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
/// How often what was measured is counted.
const UPKEEP: Duration = Duration::from_secs(5);

/// The process's one recorder of metrics; none if something else records them.
///
/// What is distributed is counted by bounds. Left to itself, the exporter keeps sketches of quantiles, half a megabyte for
/// each route and status, which cannot be added up over servers either.
pub fn recorder() -> Option<&'static PrometheusHandle> {
    let install = || {
        let (durations, commands) = (Matcher::Suffix("_seconds".to_owned()), Matcher::Suffix("_commands".to_owned()));
        let builder = PrometheusBuilder::new().set_buckets_for_metric(durations, &DURATIONS);
        builder.and_then(|builder| builder.set_buckets_for_metric(commands, &COMMANDS)?.install_recorder()).ok()
    };
    RECORDER.get_or_init(install).as_ref()
}

/// Counts what was measured, again and again: until then each sample is kept, and nobody may ever ask for the metrics.
pub async fn upkeep() {
    loop {
        tokio::time::sleep(UPKEEP).await;
        if let Some(Some(recorder)) = RECORDER.get() {
            recorder.run_upkeep();
        }
    }
}
