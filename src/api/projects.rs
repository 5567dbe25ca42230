//! Projects over HTTP.

use axum::extract::State;
use axum::http::Uri;
use chrono::{DateTime, NaiveDate, Utc};
use cqrs_es::Aggregate as _;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::headers::IfMatch;
use super::list::{Field, Kind, ListSpec};
use super::page::Page;
use super::past::{self, AsOfQuery, Reader, When};
use super::record::{
    Id, Ids, Merge, Noun, Record, View, answer, find, find_any, find_to_change, list, list_spec, unchanged_since,
};
use super::shown::money;
use super::write::Attempts;
use super::{App, Json, Problem, customers, users};
use crate::aggregates::ids::{CustomerId, ProjectId, TenantId, UserId};
use crate::aggregates::permission::Module;
use crate::aggregates::project::{Project, ProjectCommand, ProjectDetails, ProjectPatch};
use crate::aggregates::values::{Hours, Money, Patch, Priority, ProjectStatus, Text, calendar};
use crate::event_store::{StreamId, Work};
use crate::projections::projects::ProjectRow;
use crate::projections::row::Stored;

/// Work for customers.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProjectView {
    /// The project's id.
    #[schema(value_type = ProjectId)]
    id: String,
    /// How many times it has changed; also the `ETag`.
    version: i64,
    /// Its name.
    name: String,
    /// What it is about.
    description: Option<String>,
    /// How far it is.
    #[schema(value_type = ProjectStatus)]
    status: String,
    /// How much it presses.
    #[schema(value_type = Priority)]
    priority: String,
    /// What it may cost.
    budget: Option<Money>,
    /// When it begins.
    start_date: Option<NaiveDate>,
    /// When it is to be done.
    due_date: Option<NaiveDate>,
    /// Whether it is past its date and not done, as of today.
    overdue: bool,
    /// The time it may take.
    #[schema(value_type = Option<Hours>)]
    estimated_hours: Option<Decimal>,
    /// The time it took so far.
    #[schema(value_type = Hours)]
    logged_hours: Decimal,
    /// Who answers for it.
    #[schema(value_type = Option<UserId>)]
    owner_id: Option<String>,
    /// Who works on it, with a role each.
    #[schema(value_type = Vec<Member>)]
    members: Value,
    /// For whom; the first is the primary one.
    #[schema(value_type = Vec<CustomerId>)]
    customer_ids: Vec<String>,
    /// The first of them.
    #[schema(value_type = Option<CustomerId>)]
    primary_customer_id: Option<String>,
    /// When it was planned.
    #[serde(serialize_with = "crate::api::shown::at")]
    created_at: DateTime<Utc>,
    /// When it last changed.
    #[serde(serialize_with = "crate::api::shown::at")]
    updated_at: DateTime<Utc>,
}

impl View<ProjectRow> for ProjectView {
    fn on(stored: Stored<ProjectRow>, today: NaiveDate) -> Self {
        let row = stored.row;
        let closed = row.status.parse::<ProjectStatus>().is_ok_and(ProjectStatus::is_closed);
        Self {
            id: stored.id,
            version: stored.version,
            budget: money(row.budget, row.currency.as_deref()),
            overdue: !closed && row.due_date.is_some_and(|due| due < today),
            primary_customer_id: row.customer_ids.first().cloned(),
            name: row.name,
            description: row.description,
            status: row.status,
            priority: row.priority,
            start_date: row.start_date,
            due_date: row.due_date,
            estimated_hours: row.estimated_hours,
            logged_hours: row.logged_hours,
            owner_id: row.owner_id,
            members: row.members,
            customer_ids: row.customer_ids,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
        }
    }
}

/// Projects, as the API shows them.
pub struct Projects;

impl Noun for Projects {
    type Row = ProjectRow;
    type View = ProjectView;
    const MODULE: Module = Module::Projects;
    const LIST: ListSpec = ListSpec {
        search: &["name", "description", "id"],
        owner: Some("owner_id"),
        members: Some("member_ids"),
        ..ListSpec::new("projects", FIELDS)
    };

    fn stream(tenant: TenantId, stored: &Stored<Self::Row>) -> StreamId {
        StreamId::new(Project::TYPE, tenant, &stored.id)
    }
}

