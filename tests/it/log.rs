//! The log: dense, chained, readable by stock postgres-es, and beyond the reach of whoever may not see or change it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use cqrs_es::persist::{PersistedEventRepository, PersistedEventStore};
use cqrs_es::{AggregateContext, EventStore as _};
use devhub::aggregates::ids::TenantId;
use devhub::aggregates::lead::Lead;
use devhub::clock::Clock;
use devhub::event_store::hash::{GENESIS, Link};
use devhub::event_store::reader::{Entry, entries_between, events_after};
use devhub::event_store::{self, Database, EventStore, Recorded, StreamId};
use postgres_es::PostgresEventRepository;
use serde_json::{Value, json};
use serde_json_canonicalizer::to_vec as canonical;
use sqlx::PgPool;
use uuid::Uuid;

use crate::cluster::{fresh_database, scratch};
use crate::told;
use crate::world::World;

/// Two businesses that work at the same time.
async fn busy(world: &World) {
    let (acme, other) = (world.business("ACME").await, world.business("Other").await);
    let work = (0..60).map(|n| {
        let business = if n % 3 == 0 { other.clone() } else { acme.clone() };
        tokio::spawn(async move {
            let lead = business.post("/api/leads", json!({"name": format!("Zoë {n} \u{1F600}")})).await.created();
            business.post(&format!("/api/leads/{lead}/stage"), json!({"stage": "contacted"})).await.ok();
            business
                .patch(&format!("/api/leads/{lead}"), json!({"company": "Ä\"\\/ \u{2028}", "probability": 33}))
                .await
                .ok();
        })
    });
    for done in futures::future::join_all(work).await {
        done.unwrap();
    }
    world.caught_up().await;
}

async fn log(world: &World) -> Vec<Recorded> {
    let cell = world.app.database.cells().next().unwrap();
    events_after(&cell.appender, 0, 100_000).await.unwrap()
}

#[tokio::test]
async fn positions_are_dense_over_the_cell_and_for_each_tenant_and_the_chain_holds() {
    let world = World::start().await;
    busy(&world).await;
    let events = log(&world).await;
    assert!(events.len() > 180, "{}", events.len());
    let mut heads: BTreeMap<String, (i64, Vec<u8>)> = BTreeMap::new();
    for (event, position) in events.iter().zip(1..) {
        assert_eq!(event.position, position);
        let (last, hash) = heads.entry(event.tenant_id.to_string()).or_insert((0, GENESIS.to_vec()));
        assert_eq!(event.tenant_position, *last + 1);
        let link = Link {
            tenant_id: &event.tenant_id.to_string(),
            tenant_position: event.tenant_position,
            aggregate_type: &event.aggregate_type,
            aggregate_id: &event.aggregate_id,
            sequence: event.sequence,
            event_id: event.event_id,
            event_type: &event.event_type,
            event_version: &event.event_version,
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            payload: &canonical(&event.payload).unwrap(),
            metadata: &canonical(&event.metadata).unwrap(),
        };
        *hash = link.hash(hash).to_vec();
        assert_eq!(*hash, event.hash, "position {position}");
        *last = event.tenant_position;
    }
    assert!(events.is_sorted_by_key(|event| event.recorded_at));
}

