//! Many events at once: appended in order, each command whole or not at all, and nobody else turned away; taken by the
//! read models each exactly once, however far behind they are and whoever gets in between.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use devhub::aggregates::claims::{ClaimChange, ClaimKind};
use devhub::aggregates::ids::TenantId;
use devhub::clock::{Clock, new_event_id};
use devhub::event_store::reader::events_after;
use devhub::event_store::{
    self, Append, AppendError, Cell, Condition, Database, EventStore, IdempotencyClaim, NewEvent, Recorded, StreamId,
    StreamWrite, Target,
};
use devhub::projections::model::{Model, Versioned};
use devhub::projections::{self, Projections, Projector, activity, leads};
use proptest::prelude::*;
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cluster::fresh_database;
use crate::log::assert_versions_follow;
use crate::told::{self, one};
use crate::world::World;

const TENANT: TenantId = TenantId::Legacy;

fn lead(number: usize) -> StreamId {
    StreamId::new("Lead", TENANT, format_args!("LED-{number:03}"))
}

fn captured(clock: &Clock, claims: Vec<ClaimChange>) -> NewEvent {
    NewEvent { claims, ..told::captured(clock.now(), "Grace") }
}

fn deleted(clock: &Clock) -> NewEvent {
    told::event(clock.now(), "LeadDeleted", &json!({"Deleted": {}}))
}

async fn history(world: &World) -> Vec<Recorded> {
    let cell = world.app.database.cells().next().unwrap();
    let all = events_after(&cell.appender, 0, 100_000).await.unwrap();
    all.into_iter().filter(|event| event.tenant_id == TENANT).collect()
}

/// Of two events each: more batches than others ask for meanwhile, however long each of those waits for its own.
const STREAMS: usize = 4_400;

#[tokio::test]
async fn what_is_appended_in_bulk_is_stored_in_order_and_others_are_served_in_between() {
    let world = World::start().await;
    // More than the queue holds, each stream's second event building on the first before that is answered.
    let appends = (0..STREAMS)
        .flat_map(|n| [one(lead(n), 0, captured(&world.clock, vec![])), one(lead(n), 1, deleted(&world.clock))])
        .collect();
    let store = world.app.store.clone();
    let bulk = tokio::spawn(async move { store.append_all(appends).await });
    for n in 0..5 {
        assert_eq!(world.app.store.numbers(TenantId::Business(7), "LED", 1).await.unwrap(), n);
    }
    assert!(!bulk.is_finished());
    let outcomes = bulk.await.unwrap();
    let positions: Vec<i64> = outcomes.into_iter().map(|outcome| outcome.unwrap().tenant_position).collect();
    let first = positions[0];
    assert_eq!(positions, (first..).take(2 * STREAMS).collect::<Vec<_>>());
    let streams: Vec<_> = history(&world).await.into_iter().map(|event| (event.aggregate_id, event.sequence)).collect();
    let expected = (0..STREAMS).flat_map(|n| [(lead(n).aggregate_id(), 1), (lead(n).aggregate_id(), 2)]);
    assert!(streams.ends_with(&expected.collect::<Vec<_>>()));
    world.caught_up().await;
}

#[tokio::test]
async fn what_builds_on_a_refused_append_is_refused_too() {
    let world = World::start().await;
    let number = || vec![ClaimChange::Take { kind: ClaimKind::InvoiceNumber, key: "2026-1".into() }];
    let outcomes = world
        .app
        .store
        .append_all(vec![
            one(lead(0), 0, captured(&world.clock, number())),
            // Takes what the first one took, in the same batch.
            one(lead(1), 0, captured(&world.clock, number())),
            one(lead(1), 1, deleted(&world.clock)),
            one(lead(2), 0, captured(&world.clock, vec![])),
            // Builds on what never was.
            one(lead(3), 7, deleted(&world.clock)),
        ])
        .await;
    assert!(outcomes[0].is_ok() && outcomes[3].is_ok(), "{outcomes:?}");
    assert!(matches!(&outcomes[1], Err(AppendError::Claimed { key, .. }) if key == "2026-1"), "{outcomes:?}");
    for refused in [&outcomes[2], &outcomes[4]] {
        assert!(matches!(refused, Err(AppendError::Conflict(_))), "{outcomes:?}");
    }
    let stored: Vec<_> = history(&world).await.into_iter().map(|event| (event.aggregate_id, event.sequence)).collect();
    assert!(stored.ends_with(&[(lead(0).aggregate_id(), 1), (lead(2).aggregate_id(), 1)]), "{stored:?}");
}

