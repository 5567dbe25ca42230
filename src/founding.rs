//! What has to be there before anybody can do anything: the platform's own business with its founder, and the
//! business that old data goes to. Starting again changes nothing.

use anyhow::{Context as _, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;

use crate::access::secrets::random_bytes;
use crate::access::{credentials, passwords};
use crate::aggregates::ids::{TenantId, UserId};
use crate::aggregates::tenant::{Tenant, TenantCommand, TenantDetails};
use crate::aggregates::user::{User, UserCommand};
use crate::aggregates::values::{Email, Plan, Text};
use crate::api::App;
use crate::clock::new_event_id;
use crate::event_store::{AppendError, Context, StreamId, TenantScope, Work, directory};

/// The two businesses that are always there, and their names.
const ALWAYS_THERE: [(TenantId, &str, &str); 2] = [
    (TenantId::Platform, "DevHub Enterprise", "platform@devhub.local"),
    (TenantId::Legacy, "Default Business", "default@devhub.local"),
];

/// Where they live.
const REGION: &str = "default";

/// The founder's name until it is changed.
const FOUNDER_NAME: &str = "Platform Founder";

/// The founder, and the password if it was made up just now.
#[derive(Debug)]
pub struct Founded {
    /// What the founder signs in with.
    pub email: String,
    /// A password that was made up, to be told this once.
    pub password: Option<SecretString>,
}

/// Sees to it that the two businesses and the founder are there. A founder who is there keeps address and password,
/// whatever is configured.
///
/// # Errors
/// If the address or the password cannot be accepted, or the database fails.
pub async fn found(app: &App, email: &str, password: Option<&SecretString>) -> anyhow::Result<Founded> {
    ensure_tenants(app).await?;
    let email = ensure_founder(app, email).await?;
    let pool = &app.access.pool;
    let (tenant, user) = (TenantId::Platform, UserId::FOUNDER);
    if credentials::load(pool, tenant, user).await?.is_some() {
        return Ok(Founded { email, password: None });
    }
    let made_up = match password {
        Some(chosen) => {
            passwords::check(chosen, &email).context("the founder's password is not accepted")?;
            None
        }
        None => Some(SecretString::from(URL_SAFE_NO_PAD.encode(random_bytes::<15>()?))),
    };
    let Some(chosen) = password.or(made_up.as_ref()) else { return Ok(Founded { email, password: None }) };
    let credential = app.access.passwords.hash(chosen.clone()).await?;
    // Of two servers that start for the first time together, one sets the password, and only that one tells it.
    let first = credentials::store_first(pool, tenant, user, &credential, app.clock.now()).await?;
    Ok(Founded { email, password: made_up.filter(|_| first) })
}

/// Sees to it that TNT-PLT and DEV-000 are there.
///
/// # Errors
/// If the database fails.
pub async fn ensure_tenants(app: &App) -> anyhow::Result<()> {
    for (tenant, name, email) in ALWAYS_THERE {
        directory::enter(&app.access.pool, tenant, REGION, app.clock.now()).await?;
        let stream = StreamId::of_tenant(tenant);
        if app.store.streams().load::<Tenant>(&stream).await?.version > 0 {
            continue;
        }
        let register = TenantCommand::Register {
            details: TenantDetails {
                business_name: text(name)?,
                business_email: address(email)?,
                business_phone: None,
                address: None,
                country: None,
            },
            region: text(REGION)?,
            plan: Plan::Enterprise,
            seat_limit: None,
            platform: tenant == TenantId::Platform,
        };
        let work = begin(app, tenant);
        work.execute::<Tenant>(stream, register).await?;
        store(app, work).await?;
    }
    Ok(())
}

/// The founder's address; the configured one if there was no founder.
async fn ensure_founder(app: &App, email: &str) -> anyhow::Result<String> {
    let stream = StreamId::new("User", TenantId::Platform, UserId::FOUNDER);
    loop {
        let founder = app.store.streams().load::<User>(&stream).await?;
        if let Some(facts) = founder.state.facts {
            return Ok(facts.email.to_string());
        }
        let email = address(email).context("the founder's e-mail address is not accepted")?;
        let work = begin(app, TenantId::Platform);
        let register = UserCommand::RegisterFounder { email: email.clone(), full_name: text(FOUNDER_NAME)? };
        work.execute::<User>(stream.clone(), register).await?;
        if store(app, work).await? {
            return Ok(email.to_string());
        }
    }
}

fn begin(app: &App, tenant: TenantId) -> Work {
    let now = app.clock.now();
    app.store.begin(TenantScope::of(tenant), Context::system(new_event_id(now), now))
}

/// False if another server that starts at the same time was faster.
async fn store(app: &App, work: Work) -> anyhow::Result<bool> {
    match work.commit().await {
        Ok(appended) => {
            if let Some(appended) = appended {
                app.readable(TenantId::Platform, appended.position).await?;
            }
            Ok(true)
        }
        Err(AppendError::Conflict(_)) => Ok(false),
        Err(AppendError::Claimed { key, .. }) => bail!("{key} belongs to somebody else already"),
        Err(error) => Err(error.into()),
    }
}

fn text<const MAX: usize>(text: &str) -> anyhow::Result<Text<MAX>> {
    Text::new(text).map_err(|error| anyhow::anyhow!("{text} is not accepted: {error:?}"))
}

fn address(text: &str) -> anyhow::Result<Email> {
    Email::new(text).map_err(|error| anyhow::anyhow!("{text} is not accepted: {error:?}"))
}
