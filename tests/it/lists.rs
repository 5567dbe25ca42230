//! Lists on a real database: every row once, in order, and none of another tenant.

use std::cmp::Ordering;

use axum::response::IntoResponse;
use devhub::aggregates::ids::{TenantId, UserId};
use devhub::api::list::{Field, Kind, ListQuery, ListScope, ListSpec, Visibility};
use devhub::api::page::Page;
use devhub::api::problem::ProblemKind;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use sqlx::{Connection, Executor, FromRow, PgConnection};

const STAGES: [&str; 3] = ["new", "won", "lost"];
static FIELDS: &[Field] = &[
    Field::new("id", Kind::Id).not_null(),
    Field::new("name", Kind::Text).in_order_of("rank"),
    Field::new("stage", Kind::Enum(&STAGES)).not_null().in_order_of("updated_at"),
    Field::new("rank", Kind::Integer).not_null(),
    Field::new("value", Kind::Decimal),
    Field::new("due", Kind::Date),
    Field::new("seen_at", Kind::Timestamp),
    Field::new("updated_at", Kind::Timestamp).not_null(),
    Field::new("tags", Kind::TextArray),
];
static THINGS: ListSpec =
    ListSpec { search: &["name"], owner: Some("owner_id"), members: Some("tags"), ..ListSpec::new("things", FIELDS) };

const KEY: [u8; 32] = [7; 32];

/// Two tenants' tables, and a role that row-level security holds.
const SCHEMA: &str = "
    create table things (
        tenant_id text not null, id text not null, name text, stage text not null default 'new', rank integer not null, value numeric, due date,
        seen_at timestamptz, updated_at timestamptz not null default 'epoch', tags text[] not null default '{}',
        owner_id text, deleted_at timestamptz, primary key (tenant_id, id));
    create table users (tenant_id text not null, id text not null, department text, primary key (tenant_id, id));
    alter table things enable row level security;
    alter table users enable row level security;
    create policy tenant on things using (tenant_id = current_setting('devhub.tenant_id', true));
    create policy tenant on users using (tenant_id = current_setting('devhub.tenant_id', true));";

const ROLE: &str = "
    do $$ begin
        if not exists (select from pg_roles where rolname = 'devhub_test_lists') then
            create role devhub_test_lists;
        end if;
    end $$;
    grant select on things, users to devhub_test_lists";

struct Things {
    admin: PgConnection,
    reader: PgConnection,
}

#[derive(Debug, FromRow)]
struct Thing {
    id: String,
}

impl Things {
    async fn start() -> Self {
        let url = crate::cluster::fresh_database("lists", async |url: &str| {
            let mut connection = PgConnection::connect(url).await?;
            connection.execute(SCHEMA).await?;
            connection.execute(ROLE).await?;
            connection.close().await
        })
        .await;
        let mut reader = PgConnection::connect(&url).await.unwrap();
        reader.execute("set role devhub_test_lists").await.unwrap();
        Self { admin: PgConnection::connect(&url).await.unwrap(), reader }
    }

    async fn insert(&mut self, sql: &str) {
        self.admin.execute(sql).await.unwrap();
    }

    async fn page(&mut self, query: &str, tenant: u32, visibility: Visibility<'_>) -> Result<Page<Thing>, ProblemKind> {
        let uri = format!("/api/things?{query}").parse().unwrap();
        let query = ListQuery::parse(&THINGS, &uri).map_err(|problem| problem.kind())?;
        let scope =
            ListScope { tenant: TenantId::Business(tenant), schema: Some("public"), visibility, cursor_key: &KEY };
        query.page(&mut self.reader, &scope).await.map_err(|problem| problem.kind())
    }

    async fn ids(&mut self, query: &str) -> Vec<String> {
        let page = self.page(query, 1, Visibility::Everything).await.unwrap();
        page.data.into_iter().map(|thing| thing.id).collect()
    }

