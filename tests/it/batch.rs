//! Many operations in one request: an answer each, in order for each record, one correlation id, dry runs.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::http::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::world::{Client, World};

fn statuses(answers: &Value) -> Vec<u64> {
    answers["results"].as_array().unwrap().iter().map(|answer| answer["status"].as_u64().unwrap()).collect()
}

async fn batch(client: &Client, noun: &str, operations: Value) -> Value {
    client.post(&format!("/api/{noun}/batch"), json!({"operations": operations})).await.ok()
}

#[tokio::test]
async fn five_hundred_operations_are_answered_each_and_fail_alone() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let operations: Vec<Value> = (0..500)
        .map(|n| match n % 10 {
            3 => json!({"op": "create", "body": {"name": ""}}),
            7 => json!({"op": "update", "id": "LED-999", "body": {"phone": "1"}}),
            _ => json!({"op": "create", "body": {"name": format!("Lead {n}")}}),
        })
        .collect();
    let answer = acme.post("/api/leads/batch", json!({"operations": operations})).await;
    let answers = answer.ok();
    assert_eq!((&answers["succeeded"], &answers["failed"]), (&json!(400), &json!(100)));
    let results = answers["results"].as_array().unwrap();
    assert_eq!(results.len(), 500);
    let mut ids = BTreeSet::new();
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result["index"], n);
        match n % 10 {
            3 => {
                assert_eq!((&result["status"], &result["problem"]["code"]), (&json!(422), &json!("validation_failed")));
                assert_eq!(result["problem"]["errors"][0]["pointer"], "/name");
            }
            7 => assert_eq!((&result["status"], &result["problem"]["code"]), (&json!(404), &json!("not_found"))),
            _ => {
                assert_eq!((&result["status"], &result["etag"]), (&json!(201), &json!("\"v1\"")));
                assert_eq!(result["body"]["name"], format!("Lead {n}"));
                assert_eq!(result["id"], result["body"]["id"]);
                ids.insert(result["id"].as_str().unwrap().to_owned());
            }
        }
    }
    assert_eq!(ids.len(), 400);
    assert_eq!(acme.get("/api/leads?count=exact").await.ok()["page"]["total"], 400);
    let correlation = answers["correlation_id"].as_str().unwrap();
    let events = acme.get(&format!("/api/events?correlation_id={correlation}&limit=200")).await.ok();
    assert_eq!(events["data"].as_array().unwrap().len(), 200);
    let position: i64 = answer.header("devhub-position").unwrap().parse().unwrap();
    let last = acme.get("/api/events?limit=1").await.ok()["data"][0]["sequence"].clone();
    assert_eq!(last, position.to_string());

    // All of it in one go.
    let undone = acme.post(&format!("/api/commands/{correlation}/undo"), json!({})).await.ok();
    assert_eq!(undone["undone"].as_array().unwrap().len(), 400);
    assert_eq!(acme.get("/api/leads?count=exact").await.ok()["page"]["total"], 0);
}

#[tokio::test]
async fn operations_on_one_record_are_carried_out_in_order() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    for company in ["A", "B"] {
        acme.post("/api/customers", json!({"company": company})).await.created();
    }
    let operations: Vec<Value> = (0..40)
        .map(|n| json!({"op": "update", "id": format!("CUS-00{}", n % 2), "body": {"phone": n.to_string()}}))
        .collect();
    let answers = batch(&acme, "customers", json!(operations)).await;
    let versions: Vec<&Value> = answers["results"].as_array().unwrap().iter().map(|a| &a["body"]["version"]).collect();
    assert_eq!(
        versions.iter().step_by(2).map(|v| v.as_i64().unwrap()).collect::<Vec<_>>(),
        (2..22).collect::<Vec<_>>()
    );
    assert_eq!(acme.get("/api/customers/CUS-001").await.ok()["phone"], "39");

    let answers = batch(
        &acme,
        "customers",
        json!([
            {"op": "update", "id": "CUS-000", "if_match": "v1", "body": {"phone": "+1 555 0101"}},
            {"op": "update", "id": "CUS-000", "if_match": "v21", "body": {"phone": "+1 555 0102"}},
            {"op": "update", "id": "CUS-000", "if_match": "\"v22\"", "body": {"phone": "+1 555 0103"}},
            {"op": "delete", "id": "CUS-000"},
            {"op": "update", "id": "CUS-000", "body": {"phone": "+1 555 0104"}},
            {"op": "restore", "id": "CUS-000"},
            {"op": "revert", "id": "CUS-000", "body": {"to_version": 1}},
        ]),
    )
    .await;
    assert_eq!(statuses(&answers), [412, 200, 200, 200, 404, 200, 200]);
    assert_eq!(answers["results"][6]["body"]["phone"], Value::Null);
}

