//! How things stood at an instant, on either clock: always what the log tells up to it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use devhub::aggregates::ids::TenantId;
use devhub::api::customers::CustomerView;
use devhub::api::leads::LeadView;
use devhub::event_store::reader::events_after;
use devhub::event_store::{NewEvent, StreamId};
use devhub::legacy::{self, Options, Progress};
use devhub::projections::Fact;
use devhub::projections::customers::{CustomerRow, Customers};
use devhub::projections::leads::{LeadRow, Leads};
use devhub::projections::model::{Projection, Touched};
use devhub::projections::row::Stored;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};

use crate::legacy::OldDatabase;
use crate::told;
use crate::world::{Client, World};

/// Which clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axis {
    Occurred,
    Recorded,
}

impl Axis {
    fn name(self) -> &'static str {
        match self {
            Self::Occurred => "occurred",
            Self::Recorded => "recorded",
        }
    }
}

/// A tenant's log from its beginning.
async fn log(world: &World, tenant: TenantId) -> Vec<Fact> {
    let cell = world.app.database.cells().next().unwrap();
    let events = events_after(&cell.appender, 0, 100_000).await.unwrap();
    events.into_iter().filter(|event| event.tenant_id == tenant).flat_map(|event| Fact::read(event).unwrap()).collect()
}

/// The rows that a log makes up to an instant. What is recorded late counts, in the business too, from the version before
/// it on at the earliest.
fn fold<P: Projection>(log: &[Fact], at: DateTime<Utc>, axis: Axis) -> BTreeMap<String, Stored<P::Row>> {
    let mut rows: BTreeMap<String, Stored<P::Row>> = BTreeMap::new();
    let mut since: BTreeMap<String, DateTime<Utc>> = BTreeMap::new();
    for fact in log {
        let recorded = &fact.recorded;
        for touched in P::touched(fact) {
            let (Touched::New(id) | Touched::Known(id)) = touched;
            let from = since.get(&id).map_or(recorded.occurred_at, |since| recorded.occurred_at.max(*since));
            since.insert(id.clone(), from);
            let told = match axis {
                Axis::Occurred => from,
                Axis::Recorded => recorded.recorded_at,
            };
            if told > at {
                continue;
            }
            let before = rows.get(&id);
            let Some(row) = P::fold(before.map(|stored| stored.row.clone()), &id, fact).unwrap() else { continue };
            let stored = Stored {
                tenant_id: recorded.tenant_id.to_string(),
                id: id.clone(),
                version: recorded.sequence,
                created_at: before.map_or(recorded.occurred_at, |before| before.created_at),
                updated_at: from,
                position: recorded.position,
                occurred_from: from,
                recorded_from: recorded.recorded_at,
                row,
            };
            rows.insert(id, stored);
        }
    }
    rows
}

/// Everything that a list has, page by page.
async fn all(client: &Client, path: &str) -> Vec<Value> {
    let (mut rows, mut next) = (Vec::new(), Some(path.to_owned()));
    while let Some(path) = next {
        let answer = client.get(&path).await;
        rows.extend(answer.ok()["data"].as_array().unwrap().iter().cloned());
        next = answer.header("link").map(|link| link.trim_start_matches('<').split('>').next().unwrap().to_owned());
    }
    rows
}

fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// What happens to one lead or customer of a few.
#[derive(Debug, Clone)]
struct Step {
    lead: bool,
    number: u32,
    kind: u8,
    /// How long ago it happened when it is recorded.
    minutes_ago: i64,
}

/// A history: batches, each recorded so many seconds after the one before.
fn history() -> impl Strategy<Value = Vec<(u64, Vec<Step>)>> {
    let ago = prop_oneof![3 => Just(0_i64), 2 => 0..5_i64, 2 => 0..500_000_i64];
    let step = (any::<bool>(), 0..3_u32, any::<u8>(), ago).prop_map(|(lead, number, kind, minutes_ago)| Step {
        lead,
        number,
        kind,
        minutes_ago,
    });
    vec((0..3_u64, vec(step, 1..7)), 1..6)
}

