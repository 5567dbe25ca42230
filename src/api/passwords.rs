//! Passwords over HTTP: chosen with a one-time token, changed with the one before.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::admin::TenantPath;
use super::auth::{SignedIn, position, reason, refused};
use super::caller::{Caller, Founder};
use super::record::Id;
use super::sign_in::{self, Guest, Who};
use super::users::{handed_out_for, managed};
use super::{App, Json, Problem, write};
use crate::access::one_time_tokens::{self, OneTimeTokenRefused, OneTimeTokensError, Purpose};
use crate::access::{SignInRefused, credentials, passwords, sessions};
use crate::aggregates::ids::{TenantId, UserId};
use crate::aggregates::user::{User, UserCommand};
use crate::aggregates::values::UserStatus;
use crate::event_store::{Actor, TenantScope};
use crate::projections::people;

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(accept_invitation))
        .routes(routes!(reset_password))
        .routes(routes!(change_password))
        .routes(routes!(reset_of_user))
        .routes(routes!(reset_in_tenant))
}

/// The means to choose a password; shown this once.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({"token": "Kq8…", "expires_at": "2026-01-08T09:00:00Z"}))]
pub struct OneTimeToken {
    /// For the person that it is about, and nobody else.
    token: String,
    /// When it stops being good.
    expires_at: DateTime<Utc>,
}

/// Makes a token for somebody; an earlier one for the same purpose is withdrawn.
///
/// # Errors
/// If the database fails.
pub async fn issue(
    app: &App,
    caller: &Caller,
    purpose: Purpose,
    scope: TenantScope,
    user: UserId,
) -> Result<OneTimeToken, Problem> {
    let issued_by = Actor::User(caller.home, caller.user).to_string();
    let mut transaction = app.access.pool.begin().await?;
    let made =
        one_time_tokens::create(&mut transaction, purpose, scope.tenant(), user, &issued_by, app.clock.now()).await;
    let made = made.map_err(|error| match error {
        OneTimeTokensError::Database(error) => error.into(),
        OneTimeTokensError::Secrets(error) => Problem::internal(error),
    })?;
    transaction.commit().await?;
    Ok(OneTimeToken { token: made.token.expose_secret().to_owned(), expires_at: made.expires_at })
}

/// Let a user choose another password, with a token that is good once; an earlier one is no longer good.
#[utoipa::path(post, path = "/api/users/{id}/password-reset", params(("id" = UserId, Path)),
    responses((status = 200, body = OneTimeToken)))]
async fn reset_of_user(
    caller: Caller,
    State(app): State<App>,
    Id(id): Id<UserId>,
) -> Result<Json<OneTimeToken>, Problem> {
    managed(&app, &caller, id).await?;
    reset(&app, &caller, caller.scope(), id).await
}

/// Let a user of a business choose another password, with a token that is good once; an earlier one is no longer good.
#[utoipa::path(post, path = "/api/admin/tenants/{tenant_id}/users/{id}/password-reset",
    params(("tenant_id" = TenantId, Path), ("id" = UserId, Path)), responses((status = 200, body = OneTimeToken)))]
async fn reset_in_tenant(
    founder: Founder,
    State(app): State<App>,
    TenantPath(tenant): TenantPath,
    Id(id): Id<UserId>,
) -> Result<Json<OneTimeToken>, Problem> {
    reset(&app, &founder.0, founder.scope(tenant), id).await
}

async fn reset(app: &App, caller: &Caller, scope: TenantScope, id: UserId) -> Result<Json<OneTimeToken>, Problem> {
    let tenant = scope.tenant();
    if (tenant, id) == (caller.home, caller.user) {
        // Or whoever finds a session open could make the account their own.
        return Err(Problem::conflict("own_password", "One's own password is changed with the one before."));
    }
    let user = handed_out_for(app, caller, tenant, id).await?;
    User::require_active(user.status).map_err(|refusal| write::refused(&refusal))?;
    issue(app, caller, Purpose::PasswordReset, scope, id).await.map(Json)
}

/// A one-time token and the password of whoever holds it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"token": "Kq8…", "password": "a long pass phrase"}))]
struct ChoosePassword {
    /// The token.
    #[schema(value_type = String)]
    token: SecretString,
    /// 12 to 128 characters.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

/// Accept an invitation: choose a password, and be signed in.
#[utoipa::path(post, path = "/api/auth/accept-invitation", security(()), request_body = ChoosePassword,
    responses((status = 200, body = SignedIn), (status = 401)))]
async fn accept_invitation(
    State(app): State<App>,
    guest: Guest,
    Json(body): Json<ChoosePassword>,
) -> Result<Json<SignedIn>, Problem> {
    choose(&app, &guest, Purpose::Invitation, body).await
}

/// Choose another password with the token of a password reset, and be signed in; all other sessions end.
#[utoipa::path(post, path = "/api/auth/reset-password", security(()), request_body = ChoosePassword,
    responses((status = 200, body = SignedIn), (status = 401)))]
async fn reset_password(
    State(app): State<App>,
    guest: Guest,
    Json(body): Json<ChoosePassword>,
) -> Result<Json<SignedIn>, Problem> {
    choose(&app, &guest, Purpose::PasswordReset, body).await
}