#[tokio::test]
async fn a_batch_that_is_not_written_well_is_refused_as_a_whole() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let send = async |operations: Value| acme.post("/api/leads/batch", json!({"operations": operations})).await;
    send(json!([])).await.problem(422, "validation_failed");
    let many: Vec<Value> = (0..501).map(|_| json!({"op": "create", "body": {"name": "A"}})).collect();
    let refused = send(json!(many)).await.problem(422, "validation_failed");
    assert_eq!(refused["errors"][0]["pointer"], "/operations");
    send(json!([{"op": "create", "body": {}, "shoe": 1}])).await.problem(400, "unknown_parameter");
    let refused = send(json!([
        {"op": "create", "body": {"name": "A"}},
        {"op": "explode", "id": "LED-000"},
        {"op": "update"},
        {"op": "create", "id": "LED-000"},
        {"op": "update", "id": "../users/USR-001"},
        {"op": "update", "id": "LED-000", "if_match": "yesterday"},
        {"op": "delete", "id": "LED-000", "body": {}},
    ]))
    .await
    .problem(422, "validation_failed");
    let pointers: Vec<&str> =
        refused["errors"].as_array().unwrap().iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    assert_eq!(
        pointers,
        [
            "/operations/1/op",
            "/operations/2/id",
            "/operations/3/id",
            "/operations/4/id",
            "/operations/5/if_match",
            "/operations/6/body"
        ]
    );
    assert_eq!(acme.get("/api/leads?count=exact").await.ok()["page"]["total"], 0);
    // A field that the route does not know is the operation's own mistake.
    let answers = batch(&acme, "leads", json!([{"op": "create", "body": {"name": "A", "shoe": 1}}])).await;
    assert_eq!(
        (statuses(&answers), &answers["results"][0]["problem"]["code"]),
        (vec![400], &json!("unknown_parameter"))
    );
}

#[tokio::test]
async fn each_operation_needs_its_own_permission() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let (bo, cy) = (acme.employee("bo", "sales").await, acme.employee("cy", "support").await);
    for owner in [&bo, &cy] {
        acme.post("/api/leads", json!({"name": "A", "assignee_id": owner.id()})).await.created();
    }
    acme.post("/api/leads", json!({"name": "A", "assignee_id": acme.employee("al", "sales").await.id()}))
        .await
        .created();
    let operations: Vec<Value> =
        (0..3).map(|n| json!({"op": "update", "id": format!("LED-00{n}"), "body": {"phone": "1"}})).collect();
    let answers = batch(&bo, "leads", json!(operations)).await;
    assert_eq!(statuses(&answers), [200, 404, 403]);
    assert_eq!(answers["results"][2]["problem"]["permission"], "leads:write");
    let other = world.business("Other").await;
    assert_eq!(statuses(&batch(&other, "leads", json!(operations)).await), [404, 404, 404]);
    bo.anonymous().post("/api/leads/batch", json!({"operations": operations})).await.problem(401, "unauthenticated");
    let answers = batch(&bo, "invoices", json!([{"op": "send", "id": "INV-000"}])).await;
    assert_eq!((statuses(&answers), &answers["correlation_id"]), (vec![403], &Value::Null));
}

