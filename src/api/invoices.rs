//! Invoices over HTTP.

use axum::extract::State;
use axum::http::Uri;
use chrono::{DateTime, Days, NaiveDate, Utc};
use cqrs_es::Aggregate as _;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::headers::IfMatch;
use super::list::{Field, Kind, ListQuery, ListSpec, WorkedOut};
use super::page::Page;
use super::past::{self, AsOfQuery, Reader, When};
use super::projects::Projects;
use super::record::{Id, Merge, Noun, Record, View, answer, find, find_to_change, list, list_spec};
use super::shown::money;
use super::write::Attempts;
use super::{App, Json, Problem, customers};
use crate::aggregates::customer::Customer;
use crate::aggregates::ids::{CustomerId, InvoiceId, ProjectId, TenantId, UserId};
use crate::aggregates::invoice::{Invoice, InvoiceCommand, InvoiceDetails, InvoiceLine, InvoicePatch, overdue};
use crate::aggregates::permission::Module;
use crate::aggregates::project::Project;
use crate::aggregates::values::{Currency, InvoiceStatus, Money, Text, calendar};
use crate::event_store::{StreamId, Work};
use crate::projections::invoices::InvoiceRow;
use crate::projections::row::Stored;

/// Days until an invoice is to be paid, if nobody said.
const NET_DAYS: Days = Days::new(30);
/// The currency, if neither it nor an amount was said.
const CURRENCY: &str = "USD";

/// Money that a customer owes.
#[derive(Debug, Serialize, ToSchema)]
pub struct InvoiceView {
    /// The invoice's id.
    #[schema(value_type = InvoiceId)]
    id: String,
    /// How many times it has changed; also the `ETag`.
    version: i64,
    /// The number on it.
    number: String,
    /// Who owes it.
    #[schema(value_type = CustomerId)]
    customer_id: String,
    /// For which work.
    #[schema(value_type = Option<ProjectId>)]
    project_id: Option<String>,
    /// In which currency.
    #[schema(value_type = Currency)]
    currency: String,
    /// What is charged for, with the sums of each line; none if it is a plain amount.
    #[schema(value_type = Vec<LineView>)]
    lines: Value,
    /// The sum without tax.
    net: Option<Money>,
    /// The tax.
    tax: Option<Money>,
    /// What is owed.
    amount: Option<Money>,
    /// When it was written.
    issue_date: NaiveDate,
    /// When it is to be paid.
    due_date: NaiveDate,
    /// How far it is.
    #[schema(value_type = InvoiceStatus)]
    status: String,
    /// Whether it was sent and is past its date, as of today.
    overdue: bool,
    /// When it was sent.
    #[serde(serialize_with = "crate::api::shown::at")]
    sent_at: Option<DateTime<Utc>>,
    /// When the customer looked at it.
    #[serde(serialize_with = "crate::api::shown::at")]
    viewed_at: Option<DateTime<Utc>>,
    /// When the money came.
    paid_on: Option<NaiveDate>,
    /// When it was withdrawn.
    #[serde(serialize_with = "crate::api::shown::at")]
    voided_at: Option<DateTime<Utc>>,
    /// Words to the customer.
    notes: Option<String>,
    /// Terms of payment.
    terms: Option<String>,
    /// Who wrote it.
    #[schema(value_type = Option<UserId>)]
    created_by: Option<String>,
    /// When it was drafted.
    #[serde(serialize_with = "crate::api::shown::at")]
    created_at: DateTime<Utc>,
    /// When it last changed.
    #[serde(serialize_with = "crate::api::shown::at")]
    updated_at: DateTime<Utc>,
}

/// What is charged for, with its sums.
#[derive(Debug, Serialize, ToSchema)]
struct LineView {
    /// What it is.
    description: String,
    /// How many.
    #[schema(value_type = String, example = "6")]
    quantity: Decimal,
    /// The price of one.
    #[schema(value_type = String, example = "120.00")]
    unit_price: Decimal,
    /// Tax in percent.
    #[schema(value_type = String, example = "8")]
    tax_rate: Decimal,
    /// Quantity times unit price.
    net: Money,
    /// The tax on it.
    tax: Money,
    /// Both together.
    total: Money,
}

