//! What cannot be taken in holds up nobody else: a record is set aside, a projection stops, and both are put right.

use axum::http::Method;
use devhub::aggregates::ids::TenantId;
use devhub::event_store::StreamId;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::rebuild::{rebuild, verify};
use crate::told;
use crate::world::{Client, World};

pub fn tenant_of(client: &Client) -> TenantId {
    client.tenant.as_deref().unwrap().parse().unwrap()
}

/// Stores an event as it is, whatever the rules of its aggregate say.
pub async fn store(world: &World, stream: StreamId, expected: i64, event_type: &str, payload: Value) -> i64 {
    let append = told::one(stream, expected, told::event(world.clock.now(), event_type, &payload));
    world.app.store.append_all(vec![append]).await.remove(0).unwrap().position
}

pub fn lead(tenant: TenantId, id: &str) -> StreamId {
    StreamId::new("Lead", tenant, id)
}

async fn pool(world: &World) -> PgPool {
    PgPool::connect(&world.url).await.unwrap()
}

/// The whole of a read model, versions included.
async fn whole(pool: &PgPool, table: &str, versions: &str) -> (Vec<String>, Vec<String>) {
    let rows = async |table: &str| -> Vec<String> {
        sqlx::query_scalar(&format!("select t::text from cell_000.{table} t order by tenant_id, id, position"))
            .fetch_all(pool)
            .await
            .unwrap()
    };
    (rows(table).await, rows(versions).await)
}

/// Makes a read model anew from the whole log.
async fn folded_anew(world: &World, table: &str, versions: &str) -> (Vec<String>, Vec<String>) {
    let pool = pool(world).await;
    let mut transaction = pool.begin().await.unwrap();
    for statement in [
        format!("truncate cell_000.{table}, cell_000.{versions}"),
        format!(
            "update cell_000.projection_checkpoints set position = 0, generation = generation + 1
             where projection = '{table}'"
        ),
    ] {
        sqlx::query(&statement).execute(&mut *transaction).await.unwrap();
    }
    transaction.commit().await.unwrap();
    let position: i64 = loop {
        let (position, head): (i64, i64) = sqlx::query_as(
            "select (select position from cell_000.projection_checkpoints where projection = $1), position
             from cell_000.cell_head",
        )
        .bind(table)
        .fetch_one(&pool)
        .await
        .unwrap();
        if position == head {
            break position;
        }
        tokio::task::yield_now().await;
    };
    assert!(position > 0);
    whole(&pool, table, versions).await
}