#[tokio::test]
async fn a_batch_that_is_repeated_with_its_key_is_carried_out_once() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let body = json!({"operations": [{"op": "create", "body": {"name": "A"}}, {"op": "delete", "id": "LED-999"}]});
    let key = [("idempotency-key", "b-1")];
    let send = || acme.send(Method::POST, "/api/leads/batch", &key, Some(body.clone()));
    let (first, second) = tokio::join!(send(), send());
    let third = send().await;
    assert_eq!((first.ok(), second.ok()), (third.ok(), third.ok()));
    assert_eq!(third.header("idempotent-replayed"), Some("true"));
    assert_eq!(third.header("devhub-correlation-id"), third.ok()["correlation_id"].as_str());
    assert_eq!(acme.get("/api/leads?count=exact").await.ok()["page"]["total"], 1);
    let other = json!({"operations": [{"op": "create", "body": {"name": "B"}}]});
    let other = acme.send(Method::POST, "/api/leads/batch", &key, Some(other)).await;
    other.problem(422, "idempotency_mismatch");
}

#[tokio::test]
async fn a_batch_that_is_repeated_while_it_is_worked_on_says_so_until_nobody_can_be_at_it() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let body = json!({"operations": [{"op": "create", "body": {"name": "A"}}]});
    let key = [("idempotency-key", "b-1")];
    let send = || acme.send(Method::POST, "/api/leads/batch", &key, Some(body.clone()));
    // Nothing is stored while somebody holds the head of the log.
    let mut holder = PgConnection::connect(&world.url).await.unwrap();
    holder.execute("begin; select from cell_000.cell_head for update").await.unwrap();
    let again = async {
        let reserved = "select exists (select from cell_000.idempotency_keys where key = 'b-1')";
        while !sqlx::query_scalar::<_, bool>(reserved).fetch_one(&mut holder).await.unwrap() {}
        let soon = send().await;
        world.clock.advance(Duration::from_secs(120));
        let late = send().await;
        holder.execute("commit").await.unwrap();
        (soon, late)
    };
    let (first, (soon, late)) = tokio::join!(send(), again);
    assert_eq!(soon.header("retry-after"), Some("5"));
    assert_eq!(soon.problem(409, "conflict")["rule"], "key_in_use");
    assert_eq!(late.problem(409, "conflict")["rule"], "answer_lost");
    assert_eq!(send().await.ok(), first.ok());
}

/// Records to try every operation on.
async fn furnished(world: &World) -> Client {
    let acme = world.business("ACME").await;
    acme.employee("bo", "sales").await;
    for n in 0..3 {
        acme.post("/api/leads", json!({"name": format!("L{n}")})).await.created();
        acme.post("/api/customers", json!({"company": format!("C{n}")})).await.created();
    }
    acme.patch("/api/leads/LED-000", json!({"name": "L"})).await.ok();
    acme.patch("/api/customers/CUS-000", json!({"company": "C"})).await.ok();
    acme.post("/api/leads/LED-001/lose", json!({"reason": "R"})).await.ok();
    for (noun, id) in [("leads", "LED-002"), ("customers", "CUS-002")] {
        acme.delete(&format!("/api/{noun}/{id}")).await.ok();
    }
    for note in ["one", "two"] {
        acme.post("/api/customers/CUS-000/notes", json!({"content": note})).await.created();
    }
    acme.patch("/api/notes/NOT-000", json!({"content": "One"})).await.ok();
    acme.delete("/api/notes/NOT-001").await.ok();
    let plan = json!({"type": "call", "subject": "Offer", "scheduled_at": "2026-03-09T10:00:00Z"});
    acme.post("/api/customers/CUS-000/interactions", plan.clone()).await.created();
    acme.post("/api/customers/CUS-000/interactions", plan).await.created();
    acme.act("/api/interactions/INT-001/cancel").await.ok();
    let project = json!({"name": "P", "customer_ids": ["CUS-000"], "members": [{"user_id": "USR-002"}]});
    acme.post("/api/projects", project.clone()).await.created();
    acme.post("/api/projects", project).await.created();
    acme.patch("/api/projects/PRJ-000", json!({"name": "Q"})).await.ok();
    acme.delete("/api/projects/PRJ-001").await.ok();
    for number in ["A-1", "A-2", "A-3"] {
        let amount = json!({"amount": "5", "currency": "USD"});
        let draft = json!({"customer_id": "CUS-001", "amount": amount, "number": number});
        acme.post("/api/invoices", draft).await.created();
    }
    acme.patch("/api/invoices/INV-000", json!({"notes": "N"})).await.ok();
    acme.act("/api/invoices/INV-001/send").await.ok();
    for n in 0..2 {
        let body = json!({"email": format!("u{n}@acme.test"), "full_name": "U", "role": "EMPLOYEE"});
        acme.post("/api/users", body).await.expect(201);
    }
    acme.post("/api/users/USR-003/lock", json!({})).await.ok();
    acme.act("/api/users/USR-004/deactivate").await.ok();
    acme.patch("/api/users/USR-002", json!({"full_name": "Bo"})).await.ok();
    acme
}

