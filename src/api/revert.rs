//! Bringing a record back to an earlier version: `POST /api/{noun}/{id}/revert`. It appends; nothing is overwritten.
//!
//! All of what was asked for goes back, or nothing does: somebody chose the version.

use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::customers::{CustomerView, Customers};
use super::headers::IfMatch;
use super::interactions::{InteractionView, Interactions, Of};
use super::invoices::{InvoiceView, Invoices};
use super::leads::{LeadView, Leads};
use super::notes::{NoteView, Notes};
use super::problem::ProblemKind;
use super::projects::{ProjectView, Projects};
use super::record::{Id, Noun, Record as Answer, answer, row, unchanged_since};
use super::take_back::{Existence, Fields, Goal, Kept, Past, Record, Taking};
use super::users::{UserView, Users};
use super::write::{Attempts, Receipt};
use super::{App, FieldError, Json, Problem};
use crate::aggregates::customer::Customer;
use crate::aggregates::ids::{CustomerId, InteractionId, InvoiceId, LeadId, NoteId, ProjectId, UserId};
use crate::aggregates::invoice::Invoice;
use crate::aggregates::lead::Lead;
use crate::aggregates::project::Project;
use crate::aggregates::user::User;

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(revert_lead))
        .routes(routes!(revert_customer))
        .routes(routes!(revert_project))
        .routes(routes!(revert_invoice))
        .routes(routes!(revert_user))
        .routes(routes!(revert_note))
        .routes(routes!(revert_interaction))
}

/// Back to when, and what of it.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"to_version": 7, "fields": ["phone"]}))]
struct Revert {
    /// The version whose values are wanted, as its `ETag` or history shows it. The version before a revert undoes it.
    #[schema(minimum = 1)]
    to_version: i64,
    /// Which fields go back; all that can, if not said.
    #[serde(default)]
    fields: Option<Vec<String>>,
}

/// Bring a lead back to an earlier version, or some fields of it.
///
/// All of it or nothing: what the rules forbid is named field by field. What follows from the rest (score, dates of
/// contact) and the customer that a lead became do not go back.
#[utoipa::path(post, path = "/api/leads/{id}/revert", params(("id" = LeadId, Path), IfMatch), request_body = Revert,
    responses((status = 200, body = LeadView)))]
async fn revert_lead(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<LeadId>,
    Json(body): Json<Revert>,
) -> Result<Answer<LeadView>, Problem> {
    let id = id.to_string();
    let receipt = itself::<Lead, Leads>(&app, &caller, &id, if_match, &body).await?;
    answer::<Leads>(&app, &caller, &id, &receipt).await
}

/// Bring a customer back to an earlier version, or some fields of it.
///
/// All of it or nothing: what the rules forbid is named field by field.
#[utoipa::path(post, path = "/api/customers/{id}/revert", params(("id" = CustomerId, Path), IfMatch), request_body = Revert,
    responses((status = 200, body = CustomerView)))]
async fn revert_customer(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<CustomerId>,
    Json(body): Json<Revert>,
) -> Result<Answer<CustomerView>, Problem> {
    let id = id.to_string();
    let receipt = itself::<Customer, Customers>(&app, &caller, &id, if_match, &body).await?;
    answer::<Customers>(&app, &caller, &id, &receipt).await
}

/// Bring a project back to an earlier version, or some fields of it.
///
/// All of it or nothing: what the rules forbid is named field by field. Hours that were logged stay.
#[utoipa::path(post, path = "/api/projects/{id}/revert", params(("id" = ProjectId, Path), IfMatch), request_body = Revert,
    responses((status = 200, body = ProjectView)))]
async fn revert_project(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<ProjectId>,
    Json(body): Json<Revert>,
) -> Result<Answer<ProjectView>, Problem> {
    let id = id.to_string();
    let receipt = itself::<Project, Projects>(&app, &caller, &id, if_match, &body).await?;
    answer::<Projects>(&app, &caller, &id, &receipt).await
}

/// Bring a draft of an invoice back to an earlier version, or some fields of it.
///
/// All of it or nothing. What was sent, viewed, paid or voided stays so.
#[utoipa::path(post, path = "/api/invoices/{id}/revert", params(("id" = InvoiceId, Path), IfMatch), request_body = Revert,
    responses((status = 200, body = InvoiceView)))]
async fn revert_invoice(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<InvoiceId>,
    Json(body): Json<Revert>,
) -> Result<Answer<InvoiceView>, Problem> {
    let id = id.to_string();
    let receipt = itself::<Invoice, Invoices>(&app, &caller, &id, if_match, &body).await?;
    answer::<Invoices>(&app, &caller, &id, &receipt).await
}

/// Bring a user back to an earlier version, or some fields of them. It acts at once, and signs them out.
///
/// All of it or nothing: what the rules forbid is named field by field.
#[utoipa::path(post, path = "/api/users/{id}/revert", params(("id" = UserId, Path), IfMatch), request_body = Revert,
    responses((status = 200, body = UserView)))]
async fn revert_user(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<UserId>,
    Json(body): Json<Revert>,
) -> Result<Answer<UserView>, Problem> {
    let id = id.to_string();
    let receipt = itself::<User, Users>(&app, &caller, &id, if_match, &body).await?;
    answer::<Users>(&app, &caller, &id, &receipt).await
}

/// Bring a note back to what it said at an earlier version of its customer.
#[utoipa::path(post, path = "/api/notes/{id}/revert", params(("id" = NoteId, Path), IfMatch), request_body = Revert,
    responses((status = 200, body = NoteView)))]
