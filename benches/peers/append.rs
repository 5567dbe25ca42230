//! Commands that append, with everything on: tenants, both positions, numbers, the chain, metadata, row-level security,
//! and every projection running.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use devhub::access::secrets::MasterKey;
use devhub::aggregates::customer::{Customer, CustomerCommand};
use devhub::aggregates::ids::{CustomerId, InteractionId, LeadId, TenantId, UserId};
use devhub::aggregates::lead::{Lead, LeadCommand};
use devhub::api::App;
use devhub::api::limits::RateLimits;
use devhub::clock::{Clock, new_event_id};
use devhub::event_store::{self, Actor, AppendError, Cell, Context, Database, TenantScope};
use serde_json::json;

use crate::figures::{self, Better, Figures};
use crate::others::Others;
use crate::writers::{self, Reached};
use crate::{Size, checkpoint, machine, stock};

/// Businesses that write.
const TENANTS: usize = 16;
/// The argument that makes the bench nothing but writers, on a database that is there: for who profiles them.
pub const PROFILED: &str = "writers";
/// How much contact the customers have had that a command is sent to.
const GROWN: [usize; 3] = [10, 1_000, 10_000];
/// Writers to grown customers.
const GROWN_WRITERS: usize = 16;

pub fn lead(number: usize) -> LeadCommand {
    let details = json!({
        "name": format!("Mateo Rossi {number}"), "company": "Company 1", "email": "mateo.rossi@example.com",
        "source": "referral", "estimated_value": {"amount": "4000.00", "currency": "USD"},
    });
    LeadCommand::Capture {
        details: serde_json::from_value(details).unwrap(),
        stage: None,
        qualification: None,
        assignee: Some(UserId(4)),
    }
}

/// One more call; no two have the same id.
pub fn call() -> CustomerCommand {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let details = json!({
        "type": "call", "subject": "Walk through the offer", "outcome": "Interested, wants to go on",
        "description": "In their office, with the head of purchasing and two engineers",
    });
    CustomerCommand::LogInteraction {
        id: InteractionId(NEXT.fetch_add(1, Ordering::Relaxed)),
        details: serde_json::from_value(details).unwrap(),
        by: Some(UserId(4)),
        at: "2026-06-02T09:07:00Z".parse().unwrap(),
    }
}

/// The number of a writer's own customer that has had so much contact.
pub fn grown_id(interactions: usize, writer: usize) -> usize {
    interactions * 100 + writer
}

/// A server's inside, without its HTTP.
pub struct Engine {
    pub app: App,
    tasks: devhub::api::Tasks,
    database: Database,
}

impl Engine {
    pub async fn start(url: &str) -> Self {
        let database = Database::connect(url).await.unwrap();
        let (app, tasks) =
            App::start(database.clone(), Clock::system(), MasterKey::generate().unwrap(), RateLimits::default())
                .await
                .unwrap();
        Self { app, tasks, database }
    }

    pub fn cell(&self) -> Cell {
        self.database.cells().next().unwrap().clone()
    }

    pub async fn stop(self) {
        drop(self.app);
        self.tasks.stop(Duration::from_secs(10)).await;
        self.database.close().await;
    }
}

fn context(tenant: TenantId) -> Context {
    let now = Clock::system().now();
    Context { actor: Actor::User(tenant, UserId(4)), ..Context::system(new_event_id(now), now) }
}

/// One lead, durable.
async fn capture(app: &App, writer: usize, number: usize) {
    let tenant = TenantId::Business(1 + u32::try_from(writer % TENANTS).unwrap());
    let work = app.store.begin(TenantScope::of(tenant), context(tenant));
    work.execute::<Lead>(work.next::<Lead>(LeadId::PREFIX), lead(number)).await.unwrap();
    work.commit().await.unwrap();
}

