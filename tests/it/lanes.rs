//! Turns and fences: a burst of one tenant is nobody else's, and whoever interrupts whom, each event counts once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use devhub::aggregates::ids::TenantId;
use devhub::clock::Clock;
use devhub::event_store::{self, Cell, Database, EventStore, StreamId};
use devhub::projections::fact::{Fact, Unread};
use devhub::projections::leads::{LeadRow, Leads};
use devhub::projections::model::{Affected, Batch, FoldError, Folded, Model, Poison, Projection, Touched, Versioned};
use devhub::projections::parking::{self, Which};
use devhub::projections::statement::Statement;
use devhub::projections::{Projections, Projector, activity};
use proptest::prelude::*;
use serde_json::json;
use sqlx::PgPool;
use sqlx::postgres::PgConnection;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cluster::fresh_database;
use crate::log::assert_versions_follow;
use crate::told;

const BURSTS: TenantId = TenantId::Business(1);
const WAITS: TenantId = TenantId::Business(2);

/// The leads, refusing what happens to every lead whose number ends in 7 for as long as that is so.
struct Picky<const N: usize>;

static REFUSES: [AtomicBool; 4] = [const { AtomicBool::new(false) }; 4];

impl<const N: usize> Projection for Picky<N> {
    type Row = LeadRow;
    const NAME: &'static str = "leads";
    const FED_BY: &'static [&'static str] = Leads::FED_BY;

    fn touched(fact: &Fact) -> Vec<Touched> {
        Leads::touched(fact)
    }

    fn affected(unread: &Unread) -> Affected {
        Leads::affected(unread)
    }

    fn fold(row: Option<LeadRow>, id: &str, fact: &Fact) -> Result<Option<LeadRow>, Poison> {
        if REFUSES[N].load(Ordering::SeqCst) && id.ends_with('7') {
            assert!(!id.ends_with("77"), "a fold may also panic");
            return Err(Poison::new("no sevens"));
        }
        Leads::fold(row, id, fact)
    }
}

/// A projection whose rows belong to nobody in particular, which takes nothing as long as it is told not to.
struct Sums(Arc<AtomicBool>);

#[async_trait::async_trait]
impl Model for Sums {
    fn name(&self) -> &'static str {
        "sums"
    }

    async fn fold(&mut self, _: &mut PgConnection, _: Batch<'_>, _: &mut Statement) -> Result<Folded, FoldError> {
        if self.0.load(Ordering::SeqCst) {
            Err(FoldError::Stopped("it does not add up".into()))
        } else {
            Ok(Folded::default())
        }
    }

    fn forget(&mut self) {}
}

struct Log {
    url: String,
    pool: PgPool,
    cell: Cell,
    clock: Clock,
    store: EventStore,
    /// How many events each lead has had.
    leads: BTreeMap<(TenantId, usize), i64>,
}

