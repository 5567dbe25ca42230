//! Taking back what one command or batch did: `POST /api/commands/{correlation_id}/undo`.
//!
//! ```text
//! correlation id ─► the records it touched ─► what of it still stands ─► goes back, as far as the rules allow
//! ```
//!
//! What was changed since is left alone and named, as is what the rules, or the caller's permissions, forbid. All
//! that goes back is one unit of work with a correlation id of its own, so an undo can be undone.

mod effects;
mod told;

use std::collections::HashMap;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use cqrs_es::Aggregate;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::caller::Caller;
use super::headers::POSITION;
use super::problem::ProblemKind;
use super::take_back::{Existence, Goal, Kept, Past, Record, Taking, is_refusal};
use super::write::{Attempts, Receipt};
use super::{App, Json, Problem};
use crate::aggregates::customer::Customer;
use crate::aggregates::invoice::Invoice;
use crate::aggregates::lead::Lead;
use crate::aggregates::project::Project;
use crate::aggregates::user::User;
use crate::event_store::{History, Work};
use effects::{Back, Changed, Effect, effects};
use told::{FieldBack, NotUndone, Outcome, Undoing, Undone};

/// Events of one command that are taken back at once; the largest batch has some thousands.
const MOST_EVENTS: i64 = 5_000;

/// The routes.
pub fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(undo))
}

/// How.
#[derive(Debug, Default, Clone, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"dry_run": true}))]
struct Undo {
    /// Only say what would be undone, and what not.
    dry_run: bool,
}

/// Take back what one command or batch did, as far as the rules still allow it.
///
/// `DevHub-Correlation-Id` of every write names what it did. Fields go back to what they were unless somebody has
/// changed them since; what was made is deleted (an invoice voided, a user deactivated, planned contact called off),
/// what was deleted is restored. All that goes back does so at once, or not at all if that fails; what does not is
/// named with the reason. The undo has a correlation id of its own: an undo can be undone.
#[utoipa::path(post, path = "/api/commands/{correlation_id}/undo",
    params(("correlation_id" = Uuid, Path, description = "`DevHub-Correlation-Id` of the write")),
    request_body = Option<Undo>, responses((status = 200, body = Undoing)))]
async fn undo(
    caller: Caller,
    State(app): State<App>,
    Path(correlation_id): Path<String>,
    body: Option<Json<Undo>>,
) -> Result<Response, Problem> {
    let Json(Undo { dry_run }) = body.unwrap_or(Json(Undo::default()));
    let correlation_id: Uuid = correlation_id.parse().map_err(|_| Problem::not_found())?;
    let mut attempts = Attempts::default();
    loop {
        app.readable(caller.tenant(), app.head()).await?;
        let touched = Touched::of(&app, &caller, correlation_id).await?;
        let mut taking = TakingBack::new(&app, &caller, correlation_id);
        taking.all(&touched).await?;
        taking.refuse_if_all_is()?;
        let TakingBack { work, undone, not_undone, users, .. } = taking;
        let receipt = if dry_run { Some(Receipt::default()) } else { app.commit(&caller, work, &mut attempts).await? };
        let Some(receipt) = receipt else { continue };
        if receipt.changed() {
            for user in users {
                User::settle(&app, &caller, &user).await?;
            }
        }
        let mut headers = HeaderMap::new();
        if let Some(position) = receipt.position() {
            headers.insert(POSITION, position);
        }
        let correlation_id = receipt.changed().then(|| caller.correlation_id());
        return Ok((headers, Json(Undoing { correlation_id, dry_run, undone, not_undone })).into_response());
    }
}

/// An aggregate that the command touched.
#[derive(sqlx::FromRow)]
struct Touched {
    aggregate_type: String,
    subject: String,
    events: i64,
}

impl Touched {
    /// All of them, what was touched last first.
    async fn of(app: &App, caller: &Caller, correlation_id: Uuid) -> Result<Vec<Self>, Problem> {
        let touched: Vec<Self> = sqlx::query_as(
            "with scope as materialized (select set_config('devhub.tenant_id', $1, true) as tenant_id)
             select a.aggregate_type, a.subject, count(*) as events
             from scope cross join lateral (
                 select aggregate_type, subject, position from activity
                 where tenant_id = scope.tenant_id and correlation_id = $2 limit $3
             ) a
             group by a.aggregate_type, a.subject order by max(a.position) desc",
        )
        .bind(caller.tenant().to_string())
        .bind(correlation_id.to_string())
        .bind(MOST_EVENTS + 1)
        .fetch_all(app.reader(caller))
        .await?;
        if touched.iter().map(|touched| touched.events).sum::<i64>() > MOST_EVENTS {
            let sentence = format!("A command of more than {MOST_EVENTS} events is not undone as a whole.");
            return Err(Problem::conflict("too_large", sentence));
        }
        if touched.is_empty() { Err(Problem::not_found()) } else { Ok(touched) }
    }
}