/// One more call with a customer, durable.
async fn log_call(app: &App, customer: usize) {
    let tenant = TenantId::Business(1);
    loop {
        let work = app.store.begin(TenantScope::of(tenant), context(tenant));
        let stream = work.stream::<Customer>(CustomerId(u32::try_from(customer).unwrap()));
        work.execute::<Customer>(stream, call()).await.unwrap();
        match work.commit().await {
            Ok(_) => return,
            Err(AppendError::Conflict(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Customers that have had much contact, a writer each.
async fn grow(app: &App, interactions: usize) {
    let tenant = TenantId::Business(1);
    for writer in 0..GROWN_WRITERS {
        let work = app.store.begin(TenantScope::of(tenant), context(tenant));
        let id = CustomerId(u32::try_from(grown_id(interactions, writer)).unwrap());
        let register = CustomerCommand::Register {
            details: serde_json::from_value(json!({"company": "Company 1"})).unwrap(),
            status: None,
            owner: None,
        };
        work.execute::<Customer>(work.stream::<Customer>(id), register).await.unwrap();
        for _ in 0..interactions {
            work.execute::<Customer>(work.stream::<Customer>(id), call()).await.unwrap();
        }
        work.commit().await.unwrap();
    }
}

/// Until every business's read models have everything.
pub async fn settle(app: &App) {
    let head = app.head();
    for business in 1..=TENANTS {
        let tenant = TenantId::Business(u32::try_from(business).unwrap());
        while app.readable(tenant, head).await.is_err() {}
    }
}

/// So many writers for so long, each capturing leads, and what they came to.
pub async fn only(url: &str, count: usize, time: Duration) {
    event_store::migrate(url).await.unwrap();
    let engine = Engine::start(url).await;
    let reached = create(&Arc::new(engine.app.clone()), count, time).await;
    println!("{:.0} commands/s, p50 {:.2} ms, p99 {:.2} ms", reached.per_second, reached.p50(), reached.p99());
    engine.stop().await;
}

async fn create(app: &Arc<App>, count: usize, time: Duration) -> Reached {
    writers::write(count, time, Arc::clone(app), |app, writer, turn| async move {
        capture(&app, writer, turn).await;
    })
    .await
}

pub async fn round(url: &str, size: Size, others: Option<&Others>, folder: &Path, figures: &mut Figures) {
    let Size { time, .. } = size;
    let single = machine::single_rows(url, 64, time);
    let single_1 = machine::single_rows(url, 1, time);
    checkpoint(url).await;
    let hundreds = machine::hundreds(url, time).await;
    checkpoint(url).await;
    let stock_64 = stock::create(url, 64, time).await;
    let stock_1 = stock::create(url, 1, time).await;
    checkpoint(url).await;
    let mut peers = Vec::new();
    if let Some(others) = others {
        for count in [1, 64] {
            peers.push(("es-entity", count, others.es_entity(url, count, time).await));
        }
        checkpoint(url).await;
        let log = folder.join("umadb").join(new_event_id(Clock::system().now()).to_string());
        let umadb = others.umadb(&log).await;
        for count in [1, 64] {
            peers.push(("UmaDB", count, umadb.create(count, time).await));
        }
    }

    let engine = Engine::start(url).await;
    let app = Arc::new(engine.app.clone());
    let ours_1 = create(&app, 1, time).await;
    let lag = || (app.head() - app.projections.progress().position) as f64;
    let often = Duration::from_millis(20);
    let (lag_64, ours_64) = figures::towards_the_end(create(&app, 64, time), often, lag).await;
    let (later_lag_64, _) = figures::towards_the_end(create(&app, 64, time), often, lag).await;
    let ours_256 = create(&app, 256, time).await;
    settle(&app).await;
    checkpoint(url).await;
    let bare = machine::rows_of_leads(url).await;
    checkpoint(url).await;

    let mut grown = Vec::new();
    for interactions in GROWN {
        grow(&app, interactions).await;
        settle(&app).await;
        checkpoint(url).await;
        let reached =
            writers::write(GROWN_WRITERS, time, (Arc::clone(&app), interactions), |state, writer, _| async move {
                let (app, interactions) = &*state;
                log_call(app, grown_id(*interactions, writer)).await;
            })
            .await;
        grown.push(reached);
    }
    settle(&app).await;
    drop(app);
    engine.stop().await;
    checkpoint(url).await;
    let stock_grown = stock::grown(url, 1_000, GROWN_WRITERS, time).await;

    let rate = |reached: &Reached| reached.per_second;
    figures.note("pgbench, one row an insert, 1 client", "rows/s", single_1);
    figures.note("pgbench, one row an insert, 64 clients", "rows/s", single);
    figures.note("100 rows an insert (unnest), 4 writers", "rows/s", hundreds);
    figures.note("what is stored of captured leads, inserted bare, 2 sessions", "leads/s", bare);
    figures.note("stock, new streams, 64 writers, p50", "ms", stock_64.p50());
    figures.note("new streams, 64 writers, p50", "ms", ours_64.p50());
    for (peer, count, reached) in peers {
        let (ours, writers) = if count == 1 { (&ours_1, "1 writer") } else { (&ours_64, "64 writers") };
        let figure = format!("new streams, {writers}");
        let against = format!("{peer}, {writers}");
        figures.compare(&figure, "commands/s", rate(ours), &against, reached.per_second, Better::AtLeast(1.0));
        figures.compare(
            &format!("{figure}, p99"),
            "ms",
            ours.p99(),
            &format!("{against}, p99"),
            reached.p99,
            Better::AtMost(1.0),
        );
    }
    let mut compare = |figure, unit, value, against, peer, goal| {
        figures.compare(figure, unit, value, against, peer, goal);
    };
    compare(
        "new streams, 1 writer",
        "commands/s",
        rate(&ours_1),
        "stock, 1 writer",
        rate(&stock_1),
        Better::AtLeast(1.8),
    );
    compare(
        "new streams, 64 writers",
        "commands/s",
        rate(&ours_64),
        "stock, 64 writers",
        rate(&stock_64),
        Better::AtLeast(10.0),
    );
    compare(
        "new streams, 64 writers, p99",
        "ms",
        ours_64.p99(),
        "stock, 64 writers, p99",
        stock_64.p99(),
        Better::AtMost(0.1),
    );
    compare(
        "events not yet projected after 64 writers for twice as long",
        "events",
        later_lag_64,
        "for once as long",
        lag_64,
        Better::AtMost(1.2),
    );
    compare(
        "new streams, 256 writers",
        "commands/s",
        rate(&ours_256),
        "100 rows an insert",
        hundreds,
        Better::AtLeast(0.3),
    );
    compare(
        "customer with 1,000 interactions, 16 writers",
        "commands/s",
        rate(&grown[1]),
        "stock, the same",
        rate(&stock_grown),
        Better::AtLeast(25.0),
    );
    compare(
        "customer with 1,000 interactions, 16 writers",
        "commands/s",
        rate(&grown[1]),
        "customer with 10",
        rate(&grown[0]),
        Better::AtLeast(0.8),
    );
    compare(
        "customer with 10,000 interactions, 16 writers",
        "commands/s",
        rate(&grown[2]),
        "customer with 10",
        rate(&grown[0]),
        Better::AtLeast(0.8),
    );
}
