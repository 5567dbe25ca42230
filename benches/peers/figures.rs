//! What was measured, as a table and as JSON.

use std::fmt::Write as _;
use std::future::Future;
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::median;

/// What `sample` says towards the end of something, again and again: the median over the last fifth of it, since a single
/// look would show what goes up and down rather than where it goes.
pub async fn towards_the_end<T>(work: impl Future<Output = T>, every: Duration, sample: impl Fn() -> f64) -> (f64, T) {
    let (_, end, done) = midway_and_towards_the_end(work, every, sample).await;
    (end, done)
}

/// The same towards the middle of it, and towards its end.
pub async fn midway_and_towards_the_end<T>(
    work: impl Future<Output = T>,
    every: Duration,
    sample: impl Fn() -> f64,
) -> (f64, f64, T) {
    let mut samples = Vec::new();
    let mut ticks = tokio::time::interval(every);
    let mut work = std::pin::pin!(work);
    let done = loop {
        tokio::select! {
            done = &mut work => break done,
            _ = ticks.tick() => samples.push(sample()),
        }
    };
    let part = |from: usize, to: usize| median(samples[samples.len() * from / 10..samples.len() * to / 10].to_vec());
    (part(3, 5), part(8, 10), done)
}

/// What a ratio should be.
#[derive(Debug, Clone, Copy)]
pub enum Better {
    AtLeast(f64),
    AtMost(f64),
}

impl Better {
    fn met(self, ratio: f64) -> bool {
        match self {
            Self::AtLeast(goal) => ratio >= goal,
            Self::AtMost(goal) => ratio <= goal,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(goal) => format!("≥ {goal}"),
            Self::AtMost(goal) => format!("≤ {goal}"),
        }
    }
}

struct Figure {
    name: String,
    unit: &'static str,
    values: Vec<f64>,
    peer: Option<Peer>,
}

struct Peer {
    name: String,
    values: Vec<f64>,
    goal: Better,
}

/// In the order in which they were measured first.
#[derive(Default)]
pub struct Figures(Vec<Figure>);

impl Figures {
    /// A figure of one round beside its peer's of the same round.
    pub fn compare(&mut self, name: &str, unit: &'static str, value: f64, against: &str, peer: f64, goal: Better) {
        let same = |figure: &&mut Figure| {
            figure.name == name && figure.peer.as_ref().is_some_and(|there| there.name == against)
        };
        match self.0.iter_mut().find(same) {
            Some(figure) => {
                figure.values.push(value);
                figure.peer.as_mut().unwrap().values.push(peer);
            }
            None => self.0.push(Figure {
                name: name.to_owned(),
                unit,
                values: vec![value],
                peer: Some(Peer { name: against.to_owned(), values: vec![peer], goal }),
            }),
        }
    }

    /// A figure that has a goal of its own.
    pub fn against_goal(&mut self, name: &str, unit: &'static str, value: f64, goal: f64) {
        self.compare(name, unit, value, "its goal", goal, Better::AtMost(1.0));
    }

    /// A figure that tells something about others.
    pub fn note(&mut self, name: &str, unit: &'static str, value: f64) {
        match self.0.iter_mut().find(|figure| figure.name == name && figure.peer.is_none()) {
            Some(figure) => figure.values.push(value),
            None => self.0.push(Figure { name: name.to_owned(), unit, values: vec![value], peer: None }),
        }
    }

    fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.0.iter().map(|figure| {
            let compared = figure.peer.as_ref().map(|peer| {
                let ratio = median(figure.values.iter().zip(&peer.values).map(|(value, peer)| value / peer));
                Compared { against: &peer.name, peer: median(peer.values.iter().copied()), ratio, goal: peer.goal }
            });
            let least = figure.values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = figure.values.iter().copied().fold(0.0, f64::max);
            Row {
                name: &figure.name,
                unit: figure.unit,
                value: median(figure.values.iter().copied()),
                least,
                most,
                compared,
            }
        })
    }

    pub fn show(&self) {
        println!("{}", self.table());
    }

    fn table(&self) -> String {
        let mut table = String::from(
            "| figure | median | range | against | its median | ratio | goal | |\n|---|--:|--:|---|--:|--:|--:|---|\n",
        );
        for Row { name, unit, value, least, most, compared } in self.rows() {
            let _ = write!(table, "| {name} | {} {unit} | {} – {} |", number(value), number(least), number(most));
            let _ = match compared {
                Some(Compared { against, peer, ratio, goal }) => writeln!(
                    table,
                    " {against} | {} | {} | {} | {} |",
                    number(peer),
                    number(ratio),
                    goal.text(),
                    if goal.met(ratio) { "met" } else { "**not met**" }
                ),
                None => writeln!(table, " | | | | |"),
            };
        }
        table
    }

    /// Writes both files of `docs/`.
    pub fn write(&self, made_with: &str) {
        let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        let raw: Vec<Value> = self
            .rows()
            .map(|Row { name, unit, value, least, most, compared }| match compared {
                Some(Compared { against, peer, ratio, goal }) => json!({
                    "figure": name, "value": value, "unit": unit, "range": [least, most], "against": against,
                    "against_value": peer, "ratio": ratio, "goal": goal.text(), "met": goal.met(ratio),
                }),
                None => json!({
                    "figure": name, "value": value, "unit": unit, "range": [least, most], "against": null,
                    "ratio": null, "goal": null, "met": null,
                }),
            })
            .collect();
        std::fs::write(docs.join("benchmarks.json"), format!("{:#}\n", Value::from(raw))).unwrap();
        let page = docs.join("benchmarks.md");
        let text = std::fs::read_to_string(&page).unwrap();
        let (before, rest) = text.split_once(BEGIN).expect("the page has a place for the table");
        let (_, after) = rest.split_once(END).expect("the place ends");
        std::fs::write(&page, format!("{before}{BEGIN}\n\n{made_with}\n\n{}\n{END}{after}", self.table())).unwrap();
    }
}

/// Where the table stands in the page.
const BEGIN: &str = "<!-- figures: written by make bench -->";
const END: &str = "<!-- end of figures -->";

struct Row<'f> {
    name: &'f str,
    unit: &'static str,
    value: f64,
    least: f64,
    most: f64,
    compared: Option<Compared<'f>>,
}

struct Compared<'f> {
    against: &'f str,
    peer: f64,
    ratio: f64,
    goal: Better,
}

/// With three digits that mean something.
fn number(value: f64) -> String {
    match value {
        value if value >= 1_000.0 => {
            let digits = format!("{value:.0}");
            let mut text = String::new();
            for (place, digit) in digits.chars().enumerate() {
                if place > 0 && (digits.len() - place) % 3 == 0 {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}
