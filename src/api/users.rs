//! Users over HTTP: who works in the business, as what, and whether they may come in.

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use cqrs_es::Aggregate as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::auth::{position, reason};
use super::caller::Caller;
use super::headers::IfMatch;
use super::list::{Field, Kind, ListSpec};
use super::page::Page;
use super::passwords::{OneTimeToken, issue};
use super::past::{self, AsOfQuery, Reader, When};
use super::record::{Found, Id, Merge, Noun, Record, answer, find, list, list_spec, row, unchanged_since};
use super::tenant::seats_used;
use super::write::Attempts;
use super::{App, Json, Problem};
use crate::access::one_time_tokens::{self, Purpose};
use crate::access::permissions::{Permissions, manages};
use crate::access::sessions::{self, Session};
use crate::aggregates::ids::{TenantId, UserId};
use crate::aggregates::permission::{Action, Grants, Module, Permission, Role, Scope};
use crate::aggregates::tenant::Tenant;
use crate::aggregates::user::{User, UserCommand, UserDetails, UserFacts};
use crate::aggregates::values::{Email, Patch, Text, UserStatus};
use crate::event_store::{Actor, Condition, StreamId, Work};
use crate::projections::people::{self, Identity};
use crate::projections::row::Stored;
use crate::projections::users::UserRow;

const MANAGE: Permission = Permission { module: Module::Users, action: Action::Manage };

/// What changes how many seats are taken, or how many there are.
const SEATS: &[&str] =
    &["UserRegistered", "UserInvited", "UserReactivated", "TenantPlanChanged", "TenantSeatLimitChanged"];
/// What takes an active owner away.
const OWNERS: &[&str] = &["UserRoleChanged", "UserLocked", "UserDeactivated"];
/// What takes an active owner away, or gives somebody work.
const OWNERS_AND_WORK: &[&str] = &[
    "UserRoleChanged",
    "UserLocked",
    "UserDeactivated",
    "LeadCaptured",
    "LeadAssigned",
    "LeadReopened",
    "LeadRestored",
    "ProjectPlanned",
    "ProjectOwnerChanged",
    "ProjectStatusChanged",
    "ProjectRestored",
];

/// Somebody who works in the business.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserView {
    /// The user's id.
    #[schema(value_type = UserId)]
    id: String,
    /// How many times they have changed; also the `ETag`.
    version: i64,
    /// What they sign in with.
    email: String,
    /// Their name.
    full_name: String,
    /// What they are.
    #[schema(value_type = Role)]
    role: String,
    /// Where they work.
    department: Option<String>,
    /// What they are granted or denied beside their role.
    #[schema(value_type = std::collections::BTreeMap<String, crate::aggregates::permission::Grant>)]
    permissions: Value,
    /// Whether they may sign in.
    #[schema(value_type = UserStatus)]
    status: String,
    /// Why they are locked out.
    locked_reason: Option<String>,
    /// Who invited them; whole if it was the platform's founder: `TNT-PLT:USR-000`.
    invited_by: Option<String>,
    /// When they signed in last.
    #[serde(serialize_with = "crate::api::shown::at")]
    last_login_at: Option<DateTime<Utc>>,
    /// When they came or were invited.
    #[serde(serialize_with = "crate::api::shown::at")]
    created_at: DateTime<Utc>,
    /// When they last changed.
    #[serde(serialize_with = "crate::api::shown::at")]
    updated_at: DateTime<Utc>,
}

impl From<Stored<UserRow>> for UserView {
    fn from(stored: Stored<UserRow>) -> Self {
        let row = stored.row;
        // The founder is nobody of the business, whose own people are the only others who invite.
        let founder = Actor::User(TenantId::Platform, UserId::FOUNDER).to_string();
        let outside = stored.tenant_id != TenantId::Platform.to_string();
        let invited_by =
            row.invited_by.map(|by| if outside && by == UserId::FOUNDER.to_string() { founder } else { by });
        Self {
            id: stored.id,
            version: stored.version,
            email: row.email,
            full_name: row.full_name,
            role: row.role,
            department: row.department,
            permissions: row.permissions,
            status: row.status,
            locked_reason: row.locked_reason,
            invited_by,
            last_login_at: row.last_login_at,
            created_at: stored.created_at,
            updated_at: stored.updated_at,
        }
    }
}

