//! Reports: of what the caller may see, on any day, and always what the records themselves say.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use crate::world::{Client, PASSWORD, World};

fn usd(amount: &str) -> Value {
    json!({"amount": amount, "currency": "USD"})
}

async fn group(client: &Client, path: &str, key: &str) -> Value {
    let report = client.get(path).await.ok();
    report["groups"].as_array().unwrap().iter().find(|group| group["key"] == key).cloned().unwrap_or_default()
}

#[tokio::test]
async fn the_pipeline_has_values_and_ages_of_open_leads_by_stage() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let lead = |amount: &str, currency: &str| json!({"name": "Grace Hopper", "source": "referral", "estimated_value": {"amount": amount, "currency": currency}});
    acme.post("/api/leads", lead("1000", "USD")).await.created();
    acme.post("/api/leads", lead("10.15", "USD")).await.created();
    acme.post("/api/leads", lead("333", "JPY")).await.created();
    acme.post("/api/leads", json!({"name": "Nobody knows what it is worth"})).await.created();
    acme.post("/api/leads/LED-000/stage", json!({"stage": "proposal"})).await.ok();
    acme.post("/api/leads/LED-003/lose", json!({"reason": "Price"})).await.ok();
    acme.post("/api/leads", json!({"name": "Ada"})).await.created();

    assert_eq!(
        acme.get("/api/reports/pipeline").await.ok(),
        json!({
            "day": "2026-03-02", "by": "stage",
            "groups": [
                {"key": "new", "leads": 3,
                 "value": [{"amount": "333", "currency": "JPY"}, usd("10.15")],
                 // 5 in a hundred of each: 16.65 and 0.5075
                 "weighted": [{"amount": "17", "currency": "JPY"}, usd("0.51")],
                 "ageing": {"fresh": 3, "amber": 0, "red": 0}},
                {"key": "proposal", "leads": 1, "value": [usd("1000.00")], "weighted": [usd("600.00")],
                 "ageing": {"fresh": 1, "amber": 0, "red": 0}},
            ],
            "total": {"leads": 4, "value": [{"amount": "333", "currency": "JPY"}, usd("1010.15")],
                      "weighted": [{"amount": "17", "currency": "JPY"}, usd("600.51")],
                      "ageing": {"fresh": 4, "amber": 0, "red": 0}},
        })
    );

    // 14 days after a change it is fresh, 15 and 30 amber, 31 red
    for (days, ageing) in [
        (14, json!({"fresh": 4, "amber": 0, "red": 0})),
        (1, json!({"fresh": 0, "amber": 4, "red": 0})),
        (15, json!({"fresh": 0, "amber": 4, "red": 0})),
        (1, json!({"fresh": 0, "amber": 0, "red": 4})),
    ] {
        world.clock.advance(Duration::from_secs(days * 86_400));
        let acme = acme.signed_in("owner@acme.test", PASSWORD).await;
        assert_eq!(acme.get("/api/reports/pipeline").await.ok()["total"]["ageing"], ageing, "{days} days later");
    }
}

