//! Where a set of tenants lives: a schema, and the roles through which each part of the program reaches it.
//!
//! | role | may |
//! |---|---|
//! | `devhub_request` | read one tenant's rows, after its transaction has said which |
//! | `devhub_founder` | read every tenant's rows |
//! | `devhub_appender` | read and add events; never change or remove one |
//! | `devhub_projector` | read events, write read models |
//! | `devhub_importer` | read read models and events, write the tables of the old application's import |
//! | `devhub_platform` | sign-in, sessions, keys, the directory |
//!
//! None owns a table, and row-level security is forced, so that even the owner sees nothing by accident.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgPool};

/// The schema of the one cell that a single machine has.
const FIRST_CELL: &str = "cell_000";
/// What follows a cell's name in the names of the schemas beside it: where read models are made anew, and where those
/// that were replaced wait to be thrown away.
const REBUILD: &str = "_rebuild";
const REPLACED: &str = "_replaced";
/// The region of a tenant that asked for none.
const FIRST_REGION: &str = "default";
/// Every role that the program takes on.
const ROLES: [&str; 6] =
    ["devhub_request", "devhub_founder", "devhub_appender", "devhub_projector", "devhub_importer", "devhub_platform"];
/// Any number: migrations of one database run one after the other.
const MIGRATION_LOCK: i64 = 0x6465_7668_7562;
/// A statement of a request that takes longer than this is ended by the database.
const STATEMENT_TIMEOUT: &str = "30s";
/// A database that has not answered by then never will: it would have ended the statement before.
const PATIENCE: Duration = Duration::from_secs(35);
/// The same of one that is only asked whether it is there.
const PING: Duration = Duration::from_secs(2);
/// A server ends what it did for a program that has vanished without a word, and gives back the locks: after 15 seconds it
/// asks three times, every five seconds. It does so over TCP; a socket of the machine itself tells at once.
const KEEPALIVES: [(&str, &str); 3] =
    [("tcp_keepalives_idle", "15"), ("tcp_keepalives_interval", "5"), ("tcp_keepalives_count", "3")];

/// What the connections of the account itself are called.
const OWNER: &str = "devhub_owner";
/// The importer sorts and counts whole tables, rebuilds and verifications read the whole log, and nobody waits for
/// them. What they keep while they work can be made again; where it cannot, they say so in their transaction. A
/// server that is left alone with a long statement notices.
const AT_LEISURE: [(&str, &str); 6] = [
    ("client_connection_check_interval", "1s"),
    ("statement_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("synchronous_commit", "off"),
    ("jit", "off"),
    ("work_mem", "64MB"),
];
/// How statements are planned that do nothing but look up and write rows by their keys: once, and by the index.
///
/// The planner would weigh each batch anew, and while its statistics still say that a table is small (an import
/// outruns them by far) it reads the whole table for every batch. The memory holds a batch's rows.
pub(crate) const BY_KEY: [(&str, &str); 6] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
    ("work_mem", "32MB"),
];

/// How statements are planned that read one tenant's rows: by an index that begins with the tenant, as all of them do.
/// Which tenant it is is not known when a statement is planned, and where one has most of the rows the planner would
/// read everybody's for each. What it takes for much work is none that compiling it would speed up.
const BY_TENANT: [(&str, &str); 2] = [("enable_seqscan", "off"), ("jit", "off")];

/// How long a connection of a pool is unused before it is asked whether it is still there.
const IDLE: Duration = Duration::from_secs(1);

/// Whether it was the connection that failed, and not the statement: classes 08 and 57P of PostgreSQL's codes. Whatever
/// was asked over it may have been done or not.
#[must_use]
pub fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code.starts_with("08") || code.starts_with("57P"))
        }
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) => true,
        _ => false,
    }
}

/// Whether the database refuses what is written, and always will: data that does not fit (class 22 of PostgreSQL's codes), a
/// rule that it breaks (23), or more of something than it can keep (54), such as a text too long for an index.
pub(crate) fn is_refusal(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
}

