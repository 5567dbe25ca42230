//! The contact there was and will be, with a lead or a customer.

use axum::extract::State;
use axum::http::Uri;
use chrono::{DateTime, NaiveDate, Utc};
use cqrs_es::Aggregate as _;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::customers::Customers;
use super::headers::IfMatch;
use super::leads::Leads;
use super::list::{Field, Kind, ListQuery, ListSpec, Parent};
use super::page::Page;
use super::past::{self, AsOfQuery, Reader, When};
use super::record::{Found, Id, Noun, Record, find, list_spec, row, unchanged_since};
use super::write::Attempts;
use super::{App, Json, Problem};
use crate::aggregates::customer::{Customer, CustomerCommand};
use crate::aggregates::ids::{CustomerId, InteractionId, LeadId, TenantId, UserId};
use crate::aggregates::interaction::InteractionDetails;
use crate::aggregates::lead::{Lead, LeadCommand};
use crate::aggregates::permission::Module;
use crate::aggregates::values::{Hours, InteractionStatus, InteractionType, Priority, Text, calendar};
use crate::event_store::StreamId;
use crate::projections::interactions::InteractionRow;
use crate::projections::row::Stored;

/// A call, a meeting, a demo …
#[derive(Debug, Serialize, ToSchema)]
pub struct InteractionView {
    /// The interaction's id.
    #[schema(value_type = InteractionId)]
    id: String,
    /// The version of its customer, or lead, that made it so; also the `ETag`.
    version: i64,
    /// The customer it is with.
    #[schema(value_type = Option<CustomerId>)]
    customer_id: Option<String>,
    /// The lead it is or was with.
    #[schema(value_type = Option<LeadId>)]
    lead_id: Option<String>,
    /// What kind of contact.
    #[serde(rename = "type")]
    #[schema(value_type = InteractionType)]
    interaction_type: String,
    /// What it is about.
    subject: Option<String>,
    /// In more words.
    description: Option<String>,
    /// What came of it.
    outcome: Option<String>,
    /// How much it presses.
    #[schema(value_type = Priority)]
    priority: String,
    /// Whether it took place.
    #[schema(value_type = InteractionStatus)]
    status: String,
    /// When it was to take place.
    #[serde(serialize_with = "crate::api::shown::at")]
    scheduled_at: Option<DateTime<Utc>>,
    /// When it did.
    #[serde(serialize_with = "crate::api::shown::at")]
    completed_at: Option<DateTime<Utc>>,
    /// When to come back to it.
    follow_up_date: Option<NaiveDate>,
    /// Whether the customer pays for the time.
    billable: bool,
    /// The time it took.
    #[schema(value_type = Option<Hours>)]
    hours: Option<Decimal>,
    /// Who had or has it.
    #[schema(value_type = Option<UserId>)]
    created_by: Option<String>,
    /// When it was recorded.
    #[serde(serialize_with = "crate::api::shown::at")]
    created_at: DateTime<Utc>,
    /// When it last changed.
    #[serde(serialize_with = "crate::api::shown::at")]
    updated_at: DateTime<Utc>,
}

impl From<Stored<InteractionRow>> for InteractionView {
    fn from(stored: Stored<InteractionRow>) -> Self {
        let row = stored.row;
        Self {
            id: stored.id,
            version: stored.version,
            customer_id: row.customer_id,
            lead_id: row.lead_id,
            interaction_type: row.interaction_type,
            subject: row.subject,
            description: row.description,
            outcome: row.outcome,
            priority: row.priority,
            status: row.status,
            scheduled_at: row.scheduled_at,
            completed_at: row.completed_at,
            follow_up_date: row.follow_up_date,
            billable: row.billable,
            hours: row.billable_hours,
            created_by: row.created_by,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
        }
    }
}

/// Interactions; who may see them follows from the lead or customer that they are with.
pub struct Interactions;

impl Noun for Interactions {
    type Row = InteractionRow;
    type View = InteractionView;
    const MODULE: Module = Module::Customers;
    const LIST: ListSpec = ListSpec {
        search: &["subject", "description", "outcome"],
        default_sort: "-created_at",
        hides_deleted: false,
        ..ListSpec::new("interactions", FIELDS)
    };

