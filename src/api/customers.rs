//! Customers over HTTP.

use axum::extract::State;
use axum::http::Uri;
use chrono::{DateTime, Utc};
use cqrs_es::Aggregate as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::headers::IfMatch;
use super::interactions::{self, InteractionView, Interactions, LogInteraction};
use super::list::{Field, Kind, ListSpec};
use super::notes::{self, AddNote, NoteView, Notes};
use super::page::Page;
use super::past::{self, AsOfQuery, Reader, When};
use super::record::{
    Id, Merge, Noun, Record, answer, find, find_any, find_to_change, list, list_spec, unchanged_since,
};
use super::write::Attempts;
use super::{App, Json, Problem, invoices, users};
use crate::aggregates::customer::{Customer, CustomerCommand, CustomerDetails, CustomerPatch};
use crate::aggregates::ids::{CustomerId, LeadId, TenantId, UserId};
use crate::aggregates::permission::Module;
use crate::aggregates::values::{Address, CustomerStatus, Email, Patch, Phone, Text};
use crate::event_store::append::Condition;
use crate::event_store::{StreamId, Work};
use crate::projections::customers::CustomerRow;
use crate::projections::row::Stored;

/// A client of the business.
#[derive(Debug, Serialize, ToSchema)]
pub struct CustomerView {
    /// The customer's id.
    #[schema(value_type = CustomerId)]
    id: String,
    /// How many times it has changed; also the `ETag`.
    version: i64,
    /// The company.
    company: Option<String>,
    /// The contact's name.
    name: Option<String>,
    /// E-mail.
    email: Option<String>,
    /// Telephone.
    phone: Option<String>,
    /// Postal address.
    #[schema(value_type = Option<Address>)]
    address: Option<Value>,
    /// Where it stands.
    #[schema(value_type = CustomerStatus)]
    status: String,
    /// Who takes care of it.
    #[schema(value_type = Option<UserId>)]
    owner_id: Option<String>,
    /// The leads that became or turned out to be it.
    #[schema(value_type = Vec<LeadId>)]
    lead_ids: Vec<String>,
    /// The record of the same customer that took its place.
    #[schema(value_type = Option<CustomerId>)]
    merged_into: Option<String>,
    /// When there was contact last.
    #[serde(serialize_with = "crate::api::shown::at")]
    last_interaction_at: Option<DateTime<Utc>>,
    /// When it came in.
    #[serde(serialize_with = "crate::api::shown::at")]
    created_at: DateTime<Utc>,
    /// When it last changed.
    #[serde(serialize_with = "crate::api::shown::at")]
    updated_at: DateTime<Utc>,
}

impl From<Stored<CustomerRow>> for CustomerView {
    fn from(stored: Stored<CustomerRow>) -> Self {
        let row = stored.row;
        Self {
            id: stored.id,
            version: stored.version,
            company: row.company,
            name: row.name,
            email: row.email,
            phone: row.phone,
            address: row.address,
            status: row.status,
            owner_id: row.owner_id,
            lead_ids: row.lead_ids,
            merged_into: row.merged_into,
            last_interaction_at: row.last_interaction_at,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
        }
    }
}

/// Customers, as the API shows them.
pub struct Customers;

impl Noun for Customers {
    type Row = CustomerRow;
    type View = CustomerView;
    const MODULE: Module = Module::Customers;
    const LIST: ListSpec = ListSpec {
        search: &["company", "name", "email", "id"],
        owner: Some("owner_id"),
        ..ListSpec::new("customers", FIELDS)
    };

    fn stream(tenant: TenantId, stored: &Stored<Self::Row>) -> StreamId {
        StreamId::new(Customer::TYPE, tenant, &stored.id)
    }
}

