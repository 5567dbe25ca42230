//! The account that the server runs as, since PostgreSQL refuses to be run by root.

use std::{
    io,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::Path,
    process::Command,
};

use super::ClusterError;

/// Accounts that may stand in for root, the preferred one first. `initdb` looks its name up, so
/// it must be one that exists; `nobody` exists everywhere.
const STAND_INS: [&str; 2] = ["postgres", "nobody"];

/// Somebody else than us, to run the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: &'static str,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// `None` when we are not root: the server then runs as ourselves.
    ///
    /// `data` may exist already: it stays with the account that made it, even when a preferred one
    /// has come since.
    pub(super) fn choose(data: &Path) -> Result<Option<Self>, ClusterError> {
        if id(&["-u"]).ok_or(ClusterError::NoAccount)? != 0 {
            return Ok(None);
        }
        let accounts: Vec<Self> = STAND_INS.into_iter().filter_map(Self::named).collect();
        let owner = data.metadata().map(|metadata| metadata.uid()).ok();
        let made_it = accounts.iter().find(|account| Some(account.uid) == owner);
        made_it.or(accounts.first()).cloned().map(Some).ok_or(ClusterError::NoAccount)
    }

    fn named(name: &'static str) -> Option<Self> {
        Some(Self { name, uid: id(&["-u", name])?, gid: id(&["-g", name])? })
    }

    /// Whether this account may go into `folder`, through all that lie above it.
    pub(super) fn may_enter(&self, folder: &Path) -> io::Result<bool> {
        let mut shell = command(Some(self), Path::new("/bin/sh"));
        let output = shell.args(["-c", "cd \"$1\"", "sh"]).arg(folder).output()?;
        Ok(output.status.success())
    }
}

/// A command that runs as `account`, from a folder that everybody may be in, and that takes no
/// PostgreSQL setting and no language from our environment.
pub(super) fn command(account: Option<&Account>, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/").stdin(std::process::Stdio::null()).env("LC_ALL", "C");
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PG") {
            command.env_remove(name);
        }
    }
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    command
}

/// What `id` answers; the standard library cannot tell.
fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}
