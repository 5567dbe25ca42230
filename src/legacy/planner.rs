//! From staged rows to planned events: each aggregate that a run is about is told whole, page by page.
//!
//! ```text
//! page of roots + their children ─► names ─► wishes ─► steps ─► the aggregate's rules ─► plan, outcomes, links
//! ```

mod links;
mod people;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::ImportError;
use super::maps::Maps;
use super::old::{Old, Quarantine, Repair};
use super::progress::Progress;
use super::staging::{
    Child, DELETION_REFUSED, Heap, Link, Orphan, Outcome, Planned, RETURN_REFUSED, Root, Staging, Unchanged,
};
use super::steps;
use super::tables::Table;
use super::telling::{RowId, Rules, Step, Teller};
use super::wishes::{self, Names, Translation};
use crate::aggregates::customer::{Customer, CustomerCommand};
use crate::aggregates::ids::{InteractionId, LeadId, NoteId, TenantId};
use crate::aggregates::interaction::{Interaction, Interactions};
use crate::aggregates::invoice::{Invoice, InvoiceCommand};
use crate::aggregates::lead::{Lead, LeadCommand};
use crate::aggregates::project::{Project, ProjectCommand};
use crate::aggregates::values::{InteractionStatus, InvoiceStatus};
use crate::event_store::{EventStore, StreamId};

/// Rows that are worked on at once: aggregates and their children together.
const PAGE: i64 = 2_000;
/// Any number: the names of an import's correlation ids are made within it.
const CORRELATIONS: Uuid = Uuid::from_u128(0x6465_7668_7562_6c65_6761_6379_696d_7074);

/// Plans a run.
pub(super) struct Planner<'a> {
    pub staging: &'a Staging,
    pub store: &'a EventStore,
    /// Who signs in with which address, and the invoices that keep a customer.
    pub platform: &'a PgPool,
    pub maps: &'a Arc<Maps>,
    /// The replacements that were in force when rows were taken over.
    pub maps_before: &'a Arc<Maps>,
    pub tenant: TenantId,
    /// When the run began: later times are not believed.
    pub now: DateTime<Utc>,
    pub last_moment: DateTime<Utc>,
    /// The founder's row.
    pub founder: Option<i64>,
    pub progress: &'a Progress,
}

/// What a page found out.
#[derive(Default)]
struct Found {
    outcomes: Vec<Outcome>,
    plan: Vec<Planned>,
    links: Vec<Link>,
    correlations: HashMap<RowId, Uuid>,
}

/// What the log knows of a row already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Was {
    /// Nothing.
    New,
    /// It was imported, and tells a change.
    Known,
    /// It was imported, was gone, and is there again.
    Back,
    /// It was imported, and is gone.
    Gone,
}

impl Was {
    fn of(before: Option<&Old>, back: bool) -> Self {
        match before {
            None => Self::New,
            Some(_) if back => Self::Back,
            Some(_) => Self::Known,
        }
    }

    /// The row in quarantine: under which reason, if the log knows it, and if not, under its own.
    fn aside(self, quarantine: Quarantine) -> Quarantine {
        match self {
            Self::Back => Quarantine { reason: RETURN_REFUSED.to_owned(), ..quarantine },
            Self::Gone => Quarantine { reason: DELETION_REFUSED.to_owned(), ..quarantine },
            Self::New | Self::Known => quarantine,
        }
    }
}

/// What is thought of a row before the rules are asked.
struct Judged {
    row: RowId,
    repairs: Vec<Repair>,
    quarantine: Option<Quarantine>,
    was: Was,
}

/// The rows of one aggregate and the commands that they imply.
struct Family<C> {
    steps: Vec<Step<C>>,
    judged: Vec<Judged>,
    /// When what was gone came back: nothing is told of it before that.
    back: Option<DateTime<Utc>>,
}

impl<C> Family<C> {
    fn new() -> Self {
        Self { steps: Vec::new(), judged: Vec::new(), back: None }
    }

    fn fine(&mut self, old: Old, was: Was, steps: Vec<Step<C>>) {
        self.steps.extend(steps);
        self.judged.push(Judged { row: (old.table, old.pk), repairs: old.repairs, quarantine: None, was });
    }

    fn aside(&mut self, old: Old, was: Was, quarantine: Quarantine) {
        let row = (old.table, old.pk);
        self.judged.push(Judged { row, repairs: old.repairs, quarantine: Some(was.aside(quarantine)), was });
    }

    /// A row is gone, and so is what it became: by the command, if there is still something to do.
    fn gone(&mut self, row: RowId, at: DateTime<Utc>, command: Option<C>) {
        self.steps.extend(command.map(|command| Step { at, order: steps::ENDS, row, actor: None, command }));
        self.judged.push(Judged { row, repairs: Vec::new(), quarantine: None, was: Was::Gone });
    }

    /// A row is gone, and what it became stays.
    fn stays(&mut self, row: RowId, sentence: &str) {
        let quarantine = Some(Quarantine::new(DELETION_REFUSED, sentence));
        self.judged.push(Judged { row, repairs: Vec::new(), quarantine, was: Was::Gone });
    }

