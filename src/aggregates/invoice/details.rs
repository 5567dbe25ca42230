//! What an invoice says: as it is told, as it is recorded with its sums, and as it changes.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::InvoiceError;
use crate::aggregates::ids::{CustomerId, ProjectId};
use crate::aggregates::values::{Currency, Money, Patch, Personal, Text, calendar, exact_amount, plain_decimal};

/// More lines than anybody reads, and few enough to keep an event small.
const MAX_LINES: usize = 500;

/// What is charged for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InvoiceLine {
    /// What it is.
    pub description: Text<500>,
    /// How many; above 0, at most 4 decimals.
    #[serde(deserialize_with = "plain_decimal")]
    #[schema(value_type = String, example = "2.5")]
    pub quantity: Decimal,
    /// The price of one, in the invoice's currency; not negative.
    #[serde(deserialize_with = "plain_decimal")]
    #[schema(value_type = String, example = "80.00")]
    pub unit_price: Decimal,
    /// Tax in percent, 0 to 100, at most 4 decimals.
    #[serde(default, deserialize_with = "plain_decimal")]
    #[schema(value_type = String, example = "19")]
    pub tax_rate: Decimal,
}

/// What a line comes to: each sum rounded half away from zero to the currency's decimals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PricedLine {
    /// What is charged for.
    #[serde(flatten)]
    pub line: InvoiceLine,
    /// Quantity times unit price.
    pub net: Money,
    /// The tax on it.
    pub tax: Money,
    /// Both together.
    pub total: Money,
}

/// What is told about an invoice: lines, or a plain amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceDetails {
    /// The number on it.
    pub number: Option<Text<50>>,
    /// Who owes it.
    pub customer: CustomerId,
    /// For which work.
    pub project: Option<ProjectId>,
    /// In which currency.
    pub currency: Currency,
    /// What is charged for; none if it is a plain amount.
    pub lines: Vec<InvoiceLine>,
    /// A plain amount, tax included; none if there are lines.
    pub amount: Option<Money>,
    /// When it was written.
    pub issue_date: NaiveDate,
    /// When it is to be paid; on or after the issue.
    pub due_date: NaiveDate,
    /// Words to the customer.
    pub notes: Option<Text<5000>>,
    /// Terms of payment.
    pub terms: Option<Text<5000>>,
}

/// The same as it stands in events, with its sums.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceFacts {
    /// The number on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<Text<50>>,
    /// Who owes it.
    pub customer: CustomerId,
    /// For which work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
    /// In which currency.
    pub currency: Currency,
    /// What is charged for; none if it is a plain amount.
    pub lines: Vec<PricedLine>,
    /// The sum without tax.
    pub net: Money,
    /// The tax.
    pub tax: Money,
    /// What is owed; above 0.
    pub total: Money,
    /// When it was written.
    pub issue_date: NaiveDate,
    /// When it is to be paid.
    pub due_date: NaiveDate,
    /// Words to the customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<Personal<Text<5000>>>,
    /// Terms of payment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Text<5000>>,
}

/// A change of a draft, as JSON Merge Patch. Lines replace a plain amount, and an amount replaces lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct InvoicePatch {
    /// The number on it.
    #[schema(inline, value_type = Option<Text<50>>)]
    pub number: Patch<Text<50>>,
    /// Who owes it; cannot be cleared.
    #[serde(rename = "customer_id")]
    #[schema(inline, value_type = Option<CustomerId>)]
    pub customer: Patch<CustomerId>,
    /// For which work.
    #[serde(rename = "project_id")]
    #[schema(inline, value_type = Option<ProjectId>)]
    pub project: Patch<ProjectId>,
    /// In which currency; cannot be cleared.
    #[schema(inline, value_type = Option<Currency>)]
    pub currency: Patch<Currency>,
    /// What is charged for.
    #[schema(value_type = Option<Vec<InvoiceLine>>)]
    pub lines: Patch<Vec<InvoiceLine>>,
    /// A plain amount, tax included.
    #[schema(inline, value_type = Option<Money>)]
    pub amount: Patch<Money>,
    /// When it was written; cannot be cleared.
    #[serde(deserialize_with = "calendar::patched_date")]
    #[schema(value_type = Option<NaiveDate>)]
    pub issue_date: Patch<NaiveDate>,
    /// When it is to be paid; cannot be cleared.
    #[serde(deserialize_with = "calendar::patched_date")]
    #[schema(value_type = Option<NaiveDate>)]
    pub due_date: Patch<NaiveDate>,
    /// Words to the customer.
    #[schema(inline, value_type = Option<Text<5000>>)]
    pub notes: Patch<Text<5000>>,
    /// Terms of payment.
    #[schema(inline, value_type = Option<Text<5000>>)]
    pub terms: Patch<Text<5000>>,
}