const FIELDS: &[Field] = &[
    Field::new("id", Kind::Id).not_null(),
    Field::new("name", Kind::Text).not_null(),
    Field::new("status", Kind::Enum(ProjectStatus::WORDS)).not_null().in_order_of("updated_at"),
    Field::new("priority", Kind::Enum(Priority::WORDS)).not_null().in_order_of("updated_at"),
    Field::new("owner_id", Kind::Id).in_order_of("updated_at"),
    Field::new("member_id", Kind::TextArray).column("member_ids"),
    Field::new("customer_id", Kind::TextArray).column("customer_ids"),
    Field::new("budget", Kind::Amount).column("budget_key"),
    Field::new("start_date", Kind::Date),
    Field::new("due_date", Kind::Date),
    Field::new("created_at", Kind::Timestamp).not_null(),
    Field::new("updated_at", Kind::Timestamp).not_null(),
];

/// Which `GET` is the list of what.
pub fn lists() -> Vec<(&'static str, &'static ListSpec)> {
    vec![("/api/projects", list_spec::<Projects>())]
}

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_projects, plan))
        .routes(routes!(read, change, delete))
        .routes(routes!(restore))
        .routes(routes!(change_status))
        .routes(routes!(change_owner))
        .routes(routes!(assign_member))
        .routes(routes!(remove_member))
        .routes(routes!(link_customer))
        .routes(routes!(unlink_customer))
        .routes(routes!(log_hours))
}

/// Somebody who works on a project.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"user_id": "USR-003", "role": "Consultant"}))]
struct Member {
    /// An active user of the business.
    user_id: UserId,
    /// What they do in it; `Member` if not said.
    #[serde(default)]
    role: Option<Text<100>>,
}

/// A project to be planned.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Roll-out", "status": "planned", "priority": "high", "start_date": "2026-03-02",
    "due_date": "2026-04-30", "budget": {"amount": "12000.00", "currency": "USD"}, "customer_ids": ["CUS-000"]}))]
pub struct PlanProject {
    /// Its name.
    name: Text<200>,
    /// What it is about.
    #[serde(default)]
    description: Option<Text<10000>>,
    /// How far it is; `planned` if not said.
    #[serde(default)]
    status: Option<ProjectStatus>,
    /// How much it presses; `medium` if not said.
    #[serde(default)]
    priority: Priority,
    /// What it may cost.
    #[serde(default)]
    budget: Option<Money>,
    /// When it begins.
    #[serde(default, deserialize_with = "calendar::optional_date")]
    start_date: Option<NaiveDate>,
    /// When it is to be done; on or after the beginning.
    #[serde(default, deserialize_with = "calendar::optional_date")]
    due_date: Option<NaiveDate>,
    /// The time it may take.
    #[serde(default)]
    estimated_hours: Option<Hours>,
    /// Who answers for it; whoever plans it if not said, nobody if null.
    #[serde(default)]
    #[schema(value_type = Option<UserId>)]
    owner_id: Patch<UserId>,
    /// Who works on it.
    #[serde(default)]
    members: Vec<Member>,
    /// For whom; the first is the primary one.
    #[serde(default)]
    customer_ids: Vec<CustomerId>,
}

/// What changes about a project.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ChangeProject {
    /// Its name; cannot be cleared.
    #[schema(value_type = Option<Text<200>>)]
    name: Patch<Text<200>>,
    /// What it is about.
    #[schema(value_type = Option<Text<10000>>)]
    description: Patch<Text<10000>>,
    /// How much it presses; clearing makes it `medium`.
    #[schema(value_type = Option<Priority>)]
    priority: Patch<Priority>,
    /// What it may cost.
    #[schema(value_type = Option<Money>)]
    budget: Patch<Money>,
    /// When it begins.
    #[serde(deserialize_with = "calendar::patched_date")]
    #[schema(value_type = Option<NaiveDate>)]
    start_date: Patch<NaiveDate>,
    /// When it is to be done.
    #[serde(deserialize_with = "calendar::patched_date")]
    #[schema(value_type = Option<NaiveDate>)]
    due_date: Patch<NaiveDate>,
    /// The time it may take.
    #[schema(value_type = Option<Hours>)]
    estimated_hours: Patch<Hours>,
}

/// List projects.
#[utoipa::path(get, path = "/api/projects", responses((status = 200, body = Page<ProjectView>)))]
async fn list_projects(caller: Caller, State(app): State<App>, uri: Uri) -> Result<Page<ProjectView>, Problem> {
    list::<Projects>(&app, &caller, &uri).await
}

