//! What an import costs: events appended with full durability and taken by every projection, beside the same
//! events in a bare multi-row insert.
//!
//! ```text
//! cargo bench --bench throughput -- [rounds] [events]
//! ```
//!
//! Each round has a database of its own on one private PostgreSQL and measures, one after the other: the bare
//! insert, the append alone, the projector alone on what was appended, and both at once until the read models
//! have reached the head. Client and server share the machine, so only the ratios of one round mean anything.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation,
    reason = "a measurement that cannot go on says so"
)]

mod common;

use std::time::{Duration, Instant};

use common::history::history;
use common::{BARE_BATCH, BARE_INSERT, median};
use devhub::aggregates::ids::TenantId;
use devhub::clock::Clock;
use devhub::event_store::{self, Append, Database, EventStore, NewEvent};
use devhub::postgres::{Installation, Options, PrivateCluster};
use devhub::projections::{self, Projector};
use sqlx::{Connection, PgConnection};
use tokio::sync::watch;

/// How long the read models may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// What one phase came to.
#[derive(Clone, Copy)]
struct Phase {
    /// Events a second.
    rate: f64,
    /// Microseconds of processor an event cost, ours and the server's.
    processor: [f64; 2],
}

/// The phases of one round.
struct Round {
    bare: Phase,
    append: Phase,
    project: Phase,
    both: Phase,
}

/// Measures a phase: time, and the processor's time where the system tells it (`/proc`).
struct Watch {
    begun: Instant,
    ticks: [u64; 2],
    server: u32,
}

impl Watch {
    fn start(server: u32) -> Self {
        Self { begun: Instant::now(), ticks: ticks(server), server }
    }

    fn stop(self, events: usize) -> Phase {
        let took = self.begun.elapsed().as_secs_f64();
        let [ours, servers] = ticks(self.server);
        // A tick is a hundredth of a second on every Linux there is.
        let each = |now: u64, before: u64| (now - before) as f64 * 10_000.0 / events as f64;
        Phase { rate: events as f64 / took, processor: [each(ours, self.ticks[0]), each(servers, self.ticks[1])] }
    }
}

/// Ticks of processor that this process, and the server with all its children, have used.
fn ticks(server: u32) -> [u64; 2] {
    // After the name in brackets: 1 is the parent, 11 to 14 the times of the process and of its ended children.
    let fields = |process: &str| -> Option<Vec<u64>> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        Some(stat.rsplit_once(')')?.1.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
    };
    let used = |fields: &[u64]| fields[11..=14].iter().sum::<u64>();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let servers = processes
        .filter_map(|process| process.file_name().into_string().ok())
        .filter_map(|name| Some((name.parse::<u32>().ok()?, fields(&name)?)))
        .filter(|(id, fields)| *id == server || fields[1] == u64::from(server))
        .map(|(_, fields)| used(&fields))
        .sum();
    [fields("self").map_or(0, |fields| used(&fields)), servers]
}

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let rounds = numbers.first().copied().unwrap_or(3);
    let events = numbers.get(1).copied().unwrap_or(60_000);
    tokio::runtime::Runtime::new().unwrap().block_on(run(rounds, events));
}

