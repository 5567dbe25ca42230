//! What `postmaster.pid` tells about the server of a data folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use super::{ClusterError, PORT};

/// A process id that no system hands out (Linux ends at 2^22, macOS at 99,998).
const NOBODY: &str = "2147483647";

/// The lines of `postmaster.pid` that matter here.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Postmaster {
    pub(super) pid: u32,
    /// The folder of the socket.
    pub(super) sockets: String,
    /// `starting`, `ready`, `stopping`; empty very early.
    status: String,
}

impl Postmaster {
    /// `None` when no server uses `data`, or one has just begun to.
    pub(super) fn of(data: &Path) -> Result<Option<Self>, ClusterError> {
        let path = file(data);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ClusterError::io("read", &path)(error)),
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.status == "ready"
    }

    /// Whether the process still is the server of `data`: not dead, not a zombie that nobody has
    /// reaped (usual in containers), and not a stranger who got the number since.
    pub(super) fn is_alive(&self, data: &Path) -> bool {
        if Path::new("/proc/self/cwd").exists() {
            // The server works in its data folder; a zombie works nowhere.
            return fs::read_link(format!("/proc/{}/cwd", self.pid)).is_ok_and(|folder| folder == data);
        }
        let told = Command::new("ps").args(["-o", "state=,comm=", "-p", &self.pid.to_string()]).output();
        let told = told.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        told.contains("postgres") && !told.trim_start().starts_with('Z')
    }

    /// Writes into the file that this server is dead.
    ///
    /// PostgreSQL trusts the number alone, and would refuse to start because of a zombie or a
    /// stranger. The file itself must stay: it names the shared memory by which the next server
    /// notices that orphans of the dead one still write to the data.
    pub(super) fn declare_dead(data: &Path) -> Result<(), ClusterError> {
        let path = file(data);
        let text = fs::read_to_string(&path).map_err(ClusterError::io("read", &path))?;
        let rest = text.split_once('\n').map(|(_, rest)| rest).unwrap_or_default();
        fs::write(&path, format!("{NOBODY}\n{rest}")).map_err(ClusterError::io("write", &path))
    }
}

/// Takes a dead server's lock off the socket, for no server of this folder is alive: PostgreSQL trusts the number in
/// it alone, as in its other file. The folder is ours and locked by us, so nobody else can hold it.
pub(super) fn clear_socket(sockets: &str) {
    // What is not there, or cannot be removed, the next server complains about by itself.
    let _ = fs::remove_file(Path::new(sockets).join(format!(".s.PGSQL.{PORT}.lock")));
}

fn file(data: &Path) -> PathBuf {
    data.join("postmaster.pid")
}

/// Lines: pid, data folder, start time, port, socket folder, address, shared memory, status.
fn parse(text: &str) -> Option<Postmaster> {
    let mut lines = text.lines();
    let pid = lines.next()?.trim().parse().ok()?;
    let sockets = lines.nth(3).unwrap_or_default().trim().to_owned();
    let status = lines.nth(2).unwrap_or_default().trim().to_owned();
    Some(Postmaster { pid, sockets, status })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_where_the_server_puts_them() {
        let text = "4711\n/state/postgres/data\n1700000000\n5432\n/state/postgres\n\n   1234567     98304\nready   \n";
        let read = parse(text).unwrap();
        assert_eq!(read, Postmaster { pid: 4711, sockets: "/state/postgres".into(), status: "ready".into() });
        assert!(read.is_ready());
    }

    #[test]
    fn a_file_that_is_being_written_is_not_ready() {
        assert_eq!(parse(""), None);
        assert!(!parse("4711\n/state/postgres/data\n").unwrap().is_ready());
    }
}
