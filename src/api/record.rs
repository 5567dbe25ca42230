//! One record of a read model: found within what the caller may see, answered with its version, changed only if
//! nobody else changed the same.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use chrono::NaiveDate;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row as _};
use utoipa::ToSchema;

use super::accepted::Accepted;
use super::caller::Caller;
use super::headers::{IfMatch, POSITION, etag};
use super::list::{ListQuery, ListSpec};
use super::lookup::Lookup;
use super::page::Page;
use super::write::Receipt;
use super::{App, Json, Problem, body};
use crate::aggregates::ids::{InvalidId, TenantId};
use crate::aggregates::permission::{Action, Module, Permission, Scope};
use crate::aggregates::values::Patch;
use crate::event_store::reader::stream_end;
use crate::event_store::{StreamId, TenantScope, Work};
use crate::projections::row::{COMMON_COLUMNS, InOrder, Row, Stored};

/// A row as it is shown; most follow from the row alone, some also from what day it is (UTC).
pub trait View<R>: Serialize + ToSchema {
    /// As it is shown on a day.
    fn on(stored: Stored<R>, today: NaiveDate) -> Self;
}

impl<R, V: From<Stored<R>> + Serialize + ToSchema> View<R> for V {
    fn on(stored: Stored<R>, _: NaiveDate) -> Self {
        stored.into()
    }
}

/// A kind of record that the API shows: how it is stored, shown and listed, and what it takes to see it.
pub trait Noun: 'static {
    /// As it is stored.
    type Row: Row;
    /// As it is shown.
    type View: View<Self::Row>;
    /// As it is listed.
    const LIST: ListSpec;
    /// What permissions speak of it.
    const MODULE: Module;

    /// The stream whose events make one: the version of a record is the version of that.
    fn stream(tenant: TenantId, stored: &Stored<Self::Row>) -> StreamId;

    /// Whether a caller who may see a record now may know how it stood.
    #[must_use]
    fn may_know(_then: &Self::Row, _caller: &Caller) -> bool {
        true
    }

    /// A list that was asked for, with what depends on the day worked out.
    #[must_use]
    fn asked(query: ListQuery, _today: NaiveDate) -> ListQuery {
        query
    }

    /// The permission to see it.
    const READ: Permission = Permission { module: Self::MODULE, action: Action::Read };
    /// The permission to change it.
    const WRITE: Permission = Permission { module: Self::MODULE, action: Action::Write };
}

/// A record that the caller may see, and how close it is to the caller.
#[derive(Debug, Clone)]
pub struct Found<R> {
    /// The record.
    pub stored: Stored<R>,
    /// Whether it was taken away.
    pub deleted: bool,
    closeness: Scope,
}

impl<R> Found<R> {
    /// That the caller's permission reaches this record.
    ///
    /// # Errors
    /// `permission_denied`, which names the permission: the caller sees the record, and may know.
    pub fn require(&self, caller: &Caller, permission: Permission) -> Result<(), Problem> {
        if caller.require(permission)? >= self.closeness { Ok(()) } else { Err(Problem::permission_denied(permission)) }
    }
}

/// How close something with this owner is to the caller: the narrowest scope that includes it.
#[must_use]
pub fn closeness(caller: &Caller, owner: Option<&str>, members: &[String], department: Option<&str>) -> Scope {
    let me = caller.own_user().map(|user| user.to_string());
    let mine = me.is_some_and(|me| owner == Some(me.as_str()) || members.contains(&me));
    match (department, caller.identity.department.as_deref()) {
        _ if mine => Scope::Own,
        (Some(theirs), Some(ours)) if theirs == ours && caller.own_user().is_some() => Scope::Department,
        _ => Scope::Tenant,
    }
}

/// Finds a record within what the caller may see; a deleted one too, which the caller of this is to refuse.
///
/// # Errors
/// `not_found`: there is none, or the caller may not know.
pub async fn find_any<N: Noun>(app: &App, caller: &Caller, id: &str) -> Result<Found<N::Row>, Problem> {
    let reach = caller.require(N::READ)?;
    let row = kept::<N>(app, caller.scope(), id).await?;
    let InOrder(stored) = InOrder::<N::Row>::from_row(&row)?;
    let owner: Option<&str> = row.try_get("record_owner")?;
    let members: Vec<String> = row.try_get("record_members")?;
    let department: Option<&str> = row.try_get("owner_department")?;
    let closeness = closeness(caller, owner, &members, department);
    if closeness > reach {
        return Err(Problem::not_found());
    }
    Ok(Found { stored, deleted: row.try_get("record_deleted")?, closeness })
}

