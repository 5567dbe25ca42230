//! Questions of many that the database is asked at once: whoever comes while it is busy is asked for together with
//! all who wait for the same kind of thing.
//!
//! ```text
//! ask ─► a desk is free ───► asked at once, alone
//!   └──► all are taken ────► waits with its group ─► the next free desk asks for the whole group
//! ```
//!
//! Nobody waits for company, only for a desk. An answer is as fresh as if everybody had asked alone: a question is
//! taken along by a statement that begins after it was asked, never by one that is under way.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::event_store::is_lost;

/// How long a desk may take; longer than the longest statement that the database allows.
const PATIENCE: Duration = Duration::from_secs(35);

/// What can be asked for many at once.
pub trait Question: Send + Sync + 'static {
    /// What can be asked in one statement; the groups take turns.
    type Group: Clone + Eq + Hash + Send + Sync + 'static;
    /// What is asked about. Whoever asks about the same gets the same answer.
    type Key: Eq + Hash + Send + Sync + 'static;
    /// What comes of it.
    type Answer: Clone + Send + 'static;
    /// What it is asked over: a connection. It is kept, and thrown away after an error.
    type Desk: Send + 'static;

    /// Opens a desk.
    fn open(&self) -> impl Future<Output = sqlx::Result<Self::Desk>> + Send;

    /// Asks about all of `keys`; as many answers, in the same order.
    fn ask(
        &self,
        desk: &mut Self::Desk,
        group: &Self::Group,
        keys: &[Self::Key],
    ) -> impl Future<Output = sqlx::Result<Vec<Self::Answer>>> + Send;
}

/// Why there is no answer; everybody who was asked for in the same statement hears the same.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unanswered {
    /// The database's error.
    #[error("{0}")]
    Failed(#[from] Arc<sqlx::Error>),
    /// It took too long.
    #[error("the database did not answer in time")]
    TooSlow,
    /// Whoever asked the database is gone.
    #[error("the question was dropped")]
    Dropped,
}

/// Where one asks. Cheap to clone; all clones share the desks.
pub struct Gather<Q: Question>(Arc<Desks<Q>>);

impl<Q: Question> Clone for Gather<Q> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Desks<Q: Question> {
    question: Q,
    count: usize,
    state: Mutex<State<Q>>,
}

struct State<Q: Question> {
    waiting: HashMap<Q::Group, Vec<Waiter<Q>>>,
    /// The groups that wait, the first that came first.
    turns: VecDeque<Q::Group>,
    taken: usize,
    idle: Vec<Q::Desk>,
}

struct Waiter<Q: Question> {
    key: Q::Key,
    answer: oneshot::Sender<Result<Q::Answer, Unanswered>>,
}

impl<Q: Question> Gather<Q> {
    /// So many desks, each opened when it is needed first.
    #[must_use]
    pub fn new(question: Q, desks: usize) -> Self {
        let state = State { waiting: HashMap::new(), turns: VecDeque::new(), taken: 0, idle: Vec::new() };
        Self(Arc::new(Desks { question, count: desks, state: Mutex::new(state) }))
    }

    /// Asks, in a statement that begins after this was called. Whoever stops waiting takes nothing from the others.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn ask(&self, group: Q::Group, key: Q::Key) -> Result<Q::Answer, Unanswered> {
        let (answer, answered) = oneshot::channel();
        if self.0.enter(group, Waiter { key, answer }) {
            tokio::spawn(serve(Arc::clone(&self.0)));
        }
        answered.await.unwrap_or(Err(Unanswered::Dropped))
    }
}

impl<Q: Question> Desks<Q> {
    fn state(&self) -> MutexGuard<'_, State<Q>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins those who wait; true if a desk is free, which is then taken.
    fn enter(&self, group: Q::Group, waiter: Waiter<Q>) -> bool {
        let mut state = self.state();
        match state.waiting.get_mut(&group) {
            Some(waiting) => waiting.push(waiter),
            None => {
                state.turns.push_back(group.clone());
                state.waiting.insert(group, vec![waiter]);
            }
        }
        let free = state.taken < self.count;
        state.taken += usize::from(free);
        free
    }

    /// The group whose turn it is; none: the desk is free again, in the same moment in which nobody waited.
    fn next(&self, seat: &mut Seat<Q>) -> Option<(Q::Group, Vec<Waiter<Q>>)> {
        let mut state = self.state();
        let turn = state.turns.pop_front();
        let batch = turn.and_then(|group| state.waiting.remove_entry(&group));
        if batch.is_none() {
            state.idle.extend(seat.desk.take());
            state.taken -= 1;
            seat.left = true;
        }
        batch
    }
}

/// A desk that is taken: it becomes free again even if what sat at it panics.
struct Seat<Q: Question> {
    desks: Arc<Desks<Q>>,
    desk: Option<Q::Desk>,
    left: bool,
}

impl<Q: Question> Drop for Seat<Q> {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        let mut state = self.desks.state();
        if state.turns.is_empty() {
            state.taken -= 1;
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Those who wait have been promised this desk.
            runtime.spawn(serve(Arc::clone(&self.desks)));
        }
    }
}

/// Asks for those who wait until nobody does.
async fn serve<Q: Question>(desks: Arc<Desks<Q>>) {
    let desk = desks.state().idle.pop();
    let mut seat = Seat { desks: Arc::clone(&desks), desk, left: false };
    // Whoever is about to ask at this moment comes along; nothing is waited for.
    tokio::task::yield_now().await;
    while let Some((group, waiters)) = desks.next(&mut seat) {
        let mut asked: HashMap<Q::Key, Vec<oneshot::Sender<_>>> = HashMap::with_capacity(waiters.len());
        for Waiter { key, answer } in waiters {
            if !answer.is_closed() {
                asked.entry(key).or_default().push(answer);
            }
        }
        if asked.is_empty() {
            continue;
        }
        let (keys, answers): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
        match tokio::time::timeout(PATIENCE, desks.asked(&mut seat.desk, &group, &keys)).await {
            Ok(Ok(found)) => {
                for (answers, found) in answers.into_iter().zip(found) {
                    tell(answers, &Ok(found));
                }
            }
            failed => {
                seat.desk = None;
                let error = match failed {
                    Ok(Err(error)) => Unanswered::Failed(Arc::new(error)),
                    _ => Unanswered::TooSlow,
                };
                for answers in answers {
                    tell(answers, &Err(error.clone()));
                }
            }
        }
    }
}

fn tell<A: Clone>(answers: Vec<oneshot::Sender<Result<A, Unanswered>>>, answer: &Result<A, Unanswered>) {
    for waiting in answers {
        // Whoever went away does not want to know.
        let _ = waiting.send(answer.clone());
    }
}

impl<Q: Question> Desks<Q> {
    /// Asks at the desk that is there, or at a new one if the database has closed that meanwhile.
    async fn asked(
        &self,
        desk: &mut Option<Q::Desk>,
        group: &Q::Group,
        keys: &[Q::Key],
    ) -> sqlx::Result<Vec<Q::Answer>> {
        if let Some(kept) = desk {
            match self.question.ask(kept, group, keys).await {
                Err(error) if is_lost(&error) => *desk = None,
                answered => return answered,
            }
        }
        let fresh = self.question.open().await?;
        self.question.ask(desk.insert(fresh), group, keys).await
    }
}

#[cfg(test)]
mod tests;
