//! API keys over HTTP: for programs, with no more than their maker's permissions.

use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::caller::Caller;
use super::page::Page;
use super::{App, Json, Problem};
use crate::access::api_keys::{self, ApiKey, ApiKeysError, NewApiKey};
use crate::access::permissions::{Permissions, manages};
use crate::aggregates::ids::UserId;
use crate::aggregates::permission::{Action, Grants, Module, Permission, Role};
use crate::aggregates::tenant::Tenant;
use crate::aggregates::values::{Feature, Plan, Quota, Text, calendar};
use crate::event_store::StreamId;
use crate::projections::people::Business;

const MANAGE: Permission = Permission { module: Module::Tenant, action: Action::Manage };

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list_keys, make)).routes(routes!(withdraw))
}

/// A key for a program, without its secret.
#[derive(Debug, Serialize, ToSchema)]
struct ApiKeyView {
    /// The part of the key that is no secret.
    id: String,
    /// What its maker calls it.
    name: String,
    /// The role it acts in.
    role: Role,
    /// What it may do at most, whoever made it.
    permissions: Permissions,
    /// Who made it; it may do no more than they may.
    created_by: UserId,
    /// When.
    created_at: DateTime<Utc>,
    /// When it stops being good.
    expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    last_used_at: Option<DateTime<Utc>>,
}

impl From<ApiKey> for ApiKeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.key_id,
            name: key.name,
            role: key.role,
            permissions: key.permissions,
            created_by: key.created_by,
            created_at: key.created_at,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
        }
    }
}

/// A key that was made.
#[derive(Debug, Serialize, ToSchema)]
struct Made {
    #[serde(flatten)]
    api_key: ApiKeyView,
    /// The key itself; shown this once.
    key: String,
}

/// List the keys that are good.
#[utoipa::path(get, path = "/api/api-keys", responses((status = 200, body = Page<ApiKeyView>)))]
async fn list_keys(caller: Caller, State(app): State<App>) -> Result<Page<ApiKeyView>, Problem> {
    caller.require_all(MANAGE)?;
    let keys = api_keys::list(&app.access.pool, caller.tenant(), app.clock.now()).await?;
    Ok(Page::whole(keys.into_iter().map(ApiKeyView::from).collect()))
}

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Website form", "role": "EMPLOYEE"}))]
struct MakeKey {
    /// What to call it.
    name: Text<100>,
    /// The role it acts in; its maker's if not said.
    #[serde(default)]
    role: Option<Role>,
    /// What it is granted or denied beside that role.
    #[serde(default)]
    #[schema(value_type = std::collections::BTreeMap<String, crate::aggregates::permission::Grant>)]
    permissions: Grants,
    /// When it stops being good; never if not said.
    #[serde(default, deserialize_with = "calendar::optional_time")]
    expires_at: Option<DateTime<Utc>>,
}

/// Make a key for a program. It is shown this once.
#[utoipa::path(post, path = "/api/api-keys", request_body = MakeKey, responses((status = 201, body = Made)))]
async fn make(caller: Caller, State(app): State<App>, Json(body): Json<MakeKey>) -> Result<Response, Problem> {
    caller.require_all(MANAGE)?;
    let (Some(created_by), None) = (caller.own_user(), caller.api_key.as_ref()) else {
        return Err(Problem::conflict(
            "not_signed_in",
            "A key is made by a person of the business, signed in as such.",
        ));
    };
    let now = app.clock.now();
    if body.expires_at.is_some_and(|end| end <= now) {
        return Err(Problem::invalid_field("/expires_at", "in_the_past", "is over already"));
    }
    let role = body.role.unwrap_or(caller.role());
    if role != caller.role() && !manages(caller.role()).contains(&role) {
        return Err(Problem::permission_denied(MANAGE));
    }
    let permissions = Permissions::resolve(role, &body.permissions);
    if !caller.permissions.includes(&permissions) {
        let detail = "a key may do no more than its maker";
        return Err(Problem::invalid_field("/permissions", "exceeds_own", detail));
    }
    if let Some(key) = caller.pending_key() {
        key.reserve(&app, caller.home).await?;
    }
    let new = NewApiKey { name: body.name.into_string(), role, permissions, expires_at: body.expires_at };
    // The business's row in the directory is held while its keys are counted: of two who make the last one that the
    // plan allows, the second waits and counts the first.
    let mut transaction = app.access.pool.begin().await?;
    sqlx::query("select 1 from platform.tenants where tenant_id = $1 for update")
        .bind(caller.tenant().to_string())
        .execute(&mut *transaction)
        .await?;
    let used = api_keys::list(&mut *transaction, caller.tenant(), now).await?.len();
    within_plan(&app, &caller, used).await?;
    let made = api_keys::create(&mut *transaction, caller.tenant(), created_by, &new, now).await;
    let (key, secret) = made.map_err(|error| match error {
        ApiKeysError::Database(error) => error.into(),
        ApiKeysError::Secrets(error) => Problem::internal(error),
    })?;
    transaction.commit().await?;
    let location = [(header::LOCATION, format!("/api/api-keys/{}", key.key_id))];
    let made = Made { api_key: key.into(), key: secret.expose_secret().to_owned() };
    Ok((StatusCode::CREATED, location, Json(made)).into_response())
}

async fn within_plan(app: &App, caller: &Caller, used: usize) -> Result<(), Problem> {
    let tenant = app.store.streams().load::<Tenant>(&StreamId::of_tenant(caller.tenant())).await?.state;
    let used = u64::try_from(used).unwrap_or(u64::MAX);
    match tenant.quota(Quota::ApiKeys) {
        Some(limit) if used >= u64::from(limit) => Err(too_many(tenant.plan, limit, used)),
        _ => Ok(()),
    }
}

fn too_many(plan: Plan, limit: u32, used: u64) -> Problem {
    let lifted_by =
        if plan.includes(Feature::ApiKeys) { plan.next() } else { Some(Plan::first_with(Feature::ApiKeys)) };
    let detail = format!("the business may have {limit} API keys on the plan {}", plan.as_str());
    Problem::plan_limit(detail, limit.into(), used, lifted_by.map(|plan| plan.as_str()))
}

/// That a business has API keys at all, by its plan or by what the founder has set apart from it. Keys that it made when it
/// had more of them go on; those of a business that has none any more do not.
///
/// # Errors
/// `plan_limit`.
pub(super) fn has_keys(business: &Business) -> Result<(), Problem> {
    if business.quota(Quota::ApiKeys) == Some(0) { Err(too_many(business.plan, 0, 1)) } else { Ok(()) }
}

/// The id of a key in a path; what cannot be one is no different from one that is nobody's.
struct KeyId(String);

impl FromRequestParts<App> for KeyId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Path(id) = Path::<String>::from_request_parts(parts, app).await.map_err(|_| Problem::not_found())?;
        if id.bytes().all(|b| b.is_ascii_alphanumeric()) { Ok(Self(id)) } else { Err(Problem::not_found()) }
    }
}

/// Withdraw a key: it is refused from now on.
#[utoipa::path(delete, path = "/api/api-keys/{id}", params(("id" = String, Path)), responses((status = 204)))]
async fn withdraw(caller: Caller, State(app): State<App>, KeyId(id): KeyId) -> Result<StatusCode, Problem> {
    caller.require_all(MANAGE)?;
    if api_keys::revoke(&app.access.pool, caller.tenant(), &id, app.clock.now()).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found())
    }
}
