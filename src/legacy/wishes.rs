//! What a row of the old database says of a thing, in our terms: how it stands, once everything is repaired.

use std::collections::HashMap;

use chrono::{DateTime, Days, NaiveDate, Utc};
use serde_json::Value;

use super::old::{Old, Quarantine};
use super::staging::Known;
use super::tables::Table;
use super::words::{OldRole, Words};
use crate::aggregates::customer::CustomerDetails;
use crate::aggregates::ids::{CustomerId, TenantId, UserId};
use crate::aggregates::interaction::InteractionDetails;
use crate::aggregates::invoice::InvoiceDetails;
use crate::aggregates::lead::LeadDetails;
use crate::aggregates::permission::{Action, Grant, Grants, Module, Permission};
use crate::aggregates::project::ProjectDetails;
use crate::aggregates::user::UserDetails;
use crate::aggregates::values::{
    Currency, CustomerStatus, Email, InteractionStatus, InteractionType, InvoiceStatus, LeadStage, Percent, Priority,
    ProjectStatus, Qualification, Score, Text,
};

/// Days that an invoice without a due date may wait: the old application's own default.
const DAYS_TO_PAY: u64 = 30;

/// Texts in the place of a tenant that mean the one business there was.
const ONE_BUSINESS: [&str; 5] = ["your_business", "temp_tenant", "DEV-000", "TEN-001", "TNT-PLT"];

/// What is known of the rows that others name.
pub(super) type Names = HashMap<(Table, String), Known>;

/// What translating needs to know beside the row.
pub(super) struct Translation<'a> {
    /// What is known of the rows that this one names.
    pub names: &'a Names,
    /// Whose rows they are.
    pub tenant: TenantId,
    /// The latest moment that the old database knows of.
    pub last_moment: DateTime<Utc>,
}

impl Translation<'_> {
    /// The id of a row that is named; one that is not there or in quarantine is left out and named.
    fn named<T: std::str::FromStr>(&self, old: &mut Old, table: Table, column: &str) -> Option<T> {
        let name = old.old_id(column)?;
        let known = self.names.get(&(table, name)).filter(|known| !known.quarantined);
        let id = known.and_then(|known| known.local_id.parse().ok());
        if id.is_none() {
            old.repair(format!("{column}_unresolved"), column, None);
        }
        id
    }

    fn user(&self, old: &mut Old, column: &str) -> Option<UserId> {
        self.named(old, Table::Users, column)
    }

    /// Everything becomes the history of one business; a row that says it was another's is named.
    fn fold_tenant(&self, old: &mut Old) {
        let Some(written) = old.plain("tenant_id") else { return };
        let own = self.tenant.to_string();
        if written != own && !ONE_BUSINESS.contains(&written.as_str()) {
            old.repair("tenant_folded", "tenant_id", Some(own));
        }
    }
}

/// A row that has a beginning and a last change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// When it came to be, if it says so.
    pub created: Option<DateTime<Utc>>,
    /// When it last changed, if it says so.
    pub updated: Option<DateTime<Utc>>,
}

impl Times {
    fn of(old: &mut Old) -> Self {
        Self { created: old.time("created_at"), updated: old.time("updated_at") }
    }

    /// When it came to be: what it says, else the earliest time that anything else says of it, else `last`.
    pub(super) fn begin(
        self,
        old: &mut Old,
        others: impl IntoIterator<Item = Option<DateTime<Utc>>>,
        last: DateTime<Utc>,
    ) -> DateTime<Utc> {
        if let Some(created) = self.created {
            return created;
        }
        let earliest = others.into_iter().flatten().chain(self.updated).min().unwrap_or(last);
        if old.has("created_at") {
            old.repair("created_at_missing", "created_at", Some(earliest.to_rfc3339()));
        }
        earliest
    }