#[tokio::test]
async fn what_is_handed_on_right_behind_the_appender_is_what_the_log_says() {
    let url = fresh_database("devhub", event_store::migrate).await;
    let database = Database::connect(&url).await.unwrap();
    let cell = database.cells().next().unwrap().clone();
    let (store, _) = EventStore::open(&cell, Clock::system());
    let names = ["Zoë \u{1F600}", "Ä\"\\/ \u{2028}", "tab\tand\nline", "", "é e\u{301}"];
    let metadata = [
        r#"{"actor":"TNT-001:USR-004","correlation_id":"01920000-0000-7000-8000-000000000001","role":"OWNER"}"#,
        r#"{"request_id":"\u00e9","correlation_id":"a","actor":"system"}"#,
        r#"{"actor":"system"}"#,
    ];
    let appends = (0..90).map(|n| {
        let name = names[n % names.len()];
        let mut event = told::captured(Clock::system().now(), name);
        event.metadata = Arc::from(metadata[n % metadata.len()]);
        event.event_version = format!("1.{n}");
        let tenant = TenantId::Business(u32::try_from(n % 4).unwrap());
        told::one(StreamId::new("Lead", tenant, format_args!("LED-{n:03}")), 0, event)
    });
    for outcome in store.append_all(appends.collect()).await {
        outcome.unwrap();
    }
    let handed_on = store.tail().take_after(0, 1_000).unwrap();
    let read = entries_between(&cell.projector, (0, i64::MAX), &[], 1_000).await.unwrap();
    assert_eq!(handed_on.len(), 90);
    // The log keeps the text of JSON in an order of its own.
    let meaning = |entry: &Entry| {
        let payload: Value = serde_json::from_str(&entry.payload).unwrap();
        let metadata: BTreeMap<_, _> = entry.recorded.metadata.iter().collect();
        format!("{:?} {metadata:?} {payload}", Recorded { metadata: HashMap::new(), ..entry.recorded.clone() })
    };
    assert_eq!(handed_on.iter().map(meaning).collect::<Vec<_>>(), read.iter().map(meaning).collect::<Vec<_>>());
}

#[tokio::test]
async fn every_version_follows_the_one_before_and_the_last_one_is_the_row() {
    let world = World::start().await;
    busy(&world).await;
    let pool = PgPool::connect(&world.url).await.unwrap();
    for (rows, versions) in [("leads", "lead_versions"), ("users", "user_versions"), ("tenants", "tenant_versions")] {
        assert_versions_follow(&pool, rows, versions).await;
    }
}

/// That every version follows the one before and the last one is the row.
pub async fn assert_versions_follow(pool: &PgPool, rows: &str, versions: &str) {
    let broken: i64 = sqlx::query_scalar(&format!(
        "select count(*) from (
             select occurred_to, recorded_to,
                    lead(occurred_from, 1, 'infinity') over w as next_occurred,
                    lead(recorded_from, 1, 'infinity') over w as next_recorded
             from cell_000.{versions} window w as (partition by tenant_id, id order by position)
         ) v where occurred_to <> next_occurred or recorded_to <> next_recorded"
    ))
    .fetch_one(pool)
    .await
    .unwrap();
    assert_eq!(broken, 0, "{versions}");
    let differing: i64 = sqlx::query_scalar(&format!(
        "select count(*) from cell_000.{rows} r full join
             (select * from cell_000.{versions} where recorded_to = 'infinity') v using (tenant_id, id)
         where r.position is distinct from v.position or r.version is distinct from v.version
            or to_jsonb(r) is distinct from to_jsonb(v) - 'occurred_to' - 'recorded_to'"
    ))
    .fetch_one(pool)
    .await
    .unwrap();
    assert_eq!(differing, 0, "{rows}");
}

#[tokio::test]
async fn stock_postgres_es_reads_what_we_wrote() {
    let world = World::start().await;
    busy(&world).await;
    let cell = world.app.database.cells().next().unwrap();
    let repository = PostgresEventRepository::new(cell.appender.clone());
    let events = repository.get_events::<Lead>("TNT-000:LED-007").await.unwrap();
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2, 3]);
    let store = PersistedEventStore::<_, Lead>::new_event_store(PostgresEventRepository::new(cell.appender.clone()));
    let mut theirs = store.load_aggregate("TNT-000:LED-007").await.unwrap();
    let stream = StreamId::new("Lead", "TNT-000".parse().unwrap(), "LED-007");
    let ours = world.app.store.streams().load::<Lead>(&stream).await.unwrap();
    assert_eq!((theirs.aggregate(), ours.version), (&mut ours.state.clone(), 3));
}

#[tokio::test]
async fn the_writing_role_can_neither_change_nor_remove_an_event() {
    let world = World::start().await;
    world.business("ACME").await;
    let cell = world.app.database.cells().next().unwrap();
    for statement in ["update events set payload = '{}'", "delete from events", "truncate events"] {
        for pool in [&cell.appender, &cell.projector, &cell.request, &cell.founder, &cell.sign_in] {
            let refused = sqlx::query(statement).execute(pool).await.unwrap_err();
            assert_eq!(refused.as_database_error().unwrap().code().as_deref(), Some("42501"), "{statement}");
        }
    }
}