/// What really changed about a draft, its sums included.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "each is the field of InvoiceFacts with its name")]
pub struct InvoiceChanges {
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub number: Patch<Text<50>>,
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub customer: Patch<CustomerId>,
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub project: Patch<ProjectId>,
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub currency: Patch<Currency>,
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub lines: Patch<Vec<PricedLine>>,
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub net: Patch<Money>,
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub tax: Patch<Money>,
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub total: Patch<Money>,
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub issue_date: Patch<NaiveDate>,
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub due_date: Patch<NaiveDate>,
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub notes: Patch<Personal<Text<5000>>>,
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub terms: Patch<Text<5000>>,
}

impl InvoiceLine {
    fn priced(self, currency: Currency) -> Result<PricedLine, InvoiceError> {
        let percent = Decimal::ONE_HUNDRED;
        if self.quantity <= Decimal::ZERO || self.quantity.scale() > 4 {
            return Err(InvoiceError::Quantity);
        }
        if self.unit_price < Decimal::ZERO {
            return Err(InvoiceError::UnitPrice { currency });
        }
        if self.tax_rate < Decimal::ZERO || self.tax_rate > percent || self.tax_rate.scale() > 4 {
            return Err(InvoiceError::TaxRate);
        }
        let unit_price = exact_amount(self.unit_price, currency).map_err(|_| InvoiceError::UnitPrice { currency })?;
        let rounded = |amount: Option<Decimal>| {
            amount.and_then(|amount| Money::rounded(amount, currency).ok()).ok_or(InvoiceError::TooLarge)
        };
        let net = rounded(self.quantity.checked_mul(unit_price))?;
        let tax = rounded(net.amount().checked_mul(self.tax_rate).and_then(|tax| tax.checked_div(percent)))?;
        let total = rounded(net.amount().checked_add(tax.amount()))?;
        Ok(PricedLine { line: Self { unit_price, ..self }, net, tax, total })
    }
}

fn sum<'a>(amounts: impl Iterator<Item = &'a Money>, currency: Currency) -> Result<Money, InvoiceError> {
    let sum = amounts.map(Money::amount).sum();
    Money::new(sum, currency).map_err(|_| InvoiceError::TooLarge)
}

impl InvoiceDetails {
    /// The facts with their sums, if the values fit together.
    pub(super) fn into_facts(self) -> Result<InvoiceFacts, InvoiceError> {
        let currency = self.currency;
        if self.due_date < self.issue_date {
            return Err(InvoiceError::DueBeforeIssue);
        }
        if self.lines.len() > MAX_LINES {
            return Err(InvoiceError::TooManyLines);
        }
        let lines =
            self.lines.into_iter().map(|line| line.priced(currency)).collect::<Result<Vec<_>, InvoiceError>>()?;
        let (net, tax, total) = match self.amount {
            Some(_) if !lines.is_empty() => return Err(InvoiceError::LinesAndAmount),
            Some(amount) if amount.currency() != currency => return Err(InvoiceError::OtherCurrency { currency }),
            Some(amount) => (amount.clone(), Money::zero(currency), amount),
            None if lines.is_empty() => return Err(InvoiceError::NothingCharged),
            None => (
                sum(lines.iter().map(|line| &line.net), currency)?,
                sum(lines.iter().map(|line| &line.tax), currency)?,
                sum(lines.iter().map(|line| &line.total), currency)?,
            ),
        };
        if !total.is_positive() {
            return Err(if lines.is_empty() {
                InvoiceError::AmountNotPositive
            } else {
                InvoiceError::TotalNotPositive
            });
        }
        Ok(InvoiceFacts {
            number: self.number,
            customer: self.customer,
            project: self.project,
            currency,
            lines,
            net,
            tax,
            total,
            issue_date: self.issue_date,
            due_date: self.due_date,
            notes: self.notes.map(Personal::new),
            terms: self.terms,
        })
    }
}