/// Users, as the API shows them: everybody is their own.
pub struct Users;

impl Noun for Users {
    type Row = UserRow;
    type View = UserView;
    const MODULE: Module = Module::Users;
    const LIST: ListSpec = ListSpec {
        search: &["full_name", "email", "id"],
        owner: Some("id"),
        hides_deleted: false,
        ..ListSpec::new("users", FIELDS)
    };

    fn stream(tenant: TenantId, stored: &Stored<Self::Row>) -> StreamId {
        StreamId::new(User::TYPE, tenant, &stored.id)
    }
}

const ROLES: &[&str] = &["PLATFORM_FOUNDER", "BUSINESS_OWNER", "MANAGER", "EMPLOYEE"];

const FIELDS: &[Field] = &[
    Field::new("id", Kind::Id).not_null(),
    Field::new("email", Kind::Text).not_null(),
    Field::new("full_name", Kind::Text).not_null(),
    Field::new("role", Kind::Enum(ROLES)).not_null(),
    Field::new("department", Kind::Text),
    Field::new("status", Kind::Enum(UserStatus::WORDS)).not_null(),
    Field::new("created_at", Kind::Timestamp).not_null(),
    Field::new("updated_at", Kind::Timestamp).not_null(),
];

/// The lists, by their addresses.
pub fn lists() -> Vec<(&'static str, &'static ListSpec)> {
    vec![("/api/users", list_spec::<Users>())]
}

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_users, invite))
        .routes(routes!(read, change))
        .routes(routes!(lock))
        .routes(routes!(unlock))
        .routes(routes!(deactivate))
        .routes(routes!(reactivate))
        .routes(routes!(invite_again))
        .routes(routes!(list_sessions, end_sessions))
}

/// List users.
#[utoipa::path(get, path = "/api/users", responses((status = 200, body = Page<UserView>)))]
async fn list_users(caller: Caller, State(app): State<App>, uri: Uri) -> Result<Page<UserView>, Problem> {
    list::<Users>(&app, &caller, &uri).await
}

/// Somebody to be invited.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "grace@northwind.example", "full_name": "Grace Hopper", "role": "EMPLOYEE",
    "department": "sales"}))]
struct InviteUser {
    /// What they will sign in with.
    email: Email,
    /// Their name.
    full_name: Text<200>,
    /// What they will be.
    role: Role,
    /// Where they will work; whoever leads a department invites to that one.
    #[serde(default)]
    department: Option<Text<100>>,
    /// What they are granted or denied beside their role.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, crate::aggregates::permission::Grant>)]
    permissions: Grants,
}

/// An invited user with the means to accept.
#[derive(Debug, Serialize, ToSchema)]
pub struct Invited {
    #[serde(flatten)]
    user: UserView,
    /// To be passed on to the invited person.
    invitation: OneTimeToken,
}

/// Invite somebody.
#[utoipa::path(post, path = "/api/users", request_body = InviteUser, responses((status = 201, body = Invited)))]
async fn invite(
    caller: Caller,
    State(app): State<App>,
    Json(body): Json<InviteUser>,
) -> Result<Record<Invited>, Problem> {
    let scope = caller.require(MANAGE)?;
    let department = match (scope, body.department) {
        (Scope::Tenant, department) => department,
        (Scope::Department, department) => Some(own_department(&caller, department)?),
        (Scope::Own, _) => return Err(Problem::permission_denied(MANAGE)),
    };
    may_give(&caller, body.role, &body.permissions, &Permissions::default())?;
    let details = UserDetails {
        email: body.email,
        full_name: body.full_name,
        role: body.role,
        department,
        permissions: body.permissions,
    };
    let mut attempts = Attempts::many();
    let receipt = loop {
        let mut work = app.begin(&caller);
        require_seat(&app, &caller, &mut work).await?;
        let command = UserCommand::Invite { details: details.clone(), invited_by: caller.user };
        work.execute::<User>(work.next::<User>(UserId::PREFIX), command).await?;
        if let Some(receipt) = app.commit(&caller, work, &mut attempts).await? {
            break receipt;
        }
    };
    let id = receipt.id(0).unwrap_or_default();
    if !receipt.visible() {
        // Whoever cannot be read yet is invited again once they can be.
        return Ok(Record::stored(id, &receipt).created(&format!("/api/users/{id}")));
    }
    let stored = row::<Users>(&app, &caller, id).await?;
    let version = stored.version;
    let user = id.parse().map_err(Problem::internal)?;
    let invitation = issue(&app, &caller, Purpose::Invitation, caller.scope(), user).await?;
    let invited = Invited { user: stored.into(), invitation };
    Ok(Record::read(invited, version).after(&receipt).created(&format!("/api/users/{id}")))
}

