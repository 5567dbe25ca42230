use axum::body::Body;
use serde_json::json;

use super::*;
use crate::aggregates::ids::UserId;
use crate::api::problem::{FieldError, ProblemKind};

#[derive(Debug, PartialEq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Stage {
    New,
    Contacted,
    ClosedWon,
}

#[derive(Debug, PartialEq, ToSchema)]
#[schema(value_type = String)]
struct Amount(String);

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.split_once('.') {
            Some((_, decimals)) if decimals.len() > 2 => {
                Err(serde::de::Error::custom("decimal_scale|at most 2 decimals"))
            }
            _ => Ok(Self(text)),
        }
    }
}

#[derive(Debug, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Money {
    amount: Amount,
    currency: String,
}

#[derive(Debug, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Line {
    description: String,
    quantity: u32,
}

#[derive(Debug, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewLead {
    name: String,
    company: String,
    stage: Option<Stage>,
    probability: Option<u8>,
    assignee: Option<UserId>,
    estimated_value: Option<Money>,
    #[serde(default)]
    lines: Vec<Line>,
}

#[derive(Debug, Default, PartialEq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LeadPatch {
    #[serde(default, deserialize_with = "changeable")]
    name: Option<String>,
    #[serde(default, deserialize_with = "clearable")]
    phone: Option<Option<String>>,
}

fn refused(body: &Value) -> (ProblemKind, Vec<(String, String, String)>) {
    let problem = parse::<NewLead>(body.to_string().as_bytes()).unwrap_err();
    let told = |error: &FieldError| (error.pointer.clone().unwrap(), error.code.clone(), error.detail.clone());
    let mut errors: Vec<_> = problem.details().errors.iter().map(told).collect();
    errors.sort();
    (problem.kind(), errors)
}

fn invalid(body: &Value) -> Vec<(String, String, String)> {
    let (kind, errors) = refused(body);
    assert_eq!(kind, ProblemKind::ValidationFailed);
    errors
}

fn error(pointer: &str, code: &str, detail: &str) -> (String, String, String) {
    (pointer.to_owned(), code.to_owned(), detail.to_owned())
}

#[test]
fn a_good_body_is_read() {
    let body = json!({"name": "Grace", "company": "Navy", "stage": "closed_won", "lines": []});
    let lead: NewLead = parse(body.to_string().as_bytes()).unwrap();
    assert_eq!((lead.name.as_str(), lead.stage), ("Grace", Some(Stage::ClosedWon)));
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let body = json!({
        "name": 7, "stage": "won", "probability": 300, "assignee": "USR-1",
        "estimated_value": {"amount": "1.005"},
        "lines": [
            {"description": "a", "quantity": "many"},
            {"description": "b", "quantity": 2},
            {"quantity": -1},
            "d",
            {"description": 5, "quantity": 1.5},
        ],
    });
    assert_eq!(
        invalid(&body),
        [
            error("/assignee", "invalid_value", "expected an id like USR-001"),
            error("/company", "required", "is required"),
            error("/estimated_value/amount", "decimal_scale", "at most 2 decimals"),
            error("/estimated_value/currency", "required", "is required"),
            error("/lines/0/quantity", "wrong_type", "expected a whole number, not negative"),
            error("/lines/2/description", "required", "is required"),
            error("/lines/2/quantity", "out_of_range", "expected a whole number, not negative"),
            error("/lines/3", "wrong_type", "expected an object"),
            error("/lines/4/description", "wrong_type", "expected a string"),
            error("/lines/4/quantity", "wrong_type", "expected a whole number, not negative"),
            error("/name", "wrong_type", "expected a string"),
            error("/probability", "out_of_range", "expected a whole number from 0 to 255"),
            error("/stage", "unknown_value", "expected one of new, contacted, closed_won"),
        ]
    );
}

#[test]
fn an_empty_object_is_told_all_that_is_required() {
    assert_eq!(
        invalid(&json!({})),
        [error("/company", "required", "is required"), error("/name", "required", "is required")]
    );
}

#[test]
fn unknown_members_come_first_and_name_the_nearest() {
    let (kind, errors) = refused(&json!({
        "name": 7, "compnay": "Navy", "zzz": 1, "estimated_value": {"amount": "1", "currency": "USD", "unit": 1},
    }));
    assert_eq!(kind, ProblemKind::UnknownParameter);
    let known = "name, company, stage, probability, assignee, estimated_value, lines";
    assert_eq!(
        errors,
        [
            error("/compnay", "unknown_field", "there is no field `compnay`; did you mean `company`?"),
            error("/estimated_value/unit", "unknown_field", "there is no field `unit`; there are amount, currency"),
            error("/zzz", "unknown_field", &format!("there is no field `zzz`; there are {known}")),
        ]
    );
}

