//! What every request asks before anything else: whether a session or an API key still holds, whose it is, and what
//! that person may do in which business. Asked for many requests at once, and anew for each of them.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{ConnectOptions as _, PgPool, Row as _};
use uuid::Uuid;

use crate::access::api_keys::{self, Kept};
use crate::access::permissions::Permissions;
use crate::access::sessions::{self, Session, SupportVisit};
use crate::access::tokens::SupportMode;
use crate::aggregates::ids::{TenantId, UserId};
use crate::clock::Clock;
use crate::event_store::BY_KEY;
use crate::gather::Question;
use crate::projections::people::{self, Business, Identity};

/// A person in a business, as the database has just said.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// The tenant that the person belongs to; another than `entered` in a support session.
    pub home: TenantId,
    /// The tenant that they act in.
    pub entered: TenantId,
    /// The person.
    pub user: UserId,
    /// What is known of them.
    pub identity: Identity,
    /// The business that they act in.
    pub business: Business,
    /// What they may do there.
    pub permissions: Permissions,
    /// The session; none for an API key.
    pub session: Option<Uuid>,
    /// The API key, if it is one.
    pub api_key: Option<String>,
    /// Set in a support session.
    pub support: Option<SupportVisit>,
}

/// By what somebody shows who they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Proof {
    /// The session that a verified token names.
    Session(Uuid),
    /// The id of an API key, whose secret is still to be checked.
    ApiKey(String),
}

/// What is asked in one statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// [`Proof::Session`]
    Session,
    /// [`Proof::ApiKey`]
    ApiKey,
}

impl Proof {
    /// Together with which others it is asked about.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Session(_) => Kind::Session,
            Self::ApiKey(_) => Kind::ApiKey,
        }
    }
}

/// What became of a proof.
#[derive(Clone)]
pub enum Shown {
    /// There is no such session any more, or there never was such a key.
    Nothing,
    /// The row is one that this version of the program does not understand.
    Unreadable(Arc<sqlx::Error>),
    /// The session holds; whether the person and the business are there is the second question.
    Session(Option<Arc<Standing>>),
    /// There is such a key; whether it holds is to be checked.
    ApiKey(Arc<Kept>, Option<Arc<Standing>>),
}

/// Asks the database about sessions and API keys.
pub struct Standings {
    options: PgConnectOptions,
    clock: Clock,
}

impl Standings {
    /// Over connections like those of this pool, which reads sessions and keys, users and tenants.
    #[must_use]
    pub fn new(pool: &PgPool, clock: Clock) -> Self {
        Self { options: by_key(pool), clock }
    }
}

impl Question for Standings {
    type Group = Kind;
    type Key = Proof;
    type Answer = Shown;
    type Desk = PgConnection;

    async fn open(&self) -> sqlx::Result<PgConnection> {
        open(&self.options).await
    }

    async fn ask(&self, desk: &mut PgConnection, kind: &Kind, proofs: &[Proof]) -> sqlx::Result<Vec<Shown>> {
        match kind {
            Kind::Session => self.of_sessions(desk, proofs).await,
            Kind::ApiKey => of_api_keys(desk, proofs).await,
        }
    }
}

impl Standings {
    async fn of_sessions(&self, desk: &mut PgConnection, proofs: &[Proof]) -> sqlx::Result<Vec<Shown>> {
        let ids = proofs.iter().map(|proof| match proof {
            Proof::Session(id) => *id,
            Proof::ApiKey(_) => Uuid::nil(),
        });
        // `offset 0` keeps the planner from beginning with all that have not expired.
        let statement = format!(
            "select asked.number, s.*, {people}
             from unnest($1::uuid[]) with ordinality asked (session_id, number)
             cross join lateral (
                 select {session}, coalesce(support_tenant_id, tenant_id) as entered
                 from platform.sessions where session_id = asked.session_id and {active} offset 0
             ) s
             left join users u on u.tenant_id = s.tenant_id and u.id = s.user_id
             left join tenants t on t.tenant_id = s.entered and t.id = s.entered",
            people = people_columns(),
            session = sessions::COLUMNS,
            active = sessions::ACTIVE,
        );
        let now = self.clock.now();
        let rows = sqlx::query(&statement).bind(ids.collect::<Vec<_>>()).bind(now).fetch_all(desk).await?;
        in_order(proofs.len(), &rows, |row| {
            let session = Session::from_row(row)?;
            Ok(Shown::Session(person(row)?.map(|person| Arc::new(in_session(&session, person)))))
        })
    }
}

