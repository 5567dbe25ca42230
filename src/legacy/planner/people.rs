//! The people, and the rows that belong to no aggregate of their own: the vault and the businesses.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use serde_json::Value;

use super::{Asked, Family, Found, PAGE, Page, Planner, Reading, Was, name_of_id, outcome};
use crate::aggregates::ids::{TenantId, UserId};
use crate::aggregates::permission::Role;
use crate::aggregates::tenant::{Tenant, TenantCommand, TenantPatch};
use crate::aggregates::user::{User, UserCommand};
use crate::aggregates::values::{Email, Patch, Text, UserStatus};
use crate::event_store::StreamId;
use crate::legacy::ImportError;
use crate::legacy::old::{Old, Quarantine};
use crate::legacy::steps;
use crate::legacy::tables::Table;
use crate::legacy::telling::{Step, Teller};
use crate::legacy::wishes::{Times, Translation, UserWish, login};
use crate::legacy::words::{OldRole, Words};

/// Old names of the one business there was.
const THE_BUSINESS: [&str; 3] = ["DEV-000", "TEN-001", "your_business"];

impl Planner<'_> {
    pub(super) async fn users(&self) -> Result<(), ImportError> {
        let twins = self.twins().await?;
        let mut owners = self.active_owners().await?;
        // Who is gone is dealt with last: the last active owner stays, and another may come with this run.
        let (mut gone, mut correlations) = (Vec::new(), HashMap::new());
        let mut flow = self.flow(Table::Users);
        while let Some(Page { readings, names, mut found, .. }) = flow.next().await? {
            let t = self.translation(&names);
            let holders = self.holders(&readings).await?;
            let busy = self.with_open_work(&readings).await?;
            for reading in readings {
                let pk = reading.root.pk;
                if reading.is_gone() {
                    correlations.extend(found.correlations.remove_entry(&(Table::Users, pk)));
                    gone.push(reading);
                    continue;
                }
                if self.founder == Some(pk) {
                    self.founder(reading, &t, twins.get(&pk), &holders, &mut found).await?;
                    continue;
                }
                let open_work = reading.root.legacy_id.as_ref().is_some_and(|id| busy.contains(id));
                self.user(reading, &t, twins.get(&pk), &holders, open_work, &mut owners, &mut found).await?;
            }
            flow.store(found, self.progress).await?;
        }
        let mut found = Found { correlations, ..Found::default() };
        for reading in gone {
            self.user_gone(reading, &mut owners, &mut found).await?;
        }
        super::store(self.staging.clone(), Table::Users, found).await
    }

    /// Nobody is taken away: who is gone is locked, unless they are the founder, or gone from here already.
    async fn user_gone(
        &self,
        reading: Reading,
        owners: &mut HashSet<String>,
        found: &mut Found,
    ) -> Result<(), ImportError> {
        if reading.before.is_none() || self.founder == Some(reading.root.pk) {
            return Ok(());
        }
        let loaded = self.state::<User>(&reading.root).await?;
        let id = reading.root.local_id.clone();
        let there = loaded.0.status != UserStatus::Deactivated;
        let reason = Text::new("Gone from the old system").ok();
        let command = UserCommand::Lock { reason, other_active_owners: others(owners, &id) };
        let mut family: Family<UserCommand> = Family::new();
        family.gone((Table::Users, reading.root.pk), self.last_moment, there.then_some(command));
        let asked = self.file::<User, ()>(&reading.root, Table::Users, loaded, family, found, |_, _, _| None)?;
        remember(owners, id, &asked);
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "what is known of one user")]
    async fn user(
        &self,
        mut reading: Reading,
        t: &Translation<'_>,
        twin: Option<&String>,
        holders: &HashMap<String, String>,
        open_work: bool,
        owners: &mut HashSet<String>,
        found: &mut Found,
    ) -> Result<(), ImportError> {
        let loaded = self.state::<User>(&reading.root).await?;
        let status = loaded.0.status;
        let was = reading.was();
        let own = (Table::Users, reading.root.pk);
        let id = reading.root.local_id.clone();
        let mut family: Family<UserCommand> = Family::new();
        let before = reading.before.take();
        if let Some(mut old) = reading.now.take() {
            name_of_id(&mut old, &id);
            // An address that was replaced is not the twin's any more.
            let replaced = old.repairs.iter().any(|repair| repair.rule == "mapped" && repair.field == "email");
            let twin = twin.filter(|_| !replaced);
            let own_id = format!("{}:{id}", self.tenant);
            let wish = t.user_wish(&mut old).and_then(|wish| {
                only_once(&wish.details.email, twin, holders, &own_id)?;
                Ok(wish)
            });
            let before: Option<UserWish> = before.and_then(|mut before| t.user_wish(&mut before).ok());
            match (before, wish) {
                (_, Err(quarantine)) => family.aside(old, was, quarantine),
                (None, Ok(wish)) => {
                    let begun = wish.times.begin(&mut old, [], t.last_moment);
                    let ended = wish.times.end(&mut old, begun);
                    if !wish.active && open_work {
                        old.repair("inactive_with_open_work", "is_active", Some(UserStatus::Locked.to_string()));
                    }
                    let steps = steps::user(own, wish, begun, ended, open_work);
                    family.fine(old, was, steps);
                }
                (Some(before), Ok(after)) => {
                    let at = after.times.updated.unwrap_or(t.last_moment);
                    let others = others(owners, &id);
                    let steps = steps::user_changes(own, &before, &after, at, status, open_work, others);
                    family.fine(old, was, steps);
                    // Whoever was gone was locked.
                    if was == Was::Back && status == UserStatus::Locked && before.active && after.active {
                        family.back(own, t.last_moment, UserCommand::Unlock {});
                    }
                }
            }
        }
        let asked = self.file::<User, ()>(&reading.root, Table::Users, loaded, family, found, |_, _, _| None)?;
        remember(owners, id, &asked);
        Ok(())
    }

    /// The founder is the platform's: the same person as the platform's own, if it has one already.
    async fn founder(
        &self,
        mut reading: Reading,
        t: &Translation<'_>,
        twin: Option<&String>,
        holders: &HashMap<String, String>,
        found: &mut Found,
    ) -> Result<(), ImportError> {
        let own = (Table::Users, reading.root.pk);
        let Some(mut old) = reading.now.take() else { return Ok(()) };
        let stream = StreamId::new(User::TYPE, TenantId::Platform, UserId::FOUNDER);
        let loaded = self.store.streams().read::<User>(&stream).await?;
        let mut family: Family<UserCommand> = Family::new();
        if old.raw("system_id").as_str() != Some(UserId::FOUNDER.to_string().as_str()) {
            name_of_id(&mut old, &UserId::FOUNDER.to_string());
        }
        if let Some(there) = &loaded.state.facts {
            if reading.before.is_none() {
                old.repair("founder_already_there", "email", Some(there.email.to_string()));
            }
            family.fine(old, Was::Known, Vec::new());
        } else {
            let own_id = stream.aggregate_id();
            let email = login(&mut old).and_then(|email| {
                only_once(&email, twin, holders, &own_id)?;
                Ok(email)
            });
            match email {
                Ok(email) => {
                    let full_name = named_founder(&mut old);
                    let times = Times { created: old.time("created_at"), updated: old.time("updated_at") };
                    let begun = times.begin(&mut old, [], t.last_moment);
                    match full_name {
                        Some(full_name) => {
                            let command = UserCommand::RegisterFounder { email, full_name };
                            let step = Step { at: begun, order: steps::BEGINS, row: own, actor: None, command };
                            family.fine(old, Was::New, vec![step]);
                        }
                        None => family.aside(old, Was::New, Quarantine::new("name_missing", "the founder has no name")),
                    }
                }
                Err(quarantine) => family.aside(old, Was::New, quarantine),
            }
        }
        let Family { steps, judged, .. } = family;
        let founder = UserId::FOUNDER.to_string();
        let teller = Teller { tenant: self.tenant, stream_tenant: TenantId::Platform, local_id: &founder };
        let told = teller.tell(&loaded.state, loaded.version, steps, |_: &User, _, _| None::<()>)?;
        found.plan.extend(told.events);
        for judged in judged {
            found.outcomes.push(outcome(judged.row, &judged.repairs, judged.quarantine)?);
        }
        Ok(())
    }

    /// Users whose address an earlier row has, whatever its case, each with that row's id.
    async fn twins(&self) -> Result<HashMap<i64, String>, ImportError> {
        let rows: Vec<(i64, Option<String>)> = sqlx::query_as(
            "select u.pk, u.first from (
                 select pk, first_value(id) over same as first, row_number() over same as place from (
                     select pk, coalesce(row::json ->> 'system_id', 'row ' || pk) as id,
                            lower(btrim(row::json ->> 'email')) as email
                     from legacy_staged where tenant_id = $1 and source_table = 'users' and row is not null
                     union all
                     select r.pk, coalesce(r.row::json ->> 'system_id', 'row ' || r.pk),
                            lower(btrim(r.row::json ->> 'email'))
                     from legacy_rows r
                     where r.tenant_id = $1 and r.source_table = 'users' and not r.vanished
                       and r.heap <> 'quarantined' and not exists (
                           select 1 from legacy_staged s
                           where s.tenant_id = $1 and s.source_table = 'users' and s.pk = r.pk)
                 ) people where email <> ''
                 window same as (partition by email order by pk)
             ) u where u.place > 1",
        )
        .bind(self.staging.tenant())
        .fetch_all(&self.staging.pool)
        .await?;
        Ok(rows.into_iter().map(|(pk, first)| (pk, first.unwrap_or_default())).collect())
    }

    /// Who signs in already with an address that a row of the page has.
    async fn holders(&self, readings: &[Reading]) -> Result<HashMap<String, String>, ImportError> {
        let keys: Vec<String> = readings
            .iter()
            .filter_map(|reading| reading.now.as_ref()?.plain("email"))
            .map(|email| email.to_lowercase())
            .collect();
        let rows: Vec<(String, String)> = sqlx::query_as(
            "select email_key, tenant_id || ':' || user_id from platform.logins where email_key = any($1)",
        )
        .bind(keys)
        .fetch_all(self.platform)
        .await?;
        Ok(rows.into_iter().collect())
    }

    /// The inactive users of the page who still have open leads or projects, by their old ids.
    async fn with_open_work(&self, readings: &[Reading]) -> Result<HashSet<String>, ImportError> {
        let stays = |old: &Old| {
            old.raw("is_active") == Value::Bool(true)
                && old.plain("user_role").as_deref().and_then(OldRole::find) != Some(OldRole::Client)
        };
        let leaving = readings.iter().filter(|reading| !reading.now.as_ref().is_none_or(stays));
        let ids: Vec<&str> = leaving.filter_map(|reading| reading.root.legacy_id.as_deref()).collect();
        if ids.is_empty() {
            return Ok(HashSet::new());
        }
        let busy: Vec<String> = sqlx::query_scalar(
            "with work as (
                 select source_table, row::json as row from legacy_staged
                 where tenant_id = $1 and source_table in ('leads', 'projects') and row is not null
                 union all
                 select r.source_table, r.row::json from legacy_rows r
                 where r.tenant_id = $1 and r.source_table in ('leads', 'projects') and not r.vanished
                   and not exists (select 1 from legacy_staged s
                                   where s.tenant_id = $1 and s.source_table = r.source_table and s.pk = r.pk)
             )
             select distinct coalesce(row ->> 'assigned_to', row ->> 'owner_id') from work
             where coalesce(row ->> 'assigned_to', row ->> 'owner_id') = any($2)
               and lower(regexp_replace(coalesce(row ->> 'stage', row ->> 'status', ''), '[^A-Za-z]', '', 'g'))
                   not in ('closedwon', 'closedlost', 'won', 'win', 'converted', 'lost', 'dead', 'completed', 'complete',
                           'done', 'finished', 'cancelled', 'canceled')",
        )
        .bind(self.staging.tenant())
        .bind(ids)
        .fetch_all(&self.staging.pool)
        .await?;
        Ok(busy.into_iter().collect())
    }

    async fn active_owners(&self) -> Result<HashSet<String>, ImportError> {
        let owners: Vec<String> = sqlx::query_scalar(
            "select id from users where tenant_id = $1 and role = 'BUSINESS_OWNER' and status = 'active'",
        )
        .bind(self.staging.tenant())
        .fetch_all(&self.staging.pool)
        .await?;
        Ok(owners.into_iter().collect())
    }

    /// The rows that are no aggregate's.
    pub(super) async fn apart(&self) -> Result<(), ImportError> {
        self.vault().await?;
        self.businesses().await
    }

    /// Entries of the vault are counted; whose they are is told in the report, and nothing else of them is known.
    async fn vault(&self) -> Result<(), ImportError> {
        let pages = self.pages();
        let mut after = i64::MIN;
        loop {
            let rows = self.staging.staged(Table::PasswordVault, after, PAGE).await?;
            let Some((last, ..)) = rows.last() else { return Ok(()) };
            after = *last;
            let mut outcomes = Vec::with_capacity(rows.len());
            for (pk, row) in rows {
                let Some(row) = row else { continue };
                let mut old = pages.read(Table::PasswordVault, pk, &row)?;
                old.repair("secret_left_behind", "user_system_id", None);
                outcomes.push(outcome((old.table, old.pk), &old.repairs, None)?);
            }
            self.progress.planned(outcomes.len());
            self.staging.add_outcomes(&outcomes).await?;
        }
    }

    /// The business whose history this is gets its details; another one is somebody else's to register.
    async fn businesses(&self) -> Result<(), ImportError> {
        let pages = self.pages();
        let stream = StreamId::of_tenant(self.tenant);
        let mut loaded = self.store.streams().read::<Tenant>(&stream).await?;
        let mut after = i64::MIN;
        loop {
            let rows = self.staging.staged(Table::Tenants, after, PAGE).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = *last;
            let mut found = Found::default();
            for (pk, row) in rows {
                let Some(json) = row else { continue };
                let mut old = pages.read(Table::Tenants, pk, &json)?;
                found.correlations.insert((Table::Tenants, pk), pages.correlation(Table::Tenants, pk, &json));
                let name = old.plain("system_id").unwrap_or_default();
                let quarantine = if name == TenantId::Platform.to_string() {
                    old.repair("platform_already_there", "system_id", None);
                    None
                } else if name == self.tenant.to_string() || THE_BUSINESS.contains(&name.as_str()) {
                    let step = self.business(&mut old, (Table::Tenants, pk));
                    let local_id = self.tenant.to_string();
                    let teller = Teller { tenant: self.tenant, stream_tenant: self.tenant, local_id: &local_id };
                    if loaded.version > 0 {
                        let told =
                            teller.tell(&loaded.state, loaded.version, vec![step], |_: &Tenant, _, _| None::<()>)?;
                        loaded.state = told.state;
                        loaded.version += i64::try_from(told.events.len()).unwrap_or(0);
                        found.plan.extend(told.events);
                    }
                    None
                } else {
                    let sentence =
                        format!("{name} is another business; register it, and its data can be brought in there");
                    Some(Quarantine::new("another_business", sentence))
                };
                found.outcomes.push(outcome((Table::Tenants, pk), &old.repairs, quarantine)?);
            }
            self.progress.planned(found.outcomes.len());
            super::store(self.staging.clone(), Table::Tenants, found).await?;
        }
    }

    fn business(&self, old: &mut Old, row: (Table, i64)) -> Step<TenantCommand> {
        let at: DateTime<Utc> = old.time("updated_at").or_else(|| old.time("created_at")).unwrap_or(self.last_moment);
        let set = |value| Patch::Set(value);
        let patch = TenantPatch {
            business_name: old.text("business_name").map_or(Patch::Unchanged, set),
            business_email: old.email("business_email").map_or(Patch::Unchanged, Patch::Set),
            business_phone: old.phone("business_phone").map_or(Patch::Unchanged, Patch::Set),
            address: old.address().map_or(Patch::Unchanged, Patch::Set),
            country: old.text("country").map_or(Patch::Unchanged, Patch::Set),
        };
        Step { at, order: steps::BEGINS, row, actor: None, command: TenantCommand::ChangeDetails(patch) }
    }
}