impl View<InvoiceRow> for InvoiceView {
    fn on(stored: Stored<InvoiceRow>, today: NaiveDate) -> Self {
        let row = stored.row;
        let sum = |amount| money(Some(amount), Some(&row.currency));
        let status = row.status.parse::<InvoiceStatus>().unwrap_or(InvoiceStatus::Draft);
        Self {
            id: stored.id,
            version: stored.version,
            net: sum(row.net),
            tax: sum(row.tax),
            amount: sum(row.amount),
            overdue: overdue(status, row.due_date, today),
            number: row.number,
            customer_id: row.customer_id,
            project_id: row.project_id,
            lines: row.lines,
            issue_date: row.issue_date,
            due_date: row.due_date,
            status: row.status,
            sent_at: row.sent_at,
            viewed_at: row.viewed_at,
            paid_on: row.paid_on,
            voided_at: row.voided_at,
            notes: row.notes,
            terms: row.terms,
            created_by: row.created_by,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
            currency: row.currency,
        }
    }
}

/// Invoices, as the API shows them.
pub struct Invoices;

impl Noun for Invoices {
    type Row = InvoiceRow;
    type View = InvoiceView;
    const MODULE: Module = Module::Invoices;
    const LIST: ListSpec = ListSpec {
        search: &["number", "notes", "id"],
        owner: Some("created_by"),
        hides_deleted: false,
        ..ListSpec::new("invoices", FIELDS)
    };

    fn stream(tenant: TenantId, stored: &Stored<Self::Row>) -> StreamId {
        StreamId::new(Invoice::TYPE, tenant, &stored.id)
    }

    fn asked(query: ListQuery, today: NaiveDate) -> ListQuery {
        query.worked_out(WorkedOut {
            column: "status",
            word: "overdue",
            among: &["sent", "viewed"],
            date: "due_date",
            before: today,
        })
    }
}

/// What `status` can be filtered by: `overdue` is worked out.
const STATUSES: &[&str] = &["draft", "sent", "viewed", "paid", "void", "overdue"];

const FIELDS: &[Field] = &[
    Field::new("id", Kind::Id).not_null(),
    Field::new("number", Kind::Text).not_null(),
    Field::new("status", Kind::Enum(STATUSES)).not_null().in_order_of("due_date"),
    Field::new("customer_id", Kind::Id).not_null().in_order_of("created_at"),
    Field::new("project_id", Kind::Id).in_order_of("created_at"),
    Field::new("currency", Kind::Text).filter_only(),
    Field::new("amount", Kind::Amount).column("amount_key").not_null(),
    Field::new("issue_date", Kind::Date).not_null(),
    Field::new("due_date", Kind::Date).not_null(),
    Field::new("paid_on", Kind::Date).filter_only(),
    Field::new("created_by", Kind::Id).filter_only(),
    Field::new("created_at", Kind::Timestamp).not_null(),
    Field::new("updated_at", Kind::Timestamp).not_null(),
];

/// Which `GET` is the list of what.
pub fn lists() -> Vec<(&'static str, &'static ListSpec)> {
    vec![("/api/invoices", list_spec::<Invoices>())]
}

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_invoices, draft))
        .routes(routes!(read, change))
        .routes(routes!(send_invoice))
        .routes(routes!(view))
        .routes(routes!(pay))
        .routes(routes!(void))
}

/// Whether any of these customers owes something: an invoice that was sent or viewed.
///
/// # Errors
/// The database's.
pub async fn any_outstanding(app: &App, caller: &Caller, customers: &[String]) -> Result<bool, Problem> {
    let statement = "with scope as materialized (select set_config('devhub.tenant_id', $1, true) as tenant_id)
         select q.found from scope cross join lateral (
             select exists (select from invoices i where i.tenant_id = scope.tenant_id and i.customer_id = any($2)
                                                     and i.status = any($3)) as found
         ) q";
    let outstanding: Vec<&str> =
        InvoiceStatus::VARIANTS.iter().filter(|status| status.is_outstanding()).map(|status| status.as_str()).collect();
    Ok(sqlx::query_scalar(statement)
        .bind(caller.tenant().to_string())
        .bind(customers)
        .bind(outstanding)
        .fetch_one(app.reader(caller))
        .await?)
}

/// An invoice to be drafted: lines, or a plain amount.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"customer_id": "CUS-000", "due_date": "2026-12-31",
    "lines": [{"description": "Training", "quantity": "6", "unit_price": "120.00", "tax_rate": "8"}]}))]
