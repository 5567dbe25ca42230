//! Leads over HTTP.

use axum::extract::State;
use axum::http::Uri;
use chrono::{DateTime, NaiveDate, Utc};
use cqrs_es::Aggregate as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::headers::IfMatch;
use super::interactions::{self, InteractionView, LogInteraction};
use super::list::{Field, Kind, ListSpec};
use super::page::Page;
use super::past::{self, AsOfQuery, Reader, When};
use super::record::{Id, Merge, Noun, Record, answer, find, find_any, find_to_change, list, unchanged_since};
use super::shown::money;
use super::write::Attempts;
use super::{App, Json, Problem, customers, users};
use crate::aggregates::customer::{Customer, CustomerCommand, CustomerDetails};
use crate::aggregates::ids::{CustomerId, LeadId, TenantId, UserId};
use crate::aggregates::lead::{Lead, LeadCommand, LeadDetails, LeadPatch, ScoreInputs};
use crate::aggregates::permission::{Action, Module, Permission};
use crate::aggregates::values::{
    Address, Email, LeadSource, LeadStage, Money, Patch, Percent, Phone, Qualification, Text, calendar,
};
use crate::event_store::{StreamId, Work};
use crate::projections::leads::LeadRow;
use crate::projections::row::Stored;

const CONVERT: Permission = Permission { module: Module::Leads, action: Action::Convert };

/// Somebody who may become a customer.
#[derive(Debug, Serialize, ToSchema)]
pub struct LeadView {
    /// The lead's id.
    #[schema(value_type = LeadId)]
    id: String,
    /// How many times it has changed; also the `ETag`.
    version: i64,
    /// The contact's name.
    name: String,
    /// The company.
    company: Option<String>,
    /// What the contact does there.
    job_title: Option<String>,
    /// E-mail.
    email: Option<String>,
    /// Telephone.
    phone: Option<String>,
    /// Postal address.
    #[schema(value_type = Option<Address>)]
    address: Option<Value>,
    /// How it came in.
    #[schema(value_type = LeadSource)]
    source: String,
    /// How far it has come.
    #[schema(value_type = LeadStage)]
    stage: String,
    /// What is thought of it.
    #[schema(value_type = Qualification)]
    qualification: String,
    /// What it may be worth.
    estimated_value: Option<Money>,
    /// How likely it is won, in per cent.
    probability: Option<i16>,
    /// When it may be decided.
    expected_close_date: Option<NaiveDate>,
    /// How promising it is, 0 to 100.
    score: Option<i16>,
    /// What the score was worked out from.
    #[schema(value_type = Option<ScoreInputs>)]
    score_inputs: Option<Value>,
    /// Who takes care of it.
    #[schema(value_type = Option<UserId>)]
    assignee_id: Option<String>,
    /// When it came to its stage.
    #[serde(serialize_with = "crate::api::shown::at")]
    stage_changed_at: DateTime<Utc>,
    /// When there was contact last.
    #[serde(serialize_with = "crate::api::shown::at")]
    last_contacted_at: Option<DateTime<Utc>>,
    /// When it was converted.
    #[serde(serialize_with = "crate::api::shown::at")]
    converted_at: Option<DateTime<Utc>>,
    /// The customer it became.
    #[schema(value_type = Option<CustomerId>)]
    customer_id: Option<String>,
    /// Why it was lost.
    lost_reason: Option<String>,
    /// When it came in.
    #[serde(serialize_with = "crate::api::shown::at")]
    created_at: DateTime<Utc>,
    /// When it last changed.
    #[serde(serialize_with = "crate::api::shown::at")]
    updated_at: DateTime<Utc>,
}

impl From<Stored<LeadRow>> for LeadView {
    fn from(stored: Stored<LeadRow>) -> Self {
        let row = stored.row;
        Self {
            id: stored.id,
            version: stored.version,
            estimated_value: money(row.estimated_value, row.currency.as_deref()),
            name: row.name,
            company: row.company,
            job_title: row.job_title,
            email: row.email,
            phone: row.phone,
            address: row.address,
            source: row.source,
            stage: row.stage,
            qualification: row.qualification,
            probability: row.probability,
            expected_close_date: row.expected_close_date,
            score: row.score,
            score_inputs: row.score_inputs,
            assignee_id: row.assignee_id,
            stage_changed_at: row.stage_changed_at,
            last_contacted_at: row.last_contacted_at,
            converted_at: row.converted_at,
            customer_id: row.customer_id,
            lost_reason: row.lost_reason,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
        }
    }
}