const FIELDS: &[Field] = &[
    Field::new("id", Kind::Id).not_null(),
    Field::new("company", Kind::Text),
    Field::new("name", Kind::Text),
    Field::new("email", Kind::Text),
    Field::new("status", Kind::Enum(CustomerStatus::WORDS)).not_null().in_order_of("updated_at"),
    Field::new("owner_id", Kind::Id).in_order_of("updated_at"),
    Field::new("last_interaction_at", Kind::Timestamp),
    Field::new("created_at", Kind::Timestamp).not_null(),
    Field::new("updated_at", Kind::Timestamp).not_null(),
];

/// Which `GET` is the list of what.
pub fn lists() -> Vec<(&'static str, &'static ListSpec)> {
    vec![
        ("/api/customers", list_spec::<Customers>()),
        ("/api/customers/{id}/interactions", list_spec::<Interactions>()),
        ("/api/customers/{id}/notes", list_spec::<Notes>()),
    ]
}

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_customers, register))
        .routes(routes!(read, change, delete))
        .routes(routes!(restore))
        .routes(routes!(change_status))
        .routes(routes!(change_owner))
        .routes(routes!(merge))
        .routes(routes!(list_interactions, log_interaction))
        .routes(routes!(list_notes, add_note))
}

/// Makes a command rely on a customer that the caller sees: should it be taken away or merged before the command
/// is stored, the command is decided again.
///
/// # Errors
/// `validation_failed` at `pointer`: there is no such customer, or the caller may not know.
pub async fn rely_on(
    app: &App,
    caller: &Caller,
    work: &mut Work,
    customer: CustomerId,
    pointer: &'static str,
) -> Result<(), Problem> {
    let unknown = || Problem::invalid_field(pointer, "unknown_customer", "there is no such customer");
    match find::<Customers>(app, caller, &customer.to_string()).await {
        Ok(_) => {}
        Err(problem) if problem.is_not_found() => return Err(unknown()),
        Err(problem) => return Err(problem),
    }
    // From the log and not from the read model: after a conflict, this is what has changed.
    let there = |customer: &Customer| customer.facts.is_some() && !customer.deleted && customer.merged_into.is_none();
    work.rely_on::<Customer>(customer, there).await?.map(drop).ok_or_else(unknown)
}

/// A customer to be taken in.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"company": "Northwind Traders", "name": "Nancy Davolio", "email": "nancy@example.com",
    "status": "active"}))]
pub struct RegisterCustomer {
    /// The company; needed if there is no name.
    #[serde(default)]
    company: Option<Text<200>>,
    /// The contact's name; needed if there is no company.
    #[serde(default)]
    name: Option<Text<200>>,
    /// E-mail.
    #[serde(default)]
    email: Option<Email>,
    /// Telephone.
    #[serde(default)]
    phone: Option<Phone>,
    /// Postal address.
    #[serde(default)]
    address: Option<Address>,
    /// Where it stands; `prospect` if not said.
    #[serde(default)]
    status: Option<CustomerStatus>,
    /// Who takes care of it; whoever takes it in if not said, nobody if null.
    #[serde(default)]
    #[schema(value_type = Option<UserId>)]
    owner_id: Patch<UserId>,
}

/// List customers.
#[utoipa::path(get, path = "/api/customers", responses((status = 200, body = Page<CustomerView>)))]
async fn list_customers(caller: Caller, State(app): State<App>, uri: Uri) -> Result<Page<CustomerView>, Problem> {
    list::<Customers>(&app, &caller, &uri).await
}

/// Take a customer in.
#[utoipa::path(post, path = "/api/customers", request_body = RegisterCustomer,
    responses((status = 201, body = CustomerView)))]