#[tokio::test]
async fn what_builds_on_a_refused_append_is_refused_even_where_it_fits() {
    let world = World::start().await;
    let store = &world.app.store;
    let write = |n, expected| one(lead(n), expected, captured(&world.clock, vec![]));
    store.append_all(vec![write(0, 0)]).await.remove(0).unwrap();
    // Of somebody else's, who comes first: the lead is now where the second of ours expects it.
    store.append_all(vec![write(0, 1)]).await.remove(0).unwrap();
    let before = history(&world).await.len();
    // In one batch, and in batches of their own.
    for between in [0, 600] {
        let others = (1..=between).map(|n| write(n, 0));
        let outcomes = store.append_all([write(0, 1)].into_iter().chain(others).chain([write(0, 2)]).collect()).await;
        let (first, last) = (outcomes.first().unwrap(), outcomes.last().unwrap());
        assert!(
            matches!((first, last), (Err(AppendError::Conflict(_)), Err(AppendError::Conflict(_)))),
            "{outcomes:?}"
        );
        assert_eq!(history(&world).await.len(), before + between);
    }
    // What is asked anew relies on nothing that was refused.
    store.append_all(vec![write(0, 2)]).await.remove(0).unwrap();
}

#[tokio::test]
async fn what_is_there_already_is_answered_as_it_was_and_what_comes_after_it_is_stored() {
    let world = World::start().await;
    let store = &world.app.store;
    let number = vec![ClaimChange::Take { kind: ClaimKind::InvoiceNumber, key: "2026-1".into() }];
    let story: Vec<Append> = (0..6)
        .map(|turn| {
            let claims = if turn == 0 { number.clone() } else { vec![] };
            one(lead(turn % 2), i64::try_from(turn / 2).unwrap(), captured(&world.clock, claims))
        })
        .collect();
    let first = store.append_all(story[..3].to_vec()).await;
    // Somebody else comes before what is still to be told of one of them.
    let theirs = one(lead(1), 1, captured(&world.clock, vec![]));
    store.append_all(vec![theirs]).await.remove(0).unwrap();
    let all = store.append_all(story.clone()).await;
    let again = |at: usize| (first[at].as_ref().unwrap(), all[at].as_ref().unwrap());
    for (then, now) in (0..3).map(again) {
        assert_eq!((then.position, then.tenant_position), (now.position, now.tenant_position));
        assert_eq!((then.recorded_at, &then.streams), (now.recorded_at, &now.streams));
    }
    assert_eq!(all.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, true, false, true, false]);
    let of = |event: Recorded| (event.aggregate_id, event.sequence);
    let stored: Vec<_> = history(&world).await.into_iter().map(of).collect();
    let expected = [(0, 1), (1, 1), (0, 2), (1, 2), (0, 3)].map(|(n, sequence)| (lead(n).aggregate_id(), sequence));
    assert!(stored.ends_with(&expected), "{stored:?}");
}