pub struct DraftInvoice {
    /// Who owes it.
    customer_id: CustomerId,
    /// For which work.
    #[serde(default)]
    project_id: Option<ProjectId>,
    /// The number on it, once in the business; the invoice's id if not said.
    #[serde(default)]
    number: Option<Text<50>>,
    /// In which currency; the amount's if not said, else US dollars.
    #[serde(default)]
    currency: Option<Currency>,
    /// What is charged for.
    #[serde(default)]
    lines: Vec<InvoiceLine>,
    /// A plain amount, tax included, instead of lines.
    #[serde(default)]
    amount: Option<Money>,
    /// When it was written; today if not said.
    #[serde(default, deserialize_with = "calendar::optional_date")]
    issue_date: Option<NaiveDate>,
    /// When it is to be paid; 30 days after the issue if not said.
    #[serde(default, deserialize_with = "calendar::optional_date")]
    due_date: Option<NaiveDate>,
    /// Words to the customer.
    #[serde(default)]
    notes: Option<Text<5000>>,
    /// Terms of payment.
    #[serde(default)]
    terms: Option<Text<5000>>,
}

/// List invoices. `status=overdue` finds those that were sent and are past their date.
#[utoipa::path(get, path = "/api/invoices", responses((status = 200, body = Page<InvoiceView>)))]
async fn list_invoices(caller: Caller, State(app): State<App>, uri: Uri) -> Result<Page<InvoiceView>, Problem> {
    list::<Invoices>(&app, &caller, &uri).await
}

/// Draft an invoice.
#[utoipa::path(post, path = "/api/invoices", request_body = DraftInvoice,
    responses((status = 201, body = InvoiceView)))]
async fn draft(
    caller: Caller,
    State(app): State<App>,
    Json(body): Json<DraftInvoice>,
) -> Result<Record<InvoiceView>, Problem> {
    caller.require(Invoices::WRITE)?;
    let currency = match (body.currency, &body.amount) {
        (Some(currency), _) => currency,
        (None, Some(amount)) => amount.currency(),
        (None, None) => CURRENCY.parse().map_err(Problem::internal)?,
    };
    let issue_date = body.issue_date.unwrap_or(app.today());
    let in_time = issue_date.checked_add_days(NET_DAYS).filter(|due| calendar::is_ordinary(*due));
    let details = InvoiceDetails {
        number: body.number,
        customer: body.customer_id,
        project: body.project_id,
        currency,
        lines: body.lines,
        amount: body.amount,
        issue_date,
        due_date: body.due_date.or(in_time).unwrap_or(issue_date),
        notes: body.notes,
        terms: body.terms,
    };
    let mut attempts = Attempts::default();
    let receipt = loop {
        let mut work = app.begin(&caller);
        rely_on(&app, &caller, &mut work, Some(body.customer_id), body.project_id).await?;
        let command = InvoiceCommand::Draft(details.clone());
        work.execute::<Invoice>(work.next::<Invoice>(InvoiceId::PREFIX), command).await?;
        if let Some(receipt) = app.commit(&caller, work, &mut attempts).await? {
            break receipt;
        }
    };
    let id = receipt.id(0).unwrap_or_default();
    Ok(answer::<Invoices>(&app, &caller, id, &receipt).await?.created(&format!("/api/invoices/{id}")))
}

/// Makes a command rely on the customer and the project that it names.
pub(super) async fn rely_on(
    app: &App,
    caller: &Caller,
    work: &mut Work,
    customer: Option<CustomerId>,
    project: Option<ProjectId>,
) -> Result<(), Problem> {
    if let Some(customer) = customer {
        customers::rely_on(app, caller, work, customer, "/customer_id").await?;
    }
    let Some(project) = project else { return Ok(()) };
    let unknown = || Problem::invalid_field("/project_id", "unknown_project", "there is no such project");
    match find::<Projects>(app, caller, &project.to_string()).await {
        Ok(_) => {}
        Err(problem) if problem.is_not_found() => return Err(unknown()),
        Err(problem) => return Err(problem),
    }
    let there = |project: &Project| project.details.is_some() && !project.deleted;
    work.rely_on::<Project>(project, there).await?.map(drop).ok_or_else(unknown)
}

/// Read an invoice.
#[utoipa::path(get, path = "/api/invoices/{id}", params(("id" = InvoiceId, Path), AsOfQuery),
    responses((status = 200, body = InvoiceView)))]
async fn read(
    caller: Caller,
    State(app): State<App>,
    Id(id): Id<InvoiceId>,
    When(as_of): When,
) -> Result<Record<InvoiceView>, Problem> {
    if let Some(as_of) = as_of {
        return past::read::<Invoices>(&app, Reader::Caller(&caller), &id.to_string(), as_of).await;
    }
    let found = find::<Invoices>(&app, &caller, &id.to_string()).await?;
    let version = found.stored.version;
    Ok(Record::read(InvoiceView::on(found.stored, app.today()), version))
}

/// Change a draft (JSON Merge Patch). An invoice that was sent is not changed: void it and write another.
#[utoipa::path(patch, path = "/api/invoices/{id}", params(("id" = InvoiceId, Path), IfMatch), request_body = InvoicePatch,
    responses((status = 200, body = InvoiceView)))]