/// Invite somebody again who has not accepted yet; the earlier token is no longer good.
#[utoipa::path(post, path = "/api/users/{id}/invitation", params(("id" = UserId, Path)),
    responses((status = 201, body = Invited)))]
async fn invite_again(caller: Caller, State(app): State<App>, Id(id): Id<UserId>) -> Result<Record<Invited>, Problem> {
    let found = managed(&app, &caller, id).await?;
    if found.stored.row.status != UserStatus::Invited.as_str() {
        return Err(Problem::conflict("not_invited", "Only somebody who has not accepted yet is invited again."));
    }
    handed_out_for(&app, &caller, caller.tenant(), id).await?;
    let invitation = issue(&app, &caller, Purpose::Invitation, caller.scope(), id).await?;
    let version = found.stored.version;
    let invited = Invited { user: found.stored.into(), invitation };
    Ok(Record::read(invited, version).created(&format!("/api/users/{id}")))
}

/// Read a user.
#[utoipa::path(get, path = "/api/users/{id}", params(("id" = UserId, Path), AsOfQuery),
    responses((status = 200, body = UserView)))]
async fn read(
    caller: Caller,
    State(app): State<App>,
    Id(id): Id<UserId>,
    When(as_of): When,
) -> Result<Record<UserView>, Problem> {
    if let Some(as_of) = as_of {
        return past::read::<Users>(&app, Reader::Caller(&caller), &id.to_string(), as_of).await;
    }
    let found = find::<Users>(&app, &caller, &id.to_string()).await?;
    let version = found.stored.version;
    Ok(Record::read(found.stored.into(), version))
}

/// A change of a user, as JSON Merge Patch.
#[derive(Debug, Clone, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"role": "MANAGER", "department": "sales", "permissions": {"invoices:read": "tenant"}}))]
struct UserPatch {
    /// Their name; cannot be cleared.
    #[schema(inline, value_type = Option<Text<200>>)]
    full_name: Patch<Text<200>>,
    /// What they are; cannot be cleared.
    #[schema(inline, value_type = Option<Role>)]
    role: Patch<Role>,
    /// Where they work.
    #[schema(inline, value_type = Option<Text<100>>)]
    department: Patch<Text<100>>,
    /// All that they are granted or denied beside their role; null: nothing.
    #[schema(inline, value_type = Option<std::collections::BTreeMap<String, crate::aggregates::permission::Grant>>)]
    permissions: Patch<Grants>,
}

/// Change a user's name, role, department or permissions (JSON Merge Patch). It acts at once.
#[utoipa::path(patch, path = "/api/users/{id}", params(("id" = UserId, Path), IfMatch), request_body = UserPatch,
    responses((status = 200, body = UserView)))]
async fn change(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<UserId>,
    body: Merge<UserPatch>,
) -> Result<Record<UserView>, Problem> {
    if body.patch.role == Patch::Clear {
        return Err(Problem::invalid_field("/role", "required", "a user has a role"));
    }
    let mut attempts = Attempts::many();
    loop {
        let found = managed(&app, &caller, id).await?;
        let mut work = app.begin(&caller);
        unchanged_since::<Users>(&app, &caller, &mut work, &found.stored, if_match, &body.fields).await?;
        let now = work.load::<User>(id).await?.state.facts.ok_or_else(Problem::not_found)?;
        let patch = body.patch.clone();
        let role = patch.role.as_set().copied().unwrap_or(now.role);
        let grants = match patch.permissions {
            Patch::Unchanged => now.permissions.clone(),
            Patch::Clear => Grants::new(),
            Patch::Set(grants) => grants,
        };
        if (role, &grants) != (now.role, &now.permissions) {
            may_give(&caller, role, &grants, &Permissions::resolve(now.role, &now.permissions))?;
        }
        let mut department = now.department.clone();
        patch.department.apply_to(&mut department);
        if department != now.department {
            may_place(&caller, department.as_ref())?;
        }
        let may_do_other_things = (role, &grants, &department) != (now.role, &now.permissions, &now.department);
        let other_active_owners =
            if role == now.role { 0 } else { other_owners(&app, &caller, &mut work, id, OWNERS).await? };
        let commands = [
            UserCommand::ChangeProfile { full_name: patch.full_name, email: None },
            UserCommand::ChangeRole { role, other_active_owners },
            UserCommand::ChangeDepartment { department },
            UserCommand::ChangePermissions { permissions: grants },
        ];
        for command in commands {
            work.execute::<User>(work.stream::<User>(id), command).await?;
        }
        // A token was handed out for who they were: it must not open an account that may do more, neither when this
        // is interrupted once it is stored nor if another is handed out before it is.
        if may_do_other_things && caller.rehearsal().is_none() {
            withdraw_tokens(&app, &caller, id).await?;
        }
        if let Some(receipt) = app.commit(&caller, work, &mut attempts).await? {
            if may_do_other_things {
                withdraw_tokens(&app, &caller, id).await?;
            }
            return answer::<Users>(&app, &caller, &id.to_string(), &receipt).await;
        }
    }
}

