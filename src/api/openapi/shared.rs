//! What many operations have in common stands once, under `components`, and is referred to.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// The shared parts found so far: what they are, and the name that each was given.
#[derive(Default)]
struct Shared {
    names: BTreeMap<String, String>,
    parts: Map<String, Value>,
}

impl Shared {
    /// A reference to a part; `wanted` is its name, numbered if another part has it.
    fn refer(&mut self, section: &str, wanted: &str, part: &Value) -> Value {
        let text = part.to_string();
        let name = self.names.entry(text).or_insert_with(|| {
            let numbered = (2..).map(|number| format!("{wanted}_{number}"));
            let free = |name: &String| !self.parts.contains_key(name);
            let name = std::iter::once(wanted.to_owned()).chain(numbered).find(free).unwrap_or_default();
            self.parts.insert(name.clone(), part.clone());
            name
        });
        json!({"$ref": format!("#/components/{section}/{name}")})
    }
}

/// Moves headers, problem responses, answers to what cannot be read yet and header parameters to `components`.
pub(super) fn share(paths: &mut Map<String, Value>, components: &mut Map<String, Value>) {
    let (mut headers, mut responses, mut parameters) = (Shared::default(), Shared::default(), Shared::default());
    let operations = paths.values_mut().filter_map(Value::as_object_mut).flat_map(|item| item.values_mut());
    for operation in operations.filter_map(Value::as_object_mut) {
        if let Some(all) = operation.get_mut("responses").and_then(Value::as_object_mut) {
            for (status, response) in all.iter_mut() {
                if let Some(named) = response.get_mut("headers").and_then(Value::as_object_mut) {
                    for (name, header) in named.iter_mut() {
                        *header = headers.refer("headers", name, header);
                    }
                }
                if status.starts_with(['4', '5']) {
                    *response = responses.refer("responses", &format!("Problem{status}"), response);
                }
                if status == "202" {
                    *response = responses.refer("responses", "Stored", response);
                }
            }
        }
        if let Some(all) = operation.get_mut("parameters").and_then(Value::as_array_mut) {
            for parameter in all.iter_mut().filter(|parameter| parameter.get("in") == Some(&json!("header"))) {
                let name = parameter.get("name").and_then(Value::as_str).unwrap_or("Header").to_owned();
                *parameter = parameters.refer("parameters", &name, parameter);
            }
        }
    }
    for (section, shared) in [("headers", headers), ("responses", responses), ("parameters", parameters)] {
        components.insert(section.to_owned(), Value::Object(shared.parts));
    }
}