    /// When what does not say it last changed came to an end: with the last that anything else says of it.
    pub(super) fn end_with(
        self,
        old: &mut Old,
        begun: DateTime<Utc>,
        others: impl IntoIterator<Item = Option<DateTime<Utc>>>,
    ) -> DateTime<Utc> {
        let ended = self.end(old, begun);
        let latest = others.into_iter().flatten().max().filter(|latest| *latest > ended);
        match latest {
            Some(latest) if self.updated.is_none() && old.has("updated_at") => {
                old.repair("updated_at_missing", "updated_at", Some(latest.to_rfc3339()));
                latest
            }
            _ => ended,
        }
    }

    /// When it last changed, not before it began.
    pub(super) fn end(self, old: &mut Old, begun: DateTime<Utc>) -> DateTime<Utc> {
        match self.updated {
            Some(updated) if updated >= begun => updated,
            Some(_) if self.created.is_some() => {
                old.repair("updated_before_created", "updated_at", Some(begun.to_rfc3339()));
                begun
            }
            _ => begun,
        }
    }
}

/// What the old application knew of a user.
#[derive(Debug, Clone)]
pub(super) struct UserWish {
    pub details: UserDetails,
    /// Whether they may sign in.
    pub active: bool,
    pub times: Times,
}

impl Translation<'_> {
    /// A user of the business; the founder is dealt with apart.
    pub(super) fn user_wish(&self, old: &mut Old) -> Result<UserWish, Quarantine> {
        let email = login(old)?;
        let full_name = match old.text("full_name") {
            Some(name) => name,
            None => {
                let name = email.as_str().split('@').next().and_then(|local| Text::new(local).ok());
                let name = name.ok_or_else(|| Quarantine::new("name_missing", "the user has no name"))?;
                old.repair("name_missing", "full_name", Some(name.to_string()));
                name
            }
        };
        let was = old.word::<OldRole>("user_role", "role");
        let flagged = old.flag("is_founder").unwrap_or(false);
        match was {
            OldRole::Founder => old.repair("second_founder", "user_role", Some("BUSINESS_OWNER".to_owned())),
            OldRole::Client => old.repair("client_locked_out", "user_role", Some("EMPLOYEE".to_owned())),
            OldRole::Owner | OldRole::Manager | OldRole::Employee => {}
        }
        if flagged && was != OldRole::Founder {
            old.repair("founder_flag_ignored", "is_founder", Some("false".to_owned()));
        }
        let active = match old.flag("is_active") {
            Some(active) => active,
            None => {
                if old.has("is_active") {
                    old.repair("active_missing", "is_active", Some("true".to_owned()));
                }
                true
            }
        };
        self.fold_tenant(old);
        let details = UserDetails {
            email,
            full_name,
            role: was.role(),
            department: old.text("department"),
            permissions: grants(old),
        };
        let times = Times::of(old);
        Ok(UserWish { details, active: active && was != OldRole::Client, times })
    }
}

/// What somebody signs in with: without it there is no account.
pub(super) fn login(old: &mut Old) -> Result<Email, Quarantine> {
    let Some(plain) = old.plain("email") else {
        return Err(Quarantine::new("email_missing", "a user signs in with an e-mail address, and this one has none"));
    };
    Email::new(&plain).map_err(|_| {
        Quarantine::new("email_invalid", format!("a user signs in with an e-mail address, and {plain} is none"))
    })
}

