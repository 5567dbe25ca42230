//! Leads, and the contact with them.

use super::contact::{self, Step};
use super::{Existence, Facet, Goal, Past, Record, Taking, among, shown, to_then};
use crate::aggregates::lead::{Lead, LeadCommand, LeadEvent, LeadPatch};
use crate::aggregates::permission::Permission;
use crate::aggregates::values::{LeadStage, Personal};
use crate::api::caller::Caller;
use crate::api::leads::{self, Leads};
use crate::api::record::{Noun, find_any};
use crate::api::{App, Problem, users};

const WRITE: Permission = <Leads as Noun>::WRITE;

/// What a patch changes.
const DETAILS: &[&str] = &[
    "name",
    "company",
    "job_title",
    "email",
    "phone",
    "address",
    "source",
    "estimated_value",
    "probability",
    "expected_close_date",
];
const STAGE: &[&str] = &["stage", "lost_reason"];
const SCORE: &[&str] = &["score", "score_inputs"];

impl Past for Lead {
    const NOUN: &'static str = "lead";

    fn touched(event: &LeadEvent) -> Vec<Record> {
        match event {
            LeadEvent::InteractionLogged { id, .. }
            | LeadEvent::InteractionScheduled { id, .. }
            | LeadEvent::InteractionCompleted { id, .. }
            | LeadEvent::InteractionCancelled { id }
            | LeadEvent::InteractionReopened { id, .. } => vec![Record::Interaction(*id)],
            LeadEvent::Captured { .. }
            | LeadEvent::DetailsChanged { .. }
            | LeadEvent::Assigned { .. }
            | LeadEvent::Qualified { .. }
            | LeadEvent::StageChanged { .. }
            | LeadEvent::Scored { .. }
            | LeadEvent::ScoreCleared {}
            | LeadEvent::Converted { .. }
            | LeadEvent::Lost { .. }
            | LeadEvent::Reopened { .. }
            | LeadEvent::Deleted {}
            | LeadEvent::Restored {} => vec![Record::Itself],
        }
    }

    fn facet(&self, record: Record) -> Option<Facet> {
        match record {
            Record::Itself => {}
            Record::Interaction(id) => return self.interactions.get(id).map(contact::facet),
            Record::Note(_) => return None,
        }
        let facts = self.facts.as_ref()?;
        // What follows the stage by itself is no one's doing.
        let by_hand = self.probability_set_by_hand.then_some(self.open_probability);
        let fields = [
            ("name", shown(&*facts.name)),
            ("company", shown(&facts.company)),
            ("job_title", shown(facts.job_title.as_deref())),
            ("email", shown(facts.email.as_deref())),
            ("phone", shown(facts.phone.as_deref())),
            ("address", shown(facts.address.as_deref())),
            ("source", shown(facts.source)),
            ("estimated_value", shown(&facts.estimated_value)),
            ("probability", shown(by_hand)),
            ("expected_close_date", shown(facts.expected_close_date)),
            ("qualification", shown(self.qualification)),
            ("stage", shown(self.stage)),
            ("lost_reason", shown(&self.loss_reason)),
            ("score", shown(self.score)),
            ("score_inputs", shown(self.score_inputs)),
            ("assignee_id", shown(self.assignee)),
        ];
        let fixed = [("customer_id", shown(self.customer))];
        Some(Facet { fields: fields.into(), fixed: fixed.into(), deleted: self.deleted })
    }

    fn is_gone(&self, record: Record) -> bool {
        match record {
            Record::Interaction(id) => self.interactions.get(id).is_none_or(contact::is_gone),
            Record::Itself | Record::Note(_) => self.facet(record).is_none_or(|facet| facet.deleted),
        }
    }

    fn stays(&self, _: &str) -> Problem {
        Problem::conflict("already_converted", "a lead is converted once: it stays the customer's")
    }

    async fn allow(&self, app: &App, caller: &Caller, id: &str, _: Record) -> Result<(), Problem> {
        find_any::<Leads>(app, caller, id).await?.require(caller, WRITE)
    }

