//! Searches of a large business: what is found is what is there, whatever is known of it, and no more is looked at than has to be.

use std::collections::{BTreeMap, BTreeSet};

use devhub::aggregates::ids::TenantId;
use devhub::api::customers::Customers;
use devhub::api::invoices::Invoices;
use devhub::api::leads::Leads;
use devhub::api::list::{ListQuery, ListScope, Visibility};
use devhub::api::projects::Projects;
use devhub::api::record::{Noun, list_spec};
use devhub::projections::leads::LeadRow;
use devhub::projections::row::{Row, Stored};
use devhub::projections::search::{self, BLOCK, FIRST, Letters};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};

use crate::poison::{lead, store, tenant_of};
use crate::rebuild::{cell, rebuild};
use crate::world::{Client, World};

/// So many that a few of their blocks are few.
const LEADS: u32 = FIRST + 70 * BLOCK + 10;

/// So many are read in the order of a list that an index has, before it is asked where else to look.
const EARLY: u32 = 5_000;

/// A lead's name, company and e-mail; in the test's own words, and in two alphabets.
type Texts = [String; 3];

fn texts(number: u32) -> Texts {
    const NAMES: [&str; 6] = ["Mateo", "Ingrid", "Łukasz", "Σοφία", "Ana_Luísa", "Bo%"];
    const COMPANIES: [&str; 5] = ["Rossi & Figli", "Nordic Steel", "Ångström AB", "ΔΕΗ", "Back\\slash"];
    let pick = |of: &[&str], by: u32| of[usize::try_from(number / by).unwrap() % of.len()].to_owned();
    let rare = number.wrapping_mul(2_654_435_761);
    [
        format!("{} {rare:x}", pick(&NAMES, 1)),
        pick(&COMPANIES, 3),
        format!("{}{number}@{}.example", ["info", "sales"][usize::try_from(number % 2).unwrap()], rare % 97),
    ]
}

/// Does the same to many leads, as many at once as a batch takes.
async fn batch(owner: &Client, operations: Vec<Value>) {
    for some in operations.chunks(500) {
        let answer = owner.post("/api/leads/batch", json!({"operations": some})).await.ok();
        assert_eq!(answer["failed"], 0, "{answer:#}");
    }
}

fn body([name, company, email]: &Texts) -> Value {
    json!({"name": name, "company": company, "email": email})
}

/// A business with many leads, and what they say, by their numbers.
async fn large(world: &World) -> (Client, Vec<Texts>) {
    let owner = world.business_on("ACME", "enterprise").await;
    let leads: Vec<Texts> = (0..LEADS).map(texts).collect();
    batch(&owner, leads.iter().map(|texts| json!({"op": "create", "body": body(texts)})).collect()).await;
    (owner, leads)
}

fn id(number: usize) -> String {
    format!("LED-{number:03}")
}

/// Signs all that is to be signed, beside the server itself.
async fn sign(world: &World) {
    let mut admin = PgConnection::connect(&world.url).await.unwrap();
    let stale = "
        select exists (select from cell_000.search_marks m where not exists (
            select from cell_000.search_signatures s
            where s.tenant_id = m.tenant_id and s.noun = m.noun and s.block = m.block and s.changes = m.changes
              and s.made_of = format('cell_000.%I', m.noun)::regclass))";
    while sqlx::query_scalar(stale).fetch_one(&mut admin).await.unwrap() {
        search::sign(cell(world)).await.unwrap();
    }
}

/// How often each block has changed.
async fn marks(world: &World) -> BTreeMap<i32, i64> {
    let mut admin = PgConnection::connect(&world.url).await.unwrap();
    let marks = sqlx::query_as("select block, changes from cell_000.search_marks where noun = 'leads'");
    marks.fetch_all(&mut admin).await.unwrap().into_iter().collect()
}

/// The blocks of these leads.
fn blocks(leads: impl IntoIterator<Item = usize>) -> BTreeSet<i32> {
    leads.into_iter().filter_map(|number| search::block_of(&id(number))).collect()
}