    /// What was gone is there again: that comes before everything else that is told of it.
    fn back(&mut self, row: RowId, at: DateTime<Utc>, command: C) {
        self.steps.insert(0, Step { at, order: steps::BEGINS, row, actor: None, command });
        self.back = Some(at);
    }
}

/// What came of asking the rules.
struct Asked<A, S> {
    /// The aggregate as it stands then.
    state: A,
    /// What was worth remembering on the way.
    seen: Vec<S>,
}

/// A root of a page, read.
struct Reading {
    root: Root,
    /// As it is now; none if it has not changed or is gone.
    now: Option<Old>,
    /// As it was taken over.
    before: Option<Old>,
    children: Vec<ReadChild>,
    /// A project's links that have not changed.
    unchanged: Vec<Old>,
}

struct ReadChild {
    child: Child,
    now: Option<Old>,
    before: Option<Old>,
}

impl Reading {
    fn is_gone(&self) -> bool {
        matches!(self.root.staged, Some(None))
    }

    fn was(&self) -> Was {
        Was::of(self.before.as_ref(), self.root.back)
    }
}

impl ReadChild {
    fn was(&self) -> Was {
        Was::of(self.before.as_ref(), self.child.back)
    }
}

impl Planner<'_> {
    /// Plans everything that is staged.
    pub(super) async fn plan(&self) -> Result<(), ImportError> {
        self.staging.find_dirty().await?;
        self.staging.analyze(&["legacy_staged", "legacy_dirty", "legacy_keys", "legacy_rows"]).await?;
        self.orphans().await?;
        self.users().await?;
        self.apart().await?;
        // Customers take in what leads they became; nothing else waits for anything but the people.
        let from_leads = async {
            self.leads().await?;
            self.staging.find_linked().await?;
            self.customers().await
        };
        tokio::try_join!(from_leads, self.projects(), self.invoices())?;
        Ok(())
    }

    fn translation<'t>(&'t self, names: &'t Names) -> Translation<'t> {
        Translation { names, tenant: self.tenant, last_moment: self.last_moment }
    }

    fn pages(&self) -> Pages {
        let (maps, maps_before) = (Arc::clone(self.maps), Arc::clone(self.maps_before));
        Pages { staging: self.staging.clone(), maps, maps_before, tenant: self.tenant, now: self.now }
    }

    /// Reads a table's aggregates page by page: the next while one is worked out.
    fn flow(&self, table: Table) -> Flow {
        let pages = self.pages();
        let next = tokio::spawn(pages.clone().page(table, i64::MIN));
        Flow { pages, table, next, storing: None }
    }

    /// The aggregate as it stands; nothing for one that is only now told.
    async fn state<A>(&self, root: &Root) -> Result<(A, i64), ImportError>
    where
        A: Rules + 'static,
    {
        if root.imported.is_none() {
            return Ok((A::default(), 0));
        }
        let stream = StreamId::new(A::TYPE, self.tenant, &root.local_id);
        let loaded = self.store.streams().read::<A>(&stream).await?;
        Ok((loaded.state, loaded.version))
    }

    /// Asks the rules, and files every row of the family.
    fn file<A, S>(
        &self,
        root: &Root,
        table: Table,
        (state, version): (A, i64),
        family: Family<A::Command>,
        found: &mut Found,
        see: impl Fn(&A, &Step<A::Command>, DateTime<Utc>) -> Option<S>,
    ) -> Result<Asked<A, S>, ImportError>
    where
        A: Rules,
        A::Error: crate::aggregates::Refused,
        A::Command: Clone,
    {
        let Family { mut steps, judged, back } = family;
        if let Some(back) = back {
            steps.iter_mut().for_each(|step| step.at = step.at.max(back));
        }
        let own = (table, root.pk);
        let teller = Teller { tenant: self.tenant, stream_tenant: self.tenant, local_id: &root.local_id };
        let told = teller.tell(&state, version, steps, see)?;
        let mut refused: HashMap<RowId, Quarantine> = HashMap::new();
        let fresh = version == 0;
        for refusal in told.refused {
            let was = judged.iter().find(|judged| judged.row == refusal.row).map_or(Was::New, |judged| judged.was);
            let reason = match was {
                Was::New => format!("refused_{}", refusal.code),
                Was::Known | Was::Back | Was::Gone => "change_refused".to_owned(),
            };
            let quarantine = was.aside(Quarantine { reason, detail: refusal.sentence });
            refused.entry(refusal.row).or_insert(quarantine);
        }
        // A thing begins whole or not at all.
        let root_aside = fresh
            && (refused.contains_key(&own)
                || judged.iter().any(|judged| judged.row == own && judged.quarantine.is_some()));
        if !root_aside {
            found.plan.extend(told.events);
        }
        let parent = root.legacy_id.as_deref().unwrap_or(&root.local_id);
        for Judged { row, repairs, quarantine, was } in judged {
            let mut quarantine = quarantine.or_else(|| refused.remove(&row));
            if root_aside && row != own {
                quarantine = Some(was.aside(Quarantine::with_parent(table, parent)));
            }
            // Of a row that is gone, there is only something to say if what it became is not.
            if was != Was::Gone || quarantine.is_some() {
                found.outcomes.push(outcome(row, &repairs, quarantine)?);
            }
        }
        Ok(if root_aside { Asked { state, seen: Vec::new() } } else { Asked { state: told.state, seen: told.seen } })
    }

    /// Rows whose parent is nowhere.
    async fn orphans(&self) -> Result<(), ImportError> {
        let mut after = (String::new(), i64::MIN);
        loop {
            let orphans = self.staging.orphans((&after.0, after.1), PAGE).await?;
            let Some(last) = orphans.last() else { return Ok(()) };
            after = (last.table.name().to_owned(), last.pk);
            let outcomes: Vec<Outcome> = orphans
                .into_iter()
                .filter(|orphan| !orphan.gone)
                .map(|Orphan { table, pk, parent, back, .. }| {
                    let column = table.parent().map_or("parent", |(_, column)| column);
                    let (reason, detail) = match parent {
                        None => (format!("{column}_missing"), format!("{column} is empty: it belongs to nothing")),
                        Some(parent) => (format!("{column}_unknown"), format!("{column} {parent} is not there")),
                    };
                    let was = if back { Was::Back } else { Was::New };
                    outcome((table, pk), &[], Some(was.aside(Quarantine { reason, detail })))
                })
                .collect::<Result<_, _>>()?;
            self.progress.planned(outcomes.len());
            self.staging.add_outcomes(&outcomes).await?;
        }
    }

    async fn leads(&self) -> Result<(), ImportError> {
        let mut flow = self.flow(Table::Leads);
        while let Some(Page { readings, names, mut found, .. }) = flow.next().await? {
            let translation = self.translation(&names);
            for reading in readings {
                self.lead(reading, &translation, &mut found).await?;
            }
            flow.store(found, self.progress).await?;
        }
        Ok(())
    }

    async fn lead(&self, mut reading: Reading, t: &Translation<'_>, found: &mut Found) -> Result<(), ImportError> {
        let loaded = self.state::<Lead>(&reading.root).await?;
        let deleted = loaded.0.deleted;
        let (own, was) = ((Table::Leads, reading.root.pk), reading.was());
        let mut family: Family<LeadCommand> = Family::new();
        let mut begun = DateTime::<Utc>::MIN_UTC;
        let mut contacts = Vec::new();
        let mut children = Vec::new();
        for child in std::mem::take(&mut reading.children) {
            let was = child.was();
            let Some(mut old) = child.now else {
                contact_gone(&child.child, deleted, &loaded.0.interactions, t, &mut family);
                continue;
            };
            match t.interaction_wish(&mut old) {
                Ok(wish) => {
                    contacts.extend(wish.completed);
                    children.push((old, child.before, wish, child.child, was));
                }
                Err(quarantine) => family.aside(old, was, quarantine),
            }
        }
        match (reading.now.take(), reading.before.take()) {
            (Some(mut old), None) => match t.lead_wish(&mut old, &reading.root.local_id) {
                Ok(wish) => {
                    name_of_id(&mut old, &reading.root.local_id);
                    let others = children.iter().map(|(_, _, wish, ..)| wish.created.or(wish.completed));
                    begun = wish.times.begin(&mut old, others.chain([wish.contacted]), t.last_moment);
                    let latest = children.iter().map(|(_, _, wish, ..)| wish.completed.max(wish.created));
                    let ended = wish.times.end_with(&mut old, begun, latest.chain([wish.contacted]));
                    let steps = steps::lead(own, wish, begun, ended, contacts.into_iter());
                    family.fine(old, was, steps);
                }
                Err(quarantine) => family.aside(old, was, quarantine),
            },
            (Some(mut old), Some(mut before)) => {
                let id = &reading.root.local_id;
                match (t.lead_wish(&mut before, id), t.lead_wish(&mut old, id)) {
                    (Ok(before), Ok(after)) => {
                        name_of_id(&mut old, id);
                        let at = after.times.updated.unwrap_or(t.last_moment);
                        let steps = steps::lead_changes(own, &before, &after, at);
                        family.fine(old, was, steps);
                        if was == Was::Back && deleted && !before.deleted {
                            family.back(own, t.last_moment, LeadCommand::Restore {});
                        }
                    }
                    (_, Err(quarantine)) | (Err(quarantine), _) => family.aside(old, was, quarantine),
                }
            }
            (None, Some(_)) if reading.is_gone() => {
                family.gone(own, t.last_moment, (!deleted).then_some(LeadCommand::Delete {}));
            }
            _ => {}
        }
        for (old, before, wish, child, was) in children {
            self.interaction(old, before, wish, (child, was), &loaded.0.interactions, begun, t, &mut family);
        }
        let asked = self.file(&reading.root, Table::Leads, loaded, family, found, |state: &Lead, step, at| {
            let LeadCommand::Convert { customer } = step.command else { return None };
            Some((customer, at, serde_json::to_string(&state.interactions.iter().collect::<Vec<_>>())))
        })?;
        for (customer, converted_at, interactions) in asked.seen {
            found.links.push(Link {
                customer_id: customer.to_string(),
                lead_id: reading.root.local_id.clone(),
                lead_pk: own.1,
                converted_at,
                interactions: interactions.map_err(ImportError::Encode)?,
                correlation_id: found.correlations.get(&own).copied().unwrap_or_default(),
            });
        }
        Ok(())
    }

    /// An interaction of a lead or a customer that began at `begun`.
    #[expect(clippy::too_many_arguments, reason = "what is known of one child")]
    fn interaction<C: steps::Contact>(
        &self,
        mut old: Old,
        before: Option<Old>,
        wish: wishes::InteractionWish,
        (child, was): (Child, Was),
        there: &Interactions,
        begun: DateTime<Utc>,
        t: &Translation<'_>,
        family: &mut Family<C>,
    ) {
        let row = (old.table, old.pk);
        let Some(id) = child.local_id.as_deref().and_then(|id| id.parse::<InteractionId>().ok()) else {
            family.aside(old, was, Quarantine::new("id_missing", "no id could be given to it"));
            return;
        };
        let Some(mut before) = before else {
            name_of_id(&mut old, &id.to_string());
            let first = wish.created.into_iter().chain(wish.completed).min();
            if first.is_some_and(|first| first < begun) {
                old.repair("before_parent", "created_at", Some(begun.to_rfc3339()));
            }
            let steps = steps::interaction(row, id, wish, begun, t.last_moment);
            family.fine(old, was, steps);
            return;
        };
        name_of_id(&mut old, &id.to_string());
        if child.came {
            family.aside(old, was, Quarantine::new("change_refused", "an interaction stays with whom it was held"));
            return;
        }
        let at = old.time("updated_at").unwrap_or(t.last_moment);
        // What was planned was called off when it was gone: it is planned again, and then comes what is told of it.
        let called_off = there.get(id).is_some_and(|there| there.status == InteractionStatus::Cancelled);
        let changes = t.interaction_wish(&mut before).ok().and_then(|mut before| {
            // Who had it is not said again.
            before.by = wish.by;
            let again = was == Was::Back && called_off && before.status == InteractionStatus::Scheduled;
            let at = if again { at.max(t.last_moment) } else { at };
            let mut changes = steps::interaction_changes(row, id, &before, &wish, at, t.last_moment)?;
            if again {
                changes.insert(0, steps::planned_again(row, id, &before, t.last_moment));
            }
            Some(changes)
        });
        match changes {
            Some(steps) => family.fine(old, was, steps),
            None => family.aside(
                old,
                was,
                Quarantine::new("change_refused", "what an interaction says is not changed afterwards"),
            ),
        }
    }

    async fn customers(&self) -> Result<(), ImportError> {
        let mut flow = self.flow(Table::Customers);
        while let Some(Page { readings, names, mut found, .. }) = flow.next().await? {
            let translation = self.translation(&names);
            let ids: Vec<String> = readings.iter().map(|reading| reading.root.local_id.clone()).collect();
            let mut links: HashMap<String, Vec<Link>> = HashMap::new();
            for link in self.staging.links(&ids).await? {
                found.correlations.insert((Table::Leads, link.lead_pk), link.correlation_id);
                links.entry(link.customer_id.clone()).or_default().push(link);
            }
            for reading in readings {
                let links = links.remove(&reading.root.local_id).unwrap_or_default();
                self.customer(reading, links, &translation, &mut found).await?;
            }
            flow.store(found, self.progress).await?;
        }
        Ok(())
    }

    async fn customer(
        &self,
        mut reading: Reading,
        links: Vec<Link>,
        t: &Translation<'_>,
        found: &mut Found,
    ) -> Result<(), ImportError> {
        let loaded = self.state::<Customer>(&reading.root).await?;
        let (deleted, merged) = (loaded.0.deleted, loaded.0.merged_into.is_some());
        let (own, was) = ((Table::Customers, reading.root.pk), reading.was());
        let mut family: Family<CustomerCommand> = Family::new();
        let mut begun = DateTime::<Utc>::MIN_UTC;
        let (mut contacts, mut notes) = (Vec::new(), Vec::new());
        for child in std::mem::take(&mut reading.children) {
            let was = child.was();
            let ReadChild { child, now, before } = child;
            match (child.table, now) {
                (Table::CustomerNotes, Some(mut old)) => match t.note_wish(&mut old) {
                    Ok(wish) => notes.push((old, before, wish, child, was)),
                    Err(quarantine) => family.aside(old, was, quarantine),
                },
                (Table::CustomerNotes, None) => note_gone(&child, deleted || merged, &loaded.0, t, &mut family),
                (_, Some(mut old)) => match t.interaction_wish(&mut old) {
                    Ok(wish) => contacts.push((old, before, wish, child, was)),
                    Err(quarantine) => family.aside(old, was, quarantine),
                },
                (_, None) => contact_gone(&child, deleted || merged, &loaded.0.interactions, t, &mut family),
            }
        }
        match (reading.now.take(), reading.before.take()) {
            (Some(mut old), None) => {
                name_of_id(&mut old, &reading.root.local_id);
                let wish = t.customer_wish(&mut old, &reading.root.local_id);
                let others = contacts.iter().map(|(_, _, wish, ..)| wish.created.or(wish.completed));
                let others = others.chain(notes.iter().map(|(_, _, wish, ..)| wish.created));
                let others = others.chain(links.iter().map(|link| Some(link.converted_at)));
                begun = wish.times.begin(&mut old, others, t.last_moment);
                let ended = wish.times.end(&mut old, begun);
                let steps = steps::customer(own, wish, begun, ended);
                family.fine(old, was, steps);
            }
            (Some(mut old), Some(mut before)) => {
                let id = &reading.root.local_id;
                name_of_id(&mut old, id);
                let (before, after) = (t.customer_wish(&mut before, id), t.customer_wish(&mut old, id));
                let at = after.times.updated.unwrap_or(t.last_moment);
                let steps = steps::customer_changes(own, &before, &after, at);
                family.fine(old, was, steps);
                if was == Was::Back && deleted {
                    family.back(own, t.last_moment, CustomerCommand::Restore {});
                }
            }
            (None, Some(_)) if reading.is_gone() => {
                let has_unpaid_invoice = self.has_unpaid(&reading.root).await?;
                let there = !deleted && !merged;
                family.gone(own, t.last_moment, there.then_some(CustomerCommand::Delete { has_unpaid_invoice }));
            }
            _ => {}
        }
        for (old, before, wish, child, was) in contacts {
            self.interaction(old, before, wish, (child, was), &loaded.0.interactions, begun, t, &mut family);
        }
        for (old, before, wish, child, was) in notes {
            self.note(old, before, wish, (child, was), &loaded.0, begun, t, &mut family);
        }
        for link in links {
            let Ok(lead) = link.lead_id.parse::<LeadId>() else { continue };
            let interactions: Vec<Interaction> =
                serde_json::from_str(&link.interactions).map_err(ImportError::Encode)?;
            let command = CustomerCommand::LinkLead { lead, interactions };
            let row = (Table::Leads, link.lead_pk);
            family.steps.push(steps::link(row, link.converted_at.max(begun), command));
        }
        self.file::<Customer, ()>(&reading.root, Table::Customers, loaded, family, found, |_, _, _| None)?;
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "what is known of one child")]
    fn note(
        &self,
        mut old: Old,
        before: Option<Old>,
        wish: wishes::NoteWish,
        (child, was): (Child, Was),
        customer: &Customer,
        begun: DateTime<Utc>,
        t: &Translation<'_>,
        family: &mut Family<CustomerCommand>,
    ) {
        let row = (old.table, old.pk);
        let Some(id) = child.local_id.as_deref().and_then(|id| id.parse::<NoteId>().ok()) else {
            family.aside(old, was, Quarantine::new("id_missing", "no id could be given to it"));
            return;
        };
        name_of_id(&mut old, &id.to_string());
        if child.came {
            family.aside(
                old,
                was,
                Quarantine::new("change_refused", "a note stays with the customer that it is about"),
            );
            return;
        }
        let steps = match before {
            None => {
                if wish.created.is_some_and(|created| created < begun) {
                    old.repair("before_parent", "created_at", Some(begun.to_rfc3339()));
                }
                steps::note(row, id, wish, begun, t.last_moment)
            }
            Some(mut before) => match t.note_wish(&mut before) {
                Ok(before) => {
                    let removed = customer.removed_notes.get(&id).filter(|_| was == Was::Back);
                    let at = wish.updated.unwrap_or(t.last_moment);
                    let at = if removed.is_some() { at.max(t.last_moment) } else { at };
                    let mut steps = steps::note_changes(row, id, &before, &wish, at);
                    if let Some(removed) = removed {
                        let restore = CustomerCommand::RestoreNote { id, by: removed.author };
                        steps.insert(0, steps::part(row, t.last_moment, restore));
                    }
                    steps
                }
                Err(quarantine) => return family.aside(old, was, quarantine),
            },
        };
        family.fine(old, was, steps);
    }

    /// Whether the customer owes something, which keeps it. An invoice that is gone as well is withdrawn with it.
    async fn has_unpaid(&self, root: &Root) -> Result<bool, ImportError> {
        Ok(sqlx::query_scalar(
            "select exists (
                 select 1 from invoices i
                 where i.tenant_id = $1 and i.customer_id = $2 and i.status in ('sent', 'viewed')
                   and not exists (
                       select 1 from legacy_keys k
                       join legacy_staged s on s.tenant_id = $1 and s.source_table = 'invoices' and s.pk = k.pk
                       where k.tenant_id = $1 and k.local_id = i.id and s.row is null))",
        )
        .bind(self.staging.tenant())
        .bind(&root.local_id)
        .fetch_one(&self.staging.pool)
        .await?)
    }

    async fn projects(&self) -> Result<(), ImportError> {
        let mut flow = self.flow(Table::Projects);
        while let Some(Page { readings, names, mut found, .. }) = flow.next().await? {
            let translation = self.translation(&names);
            for reading in readings {
                self.project(reading, &translation, &mut found).await?;
            }
            flow.store(found, self.progress).await?;
        }
        Ok(())
    }

    async fn project(&self, mut reading: Reading, t: &Translation<'_>, found: &mut Found) -> Result<(), ImportError> {
        let loaded = self.state::<Project>(&reading.root).await?;
        let (own, was) = ((Table::Projects, reading.root.pk), reading.was());
        let mut family: Family<ProjectCommand> = Family::new();
        let mut begun = DateTime::<Utc>::MIN_UTC;
        let children = std::mem::take(&mut reading.children);
        match (reading.now.take(), reading.before.take()) {
            (Some(mut old), None) => {
                name_of_id(&mut old, &reading.root.local_id);
                match t.project_wish(&mut old, &reading.root.local_id) {
                    Ok(wish) => {
                        let started = wish.started.filter(|at| *at <= t.last_moment);
                        begun = wish.times.begin(&mut old, [started], t.last_moment);
                        let ended = wish.times.end(&mut old, begun);
                        let steps = steps::project(own, wish, begun, ended);
                        family.fine(old, was, steps);
                    }
                    Err(quarantine) => family.aside(old, was, quarantine),
                }
            }
            (Some(mut old), Some(mut before)) => {
                let id = &reading.root.local_id;
                name_of_id(&mut old, id);
                match (t.project_wish(&mut before, id), t.project_wish(&mut old, id)) {
                    (Ok(before), Ok(after)) => {
                        let at = after.times.updated.unwrap_or(t.last_moment);
                        let steps = steps::project_changes(own, &before, &after, at);
                        family.fine(old, was, steps);
                        if was == Was::Back && loaded.0.deleted {
                            family.back(own, t.last_moment, ProjectCommand::Restore {});
                        }
                    }
                    (_, Err(quarantine)) | (Err(quarantine), _) => family.aside(old, was, quarantine),
                }
            }
            (None, Some(_)) if reading.is_gone() => {
                family.gone(own, t.last_moment, (!loaded.0.deleted).then_some(ProjectCommand::Delete {}));
            }
            _ => {}
        }
        links::told(children, std::mem::take(&mut reading.unchanged), &loaded.0, begun, t, &mut family);
        self.file::<Project, ()>(&reading.root, Table::Projects, loaded, family, found, |_, _, _| None)?;
        Ok(())
    }

    async fn invoices(&self) -> Result<(), ImportError> {
        let mut flow = self.flow(Table::Invoices);
        while let Some(Page { readings, names, mut found, .. }) = flow.next().await? {
            let translation = self.translation(&names);
            for reading in readings {
                self.invoice(reading, &translation, &mut found).await?;
            }
            flow.store(found, self.progress).await?;
        }
        Ok(())
    }

    async fn invoice(&self, mut reading: Reading, t: &Translation<'_>, found: &mut Found) -> Result<(), ImportError> {
        let loaded = self.state::<Invoice>(&reading.root).await?;
        let (own, was) = ((Table::Invoices, reading.root.pk), reading.was());
        let mut family: Family<InvoiceCommand> = Family::new();
        match (reading.now.take(), reading.before.take()) {
            (Some(mut old), before) => {
                name_of_id(&mut old, &reading.root.local_id);
                let before = before.map(|mut before| t.invoice_wish(&mut before)).transpose();
                let void = loaded.0.status == InvoiceStatus::Void;
                match (before, t.invoice_wish(&mut old)) {
                    (Ok(None), Ok(wish)) => family.fine(old, was, steps::invoice(own, &wish)),
                    (Ok(Some(_)), Ok(wish)) if was == Was::Back && void && wish.status != InvoiceStatus::Void => {
                        let sentence = "it was withdrawn when it was gone, and an invoice that is void stays void";
                        family.aside(old, was, Quarantine::new(RETURN_REFUSED, sentence));
                    }
                    (Ok(Some(before)), Ok(wish)) => {
                        let steps = steps::invoice_changes(own, &before, &wish);
                        family.fine(old, was, steps);
                    }
                    (_, Err(quarantine)) | (Err(quarantine), _) => family.aside(old, was, quarantine),
                }
            }
            (None, Some(_)) if reading.is_gone() => family.gone(own, t.last_moment, Some(InvoiceCommand::Void {})),
            _ => {}
        }
        self.file::<Invoice, ()>(&reading.root, Table::Invoices, loaded, family, found, |_, _, _| None)?;
        Ok(())
    }
}