/// What somebody was granted or denied in the last revision: `{"crm": true, "invoices": false, "users": "manage"}`.
fn grants(old: &mut Old) -> Grants {
    let mut grants = Grants::new();
    let text = match old.raw("permissions") {
        Value::Null => return grants,
        Value::String(text) if text.trim().is_empty() => return grants,
        Value::String(text) => text,
        other => other.to_string(),
    };
    let Ok(Value::Object(written)) = serde_json::from_str(&text) else {
        old.repair("permissions_unreadable", "permissions", None);
        return grants;
    };
    let mut left_out = Vec::new();
    for (name, value) in &written {
        let modules: &[Module] = match name.to_lowercase().as_str() {
            "crm" => &[Module::Customers, Module::Leads],
            "customers" => &[Module::Customers],
            "leads" => &[Module::Leads],
            "projects" => &[Module::Projects],
            "invoices" | "billing" => &[Module::Invoices],
            "reports" | "analytics" => &[Module::Reports],
            "users" => &[Module::Users],
            _ => &[],
        };
        let grant = match value {
            Value::Bool(false) => Grant::Deny,
            _ => Grant::Tenant,
        };
        let meant = |action: Action| match value {
            Value::Bool(false) => true,
            Value::Bool(true) => matches!(action, Action::Read | Action::Write),
            Value::String(word) if word == "*" => true,
            Value::String(word) => *word == <&str>::from(action) || (word == "manage" && action == Action::Read),
            _ => false,
        };
        let before = grants.len();
        for module in modules {
            for action in Permission::actions_of(*module).iter().filter(|action| meant(**action)) {
                grants.insert(Permission { module: *module, action: *action }, grant);
            }
        }
        if grants.len() == before {
            left_out.push(name.clone());
        }
    }
    if !left_out.is_empty() {
        old.repair("permissions_left_out", "permissions", Some(format!("without {}", left_out.join(", "))));
    }
    grants
}

/// What the old application knew of a customer.
#[derive(Debug, Clone)]
pub(super) struct CustomerWish {
    pub details: CustomerDetails,
    pub status: CustomerStatus,
    pub times: Times,
}

impl Translation<'_> {
    /// A customer; `id` names one that has no name at all.
    pub(super) fn customer_wish(&self, old: &mut Old, id: &str) -> CustomerWish {
        let mut details = CustomerDetails {
            company: old.text("company"),
            name: old.text("name"),
            email: old.email("email"),
            phone: old.phone("phone"),
            address: old.address(),
        };
        if details.company.is_none() && details.name.is_none() {
            details.name = some_name(old, details.email.as_ref(), id);
        }
        let status = match old.flag("is_active") {
            Some(true) => CustomerStatus::Active,
            Some(false) => CustomerStatus::Inactive,
            None => {
                if old.has("is_active") {
                    old.repair("status_missing", "is_active", Some(CustomerStatus::when_missing().to_string()));
                }
                CustomerStatus::when_missing()
            }
        };
        self.fold_tenant(old);
        CustomerWish { details, status, times: Times::of(old) }
    }
}

/// A name for what has none: its e-mail address, else its id.
fn some_name<const MAX: usize>(old: &mut Old, email: Option<&Email>, id: &str) -> Option<Text<MAX>> {
    let name = match email {
        Some(email) => Text::new(email.as_str()),
        None => Text::new(&format!("(unnamed {id})")),
    };
    let name = name.ok();
    old.repair("name_missing", "name", name.as_ref().map(ToString::to_string));
    name
}

/// What the old application knew of a lead.
#[derive(Debug, Clone)]
pub(super) struct LeadWish {
    pub details: LeadDetails,
    pub qualification: Qualification,
    pub stage: LeadStage,
    /// The customer it became.
    pub customer: Option<CustomerId>,
    /// While it is open, where it differs from what its stage says.
    pub probability: Option<Percent>,
    pub score: Option<Score>,
    pub assignee: Option<UserId>,
    /// The old application hid it.
    pub deleted: bool,
    pub contacted: Option<DateTime<Utc>>,
    pub times: Times,
}