/// Whether a lock was not to be had: it was waited for as long as `lock_timeout` allows, or for each other.
pub(crate) fn is_lock_refused(error: &sqlx::Error) -> bool {
    // lock_not_available, deadlock_detected
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("55P03" | "40P01"))
}

/// What comes of some work with the database. What takes longer than `patience` counts as a connection that was lost: a
/// database that vanishes without closing it, with its machine or the network between, is never heard of again.
///
/// # Errors
/// The work's, or that it took too long, for which [`is_lost`] holds.
pub(crate) async fn in_time<T, E: From<sqlx::Error>>(
    patience: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::time::timeout(patience, work).await.unwrap_or_else(|_| {
        let error = std::io::Error::new(std::io::ErrorKind::TimedOut, "the database has not answered");
        Err(sqlx::Error::Io(error).into())
    })
}

/// The database could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A statement failed.
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    /// A migration failed, or the database was migrated by a newer or different version.
    #[error("{0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The server is too old.
    #[error("PostgreSQL 15 or newer is needed; this server is {0}")]
    TooOld(String),
    /// The account may not make roles.
    #[error(
        "the roles {missing} are missing and this account may not create them; \
         let it (alter role … createrole) or create them yourself"
    )]
    Roles {
        /// The roles that are not there.
        missing: String,
    },
}

/// The pools of one cell, a role each.
#[derive(Clone)]
pub struct Cell {
    /// The schema, `cell_000`.
    pub name: Arc<str>,
    /// How long whoever writes events or read models waits for the database: a little longer than that gives a statement.
    pub patience: Duration,
    /// Reads one tenant's rows.
    pub request: PgPool,
    /// Reads every tenant's rows.
    pub founder: PgPool,
    /// Reads and adds events.
    pub appender: PgPool,
    /// Writes read models.
    pub projector: PgPool,
    /// Reads what is there and keeps what became of the old application's rows.
    pub importer: PgPool,
    /// Reads who is active, for sign-in.
    pub sign_in: PgPool,
    /// Reads the log and writes read models at leisure, for rebuilds and verifications.
    pub replayer: PgPool,
    /// The account of the URL itself, which owns the tables: it makes read models anew. Whether it sees rows of the
    /// live ones depends on what it inherits of the roles; nothing relies on that.
    pub owner: PgPool,
}

impl Cell {
    /// The schema in which a read model is made anew, under the names that it will have.
    #[must_use]
    pub fn rebuild_schema(&self) -> String {
        format!("{}{REBUILD}", self.name)
    }

    /// The schema in which a read model that was replaced waits to be thrown away.
    #[must_use]
    pub fn replaced_schema(&self) -> String {
        format!("{}{REPLACED}", self.name)
    }
}

/// All that the program reaches: the platform's schema and the cells.
#[derive(Clone)]
pub struct Database {
    /// The directory, sign-in, keys.
    pub platform: PgPool,
    cell: Cell,
}