async fn register(
    caller: Caller,
    State(app): State<App>,
    Json(body): Json<RegisterCustomer>,
) -> Result<Record<CustomerView>, Problem> {
    caller.require(Customers::WRITE)?;
    let mut attempts = Attempts::default();
    let receipt = loop {
        let mut work = app.begin(&caller);
        let owner = match body.owner_id {
            Patch::Unchanged => caller.own_user(),
            Patch::Clear => None,
            Patch::Set(user) => Some(user),
        };
        users::rely_on(&caller, &mut work, owner, Customers::WRITE, "/owner_id").await?;
        let RegisterCustomer { company, name, email, phone, address, status, .. } = body.clone();
        let details = CustomerDetails { company, name, email, phone, address };
        let command = CustomerCommand::Register { details, status, owner };
        work.execute::<Customer>(work.next::<Customer>(CustomerId::PREFIX), command).await?;
        if let Some(receipt) = app.commit(&caller, work, &mut attempts).await? {
            break receipt;
        }
    };
    let id = receipt.id(0).unwrap_or_default();
    Ok(answer::<Customers>(&app, &caller, id, &receipt).await?.created(&format!("/api/customers/{id}")))
}

/// Read a customer. One that was merged into another can still be read, since leads and invoices name it.
#[utoipa::path(get, path = "/api/customers/{id}", params(("id" = CustomerId, Path), AsOfQuery),
    responses((status = 200, body = CustomerView)))]
async fn read(
    caller: Caller,
    State(app): State<App>,
    Id(id): Id<CustomerId>,
    When(as_of): When,
) -> Result<Record<CustomerView>, Problem> {
    if let Some(as_of) = as_of {
        return past::read::<Customers>(&app, Reader::Caller(&caller), &id.to_string(), as_of).await;
    }
    let found = find_any::<Customers>(&app, &caller, &id.to_string()).await?;
    if found.deleted && found.stored.row.merged_into.is_none() {
        return Err(Problem::not_found());
    }
    let version = found.stored.version;
    Ok(Record::read(found.stored.into(), version))
}

/// Change what is known of a customer (JSON Merge Patch).
#[utoipa::path(patch, path = "/api/customers/{id}", params(("id" = CustomerId, Path), IfMatch), request_body = CustomerPatch,
    responses((status = 200, body = CustomerView)))]
async fn change(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<CustomerId>,
    body: Merge<CustomerPatch>,
) -> Result<Record<CustomerView>, Problem> {
    send(&app, &caller, id, if_match, &body.fields, CustomerCommand::ChangeDetails(body.patch)).await
}

/// Take a customer away; it can be brought back. One with an unpaid invoice stays.
#[utoipa::path(delete, path = "/api/customers/{id}", params(("id" = CustomerId, Path), IfMatch),
    responses((status = 200, body = CustomerView)))]
async fn delete(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<CustomerId>,
) -> Result<Record<CustomerView>, Problem> {
    let mut attempts = Attempts::default();
    loop {
        let mut work = app.begin(&caller);
        find_to_change::<Customers>(&app, &caller, &mut work, &id.to_string(), if_match, &[]).await?;
        let has_unpaid_invoice = owes(&app, &caller, &mut work, id).await?;
        work.execute::<Customer>(work.stream::<Customer>(id), CustomerCommand::Delete { has_unpaid_invoice }).await?;
        if let Some(receipt) = app.commit(&caller, work, &mut attempts).await? {
            return answer::<Customers>(&app, &caller, &id.to_string(), &receipt).await;
        }
    }
}

/// Whether a customer owes something. The decision holds as long as no invoice is sent.
///
/// # Errors
/// If the read models or the log cannot be read.
pub(super) async fn owes(app: &App, caller: &Caller, work: &mut Work, id: CustomerId) -> Result<bool, Problem> {
    app.readable(caller.tenant(), app.head()).await?;
    // Known before the invoices are read: whatever is sent after it makes this decide again.
    let after = app.position(caller.scope()).await?;
    let customers = with_absorbed(work, id).await?;
    let outstanding = invoices::any_outstanding(app, caller, &customers).await?;
    work.require(Condition { after, event_types: &["InvoiceSent"] });
    Ok(outstanding)
}

