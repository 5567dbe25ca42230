//! Where a private cluster lives on disk, and who may go there.
//!
//! ```text
//! <state folder>/postgres/         0700, of the account that runs the server
//!                ├── data/         made by initdb
//!                ├── server.log
//!                ├── lock          held while a process of ours uses the cluster
//!                └── .s.PGSQL.5432 the socket
//! ```
//!
//! When the state folder is closed to that account (root's own home, say), the same lies under
//! [`SYSTEM_FOLDER`], and the file `postgres.location` in the state folder says where.

use std::{
    env, fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown},
    },
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{Account, ClusterError};

const SYSTEM_FOLDER: &str = "/var/lib/devhub";
/// The file that is held while a process of ours uses the cluster.
pub(super) const LOCK: &str = "lock";
const POINTER: &str = "postgres.location";

/// The name of a socket's folder is shorter than this: a whole socket address has room for 104 bytes on macOS and
/// 108 on Linux, and PostgreSQL adds a name of 13.
const SOCKET_FOLDER_LIMIT: usize = 90;

/// The folder of one private cluster.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) folder: PathBuf,
    pub(super) account: Option<Account>,
}

impl Home {
    /// Where the cluster of `state_dir` lives, if there is one.
    pub(super) fn folder_of(state_dir: &Path) -> PathBuf {
        match fs::read_to_string(state_dir.join(POINTER)) {
            Ok(place) => PathBuf::from(place.trim_end_matches('\n')),
            Err(_) => state_dir.join("postgres"),
        }
    }

    /// Chooses the place for the cluster of `state_dir`, and makes what is missing.
    pub(super) fn prepare(state_dir: &Path) -> Result<Self, ClusterError> {
        make_folders(state_dir)?;
        let state_dir = fs::canonicalize(state_dir).map_err(ClusterError::io("find", state_dir))?;
        let beside = state_dir.join("postgres");
        let pointer = state_dir.join(POINTER);

        let moved = match fs::read_to_string(&pointer) {
            Ok(place) => Some(PathBuf::from(place.trim_end_matches('\n'))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(ClusterError::io("read", &pointer)(error)),
        };
        if let Some(folder) = moved {
            let account = Account::choose(&folder.join("data"))?;
            return Self { folder, account }.made();
        }

        let account = Account::choose(&beside.join("data"))?;
        let closed = match &account {
            Some(account) => !account.may_enter(&state_dir).map_err(ClusterError::io("look into", &state_dir))?,
            None => false,
        };
        if !closed {
            return Self { folder: beside, account }.made();
        }
        // Starting an empty cluster elsewhere would look as if all data were lost.
        if beside.join("data").exists() {
            let account = account.map(|account| account.name).unwrap_or_default();
            return Err(ClusterError::Closed { folder: beside, account });
        }
        let home = Self { folder: Path::new(SYSTEM_FOLDER).join(short_name(&state_dir)), account }.made()?;
        fs::write(&pointer, format!("{}\n", home.folder.display())).map_err(ClusterError::io("write", &pointer))?;
        Ok(home)
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.folder.join(LOCK)
    }

    /// The folder for the socket: ours, unless its path is too long for a socket's address or
    /// cannot be written in a URL.
    pub(super) fn sockets(&self) -> Result<String, ClusterError> {
        if let Some(folder) = fits(&self.folder) {
            return Ok(folder);
        }
        let name = format!("devhub-{}", short_name(&self.folder));
        let own = env::temp_dir().join(&name);
        let folder = if fits(&own).is_some() { own } else { Path::new("/tmp").join(name) };
        self.make_private(&folder)?;
        fits(&folder).ok_or(ClusterError::NoSocketFolder { folder })
    }

    fn made(self) -> Result<Self, ClusterError> {
        if let Some(parent) = self.folder.parent() {
            make_folders(parent)?;
        }
        self.make_private(&self.folder)?;
        Ok(self)
    }

    /// Makes `folder` for the server's account alone, or checks that it is: its mode is what
    /// stands in for a password, and anybody can make folders under `/tmp`.
    fn make_private(&self, folder: &Path) -> Result<(), ClusterError> {
        match fs::DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => {
                if let Some(Account { uid, gid, .. }) = self.account {
                    lchown(folder, Some(uid), Some(gid)).map_err(ClusterError::io("hand over", folder))?;
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found = fs::symlink_metadata(folder).map_err(ClusterError::io("look at", folder))?;
                let owned = self.account.as_ref().is_none_or(|account| account.uid == found.uid());
                if !found.is_dir() || !owned {
                    return Err(ClusterError::NotOurs { folder: folder.to_path_buf() });
                }
                // Fails for a folder that is somebody else's.
                fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
                    .map_err(ClusterError::io("close", folder))
            }
            Err(error) => Err(ClusterError::io("make", folder)(error)),
        }
    }
}

/// Makes `folder` and those above it, so that other accounts may pass through the new ones
/// whatever our umask is; what lies in them has modes of its own.
fn make_folders(folder: &Path) -> Result<(), ClusterError> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_folders(parent)?;
    }
    match fs::create_dir(folder) {
        Ok(()) => {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).map_err(ClusterError::io("open", folder))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(ClusterError::io("make", folder)(error)),
    }
}

/// `folder` as text, if a socket in it can be addressed.
fn fits(folder: &Path) -> Option<String> {
    folder.to_str().filter(|path| path.len() < SOCKET_FOLDER_LIMIT).map(str::to_owned)
}

/// The same short name for the same path, on every start.
fn short_name(path: &Path) -> String {
    let name = Uuid::new_v5(&Uuid::NAMESPACE_URL, path.as_os_str().as_bytes()).simple().to_string();
    name.chars().take(16).collect()
}