impl Database {
    /// Connects every pool. `url` is a PostgreSQL URL of an account that is a member of the roles.
    ///
    /// # Errors
    /// If the database cannot be reached or the URL makes no sense.
    pub async fn connect(url: &str) -> sqlx::Result<Self> {
        let options = PgConnectOptions::from_str(url)?;
        let name: Arc<str> = FIRST_CELL.into();
        let pool = |role: &'static str, connections: u32, settings: &[(&str, &str)]| {
            // No role: the account's own.
            let role_setting = (role != OWNER).then_some(("role", role));
            let options = options
                .clone()
                .application_name(role)
                .options(role_setting)
                .options([
                    ("search_path", FIRST_CELL),
                    ("statement_timeout", STATEMENT_TIMEOUT),
                    ("idle_in_transaction_session_timeout", STATEMENT_TIMEOUT),
                    ("timezone", "UTC"),
                ])
                .options(KEEPALIVES)
                .options(settings.iter().copied());
            // What is done at leisure takes its time, and a long read waits for whoever takes it in.
            let options = match "off".parse() {
                Ok(off) if settings == AT_LEISURE => options.log_slow_statements(off, Duration::ZERO),
                _ => options,
            };
            PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(Duration::from_secs(10))
                // A ping at every hand-out costs a tenth to a fifth of the throughput. One that nobody has used for a
                // while is asked whether it is still there: the database may have been started again meanwhile.
                .test_before_acquire(false)
                .before_acquire(|connection, kept| {
                    Box::pin(async move {
                        if kept.idle_for > IDLE {
                            in_time(PING, connection.ping()).await?;
                        }
                        Ok(true)
                    })
                })
                .connect_lazy_with(options)
        };
        let platform = pool("devhub_platform", 8, &[]);
        let database = Self {
            platform: platform.clone(),
            cell: Cell {
                name,
                patience: PATIENCE,
                request: pool("devhub_request", 10, &BY_TENANT),
                founder: pool("devhub_founder", 4, &[("jit", "off")]),
                appender: pool("devhub_appender", 4, &BY_KEY),
                projector: pool("devhub_projector", 5, &BY_KEY),
                importer: pool("devhub_importer", 8, &AT_LEISURE),
                sign_in: platform,
                replayer: pool("devhub_projector", 6, &AT_LEISURE),
                owner: pool(OWNER, 4, &AT_LEISURE),
            },
        };
        database.cell.appender.acquire().await?;
        Ok(database)
    }

    /// The cell that a tenant lives in. One machine has one cell, so far it is everybody's.
    #[must_use]
    pub fn cell_of(&self, _tenant: crate::aggregates::ids::TenantId) -> &Cell {
        &self.cell
    }

    /// Every cell.
    pub fn cells(&self) -> std::slice::Iter<'_, Cell> {
        std::slice::from_ref(&self.cell).iter()
    }

    /// Closes every pool.
    pub async fn close(&self) {
        for cell in self.cells() {
            tokio::join!(
                cell.request.close(),
                cell.founder.close(),
                cell.appender.close(),
                cell.projector.close(),
                cell.importer.close(),
                cell.replayer.close(),
                cell.owner.close()
            );
        }
        self.platform.close().await;
    }
}

/// Brings the database up to date: roles, the platform's schema, every cell's schema.
///
/// # Errors
/// [`MigrateError`]; what was done so far is done, and running it again goes on from there.
pub async fn migrate(url: &str) -> Result<(), MigrateError> {
    let options = PgConnectOptions::from_str(url)?;
    let mut connection = PgConnection::connect_with(&options).await?;
    let version: i32 =
        sqlx::query_scalar("select current_setting('server_version_num')::int").fetch_one(&mut connection).await?;
    if version < 150_000 {
        return Err(MigrateError::TooOld(format!("{}.{}", version / 10_000, version % 10_000)));
    }
    sqlx::query("select pg_advisory_lock($1)").bind(MIGRATION_LOCK).execute(&mut connection).await?;
    let done = migrate_locked(&mut connection, version).await;
    sqlx::query("select pg_advisory_unlock($1)").bind(MIGRATION_LOCK).execute(&mut connection).await?;
    connection.close().await?;
    done
}

fn migrations_of_platform() -> Migrator {
    sqlx::migrate!("migrations/platform")
}

fn migrations_of_cell() -> Migrator {
    sqlx::migrate!("migrations/cell")
}