    /// It lives with the customer once there is one, else with the lead.
    fn stream(tenant: TenantId, stored: &Stored<Self::Row>) -> StreamId {
        match (&stored.row.customer_id, &stored.row.lead_id) {
            (Some(customer), _) => StreamId::new(Customer::TYPE, tenant, customer),
            (None, lead) => StreamId::new(Lead::TYPE, tenant, lead.as_deref().unwrap_or_default()),
        }
    }
}

const FIELDS: &[Field] = &[
    Field::new("id", Kind::Id).not_null(),
    Field::new("type", Kind::Enum(InteractionType::WORDS)).column("interaction_type").not_null().filter_only(),
    Field::new("status", Kind::Enum(InteractionStatus::WORDS)).not_null().filter_only(),
    Field::new("priority", Kind::Enum(Priority::WORDS)).not_null().filter_only(),
    Field::new("created_by", Kind::Id).filter_only(),
    Field::new("scheduled_at", Kind::Timestamp),
    Field::new("completed_at", Kind::Timestamp),
    Field::new("follow_up_date", Kind::Date),
    Field::new("created_at", Kind::Timestamp).not_null(),
    Field::new("updated_at", Kind::Timestamp).not_null(),
];

/// The routes that speak of an interaction by itself.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(read)).routes(routes!(complete)).routes(routes!(cancel))
}

/// With whom.
#[derive(Debug, Clone, Copy)]
pub enum Of {
    /// With a lead.
    Lead(LeadId),
    /// With a customer.
    Customer(CustomerId),
}

/// One page of the contact with a lead or a customer.
///
/// # Errors
/// What the query does wrong; `not_found`.
pub async fn list_of(app: &App, reader: Reader<'_>, of: Of, uri: &Uri) -> Result<Page<InteractionView>, Problem> {
    let query = ListQuery::parse(list_spec::<Interactions>(), uri)?;
    let query = match of {
        Of::Lead(id) => {
            past::there::<Leads>(app, reader, &id.to_string(), query.as_of()).await?;
            // it always was with the lead that it is with, and by what is so now there is an index
            query.only("lead_id", id.to_string()).among_today("lead_id", vec![id.to_string()])
        }
        Of::Customer(id) => {
            past::there::<Customers>(app, reader, &id.to_string(), query.as_of()).await?;
            past::nouns::with_customer(app, reader.scope(), query, id).await?
        }
    };
    let customers = reader.visibility::<Customers>();
    let leads = reader.visibility::<Leads>();
    let parents = [
        Parent { column: "customer_id", table: "customers", owner: "owner_id", visibility: customers },
        Parent { column: "lead_id", table: "leads", owner: "assignee_id", visibility: leads },
    ];
    past::list_within::<Interactions>(app, reader, query, &parents).await
}

/// Contact to be recorded or planned.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"type": "call", "subject": "First call", "outcome": "Wants an offer"}))]
pub struct LogInteraction {
    /// What kind of contact.
    #[serde(rename = "type")]
    kind: InteractionType,
    /// What it is about.
    subject: Text<200>,
    /// In more words.
    #[serde(default)]
    description: Option<Text<5000>>,
    /// What came of it.
    #[serde(default)]
    outcome: Option<Text<2000>>,
    /// How much it presses.
    #[serde(default)]
    priority: Priority,
    /// `scheduled` plans it for `scheduled_at`; `completed`, the default, records that it took place.
    #[serde(default)]
    status: Option<InteractionStatus>,
    /// When it is to take place; planned, if `status` is not said.
    #[serde(default, deserialize_with = "calendar::optional_time")]
    scheduled_at: Option<DateTime<Utc>>,
    /// When it took place; now if not said.
    #[serde(default, deserialize_with = "calendar::optional_time")]
    completed_at: Option<DateTime<Utc>>,
    /// When to come back to it.
    #[serde(default, deserialize_with = "calendar::optional_date")]
    follow_up_date: Option<NaiveDate>,
    /// Whether the customer pays for the time.
    #[serde(default)]
    billable: bool,
    /// The time it took.
    #[serde(default)]
    hours: Option<Hours>,
}

/// What a request to log means.
enum Plan {
    Took(DateTime<Utc>),
    Will(DateTime<Utc>),
}