/// The blocks that have changed since.
async fn changed_since(world: &World, before: &BTreeMap<i32, i64>) -> BTreeSet<i32> {
    marks(world)
        .await
        .into_iter()
        .filter(|(block, changes)| before[block] != *changes)
        .map(|(block, _)| block)
        .collect()
}

/// A search, by a parameter that looks everywhere or in one field, in some order.
#[derive(Debug)]
struct Search {
    asked: String,
    /// The texts in which it looks, without the id.
    within: &'static [usize],
    word: String,
}

impl Search {
    fn finds(&self, number: usize, texts: &Texts) -> bool {
        let word = self.word.to_lowercase();
        let by_id = self.within.len() == 3 && id(number).to_lowercase().contains(&word);
        by_id || self.within.iter().any(|place| texts[*place].to_lowercase().contains(&word))
    }
}

/// For a part of what some lead says, or for what perhaps none does.
fn searches() -> impl Strategy<Value = Search> {
    const WITHIN: [(&str, &[usize]); 4] =
        [("q", &[0, 1, 2]), ("name[contains]", &[0]), ("company[contains]", &[1]), ("email[contains]", &[2])];
    let word =
        (any::<Index>(), 0_usize..3, any::<(Index, Index)>(), any::<bool>()).prop_map(|(lead, place, part, upper)| {
            let lead = u32::try_from(lead.index(LEADS as usize)).unwrap();
            let text: Vec<char> = texts(lead)[place].chars().collect();
            let (from, to) = (part.0.index(text.len()), part.1.index(text.len()));
            let word: String = text[from.min(to)..=from.max(to)].iter().collect();
            let word = word.split_whitespace().max_by_key(|word| word.len()).unwrap_or("a").to_owned();
            let upper: Option<String> = upper.then(|| word.to_uppercase());
            // In one field, nothing is split.
            upper.filter(|upper| upper.to_lowercase() == word.to_lowercase()).unwrap_or(word)
        });
    let word = prop_oneof![9 => word, 1 => "[a-z]{1,6}".prop_map(|word| word)];
    const SORTS: [&str; 7] = [
        "",
        "&sort=name",
        "&sort=-company",
        "&sort=company",
        "&sort=-created_at",
        "&stage=new",
        "&stage=new,contacted",
    ];
    (word, select(&WITHIN[..]), select(&SORTS[..])).prop_map(|(word, (field, within), sort)| Search {
        asked: format!("{}={}{sort}", encoded(field), encoded(&word)),
        within,
        word,
    })
}