#[tokio::test]
async fn conversion_says_what_became_of_the_leads_of_a_period() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    for source in ["referral", "referral", "referral", "website"] {
        acme.post("/api/leads", json!({"name": "Grace", "source": source})).await.created();
    }
    acme.act("/api/leads/LED-000/convert").await.ok();
    acme.post("/api/leads/LED-001/lose", json!({"reason": "Price"})).await.ok();
    acme.post("/api/leads/LED-003/stage", json!({"stage": "proposal"})).await.ok();
    world.clock.advance(Duration::from_secs(40 * 86_400));
    let acme = acme.signed_in("owner@acme.test", PASSWORD).await;
    acme.post("/api/leads", json!({"name": "Ada", "source": "website"})).await.created();
    acme.act("/api/leads/LED-004/convert").await.ok();

    let referral = json!({"captured": 3, "converted": 1, "won": 0, "lost": 1, "open": 1, "rate": "33.33"});
    let website = json!({"captured": 2, "converted": 1, "won": 0, "lost": 0, "open": 1, "rate": "50.00"});
    let by_source = acme.get("/api/reports/conversion?by=source").await.ok();
    assert_eq!(by_source["total"]["rate"], "40.00");
    let keyed = |key: &str, figures: &Value| {
        let mut keyed = figures.clone();
        keyed["key"] = json!(key);
        keyed
    };
    assert_eq!(by_source["groups"], json!([keyed("website", &website), keyed("referral", &referral)]));
    let by_month = acme.get("/api/reports/conversion?by=month").await.ok();
    let months: Vec<(&Value, &Value)> =
        by_month["groups"].as_array().unwrap().iter().map(|month| (&month["key"], &month["rate"])).collect();
    assert_eq!(months, [(&json!("2026-03"), &json!("25.00")), (&json!("2026-04"), &json!("100.00"))]);

    // of a period, without groups
    let march = acme.get("/api/reports/conversion?created_at[gte]=2026-03-01&created_at[lt]=2026-04-01").await.ok();
    assert_eq!((&march["by"], &march["groups"]), (&Value::Null, &json!([])));
    assert_eq!(march["total"]["captured"], 4);
    let none = acme.get("/api/reports/conversion?created_at[lt]=2026-01-01").await.ok();
    assert_eq!(none["total"], json!({"captured": 0, "converted": 0, "won": 0, "lost": 0, "open": 0, "rate": null}));
    // a lead that was taken away did not come in
    acme.delete("/api/leads/LED-001").await.ok();
    assert_eq!(acme.get("/api/reports/conversion").await.ok()["total"]["captured"], 4);
}

#[tokio::test]
async fn receivables_are_what_is_owed_by_how_long_it_has_been_due() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    acme.post("/api/customers", json!({"company": "Navy"})).await.created();
    acme.post("/api/customers", json!({"company": "Army"})).await.created();
    // due in so many days before today
    let days: [i64; 8] = [-5, 0, 1, 30, 31, 60, 90, 91];
    for ((number, days), whole) in days.into_iter().enumerate().zip(std::iter::successors(Some(1), |n| Some(n * 10))) {
        let due = world.clock.now().date_naive() - chrono::TimeDelta::days(days);
        let invoice = json!({"customer_id": format!("CUS-00{}", number % 2), "issue_date": "2025-01-01", "due_date": due,
            "amount": usd(&format!("{whole}.10"))});
        let id = acme.post("/api/invoices", invoice).await.created();
        acme.act(&format!("/api/invoices/{id}/send")).await.ok();
    }
    // neither a draft nor what was paid is owed
    let other =
        json!({"customer_id": "CUS-000", "due_date": "2026-01-01", "issue_date": "2025-01-01", "amount": usd("5")});
    acme.post("/api/invoices", other.clone()).await.created();
    let paid = acme.post("/api/invoices", other).await.created();
    acme.act(&format!("/api/invoices/{paid}/send")).await.ok();
    acme.post(&format!("/api/invoices/{paid}/pay"), json!({"paid_on": "2026-03-01"})).await.ok();

    let owed = |invoices: i64, amount: &str| json!({"invoices": invoices, "amount": [usd(amount)]});
    let report = acme.get("/api/reports/receivables?by=customer_id").await.ok();
    assert_eq!(
        report["total"],
        json!({
            "outstanding": owed(8, "11111111.80"), "overdue": owed(6, "11111100.60"),
            "ageing": {"not_due": owed(2, "11.20"), "up_to_30_days": owed(2, "1100.20"),
                       "up_to_60_days": owed(2, "110000.20"), "up_to_90_days": owed(1, "1000000.10"),
                       "over_90_days": owed(1, "10000000.10")},
        })
    );
    let customers: Vec<(&Value, &Value)> = report["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| (&group["key"], &group["outstanding"]["amount"][0]["amount"]))
        .collect();
    assert_eq!(customers, [(&json!("CUS-000"), &json!("1010101.40")), (&json!("CUS-001"), &json!("10101010.40"))]);
    // what the list calls overdue is what the report does
    let list = acme.get("/api/invoices?status=overdue&count=exact").await.ok();
    assert_eq!(list["page"]["total"], report["total"]["overdue"]["invoices"]);
    let only = acme.get("/api/reports/receivables?status=overdue").await.ok();
    assert_eq!(only["total"]["outstanding"], report["total"]["overdue"]);
}