#[tokio::test]
async fn a_record_whose_event_cannot_be_read_is_set_aside_alone_and_put_right_later() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let other = world.business("Other").await;
    for client in [&acme, &acme, &other] {
        client.post("/api/leads", json!({"name": "Grace"})).await.created();
    }
    let tenant = tenant_of(&acme);
    let poison =
        store(&world, lead(tenant, "LED-000"), 1, "LeadScored", json!({"Scored": {"score": "very high"}})).await;
    let qualified = json!({"Qualified": {"qualification": "sales_qualified"}});
    store(&world, lead(tenant, "LED-000"), 2, "LeadQualified", qualified).await;
    world.caught_up().await;

    // The record stands as it was before, and says so; nobody else's does.
    let degraded = acme.get("/api/leads/LED-000").await.ok();
    assert_eq!((&degraded["degraded"], &degraded["version"]), (&json!(true), &json!(1)), "{degraded}");
    assert_eq!(acme.get("/api/leads/LED-001").await.ok().get("degraded"), None);
    assert_eq!(other.get("/api/leads/LED-000").await.ok().get("degraded"), None);
    let listed = acme.get("/api/leads?sort=name").await.ok();
    let said: Vec<(&str, bool)> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["id"].as_str().unwrap(), row.get("degraded").is_some()))
        .collect();
    assert!(said.contains(&("LED-000", true)) && said.contains(&("LED-001", false)), "{said:?}");
    let founder = world.founder().await;
    let theirs = founder.get(&format!("/api/admin/tenants/{tenant}/leads/LED-000")).await.ok();
    assert_eq!(theirs["degraded"], true);
    // Life goes on for the others, and the server is ready.
    acme.post("/api/leads/LED-001/stage", json!({"stage": "contacted"})).await.ok();
    world.nobody().get("/health/ready").await.ok();
    assert!(world.nobody().get("/metrics").await.text.contains("projection_parked{projection=\"leads\"}"));
    let cell = world.app.database.cells().next().unwrap();
    let status = devhub::projections::status::status(&cell.founder, &cell.name, &["leads", "customers"]).await.unwrap();
    assert_eq!(status.iter().map(|at| (at.parked, at.lag)).collect::<Vec<_>>(), [(1, 0), (0, 0)]);
    let detail = founder.get("/api/admin/projections/leads").await.ok();
    let parked = &detail["parked_records"][0];
    assert_eq!((&parked["position"], &parked["events"], &parked["id"]), (&json!(poison), &json!(2), &json!("LED-000")));
    assert!(parked["reason"].as_str().unwrap().contains("not understood"), "{parked}");
    assert_eq!(detail["parked"], 1);

    // Before the cause is mended it is refused again, and stays.
    let unpark = "/api/admin/projections/leads/unpark";
    let still = founder.post(unpark, json!({})).await.ok();
    assert!(still["records"][0]["refused"].as_str().unwrap().contains("not understood"), "{still}");
    assert_eq!(acme.get("/api/leads/LED-000").await.ok()["degraded"], true);

    let pool = pool(&world).await;
    sqlx::query("update cell_000.events set payload = $1 where position = $2")
        .bind(json!({"Scored": {"score": 81}}))
        .bind(poison)
        .execute(&pool)
        .await
        .unwrap();
    let nobodys = founder.post(unpark, json!({"tenant_id": other.tenant})).await.ok();
    assert_eq!(nobodys["records"], json!([]));
    let done = founder.post(unpark, json!({"tenant_id": tenant.to_string(), "id": "LED-000"})).await.ok();
    assert_eq!(
        done["records"],
        json!([{"tenant_id": tenant.to_string(), "id": "LED-000", "events": 2, "refused": null}])
    );
    // What follows goes its ordinary way again.
    let moved = acme.post("/api/leads/LED-000/stage", json!({"stage": "contacted"})).await.ok();
    assert_eq!(moved.get("degraded"), None, "{moved}");
    let seen = ["version", "score", "qualification", "stage"].map(|field| moved[field].clone());
    assert_eq!(seen, [json!(4), json!(81), json!("sales_qualified"), json!("contacted")]);

    let kept = whole(&pool, "leads", "lead_versions").await;
    assert_eq!(folded_anew(&world, "leads", "lead_versions").await, kept);
    acme.post(unpark, json!({})).await.problem(403, "permission_denied");
    founder.post("/api/admin/projections/nothing/unpark", json!({})).await.problem(404, "not_found");
}

#[tokio::test]
async fn an_event_about_something_that_never_began_is_refused() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let tenant = tenant_of(&acme);
    acme.post("/api/customers", json!({"company": "Initech"})).await.created();
    let customer = StreamId::new("Customer", tenant, "CUS-000");
    let removed = json!({"NoteRemoved": {"id": "NOT-077"}});
    store(&world, customer, 1, "CustomerNoteRemoved", removed).await;
    store(&world, lead(tenant, "LED-077"), 0, "LeadDeleted", json!({"Deleted": {}})).await;
    world.caught_up().await;
    let parked: Vec<(String, String)> =
        sqlx::query_as("select projection, id from cell_000.parked_entities order by projection")
            .fetch_all(&pool(&world).await)
            .await
            .unwrap();
    let expected = [("leads", "LED-077"), ("notes", "NOT-077")];
    assert_eq!(parked, expected.map(|(projection, id)| (projection.to_owned(), id.to_owned())));
    // The customer itself has nothing against it.
    assert_eq!(acme.get("/api/customers/CUS-000").await.ok().get("degraded"), None);
}

#[tokio::test]
async fn a_row_that_the_database_refuses_is_found_among_many_and_set_aside() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let tenant = tenant_of(&acme);
    let pool = pool(&world).await;
    let rule = "alter table cell_000.leads add constraint no_mallory check (name <> 'Mallory')";
    sqlx::query(rule).execute(&pool).await.unwrap();
    let mut appends = Vec::new();
    for number in 0..300 {
        let name = if number == 123 || number == 200 { "Mallory" } else { "Grace" };
        let stream = lead(tenant, &format!("LED-{number:03}"));
        appends.push(told::one(stream, 0, told::captured(world.clock.now(), name)));
    }
    for outcome in world.app.store.append_all(appends).await {
        outcome.unwrap();
    }
    world.caught_up().await;
    let parked: Vec<String> =
        sqlx::query_scalar("select id from cell_000.parked_entities order by id").fetch_all(&pool).await.unwrap();
    assert_eq!(parked, ["LED-123", "LED-200"]);
    let count: i64 = sqlx::query_scalar("select count(*) from cell_000.leads").fetch_one(&pool).await.unwrap();
    assert_eq!(count, 298);
    sqlx::query("alter table cell_000.leads drop constraint no_mallory").execute(&pool).await.unwrap();
    world.founder().await.post("/api/admin/projections/leads/unpark", json!({})).await.ok();
    world.caught_up().await;
    let kept = whole(&pool, "leads", "lead_versions").await;
    assert_eq!(kept.0.len(), 300);
    assert_eq!(folded_anew(&world, "leads", "lead_versions").await, kept);
}