    async fn visible(&mut self, visibility: Visibility<'_>) -> Vec<String> {
        let page = self.page("sort=id", 1, visibility).await.unwrap();
        page.data.into_iter().map(|thing| thing.id).collect()
    }
}

/// A row as the model knows it: few values, so that there are ties and nulls.
#[derive(Debug, Clone)]
struct Row {
    id: String,
    name: Option<u8>,
    stage: u8,
    rank: u8,
    value: Option<u8>,
    due: Option<u8>,
    seen_at: Option<u8>,
}

impl Row {
    fn column(&self, field: &str) -> Option<u8> {
        match field {
            "name" => self.name,
            "stage" => Some(self.stage),
            "rank" | "updated_at" => Some(self.rank),
            "value" => self.value,
            "due" => self.due,
            _ => self.seen_at,
        }
    }

    fn values(&self, tenant: &str) -> String {
        let sql = |value: Option<u8>, write: &dyn Fn(u8) -> String| value.map_or("null".to_owned(), write);
        format!(
            "('{tenant}', '{}', {}, '{}', {}, 'epoch'::timestamptz + {} * interval '1 s', {}, {}, {})",
            self.id,
            sql(self.name, &|v| format!("'{}'", char::from(b'a' + v))),
            STAGES[usize::from(self.stage)],
            self.rank,
            self.rank,
            sql(self.value, &|v| format!("{v}.50")),
            sql(self.due, &|v| format!("'2026-01-0{}'", v + 1)),
            sql(self.seen_at, &|v| format!("'2026-01-01T00:00:00.00000{v}Z'")),
        )
    }
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = (option::of(0..3_u8), 0..3_u8, 0..3_u8, option::of(0..3_u8), option::of(0..2_u8), option::of(0..2_u8));
    vec(row, 0..24).prop_map(|rows| {
        let row = |(number, (name, stage, rank, value, due, seen_at))| {
            // past 999, so that the order of ids by text and by number differ
            let id = format!("CUS-{}", 990 + number);
            Row { id, name, stage, rank, value, due, seen_at }
        };
        rows.into_iter().enumerate().map(row).collect()
    })
}

fn sort() -> impl Strategy<Value = Vec<(&'static str, bool)>> {
    let fields = Just(vec!["name", "rank", "value", "due", "seen_at"]).prop_shuffle();
    let several = (fields, vec(any::<bool>(), 1..=4));
    let several = several.prop_map(|(fields, directions)| fields.into_iter().zip(directions).collect());
    let one = (prop::sample::select(vec!["rank", "updated_at"]), any::<bool>()).prop_map(|step| vec![step]);
    prop_oneof![several, one]
}

/// The names and the stages that are asked for, if any are: some more than once, and a name that nobody has.
fn filters() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    (vec(0..4_u8, 0..4), vec(0..3_u8, 0..4))
}

/// The order as the documentation has it: no value last in either direction, ties by id in the last direction.
fn compare(a: &Row, b: &Row, sort: &[(&str, bool)]) -> Ordering {
    let turned = |order: Ordering, descending: bool| if descending { order.reverse() } else { order };
    for &(field, descending) in sort {
        let order = match (a.column(field), b.column(field)) {
            (Some(a), Some(b)) => turned(a.cmp(&b), descending),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        };
        if order.is_ne() {
            return order;
        }
    }
    turned(a.id.cmp(&b.id), sort.last().is_some_and(|(_, descending)| *descending))
}

