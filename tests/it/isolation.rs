//! No tenant ever sees another's data: by no route, with no id, cursor, key or token.

use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde_json::{Value, json};
use std::time::Duration;

use crate::world::{Answer, Client, FOUNDER, PASSWORD, World};

/// Stands in every text of the business that is to stay unseen.
const CANARY: &str = "Zanzibar";

/// A business with a record of every kind, each with the canary in it.
async fn victim(world: &World) -> Client {
    let owner = world.business(CANARY).await;
    owner.post("/api/leads", json!({"name": CANARY, "company": CANARY})).await.created();
    owner.post("/api/leads", json!({"name": CANARY, "company": CANARY})).await.created();
    owner.post("/api/leads/LED-000/interactions", json!({"type": "call", "subject": CANARY})).await.created();
    owner.post("/api/customers", json!({"company": CANARY})).await.created();
    owner.post("/api/customers/CUS-000/notes", json!({"content": CANARY})).await.created();
    owner.post("/api/projects", json!({"name": CANARY, "customer_ids": ["CUS-000"]})).await.created();
    let amount = json!({"amount": "100", "currency": "USD"});
    owner.post("/api/invoices", json!({"customer_id": "CUS-000", "amount": amount, "notes": CANARY})).await.created();
    owner.employee(CANARY, CANARY).await;
    owner
}

/// Every operation of the API: method and path.
async fn operations(world: &World) -> Vec<(Method, String, bool)> {
    let document = world.nobody().get("/api/openapi.json").await.ok();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Ok(method) = method.to_uppercase().parse::<Method>() else { continue };
            let public = operation["security"] == json!([{}]) || operation["security"] == json!([]);
            operations.push((method, path.clone(), public));
        }
    }
    assert!(operations.len() > 60, "only {} operations", operations.len());
    operations
}

/// The path with the ids that the victim's records have.
pub fn aimed(path: &str, tenant: &str, command: &str) -> String {
    let id = [
        ("customers", "CUS-000"),
        ("leads", "LED-000"),
        ("projects", "PRJ-000"),
        ("invoices", "INV-000"),
        ("interactions", "INT-000"),
        ("notes", "NOT-000"),
        ("users", "USR-002"),
    ];
    let noun =
        path.trim_start_matches("/api/").trim_start_matches("admin/tenants/{tenant_id}/").split('/').next().unwrap();
    let id = id.iter().find(|(known, _)| *known == noun).map_or("00000000-0000-7000-8000-000000000000", |(_, id)| id);
    path.replace("{tenant_id}", tenant)
        .replace("{id}", id)
        .replace("{user_id}", "USR-002")
        .replace("{customer_id}", "CUS-000")
        .replace("{key_id}", "none")
        .replace("{name}", "leads")
        .replace("{correlation_id}", command)
        .replace("{slug}", "not-found")
        .replace("{version}", "1")
}

fn untouched(answer: &Answer, what: &str, tenant: &str) {
    let headers = format!("{:?}", answer.headers);
    for trace in [CANARY, "zanzibar", tenant] {
        assert!(!answer.text.contains(trace), "{what} shows {trace}: {}", answer.text);
        assert!(!headers.contains(trace), "{what} shows {trace} in {headers}");
    }
}

