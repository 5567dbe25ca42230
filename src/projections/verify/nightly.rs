//! The verification that happens by itself: once a night, of a sample of each projection, one after the other.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::{Record, Scope, Verification, VerifyError};
use crate::clock::Clock;
use crate::event_store::Cell;
use crate::projections::replay;

/// Entities of each projection that are verified in a night.
pub const SAMPLE: u32 = 200;
/// When a night's verifications begin, in hours after midnight, UTC.
const FIRST_AT: TimeDelta = TimeDelta::hours(2);
/// How long after the one before each begins.
const APART: TimeDelta = TimeDelta::minutes(10);

/// Verifies a sample of each projection whose time it is, unless that has been done for this night, by whichever
/// process. One that was not running then catches up later in the day.
///
/// # Errors
/// [`VerifyError`]; the others are verified when this is asked again.
pub async fn run_if_due(cell: &Cell, clock: &Clock) -> Result<Vec<Record>, VerifyError> {
    let mut done = Vec::new();
    for (projection, due) in replay::all().into_iter().zip(due_times(clock.now())) {
        let Some(night) = due else { continue };
        let scope = Scope { tenant: None, sample: Some(SAMPLE) };
        if was_done(cell, projection.name, night).await? {
            continue;
        }
        match Verification::of(cell, clock, projection, scope, Some(night)).await {
            Ok(verification) => done.push(verification.run(|_, _| {}).await?),
            Err(VerifyError::Taken(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

async fn was_done(cell: &Cell, projection: &str, night: NaiveDate) -> sqlx::Result<bool> {
    sqlx::query_scalar("select exists (select from projection_verifications where projection = $1 and night = $2)")
        .bind(projection)
        .bind(night)
        .fetch_one(&cell.replayer)
        .await
}

/// For one projection after the other, the night whose verification is due by now, if it is.
fn due_times(now: DateTime<Utc>) -> impl Iterator<Item = Option<NaiveDate>> {
    let night = now.date_naive();
    let since_midnight = now.time() - chrono::NaiveTime::MIN;
    (0..).map(move |place| (since_midnight >= FIRST_AT + APART * place).then_some(night))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn projections_are_verified_one_after_the_other_from_two_o_clock_on() {
        let at = |time: &str| {
            let now = format!("2026-03-02T{time}Z").parse().unwrap();
            due_times(now).take(9).flatten().count()
        };
        assert_eq!([at("00:00:00"), at("01:59:59"), at("02:00:00"), at("02:25:00"), at("09:00:00")], [0, 0, 1, 3, 9]);
    }
}
