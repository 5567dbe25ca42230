//! Signing in and out: businesses register, people sign in, sessions go on and end.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::accepted::Accepted;
use super::caller::Caller;
use super::headers::POSITION;
use super::passwords::acceptable;
use super::record::row_in;
use super::sign_in::{self, Guest, Tokens, Who};
use super::tenant::{TenantView, Tenants};
use super::users::{UserView, Users};
use super::write::{Attempts, Receipt};
use super::{App, Json, Problem, support};
use crate::access::sessions::{self, RefreshRefused};
use crate::access::{SignInRefused, credentials};
use crate::aggregates::ids::{TenantId, UserId};
use crate::aggregates::permission::{Grants, Role};
use crate::aggregates::tenant::{Tenant, TenantCommand, TenantDetails};
use crate::aggregates::user::{User, UserCommand, UserDetails};
use crate::aggregates::values::{Address, Email, Phone, Plan, Text};
use crate::event_store::{StreamId, TenantScope, directory};

/// The region of a business that asks for none.
pub(super) const DEFAULT_REGION: &str = "default";

/// No refused sign-in is answered sooner. A password is checked against a hash of the old system as long as that one
/// asks for, some 250 ms where Argon2id takes 20, or not at all if bcrypt cannot take it: without this, the time would
/// tell which accounts still have one. To do the work of Argon2id as well would only make the longer of the two longer;
/// to do that of bcrypt for everybody would cost ten times as much for every guess. A hash of more than the usual cost
/// (12) still stands out, until its owner signs in.
const REFUSED_AFTER: Duration = Duration::from_millis(500);

/// The first owner of a business: it is new, so nobody else has this id.
pub(super) const FIRST_OWNER: UserId = UserId(1);

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(register_business))
        .routes(routes!(login))
        .routes(routes!(refresh))
        .routes(routes!(logout))
        .routes(routes!(jwks))
}

/// A business that comes to DevHub, with its first owner.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"business_name": "Northwind Traders", "business_email": "office@northwind.example",
    "subscription_plan": "professional",
    "owner": {"email": "ada@northwind.example", "full_name": "Ada Lovelace", "password": "a long pass phrase"}}))]
struct RegisterBusiness {
    /// Its name.
    business_name: Text<200>,
    /// Its e-mail address.
    business_email: Email,
    /// Its telephone.
    #[serde(default)]
    business_phone: Option<Phone>,
    /// Its postal address.
    #[serde(default)]
    address: Option<Address>,
    /// Its country.
    #[serde(default)]
    country: Option<Text<100>>,
    /// What it subscribes to; `starter` if not said.
    #[serde(default)]
    subscription_plan: Plan,
    /// Where its data is to live.
    #[serde(default)]
    region: Option<Text<40>>,
    /// Who owns it.
    owner: RegisterOwner,
}

/// The first owner.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RegisterOwner {
    /// What they sign in with.
    email: Email,
    /// Their name.
    full_name: Text<200>,
    /// 12 to 128 characters.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

/// Somebody who is signed in: who they are, where they work, and the tokens to act with.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SignedIn {
    /// The business.
    tenant: TenantView,
    /// The person.
    user: UserView,
    #[serde(flatten)]
    tokens: Tokens,
}

impl SignedIn {
    /// Opens a session for somebody who has proved who they are.
    pub(super) async fn open(app: &App, guest: &Guest, tenant: TenantId, user: UserId) -> Result<Self, Problem> {
        let tokens = sign_in::open(app, &guest.origin, tenant, user).await?;
        let scope = TenantScope::of(tenant);
        let tenant = row_in::<Tenants>(app, scope, &tenant.to_string()).await?;
        let user = row_in::<Users>(app, scope, &user.to_string()).await?;
        Ok(Self { tenant: tenant.into(), user: user.into(), tokens })
    }
}

/// Register a business, with its first owner, who is signed in at once.
#[utoipa::path(post, path = "/api/auth/register-business", security(()), request_body = RegisterBusiness,
    responses((status = 201, body = SignedIn), (status = 202, body = Accepted)))]
