//! The read models: how fast they follow the log, and how fast they are made anew.

use std::time::{Duration, Instant};

use devhub::aggregates::ids::TenantId;

use crate::append::{Engine, settle};
use crate::common::history::history;
use crate::common::rebuilding::measure;
use crate::figures::{Better, Figures};
use crate::{Size, checkpoint, machine, stock};

pub async fn round(url: &str, size: Size, figures: &mut Figures) {
    // The peer first: what it is to replay, it has to write.
    stock::create(url, 64, Duration::from_secs(2)).await;
    checkpoint(url).await;
    let stock = stock::replay(url, 2_000).await;
    checkpoint(url).await;

    let engine = Engine::start(url).await;
    let events = history(TenantId::Business(1), size.events);
    let begun = Instant::now();
    for outcome in engine.app.store.append_all(events).await {
        outcome.unwrap();
    }
    let appended = begun.elapsed();
    settle(&engine.app).await;
    let projected = begun.elapsed();
    checkpoint(url).await;
    let copied = machine::copy_out(url).await;
    let anew = measure(&engine.cell(), "leads").await;
    engine.stop().await;

    let rate = size.events as f64 / projected.as_secs_f64();
    figures.note("bulk append", "events/s", size.events as f64 / appended.as_secs_f64());
    figures.compare(
        "rebuild of leads, events it is made of",
        "events/s",
        anew.replayed,
        "COPY of the same events out",
        anew.copied_out,
        Better::AtLeast(0.3),
    );
    figures.note("rebuild of leads, projector held", "ms", anew.held as f64);
    figures.note("COPY of the log out", "events/s", copied);
    figures.compare(
        "all nine projections, rows and versions, while the log is written",
        "events/s",
        rate,
        "stock GenericQuery replay, one view",
        stock,
        Better::AtLeast(30.0),
    );
}
