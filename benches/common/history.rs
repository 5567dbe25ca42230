//! A history such as a business has.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use devhub::aggregates::claims::{ClaimChange, ClaimKind};
use devhub::aggregates::ids::TenantId;
use devhub::clock::new_event_id;
use devhub::event_store::{Append, NewEvent, StreamId, StreamWrite};
use serde_json::{Value, json};

/// Events of one account's life, of which the history is made.
const EVENTS_PER_ACCOUNT: usize = 30;

/// The history of a business as an import brings it along: leads that become customers, or do not; calls and
/// meetings; projects and invoices; each event with the old row that it was made of.
pub fn history(tenant: TenantId, events: usize) -> Vec<Append> {
    let mut steps = Vec::new();
    for account in 0..events.div_ceil(EVENTS_PER_ACCOUNT) {
        for (step, append) in account_of(tenant, account).into_iter().enumerate() {
            // Accounts overlap, as they do in life.
            steps.push((account + 40 * step, append));
        }
    }
    steps.sort_by_key(|(at, _)| *at);
    steps.into_iter().map(|(_, append)| append).collect()
}

/// One account's life, in the order in which it happens.
fn account_of(tenant: TenantId, n: usize) -> Vec<Append> {
    let story = Story { tenant, n, at: "2020-01-01T08:00:00Z".parse().unwrap() };
    let (lead, customer) = (format!("LED-{:03}", 6 * n), format!("CUS-{n:03}"));
    let (project, invoice) = (format!("PRJ-{n:03}"), format!("INV-{n:03}"));
    let mut steps = vec![story.one("Lead", &lead, 0, vec![captured(n), qualified(), stage("new", "contacted")])];
    for other in 1..=5 {
        let (id, name) = (format!("LED-{:03}", 6 * n + other), 7 * n + other);
        let mut what = vec![captured(name)];
        if other < 5 {
            what.push(stage("new", "contacted"));
        }
        steps.push(story.one("Lead", &id, 0, what));
    }
    for call in 0..2 {
        steps.push(story.one("Lead", &lead, 3 + call as i64, vec![contact(8 * n + call)]));
    }
    let carried: Vec<Value> = (0..2).map(|call| interaction(8 * n + call, true)).collect();
    let registered = vec![
        (
            "CustomerRegistered",
            json!({"Registered": {
                "company": format!("Company {n}"), "email": {"personal": format!("mateo.rossi.{n}@example.com")},
                "from_lead": lead, "name": {"personal": format!("Mateo Rossi {n}")}, "owner": "USR-004",
                "phone": {"personal": "+1 555 0100 1000"}, "status": "active",
            }}),
        ),
        ("CustomerHistoryCarriedOver", json!({"HistoryCarriedOver": {"interactions": carried, "lead": lead}})),
    ];
    steps.push(story.of(vec![
        story.write("Customer", &customer, 0, registered),
        story.write("Lead", &lead, 5, vec![("LeadConverted", json!({"Converted": {"customer": customer}}))]),
    ]));
    for call in 0..6 {
        let logged = json!({"InteractionLogged": interaction(8 * n + 2 + call, false)});
        steps.push(story.one("Customer", &customer, 2 + call as i64, vec![("CustomerInteractionLogged", logged)]));
    }
    steps.push(story.one("Project", &project, 0, vec![
        ("ProjectPlanned", json!({"Planned": {
            "customers": [customer], "details": {
                "budget": {"amount": "3200.00", "currency": "USD"}, "due_date": "2026-07-28", "hours_estimated": "40.00",
                "description": "From the signed offer to the last training.", "name": format!("Roll-out {n}"),
                "priority": "high", "start_date": "2026-06-20",
            }, "owner": "USR-002", "status": "planned",
        }})),
        ("ProjectMemberAssigned", json!({"MemberAssigned": {"role": "Consultant", "user": "USR-006"}})),
        ("ProjectStatusChanged", json!({"StatusChanged": {"from": "planned", "to": "in_progress"}})),
    ]));
    let hours = json!({"HoursLogged": {"hours": "6.75", "on": "2026-06-27", "user": "USR-006"}});
    steps.push(story.one("Project", &project, 3, vec![("ProjectHoursLogged", hours)]));
    let sent = ("InvoiceSent", json!({"Sent": {}}));
    let mut invoiced =
        story.one("Invoice", &invoice, 0, vec![("InvoiceDrafted", drafted(n, &customer, &project)), sent]);
    invoiced.writes[0].events[0].claims =
        vec![ClaimChange::Take { kind: ClaimKind::InvoiceNumber, key: format!("2026-{n:05}") }];
    steps.push(invoiced);
    steps.push(story.one("Invoice", &invoice, 2, vec![("InvoicePaid", json!({"Paid": {"paid_on": "2026-07-19"}}))]));
    steps
}

