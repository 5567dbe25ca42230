use super::*;
use crate::api::problem::ProblemKind;

static FIELDS: &[Field] = &[
    Field::new("id", Kind::Id).not_null(),
    Field::new("name", Kind::Text).not_null(),
    Field::new("stage", Kind::Enum(&["new", "proposal", "negotiation"])),
    Field::new("estimated_value", Kind::Decimal),
    Field::new("probability", Kind::Integer),
    Field::new("expected_close_date", Kind::Date),
    Field::new("updated_at", Kind::Timestamp).not_null(),
    Field::new("converted", Kind::Bool).filter_only(),
    Field::new("tags", Kind::TextArray),
];
static LEADS: ListSpec = ListSpec { search: &["name"], extra: &["as_of"], ..ListSpec::new("leads", FIELDS) };

fn parse(query: &str) -> Result<ListQuery, Problem> {
    ListQuery::parse(&LEADS, &format!("/api/leads?{query}").parse().unwrap())
}

fn refused(query: &str) -> (ProblemKind, Vec<(String, String)>) {
    let problem = parse(query).unwrap_err();
    let told = |error: &FieldError| (error.parameter.clone().unwrap(), error.code.clone());
    (problem.kind(), problem.details().errors.iter().map(told).collect())
}

#[test]
fn a_list_is_asked_as_documented() {
    let query = parse(
        "stage=proposal,negotiation&estimated_value%5Bgte%5D=10000&q=acme%20inc&sort=-updated_at,name&limit=20&count=exact&as_of=x",
    )
    .unwrap();
    assert_eq!(
        query.filters,
        [
            Filter {
                column: "stage",
                is_array: false,
                operator: Operator::Is,
                operand: Operand::Words(vec!["proposal", "negotiation"]),
                worked_out: None,
            },
            Filter {
                column: "estimated_value",
                is_array: false,
                operator: Operator::Gte,
                operand: Operand::Decimals(vec![10_000.into()]),
                worked_out: None,
            },
        ]
    );
    assert_eq!((query.words.as_slice(), query.limit, query.counts), (&["acme".to_owned(), "inc".into()][..], 20, true));
    assert_eq!(sort_text(&query.sort), "-updated_at,name");
    assert_eq!(query.extra("as_of"), Some("x"));
}

#[test]
fn nothing_asked_is_the_default() {
    let query = parse("").unwrap();
    assert_eq!((query.limit, sort_text(&query.sort).as_str(), query.counts), (50, "-updated_at", false));
}

#[test]
fn what_does_not_exist_is_named_with_what_does() {
    assert_eq!(
        refused("stge=new&limit=0"),
        (ProblemKind::UnknownParameter, vec![("stge".into(), "unknown_parameter".into())])
    );
    let detail = |query| parse(query).unwrap_err().to_string();
    assert_eq!(detail("stge=new"), "there is no parameter `stge`; did you mean `stage`?");
    assert_eq!(detail("stage[gt]=new"), "`stage` has no operator `[gt]`; it has [ne] [in]");
    assert_eq!(detail("stage[=new"), "`stage` has no operator `[`; it has [ne] [in]");
    assert_eq!(detail("tenant_id=TNT-002").split(';').next(), Some("there is no parameter `tenant_id`"));
}

#[test]
fn every_value_that_is_wrong_is_named() {
    let query = "stage=won&estimated_value[gt]=1,5&probability=x&expected_close_date=2026-02-30&updated_at[lt]=yesterday\
                 &converted=perhaps&limit=201&count=about&sort=stage,zip&id=42&name=&limit=5";
    let (kind, mut errors) = refused(query);
    errors.sort();
    assert_eq!(kind, ProblemKind::ValidationFailed);
    let told: Vec<(&str, &str)> = errors.iter().map(|(name, code)| (name.as_str(), code.as_str())).collect();
    assert_eq!(
        told,
        [
            ("converted", "wrong_type"),
            ("count", "unknown_value"),
            ("estimated_value[gt]", "wrong_type"),
            ("expected_close_date", "wrong_type"),
            ("id", "wrong_type"),
            ("limit", "out_of_range"),
            ("limit", "repeated"),
            ("name", "empty"),
            ("probability", "wrong_type"),
            ("sort", "unknown_value"),
            ("stage", "unknown_value"),
            ("updated_at[lt]", "wrong_type"),
        ]
    );
}

#[test]
fn a_time_is_a_point_or_a_day() {
    let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    assert_eq!(moment("2026-01-31T09:00:00Z").unwrap(), Moment { start: at("2026-01-31T09:00:00Z"), end: None });
    assert_eq!(moment("2026-01-31T09:00:00+02:00").unwrap().start, at("2026-01-31T07:00:00Z"));
    assert_eq!(moment("2026-01-31T09:00:00 02:00").unwrap().start, at("2026-01-31T07:00:00Z"));
    assert_eq!(
        moment("2026-01-31").unwrap(),
        Moment { start: at("2026-01-31T00:00:00Z"), end: Some(at("2026-02-01T00:00:00Z")) }
    );
    for odd in ["2026-01-31T09:00:00", "31.01.2026", "+12026-01-31", "2026-1-3", ""] {
        assert_eq!(moment(odd), None, "{odd:?}");
    }
}

#[test]
fn a_cursor_is_for_the_same_rows_in_the_same_order() {
    let context = |query: &str, tenant: &str| parse(query).unwrap().context(tenant).unwrap();
    let here = context("stage=new&probability=5", "TNT-001");
    assert_eq!(here, context("probability=5&stage=new&limit=7&cursor=x&count=exact&sort=-updated_at", "TNT-001"));
    assert_ne!(here, context("stage=new&probability=6", "TNT-001"));
    assert_ne!(here, context("stage=new&probability=5&sort=updated_at", "TNT-001"));
    assert_ne!(here, context("stage=new&probability=5&q=a", "TNT-001"));
    assert_ne!(here, context("stage=new&probability=5", "TNT-002"));
}

#[test]
fn the_next_address_keeps_every_parameter() {
    let address = |query| parse(query).unwrap().address.page("abc");
    assert_eq!(address("q=a%20b&cursor=old&limit=2"), "/api/leads?q=a%20b&limit=2&cursor=abc");
    assert_eq!(address("cursor=old"), "/api/leads?cursor=abc");
}
