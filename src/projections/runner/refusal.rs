//! What is done about a batch that the database refuses, and about a projection that cannot go on.

use tokio::time::Instant;

use super::{Prepared, Projector, Round, RoundError, Step};
use crate::event_store::reader::{entries_between, entries_of};
use crate::event_store::{in_time, is_refusal};
use crate::projections::model::Poison;
use crate::projections::standing::{Line, Member, stop};

impl Projector {
    /// The database did not take a batch: half of it next time, until one event is left, which is then refused by
    /// whichever projection's row it makes impossible.
    pub(super) async fn refused(&mut self, step: Step, error: &sqlx::Error) -> Result<Round, RoundError> {
        if step.events > 1 {
            self.careful = i64::try_from(step.events / 2).ok();
            return Ok(Round::More);
        }
        tracing::warn!(%error, "the database refuses what an event makes of a row: {error}");
        self.careful = None;
        for member in &step.members {
            in_time(self.patience, self.alone(member, &step.line)).await?;
        }
        Ok(Round::More)
    }

    /// One projection takes one event, and if the database refuses what becomes of it, the projection refuses it.
    pub(super) async fn alone(&mut self, member: &Member, line: &Line) -> Result<(), RoundError> {
        let mut poison: Option<Poison> = None;
        loop {
            let mut connection = self.own_connection().await?;
            let entries = match line {
                Line::Main { from, to, but_for } => entries_between(&mut *connection, (*from, *to), but_for, 1).await?,
                Line::Lane { tenant, from, .. } => {
                    entries_of(&mut *connection, *tenant, from.tenant_position, 1).await?
                }
            };
            let members = vec![member.clone()];
            let prepared = self.fold(&mut connection, members, line.clone(), entries, false, poison.as_ref()).await?;
            self.connections.push(connection);
            let Prepared::Batch(batch) = prepared else { return Ok(()) };
            let (statements, step) = *batch;
            let writing = self.begin_to_write(statements).await?;
            match self.written(writing.await) {
                Ok(true) => {
                    self.made(&step);
                    return if step.parks { Ok(self.look_at_parked().await?) } else { Ok(()) };
                }
                Ok(false) => {
                    self.forget();
                    return Ok(());
                }
                Err(error) if is_refusal(&error) && poison.is_none() => {
                    self.forget_rows();
                    poison = Some(Poison::new(&format!("the database refuses it: {error}")));
                }
                Err(error) if is_refusal(&error) => {
                    let reason = format!("the database refuses it: {error}");
                    return Err(RoundError::Stopped { member: member.clone(), reason });
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A projection cannot go on: it says so, and the others go on without it.
    pub(super) async fn stopped(&mut self, member: &Member, reason: &str) -> sqlx::Result<()> {
        self.forget_rows();
        self.tried.insert(member.name.clone(), Instant::now());
        let news = !self.standings.iter().any(|at| at.name == member.name && at.stopped.as_deref() == Some(reason));
        let mut connection = self.own_connection().await?;
        let stopped = stop(&mut connection, member, reason, self.clock.now()).await?;
        self.connections.push(connection);
        if stopped && news {
            let projection = &member.name;
            tracing::error!(projection, reason, "the read model {projection} has stopped: {reason}");
        }
        Ok(())
    }
}

/// What a panic outside a fold said.
pub(super) fn panicked(panic: &(dyn std::any::Any + Send)) -> String {
    format!("the program failed on a batch: {}", crate::projections::versioned::told_of(panic))
}
