//! A private PostgreSQL, for whoever has set no `DATABASE_URL`.
//!
//! The server is one of those installed on the machine ([`Installation::find`]). It listens on a
//! Unix socket only, in a folder that nobody else may enter: that stands in for a password. It
//! stops with us; when we are killed it goes on, and the next start adopts it.
//!
//! ```text
//! start ─► lock the folder ─► initdb (once) ─► a server runs? ─ yes ─► adopt it
//!                                                  └─ no, or a dead one's traces ─► launch one
//! ```

mod account;
mod error;
mod home;
mod installation;
mod launch;
mod postmaster;

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::{process::Command, time::Instant};

pub use self::error::ClusterError;
pub use self::installation::{Installation, NotInstalled, OLDEST_VERSION};
use self::{
    account::{Account, command},
    home::Home,
    postmaster::Postmaster,
};

/// The database that [`PrivateCluster::start`] makes.
pub const DATABASE: &str = "devhub";

/// The superuser of a private cluster.
const SUPERUSER: &str = "postgres";

/// In the name of the socket; nothing listens on a network.
const PORT: u16 = 5432;

/// How long a server may take to start or to stop, recovery from a crash included.
const PATIENCE: Duration = Duration::from_secs(120);

/// How often a file or a server is looked at that others are about to change.
const PAUSE: Duration = Duration::from_millis(20);

/// How a private server is run. An adopted one keeps the options that it was launched with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whether commits survive a crash of the server or the machine. Off, the server also forgoes
    /// synchronous commits and full page writes: only for data that nobody keeps.
    pub fsync: bool,
    /// Connections at most.
    pub max_connections: u32,
    /// Memory for pages, in MiB.
    pub shared_buffers_mb: u32,
}

impl Default for Options {
    /// For data that is kept.
    fn default() -> Self {
        Self { fsync: true, max_connections: 200, shared_buffers_mb: 256 }
    }
}

impl Options {
    /// For the databases of tests: fast, and lost in a crash.
    #[must_use]
    pub fn throwaway() -> Self {
        Self { fsync: false, max_connections: 400, shared_buffers_mb: 256 }
    }

    fn settings(&self, sockets: &str) -> Vec<String> {
        let switch = |on: bool| if on { "on" } else { "off" };
        vec![
            "listen_addresses=".into(),
            // A list: quoted, so that a comma or a space in the path does not split it.
            format!("unix_socket_directories=\"{}\"", sockets.replace('"', "\"\"")),
            "unix_socket_permissions=0700".into(),
            format!("port={PORT}"),
            format!("max_connections={}", self.max_connections),
            format!("shared_buffers={}MB", self.shared_buffers_mb),
            format!("fsync={}", switch(self.fsync)),
            format!("synchronous_commit={}", switch(self.fsync)),
            format!("full_page_writes={}", switch(self.fsync)),
            // After each checkpoint every page is logged whole once more: better seldom, for a minute of recovery at most.
            "max_wal_size=4GB".into(),
            "checkpoint_timeout=15min".into(),
            "timezone=UTC".into(),
            "log_timezone=UTC".into(),
        ]
    }
}

/// A running PostgreSQL server that is ours alone.
///
/// Dropping it leaves the server running, to be adopted by the next start; [`stop`](Self::stop)
/// ends it.
#[derive(Debug)]
pub struct PrivateCluster {
    home: Home,
    /// As the running server sees it, links resolved.
    data: PathBuf,
    installation: Installation,
    sockets: String,
    pid: u32,
    adopted: bool,
    /// The system gives it up when we end, however we end.
    _lock: File,
}

impl PrivateCluster {
    /// Starts the server of `state_dir`, or adopts the one that survived us, and makes the
    /// database [`DATABASE`] if it is missing. The first start makes the cluster.
    ///
    /// Data of another major version than `installation` is opened with the programs of that
    /// version if they are installed as well.
    ///
    /// # Errors
    /// See [`ClusterError`]; each says what to do or shows the end of the server's log.
    pub async fn start(state_dir: &Path, installation: &Installation, options: &Options) -> Result<Self, ClusterError> {
        let home = Home::prepare(state_dir)?;
        let lock = lock(&home).await?;
        if !home.data().exists() {
            make_cluster(&home, installation, options).await?;
        }
        let data = fs::canonicalize(home.data()).map_err(ClusterError::io("find", &home.data()))?;
        let installation = matching(&data, installation)?;

        let found = survivor(&home, &data).await?;
        let adopted = found.is_some();
        let (pid, sockets) = match found {
            Some(server) => (server.pid, server.sockets),
            None => {
                let sockets = home.sockets()?;
                postmaster::clear_socket(&sockets);
                let pid = launch::launch(&home, &data, &installation, options, &sockets).await?;
                (pid, sockets)
            }
        };
        let cluster = Self { home, data, installation, sockets, pid, adopted, _lock: lock };
        cluster.ensure_database().await?;
        Ok(cluster)
    }

