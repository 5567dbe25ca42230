//! Every setting: its variable, its flag, its default.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use secrecy::SecretString;

use crate::api::limits::RateLimits;

/// Where the data is; every command takes it.
#[derive(Debug, Clone, Args)]
pub struct DataSettings {
    /// PostgreSQL 15 or newer, as postgres://user:password@host:5432/database.
    ///
    /// Left out, DevHub runs a private PostgreSQL of its own in the state folder: it listens on a socket that
    /// nobody else can reach, and stops with DevHub.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true)]
    pub database_url: Option<SecretString>,

    /// The folder for the private PostgreSQL, the master key and the sample sign-ins.
    #[arg(long, env = "DEVHUB_STATE_DIR", default_value = ".devhub", global = true)]
    pub state_dir: PathBuf,

    /// The key that seals signing keys and stored answers: 32 bytes, base64.
    ///
    /// Left out, it is made on the first start and kept in the state folder. Several servers on one database
    /// need the same one.
    #[arg(long, env = "DEVHUB_MASTER_KEY", hide_env_values = true, global = true)]
    pub master_key: Option<SecretString>,
}

/// How the server runs.
#[derive(Debug, Clone, Args)]
pub struct ServeSettings {
    /// The address to serve on.
    #[arg(long, env = "DEVHUB_LISTEN", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,

    /// The founder's e-mail address, used on the first start.
    #[arg(long, env = "DEVHUB_FOUNDER_EMAIL", default_value = "founder@devhub.local")]
    pub founder_email: String,

    /// The founder's password, used on the first start; one is made up and printed if this is left out.
    #[arg(long, env = "DEVHUB_FOUNDER_PASSWORD", hide_env_values = true)]
    pub founder_password: Option<SecretString>,

    /// Load the sample businesses, ACME Corporation and TechFlow Solutions, if no business is there yet.
    #[arg(long)]
    pub samples: bool,

    /// Requests that one user may make in a minute.
    #[arg(long, env = "DEVHUB_USER_RATE", default_value = "6000")]
    pub user_rate: NonZeroU32,

    /// Requests that all users of one business may make in a minute.
    #[arg(long, env = "DEVHUB_TENANT_RATE", default_value = "30000")]
    pub tenant_rate: NonZeroU32,

    /// Sign-ins, registrations and the like that one address may try in a minute.
    #[arg(long, env = "DEVHUB_SIGN_IN_RATE", default_value = "600")]
    pub sign_in_rate: NonZeroU32,

    /// A reverse proxy stands in front: believe the last address of X-Forwarded-For.
    #[arg(long, env = "DEVHUB_BEHIND_PROXY")]
    pub behind_proxy: bool,

    /// How log lines are written, on standard error.
    #[arg(long, env = "DEVHUB_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs, an object a line.
    Json,
}

impl ServeSettings {
    /// The rate limits.
    #[must_use]
    pub fn limits(&self) -> RateLimits {
        RateLimits {
            user_per_minute: self.user_rate,
            tenant_per_minute: self.tenant_rate,
            sign_in_per_minute: self.sign_in_rate,
            behind_proxy: self.behind_proxy,
        }
    }
}
