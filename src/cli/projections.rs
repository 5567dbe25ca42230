//! `devhub projections`: where the read models are, whether they are right, and making them anew from the log.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, Table as Grid};
use indicatif::{ProgressBar, ProgressStyle};

use super::data::Data;
use super::unpark::{UnparkArgs, unpark};
use crate::aggregates::ids::TenantId;
use crate::api::App;
use crate::config::{DataSettings, LogFormat};
use crate::event_store::directory;
use crate::projections::rebuild::{self, Detail, Overview, Rebuild, Rebuilt};
use crate::projections::verify::{self, Difference, Scope, Verification};

#[derive(Debug, Subcommand)]
pub(super) enum ProjectionsCommand {
    /// The read models, and how far each is.
    List(Output),
    /// How far one read model is, what was last done about it, and which records it has set aside.
    Status {
        /// Its name, such as leads.
        name: String,
        #[command(flatten)]
        output: Output,
    },
    /// Make a read model anew from the log.
    ///
    /// It is filled beside the one that is read, which serves until the new one takes its place in one transaction: no
    /// read fails, and none goes back in time. If it is interrupted, nothing has changed, and nothing is left behind.
    #[command(after_help = "Examples:\n  devhub projections rebuild leads\n  \
                            devhub projections rebuild customers --tenant TNT-001")]
    Rebuild {
        /// Its name, such as leads.
        name: String,
        /// Only this business's rows.
        #[arg(long)]
        tenant: Option<TenantId>,
        #[command(flatten)]
        output: Output,
    },
    /// Compare a read model with the log, row by row.
    ///
    /// Folds the log once more and names each row that is missing, unexpected or different. Ends with 1 if there is
    /// any.
    #[command(after_help = "Examples:\n  devhub projections verify leads\n  \
                            devhub projections verify invoices --tenant TNT-001 --sample 500 --format json")]
    Verify {
        /// Its name, such as leads.
        name: String,
        /// Only this business's rows.
        #[arg(long)]
        tenant: Option<TenantId>,
        /// Only about so many entities, picked at random from the log and from the rows.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        sample: Option<u32>,
        #[command(flatten)]
        output: Output,
    },
    /// Replay what was set aside, after the cause was mended.
    ///
    /// Each parked record takes the events that it has missed, in order. One whose events are still refused stays
    /// parked, with the new reason. Works beside servers that are running. Ends with 1 if anything is still parked.
    #[command(after_help = "Examples:\n  devhub projections unpark leads\n  \
                            devhub projections unpark leads --tenant TNT-001 --id LED-007")]
    Unpark(UnparkArgs),
}

#[derive(Debug, Args)]
pub(super) struct Output {
    /// How to write what came of it.
    #[arg(long, default_value = "text")]
    pub(super) format: LogFormat,
}

pub(super) async fn run(settings: &DataSettings, command: ProjectionsCommand) -> anyhow::Result<ExitCode> {
    let data = Data::open_beside(settings).await?;
    let done = match command {
        ProjectionsCommand::Unpark(which) => unpark(&data, which).await,
        ProjectionsCommand::List(output) => list(&data, &output).await,
        ProjectionsCommand::Status { name, output } => status(&data, &name, &output).await,
        ProjectionsCommand::Rebuild { name, tenant, output } => rebuild(&data, &name, tenant, &output).await,
        ProjectionsCommand::Verify { name, tenant, sample, output } => {
            verify(&data, &name, Scope { tenant, sample }, &output).await
        }
    };
    data.close().await?;
    done
}

/// Refuses a business that the log does not know: of none there is nothing to make anew or to compare.
async fn known(app: &App, tenant: Option<TenantId>) -> anyhow::Result<()> {
    let Some(tenant) = tenant else { return Ok(()) };
    if !directory::is_known(&app.database.cell_of(tenant).founder, tenant).await? {
        bail!("there is no business {tenant} here; leave --tenant out for all of them");
    }
    Ok(())
}

async fn list(data: &Data, output: &Output) -> anyhow::Result<ExitCode> {
    let cell = async |app: &App| Ok(rebuild::overview(app.database.cell_of(TenantId::Platform)).await?);
    let all: Vec<Overview> = data.work(cell).await?;
    match output.format {
        LogFormat::Json => println!("{}", serde_json::to_string_pretty(&all)?),
        LogFormat::Text => println!("{}", grid_of(&all)),
    }
    Ok(ExitCode::SUCCESS)
}

