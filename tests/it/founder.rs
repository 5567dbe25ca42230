//! What the founder reads of each business, under the path of that business and no other.

use serde_json::{Value, json};

use crate::world::{Client, World};

fn ids(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect()
}

/// The same address as the founder has it.
fn of(owner: &Client, path: &str) -> String {
    format!("/api/admin/tenants/{}{path}", owner.tenant.as_ref().unwrap())
}

#[tokio::test]
async fn the_founder_finds_what_is_overdue_as_the_business_does() {
    let world = World::start().await;
    let (acme, founder) = (world.business("ACME").await, world.founder().await);
    acme.post("/api/customers", json!({"company": "Navy"})).await.created();
    let draft = json!({"customer_id": "CUS-000", "amount": {"amount": "100", "currency": "USD"},
        "issue_date": "2026-01-01", "due_date": "2026-01-31"});
    acme.post("/api/invoices", draft).await.created();
    acme.act("/api/invoices/INV-000/send").await.ok();
    for (status, found) in [("overdue", vec!["INV-000"]), ("paid", Vec::new())] {
        let page = founder.get(&of(&acme, &format!("/invoices?status={status}"))).await.ok();
        assert_eq!(ids(&page), found, "{status}");
    }
}