#[tokio::test]
async fn projects_are_counted_with_what_they_cost_and_those_that_are_late() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    for (status, due, budget) in [
        ("in_progress", "2026-03-01", Some("100.50")),
        ("in_progress", "2026-03-02", Some("200")),
        ("planned", "2025-12-24", None),
        ("completed", "2025-12-24", Some("1")),
    ] {
        let mut project = json!({"name": "Roll-out", "status": status, "due_date": due, "estimated_hours": "10.5"});
        if let Some(budget) = budget {
            project["budget"] = usd(budget);
        }
        acme.post("/api/projects", project).await.created();
    }
    acme.post("/api/projects/PRJ-000/hours", json!({"hours": "2.25"})).await.ok();
    let figures = |projects: i64, overdue: i64, budget: Value, estimated: &str, logged: &str| json!({"projects": projects, "overdue": overdue, "budget": budget, "estimated_hours": estimated, "logged_hours": logged});
    let active = group(&acme, "/api/reports/projects", "in_progress").await;
    let mut expected = figures(2, 1, json!([usd("300.50")]), "21.00", "2.25");
    expected["key"] = json!("in_progress");
    assert_eq!(active, expected);
    let report = acme.get("/api/reports/projects").await.ok();
    let keys: Vec<&Value> = report["groups"].as_array().unwrap().iter().map(|group| &group["key"]).collect();
    assert_eq!(keys, ["planned", "in_progress", "completed"]);
    assert_eq!(report["total"], figures(4, 2, json!([usd("301.50")]), "42.00", "2.25"));
}

#[tokio::test]
async fn a_report_is_about_what_its_reader_may_see() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    let other = world.business("Other").await;
    let (bo, cy, dee) =
        (acme.employee("bo", "sales").await, acme.employee("cy", "sales").await, acme.employee("dee", "ops").await);
    let manager = acme.manager("mo", "sales").await;
    for person in [&bo, &cy, &dee, &other] {
        person.post("/api/leads", json!({"name": "Grace", "estimated_value": usd("10")})).await.created();
    }
    let leads = async |person: &Client, path: &str| person.get(path).await.ok()["total"]["leads"].clone();
    const PIPELINE: &str = "/api/reports/pipeline";
    // an employee sees the leads of the department, and reports about their own
    assert_eq!(leads(&acme, PIPELINE).await, 3);
    assert_eq!(leads(&manager, PIPELINE).await, 2);
    assert_eq!(leads(&bo, PIPELINE).await, 1);
    assert_eq!(bo.get("/api/leads?count=exact").await.ok()["page"]["total"], 2);
    assert_eq!(leads(&other, PIPELINE).await, 1);
    let by_assignee = manager.get("/api/reports/pipeline?by=assignee_id").await.ok();
    let keys: Vec<&Value> = by_assignee["groups"].as_array().unwrap().iter().map(|group| &group["key"]).collect();
    assert_eq!(keys, [bo.id(), cy.id()]);

    // no report shows records that may not be seen
    let refused = bo.get("/api/reports/receivables").await.problem(403, "permission_denied");
    assert_eq!(refused["permission"], "invoices:read");
    let grants = json!({"permissions": {"reports:read": "deny"}});
    let denied = acme.patch(&format!("/api/users/{}", cy.id()), grants).await;
    denied.ok();
    assert_eq!(cy.get(PIPELINE).await.problem(403, "permission_denied")["permission"], "reports:read");
    let narrowed = json!({"permissions": {"reports:read": "tenant", "leads:read": "own"}});
    acme.patch(&format!("/api/users/{}", bo.id()), narrowed).await.ok();
    assert_eq!(leads(&bo, PIPELINE).await, 1);

    let founder = world.founder().await;
    let tenant = acme.tenant.clone().unwrap();
    assert_eq!(
        founder.get(&format!("/api/admin/tenants/{tenant}/reports/pipeline")).await.ok(),
        acme.get(PIPELINE).await.ok()
    );
    founder.get("/api/admin/tenants/TNT-999/reports/pipeline").await.problem(404, "not_found");
    assert_eq!(leads(&founder, PIPELINE).await, 0);
}