/// Reads pages of what is staged, beside whatever else is done.
#[derive(Clone)]
struct Pages {
    staging: Staging,
    maps: Arc<Maps>,
    maps_before: Arc<Maps>,
    tenant: TenantId,
    now: DateTime<Utc>,
}

/// Aggregates with their children, and what is known of whom they name.
struct Page {
    readings: Vec<Reading>,
    names: Names,
    found: Found,
    /// The key of the last of them.
    last: i64,
}

impl Pages {
    fn read(&self, table: Table, pk: i64, json: &str) -> Result<Old, ImportError> {
        Old::read(table, pk, json, self.now, &self.maps).map_err(ImportError::Encode)
    }

    /// A row as it was taken over: what could not be resolved then held nothing.
    fn read_before(&self, table: Table, pk: i64, json: &str, repairs: &str) -> Result<Old, ImportError> {
        let mut old = Old::read(table, pk, json, self.now, &self.maps_before).map_err(ImportError::Encode)?;
        let repairs: Vec<Repair> = serde_json::from_str(repairs).map_err(ImportError::Encode)?;
        for repair in repairs.iter().filter(|repair| repair.rule.ends_with("_unresolved")) {
            old.forget(&repair.field);
        }
        Ok(old)
    }

    /// The next page of a table's aggregates, with their children and what is known of whom they name.
    async fn page(self, table: Table, after: i64) -> Result<Option<Page>, ImportError> {
        let roots = self.staging.page(table, after, PAGE).await?;
        let Some(last) = roots.last().map(|last| last.pk) else { return Ok(None) };
        let pks: Vec<i64> = roots.iter().map(|root| root.pk).collect();
        let mut children: HashMap<i64, Vec<Child>> = HashMap::new();
        for child in self.staging.children(table, &pks).await? {
            children.entry(child.parent_pk).or_default().push(child);
        }
        let mut found = Found::default();
        let mut named = HashSet::new();
        let mut readings = Vec::with_capacity(roots.len());
        for root in roots {
            let mut now = None;
            if let Some(Some(json)) = &root.staged {
                now = Some(self.read(table, root.pk, json)?);
                found.correlations.insert((table, root.pk), self.correlation(table, root.pk, json));
            }
            if let Some(None) = &root.staged {
                found.correlations.insert((table, root.pk), self.correlation(table, root.pk, "gone"));
            }
            let imported = root.imported.as_deref();
            let before = imported.map(|json| self.read_before(table, root.pk, json, &root.repairs)).transpose()?;
            name(&mut named, now.as_ref());
            name(&mut named, before.as_ref());
            let mut read = Vec::new();
            for child in children.remove(&root.pk).unwrap_or_default() {
                let text = child.row.as_deref().unwrap_or("gone");
                found.correlations.insert((child.table, child.pk), self.correlation(child.table, child.pk, text));
                let now = child.row.as_deref().map(|json| self.read(child.table, child.pk, json)).transpose()?;
                if child.left {
                    let now = now.as_ref();
                    named.extend(now.and_then(|now| now.old_id("project_id")).map(|id| (Table::Projects, id)));
                }
                let imported = child.imported.as_deref();
                let before =
                    imported.map(|json| self.read_before(child.table, child.pk, json, &child.repairs)).transpose()?;
                name(&mut named, now.as_ref());
                name(&mut named, before.as_ref());
                read.push(ReadChild { child, now, before });
            }
            readings.push(Reading { root, now, before, children: read, unchanged: Vec::new() });
        }
        if table == Table::Projects {
            self.unchanged_links(&mut readings, &mut named).await?;
        }
        let named: Vec<(Table, String)> = named.into_iter().collect();
        let names = self.staging.known(&named).await?;
        Ok(Some(Page { readings, names, found, last }))
    }