impl Translation<'_> {
    /// A lead.
    pub(super) fn lead_wish(&self, old: &mut Old, id: &str) -> Result<LeadWish, Quarantine> {
        let (company, email) = (old.text("company"), old.email("email"));
        let name = match old.text("name") {
            Some(name) => name,
            None => {
                let of_company = company.clone();
                let name = match of_company {
                    Some(company) => {
                        old.repair("name_missing", "name", Some(company.to_string()));
                        Some(company)
                    }
                    None => some_name(old, email.as_ref(), id),
                };
                name.ok_or_else(|| Quarantine::new("name_missing", "the lead has no name"))?
            }
        };
        let estimated_value = match old.money("estimated_value", Currency::USD) {
            Ok(Some(value)) if value.is_negative() => {
                old.repair("amount_negative", "estimated_value", None);
                None
            }
            Ok(value) => value,
            Err(()) => {
                old.repair("amount_unreadable", "estimated_value", None);
                None
            }
        };
        let (stage, customer) = self.outcome(old)?;
        let probability = self.probability(old, stage);
        let details = LeadDetails {
            name,
            company,
            job_title: old.text("job_title"),
            email,
            phone: old.phone("phone"),
            address: old.address(),
            source: old.word("source", "source"),
            estimated_value,
            probability: None,
            expected_close_date: old.date("expected_close_date"),
        };
        let qualification = old.word("qualification_status", "qualification");
        let score = old.percent("lead_score").map(Score::at_most_hundred);
        let assignee = self.user(old, "assigned_to");
        let hidden = old.flag("is_active") == Some(false);
        self.fold_tenant(old);
        let contacted = old.time("last_contacted");
        let times = Times::of(old);
        let deleted = hidden && stage.is_open();
        Ok(LeadWish {
            details,
            qualification,
            stage,
            customer,
            probability,
            score,
            assignee,
            deleted,
            contacted,
            times,
        })
    }

    /// Where it stands and whom it became. A lead is won only together with the customer that it names.
    fn outcome(&self, old: &mut Old) -> Result<(LeadStage, Option<CustomerId>), Quarantine> {
        let stage: LeadStage = old.word("stage", "stage");
        let flagged = old.flag("converted_to_customer").unwrap_or(false);
        let Some(named) = old.old_id("converted_customer_id") else {
            return match stage {
                LeadStage::ClosedWon => Err(Quarantine::new(
                    "converted_without_customer",
                    "the lead is won and names no customer that it became",
                )),
                _ => {
                    if flagged {
                        old.repair("conversion_ignored", "converted_to_customer", Some("false".to_owned()));
                    }
                    Ok((stage, None))
                }
            };
        };
        if stage != LeadStage::ClosedWon && !flagged {
            old.repair("conversion_ignored", "converted_customer_id", None);
            return Ok((stage, None));
        }
        let customer = match self.names.get(&(Table::Customers, named.clone())) {
            Some(known) if known.quarantined => return Err(Quarantine::with_parent(Table::Customers, &named)),
            Some(known) => known.local_id.parse().ok(),
            None => None,
        };
        let Some(customer) = customer else {
            return Err(Quarantine::new(
                "customer_unknown",
                format!("the customer {named} that it became is not there"),
            ));
        };
        if stage != LeadStage::ClosedWon {
            old.repair("stage_contradicts_conversion", "stage", Some(LeadStage::ClosedWon.to_string()));
        } else if !flagged {
            old.repair("conversion_flag_missing", "converted_to_customer", Some("true".to_owned()));
        }
        Ok((LeadStage::ClosedWon, Some(customer)))
    }

    fn probability(&self, old: &mut Old, stage: LeadStage) -> Option<Percent> {
        let default = stage.default_probability();
        let Some(written) = old.percent("probability").map(Percent::at_most_hundred) else {
            if old.has("probability") && !old.was_repaired("probability_unreadable") {
                old.repair("probability_missing", "probability", Some(default.to_string()));
            }
            return None;
        };
        if written == default {
            return None;
        }
        if !stage.is_open() {
            old.repair("probability_of_closed", "probability", Some(default.to_string()));
            return None;
        }
        Some(written)
    }
}

/// What the old application knew of an interaction.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct InteractionWish {
    pub details: InteractionDetails,
    pub by: Option<UserId>,
    pub status: InteractionStatus,
    pub scheduled: Option<DateTime<Utc>>,
    pub completed: Option<DateTime<Utc>>,
    pub created: Option<DateTime<Utc>>,
}