async fn revert_note(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<NoteId>,
    Json(body): Json<Revert>,
) -> Result<Answer<NoteView>, Problem> {
    let of = row::<Notes>(&app, &caller, &id.to_string()).await?.row.customer_id;
    let (record, id) = (Record::Note(id), id.to_string());
    let receipt = revert::<Customer, Notes>(&app, &caller, (&of, record, &id), if_match, &body).await?;
    answer::<Notes>(&app, &caller, &id, &receipt).await
}

/// Bring contact back to how it stood at an earlier version of the customer, or lead, that it is with.
///
/// Contact that was planned is planned again; contact that was recorded after it took place stays.
#[utoipa::path(post, path = "/api/interactions/{id}/revert", params(("id" = InteractionId, Path), IfMatch),
    request_body = Revert, responses((status = 200, body = InteractionView)))]
async fn revert_interaction(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<InteractionId>,
    Json(body): Json<Revert>,
) -> Result<Answer<InteractionView>, Problem> {
    let (record, with) = (Record::Interaction(id), super::interactions::with(&app, &caller, id).await?);
    let id = id.to_string();
    let receipt = match with {
        Of::Lead(lead) => {
            let of = lead.to_string();
            revert::<Lead, Interactions>(&app, &caller, (&of, record, &id), if_match, &body).await?
        }
        Of::Customer(customer) => {
            let of = customer.to_string();
            revert::<Customer, Interactions>(&app, &caller, (&of, record, &id), if_match, &body).await?
        }
    };
    answer::<Interactions>(&app, &caller, &id, &receipt).await
}

async fn itself<A: Past, N: Noun>(
    app: &App,
    caller: &Caller,
    id: &str,
    if_match: IfMatch,
    body: &Revert,
) -> Result<Receipt, Problem> {
    revert::<A, N>(app, caller, (id, Record::Itself, id), if_match, body).await
}

/// Reverts a record, which is shown under `id`, of the aggregate `of`.
async fn revert<A: Past, N: Noun>(
    app: &App,
    caller: &Caller,
    (of, record, id): (&str, Record, &str),
    if_match: IfMatch,
    body: &Revert,
) -> Result<Receipt, Problem> {
    let mut attempts = Attempts::default();
    loop {
        let stored = row::<N>(app, caller, id).await?;
        let mut work = app.begin(caller);
        let stream = work.stream::<A>(of);
        let history = app.store.streams().history::<A>(&stream).await?;
        let now = history.now();
        now.state.allow(app, caller, of, record).await?;
        let fields = body.fields.as_deref().unwrap_or_default();
        unchanged_since::<N>(app, caller, &mut work, &stored, if_match, fields).await?;
        let facet = now.state.facet(record).filter(|facet| !facet.deleted).ok_or_else(Problem::not_found)?;
        let unknown = || unknown_version(body.to_version, now.version);
        if body.to_version < 1 || body.to_version > now.version {
            return Err(unknown());
        }
        let then = history.at(body.to_version);
        let before = then.facet(record).ok_or_else(unknown)?;
        let wanted = wanted(body, facet.fields.keys().copied())?;
        let fields = wanted.into_iter().filter(|field| facet.fields.get(field) != before.fields.get(field)).collect();
        work.decide_on(stream, now.clone());
        let mut taking = Taking::new(app, caller, &mut work, of);
        let goal = Goal { record, now: &now.state, then: &then, fields, existence: Existence::Kept };
        A::bring_back(&mut taking, &goal).await?;
        if !taking.kept.is_empty() {
            return Err(cannot_go_back(&taking.kept));
        }
        if let Some(receipt) = app.commit(caller, work, &mut attempts).await? {
            if receipt.changed() {
                A::settle(app, caller, of).await?;
            }
            return Ok(receipt);
        }
    }
}

/// The fields that are to go back: those that were named, or all.
fn wanted(body: &Revert, known: impl Iterator<Item = &'static str> + Clone) -> Result<Fields, Problem> {
    let Some(named) = &body.fields else { return Ok(known.collect()) };
    let (mut fields, mut errors) = (Fields::new(), Vec::new());
    for (index, name) in named.iter().enumerate() {
        match known.clone().find(|field| field == name) {
            Some(field) => {
                fields.insert(field);
            }
            None => {
                let all = known.clone().collect::<Vec<_>>().join(", ");
                let detail = format!("expected one of {all}");
                errors.push(FieldError::at(format!("/fields/{index}"), "unknown_value", detail));
            }
        }
    }
    if errors.is_empty() { Ok(fields) } else { Err(Problem::validation_failed(errors)) }
}

fn unknown_version(wanted: i64, current: i64) -> Problem {
    let detail = format!("there is no version {wanted} of this; it is at version {current}");
    Problem::invalid_field("/to_version", "unknown_version", detail)
}

/// Why nothing went back: what is not allowed to the caller, else every field with its reason.
fn cannot_go_back(kept: &[Kept]) -> Problem {
    let denied =
        kept.iter().find(|kept| matches!(kept.problem.kind(), ProblemKind::PermissionDenied | ProblemKind::PlanLimit));
    if let Some(denied) = denied {
        return denied.problem.clone();
    }
    let errors: Vec<FieldError> = kept
        .iter()
        .map(|kept| {
            let why = kept.why();
            FieldError::at(format!("/{}", kept.field.unwrap_or_default()), why.code, why.detail)
        })
        .collect();
    let detail = match errors.as_slice() {
        [only] => format!("1 field cannot go back, so nothing did: {}", only.detail),
        all => format!("{} fields cannot go back, so nothing did", all.len()),
    };
    Problem::conflict("cannot_go_back", detail).blaming(errors)
}
