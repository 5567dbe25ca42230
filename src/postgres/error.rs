//! What can go wrong with a private cluster, said so that the reader knows what to do.

use std::{
    io,
    path::{Path, PathBuf},
};

/// Why there is no private PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A file or folder of the cluster could not be used.
    #[error("cannot {verb} {path}: {source}")]
    Io {
        /// What was tried.
        verb: &'static str,
        /// With what.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
    /// One of PostgreSQL's programs could not be run.
    #[error("cannot run {program}: {source}")]
    Run {
        /// Its name.
        program: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// We are root, and there is nobody to run the server instead.
    #[error(
        "PostgreSQL refuses to be run by root, and there is neither an account `postgres` nor `nobody`; set DATABASE_URL or use another account"
    )]
    NoAccount,
    /// The data lies where the account that runs the server may not go.
    #[error(
        "the account {account} may not enter {folder}, where the data lies; open the folders above it to that account"
    )]
    Closed {
        /// The cluster's folder.
        folder: PathBuf,
        /// The account that runs the server.
        account: &'static str,
    },
    /// A folder with the right name belongs to somebody else.
    #[error("{folder} is not a folder of the account that runs PostgreSQL; remove it or choose another state folder")]
    NotOurs {
        /// The folder.
        folder: PathBuf,
    },
    /// No folder has a path that a socket's address can hold.
    #[error("the path {folder} is too long for a socket; set TMPDIR to a shorter one")]
    NoSocketFolder {
        /// The shortest that was found.
        folder: PathBuf,
    },
    /// Another process of ours uses the same cluster.
    #[error(
        "another DevHub (process {holder}) uses the database in {folder}; stop it, or give this one a state folder of its own"
    )]
    InUse {
        /// The cluster's folder.
        folder: PathBuf,
        /// The other's process id.
        holder: String,
    },
    /// The data was made by a major version that is not installed (any more).
    #[error(
        "{data} was made by PostgreSQL {made_by}, and {installed} is installed; install {made_by} beside it, or move the data with pg_upgrade or pg_dump"
    )]
    OtherVersion {
        /// The data folder.
        data: PathBuf,
        /// The version that made it.
        made_by: String,
        /// The version that we have.
        installed: u32,
    },
    /// initdb failed.
    #[error("initdb failed:\n{said}")]
    NotMade {
        /// Its last lines.
        said: String,
    },
    /// The server ended while starting.
    #[error("PostgreSQL did not start; the end of its log:\n{log}")]
    NotStarted {
        /// Its last lines.
        log: String,
    },
    /// A server runs, and nobody can connect to it.
    #[error("PostgreSQL (process {pid}) does not answer; the end of its log:\n{log}")]
    NoAnswer {
        /// The server's process.
        pid: u32,
        /// Its last lines.
        log: String,
    },
    /// The server goes on.
    #[error("PostgreSQL did not stop:\n{said}")]
    NotStopped {
        /// What pg_ctl said.
        said: String,
    },
    /// The server refused us or the making of the database.
    #[error("the private PostgreSQL refused: {0}")]
    Database(#[from] sqlx::Error),
}

impl ClusterError {
    pub(super) fn io(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io { verb, path, source }
    }

    pub(super) fn run(program: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Run { program, source }
    }
}