#[tokio::test]
async fn a_report_takes_the_filters_of_its_list_and_nothing_else() {
    let world = World::start().await;
    let acme = world.business("ACME").await;
    for (source, value) in [("referral", "10"), ("website", "20"), ("website", "30")] {
        let lead = json!({"name": "Grace", "source": source, "estimated_value": usd(value)});
        acme.post("/api/leads", lead).await.created();
    }
    let total = async |query: &str| acme.get(&format!("/api/reports/pipeline?{query}")).await.ok()["total"].clone();
    assert_eq!(total("source=website").await["value"], json!([usd("50.00")]));
    assert_eq!(total("source=website&estimated_value[gt]=20").await["leads"], 1);
    for wrong in ["limit=10", "sort=name", "cursor=x", "count=exact", "q=grace", "stages=new"] {
        acme.get(&format!("/api/reports/pipeline?{wrong}")).await.problem(400, "unknown_parameter");
    }
    let refused = acme.get("/api/reports/pipeline?by=name").await.problem(422, "validation_failed");
    assert_eq!(refused["errors"][0]["detail"], "expected one of stage, source, qualification, assignee_id");
    acme.get("/api/reports/conversion?as_of=tomorrow").await.problem(400, "malformed_request");
    acme.get("/api/reports/turnover").await.problem(404, "not_found");
}

/// What happens to a business, one thing after the other.
#[derive(Debug, Clone)]
enum Step {
    Capture { value: u16, yen: bool },
    Move { lead: u8, stage: u8 },
    Lose { lead: u8 },
    Convert { lead: u8 },
    Reopen { lead: u8 },
    Value { lead: u8, value: Option<u16> },
    Delete { lead: u8 },
    Restore { lead: u8 },
    Invoice { due: u8 },
    Send { invoice: u8 },
    Pay { invoice: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..500_u16, any::<bool>()).prop_map(|(value, yen)| Step::Capture { value, yen }),
        3 => (0..6_u8, 0..5_u8).prop_map(|(lead, stage)| Step::Move { lead, stage }),
        1 => (0..6_u8).prop_map(|lead| Step::Lose { lead }),
        1 => (0..6_u8).prop_map(|lead| Step::Convert { lead }),
        1 => (0..6_u8).prop_map(|lead| Step::Reopen { lead }),
        2 => (0..6_u8, proptest::option::of(1..500_u16)).prop_map(|(lead, value)| Step::Value { lead, value }),
        1 => (0..6_u8).prop_map(|lead| Step::Delete { lead }),
        1 => (0..6_u8).prop_map(|lead| Step::Restore { lead }),
        2 => (0..120_u8).prop_map(|due| Step::Invoice { due }),
        2 => (0..4_u8).prop_map(|invoice| Step::Send { invoice }),
        1 => (0..4_u8).prop_map(|invoice| Step::Pay { invoice }),
    ]
}

/// Does it, whether it is allowed at this moment or not.
async fn take(client: &Client, step: &Step, today: chrono::NaiveDate) {
    let stages = ["new", "contacted", "qualified", "proposal", "negotiation"];
    let lead = |number: &u8, rest: &str| format!("/api/leads/LED-00{number}{rest}");
    let invoice = |number: &u8, rest: &str| format!("/api/invoices/INV-00{number}{rest}");
    let answer = match step {
        Step::Capture { value, yen } => {
            let currency = if *yen { "JPY" } else { "USD" };
            let value = json!({"amount": value.to_string(), "currency": currency});
            client.post("/api/leads", json!({"name": "Grace", "estimated_value": value})).await
        }
        Step::Move { lead: number, stage } => {
            client.post(&lead(number, "/stage"), json!({"stage": stages[usize::from(*stage)]})).await
        }
        Step::Lose { lead: number } => client.post(&lead(number, "/lose"), json!({"reason": "Price"})).await,
        Step::Convert { lead: number } => client.act(&lead(number, "/convert")).await,
        Step::Reopen { lead: number } => client.act(&lead(number, "/reopen")).await,
        Step::Value { lead: number, value } => {
            let value = value.map(|value| usd(&value.to_string()));
            client.patch(&lead(number, ""), json!({"estimated_value": value})).await
        }
        Step::Delete { lead: number } => client.delete(&lead(number, "")).await,
        Step::Restore { lead: number } => client.act(&lead(number, "/restore")).await,
        Step::Invoice { due } => {
            let due = today + chrono::Days::new(u64::from(*due));
            let body = json!({"customer_id": "CUS-000", "due_date": due, "amount": usd("10")});
            client.post("/api/invoices", body).await
        }
        Step::Send { invoice: number } => client.act(&invoice(number, "/send")).await,
        Step::Pay { invoice: number } => client.post(&invoice(number, "/pay"), json!({"paid_on": today})).await,
    };
    assert!(!answer.status.is_server_error(), "{step:?}: {}", answer.text);
}

