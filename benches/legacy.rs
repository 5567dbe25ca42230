//! What bringing an old database in costs, end to end: read, planned, appended with full durability, and taken by every
//! read model, beside a bare multi-row insert of the same events.
//!
//! ```text
//! cargo bench --bench legacy -- [rounds] [copies] [postgres url of an old database]
//! ```
//!
//! Without an address, the part of a real old database that the tests use is taken so many times over. Each round has
//! databases of its own on one private PostgreSQL. Client and server share the machine: only ratios mean anything.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot go on says so"
)]

mod common;

use std::time::Instant;

use chrono::{DateTime, Utc};
use common::{BARE_BATCH, BARE_INSERT, median};
use devhub::access::secrets::MasterKey;
use devhub::aggregates::ids::TenantId;
use devhub::api::App;
use devhub::api::limits::RateLimits;
use devhub::clock::Clock;
use devhub::event_store::{self, Database};
use devhub::legacy::{self, Options as ImportOptions, Progress, Report};
use devhub::postgres::{Installation, Options, PrivateCluster};
use secrecy::SecretString;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

/// A part of a real old database.
const SAMPLE: &str = include_str!("../tests/it/legacy/sample.sql");

/// The same customers, leads, projects and invoices again, under other ids, with all that belongs to them.
const AGAIN: &str = "
    insert into customers select (c).* from (select jsonb_populate_record(c, jsonb_build_object('id', id + k * 100000,
        'system_id', 'CUS-' || (20000 * k + id))) as c from customers c, generate_series(1, $N) k where id < 100000) x;
    insert into leads select (l).* from (select jsonb_populate_record(l, jsonb_build_object('id', l.id + k * 100000,
        'system_id', 'LED-' || (20000 * k + l.id), 'converted_customer_id',
        coalesce('CUS-' || (20000 * k + c.id), l.converted_customer_id))) as l
        from leads l left join customers c on c.system_id = l.converted_customer_id and c.id < 100000,
             generate_series(1, $N) k where l.id < 100000) x;
    insert into lead_interactions select (i).* from (select jsonb_populate_record(i, jsonb_build_object(
        'id', i.id + k * 100000, 'system_id', 'LI-' || (100000 * k + i.id), 'lead_id', 'LED-' || (20000 * k + l.id))) as i
        from lead_interactions i join leads l on l.system_id = i.lead_id and l.id < 100000, generate_series(1, $N) k
        where i.id < 100000) x;
    insert into projects select (p).* from (select jsonb_populate_record(p, jsonb_build_object('id', id + k * 100000,
        'system_id', 'PRJ-' || (20000 * k + id))) as p from projects p, generate_series(1, $N) k where id < 100000) x;
    insert into project_customers select (p).* from (select jsonb_populate_record(p, jsonb_build_object(
        'id', p.id + k * 100000, 'project_id', 'PRJ-' || (20000 * k + r.id),
        'customer_id', coalesce('CUS-' || (20000 * k + c.id), p.customer_id))) as p
        from project_customers p join projects r on r.system_id = p.project_id and r.id < 100000
             left join customers c on c.system_id = p.customer_id and c.id < 100000,
             generate_series(1, $N) k where p.id < 100000) x;
    insert into invoices select (i).* from (select jsonb_populate_record(i, jsonb_build_object('id', i.id + k * 100000,
        'system_id', 'INV-' || (20000 * k + i.id),
        'customer_id', coalesce('CUS-' || (20000 * k + c.id), i.customer_id))) as i
        from invoices i left join customers c on c.system_id = i.customer_id and c.id < 100000,
             generate_series(1, $N) k where i.id < 100000) x;
    analyze;";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let number = |at: usize, otherwise| arguments.get(at).and_then(|text| text.parse().ok()).unwrap_or(otherwise);
    let (rounds, copies) = (number(0, 3), number(1, 25));
    tokio::runtime::Runtime::new().unwrap().block_on(run(rounds, copies, arguments.get(2).cloned()));
}