async fn finds_what_is_there(owner: &Client, leads: &[Texts], runner: &mut TestRunner) {
    for _ in 0..40 {
        let search = searches().new_tree(runner).unwrap().current();
        let expected: BTreeSet<String> = leads
            .iter()
            .enumerate()
            .filter(|(number, lead)| search.finds(*number, lead))
            .map(|(number, _)| id(number))
            .collect();
        let page = owner.get(&format!("/api/leads?limit=200&count=exact&{}", search.asked)).await.ok();
        let found = ids(&page);
        assert_eq!(page["page"]["total"], expected.len(), "{search:?}");
        assert!(found.is_subset(&expected), "{search:?}");
        assert_eq!(found.len(), expected.len().min(200), "{search:?}");
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn ids(page: &Value) -> BTreeSet<String> {
    page["data"].as_array().unwrap().iter().map(|lead| lead["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_search_finds_what_is_there_whatever_is_known_of_it() {
    let world = World::start().await;
    let (owner, mut leads) = large(&world).await;
    let mut runner = TestRunner::new(Config::default());
    finds_what_is_there(&owner, &leads, &mut runner).await;

    let known = marks(&world).await;
    assert_eq!(known.keys().copied().collect::<BTreeSet<_>>(), blocks(0..leads.len()));
    sign(&world).await;
    finds_what_is_there(&owner, &leads, &mut runner).await;

    // Each of these blocks has what it did not have, or lacks what it had.
    let changed: Vec<usize> = (0..leads.len()).step_by(97).collect();
    for number in &changed {
        leads[*number] = ["Zoë Quux".to_owned(), format!("Xanthic {number}"), format!("zq{number}@quux.example")];
    }
    let change = |number: &usize| json!({"op": "update", "id": id(*number), "body": body(&leads[*number])});
    batch(&owner, changed.iter().map(change).collect()).await;
    finds_what_is_there(&owner, &leads, &mut runner).await;
    let found = owner.get("/api/leads?q=quux%20xanthic&limit=200&count=exact").await.ok();
    assert_eq!(found["page"]["total"], changed.len());
    assert_eq!(changed_since(&world, &known).await, blocks(changed.iter().copied()));
    sign(&world).await;
    finds_what_is_there(&owner, &leads, &mut runner).await;

    for sort in ["name", "-company", "-updated_at", "id"] {
        let mut address = Some(format!("/api/leads?q=quux&limit=10&sort={sort}"));
        let mut found = Vec::new();
        while let Some(at) = address {
            let page = owner.get(&at).await.ok();
            found.extend(page["data"].as_array().unwrap().iter().map(|lead| lead["id"].as_str().unwrap().to_owned()));
            let next = page["page"]["next_cursor"].as_str();
            address = next.map(|cursor| format!("/api/leads?q=quux&limit=10&sort={sort}&cursor={cursor}"));
        }
        assert_eq!(found.len(), changed.len(), "{sort}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), changed.iter().copied().map(id).collect(), "{sort}");
    }

    // What says nothing else than before leaves everything known.
    let moved = |number: &usize| json!({"op": "stage", "id": id(*number), "body": {"stage": "contacted"}});
    let known = marks(&world).await;
    batch(&owner, changed.iter().map(moved).collect()).await;
    assert_eq!(changed_since(&world, &known).await, BTreeSet::new());
}

/// How many leads are read for a list.
async fn read_for(world: &World, tenant: TenantId, asked: &str) -> i64 {
    let address = format!("/api/leads?{asked}").replace('[', "%5B").replace(']', "%5D");
    let query = ListQuery::parse(list_spec::<Leads>(), &address.parse().unwrap()).unwrap();
    let scope = ListScope { tenant, schema: None, visibility: Visibility::Everything, cursor_key: &[0; 32] };
    let mut transaction = cell(world).request.begin().await.unwrap();
    let before = read_so_far(&mut transaction).await;
    query.records(&mut transaction, &scope, |lead: Stored<LeadRow>| lead.id).await.unwrap();
    read_so_far(&mut transaction).await - before
}

/// What this connection has read of leads; it is counted anew from time to time, but not within a transaction.
async fn read_so_far(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relname = 'leads'")
        .fetch_one(connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_search_for_what_is_rare_looks_at_few_leads() {
    let world = World::start().await;
    let (owner, _) = large(&world).await;
    sign(&world).await;
    let tenant = tenant_of(&owner);
    let rare = texts(4_321)[0].split_once(' ').unwrap().1.to_owned();
    for (asked, early) in [
        (format!("q={rare}"), true),
        (format!("name[contains]={rare}&sort=name"), true),
        ("q=sales4321@&sort=-company".to_owned(), false),
        ("q=led-4321&stage=new,contacted".to_owned(), true),
        ("q=qqqq".to_owned(), true),
        ("email[contains]=zx&sort=email".to_owned(), false),
        ("q=%F0%9F%A6%80crab".to_owned(), true),
    ] {
        let read = read_for(&world, tenant, &asked).await;
        // The first in order, if there is such an order; then, so many that it is known that there are more.
        let first = if early { 2 * EARLY + 1 } else { EARLY + 1 };
        let read = u32::try_from(read).unwrap();
        assert!((FIRST + first..FIRST + first + 8 * BLOCK).contains(&read), "{asked}: {read}");
    }
    // What else is asked for leaves one.
    let one = read_for(&world, tenant, &format!("id=LED-4321&q={rare}")).await;
    assert!((1..10).contains(&one), "{one}");
    // What is in all of them is on the first page.
    assert!(read_for(&world, tenant, "q=example").await < 60);
    // Of a single letter nothing is known.
    assert_eq!(read_for(&world, tenant, "q=~").await, i64::from(LEADS));
}

#[tokio::test]
async fn a_search_finds_what_is_there_after_read_models_were_made_anew() {
    let world = World::start().await;
    let (owner, leads) = large(&world).await;
    let tenant = tenant_of(&owner);
    // What the live read model says is not what the log says: of two leads another name, one lead not at all.
    let mut admin = PgConnection::connect(&world.url).await.unwrap();
    let spoilt = "delete from cell_000.leads where id = 'LED-3000';
        update cell_000.leads set name = 'Spoilt' where id in ('LED-2000', 'LED-4000')";
    let whole: BTreeSet<String> = [2_000, 3_000, 4_000].map(id).into();
    let words: Vec<String> =
        whole.iter().map(|id| leads[id[4..].parse::<usize>().unwrap()][0].replace(' ', "%20")).collect();
    for whose in [Some(tenant), None] {
        admin.execute(spoilt).await.unwrap();
        admin.execute("update cell_000.search_marks set changes = changes + 1").await.unwrap();
        sign(&world).await;
        assert_eq!(ids(&owner.get("/api/leads?q=spoilt&sort=-company").await.ok()), [2_000, 4_000].map(id).into());

        let known = marks(&world).await;
        rebuild(&world, "leads", whose).await;
        let changed = if whose.is_some() { blocks([2_000, 3_000, 4_000]) } else { BTreeSet::new() };
        assert_eq!(changed_since(&world, &known).await, changed);
        for _ in 0..2 {
            let mut found = BTreeSet::new();
            for word in &words {
                found.extend(ids(&owner.get(&format!("/api/leads?q={word}&sort=-company")).await.ok()));
            }
            assert_eq!(found, whole);
            assert_eq!(ids(&owner.get("/api/leads?q=spoilt&sort=-company").await.ok()), BTreeSet::new());
            sign(&world).await;
        }
    }
}

#[tokio::test]
async fn a_lead_that_was_set_aside_is_found_once_it_is_there() {
    let world = World::start().await;
    let (owner, _) = large(&world).await;
    let tenant = tenant_of(&owner);
    let named = |name: Value| json!({"DetailsChanged": {"changes": {"name": {"personal": name}}}});
    let captured = |stage: &str| {
        json!({"Captured": {"name": {"personal": "Quux"}, "source": "website", "stage": stage, "qualification": "new",
            "probability": 5, "probability_set_by_hand": false, "assignee": null}})
    };
    // One that is there and changes, and two that are alone in their blocks.
    let changed = store(&world, lead(tenant, "LED-3000"), 1, "LeadDetailsChanged", named(json!(7))).await;
    let first = store(&world, lead(tenant, "LED-8000"), 0, "LeadCaptured", captured("?")).await;
    let second = store(&world, lead(tenant, "LED-9000"), 0, "LeadCaptured", captured("?")).await;
    world.caught_up().await;
    sign(&world).await;
    let mut admin = PgConnection::connect(&world.url).await.unwrap();
    for (position, mended) in [(changed, named(json!("Quux"))), (first, captured("new")), (second, captured("new"))] {
        let mend = sqlx::query("update cell_000.events set payload = $1 where position = $2");
        mend.bind(mended).bind(position).execute(&mut admin).await.unwrap();
    }
    assert_eq!(ids(&owner.get("/api/leads?q=quux").await.ok()), BTreeSet::new());

    let founder = world.founder().await;
    for id in ["LED-3000", "LED-8000"] {
        let which = json!({"tenant_id": tenant.to_string(), "id": id});
        founder.post("/api/admin/projections/leads/unpark", which).await.ok();
    }
    for _ in 0..2 {
        // Both in the order of an index, of which the first are read before, and in one that has to be sorted.
        for sort in ["name", "-company"] {
            let found = owner.get(&format!("/api/leads?q=quux&sort={sort}")).await.ok();
            assert_eq!(ids(&found), [3_000, 8_000].map(id).into());
        }
        sign(&world).await;
    }
    rebuild(&world, "leads", None).await;
    for _ in 0..2 {
        for sort in ["name", "-company"] {
            let found = owner.get(&format!("/api/leads?q=quux&sort={sort}")).await.ok();
            assert_eq!(ids(&found), [3_000, 8_000, 9_000].map(id).into());
        }
        sign(&world).await;
    }
}

#[tokio::test]
async fn every_list_that_is_searched_goes_by_signatures() {
    let world = World::start().await;
    let owner = world.business("ACME").await;
    owner.post("/api/leads", json!({"name": "Quux"})).await.created();
    owner.post("/api/customers", json!({"company": "Quux"})).await.created();
    owner.post("/api/customers/CUS-000/notes", json!({"content": "Quux"})).await.created();
    owner.post("/api/customers/CUS-000/interactions", json!({"type": "call", "subject": "Quux"})).await.created();
    owner.post("/api/projects", json!({"name": "Quux", "customer_ids": ["CUS-000"]})).await.created();
    let amount = json!({"amount": "100", "currency": "USD"});
    owner.post("/api/invoices", json!({"customer_id": "CUS-000", "amount": amount, "notes": "Quux"})).await.created();
    // Blocks of which nothing is there.
    let mut admin = PgConnection::connect(&world.url).await.unwrap();
    let empty = "
        insert into cell_000.search_marks select $1, noun, block, 1 from generate_series(16, 215) block,
            unnest(array['leads', 'customers', 'projects', 'invoices']) noun";
    sqlx::query(empty).bind(owner.tenant.as_deref()).execute(&mut admin).await.unwrap();
    sign(&world).await;
    let somebody = owner.employee("bo", "sales").await;
    let mut seen = Vec::new();
    for list in
        ["leads", "customers", "projects", "invoices", "customers/CUS-000/interactions", "customers/CUS-000/notes"]
    {
        for sort in ["", "&sort=-created_at"] {
            let page = owner.get(&format!("/api/{list}?q=quux&count=exact{sort}")).await.ok();
            assert_eq!(page["page"]["total"], 1, "{list}");
            assert_eq!(ids(&page).len(), 1, "{list}");
            // All there is says it: whoever may see none of it finds none.
            let theirs = somebody.get(&format!("/api/{list}?q=quux&count=exact{sort}")).await;
            let all = somebody.get(&format!("/api/{list}?count=exact{sort}")).await;
            if all.status == 403 {
                theirs.problem(403, "permission_denied");
                continue;
            }
            let (theirs, all) = (theirs.ok(), all.ok());
            assert_eq!(theirs["page"], all["page"], "{list}");
            seen.push(all["page"]["total"].as_u64().unwrap());
        }
    }
    assert!(seen.contains(&0), "{seen:?}");
}

#[test]
fn all_that_is_searched_is_signed() {
    fn signed<N: Noun>() {
        let (list, searched) = (list_spec::<N>(), <N::Row as Row>::SEARCHED.unwrap());
        assert_eq!(list.table, searched.table);
        assert!(!list.search.is_empty(), "{}", list.noun);
        for column in list.search {
            assert!(*column == list.key || searched.columns.contains(column), "{}: {column}", list.noun);
        }
    }
    signed::<Customers>();
    signed::<Leads>();
    signed::<Projects>();
    signed::<Invoices>();
}

#[tokio::test]
async fn letters_that_postgres_finds_equal_are_the_same_to_a_signature() {
    let world = World::start().await;
    let mut connection = PgConnection::connect(&world.url).await.unwrap();
    let lower: Vec<(String, String)> = sqlx::query_as(
        "select chr(n), lower(chr(n)) from generate_series(1, 1114111) n where n not between 55296 and 57343",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let letters = |text: &str| {
        let mut letters = Letters::default();
        letters.add(&format!("a{text}b"));
        letters
    };
    let cased = lower.iter().filter(|(letter, lower)| letter != lower).count();
    assert!(cased > 1_000, "{cased}");
    for (letter, lower) in lower {
        assert_eq!(letters(&letter), letters(&lower), "{letter:?} {lower:?}");
    }
}