fn lead_event(sequence: i64, kind: u8) -> (&'static str, Value) {
    if sequence == 1 {
        let captured = json!({"name": {"personal": "Grace"}, "source": "website", "stage": "new", "qualification": "new",
            "assignee": "USR-001", "probability": 10, "probability_set_by_hand": false});
        return ("LeadCaptured", json!({"Captured": captured}));
    }
    match kind % 7 {
        0 | 1 => {
            let changes =
                json!({"company": format!("Company {kind}"), "phone": {"personal": format!("+1 555 {kind:04}")}});
            ("LeadDetailsChanged", json!({"DetailsChanged": {"changes": changes}}))
        }
        2 => ("LeadStageChanged", json!({"StageChanged": {"from": "new", "to": "contacted", "probability": 20}})),
        3 => ("LeadStageChanged", json!({"StageChanged": {"from": "new", "to": "proposal", "probability": 60}})),
        4 => ("LeadLost", json!({"Lost": {"reason": "No budget"}})),
        5 => ("LeadDeleted", json!({"Deleted": {}})),
        _ => ("LeadRestored", json!({"Restored": {}})),
    }
}

fn customer_event(sequence: i64, kind: u8) -> (&'static str, Value) {
    if sequence == 1 {
        return (
            "CustomerRegistered",
            json!({"Registered": {"company": "Navy", "owner": "USR-001", "status": "prospect"}}),
        );
    }
    match kind % 5 {
        0 | 1 => {
            let changes = json!({"company": format!("Company {kind}")});
            ("CustomerDetailsChanged", json!({"DetailsChanged": {"changes": changes}}))
        }
        2 => ("CustomerStatusChanged", json!({"StatusChanged": {"from": "prospect", "to": "active"}})),
        3 => ("CustomerDeleted", json!({"Deleted": {}})),
        _ => ("CustomerRestored", json!({"Restored": {}})),
    }
}

/// Records a history of records that nobody has heard of yet; `first` is the number of the first of them.
async fn record(world: &World, tenant: TenantId, first: u32, history: &[(u64, Vec<Step>)]) {
    let (mut sequences, mut stored) = (BTreeMap::<(bool, u32), i64>::new(), 0);
    for (seconds, steps) in history {
        world.clock.advance(Duration::from_secs(*seconds));
        let mut appends = Vec::new();
        for step in steps {
            let sequence = sequences.entry((step.lead, step.number)).or_default();
            *sequence += 1;
            let number = first + step.number;
            let (stream, (event_type, payload)) = if step.lead {
                (StreamId::new("Lead", tenant, format_args!("LED-{number}")), lead_event(*sequence, step.kind))
            } else {
                (StreamId::new("Customer", tenant, format_args!("CUS-{number}")), customer_event(*sequence, step.kind))
            };
            let now = world.clock.now();
            let occurred_at = now - TimeDelta::minutes(step.minutes_ago);
            let event = NewEvent { occurred_at, ..told::event(now, event_type, &payload) };
            appends.push(told::one(stream, *sequence - 1, event));
        }
        for outcome in world.app.store.append_all(appends).await {
            stored = stored.max(outcome.unwrap().position);
        }
    }
    world.app.projections.reached(stored, Duration::from_secs(30)).await.unwrap();
}

/// What a noun's list, with a filter and without, and each of its records must be at an instant.
struct Expected {
    path: &'static str,
    filter: (&'static str, fn(&Value) -> bool),
    /// Every record that ever was, with what is shown of it if it was there.
    records: BTreeMap<String, Option<Value>>,
}

impl Expected {
    fn leads(log: &[Fact], at: DateTime<Utc>, axis: Axis) -> Self {
        let shown = |stored: Stored<LeadRow>| {
            stored.row.deleted_at.is_none().then(|| serde_json::to_value(LeadView::from(stored)).unwrap())
        };
        let filter: fn(&Value) -> bool = |lead| lead["stage"] == "new" || lead["stage"] == "contacted";
        Self {
            path: "leads",
            filter: ("stage=new,contacted", filter),
            records: Self::of::<Leads>(log, at, axis, shown),
        }
    }

