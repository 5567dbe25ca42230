//! A read model made anew, beside a plain COPY out of the same events.

use std::time::Instant;

use devhub::clock::Clock;
use devhub::event_store::Cell;
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