impl Translation<'_> {
    /// An interaction with a lead or a customer.
    pub(super) fn interaction_wish(&self, old: &mut Old) -> Result<InteractionWish, Quarantine> {
        let kind: InteractionType = old.word("interaction_type", "type");
        let subject = match old.text("subject") {
            Some(subject) => Some(subject),
            None => {
                let subject = Text::new(kind.as_str()).ok();
                old.repair("subject_missing", "subject", subject.as_ref().map(ToString::to_string));
                subject
            }
        };
        let subject = subject.ok_or_else(|| Quarantine::new("subject_missing", "the interaction is about nothing"))?;
        let by = self.user(old, "user_id");
        let scheduled = old.time_ahead("scheduled_at");
        let mut completed = old.time("completed_at");
        let created = old.time("created_at");
        let written: InteractionStatus = match (old.plain("status"), completed, scheduled) {
            // It says nothing: what was planned and not done is still planned.
            (None, None, Some(_)) => {
                old.repair("status_missing", "status", Some(InteractionStatus::Scheduled.to_string()));
                InteractionStatus::Scheduled
            }
            _ => old.word("status", "status"),
        };
        let status = match (written, completed) {
            (InteractionStatus::Scheduled, Some(_)) => {
                old.repair("status_contradicts_completion", "status", Some(InteractionStatus::Completed.to_string()));
                InteractionStatus::Completed
            }
            (status, _) => status,
        };
        if status == InteractionStatus::Cancelled && completed.is_some() {
            old.repair("completion_of_cancelled", "completed_at", None);
            completed = None;
        }
        if status == InteractionStatus::Completed && completed.is_none() {
            completed = scheduled.filter(|at| *at <= self.last_moment).or(created);
            let after = completed.unwrap_or(self.last_moment);
            completed = Some(after);
            old.repair("completed_at_missing", "completed_at", Some(after.to_rfc3339()));
        }
        let scheduled = match status {
            InteractionStatus::Completed => scheduled,
            _ => Some(scheduled.unwrap_or_else(|| {
                let after = created.unwrap_or(self.last_moment);
                old.repair("scheduled_at_missing", "scheduled_at", Some(after.to_rfc3339()));
                after
            })),
        };
        let priority = if old.has("priority") { old.word("priority", "priority") } else { Priority::default() };
        let details = InteractionDetails {
            kind,
            subject,
            description: old.text("description"),
            outcome: old.text("outcome"),
            priority,
            follow_up_date: old.date("follow_up_date"),
            billable: old.flag("is_billable").unwrap_or(false),
            hours: old.hours("billable_hours"),
        };
        Ok(InteractionWish { details, by, status, scheduled, completed, created })
    }
}

/// What the old application knew of a note.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NoteWish {
    pub author: UserId,
    pub title: Option<Text<200>>,
    pub content: Text<10000>,
    pub private: bool,
    pub created: Option<DateTime<Utc>>,
    pub updated: Option<DateTime<Utc>>,
}

impl Translation<'_> {
    /// A note. Who wrote it is part of it: a private one is its author's alone.
    pub(super) fn note_wish(&self, old: &mut Old) -> Result<NoteWish, Quarantine> {
        let Some(name) = old.old_id("user_id") else {
            return Err(Quarantine::new("author_missing", "the note does not say who wrote it"));
        };
        let author = match self.names.get(&(Table::Users, name.clone())) {
            Some(known) if known.quarantined => return Err(Quarantine::with_parent(Table::Users, &name)),
            Some(known) => known.local_id.parse().ok(),
            None => None,
        };
        let author =
            author.ok_or_else(|| Quarantine::new("author_unknown", format!("its author {name} is not there")))?;
        let title = old.text("title");
        let content = match old.text("content") {
            Some(content) => content,
            None => {
                let of_title = title.as_ref().and_then(|title| Text::new(title).ok());
                let content = of_title.ok_or_else(|| Quarantine::new("content_missing", "the note says nothing"))?;
                old.repair("content_missing", "content", Some(content.to_string()));
                content
            }
        };
        let private = match old.flag("is_private") {
            Some(private) => private,
            None => {
                if old.has("is_private") {
                    old.repair("private_missing", "is_private", Some("false".to_owned()));
                }
                false
            }
        };
        let Times { created, updated } = Times::of(old);
        Ok(NoteWish { author, title, content, private, created, updated })
    }
}