    /// The links that have not changed of projects of which another was taken over: they may say the same.
    async fn unchanged_links(
        &self,
        readings: &mut [Reading],
        named: &mut HashSet<(Table, String)>,
    ) -> Result<(), ImportError> {
        let doubtful = |reading: &&Reading| reading.children.iter().any(|child| child.before.is_some());
        let pks: Vec<i64> = readings.iter().filter(doubtful).map(|reading| reading.root.pk).collect();
        let mut unchanged: HashMap<i64, Vec<Old>> = HashMap::new();
        for Unchanged { parent_pk, table, pk, imported, repairs } in self.staging.unchanged_links(&pks).await? {
            let old = self.read_before(table, pk, &imported, &repairs)?;
            name(named, Some(&old));
            unchanged.entry(parent_pk).or_default().push(old);
        }
        for reading in readings {
            reading.unchanged = unchanged.remove(&reading.root.pk).unwrap_or_default();
        }
        Ok(())
    }

    /// What belongs together: all events of one row as it was at one time.
    fn correlation(&self, table: Table, pk: i64, row: &str) -> Uuid {
        Uuid::new_v5(&CORRELATIONS, format!("{}/{}/{pk}/{row}", self.tenant, table.name()).as_bytes())
    }
}

/// A table's pages on their way: one is read, one is worked out, one is written down.
struct Flow {
    pages: Pages,
    table: Table,
    next: JoinHandle<Result<Option<Page>, ImportError>>,
    storing: Option<Storing>,
}

