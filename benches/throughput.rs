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

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use common::{BARE_BATCH, BARE_INSERT, median};
use devhub::aggregates::claims::{ClaimChange, ClaimKind};
use devhub::aggregates::ids::TenantId;
use devhub::clock::{Clock, new_event_id};
use devhub::event_store::{self, Append, Database, EventStore, NewEvent, StreamId, StreamWrite};
use devhub::postgres::{Installation, Options, PrivateCluster};
use devhub::projections::{self, Projector};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tokio::sync::watch;

/// Events of one account's life, of which the history is made.
const EVENTS_PER_ACCOUNT: usize = 30;
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
    let (projections, projector) = Projector::start(
        cell.projector.clone(),
        Arc::clone(&cell.name),
        clock,
        projections::all(),
        store.head(),
        stopping,
    );
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

/// The history of a business as an import brings it along: leads that become customers, or do not; calls and
/// meetings; projects and invoices; each event with the old row that it was made of.
fn history(tenant: TenantId, events: usize) -> Vec<Append> {
    let mut steps = Vec::new();
    for account in 0..events.div_ceil(EVENTS_PER_ACCOUNT) {
        for (step, append) in account_of(tenant, account).into_iter().enumerate() {
            // Accounts overlap, as they do in life.
            steps.push((account + 40 * step, append));
        }
    }
    steps.sort_by_key(|(at, _)| *at);
    steps.into_iter().map(|(_, append)| append).collect()
}

/// One account's life, in the order in which it happens.
fn account_of(tenant: TenantId, n: usize) -> Vec<Append> {
    let story = Story { tenant, n, at: "2020-01-01T08:00:00Z".parse().unwrap() };
    let (lead, customer) = (format!("LED-{:03}", 6 * n), format!("CUS-{n:03}"));
    let (project, invoice) = (format!("PRJ-{n:03}"), format!("INV-{n:03}"));
    let mut steps = vec![story.one("Lead", &lead, 0, vec![captured(n), qualified(), stage("new", "contacted")])];
    for other in 1..=5 {
        let (id, name) = (format!("LED-{:03}", 6 * n + other), 7 * n + other);
        let mut what = vec![captured(name)];
        if other < 5 {
            what.push(stage("new", "contacted"));
        }
        steps.push(story.one("Lead", &id, 0, what));
    }
    for call in 0..2 {
        steps.push(story.one("Lead", &lead, 3 + call as i64, vec![contact(8 * n + call)]));
    }
    let carried: Vec<Value> = (0..2).map(|call| interaction(8 * n + call, true)).collect();
    let registered = vec![
        (
            "CustomerRegistered",
            json!({"Registered": {
                "company": format!("Company {n}"), "email": {"personal": format!("mateo.rossi.{n}@example.com")},
                "from_lead": lead, "name": {"personal": format!("Mateo Rossi {n}")}, "owner": "USR-004",
                "phone": {"personal": "+1 555 0100 1000"}, "status": "active",
            }}),
        ),
        ("CustomerHistoryCarriedOver", json!({"HistoryCarriedOver": {"interactions": carried, "lead": lead}})),
    ];
    steps.push(story.of(vec![
        story.write("Customer", &customer, 0, registered),
        story.write("Lead", &lead, 5, vec![("LeadConverted", json!({"Converted": {"customer": customer}}))]),
    ]));
    for call in 0..6 {
        let logged = json!({"InteractionLogged": interaction(8 * n + 2 + call, false)});
        steps.push(story.one("Customer", &customer, 2 + call as i64, vec![("CustomerInteractionLogged", logged)]));
    }
    steps.push(story.one("Project", &project, 0, vec![
        ("ProjectPlanned", json!({"Planned": {
            "customers": [customer], "details": {
                "budget": {"amount": "3200.00", "currency": "USD"}, "due_date": "2026-07-28", "hours_estimated": "40.00",
                "description": "From the signed offer to the last training.", "name": format!("Roll-out {n}"),
                "priority": "high", "start_date": "2026-06-20",
            }, "owner": "USR-002", "status": "planned",
        }})),
        ("ProjectMemberAssigned", json!({"MemberAssigned": {"role": "Consultant", "user": "USR-006"}})),
        ("ProjectStatusChanged", json!({"StatusChanged": {"from": "planned", "to": "in_progress"}})),
    ]));
    let hours = json!({"HoursLogged": {"hours": "6.75", "on": "2026-06-27", "user": "USR-006"}});
    steps.push(story.one("Project", &project, 3, vec![("ProjectHoursLogged", hours)]));
    let sent = ("InvoiceSent", json!({"Sent": {}}));
    let mut invoiced =
        story.one("Invoice", &invoice, 0, vec![("InvoiceDrafted", drafted(n, &customer, &project)), sent]);
    invoiced.writes[0].events[0].claims =
        vec![ClaimChange::Take { kind: ClaimKind::InvoiceNumber, key: format!("2026-{n:05}") }];
    steps.push(invoiced);
    steps.push(story.one("Invoice", &invoice, 2, vec![("InvoicePaid", json!({"Paid": {"paid_on": "2026-07-19"}}))]));
    steps
}

