//! Finds the PostgreSQL server programs that are installed on this machine.

use std::{
    cmp::Reverse,
    env,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The oldest major version that the SQL of this program is written for.
pub const OLDEST_VERSION: u32 = 15;

/// Names one folder with the server's programs, and overrules the search.
const OVERRIDE: &str = "DEVHUB_PG_BIN";

/// The programs that must lie side by side: a link to one of them in the `PATH` says nothing
/// about the others, and a client-only installation has none of them.
const PROGRAMS: [&str; 3] = ["initdb", "postgres", "pg_ctl"];

/// Where packages put one folder per version: parent, prefix of the version's folder, folder of
/// the programs in it.
const VERSIONED_FOLDERS: [(&str, &str, &str); 8] = [
    ("/usr/lib/postgresql", "", "bin"),                          // Debian, Ubuntu
    ("/usr", "pgsql-", "bin"),                                   // Red Hat, packages of postgresql.org
    ("/usr/lib", "postgresql", "bin"),                           // SUSE
    ("/usr/libexec", "postgresql", ""),                          // Alpine
    ("/opt/homebrew/opt", "postgresql", "bin"),                  // Homebrew on Apple silicon
    ("/usr/local/opt", "postgresql", "bin"),                     // Homebrew on Intel
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),     // Homebrew on Linux
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"), // Postgres.app
];

/// How each system installs the server, by its package manager.
const INSTALL_COMMANDS: [(&str, &str); 6] = [
    ("apt-get", "apt-get install -y postgresql"),
    ("dnf", "dnf install -y postgresql-server"),
    ("apk", "apk add postgresql"),
    ("brew", "brew install postgresql@17"),
    ("zypper", "zypper install -y postgresql-server"),
    ("pacman", "pacman -S --noconfirm postgresql"),
];

/// The programs of one PostgreSQL server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The folder that holds `initdb`, `postgres` and `pg_ctl`.
    pub bin: PathBuf,
    /// The major version, such as 17.
    pub version: u32,
}

impl Installation {
    /// The newest installation, of [`OLDEST_VERSION`] at least.
    ///
    /// Looks into `DEVHUB_PG_BIN` alone when that is set; else into the folders of `PATH`, the one
    /// that `pg_config` names, and the versioned folders of the usual packages.
    ///
    /// # Errors
    /// [`NotInstalled`], which says how to install it here.
    pub fn find() -> Result<Self, NotInstalled> {
        newest(installed(), |_| true)
    }

    /// The installation whose major version made an existing data folder.
    pub(super) fn of_version(version: u32) -> Option<Self> {
        newest(installed(), |found| found.version == version).ok()
    }

    /// The installation in `bin`, if all the programs are there and tell their version.
    fn probe(bin: &Path) -> Option<Self> {
        if !PROGRAMS.iter().all(|program| bin.join(program).is_file()) {
            return None;
        }
        let told = Command::new(bin.join("postgres")).arg("--version").output().ok()?;
        Some(Self { bin: bin.to_path_buf(), version: major_version(&String::from_utf8_lossy(&told.stdout))? })
    }

    /// The path of one of the programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
}

/// The first of the highest version among those that are new enough and `wanted`.
fn newest(found: Vec<Installation>, wanted: impl Fn(&Installation) -> bool) -> Result<Installation, NotInstalled> {
    found
        .iter()
        .filter(|installation| installation.version >= OLDEST_VERSION && wanted(installation))
        .min_by_key(|installation| Reverse(installation.version))
        .cloned()
        .ok_or(NotInstalled { found })
}

/// Every installation on this machine, those that are too old included.
fn installed() -> Vec<Installation> {
    if let Some(bin) = env::var_os(OVERRIDE).filter(|bin| !bin.is_empty()) {
        return Installation::probe(Path::new(&bin)).into_iter().collect();
    }
    let mut folders: Vec<PathBuf> = Vec::new();
    for folder in from_path().into_iter().chain(from_pg_config()).chain(from_packages()) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders.iter().filter_map(|folder| Installation::probe(folder)).collect()
}