async fn run(rounds: usize, events: usize) {
    let folder = std::env::temp_dir().join(format!("devhub-throughput-{}", std::process::id()));
    let installation = Installation::find().unwrap();
    let cluster = PrivateCluster::start(&folder, &installation, &Options::default()).await.unwrap();
    let mut measured = Vec::new();
    println!("events/s, against the bare insert of the same round, (microseconds of processor, client + server)");
    for number in 1..=rounds {
        let round = round(&cluster, number, events).await;
        show(&format!("round {number}"), &round);
        measured.push(round);
    }
    let middle = |of: fn(&Round) -> Phase| Phase {
        rate: median(measured.iter().map(|round| of(round).rate)),
        processor: [0, 1].map(|side| median(measured.iter().map(|round| of(round).processor[side]))),
    };
    let medians = Round {
        bare: middle(|round| round.bare),
        append: middle(|round| round.append),
        project: middle(|round| round.project),
        both: middle(|round| round.both),
    };
    show("medians", &medians);
    cluster.stop().await.unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

fn show(name: &str, round: &Round) {
    print!("{name:<9}");
    let Round { bare, append, project, both } = round;
    for (name, phase) in [("bare", bare), ("append", append), ("project", project), ("both", both)] {
        let [ours, servers] = phase.processor;
        print!("  {name} {:>6.0} {:.2} ({ours:.0} + {servers:.0})", phase.rate, phase.rate / bare.rate);
    }
    println!();
}

async fn round(cluster: &PrivateCluster, number: usize, events: usize) -> Round {
    let mut admin = PgConnection::connect(&cluster.url()).await.unwrap();
    let name = format!("throughput_{number}");
    sqlx::query(&format!("create database {name}")).execute(&mut admin).await.unwrap();
    let url = cluster.url_of(&name);
    event_store::migrate(&url).await.unwrap();
    let mut admin = PgConnection::connect(&url).await.unwrap();

    let server = cluster.pid();
    let bare = bare(&mut admin, server, &history(TenantId::Business(1), events)).await;
    let database = Database::connect(&url).await.unwrap();
    let cell = database.cells().next().unwrap().clone();
    let clock = Clock::system();
    let (store, _) = EventStore::open(&cell, clock.clone());

    let history_of_one = history(TenantId::Business(1), events);
    checkpoint(&mut admin).await;
    let watch = Watch::start(server);
    append_all(&store, history_of_one).await;
    let append = watch.stop(events);

    checkpoint(&mut admin).await;
    let (stop, stopping) = watch::channel(false);
    let watch = Watch::start(server);
    let (projections, projector) = Projector::start(&cell, clock, projections::all(), store.tail(), stopping);
    projections.reached(events as i64, PATIENCE).await.unwrap();
    let project = watch.stop(events);

    let again = history(TenantId::Business(2), events);
    checkpoint(&mut admin).await;
    let watch = Watch::start(server);
    append_all(&store, again).await;
    projections.reached(2 * events as i64, PATIENCE).await.unwrap();
    let both = watch.stop(events);

    stop.send(true).unwrap();
    projector.await.unwrap();
    drop(store);
    database.close().await;
    Round { bare, append, project, both }
}

async fn checkpoint(admin: &mut PgConnection) {
    sqlx::query("checkpoint").execute(admin).await.unwrap();
}

async fn append_all(store: &EventStore, appends: Vec<Append>) {
    for outcome in store.append_all(appends).await {
        outcome.unwrap();
    }
}

/// The same rows, without the chain, claims, row-level security and everything else that makes it a log.
async fn bare(admin: &mut PgConnection, server: u32, appends: &[Append]) -> Phase {
    sqlx::query("create table bare (like cell_000.events including all)").execute(&mut *admin).await.unwrap();
    let mut rows = Vec::new();
    for append in appends {
        for write in &append.writes {
            let event_store::Target::Named(stream) = &write.target else { continue };
            for (sequence, event) in (write.expected + 1..).zip(&write.events) {
                rows.push((stream, sequence, event));
            }
        }
    }
    checkpoint(admin).await;
    let watch = Watch::start(server);
    for (batch, first) in rows.chunks(BARE_BATCH).zip((1..).step_by(BARE_BATCH)) {
        let column = |of: fn(&NewEvent) -> &str| -> Vec<&str> { batch.iter().map(|(_, _, event)| of(event)).collect() };
        let positions: Vec<i64> = (first..).take(batch.len()).collect();
        let now = Clock::system().now();
        sqlx::query(BARE_INSERT)
            .bind(batch.iter().map(|(stream, ..)| stream.aggregate_type).collect::<Vec<_>>())
            .bind(batch.iter().map(|(stream, ..)| stream.aggregate_id()).collect::<Vec<_>>())
            .bind(batch.iter().map(|(_, sequence, _)| *sequence).collect::<Vec<_>>())
            .bind(column(|event| &event.event_type))
            .bind(column(|event| &event.event_version))
            .bind(column(|event| &event.payload))
            .bind(column(|event| &event.metadata))
            .bind(batch.iter().map(|(stream, ..)| stream.tenant.to_string()).collect::<Vec<_>>())
            .bind(positions)
            .bind(batch.iter().map(|(_, _, event)| event.event_id).collect::<Vec<_>>())
            .bind(batch.iter().map(|(_, _, event)| event.occurred_at).collect::<Vec<_>>())
            .bind(vec![now; batch.len()])
            .bind(batch.iter().map(|(_, _, event)| event.event_id.as_bytes().repeat(2)).collect::<Vec<_>>())
            .execute(&mut *admin)
            .await
            .unwrap();
    }
    watch.stop(rows.len())
}