    /// How sqlx connects to the server of `state_dir`, if one runs. Changes nothing.
    #[must_use]
    pub fn running(state_dir: &Path) -> Option<PgConnectOptions> {
        let data = fs::canonicalize(Home::folder_of(state_dir).join("data")).ok()?;
        let server = Postmaster::of(&data).ok().flatten().filter(|server| server.is_alive(&data))?;
        Some(connect_options(&server.sockets, DATABASE))
    }

    /// The address of the database of `state_dir`, if its server runs and another process of ours looks after it.
    #[must_use]
    pub fn served(state_dir: &Path) -> Option<String> {
        let home = Home::folder_of(state_dir);
        let data = fs::canonicalize(home.join("data")).ok()?;
        let server = Postmaster::of(&data).ok().flatten().filter(|server| server.is_alive(&data))?;
        let lock = File::options().read(true).write(true).open(home.join(home::LOCK)).ok()?;
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => Some(url(&server.sockets, DATABASE)),
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }

    /// The address of the database [`DATABASE`].
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(DATABASE)
    }

    /// The address of one of the cluster's databases.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        url(&self.sockets, database)
    }

    /// How sqlx connects to one of the cluster's databases.
    #[must_use]
    pub fn connect_options(&self, database: &str) -> PgConnectOptions {
        connect_options(&self.sockets, database)
    }

    /// The server's process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether the server had been running before we came.
    #[must_use]
    pub fn is_adopted(&self) -> bool {
        self.adopted
    }

    /// The folder of everything that belongs to the cluster.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.home.folder
    }

    /// The file that the server writes its log to.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.home.log()
    }

    /// Ends the server: open transactions are rolled back, everything committed is on disk.
    ///
    /// # Errors
    /// [`ClusterError::NotStopped`] if it is still there after two minutes.
    pub async fn stop(self) -> Result<(), ClusterError> {
        let mut stop = command(self.home.account.as_ref(), &self.installation.program("pg_ctl"));
        stop.arg("stop").arg("-D").arg(&self.data);
        stop.args(["-m", "fast", "-w", "-t", &PATIENCE.as_secs().to_string()]);
        let output = Command::from(stop).output().await.map_err(ClusterError::run("pg_ctl"))?;
        // A server that has died by itself is not a failure to stop it.
        if output.status.success() || Postmaster::of(&self.data)?.is_none_or(|server| !server.is_alive(&self.data)) {
            // A socket folder outside ours has nothing else in it; one that has stays.
            if Path::new(&self.sockets) != self.home.folder {
                let _ = fs::remove_dir(&self.sockets);
            }
            return Ok(());
        }
        Err(ClusterError::NotStopped { said: said(&output) })
    }

    async fn ensure_database(&self) -> Result<(), ClusterError> {
        let mut connection = self.connect_options("postgres").connect().await?;
        let exists: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
            .bind(DATABASE)
            .fetch_one(&mut connection)
            .await?;
        if !exists {
            sqlx::query(&format!("create database {DATABASE}")).execute(&mut connection).await?;
        }
        connection.close().await?;
        Ok(())
    }
}

fn url(sockets: &str, database: &str) -> String {
    let sockets = percent_encoded(sockets);
    format!("postgres:///{database}?host={sockets}&port={PORT}&user={SUPERUSER}&sslmode=disable")
}

fn connect_options(sockets: &str, database: &str) -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass()
        .socket(sockets)
        .port(PORT)
        .username(SUPERUSER)
        .database(database)
        .ssl_mode(PgSslMode::Disable)
}

/// Whether a server answers on this socket.
async fn answers(sockets: &str) -> bool {
    match connect_options(sockets, "postgres").connect().await {
        Ok(connection) => connection.close().await.is_ok(),
        Err(_) => false,
    }
}