#[tokio::test]
async fn no_route_shows_another_business_anything() {
    let world = World::start().await;
    let victim = victim(&world).await;
    let tenant = victim.tenant.clone().unwrap();
    let cursor = victim.get("/api/leads?limit=1").await.ok()["page"]["next_cursor"].as_str().unwrap().to_owned();
    let key = [("idempotency-key", "theirs")];
    victim.send(Method::POST, "/api/leads", &key, Some(json!({"name": CANARY}))).await.expect(201);
    let changed = victim.patch("/api/leads/LED-000", json!({"job_title": CANARY})).await;
    let command = changed.header("devhub-correlation-id").unwrap().to_owned();
    let other = world.business("Other").await;

    let third = world.business("Third").await;
    third.get(&format!("/api/leads?limit=1&cursor={cursor}")).await.problem(400, "invalid_cursor");
    let repeated = third.send(Method::POST, "/api/leads", &key, Some(json!({"name": "Mine"}))).await;
    assert_eq!(repeated.header("idempotent-replayed"), None);
    untouched(&repeated, "the same idempotency key", &tenant);

    for (method, path, public) in operations(&world).await {
        // What ends the session that asks would end the walk too.
        if path.ends_with("/logout") || path.ends_with("/change-password") {
            continue;
        }
        let (what, aim) = (format!("{method} {path}"), aimed(&path, &tenant, &command));
        let body = (method != Method::GET && method != Method::DELETE).then(|| json!({}));
        let answer = other.send(method.clone(), &aim, &[], body.clone()).await;
        untouched(&answer, &what, &tenant);
        assert_ne!(answer.status, 500, "{what}: {}", answer.text);
        if path.starts_with("/api/admin") {
            assert!(matches!(answer.status.as_u16(), 403 | 404), "{what}: {} {}", answer.status, answer.text);
        } else if aim != path && !public && !path.starts_with("/api/tenant/") {
            assert!(answer.status.is_client_error(), "{what}: {} {}", answer.status, answer.text);
        }
        if method == Method::GET {
            for past in ["as_of=2099-01-01", "as_of=2099-01-01&axis=recorded", "from=1&to=1"] {
                let answer = other.send(Method::GET, &format!("{aim}?{past}"), &[], None).await;
                untouched(&answer, &format!("{what}?{past}"), &tenant);
                assert_ne!(answer.status, 500, "{what}?{past}: {}", answer.text);
            }
        }
        let unsigned = other.anonymous().send(method, &aim, &[], body).await;
        untouched(&unsigned, &what, &tenant);
        if !public {
            unsigned.problem(401, "unauthenticated");
        }
    }
}

#[tokio::test]
async fn an_id_of_another_business_and_an_id_of_nothing_look_the_same() {
    let world = World::start().await;
    victim(&world).await;
    let other = world.business("Other").await;
    for (theirs, nothing) in [
        ("leads/LED-000", "leads/LED-999"),
        ("customers/CUS-000", "customers/x"),
        ("invoices/INV-000", "invoices/INV-7"),
    ] {
        let strip = |mut problem: Value| {
            problem["request_id"] = Value::Null;
            problem
        };
        let (a, b) = (other.get(&format!("/api/{theirs}")).await, other.get(&format!("/api/{nothing}")).await);
        assert_eq!(strip(a.problem(404, "not_found")), strip(b.problem(404, "not_found")));
    }
}

#[tokio::test]
async fn a_token_is_good_only_as_it_was_issued_and_while_it_holds() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let token = owner.token.clone().unwrap();
    let [header, claims, signature]: [&str; 3] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let decode = |part: &str| serde_json::from_slice::<Value>(&BASE64.decode(part).unwrap()).unwrap();
    let encode = |value: &Value| BASE64.encode(value.to_string());
    let mut other_tenant = decode(claims);
    other_tenant["tenant_id"] = json!("TNT-PLT");
    other_tenant["is_founder"] = json!(true);
    let mut none = decode(header);
    none["alg"] = json!("none");
    let forged = World::start().await.business("Forged").await.token.unwrap();
    for (what, bad) in [
        ("tampered claims", format!("{header}.{}.{signature}", encode(&other_tenant))),
        ("alg none", format!("{}.{claims}.", encode(&none))),
        ("a key of somebody else", forged),
        ("half a token", token[..token.len() - 9].to_owned()),
        ("nonsense", "nonsense".to_owned()),
        ("an API key of nobody", "dvh_none_none".to_owned()),
    ] {
        let refused = owner.with_token(&bad).get("/api/me").await;
        assert_eq!(refused.status, 401, "{what}: {}", refused.text);
        assert!(refused.header("www-authenticate").unwrap().starts_with("Bearer"), "{what}");
    }
    owner.get("/api/me").await.ok();
    world.clock.advance(Duration::from_secs(16 * 60));
    owner.get("/api/me").await.expect(401);
}

