//! Two businesses to try things out with: people of every role and half a year of history.
//!
//! The story is worked out first and then told through the same aggregates and the same append as everything
//! else, each step under a key of its own: loading that was interrupted goes on where it stopped.

mod story;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use uuid::Uuid;

use self::story::{Act, SampleBusiness, Step};
use crate::access::credentials;
use crate::access::secrets::{random_bytes, sha256};
use crate::aggregates::customer::Customer;
use crate::aggregates::ids::TenantId;
use crate::aggregates::invoice::Invoice;
use crate::aggregates::lead::Lead;
use crate::aggregates::permission::Role;
use crate::aggregates::project::Project;
use crate::aggregates::tenant::Tenant;
use crate::aggregates::user::User;
use crate::api::App;
use crate::clock::new_event_id;
use crate::event_store::{Actor, AppendError, Context, IdempotencyClaim, StreamId, TenantScope, Work, directory};

/// Who the keys of the steps belong to.
const ACTOR: &str = "samples";

/// Where the sign-ins of one installation are kept. Another database may be served from the same folder: what is kept
/// for one says nothing of the other.
struct Files {
    /// Once they are all good.
    sign_ins: PathBuf,
    /// The password, until then.
    unfinished: PathBuf,
}

impl Files {
    /// An installation is known by its first event, which goes wherever its log goes.
    async fn of(app: &App, state_dir: &Path) -> anyhow::Result<Self> {
        let platform = StreamId::of_tenant(TenantId::Platform);
        let first: Uuid = sqlx::query_scalar(
            "select event_id from events where aggregate_type = $1 and aggregate_id = $2 and sequence = 1",
        )
        .bind(platform.aggregate_type)
        .bind(platform.aggregate_id())
        .fetch_one(&app.database.cell_of(TenantId::Platform).founder)
        .await
        .context("the platform has no beginning")?;
        let first = first.simple().to_string();
        let (_, id) = first.split_at_checked(first.len().saturating_sub(12)).unwrap_or_default();
        let file = |ending: &str| state_dir.join(format!("sample-sign-ins-{id}.{ending}"));
        Ok(Self { sign_ins: file("txt"), unfinished: file("part") })
    }
}

/// How to sign in as the people of the samples, and the file that says so; none if no samples were loaded into this
/// database from this folder.
///
/// # Errors
/// If the database or the file cannot be read.
pub async fn sign_ins(app: &App, state_dir: &Path) -> anyhow::Result<Option<(PathBuf, String)>> {
    let path = Files::of(app, state_dir).await?.sign_ins;
    Ok(read(&path)?.map(|text| (path, text)))
}