async fn register_business(
    State(app): State<App>,
    guest: Guest,
    Json(body): Json<RegisterBusiness>,
) -> Result<Response, Problem> {
    let owner = body.owner;
    acceptable(&owner.password, owner.email.as_str(), "/owner/password")?;
    // Before anything is made: the one thing that is likely to be in the way.
    if credentials::find_login(&app.access.pool, &owner.email.key()).await?.is_some() {
        return Err(Problem::conflict("email_taken", "This e-mail address already belongs to an account."));
    }
    let credential = app.access.passwords.hash(owner.password).await?;
    let region = match body.region {
        Some(region) => region,
        None => Text::new(DEFAULT_REGION).map_err(|error| Problem::internal(format!("{error:?}")))?,
    };
    let (pool, now) = (&app.access.pool, app.clock.now());
    let tenant = directory::next_tenant(pool).await?;
    // What signing in needs comes first and the events last: whatever ends in between leaves a password of nobody,
    // never an owner without one.
    directory::enter(pool, tenant, region.as_str(), now).await?;
    credentials::store(pool, tenant, FIRST_OWNER, &credential, now).await?;
    let register = TenantCommand::Register {
        details: TenantDetails {
            business_name: body.business_name,
            business_email: body.business_email,
            business_phone: body.business_phone,
            address: body.address,
            country: body.country,
        },
        region,
        plan: body.subscription_plan,
        seat_limit: None,
        platform: false,
    };
    let owner = UserCommand::Register(UserDetails {
        email: owner.email,
        full_name: owner.full_name,
        role: Role::BusinessOwner,
        department: None,
        permissions: Grants::new(),
    });
    let receipt = match come(&app, &guest, tenant, register, owner).await {
        Ok(receipt) => receipt,
        Err(problem) => {
            // A database that failed may have stored it all the same; then the password stays.
            if !problem.is_our_fault() {
                credentials::remove(pool, tenant, FIRST_OWNER).await?;
                directory::leave(pool, tenant).await?;
            }
            return Err(problem);
        }
    };
    if !receipt.visible() {
        return Ok(Accepted::new(tenant.to_string(), &receipt).at("/api/tenant"));
    }
    let registered = SignedIn::open(&app, &guest, tenant, FIRST_OWNER).await?;
    Ok((StatusCode::CREATED, position(&receipt), [(header::LOCATION, "/api/tenant")], Json(registered)).into_response())
}

/// The business and its owner, together or not at all.
async fn come(
    app: &App,
    guest: &Guest,
    tenant: TenantId,
    register: TenantCommand,
    owner: UserCommand,
) -> Result<Receipt, Problem> {
    let who = Who { tenant, user: FIRST_OWNER, role: Some(Role::BusinessOwner), session: None };
    let mut attempts = Attempts::default();
    loop {
        let mut work = app.store.begin(TenantScope::of(tenant), who.context(app, guest.key.as_ref()));
        if let Some(key) = &guest.key {
            work.answer(key.claim());
        }
        work.execute::<Tenant>(StreamId::of_tenant(tenant), register.clone()).await?;
        work.execute::<User>(work.stream::<User>(FIRST_OWNER), owner.clone()).await?;
        if let Some(receipt) = app.commit_under(guest.key.as_ref(), work, &mut attempts).await? {
            return Ok(receipt);
        }
    }
}

/// Who.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "ada@northwind.example", "password": "a long pass phrase"}))]
struct Login {
    /// The e-mail address, in any case.
    #[schema(format = Email)]
    email: String,
    /// The password.
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

/// Sign in.
#[utoipa::path(post, path = "/api/auth/login", security(()), request_body = Login,
    responses((status = 200, body = SignedIn), (status = 401)))]
async fn login(State(app): State<App>, guest: Guest, Json(body): Json<Login>) -> Result<Json<SignedIn>, Problem> {
    let refused_at = Instant::now() + REFUSED_AFTER;
    // What is no address belongs to nobody, and is refused in the same way and time as one that does not.
    let key = body.email.parse::<Email>().map_or_else(|_| body.email.trim().to_lowercase(), |email| email.key());
    match app.access.authenticate(&key, body.password, &guest.origin).await {
        Ok((tenant, user)) => SignedIn::open(&app, &guest, tenant, user).await.map(Json),
        Err(SignInRefused::Wrong { account }) => {
            if let Some((tenant, user)) = account {
                note_failure(&app, &guest, tenant, user);
            }
            tokio::time::sleep_until(refused_at).await;
            Err(Problem::wrong_credentials())
        }
        Err(other) => Err(refused(other)),
    }
}