#[tokio::test]
async fn what_the_database_refuses_is_refused_alone() {
    let world = World::start().await;
    let appends = (0..100).map(|n| {
        let event = captured(&world.clock, vec![]);
        let event = match n {
            // No text of PostgreSQL's has such a character, and no day of its is so early.
            37 => NewEvent { payload: event.payload.replace("Grace", "\\u0000"), ..event },
            61 => NewEvent { occurred_at: DateTime::<Utc>::MIN_UTC, ..event },
            _ => event,
        };
        one(lead(n), 0, event)
    });
    let outcomes = world.app.store.append_all(appends.collect()).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.is_err(), [37, 61].contains(&n), "{n}: {outcome:?}");
    }
    let stored = history(&world).await.into_iter().map(|event| event.aggregate_id).collect::<Vec<_>>();
    let expected: Vec<String> = (0..100).filter(|n| ![37, 61].contains(n)).map(|n| lead(n).aggregate_id()).collect();
    assert!(stored.ends_with(&expected), "{stored:?}");
    world.caught_up().await;
}

/// Waits until a session waits for what this transaction holds.
async fn is_waited_for(pool: &PgPool, transaction: &mut PgConnection) {
    let holder: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(transaction).await.unwrap();
    let waits = "select exists (select from pg_stat_activity where $1 = any(pg_blocking_pids(pid)))";
    while !sqlx::query_scalar::<_, bool>(waits).bind(holder).fetch_one(pool).await.unwrap() {}
}

#[tokio::test]
async fn a_key_that_is_taken_meanwhile_costs_nobody_else_an_answer() {
    let world = World::start().await;
    let pool = PgPool::connect(&world.url).await.unwrap();
    // A key that somebody is about to take without the lock of the log's head, and that lock.
    let mut other = pool.begin().await.unwrap();
    let insert = "insert into cell_000.idempotency_keys
                      (tenant_id, actor, key, request_hash, position, correlation_id, created_at)
                  values ('DEV-000', 'somebody', 'once', '', 0, '', now())";
    sqlx::query(insert).execute(&mut *other).await.unwrap();
    let mut lock = pool.begin().await.unwrap();
    sqlx::query("select from cell_000.cell_head for update").execute(&mut *lock).await.unwrap();

    let keyed = Append {
        // Can only be judged under the lock.
        conditions: vec![Condition { after: 0, event_types: &["LeadWon"] }],
        idempotency: Some(IdempotencyClaim {
            actor: "somebody".into(),
            key: "once".into(),
            request_hash: [0; 32],
            correlation_id: new_event_id(world.clock.now()),
        }),
        ..one(lead(1), 0, captured(&world.clock, vec![]))
    };
    let appends = vec![
        one(lead(0), 0, captured(&world.clock, vec![])),
        keyed,
        one(lead(2), 0, captured(&world.clock, vec![])),
        one(lead(3), 0, captured(&world.clock, vec![])),
    ];
    let store = world.app.store.clone();
    let appending = tokio::spawn(async move { store.append_all(appends).await });
    is_waited_for(&pool, &mut lock).await;
    lock.commit().await.unwrap();
    // It has seen that the key is free, and waits for who is about to take it.
    is_waited_for(&pool, &mut other).await;
    other.commit().await.unwrap();
    let outcomes = appending.await.unwrap();
    assert!(matches!(outcomes[1], Err(AppendError::KeyUsed)), "{outcomes:?}");
    assert!([0, 2, 3].iter().all(|n| outcomes[*n].is_ok()), "{outcomes:?}");
}

#[tokio::test]
async fn an_import_that_is_repeated_under_its_keys_has_no_second_effect() {
    let world = World::start().await;
    let appends = || -> Vec<Append> {
        let of = |(n, append): (usize, Append)| Append {
            idempotency: Some(IdempotencyClaim {
                actor: "import".into(),
                key: n.to_string(),
                request_hash: [0; 32],
                correlation_id: new_event_id(world.clock.now()),
            }),
            ..append
        };
        let both = [one(lead(0), 0, captured(&world.clock, vec![])), one(lead(0), 1, deleted(&world.clock))];
        both.into_iter().enumerate().map(of).collect()
    };
    for outcome in world.app.store.append_all(appends()).await {
        outcome.unwrap();
    }
    let before = history(&world).await.len();
    for outcome in world.app.store.append_all(appends()).await {
        assert!(matches!(outcome, Err(AppendError::KeyUsed)), "{outcome:?}");
    }
    assert_eq!(history(&world).await.len(), before);
}