impl LogInteraction {
    fn plan(&self, now: DateTime<Utc>) -> Result<Plan, Problem> {
        match (self.status, self.scheduled_at, self.completed_at) {
            (Some(InteractionStatus::Cancelled), ..) => {
                Err(Problem::invalid_field("/status", "unknown_value", "expected one of scheduled, completed"))
            }
            (Some(InteractionStatus::Scheduled), None, _) => {
                Err(Problem::invalid_field("/scheduled_at", "required", "say when it is to take place"))
            }
            (Some(InteractionStatus::Scheduled), _, Some(_)) => {
                Err(Problem::invalid_field("/completed_at", "contradiction", "it has not taken place yet"))
            }
            (Some(InteractionStatus::Scheduled) | None, Some(at), None) => Ok(Plan::Will(at)),
            (_, _, at) => Ok(Plan::Took(at.unwrap_or(now))),
        }
    }

    fn details(self) -> InteractionDetails {
        InteractionDetails {
            kind: self.kind,
            subject: self.subject,
            description: self.description,
            outcome: self.outcome,
            priority: self.priority,
            follow_up_date: self.follow_up_date,
            billable: self.billable,
            hours: self.hours,
        }
    }
}

/// Records or plans contact with a lead that the caller is known to be allowed to change.
///
/// # Errors
/// What the lead refuses.
pub async fn log_on_lead(
    app: &App,
    caller: &Caller,
    lead: LeadId,
    body: LogInteraction,
) -> Result<Record<InteractionView>, Problem> {
    let plan = body.plan(app.clock.now())?;
    let (details, by) = (body.details(), caller.own_user());
    let id = InteractionId(app.number(caller, InteractionId::PREFIX).await?);
    let command = match plan {
        Plan::Took(at) => LeadCommand::LogInteraction { id, details, by, at },
        Plan::Will(scheduled_at) => LeadCommand::ScheduleInteraction { id, details, by, scheduled_at },
    };
    let mut attempts = Attempts::default();
    loop {
        let work = app.begin(caller);
        work.execute::<Lead>(work.stream::<Lead>(lead), command.clone()).await?;
        if let Some(receipt) = app.commit(caller, work, &mut attempts).await? {
            let record = super::record::answer::<Interactions>(app, caller, &id.to_string(), &receipt).await?;
            return Ok(record.created(&format!("/api/interactions/{id}")));
        }
    }
}

/// Records or plans contact with a customer that the caller is known to be allowed to change.
///
/// # Errors
/// What the customer refuses.
pub async fn log_on_customer(
    app: &App,
    caller: &Caller,
    customer: CustomerId,
    body: LogInteraction,
) -> Result<Record<InteractionView>, Problem> {
    let plan = body.plan(app.clock.now())?;
    let (details, by) = (body.details(), caller.own_user());
    let id = InteractionId(app.number(caller, InteractionId::PREFIX).await?);
    let command = match plan {
        Plan::Took(at) => CustomerCommand::LogInteraction { id, details, by, at },
        Plan::Will(scheduled_at) => CustomerCommand::ScheduleInteraction { id, details, by, scheduled_at },
    };
    let mut attempts = Attempts::default();
    loop {
        let work = app.begin(caller);
        work.execute::<Customer>(work.stream::<Customer>(customer), command.clone()).await?;
        if let Some(receipt) = app.commit(caller, work, &mut attempts).await? {
            let record = super::record::answer::<Interactions>(app, caller, &id.to_string(), &receipt).await?;
            return Ok(record.created(&format!("/api/interactions/{id}")));
        }
    }
}

/// Read an interaction.
#[utoipa::path(get, path = "/api/interactions/{id}", params(("id" = InteractionId, Path), AsOfQuery),
    responses((status = 200, body = InteractionView)))]
async fn read(
    caller: Caller,
    State(app): State<App>,
    Id(id): Id<InteractionId>,
    When(as_of): When,
) -> Result<Record<InteractionView>, Problem> {
    if let Some(as_of) = as_of {
        return past::read::<Interactions>(&app, Reader::Caller(&caller), &id.to_string(), as_of).await;
    }
    let (stored, _) = visible(&app, &caller, id).await?;
    let version = stored.version;
    Ok(Record::read(stored.into(), version))
}

/// What came of it.
#[derive(Debug, Default, Clone, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
struct CompleteInteraction {
    /// What came of it; as it was if not said.
    outcome: Option<Text<2000>>,
    /// The time it took; as it was if not said.
    hours: Option<Hours>,
    /// When it took place; now if not said.
    #[serde(deserialize_with = "calendar::optional_time")]
    completed_at: Option<DateTime<Utc>>,
}