fn in_session(session: &Session, (identity, business): (Identity, Business)) -> Standing {
    let mut permissions = Permissions::resolve(identity.role, &identity.grants);
    if session.support.is_some_and(|visit| visit.mode == SupportMode::Read) {
        permissions = permissions.read_only();
    }
    Standing {
        home: session.tenant,
        entered: session.support.map_or(session.tenant, |visit| visit.tenant),
        user: session.user,
        identity,
        business,
        permissions,
        session: Some(session.id),
        api_key: None,
        support: session.support,
    }
}

async fn of_api_keys(desk: &mut PgConnection, proofs: &[Proof]) -> sqlx::Result<Vec<Shown>> {
    let ids = proofs.iter().map(|proof| match proof {
        Proof::ApiKey(id) => id.as_str(),
        Proof::Session(_) => "",
    });
    let statement = format!(
        "select asked.number, k.*, {people}
         from unnest($1::text[]) with ordinality asked (key_id, number)
         cross join lateral (select {key} from platform.api_keys where key_id = asked.key_id offset 0) k
         left join users u on u.tenant_id = k.tenant_id and u.id = k.created_by
         left join tenants t on t.tenant_id = k.tenant_id and t.id = k.tenant_id",
        people = people_columns(),
        key = api_keys::COLUMNS,
    );
    let rows = sqlx::query(&statement).bind(ids.collect::<Vec<_>>()).fetch_all(desk).await?;
    in_order(proofs.len(), &rows, |row| {
        let kept = Kept::from_row(row)?;
        let standing = person(row)?.map(|person| Arc::new(by_api_key(&kept, person)));
        Ok(Shown::ApiKey(Arc::new(kept), standing))
    })
}

/// A program acts in its key's role, and may do what the key may, as far as its maker may do it now.
fn by_api_key(kept: &Kept, (mut identity, business): (Identity, Business)) -> Standing {
    let key = kept.unproven();
    let makers = Permissions::resolve(identity.role, &identity.grants);
    identity.role = key.role;
    Standing {
        home: key.tenant,
        entered: key.tenant,
        user: key.created_by,
        identity,
        business,
        permissions: key.permissions.intersect(&makers),
        session: None,
        api_key: Some(key.key_id.clone()),
        support: None,
    }
}

fn people_columns() -> String {
    format!("{}, {}, u.id is not null and t.id is not null as is_known", people::IDENTITY, people::BUSINESS)
}

fn person(row: &PgRow) -> sqlx::Result<Option<(Identity, Business)>> {
    if row.try_get("is_known")? { Ok(Some((people::identity_of(row)?, people::business_of(row)?))) } else { Ok(None) }
}

/// Each row's answer in the place of its question; a row that cannot be read is its own question's trouble.
fn in_order(count: usize, rows: &[PgRow], read: impl Fn(&PgRow) -> sqlx::Result<Shown>) -> sqlx::Result<Vec<Shown>> {
    let mut answers = vec![Shown::Nothing; count];
    for row in rows {
        let number: i64 = row.try_get("number")?;
        let place = usize::try_from(number - 1).ok().and_then(|place| answers.get_mut(place));
        if let Some(place) = place {
            *place = read(row).unwrap_or_else(|error| Shown::Unreadable(Arc::new(error)));
        }
    }
    Ok(answers)
}

/// How long a connection may take to be there.
const CONNECT: Duration = Duration::from_secs(10);

/// Connections like a pool's, for looking a few rows up by their keys, however many are asked for: to weigh each number of
/// keys anew would take longer than the statement itself.
pub(super) fn by_key(pool: &PgPool) -> PgConnectOptions {
    PgConnectOptions::clone(&pool.connect_options()).options(BY_KEY)
}

/// Opens a connection of its own, which no pool takes back: handing it back would cost a round trip.
pub(super) async fn open(options: &PgConnectOptions) -> sqlx::Result<PgConnection> {
    tokio::time::timeout(CONNECT, options.connect()).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