#[test]
fn a_body_that_is_no_object_is_the_wrong_type() {
    assert_eq!(invalid(&json!(["Grace"])), [error("", "wrong_type", "expected an object")]);
    let by_position = json!(["Grace", "Navy", null, null, null, null, []]);
    assert_eq!(invalid(&by_position), [error("", "wrong_type", "expected an object")]);
    let nested = json!({"name": "a", "company": "b", "lines": [["a", 1]], "estimated_value": ["1", "USD"]});
    let expected = ["/estimated_value", "/lines/0"].map(|at| error(at, "wrong_type", "expected an object"));
    assert_eq!(invalid(&nested), expected);
    assert_eq!(invalid(&json!("Grace")), [error("", "wrong_type", "expected an object")]);
}

#[test]
fn a_nul_character_is_refused_wherever_it_is() {
    let body = json!({"name": "Gr\0ace", "company": "Navy", "lines": [{"description": "a\0", "quantity": 1}]});
    let detail = "must not contain the character U+0000";
    assert_eq!(
        invalid(&body),
        [error("/lines/0/description", "nul_character", detail), error("/name", "nul_character", detail)]
    );
}

#[test]
fn a_pointer_escapes_what_rfc_6901_says() {
    let (_, errors) = refused(&json!({"name": "Grace", "company": "Navy", "a/b~c": 1}));
    assert_eq!(errors[0].0, "/a~1b~0c");
}

#[test]
fn what_is_not_json_is_malformed_with_its_place() {
    for (body, part) in [
        ("{\"name\": \"Grace\",\n \"company\" \"Navy\"}", "line 2 column"),
        ("{\"name\": \"a\", \"name\": \"b\"}", "the member `name` is there twice"),
        ("{\"lines\": [{\"a\": 1, \"a\": 1}]}", "the member `a` is there twice"),
        ("{} {}", "trailing characters"),
        ("", "empty"),
        (&"[".repeat(10_000), "recursion limit"),
        ("{\"probability\": 1e999}", "number out of range"),
    ] {
        let problem = parse::<NewLead>(body.as_bytes()).unwrap_err();
        assert_eq!(problem.kind(), ProblemKind::MalformedRequest);
        assert!(problem.to_string().contains(part), "{problem}");
    }
    assert_eq!(parse::<NewLead>(b"{\"name\": \"\xff\"}").unwrap_err().kind(), ProblemKind::MalformedRequest);
}

#[test]
fn many_errors_are_cut_off_in_bounded_time() {
    let body = json!({"name": "a", "company": "b", "lines": vec![json!("x"); 50_000]});
    assert_eq!(invalid(&body).len(), 100);
}

#[test]
fn a_patch_tells_absent_null_and_value_apart() {
    let read = |body: Value| parse::<LeadPatch>(body.to_string().as_bytes());
    assert_eq!(read(json!({})).unwrap(), LeadPatch::default());
    assert_eq!(read(json!({"phone": null})).unwrap().phone, Some(None));
    assert_eq!(read(json!({"phone": "1"})).unwrap().phone, Some(Some("1".into())));
    assert_eq!(read(json!({"name": null})).unwrap_err().details().errors[0].code, "wrong_type");
}

async fn extract(content_type: Option<&str>, body: impl Into<Body>) -> Result<Json<LeadPatch>, ProblemKind> {
    let mut request = Request::builder().method("PATCH");
    if let Some(content_type) = content_type {
        request = request.header("content-type", content_type);
    }
    let request = request.body(body.into()).unwrap();
    <Json<LeadPatch> as FromRequest<()>>::from_request(request, &()).await.map_err(|problem| problem.kind())
}

#[tokio::test]
async fn the_media_type_and_the_size_are_checked() {
    for good in ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"] {
        assert!(extract(Some(good), "{}").await.is_ok(), "{good}");
    }
    for odd in [None, Some("text/plain"), Some("application/json-patch+json")] {
        assert_eq!(extract(odd, "{}").await, Err(ProblemKind::UnsupportedMediaType));
    }
    let spaces = |n| format!("{{{}}}", " ".repeat(n));
    assert!(extract(Some("application/json"), spaces(BODY_LIMIT - 2)).await.is_ok());
    assert_eq!(extract(Some("application/json"), spaces(BODY_LIMIT - 1)).await, Err(ProblemKind::PayloadTooLarge));
}

#[tokio::test]
async fn an_optional_body_may_be_left_out_but_not_be_wrong() {
    let extract = async |body: &'static str| {
        let request = Request::builder().header("content-type", "application/json").body(Body::from(body)).unwrap();
        <Json<LeadPatch> as OptionalFromRequest<()>>::from_request(request, &()).await.map_err(|problem| problem.kind())
    };
    assert_eq!(extract("").await, Ok(None));
    assert_eq!(extract("{}").await, Ok(Some(Json(LeadPatch::default()))));
    assert_eq!(extract("{\"x\":1}").await, Err(ProblemKind::UnknownParameter));
}
