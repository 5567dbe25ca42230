//! `devhub legacy`: the old application's database, its import, its quarantine, its proof.

use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{CellAlignment, ContentArrangement, Table as Grid};
use secrecy::SecretString;

use super::data::Data;
use crate::aggregates::ids::TenantId;
use crate::config::{DataSettings, LogFormat};
use crate::legacy::quarantine::{self, Quarantined, Which};
use crate::legacy::{self, ImportError, Mapping, Options, Progress, Report, Table};

/// Rows of the quarantine that are read at once.
const PAGE: i64 = 1_000;

#[derive(Debug, Subcommand)]
pub(super) enum LegacyCommand {
    /// Replay an old database into events.
    ///
    /// Reads one consistent snapshot and never writes to it. Every row ends in one of three heaps: replayed, replayed
    /// with a named repair, or quarantined with the reason. A second run appends what is new or has changed since; one
    /// that was interrupted is finished first.
    #[command(after_help = "Examples:\n  devhub legacy import --from postgres://old-server/devhub --dry-run\n  \
                            devhub legacy import --from postgres://old-server/devhub\n  \
                            devhub legacy import --from … --map 'leads.stage:???=contacted'")]
    Import(ImportArgs),
    /// Compare every row of the old database, field by field, with what the read models say today.
    ///
    /// Ends with 1 if anything differs that neither a named repair nor a later change explains.
    Verify(VerifyArgs),
    /// Work off the rows that were kept aside.
    Quarantine {
        #[command(subcommand)]
        command: QuarantineCommand,
    },
}

#[derive(Debug, Args)]
pub(super) struct Common {
    /// The business whose history it is.
    #[arg(long, default_value = "DEV-000")]
    tenant: TenantId,
    /// How to write what came of it.
    #[arg(long, default_value = "text")]
    format: LogFormat,
}

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// The old database, as postgres://user:password@host:5432/database.
    #[arg(long, env = "DEVHUB_LEGACY_URL", hide_env_values = true)]
    from: SecretString,
    /// Do everything but append, and print the same report.
    #[arg(long)]
    dry_run: bool,
    /// Read a value as another, now and in later runs: table.column:old=new, or table/row.column=new for one row.
    #[arg(long = "map", value_name = "MAPPING")]
    mappings: Vec<Mapping>,
    /// It is right that many rows are gone from the old database: delete what they became.
    #[arg(long)]
    accept_deletions: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The old database, as postgres://user:password@host:5432/database.
    #[arg(long, env = "DEVHUB_LEGACY_URL", hide_env_values = true)]
    from: SecretString,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