/// Leads, as the API shows them.
pub struct Leads;

impl Noun for Leads {
    type Row = LeadRow;
    type View = LeadView;
    const MODULE: Module = Module::Leads;
    const LIST: ListSpec = ListSpec {
        search: &["name", "company", "email", "id"],
        owner: Some("assignee_id"),
        ..ListSpec::new("leads", FIELDS)
    };

    fn stream(tenant: TenantId, stored: &Stored<Self::Row>) -> StreamId {
        StreamId::new(Lead::TYPE, tenant, &stored.id)
    }
}

const FIELDS: &[Field] = &[
    Field::new("id", Kind::Id).not_null(),
    Field::new("name", Kind::Text).not_null(),
    Field::new("company", Kind::Text),
    Field::new("email", Kind::Text),
    Field::new("source", Kind::Enum(LeadSource::WORDS)).not_null().in_order_of("updated_at"),
    Field::new("stage", Kind::Enum(LeadStage::WORDS)).not_null().in_order_of("updated_at"),
    Field::new("qualification", Kind::Enum(Qualification::WORDS)).not_null().in_order_of("updated_at"),
    Field::new("estimated_value", Kind::Amount).column("estimated_value_key"),
    Field::new("currency", Kind::Text).filter_only(),
    Field::new("probability", Kind::Integer),
    Field::new("expected_close_date", Kind::Date),
    Field::new("score", Kind::Integer),
    Field::new("assignee_id", Kind::Id).in_order_of("updated_at"),
    Field::new("customer_id", Kind::Id).filter_only(),
    Field::new("stage_changed_at", Kind::Timestamp).not_null(),
    Field::new("created_at", Kind::Timestamp).not_null(),
    Field::new("updated_at", Kind::Timestamp).not_null(),
];

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_leads, capture))
        .routes(routes!(read, change, delete))
        .routes(routes!(restore))
        .routes(routes!(change_stage))
        .routes(routes!(assign))
        .routes(routes!(qualify))
        .routes(routes!(score))
        .routes(routes!(convert))
        .routes(routes!(lose))
        .routes(routes!(reopen))
        .routes(routes!(list_interactions, log_interaction))
}

/// A lead to be taken in.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Grace Hopper", "company": "Navy", "email": "grace@example.com", "source": "referral",
    "estimated_value": {"amount": "25000.00", "currency": "USD"}}))]
pub struct CaptureLead {
    /// The contact's name.
    name: Text<200>,
    /// The company.
    #[serde(default)]
    company: Option<Text<200>>,
    /// What the contact does there.
    #[serde(default)]
    job_title: Option<Text<200>>,
    /// E-mail.
    #[serde(default)]
    email: Option<Email>,
    /// Telephone.
    #[serde(default)]
    phone: Option<Phone>,
    /// Postal address.
    #[serde(default)]
    address: Option<Address>,
    /// How it came in; `other` if not said.
    #[serde(default)]
    source: LeadSource,
    /// An open stage; `new` if not said.
    #[serde(default)]
    stage: Option<LeadStage>,
    /// What is thought of it; `new` if not said.
    #[serde(default)]
    qualification: Option<Qualification>,
    /// What it may be worth.
    #[serde(default)]
    estimated_value: Option<Money>,
    /// How likely it is won, in per cent; the stage's default if not said.
    #[serde(default)]
    probability: Option<Percent>,
    /// When it may be decided.
    #[serde(default, deserialize_with = "calendar::optional_date")]
    expected_close_date: Option<NaiveDate>,
    /// Who takes care of it; whoever takes it in if not said, nobody if null.
    #[serde(default)]
    #[schema(value_type = Option<UserId>)]
    assignee_id: Patch<UserId>,
}

/// List leads.
#[utoipa::path(get, path = "/api/leads", responses((status = 200, body = Page<LeadView>)))]
async fn list_leads(caller: Caller, State(app): State<App>, uri: Uri) -> Result<Page<LeadView>, Problem> {
    list::<Leads>(&app, &caller, &uri).await
}