/// Somebody for whom the caller may be handed a token: whoever holds it can do all that the user can, so nobody is given
/// one for somebody who can do more.
///
/// # Errors
/// `not_found` or `permission_denied`.
pub(super) async fn handed_out_for(
    app: &App,
    caller: &Caller,
    tenant: TenantId,
    id: UserId,
) -> Result<Identity, Problem> {
    let user = people::identity(&app.database.cell_of(tenant).sign_in, tenant, id).await?;
    let user = user.ok_or_else(Problem::not_found)?;
    may_give(caller, user.role, &user.grants, &Permissions::default())?;
    Ok(user)
}

/// From now on nobody chooses a password for this user with what was handed out so far.
async fn withdraw_tokens(app: &App, caller: &Caller, id: UserId) -> Result<(), Problem> {
    for purpose in [Purpose::Invitation, Purpose::PasswordReset] {
        one_time_tokens::revoke(&app.access.pool, purpose, caller.tenant(), id).await?;
    }
    Ok(())
}

/// Why.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"reason": "Lost phone"}))]
struct LockUser {
    /// The reason.
    reason: Option<Text<500>>,
}

/// Lock a user out at once; their data stays as it is.
#[utoipa::path(post, path = "/api/users/{id}/lock", params(("id" = UserId, Path), IfMatch),
    request_body = Option<LockUser>, responses((status = 200, body = UserView)))]
async fn lock(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<UserId>,
    body: Option<Json<LockUser>>,
) -> Result<Record<UserView>, Problem> {
    let reason = body.and_then(|Json(body)| body.reason);
    send(&app, &caller, id, if_match, Step::Lock { reason }).await
}

/// Let a user in again who was locked out.
#[utoipa::path(post, path = "/api/users/{id}/unlock", params(("id" = UserId, Path), IfMatch),
    responses((status = 200, body = UserView)))]
async fn unlock(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<UserId>,
) -> Result<Record<UserView>, Problem> {
    send(&app, &caller, id, if_match, Step::Unlock).await
}

/// Let a user go, whose open projects and leads were handed over.
#[utoipa::path(post, path = "/api/users/{id}/deactivate", params(("id" = UserId, Path), IfMatch),
    responses((status = 200, body = UserView)))]
async fn deactivate(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<UserId>,
) -> Result<Record<UserView>, Problem> {
    send(&app, &caller, id, if_match, Step::Deactivate).await
}

/// Take a user back.
#[utoipa::path(post, path = "/api/users/{id}/reactivate", params(("id" = UserId, Path), IfMatch),
    responses((status = 200, body = UserView)))]
async fn reactivate(
    caller: Caller,
    State(app): State<App>,
    if_match: IfMatch,
    Id(id): Id<UserId>,
) -> Result<Record<UserView>, Problem> {
    send(&app, &caller, id, if_match, Step::Reactivate).await
}

/// What happens to whether somebody may come in.
#[derive(Debug, Clone)]
enum Step {
    Lock { reason: Option<Text<500>> },
    Unlock,
    Deactivate,
    Reactivate,
}

