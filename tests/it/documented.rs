//! What the OpenAPI document says of each operation is what the operation does.

use std::collections::BTreeSet;

use axum::http::Method;
use serde_json::{Value, json};

use crate::world::{Client, FOUNDER, PASSWORD, World};

/// An operation of the document: its method, its path, and what is said of it.
pub type Operation = (Method, String, Value);

/// Every operation, with the parameters that it shares with others put back to where they are referred to.
pub fn operations() -> Vec<Operation> {
    let document: Value = serde_json::from_str(&devhub::api::document().unwrap()).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let mut operation = operation.clone();
            for parameter in operation["parameters"].as_array_mut().into_iter().flatten() {
                if let Some(place) = parameter.get("$ref").and_then(Value::as_str) {
                    *parameter = document.pointer(place.trim_start_matches('#')).unwrap().clone();
                }
            }
            operations.push((method.to_uppercase().parse().unwrap(), path.clone(), operation));
        }
    }
    assert!(operations.len() > 100, "{}", operations.len());
    operations
}

fn has_parameter(operation: &Value, place: &str, name: Option<&str>) -> bool {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    parameters.into_iter().any(|one| one["in"] == place && name.is_none_or(|name| one["name"] == name))
}

/// The path with ids of the right form, which are nobody's but for the business's and the read model's.
fn address(path: &str) -> String {
    let mut address = Vec::new();
    let mut of = "";
    for part in path.split('/') {
        let id = match (of, part) {
            (_, part) if !part.starts_with('{') => part,
            ("tenants", _) => "TNT-000",
            ("projections", _) => "leads",
            ("versions", _) => "1",
            ("customers", _) => "CUS-999",
            ("interactions", _) => "INT-999",
            ("invoices", _) => "INV-999",
            ("leads", _) => "LED-999",
            ("notes", _) => "NOT-999",
            ("projects", _) => "PRJ-999",
            ("users" | "members", _) => "USR-999",
            ("rebuilds" | "verifications" | "support-sessions" | "commands" | "imports" | "api-keys", _) => {
                "0192f8e3-7c1a-7d4e-9b7a-3f5d2c1b0a99"
            }
            (of, part) => panic!("{part} of {of}"),
        };
        address.push(id);
        of = part;
    }
    address.join("/")
}

/// Whoever may ask: the founder, the owner of a business, or nobody where nobody is expected.
struct People {
    nobody: Client,
    founder: Client,
    owner: Client,
}

impl People {
    async fn of(world: &World) -> Self {
        Self { nobody: world.nobody(), founder: world.founder().await, owner: world.business("ACME").await }
    }

    /// Somebody who has not signed out, whatever was asked before.
    async fn who(&self, path: &str, operation: &Value) -> Client {
        if operation["security"] == json!([{}]) || operation["security"] == json!([]) {
            return self.nobody.clone();
        }
        if path.starts_with("/api/auth/") {
            return self.nobody.signed_in(FOUNDER, PASSWORD).await;
        }
        if path.starts_with("/api/admin/") { self.founder.clone() } else { self.owner.clone() }
    }
}

#[tokio::test]
async fn no_operation_ignores_a_query_parameter() {
    let world = World::start().await;
    let people = People::of(&world).await;
    let (mut reading, mut others) = (0, 0);
    for (method, path, operation) in operations() {
        let who = people.who(&path, &operation).await;
        let body = operation.get("requestBody").map(|_| json!({}));
        let asked = format!("{}?nonsense=1", address(&path));
        let answer = who.send(method.clone(), &asked, &[], body).await;
        assert_eq!(answer.status, 400, "{method} {asked}: {}", answer.text);
        let problem = answer.problem(400, "unknown_parameter");
        assert_eq!(problem["errors"][0]["parameter"], "nonsense", "{method} {asked}: {problem}");
        assert!(operation["responses"].get("400").is_some(), "{method} {path}");
        *if has_parameter(&operation, "query", None) { &mut reading } else { &mut others } += 1;
    }
    assert!(reading > 40 && others > 60, "{reading} and {others}");
    // Nothing was carried out, and HEAD is as good as GET.
    let head = people.owner.send(Method::HEAD, "/api/me?nonsense=1", &[], None).await;
    assert_eq!(head.status, 400);
    let batch = json!({"operations": [{"op": "create", "body": {"name": "Grace"}}]});
    people.owner.post("/api/leads/batch?dry_run=true", batch).await.problem(400, "unknown_parameter");
    assert_eq!(people.owner.get("/api/leads?count=exact").await.ok()["page"]["total"], 0);
}