impl Flow {
    /// The next page; none at the end, when all are written down.
    async fn next(&mut self) -> Result<Option<Page>, ImportError> {
        let page = (&mut self.next).await.map_err(|error| ImportError::Other(error.to_string()))??;
        match &page {
            Some(page) => self.next = tokio::spawn(self.pages.clone().page(self.table, page.last)),
            None => stored(self.storing.take()).await?,
        }
        Ok(page)
    }

    /// Begins to write down what a page came to, once the one before is written.
    async fn store(&mut self, found: Found, progress: &Progress) -> Result<(), ImportError> {
        progress.planned(found.outcomes.len());
        stored(self.storing.take()).await?;
        self.storing = Some(tokio::spawn(store(self.pages.staging.clone(), self.table, found)));
        Ok(())
    }
}

/// Rows of a batch that are written at once.
const BATCH: usize = 2_000;

/// A page on its way into the tables.
type Storing = JoinHandle<Result<(), ImportError>>;

async fn stored(storing: Option<Storing>) -> Result<(), ImportError> {
    match storing {
        Some(storing) => storing.await.map_err(|error| ImportError::Other(error.to_string()))?,
        None => Ok(()),
    }
}

async fn store(staging: Staging, table: Table, mut found: Found) -> Result<(), ImportError> {
    let mut counts: HashMap<RowId, i64> = HashMap::new();
    for event in &mut found.plan {
        let row = (event.table, event.pk);
        let count = counts.entry(row).or_insert(0);
        // A lead's row is carried by the lead, not by the customer that it became.
        event.first = *count == 0 && (event.table != Table::Leads || table == Table::Leads);
        *count += 1;
        if let Some(correlation) = found.correlations.get(&row) {
            event.correlation_id = *correlation;
        }
    }
    for outcome in &mut found.outcomes {
        outcome.events = counts.get(&(outcome.table, outcome.pk)).copied().unwrap_or(0);
    }
    let outcomes = async {
        for outcomes in found.outcomes.chunks(BATCH) {
            staging.add_outcomes(outcomes).await?;
        }
        Ok::<(), ImportError>(())
    };
    let rest = async {
        for events in found.plan.chunks(BATCH) {
            staging.add_plan(events).await?;
        }
        for links in found.links.chunks(BATCH) {
            staging.add_links(links).await?;
        }
        Ok(())
    };
    tokio::try_join!(outcomes, rest)?;
    Ok(())
}