#[tokio::test]
async fn who_is_no_longer_active_is_out_at_once() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let bo = owner.employee("bo", "sales").await;
    let al = owner.employee("al", "sales").await;
    bo.get("/api/me").await.ok();
    owner.act(&format!("/api/users/{}/deactivate", bo.id())).await.ok();
    bo.get("/api/me").await.expect(401);
    owner.post(&format!("/api/users/{}/lock", al.id()), json!({"reason": "lost laptop"})).await.ok();
    al.get("/api/me").await.expect(401);

    let again = world.nobody().signed_in("owner@acme.test", PASSWORD).await;
    again.act("/api/auth/logout").await;
    again.get("/api/me").await.expect(401);

    let founder = world.nobody().signed_in(FOUNDER, PASSWORD).await;
    let tenant = owner.tenant.clone().unwrap();
    founder.post(&format!("/api/admin/tenants/{tenant}/suspend"), json!({"reason": "unpaid"})).await.ok();
    owner.get("/api/me").await.expect(401);
    world.nobody().post("/api/auth/login", json!({"email": "owner@acme.test", "password": PASSWORD})).await.expect(401);
    founder.act(&format!("/api/admin/tenants/{tenant}/reactivate")).await.ok();
    world.nobody().signed_in("owner@acme.test", PASSWORD).await.get("/api/me").await.ok();
}

#[tokio::test]
async fn a_refresh_token_that_is_used_twice_ends_the_session() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    let old = json!({"refresh_token": owner.refresh_token});
    let fresh = world.nobody().post("/api/auth/refresh", old.clone()).await.ok();
    let fresh = owner.with_tokens(&fresh);
    fresh.get("/api/me").await.ok();
    world.nobody().post("/api/auth/refresh", old).await.expect(401);
    fresh.get("/api/me").await.expect(401);
}

#[tokio::test]
async fn a_key_that_was_used_in_one_business_is_new_in_another() {
    let world = World::start().await;
    let founder = world.founder().await;
    let key = [("idempotency-key", "the-same")];
    let lead = json!({"name": "Ada"});
    let mut owners = Vec::new();
    for name in ["ACME", "Beta"] {
        let owner = world.business(name).await;
        let visits = format!("/api/admin/tenants/{}/support-sessions", owner.tenant.as_deref().unwrap());
        let visit = founder.post(&visits, json!({"reason": "Ticket", "mode": "write"})).await.expect(201);
        let visitor = founder.with_token(visit["access_token"].as_str().unwrap());
        for replayed in [None, Some("true")] {
            let answer = visitor.send(Method::POST, "/api/leads", &key, Some(lead.clone())).await;
            assert_eq!((answer.created().as_str(), answer.header("idempotent-replayed")), ("LED-000", replayed));
        }
        owners.push(owner);
    }
    for owner in owners {
        assert_eq!(owner.get("/api/leads").await.ok()["data"].as_array().unwrap().len(), 1);
        // What a person did with a key is not what their program did.
        let made = owner.post("/api/api-keys", json!({"name": "Program"})).await.expect(201);
        let program = owner.with_token(made["key"].as_str().unwrap());
        for (asking, replayed) in [(&owner, None), (&program, None), (&owner, Some("true")), (&program, Some("true"))] {
            let answer = asking.send(Method::POST, "/api/leads", &key, Some(lead.clone())).await;
            assert_eq!((answer.status.as_u16(), answer.header("idempotent-replayed")), (201, replayed));
        }
        assert_eq!(owner.get("/api/leads").await.ok()["data"].as_array().unwrap().len(), 3);
    }
}
