//! A throwaway PostgreSQL for the tests, one per test process, and a fresh database for each test.
//!
//! ```text
//! migrations ─► template (once per process) ─► create database … template … (each test, ~30 ms)
//! ```
//!
//! `DEVHUB_TEST_DATABASE_URL`, if set, names a server to use instead; its role must be allowed to
//! create databases, and those of earlier runs (`devhub_test_<process>_<microseconds>_…`) are dropped.

use std::{
    collections::BTreeSet,
    fmt::Display,
    fs::{self, File},
    future::Future,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use devhub::postgres::{Installation, Options, PrivateCluster};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::{
    runtime::Runtime,
    sync::{Mutex, OnceCell},
};

/// Not the system's temporary folder: that may be one that only root can enter, and its path may
/// be too long for a socket.
const SCRATCH: &str = "/tmp";
const PREFIX: &str = "devhub-test-";

/// Databases on a server that is not ours, and the connection by which a run shows that it lives.
const DATABASE_PREFIX: &str = "devhub_test_";

/// Ends the servers below the folder `$1`, at once, and removes it.
const SWEEP: &str = r#"
find "$1" -name postmaster.pid | while IFS= read -r file; do
    data=${file%/postmaster.pid}
    pid=$(head -n 1 "$file")
    if [ -d /proc/self ]; then
        [ "$(readlink "/proc/$pid/cwd")" = "$data" ] || continue
    else
        case $(ps -o comm= -p "$pid") in *postgres*) ;; *) continue ;; esac
    fi
    kill -QUIT "$pid"
    tries=0
    while kill -0 "$pid" && [ "$tries" -lt 100 ]; do tries=$((tries + 1)); sleep 0.05; done
done
rm -rf "$1"
"#;

/// A new database with all that `migrate` has made, once per process and `template`, in the
/// database whose address it was given; the address of the new one.
pub async fn fresh_database<E: Display>(
    template: &'static str,
    migrate: impl AsyncFn(&str) -> Result<(), E>,
) -> String {
    static MADE: Mutex<BTreeSet<&str>> = Mutex::const_new(BTreeSet::new());
    static NEXT: AtomicU32 = AtomicU32::new(0);

    let server = Server::of_this_process().await;
    let original = format!("{DATABASE_PREFIX}{}_{template}", server.run);
    let mut made = MADE.lock().await;
    if !made.contains(template) {
        server.create(&original, "template0").await;
        if let Err(error) = migrate(&server.url_of(&original)).await {
            panic!("cannot migrate the template database: {error}");
        }
        made.insert(template);
    }
    drop(made);
    let database = format!("{DATABASE_PREFIX}{}_{}", server.run, NEXT.fetch_add(1, Ordering::Relaxed));
    server.create(&database, &original).await;
    server.url_of(&database)
}

/// A new folder, removed when the process ends, however it ends; a server whose state folder it
/// is, is stopped then.
pub fn scratch(name: &str) -> PathBuf {
    let folder = scratch_root().join(name);
    fs::create_dir(&folder).unwrap();
    folder
}

/// Runs what outlives a test: each test has a runtime of its own, and takes with it the
/// connections that it has opened.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap())
}

async fn outlive<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    runtime().spawn(work).await.unwrap()
}

/// The PostgreSQL server that the tests of this process share.
struct Server {
    /// Tells this run's databases from those of others.
    run: String,
    address: Address,
    /// Creates databases, one at a time: PostgreSQL refuses to copy a template twice at once.
    /// Held open, it also shows other runs that our databases are in use.
    admin: Mutex<PgConnection>,
}

enum Address {
    Private(PrivateCluster),
    Given(String),
}

impl Server {
    async fn of_this_process() -> &'static Self {
        static SERVER: OnceCell<Server> = OnceCell::const_new();
        SERVER.get_or_init(|| outlive(Self::start())).await
    }

    async fn start() -> Self {
        let (address, options, run) = match std::env::var("DEVHUB_TEST_DATABASE_URL") {
            Ok(url) => {
                let options: PgConnectOptions = url.parse().expect("DEVHUB_TEST_DATABASE_URL is an address");
                // Several machines may share a server, and their process ids meet.
                let run = format!("{}_{}", process::id(), microseconds());
                (Address::Given(url), options, run)
            }
            Err(_) => {
                let installation = Installation::find().unwrap_or_else(|error| panic!("{error}"));
                let cluster = PrivateCluster::start(&scratch("shared"), &installation, &Options::throwaway()).await;
                let cluster = cluster.unwrap_or_else(|error| panic!("{error}"));
                let options = cluster.connect_options("postgres");
                (Address::Private(cluster), options, "run".to_owned())
            }
        };
        let options = options.application_name(&format!("{DATABASE_PREFIX}{run}"));
        let mut admin = PgConnection::connect_with(&options).await.unwrap();
        if matches!(address, Address::Given(_)) {
            drop_abandoned(&mut admin).await;
        }
        Self { run, address, admin: Mutex::new(admin) }
    }

    fn url_of(&self, database: &str) -> String {
        match &self.address {
            Address::Private(cluster) => cluster.url_of(database),
            Address::Given(url) => {
                let (before, parameters) = url.split_once('?').unwrap_or((url, ""));
                let (scheme, rest) = before.split_once("://").expect("an address has a scheme");
                let host = rest.split('/').next().unwrap_or_default();
                format!("{scheme}://{host}/{database}?{parameters}")
            }
        }
    }

    async fn create(&'static self, database: &str, template: &str) {
        // Whoever is still connected to the template would make the copy fail.
        let leave = format!("select pg_terminate_backend(pid) from pg_stat_activity where datname = '{template}'");
        let create = format!("create database {database} template {template}");
        outlive(async move {
            let mut admin = self.admin.lock().await;
            sqlx::query(&leave).execute(&mut *admin).await.unwrap();
            sqlx::query(&create).execute(&mut *admin).await.unwrap();
        })
        .await;
    }
}