/// What the old application knew of a project.
#[derive(Debug, Clone)]
pub(super) struct ProjectWish {
    pub details: ProjectDetails,
    pub status: ProjectStatus,
    pub owner: Option<UserId>,
    /// When work began, if it says so.
    pub started: Option<DateTime<Utc>>,
    pub times: Times,
}

impl Translation<'_> {
    /// A project.
    pub(super) fn project_wish(&self, old: &mut Old, id: &str) -> Result<ProjectWish, Quarantine> {
        let name = match old.text("name") {
            Some(name) => Some(name),
            None => some_name(old, None, id),
        };
        let name = name.ok_or_else(|| Quarantine::new("name_missing", "the project has no name"))?;
        let started = old.time_ahead("start_date");
        let start_date = started.map(|at| at.date_naive());
        let mut due_date = old.date("due_date");
        if let (Some(start), Some(due)) = (start_date, due_date)
            && due < start
        {
            old.repair("due_before_start", "due_date", Some(start.to_string()));
            due_date = Some(start);
        }
        let details = ProjectDetails {
            name,
            description: old.text("description"),
            priority: Priority::default(),
            budget: None,
            start_date,
            due_date,
            hours_estimated: None,
        };
        let status = old.word("status", "status");
        let owner = self.user(old, "owner_id");
        self.fold_tenant(old);
        Ok(ProjectWish { details, status, owner, started, times: Times::of(old) })
    }

    /// Who works on a project, what they do, and since when.
    pub(super) fn member_wish(&self, old: &mut Old) -> Result<(UserId, Text<100>, Option<DateTime<Utc>>), Quarantine> {
        let user = self.required(old, Table::Users, "user_id")?;
        let role = match old.text("role") {
            Some(role) => Some(role),
            None => {
                old.repair("role_missing", "role", Some("member".to_owned()));
                Text::new("member").ok()
            }
        };
        let role = role.ok_or_else(|| Quarantine::new("role_missing", "it does not say what they do"))?;
        Ok((user, role, old.time("assigned_at")))
    }

    /// Whom a project is for, and since when.
    pub(super) fn link_wish(&self, old: &mut Old) -> Result<(CustomerId, Option<DateTime<Utc>>), Quarantine> {
        let customer = self.required(old, Table::Customers, "customer_id")?;
        Ok((customer, old.time("linked_at")))
    }

    /// The id of a row without which this one means nothing.
    fn required<T: std::str::FromStr>(&self, old: &Old, table: Table, column: &str) -> Result<T, Quarantine> {
        let Some(name) = old.old_id(column) else {
            return Err(Quarantine::new(&format!("{column}_missing"), format!("{column} is empty: half a link")));
        };
        match self.names.get(&(table, name.clone())) {
            Some(known) if known.quarantined => Err(Quarantine::with_parent(table, &name)),
            Some(known) => known
                .local_id
                .parse()
                .map_err(|_| Quarantine::new(&format!("{column}_unknown"), format!("{name} cannot be used here"))),
            None => Err(Quarantine::new(&format!("{column}_unknown"), format!("{} {name} is not there", table.name()))),
        }
    }
}

/// What the old application knew of an invoice.
#[derive(Debug, Clone)]
pub(super) struct InvoiceWish {
    pub details: InvoiceDetails,
    pub status: InvoiceStatus,
    pub issued: DateTime<Utc>,
    /// When it was paid, if it was.
    pub paid: Option<DateTime<Utc>>,
    pub begun: DateTime<Utc>,
    pub ended: DateTime<Utc>,
}

