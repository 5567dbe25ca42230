//! What the OpenAPI document promises, held against every answer that a test gets and every example that it shows.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use axum::http::{Method, StatusCode};
use chrono::DateTime;
use jsonschema::{Draft, Validator};
use serde_json::{Map, Value, json};

use crate::documented::operations;
use crate::world::Answer;

static DOCUMENT: LazyLock<Document> = LazyLock::new(Document::read);

/// The document, and the schemas of it that were needed so far.
struct Document {
    whole: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

/// What was asked, by which way.
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub body: Option<Value>,
}

/// A place in the document that has a schema and examples of it.
struct Shown {
    place: String,
    schema: Value,
    examples: Vec<Value>,
}

impl Document {
    fn read() -> Self {
        let whole = serde_json::from_str(&devhub::api::document().unwrap()).unwrap();
        Self { whole, validators: Mutex::default() }
    }

    /// What stands there, or where that refers to.
    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value.get("$ref").and_then(Value::as_str) {
            Some(place) => self.whole.pointer(place.trim_start_matches('#')).unwrap(),
            None => value,
        }
    }

    /// The operation that a path is answered by. Of two that fit, it is the one with the fewer parameters.
    fn operation(&self, method: &Method, path: &str) -> Option<(String, &Value)> {
        let path = path.split('?').next().unwrap();
        let fits = |template: &str| {
            let (asked, said) = (path.split('/'), template.split('/'));
            asked.clone().count() == said.clone().count()
                && asked.zip(said).all(|(asked, said)| asked == said || said.starts_with('{') && !asked.is_empty())
        };
        let paths = self.whole["paths"].as_object().unwrap();
        let (template, item) = paths
            .iter()
            .filter(|(template, _)| fits(template))
            .min_by_key(|(template, _)| template.matches('{').count())?;
        let operation = item.get(method.as_str().to_lowercase())?;
        Some((format!("{method} {template}"), operation))
    }

    fn validator(&self, place: &str, schema: &Value) -> Arc<Validator> {
        let mut validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        let made = || {
            let mut schema = schema.clone();
            // References go into the document, so that what they lead to stands beside the schema.
            let mut referred = Map::new();
            self.refer(&schema, &mut referred);
            schema["components"] = json!({"schemas": referred});
            let options = jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true);
            // RFC 3339 has no year below 0; the first day that PostgreSQL knows, which stands for those before it, is there.
            let time = |text: &str| DateTime::parse_from_rfc3339(text.strip_prefix('-').unwrap_or(text)).is_ok();
            let date = move |text: &str| time(&format!("{text}T00:00:00Z"));
            let options = options.with_format("date-time", time).with_format("date", date);
            Arc::new(options.build(&schema).unwrap_or_else(|error| panic!("{place}: {error}")))
        };
        Arc::clone(validators.entry(place.to_owned()).or_insert_with(made))
    }

    /// Adds every schema that this one leads to.
    fn refer(&self, value: &Value, referred: &mut Map<String, Value>) {
        if let Some(name) = value.get("$ref").and_then(Value::as_str).and_then(|place| place.rsplit('/').next())
            && !referred.contains_key(name)
        {
            let schema = &self.whole["components"]["schemas"][name];
            referred.insert(name.to_owned(), schema.clone());
            self.refer(schema, referred);
        }
        match value {
            Value::Object(members) => members.values().for_each(|member| self.refer(member, referred)),
            Value::Array(elements) => elements.iter().for_each(|element| self.refer(element, referred)),
            _ => {}
        }
    }

    fn violations(&self, place: &str, schema: &Value, value: &Value) -> Vec<String> {
        let validator = self.validator(place, schema);
        validator.iter_errors(value).map(|error| format!("{place}, {}: {error}", error.instance_path())).collect()
    }

    /// Everything in the document that has a schema and an example.
    fn shown(&self) -> Vec<Shown> {
        let mut shown = Vec::new();
        for (method, path, operation) in operations() {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            shown.extend(
                parameters
                    .filter_map(|parameter| Shown::of(format!("{method} {path} {}", parameter["name"]), parameter)),
            );
            let bodies = operation.get("requestBody").map(|body| ("body", body)).into_iter();
            let answers = operation["responses"].as_object().unwrap().iter();
            for (name, body) in bodies.chain(answers.map(|(status, answer)| (status.as_str(), answer))) {
                let media = self.resolved(body)["content"].as_object().into_iter().flatten();
                let place = format!("{method} {path} {name}");
                shown.extend(media.filter_map(|(media, content)| Shown::of(format!("{place} {media}"), content)));
            }
        }
        shown
    }
}