    fn customers(log: &[Fact], at: DateTime<Utc>, axis: Axis) -> Self {
        let shown = |stored: Stored<CustomerRow>| {
            stored.row.deleted_at.is_none().then(|| serde_json::to_value(CustomerView::from(stored)).unwrap())
        };
        let filter: fn(&Value) -> bool = |customer| customer["company"] != "Navy";
        let records = Self::of::<Customers>(log, at, axis, shown);
        Self { path: "customers", filter: ("company[ne]=Navy", filter), records }
    }

    fn of<P: Projection>(
        log: &[Fact],
        at: DateTime<Utc>,
        axis: Axis,
        shown: impl Fn(Stored<P::Row>) -> Option<Value>,
    ) -> BTreeMap<String, Option<Value>> {
        let ever: BTreeSet<String> = fold::<P>(log, DateTime::<Utc>::MAX_UTC, axis).into_keys().collect();
        let mut then = fold::<P>(log, at, axis);
        ever.into_iter().map(|id| (id.clone(), then.remove(&id).and_then(&shown))).collect()
    }

    async fn compare(&self, owner: &Client, at: DateTime<Utc>, axis: Axis) -> Result<(), TestCaseError> {
        let Self { path, filter: (query, chosen), records } = self;
        let when = format!("as_of={}&axis={}", instant(at), axis.name());
        let mut present: Vec<Value> = records.values().flatten().cloned().collect();
        let key =
            |row: &Value| (row["updated_at"].as_str().unwrap().to_owned(), row["id"].as_str().unwrap().to_owned());
        // As the database compares times, and not their texts.
        present.sort_by_key(|row| (key(row).0.parse::<DateTime<Utc>>().unwrap(), key(row).1));
        present.reverse();
        let listed = all(owner, &format!("/api/{path}?{when}&limit=7")).await;
        prop_assert_eq!(&listed, &present, "{} {}", path, when);
        let counted = owner.get(&format!("/api/{path}?{when}&count=exact&limit=1&{query}")).await.ok();
        let matching: Vec<Value> = present.into_iter().filter(chosen).collect();
        prop_assert_eq!(&counted["page"]["total"], &json!(matching.len()), "{} {} {}", path, when, query);
        let listed = all(owner, &format!("/api/{path}?{when}&limit=3&{query}")).await;
        prop_assert_eq!(&listed, &matching, "{} {} {}", path, when, query);
        for (id, record) in records.iter().rev().take(8) {
            let answer = owner.get(&format!("/api/{path}/{id}?{when}")).await;
            match record {
                Some(record) => prop_assert_eq!(&answer.expect(200), record, "{} {}", id, when),
                None => prop_assert_eq!(answer.status.as_u16(), 404, "{} {}", id, when),
            }
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn as_of_any_instant_is_what_the_log_tells_up_to_it() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let tenant: TenantId = owner.tenant.clone().unwrap().parse().unwrap();
    let config = Config { cases: 12, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    // Each history is added to those before it: one business grows old.
    let first = RefCell::new(100);
    tokio::task::block_in_place(|| {
        let instants = vec((any::<prop::sample::Index>(), any::<bool>(), -1..=1_i64), 4);
        runner
            .run(&(history(), instants), |(history, instants)| {
                let number = first.replace_with(|first| *first + 10);
                tokio::runtime::Handle::current().block_on(async {
                    record(&world, tenant, number, &history).await;
                    let log = log(&world, tenant).await;
                    let recent = &log[log.len().saturating_sub(60)..];
                    for (which, recorded, microseconds) in &instants {
                        let event = &which.get(recent).recorded;
                        let at = if *recorded { event.recorded_at } else { event.occurred_at };
                        let at = at + TimeDelta::microseconds(*microseconds);
                        for axis in [Axis::Occurred, Axis::Recorded] {
                            Expected::leads(&log, at, axis).compare(&owner, at, axis).await?;
                            Expected::customers(&log, at, axis).compare(&owner, at, axis).await?;
                        }
                    }
                    Ok(())
                })
            })
            .unwrap();
    });
}

#[tokio::test]
async fn what_is_recorded_late_counts_from_when_it_happened_and_is_known_from_when_it_was_recorded() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let tenant: TenantId = owner.tenant.clone().unwrap().parse().unwrap();
    let step = |kind, minutes_ago| (60, vec![Step { lead: true, number: 0, kind, minutes_ago }]);
    // Captured yesterday and moved to proposal two hours ago, as it was recorded at 9:01 and 9:02; at 9:03 somebody
    // remembers that it was contacted three hours ago.
    record(&world, tenant, 100, &[step(0, 24 * 60), step(3, 120), step(2, 180)]).await;
    let stage = async |query: &str| {
        let answer = owner.get(&format!("/api/leads/LED-100?as_of={query}")).await;
        if answer.status == 404 { "not there".to_owned() } else { answer.ok()["stage"].as_str().unwrap().to_owned() }
    };
    for (as_of, occurred, recorded) in [
        ("2026-03-01T09:00:59Z", "not there", "not there"),
        ("2026-03-01T09:01:00Z", "new", "not there"),
        ("2026-03-02T07:01:59Z", "new", "not there"),
        // What was recorded late does not take the place of what was known by then to come after it.
        ("2026-03-02T07:02:00Z", "contacted", "not there"),
        ("2026-03-02T09:01:00Z", "contacted", "new"),
        ("2026-03-02T09:02:59Z", "contacted", "proposal"),
        ("2026-03-02T09:03:00Z", "contacted", "contacted"),
        ("2026-03-02", "contacted", "contacted"),
        ("2099-01-01", "contacted", "contacted"),
    ] {
        assert_eq!(stage(as_of).await, occurred, "{as_of}");
        assert_eq!(stage(&format!("{as_of}&axis=recorded")).await, recorded, "{as_of}");
    }
    let history = owner.get("/api/leads/LED-100/history").await.ok();
    let late = &history["data"][0];
    assert_eq!(
        (&late["occurred_at"], &late["recorded_at"], &late["effective_from"]),
        (&json!("2026-03-02T06:03:00Z"), &json!("2026-03-02T09:03:00Z"), &json!("2026-03-02T07:02:00Z"))
    );
    assert_eq!(late["actor"], json!({"id": "system"}));
}

#[tokio::test]
async fn a_cursor_belongs_to_its_instant() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    for name in ["Ada", "Bo", "Cy"] {
        owner.post("/api/leads", json!({"name": name})).await.created();
    }
    let page = owner.get("/api/leads?as_of=2026-03-02&limit=1").await;
    let body = page.ok();
    let cursor = body["page"]["next_cursor"].as_str().unwrap();
    assert!(page.header("link").unwrap().contains("as_of=2026-03-02"));
    owner.get(&format!("/api/leads?as_of=2026-03-02&limit=1&cursor={cursor}")).await.ok();
    for other in ["as_of=2026-03-03", "as_of=2026-03-02&axis=recorded", "q=a"] {
        owner.get(&format!("/api/leads?{other}&limit=1&cursor={cursor}")).await.problem(400, "invalid_cursor");
    }
    // Between two pages nothing moves, whatever happens meanwhile.
    world.clock.advance(Duration::from_secs(24 * 3600));
    let again = world.nobody().signed_in("owner@acme.test", crate::world::PASSWORD).await;
    again.patch("/api/leads/LED-000", json!({"company": "Later"})).await.ok();
    let names: Vec<Value> =
        all(&again, "/api/leads?as_of=2026-03-02&limit=1").await.iter().map(|lead| lead["name"].clone()).collect();
    assert_eq!(names, ["Cy", "Bo", "Ada"]);
}

async fn imported(world: &World) -> Client {
    let old = OldDatabase::sample().await;
    let options = Options { tenant: TenantId::Legacy, dry_run: false, accept_deletions: false, mappings: Vec::new() };
    legacy::import(&world.app, &SecretString::from(old.url.as_str()), &options, &Progress::hidden()).await.unwrap();
    world.caught_up().await;
    world.founder().await
}

/// The day long before the import for which the open pipeline is asked.
const THEN: &str = "2017-06-30";

#[tokio::test]
async fn the_imported_business_can_be_seen_on_days_long_before_the_import() {
    let world = World::start().await;
    let founder = imported(&world).await;
    let list = format!("/api/admin/tenants/DEV-000/leads?stage[ne]=closed_won,closed_lost&as_of={THEN}");
    let listed = all(&founder, &format!("{list}&sort=id&limit=20")).await;
    let listed: BTreeSet<(String, String)> = listed
        .iter()
        .map(|lead| (lead["id"].as_str().unwrap().to_owned(), lead["stage"].as_str().unwrap().to_owned()))
        .collect();
    let end: DateTime<Utc> = "2017-06-30T23:59:59.999999Z".parse().unwrap();
    let open = |stage: &str| !["closed_won", "closed_lost"].contains(&stage);
    let told: BTreeSet<(String, String)> = fold::<Leads>(&log(&world, TenantId::Legacy).await, end, Axis::Occurred)
        .into_values()
        .filter(|lead| lead.row.deleted_at.is_none() && open(&lead.row.stage))
        .map(|lead| (lead.id, lead.row.stage))
        .collect();
    let mut connection = PgConnection::connect(&world.url).await.unwrap();
    let asked: Vec<(String, String)> = sqlx::query_as(
        "select id, stage from cell_000.lead_versions
         where tenant_id = 'DEV-000' and occurred_from < '2017-07-01' and occurred_to >= '2017-07-01'
           and deleted_at is null and stage not in ('closed_won', 'closed_lost')",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert!(listed.len() > 20, "only {} leads were open", listed.len());
    assert_eq!(listed, told);
    assert_eq!(listed, asked.into_iter().collect());
    let now: BTreeSet<String> = all(&founder, "/api/admin/tenants/DEV-000/leads?stage[ne]=closed_won,closed_lost")
        .await
        .iter()
        .map(|lead| lead["id"].as_str().unwrap().to_owned())
        .collect();
    assert_ne!(listed.iter().map(|(id, _)| id.clone()).collect::<BTreeSet<_>>(), now);
    // The log knows of it only since the import.
    assert_eq!(founder.get(&format!("{list}&axis=recorded")).await.ok()["data"], json!([]));

    let lead = "/api/admin/tenants/DEV-000/leads/LED-001";
    assert_eq!(founder.get(&format!("{lead}?as_of=2016-12-31")).await.ok()["customer_id"], Value::Null);
    assert_eq!(founder.get(&format!("{lead}?as_of={THEN}")).await.ok()["customer_id"], "CUS-038");
    founder.get(&format!("{lead}?as_of=2016-10-22")).await.problem(404, "not_found");
    let history = founder.get(&format!("{lead}/history")).await.ok();
    let captured = history["data"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&captured["imported_from"], &captured["occurred_at"]),
        (&json!("leads/2"), &json!("2016-10-23T14:38:00Z"))
    );
    let interactions = all(&founder, &format!("{lead}/interactions?as_of={THEN}")).await;
    assert_eq!(interactions.len(), 2);
}

/// The page that explains it, as it is committed.
const PAGE: &str = include_str!("../../docs/history.md");

#[tokio::test]
async fn every_query_of_the_page_on_history_runs_as_written() {
    let world = World::start().await;
    imported(&world).await;
    let mut connection = PgConnection::connect(&world.url).await.unwrap();
    let queries: Vec<&str> = PAGE.split("```sql\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    assert!(queries.len() >= 4, "{} queries", queries.len());
    for query in queries {
        // Each stands for itself, as an analyst would paste it.
        connection.execute("reset all").await.unwrap();
        let rows = connection.fetch_all(query).await.unwrap_or_else(|error| panic!("{error}\n{query}"));
        assert!(!rows.is_empty(), "finds nothing:\n{query}");
    }
}