/// Finds a record that is there, within what the caller may see.
///
/// # Errors
/// `not_found`: there is none, it was taken away, or the caller may not know.
pub async fn find<N: Noun>(app: &App, caller: &Caller, id: &str) -> Result<Found<N::Row>, Problem> {
    let found = find_any::<N>(app, caller, id).await?;
    if found.deleted { Err(Problem::not_found()) } else { Ok(found) }
}

/// Finds a record that the caller may change, and makes sure that a change made for an older version does not
/// undo what others did since: see [`unchanged_since`].
///
/// # Errors
/// `not_found`, `permission_denied`, or `version_conflict` if one of `fields` was changed since.
pub async fn find_to_change<N: Noun>(
    app: &App,
    caller: &Caller,
    work: &mut Work,
    id: &str,
    if_match: IfMatch,
    fields: &[String],
) -> Result<Found<N::Row>, Problem> {
    let found = find::<N>(app, caller, id).await?;
    found.require(caller, N::WRITE)?;
    unchanged_since::<N>(app, caller, work, &found.stored, if_match, fields).await?;
    Ok(found)
}

/// That none of `fields` was changed since the version of `If-Match`; an empty list stands for every field. It holds for
/// all that the log has by now, and the work is stored only if nothing is added to it: who is told of a conflict decides
/// again, and asks this again.
///
/// # Errors
/// `version_conflict` with what was changed; `projection_lagging` if what was changed cannot be read.
pub async fn unchanged_since<N: Noun>(
    app: &App,
    caller: &Caller,
    work: &mut Work,
    found: &Stored<N::Row>,
    IfMatch(wanted): IfMatch,
    fields: &[String],
) -> Result<(), Problem> {
    let Some(wanted) = wanted else { return Ok(()) };
    let scope = work.scope();
    let stream = N::stream(scope.tenant(), found);
    let (version, position) = stream_end(app.reader(caller), &stream).await?.ok_or_else(Problem::not_found)?;
    work.only_at(stream, version);
    let now = if found.version == version {
        found.clone()
    } else {
        app.readable(scope.tenant(), position).await?;
        if app.projections.parked_of(scope.tenant()).is_some_and(|parked| parked.contains(&found.id)) {
            return Err(Problem::projection_lagging());
        }
        row_in::<N>(app, scope, &found.id).await?
    };
    let current = u64::try_from(now.version).unwrap_or(0);
    if wanted == current {
        return Ok(());
    }
    let statement = format!(
        "with scope as materialized (select set_config('devhub.tenant_id', $1, true) as tenant_id)
         select v.* from scope cross join lateral (
             select * from {} where tenant_id = scope.tenant_id and id = $2 and version <= $3
             order by version desc, position desc limit 1
         ) v",
        N::Row::VERSIONS
    );
    let then: Option<PgRow> = sqlx::query(&statement)
        .bind(&now.tenant_id)
        .bind(&now.id)
        .bind(i64::try_from(wanted).unwrap_or(i64::MAX))
        .fetch_optional(app.reader(caller))
        .await?;
    let known = then.filter(|_| wanted < current);
    let Some(row) = known else { return Err(Problem::version_conflict(current, Vec::new())) };
    let then = Stored::from_row(&row)?;
    if !N::may_know(&then.row, caller) {
        return Err(Problem::version_conflict(current, Vec::new()));
    }
    let then = shown::<N>(then, app.today())?;
    let now = shown::<N>(now, app.today())?;
    let changes: Vec<Value> = now
        .iter()
        .filter(|(name, value)| !UNCONTESTED.contains(&name.as_str()) && then.get(*name) != Some(*value))
        .map(|(name, value)| json!({"field": name, "from": then.get(name), "to": value}))
        .collect();
    let contested = |change: &Value| {
        let name = change.get("field").and_then(Value::as_str).unwrap_or_default();
        fields.is_empty() || fields.iter().any(|field| field == name)
    };
    if changes.iter().any(contested) { Err(Problem::version_conflict(current, changes)) } else { Ok(()) }
}