async fn change(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<InvoiceId>,
    body: Merge<InvoicePatch>,
) -> Result<Record<InvoiceView>, Problem> {
    let mut attempts = Attempts::default();
    loop {
        let mut work = app.begin(&caller);
        find_to_change::<Invoices>(&app, &caller, &mut work, &id.to_string(), if_match, &body.fields).await?;
        let (customer, project) = (body.patch.customer.as_set(), body.patch.project.as_set());
        rely_on(&app, &caller, &mut work, customer.copied(), project.copied()).await?;
        let command = InvoiceCommand::Change(body.patch.clone());
        work.execute::<Invoice>(work.stream::<Invoice>(id), command).await?;
        if let Some(receipt) = app.commit(&caller, work, &mut attempts).await? {
            return answer::<Invoices>(&app, &caller, &id.to_string(), &receipt).await;
        }
    }
}

/// Send an invoice to the customer.
#[utoipa::path(post, path = "/api/invoices/{id}/send", params(("id" = InvoiceId, Path), IfMatch),
    responses((status = 200, body = InvoiceView)))]
async fn send_invoice(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<InvoiceId>,
) -> Result<Record<InvoiceView>, Problem> {
    send(&app, &caller, id, if_match, InvoiceCommand::Send {}).await
}

/// Note that the customer looked at an invoice.
#[utoipa::path(post, path = "/api/invoices/{id}/view", params(("id" = InvoiceId, Path), IfMatch),
    responses((status = 200, body = InvoiceView)))]
async fn view(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<InvoiceId>,
) -> Result<Record<InvoiceView>, Problem> {
    send(&app, &caller, id, if_match, InvoiceCommand::MarkViewed {}).await
}

/// When.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"paid_on": "2026-12-01"}))]
struct PayInvoice {
    /// The day on which the money came; on or after the issue.
    #[serde(deserialize_with = "calendar::date")]
    paid_on: NaiveDate,
}

/// Note that an invoice was paid.
#[utoipa::path(post, path = "/api/invoices/{id}/pay", params(("id" = InvoiceId, Path), IfMatch), request_body = PayInvoice,
    responses((status = 200, body = InvoiceView)))]
async fn pay(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<InvoiceId>,
    Json(body): Json<PayInvoice>,
) -> Result<Record<InvoiceView>, Problem> {
    let command = InvoiceCommand::Pay { paid_on: body.paid_on, today: app.today() };
    send(&app, &caller, id, if_match, command).await
}

/// Withdraw an invoice. It stays, and its number is not given again.
#[utoipa::path(post, path = "/api/invoices/{id}/void", params(("id" = InvoiceId, Path), IfMatch),
    responses((status = 200, body = InvoiceView)))]
async fn void(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<InvoiceId>,
) -> Result<Record<InvoiceView>, Problem> {
    send(&app, &caller, id, if_match, InvoiceCommand::Void {}).await
}

/// One command on one invoice that the caller may change.
async fn send(
    app: &App,
    caller: &Caller,
    id: InvoiceId,
    if_match: IfMatch,
    command: InvoiceCommand,
) -> Result<Record<InvoiceView>, Problem> {
    let mut attempts = Attempts::default();
    loop {
        let mut work = app.begin(caller);
        find_to_change::<Invoices>(app, caller, &mut work, &id.to_string(), if_match, &["status".into()]).await?;
        let after = work.execute::<Invoice>(work.stream::<Invoice>(id), command.clone()).await?;
        if let (InvoiceCommand::Send {}, false, Some(facts)) = (&command, work.is_empty(), &after.state.facts) {
            rely_on_debtor(&mut work, facts.customer).await?;
        }
        if let Some(receipt) = app.commit(caller, work, &mut attempts).await? {
            return answer::<Invoices>(app, caller, &id.to_string(), &receipt).await;
        }
    }
}

/// Makes the sending of an invoice rely on its customer's being there: one with an unpaid invoice is not deleted, so one
/// that is deleted gets none. What one owes that was merged into another, the other one owes.
async fn rely_on_debtor(work: &mut Work, customer: CustomerId) -> Result<(), Problem> {
    let there = |customer: &Customer| customer.facts.is_some() && !customer.deleted;
    let mut debtor = Some(customer);
    while let Some(customer) = debtor {
        let gone = || Problem::conflict("customer_deleted", format!("{customer} was deleted; restore it first."));
        debtor = work.rely_on::<Customer>(customer, there).await?.ok_or_else(gone)?.merged_into;
    }
    Ok(())
}