/// How many active owners there are beside a user.
fn others(owners: &HashSet<String>, id: &str) -> u32 {
    u32::try_from(owners.len() - usize::from(owners.contains(id))).unwrap_or(u32::MAX)
}

/// Remembers whether a user is an active owner once this run is over.
fn remember(owners: &mut HashSet<String>, id: String, Asked { state, .. }: &Asked<User, ()>) {
    let owner = state.facts.as_ref().is_some_and(|facts| facts.role == Role::BusinessOwner);
    if owner && state.status == UserStatus::Active {
        owners.insert(id);
    } else {
        owners.remove(&id);
    }
}

/// An address signs in one person, whatever its case: whoever came first has it.
fn only_once(
    email: &Email,
    twin: Option<&String>,
    holders: &HashMap<String, String>,
    own_id: &str,
) -> Result<(), Quarantine> {
    let holder = holders.get(&email.key()).filter(|holder| *holder != own_id);
    match twin.or(holder) {
        Some(by) => {
            let sentence = format!("{email} is what {by} signs in with, whatever its case");
            Err(Quarantine::new("email_taken", sentence))
        }
        None => Ok(()),
    }
}

/// The founder's name. Whatever else the row says of them, they are the founder, and active.
fn named_founder(old: &mut Old) -> Option<Text<200>> {
    if old.word::<OldRole>("user_role", "role") != OldRole::Founder {
        old.repair("founder_by_flag", "user_role", Some("PLATFORM_FOUNDER".to_owned()));
    }
    if old.flag("is_active") != Some(true) {
        old.repair("founder_stays_active", "is_active", Some(UserStatus::Active.to_string()));
    }
    old.text("full_name").or_else(|| {
        let name = Text::new("Platform Founder").ok();
        old.repair("name_missing", "full_name", name.as_ref().map(ToString::to_string));
        name
    })
}
