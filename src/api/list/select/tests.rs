use super::*;
use crate::aggregates::ids::{TenantId, UserId};
use crate::api::list::{Field, Kind, ListSpec, WorkedOut};

static FIELDS: &[Field] = &[
    Field::new("id", Kind::Id).not_null(),
    Field::new("stage", Kind::Enum(&["new", "won"])),
    Field::new("value", Kind::Decimal).column("estimated_value"),
    Field::new("created_at", Kind::Timestamp).not_null(),
    Field::new("updated_at", Kind::Timestamp).not_null(),
    Field::new("tags", Kind::TextArray),
];
static LEADS: ListSpec = ListSpec {
    search: &["name", "company"],
    owner: Some("owner_id"),
    members: Some("member_ids"),
    ..ListSpec::new("leads", FIELDS)
};
static TENANTS: ListSpec = ListSpec { of_tenants: false, hides_deleted: false, ..ListSpec::new("tenants", FIELDS) };

fn scope(visibility: Visibility<'_>) -> ListScope<'_> {
    ListScope { tenant: TenantId::Business(1), schema: Some("cell_000"), visibility, cursor_key: &[0; 32] }
}

fn sql(spec: &'static ListSpec, query: &str, visibility: Visibility<'_>, after: Option<Keys>) -> String {
    let query = ListQuery::parse(spec, &format!("/x?{query}").parse().unwrap()).unwrap();
    let terms = sort::terms(spec, &query.sort);
    query.select(&scope(visibility), &terms, after.as_ref(), None).into_sql()
}

#[test]
fn a_list_names_its_tenant_in_the_statement() {
    assert_eq!(
        sql(&LEADS, "", Visibility::Everything, None),
        "with scope as materialized (select set_config('devhub.tenant_id', $1, true) as tenant_id) \
         select q.* from scope cross join lateral (select t.* from \"cell_000\".leads t \
         where t.tenant_id = scope.tenant_id and t.deleted_at is null \
         order by updated_at desc, id desc limit 51) q"
    );
}

#[test]
fn a_list_of_the_platform_has_no_tenant() {
    let sql = sql(&TENANTS, "sort=created_at", Visibility::Everything, None);
    assert!(sql.contains(" from (select t.*") && sql.contains(".tenants t where true order by"), "{sql}");
    assert!(!sql.contains("scope"), "{sql}");
}

fn conditions(query: &str, visibility: Visibility<'_>) -> String {
    let sql = sql(&LEADS, query, visibility, None);
    let (_, rest) = sql.split_once("t.deleted_at is null").unwrap();
    rest.split_once(" order by").unwrap().0.to_owned()
}

#[test]
fn a_word_that_is_worked_out_stands_for_others_before_a_day() {
    static DUE: &[Field] = &[Field::new("status", Kind::Enum(&["draft", "sent", "overdue"])).not_null()];
    static BILLS: ListSpec = ListSpec { default_sort: "status", ..ListSpec::new("bills", DUE) };
    let before = chrono::NaiveDate::from_ymd_opt(2026, 3, 2).unwrap();
    let meaning = WorkedOut { column: "status", word: "overdue", among: &["sent"], date: "due_date", before };
    let conditions = |query: &str| {
        let query = ListQuery::parse(&BILLS, &format!("/x?{query}").parse().unwrap()).unwrap().worked_out(meaning);
        let terms = sort::terms(&BILLS, &query.sort);
        let sql = query.select(&scope(Visibility::Everything), &terms, None, None).into_sql();
        sql.split_once("t.deleted_at is null").unwrap().1.split_once(" order by").unwrap().0.to_owned()
    };
    let overdue = |words: &str| format!("((status = {words}) or (status = any($2)) and due_date < $3)");
    assert_eq!(conditions("status=overdue,draft"), format!(" and {}", overdue("any(array['overdue','draft'])")));
    assert_eq!(conditions("status[ne]=overdue"), format!(" and (status is null or not {})", overdue("'overdue'")));
    assert_eq!(conditions("status=sent"), " and (status = 'sent')");
}

#[test]
fn values_are_bound_and_only_words_of_ours_are_written() {
    let sql = conditions("stage=new,won&value[gte]=10000&q=a'b&tags[contains]=x'y&tags=p,q", Visibility::Everything);
    assert_eq!(
        sql,
        " and (stage = any(array['new','won'])) and (true and estimated_value >= $2) and (true and tags @> $3) \
         and (tags && $4) and (name ilike $5 or company ilike $6)"
    );
}

#[test]
fn ne_includes_what_has_no_value() {
    assert_eq!(conditions("stage[ne]=new", Visibility::Everything), " and (stage is null or not (stage = 'new'))");
}

#[test]
fn what_an_index_has_in_order_value_by_value_is_merged() {
    static FIELDS: &[Field] = &[
        Field::new("stage", Kind::Enum(&["new", "won"])).in_order_of("updated_at"),
        Field::new("owner_id", Kind::Id).in_order_of("updated_at"),
        Field::new("due", Kind::Date).not_null(),
        Field::new("updated_at", Kind::Timestamp).not_null(),
    ];
    static DEALS: ListSpec = ListSpec { versions: Some("deal_versions"), ..ListSpec::new("deals", FIELDS) };
    let read = |query: &str, after| sql(&DEALS, query, Visibility::Everything, after);
    let part = |condition: &str| {
        format!(
            "select t.* from \"cell_000\".deals t where t.tenant_id = scope.tenant_id and t.deleted_at is null \
             and {condition} order by updated_at desc, id desc limit 51"
        )
    };
    let merged = |one: &str, other: &str| {
        let (one, other) = (part(one), part(other));
        format!(
            "with scope as materialized (select set_config('devhub.tenant_id', $1, true) as tenant_id) \
             select q.* from scope cross join lateral (select u.* from (({one}) union all ({other})) u \
             order by u.updated_at desc, u.id desc limit 51) q"
        )
    };
    assert_eq!(read("stage=won,new,won", None), merged("(stage = 'new')", "(stage = 'won')"));
    assert_eq!(
        read("owner_id=USR-002,USR-001", Some(vec![Some("x".into()), Some("LED-001".into())])),
        merged(
            "(owner_id = $2) and (updated_at, id) < ($3::timestamptz, $4::text)",
            "(owner_id = $5) and (updated_at, id) < ($6::timestamptz, $7::text)"
        )
    );
    // of two such filters, one is enough
    assert_eq!(
        read("stage=won,new&owner_id=USR-001,USR-002", None),
        merged("(stage = 'new') and (owner_id = any($2))", "(stage = 'won') and (owner_id = any($3))")
    );
    for as_one in ["stage=new", "stage[ne]=new,won", "stage=new,won&sort=due", "stage=new,won&sort=-updated_at,due"] {
        assert!(!read(as_one, None).contains("union all"), "{as_one}");
    }
    assert!(!read("stage=new,won&as_of=2026-01-31", None).contains("union all"));
}

#[test]
fn a_day_is_compared_as_a_whole() {
    let on = |query| conditions(query, Visibility::Everything);
    assert_eq!(on("created_at=2026-01-31"), " and (false or (created_at >= $2 and created_at < $3))");
    assert_eq!(on("created_at[lte]=2026-01-31"), " and (true and created_at < $2)");
    assert_eq!(on("created_at[gt]=2026-01-31"), " and (true and created_at >= $2)");
    assert_eq!(on("created_at[gt]=2026-01-31T00:00:00Z"), " and (true and created_at > $2)");
}

#[test]
fn the_caller_sees_what_may_be_seen() {
    let user = UserId(4);
    assert_eq!(conditions("", Visibility::OwnedBy(user)), " and (false or $2 = any(member_ids) or owner_id = $3)");
    assert_eq!(
        conditions("", Visibility::Department { department: "sales", user }),
        " and (false or $2 = any(member_ids) or owner_id = $3 or owner_id in (select u.id from \"cell_000\".users u \
         where u.tenant_id = scope.tenant_id and u.department = $4))"
    );
}

#[test]
fn keys_that_go_one_way_are_one_range() {
    let sql = sql(&LEADS, "", Visibility::Everything, Some(vec![Some("x".into()), Some("LED-001".into())]));
    assert!(sql.contains(" and (updated_at, id) < ($2::timestamptz, $3::text) order by"), "{sql}");
}

#[test]
fn keys_that_go_both_ways_or_can_be_null_are_compared_one_by_one() {
    let keys = Some(vec![Some("5".into()), Some("x".into()), Some("LED-001".into())]);
    let sql = sql(&LEADS, "sort=-value,updated_at", Visibility::Everything, keys);
    assert!(sql.contains("order by estimated_value desc nulls last, updated_at, id limit"), "{sql}");
    assert!(
        sql.contains(
            " and (false or ((estimated_value < $2::numeric or estimated_value is null)) \
             or (estimated_value = $3::numeric and (updated_at > $4::timestamptz)) \
             or (estimated_value = $5::numeric and updated_at = $6::timestamptz and (id > $7::text)))"
        ),
        "{sql}"
    );
}

#[test]
fn after_a_null_comes_what_is_null_as_well() {
    let keys = Some(vec![None, Some("LED-001".into())]);
    let sql = sql(&LEADS, "sort=value", Visibility::Everything, keys);
    assert!(sql.contains(" and estimated_value is null and (id) > ($2::text) order by id limit 51) q"), "{sql}");
    assert!(!sql.contains("union all"), "{sql}");
}

#[test]
fn what_has_a_value_and_what_has_none_are_each_read_in_an_order_that_an_index_has() {
    let keys = Some(vec![Some("5".into()), Some("LED-001".into())]);
    let sql = sql(&LEADS, "sort=-value", Visibility::Everything, keys);
    let first = " and estimated_value is not null and (estimated_value, id) < ($2::numeric, $3::text) \
                 order by estimated_value desc, id desc limit 51) select * from valued union all (";
    assert!(sql.contains(first), "{sql}");
    let then = " and estimated_value is null and (select count(*) from valued) <= 50 order by id desc limit 51)) q ";
    assert!(sql.contains(then), "{sql}");
    assert!(sql.ends_with(" order by q.sort_0 desc nulls last, q.id desc limit 51"), "{sql}");
}

#[test]
fn ids_are_sorted_by_number() {
    let sql = sql(&LEADS, "sort=id", Visibility::Everything, None);
    assert!(sql.contains("order by length(id), id limit"), "{sql}");
}

#[test]
fn wildcards_are_taken_literally() {
    assert_eq!(anywhere(r"50%_\"), r"%50\%\_\\%");
}

#[test]
fn a_list_of_the_past_reads_the_versions_that_held_and_asks_the_rows_of_today_who_may_see_them() {
    static PAST: ListSpec = ListSpec { versions: Some("lead_versions"), ..LEADS };
    let then = |query: &str, visibility| sql(&PAST, query, visibility, None);
    let everything = then("as_of=2017-06-30", Visibility::Everything);
    assert!(
        everything.contains(
            " from \"cell_000\".lead_versions t where t.tenant_id = scope.tenant_id and t.occurred_from <= $2 \
             and t.occurred_to > $3 and t.updated_at <= $4 and t.deleted_at is null order by"
        ),
        "{everything}"
    );
    let recorded = then("as_of=2017-06-30&axis=recorded", Visibility::Everything);
    assert!(recorded.contains("t.recorded_from <= $2 and t.recorded_to > $3 and t.deleted_at is null"), "{recorded}");
    let own = then("as_of=2017-06-30", Visibility::OwnedBy(UserId(7)));
    assert!(
        own.contains(
            " and t.id in (select n.id from \"cell_000\".leads n where n.tenant_id = scope.tenant_id \
             and (false or $5 = any(member_ids) or owner_id = $6)) order by"
        ),
        "{own}"
    );
    let parents = [
        Parent { column: "customer_id", table: "customers", owner: "owner_id", visibility: Visibility::Everything },
        Parent { column: "lead_id", table: "leads", owner: "assignee_id", visibility: Visibility::Within(&[]) },
    ];
    let within = then("as_of=2017-06-30", Visibility::Within(&parents));
    assert!(
        within.contains(
            "(false or (customer_id in (select p.id from \"cell_000\".customers p where p.tenant_id = scope.tenant_id \
             and true)) or (customer_id is null and lead_id in (select p.id from \"cell_000\".leads p \
             where p.tenant_id = scope.tenant_id and (false))))"
        ),
        "{within}"
    );
    // Now is now: the rows as they are, and nothing about versions.
    assert!(!then("", Visibility::Everything).contains("occurred_from"));
}
