//! Who owes something stays: a customer with an unpaid invoice is not deleted, and a deleted one is sent none.

use serde_json::json;

use crate::world::{Client, World};

/// A business with some customers, and a draft for each.
async fn with_drafts(world: &World, customers: usize) -> Client {
    let acme = world.business("ACME").await;
    for customer in 0..customers {
        let id = acme.post("/api/customers", json!({"name": format!("Ada {customer}")})).await.created();
        let amount = json!({"amount": "100", "currency": "USD"});
        acme.post("/api/invoices", json!({"customer_id": id, "amount": amount})).await.created();
    }
    acme
}

#[tokio::test]
async fn a_deleted_customer_is_sent_no_invoice() {
    let world = World::start().await;
    let acme = with_drafts(&world, 3).await;
    acme.delete("/api/customers/CUS-000").await.ok();
    let refused = acme.act("/api/invoices/INV-000/send").await.problem(409, "conflict");
    assert_eq!(refused["rule"], "customer_deleted");
    acme.act("/api/customers/CUS-000/restore").await.ok();
    acme.act("/api/invoices/INV-000/send").await.ok();
    acme.post("/api/invoices/INV-000/pay", json!({"paid_on": "2026-03-02"})).await.ok();

    // One that was merged into another owes through that one, if that is there.
    acme.post("/api/customers/CUS-001/merge", json!({"into": "CUS-002"})).await.ok();
    acme.delete("/api/customers/CUS-002").await.ok();
    let refused = acme.act("/api/invoices/INV-001/send").await.problem(409, "conflict");
    assert_eq!(refused["rule"], "customer_deleted");
    acme.act("/api/customers/CUS-002/restore").await.ok();
    acme.act("/api/invoices/INV-001/send").await.ok();
    let refused = acme.delete("/api/customers/CUS-002").await.problem(409, "conflict");
    assert_eq!(refused["rule"], "unpaid_invoice");
}

/// Whoever deletes and whoever sends at the same moment: never both.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_deleted_who_is_sent_an_invoice_at_the_same_moment() {
    const CUSTOMERS: usize = 12;
    let world = World::start().await;
    let second = world.second_server().await;
    let acme = with_drafts(&world, CUSTOMERS).await;
    let there = acme.at(&second);
    for customer in 0..CUSTOMERS {
        let (send, delete) =
            (format!("/api/invoices/INV-{customer:03}/send"), format!("/api/customers/CUS-{customer:03}"));
        // Neither is always the first.
        let (sent, deleted) = if customer % 2 == 0 {
            tokio::join!(acme.act(&send), there.delete(&delete))
        } else {
            let (deleted, sent) = tokio::join!(there.delete(&delete), acme.act(&send));
            (sent, deleted)
        };
        let mut statuses = [sent.status.as_u16(), deleted.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409], "{} {}", sent.text, deleted.text);
    }
}
