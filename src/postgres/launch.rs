//! Starts the server and waits until it answers.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::Path,
    process::Child,
    thread,
    time::Duration,
};

use tokio::time::Instant;

use super::{ClusterError, Home, Installation, Options, PATIENCE, PAUSE, Postmaster, answers, command, last_lines};

/// A log larger than this is put aside before a start; one generation is kept.
const LOG_LIMIT: u64 = 16 * 1024 * 1024;

/// As much of the log as an error can show.
const TAIL: u64 = 16 * 1024;

/// After the server was killed, the processes that it had for its connections take a moment to
/// notice, and PostgreSQL does not start before they are gone.
const ORPHANS_GO_WITHIN: Duration = Duration::from_secs(20);
const ORPHANS_ARE_THERE: &str = "pre-existing shared memory block";

/// Starts a server on `data`; its process id.
pub(super) async fn launch(
    home: &Home,
    data: &Path,
    installation: &Installation,
    options: &Options,
    sockets: &str,
) -> Result<u32, ClusterError> {
    let orphans = Instant::now() + ORPHANS_GO_WITHIN;
    loop {
        put_log_aside(home)?;
        let before = fs::metadata(home.log()).map_or(0, |log| log.len());
        let server = spawn(home, data, installation, options, sockets)?;
        let pid = server.id();
        if ready(server, home, data, before).await? {
            return Ok(pid);
        }
        let log = end_of_log(home, before);
        if !log.contains(ORPHANS_ARE_THERE) || Instant::now() > orphans {
            return Err(ClusterError::NotStarted { log });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The server, in a process group of its own so that Ctrl-C reaches us first.
fn spawn(
    home: &Home,
    data: &Path,
    installation: &Installation,
    options: &Options,
    sockets: &str,
) -> Result<Child, ClusterError> {
    // The shell opens the log as the server's account: a log that root opens in a folder of that
    // account could be a link to any file.
    let mut server = command(home.account.as_ref(), Path::new("/bin/sh"));
    server.args(["-c", "log=$1; shift; exec \"$@\" >>\"$log\" 2>&1", "sh"]).arg(home.log());
    server.arg(installation.program("postgres")).arg("-D").arg(data);
    for setting in options.settings(sockets) {
        server.args(["-c", &setting]);
    }
    server.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    server.process_group(0).spawn().map_err(ClusterError::run("postgres"))
}

/// Waits until the server answers; `false` when it has ended instead.
async fn ready(mut server: Child, home: &Home, data: &Path, before: u64) -> Result<bool, ClusterError> {
    let pid = server.id();
    // Reaped whenever it dies, or its zombie would look alive to a later start.
    let reaper = thread::spawn(move || server.wait());
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if reaper.is_finished() {
            return Ok(false);
        }
        if let Some(found) = Postmaster::of(data)?
            && found.pid == pid
            && found.is_ready()
            && answers(&found.sockets).await
        {
            return Ok(true);
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(ClusterError::NoAnswer { pid, log: end_of_log(home, before) })
}

fn put_log_aside(home: &Home) -> Result<(), ClusterError> {
    let log = home.log();
    if fs::metadata(&log).is_ok_and(|log| log.len() > LOG_LIMIT) {
        fs::rename(&log, log.with_extension("log.old")).map_err(ClusterError::io("rename", &log))?;
    }
    Ok(())
}

/// The last lines that the server has written beyond `start` (in bytes).
pub(super) fn end_of_log(home: &Home, start: u64) -> String {
    let path = home.log();
    let read = || {
        let mut file = File::open(&path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(length.saturating_sub(TAIL))))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        std::io::Result::Ok(last_lines(&String::from_utf8_lossy(&bytes)))
    };
    read().unwrap_or_else(|error| format!("(cannot read {}: {error})", path.display()))
}