#[tokio::test(flavor = "multi_thread")]
async fn paging_returns_each_row_once_and_in_order() {
    let mut things = Things::start().await;
    let config = Config { cases: 192, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let things = std::cell::RefCell::new(&mut things);
    tokio::task::block_in_place(|| {
        runner
            .run(&(rows(), sort(), filters(), 1..6_usize), |(rows, sort, filters, limit)| {
                let handle = tokio::runtime::Handle::current();
                handle.block_on(read_all(*things.borrow_mut(), rows, &sort, &filters, limit))
            })
            .unwrap();
    });
}

async fn read_all(
    things: &mut Things,
    mut rows: Vec<Row>,
    sort: &[(&str, bool)],
    (asked_names, asked_stages): &(Vec<u8>, Vec<u8>),
    limit: usize,
) -> Result<(), TestCaseError> {
    things.insert("delete from things").await;
    for tenant in ["TNT-001", "TNT-002"] {
        let values: Vec<String> = rows.iter().map(|row| row.values(tenant)).collect();
        if !values.is_empty() {
            let columns = "tenant_id, id, name, stage, rank, updated_at, value, due, seen_at";
            things.insert(&format!("insert into things ({columns}) values {}", values.join(", "))).await;
        }
    }
    let is_named = |row: &Row| asked_names.is_empty() || row.name.is_some_and(|name| asked_names.contains(&name));
    rows.retain(|row| is_named(row) && (asked_stages.is_empty() || asked_stages.contains(&row.stage)));
    rows.sort_by(|a, b| compare(a, b, sort));
    let expected: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();

    let names: Vec<String> =
        sort.iter().map(|(name, down)| format!("{}{name}", if *down { "-" } else { "" })).collect();
    let mut query = format!("sort={}&limit={limit}&count=exact", names.join(","));
    let asked_names: Vec<String> = asked_names.iter().map(|name| char::from(b'a' + name).to_string()).collect();
    let asked_stages: Vec<&str> = asked_stages.iter().map(|stage| STAGES[usize::from(*stage)]).collect();
    for (name, asked) in [("name", asked_names.join(",")), ("stage", asked_stages.join(","))] {
        if !asked.is_empty() {
            query = format!("{query}&{name}={asked}");
        }
    }
    let (mut read, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = things.page(&format!("{query}{cursor}"), 1, Visibility::Everything).await.unwrap();
        prop_assert_eq!(page.page.total, Some(i64::try_from(rows.len()).unwrap()));
        prop_assert!(page.data.len() <= limit);
        read.extend(page.data.into_iter().map(|thing| thing.id));
        prop_assert!(read.len() <= rows.len(), "more rows than there are: {:?}", read);
        prop_assert_eq!(page.page.has_more, page.page.next_cursor.is_some());
        let Some(next) = page.page.next_cursor else { break };
        cursor = format!("&cursor={next}");
    }
    prop_assert_eq!(read, expected);
    Ok(())
}

#[tokio::test]
async fn filters_choose_what_they_say() {
    let mut things = Things::start().await;
    things
        .insert(
            "insert into things (tenant_id, id, name, rank, value, due, seen_at, tags, deleted_at) values
             ('TNT-001', 'CUS-001', 'Acme 100%', 1, 10.5, '2026-01-31', '2026-01-31T23:59:59Z', '{a,b}', null),
             ('TNT-001', 'CUS-002', 'acme_inc', 2, 99.99, '2026-02-01', '2026-02-01T00:00:00Z', '{b}', null),
             ('TNT-001', 'CUS-003', null, 3, null, null, null, '{}', null),
             ('TNT-001', 'CUS-004', 'Gone', 4, 1, null, null, '{}', now()),
             ('TNT-002', 'CUS-001', 'Acme of others', 1, 10.5, '2026-01-31', '2026-01-31T12:00:00Z', '{a}', null)",
        )
        .await;
    for (query, expected) in [
        ("", &["CUS-001", "CUS-002", "CUS-003"][..]),
        ("id=CUS-002,CUS-003,CUS-004", &["CUS-002", "CUS-003"]),
        ("rank[gte]=2", &["CUS-002", "CUS-003"]),
        ("rank[gt]=1&rank[lt]=3", &["CUS-002"]),
        ("rank[in]=1,3", &["CUS-001", "CUS-003"]),
        ("value=10.50", &["CUS-001"]),
        ("value[ne]=10.5", &["CUS-002", "CUS-003"]),
        ("due[lte]=2026-01-31", &["CUS-001"]),
        ("due[ne]=2026-01-31", &["CUS-002", "CUS-003"]),
        ("seen_at=2026-01-31", &["CUS-001"]),
        ("seen_at[gt]=2026-01-31", &["CUS-002"]),
        ("seen_at[lte]=2026-01-31", &["CUS-001"]),
        ("seen_at[lt]=2026-02-01T01:00:00%2B01:00", &["CUS-001"]),
        ("name[contains]=%25", &["CUS-001"]),
        ("name[contains]=_", &["CUS-002"]),
        ("name[ne]=acme_inc", &["CUS-001", "CUS-003"]),
        ("q=ACME%20inc", &["CUS-002"]),
        ("q=others", &[]),
        ("tags=a,x", &["CUS-001"]),
        ("tags[contains]=b", &["CUS-001", "CUS-002"]),
        ("tags[ne]=a", &["CUS-002", "CUS-003"]),
    ] {
        assert_eq!(things.ids(&format!("sort=id&{query}")).await, expected, "{query}");
    }
}

#[tokio::test]
async fn a_caller_sees_what_is_theirs_or_their_departments() {
    let mut things = Things::start().await;
    things
        .insert(
            "insert into users (tenant_id, id, department) values
             ('TNT-001', 'USR-001', 'sales'), ('TNT-001', 'USR-002', 'sales'), ('TNT-001', 'USR-003', 'support'),
             ('TNT-002', 'USR-003', 'sales');
             insert into things (tenant_id, id, rank, owner_id, tags) values
             ('TNT-001', 'CUS-001', 0, 'USR-001', '{}'), ('TNT-001', 'CUS-002', 0, 'USR-002', '{}'),
             ('TNT-001', 'CUS-003', 0, 'USR-003', '{}'), ('TNT-001', 'CUS-004', 0, 'USR-003', '{USR-001}'),
             ('TNT-001', 'CUS-005', 0, null, '{}')",
        )
        .await;
    let user = UserId(1);
    assert_eq!(things.visible(Visibility::OwnedBy(user)).await, ["CUS-001", "CUS-004"]);
    let sales = Visibility::Department { department: "sales", user };
    assert_eq!(things.visible(sales).await, ["CUS-001", "CUS-002", "CUS-004"]);
    let support = Visibility::Department { department: "support", user };
    assert_eq!(things.visible(support).await, ["CUS-001", "CUS-003", "CUS-004"]);
}

#[tokio::test]
async fn a_cursor_leads_on_in_its_own_list_only() {
    let mut things = Things::start().await;
    for tenant in ["TNT-001", "TNT-002"] {
        let rows = "select '{}', 'CUS-00' || n, n from generate_series(1, 5) n".replace("{}", tenant);
        things.insert(&format!("insert into things (tenant_id, id, rank) {rows}")).await;
    }
    let first = things.page("sort=-rank&rank[gt]=1&limit=2", 1, Visibility::Everything).await.unwrap();
    let cursor = first.page.next_cursor.clone().unwrap();
    let link = first.map(|thing| thing.id).into_response().headers()["link"].to_str().unwrap().to_owned();
    assert_eq!(link, format!("</api/things?sort=-rank&rank[gt]=1&limit=2&cursor={cursor}>; rel=\"next\""));

    let go_on = format!("cursor={cursor}&limit=1&rank[gt]=1&sort=-rank");
    assert_eq!(things.ids(&go_on).await, ["CUS-003"], "another page size is fine");
    for (query, tenant) in [
        (go_on.as_str(), 2),
        (&go_on.replace("[gt]=1", "[gt]=0"), 1),
        (&go_on.replace("-rank", "rank"), 1),
        (&format!("{go_on}&q=x"), 1),
        (&go_on.replace(&cursor, &cursor[1..]), 1),
    ] {
        let refused = things.page(query, tenant, Visibility::Everything).await.unwrap_err();
        assert_eq!(refused, ProblemKind::InvalidCursor, "{query}");
    }
}