/// A projector that can be made to end.
struct Running {
    projections: Projections,
    task: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Running {
    async fn end(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
    }

    /// Ends at once, whatever it does at the moment.
    async fn crash(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

impl Log {
    async fn new() -> Self {
        let url = fresh_database("devhub", event_store::migrate).await;
        let database = Database::connect(&url).await.unwrap();
        let cell = database.cells().next().unwrap().clone();
        let clock = Clock::system();
        let (store, _) = EventStore::open(&cell, clock.clone());
        Self { pool: PgPool::connect(&url).await.unwrap(), url, cell, clock, store, leads: BTreeMap::new() }
    }

    /// Appends an event to each of these leads; the position of the last.
    async fn tell(&mut self, tenant: TenantId, leads: impl IntoIterator<Item = usize>) -> i64 {
        let mut appends = Vec::new();
        for number in leads {
            let expected = self.leads.entry((tenant, number)).or_insert(0);
            let now = self.clock.now();
            let event = match *expected {
                0 => told::captured(now, "Grace"),
                version if version % 2 == 1 => told::event(now, "LeadDeleted", &json!({"Deleted": {}})),
                _ => told::event(now, "LeadRestored", &json!({"Restored": {}})),
            };
            let stream = StreamId::new("Lead", tenant, format_args!("LED-{number:03}"));
            appends.push(told::one(stream, *expected, event));
            *expected += 1;
        }
        let mut last = 0;
        for outcome in self.store.append_all(appends).await {
            last = outcome.unwrap().position;
        }
        last
    }

    fn project(&self, models: Vec<Box<dyn Model>>) -> Running {
        let (stop, stopping) = watch::channel(false);
        let tail = self.store.tail();
        let (projections, task) = Projector::start(&self.cell, self.clock.clone(), models, tail, stopping);
        Running { projections, task, stop }
    }

    /// A projector of another process, with connections of its own.
    async fn project_elsewhere(&self, models: Vec<Box<dyn Model>>) -> Running {
        let database = Database::connect(&self.url).await.unwrap();
        let cell = database.cells().next().unwrap().clone();
        let (stop, stopping) = watch::channel(false);
        let (projections, task) = Projector::start(&cell, self.clock.clone(), models, self.store.tail(), stopping);
        Running { projections, task, stop }
    }

    async fn lanes(&self) -> i64 {
        sqlx::query_scalar("select count(*) from cell_000.projection_lanes").fetch_one(&self.pool).await.unwrap()
    }

    async fn free_the_lease(&self) {
        sqlx::query("update cell_000.projector_lease set lease_until = '-infinity'").execute(&self.pool).await.unwrap();
    }

    async fn rows(&self) -> (Vec<String>, Vec<String>, i64) {
        let of = async |table: &str| -> Vec<String> {
            sqlx::query_scalar(&format!("select t::text from cell_000.{table} t order by tenant_id, id, position"))
                .fetch_all(&self.pool)
                .await
                .unwrap()
        };
        let activity =
            sqlx::query_scalar("select count(*) from cell_000.activity").fetch_one(&self.pool).await.unwrap();
        (of("leads").await, of("lead_versions").await, activity)
    }

    /// The same from the whole log at once.
    async fn folded_anew(&self) -> (Vec<String>, Vec<String>, i64) {
        for statement in [
            "truncate cell_000.leads, cell_000.lead_versions, cell_000.activity, cell_000.projection_lanes,
                 cell_000.parked_entities, cell_000.parked_events",
            "update cell_000.projection_checkpoints set position = 0, generation = generation + 1",
        ] {
            sqlx::query(statement).execute(&self.pool).await.unwrap();
        }
        self.free_the_lease().await;
        let plain: Vec<Box<dyn Model>> = vec![Box::new(Versioned::<Leads>::default()), Box::new(activity::Activity)];
        let running = self.project(plain);
        running.projections.reached(self.events(), Duration::from_secs(120)).await.unwrap();
        running.end().await;
        self.rows().await
    }

    fn events(&self) -> i64 {
        self.leads.values().sum()
    }
}

fn models<const N: usize>() -> Vec<Box<dyn Model>> {
    vec![Box::new(Versioned::<Picky<N>>::remembering(500)), Box::new(activity::Activity)]
}

#[tokio::test]
async fn a_burst_of_one_tenant_keeps_another_waiting_for_a_batch_at_most() {
    let mut log = Log::new().await;
    log.tell(BURSTS, 0..12_000).await;
    let mine = log.tell(WAITS, 0..3).await;
    log.tell(BURSTS, 12_000..15_000).await;
    let running = log.project(models::<0>());
    running.projections.reached_of(WAITS, mine, Duration::from_secs(60)).await.unwrap();
    let progress = running.projections.progress();
    // Not even a batch of the burst has gone before: whoever stands behind it was let past.
    assert!(progress.of(BURSTS) <= 1_000, "{progress:?}");
    assert!(progress.position >= mine && progress.of(WAITS) >= mine, "{progress:?}");
    let versions: i64 = sqlx::query_scalar("select count(*) from cell_000.lead_versions where tenant_id = 'TNT-002'")
        .fetch_one(&log.pool)
        .await
        .unwrap();
    assert_eq!(versions, 3);
    // And again in the middle of it.
    let more = log.tell(WAITS, 3..6).await;
    let before = running.projections.progress().of(BURSTS);
    running.projections.reached_of(WAITS, more, Duration::from_secs(60)).await.unwrap();
    let progress = running.projections.progress();
    assert!(progress.of(BURSTS) <= before + 2_000, "{before} {progress:?}");
    assert!(progress.of(BURSTS) < log.events(), "{progress:?}");

    running.projections.reached(log.events(), Duration::from_secs(120)).await.unwrap();
    assert_eq!(log.lanes().await, 0);
    running.end().await;
    let kept = log.rows().await;
    assert_versions_follow(&log.pool, "leads", "lead_versions").await;
    assert_eq!(kept.2, log.events());
    assert!(log.folded_anew().await == kept);
}

#[tokio::test]
async fn two_bursts_at_once_are_both_read_and_nobody_waits_for_either() {
    let mut log = Log::new().await;
    log.tell(WAITS, 0..57).await;
    log.tell(BURSTS, 0..2_864).await;
    let mine = log.tell(TenantId::Business(3), 0..1).await;
    log.tell(WAITS, 20..2_242).await;
    let running = log.project(models::<0>());
    running.projections.reached_of(TenantId::Business(3), mine, Duration::from_secs(60)).await.unwrap();
    let progress = running.projections.progress();
    assert!(progress.of(BURSTS) + progress.of(WAITS) < log.events(), "{progress:?}");
    running.projections.reached(log.events(), Duration::from_secs(60)).await.unwrap();
    running.end().await;
    let kept = log.rows().await;
    assert!(log.folded_anew().await == kept);
}

#[tokio::test]
async fn a_burst_with_nobody_behind_it_opens_no_lane() {
    let mut log = Log::new().await;
    log.tell(WAITS, 0..3).await;
    log.tell(BURSTS, 0..6_000).await;
    let running = log.project(models::<0>());
    running.projections.reached(log.events(), Duration::from_secs(60)).await.unwrap();
    let generations: Vec<i64> = sqlx::query_scalar("select generation from cell_000.projection_checkpoints")
        .fetch_all(&log.pool)
        .await
        .unwrap();
    assert_eq!(generations, [0, 0]);
    running.end().await;
}

#[tokio::test]
async fn a_projection_whose_rows_mix_stops_alone_and_goes_on_when_it_can() {
    let mut log = Log::new().await;
    let position = log.tell(WAITS, 0..10).await;
    let refuses = Arc::new(AtomicBool::new(true));
    let mut all = models::<0>();
    all.push(Box::new(Sums(Arc::clone(&refuses))));
    let running = log.project(all);
    let mut progress = running.projections.watch();
    progress.wait_for(|progress| !progress.stopped.is_empty()).await.unwrap();
    let stands: i64 = loop {
        let stands =
            sqlx::query_scalar("select position from cell_000.projection_checkpoints where projection = 'leads'")
                .fetch_one(&log.pool)
                .await
                .unwrap();
        if stands == position {
            break stands;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(stands, position);
    let stopped = running.projections.progress();
    assert_eq!(stopped.stopped, [("sums".to_owned(), "it does not add up".to_owned())]);
    assert_eq!(stopped.position, 0, "one that never took anything is behind, not absent");
    refuses.store(false, Ordering::SeqCst);
    running.projections.reached(position, Duration::from_secs(60)).await.unwrap();
    let going_on = running.projections.progress();
    assert_eq!((going_on.failure, going_on.stopped), (None, vec![]));
    running.end().await;
}

#[tokio::test]
async fn many_that_are_refused_at_once_stop_the_projection_and_none_is_parked() {
    let mut log = Log::new().await;
    REFUSES[1].store(true, Ordering::SeqCst);
    let position = log.tell(WAITS, (0..60).map(|n| n * 10 + 7).filter(|n| n % 100 != 77)).await;
    let running = log.project(models::<1>());
    let mut progress = running.projections.watch();
    let stopped = progress.wait_for(|progress| !progress.stopped.is_empty()).await.unwrap().clone();
    assert!(stopped.stopped[0].1.contains("mistake in the program"), "{stopped:?}");
    let parked: i64 =
        sqlx::query_scalar("select count(*) from cell_000.parked_entities").fetch_one(&log.pool).await.unwrap();
    assert_eq!(parked, 0);
    REFUSES[1].store(false, Ordering::SeqCst);
    running.projections.reached(position, Duration::from_secs(60)).await.unwrap();
    running.end().await;
    let kept = log.rows().await;
    assert!(log.folded_anew().await == kept);
}

/// Something that happens while the read models are written.
#[derive(Debug, Clone)]
enum Happens {
    /// So many leads of a tenant get an event.
    Told { tenant: u32, first: usize, count: usize },
    /// The fold refuses from now on, or no longer.
    Refuses(bool),
    /// What is parked is tried again.
    Unpark,
    /// Another process may take over.
    LeaseEnds,
    /// A process ends in the middle of whatever it does, and another begins.
    Crash,
    /// Everything is read.
    Rest,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (1_u32..4, 0_usize..100, 1_usize..60).prop_map(|(tenant, first, count)| Happens::Told { tenant, first, count }),
        2 => (1_u32..4, 0_usize..50, 1_500_usize..3_000).prop_map(|(tenant, first, count)| Happens::Told { tenant, first, count }),
        2 => any::<bool>().prop_map(Happens::Refuses),
        2 => Just(Happens::Unpark),
        2 => Just(Happens::LeaseEnds),
        2 => Just(Happens::Crash),
        1 => Just(Happens::Rest),
    ]
}

async fn run(story: Vec<Happens>) {
    REFUSES[2].store(false, Ordering::SeqCst);
    let mut log = Log::new().await;
    let unpark = async |log: &Log| {
        let pool = &log.cell.projector;
        parking::unpark(pool, models::<2>(), "leads", &Which::default(), log.clock.now()).await.unwrap().unwrap()
    };
    let mut running = vec![log.project(models::<2>()), log.project_elsewhere(models::<2>()).await];
    for event in &story {
        match event {
            Happens::Told { tenant, first, count } => {
                log.tell(TenantId::Business(*tenant), *first..first + count).await;
            }
            Happens::Refuses(refuses) => REFUSES[2].store(*refuses, Ordering::SeqCst),
            Happens::Unpark => {
                unpark(&log).await;
            }
            Happens::LeaseEnds => log.free_the_lease().await,
            Happens::Crash => {
                running.remove(0).crash().await;
                running.push(log.project_elsewhere(models::<2>()).await);
            }
            Happens::Rest => {
                let _ = running[0].projections.reached(log.events(), Duration::from_secs(2)).await;
            }
        }
    }
    REFUSES[2].store(false, Ordering::SeqCst);
    for process in &running {
        process.projections.reached(log.events(), Duration::from_secs(120)).await.unwrap();
    }
    assert!(unpark(&log).await.iter().all(|entity| entity.refused.is_none()));
    let after = log.tell(WAITS, 0..100).await;
    for process in running {
        process.projections.reached(after, Duration::from_secs(120)).await.unwrap();
        process.end().await;
    }
    let left: (i64, i64, i64) = sqlx::query_as(
        "select (select count(*) from cell_000.parked_entities), (select count(*) from cell_000.parked_events),
                (select count(*) from cell_000.projection_lanes)",
    )
    .fetch_one(&log.pool)
    .await
    .unwrap();
    assert_eq!(left, (0, 0, 0));
    let kept = log.rows().await;
    assert_eq!(kept.2, log.events());
    assert_versions_follow(&log.pool, "leads", "lead_versions").await;
    assert!(log.folded_anew().await == kept, "{story:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 8, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever comes between what, the rows are those of a plain fold of the log.
    #[test]
    fn whoever_interrupts_whom_the_rows_are_those_of_a_plain_fold(story in prop::collection::vec(happens(), 4..16)) {
        tokio::runtime::Runtime::new().unwrap().block_on(run(story));
    }
}
