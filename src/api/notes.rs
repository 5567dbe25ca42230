//! What was written down about customers; a private note exists for its author only.

use axum::extract::State;
use axum::http::Uri;
use chrono::{DateTime, Utc};
use cqrs_es::Aggregate as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::customers::Customers;
use super::headers::IfMatch;
use super::list::{Field, Kind, ListQuery, ListSpec, Parent};
use super::page::Page;
use super::past::{self, AsOfQuery, Reader, When};
use super::record::{Id, Merge, Noun, Record, answer, find, list_spec, row, unchanged_since};
use super::write::Attempts;
use super::{App, Problem};
use crate::aggregates::customer::{Customer, CustomerCommand, NotePatch};
use crate::aggregates::ids::{CustomerId, NoteId, TenantId, UserId};
use crate::aggregates::permission::Module;
use crate::aggregates::values::Text;
use crate::event_store::StreamId;
use crate::projections::notes::NoteRow;
use crate::projections::row::Stored;

/// Something that was written down about a customer.
#[derive(Debug, Serialize, ToSchema)]
pub struct NoteView {
    /// The note's id.
    #[schema(value_type = NoteId)]
    id: String,
    /// The version of its customer that made it so; also the `ETag`.
    version: i64,
    /// The customer it is about.
    #[schema(value_type = CustomerId)]
    customer_id: String,
    /// Who wrote it.
    #[schema(value_type = UserId)]
    author_id: String,
    /// Its title.
    title: Option<String>,
    /// What it says.
    content: String,
    /// Whether only its author sees it.
    private: bool,
    /// When it was written.
    #[serde(serialize_with = "crate::api::shown::at")]
    created_at: DateTime<Utc>,
    /// When it last changed.
    #[serde(serialize_with = "crate::api::shown::at")]
    updated_at: DateTime<Utc>,
}

impl From<Stored<NoteRow>> for NoteView {
    fn from(stored: Stored<NoteRow>) -> Self {
        let row = stored.row;
        Self {
            id: stored.id,
            version: stored.version,
            customer_id: row.customer_id,
            author_id: row.author_id,
            title: row.title,
            content: row.content,
            private: row.private,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
        }
    }
}

/// Notes; who may see them follows from their customer, and from who wrote them.
pub struct Notes;

impl Noun for Notes {
    type Row = NoteRow;
    type View = NoteView;
    const MODULE: Module = Module::Customers;
    const LIST: ListSpec =
        ListSpec { search: &["title", "content"], default_sort: "-created_at", ..ListSpec::new("notes", FIELDS) };

    fn stream(tenant: TenantId, stored: &Stored<Self::Row>) -> StreamId {
        StreamId::new(Customer::TYPE, tenant, &stored.row.customer_id)
    }

    /// What it said while it was private is its author's.
    fn may_know(then: &NoteRow, caller: &Caller) -> bool {
        seen_by(then, caller.own_user())
    }
}

const FIELDS: &[Field] = &[
    Field::new("id", Kind::Id).not_null(),
    Field::new("author_id", Kind::Id).not_null().filter_only(),
    Field::new("private", Kind::Bool).not_null().filter_only(),
    Field::new("created_at", Kind::Timestamp).not_null(),
    Field::new("updated_at", Kind::Timestamp).not_null(),
];

/// Nothing for a note that everybody sees, else who sees it.
pub(super) const SEEN_BY: &str = "case when private then author_id else '' end";

/// The routes that speak of a note by itself.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(read, change, remove)).routes(routes!(restore))
}

/// Whether somebody may see a note; nobody stands for a visitor.
#[must_use]
pub fn seen_by(note: &NoteRow, reader: Option<UserId>) -> bool {
    !note.private || reader.is_some_and(|reader| reader.to_string() == note.author_id)
}

/// One page of the notes on a customer, as far as the reader may see them: what is or was private, its author alone.
///
/// # Errors
/// What the query does wrong; `not_found`.
pub async fn list_of(app: &App, reader: Reader<'_>, of: CustomerId, uri: &Uri) -> Result<Page<NoteView>, Problem> {
    let seers: Vec<String> =
        std::iter::once(String::new()).chain(reader.author().map(|author| author.to_string())).collect();
    let query = ListQuery::parse(list_spec::<Notes>(), uri)?;
    past::there::<Customers>(app, reader, &of.to_string(), query.as_of()).await?;
    let query = past::nouns::with_customer(app, reader.scope(), query, of).await?;
    let query = query.among(SEEN_BY, seers.clone()).among_today(SEEN_BY, seers);
    let customers = reader.visibility::<Customers>();
    let parents = [Parent { column: "customer_id", table: "customers", owner: "owner_id", visibility: customers }];
    past::list_within::<Notes>(app, reader, query, &parents).await
}

/// Something to be written down.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"title": "Renewal", "content": "Asks for a yearly contract."}))]
pub struct AddNote {
    /// A title.
    #[serde(default)]
    title: Option<Text<200>>,
    /// What to remember.
    content: Text<10000>,
    /// Whether only its author sees it.
    #[serde(default)]
    private: bool,
}

/// Writes something down about a customer that the caller is known to be allowed to change.
///
/// # Errors
/// What the customer refuses, and `conflict` for a visitor, who is nobody of the business.
pub async fn add_to(
    app: &App,
    caller: &Caller,
    customer: CustomerId,
    body: AddNote,
) -> Result<Record<NoteView>, Problem> {
    let author = somebody(caller)?;
    let id = NoteId(app.number(caller, NoteId::PREFIX).await?);
    let AddNote { title, content, private } = body;
    let command = CustomerCommand::AddNote { id, author, title, content, private };
    let receipt = execute(app, caller, customer, &command).await?;
    let record = answer::<Notes>(app, caller, &id.to_string(), &receipt).await?;
    Ok(record.created(&format!("/api/notes/{id}")))
}