/// Take a lead in.
#[utoipa::path(post, path = "/api/leads", request_body = CaptureLead, responses((status = 201, body = LeadView)))]
async fn capture(
    caller: Caller,
    State(app): State<App>,
    Json(body): Json<CaptureLead>,
) -> Result<Record<LeadView>, Problem> {
    caller.require(Leads::WRITE)?;
    let mut attempts = Attempts::default();
    let receipt = loop {
        let mut work = app.begin(&caller);
        let assignee = match body.assignee_id {
            Patch::Unchanged => caller.own_user(),
            Patch::Clear => None,
            Patch::Set(user) => Some(user),
        };
        users::rely_on(&caller, &mut work, assignee, Leads::WRITE, "/assignee_id").await?;
        let body = body.clone();
        let command = LeadCommand::Capture {
            details: LeadDetails {
                name: body.name,
                company: body.company,
                job_title: body.job_title,
                email: body.email,
                phone: body.phone,
                address: body.address,
                source: body.source,
                estimated_value: body.estimated_value,
                probability: body.probability,
                expected_close_date: body.expected_close_date,
            },
            stage: body.stage,
            qualification: body.qualification,
            assignee,
        };
        work.execute::<Lead>(work.next::<Lead>(LeadId::PREFIX), command).await?;
        if let Some(receipt) = app.commit(&caller, work, &mut attempts).await? {
            break receipt;
        }
    };
    let id = receipt.id(0).unwrap_or_default();
    Ok(answer::<Leads>(&app, &caller, id, &receipt).await?.created(&format!("/api/leads/{id}")))
}

/// Read a lead.
#[utoipa::path(get, path = "/api/leads/{id}", params(("id" = LeadId, Path), AsOfQuery),
    responses((status = 200, body = LeadView)))]
async fn read(
    caller: Caller,
    State(app): State<App>,
    Id(id): Id<LeadId>,
    When(as_of): When,
) -> Result<Record<LeadView>, Problem> {
    if let Some(as_of) = as_of {
        return past::read::<Leads>(&app, Reader::Caller(&caller), &id.to_string(), as_of).await;
    }
    let found = find::<Leads>(&app, &caller, &id.to_string()).await?;
    let version = found.stored.version;
    Ok(Record::read(found.stored.into(), version))
}

/// Change what is known of a lead (JSON Merge Patch).
#[utoipa::path(patch, path = "/api/leads/{id}", params(("id" = LeadId, Path), IfMatch), request_body = LeadPatch,
    responses((status = 200, body = LeadView)))]
async fn change(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<LeadId>,
    body: Merge<LeadPatch>,
) -> Result<Record<LeadView>, Problem> {
    send(&app, &caller, id, if_match, &body.fields, LeadCommand::ChangeDetails(body.patch)).await
}

/// Take a lead away; it can be brought back.
#[utoipa::path(delete, path = "/api/leads/{id}", params(("id" = LeadId, Path), IfMatch), responses((status = 200, body = LeadView)))]
async fn delete(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<LeadId>,
) -> Result<Record<LeadView>, Problem> {
    send(&app, &caller, id, if_match, &[], LeadCommand::Delete {}).await
}

/// Bring a lead back that was taken away.
#[utoipa::path(post, path = "/api/leads/{id}/restore", params(("id" = LeadId, Path), IfMatch),
    responses((status = 200, body = LeadView)))]
async fn restore(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<LeadId>,
) -> Result<Record<LeadView>, Problem> {
    let mut attempts = Attempts::default();
    loop {
        let mut work = app.begin(&caller);
        let found = find_any::<Leads>(&app, &caller, &id.to_string()).await?;
        found.require(&caller, Leads::WRITE)?;
        unchanged_since::<Leads>(&app, &caller, &mut work, &found.stored, if_match, &[]).await?;
        let after = work.execute::<Lead>(work.stream::<Lead>(id), LeadCommand::Restore {}).await?;
        leave_to_nobody(&mut work, id, &after.state).await?;
        if let Some(receipt) = app.commit(&caller, work, &mut attempts).await? {
            return answer::<Leads>(&app, &caller, &id.to_string(), &receipt).await;
        }
    }
}

/// Which stage.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeStage {
    /// An open stage; a lead is won by `convert` and lost by `lose`.
    stage: LeadStage,
}

/// Move a lead to another open stage.
#[utoipa::path(post, path = "/api/leads/{id}/stage", params(("id" = LeadId, Path), IfMatch), request_body = ChangeStage,
    responses((status = 200, body = LeadView)))]
async fn change_stage(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<LeadId>,
    Json(body): Json<ChangeStage>,
) -> Result<Record<LeadView>, Problem> {
    send(&app, &caller, id, if_match, &["stage".into()], LeadCommand::ChangeStage { stage: body.stage }).await
}