impl Shown {
    fn of(place: String, holder: &Value) -> Option<Self> {
        let named = holder.get("examples").and_then(Value::as_object).map(Map::values).into_iter().flatten();
        let examples = holder.get("example").into_iter().chain(named.map(|named| &named["value"]));
        let examples: Vec<Value> = examples.cloned().collect();
        let schema = holder.get("schema").filter(|_| !examples.is_empty())?.clone();
        Some(Self { place, schema, examples })
    }
}

/// That the document tells of such an answer, and of a body that was accepted. What does not exist is in no document,
/// and what the router itself answers (405, 408) is described once for all.
pub fn assert_promised(asked: &Asked, answer: &Answer) {
    let Some((place, operation)) = DOCUMENT.operation(&asked.method, &asked.path) else { return };
    if [StatusCode::METHOD_NOT_ALLOWED, StatusCode::REQUEST_TIMEOUT].contains(&answer.status) {
        return;
    }
    let said = asked.body.as_ref().filter(|body| **body != json!({}) || operation.get("requestBody").is_some());
    if let (true, Some(body)) = (answer.status.is_success(), said) {
        let content = &DOCUMENT.resolved(&operation["requestBody"])["content"];
        let schema = content.as_object().and_then(|content| content.values().next()?.get("schema"));
        let schema = schema.unwrap_or_else(|| panic!("{place}: no body is to be sent, and {body} was accepted"));
        let violations = DOCUMENT.violations(&format!("{place} body"), schema, body);
        assert!(violations.is_empty(), "accepted all the same: {}\n{body}", violations.join("\n"));
    }
    let place = format!("{place} {}", answer.status.as_str());
    let Some(promised) = operation["responses"].get(answer.status.as_str()) else {
        panic!("{place}: the document does not tell of it: {}", answer.text)
    };
    let Some(content) = DOCUMENT.resolved(promised).get("content").and_then(Value::as_object) else {
        assert!(answer.text.is_empty(), "{place}: the document tells of no body: {}", answer.text);
        return;
    };
    let media = answer.header("content-type").and_then(|media| media.split(';').next()).unwrap_or_default();
    let Some(promised) = content.get(media) else {
        panic!("{place}: the document tells of no {media}: {}", answer.text)
    };
    if let (true, Some(schema)) = (media.ends_with("json") && !media.ends_with("ndjson"), promised.get("schema")) {
        let violations = DOCUMENT.violations(&format!("{place} {media}"), schema, &answer.json());
        assert!(violations.is_empty(), "{}\n{}", violations.join("\n"), answer.text);
    }
}

#[test]
fn every_example_is_one_of_what_it_stands_beside() {
    let shown = DOCUMENT.shown();
    assert!(shown.len() > 300, "{}", shown.len());
    let violations = shown.iter().flat_map(|Shown { place, schema, examples }| {
        examples.iter().flat_map(move |example| DOCUMENT.violations(place, schema, example))
    });
    let violations: Vec<String> = violations.collect();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn every_answer_is_described() {
    for (method, path, operation) in operations() {
        for (status, answer) in operation["responses"].as_object().unwrap() {
            let description = DOCUMENT.resolved(answer)["description"].as_str();
            assert!(description.is_some_and(|text| !text.is_empty()), "{method} {path} {status}");
        }
    }
}
