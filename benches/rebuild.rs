//! What it costs to make a read model anew: events replayed and rows written a second, beside a plain COPY out of the
//! same events in the same round.
//!
//! ```text
//! DEVHUB_BENCH_LOG=postgres://… cargo bench --bench rebuild -- [projection] [rounds]
//! ```
//!
//! The log is one that exists, in a database that is up to date and whose read models have caught up with it: what
//! `devhub serve`, an import or the throughput bench has left. Nothing of it changes but the read model, which becomes
//! what it was. Client and server share the machine, so only the ratios of one round mean anything.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot go on says so"
)]

use std::time::Instant;

use devhub::clock::Clock;
use devhub::event_store::{Cell, Database};
use devhub::projections::{rebuild, replay};
use futures::TryStreamExt;
use sqlx::PgConnection;

/// What one round came to.
pub struct Rates {
    /// Events that the projection is made of, copied out as they are, a second.
    pub copied_out: f64,
    /// The same events replayed, a second: from the first event read to the new tables being read.
    pub replayed: f64,
    /// Rows written meanwhile, a second, over all tables of the projection.
    pub rows: f64,
    /// How long the projector had to wait, in milliseconds.
    pub held: u64,
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let projection = arguments.next().unwrap_or_else(|| "leads".to_owned());
    let rounds = arguments.next().and_then(|rounds| rounds.parse().ok()).unwrap_or(3);
    let Ok(url) = std::env::var("DEVHUB_BENCH_LOG") else {
        println!("DEVHUB_BENCH_LOG names no database with a log: nothing is measured");
        return;
    };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let database = Database::connect(&url).await.unwrap();
        let cell = database.cells().next().unwrap().clone();
        for round in 1..=rounds {
            let Rates { copied_out, replayed, rows, held } = measure(&cell, &projection).await;
            println!(
                "round {round}  copied out {copied_out:>8.0}/s  replayed {replayed:>8.0}/s {:.2}  rows {rows:>8.0}/s  \
                 held {held} ms",
                replayed / copied_out
            );
        }
        database.close().await;
    });
}

/// Copies the events of a projection out, then makes it anew, and says how fast both were.
pub async fn measure(cell: &Cell, projection: &str) -> Rates {
    let fed_by = replay::named(projection).unwrap().fed_by;
    let types: Vec<String> = fed_by.iter().map(|name| format!("'{name}'")).collect();
    let which =
        if types.is_empty() { String::new() } else { format!("where aggregate_type in ({})", types.join(", ")) };
    let mut connection = cell.replayer.acquire().await.unwrap();
    let events: i64 =
        sqlx::query_scalar(&format!("select count(*) from events {which}")).fetch_one(&mut *connection).await.unwrap();
    let begun = Instant::now();
    let copied = copy_out(&mut connection, &which).await;
    let copied_out = events as f64 / begun.elapsed().as_secs_f64();
    assert!(copied > 0, "the log has no event of {projection}");
    drop(connection);

    let begun = Instant::now();
    let rebuilt = rebuild::rebuild(cell, &Clock::system(), projection, None).await.unwrap();
    let took = begun.elapsed().as_secs_f64();
    Rates {
        copied_out,
        replayed: events as f64 / took,
        rows: rebuilt.rows as f64 / took,
        held: rebuilt.held_milliseconds,
    }
}

/// The bytes of the events, thrown away.
async fn copy_out(connection: &mut PgConnection, which: &str) -> usize {
    let statement = format!("copy (select * from events {which}) to stdout");
    let mut bytes = 0;
    let mut chunks = connection.copy_out_raw(&statement).await.unwrap();
    while let Some(chunk) = chunks.try_next().await.unwrap() {
        bytes += chunk.len();
    }
    bytes
}