async fn choose(app: &App, guest: &Guest, purpose: Purpose, body: ChoosePassword) -> Result<Json<SignedIn>, Problem> {
    let (pool, now) = (&app.access.pool, app.clock.now());
    let holder = one_time_tokens::find(pool, purpose, &body.token, now).await.map_err(not_accepted)?;
    let (tenant, user) = (holder.tenant, holder.user);
    let (person, commands) = match purpose {
        Purpose::Invitation => {
            let standing = people::standing(&app.database.cell_of(tenant).sign_in, tenant, user, tenant).await?;
            let (invited, business) = standing.ok_or_else(Problem::projection_lagging)?;
            sign_in::require_open(&business)?;
            // Whoever came before, and holds an invitation that is still good, was interrupted then.
            let came = invited.status == UserStatus::Active;
            let commands = if came { Vec::new() } else { vec![UserCommand::AcceptInvitation {}] };
            (invited, commands)
        }
        Purpose::PasswordReset => {
            let reason = reason(&format!("the password was reset with a token from {}", holder.issued_by))?;
            let commands = vec![UserCommand::ChangePassword {}, UserCommand::RevokeSessions { session: None, reason }];
            (sign_in::admitted(app, tenant, user).await?, commands)
        }
    };
    acceptable(&body.password, &person.email, "/password")?;
    let credential = app.access.passwords.hash(body.password).await?;
    // The token is held until the events are stored, so that of two who use it at once one waits and finds it used.
    // If the process dies after they are stored, it is as good as before, and using it again is what helps.
    let mut transaction = pool.begin().await?;
    one_time_tokens::consume(&mut transaction, purpose, &body.token, now).await.map_err(not_accepted)?;
    credentials::store(&mut *transaction, tenant, user, &credential, now).await?;
    sessions::revoke_all(&mut *transaction, tenant, user, None, now).await?;
    let who = Who { tenant, user, role: Some(person.role), session: None };
    sign_in::note_under(app, guest.key.as_ref(), who, &commands).await?;
    transaction.commit().await?;
    SignedIn::open(app, guest, tenant, user).await.map(Json)
}

/// The old password and the new one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"current_password": "a long pass phrase", "new_password": "another long pass phrase"}))]
struct ChangePassword {
    /// The password so far.
    #[schema(value_type = String, format = Password)]
    current_password: SecretString,
    /// 12 to 128 characters.
    #[schema(value_type = String, format = Password)]
    new_password: SecretString,
}

/// Change one's own password; all other sessions end.
#[utoipa::path(post, path = "/api/auth/change-password", request_body = ChangePassword,
    responses((status = 204)))]
async fn change_password(
    caller: Caller,
    State(app): State<App>,
    _: Guest,
    Json(body): Json<ChangePassword>,
) -> Result<Response, Problem> {
    let (Some(session), None) = (caller.session, caller.support) else {
        return Err(Problem::conflict(
            "not_signed_in",
            "A password is changed by the person, signed in as themselves.",
        ));
    };
    let (tenant, user, pool) = (caller.home, caller.user, &app.access.pool);
    app.access.confirm(tenant, user, body.current_password).await.map_err(|problem| match problem {
        SignInRefused::Wrong { .. } => {
            Problem::invalid_field("/current_password", "wrong_password", "is not the password")
        }
        other => refused(other),
    })?;
    acceptable(&body.new_password, &caller.identity.email, "/new_password")?;
    let credential = app.access.passwords.hash(body.new_password).await?;
    let now = app.clock.now();
    credentials::store(pool, tenant, user, &credential, now).await?;
    sessions::revoke_all(pool, tenant, user, Some(session), now).await?;
    one_time_tokens::revoke(pool, Purpose::PasswordReset, tenant, user).await?;
    let who = Who { tenant, user, role: Some(caller.role()), session: Some(session) };
    let ended = UserCommand::RevokeSessions { session: None, reason: reason("the password was changed")? };
    let receipt = sign_in::note(&app, who, &[UserCommand::ChangePassword {}, ended]).await?;
    Ok((StatusCode::NO_CONTENT, position(&receipt)).into_response())
}

/// That a text may be a password.
pub(super) fn acceptable(password: &SecretString, email: &str, pointer: &'static str) -> Result<(), Problem> {
    passwords::check(password, email).map_err(|refused| {
        let code = match refused {
            passwords::PasswordRefused::TooShort => "too_short",
            passwords::PasswordRefused::TooLong => "too_long",
            passwords::PasswordRefused::VeryCommon => "very_common",
            passwords::PasswordRefused::ContainsEmail => "contains_email",
        };
        Problem::invalid_field(pointer, code, refused.to_string())
    })
}

fn not_accepted(refused: OneTimeTokenRefused) -> Problem {
    match refused {
        OneTimeTokenRefused::Failed(error) => error.into(),
        OneTimeTokenRefused::Unknown(purpose) => {
            Problem::invalid_field("/token", format!("unknown_{}", purpose.as_str()), refused.to_string())
        }
        OneTimeTokenRefused::Used(purpose) => {
            Problem::conflict(format!("{}_used", purpose.as_str()), refused.to_string())
        }
        OneTimeTokenRefused::Expired(purpose) => {
            Problem::conflict(format!("{}_expired", purpose.as_str()), refused.to_string())
        }
    }
}