/// The streams of one type, by their ids.
type Streams<A> = HashMap<String, History<A>>;

/// An undo on its way.
struct TakingBack<'a> {
    app: &'a App,
    caller: &'a Caller,
    correlation_id: String,
    work: Work,
    undone: Vec<Undone>,
    not_undone: Vec<NotUndone>,
    /// The users who are not who they were.
    users: Vec<String>,
    /// What the caller's permissions forbid.
    denied: Option<Problem>,
    /// Whether anything is there that the caller may know of, and is not forbidden.
    any_other: bool,
}

impl<'a> TakingBack<'a> {
    fn new(app: &'a App, caller: &'a Caller, correlation_id: Uuid) -> Self {
        Self {
            app,
            caller,
            correlation_id: correlation_id.to_string(),
            work: app.begin_because(caller, correlation_id),
            undone: Vec::new(),
            not_undone: Vec::new(),
            users: Vec::new(),
            denied: None,
            any_other: false,
        }
    }

    async fn all(&mut self, touched: &[Touched]) -> Result<(), Problem> {
        let leads = self.streams::<Lead>(touched).await?;
        let customers = self.streams::<Customer>(touched).await?;
        let projects = self.streams::<Project>(touched).await?;
        let invoices = self.streams::<Invoice>(touched).await?;
        let users = self.streams::<User>(touched).await?;
        for Touched { aggregate_type, subject, .. } in touched {
            match aggregate_type.as_str() {
                Lead::TYPE => self.aggregate(&leads, subject).await?,
                Customer::TYPE => self.aggregate(&customers, subject).await?,
                Project::TYPE => self.aggregate(&projects, subject).await?,
                Invoice::TYPE => self.aggregate(&invoices, subject).await?,
                User::TYPE => {
                    let before = self.undone.len();
                    self.aggregate(&users, subject).await?;
                    if self.undone.len() > before {
                        self.users.push(subject.clone());
                    }
                }
                _ => self.not_undone.push(NotUndone {
                    noun: "tenant",
                    code: "not_undoable".to_owned(),
                    detail: "the settings of a business are changed back by hand".to_owned(),
                    ..NotUndone::default()
                }),
            }
        }
        Ok(())
    }

    async fn streams<A: Past>(&self, touched: &[Touched]) -> Result<Streams<A>, Problem> {
        let of_type = touched.iter().filter(|touched| touched.aggregate_type == A::TYPE);
        let ids: Vec<String> = of_type.map(|touched| touched.subject.clone()).collect();
        Ok(self.app.store.streams().histories(self.caller.tenant(), &ids).await?)
    }

    /// Nothing that the caller may know of is not found, and nothing that they may do is forbidden.
    fn refuse_if_all_is(&self) -> Result<(), Problem> {
        match &self.denied {
            _ if self.any_other => Ok(()),
            Some(denied) => Err(denied.clone()),
            None if self.not_undone.iter().all(|not| not.code == NOT_FOUND) && !self.not_undone.is_empty() => {
                Err(Problem::not_found())
            }
            None => Ok(()),
        }
    }

    async fn aggregate<A: Past>(&mut self, streams: &Streams<A>, id: &str) -> Result<(), Problem> {
        let Some(history) = streams.get(id) else { return Ok(()) };
        let now = history.now();
        let effects = effects(history, &self.correlation_id);
        self.work.decide_on(self.work.stream::<A>(id), now.clone());
        if !effects.counters.is_empty() && self.may::<A>(&now.state, id, Record::Itself).await? {
            let mut taking = Taking::new(self.app, self.caller, &mut self.work, id);
            for counter in effects.counters {
                taking.send_whole::<A>(counter).await?;
            }
            let kept = taking.kept;
            if kept.is_empty() {
                self.undone(A::NOUN, id, Outcome::MadeUpFor, Vec::new());
            }
            self.kept(A::NOUN, id, kept);
        }
        if !effects.traceless.is_empty() && self.may::<A>(&now.state, id, Record::Itself).await? {
            for event_type in effects.traceless {
                self.not_undone.push(NotUndone {
                    noun: A::NOUN,
                    id: Some(id.to_owned()),
                    event_type: Some(event_type),
                    code: "not_undoable".to_owned(),
                    detail: "this left nothing that could be as it was".to_owned(),
                    ..NotUndone::default()
                });
            }
        }
        for effect in effects.records {
            self.record::<A>(&now.state, id, effect).await?;
        }
        Ok(())
    }