#[tokio::test]
async fn reserved_numbers_are_never_given() {
    let world = World::start().await;
    let store = &world.app.store;
    for (at_least, next) in [(105, 105), (7, 106), (107, 107), (107, 108)] {
        store.reserve_numbers(TENANT, "INT", at_least).await.unwrap();
        assert_eq!(store.numbers(TENANT, "INT", 1).await.unwrap(), next);
    }
    // Another server hears of it from the database.
    store.reserve_numbers(TENANT, "INT", 500).await.unwrap();
    let second = world.second_server().await;
    assert_eq!(second.app.store.numbers(TENANT, "INT", 1).await.unwrap(), 500);
}

#[tokio::test]
async fn two_servers_that_take_turns_never_give_the_same_number() {
    let world = World::start().await;
    let other = world.second_server().await;
    let (first, second) = (&world.app.store, &other.app.store);
    // No event comes between: only the head tells the one that the other was there.
    let given = [
        second.numbers(TENANT, "INT", 1).await.unwrap(),
        first.numbers(TENANT, "INT", 1).await.unwrap(),
        second.numbers(TENANT, "INT", 1).await.unwrap(),
        first.numbers(TENANT, "INT", 2).await.unwrap(),
        second.numbers(TENANT, "INT", 1).await.unwrap(),
    ];
    assert_eq!(given, [0, 1, 2, 3, 5]);
    first.reserve_numbers(TENANT, "INT", 100).await.unwrap();
    assert_eq!(second.numbers(TENANT, "INT", 1).await.unwrap(), 100);
}

/// What one of several servers is asked.
#[derive(Debug, Clone)]
enum Asked {
    /// So many numbers.
    Numbers(u32),
    /// That none so far above the last is given any more.
    Reserve(u32),
    /// A lead under the next number.
    Next,
    /// A lead under a name of its own, so far above the last.
    Named(u32),
}

fn asked() -> impl Strategy<Value = (usize, u32, Asked)> {
    let asked = prop_oneof![
        3 => (1_u32..4).prop_map(Asked::Numbers),
        1 => (0_u32..4).prop_map(Asked::Reserve),
        2 => Just(Asked::Next),
        1 => (1_u32..4).prop_map(Asked::Named),
    ];
    (0_usize..3, 7_u32..9, asked)
}