struct Story {
    tenant: TenantId,
    n: usize,
    at: DateTime<Utc>,
}

impl Story {
    fn one(&self, kind: &'static str, id: &str, expected: i64, events: Vec<(&str, Value)>) -> Append {
        self.of(vec![self.write(kind, id, expected, events)])
    }

    fn of(&self, writes: Vec<StreamWrite>) -> Append {
        Append { tenant: self.tenant, writes, guards: vec![], conditions: vec![], idempotency: None }
    }

    fn write(&self, kind: &'static str, id: &str, expected: i64, events: Vec<(&str, Value)>) -> StreamWrite {
        let occurred_at = self.at + TimeDelta::minutes(self.n as i64);
        // The old row, as text: about a kilobyte.
        let row = json!({"id": id, "kind": kind, "columns": (0..24).map(|c| format!("column {c} of {id}: value {}", self.n * c))
            .collect::<Vec<_>>()});
        let metadata: Arc<str> = json!({
            "actor": format!("{}:USR-004", self.tenant), "correlation_id": "01920000-0000-7000-8000-000000000001",
            "legacy_row": row.to_string(), "source": "import",
        })
        .to_string()
        .into();
        let event = |(event_type, payload): (&str, Value)| NewEvent {
            event_id: new_event_id(occurred_at),
            event_type: event_type.to_owned(),
            event_version: "1".to_owned(),
            payload: payload.to_string(),
            metadata: Arc::clone(&metadata),
            occurred_at,
            claims: vec![],
        };
        let target = StreamId::new(kind, self.tenant, id).into();
        StreamWrite { target, expected, events: events.into_iter().map(event).collect() }
    }
}

fn captured(n: usize) -> (&'static str, Value) {
    (
        "LeadCaptured",
        json!({"Captured": {
            "assignee": "USR-004", "company": format!("Company {n}"),
            "email": {"personal": format!("mateo.rossi.{n}@example.com")},
            "estimated_value": {"amount": "4000.00", "currency": "USD"}, "expected_close_date": "2026-07-13",
            "job_title": {"personal": "Head of Operations"}, "name": {"personal": format!("Mateo Rossi {n}")},
            "phone": {"personal": "+1 555 0100 1000"}, "probability": 5, "probability_set_by_hand": false,
            "qualification": "new", "source": "website", "stage": "new",
        }}),
    )
}

fn qualified() -> (&'static str, Value) {
    ("LeadQualified", json!({"Qualified": {"qualification": "sales_qualified"}}))
}

fn stage(from: &str, to: &str) -> (&'static str, Value) {
    ("LeadStageChanged", json!({"StageChanged": {"from": from, "probability": 20, "to": to}}))
}

fn contact(number: usize) -> (&'static str, Value) {
    ("LeadInteractionLogged", json!({"InteractionLogged": interaction(number, false)}))
}

fn interaction(number: usize, carried: bool) -> Value {
    let mut interaction = json!({
        "billable": true, "by": "USR-004", "completed_at": "2026-06-02T09:07:00Z",
        "description": {"personal": "In their office, with the head of purchasing and two engineers"},
        "follow_up_date": "2026-03-20", "hours": "1.50", "id": format!("INT-{number:03}"),
        "outcome": {"personal": "Interested, wants to go on"}, "priority": "medium",
        "subject": {"personal": "Walk through the offer"}, "type": "meeting",
    });
    if carried {
        interaction["status"] = json!("completed");
    }
    interaction
}

fn drafted(n: usize, customer: &str, project: &str) -> Value {
    let money = |amount: &str| json!({"amount": amount, "currency": "USD"});
    json!({"Drafted": {
        "currency": "USD", "customer": customer, "due_date": "2026-07-28", "issue_date": "2026-06-28",
        "lines": [{
            "description": format!("Roll-out {n}, first half"), "net": money("2000.00"), "quantity": "1",
            "tax": money("160.00"), "tax_rate": "8", "total": money("2160.00"), "unit_price": "2000.00",
        }],
        "net": money("2000.00"), "number": format!("2026-{n:05}"), "project": project, "tax": money("160.00"),
        "terms": "Net 30 days", "total": money("2160.00"),
    }})
}