    async fn bring_back(taking: &mut Taking<'_>, goal: &Goal<'_, Self>) -> Result<(), Problem> {
        if let Record::Interaction(id) = goal.record {
            let find = |lead: &Lead| lead.interactions.get(id).cloned();
            for step in contact::steps(find(goal.now), find(goal.then), goal.existence) {
                let (fields, command) = match step {
                    Step::Reopen { outcome, hours } => {
                        (contact::FIELDS, LeadCommand::ReopenInteraction { id, outcome, hours })
                    }
                    Step::Complete { outcome, hours, at } => {
                        (contact::FIELDS, LeadCommand::CompleteInteraction { id, outcome, hours, at })
                    }
                    Step::Cancel => (contact::FIELDS, LeadCommand::CancelInteraction { id }),
                };
                let staged = match goal.existence {
                    Existence::Gone => taking.send_whole::<Self>(command).await?,
                    Existence::Kept | Existence::Back => taking.send::<Self>(fields, command).await?,
                };
                if !staged {
                    break;
                }
            }
            return Ok(());
        }
        if goal.existence == Existence::Back && !taking.send_whole::<Self>(LeadCommand::Restore {}).await? {
            return Ok(());
        }
        let stage = among(&goal.fields, STAGE);
        let stage: Vec<&'static str> = stage.into_iter().collect();
        let moved = stage.is_empty() || open(taking, goal, &stage).await?;
        let details = among(&goal.fields, DETAILS);
        taking.patch::<Self>(&details, |fields| patch(fields, goal.then)).await?;
        if goal.fields.contains("qualification") {
            let command = LeadCommand::Qualify { qualification: goal.then.qualification };
            taking.send::<Self>(&["qualification"], command).await?;
        }
        score(taking, goal).await?;
        if goal.fields.contains("assignee_id") {
            let (caller, assignee) = (taking.caller, goal.then.assignee);
            let relied = users::rely_on(caller, taking.work, assignee, WRITE, "/assignee_id").await;
            if taking.allowed(&["assignee_id"], relied)? {
                taking.send::<Self>(&["assignee_id"], LeadCommand::Assign { assignee }).await?;
            }
        }
        if let (false, true, LeadStage::ClosedLost, Some(reason)) =
            (stage.is_empty(), moved, goal.then.stage, goal.then.loss_reason.clone())
        {
            taking.send::<Self>(&stage, LeadCommand::Lose { reason }).await?;
        }
        if goal.existence == Existence::Gone {
            taking.send_whole::<Self>(LeadCommand::Delete {}).await?;
        } else if goal.existence == Existence::Back || (!goal.now.deleted && !stage.is_empty()) {
            // It is there, so that this changes nothing and shows what was staged.
            let stream = taking.work.stream::<Self>(taking.id);
            let after = taking.work.execute::<Self>(stream, LeadCommand::Restore {}).await?;
            let id = taking.id.parse().map_err(|_| Problem::not_found())?;
            leads::leave_to_nobody(taking.work, id, &after.state).await?;
        }
        Ok(())
    }
}

/// Moves a lead to the open stage that it stood at, or stood at before it was closed. Whether it could be.
async fn open(taking: &mut Taking<'_>, goal: &Goal<'_, Lead>, fields: &[&'static str]) -> Result<bool, Problem> {
    if goal.now.stage == LeadStage::ClosedLost && !taking.send::<Lead>(fields, LeadCommand::Reopen {}).await? {
        return Ok(false);
    }
    let stage = if goal.then.stage.is_open() { goal.then.stage } else { goal.then.open_stage };
    taking.send::<Lead>(fields, LeadCommand::ChangeStage { stage }).await
}

async fn score(taking: &mut Taking<'_>, goal: &Goal<'_, Lead>) -> Result<(), Problem> {
    if among(&goal.fields, SCORE).is_empty() {
        return Ok(());
    }
    match (goal.then.score_inputs, goal.then.score) {
        (Some(inputs), _) => taking.send::<Lead>(SCORE, LeadCommand::Score { inputs }).await?,
        (None, Some(score)) => {
            taking.send::<Lead>(SCORE, LeadCommand::ClearScore {}).await?;
            taking.send::<Lead>(SCORE, LeadCommand::TakeScore { score }).await?
        }
        (None, None) => taking.send::<Lead>(SCORE, LeadCommand::ClearScore {}).await?,
    };
    Ok(())
}

fn patch(fields: &super::Fields, then: &Lead) -> LeadCommand {
    let Some(facts) = then.facts.clone() else { return LeadCommand::ChangeDetails(LeadPatch::default()) };
    let by_hand = then.probability_set_by_hand.then_some(then.open_probability);
    LeadCommand::ChangeDetails(LeadPatch {
        name: to_then(fields, "name", Some(facts.name.into_inner())),
        company: to_then(fields, "company", facts.company),
        job_title: to_then(fields, "job_title", facts.job_title.map(Personal::into_inner)),
        email: to_then(fields, "email", facts.email.map(Personal::into_inner)),
        phone: to_then(fields, "phone", facts.phone.map(Personal::into_inner)),
        address: to_then(fields, "address", facts.address.map(Personal::into_inner)),
        source: to_then(fields, "source", Some(facts.source)),
        estimated_value: to_then(fields, "estimated_value", facts.estimated_value),
        probability: to_then(fields, "probability", by_hand),
        expected_close_date: to_then(fields, "expected_close_date", facts.expected_close_date),
    })
}
