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

mod common;

use common::rebuilding::{Rates, measure};
use devhub::event_store::Database;

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