/// Every operation of every noun, each of which would change something.
fn every_operation() -> Vec<(&'static str, Vec<Value>)> {
    let score = json!({"engagement": 1, "fit": 1, "budget_confirmed": true, "decision_maker": true, "urgency": 1});
    let call = json!({"type": "call", "subject": "S"});
    let amount = json!({"amount": "7", "currency": "USD"});
    vec![
        (
            "leads",
            vec![
                json!({"op": "create", "body": {"name": "New"}}),
                json!({"op": "update", "id": "LED-000", "body": {"phone": "1"}}),
                json!({"op": "delete", "id": "LED-000"}),
                json!({"op": "restore", "id": "LED-002"}),
                json!({"op": "revert", "id": "LED-000", "body": {"to_version": 1}}),
                json!({"op": "assign", "id": "LED-000", "body": {"user_id": "USR-002"}}),
                json!({"op": "stage", "id": "LED-000", "body": {"stage": "proposal"}}),
                json!({"op": "qualify", "id": "LED-000", "body": {"qualification": "nurturing"}}),
                json!({"op": "score", "id": "LED-000", "body": score}),
                json!({"op": "convert", "id": "LED-000"}),
                json!({"op": "lose", "id": "LED-000", "body": {"reason": "R"}}),
                json!({"op": "reopen", "id": "LED-001"}),
                json!({"op": "interactions", "id": "LED-000", "body": call}),
            ],
        ),
        (
            "customers",
            vec![
                json!({"op": "create", "body": {"company": "New"}}),
                json!({"op": "update", "id": "CUS-000", "body": {"phone": "1"}}),
                json!({"op": "delete", "id": "CUS-000"}),
                json!({"op": "restore", "id": "CUS-002"}),
                json!({"op": "revert", "id": "CUS-000", "body": {"to_version": 1}}),
                json!({"op": "status", "id": "CUS-000", "body": {"status": "churned"}}),
                json!({"op": "owner", "id": "CUS-000", "body": {"user_id": "USR-002"}}),
                json!({"op": "merge", "id": "CUS-000", "body": {"into": "CUS-001"}}),
                json!({"op": "interactions", "id": "CUS-000", "body": call}),
                json!({"op": "notes", "id": "CUS-000", "body": {"content": "N"}}),
            ],
        ),
        (
            "projects",
            vec![
                json!({"op": "create", "body": {"name": "New", "members": [{"user_id": "USR-002"}]}}),
                json!({"op": "update", "id": "PRJ-000", "body": {"description": "1"}}),
                json!({"op": "delete", "id": "PRJ-000"}),
                json!({"op": "restore", "id": "PRJ-001"}),
                json!({"op": "revert", "id": "PRJ-000", "body": {"to_version": 1}}),
                json!({"op": "status", "id": "PRJ-000", "body": {"status": "on_hold"}}),
                json!({"op": "owner", "id": "PRJ-000", "body": {"user_id": "USR-002"}}),
                json!({"op": "members", "id": "PRJ-000", "body": {"user_id": "USR-001"}}),
                json!({"op": "remove_member", "id": "PRJ-000", "body": {"user_id": "USR-002"}}),
                json!({"op": "customers", "id": "PRJ-000", "body": {"customer_id": "CUS-001"}}),
                json!({"op": "remove_customer", "id": "PRJ-000", "body": {"customer_id": "CUS-000"}}),
                json!({"op": "hours", "id": "PRJ-000", "body": {"hours": "1"}}),
            ],
        ),
        (
            "invoices",
            vec![
                json!({"op": "create", "body": {"customer_id": "CUS-000", "amount": amount, "number": "A-9"}}),
                json!({"op": "update", "id": "INV-000", "body": {"terms": "T"}}),
                json!({"op": "revert", "id": "INV-000", "body": {"to_version": 1}}),
                json!({"op": "send", "id": "INV-000"}),
                json!({"op": "view", "id": "INV-001"}),
                json!({"op": "pay", "id": "INV-001", "body": {"paid_on": "2026-03-02"}}),
                json!({"op": "void", "id": "INV-002"}),
            ],
        ),
        (
            "users",
            vec![
                json!({"op": "create", "body": {"email": "n@acme.test", "full_name": "N", "role": "EMPLOYEE"}}),
                json!({"op": "update", "id": "USR-002", "body": {"department": "support"}}),
                json!({"op": "revert", "id": "USR-002", "body": {"to_version": 2}}),
                json!({"op": "lock", "id": "USR-002", "body": {"reason": "R"}}),
                json!({"op": "unlock", "id": "USR-003"}),
                json!({"op": "deactivate", "id": "USR-002"}),
                json!({"op": "reactivate", "id": "USR-004"}),
            ],
        ),
        (
            "interactions",
            vec![
                json!({"op": "complete", "id": "INT-000"}),
                json!({"op": "cancel", "id": "INT-000"}),
                json!({"op": "revert", "id": "INT-001", "body": {"to_version": 8}}),
            ],
        ),
        (
            "notes",
            vec![
                json!({"op": "update", "id": "NOT-000", "body": {"content": "x"}}),
                json!({"op": "delete", "id": "NOT-000"}),
                json!({"op": "restore", "id": "NOT-001"}),
                json!({"op": "revert", "id": "NOT-000", "body": {"to_version": 3}}),
            ],
        ),
    ]
}

