//! The rules of an invoice, as given / when / then.

use cqrs_es::Aggregate;
use cqrs_es::test::TestFramework;
use proptest::prelude::*;
use rust_decimal::Decimal;
use serde_json::json;

use super::*;
use crate::aggregates::ids::CustomerId;
use crate::aggregates::values::{Money, Patch};

fn invoice() -> TestFramework<Invoice> {
    TestFramework::with(())
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn usd(text: &str) -> Money {
    Money::new(text.parse().unwrap(), Currency::USD).unwrap()
}

fn line(quantity: &str, unit_price: &str, tax_rate: &str) -> InvoiceLine {
    let line = json!({"description": "Work", "quantity": quantity, "unit_price": unit_price, "tax_rate": tax_rate});
    serde_json::from_value(line).unwrap()
}

fn details() -> InvoiceDetails {
    InvoiceDetails {
        number: None,
        customer: CustomerId(1),
        project: None,
        currency: Currency::USD,
        lines: vec![],
        amount: Some(usd("1500.00")),
        issue_date: day("2026-03-01"),
        due_date: day("2026-03-31"),
        notes: None,
        terms: None,
    }
}

fn of_lines(lines: Vec<InvoiceLine>) -> InvoiceDetails {
    InvoiceDetails { amount: None, lines, ..details() }
}

fn drafted() -> InvoiceEvent {
    InvoiceEvent::Drafted { facts: details().into_facts().unwrap() }
}

fn patch(value: serde_json::Value) -> InvoiceCommand {
    InvoiceCommand::Change(serde_json::from_value(value).unwrap())
}

fn pay(paid_on: &str) -> InvoiceCommand {
    InvoiceCommand::Pay { paid_on: day(paid_on), today: day("2026-03-20") }
}

fn paid() -> InvoiceEvent {
    InvoiceEvent::Paid { paid_on: day("2026-03-20") }
}

fn fold(events: impl IntoIterator<Item = InvoiceEvent>) -> Invoice {
    let mut invoice = Invoice::default();
    for event in events {
        invoice.apply(event);
    }
    invoice
}

fn refused(details: InvoiceDetails) -> InvoiceError {
    Invoice::default().decide(InvoiceCommand::Draft(details)).unwrap_err()
}

#[test]
fn an_invoice_is_drafted_once() {
    invoice().given_no_previous_events().when(InvoiceCommand::Draft(details())).then_expect_events(vec![drafted()]);
    invoice()
        .given(vec![drafted()])
        .when(InvoiceCommand::Draft(details()))
        .then_expect_error(InvoiceError::AlreadyExists);
    invoice().given_no_previous_events().when(InvoiceCommand::Send {}).then_expect_error(InvoiceError::NotFound);
}

#[test]
fn an_invoice_charges_something() {
    assert_eq!(refused(of_lines(vec![])), InvoiceError::NothingCharged);
    let lines = vec![line("1", "1", "0")];
    assert_eq!(refused(InvoiceDetails { lines, ..details() }), InvoiceError::LinesAndAmount);
    for amount in ["0", "-1"] {
        assert_eq!(refused(InvoiceDetails { amount: Some(usd(amount)), ..details() }), InvoiceError::AmountNotPositive);
    }
    assert_eq!(refused(of_lines(vec![line("1", "0", "19")])), InvoiceError::TotalNotPositive);
    let euros = InvoiceDetails { currency: Currency::EUR, ..details() };
    assert_eq!(refused(euros), InvoiceError::OtherCurrency { currency: Currency::EUR });
}

#[test]
fn an_invoice_is_due_on_or_after_its_issue_date() {
    let due = |text| InvoiceDetails { due_date: day(text), ..details() };
    assert_eq!(refused(due("2026-02-28")), InvoiceError::DueBeforeIssue);
    assert!(Invoice::default().decide(InvoiceCommand::Draft(due("2026-03-01"))).is_ok());
}

#[test]
fn each_line_is_rounded_away_from_zero_and_then_added() {
    let facts = of_lines(vec![line("3", "0.335", "0")]).into_facts();
    assert_eq!(facts.unwrap_err(), InvoiceError::UnitPrice { currency: Currency::USD });
    let facts = of_lines(vec![line("0.5", "0.01", "0"), line("2.5", "80.00", "19"), line("1", "0.50", "7.5")])
        .into_facts()
        .unwrap();
    let lines: Vec<_> = facts.lines.iter().map(|line| (line.net.clone(), line.tax.clone())).collect();
    assert_eq!(
        lines,
        [(usd("0.01"), usd("0.00")), (usd("200.00"), usd("38.00")), (usd("0.50"), usd("0.04"))],
        "0.005 and 0.0375 are rounded up"
    );
    assert_eq!((facts.net, facts.tax, facts.total), (usd("200.51"), usd("38.04"), usd("238.55")));
}

#[test]
fn a_line_has_a_quantity_a_price_and_a_tax_rate_that_exist() {
    for (bad, error) in [
        (line("0", "1", "0"), InvoiceError::Quantity),
        (line("-1", "1", "0"), InvoiceError::Quantity),
        (line("1.00001", "1", "0"), InvoiceError::Quantity),
        (line("1", "-1", "0"), InvoiceError::UnitPrice { currency: Currency::USD }),
        (line("1", "1", "100.1"), InvoiceError::TaxRate),
        (line("1", "1", "-1"), InvoiceError::TaxRate),
        (line("900000000000000", "900000000000000", "0"), InvoiceError::TooLarge),
    ] {
        assert_eq!(refused(of_lines(vec![bad])), error);
    }
    assert_eq!(refused(of_lines(vec![line("1", "1", "0"); 501])), InvoiceError::TooManyLines);
}

#[test]
fn a_draft_changes_and_its_sums_follow() {
    let changes = InvoiceChanges {
        lines: Patch::Set(of_lines(vec![line("2", "50", "10")]).into_facts().unwrap().lines),
        net: Patch::Set(usd("100.00")),
        tax: Patch::Set(usd("10.00")),
        total: Patch::Set(usd("110.00")),
        ..InvoiceChanges::default()
    };
    invoice()
        .given(vec![drafted()])
        .when(patch(json!({"lines": [line("2", "50", "10")], "customer_id": "CUS-001"})))
        .then_expect_events(vec![InvoiceEvent::Changed { changes: changes.clone() }]);
    let back = InvoiceChanges {
        lines: Patch::Set(vec![]),
        net: Patch::Set(usd("1500.00")),
        tax: Patch::Set(usd("0.00")),
        total: Patch::Set(usd("1500.00")),
        ..InvoiceChanges::default()
    };
    invoice()
        .given(vec![drafted(), InvoiceEvent::Changed { changes }])
        .when(patch(json!({"amount": {"amount": "1500", "currency": "USD"}})))
        .then_expect_events(vec![InvoiceEvent::Changed { changes: back }]);
    let same = patch(json!({"due_date": "2026-03-31", "notes": null}));
    invoice().given(vec![drafted()]).when(same).then_expect_events(vec![]);
}

#[test]
fn a_draft_keeps_what_an_invoice_needs() {
    for field in ["customer_id", "currency", "issue_date", "due_date"] {
        let InvoiceCommand::Change(patch) = patch(json!({field: null})) else { unreachable!() };
        let error = fold([drafted()]).decide(InvoiceCommand::Change(patch)).unwrap_err();
        let InvoiceError::Required { pointer } = error else { panic!("{error}") };
        assert_eq!(pointer, format!("/{field}"));
    }
    invoice()
        .given(vec![drafted()])
        .when(patch(json!({"amount": null})))
        .then_expect_error(InvoiceError::NothingCharged);
    invoice()
        .given(vec![drafted()])
        .when(patch(json!({"issue_date": "2026-04-01"})))
        .then_expect_error(InvoiceError::DueBeforeIssue);
}

#[test]
fn only_a_draft_changes() {
    let change = || patch(json!({"due_date": "2026-04-30"}));
    for (event, status) in [
        (InvoiceEvent::Sent {}, InvoiceStatus::Sent),
        (InvoiceEvent::Viewed {}, InvoiceStatus::Viewed),
        (paid(), InvoiceStatus::Paid),
        (InvoiceEvent::Voided {}, InvoiceStatus::Void),
    ] {
        invoice().given(vec![drafted(), event]).when(change()).then_expect_error(InvoiceError::NotADraft { status });
    }
}

/// Each status against each step: the event, nothing, or the refusal.
#[test]
fn an_invoice_goes_its_way() {
    type Outcome = Result<Vec<InvoiceEvent>, InvoiceError>;
    let send = || InvoiceCommand::Send {};
    let view = || InvoiceCommand::MarkViewed {};
    let settle = || pay("2026-03-20");
    let void = || InvoiceCommand::Void {};
    let (sent, viewed, voided) = (InvoiceEvent::Sent {}, InvoiceEvent::Viewed {}, InvoiceEvent::Voided {});
    let done = |event: &InvoiceEvent| -> Outcome { Ok(vec![event.clone()]) };
    let nothing = || -> Outcome { Ok(vec![]) };
    let not_sent = || -> Outcome { Err(InvoiceError::NotSent) };
    let settled = || -> Outcome { Err(InvoiceError::AlreadyPaid) };
    let gone = || -> Outcome { Err(InvoiceError::Void) };
    let table: [(Vec<InvoiceEvent>, [Outcome; 4]); 5] = [
        (vec![], [done(&sent), not_sent(), not_sent(), done(&voided)]),
        (vec![sent.clone()], [nothing(), done(&viewed), done(&paid()), done(&voided)]),
        (vec![sent.clone(), viewed.clone()], [nothing(), nothing(), done(&paid()), done(&voided)]),
        (vec![sent.clone(), paid()], [settled(), settled(), settled(), settled()]),
        (vec![voided.clone()], [gone(), gone(), gone(), nothing()]),
    ];
    for (way, outcomes) in table {
        let invoice = fold([vec![drafted()], way].concat());
        for (command, outcome) in [send(), view(), settle(), void()].into_iter().zip(outcomes) {
            assert_eq!(invoice.decide(command.clone()), outcome, "{command:?} when {}", invoice.status);
        }
    }
}

#[test]
fn a_payment_is_neither_before_the_issue_nor_in_the_future() {
    let sent = || vec![drafted(), InvoiceEvent::Sent {}];
    invoice().given(sent()).when(pay("2026-02-28")).then_expect_error(InvoiceError::PaidBeforeIssue);
    invoice().given(sent()).when(pay("2026-03-22")).then_expect_error(InvoiceError::PaidInFuture);
    for on in ["2026-03-01", "2026-03-21"] {
        invoice().given(sent()).when(pay(on)).then_expect_events(vec![InvoiceEvent::Paid { paid_on: day(on) }]);
    }
}

#[test]
fn an_invoice_is_overdue_when_it_is_outstanding_after_its_due_date() {
    let sent = fold([drafted(), InvoiceEvent::Sent {}]);
    assert!(!sent.overdue(day("2026-03-31")));
    assert!(sent.overdue(day("2026-04-01")));
    assert!(!fold([drafted()]).overdue(day("2026-04-01")));
    assert!(!fold([drafted(), InvoiceEvent::Sent {}, paid()]).overdue(day("2026-04-01")));
}

fn any_line() -> impl Strategy<Value = InvoiceLine> + Clone {
    (0..1_000_000_i64, 0..10_000_000_i64, 0..=1_000_000_i64).prop_map(|(quantity, price, tax)| InvoiceLine {
        quantity: Decimal::new(quantity, 4),
        unit_price: Decimal::new(price, 2),
        tax_rate: Decimal::new(tax, 4),
        ..line("1", "1", "0")
    })
}

fn any_command() -> impl Strategy<Value = InvoiceCommand> {
    let lines = prop::collection::vec(any_line(), 0..4);
    prop_oneof![
        lines.clone().prop_map(|lines| InvoiceCommand::Draft(of_lines(lines))),
        Just(InvoiceCommand::Draft(details())),
        lines.prop_map(|lines| InvoiceCommand::Change(InvoicePatch {
            lines: Patch::Set(lines),
            ..InvoicePatch::default()
        })),
        (1..=28_u32).prop_map(|day| patch(json!({"due_date": NaiveDate::from_ymd_opt(2026, 3, day)}))),
        (1..=28_u32).prop_map(|day| patch(json!({"issue_date": NaiveDate::from_ymd_opt(2026, 3, day)}))),
        Just(InvoiceCommand::Send {}),
        Just(InvoiceCommand::MarkViewed {}),
        Just(pay("2026-03-20")),
        Just(InvoiceCommand::Void {}),
    ]
}

proptest! {
    #[test]
    fn any_commands_keep_the_invariants(commands in prop::collection::vec(any_command(), 0..30)) {
        let mut invoice = Invoice::default();
        let mut history = vec![];
        for command in commands {
            let Ok(events) = invoice.decide(command.clone()) else { continue };
            for event in &events {
                invoice.apply(event.clone());
            }
            history.extend(events);
            prop_assert_eq!(invoice.status == InvoiceStatus::Paid, invoice.paid_on.is_some());
            let Some(facts) = &invoice.facts else { continue };
            prop_assert!(facts.total.is_positive() && facts.due_date >= facts.issue_date);
            prop_assert_eq!(facts.net.amount() + facts.tax.amount(), facts.total.amount());
            if !facts.lines.is_empty() {
                let total: Decimal = facts.lines.iter().map(|line| line.total.amount()).sum();
                prop_assert_eq!(total, facts.total.amount());
            }
        }
        let stored = serde_json::to_string(&history).unwrap();
        prop_assert_eq!(&fold(serde_json::from_str::<Vec<InvoiceEvent>>(&stored).unwrap()), &invoice);
        let snapshot = serde_json::to_string(&invoice).unwrap();
        prop_assert_eq!(serde_json::from_str::<Invoice>(&snapshot).unwrap(), invoice);
    }
}