/// The customer and every record that was merged into it: what those owe, it owes.
async fn with_absorbed(work: &Work, id: CustomerId) -> Result<Vec<String>, Problem> {
    let (mut all, mut next) = (vec![id], 0);
    while let Some(customer) = all.get(next).copied() {
        for absorbed in work.load::<Customer>(customer).await?.state.absorbed {
            if !all.contains(&absorbed) {
                all.push(absorbed);
            }
        }
        next += 1;
    }
    Ok(all.iter().map(ToString::to_string).collect())
}

/// Bring a customer back that was taken away.
#[utoipa::path(post, path = "/api/customers/{id}/restore", params(("id" = CustomerId, Path), IfMatch),
    responses((status = 200, body = CustomerView)))]
async fn restore(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<CustomerId>,
) -> Result<Record<CustomerView>, Problem> {
    let mut attempts = Attempts::default();
    loop {
        let mut work = app.begin(&caller);
        let found = find_any::<Customers>(&app, &caller, &id.to_string()).await?;
        found.require(&caller, Customers::WRITE)?;
        unchanged_since::<Customers>(&app, &caller, &mut work, &found.stored, if_match, &[]).await?;
        work.execute::<Customer>(work.stream::<Customer>(id), CustomerCommand::Restore {}).await?;
        if let Some(receipt) = app.commit(&caller, work, &mut attempts).await? {
            return answer::<Customers>(&app, &caller, &id.to_string(), &receipt).await;
        }
    }
}

/// Where to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeCustomerStatus {
    /// Where it stands from now on.
    status: CustomerStatus,
}

/// Say where a customer stands.
#[utoipa::path(post, path = "/api/customers/{id}/status", params(("id" = CustomerId, Path), IfMatch),
    request_body = ChangeCustomerStatus, responses((status = 200, body = CustomerView)))]
async fn change_status(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<CustomerId>,
    Json(body): Json<ChangeCustomerStatus>,
) -> Result<Record<CustomerView>, Problem> {
    let command = CustomerCommand::ChangeStatus { status: body.status };
    send(&app, &caller, id, if_match, &["status".into()], command).await
}

/// To whom.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangeCustomerOwner {
    /// An active user of the business; null: nobody.
    user_id: Option<UserId>,
}

/// Let somebody, or nobody, take care of a customer.
#[utoipa::path(post, path = "/api/customers/{id}/owner", params(("id" = CustomerId, Path), IfMatch),
    request_body = ChangeCustomerOwner, responses((status = 200, body = CustomerView)))]
async fn change_owner(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<CustomerId>,
    Json(body): Json<ChangeCustomerOwner>,
) -> Result<Record<CustomerView>, Problem> {
    let mut attempts = Attempts::default();
    loop {
        let mut work = app.begin(&caller);
        find_to_change::<Customers>(&app, &caller, &mut work, &id.to_string(), if_match, &["owner_id".into()]).await?;
        users::rely_on(&caller, &mut work, body.user_id, Customers::WRITE, "/user_id").await?;
        let command = CustomerCommand::ChangeOwner { owner: body.user_id };
        work.execute::<Customer>(work.stream::<Customer>(id), command).await?;
        if let Some(receipt) = app.commit(&caller, work, &mut attempts).await? {
            return answer::<Customers>(&app, &caller, &id.to_string(), &receipt).await;
        }
    }
}

/// Into which.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MergeCustomer {
    /// The record of the same customer that stays.
    into: CustomerId,
}

/// Let a customer give way to another record of the same customer, which takes over contact and notes.
///
/// Leads, projects and invoices keep naming the merged one. The answer is the record that stays.
#[utoipa::path(post, path = "/api/customers/{id}/merge", params(("id" = CustomerId, Path), IfMatch),
    request_body = MergeCustomer, responses((status = 200, body = CustomerView)))]