impl InvoiceFacts {
    /// What was told, to be changed and worked out again.
    fn details(&self) -> InvoiceDetails {
        InvoiceDetails {
            number: self.number.clone(),
            customer: self.customer,
            project: self.project,
            currency: self.currency,
            lines: self.lines.iter().map(|priced| priced.line.clone()).collect(),
            amount: self.lines.is_empty().then(|| self.total.clone()),
            issue_date: self.issue_date,
            due_date: self.due_date,
            notes: self.notes.clone().map(Personal::into_inner),
            terms: self.terms.clone(),
        }
    }
}

impl InvoicePatch {
    /// What the patch really changes about a draft.
    pub(super) fn changes_to(self, facts: &InvoiceFacts) -> Result<InvoiceChanges, InvoiceError> {
        for (cleared, pointer) in [
            (self.customer == Patch::Clear, "/customer_id"),
            (self.currency == Patch::Clear, "/currency"),
            (self.issue_date == Patch::Clear, "/issue_date"),
            (self.due_date == Patch::Clear, "/due_date"),
        ] {
            if cleared {
                return Err(InvoiceError::Required { pointer });
            }
        }
        let mut details = facts.details();
        self.number.apply_to(&mut details.number);
        self.customer.apply_to_required(&mut details.customer);
        self.project.apply_to(&mut details.project);
        self.currency.apply_to_required(&mut details.currency);
        let amount_set = self.amount.as_set().is_some();
        match self.lines {
            Patch::Unchanged if amount_set => details.lines = vec![],
            Patch::Unchanged => {}
            Patch::Clear => details.lines = vec![],
            Patch::Set(lines) => {
                if !lines.is_empty() {
                    details.amount = None;
                }
                details.lines = lines;
            }
        }
        self.amount.apply_to(&mut details.amount);
        self.issue_date.apply_to_required(&mut details.issue_date);
        self.due_date.apply_to_required(&mut details.due_date);
        self.notes.apply_to(&mut details.notes);
        self.terms.apply_to(&mut details.terms);
        Ok(InvoiceChanges::between(facts, details.into_facts()?))
    }
}

impl InvoiceChanges {
    fn between(old: &InvoiceFacts, new: InvoiceFacts) -> Self {
        Self {
            number: Patch::from(new.number).retain_changes(&old.number),
            customer: Patch::Set(new.customer).retain_changes_to_required(&old.customer),
            project: Patch::from(new.project).retain_changes(&old.project),
            currency: Patch::Set(new.currency).retain_changes_to_required(&old.currency),
            lines: Patch::Set(new.lines).retain_changes_to_required(&old.lines),
            net: Patch::Set(new.net).retain_changes_to_required(&old.net),
            tax: Patch::Set(new.tax).retain_changes_to_required(&old.tax),
            total: Patch::Set(new.total).retain_changes_to_required(&old.total),
            issue_date: Patch::Set(new.issue_date).retain_changes_to_required(&old.issue_date),
            due_date: Patch::Set(new.due_date).retain_changes_to_required(&old.due_date),
            notes: Patch::from(new.notes).retain_changes(&old.notes),
            terms: Patch::from(new.terms).retain_changes(&old.terms),
        }
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Makes the changes.
    pub fn apply_to(self, facts: &mut InvoiceFacts) {
        self.number.apply_to(&mut facts.number);
        self.customer.apply_to_required(&mut facts.customer);
        self.project.apply_to(&mut facts.project);
        self.currency.apply_to_required(&mut facts.currency);
        self.lines.apply_to_required(&mut facts.lines);
        self.net.apply_to_required(&mut facts.net);
        self.tax.apply_to_required(&mut facts.tax);
        self.total.apply_to_required(&mut facts.total);
        self.issue_date.apply_to_required(&mut facts.issue_date);
        self.due_date.apply_to_required(&mut facts.due_date);
        self.notes.apply_to(&mut facts.notes);
        self.terms.apply_to(&mut facts.terms);
    }
}