async fn send(
    app: &App,
    caller: &Caller,
    id: UserId,
    if_match: IfMatch,
    step: Step,
) -> Result<Record<UserView>, Problem> {
    let mut attempts = Attempts::many();
    loop {
        let found = managed(app, caller, id).await?;
        let mut work = app.begin(caller);
        unchanged_since::<Users>(app, caller, &mut work, &found.stored, if_match, &["status".to_owned()]).await?;
        let command = match step.clone() {
            Step::Lock { reason } => {
                let other_active_owners = other_owners(app, caller, &mut work, id, OWNERS).await?;
                UserCommand::Lock { reason, other_active_owners }
            }
            Step::Unlock => UserCommand::Unlock {},
            Step::Deactivate => deactivation(app, caller, &mut work, id).await?,
            Step::Reactivate => {
                if found.stored.row.status == UserStatus::Deactivated.as_str() {
                    require_seat(app, caller, &mut work).await?;
                }
                UserCommand::Reactivate {}
            }
        };
        work.execute::<User>(work.stream::<User>(id), command).await?;
        if let Some(receipt) = app.commit(caller, work, &mut attempts).await? {
            // Whoever comes back signs in again, too, and with nothing that was handed out before.
            if receipt.changed() {
                let_go(app, caller, id).await?;
            }
            return answer::<Users>(app, caller, &id.to_string(), &receipt).await;
        }
    }
}

/// A device or program that is signed in.
#[derive(Debug, Serialize, ToSchema)]
struct SessionView {
    /// The session's id.
    id: Uuid,
    /// When it signed in.
    created_at: DateTime<Utc>,
    /// When it was last refreshed.
    last_used_at: DateTime<Utc>,
    /// When it ends, unless it is used before.
    expires_at: DateTime<Utc>,
    /// The network address that signed in.
    address: Option<String>,
    /// What the program called itself.
    user_agent: Option<String>,
    /// Whether it is the one that asks.
    current: bool,
}

impl SessionView {
    fn new(session: Session, caller: &Caller) -> Self {
        Self {
            id: session.id,
            created_at: session.created_at,
            last_used_at: session.last_used_at,
            expires_at: session.expires_at,
            address: session.address,
            user_agent: session.user_agent,
            current: caller.session == Some(session.id),
        }
    }
}

/// List where a user is signed in: one's own, or of somebody whom one manages.
#[utoipa::path(get, path = "/api/users/{id}/sessions", params(("id" = UserId, Path)),
    responses((status = 200, body = Page<SessionView>)))]
async fn list_sessions(
    caller: Caller,
    State(app): State<App>,
    Id(id): Id<UserId>,
) -> Result<Page<SessionView>, Problem> {
    own_or_managed(&app, &caller, id).await?;
    let open = sessions::list(&app.access.pool, caller.tenant(), id, app.clock.now()).await?;
    Ok(Page::whole(open.into_iter().map(|session| SessionView::new(session, &caller)).collect()))
}

/// Sign a user out everywhere: oneself, or somebody whom one manages.
#[utoipa::path(delete, path = "/api/users/{id}/sessions", params(("id" = UserId, Path)),
    responses((status = 204)))]
async fn end_sessions(caller: Caller, State(app): State<App>, Id(id): Id<UserId>) -> Result<Response, Problem> {
    own_or_managed(&app, &caller, id).await?;
    let command = UserCommand::RevokeSessions { session: None, reason: reason("signed out everywhere")? };
    // They are over before it is noted, as when somebody signs out: noting it may have to wait.
    sessions::revoke_all(&app.access.pool, caller.tenant(), id, None, app.clock.now()).await?;
    let mut attempts = Attempts::many();
    loop {
        let work = app.begin(&caller);
        work.execute::<User>(work.stream::<User>(id), command.clone()).await?;
        if let Some(receipt) = app.commit(&caller, work, &mut attempts).await? {
            return Ok((StatusCode::NO_CONTENT, position(&receipt)).into_response());
        }
    }
}

/// Somebody whom the caller may manage: within the reach of `users:manage`, and in a role that the caller looks after.
pub(super) async fn managed(app: &App, caller: &Caller, id: UserId) -> Result<Found<UserRow>, Problem> {
    let found = find::<Users>(app, caller, &id.to_string()).await?;
    found.require(caller, MANAGE)?;
    let looked_after = found.stored.row.role.parse::<Role>().is_ok_and(|role| manages(caller.role()).contains(&role));
    if looked_after { Ok(found) } else { Err(Problem::permission_denied(MANAGE)) }
}