/// Say that planned contact took place.
#[utoipa::path(post, path = "/api/interactions/{id}/complete", params(("id" = InteractionId, Path), IfMatch),
    request_body = Option<CompleteInteraction>, responses((status = 200, body = InteractionView)))]
async fn complete(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<InteractionId>,
    body: Option<Json<CompleteInteraction>>,
) -> Result<Record<InteractionView>, Problem> {
    let Json(body) = body.unwrap_or(Json(CompleteInteraction::default()));
    let at = body.completed_at.unwrap_or(app.clock.now());
    change(&app, &caller, id, if_match, |of| match of {
        Of::Lead(_) => {
            Change::Lead(LeadCommand::CompleteInteraction { id, outcome: body.outcome.clone(), hours: body.hours, at })
        }
        Of::Customer(_) => Change::Customer(CustomerCommand::CompleteInteraction {
            id,
            outcome: body.outcome.clone(),
            hours: body.hours,
            at,
        }),
    })
    .await
}

/// Call planned contact off.
#[utoipa::path(post, path = "/api/interactions/{id}/cancel", params(("id" = InteractionId, Path), IfMatch),
    responses((status = 200, body = InteractionView)))]
async fn cancel(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<InteractionId>,
) -> Result<Record<InteractionView>, Problem> {
    change(&app, &caller, id, if_match, |of| match of {
        Of::Lead(_) => Change::Lead(LeadCommand::CancelInteraction { id }),
        Of::Customer(_) => Change::Customer(CustomerCommand::CancelInteraction { id }),
    })
    .await
}

enum Change {
    Lead(LeadCommand),
    Customer(CustomerCommand),
}

/// Changes an interaction where it lives: with the customer once there is one, else with the lead.
async fn change(
    app: &App,
    caller: &Caller,
    id: InteractionId,
    if_match: IfMatch,
    command: impl Fn(Of) -> Change,
) -> Result<Record<InteractionView>, Problem> {
    let mut attempts = Attempts::default();
    loop {
        let mut work = app.begin(caller);
        let (stored, with) = visible(app, caller, id).await?;
        match &with {
            With::Lead(_, found) => found.require(caller, Leads::WRITE)?,
            With::Customer(_, found) => found.require(caller, Customers::WRITE)?,
        }
        unchanged_since::<Interactions>(app, caller, &mut work, &stored, if_match, &["status".to_owned()]).await?;
        match (&with, command(with.of())) {
            (With::Lead(lead, _), Change::Lead(command)) => {
                work.execute::<Lead>(work.stream::<Lead>(lead), command).await?;
            }
            (With::Customer(customer, _), Change::Customer(command)) => {
                work.execute::<Customer>(work.stream::<Customer>(customer), command).await?;
            }
            _ => return Err(Problem::not_found()),
        }
        if let Some(receipt) = app.commit(caller, work, &mut attempts).await? {
            return super::record::answer::<Interactions>(app, caller, &id.to_string(), &receipt).await;
        }
    }
}

/// With whom an interaction is, as far as the caller may see.
enum With {
    Lead(LeadId, Box<Found<<Leads as Noun>::Row>>),
    Customer(CustomerId, Box<Found<<Customers as Noun>::Row>>),
}

impl With {
    fn of(&self) -> Of {
        match self {
            Self::Lead(id, _) => Of::Lead(*id),
            Self::Customer(id, _) => Of::Customer(*id),
        }
    }
}

/// With whom an interaction is that the caller may see.
///
/// # Errors
/// `not_found`.
pub(super) async fn with(app: &App, caller: &Caller, id: InteractionId) -> Result<Of, Problem> {
    Ok(visible(app, caller, id).await?.1.of())
}

async fn visible(app: &App, caller: &Caller, id: InteractionId) -> Result<(Stored<InteractionRow>, With), Problem> {
    let stored = row::<Interactions>(app, caller, &id.to_string()).await?;
    let customer: Option<CustomerId> = stored.row.customer_id.as_deref().and_then(|id| id.parse().ok());
    let lead: Option<LeadId> = stored.row.lead_id.as_deref().and_then(|id| id.parse().ok());
    let with = match (customer, lead) {
        (Some(id), _) => With::Customer(id, Box::new(find::<Customers>(app, caller, &id.to_string()).await?)),
        (None, Some(id)) => With::Lead(id, Box::new(find::<Leads>(app, caller, &id.to_string()).await?)),
        (None, None) => return Err(Problem::not_found()),
    };
    Ok((stored, with))
}
