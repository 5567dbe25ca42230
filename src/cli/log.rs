//! `devhub log`: whether the log is whole.

use std::process::ExitCode;

use clap::Subcommand;

use super::data::Data;
use super::projections::{Output, bar, grid, show_progress};
use crate::aggregates::ids::TenantId;
use crate::config::{DataSettings, LogFormat};
use crate::event_store::chain::{self, Walked};

#[derive(Debug, Subcommand)]
pub(super) enum LogCommand {
    /// Look whether the log is whole.
    ///
    /// Reads every event: whether positions are dense, over all and for each business, whether each hash follows from
    /// the one before it, whether no event stands there twice, and whether the log ends where its head says. Changes
    /// nothing, and works beside servers that are running. Ends with 1 if anything is wrong.
    #[command(after_help = "Examples:\n  devhub log verify\n  devhub log verify --tenant TNT-001 --format json")]
    Verify {
        /// Only this business's events.
        #[arg(long)]
        tenant: Option<TenantId>,
        #[command(flatten)]
        output: Output,
    },
}

pub(super) async fn run(settings: &DataSettings, command: LogCommand) -> anyhow::Result<ExitCode> {
    let LogCommand::Verify { tenant, output } = command;
    let data = Data::open_beside(settings).await?;
    let walked = verify(&data, tenant, output.format).await;
    data.close().await?;
    let walked = walked?;
    match output.format {
        LogFormat::Json => println!("{}", serde_json::to_string_pretty(&walked)?),
        LogFormat::Text => show(&walked),
    }
    Ok(if walked.faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Without a server on it: none would start on a log that was cut off.
async fn verify(data: &Data, tenant: Option<TenantId>, format: LogFormat) -> anyhow::Result<Walked> {
    data.migrate().await?;
    let database = data.connect().await?;
    let bar = bar(format);
    let cell = database.cell_of(tenant.unwrap_or(TenantId::Platform));
    let walked =
        chain::walk(cell, tenant, |at, upto| show_progress(&bar, "reading the log".to_owned(), at, upto)).await;
    bar.finish_and_clear();
    database.close().await;
    Ok(walked?)
}

fn show(walked: &Walked) {
    let Walked { tenant_id, position, events, tenants, faults, found } = walked;
    let whose = tenant_id.map_or_else(|| format!("{tenants} businesses"), |tenant| tenant.to_string());
    if *faults == 0 {
        println!("The log is whole: {events} events of {whose}, up to position {position}.");
        return;
    }
    let mut grid = grid(&["position", "business", "what is wrong"]);
    for fault in found {
        let tenant = fault.tenant_id.map(|tenant| tenant.to_string()).unwrap_or_default();
        grid.add_row([fault.position.to_string(), tenant, fault.what.clone()]);
    }
    println!("{grid}");
    println!("{faults} faults in {events} events of {whose}, up to position {position}.");
    if *faults > found.len() as u64 {
        println!("The first {} of them are shown.", found.len());
    }
}