#[tokio::test]
async fn a_dry_run_says_what_each_operation_would_do_and_does_nothing() {
    let world = World::start().await;
    let acme = furnished(&world).await;
    world.caught_up().await;
    let head = *world.app.store.head().borrow();
    let position = acme.get("/api/leads").await.header("devhub-position").map(str::to_owned);
    for (noun, operations) in every_operation() {
        let body = json!({"dry_run": true, "operations": operations});
        let answer = acme.post(&format!("/api/{noun}/batch"), body).await;
        let headers = (answer.header("devhub-position"), answer.header("devhub-correlation-id"));
        assert_eq!(headers, (position.as_deref(), None));
        let answers = answer.ok();
        assert_eq!((&answers["correlation_id"], &answers["dry_run"]), (&Value::Null, &json!(true)));
        for (operation, result) in operations.iter().zip(answers["results"].as_array().unwrap()) {
            assert_eq!(result["status"], 200, "{noun} {operation}: {result}");
            assert!(!result["would"].as_array().unwrap().is_empty(), "{noun} {operation}: {result}");
        }
    }
    assert_eq!(*world.app.store.head().borrow(), head);

    // What would be refused is refused; what would change nothing says so.
    let body = json!({"dry_run": true, "operations": [
        {"op": "create", "body": {"customer_id": "CUS-000", "amount": {"amount": "7", "currency": "USD"}, "number": "A-1"}},
        {"op": "update", "id": "INV-001", "body": {"terms": "T"}},
        {"op": "send", "id": "INV-001"},
    ]});
    let answers = acme.post("/api/invoices/batch", body).await.ok();
    assert_eq!(statuses(&answers), [409, 409, 200]);
    assert_eq!(answers["results"][0]["problem"]["rule"], "invoice_number_taken");
    assert_eq!(answers["results"][2]["would"], json!([]));
    let taken = json!({"dry_run": true, "operations": [
        {"op": "create", "body": {"email": "owner@acme.test", "full_name": "N", "role": "EMPLOYEE"}}]});
    let answers = acme.post("/api/users/batch", taken).await.ok();
    assert_eq!(answers["results"][0]["problem"]["rule"], "email_taken");
    assert_eq!(*world.app.store.head().borrow(), head);
    // No number was used up, either.
    assert_eq!(acme.post("/api/projects", json!({"name": "Next"})).await.created(), "PRJ-002");

    // Meant seriously, each noun's operations do something.
    for (noun, operations) in every_operation() {
        let answers = batch(&acme, noun, json!([operations[0]])).await;
        assert_eq!(answers["failed"], 0, "{noun}: {answers}");
    }
}

