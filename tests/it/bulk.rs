//! Many appends at once: in order, each whole or not at all, and nobody else turned away.

use std::sync::Arc;

use devhub::aggregates::claims::{ClaimChange, ClaimKind};
use devhub::aggregates::ids::TenantId;
use devhub::clock::new_event_id;
use devhub::event_store::reader::events_after;
use devhub::event_store::{Append, AppendError, IdempotencyClaim, NewEvent, Recorded, StreamId, StreamWrite};
use serde_json::json;

use crate::world::World;

const TENANT: TenantId = TenantId::Legacy;

fn lead(number: usize) -> StreamId {
    StreamId::new("Lead", TENANT, format_args!("LED-{number:03}"))
}

fn event(world: &World, event_type: &str, payload: serde_json::Value, claims: Vec<ClaimChange>) -> NewEvent {
    let now = world.clock.now();
    NewEvent {
        event_id: new_event_id(now),
        event_type: event_type.into(),
        event_version: "1".into(),
        payload: payload.to_string(),
        metadata: Arc::from(r#"{"actor":"system"}"#),
        occurred_at: now,
        claims,
    }
}

fn captured(world: &World, claims: Vec<ClaimChange>) -> NewEvent {
    let payload = json!({"Captured": {"name": {"personal": "Grace"}, "source": "website", "stage": "new", "qualification": "new",
                                      "probability": 10, "probability_set_by_hand": false}});
    event(world, "LeadCaptured", payload, claims)
}

fn deleted(world: &World) -> NewEvent {
    event(world, "LeadDeleted", json!({"Deleted": {}}), vec![])
}

fn write(stream: StreamId, expected: i64, event: NewEvent) -> Append {
    let writes = vec![StreamWrite { target: stream.into(), expected, events: vec![event] }];
    Append { tenant: TENANT, writes, guards: vec![], condition: None, idempotency: None }
}

async fn history(world: &World) -> Vec<Recorded> {
    let cell = world.app.database.cells().next().unwrap();
    let all = events_after(&cell.appender, 0, 100_000).await.unwrap();
    all.into_iter().filter(|event| event.tenant_id == TENANT).collect()
}

#[tokio::test]
async fn what_is_appended_in_bulk_is_stored_in_order_and_others_are_served_in_between() {
    let world = World::start().await;
    // More than the queue holds, each stream's second event building on the first before that is answered.
    let appends = (0..3_000)
        .flat_map(|n| [write(lead(n), 0, captured(&world, vec![])), write(lead(n), 1, deleted(&world))])
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
    assert_eq!(positions, (first..first + 6_000).collect::<Vec<_>>());
    let streams: Vec<_> = history(&world).await.into_iter().map(|event| (event.aggregate_id, event.sequence)).collect();
    let expected = (0..3_000).flat_map(|n| [(lead(n).aggregate_id(), 1), (lead(n).aggregate_id(), 2)]);
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
            write(lead(0), 0, captured(&world, number())),
            // Takes what the first one took, in the same batch.
            write(lead(1), 0, captured(&world, number())),
            write(lead(1), 1, deleted(&world)),
            write(lead(2), 0, captured(&world, vec![])),
            // Builds on what never was.
            write(lead(3), 7, deleted(&world)),
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
        let both = [write(lead(0), 0, captured(&world, vec![])), write(lead(0), 1, deleted(&world))];
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
