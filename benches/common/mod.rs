//! What benches share: the bare insert, a history, the median.
#![allow(
    dead_code,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "no bench needs all of it, and none has so many"
)]

pub mod history;
pub mod rebuilding;

/// Events in one statement of the bare insert.
pub const BARE_BATCH: usize = 1_000;

/// A batch of events, column by column, into a table with the columns and indexes of the log and nothing else of it.
pub const BARE_INSERT: &str =
    "insert into bare (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata,
                       tenant_id, position, tenant_position, event_id, occurred_at, recorded_at, hash)
     select t, i, s, e, v, p::jsonb, m::jsonb, n, o, o, u, a, r, h
     from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[],
                 $8::text[], $9::bigint[], $10::uuid[], $11::timestamptz[], $12::timestamptz[],
                 $13::bytea[]) as e (t, i, s, e, v, p, m, n, o, u, a, r, h)";

/// The middle of what several rounds measured.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
