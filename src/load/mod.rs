//! Drives a running server as the people of many businesses would, and measures what they would feel.
//!
//! ```text
//! businesses register ─► leads are captured ─► every connection: read | list | command | report, one after the other
//! ```
//!
//! Each connection waits for its answer before it asks again (a closed loop): a server that is slow is asked less,
//! so the latencies are those of so many people at once, not of a given rate.

pub mod client;
pub mod mix;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use hdrhistogram::Histogram;
use hyper::{Method, StatusCode};
use indicatif::{ProgressBar, ProgressStyle};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use client::{CallError, Client};
use mix::{Action, Mix, spread};

/// What is asked of the server.
#[derive(Debug, Clone)]
pub struct Plan {
    /// `host:port`.
    pub address: String,
    /// Requests that are on their way at once.
    pub connections: usize,
    /// How long.
    pub time: Duration,
    /// What they are.
    pub mix: Mix,
    /// Businesses that register for it.
    pub tenants: usize,
    /// Leads that each has before it begins.
    pub leads: usize,
}

/// What one kind of request came to.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Which kind.
    pub action: Action,
    /// Requests that were answered as they should be.
    pub requests: u64,
    /// Those a second.
    pub per_second: f64,
    /// Answers that were no success, by status.
    pub refused: BTreeMap<u16, u64>,
    /// Latency that half of them kept within, in milliseconds.
    pub p50_ms: f64,
    /// That nine of ten kept within.
    pub p90_ms: f64,
    /// That 99 of a hundred kept within.
    pub p99_ms: f64,
    /// That 999 of a thousand kept within.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// What the whole came to.
#[derive(Debug, Clone, Serialize)]
pub struct LoadReport {
    /// Requests on their way at once.
    pub connections: usize,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What was asked for.
    pub mix: String,
    /// Businesses that took part.
    pub tenants: usize,
    /// Requests a second over all kinds.
    pub per_second: f64,
    /// By kind.
    pub actions: Vec<Line>,
}

/// One of the businesses.
struct Business {
    session: Mutex<SignedIn>,
    leads: Vec<String>,
}

impl Business {
    /// The token that its connections act with.
    async fn token(&self) -> SecretString {
        self.session.lock().await.access_token.clone()
    }

    /// The token that comes after one that is good no longer: the session goes on, once for all connections.
    ///
    /// # Errors
    /// [`CallError`], if the session does not go on.
    async fn token_after(&self, expired: &SecretString, client: &mut Client) -> Result<SecretString, CallError> {
        let mut session = self.session.lock().await;
        if session.access_token.expose_secret() == expired.expose_secret() {
            let refresh = json!({"refresh_token": session.refresh_token.expose_secret()});
            *session = client.expect(Method::POST, "/api/auth/refresh", Some(&refresh)).await?;
        }
        Ok(session.access_token.clone())
    }
}

#[derive(Deserialize)]
struct SignedIn {
    access_token: SecretString,
    refresh_token: SecretString,
}

#[derive(Deserialize)]
struct Created {
    id: String,
}