/// The folders of `PATH` that have a `postgres`, and those that it links to.
fn from_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .filter_map(|folder| {
            let linked = fs::canonicalize(folder.join("postgres")).ok()?;
            Some([folder, linked.parent()?.to_path_buf()])
        })
        .flatten()
        .collect()
}

fn from_pg_config() -> Option<PathBuf> {
    let told = Command::new("pg_config").arg("--bindir").output().ok()?;
    let folder = String::from_utf8_lossy(&told.stdout).trim().to_owned();
    (!folder.is_empty()).then(|| PathBuf::from(folder))
}

fn from_packages() -> Vec<PathBuf> {
    let versions = |(parent, prefix, bin): &(&str, &'static str, &'static str)| {
        let (prefix, bin) = (*prefix, *bin);
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        entries
            .filter(move |entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(move |entry| entry.path().join(bin))
            .collect::<Vec<_>>()
    };
    VERSIONED_FOLDERS.iter().flat_map(versions).collect()
}

/// `postgres (PostgreSQL) 17.2 (Debian 17.2-1)` → 17; also `18beta1` and `19devel`.
fn major_version(told: &str) -> Option<u32> {
    let version = told.split_whitespace().nth(2)?;
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// No PostgreSQL server that is new enough is installed; the message says what to do about it.
#[derive(Debug, thiserror::Error)]
pub struct NotInstalled {
    /// What is installed, but too old.
    found: Vec<Installation>,
}

impl fmt::Display for NotInstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match env::var_os(OVERRIDE).filter(|bin| !bin.is_empty()) {
            Some(bin) => write!(
                f,
                "{OVERRIDE} is {}, which does not hold {} of PostgreSQL {OLDEST_VERSION} or newer",
                bin.to_string_lossy(),
                PROGRAMS.join(", ")
            )?,
            None => write!(f, "no server of PostgreSQL {OLDEST_VERSION} or newer is installed")?,
        }
        for old in &self.found {
            write!(f, " ({} is version {})", old.bin.display(), old.version)?;
        }
        match install_command(env::var_os("PATH").unwrap_or_default()) {
            Some(command) => write!(f, ": install it with `{command}`")?,
            None => write!(f, ": install it with this system's packages")?,
        }
        write!(f, ", or set DATABASE_URL to a server of your own")
    }
}

/// The command for the first package manager that is found in `path`.
fn install_command(path: OsString) -> Option<&'static str> {
    let folders: Vec<_> = env::split_paths(&path).collect();
    let present = |program: &str| folders.iter().any(|folder| folder.join(program).is_file());
    INSTALL_COMMANDS.iter().find(|(manager, _)| present(manager)).map(|(_, command)| *command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation(bin: &str, version: u32) -> Installation {
        Installation { bin: bin.into(), version }
    }

    #[test]
    fn a_version_is_read_from_what_the_server_tells() {
        assert_eq!(major_version("postgres (PostgreSQL) 15.16 (Debian 15.16-0+deb12u1)\n"), Some(15));
        assert_eq!(major_version("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_version("sh: not found"), None);
    }

    #[test]
    fn the_newest_is_taken_and_the_first_of_equals() {
        let found = vec![installation("/a", 15), installation("/b", 17), installation("/c", 17)];
        assert_eq!(newest(found, |_| true).unwrap(), installation("/b", 17));
    }

    #[test]
    fn what_is_too_old_is_named_in_the_refusal() {
        let refusal = newest(vec![installation("/old/bin", 13)], |_| true).unwrap_err().to_string();
        assert!(refusal.contains("/old/bin is version 13"), "{refusal}");
        assert!(refusal.contains("DATABASE_URL"), "{refusal}");
    }

    #[test]
    fn no_package_manager_no_command() {
        assert_eq!(install_command("/nowhere".into()), None);
    }
}
