//! Whom a project is for and who works on it. A link may stand there twice, move to another project, and go again: it
//! is there as long as any row says so.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

use super::{Family, ReadChild, Was};
use crate::aggregates::ids::{CustomerId, UserId};
use crate::aggregates::project::{Project, ProjectCommand};
use crate::aggregates::values::Text;
use crate::legacy::old::{Old, Quarantine};
use crate::legacy::staging::Child;
use crate::legacy::steps;
use crate::legacy::tables::Table;
use crate::legacy::telling::RowId;
use crate::legacy::wishes::Translation;

type CustomerWish = (CustomerId, Option<DateTime<Utc>>);
type MemberWish = (UserId, Text<100>, Option<DateTime<Utc>>);

/// A staged row: what it says now, if it is still this project's, and what it said when it was taken over.
struct Row<W> {
    id: RowId,
    was: Was,
    now: Option<(Old, Result<W, Quarantine>)>,
    before: Option<W>,
    /// It is another project's now.
    left: bool,
}

impl<W> Row<W> {
    /// What it says of the project once this run is over.
    fn stands(&self) -> Option<&W> {
        match &self.now {
            Some((_, Ok(now))) => Some(now),
            // It waits in quarantine, and what it said stays.
            Some((_, Err(_))) => self.before.as_ref(),
            None => None,
        }
    }
}

fn row<W>(
    ReadChild { child, mut now, before }: ReadChild,
    was: Was,
    t: &Translation<'_>,
    wish: impl Fn(&mut Old) -> Result<W, Quarantine>,
) -> Row<W> {
    let Child { table, pk, came, left, .. } = child;
    // What it said before, it said of the project that it came from.
    let before = before.filter(|_| !came).and_then(|mut before| wish(&mut before).ok());
    if left {
        let arrives = now.take().is_some_and(|mut now| arrives(&mut now, t) && wish(&mut now).is_ok());
        // Where it goes, it has to come in: until then it stays.
        let before = before.filter(|_| arrives);
        return Row { id: (table, pk), was, now: None, before, left };
    }
    let now = now.map(|mut now| {
        let wished = wish(&mut now);
        (now, wished)
    });
    Row { id: (table, pk), was, now, before, left }
}

/// Whether the project that a row names now is there.
fn arrives(now: &mut Old, t: &Translation<'_>) -> bool {
    let id = now.old_id("project_id");
    id.and_then(|id| t.names.get(&(Table::Projects, id))).is_some_and(|project| !project.quarantined)
}

/// Tells what the links of a project say. Nothing that happened to it came before `begun`.
pub(super) fn told(
    children: Vec<ReadChild>,
    unchanged: Vec<Old>,
    project: &Project,
    begun: DateTime<Utc>,
    t: &Translation<'_>,
    family: &mut Family<ProjectCommand>,
) {
    let (mut customers, mut members) = (Vec::new(), Vec::new());
    for child in children {
        let was = child.was();
        if child.child.table == Table::ProjectCustomers {
            customers.push(row(child, was, t, |old| t.link_wish(old)));
        } else {
            members.push(row(child, was, t, |old| t.member_wish(old)));
        }
    }
    let (mut linked, mut assigned) = (Vec::new(), Vec::new());
    for mut old in unchanged {
        if old.table == Table::ProjectCustomers {
            linked.extend(t.link_wish(&mut old));
        } else {
            assigned.extend(t.member_wish(&mut old).map(|wish| (old.pk, wish)));
        }
    }
    let links = Links { project, begun, t };
    links.customers(customers, linked, family);
    links.members(members, assigned, family);
}

struct Links<'a> {
    project: &'a Project,
    begun: DateTime<Utc>,
    t: &'a Translation<'a>,
}

