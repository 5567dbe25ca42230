use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::*;

/// Answers a key with itself and the number of the statement, when it is let.
struct Echo {
    opened: AtomicUsize,
    statements: AtomicUsize,
    /// What each statement asked about.
    asked: Mutex<Vec<Vec<u32>>>,
    begun: Notify,
    /// A statement ends when it may; with `None`, at once.
    may_end: Option<tokio::sync::Semaphore>,
}

impl Echo {
    fn new(held: bool) -> Self {
        Self {
            opened: AtomicUsize::new(0),
            statements: AtomicUsize::new(0),
            asked: Mutex::default(),
            begun: Notify::new(),
            may_end: held.then(|| tokio::sync::Semaphore::new(0)),
        }
    }
}

/// A key that the database refuses, one whose desk turns out to be closed, and one that makes it panic.
const REFUSED: u32 = 1_000;
const CLOSED: u32 = 1_001;
const PANICS: u32 = 1_002;

impl Question for Echo {
    type Group = u8;
    type Key = u32;
    type Answer = (u8, u32, usize);
    type Desk = usize;

    async fn open(&self) -> sqlx::Result<usize> {
        Ok(self.opened.fetch_add(1, Ordering::SeqCst))
    }

    async fn ask(&self, desk: &mut usize, group: &u8, keys: &[u32]) -> sqlx::Result<Vec<Self::Answer>> {
        let statement = self.statements.fetch_add(1, Ordering::SeqCst);
        let mut sorted = keys.to_vec();
        sorted.sort_unstable();
        self.asked.lock().unwrap().push(sorted);
        self.begun.notify_one();
        if let Some(may_end) = &self.may_end {
            may_end.acquire().await.unwrap().forget();
        }
        assert!(!keys.contains(&PANICS), "asked to panic");
        if keys.contains(&REFUSED) {
            return Err(sqlx::Error::RowNotFound);
        }
        if keys.contains(&CLOSED) && *desk == 0 {
            return Err(sqlx::Error::Io(std::io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(keys.iter().map(|key| (*group, *key, statement)).collect())
    }
}

fn gather(held: bool, desks: usize) -> Gather<Echo> {
    Gather::new(Echo::new(held), desks)
}

fn spawn(gather: &Gather<Echo>, group: u8, key: u32) -> tokio::task::JoinHandle<Result<(u8, u32, usize), Unanswered>> {
    let gather = gather.clone();
    tokio::spawn(async move { gather.ask(group, key).await })
}

fn let_end(gather: &Gather<Echo>, statements: usize) {
    gather.0.question.may_end.as_ref().unwrap().add_permits(statements);
}

fn asked(gather: &Gather<Echo>) -> Vec<Vec<u32>> {
    gather.0.question.asked.lock().unwrap().clone()
}

/// Until so many wait for a desk.
async fn waiting(gather: &Gather<Echo>, count: usize) {
    while gather.0.state().waiting.values().map(Vec::len).sum::<usize>() < count {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn one_alone_is_asked_at_once() {
    let gather = gather(false, 2);
    assert_eq!(gather.ask(7, 1).await.unwrap(), (7, 1, 0));
    assert_eq!(gather.ask(7, 2).await.unwrap(), (7, 2, 1));
    assert_eq!(gather.0.question.opened.load(Ordering::SeqCst), 1, "the desk is kept");
}

#[tokio::test]
async fn whoever_comes_while_a_statement_runs_is_in_the_next_one_and_all_of_them_together() {
    let gather = gather(true, 1);
    let first = spawn(&gather, 0, 1);
    gather.0.question.begun.notified().await;
    // The same question as the one that is being asked: its answer may already be old.
    let later: Vec<_> = [1, 2, 3, 2].into_iter().map(|key| spawn(&gather, 0, key)).collect();
    waiting(&gather, 4).await;
    let_end(&gather, 2);
    assert_eq!(first.await.unwrap().unwrap(), (0, 1, 0));
    for (key, answer) in [1, 2, 3, 2].into_iter().zip(later) {
        assert_eq!(answer.await.unwrap().unwrap(), (0, key, 1));
    }
    assert_eq!(asked(&gather), [vec![1], vec![1, 2, 3]], "who asks the same is asked for once");
}

#[tokio::test]
async fn a_free_desk_is_used_while_another_is_busy() {
    let gather = gather(true, 2);
    let (first, second) = (spawn(&gather, 0, 1), {
        gather.0.question.begun.notified().await;
        spawn(&gather, 0, 2)
    });
    gather.0.question.begun.notified().await;
    assert_eq!(asked(&gather), [vec![1], vec![2]]);
    let_end(&gather, 2);
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
}

#[tokio::test]
async fn groups_are_asked_apart_and_take_turns() {
    let gather = gather(true, 1);
    let first = spawn(&gather, 9, 1);
    gather.0.question.begun.notified().await;
    let mut later = Vec::new();
    for (count, (group, key)) in [(1, 10), (2, 20), (1, 11), (2, 21)].into_iter().enumerate() {
        later.push((group, key, spawn(&gather, group, key)));
        waiting(&gather, count + 1).await;
    }
    let_end(&gather, 3);
    first.await.unwrap().unwrap();
    for (group, key, answer) in later {
        assert_eq!(answer.await.unwrap().unwrap(), (group, key, usize::from(group)));
    }
    assert_eq!(asked(&gather), [vec![1], vec![10, 11], vec![20, 21]]);
}

#[tokio::test]
async fn whoever_goes_away_hurts_nobody() {
    let gather = gather(true, 1);
    let first = spawn(&gather, 0, 1);
    gather.0.question.begun.notified().await;
    let (gone, stays) = (spawn(&gather, 0, 2), spawn(&gather, 0, 3));
    let alone = spawn(&gather, 1, 4);
    waiting(&gather, 3).await;
    for left in [first, gone, alone] {
        left.abort();
        assert!(left.await.unwrap_err().is_cancelled());
    }
    let_end(&gather, 2);
    assert_eq!(stays.await.unwrap().unwrap(), (0, 3, 1));
    assert_eq!(asked(&gather), [vec![1], vec![3]], "nothing is asked for those who are gone");
    let_end(&gather, 1);
    assert_eq!(gather.ask(0, 5).await.unwrap(), (0, 5, 2));
}

#[tokio::test]
async fn an_error_is_everybodys_of_that_statement_and_of_no_other() {
    let gather = gather(true, 1);
    let first = spawn(&gather, 0, 1);
    gather.0.question.begun.notified().await;
    let failing = [spawn(&gather, 0, REFUSED), spawn(&gather, 0, 2)];
    waiting(&gather, 2).await;
    let_end(&gather, 2);
    first.await.unwrap().unwrap();
    for failed in failing {
        assert!(matches!(failed.await.unwrap(), Err(Unanswered::Failed(_))));
    }
    let_end(&gather, 1);
    gather.ask(0, 3).await.unwrap();
    assert_eq!(gather.0.question.opened.load(Ordering::SeqCst), 2, "after an error the desk is another");
}

#[tokio::test]
async fn a_desk_that_was_closed_meanwhile_is_replaced_and_nobody_hears_of_it() {
    let gather = gather(false, 1);
    gather.ask(0, 1).await.unwrap();
    assert_eq!(gather.ask(0, CLOSED).await.unwrap(), (0, CLOSED, 2));
    assert_eq!(gather.0.question.opened.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_panic_takes_no_desk_away() {
    let gather = gather(true, 1);
    let first = spawn(&gather, 0, PANICS);
    gather.0.question.begun.notified().await;
    let later = spawn(&gather, 0, 2);
    waiting(&gather, 1).await;
    let_end(&gather, 2);
    assert!(matches!(first.await.unwrap(), Err(Unanswered::Dropped)));
    assert_eq!(later.await.unwrap().unwrap().1, 2);
    let_end(&gather, 1);
    gather.ask(0, 3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_at_once_get_the_answers_to_their_own_questions_and_never_an_older_one() {
    let gather = gather(false, 2);
    let askers: Vec<_> = (0..64_u32)
        .map(|asker| {
            let gather = gather.clone();
            tokio::spawn(async move {
                for turn in 0..200_u32 {
                    let (group, key) = (u8::try_from(asker % 3).unwrap(), (asker * 7 + turn) % 20);
                    let begun = gather.0.question.statements.load(Ordering::SeqCst);
                    let answer = gather.ask(group, key).await.unwrap();
                    assert_eq!((answer.0, answer.1), (group, key));
                    assert!(answer.2 >= begun, "statement {} had begun before it was asked", answer.2);
                }
            })
        })
        .collect();
    for asker in askers {
        asker.await.unwrap();
    }
    let state = gather.0.state();
    assert!(state.waiting.is_empty() && state.turns.is_empty());
    assert!(gather.0.question.opened.load(Ordering::SeqCst) <= 2);
}