/// Plan a project.
#[utoipa::path(post, path = "/api/projects", request_body = PlanProject,
    responses((status = 201, body = ProjectView)))]
async fn plan(
    caller: Caller,
    State(app): State<App>,
    Json(body): Json<PlanProject>,
) -> Result<Record<ProjectView>, Problem> {
    caller.require(Projects::WRITE)?;
    let mut attempts = Attempts::default();
    // Named before it is there: its members are assigned in the same unit of work.
    let id = ProjectId(app.number(&caller, ProjectId::PREFIX).await?);
    let receipt = loop {
        let mut work = app.begin(&caller);
        let owner = match body.owner_id {
            Patch::Unchanged => caller.own_user(),
            Patch::Clear => None,
            Patch::Set(user) => Some(user),
        };
        users::rely_on(&caller, &mut work, owner, Projects::WRITE, "/owner_id").await?;
        for customer in &body.customer_ids {
            customers::rely_on(&app, &caller, &mut work, *customer, "/customer_ids").await?;
        }
        let asked = body.clone();
        let details = ProjectDetails {
            name: asked.name,
            description: asked.description,
            priority: asked.priority,
            budget: asked.budget,
            start_date: asked.start_date,
            due_date: asked.due_date,
            hours_estimated: asked.estimated_hours,
        };
        let command = ProjectCommand::Plan { details, status: asked.status, owner, customers: asked.customer_ids };
        work.execute::<Project>(work.stream::<Project>(id), command).await?;
        for member in asked.members {
            users::known(&mut work, member.user_id, "/members").await?;
            let role = role_of(member.role)?;
            let command = ProjectCommand::AssignMember { user: member.user_id, role };
            work.execute::<Project>(work.stream::<Project>(id), command).await?;
        }
        if let Some(receipt) = app.commit(&caller, work, &mut attempts).await? {
            break receipt;
        }
    };
    Ok(answer::<Projects>(&app, &caller, &id.to_string(), &receipt).await?.created(&format!("/api/projects/{id}")))
}

/// What a member does if nobody said.
fn role_of(role: Option<Text<100>>) -> Result<Text<100>, Problem> {
    role.map_or_else(|| Text::new("Member").map_err(Problem::internal), Ok)
}

/// Read a project.
#[utoipa::path(get, path = "/api/projects/{id}", params(("id" = ProjectId, Path), AsOfQuery),
    responses((status = 200, body = ProjectView)))]
async fn read(
    caller: Caller,
    State(app): State<App>,
    Id(id): Id<ProjectId>,
    When(as_of): When,
) -> Result<Record<ProjectView>, Problem> {
    if let Some(as_of) = as_of {
        return past::read::<Projects>(&app, Reader::Caller(&caller), &id.to_string(), as_of).await;
    }
    let found = find::<Projects>(&app, &caller, &id.to_string()).await?;
    let version = found.stored.version;
    Ok(Record::read(ProjectView::on(found.stored, app.today()), version))
}

/// Change what is known of a project (JSON Merge Patch).
#[utoipa::path(patch, path = "/api/projects/{id}", params(("id" = ProjectId, Path), IfMatch), request_body = ChangeProject,
    responses((status = 200, body = ProjectView)))]
async fn change(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<ProjectId>,
    body: Merge<ChangeProject>,
) -> Result<Record<ProjectView>, Problem> {
    let patch = ProjectPatch {
        name: body.patch.name,
        description: body.patch.description,
        priority: body.patch.priority,
        budget: body.patch.budget,
        start_date: body.patch.start_date,
        due_date: body.patch.due_date,
        hours_estimated: body.patch.estimated_hours,
    };
    send(&app, &caller, id, if_match, &body.fields, ProjectCommand::ChangeDetails(patch)).await
}

/// Take a project away; it can be brought back.
#[utoipa::path(delete, path = "/api/projects/{id}", params(("id" = ProjectId, Path), IfMatch),
    responses((status = 200, body = ProjectView)))]
async fn delete(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<ProjectId>,
) -> Result<Record<ProjectView>, Problem> {
    send(&app, &caller, id, if_match, &[], ProjectCommand::Delete {}).await
}

