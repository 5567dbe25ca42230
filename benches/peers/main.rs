//! DevHub beside its peers and the limits of the machine: one private PostgreSQL, one run, in turn, round by round.
//!
//! ```text
//! cargo bench --bench peers              # five rounds; writes docs/benchmarks.json and the table in docs/benchmarks.md
//! cargo bench --bench peers -- quick     # one short round; writes nothing
//! cargo bench --bench peers -- quick 3 write
//! cargo bench --bench peers -- append    # only that part of it; there are append, project and http
//! ```
//!
//! Client, server and load share the machine, so a figure means something only beside what the same round reached
//! elsewhere: each has a peer, and what counts is the median of the rounds' ratios.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot go on says so"
)]

#[path = "../common/mod.rs"]
mod common;

mod append;
mod bare_server;
mod figures;
mod http;
mod machine;
mod others;
mod projecting;
mod stock;
mod writers;

use std::time::Duration;

use devhub::event_store;
use devhub::postgres::{Installation, Options, PrivateCluster};
use sqlx::{Connection, PgConnection};

use figures::Figures;
use others::Others;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    rounds: usize,
    /// Of each measurement.
    time: Duration,
    /// Events that are projected, read in order, rebuilt.
    events: usize,
    /// Leads of the large list.
    leads: i64,
    /// Of the load after which memory is read.
    load: Duration,
}

const FULL: Size =
    Size { rounds: 5, time: Duration::from_secs(4), events: 60_000, leads: 1_000_000, load: Duration::from_secs(600) };
const QUICK: Size = Size {
    rounds: 1,
    time: Duration::from_millis(1_500),
    events: 15_000,
    leads: 100_000,
    load: Duration::from_secs(10),
};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let [command, url] = &arguments[..]
        && command == bare_server::COMMAND
    {
        return runtime.block_on(bare_server::serve(url));
    }
    if let [command, url, writers, seconds] = &arguments[..]
        && command == append::PROFILED
    {
        let time = Duration::from_secs(seconds.parse().unwrap());
        return runtime.block_on(append::only(url, writers.parse().unwrap(), time));
    }
    let said = |word: &str| arguments.iter().any(|argument| argument == word);
    let mut size = if said("quick") { QUICK } else { FULL };
    if let Some(rounds) = arguments.iter().find_map(|argument| argument.parse().ok()) {
        size.rounds = rounds;
    }
    let only: Vec<&str> = ["append", "project", "http"].into_iter().filter(|part| said(part)).collect();
    let (figures, made_with) = runtime.block_on(run(size, &only));
    figures.show();
    println!("{made_with}");
    if said("write") || !said("quick") && only.is_empty() {
        figures.write(&made_with);
    }
}

async fn run(size: Size, only: &[&str]) -> (Figures, String) {
    let folder = std::env::temp_dir().join(format!("devhub-bench-peers-{}", std::process::id()));
    let installation = Installation::find().unwrap();
    let cluster = PrivateCluster::start(&folder, &installation, &Options::default()).await.unwrap();
    let others = Others::find();
    let mut figures = Figures::default();
    let made_with = made_with(&cluster, size).await;
    let wanted = |part: &str| only.is_empty() || only.contains(&part);
    for number in 1..=size.rounds {
        eprintln!("round {number} of {}", size.rounds);
        if wanted("append") {
            let url = database(&cluster, &format!("append_{number}")).await;
            append::round(&url, size, others.as_ref(), &folder, &mut figures).await;
        }
        if wanted("project") {
            let url = database(&cluster, &format!("project_{number}")).await;
            projecting::round(&url, size, &mut figures).await;
        }
    }
    if wanted("http") {
        let url = database(&cluster, "http").await;
        http::rounds(&url, &folder, size, &mut figures).await;
    }
    cluster.stop().await.unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    (figures, made_with)
}

/// What it was measured with, in a paragraph.
async fn made_with(cluster: &PrivateCluster, size: Size) -> String {
    let mut admin = PgConnection::connect(&cluster.url()).await.unwrap();
    let (server, settings): (String, String) = sqlx::query_as(
        "select current_setting('server_version'), string_agg(name || ' = ' || current_setting(name), ', ' order by name)
         from pg_settings
         where name in ('fsync', 'synchronous_commit', 'full_page_writes', 'wal_compression', 'shared_buffers',
                        'max_wal_size', 'checkpoint_timeout', 'jit', 'lc_collate')",
    )
    .fetch_one(&mut admin)
    .await
    .unwrap();
    let version = |lock: &str, name: &str| {
        let (_, entry) = lock.split_once(&format!("name = \"{name}\"\nversion = \"")).unwrap();
        format!("{name} {}", entry.split_once('"').unwrap().0)
    };
    let ours = ["cqrs-es", "postgres-es", "sqlx", "axum", "tokio"];
    let ours = ours.map(|name| version(include_str!("../../Cargo.lock"), name));
    let others = ["umadb-server", "es-entity"].map(|name| version(others::LOCK, name));
    let crates = [&ours[..], &others[..]].concat().join(", ");
    let (cores, rounds) = (std::thread::available_parallelism().unwrap(), size.rounds);
    format!(
        "Measured on {cores} cores in {rounds} rounds of {} s a measurement, with PostgreSQL {server} ({settings}), {crates}.",
        size.time.as_secs_f64()
    )
}

/// A database that is up to date, and the tables of the peers in a schema of their own.
async fn database(cluster: &PrivateCluster, name: &str) -> String {
    let mut admin = PgConnection::connect(&cluster.url()).await.unwrap();
    sqlx::query(&format!("create database {name}")).execute(&mut admin).await.unwrap();
    let url = cluster.url_of(name);
    event_store::migrate(&url).await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(stock::TABLES).execute(&mut connection).await.unwrap();
    url
}

/// What was written before is on its way to the disk; nobody is to wait for it later.
pub async fn checkpoint(url: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query("checkpoint").execute(&mut connection).await.unwrap();
}