impl Links<'_> {
    /// Since when a row says it that does not say since when: since the project began, or if that is long known, since
    /// the last moment.
    fn since(&self, at: Option<DateTime<Utc>>, was: Was) -> DateTime<Utc> {
        let long_known = was != Was::New || self.begun == DateTime::<Utc>::MIN_UTC;
        at.unwrap_or(if long_known { self.t.last_moment } else { self.begun }).max(self.begun)
    }

    /// The first link is the primary one: links of the same moment stay in the order of their keys.
    fn customers(
        &self,
        rows: Vec<Row<CustomerWish>>,
        unchanged: Vec<CustomerWish>,
        family: &mut Family<ProjectCommand>,
    ) {
        let standing: HashSet<CustomerId> =
            rows.iter().filter_map(Row::stands).chain(&unchanged).map(|(customer, _)| *customer).collect();
        let (mut linked, mut unlinked) = (HashSet::new(), HashSet::new());
        let mut unlink = |customer: CustomerId| {
            let there = !self.project.deleted && self.project.customers.contains(&customer);
            let ends = there && !standing.contains(&customer) && unlinked.insert(customer);
            ends.then_some(ProjectCommand::UnlinkCustomer { customer })
        };
        for Row { id, was, now, before, left } in rows {
            let Some((mut old, wished)) = now else {
                self.ends(id, left, before.and_then(|(customer, _)| unlink(customer)), family);
                continue;
            };
            match wished {
                Ok((customer, at)) => {
                    if !linked.insert(customer) {
                        old.repair("linked_twice", "customer_id", None);
                    }
                    let before = before.filter(|(was, _)| *was != customer).and_then(|(was, _)| unlink(was));
                    let mut told: Vec<_> =
                        before.into_iter().map(|command| steps::part(id, self.t.last_moment, command)).collect();
                    told.push(steps::part(id, self.since(at, was), ProjectCommand::LinkCustomer { customer }));
                    family.fine(old, was, told);
                }
                Err(quarantine) => family.aside(old, was, quarantine),
            }
        }
    }

    fn members(
        &self,
        rows: Vec<Row<MemberWish>>,
        unchanged: Vec<(i64, MemberWish)>,
        family: &mut Family<ProjectCommand>,
    ) {
        // Of several rows, the last one says what somebody does.
        let mut standing: Vec<(DateTime<Utc>, i64, UserId, Text<100>)> = Vec::new();
        let staged = rows.iter().filter_map(|row| Some((row.id.1, row.stands()?.clone())));
        for (pk, (user, role, at)) in staged.chain(unchanged) {
            standing.push((at.unwrap_or(DateTime::<Utc>::MIN_UTC), pk, user, role));
        }
        standing.sort_by_key(|(at, pk, ..)| (*at, *pk));
        let standing: HashMap<UserId, Text<100>> =
            standing.into_iter().map(|(_, _, user, role)| (user, role)).collect();
        let (mut assigned, mut removed) = (HashSet::new(), HashSet::new());
        let mut remove = |user: UserId, said: &Text<100>| {
            let does = self.project.members.get(&user).filter(|_| !self.project.deleted)?;
            match standing.get(&user) {
                // Another row says that they are here, and what that row says they do, they do now.
                Some(role) if does == said && role != said => {
                    Some(ProjectCommand::AssignMember { user, role: role.clone() })
                }
                Some(_) => None,
                None => removed.insert(user).then_some(ProjectCommand::RemoveMember { user }),
            }
        };
        for Row { id, was, now, before, left } in rows {
            let Some((mut old, wished)) = now else {
                self.ends(id, left, before.and_then(|(user, role, _)| remove(user, &role)), family);
                continue;
            };
            match wished {
                Ok((user, role, at)) => {
                    if !assigned.insert(user) {
                        old.repair("assigned_twice", "user_id", Some(role.to_string()));
                    }
                    let before = before.filter(|(was, ..)| *was != user).and_then(|(was, said, _)| remove(was, &said));
                    let mut told: Vec<_> =
                        before.into_iter().map(|command| steps::part(id, self.t.last_moment, command)).collect();
                    told.push(steps::part(id, self.since(at, was), ProjectCommand::AssignMember { user, role }));
                    family.fine(old, was, told);
                }
                Err(quarantine) => family.aside(old, was, quarantine),
            }
        }
    }

    /// A row is gone, or another project's now, which says the rest of it.
    fn ends(&self, id: RowId, left: bool, command: Option<ProjectCommand>, family: &mut Family<ProjectCommand>) {
        if left {
            family.steps.extend(command.map(|command| steps::part(id, self.t.last_moment, command)));
        } else {
            family.gone(id, self.t.last_moment, command);
        }
    }
}