/// What [`migrate`] would still do, and what was done differently, each in some words; changes nothing. `connection` is
/// on a database that was migrated once.
///
/// # Errors
/// The database's.
pub async fn unmigrated(connection: &mut PgConnection) -> sqlx::Result<Vec<String>> {
    let mut found = Vec::new();
    for (schema, migrations) in [("platform", migrations_of_platform()), (FIRST_CELL, migrations_of_cell())] {
        let applied: Vec<(i64, Vec<u8>, bool)> =
            sqlx::query_as(&format!("select version, checksum, success from {schema}._sqlx_migrations"))
                .fetch_all(&mut *connection)
                .await?;
        for migration in migrations.iter() {
            let name = format!("{schema} {:04} {}", migration.version, migration.description);
            match applied.iter().find(|(version, ..)| *version == migration.version) {
                None => found.push(format!("{name} is missing")),
                Some((.., false)) => found.push(format!("{name} failed half-way")),
                Some((_, checksum, _)) if *checksum != *migration.checksum => {
                    found.push(format!("{name} was another one"));
                }
                Some(_) => {}
            }
        }
        let newer = applied.iter().filter(|(version, ..)| !migrations.version_exists(*version));
        found.extend(newer.map(|(version, ..)| format!("{schema} {version:04} is of a newer version of devhub")));
    }
    Ok(found)
}

async fn migrate_locked(connection: &mut PgConnection, version: i32) -> Result<(), MigrateError> {
    ensure_roles(connection, version).await?;
    open_schema(connection, "platform", "devhub_platform, devhub_appender").await?;
    migrations_of_platform().set_locking(false).run(&mut *connection).await?;
    open_schema(connection, FIRST_CELL, &ROLES.join(", ")).await?;
    migrations_of_cell().set_locking(false).run(&mut *connection).await?;
    for beside in [REBUILD, REPLACED] {
        let schema = format!("{FIRST_CELL}{beside}");
        sqlx::query(&format!("create schema if not exists {schema}")).execute(&mut *connection).await?;
        sqlx::query(&format!("grant usage on schema {schema} to devhub_projector")).execute(&mut *connection).await?;
    }
    sqlx::query("insert into platform.cells (cell_id, region) values ($1, $2) on conflict do nothing")
        .bind(FIRST_CELL)
        .bind(FIRST_REGION)
        .execute(connection)
        .await?;
    Ok(())
}

/// Makes the schema if it is not there, lets the roles in, and makes it the one that statements mean.
async fn open_schema(connection: &mut PgConnection, schema: &str, roles: &str) -> sqlx::Result<()> {
    for statement in [
        format!("create schema if not exists {schema}"),
        format!("grant usage on schema {schema} to {roles}"),
        format!("set search_path to {schema}"),
    ] {
        sqlx::query(&statement).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Roles belong to the whole server: another database of it may be making them at this moment.
async fn ensure_roles(connection: &mut PgConnection, version: i32) -> Result<(), MigrateError> {
    let mut refused = Vec::new();
    for role in ROLES {
        let known: bool = sqlx::query_scalar("select exists (select from pg_roles where rolname = $1)")
            .bind(role)
            .fetch_one(&mut *connection)
            .await?;
        if !known
            && let Err(error) = sqlx::query(&format!("create role {role} nologin")).execute(&mut *connection).await
        {
            match error.as_database_error().and_then(|error| error.code()).as_deref() {
                // duplicate_object, unique_violation: somebody else was faster
                Some("42710" | "23505") => {}
                Some("42501") => refused.push(role),
                _ => return Err(error.into()),
            }
        }
    }
    if !refused.is_empty() {
        return Err(MigrateError::Roles { missing: refused.join(", ") });
    }
    // Since PostgreSQL 16, whoever makes a role is a member that may give it to others and not take it on.
    let needed = if version >= 160_000 { "set" } else { "member" };
    for role in ROLES {
        let takes_on: bool = sqlx::query_scalar("select pg_has_role(current_user, $1, $2)")
            .bind(role)
            .bind(needed)
            .fetch_one(&mut *connection)
            .await?;
        if !takes_on {
            sqlx::query(&format!("grant {role} to current_user")).execute(&mut *connection).await?;
        }
    }
    Ok(())
}
