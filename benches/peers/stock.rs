//! The peer: cqrs-es with postgres-es as their documentation sets them up, and our aggregates in them.

use std::sync::Arc;
use std::time::Duration;

use cqrs_es::persist::{GenericQuery, QueryReplay};
use cqrs_es::{EventEnvelope, View};
use devhub::aggregates::customer::Customer;
use devhub::aggregates::lead::{Lead, LeadEvent};
use devhub::clock::{Clock, new_event_id};
use postgres_es::{PostgresCqrs, PostgresEventRepository, PostgresViewRepository, postgres_cqrs};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::append::{call, lead};
use crate::writers::{self, Reached};

/// As postgres-es asks for them.
pub const TABLES: &str = "
create schema stock;
create table stock.events (
    aggregate_type text not null, aggregate_id text not null, sequence bigint check (sequence >= 0) not null,
    event_type text not null, event_version text not null, payload json not null, metadata json not null,
    primary key (aggregate_type, aggregate_id, sequence)
);
create table stock.lead_view (
    view_id text not null primary key, version bigint check (version >= 0) not null, payload json not null
);";

/// Connections of the pool; postgres-es's own default is 10.
const CONNECTIONS: u32 = 16;

pub async fn pool(url: &str) -> PgPool {
    let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
    PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .connect_with(options.options([("search_path", "stock")]))
        .await
        .unwrap()
}

/// New streams, one event each.
pub async fn create(url: &str, count: usize, time: Duration) -> Reached {
    let pool = pool(url).await;
    let cqrs: PostgresCqrs<Lead> = postgres_cqrs(pool.clone(), vec![], ());
    let reached = writers::write(count, time, cqrs, |cqrs, _, _| async move {
        let id = new_event_id(Clock::system().now()).to_string();
        cqrs.execute(&id, lead(1)).await.unwrap();
    })
    .await;
    pool.close().await;
    reached
}

/// A command to a customer that has had so many interactions; each writer has one of its own.
pub async fn grown(url: &str, interactions: usize, count: usize, time: Duration) -> Reached {
    let pool = pool(url).await;
    for writer in 0..count {
        // As the framework writes them, in one statement instead of a thousand.
        sqlx::query(
            "insert into stock.events
             select 'Customer', $1, row_number() over (order by e.sequence), e.event_type, e.event_version, e.payload, '{}'
             from cell_000.events e where e.aggregate_type = 'Customer' and e.aggregate_id = $2 and e.sequence <= $3",
        )
        .bind(format!("grown-{interactions}-{writer}"))
        .bind(format!("TNT-001:CUS-{}", crate::append::grown_id(interactions, writer)))
        .bind(interactions as i64 + 1)
        .execute(&pool)
        .await
        .unwrap();
    }
    let cqrs: PostgresCqrs<Customer> = postgres_cqrs(pool.clone(), vec![], ());
    let reached = writers::write(count, time, (cqrs, interactions), |state, writer, _| async move {
        let (cqrs, interactions) = &*state;
        let id = format!("grown-{interactions}-{writer}");
        cqrs.execute(&id, call()).await.unwrap();
    })
    .await;
    pool.close().await;
    reached
}

/// What the documentation's view of a lead would be.
#[derive(Debug, Default, Serialize, Deserialize)]
struct LeadView {
    name: String,
    stage: String,
    version: usize,
}

impl View<Lead> for LeadView {
    fn update(&mut self, event: &EventEnvelope<Lead>) {
        self.version = event.sequence;
        match &event.payload {
            LeadEvent::Captured { facts, stage, .. } => {
                self.name = facts.name.to_string();
                self.stage = stage.to_string();
            }
            LeadEvent::StageChanged { to, .. } => self.stage = to.to_string(),
            _ => {}
        }
    }
}

/// Events a second of a replay into a view, over the streams that [`create`] left.
pub async fn replay(url: &str, events: i64) -> f64 {
    let pool = pool(url).await;
    sqlx::query("create table if not exists stock.replayed (like stock.events including all)")
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query("insert into stock.replayed select * from stock.events where aggregate_type = 'Lead' limit $1")
        .bind(events)
        .execute(&pool)
        .await
        .unwrap();
    let views = Arc::new(PostgresViewRepository::<LeadView, Lead>::new("lead_view", pool.clone()));
    let query = GenericQuery::new(views);
    let repository = PostgresEventRepository::new(pool.clone()).with_tables("replayed", "snapshots");
    let begun = std::time::Instant::now();
    QueryReplay::new(repository, query).replay_all().await.unwrap();
    let rate = events as f64 / begun.elapsed().as_secs_f64();
    pool.close().await;
    rate
}