    async fn record<A: Past>(&mut self, now: &A, id: &str, effect: Effect<A>) -> Result<(), Problem> {
        let Effect { record, existence, goals, changed, fixed } = effect;
        let nothing = goals.is_empty() && changed.is_empty() && fixed.is_empty() && existence == Existence::Kept;
        if !self.may::<A>(now, id, record).await? || nothing {
            return Ok(());
        }
        let (noun, shown) = named::<A>(id, record);
        for changed in changed {
            self.changed_since(noun, &shown, changed);
        }
        let stays = fixed.into_iter().map(|field| Kept { field: Some(field), problem: now.stays(field) }).collect();
        self.kept(noun, &shown, stays);
        let whole = (existence != Existence::Kept && goals.is_empty()).then(|| (now.clone(), Vec::new()));
        for (then, back) in goals.into_iter().chain(whole) {
            let fields = back.iter().map(|back| back.field).collect();
            let mut taking = Taking::new(self.app, self.caller, &mut self.work, id);
            A::bring_back(&mut taking, &Goal { record, now, then: &then, fields, existence }).await?;
            let kept = taking.kept;
            let there = kept.iter().all(|kept| kept.field.is_some());
            let back = back.into_iter().filter(|back| there && !kept.iter().any(|kept| kept.field == Some(back.field)));
            let back: Vec<Back> = back.collect();
            if there && (existence != Existence::Kept || !back.is_empty()) {
                self.undone(noun, &shown, Outcome::of(existence, noun), back);
            }
            self.kept(noun, &shown, kept);
        }
        Ok(())
    }

    /// Whether the caller may change a record; if not, that is noted.
    async fn may<A: Past>(&mut self, now: &A, id: &str, record: Record) -> Result<bool, Problem> {
        let problem = match now.allow(self.app, self.caller, id, record).await {
            Ok(()) => {
                self.any_other = true;
                return Ok(true);
            }
            Err(problem) if is_refusal(&problem) => problem,
            Err(problem) => return Err(problem),
        };
        let (noun, shown) = named::<A>(id, record);
        if problem.kind() == ProblemKind::PermissionDenied {
            self.kept(noun, &shown, vec![Kept { field: None, problem: problem.clone() }]);
            self.denied = Some(problem);
        } else {
            // Not even its id is told.
            let why = Kept { field: None, problem }.why();
            let (code, detail) = (why.code, why.detail);
            self.not_undone.push(NotUndone { noun, code, detail, ..NotUndone::default() });
        }
        Ok(false)
    }

    fn undone(&mut self, noun: &'static str, id: &str, effect: Outcome, back: Vec<Back>) {
        let fields = back.into_iter().map(|Back { field, from, to }| FieldBack { field, from, to }).collect();
        self.undone.push(Undone { noun, id: id.to_owned(), effect, fields });
    }

    fn kept(&mut self, noun: &'static str, id: &str, mut kept: Vec<Kept>) {
        kept.dedup_by_key(|kept| kept.field);
        for kept in kept {
            let why = kept.why();
            self.not_undone.push(NotUndone {
                noun,
                id: Some(id.to_owned()),
                field: kept.field,
                code: why.code,
                detail: why.detail,
                ..NotUndone::default()
            });
        }
    }

    fn changed_since(&mut self, noun: &'static str, id: &str, Changed { field, current, since }: Changed) {
        let own = since.by.strip_prefix(&format!("{}:", self.caller.tenant())).map(str::to_owned);
        let by = own.unwrap_or(since.by);
        self.not_undone.push(NotUndone {
            noun,
            id: Some(id.to_owned()),
            field,
            code: "changed_since".to_owned(),
            detail: format!("{by} has changed this since"),
            current,
            changed_by: Some(by),
            changed_at: Some(since.at),
            ..NotUndone::default()
        });
    }
}

/// The code of what the caller may not know of.
const NOT_FOUND: &str = "not_found";

/// What a record is called, and its id.
fn named<A: Past>(id: &str, record: Record) -> (&'static str, String) {
    match record {
        Record::Itself => (A::NOUN, id.to_owned()),
        Record::Interaction(id) => ("interaction", id.to_string()),
        Record::Note(id) => ("note", id.to_string()),
    }
}