/// Every number is given once, and none that was reserved is given at all.
async fn ask_in_turns(story: Vec<(usize, u32, Asked)>) {
    let url = fresh_database("devhub", event_store::migrate).await;
    let cell = Database::connect(&url).await.unwrap().cells().next().unwrap().clone();
    let clock = Clock::system();
    let stores: Vec<EventStore> = (0..3).map(|_| EventStore::open(&cell, clock.clone()).0).collect();
    // The lowest that may still be given, of each tenant.
    let mut free = HashMap::from([(7, 0), (8, 0)]);
    for (server, business, asked) in &story {
        let (store, tenant) = (&stores[*server], TenantId::Business(*business));
        let free = free.get_mut(business).unwrap();
        let told = || told::captured(clock.now(), "Grace");
        let (given, next) = match asked {
            Asked::Numbers(count) => {
                let first = store.numbers(tenant, "LED", *count).await.unwrap();
                (first, first + count)
            }
            Asked::Reserve(above) => {
                store.reserve_numbers(tenant, "LED", *free + above).await.unwrap();
                (*free, *free + above)
            }
            Asked::Next => {
                let target = Target::Next { aggregate_type: "Lead", tenant, prefix: "LED" };
                let writes = vec![StreamWrite { target, expected: 0, events: vec![told()] }];
                let append = Append { tenant, writes, guards: vec![], conditions: vec![], idempotency: None };
                let stream = store.append_all(vec![append]).await.remove(0).unwrap().streams.remove(0).0;
                let number = stream.local.strip_prefix("LED-").unwrap().parse().unwrap();
                (number, number + 1)
            }
            Asked::Named(above) => {
                let number = *free + above;
                let stream = StreamId::new("Lead", tenant, format_args!("LED-{number:03}"));
                store.append_all(vec![one(stream, 0, told())]).await.remove(0).unwrap();
                (number, number + 1)
            }
        };
        assert!(given >= *free, "{given} was given or reserved before: {story:?}");
        *free = next;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whichever server is asked for whatever, after whichever.
    #[test]
    fn a_number_is_never_given_twice(story in prop::collection::vec(asked(), 4..24)) {
        tokio::runtime::Runtime::new().unwrap().block_on(ask_in_turns(story));
    }
}

/// Appends to a few leads in bulk, each building on the one before, while another server writes to the same leads in this order.
async fn write_beside_another_server(ours: Vec<usize>, theirs: Vec<usize>) {
    let url = fresh_database("devhub", event_store::migrate).await;
    let cell = Database::connect(&url).await.unwrap().cells().next().unwrap().clone();
    let clock = Clock::system();
    let [here, elsewhere] = [(), ()].map(|()| EventStore::open(&cell, clock.clone()).0);
    let mut next = HashMap::new();
    let appends: Vec<Append> = ours
        .iter()
        .map(|n| {
            let expected = next.entry(*n).or_insert(0);
            *expected += 1;
            one(lead(*n), *expected - 1, captured(&clock, vec![]))
        })
        .collect();
    let told = appends.iter().map(|append| append.writes[0].events[0].event_id).collect::<Vec<_>>();
    let writing = async {
        for n in theirs {
            let mut expected = 0;
            let write = |expected| one(lead(n), expected, captured(&clock, vec![]));
            while let Err(refused) = elsewhere.append_all(vec![write(expected)]).await.remove(0) {
                assert!(matches!(refused, AppendError::Conflict(_)), "{refused}");
                expected += 1;
            }
        }
    };
    let (outcomes, ()) = tokio::join!(here.append_all(appends), writing);

    let log = events_after(&cell.appender, 0, 100_000).await.unwrap();
    let stored: Vec<_> = log.iter().map(|event| event.event_id).filter(|id| told.contains(id)).collect();
    let kept: Vec<_> = told.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok()).map(|(id, _)| *id).collect();
    assert_eq!(stored, kept);
    let mut refused = HashSet::new();
    for (n, outcome) in ours.iter().zip(outcomes) {
        match outcome {
            Ok(_) => assert!(!refused.contains(n), "something of {n} is stored, and what it builds on is not"),
            Err(_) => drop(refused.insert(*n)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whoever writes in between.
    #[test]
    fn nothing_is_stored_without_what_it_builds_on(
        ours in prop::collection::vec(0..3_usize, 2..40),
        theirs in prop::collection::vec(0..3_usize, 0..8),
    ) {
        tokio::runtime::Runtime::new().unwrap().block_on(write_beside_another_server(ours, theirs));
    }
}

/// A log with nobody who reads it yet.
struct Log {
    pool: PgPool,
    cell: Cell,
    clock: Clock,
    store: EventStore,
    _stop: watch::Sender<bool>,
    stopping: watch::Receiver<bool>,
}

/// The leads of a log: each captured, then each deleted.
const LEADS: usize = 3_000;
/// The events that makes.
const EVENTS: i64 = 6_000;

impl Log {
    async fn of_leads() -> Self {
        let url = fresh_database("devhub", event_store::migrate).await;
        let database = Database::connect(&url).await.unwrap();
        let cell = database.cells().next().unwrap().clone();
        let clock = Clock::system();
        let (store, _) = EventStore::open(&cell, clock.clone());
        let first = (0..LEADS).map(|n| one(lead(n), 0, captured(&clock, vec![])));
        let second = (0..LEADS).map(|n| one(lead(n), 1, deleted(&clock)));
        for outcome in store.append_all(first.chain(second).collect()).await {
            outcome.unwrap();
        }
        let (stop, stopping) = watch::channel(false);
        Self { pool: PgPool::connect(&url).await.unwrap(), cell, clock, store, _stop: stop, stopping }
    }

    fn projector(&self, models: Vec<Box<dyn Model>>) -> (Projections, JoinHandle<()>) {
        Projector::start(&self.cell, self.clock.clone(), models, self.store.tail(), self.stopping.clone())
    }

    /// That every event has counted once.
    async fn assert_counted(&self) {
        let counted: (i64, i64, i64, i64) = sqlx::query_as(
            "select (select count(*) from cell_000.activity), (select count(*) from cell_000.lead_versions),
                    (select count(*) from cell_000.leads),
                    (select count(*) from cell_000.leads where deleted_at is not null and version = 2)",
        )
        .fetch_one(&self.pool)
        .await
        .unwrap();
        assert_eq!(counted, (EVENTS, EVENTS, EVENTS / 2, EVENTS / 2));
        assert_versions_follow(&self.pool, "leads", "lead_versions").await;
    }
}

#[tokio::test]
async fn read_models_that_are_far_behind_and_remember_next_to_nothing_come_out_the_same() {
    let log = Log::of_leads().await;
    let models: Vec<Box<dyn Model>> =
        vec![Box::new(Versioned::<leads::Leads>::remembering(10)), Box::new(activity::Activity)];
    let (projections, _task) = log.projector(models);
    projections.reached(EVENTS, Duration::from_secs(60)).await.unwrap();
    log.assert_counted().await;
    // Large batches: the activity has transactions of its own, beside those of the leads.
    let together: i64 = sqlx::query_scalar(
        "select count(*) from cell_000.lead_versions v
         join cell_000.activity a on a.tenant_id = v.tenant_id and a.position = v.position where a.xmin = v.xmin",
    )
    .fetch_one(&log.pool)
    .await
    .unwrap();
    assert_eq!(together, 0);
}

#[tokio::test]
async fn projectors_that_take_each_other_s_turn_all_the_time_count_every_event_once() {
    let log = Log::of_leads().await;
    let projectors = [log.projector(projections::all()), log.projector(projections::all())];
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while projectors.iter().any(|(projections, _)| projections.progress().position < EVENTS) {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", projectors[0].0.progress());
        // Whoever asks next is the owner, while the one before still believes that it is.
        sqlx::query("update cell_000.projector_lease set lease_until = '-infinity'").execute(&log.pool).await.unwrap();
        let next = projectors[0].0.progress().position + 1;
        let _ = projectors[0].0.reached(next, Duration::from_millis(5)).await;
    }
    for (projections, _) in &projectors {
        assert_eq!(projections.progress().failure, None);
    }
    log.assert_counted().await;
}

#[tokio::test]
async fn what_nobody_waits_for_is_read_all_the_same_whichever_server_wrote_it() {
    let world = World::start().await;
    let other = world.second_server().await;
    for number in 0..40 {
        let server = if number % 3 == 0 { &other } else { &world };
        let append = one(lead(number), 0, captured(&world.clock, vec![]));
        let position = server.app.store.append_all(vec![append]).await.remove(0).unwrap().position;
        if number % 5 == 4 {
            // Looked at from the side: who waited for it would be served at once.
            for server in [&world, &other] {
                let mut progress = server.app.projections.watch();
                progress.wait_for(|progress| progress.of_all() >= position).await.unwrap();
            }
        }
    }
}
