//! What happened, for those who may know: the business's own history, and the founder's of all businesses.
//!
//! Outside the system an event is a `CloudEvent` (1.0). Lists begin with the newest.

pub(super) mod cloud_event;
pub mod query;
mod withheld;

use axum::body::Body;
use axum::extract::{OriginalUri, State};
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::{IntoResponse, Response};
use chrono::TimeDelta;
use futures::stream;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::{Caller, Founder};
use super::page::Page;
use super::query::Query;
use super::{App, Problem};
use crate::aggregates::permission::{Action, Module, Permission, Scope};
use crate::aggregates::values::{Feature, Plan};
use crate::event_store::Planned;

use cloud_event::CloudEvent;
use query::{AdminEventsQuery, By, EventsQuery, Reading};

const READ: Permission = Permission { module: Module::Audit, action: Action::Read };
const EXPORT: Permission = Permission { module: Module::Audit, action: Action::Export };

/// Events that a stream reads at once.
const STREAM_PAGE: i64 = 500;

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(own_events)).routes(routes!(all_events))
}

/// An event that was decided, by the name that programs know it under: `devhub.lead.stage_changed.v1`.
pub(super) fn public_name(planned: &Planned) -> String {
    cloud_event::public_type(planned.aggregate_type, &planned.event_type, &planned.event_version)
}

/// How the events are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Page,
    Lines,
    Csv,
}

impl Format {
    fn wanted(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let kinds = accepted.flat_map(|value| value.split(',')).map(|kind| kind.split(';').next().unwrap_or_default());
        for kind in kinds {
            match kind.trim() {
                "application/x-ndjson" => return Self::Lines,
                "text/csv" => return Self::Csv,
                _ => {}
            }
        }
        Self::Page
    }
}

/// List what happened in one's own business, the newest first: everything, what one's department did, or what one
/// did oneself, as far as `audit:read` reaches and as far back as the plan shows.
///
/// `Accept: application/x-ndjson` or `text/csv` streams everything that matches; that needs `audit:export`.
#[utoipa::path(get, path = "/api/events", params(EventsQuery), responses((status = 200, content(
    (Page<CloudEvent> = "application/json"), (CloudEvent = "application/x-ndjson"), (String = "text/csv")))))]
async fn own_events(
    caller: Caller,
    State(app): State<App>,
    Query(query): Query<EventsQuery>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let reach = caller.require(READ)?;
    let format = Format::wanted(&headers);
    if format != Format::Page {
        caller.require(EXPORT)?;
        if !caller.business.has(Feature::Exports) {
            let plan = Plan::first_with(Feature::Exports);
            return Err(Problem::plan_limit("exports are not part of the plan", 0, 0, Some(plan.as_str())));
        }
    }
    let me = format!("{}:{}", caller.home, caller.user);
    let by = match (reach, caller.identity.department.clone()) {
        (Scope::Tenant, _) => By::Anybody,
        (Scope::Department, Some(department)) => By::Department { department, me },
        (Scope::Department, None) | (Scope::Own, _) => By::Me(me),
    };
    let days = caller.business.plan.allowance().audit_days;
    let shown = days.map(|days| app.clock.now() - TimeDelta::days(i64::from(days)));
    let reading = query.reading((caller.tenant(), caller.own_user()), by, shown)?;
    answer(&app, reading, format, &uri).await
}

/// List what happened in all businesses, or in one, the newest first.
///
/// `Accept: application/x-ndjson` or `text/csv` streams everything that matches.
#[utoipa::path(get, path = "/api/admin/events", params(AdminEventsQuery), responses((status = 200, content(
    (Page<CloudEvent> = "application/json"), (CloudEvent = "application/x-ndjson"), (String = "text/csv")))))]
async fn all_events(
    _: Founder,
    State(app): State<App>,
    Query(query): Query<AdminEventsQuery>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let reading = query.reading()?;
    answer(&app, reading, Format::wanted(&headers), &uri).await
}

async fn answer(app: &App, reading: Reading, format: Format, uri: &Uri) -> Result<Response, Problem> {
    match format {
        Format::Page => Ok(reading.page(app, uri).await?.into_response()),
        Format::Lines => Ok(streamed(app, reading, "application/x-ndjson", None, cloud_event::line)),
        Format::Csv => {
            Ok(streamed(app, reading, "text/csv; charset=utf-8", Some(cloud_event::CSV_HEADER), cloud_event::csv))
        }
    }
}

/// Everything that matches, a page at a time: however much it is, little of it is held at once.
fn streamed(
    app: &App,
    reading: Reading,
    content_type: &'static str,
    heading: Option<&[&str]>,
    write: fn(&CloudEvent) -> Result<Vec<u8>, Problem>,
) -> Response {
    let heading = heading.map(|names| (names.join(",") + "\r\n").into_bytes());
    let state = (app.clone(), reading, heading, true);
    let body = stream::try_unfold(state, move |(app, mut reading, mut heading, more)| async move {
        if !more {
            return Ok::<_, Problem>(None);
        }
        let (events, next) = reading.some(&app, STREAM_PAGE).await?;
        let mut bytes = heading.take().unwrap_or_default();
        for event in &events {
            bytes.extend(write(event)?);
        }
        let more = next.is_some();
        reading.before = next;
        Ok(Some((bytes, (app, reading, heading, more))))
    });
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static(content_type))];
    (content_type, Body::from_stream(body)).into_response()
}