/// To whom.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AssignLead {
    /// An active user of the business; null: nobody.
    user_id: Option<UserId>,
}

/// Let somebody, or nobody, take care of a lead.
#[utoipa::path(post, path = "/api/leads/{id}/assign", params(("id" = LeadId, Path), IfMatch), request_body = AssignLead,
    responses((status = 200, body = LeadView)))]
async fn assign(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<LeadId>,
    Json(body): Json<AssignLead>,
) -> Result<Record<LeadView>, Problem> {
    let mut attempts = Attempts::default();
    loop {
        let fields = ["assignee_id".to_owned()];
        let mut work = app.begin(&caller);
        find_to_change::<Leads>(&app, &caller, &mut work, &id.to_string(), if_match, &fields).await?;
        users::rely_on(&caller, &mut work, body.user_id, Leads::WRITE, "/user_id").await?;
        work.execute::<Lead>(work.stream::<Lead>(id), LeadCommand::Assign { assignee: body.user_id }).await?;
        if let Some(receipt) = app.commit(&caller, work, &mut attempts).await? {
            return answer::<Leads>(&app, &caller, &id.to_string(), &receipt).await;
        }
    }
}

/// What is thought of it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct QualifyLead {
    /// The new qualification.
    qualification: Qualification,
}

/// Say what is thought of a lead.
#[utoipa::path(post, path = "/api/leads/{id}/qualify", params(("id" = LeadId, Path), IfMatch), request_body = QualifyLead,
    responses((status = 200, body = LeadView)))]
async fn qualify(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<LeadId>,
    Json(body): Json<QualifyLead>,
) -> Result<Record<LeadView>, Problem> {
    let command = LeadCommand::Qualify { qualification: body.qualification };
    send(&app, &caller, id, if_match, &["qualification".into()], command).await
}

/// Work out how promising a lead is.
///
/// `min(100, round(0.3·engagement + 0.25·fit + 20·budget_confirmed + 15·decision_maker + 0.1·urgency))`
#[utoipa::path(post, path = "/api/leads/{id}/score", params(("id" = LeadId, Path), IfMatch), request_body = ScoreInputs,
    responses((status = 200, body = LeadView)))]
async fn score(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<LeadId>,
    Json(inputs): Json<ScoreInputs>,
) -> Result<Record<LeadView>, Problem> {
    send(&app, &caller, id, if_match, &["score".into()], LeadCommand::Score { inputs }).await
}

/// Which customer.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
struct ConvertLead {
    /// A customer that is there; a new one is made if not said.
    customer_id: Option<CustomerId>,
}

/// Make a lead a customer. It happens once; the customer's history begins with the lead's.
#[utoipa::path(post, path = "/api/leads/{id}/convert", params(("id" = LeadId, Path), IfMatch),
    request_body = Option<ConvertLead>, responses((status = 200, body = LeadView)))]
async fn convert(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<LeadId>,
    body: Option<Json<ConvertLead>>,
) -> Result<Record<LeadView>, Problem> {
    let into = body.and_then(|Json(body)| body.customer_id);
    let mut attempts = Attempts::default();
    // Taken once: a command that is decided again keeps its number.
    let mut number = None;
    loop {
        let found = find::<Leads>(&app, &caller, &id.to_string()).await?;
        found.require(&caller, CONVERT)?;
        let mut work = app.begin(&caller);
        unchanged_since::<Leads>(&app, &caller, &mut work, &found.stored, if_match, &["stage".into()]).await?;
        let lead = work.load::<Lead>(id).await?.state;
        // The lead refuses first, before a customer is looked for or a number is taken.
        lead.decide(LeadCommand::Convert { customer: into.unwrap_or(CustomerId(0)) })
            .map_err(|refusal| super::write::refused(&refusal))?;
        let interactions = lead.interactions.iter().cloned().collect();
        let customer = match (into, number) {
            (Some(customer), _) => {
                let found = find::<customers::Customers>(&app, &caller, &customer.to_string()).await;
                found.map_err(|problem| match problem.is_not_found() {
                    true => Problem::invalid_field("/customer_id", "unknown_customer", "there is no such customer"),
                    false => problem,
                })?;
                let command = CustomerCommand::LinkLead { lead: id, interactions };
                work.execute::<Customer>(work.stream::<Customer>(customer), command).await?;
                customer
            }
            (None, number_taken) => {
                let taken = match number_taken {
                    Some(taken) => taken,
                    None => app.number(&caller, CustomerId::PREFIX).await?,
                };
                number = Some(taken);
                let customer = CustomerId(taken);
                let details = lead.facts.as_ref().map(CustomerDetails::from).ok_or_else(Problem::not_found)?;
                let owner = lead.assignee.or(caller.own_user());
                let command =
                    CustomerCommand::RegisterFromLead { lead: id, details, status: None, owner, interactions };
                work.execute::<Customer>(work.stream::<Customer>(customer), command).await?;
                customer
            }
        };
        work.execute::<Lead>(work.stream::<Lead>(id), LeadCommand::Convert { customer }).await?;
        if let Some(receipt) = app.commit(&caller, work, &mut attempts).await? {
            return answer::<Leads>(&app, &caller, &id.to_string(), &receipt).await;
        }
    }
}

