//! The database that a command works on: the one that was named, or a private one.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use secrecy::ExposeSecret;

use crate::api::App;
use crate::clock::Clock;
use crate::config::DataSettings;
use crate::event_store::{self, Database};
use crate::postgres::{Installation, Options, PrivateCluster};

/// A database, and the server if it is ours.
pub(super) struct Data {
    url: String,
    cluster: Option<PrivateCluster>,
}

impl Data {
    /// Finds the database; starts a private PostgreSQL if none was named.
    pub(super) async fn open(settings: &DataSettings) -> anyhow::Result<Self> {
        if let Some(url) = &settings.database_url {
            return Ok(Self { url: url.expose_secret().to_owned(), cluster: None });
        }
        let installation = Installation::find()?;
        match PrivateCluster::start(&settings.state_dir, &installation, &Options::default()).await {
            Ok(cluster) => Ok(Self { url: cluster.url(), cluster: Some(cluster) }),
            Err(error) => Err(error).context("the private PostgreSQL did not start"),
        }
    }

    /// The same for work beside a server that is running: its private PostgreSQL is used, and left to it.
    pub(super) async fn open_beside(settings: &DataSettings) -> anyhow::Result<Self> {
        if settings.database_url.is_none()
            && let Some(url) = PrivateCluster::served(&settings.state_dir)
        {
            return Ok(Self { url, cluster: None });
        }
        Self::open(settings).await
    }

    /// Whether the server is ours, and where its data is.
    pub(super) fn describe(&self) -> String {
        match &self.cluster {
            Some(cluster) => format!("private PostgreSQL in {}", cluster.folder().display()),
            None => "the PostgreSQL of DATABASE_URL".to_owned(),
        }
    }

    pub(super) async fn migrate(&self) -> anyhow::Result<()> {
        event_store::migrate(&self.url).await.context("the database could not be brought up to date")
    }

    pub(super) async fn connect(&self) -> anyhow::Result<Database> {
        Database::connect(&self.url).await.context("the database cannot be reached")
    }

    /// Brings the database up to date, does some work on it with everything running, and lets all of it finish. It needs
    /// no master key, wherever the server's is.
    pub(super) async fn work<T>(&self, work: impl AsyncFnOnce(&App) -> anyhow::Result<T>) -> anyhow::Result<T> {
        self.migrate().await?;
        let database = self.connect().await?;
        let (app, tasks) = App::start_without_keys(database.clone(), Clock::system()).await?;
        let worked = work(&app).await;
        drop(app);
        tasks.stop(Duration::from_secs(10)).await;
        database.close().await;
        worked
    }

    /// Stops the server if it is ours.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        if let Some(cluster) = self.cluster {
            cluster.stop().await.context("the private PostgreSQL did not stop")?;
        }
        Ok(())
    }
}

/// `devhub migrate`.
pub(super) async fn migrate(settings: &DataSettings) -> anyhow::Result<ExitCode> {
    let data = Data::open(settings).await?;
    let migrated = data.migrate().await;
    let described = data.describe();
    data.close().await?;
    migrated?;
    println!("The database is up to date ({described}).");
    Ok(ExitCode::SUCCESS)
}