async fn status(data: &Data, name: &str, output: &Output) -> anyhow::Result<ExitCode> {
    let cell = async |app: &App| Ok(rebuild::detail(app.database.cell_of(TenantId::Platform), name).await?);
    let Some(detail) = data.work(cell).await? else { bail!("there is no projection {name}") };
    let Detail { overview, parked_records } = &detail;
    match output.format {
        LogFormat::Json => println!("{}", serde_json::to_string_pretty(&detail)?),
        LogFormat::Text => {
            println!("{}", grid_of(std::slice::from_ref(overview)));
            if !parked_records.is_empty() {
                println!(
                    "\nSet aside, the longest first; `devhub projections unpark {name}` once the cause is mended:"
                );
                let mut grid = grid(&["business", "record", "at", "event", "waiting", "reason"]);
                for parked in parked_records {
                    let numbers = (parked.position.to_string(), parked.events.to_string());
                    let (position, events) = (&numbers.0, &numbers.1);
                    grid.add_row([&parked.tenant_id, &parked.id, position, &parked.event_type, events, &parked.reason]);
                }
                println!("{grid}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn grid(header: &[&str]) -> Grid {
    let mut grid = Grid::new();
    grid.load_preset(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    grid
}

fn grid_of(all: &[Overview]) -> Grid {
    let mut grid =
        grid(&["projection", "position", "behind", "parked", "differences", "verified", "last rebuild", "stopped"]);
    for column in 1..5 {
        if let Some(column) = grid.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for projection in all {
        let verified = projection.verified_at.map(|at| at.format("%F %R").to_string()).unwrap_or_default();
        let rebuild = projection.rebuild.as_ref().map(|last| {
            let whose = last.tenant_id.as_ref().map(|tenant| format!(" {tenant}")).unwrap_or_default();
            format!("{}{whose}, {}", last.state, last.started_at.format("%F %R"))
        });
        grid.add_row([
            projection.name.clone(),
            projection.position.to_string(),
            projection.lag.to_string(),
            projection.parked.to_string(),
            projection.differences.to_string(),
            verified,
            rebuild.unwrap_or_default(),
            projection.stopped.clone().unwrap_or_default(),
        ]);
    }
    grid
}

/// A bar with rate and time left, on standard error; nothing where a program reads.
pub(super) fn bar(format: LogFormat) -> ProgressBar {
    match format {
        LogFormat::Json => ProgressBar::hidden(),
        LogFormat::Text => {
            let bar = ProgressBar::no_length();
            let style = ProgressStyle::with_template("{msg:<22} {wide_bar} {pos}/{len}  {per_sec}  {eta} left");
            if let Ok(style) = style { bar.with_style(style) } else { bar }
        }
    }
}

pub(super) fn show_progress(bar: &ProgressBar, what: String, position: i64, target: i64) {
    bar.set_length(u64::try_from(target).unwrap_or(0));
    bar.set_position(u64::try_from(position).unwrap_or(0));
    bar.set_message(what);
}

async fn rebuild(data: &Data, name: &str, tenant: Option<TenantId>, output: &Output) -> anyhow::Result<ExitCode> {
    let bar = bar(output.format);
    let rebuilt: Rebuilt = data
        .work(async |app| {
            known(app, tenant).await?;
            let rebuild = Rebuild::begin(app.database.cell_of(TenantId::Platform), &app.clock, name, tenant).await?;
            let watch = |record: &rebuild::Record| {
                show_progress(&bar, record.state.replace('_', " "), record.position, record.target);
            };
            rebuild.run(watch).await.context("the read model that there was goes on being read")
        })
        .await?;
    bar.finish_and_clear();
    match output.format {
        LogFormat::Json => println!("{}", serde_json::to_string_pretty(&rebuilt)?),
        LogFormat::Text => {
            let whose = rebuilt.tenant_id.map(|tenant| format!(" of {tenant}")).unwrap_or_default();
            println!(
                "{}{whose} was made anew up to position {}: {} rows in {}.{:03} s; the projector waited {} ms for it.",
                rebuilt.projection,
                rebuilt.position,
                rebuilt.rows,
                rebuilt.milliseconds / 1_000,
                rebuilt.milliseconds % 1_000,
                rebuilt.held_milliseconds
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn verify(data: &Data, name: &str, scope: Scope, output: &Output) -> anyhow::Result<ExitCode> {
    let bar = bar(output.format);
    let record: verify::Record = data
        .work(async |app| {
            known(app, scope.tenant).await?;
            let cell = app.database.cell_of(TenantId::Platform);
            let verification = Verification::begin(cell, &app.clock, name, scope).await?;
            let watch = |position, target| show_progress(&bar, format!("replaying {name}"), position, target);
            Ok(verification.run(watch).await?)
        })
        .await?;
    bar.finish_and_clear();
    match output.format {
        LogFormat::Json => println!("{}", serde_json::to_string_pretty(&record)?),
        LogFormat::Text => show(&record),
    }
    Ok(if record.differences == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(record: &verify::Record) {
    let verify::Record { projection, rows, differences, position, found, .. } = record;
    if *differences == 0 {
        println!("{projection} is as the log says: {rows} rows, compared at position {position}.");
        return;
    }
    let mut grid = grid(&["table", "tenant", "id", "position", "column", "read model", "log"]);
    for difference in &found.0 {
        for [column, live, replayed] in told(difference) {
            let Difference { table, tenant_id, id, position, .. } = difference;
            let position = position.map(|position| position.to_string()).unwrap_or_default();
            grid.add_row([table.clone(), tenant_id.clone(), id.clone(), position, column, live, replayed]);
        }
    }
    println!("{grid}");
    println!("{projection} differs from the log in {differences} of {rows} rows, compared at position {position}.");
    if *differences > i64::try_from(found.len()).unwrap_or(i64::MAX) {
        println!("The first {} of them are shown.", found.len());
    }
}

fn told(difference: &Difference) -> Vec<[String; 3]> {
    if difference.columns.is_empty() {
        return vec![[difference.kind.to_string(), String::new(), String::new()]];
    }
    let columns = difference.columns.iter();
    columns.map(|column| [column.column.clone(), column.live.to_string(), column.replayed.to_string()]).collect()
}