async fn own_or_managed(app: &App, caller: &Caller, id: UserId) -> Result<(), Problem> {
    if caller.own_user() == Some(id) && caller.api_key.is_none() {
        return Ok(());
    }
    managed(app, caller, id).await.map(drop)
}

/// The department of whoever manages one department, which is the only one that they may put somebody in.
fn own_department(caller: &Caller, wanted: Option<Text<100>>) -> Result<Text<100>, Problem> {
    let own = caller.identity.department.as_deref().and_then(|own| Text::new(own).ok());
    match (own, wanted) {
        (Some(own), None) => Ok(own),
        (Some(own), Some(wanted)) if own == wanted => Ok(own),
        _ => Err(Problem::permission_denied(MANAGE)),
    }
}

/// That a role and grants may be given by the caller: to a role that they look after, and nothing that neither they
/// nor the user had before.
pub(super) fn may_give(caller: &Caller, role: Role, grants: &Grants, before: &Permissions) -> Result<(), Problem> {
    if role == Role::PlatformFounder {
        return Err(Problem::invalid_field("/role", "one_founder", "nobody is made the platform founder"));
    }
    if !manages(caller.role()).contains(&role) {
        return Err(Problem::permission_denied(MANAGE));
    }
    let after = Permissions::resolve(role, grants);
    let exceeding = after.iter().find(|&(permission, scope)| {
        !caller.permissions.allows(permission, scope) && !before.allows(permission, scope)
    });
    exceeding.map_or(Ok(()), |(permission, _)| Err(Problem::permission_denied(permission)))
}

/// That the caller may let somebody work in this department, or in none: whoever manages one department takes nobody out of
/// it.
pub(super) fn may_place(caller: &Caller, wanted: Option<&Text<100>>) -> Result<(), Problem> {
    match (caller.require(MANAGE)?, wanted) {
        (Scope::Tenant, _) => Ok(()),
        (Scope::Own | Scope::Department, Some(wanted)) => own_department(caller, Some(wanted.clone())).map(drop),
        (Scope::Own | Scope::Department, None) => Err(Problem::permission_denied(MANAGE)),
    }
}

/// The command that gives another role, with what it has to know.
pub(super) async fn role_change(
    app: &App,
    caller: &Caller,
    work: &mut Work,
    id: UserId,
    role: Role,
) -> Result<UserCommand, Problem> {
    let other_active_owners = other_owners(app, caller, work, id, OWNERS).await?;
    Ok(UserCommand::ChangeRole { role, other_active_owners })
}

/// The command that locks somebody out without saying why, with what it has to know.
pub(super) async fn lock_out(app: &App, caller: &Caller, work: &mut Work, id: UserId) -> Result<UserCommand, Problem> {
    let other_active_owners = other_owners(app, caller, work, id, OWNERS).await?;
    Ok(UserCommand::Lock { reason: None, other_active_owners })
}

/// The command that lets somebody go, with what it has to know.
pub(super) async fn deactivation(
    app: &App,
    caller: &Caller,
    work: &mut Work,
    id: UserId,
) -> Result<UserCommand, Problem> {
    let other_active_owners = other_owners(app, caller, work, id, OWNERS_AND_WORK).await?;
    Ok(UserCommand::Deactivate { open_work: open_work(app, caller, id).await?, other_active_owners })
}

/// Ends every session of somebody, and what was handed out to them: they are no longer who they were.
pub(super) async fn let_go(app: &App, caller: &Caller, id: UserId) -> Result<(), Problem> {
    sessions::revoke_all(&app.access.pool, caller.tenant(), id, None, app.clock.now()).await?;
    withdraw_tokens(app, caller, id).await
}

/// That the plan has a seat left; if others take one at the same moment, it is asked again.
pub(super) async fn require_seat(app: &App, caller: &Caller, work: &mut Work) -> Result<(), Problem> {
    let after = app.position(caller.scope()).await?;
    let tenant = app.store.streams().load::<Tenant>(&StreamId::of_tenant(caller.tenant())).await?.state;
    let Some(limit) = tenant.seat_limit() else { return Ok(()) };
    let used = u64::try_from(seats_used(app, caller.scope()).await?).unwrap_or(0);
    if used >= u64::from(limit) {
        let detail = format!("all {limit} seats of the plan {} are taken", tenant.plan.as_str());
        return Err(Problem::plan_limit(detail, limit.into(), used, tenant.plan.next().map(|plan| plan.as_str())));
    }
    work.require(Condition { after, event_types: SEATS });
    Ok(())
}