/// Bring a project back that was taken away.
#[utoipa::path(post, path = "/api/projects/{id}/restore", params(("id" = ProjectId, Path), IfMatch),
    responses((status = 200, body = ProjectView)))]
async fn restore(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<ProjectId>,
) -> Result<Record<ProjectView>, Problem> {
    let mut attempts = Attempts::default();
    loop {
        let mut work = app.begin(&caller);
        let found = find_any::<Projects>(&app, &caller, &id.to_string()).await?;
        found.require(&caller, Projects::WRITE)?;
        unchanged_since::<Projects>(&app, &caller, &mut work, &found.stored, if_match, &[]).await?;
        let after = work.execute::<Project>(work.stream::<Project>(id), ProjectCommand::Restore {}).await?;
        leave_to_nobody(&mut work, id, &after.state).await?;
        if let Some(receipt) = app.commit(&caller, work, &mut attempts).await? {
            return answer::<Projects>(&app, &caller, &id.to_string(), &receipt).await;
        }
    }
}

/// How far it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeProjectStatus {
    /// The new status; a completed or cancelled project goes back to `planned` or `in_progress` only.
    status: ProjectStatus,
}

/// Say how far a project is.
#[utoipa::path(post, path = "/api/projects/{id}/status", params(("id" = ProjectId, Path), IfMatch),
    request_body = ChangeProjectStatus, responses((status = 200, body = ProjectView)))]
async fn change_status(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<ProjectId>,
    Json(body): Json<ChangeProjectStatus>,
) -> Result<Record<ProjectView>, Problem> {
    send(&app, &caller, id, if_match, &["status".into()], ProjectCommand::ChangeStatus { status: body.status }).await
}

/// Who answers for it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeProjectOwner {
    /// An active user of the business; null: nobody.
    user_id: Option<UserId>,
}

/// Hand a project over.
#[utoipa::path(post, path = "/api/projects/{id}/owner", params(("id" = ProjectId, Path), IfMatch),
    request_body = ChangeProjectOwner, responses((status = 200, body = ProjectView)))]
async fn change_owner(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<ProjectId>,
    Json(body): Json<ChangeProjectOwner>,
) -> Result<Record<ProjectView>, Problem> {
    let mut attempts = Attempts::default();
    loop {
        let mut work = app.begin(&caller);
        find_to_change::<Projects>(&app, &caller, &mut work, &id.to_string(), if_match, &["owner_id".into()]).await?;
        users::rely_on(&caller, &mut work, body.user_id, Projects::WRITE, "/user_id").await?;
        let command = ProjectCommand::ChangeOwner { owner: body.user_id };
        work.execute::<Project>(work.stream::<Project>(id), command).await?;
        if let Some(receipt) = app.commit(&caller, work, &mut attempts).await? {
            return answer::<Projects>(&app, &caller, &id.to_string(), &receipt).await;
        }
    }
}

/// Let somebody work on a project, or give them another role in it.
#[utoipa::path(post, path = "/api/projects/{id}/members", params(("id" = ProjectId, Path), IfMatch), request_body = Member,
    responses((status = 200, body = ProjectView)))]
async fn assign_member(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<ProjectId>,
    Json(body): Json<Member>,
) -> Result<Record<ProjectView>, Problem> {
    let role = role_of(body.role)?;
    let mut attempts = Attempts::default();
    loop {
        let mut work = app.begin(&caller);
        find_to_change::<Projects>(&app, &caller, &mut work, &id.to_string(), if_match, &["members".into()]).await?;
        users::known(&mut work, body.user_id, "/user_id").await?;
        let command = ProjectCommand::AssignMember { user: body.user_id, role: role.clone() };
        work.execute::<Project>(work.stream::<Project>(id), command).await?;
        if let Some(receipt) = app.commit(&caller, work, &mut attempts).await? {
            return answer::<Projects>(&app, &caller, &id.to_string(), &receipt).await;
        }
    }
}

/// Take somebody off a project.
#[utoipa::path(delete, path = "/api/projects/{id}/members/{user_id}",
    params(("id" = ProjectId, Path), ("user_id" = UserId, Path), IfMatch), responses((status = 200, body = ProjectView)))]
async fn remove_member(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Ids(id, user): Ids<ProjectId, UserId>,
) -> Result<Record<ProjectView>, Problem> {
    send(&app, &caller, id, if_match, &["members".into()], ProjectCommand::RemoveMember { user }).await
}

