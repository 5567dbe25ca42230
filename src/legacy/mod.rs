//! The old application's database becomes history: each row as the events that it implies, at the times at which they
//! happened, through the ordinary append path, so that no read model, audit or report needs a special case.
//!
//! ```text
//! old database ─ one snapshot ─► staged rows ─► names ─► plan ─► the log ─► read models
//!                                    │                    │
//!                                    └── three heaps: replayed, repaired (named), quarantined (with the reason)
//! ```
//!
//! A run that is interrupted while it reads or plans begins again; one that is interrupted while it appends goes on.
//! A second run finds what is new, changed or gone since, and nothing else.

mod accounts;
mod amount;
mod append;
mod maps;
mod old;
mod planner;
mod progress;
pub mod quarantine;
mod reading;
pub mod report;
mod source;
mod staging;
mod steps;
mod tables;
mod telling;
pub mod verify;
mod wishes;
mod words;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use uuid::Uuid;

pub use accounts::NeedsReset;
pub use maps::Mapping;
pub use old::Repair;
pub use progress::Progress;
pub use report::Report;
pub use source::Shape;
pub use staging::{Heap, Status};
pub use tables::{Revision, Table};

use self::append::Replay;
use self::maps::Maps;
use self::planner::Planner;
use self::source::Source;
use self::staging::{Interrupted, Staging};
use crate::aggregates::ids::TenantId;
use crate::aggregates::tenant::Tenant;
use crate::api::App;
use crate::clock::new_event_id;
use crate::event_store::{AppendError, LoadError, StreamId};
use crate::founding;

/// How long the read models may take to catch up with a run.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(3_600);

/// Why an import stopped. Rows never do that: only what no row is to blame for.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The old database cannot be read, or is none.
    #[error("the old database: {0}")]
    Source(String),
    /// Another run is at work.
    #[error("another import is at work; wait for it to end")]
    Busy,
    /// There is no such business.
    #[error("{0} is no business that old data can be brought into")]
    NoTenant(TenantId),
    /// So many rows are gone that this is more likely the wrong database.
    #[error(
        "{gone} of the {imported} rows of {table} that were imported are not in this database any more; \
         if that is right, say so with --accept-deletions"
    )]
    ManyGone {
        /// Whose rows.
        table: &'static str,
        /// How many are gone.
        gone: u64,
        /// How many there were.
        imported: i64,
    },
    /// A database failed.
    #[error("a database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The log did not take something.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The log could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The read models did not catch up.
    #[error("everything is imported, and {0}")]
    Lagging(#[from] crate::projections::Lagging),
    /// A read model does not move, so there is nothing to wait for.
    #[error(
        "everything is in the log, and the read model {projection} has stopped: {reason}; \
         see `devhub projections status {projection}`"
    )]
    Stopped {
        /// Which.
        projection: String,
        /// Why.
        reason: String,
    },
    /// A row or an event could not be written down or read back.
    #[error("a row cannot be written down: {0}")]
    Encode(serde_json::Error),
    /// Something else that a run needs.
    #[error("{0}")]
    Other(String),
}

/// What is asked of an import.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose history it becomes.
    pub tenant: TenantId,
    /// Do everything but append.
    pub dry_run: bool,
    /// Many rows being gone is no mistake.
    pub accept_deletions: bool,
    /// Values that are to be read as others.
    pub mappings: Vec<Mapping>,
}

/// One run at work.
struct Run<'a> {
    app: &'a App,
    staging: Staging,
    tenant: TenantId,
    import_id: Uuid,
    started_at: DateTime<Utc>,
    revision: String,
    progress: &'a Progress,
}

/// Brings an old database into a tenant's history.
///
/// # Errors
/// [`ImportError`]; what was appended stays, and the next run goes on from there.
pub async fn import(
    app: &App,
    from: &SecretString,
    options: &Options,
    progress: &Progress,
) -> Result<Report, ImportError> {
    alone(app, options, progress, async |staging| import_locked(app, staging, from, options, progress).await).await
}

/// Keeps other runs out while one is at work.
async fn alone(
    app: &App,
    options: &Options,
    progress: &Progress,
    work: impl AsyncFnOnce(Staging) -> Result<Report, ImportError>,
) -> Result<Report, ImportError> {
    let staging = Staging::new(app.database.cell_of(options.tenant).importer.clone(), options.tenant);
    let lock = staging.lock().await?;
    let worked = work(staging).await;
    progress.end();
    Staging::unlock(lock).await;
    worked
}

async fn import_locked(
    app: &App,
    staging: Staging,
    from: &SecretString,
    options: &Options,
    progress: &Progress,
) -> Result<Report, ImportError> {
    let mut source = Source::open(from).await?;
    let resumed = if options.dry_run {
        refuse_if_unfinished(&staging).await?;
        0
    } else {
        prepare_tenant(app, options.tenant).await?;
        resume(app, &staging, options.tenant, &mut source, progress).await?
    };
    let revision = source.shape.revision.clone();
    let run = Run::begin(app, staging, options, &source.address, revision, progress).await?;
    run.or_give_up(run.whole(source, options, resumed).await).await
}