/// What every change changes.
pub(super) const UNCONTESTED: [&str; 2] = ["version", "updated_at"];

/// The fields of a record, as they are shown on a day.
pub(super) fn shown<N: Noun>(stored: Stored<N::Row>, today: NaiveDate) -> Result<Map<String, Value>, Problem> {
    match serde_json::to_value(N::View::on(stored, today)).map_err(Problem::internal)? {
        Value::Object(fields) => Ok(fields),
        other => Err(Problem::internal(format!("a record is an object, not {other}"))),
    }
}

/// One page of the records that the caller may see.
///
/// # Errors
/// What the query does wrong, and `permission_denied`.
pub async fn list<N: Noun>(app: &App, caller: &Caller, uri: &Uri) -> Result<Page<N::View>, Problem> {
    let query = ListQuery::parse(list_spec::<N>(), uri)?;
    let day = query.day(app.today());
    let query = N::asked(query, day);
    let scope = caller.list_scope(app, N::READ)?;
    app.readers.page(&query, &scope, |stored| N::View::on(stored, day)).await
}

/// A noun's list as something that lives for ever, with the table of its past.
#[must_use]
pub const fn list_spec<N: Noun>() -> &'static ListSpec {
    const {
        &ListSpec {
            columns: [&COMMON_COLUMNS, <N::Row as Row>::COLUMNS],
            versions: Some(<N::Row as Row>::VERSIONS),
            ..N::LIST
        }
    }
}

/// A record as an answer: with its version, and where it stands after a write.
#[derive(Debug)]
pub struct Record<V> {
    status: StatusCode,
    headers: HeaderMap,
    content: Content<V>,
}

#[derive(Debug)]
enum Content<V> {
    Shown(V),
    /// It is stored, and cannot be read yet.
    Stored(Accepted),
}

impl<V> Record<V> {
    /// A record at a version.
    #[must_use]
    pub fn read(view: V, version: i64) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::ETAG, etag(u64::try_from(version).unwrap_or(0)));
        Self { status: StatusCode::OK, headers, content: Content::Shown(view) }
    }

    /// What was written, which cannot be read yet.
    #[must_use]
    pub fn stored(id: &str, receipt: &Receipt) -> Self {
        let content = Content::Stored(Accepted::new(id, receipt));
        Self { status: StatusCode::ACCEPTED, headers: HeaderMap::new(), content }.after(receipt)
    }

    /// With `DevHub-Position` of the write that made it so.
    #[must_use]
    pub fn after(mut self, receipt: &Receipt) -> Self {
        if let Some(position) = receipt.position() {
            self.headers.insert(POSITION, position);
        }
        self
    }

    /// As a new record, which stands at `location`.
    #[must_use]
    pub fn created(mut self, location: &str) -> Self {
        if matches!(self.content, Content::Shown(_)) {
            self.status = StatusCode::CREATED;
        }
        if let Ok(location) = HeaderValue::try_from(location) {
            self.headers.insert(header::LOCATION, location);
        }
        self
    }
}

impl<V: Serialize> IntoResponse for Record<V> {
    fn into_response(self) -> Response {
        match self.content {
            Content::Shown(view) => (self.status, self.headers, Json(view)).into_response(),
            Content::Stored(accepted) => (self.status, self.headers, Json(accepted)).into_response(),
        }
    }
}

/// What a write answers: the record as it is now; that it is stored, if the read models have not taken it yet, have
/// set it aside before it began, or cannot be read.
///
/// # Errors
/// `not_found` if nothing was written and there is no such record.
pub async fn answer<N: Noun>(
    app: &App,
    caller: &Caller,
    id: &str,
    receipt: &Receipt,
) -> Result<Record<N::View>, Problem> {
    if !receipt.visible() {
        return Ok(Record::stored(id, receipt));
    }
    let written = receipt.version_of(id).and_then(|version| app.projections.written(caller.tenant(), id, version));
    let stored = match written {
        Some(written) => Arc::unwrap_or_clone(written),
        None => match row::<N>(app, caller, id).await {
            // What is stored is stored, whether the database can be asked for it or not.
            Err(problem) if receipt.changed() && (problem.is_not_found() || problem.is_our_fault()) => {
                return Ok(Record::stored(id, receipt));
            }
            found => found?,
        },
    };
    let version = stored.version;
    Ok(Record::read(N::View::on(stored, app.today()), version).after(receipt))
}