/// Loads the samples, unless they are there or the platform has businesses already. Whether it did.
///
/// # Errors
/// If the database or the state folder fails; what was loaded stays, and the next call goes on from there.
pub async fn load(app: &App, state_dir: &Path) -> anyhow::Result<bool> {
    let Files { sign_ins, unfinished } = Files::of(app, state_dir).await?;
    if read(&sign_ins)?.is_some() {
        return Ok(false);
    }
    let password = match read(&unfinished)? {
        Some(password) => password,
        None if directory::has_businesses(&app.access.pool).await? => return Ok(false),
        None => {
            let password = URL_SAFE_NO_PAD.encode(random_bytes::<15>()?);
            write_private(&unfinished, &password)?;
            password
        }
    };
    let now = app.clock.now();
    let businesses = story::businesses(now)?;
    let progress = indicatif::ProgressBar::new(businesses.iter().map(|business| business.steps.len() as u64).sum())
        .with_style(indicatif::ProgressStyle::with_template("loading samples {wide_bar} {pos}/{len}")?);
    for business in &businesses {
        prepare(app, business, &password).await?;
        for (number, step) in business.steps.iter().enumerate() {
            tell(app, business.tenant, number, step)
                .await
                .with_context(|| format!("step {number} of {} cannot be told", business.tenant))?;
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    let head = *app.store.head().borrow();
    app.projections.reached(head, std::time::Duration::from_secs(60)).await?;
    write_private(&sign_ins, &described(&businesses, &password))?;
    fs::remove_file(&unfinished).context("the unfinished sign-ins cannot be removed")?;
    Ok(true)
}

/// The directory entry and the credentials, which are no events.
async fn prepare(app: &App, business: &SampleBusiness, password: &str) -> anyhow::Result<()> {
    let (pool, now) = (&app.access.pool, app.clock.now());
    directory::reserve(pool, business.tenant).await?;
    directory::enter(pool, business.tenant, "default", now).await?;
    let credential = app.access.passwords.hash(SecretString::from(password)).await?;
    for person in &business.people {
        credentials::store(pool, business.tenant, person.id, &credential, now).await?;
    }
    Ok(())
}

async fn tell(app: &App, tenant: TenantId, number: usize, step: &Step) -> anyhow::Result<()> {
    let key = format!("{tenant}/{number}");
    let correlation_id = new_event_id(app.clock.now());
    let context = Context {
        actor: step.actor.map_or(Actor::System, |user| Actor::User(tenant, user)),
        role: step.role,
        session: None,
        correlation_id,
        causation_id: None,
        request_id: None,
        support_session: None,
        occurred_at: step.at,
        extra: BTreeMap::from([("source".to_owned(), "samples".to_owned())]),
    };
    let mut work = app.store.begin(TenantScope::of(tenant), context);
    work.answer(IdempotencyClaim {
        actor: ACTOR.to_owned(),
        request_hash: sha256(key.as_bytes()),
        key,
        correlation_id,
    });
    execute(&work, tenant, &step.act).await?;
    match work.commit().await {
        Ok(_) | Err(AppendError::KeyUsed) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn execute(work: &Work, tenant: TenantId, act: &Act) -> anyhow::Result<()> {
    match act.clone() {
        Act::Found(business, owner) => {
            tolerate(work.execute::<Tenant>(StreamId::of_tenant(tenant), business).await)?;
            tolerate(work.execute::<User>(work.stream::<User>(owner.0), owner.1).await)
        }
        Act::User(id, command) => tolerate(work.execute::<User>(work.stream::<User>(id), command).await),
        Act::Lead(id, command) => tolerate(work.execute::<Lead>(work.stream::<Lead>(id), command).await),
        Act::Customer(id, command) => tolerate(work.execute::<Customer>(work.stream::<Customer>(id), command).await),
        Act::Convert(lead, into) => {
            let state = work.load::<Lead>(lead).await?.state;
            let Some(details) = state.facts.as_ref().map(Into::into) else { bail!("{lead} is not there") };
            let interactions = state.interactions.iter().cloned().collect();
            let owner = state.assignee;
            let customer = story::registered(lead, details, owner, interactions);
            tolerate(work.execute::<Customer>(work.stream::<Customer>(into), customer).await)?;
            tolerate(work.execute::<Lead>(work.stream::<Lead>(lead), story::converted(into)).await)
        }
        Act::Project(id, command) => tolerate(work.execute::<Project>(work.stream::<Project>(id), command).await),
        Act::Invoice(id, command) => tolerate(work.execute::<Invoice>(work.stream::<Invoice>(id), command).await),
    }
}

/// A step that was told before an interruption is refused by the rules; its key says the same.
fn tolerate<T, E>(outcome: Result<T, crate::event_store::WorkError<E>>) -> anyhow::Result<()>
where
    E: crate::aggregates::Refused + Send + Sync + 'static,
{
    match outcome {
        Ok(_) | Err(crate::event_store::WorkError::Refused(_)) => Ok(()),
        Err(error) => Err(anyhow::anyhow!(error.to_string())),
    }
}

fn described(businesses: &[SampleBusiness], password: &str) -> String {
    let mut text = format!("The password of everybody below is {password}\n");
    for business in businesses {
        text.push_str(&format!("\n{} {}\n", business.tenant, business.name));
        for person in &business.people {
            let department = person.department.map_or(String::new(), |department| format!(" ({department})"));
            text.push_str(&format!("  {:<15} {}{department}\n", word(person.role), person.email));
        }
    }
    text
}

fn word(role: Role) -> &'static str {
    role.as_str()
}

fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be read", path.display())),
    }
}

/// Writes a file that only its owner can read.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.with_context(|| format!("{} cannot be written", path.display()))
}