/// Drops the databases of runs that have ended. The server is somebody's own: nothing is dropped
/// but what has exactly the form of a name that [`Server::start`] makes.
async fn drop_abandoned(admin: &mut PgConnection) {
    let abandoned: Vec<String> = sqlx::query_scalar(
        "select datname::text from pg_database
         where datname ~ ('^' || $1 || '[0-9]+_[0-9]{16}_([0-9]+|[a-z]+)$') and not exists (
             select from pg_stat_activity
             where starts_with(application_name, $1) and starts_with(datname, application_name || '_'))",
    )
    .bind(DATABASE_PREFIX)
    .fetch_all(&mut *admin)
    .await
    .unwrap();
    for database in abandoned {
        let drop = format!("drop database if exists {database} with (force)");
        sqlx::query(&drop).execute(&mut *admin).await.unwrap();
    }
}

/// Tells apart what has the same process id, one after the other or on two machines.
fn microseconds() -> u128 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_micros()
}

/// The folder of this process.
fn scratch_root() -> &'static Path {
    static ROOT: OnceLock<Scratch> = OnceLock::new();
    &ROOT.get_or_init(Scratch::make).root
}

struct Scratch {
    root: PathBuf,
    /// Shows other runs that the folder is in use.
    _lock: File,
    /// Sees our end by the pipe that it reads from, which closes even when we are killed.
    _watchdog: Child,
}

impl Scratch {
    fn make() -> Self {
        sweep_leftovers();
        // Gets its name when it is locked, so that nobody takes it for a leftover.
        let unnamed = Path::new(SCRATCH).join(format!(".{PREFIX}{}-{}", process::id(), microseconds()));
        fs::create_dir(&unnamed).unwrap();
        let lock = File::create(unnamed.join("owner")).unwrap();
        lock.lock().unwrap();
        let root = Path::new(SCRATCH).join(unnamed.file_name().unwrap().to_str().unwrap().trim_start_matches('.'));
        fs::rename(&unnamed, &root).unwrap();
        let root = root.canonicalize().unwrap();
        let watchdog = shell(&format!("read -r _; {SWEEP}")).arg(&root).stdin(Stdio::piped()).spawn().unwrap();
        Self { root, _lock: lock, _watchdog: watchdog }
    }
}

/// Removes what runs have left that were killed together with their watchdogs.
fn sweep_leftovers() {
    for entry in fs::read_dir(SCRATCH).unwrap().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        let abandoned = || File::open(entry.path().join("owner")).is_ok_and(|owner| owner.try_lock().is_ok());
        if ours && abandoned() {
            shell(SWEEP).arg(entry.path().canonicalize().unwrap()).status().unwrap();
        }
    }
}

/// A shell in a process group of its own, which Ctrl-C does not reach, that holds none of our
/// outputs open.
fn shell(script: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", script, "sh"]).current_dir("/").process_group(0);
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    shell
}

#[tokio::test]
async fn each_test_has_a_database_of_its_own() {
    // Copying works although the migration has left a connection open.
    let left_open = std::sync::Mutex::new(Vec::new());
    let migrate = async |url: &str| {
        let mut connection = PgConnection::connect(url).await?;
        sqlx::raw_sql("create table told (word text)").execute(&mut connection).await?;
        left_open.lock().unwrap().push(connection);
        Ok::<(), sqlx::Error>(())
    };
    let (one, two) = tokio::join!(fresh_database("copied", &migrate), fresh_database("copied", &migrate));
    let (mut one, mut two) = (PgConnection::connect(&one).await.unwrap(), PgConnection::connect(&two).await.unwrap());
    sqlx::raw_sql("insert into told values ('one')").execute(&mut one).await.unwrap();
    let words: i64 = sqlx::query_scalar("select count(*) from told").fetch_one(&mut two).await.unwrap();
    assert_eq!(words, 0);
    assert_eq!(left_open.lock().unwrap().len(), 1, "the template is made once");
}