#[tokio::test]
async fn no_invoice_is_given_the_number_that_another_shows_without_one() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    acme.post("/api/customers", json!({"company": "Initech"})).await.created();
    let draft = |number: Value| {
        let amount = json!({"amount": "7", "currency": "USD"});
        json!({"customer_id": "CUS-000", "amount": amount, "number": number})
    };
    acme.post("/api/invoices", draft(Value::Null)).await.created();
    // INV-000 is there, INV-001 will be.
    for number in ["INV-000", "INV-001", "INV-1000"] {
        let refused = acme.post("/api/invoices", draft(json!(number))).await;
        assert_eq!(refused.problem(409, "conflict")["rule"], "invoice_number_taken");
    }
    acme.post("/api/invoices", draft(json!("2026-1"))).await.created();
    let refused = acme.patch("/api/invoices/INV-001", json!({"number": "INV-002"})).await;
    assert_eq!(refused.problem(409, "conflict")["rule"], "invoice_number_taken");
    // What it shows without one, it may be told; and what only looks alike is a number like any other.
    acme.patch("/api/invoices/INV-000", json!({"number": "INV-000"})).await.ok();
    for number in ["INV-7", "INV-0007", "INV-2026-1"] {
        acme.post("/api/invoices", draft(json!(number))).await.created();
    }
    let page = acme.get("/api/invoices").await.ok();
    let mut numbers: Vec<&str> =
        page["data"].as_array().unwrap().iter().map(|row| row["number"].as_str().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, ["2026-1", "INV-000", "INV-0007", "INV-2026-1", "INV-7"]);
}

#[tokio::test]
async fn every_write_of_a_noun_is_an_operation_of_its_batch() {
    let world = World::start().await;
    let document = world.nobody().get("/api/openapi.json").await.ok();
    let known: BTreeSet<String> = every_operation()
        .into_iter()
        .flat_map(|(noun, operations)| {
            operations.into_iter().map(move |operation| format!("{noun} {}", operation["op"].as_str().unwrap()))
        })
        .collect();
    // What hands out secrets or ends sessions is asked for one by one.
    let apart = ["users invitation", "users sessions", "users password-reset"];
    for (path, item) in document["paths"].as_object().unwrap() {
        let parts: Vec<&str> = path.trim_start_matches("/api/").split('/').collect();
        if !every_operation().iter().any(|(noun, _)| *noun == parts[0]) || parts.get(1) == Some(&"batch") {
            continue;
        }
        for method in item.as_object().unwrap().keys().filter(|method| *method != "get") {
            let operation = match (method.as_str(), parts.as_slice()) {
                ("post", [noun]) => format!("{noun} create"),
                ("patch", [noun, _]) => format!("{noun} update"),
                ("delete", [noun, _]) => format!("{noun} delete"),
                ("delete", [noun, _, "members", _]) => format!("{noun} remove_member"),
                ("delete", [noun, _, "customers", _]) => format!("{noun} remove_customer"),
                (_, [noun, _, action]) => format!("{noun} {action}"),
                other => panic!("{other:?}"),
            };
            assert!(known.contains(&operation) || apart.contains(&operation.as_str()), "{method} {path}: {operation}");
        }
    }
}

#[tokio::test]
async fn a_long_answer_is_given_and_kept() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let description = "🦀".repeat(10_000);
    acme.post("/api/projects", json!({"name": "Roll-out", "description": description})).await.created();
    let renamed = |turn| json!({"op": "update", "id": "PRJ-000", "body": {"name": format!("Roll-out {turn}")}});
    let body = json!({"operations": (0..250).map(renamed).collect::<Vec<_>>()});
    let send = async || {
        acme.send(Method::POST, "/api/projects/batch", &[("idempotency-key", "long")], Some(body.clone())).await
    };
    let first = send().await;
    assert_eq!(first.ok()["succeeded"], 250);
    assert!(first.text.len() > 8 * 1024 * 1024);
    let again = send().await;
    assert_eq!((again.header("idempotent-replayed"), &again.text), (Some("true"), &first.text));
}