/// The sums of a list, worked out from its records.
async fn of_records(client: &Client) -> Value {
    let leads = client.get("/api/leads?stage[ne]=closed_won,closed_lost&limit=200").await.ok();
    let cents = |lead: &Value, currency: &str| {
        if lead["estimated_value"]["currency"] != currency {
            return 0;
        }
        lead["estimated_value"]["amount"].as_str().unwrap().replace('.', "").parse::<i64>().unwrap()
    };
    let leads = leads["data"].as_array().unwrap();
    let sum = |currency| leads.iter().map(|lead| cents(lead, currency)).sum::<i64>();
    json!({"leads": leads.len(), "yen": sum("JPY"), "cents": sum("USD")})
}

const REPORTS: [&str; 5] = [
    "/api/reports/pipeline",
    "/api/reports/pipeline?by=assignee_id&source=other",
    "/api/reports/conversion?by=month",
    "/api/reports/receivables?by=customer_id",
    "/api/reports/projects",
];

async fn all(client: &Client, as_of: Option<&str>) -> Vec<Value> {
    let mut reports = Vec::new();
    for path in REPORTS {
        let joint = if path.contains('?') { '&' } else { '?' };
        let path = as_of.map_or(path.to_owned(), |as_of| format!("{path}{joint}{as_of}"));
        reports.push(client.get(&path).await.ok());
    }
    reports
}

#[test]
fn a_report_of_a_past_day_is_always_what_it_said_then() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(World::start());
    let count = std::cell::Cell::new(0);
    let config = Config { cases: 12, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let history = vec((step(), 1..40_u64), 1..25);
    let checked = runner.run(&history, |history| {
        let number = count.get() + 1;
        count.set(number);
        runtime.block_on(async {
            let name = format!("Business {number}");
            world.business(&name).await.post("/api/customers", json!({"company": "Navy"})).await.created();
            let email = format!("owner@business-{number}.test");
            let mut told = Vec::new();
            for (step, days) in &history {
                world.clock.advance(Duration::from_secs(days * 86_400));
                let owner = world.nobody().signed_in(&email, PASSWORD).await;
                take(&owner, step, world.clock.now().date_naive()).await;
                let reports = all(&owner, None).await;
                let records = of_records(&owner).await;
                let value = |currency: &str| {
                    let sums = reports[0]["total"]["value"].as_array().unwrap();
                    let sum = sums.iter().find(|sum| sum["currency"] == currency);
                    sum.map_or(0, |sum| sum["amount"].as_str().unwrap().replace('.', "").parse::<i64>().unwrap())
                };
                let said = json!({"leads": reports[0]["total"]["leads"], "yen": value("JPY"), "cents": value("USD")});
                assert_eq!(said, records);
                told.push((world.clock.now(), reports));
            }
            let owner = world.nobody().signed_in(&email, PASSWORD).await;
            for (at, reports) in told {
                for axis in ["occurred", "recorded"] {
                    let as_of =
                        format!("as_of={}&axis={axis}", at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true));
                    assert_eq!(all(&owner, Some(&as_of)).await, reports, "{as_of}");
                }
            }
        });
        Ok(())
    });
    checked.unwrap();
}
