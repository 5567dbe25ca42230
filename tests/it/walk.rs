//! The whole path once, as a business and the founder walk it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::world::World;

#[tokio::test]
async fn from_registration_to_a_paid_invoice_and_the_founders_audit() {
    let world = World::start().await;
    let owner = world.business("Kestrel").await;
    let manager = owner.manager("mara", "delivery").await;
    let bo = owner.employee("bo", "sales").await;

    // The employee captures a lead, moves it to proposal, scores it, converts it.
    let lead = bo.post("/api/leads", json!({"name": "Grace Hopper", "company": "Navy"})).await.created();
    bo.post(&format!("/api/leads/{lead}/stage"), json!({"stage": "proposal"})).await.ok();
    let inputs = json!({"engagement": 75, "fit": 85, "budget_confirmed": true, "decision_maker": false, "urgency": 60});
    assert_eq!(bo.post(&format!("/api/leads/{lead}/score"), inputs).await.ok()["score"], 70);
    // The manager of another department does not know of it.
    manager.get(&format!("/api/leads/{lead}")).await.problem(404, "not_found");
    let customer = bo.act(&format!("/api/leads/{lead}/convert")).await.ok()["customer_id"].as_str().unwrap().to_owned();

    // The owner invoices the customer, and it is paid.
    let draft = json!({"customer_id": customer, "amount": {"amount": "12500", "currency": "USD"}});
    let invoice = owner.post("/api/invoices", draft).await.created();
    assert_eq!(owner.act(&format!("/api/invoices/{invoice}/send")).await.ok()["status"], "sent");
    let paid = owner.post(&format!("/api/invoices/{invoice}/pay"), json!({"paid_on": "2026-03-02"})).await.ok();
    assert_eq!((&paid["status"], &paid["amount"]["amount"]), (&json!("paid"), &json!("12500.00")));

    // Another business sees nothing of it.
    let other = world.business("Other").await;
    for path in ["leads", "customers", "invoices", "projects"] {
        assert_eq!(other.get(&format!("/api/{path}")).await.ok()["data"], json!([]), "{path}");
    }
    other.get(&format!("/api/leads/{lead}")).await.problem(404, "not_found");
    other.get(&format!("/api/invoices/{invoice}")).await.problem(404, "not_found");
    other.get("/api/admin/tenants").await.problem(403, "permission_denied");

    // The founder lists both and reads every event, newest first.
    let founder = world.founder().await;
    let tenants = founder.get("/api/admin/tenants").await.ok();
    let names: BTreeSet<&str> =
        tenants["data"].as_array().unwrap().iter().map(|t| t["business_name"].as_str().unwrap()).collect();
    assert!(names.is_superset(&BTreeSet::from(["Kestrel", "Other"])), "{names:?}");
    let tenant = owner.tenant.clone().unwrap();
    let events = founder.get(&format!("/api/admin/events?tenant_id={tenant}&limit=100")).await.ok();
    let mut types: Vec<&str> = events["data"].as_array().unwrap().iter().map(|e| e["type"].as_str().unwrap()).collect();
    types.reverse();
    let told: Vec<&str> = types.into_iter().filter(|t| !t.contains("logged_in")).collect();
    assert_eq!(
        told,
        [
            "devhub.tenant.registered.v1",
            "devhub.user.registered.v1",
            "devhub.user.invited.v1",
            "devhub.user.invitation_accepted.v1",
            "devhub.user.invited.v1",
            "devhub.user.invitation_accepted.v1",
            "devhub.lead.captured.v1",
            "devhub.lead.stage_changed.v1",
            "devhub.lead.scored.v1",
            "devhub.customer.registered.v1",
            "devhub.customer.history_carried_over.v1",
            "devhub.lead.converted.v1",
            "devhub.invoice.drafted.v1",
            "devhub.invoice.sent.v1",
            "devhub.invoice.paid.v1",
        ]
    );
    let theirs = founder.get(&format!("/api/admin/tenants/{tenant}/leads")).await.ok();
    assert_eq!(theirs["data"][0]["id"], Value::String(lead));
}