/// For whom.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LinkCustomer {
    /// A customer of the business.
    customer_id: CustomerId,
}

/// Do a project for another customer too; the first one is the primary one.
#[utoipa::path(post, path = "/api/projects/{id}/customers", params(("id" = ProjectId, Path), IfMatch),
    request_body = LinkCustomer, responses((status = 200, body = ProjectView)))]
async fn link_customer(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<ProjectId>,
    Json(body): Json<LinkCustomer>,
) -> Result<Record<ProjectView>, Problem> {
    let mut attempts = Attempts::default();
    loop {
        let mut work = app.begin(&caller);
        find_to_change::<Projects>(&app, &caller, &mut work, &id.to_string(), if_match, &["customer_ids".into()])
            .await?;
        customers::rely_on(&app, &caller, &mut work, body.customer_id, "/customer_id").await?;
        let command = ProjectCommand::LinkCustomer { customer: body.customer_id };
        work.execute::<Project>(work.stream::<Project>(id), command).await?;
        if let Some(receipt) = app.commit(&caller, work, &mut attempts).await? {
            return answer::<Projects>(&app, &caller, &id.to_string(), &receipt).await;
        }
    }
}

/// Stop doing a project for a customer.
#[utoipa::path(delete, path = "/api/projects/{id}/customers/{customer_id}",
    params(("id" = ProjectId, Path), ("customer_id" = CustomerId, Path), IfMatch), responses((status = 200, body = ProjectView)))]
async fn unlink_customer(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Ids(id, customer): Ids<ProjectId, CustomerId>,
) -> Result<Record<ProjectView>, Problem> {
    send(&app, &caller, id, if_match, &["customer_ids".into()], ProjectCommand::UnlinkCustomer { customer }).await
}

/// How long somebody worked.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"hours": "6.50", "on": "2026-03-02", "note": "Training"}))]
struct LogHours {
    /// The time, above 0.
    hours: Hours,
    /// On which day; today if not said.
    #[serde(default, deserialize_with = "calendar::optional_date")]
    on: Option<NaiveDate>,
    /// On what.
    #[serde(default)]
    note: Option<Text<500>>,
}

/// Record the time that was worked on a project. Whoever may change it or works on it may do so.
#[utoipa::path(post, path = "/api/projects/{id}/hours", params(("id" = ProjectId, Path), IfMatch), request_body = LogHours,
    responses((status = 200, body = ProjectView)))]
async fn log_hours(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<ProjectId>,
    Json(body): Json<LogHours>,
) -> Result<Record<ProjectView>, Problem> {
    let user = caller.own_user().ok_or_else(|| Problem::permission_denied(Projects::WRITE))?;
    let on = body.on.unwrap_or(app.today());
    let command = ProjectCommand::LogHours { hours: body.hours, on, user, note: body.note };
    send(&app, &caller, id, if_match, &["logged_hours".into()], command).await
}

/// One command on one project that the caller may change.
async fn send(
    app: &App,
    caller: &Caller,
    id: ProjectId,
    if_match: IfMatch,
    fields: &[String],
    command: ProjectCommand,
) -> Result<Record<ProjectView>, Problem> {
    let mut attempts = Attempts::default();
    loop {
        let mut work = app.begin(caller);
        find_to_change::<Projects>(app, caller, &mut work, &id.to_string(), if_match, fields).await?;
        let after = work.execute::<Project>(work.stream::<Project>(id), command.clone()).await?;
        if matches!(command, ProjectCommand::ChangeStatus { .. }) {
            leave_to_nobody(&mut work, id, &after.state).await?;
        }
        if let Some(receipt) = app.commit(caller, work, &mut attempts).await? {
            return answer::<Projects>(app, caller, &id.to_string(), &receipt).await;
        }
    }
}

/// Sees to it that a project which is open again is not somebody's who has left, and has handed over what was open then: it
/// is nobody's.
pub(super) async fn leave_to_nobody(work: &mut Work, id: ProjectId, project: &Project) -> Result<(), Problem> {
    if !project.deleted && !project.status.is_closed() && users::has_left(work, project.owner).await? {
        work.execute::<Project>(work.stream::<Project>(id), ProjectCommand::ChangeOwner { owner: None }).await?;
    }
    Ok(())
}
