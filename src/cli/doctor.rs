//! `devhub doctor`: what this machine and database have and lack, and what is wrong with it. Changes nothing.

use std::process::ExitCode;
use std::str::FromStr;

use comfy_table::{Table, presets};
use secrecy::ExposeSecret;
use serde::Serialize;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Row};

use crate::access::secrets::MASTER_KEY_VARIABLE;
use crate::config::{DataSettings, LogFormat};
use crate::event_store;
use crate::postgres::{Installation, PrivateCluster};
use crate::projections::verify;

#[derive(Serialize)]
struct Finding {
    check: &'static str,
    ok: bool,
    detail: String,
}

impl Finding {
    fn good(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, ok: true, detail: detail.into() }
    }

    fn bad(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, ok: false, detail: detail.into() }
    }
}

pub(super) async fn run(settings: &DataSettings, format: LogFormat) -> anyhow::Result<ExitCode> {
    let mut findings = vec![binaries(settings), state_folder(settings), master_key(settings)];
    findings.extend(database(settings).await);
    let healthy = findings.iter().all(|finding| finding.ok);
    match format {
        LogFormat::Json => println!("{}", serde_json::to_string_pretty(&findings)?),
        LogFormat::Text => {
            let mut table = Table::new();
            table.load_preset(presets::NOTHING);
            for finding in &findings {
                table.add_row([if finding.ok { "ok" } else { "WRONG" }, finding.check, &finding.detail]);
            }
            println!("{table}");
            println!("\n{}", if healthy { "Nothing is wrong." } else { "Something is wrong; see above." });
        }
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn binaries(settings: &DataSettings) -> Finding {
    let needed = settings.database_url.is_none();
    match Installation::find() {
        Ok(found) => {
            Finding::good("PostgreSQL binaries", format!("version {} in {}", found.version, found.bin.display()))
        }
        Err(missing) if needed => Finding::bad("PostgreSQL binaries", missing.to_string()),
        Err(_) => Finding::good("PostgreSQL binaries", "none, and none needed with DATABASE_URL"),
    }
}

fn state_folder(settings: &DataSettings) -> Finding {
    let folder = &settings.state_dir;
    match std::fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => Finding::good("state folder", folder.display().to_string()),
        Ok(_) => Finding::bad("state folder", format!("{} is not a folder", folder.display())),
        Err(_) => Finding::good("state folder", format!("{} will be made on the first start", folder.display())),
    }
}

fn master_key(settings: &DataSettings) -> Finding {
    let origin = match &settings.master_key {
        Some(_) => format!("from {MASTER_KEY_VARIABLE}"),
        None => "in the state folder, made on the first start".to_owned(),
    };
    Finding::good("master key", origin)
}

async fn database(settings: &DataSettings) -> Vec<Finding> {
    let options = match &settings.database_url {
        Some(url) => PgConnectOptions::from_str(url.expose_secret()).map_err(|error| error.to_string()),
        None => PrivateCluster::running(&settings.state_dir)
            .ok_or_else(|| "the private PostgreSQL is not running; devhub serve starts it".to_owned()),
    };
    let options = match (options, settings.database_url.is_some()) {
        (Ok(options), _) => options,
        (Err(detail), true) => return vec![Finding::bad("database", detail)],
        (Err(detail), false) => return vec![Finding::good("database", detail)],
    };
    match PgConnection::connect_with(&options).await {
        Ok(mut connection) => match examine(&mut connection).await {
            Ok(findings) => findings,
            Err(error) => vec![Finding::bad("database", error.to_string())],
        },
        Err(error) => vec![Finding::bad("database", format!("cannot be reached: {error}"))],
    }
}

async fn examine(connection: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let row = sqlx::query(
        "select current_setting('server_version') as version,
                current_setting('server_version_num')::int >= 150000 as new_enough,
                current_setting('fsync') = 'on' and current_setting('full_page_writes') = 'on' as durable,
                (select count(*) from pg_roles where rolname like 'devhub\\_%') as roles,
                to_regclass('cell_000.events') is not null as migrated",
    )
    .fetch_one(&mut *connection)
    .await?;
    let version: String = row.try_get("version")?;
    let new_enough: bool = row.try_get("new_enough")?;
    let durable: bool = row.try_get("durable")?;
    let roles: i64 = row.try_get("roles")?;
    let migrated: bool = row.try_get("migrated")?;
    let mut findings = vec![
        if new_enough {
            Finding::good("server", version)
        } else {
            Finding::bad("server", format!("{version} is older than 15"))
        },
        if durable {
            Finding::good("durability", "fsync and full_page_writes are on")
        } else {
            Finding::bad("durability", "fsync or full_page_writes is off: a crash can lose acknowledged events")
        },
    ];
    if !migrated {
        findings.push(Finding::good("schema", "empty; devhub migrate or serve fills it"));
        return Ok(findings);
    }
    findings.push(if roles >= 6 {
        Finding::good("roles", format!("{roles} of devhub_*"))
    } else {
        Finding::bad("roles", format!("only {roles} of 6; run devhub migrate"))
    });
    let unmigrated = event_store::unmigrated(&mut *connection).await?;
    if !unmigrated.is_empty() {
        findings.push(Finding::bad("migrations", format!("{}; run devhub migrate", unmigrated.join(", "))));
        return Ok(findings);
    }
    findings.push(Finding::good("migrations", "all that this version knows, and no other"));
    let row = sqlx::query(
        "select (select position from cell_000.cell_head) as head,
                (select min(position) from cell_000.projection_checkpoints) as projected",
    )
    .fetch_one(&mut *connection)
    .await?;
    let head: i64 = row.try_get("head")?;
    let projected: Option<i64> = row.try_get("projected")?;
    findings.push(Finding::good("log", format!("{head} events")));
    findings.push(Finding::good(
        "read models",
        match projected {
            Some(position) if position >= head => "up to date".to_owned(),
            Some(position) => format!("{} events behind", head - position),
            None => "never ran; devhub serve feeds them".to_owned(),
        },
    ));
    findings.extend(projections(connection).await?);
    Ok(findings)
}

/// Read models that do not move, that have set something aside, or that are known to be wrong.
async fn projections(connection: &mut PgConnection) -> sqlx::Result<Vec<Finding>> {
    let stopped: Vec<(String, String)> = sqlx::query_as(
        "select projection, stopped_reason from cell_000.projection_checkpoints
         where stopped_reason is not null order by projection",
    )
    .fetch_all(&mut *connection)
    .await?;
    let parked: Vec<(String, i64)> = sqlx::query_as(
        "select projection, count(*) from cell_000.parked_entities group by projection order by projection",
    )
    .fetch_all(&mut *connection)
    .await?;
    sqlx::query("set search_path to cell_000").execute(&mut *connection).await?;
    let differing = verify::standing(&mut *connection).await?;
    let stopped = stopped.into_iter().map(|(projection, reason)| format!("{projection} has stopped: {reason}"));
    let parked = parked.into_iter().map(|(projection, records)| {
        format!("{projection} has set {records} records aside; see devhub projections status {projection}")
    });
    let differing = differing.into_iter().map(|standing| {
        let (projection, rows) = (standing.projection, standing.differences);
        format!("{projection} differs from the log in {rows} rows; run devhub projections rebuild {projection}")
    });
    Ok(stopped.chain(parked).chain(differing).map(|detail| Finding::bad("read models", detail)).collect())
}