/// A dry run leaves no trace, so it cannot go on with what another run left.
async fn refuse_if_unfinished(staging: &Staging) -> Result<(), ImportError> {
    match staging.interrupted().await? {
        Some(Interrupted { status: Status::Appending, .. }) => Err(ImportError::Other(
            "an import was interrupted while it appended; let it finish first, by running it without --dry-run".into(),
        )),
        _ => Ok(()),
    }
}

/// Waits until the read models have taken everything up to `position`; not for one that has stopped.
async fn caught_up(app: &App, position: i64, patience: std::time::Duration) -> Result<(), ImportError> {
    let mut progress = app.projections.watch();
    let stopped = async {
        loop {
            if let Some(stopped) = progress.borrow_and_update().stopped.first().cloned() {
                return stopped;
            }
            if progress.changed().await.is_err() {
                // Nobody tells any more: whoever waits is told so.
                return std::future::pending().await;
            }
        }
    };
    tokio::select! {
        biased;
        reached = app.projections.reached(position, patience) => Ok(reached?),
        (projection, reason) = stopped => Err(ImportError::Stopped { projection, reason }),
    }
}

/// Sees to it that the business is there.
async fn prepare_tenant(app: &App, tenant: TenantId) -> Result<(), ImportError> {
    founding::ensure_tenants(app).await.map_err(|error| ImportError::Other(format!("{error:#}")))?;
    let there = app.store.streams().load::<Tenant>(&StreamId::of_tenant(tenant)).await?.version > 0;
    if there && tenant != TenantId::Platform { Ok(()) } else { Err(ImportError::NoTenant(tenant)) }
}

/// Finishes what an interrupted run left. Returns the number of events that were still to be appended.
async fn resume(
    app: &App,
    staging: &Staging,
    tenant: TenantId,
    source: &mut Source,
    progress: &Progress,
) -> Result<i64, ImportError> {
    let Some(left) = staging.interrupted().await? else { return Ok(0) };
    let appending = left.status == Status::Appending;
    let run = Run::taken_up(app, staging, tenant, left, progress);
    if !appending {
        run.give_up().await;
        return Ok(0);
    }
    let before = run.appended().await?;
    let shape = source.shape.clone();
    let report = Report::begin(&run.facts(&shape, false));
    run.append(report, Some(source.hashes().await?), 0).await?;
    Ok(run.appended().await? - before)
}

impl<'a> Run<'a> {
    /// A run that was interrupted.
    fn taken_up(app: &'a App, staging: &Staging, tenant: TenantId, left: Interrupted, progress: &'a Progress) -> Self {
        let Interrupted { import_id, started_at, revision, .. } = left;
        Self { app, staging: staging.clone(), tenant, import_id, started_at, revision, progress }
    }

    /// A run that knows nothing yet, with empty tables.
    async fn begin(
        app: &'a App,
        staging: Staging,
        options: &Options,
        source: &str,
        revision: String,
        progress: &'a Progress,
    ) -> Result<Self, ImportError> {
        let started_at = app.clock.now();
        let import_id = new_event_id(started_at);
        staging.clear().await?;
        staging.begin(import_id, source, &revision, options.dry_run, started_at).await?;
        Ok(Self { app, staging, tenant: options.tenant, import_id, started_at, revision, progress })
    }

    /// What came of the run; one that failed is ended.
    async fn or_give_up(&self, made: Result<Report, ImportError>) -> Result<Report, ImportError> {
        if made.is_err() {
            self.give_up().await;
        }
        made
    }

    async fn whole(&self, mut source: Source, options: &Options, resumed: i64) -> Result<Report, ImportError> {
        let maps = self.staging.maps(&options.mappings).await?;
        let last_moment = source.last_moment(self.started_at).await?.unwrap_or(self.started_at);
        let read =
            reading::stage(&self.staging, &mut source, self.import_id, options.accept_deletions, self.progress).await?;
        let shape = source.shape.clone();
        let hashes = Some(source.hashes().await?);
        source.close().await?;
        let idle = self.stage_mapped(options).await?;
        self.plan(maps, read.founder, last_moment, options.dry_run).await?;
        let mut report = Report::begin(&self.facts(&shape, options.dry_run));
        report.idle_mappings = idle;
        report.read(&read);
        self.carry_out(report, hashes, options, resumed).await
    }

    /// Does what is planned, or for a dry run says what it would come to and leaves no trace.
    async fn carry_out(
        &self,
        mut report: Report,
        hashes: Option<accounts::Hashes>,
        options: &Options,
        resumed: i64,
    ) -> Result<Report, ImportError> {
        if options.dry_run {
            report.finish(self, hashes.as_ref(), resumed).await?;
            report.advise(self).await?;
            self.staging.clear().await?;
            let kept = serde_json::to_value(&report).map_err(ImportError::Encode)?;
            self.staging.end(self.import_id, Status::Done, Some(&kept), self.app.clock.now()).await?;
            return Ok(report);
        }
        self.staging.keep_maps(&options.mappings).await?;
        self.staging.planned(self.import_id).await?;
        self.append(report, hashes, resumed).await
    }