/// The active owners beside this user. The decision holds as long as nothing of `relied_on` happens.
async fn other_owners(
    app: &App,
    caller: &Caller,
    work: &mut Work,
    user: UserId,
    relied_on: &'static [&'static str],
) -> Result<u32, Problem> {
    let after = app.position(caller.scope()).await?;
    work.require(Condition { after, event_types: relied_on });
    let owners: i64 = sqlx::query_scalar(
        "with scope as materialized (select set_config('devhub.tenant_id', $1, true) as tenant_id)
         select (select count(*) from users u where u.tenant_id = scope.tenant_id
                 and u.role = 'BUSINESS_OWNER' and u.status = 'active' and u.id <> $2)
         from scope",
    )
    .bind(caller.tenant().to_string())
    .bind(user.to_string())
    .fetch_one(app.reader(caller))
    .await?;
    Ok(u32::try_from(owners).unwrap_or(u32::MAX))
}

/// The open leads and projects that are a user's.
async fn open_work(app: &App, caller: &Caller, user: UserId) -> Result<u64, Problem> {
    let open: i64 = sqlx::query_scalar(
        "with scope as materialized (select set_config('devhub.tenant_id', $1, true) as tenant_id)
         select (select count(*) from leads l where l.tenant_id = scope.tenant_id and l.assignee_id = $2
                 and l.deleted_at is null and l.stage not in ('closed_won', 'closed_lost'))
              + (select count(*) from projects p where p.tenant_id = scope.tenant_id and p.owner_id = $2
                 and p.deleted_at is null and p.status not in ('completed', 'cancelled'))
         from scope",
    )
    .bind(caller.tenant().to_string())
    .bind(user.to_string())
    .fetch_one(app.reader(caller))
    .await?;
    Ok(u64::try_from(open).unwrap_or(0))
}

/// Makes a command rely on a user to whom something is given: an active one of the caller's business, within the
/// reach of `permission`. Should they be locked or leave before the command is stored, it is decided again.
///
/// # Errors
/// `validation_failed` at `pointer` for somebody who is not there or not active, `permission_denied` for somebody
/// out of reach.
pub async fn rely_on(
    caller: &Caller,
    work: &mut Work,
    user: Option<UserId>,
    permission: Permission,
    pointer: &'static str,
) -> Result<(), Problem> {
    let Some(user) = user else { return Ok(()) };
    let reach = caller.require(permission)?;
    let facts = active(work, user, pointer).await?;
    let reached = match reach {
        _ if caller.own_user() == Some(user) => true,
        Scope::Tenant => true,
        Scope::Department => {
            let department = caller.identity.department.as_deref();
            department.is_some() && department == facts.department.as_deref()
        }
        Scope::Own => false,
    };
    if reached { Ok(()) } else { Err(Problem::permission_denied(permission)) }
}

/// Makes a command rely on a user who only takes part, wherever they work: an active one of the caller's business.
///
/// # Errors
/// `validation_failed` at `pointer` for somebody who is not there or not active.
pub async fn known(work: &mut Work, user: UserId, pointer: &'static str) -> Result<(), Problem> {
    active(work, user, pointer).await.map(drop)
}

/// Whether somebody whose work would be open again has left the business. If not, a command that does so relies on it.
///
/// # Errors
/// If the log cannot be read.
pub(super) async fn has_left(work: &mut Work, user: Option<UserId>) -> Result<bool, Problem> {
    let Some(user) = user else { return Ok(false) };
    let there = |user: &User| user.facts.is_some() && user.status != UserStatus::Deactivated;
    Ok(work.rely_on::<User>(user, there).await?.is_none())
}

async fn active(work: &mut Work, user: UserId, pointer: &'static str) -> Result<UserFacts, Problem> {
    // From the log and not from the read model: after a conflict, this is what has changed.
    let known = work.rely_on::<User>(user, |user| user.facts.is_some() && user.status == UserStatus::Active).await?;
    known
        .and_then(|known| known.facts)
        .ok_or_else(|| Problem::invalid_field(pointer, "unknown_user", "there is no such active user"))
}
