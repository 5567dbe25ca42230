//! `devhub load`: drives a running server, for whoever sizes a machine.

use std::net::{IpAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use crate::config::LogFormat;
use crate::load::mix::Mix;
use crate::load::{self, LoadReport, Plan};

/// What to ask of the server.
#[derive(Debug, Args)]
pub struct LoadSettings {
    /// The server, as `http://host:port`.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,

    /// Requests that are on their way at once; each connection belongs to one business.
    #[arg(long, default_value = "16", value_parser = clap::value_parser!(u16).range(1..=4096))]
    connections: u16,

    /// How long, in seconds.
    #[arg(long, default_value = "30", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,

    /// How often each kind of request is made, relative to the others: one record, a page of a list, a change,
    /// a question over everything.
    #[arg(long, default_value = "read=50,list=25,command=20,report=5")]
    mix: Mix,

    /// Businesses that register for it.
    #[arg(long, default_value = "10", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    tenants: u16,

    /// Leads that each has before it begins.
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    leads: u32,

    /// Also a server on another machine. What this writes stays in that server's history for ever.
    #[arg(long)]
    remote: bool,

    /// How to write the result.
    #[arg(long, default_value = "text")]
    format: LogFormat,
}

pub(super) async fn run(settings: LoadSettings) -> anyhow::Result<ExitCode> {
    let address = address(&settings.url, settings.remote)?;
    let plan = Plan {
        address,
        connections: settings.connections.into(),
        time: Duration::from_secs(settings.seconds.into()),
        mix: settings.mix,
        tenants: settings.tenants.into(),
        leads: usize::try_from(settings.leads)?,
    };
    let report = load::run(&plan, true).await.with_context(|| format!("{} could not be measured", settings.url))?;
    match settings.format {
        LogFormat::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        LogFormat::Text => show(&report),
    }
    let all_answered = report.actions.iter().all(|line| line.refused.is_empty());
    Ok(if all_answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `host:port` of a server that may be written to.
fn address(url: &str, remote: bool) -> anyhow::Result<String> {
    let Some(rest) = url.strip_prefix("http://") else {
        bail!("{url} does not begin with http://; measure beside the server, not through what encrypts in front of it");
    };
    let address = rest.trim_end_matches('/').to_owned();
    let address = if address.contains(':') { address } else { format!("{address}:80") };
    let found = address.to_socket_addrs().with_context(|| format!("there is no {address}"))?;
    let here = found.map(|address| address.ip()).all(|ip: IpAddr| ip.is_loopback());
    if !here && !remote {
        bail!(
            "{address} is another machine, and what this writes stays in its history for ever; \
             say --remote if it is there to be measured"
        );
    }
    Ok(address)
}

fn show(report: &LoadReport) {
    println!(
        "{:.0} requests a second: {} connections of {} businesses for {:.0} s, {}\n",
        report.per_second, report.connections, report.tenants, report.seconds, report.mix
    );
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["", "answered", "a second", "p50 ms", "p90", "p99", "p99.9", "longest", "refused"]);
    for line in &report.actions {
        let refused = line.refused.iter().map(|(status, times)| match status {
            0 => format!("{times} × no answer"),
            status => format!("{times} × {status}"),
        });
        let times = [line.p50_ms, line.p90_ms, line.p99_ms, line.p999_ms, line.max_ms].map(|ms| format!("{ms:.2}"));
        let counts = [line.action.name().to_owned(), line.requests.to_string(), format!("{:.0}", line.per_second)];
        table.add_row(counts.into_iter().chain(times).chain([refused.collect::<Vec<_>>().join(", ")]));
    }
    for column in 1..8 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    println!("{table}");
    if report.actions.iter().any(|line| line.refused.contains_key(&429)) {
        println!(
            "\n429 is the server's rate limit: start it with DEVHUB_USER_RATE and DEVHUB_TENANT_RATE as high as you need."
        );
    }
}