/// Notes a failed sign-in beside the answer, which would otherwise come later for an address that is known.
fn note_failure(app: &App, guest: &Guest, tenant: TenantId, user: UserId) {
    let (app, address) = (app.clone(), guest.origin.address.map(|address| address.to_string()));
    tokio::spawn(async move {
        let who = Who { tenant, user, role: None, session: None };
        if let Err(problem) = sign_in::note(&app, who, &[UserCommand::RecordFailedLogin { address }]).await {
            tracing::warn!(%tenant, %user, "a failed sign-in of {user} of {tenant} was not noted: {problem}");
        }
    });
}

/// A refresh token.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"refresh_token": "Zk3…"}))]
struct Refresh {
    /// The last one; it is good once.
    #[schema(value_type = String)]
    refresh_token: SecretString,
}

/// Continue a session with its refresh token; a token that was used before ends the session.
#[utoipa::path(post, path = "/api/auth/refresh", security(()), request_body = Refresh,
    responses((status = 200, body = Tokens), (status = 401)))]
async fn refresh(State(app): State<App>, _: Guest, Json(body): Json<Refresh>) -> Result<Json<Tokens>, Problem> {
    let (pool, now) = (&app.access.pool, app.clock.now());
    // All that can fail comes before the token is spent: whoever has to try again would be taken for a thief.
    let ready = match sessions::continued_by(pool, &body.refresh_token, now).await? {
        Some(session) => {
            let identity = sign_in::admitted(&app, session.tenant, session.user).await?;
            Some(sign_in::access_token(&app, &session, &identity).await?)
        }
        None => None,
    };
    let opened = match sessions::refresh(pool, &body.refresh_token, now).await {
        Ok(opened) => opened,
        Err(RefreshRefused::Failed(error)) => return Err(error.into()),
        Err(RefreshRefused::Reused { session, tenant, user }) => {
            let who = Who { tenant, user, role: None, session: None };
            let reason = reason("a refresh token was used a second time")?;
            sign_in::note(&app, who, &[UserCommand::RevokeSessions { session: Some(session.to_string()), reason }])
                .await?;
            return Err(Problem::sign_in_refused("the refresh token was used before; the session is ended"));
        }
        Err(ended) => return Err(Problem::sign_in_refused(ended.to_string())),
    };
    // A token that is good now was good before.
    let ready = ready.ok_or_else(|| Problem::internal("a refresh token became good"))?;
    Ok(Json(Tokens { refresh_token: Some(opened.refresh_token.expose_secret().to_owned()), ..ready }))
}

/// End the session that the token belongs to.
#[utoipa::path(post, path = "/api/auth/logout", responses((status = 204)))]
async fn logout(caller: Caller, State(app): State<App>) -> Result<Response, Problem> {
    let Some(session) = caller.session else {
        return Err(Problem::conflict("no_session", "An API key has no session; withdraw the key instead."));
    };
    if caller.support.is_some() {
        let receipt = support::close(&app, &caller, caller.tenant(), session).await?;
        return Ok((StatusCode::NO_CONTENT, position(&receipt)).into_response());
    }
    sessions::revoke(&app.access.pool, caller.home, caller.user, session, app.clock.now()).await?;
    let who = Who { tenant: caller.home, user: caller.user, role: Some(caller.role()), session: Some(session) };
    let signed_out = UserCommand::RevokeSessions { session: Some(session.to_string()), reason: reason("signed out")? };
    let receipt = sign_in::note(&app, who, &[signed_out]).await?;
    Ok((StatusCode::NO_CONTENT, position(&receipt)).into_response())
}

/// The public keys of access tokens, as a JSON Web Key Set (RFC 7517).
#[utoipa::path(get, path = "/.well-known/jwks.json", security(()), responses((status = 200, body = Value)))]
async fn jwks(State(app): State<App>) -> Json<Value> {
    Json(app.access.keys.jwks(app.clock.now()))
}

/// A reason that stands in the code.
pub(super) fn reason(text: &str) -> Result<Text<500>, Problem> {
    Text::new(text).map_err(|error| Problem::internal(format!("{error:?}")))
}

/// `DevHub-Position` of a write that answers no record.
pub(super) fn position(receipt: &Receipt) -> HeaderMap {
    receipt.position().map(|position| (POSITION, position)).into_iter().collect()
}

/// Why nobody is signed in, as a problem.
pub(super) fn refused(refused: SignInRefused) -> Problem {
    match refused {
        SignInRefused::Wait(wait) => Problem::rate_limited(wait.0.as_secs()),
        SignInRefused::Wrong { .. } => Problem::wrong_credentials(),
        SignInRefused::Database(error) => error.into(),
        SignInRefused::Passwords(error) => error.into(),
    }
}