#[tokio::test]
async fn days_that_the_database_does_not_know_hold_up_nobody() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let other = world.business("Other").await;
    acme.post("/api/leads", json!({"name": "Grace"})).await.created();
    let tenant = tenant_of(&acme);
    // As they may stand in the log from before such days were refused.
    let too_early = json!({"InteractionScheduled": {"id": "INT-000", "type": "call", "subject": {"personal": "Moon"},
        "priority": "medium", "billable": false, "follow_up_date": "-9999-01-01", "scheduled_at": "-99999-01-01T00:00:00Z"}});
    store(&world, lead(tenant, "LED-000"), 1, "LeadInteractionScheduled", too_early).await;
    let captured = |number| {
        let payload = json!({"Captured": {"name": {"personal": "Grace"}, "source": "website", "stage": "new",
            "qualification": "new", "probability": 10, "probability_set_by_hand": false,
            "expected_close_date": format!("-262143-01-{:02}", 1 + number % 28)}});
        let event = told::event(world.clock.now(), "LeadCaptured", &payload);
        told::one(lead(tenant, &format!("LED-{number:03}")), 0, event)
    };
    for outcome in world.app.store.append_all((1..100).map(captured).collect()).await {
        outcome.unwrap();
    }
    // Whoever comes afterwards is told at once that it can be read.
    other.post("/api/leads", json!({"name": "Ada"})).await.created();
    world.nobody().get("/health/ready").await.ok();

    let read = acme.get("/api/leads/LED-001").await.ok();
    assert_eq!((&read["expected_close_date"], read.get("degraded")), (&json!("-4713-11-24"), None), "{read}");
    let read = acme.get("/api/interactions/INT-000").await.ok();
    assert_eq!(read["scheduled_at"], json!("-4713-11-24T00:00:00Z"), "{read}");
    let pool = pool(&world).await;
    let parked: i64 =
        sqlx::query_scalar("select count(*) from cell_000.parked_entities").fetch_one(&pool).await.unwrap();
    assert_eq!(parked, 0);
    for projection in ["leads", "interactions"] {
        assert_eq!(verify(&world, projection).await.differences, 0);
        rebuild(&world, projection, None).await;
        rebuild(&world, projection, Some(tenant)).await;
        assert_eq!(verify(&world, projection).await.differences, 0);
    }
}

#[tokio::test]
async fn what_is_written_beside_the_others_stops_alone_and_goes_on_where_it_stopped() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let tenant = tenant_of(&acme);
    let pool = pool(&world).await;
    let rule = "alter table cell_000.activity add constraint not_this_one check (subject <> 'LED-1623')";
    sqlx::query(rule).execute(&pool).await.unwrap();
    let captured = |number| {
        let stream = lead(tenant, &format!("LED-{number:03}"));
        told::one(stream, 0, told::captured(world.clock.now(), "Grace"))
    };
    // More than a batch, so that the activity is written by a statement of its own.
    let mut outcomes = world.app.store.append_all((0..3_000).map(captured).collect()).await;
    let poison = outcomes.remove(1_623).unwrap().position;
    let last = outcomes.pop().unwrap().unwrap().position;

    let mut progress = world.app.projections.watch();
    let stopped = progress.wait_for(|progress| !progress.stopped.is_empty()).await.unwrap().clone();
    assert_eq!(stopped.stopped.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["activity"]);
    assert_eq!(stopped.position, poison - 1);
    let cell = world.app.database.cells().next().unwrap();
    let lag = async || {
        let status = devhub::projections::status::status(&cell.founder, &cell.name, &["leads"]).await.unwrap();
        status[0].lag
    };
    while lag().await > 0 {
        tokio::task::yield_now().await;
    }
    let leads: i64 = sqlx::query_scalar("select count(*) from cell_000.leads").fetch_one(&pool).await.unwrap();
    assert_eq!(leads, 3_000);

    sqlx::query("alter table cell_000.activity drop constraint not_this_one").execute(&pool).await.unwrap();
    progress.wait_for(|progress| progress.stopped.is_empty() && progress.position >= last).await.unwrap();
    // Each event once, whatever was written when.
    let differences: i64 = sqlx::query_scalar(
        "select count(*) from cell_000.events e
         full join cell_000.activity a on a.tenant_id = e.tenant_id and a.tenant_position = e.tenant_position
         where e.position is distinct from a.position",
    )
    .fetch_one(&pool)
    .await
    .unwrap();
    assert_eq!(differences, 0);
    let kept = whole(&pool, "leads", "lead_versions").await;
    assert_eq!(folded_anew(&world, "leads", "lead_versions").await, kept);
}