    /// Stages rows that came in before and are to be read otherwise now. Returns the replacements that touch nothing.
    async fn stage_mapped(&self, options: &Options) -> Result<Vec<String>, ImportError> {
        let new = self.staging.new_maps(&options.mappings).await?;
        let touched = self.staging.stage_mapped(&new).await?;
        Ok(new.iter().zip(touched).filter(|(_, rows)| *rows == 0).map(|(mapping, _)| mapping.to_string()).collect())
    }

    /// Gives every row a name that nobody else takes from then on; a dry run takes none from anybody.
    async fn name_rows(&self, founder: Option<i64>, dry_run: bool) -> Result<(), ImportError> {
        loop {
            let head = self.staging.head().await?;
            reading::name_rows(&self.staging, founder).await?;
            if dry_run {
                return Ok(());
            }
            for (prefix, next) in reading::next_numbers(&self.staging).await? {
                self.app.store.reserve_numbers(self.tenant, prefix, next).await?;
            }
            if self.staging.take_back_names(head, &reading::kinds_of_streams()).await? == 0 {
                return Ok(());
            }
        }
    }

    /// Gives every row its name and plans its events.
    async fn plan(
        &self,
        maps: Maps,
        founder: Option<i64>,
        last_moment: DateTime<Utc>,
        dry_run: bool,
    ) -> Result<(), ImportError> {
        self.staging.set_status(self.import_id, Status::Planning).await?;
        self.progress.part("naming", 0);
        self.name_rows(founder, dry_run).await?;
        let staged: i64 = sqlx::query_scalar("select count(*) from legacy_staged where tenant_id = $1")
            .bind(self.staging.tenant())
            .fetch_one(&self.staging.pool)
            .await?;
        self.progress.part("working out events", u64::try_from(staged).unwrap_or(0));
        let planner = Planner {
            staging: &self.staging,
            store: &self.app.store,
            platform: &self.app.access.pool,
            maps: &Arc::new(maps),
            maps_before: &Arc::new(self.staging.maps(&[]).await?),
            tenant: self.tenant,
            now: self.started_at,
            last_moment,
            founder,
            progress: self.progress,
        };
        planner.plan().await
    }

    /// Appends the plan and settles what came of every row.
    ///
    /// Without hashes, nobody's password is taken over, and whoever needs another is as the report says already.
    async fn append(
        &self,
        mut report: Report,
        hashes: Option<accounts::Hashes>,
        resumed: i64,
    ) -> Result<Report, ImportError> {
        let planned: i64 = sqlx::query_scalar("select planned_events from legacy_imports where import_id = $1")
            .bind(self.import_id)
            .fetch_one(&self.staging.pool)
            .await?;
        self.staging.analyze(&["legacy_plan", "legacy_staged", "legacy_outcomes"]).await?;
        self.progress.part("appending", u64::try_from(planned).unwrap_or(0));
        let replay = Replay {
            staging: &self.staging,
            store: &self.app.store,
            import_id: self.import_id,
            revision: &self.revision,
            progress: self.progress,
        };
        let (position, refused) = replay.run().await?;
        self.progress.part("settling", 0);
        if let Some(hashes) = &hashes {
            accounts::take_over(self, hashes).await?;
        }
        report.finish(self, hashes.as_ref(), resumed - refused).await?;
        // The log has everything: whether the read models have is no reason to begin again.
        let kept = serde_json::to_value(&report).map_err(ImportError::Encode)?;
        self.staging.settle(self.import_id, &kept, self.app.clock.now()).await?;
        caught_up(self.app, position, PATIENCE).await?;
        report.advise(self).await?;
        let kept = serde_json::to_value(&report).map_err(ImportError::Encode)?;
        self.staging.keep_report(self.import_id, &kept).await?;
        Ok(report)
    }

    /// Ends a run that cannot go on; one that was appending is left to the next, and one that is done is done.
    async fn give_up(&self) {
        let ended = async {
            let status: String = sqlx::query_scalar("select status from legacy_imports where import_id = $1")
                .bind(self.import_id)
                .fetch_one(&self.staging.pool)
                .await?;
            if [Status::Appending, Status::Done].iter().any(|kept| status == <&str>::from(*kept)) {
                return Ok(());
            }
            self.staging.clear().await?;
            self.staging.end(self.import_id, Status::Failed, None, self.app.clock.now()).await
        };
        let ended: Result<(), ImportError> = ended.await;
        if let Err(error) = ended {
            tracing::warn!(%error, "the traces of an unfinished import stay until the next: {error}");
        }
    }

    /// How many of the planned events are known to be in the log.
    async fn appended(&self) -> Result<i64, ImportError> {
        Ok(sqlx::query_scalar("select appended_events from legacy_imports where import_id = $1")
            .bind(self.import_id)
            .fetch_one(&self.staging.pool)
            .await?)
    }

    fn facts(&self, shape: &Shape, dry_run: bool) -> report::Facts {
        report::Facts {
            import_id: self.import_id,
            tenant: self.tenant,
            shape: shape.clone(),
            dry_run,
            started_at: self.started_at,
        }
    }
}