#[tokio::test]
async fn the_database_shows_a_request_nothing_until_it_says_whose() {
    let world = World::start().await;
    busy(&world).await;
    let request = &world.app.database.cells().next().unwrap().request;
    for table in ["events", "leads", "lead_versions", "users", "tenants", "activity", "customers"] {
        let seen: i64 = sqlx::query_scalar(&format!("select count(*) from {table}")).fetch_one(request).await.unwrap();
        assert_eq!(seen, 0, "{table}");
    }
    let mut transaction = request.begin().await.unwrap();
    sqlx::query("select set_config('devhub.tenant_id', 'TNT-001', true)").execute(&mut *transaction).await.unwrap();
    let tenants: Vec<String> =
        sqlx::query_scalar("select distinct tenant_id from events").fetch_all(&mut *transaction).await.unwrap();
    assert_eq!(tenants, ["TNT-001"]);
    let refused =
        sqlx::query("insert into leads (tenant_id, id) values ('TNT-001', 'LED-999')").execute(&mut *transaction).await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn two_servers_share_a_database_and_count_every_event_once() {
    let world = World::start().await;
    let second = world.second_server().await;
    let here = world.business("ACME").await;
    let there = here.at(&second);
    let work = (0..80).map(|n| {
        let (client, other) = if n % 2 == 0 { (here.clone(), there.clone()) } else { (there.clone(), here.clone()) };
        tokio::spawn(async move {
            let written = client.post("/api/leads", json!({"name": format!("Lead {n}")})).await;
            let position = written.header("devhub-position").unwrap().to_owned();
            let id = written.created();
            // The other server shows it once it is asked to wait for it.
            let wait = [("devhub-min-position", position.as_str())];
            let path = format!("/api/leads/{id}");
            other.send(axum::http::Method::GET, &path, &wait, None).await.ok();
            other.post(&format!("{path}/stage"), json!({"stage": "contacted"})).await.ok();
            id
        })
    });
    let ids: std::collections::BTreeSet<String> =
        futures::future::join_all(work).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(ids.len(), 80);
    let events = log(&world).await;
    assert!(events.iter().zip(1..).all(|(event, position)| event.position == position));
    let head = events.last().unwrap().position;
    second.app.projections.reached(head, std::time::Duration::from_secs(30)).await.unwrap();
    let pool = PgPool::connect(&world.url).await.unwrap();
    let counted: (i64, i64) = sqlx::query_as(
        "select (select count(*) from cell_000.activity), (select count(*) from cell_000.lead_versions)",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(counted, (head, 160));
}

#[tokio::test]
async fn two_servers_take_turns_on_one_customer_and_each_decides_on_what_the_other_did() {
    let world = World::start().await;
    let second = world.second_server().await;
    let here = world.business("ACME").await;
    let there = here.at(&second);
    let customer = here.post("/api/customers", json!({"name": "Grace", "status": "prospect"})).await.created();
    let notes = format!("/api/customers/{customer}/notes");
    for turn in 0..12 {
        // Both remember the customer: each is behind by what the other did.
        let (one, other) = if turn % 2 == 0 { (&here, &there) } else { (&there, &here) };
        let note = one.post(&notes, json!({"content": format!("turn {turn}")})).await.created();
        other.patch(&format!("/api/notes/{note}"), json!({"content": format!("seen in turn {turn}")})).await.ok();
        one.delete(&format!("/api/notes/{note}")).await.ok();
    }
    let events: Vec<_> = log(&world).await.into_iter().filter(|event| event.local_id() == customer).collect();
    assert_eq!(events.len(), 1 + 3 * 12);
    assert!(events.iter().zip(1..).all(|(event, sequence)| event.sequence == sequence));
}

/// Runs `devhub log verify` on a world's database: its exit code and what it printed.
fn verify(world: &World, state: &Path, arguments: &[&str]) -> (i32, String) {
    let ended = std::process::Command::new(env!("CARGO_BIN_EXE_devhub"))
        .args(["log", "verify"])
        .args(arguments)
        .env("DATABASE_URL", &world.url)
        .env("DEVHUB_STATE_DIR", state)
        .output()
        .unwrap();
    (ended.status.code().unwrap(), String::from_utf8(ended.stdout).unwrap())
}

#[tokio::test]
async fn a_log_that_is_whole_is_told_from_one_that_was_changed_or_cut_off() {
    let world = World::start().await;
    let (acme, other) = (world.business("ACME").await, world.business("Other").await);
    for name in ["Ada", "Grace", "Edsger"] {
        acme.post("/api/leads", json!({"name": name})).await.created();
        other.post("/api/leads", json!({"name": name})).await.created();
    }
    let state = scratch("log-verify");
    let (code, told) = verify(&world, &state, &[]);
    assert!(code == 0 && told.starts_with("The log is whole: "), "{told}");
    let (ours, theirs) = (acme.tenant.clone().unwrap(), other.tenant.clone().unwrap());
    let found = |arguments: &[&str]| {
        let (code, told) = verify(&world, &state, &[&["--format", "json"], arguments].concat());
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(code == 0, told["faults"] == 0, "{told}");
        told["found"].as_array().unwrap().clone()
    };
    assert_eq!(found(&["--tenant", &ours]), Vec::<Value>::new());

    // Somebody who may do anything changes an event.
    let pool = PgPool::connect(&world.url).await.unwrap();
    let change = "update cell_000.events set payload = jsonb_set(payload, '{Captured,name,personal}', '\"Alan\"')
                  where payload->'Captured'->'name'->>'personal' = 'Grace' and tenant_id = $1 returning position";
    let changed: i64 = sqlx::query_scalar(change).bind(&ours).fetch_one(&pool).await.unwrap();
    let expected = json!([{"position": changed, "tenant_id": ours,
        "what": "its hash does not follow from what it says and the hash before it"}]);
    assert_eq!(json!(found(&[])), expected);
    assert_eq!(json!(found(&["--tenant", &ours])), expected);
    assert_eq!(found(&["--tenant", &theirs]), Vec::<Value>::new());

    // And has one told again, by its id.
    let last_of = "select position, event_id from cell_000.events where tenant_id = $1 order by position desc limit 1";
    let (again, own): (i64, Uuid) = sqlx::query_as(last_of).bind(&theirs).fetch_one(&pool).await.unwrap();
    let first = "select event_id from cell_000.events where position = $1";
    let first: Uuid = sqlx::query_scalar(first).bind(changed).fetch_one(&pool).await.unwrap();
    let name = "update cell_000.events set event_id = $2 where position = $1";
    sqlx::query(name).bind(again).bind(first).execute(&pool).await.unwrap();
    let twice = json!({"position": again, "tenant_id": theirs,
        "what": format!("its id is that of the event at position {changed}")});
    assert!(found(&[]).contains(&twice));
    assert!(!found(&["--tenant", &theirs]).contains(&twice), "of this business it is the only one");
    sqlx::query(name).bind(again).bind(own).execute(&pool).await.unwrap();

    // And takes one out of the middle, and the last.
    for position in [changed - 2, *world.app.store.head().borrow()] {
        sqlx::query("delete from cell_000.events where position = $1").bind(position).execute(&pool).await.unwrap();
    }
    let places: Vec<Value> = found(&["--tenant", &ours]).iter().map(|fault| fault["position"].clone()).collect();
    let last = *world.app.store.head().borrow() - 1;
    // The end first; then the place in the history and the hash of what follows the gap, and the event that was changed.
    assert_eq!(places, [json!(last), json!(changed), json!(changed)]);
    let all = found(&[]);
    assert_eq!(all[0]["what"], format!("the log ends here, and its head says {}", last + 1));
    assert!(all.iter().any(|fault| fault["what"] == format!("the position before it is {}", changed - 3)), "{all:?}");

    // No server starts on that.
    let ended = std::process::Command::new(env!("CARGO_BIN_EXE_devhub"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("DATABASE_URL", &world.url)
        .env("DEVHUB_STATE_DIR", &state)
        .output()
        .unwrap();
    let refused = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(refused.contains(&format!("ends at position {last}, and its head says {}", last + 1)), "{refused}");
}
