//! The query parameters of a list, as its specification offers them.

use serde_json::{Value, json};
use utoipa::IntoParams as _;
use utoipa::openapi::path::ParameterIn;

use crate::api::list::{Field, Kind, LIMIT_DEFAULT, LIMIT_MOST, ListSpec, Operator};
use crate::api::past::AsOfQuery;

/// Filters with their operators, then `q`, `as_of`, and `sort`, `limit`, `cursor`, `count`, or for a report `by`.
pub(super) fn parameters(spec: &ListSpec) -> Vec<Value> {
    let mut parameters: Vec<Value> = Vec::new();
    for field in spec.fields.iter().filter(|field| field.filter) {
        parameters.extend(field.kind.operators().iter().map(|&operator| filter(field, operator)));
    }
    if !spec.search.is_empty() {
        let schema = json!({"type": "string", "maxLength": 200});
        parameters.push(query("q", "Rows in which each of these words occurs.", &schema));
    }
    if spec.versions.is_some() {
        parameters
            .extend(AsOfQuery::into_params(|| Some(ParameterIn::Query)).into_iter().map(|parameter| json!(parameter)));
    }
    if let Some(grouping) = spec.grouping {
        let names: Vec<&str> = grouping.by.iter().map(|by| by.name).collect();
        let mut schema = json!({"type": "string", "enum": names});
        if let (Some(default), Some(schema)) = (grouping.default, schema.as_object_mut()) {
            schema.insert("default".to_owned(), json!(default));
        }
        parameters.push(query("by", "What the groups have in common.", &schema));
        return parameters;
    }
    let both: Vec<String> = spec.sortable().flat_map(|name| [name.to_owned(), format!("-{name}")]).collect();
    let sort = json!({"type": "array", "items": {"type": "string", "enum": both}, "uniqueItems": true});
    let described = format!(
        "In this order; `-` for descending. Rows without a value come last. `{}` if not given.",
        spec.default_sort
    );
    parameters.push(commas(query("sort", &described, &sort)));
    let limit = json!({"type": "integer", "minimum": 1, "maximum": LIMIT_MOST, "default": LIMIT_DEFAULT});
    parameters.push(query("limit", "Rows of a page.", &limit));
    let cursor = "`page.next_cursor` of the page before, with filters and sort unchanged.";
    parameters.push(query("cursor", cursor, &json!({"type": "string"})));
    let count = json!({"type": "string", "enum": ["exact"]});
    parameters.push(query("count", "`exact`: say in `page.total` how many rows there are.", &count));
    parameters
}

fn filter(field: &Field, operator: Operator) -> Value {
    let schema = schema(field.kind);
    let name = format!("{}{}", field.name, operator.suffix());
    let described = match operator {
        Operator::Is | Operator::In => "Is one of these.",
        Operator::Ne => "Is none of these.",
        Operator::Gt => "Is greater or later.",
        Operator::Gte => "Is the same, greater or later.",
        Operator::Lt => "Is less or earlier.",
        Operator::Lte => "Is the same, less or earlier.",
        Operator::Contains if field.kind == Kind::TextArray => "Has this among its values.",
        Operator::Contains => "Contains this text, in any case.",
    };
    let many = matches!(operator, Operator::Is | Operator::In | Operator::Ne) && field.kind != Kind::Bool;
    if many {
        commas(query(&name, described, &json!({"type": "array", "items": schema})))
    } else {
        query(&name, described, &schema)
    }
}

fn schema(kind: Kind) -> Value {
    match kind {
        Kind::Text | Kind::TextArray => json!({"type": "string", "minLength": 1}),
        Kind::Enum(known) => json!({"type": "string", "enum": known}),
        Kind::Id => json!({"type": "string", "pattern": "^[A-Z]{3}-[0-9A-Z]+$"}),
        Kind::Integer => json!({"type": "integer", "format": "int64"}),
        Kind::Decimal | Kind::Amount => json!({"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]+)?$"}),
        Kind::Date => json!({"type": "string", "format": "date"}),
        Kind::Timestamp => json!({"anyOf": [
            {"type": "string", "format": "date-time"}, {"type": "string", "format": "date"},
        ]}),
        Kind::Bool => json!({"type": "boolean"}),
    }
}

fn query(name: &str, description: &str, schema: &Value) -> Value {
    json!({"in": "query", "name": name, "description": description, "required": false, "schema": schema})
}

/// `a,b` rather than the parameter given twice.
fn commas(mut parameter: Value) -> Value {
    if let Some(members) = parameter.as_object_mut() {
        members.insert("style".to_owned(), json!("form"));
        members.insert("explode".to_owned(), json!(false));
    }
    parameter
}