#[tokio::test]
async fn no_operation_ignores_what_a_body_says() {
    let world = World::start().await;
    let people = People::of(&world).await;
    let (mut reading, mut others) = (0, 0);
    for (method, path, operation) in operations().into_iter().filter(|(method, ..)| *method != Method::GET) {
        let who = people.who(&path, &operation).await;
        let asked = address(&path);
        let send = async |body| who.send(method.clone(), &asked, &[], Some(body)).await;
        let problem = send(json!({"nonsense": 1})).await.problem(400, "unknown_parameter");
        assert_eq!(problem["errors"][0]["pointer"], "/nonsense", "{method} {asked}: {problem}");
        assert!(operation["responses"].get("400").is_some(), "{method} {path}");
        if operation.get("requestBody").is_some() {
            reading += 1;
        } else {
            send(json!(["nonsense"])).await.problem(400, "malformed_request");
            others += 1;
        }
    }
    assert!(reading > 50 && others > 10, "{reading} and {others}");
    // An empty object says nothing, and nothing more than its key is known of a request without a body.
    let lead = people.owner.post("/api/leads", json!({"name": "Grace"})).await.created();
    people.owner.delete(&format!("/api/leads/{lead}")).await.ok();
    let restore = format!("/api/leads/{lead}/restore");
    people.owner.post(&restore, json!({"to_version": 1})).await.problem(400, "unknown_parameter");
    people.owner.post(&restore, json!({})).await.ok();
}

#[tokio::test]
async fn if_match_is_read_where_the_document_says_so_and_nowhere_else() {
    let world = World::start().await;
    let people = People::of(&world).await;
    let mut reading = 0;
    for (method, path, operation) in operations() {
        let said = has_parameter(&operation, "header", Some("If-Match"));
        assert_eq!(operation["responses"].get("412").is_some(), said, "{method} {path}");
        if method == Method::GET {
            assert!(!said, "{path}");
            continue;
        }
        let who = people.who(&path, &operation).await;
        let body = operation.get("requestBody").map(|_| json!({}));
        // What is no tag at all is refused by whoever reads it.
        let answer = who.send(method.clone(), &address(&path), &[("if-match", "v12")], body).await;
        let read = answer.status == 400 && answer.text.contains("if-match");
        assert_eq!(read, said, "{method} {path}: {} {}", answer.status, answer.text);
        reading += usize::from(said);
    }
    assert!(reading > 40, "{reading}");
}

#[tokio::test]
async fn what_is_stored_and_cannot_be_read_yet_is_said_where_it_can_be_and_nowhere_else() {
    let mut stored = BTreeSet::new();
    for (method, path, operation) in operations() {
        if operation["responses"].get("202").is_some() {
            stored.insert(format!("{method} {path}"));
        }
    }
    for expected in [
        "POST /api/leads/{id}/interactions",
        "POST /api/customers/{id}/interactions",
        "POST /api/interactions/{id}/complete",
        "POST /api/interactions/{id}/cancel",
        "POST /api/interactions/{id}/revert",
        "POST /api/users",
        "PATCH /api/leads/{id}",
    ] {
        assert!(stored.contains(expected), "{expected}");
    }
    assert!(!stored.contains("POST /api/users/{id}/invitation"));
}

#[tokio::test]
async fn who_is_not_signed_in_is_told_what_can_be_refused_and_may_repeat_it() {
    for (method, path, operation) in operations() {
        let public = operation["security"] == json!([{}]) || operation["security"] == json!([]);
        if !public || method == Method::GET {
            continue;
        }
        for status in ["400", "409", "422", "429"] {
            assert!(operation["responses"].get(status).is_some(), "{status} of {path}");
        }
        let signs_in = path != "/api/auth/register-business";
        assert_eq!(operation["responses"].get("401").is_some(), signs_in, "{path}");
        assert!(has_parameter(&operation, "header", Some("Idempotency-Key")), "{path}");
    }
    let world = World::start().await;
    let login = json!({"email": FOUNDER, "password": PASSWORD});
    let key = [("idempotency-key", "once")];
    let sign_in = async || world.nobody().send(Method::POST, "/api/auth/login", &key, Some(login.clone())).await;
    let (first, again) = (sign_in().await, sign_in().await);
    assert_eq!(first.ok()["access_token"], again.ok()["access_token"]);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
}