struct Story {
    tenant: TenantId,
    n: usize,
    at: DateTime<Utc>,
}

impl Story {
    fn one(&self, kind: &'static str, id: &str, expected: i64, events: Vec<(&str, Value)>) -> Append {
        self.of(vec![self.write(kind, id, expected, events)])
    }

    fn of(&self, writes: Vec<StreamWrite>) -> Append {
        Append { tenant: self.tenant, writes, guards: vec![], conditions: vec![], idempotency: None }
    }

    fn write(&self, kind: &'static str, id: &str, expected: i64, events: Vec<(&str, Value)>) -> StreamWrite {
        let occurred_at = self.at + TimeDelta::minutes(self.n as i64);
        // The old row, as text: about a kilobyte.
        let row = json!({"id": id, "kind": kind, "columns": (0..24).map(|c| format!("column {c} of {id}: value {}", self.n * c))
            .collect::<Vec<_>>()});
        let metadata: Arc<str> = json!({
            "actor": format!("{}:USR-004", self.tenant), "correlation_id": "01920000-0000-7000-8000-000000000001",
            "legacy_row": row.to_string(), "source": "import",
        })
        .to_string()
        .into();
        let event = |(event_type, payload): (&str, Value)| NewEvent {
            event_id: new_event_id(occurred_at),
            event_type: event_type.to_owned(),
            event_version: "1".to_owned(),
            payload: payload.to_string(),
            metadata: Arc::clone(&metadata),
            occurred_at,
            claims: vec![],
        };
        let target = StreamId::new(kind, self.tenant, id).into();
        StreamWrite { target, expected, events: events.into_iter().map(event).collect() }
    }
}

fn captured(n: usize) -> (&'static str, Value) {
    (
        "LeadCaptured",
        json!({"Captured": {
            "assignee": "USR-004", "company": format!("Company {n}"),
            "email": {"personal": format!("mateo.rossi.{n}@example.com")},
            "estimated_value": {"amount": "4000.00", "currency": "USD"}, "expected_close_date": "2026-07-13",
            "job_title": {"personal": "Head of Operations"}, "name": {"personal": format!("Mateo Rossi {n}")},
            "phone": {"personal": "+1 555 0100 1000"}, "probability": 5, "probability_set_by_hand": false,
            "qualification": "new", "source": "website", "stage": "new",
        }}),
    )
}

fn qualified() -> (&'static str, Value) {
    ("LeadQualified", json!({"Qualified": {"qualification": "sales_qualified"}}))
}

fn stage(from: &str, to: &str) -> (&'static str, Value) {
    ("LeadStageChanged", json!({"StageChanged": {"from": from, "probability": 20, "to": to}}))
}

fn contact(number: usize) -> (&'static str, Value) {
    ("LeadInteractionLogged", json!({"InteractionLogged": interaction(number, false)}))
}

fn interaction(number: usize, carried: bool) -> Value {
    let mut interaction = json!({
        "billable": true, "by": "USR-004", "completed_at": "2026-06-02T09:07:00Z",
        "description": {"personal": "In their office, with the head of purchasing and two engineers"},
        "follow_up_date": "2026-03-20", "hours": "1.50", "id": format!("INT-{number:03}"),
        "outcome": {"personal": "Interested, wants to go on"}, "priority": "medium",
        "subject": {"personal": "Walk through the offer"}, "type": "meeting",
    });
    if carried {
        interaction["status"] = json!("completed");
    }
    interaction
}

fn drafted(n: usize, customer: &str, project: &str) -> Value {
    let money = |amount: &str| json!({"amount": amount, "currency": "USD"});
    json!({"Drafted": {
        "currency": "USD", "customer": customer, "due_date": "2026-07-28", "issue_date": "2026-06-28",
        "lines": [{
            "description": format!("Roll-out {n}, first half"), "net": money("2000.00"), "quantity": "1",
            "tax": money("160.00"), "tax_rate": "8", "total": money("2160.00"), "unit_price": "2000.00",
        }],
        "net": money("2000.00"), "number": format!("2026-{n:05}"), "project": project, "tax": money("160.00"),
        "terms": "Net 30 days", "total": money("2160.00"),
    }})
}