async fn run(rounds: usize, copies: usize, from: Option<String>) {
    let folder = std::env::temp_dir().join(format!("devhub-bench-legacy-{}", std::process::id()));
    let installation = Installation::find().unwrap();
    let cluster = PrivateCluster::start(&folder, &installation, &Options::default()).await.unwrap();
    let from = match from {
        Some(url) => url,
        None => old_database(&cluster, copies).await,
    };
    println!("events/s of an import end to end, against the bare insert of the same events in the same round");
    let (mut rates, mut ratios) = (Vec::new(), Vec::new());
    for number in 1..=rounds {
        let name = format!("round_{number}");
        let url = create(&cluster, &name).await;
        event_store::migrate(&url).await.unwrap();
        let begun = Instant::now();
        let report = import(&url, &from).await;
        let rate = report.events as f64 / begun.elapsed().as_secs_f64();
        let bare = bare(&url).await;
        println!(
            "round {number}  {} events  import {rate:>7.0}/s  bare {bare:>7.0}/s  ratio {:.2}  {}",
            report.events,
            rate / bare,
            report.parts.iter().map(|(part, took)| format!("{part} {took} ms")).collect::<Vec<_>>().join(", ")
        );
        rates.push(rate);
        ratios.push(rate / bare);
    }
    println!("medians  import {:.0}/s  ratio {:.2}", median(rates), median(ratios));
    cluster.stop().await.unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

async fn create(cluster: &PrivateCluster, name: &str) -> String {
    let mut admin = PgConnection::connect(&cluster.url()).await.unwrap();
    sqlx::query(&format!("create database {name}")).execute(&mut admin).await.unwrap();
    cluster.url_of(name)
}

async fn old_database(cluster: &PrivateCluster, copies: usize) -> String {
    let url = create(cluster, "old").await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(SAMPLE).execute(&mut connection).await.unwrap();
    sqlx::raw_sql(&AGAIN.replace("$N", &(copies - 1).to_string())).execute(&mut connection).await.unwrap();
    url
}

/// Everything that `devhub legacy import` does once the database is up to date.
async fn import(url: &str, from: &str) -> Report {
    let database = Database::connect(url).await.unwrap();
    let (app, tasks) =
        App::start(database.clone(), Clock::system(), MasterKey::generate().unwrap(), RateLimits::default())
            .await
            .unwrap();
    let options =
        ImportOptions { tenant: TenantId::Legacy, dry_run: false, accept_deletions: false, mappings: Vec::new() };
    let report = legacy::import(&app, &SecretString::from(from), &options, &Progress::hidden()).await.unwrap();
    drop(app);
    tasks.stop(std::time::Duration::from_secs(10)).await;
    database.close().await;
    report
}

type Event =
    (String, String, i64, String, String, String, String, String, i64, Uuid, DateTime<Utc>, DateTime<Utc>, Vec<u8>);

/// The same events into a table with the same columns and indexes: events a second.
async fn bare(url: &str) -> f64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let events: Vec<Event> = sqlx::query_as(
        "select aggregate_type, aggregate_id, sequence, event_type, event_version, payload::text, metadata::text,
                tenant_id, position, event_id, occurred_at, recorded_at, hash from cell_000.events order by position",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    sqlx::query("create table bare (like cell_000.events including all)").execute(&mut connection).await.unwrap();
    sqlx::query("checkpoint").execute(&mut connection).await.unwrap();
    let begun = Instant::now();
    for batch in events.chunks(BARE_BATCH) {
        macro_rules! column {
            ($field:tt) => {
                batch.iter().map(|event| event.$field.clone()).collect::<Vec<_>>()
            };
        }
        sqlx::query(BARE_INSERT)
            .bind(column!(0))
            .bind(column!(1))
            .bind(column!(2))
            .bind(column!(3))
            .bind(column!(4))
            .bind(column!(5))
            .bind(column!(6))
            .bind(column!(7))
            .bind(column!(8))
            .bind(column!(9))
            .bind(column!(10))
            .bind(column!(11))
            .bind(column!(12))
            .execute(&mut connection)
            .await
            .unwrap();
    }
    events.len() as f64 / begun.elapsed().as_secs_f64()
}
