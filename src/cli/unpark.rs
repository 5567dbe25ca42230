//! `devhub projections unpark`: replays what a projection has set aside.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;

use super::data::Data;
use crate::aggregates::ids::TenantId;
use crate::clock::Clock;
use crate::config::LogFormat;
use crate::projections;
use crate::projections::parking::{self, Unparked, Which};

#[derive(Debug, Args)]
pub(super) struct UnparkArgs {
    /// The projection, such as leads.
    projection: String,
    /// Only records of this business.
    #[arg(long)]
    tenant: Option<TenantId>,
    /// Only records with this id.
    #[arg(long)]
    id: Option<String>,
    /// How to write what came of it.
    #[arg(long, default_value = "text")]
    format: LogFormat,
}

/// `devhub projections unpark`.
pub(super) async fn unpark(data: &Data, args: UnparkArgs) -> anyhow::Result<ExitCode> {
    let format = args.format;
    let unparked = replay(data, args).await?;
    match format {
        LogFormat::Json => println!("{}", serde_json::to_string_pretty(&unparked)?),
        LogFormat::Text => show(&unparked),
    }
    let still = unparked.iter().any(|record| record.refused.is_some());
    Ok(if still { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn show(unparked: &[Unparked]) {
    for Unparked { tenant_id, id, events, refused } in unparked {
        match refused {
            None => println!("{tenant_id} {id}: {events} events replayed"),
            Some(reason) => println!("{tenant_id} {id}: still parked: {reason}"),
        }
    }
    if unparked.is_empty() {
        println!("Nothing is parked there.");
    }
}

async fn replay(data: &Data, args: UnparkArgs) -> anyhow::Result<Vec<Unparked>> {
    data.migrate().await?;
    let database = data.connect().await?;
    let which = Which { tenant: args.tenant, id: args.id };
    let pool = &database.cell_of(args.tenant.unwrap_or(TenantId::Platform)).projector;
    let replayed = parking::unpark(pool, projections::all(), &args.projection, &which, Clock::system().now()).await;
    database.close().await;
    match replayed? {
        Some(unparked) => Ok(unparked),
        None => {
            let known: Vec<&str> = projections::all().iter().map(|model| model.name()).collect();
            bail!("there is no projection {}; there are {}", args.projection, known.join(", "))
        }
    }
}