#[tokio::test]
async fn where_nobody_can_tell_whose_row_it_is_the_projection_stops_and_the_others_go_on() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let tenant = tenant_of(&acme);
    acme.post("/api/customers", json!({"company": "Initech"})).await.created();
    let customer = StreamId::new("Customer", tenant, "CUS-000");
    let before = world.app.projections.progress().position;
    // A kind of event of a later version of the program: it may be about a note or an interaction, or about none.
    let poison = store(&world, customer, 1, "CustomerEnlightened", json!({"Enlightened": {}})).await;
    let mut progress = world.app.projections.watch();
    let stopped = progress.wait_for(|progress| progress.stopped.len() == 2).await.unwrap().clone();
    let names: Vec<&str> = stopped.stopped.iter().map(|(projection, _)| projection.as_str()).collect();
    assert!(names.contains(&"notes") && names.contains(&"interactions"), "{names:?}");
    assert!(stopped.position >= before && stopped.position < poison);

    // A lead is stored and its read model takes it, yet nobody is told that everything can be read.
    let captured = acme.post("/api/leads", json!({"name": "Grace"})).await;
    let stored = captured.expect(202);
    assert_eq!((&stored["status"], &stored["id"]), (&json!("stored"), &json!("LED-000")));
    let position = captured.header("devhub-position").unwrap().to_owned();
    assert_eq!(captured.header("location"), Some("/api/leads/LED-000"));
    let read = acme.get("/api/leads/LED-000").await;
    read.ok();
    let includes: i64 = read.header("devhub-position").unwrap().parse().unwrap();
    assert!(includes < position.parse().unwrap(), "{includes} is not before {position}");
    let wait = [("devhub-min-position", position.as_str())];
    let lagging = acme.send(Method::GET, "/api/leads/LED-000", &wait, None).await;
    lagging.problem(503, "projection_lagging");
    assert!(lagging.header("retry-after").is_some());
    // The customer's own row is set aside, and no more than that.
    assert_eq!(acme.get("/api/customers/CUS-000").await.ok()["degraded"], true);
    let ready = world.nobody().get("/health/ready").await;
    assert!(ready.expect(503)["failure"].as_str().unwrap().contains("notes"), "{}", ready.text);
    let cell = world.app.database.cells().next().unwrap();
    let status = devhub::projections::status::status(&cell.founder, &cell.name, &["notes", "leads"]).await.unwrap();
    assert!(status[0].stopped.as_deref().unwrap().contains("CustomerEnlightened"), "{status:?}");
    assert_eq!((status[0].position, &status[1].stopped), (poison - 1, &None));
    assert_eq!(status[1].lag, 0);

    // The mended log is read by itself, without anybody's doing.
    sqlx::query("update cell_000.events set event_type = 'CustomerStatusChanged', payload = $1 where position = $2")
        .bind(json!({"StatusChanged": {"from": "prospect", "to": "active"}}))
        .bind(poison)
        .execute(&pool(&world).await)
        .await
        .unwrap();
    let whole = progress.wait_for(|progress| progress.stopped.is_empty() && progress.position > poison).await;
    let whole = whole.unwrap().clone();
    assert_eq!((whole.failure, whole.stopped), (None, vec![]));
    let read = acme.send(Method::GET, "/api/leads/LED-000", &wait, None).await;
    assert_eq!(read.ok()["name"], "Grace");
    assert!(read.header("devhub-position").unwrap().parse::<i64>().unwrap() >= position.parse().unwrap());
    world.founder().await.post("/api/admin/projections/customers/unpark", json!({})).await.ok();
    let mended = acme.get("/api/customers/CUS-000").await.ok();
    assert_eq!((mended.get("degraded"), &mended["status"]), (None, &json!("active")));
    world.nobody().get("/health/ready").await.ok();
}