/// What is found out about a row: the heap that it lies on, and why.
fn outcome((table, pk): RowId, repairs: &[Repair], quarantine: Option<Quarantine>) -> Result<Outcome, ImportError> {
    let heap = match (&quarantine, repairs.is_empty()) {
        (Some(_), _) => Heap::Quarantined,
        (None, true) => Heap::Replayed,
        (None, false) => Heap::Repaired,
    };
    let (reason, detail) = quarantine.map(|quarantine| (quarantine.reason, quarantine.detail)).unzip();
    let repairs = serde_json::to_string(repairs).map_err(ImportError::Encode)?;
    Ok(Outcome { table, pk, heap, reason, detail, repairs, events: 0 })
}

/// Collects whom a row names.
fn name(named: &mut HashSet<(Table, String)>, old: Option<&Old>) {
    let Some(old) = old else { return };
    for (column, table) in old.table.references() {
        named.extend(old.old_id(column).map(|id| (*table, id)));
    }
}

/// Contact that is gone: what was planned is called off, and what took place stays.
fn contact_gone<C: steps::Contact>(
    child: &Child,
    with_parent: bool,
    there: &Interactions,
    t: &Translation<'_>,
    family: &mut Family<C>,
) {
    let row = (child.table, child.pk);
    let id = child.local_id.as_deref().and_then(|id| id.parse::<InteractionId>().ok());
    let there = id.and_then(|id| there.get(id)).filter(|_| !with_parent);
    match there.map(|there| (there.id, there.status)) {
        Some((id, InteractionStatus::Scheduled)) => family.gone(row, t.last_moment, Some(C::cancel(id))),
        Some((_, InteractionStatus::Completed)) => family.stays(row, "contact that took place is not taken back"),
        Some((_, InteractionStatus::Cancelled)) | None => family.gone(row, t.last_moment, None),
    }
}

/// A note that is gone is taken away.
fn note_gone(
    child: &Child,
    with_customer: bool,
    customer: &Customer,
    t: &Translation<'_>,
    family: &mut Family<CustomerCommand>,
) {
    let id = child.local_id.as_deref().and_then(|id| id.parse::<NoteId>().ok());
    let note = id.and_then(|id| customer.notes.get(&id)).filter(|_| !with_customer);
    let command = note.map(|note| CustomerCommand::RemoveNote { id: note.id, by: note.author });
    family.gone((child.table, child.pk), t.last_moment, command);
}

/// Names that a row has another id here than it had.
fn name_of_id(old: &mut Old, id: &str) {
    match old.raw("system_id").as_str().map(str::to_owned) {
        Some(was) if was == id => {}
        Some(_) => old.repair("id_changed", "system_id", Some(id.to_owned())),
        None => old.repair("id_missing", "system_id", Some(id.to_owned())),
    }
}