impl Translation<'_> {
    /// An invoice. Its amount is what it is about: without one it waits for somebody who knows.
    pub(super) fn invoice_wish(&self, old: &mut Old) -> Result<InvoiceWish, Quarantine> {
        let customer = self.required(old, Table::Customers, "customer_id")?;
        let currency = currency(old)?;
        let amount = match old.money("amount", currency) {
            Ok(Some(amount)) if amount.is_positive() => amount,
            Ok(Some(_)) => return Err(Quarantine::new("amount_not_positive", "an invoice is about more than nothing")),
            Ok(None) => return Err(Quarantine::new("amount_missing", "the invoice has no amount")),
            Err(()) => return Err(Quarantine::new("amount_unreadable", "the amount cannot be read")),
        };
        let currency = if amount.currency() == currency {
            currency
        } else {
            old.repair("currency_of_amount", "currency", Some(amount.currency().to_string()));
            amount.currency()
        };
        let status: InvoiceStatus = old.word("status", "status");
        let times = Times::of(old);
        let written = old.time_ahead("issue_date");
        let paid_at = old.time("paid_date");
        let begun = times.begin(old, [written.filter(|at| *at <= self.last_moment), paid_at], self.last_moment);
        let ended = times.end(old, begun);
        let issued = written.unwrap_or_else(|| {
            old.repair("issue_date_missing", "issue_date", Some(begun.date_naive().to_string()));
            begun
        });
        let issue_date = issued.date_naive();
        if status == InvoiceStatus::Paid && issue_date > self.last_moment.date_naive() {
            let sentence = format!("the invoice is paid, and its issue date {issue_date} is still to come");
            return Err(Quarantine::new("issue_date_ahead", sentence));
        }
        let due_date = self.due_date(old, issue_date);
        let paid = self.paid(old, status, paid_at, issued, ended);
        let details = InvoiceDetails {
            number: None,
            customer,
            project: None,
            currency,
            lines: Vec::new(),
            amount: Some(amount),
            issue_date,
            due_date,
            notes: None,
            terms: None,
        };
        Ok(InvoiceWish { details, status, issued, paid, begun, ended })
    }

    fn due_date(&self, old: &mut Old, issue_date: NaiveDate) -> NaiveDate {
        match old.date("due_date") {
            Some(due) if due >= issue_date => due,
            Some(_) => {
                old.repair("due_before_issue", "due_date", Some(issue_date.to_string()));
                issue_date
            }
            None => {
                let due = issue_date.checked_add_days(Days::new(DAYS_TO_PAY)).unwrap_or(issue_date);
                old.repair("due_date_missing", "due_date", Some(due.to_string()));
                due
            }
        }
    }

    fn paid(
        &self,
        old: &mut Old,
        status: InvoiceStatus,
        paid_at: Option<DateTime<Utc>>,
        issued: DateTime<Utc>,
        ended: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        if status != InvoiceStatus::Paid {
            if paid_at.is_some() {
                old.repair("paid_date_without_payment", "paid_date", None);
            }
            return None;
        }
        match paid_at {
            Some(paid) if paid.date_naive() >= issued.date_naive() => Some(paid),
            Some(_) => {
                old.repair("paid_before_issue", "paid_date", Some(issued.date_naive().to_string()));
                Some(issued.min(self.last_moment))
            }
            None => {
                let paid = ended.max(issued.min(self.last_moment));
                old.repair("paid_date_missing", "paid_date", Some(paid.date_naive().to_string()));
                Some(paid)
            }
        }
    }
}

fn currency(old: &mut Old) -> Result<Currency, Quarantine> {
    let Some(written) = old.plain("currency") else {
        if old.has("currency") {
            old.repair("currency_missing", "currency", Some(Currency::USD.to_string()));
        }
        return Ok(Currency::USD);
    };
    let found = match written.as_str() {
        "$" => Some(Currency::USD),
        "€" => Some(Currency::EUR),
        code => code.to_uppercase().parse().ok(),
    };
    let Some(currency) = found else {
        return Err(Quarantine::new("currency_unknown", format!("{written} is no currency")));
    };
    if currency.code() != written {
        old.repair("currency_spelling", "currency", Some(currency.to_string()));
    }
    Ok(currency)
}