/// Takes the folder for this process.
async fn lock(home: &Home) -> Result<File, ClusterError> {
    let path = home.lock();
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = opened.map_err(ClusterError::io("open", &path))?;
    // A program that another thread is just starting holds copies of our files until it runs, so
    // that a lock given up may seem taken for a moment.
    let deadline = Instant::now() + Duration::from_millis(300);
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => tokio::time::sleep(PAUSE).await,
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(ClusterError::io("read", &path))?;
                return Err(ClusterError::InUse { folder: home.folder.clone(), holder: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(ClusterError::io("lock", &path)(error)),
        }
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(ClusterError::io("write", &path))?;
    Ok(file)
}

/// Runs initdb, into a folder that gets its name when it is complete.
async fn make_cluster(home: &Home, installation: &Installation, options: &Options) -> Result<(), ClusterError> {
    let (data, unfinished) = (home.data(), home.folder.join("data.unfinished"));
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(ClusterError::io("remove", &unfinished)(error));
        }
        _ => {}
    }
    let mut initdb = command(home.account.as_ref(), &installation.program("initdb"));
    initdb.arg("-D").arg(&unfinished);
    initdb.args(["--username", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--no-instructions"]);
    // Unicode, sorted by code point, the same on every machine; since 17 also where the system itself has no such
    // locale. Before, the same order has to be called C to be compared byte by byte and not by the system's library.
    if installation.version >= 17 {
        initdb.args(["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]);
    } else {
        initdb.args(["--locale=C.UTF-8", "--lc-collate=C"]);
    }
    if !options.fsync {
        initdb.arg("--no-sync");
    }
    let output = Command::from(initdb).output().await.map_err(ClusterError::run("initdb"))?;
    if !output.status.success() {
        return Err(ClusterError::NotMade { said: said(&output) });
    }
    fs::rename(&unfinished, &data).map_err(ClusterError::io("make", &data))
}

/// The installation that can open `data`.
fn matching(data: &Path, installation: &Installation) -> Result<Installation, ClusterError> {
    let path = data.join("PG_VERSION");
    let made_by = fs::read_to_string(&path).map_err(ClusterError::io("read", &path))?;
    let made_by = made_by.trim();
    if made_by == installation.version.to_string() {
        return Ok(installation.clone());
    }
    made_by.parse().ok().and_then(Installation::of_version).ok_or_else(|| ClusterError::OtherVersion {
        data: data.to_path_buf(),
        made_by: made_by.to_owned(),
        installed: installation.version,
    })
}

/// The server that is running on `data`, waited for while it starts or stops.
async fn survivor(home: &Home, data: &Path) -> Result<Option<Postmaster>, ClusterError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Postmaster::of(data)? {
            None => return Ok(None),
            Some(server) if !server.is_alive(data) => {
                Postmaster::declare_dead(data)?;
                return Ok(None);
            }
            Some(server) if server.is_ready() && answers(&server.sockets).await => return Ok(Some(server)),
            Some(server) if Instant::now() > deadline => {
                return Err(ClusterError::NoAnswer { pid: server.pid, log: launch::end_of_log(home, 0) });
            }
            Some(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// What a program has written before it failed.
fn said(output: &std::process::Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    last_lines(&String::from_utf8_lossy(&text))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines.split_at(lines.len().saturating_sub(10)).1.join("\n")
}

/// RFC 3986: everything but its unreserved characters and the slash.
fn percent_encoded(path: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    path.bytes().map(encoded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_so_that_a_url_can_hold_it() {
        assert_eq!(percent_encoded("/a b/ü?&#"), "/a%20b/%C3%BC%3F%26%23");
    }

    #[test]
    fn a_socket_folder_with_a_comma_stays_one_folder() {
        let settings = Options::default().settings("/a,\"b");
        assert!(settings.contains(&"unix_socket_directories=\"/a,\"\"b\"".to_owned()));
    }

    #[test]
    fn data_that_is_kept_is_synced() {
        for setting in ["fsync=on", "synchronous_commit=on", "full_page_writes=on"] {
            assert!(Options::default().settings("/s").contains(&setting.to_owned()), "{setting}");
        }
    }

    #[test]
    fn an_error_shows_the_last_ten_lines() {
        let text = (1..=12).map(|line| format!("line {line}\n")).collect::<String>();
        assert!(last_lines(&text).starts_with("line 3\n"));
        assert_eq!(last_lines(""), "");
    }
}
