//! So many writers at once, each waiting for its answer, for so long. The program in `benches/others` has this file too,
//! so that it uses nothing of the crate it is in.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::JoinSet;

/// What writers, or readers, came to.
#[derive(Clone)]
pub struct Reached {
    /// Answers a second.
    pub per_second: f64,
    /// In microseconds.
    pub latencies: Histogram<u64>,
}

impl Reached {
    /// In milliseconds.
    pub fn p99(&self) -> f64 {
        self.latencies.value_at_quantile(0.99) as f64 / 1_000.0
    }

    /// In milliseconds.
    pub fn p50(&self) -> f64 {
        self.latencies.value_at_quantile(0.5) as f64 / 1_000.0
    }
}

pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).unwrap()
}

/// `act` gets the number of the writer and of its turn. The first fifth of the time warms up and does not count.
pub async fn write<S, F, R>(count: usize, time: Duration, state: S, act: F) -> Reached
where
    S: Send + Sync + 'static,
    F: Fn(Arc<S>, usize, usize) -> R + Send + Sync + Copy + 'static,
    R: Future<Output = ()> + Send,
{
    let state = Arc::new(state);
    let begin = Instant::now() + time / 5;
    let end = begin + time;
    let mut writers = JoinSet::new();
    for writer in 0..count {
        let state = Arc::clone(&state);
        writers.spawn(async move {
            let (mut latencies, mut turn) = (histogram(), 0);
            loop {
                let asked = Instant::now();
                if asked >= end {
                    return latencies;
                }
                act(Arc::clone(&state), writer, turn).await;
                turn += 1;
                if asked >= begin {
                    latencies.saturating_record(asked.elapsed().as_micros() as u64);
                }
            }
        });
    }
    let mut all = histogram();
    while let Some(latencies) = writers.join_next().await {
        all.add(latencies.unwrap()).unwrap();
    }
    Reached { per_second: all.len() as f64 / time.as_secs_f64(), latencies: all }
}