pub(super) enum QuarantineCommand {
    /// The rows that were kept aside, each with its reason.
    List {
        /// Of one table only.
        #[arg(long)]
        table: Option<Table>,
        /// For one reason only.
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// One row, whole.
    Show {
        /// Its table.
        table: Table,
        /// Its number in that table.
        key: i64,
        #[command(flatten)]
        common: Common,
    },
    /// Try rows again as they were last read.
    ///
    /// After a fix in the old database, run the import again instead: it reads what was fixed.
    Retry {
        /// Of one table only.
        #[arg(long)]
        table: Option<Table>,
        /// One row of it.
        #[arg(long, requires = "table")]
        key: Option<i64>,
        /// Read a value as another, now and in later runs: table.column:old=new, or table/row.column=new for one row.
        #[arg(long = "map", value_name = "MAPPING")]
        mappings: Vec<Mapping>,
        /// Do everything but append, and print the same report.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        common: Common,
    },
}

pub(super) async fn run(settings: &DataSettings, command: LegacyCommand) -> anyhow::Result<ExitCode> {
    let data = Data::open_beside(settings).await?;
    let done = match command {
        LegacyCommand::Import(args) => import(&data, args).await,
        LegacyCommand::Verify(args) => verify(&data, args).await,
        LegacyCommand::Quarantine { command } => quarantined(&data, command).await,
    };
    data.close().await?;
    done
}

fn progress(format: LogFormat) -> Progress {
    match format {
        LogFormat::Text => Progress::shown(),
        LogFormat::Json => Progress::hidden(),
    }
}

async fn import(data: &Data, args: ImportArgs) -> anyhow::Result<ExitCode> {
    let ImportArgs { from, dry_run, mappings, accept_deletions, common } = args;
    let options = Options { tenant: common.tenant, dry_run, accept_deletions, mappings };
    let progress = progress(common.format);
    let report = data
        .work(async |app| {
            match legacy::import(app, &from, &options, &progress).await {
                // There is nothing to go on with.
                Err(error @ (ImportError::Lagging(_) | ImportError::Stopped { .. })) => Err(error.into()),
                made => made.context("the import stopped; run it again to go on"),
            }
        })
        .await?;
    show(&report, common.format)?;
    Ok(ExitCode::SUCCESS)
}

async fn verify(data: &Data, args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let VerifyArgs { from, common } = args;
    let progress = progress(common.format);
    let proof = data
        .work(async |app| {
            legacy::verify::verify(app, &from, common.tenant, &progress).await.context("the comparison stopped")
        })
        .await?;
    match common.format {
        LogFormat::Json => println!("{}", serde_json::to_string_pretty(&proof)?),
        LogFormat::Text => print!("{}", legacy::verify::described(&proof)),
    }
    Ok(if proof.differences.is_empty() && proof.left_out == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn quarantined(data: &Data, command: QuarantineCommand) -> anyhow::Result<ExitCode> {
    match command {
        QuarantineCommand::List { table, reason, common } => {
            let which = Which { table, reason, limit: PAGE, ..Which::default() };
            list(data, which, &common).await
        }
        QuarantineCommand::Show { table, key, common } => {
            let which = Which { table: Some(table), key: Some(key), limit: 1, ..Which::default() };
            let rows = data
                .work(async |app| {
                    let pool = &app.database.cell_of(common.tenant).importer;
                    Ok(quarantine::list(pool, common.tenant, &which).await?)
                })
                .await?;
            let Some(row) = rows.first() else { bail!("row {key} of {} is not in quarantine", table.name()) };
            show_row(row, common.format)?;
            Ok(ExitCode::SUCCESS)
        }
        QuarantineCommand::Retry { table, key, mappings, dry_run, common } => {
            let options = Options { tenant: common.tenant, dry_run, accept_deletions: false, mappings };
            let which = Which { table, key, ..Which::default() };
            let progress = progress(common.format);
            let report = data.work(async |app| Ok(quarantine::retry(app, &options, &which, &progress).await?)).await?;
            show(&report, common.format)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Page by page, so that a long list needs no more memory than a short one.
async fn list(data: &Data, mut which: Which, common: &Common) -> anyhow::Result<ExitCode> {
    data.work(async |app| {
        let pool = &app.database.cell_of(common.tenant).importer;
        let mut found = 0;
        loop {
            let rows = quarantine::list(pool, common.tenant, &which).await?;
            let Some(last) = rows.last() else { break };
            which.after = Some((last.table.clone(), last.key));
            found += rows.len();
            match common.format {
                LogFormat::Json => {
                    for row in &rows {
                        println!("{}", serde_json::to_string(row)?);
                    }
                }
                LogFormat::Text => println!("{}", grid_of(&rows)),
            }
        }
        if common.format == LogFormat::Text {
            println!("{found} rows in quarantine. One whole: devhub legacy quarantine show <table> <row>.");
        }
        Ok(())
    })
    .await?;
    Ok(ExitCode::SUCCESS)
}

fn grid(header: &[&str]) -> Grid {
    let mut grid = Grid::new();
    grid.load_preset(UTF8_BORDERS_ONLY).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    grid
}

fn grid_of(rows: &[Quarantined]) -> Grid {
    let mut grid = grid(&["table", "row", "id", "reason", "in words"]);
    for row in rows {
        let id = row.legacy_id.clone().unwrap_or_default();
        grid.add_row([row.table.clone(), row.key.to_string(), id, row.reason.clone(), row.detail.clone()]);
    }
    grid
}

fn show_row(row: &Quarantined, format: LogFormat) -> anyhow::Result<()> {
    if format == LogFormat::Json {
        println!("{}", serde_json::to_string_pretty(row)?);
        return Ok(());
    }
    println!("{} {}  {}: {}\n", row.table, row.key, row.reason, row.detail);
    let mut grid = grid(&["column", "value"]);
    for (column, value) in row.row.as_object().into_iter().flatten() {
        grid.add_row([column.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)]);
    }
    println!("{grid}");
    for repair in &row.repairs {
        println!(
            "  {} of {}: {} → {}",
            repair.rule,
            repair.field,
            repair.before,
            repair.after.as_deref().unwrap_or("–")
        );
    }
    Ok(())
}

fn show(report: &Report, format: LogFormat) -> anyhow::Result<()> {
    if format == LogFormat::Json {
        println!("{}", serde_json::to_string_pretty(report)?);
        return Ok(());
    }
    let source = &report.source;
    println!("\nThe old database is at revision {}.", report.revision);
    for (what, things) in [
        ("Missing tables", &source.missing_tables),
        ("Missing columns", &source.missing_columns),
        ("Columns added by hand", &source.added_columns),
        ("Other tables, not read", &source.other_tables),
    ] {
        if !things.is_empty() {
            println!("{what}: {}.", things.join(", "));
        }
    }
    if let Some(remark) = &source.remark {
        println!("Note: {remark}.");
    }
    println!("{}\n", report.founder);
    let mut heaps = grid(&["table", "read", "replayed", "repaired", "quarantined", "events"]);
    for column in 1..6 {
        if let Some(column) = heaps.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for (name, table) in &report.tables {
        let numbers = [table.read, table.replayed, table.repaired, table.quarantined, table.events];
        heaps.add_row(std::iter::once(name.clone()).chain(numbers.map(|number| number.to_string())));
    }
    println!("{heaps}");
    for (name, table) in &report.tables {
        for (rule, rows) in &table.repairs {
            println!("  repaired     {name:<22} {rule:<32} {rows:>8}");
        }
    }
    for (name, table) in &report.tables {
        for (reason, rows) in &table.reasons {
            println!("  quarantined  {name:<22} {reason:<32} {rows:>8}");
        }
    }
    let seconds = report.milliseconds.max(1) / 1_000;
    let done = if report.dry_run { "would be appended" } else { "appended" };
    println!(
        "\n{} events {done} in {seconds}.{:03} s; {} rows new, {} changed, {} gone since the last run.",
        report.events,
        report.milliseconds % 1_000,
        report.new_rows,
        report.changed_rows,
        report.vanished_rows
    );
    if !report.needs_reset.is_empty() {
        println!("\nIn need of a new password:");
        for user in &report.needs_reset {
            println!("  {:<8} {:<40} {}", user.id, user.email, user.reasons.join(", "));
        }
    }
    println!();
    for next in &report.next {
        println!("→ {next}");
    }
    Ok(())
}