/// Registers the businesses, fills them, and asks for as long as the plan says.
///
/// # Errors
/// [`CallError`], if the server cannot be reached or refuses what has to be there first.
pub async fn run(plan: &Plan, shown: bool) -> Result<LoadReport, CallError> {
    let nothing = nothing()?;
    let bar = if shown { ProgressBar::no_length() } else { ProgressBar::hidden() };
    let businesses = Arc::new(prepare(plan, &bar).await?);
    begin(&bar, "asking, seconds", plan.time.as_secs());
    let begun = Instant::now();
    let until = begun + plan.time;
    let mut workers = JoinSet::new();
    for number in 0..plan.connections {
        workers.spawn(work(plan.clone(), number, Arc::clone(&businesses), until, nothing.clone()));
    }
    let ticking = tokio::spawn({
        let bar = bar.clone();
        async move {
            loop {
                bar.set_position(begun.elapsed().as_secs());
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    });
    let mut tallies = nothing;
    while let Some(ended) = workers.join_next().await {
        for (all, one) in tallies.values_mut().zip(ended.unwrap_or_default().values()) {
            all.add(one);
        }
    }
    ticking.abort();
    bar.finish_and_clear();
    let seconds = begun.elapsed().as_secs_f64();
    let asked = tallies.iter().filter(|(_, tally)| !tally.is_empty());
    let actions: Vec<Line> = asked.map(|(action, tally)| tally.line(*action, seconds)).collect();
    Ok(LoadReport {
        connections: plan.connections,
        seconds,
        mix: plan.mix.to_string(),
        tenants: plan.tenants,
        per_second: actions.iter().map(|line| line.per_second).sum(),
        actions,
    })
}

fn begin(bar: &ProgressBar, what: &str, things: u64) {
    if let Ok(style) = ProgressStyle::with_template("{msg:<22} {wide_bar} {pos}/{len}  {eta} left") {
        bar.set_style(style);
    }
    bar.reset();
    bar.set_length(things);
    bar.set_message(what.to_owned());
}

async fn prepare(plan: &Plan, bar: &ProgressBar) -> Result<Vec<Business>, CallError> {
    let all = plan.tenants * (plan.leads + 1);
    begin(bar, "filling businesses", u64::try_from(all).unwrap_or(u64::MAX));
    // Logins are unique on the platform: every run has businesses of its own.
    let run = crate::clock::new_event_id(crate::clock::Clock::system().now()).simple().to_string();
    let mut filling = JoinSet::new();
    let mut businesses = Vec::new();
    for number in 0..plan.tenants {
        if filling.len() >= plan.connections.max(1) {
            take(&mut filling, &mut businesses).await?;
        }
        let (address, leads, bar) = (plan.address.clone(), plan.leads, bar.clone());
        filling.spawn(register(address, format!("{run}-{number}"), leads, bar));
    }
    while !filling.is_empty() {
        take(&mut filling, &mut businesses).await?;
    }
    Ok(businesses)
}

async fn take(
    filling: &mut JoinSet<Result<Business, CallError>>,
    businesses: &mut Vec<Business>,
) -> Result<(), CallError> {
    if let Some(Ok(filled)) = filling.join_next().await {
        businesses.push(filled?);
    }
    Ok(())
}

/// A business with an owner and some leads.
async fn register(address: String, name: String, leads: usize, bar: ProgressBar) -> Result<Business, CallError> {
    let mut client = Client::new(&address);
    let email = format!("owner-{name}@load.example");
    let password = format!("pass phrase of {name}");
    let business = json!({
        "business_name": format!("Load {name}"), "business_email": email, "subscription_plan": "professional",
        "owner": {"email": email, "full_name": "Ada Lovelace", "password": password},
    });
    client.expect::<Value>(Method::POST, "/api/auth/register-business", Some(&business)).await?;
    let login = json!({"email": email, "password": password});
    let session: SignedIn = client.expect(Method::POST, "/api/auth/login", Some(&login)).await?;
    client.act_with(session.access_token.clone());
    bar.inc(1);
    let mut ids = Vec::with_capacity(leads);
    for number in 0..leads {
        ids.push(client.expect::<Created>(Method::POST, "/api/leads", Some(&lead(number as u64))).await?.id);
        bar.inc(1);
    }
    Ok(Business { session: Mutex::new(session), leads: ids })
}

fn lead(number: u64) -> Value {
    json!({
        "name": format!("Mateo Rossi {number}"), "company": format!("Company {}", spread(number, 500)),
        "email": format!("mateo.rossi.{number}@example.com"), "source": "referral",
        "estimated_value": {"amount": (1_000 + spread(number, 90_000)).to_string(), "currency": "USD"},
    })
}

/// One connection: asks, waits, asks again.
async fn work(
    plan: Plan,
    number: usize,
    businesses: Arc<Vec<Business>>,
    until: Instant,
    mut tallies: Tallies,
) -> Tallies {
    let Some(business) = businesses.get(number % businesses.len().max(1)) else { return tallies };
    let mut client = Client::new(&plan.address);
    let mut token = business.token().await;
    client.act_with(token.clone());
    let day = crate::clock::Clock::system().now().date_naive();
    // Each begins elsewhere in the same order.
    let mut step = u64::try_from(number).unwrap_or(0) * 7_919;
    while Instant::now() < until {
        step += 1;
        let action = plan.mix.at(step);
        let (method, path, body) = request(action, step, &business.leads, day);
        let asked = Instant::now();
        let mut answered = client.call(method.clone(), &path, body.as_ref()).await;
        if matches!(&answered, Ok(answer) if answer.status == StatusCode::UNAUTHORIZED)
            && let Ok(next) = business.token_after(&token, &mut client).await
        {
            // As a program does whose token has expired. Whoever waits for the answer waits for this as well.
            token = next;
            client.act_with(token.clone());
            answered = client.call(method, &path, body.as_ref()).await;
        }
        let took = asked.elapsed();
        let Some(tally) = tallies.get_mut(&action) else { continue };
        match answered {
            Ok(answer) if answer.status.is_success() => tally.answered(took),
            Ok(answer) => tally.refused(answer.status.as_u16()),
            Err(_) => {
                tally.refused(0);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    tallies
}

/// A request of its kind; which record and which filter follow from the step.
fn request(action: Action, step: u64, leads: &[String], day: NaiveDate) -> (Method, String, Option<Value>) {
    let among = u64::try_from(leads.len()).unwrap_or(0);
    let place = usize::try_from(spread(step.wrapping_mul(31), among)).unwrap_or(0);
    let id = leads.get(place).map_or("LED-000", String::as_str);
    let one = format!("/api/leads/{id}");
    match (action, step % 5) {
        (Action::Read, _) => (Method::GET, one, None),
        (Action::List, 0 | 1) => (Method::GET, "/api/leads?stage=new,contacted&sort=-updated_at&limit=50".into(), None),
        (Action::List, 2 | 3) => (Method::GET, "/api/leads?sort=-estimated_value&limit=50".into(), None),
        (Action::List, _) => (Method::GET, "/api/leads?q=rossi&limit=50".into(), None),
        (Action::Command, 0 | 1) => (Method::POST, "/api/leads".into(), Some(lead(step))),
        (Action::Command, 2) => {
            (Method::PATCH, one, Some(json!({"phone": format!("+1 555 {:07}", spread(step, 9_999_999))})))
        }
        (Action::Command, 3) => {
            let open = ["contacted", "qualified", "proposal", "negotiation"];
            let stage = open.get(usize::try_from(spread(step, 4)).unwrap_or(0)).copied().unwrap_or("contacted");
            (Method::POST, format!("{one}/stage"), Some(json!({"stage": stage})))
        }
        (Action::Command, _) => {
            let call = json!({"type": "call", "subject": "How it stands", "outcome": "Interested, wants to go on"});
            (Method::POST, format!("{one}/interactions"), Some(call))
        }
        (Action::Report, 0) => (Method::GET, "/api/reports/pipeline".into(), None),
        (Action::Report, 1) => (Method::GET, "/api/reports/conversion?by=month".into(), None),
        (Action::Report, 2) => (Method::GET, format!("/api/reports/pipeline?by=source&as_of={}", day), None),
        (Action::Report, 3) => (Method::GET, "/api/leads?stage[ne]=closed_lost&count=exact&limit=1".into(), None),
        (Action::Report, _) => (Method::GET, "/api/events?limit=100".into(), None),
    }
}

/// Latencies and refusals of every kind.
type Tallies = BTreeMap<Action, Tally>;

/// None yet, of any kind. Latencies are counted from a microsecond to a minute, to three digits; what is outside
/// counts as the bound.
fn nothing() -> Result<Tallies, CallError> {
    let tally = Tally { latencies: Histogram::new_with_bounds(1, 60_000_000, 3)?, refused: BTreeMap::new() };
    Ok(Action::ALL.into_iter().map(|action| (action, tally.clone())).collect())
}

/// Latencies and refusals of one kind.
#[derive(Clone)]
struct Tally {
    /// In microseconds.
    latencies: Histogram<u64>,
    refused: BTreeMap<u16, u64>,
}

impl Tally {
    fn is_empty(&self) -> bool {
        self.latencies.is_empty() && self.refused.is_empty()
    }

    fn answered(&mut self, took: Duration) {
        self.latencies.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    fn refused(&mut self, status: u16) {
        *self.refused.entry(status).or_default() += 1;
    }

    fn add(&mut self, other: &Self) {
        // Both have the same bounds.
        let _ = self.latencies.add(&other.latencies);
        for (status, count) in &other.refused {
            *self.refused.entry(*status).or_default() += count;
        }
    }

    fn line(&self, action: Action, seconds: f64) -> Line {
        let at = |percentile| milliseconds(self.latencies.value_at_percentile(percentile));
        Line {
            action,
            requests: self.latencies.len(),
            per_second: count(self.latencies.len()) / seconds,
            refused: self.refused.clone(),
            p50_ms: at(50.0),
            p90_ms: at(90.0),
            p99_ms: at(99.0),
            p999_ms: at(99.9),
            max_ms: milliseconds(self.latencies.max()),
        }
    }
}

fn milliseconds(microseconds: u64) -> f64 {
    count(microseconds) / 1_000.0
}

/// Exact below 2⁵³.
#[allow(clippy::cast_precision_loss, reason = "nobody counts so far")]
fn count(things: u64) -> f64 {
    things as f64
}