/// Why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LoseLead {
    /// The reason, for the next time.
    reason: Text<500>,
}

/// Give a lead up.
#[utoipa::path(post, path = "/api/leads/{id}/lose", params(("id" = LeadId, Path), IfMatch), request_body = LoseLead,
    responses((status = 200, body = LeadView)))]
async fn lose(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<LeadId>,
    Json(body): Json<LoseLead>,
) -> Result<Record<LeadView>, Problem> {
    send(&app, &caller, id, if_match, &["stage".into()], LeadCommand::Lose { reason: body.reason }).await
}

/// Take a lost lead up again.
#[utoipa::path(post, path = "/api/leads/{id}/reopen", params(("id" = LeadId, Path), IfMatch),
    responses((status = 200, body = LeadView)))]
async fn reopen(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<LeadId>,
) -> Result<Record<LeadView>, Problem> {
    send(&app, &caller, id, if_match, &["stage".into()], LeadCommand::Reopen {}).await
}

/// List the contact there was and will be with a lead.
#[utoipa::path(get, path = "/api/leads/{id}/interactions", params(("id" = LeadId, Path)),
    responses((status = 200, body = Page<InteractionView>)))]
async fn list_interactions(
    caller: Caller,
    State(app): State<App>,
    Id(id): Id<LeadId>,
    uri: Uri,
) -> Result<Page<InteractionView>, Problem> {
    interactions::list_of(&app, Reader::Caller(&caller), interactions::Of::Lead(id), &uri).await
}

/// Record or plan contact with a lead.
#[utoipa::path(post, path = "/api/leads/{id}/interactions", params(("id" = LeadId, Path)),
    request_body = LogInteraction, responses((status = 201, body = InteractionView)))]
async fn log_interaction(
    caller: Caller,
    State(app): State<App>,
    Id(id): Id<LeadId>,
    Json(body): Json<LogInteraction>,
) -> Result<Record<InteractionView>, Problem> {
    let found = find::<Leads>(&app, &caller, &id.to_string()).await?;
    found.require(&caller, Leads::WRITE)?;
    interactions::log_on_lead(&app, &caller, id, body).await
}

/// One command on one lead that the caller may change.
async fn send(
    app: &App,
    caller: &Caller,
    id: LeadId,
    if_match: IfMatch,
    fields: &[String],
    command: LeadCommand,
) -> Result<Record<LeadView>, Problem> {
    let mut attempts = Attempts::default();
    loop {
        let mut work = app.begin(caller);
        find_to_change::<Leads>(app, caller, &mut work, &id.to_string(), if_match, fields).await?;
        let after = work.execute::<Lead>(work.stream::<Lead>(id), command.clone()).await?;
        if matches!(command, LeadCommand::Reopen {}) {
            leave_to_nobody(&mut work, id, &after.state).await?;
        }
        if let Some(receipt) = app.commit(caller, work, &mut attempts).await? {
            return answer::<Leads>(app, caller, &id.to_string(), &receipt).await;
        }
    }
}

/// Sees to it that a lead which is open again is not somebody's who has left, and has handed over what was open then: it is
/// nobody's.
pub(super) async fn leave_to_nobody(work: &mut Work, id: LeadId, lead: &Lead) -> Result<(), Problem> {
    if !lead.deleted && lead.stage.is_open() && users::has_left(work, lead.assignee).await? {
        work.execute::<Lead>(work.stream::<Lead>(id), LeadCommand::Assign { assignee: None }).await?;
    }
    Ok(())
}