async fn merge(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<CustomerId>,
    Json(MergeCustomer { into }): Json<MergeCustomer>,
) -> Result<Record<CustomerView>, Problem> {
    let mut attempts = Attempts::default();
    loop {
        let mut work = app.begin(&caller);
        find_to_change::<Customers>(&app, &caller, &mut work, &id.to_string(), if_match, &[]).await?;
        let survivor = find::<Customers>(&app, &caller, &into.to_string()).await.map_err(|problem| {
            if problem.is_not_found() {
                Problem::invalid_field("/into", "unknown_customer", "there is no such customer")
            } else {
                problem
            }
        })?;
        survivor.require(&caller, Customers::WRITE)?;
        let command = CustomerCommand::MergeInto { this: id, into };
        // The state that it leaves is what the other takes over: nothing recorded in between is lost.
        let merged = work.execute::<Customer>(work.stream::<Customer>(id), command).await?;
        let command = CustomerCommand::Absorb {
            other: id,
            interactions: merged.state.interactions.iter().cloned().collect(),
            notes: merged.state.notes.values().cloned().collect(),
        };
        work.execute::<Customer>(work.stream::<Customer>(into), command).await?;
        if let Some(receipt) = app.commit(&caller, work, &mut attempts).await? {
            return answer::<Customers>(&app, &caller, &into.to_string(), &receipt).await;
        }
    }
}

/// List the contact there was and will be with a customer.
#[utoipa::path(get, path = "/api/customers/{id}/interactions", params(("id" = CustomerId, Path)),
    responses((status = 200, body = Page<InteractionView>)))]
async fn list_interactions(
    caller: Caller,
    State(app): State<App>,
    Id(id): Id<CustomerId>,
    uri: Uri,
) -> Result<Page<InteractionView>, Problem> {
    interactions::list_of(&app, Reader::Caller(&caller), interactions::Of::Customer(id), &uri).await
}

/// Record or plan contact with a customer.
#[utoipa::path(post, path = "/api/customers/{id}/interactions", params(("id" = CustomerId, Path)),
    request_body = LogInteraction, responses((status = 201, body = InteractionView)))]
async fn log_interaction(
    caller: Caller,
    State(app): State<App>,
    Id(id): Id<CustomerId>,
    Json(body): Json<LogInteraction>,
) -> Result<Record<InteractionView>, Problem> {
    find::<Customers>(&app, &caller, &id.to_string()).await?.require(&caller, Customers::WRITE)?;
    interactions::log_on_customer(&app, &caller, id, body).await
}

/// List the notes on a customer; private ones only to their author.
#[utoipa::path(get, path = "/api/customers/{id}/notes", params(("id" = CustomerId, Path)),
    responses((status = 200, body = Page<NoteView>)))]
async fn list_notes(
    caller: Caller,
    State(app): State<App>,
    Id(id): Id<CustomerId>,
    uri: Uri,
) -> Result<Page<NoteView>, Problem> {
    notes::list_of(&app, Reader::Caller(&caller), id, &uri).await
}

/// Write something down about a customer.
#[utoipa::path(post, path = "/api/customers/{id}/notes", params(("id" = CustomerId, Path)), request_body = AddNote,
    responses((status = 201, body = NoteView)))]
async fn add_note(
    caller: Caller,
    State(app): State<App>,
    Id(id): Id<CustomerId>,
    Json(body): Json<AddNote>,
) -> Result<Record<NoteView>, Problem> {
    find::<Customers>(&app, &caller, &id.to_string()).await?.require(&caller, Customers::WRITE)?;
    notes::add_to(&app, &caller, id, body).await
}

/// One command on one customer that the caller may change.
async fn send(
    app: &App,
    caller: &Caller,
    id: CustomerId,
    if_match: IfMatch,
    fields: &[String],
    command: CustomerCommand,
) -> Result<Record<CustomerView>, Problem> {
    let mut attempts = Attempts::default();
    loop {
        let mut work = app.begin(caller);
        find_to_change::<Customers>(app, caller, &mut work, &id.to_string(), if_match, fields).await?;
        work.execute::<Customer>(work.stream::<Customer>(id), command.clone()).await?;
        if let Some(receipt) = app.commit(caller, work, &mut attempts).await? {
            return answer::<Customers>(app, caller, &id.to_string(), &receipt).await;
        }
    }
}