/// A record of the caller's tenant by its id, whoever may see it: what the caller has just written, or refers to.
///
/// # Errors
/// `not_found`.
pub async fn row<N: Noun>(app: &App, caller: &Caller, id: &str) -> Result<Stored<N::Row>, Problem> {
    row_in::<N>(app, caller.scope(), id).await
}

/// The same in a tenant that is not the caller's, or before there is a caller.
///
/// # Errors
/// `not_found`.
pub async fn row_in<N: Noun>(app: &App, scope: TenantScope, id: &str) -> Result<Stored<N::Row>, Problem> {
    Ok(InOrder::from_row(&*kept::<N>(app, scope, id).await?)?.0)
}

/// The same, if it was not taken away.
///
/// # Errors
/// `not_found`.
pub async fn present_in<N: Noun>(app: &App, scope: TenantScope, id: &str) -> Result<Stored<N::Row>, Problem> {
    let row = kept::<N>(app, scope, id).await?;
    if row.try_get("record_deleted")? { Err(Problem::not_found()) } else { Ok(InOrder::from_row(&*row)?.0) }
}

/// A row as it is kept, with what it takes to say who may see it: read after this was called, together with whatever
/// else is read of the same kind.
async fn kept<N: Noun>(app: &App, scope: TenantScope, id: &str) -> Result<Arc<PgRow>, Problem> {
    let lookup = Lookup::new(scope, list_spec::<N>());
    app.records.ask(lookup, id.to_owned()).await?.ok_or_else(Problem::not_found)
}

/// The id in a path; one that cannot be an id is no different from one that is nobody's.
#[derive(Debug, Clone, Copy)]
pub struct Id<T>(pub T);

impl<T: std::str::FromStr + Send> FromRequestParts<App> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let ids = Path::from_request_parts(parts, app).await.map_err(|_| Problem::not_found())?;
        id_in(&ids, |name| name == "id").map(Self)
    }
}

/// The two ids in a path: of a record, `{id}`, and of what belongs to it.
#[derive(Debug, Clone, Copy)]
pub struct Ids<T, U>(pub T, pub U);

impl<T, U> FromRequestParts<App> for Ids<T, U>
where
    T: std::str::FromStr<Err = InvalidId> + Send,
    U: std::str::FromStr<Err = InvalidId> + Send,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let ids = Path::from_request_parts(parts, app).await.map_err(|_| Problem::not_found())?;
        Ok(Self(id_in(&ids, |name| name == "id")?, id_in(&ids, |name| name != "id")?))
    }
}

fn id_in<T: std::str::FromStr>(
    Path(params): &Path<Vec<(String, String)>>,
    named: impl Fn(&str) -> bool,
) -> Result<T, Problem> {
    let id = params.iter().find(|(name, _)| named(name)).map(|(_, value)| value.as_str());
    id.and_then(|id| id.parse().ok()).ok_or_else(Problem::not_found)
}

/// A JSON Merge Patch (RFC 7396) and the names of the fields that it speaks of.
#[derive(Debug)]
pub struct Merge<T> {
    /// The change.
    pub patch: T,
    /// The fields that it names.
    pub fields: Vec<String>,
}

impl<T: DeserializeOwned + ToSchema> FromRequest<App> for Merge<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &App) -> Result<Self, Problem> {
        let bytes = body::read(request).await?;
        let patch = body::parse(&bytes)?;
        let fields = serde_json::from_slice::<Map<String, Value>>(&bytes).unwrap_or_default();
        Ok(Self { patch, fields: fields.into_iter().map(|(name, _)| name).collect() })
    }
}

/// What a patch sets, if it sets it; clearing is told apart by the caller.
pub fn set<T>(patch: Patch<T>) -> Option<T> {
    match patch {
        Patch::Set(value) => Some(value),
        Patch::Unchanged | Patch::Clear => None,
    }
}