/// Read a note.
#[utoipa::path(get, path = "/api/notes/{id}", params(("id" = NoteId, Path), AsOfQuery),
    responses((status = 200, body = NoteView)))]
async fn read(
    caller: Caller,
    State(app): State<App>,
    Id(id): Id<NoteId>,
    When(as_of): When,
) -> Result<Record<NoteView>, Problem> {
    if let Some(as_of) = as_of {
        return past::read::<Notes>(&app, Reader::Caller(&caller), &id.to_string(), as_of).await;
    }
    let (stored, _) = visible(&app, &caller, id).await?;
    let version = stored.version;
    Ok(Record::read(stored.into(), version))
}

/// Change a note (JSON Merge Patch). Only its author makes it private.
#[utoipa::path(patch, path = "/api/notes/{id}", params(("id" = NoteId, Path), IfMatch), request_body = NotePatch,
    responses((status = 200, body = NoteView)))]
async fn change(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<NoteId>,
    body: Merge<NotePatch>,
) -> Result<Record<NoteView>, Problem> {
    let command = |by| CustomerCommand::EditNote { id, by, patch: body.patch.clone() };
    let receipt = execute_on(&app, &caller, id, (if_match, &body.fields), command).await?;
    answer::<Notes>(&app, &caller, &id.to_string(), &receipt).await
}

/// Take a note away.
#[utoipa::path(delete, path = "/api/notes/{id}", params(("id" = NoteId, Path), IfMatch),
    responses((status = 200, body = NoteView)))]
async fn remove(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<NoteId>,
) -> Result<Record<NoteView>, Problem> {
    let command = |by| CustomerCommand::RemoveNote { id, by };
    let receipt = execute_on(&app, &caller, id, (if_match, &[]), command).await?;
    answer::<Notes>(&app, &caller, &id.to_string(), &receipt).await
}

/// Bring a note back that was taken away.
#[utoipa::path(post, path = "/api/notes/{id}/restore", params(("id" = NoteId, Path), IfMatch),
    responses((status = 200, body = NoteView)))]
async fn restore(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<NoteId>,
) -> Result<Record<NoteView>, Problem> {
    let mut attempts = Attempts::default();
    let receipt = loop {
        let mut work = app.begin(&caller);
        let stored = row::<Notes>(&app, &caller, &id.to_string()).await?;
        if !seen_by(&stored.row, caller.own_user()) {
            return Err(Problem::not_found());
        }
        let customer: CustomerId = stored.row.customer_id.parse().map_err(Problem::internal)?;
        find::<Customers>(&app, &caller, &customer.to_string()).await?.require(&caller, Customers::WRITE)?;
        unchanged_since::<Notes>(&app, &caller, &mut work, &stored, if_match, &[]).await?;
        let command = CustomerCommand::RestoreNote { id, by: somebody(&caller)? };
        work.execute::<Customer>(work.stream::<Customer>(customer), command).await?;
        if let Some(receipt) = app.commit(&caller, work, &mut attempts).await? {
            break receipt;
        }
    };
    answer::<Notes>(&app, &caller, &id.to_string(), &receipt).await
}

/// A note that the caller may see, and its customer.
async fn visible(app: &App, caller: &Caller, id: NoteId) -> Result<(Stored<NoteRow>, CustomerId), Problem> {
    let stored = row::<Notes>(app, caller, &id.to_string()).await?;
    if stored.row.deleted_at.is_some() || !seen_by(&stored.row, caller.own_user()) {
        return Err(Problem::not_found());
    }
    let customer: CustomerId = stored.row.customer_id.parse().map_err(Problem::internal)?;
    find::<Customers>(app, caller, &customer.to_string()).await?;
    Ok((stored, customer))
}

/// One command on a note that the caller may change, sent to its customer.
async fn execute_on(
    app: &App,
    caller: &Caller,
    id: NoteId,
    (if_match, fields): (IfMatch, &[String]),
    command: impl Fn(UserId) -> CustomerCommand,
) -> Result<super::write::Receipt, Problem> {
    let mut attempts = Attempts::default();
    loop {
        let mut work = app.begin(caller);
        let (stored, customer) = visible(app, caller, id).await?;
        find::<Customers>(app, caller, &customer.to_string()).await?.require(caller, Customers::WRITE)?;
        unchanged_since::<Notes>(app, caller, &mut work, &stored, if_match, fields).await?;
        work.execute::<Customer>(work.stream::<Customer>(customer), command(somebody(caller)?)).await?;
        if let Some(receipt) = app.commit(caller, work, &mut attempts).await? {
            return Ok(receipt);
        }
    }
}

/// The caller as somebody of the business: a visitor writes no notes, since nobody there could answer for them.
pub(super) fn somebody(caller: &Caller) -> Result<UserId, Problem> {
    let visitor = || Problem::conflict("visitor", "Notes are written by the people of the business.");
    caller.own_user().ok_or_else(visitor)
}

async fn execute(
    app: &App,
    caller: &Caller,
    customer: CustomerId,
    command: &CustomerCommand,
) -> Result<super::write::Receipt, Problem> {
    let mut attempts = Attempts::default();
    loop {
        let work = app.begin(caller);
        work.execute::<Customer>(work.stream::<Customer>(customer), command.clone()).await?;
        if let Some(receipt) = app.commit(caller, work, &mut attempts).await? {
            return Ok(receipt);
        }
    }
}
