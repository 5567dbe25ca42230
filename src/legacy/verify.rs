//! The proof: every row of the old database beside what the read models say today, field by field.
//!
//! It knows nothing of how rows were translated. A value is the same, or what a repair of the column says was taken
//! instead, or it was changed since, or it is a difference. What was changed since was changed by an event of somebody
//! else than an import, after an import had left it right, and stands in the row as it does in its newest version.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use rust_decimal::Decimal;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::PgPool;

use super::old::{Repair, old_id, squashed};
use super::progress::Progress;
use super::source::{Source, SourceRow};
use super::tables::Table;
use super::{ImportError, PATIENCE, caught_up};
use crate::aggregates::ids::{TenantId, UserId};
use crate::api::App;

/// Differences that are told one by one.
const TOLD: usize = 1_000;

/// How a value of the old database is compared with one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// The same text, but for the space around it.
    Text,
    /// The same number; nothing is nothing.
    Number,
    /// The same amount.
    Money,
    /// The same day.
    Date,
    /// The same moment.
    Time,
    /// The same truth; nothing is false.
    Flag,
    /// True is `active`; false is anything that is not.
    Active,
    /// A part of the address.
    Address(&'static str),
    /// The row that is named, under the id that it has here.
    Named(Table),
}

/// Which column of the old database is which of ours.
type Columns = &'static [(&'static str, &'static str, How)];

const ADDRESSED: [(&str, &str, How); 6] = [
    ("address_line1", "address", How::Address("line1")),
    ("address_line2", "address", How::Address("line2")),
    ("city", "address", How::Address("city")),
    ("state", "address", How::Address("state")),
    ("postal_code", "address", How::Address("postal_code")),
    ("country", "address", How::Address("country")),
];

const USERS: Columns = &[
    ("email", "email", How::Text),
    ("full_name", "full_name", How::Text),
    ("user_role", "role", How::Text),
    ("department", "department", How::Text),
    ("is_active", "status", How::Active),
    ("created_at", "created_at", How::Time),
];

const CUSTOMERS: Columns = &[
    ("name", "name", How::Text),
    ("email", "email", How::Text),
    ("phone", "phone", How::Text),
    ("company", "company", How::Text),
    ("is_active", "status", How::Active),
    ("created_at", "created_at", How::Time),
];

const LEADS: Columns = &[
    ("name", "name", How::Text),
    ("email", "email", How::Text),
    ("phone", "phone", How::Text),
    ("company", "company", How::Text),
    ("job_title", "job_title", How::Text),
    ("source", "source", How::Text),
    ("lead_score", "score", How::Number),
    ("qualification_status", "qualification", How::Text),
    ("stage", "stage", How::Text),
    ("estimated_value", "estimated_value", How::Money),
    ("probability", "probability", How::Number),
    ("expected_close_date", "expected_close_date", How::Date),
    ("assigned_to", "assignee_id", How::Named(Table::Users)),
    ("converted_customer_id", "customer_id", How::Named(Table::Customers)),
    ("created_at", "created_at", How::Time),
];

const INTERACTIONS: Columns = &[
    ("lead_id", "lead_id", How::Named(Table::Leads)),
    ("customer_id", "customer_id", How::Named(Table::Customers)),
    ("user_id", "created_by", How::Named(Table::Users)),
    ("interaction_type", "interaction_type", How::Text),
    ("subject", "subject", How::Text),
    ("description", "description", How::Text),
    ("outcome", "outcome", How::Text),
    ("priority", "priority", How::Text),
    ("scheduled_at", "scheduled_at", How::Time),
    ("completed_at", "completed_at", How::Time),
    ("follow_up_date", "follow_up_date", How::Date),
    ("status", "status", How::Text),
    ("is_billable", "billable", How::Flag),
    ("billable_hours", "billable_hours", How::Number),
];

const NOTES: Columns = &[
    ("customer_id", "customer_id", How::Named(Table::Customers)),
    ("user_id", "author_id", How::Named(Table::Users)),
    ("title", "title", How::Text),
    ("content", "content", How::Text),
    ("is_private", "private", How::Flag),
    ("created_at", "created_at", How::Time),
];

const PROJECTS: Columns = &[
    ("name", "name", How::Text),
    ("description", "description", How::Text),
    ("status", "status", How::Text),
    ("owner_id", "owner_id", How::Named(Table::Users)),
    ("start_date", "start_date", How::Date),
    ("due_date", "due_date", How::Date),
    ("created_at", "created_at", How::Time),
];

const INVOICES: Columns = &[
    ("customer_id", "customer_id", How::Named(Table::Customers)),
    ("amount", "amount", How::Money),
    ("currency", "currency", How::Text),
    ("status", "status", How::Text),
    ("issue_date", "issue_date", How::Date),
    ("due_date", "due_date", How::Date),
    ("paid_date", "paid_on", How::Date),
    ("created_at", "created_at", How::Time),
];

const PROJECT_CUSTOMERS: Columns = &[("customer_id", "customer_ids", How::Named(Table::Customers))];
const PROJECT_ASSIGNMENTS: Columns =
    &[("user_id", "member_ids", How::Named(Table::Users)), ("role", "members", How::Text)];

/// The read model that a table's rows became part of, and what is compared.
fn read_model(table: Table) -> Option<(&'static str, &'static str, Columns)> {
    Some(match table {
        Table::Users => ("users", "user_versions", USERS),
        Table::Customers => ("customers", "customer_versions", CUSTOMERS),
        Table::Leads => ("leads", "lead_versions", LEADS),
        Table::LeadInteractions | Table::CustomerInteractions => ("interactions", "interaction_versions", INTERACTIONS),
        Table::CustomerNotes => ("notes", "note_versions", NOTES),
        Table::Projects => ("projects", "project_versions", PROJECTS),
        Table::ProjectCustomers => ("projects", "project_versions", PROJECT_CUSTOMERS),
        Table::ProjectAssignments => ("projects", "project_versions", PROJECT_ASSIGNMENTS),
        Table::Invoices => ("invoices", "invoice_versions", INVOICES),
        Table::Tenants | Table::PasswordVault => return None,
    })
}

/// What was compared of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TableProof {
    /// Rows of the old database.
    pub rows: u64,
    /// Rows compared with what became of them.
    pub compared: u64,
    /// Values compared.
    pub fields: u64,
    /// Values that a named repair explains.
    pub repaired: u64,
    /// Values that were changed since, here or in the old database.
    pub changed_since: u64,
    /// Rows in quarantine, which have become nothing yet.
    pub quarantined: u64,
    /// Rows that have no fields here: counted only.
    pub counted: u64,
}

/// A value that nothing explains.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The old table.
    pub table: String,
    /// The row's primary key.
    pub key: i64,
    /// The id that it has here.
    pub id: Option<String>,
    /// The old column; none if the whole row is missing.
    pub field: Option<String>,
    /// What the old database holds.
    pub old: Value,
    /// What the read model says.
    pub new: Value,
}

/// What came of the comparison.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Proof {
    /// The old database's revision.
    pub revision: String,
    /// Rows read.
    pub rows: u64,
    /// Rows compared.
    pub compared: u64,
    /// Values compared.
    pub fields: u64,
    /// By table.
    pub tables: BTreeMap<String, TableProof>,
    /// What nothing explains, the first thousand.
    pub differences: Vec<Difference>,
    /// Differences beyond those.
    pub left_out: u64,
    /// Columns that are no field here and stand only in the copy that the log keeps of each row.
    pub only_in_the_log: Vec<String>,
}

/// What is known of an imported row.
struct Filed {
    local_id: Option<String>,
    parent: Option<String>,
    heap: String,
    repairs: Vec<Repair>,
    row: String,
    /// It was gone when it was last looked for.
    vanished: bool,
}

struct Comparison<'a> {
    pool: &'a PgPool,
    tenant: TenantId,
    proof: Proof,
}

/// Compares the old database with the read models.
///
/// # Errors
/// [`ImportError`] if either cannot be read.
pub async fn verify(
    app: &App,
    from: &SecretString,
    tenant: TenantId,
    progress: &Progress,
) -> Result<Proof, ImportError> {
    let mut source = Source::open(from).await?;
    let head: i64 = sqlx::query_scalar("select coalesce(max(position), 0) from events")
        .fetch_one(&app.database.cell_of(tenant).importer)
        .await?;
    caught_up(app, head, PATIENCE).await?;
    let rows: i64 = source.shape.rows.values().sum();
    progress.part("comparing", u64::try_from(rows).unwrap_or(0));
    let pool = &app.database.cell_of(tenant).importer;
    let proof = Proof { revision: source.shape.revision.clone(), ..Proof::default() };
    let mut comparison = Comparison { pool, tenant, proof };
    for table in source.tables() {
        source.begin(table).await?;
        comparison.proof.tables.entry(table.name().to_owned()).or_default();
        comparison.name_the_rest(&source, table);
        loop {
            let rows = source.next().await?;
            if rows.is_empty() {
                break;
            }
            progress.done(u64::try_from(rows.len()).unwrap_or(0));
            comparison.rows(table, rows).await?;
        }
    }
    source.close().await?;
    progress.end();
    let mut proof = comparison.proof;
    proof.rows = proof.tables.values().map(|table| table.rows).sum();
    proof.compared = proof.tables.values().map(|table| table.compared).sum();
    proof.fields = proof.tables.values().map(|table| table.fields).sum();
    Ok(proof)
}

impl Comparison<'_> {
    /// Columns that nothing here is compared with.
    fn name_the_rest(&mut self, source: &Source, table: Table) {
        let Some((_, _, columns)) = read_model(table) else { return };
        let parent = table.parent().map(|(_, column)| column);
        for column in source.columns(table) {
            let compared = columns.iter().chain(addressed(table)).any(|(old, ..)| *old == column)
                || matches!(column.as_str(), "id" | "system_id" | "hashed_password")
                || parent == Some(column.as_str());
            if !compared {
                self.proof.only_in_the_log.push(format!("{}.{column}", table.name()));
            }
        }
    }

    async fn rows(&mut self, table: Table, rows: Vec<SourceRow>) -> Result<(), ImportError> {
        let pks: Vec<i64> = rows.iter().map(|row| row.pk).collect();
        let filed = self.filed(table, &pks).await?;
        let Some((model, versions, columns)) = read_model(table) else {
            for row in rows {
                let counts = self.proof.tables.entry(table.name().to_owned()).or_default();
                counts.rows += 1;
                match filed.get(&row.pk).map(|filed| filed.heap.as_str()) {
                    Some("quarantined") => counts.quarantined += 1,
                    Some(_) => counts.counted += 1,
                    None => difference(&mut self.proof, table, row.pk, None, None, Value::Null, Value::Null),
                }
            }
            return Ok(());
        };
        let mut read = Vec::with_capacity(rows.len());
        let mut named = HashSet::new();
        for row in rows {
            let fields: Map<String, Value> = serde_json::from_str(&row.json).map_err(ImportError::Encode)?;
            let repairs = filed.get(&row.pk).map(|filed| filed.repairs.as_slice()).unwrap_or_default();
            for (column, _, how) in columns {
                let How::Named(of) = how else { continue };
                named.extend(fields.get(*column).and_then(old_id).map(|id| (of.name(), id)));
                let mapped = repairs.iter().filter(|repair| repair.field == *column);
                named.extend(mapped.filter_map(|repair| Some((of.name(), repair.after.clone()?))));
            }
            read.push((row, fields));
        }
        let names = self.names(named).await?;
        let ids: Vec<String> = read.iter().filter_map(|(row, _)| filed.get(&row.pk)?.id(table)).collect();
        let today = self.today(model, &ids).await?;
        for (row, fields) in read {
            let counts = self.proof.tables.entry(table.name().to_owned()).or_default();
            counts.rows += 1;
            let Some(filed) = filed.get(&row.pk) else {
                difference(&mut self.proof, table, row.pk, None, None, Value::Object(fields), Value::Null);
                continue;
            };
            if filed.heap == "quarantined" {
                counts.quarantined += 1;
                continue;
            }
            let id = filed.id(table);
            let Some(ours) = id.as_ref().and_then(|id| today.get(id)) else {
                difference(&mut self.proof, table, row.pk, id, None, Value::Object(fields), Value::Null);
                continue;
            };
            counts.compared += 1;
            let last_read: Map<String, Value> = serde_json::from_str(&filed.row).map_err(ImportError::Encode)?;
            let id = id.as_deref().unwrap_or_default();
            if self.is_missing(versions, id, ours, filed, &fields).await? {
                difference(
                    &mut self.proof,
                    table,
                    row.pk,
                    Some(id.to_owned()),
                    None,
                    Value::Object(fields),
                    Value::Null,
                );
                continue;
            }
            for (column, own, how) in columns.iter().chain(addressed(table)) {
                let Some(old) = fields.get(*column) else { continue };
                let field = Field { table, column, own, how: *how, old, row: &fields, names: &names, filed };
                let counts = self.proof.tables.entry(table.name().to_owned()).or_default();
                counts.fields += 1;
                if field.same(ours) {
                    continue;
                }
                if field.repaired(ours) || self.said_otherwise(row.pk, &field, ours).await? {
                    let counts = self.proof.tables.entry(table.name().to_owned()).or_default();
                    counts.repaired += 1;
                    continue;
                }
                // What differs may have been changed since: in the old database, or here.
                let before = last_read.get(*column).filter(|before| *before != old);
                let taken_over = Field { old: before.unwrap_or(old), row: &last_read, ..field };
                let there = before.is_some() && taken_over.explains(ours);
                if there || self.changed_here(versions, id, ours, &taken_over).await? {
                    self.proof.tables.entry(table.name().to_owned()).or_default().changed_since += 1;
                    continue;
                }
                let new = ours.get(*own).cloned().unwrap_or(Value::Null);
                difference(&mut self.proof, table, row.pk, Some(id.to_owned()), Some(column), old.clone(), new);
            }
        }
        Ok(())
    }

    /// Whether what a row became was taken away, and nobody here did that, nor the old application by hiding it.
    async fn is_missing(
        &self,
        versions: &str,
        id: &str,
        ours: &Map<String, Value>,
        filed: &Filed,
        fields: &Map<String, Value>,
    ) -> Result<bool, ImportError> {
        const DELETED: &str = "deleted_at";
        let there = |row: &Map<String, Value>| row.get(DELETED).is_none_or(Value::is_null);
        // It was gone, and is there again since: the next import brings it back.
        let hidden = versions == "lead_versions" && fields.get("is_active") == Some(&Value::Bool(false));
        if there(ours) || hidden || filed.vanished {
            return Ok(false);
        }
        Ok(!self.changed_by_others(versions, id, ours, DELETED, there).await?)
    }

    /// Whether another row assigns the same member to the same project, and says what they do here.
    async fn said_otherwise(&self, pk: i64, field: &Field<'_>, ours: &Map<String, Value>) -> Result<bool, ImportError> {
        let Some(Some(role)) = field.role(ours) else { return Ok(false) };
        Ok(sqlx::query_scalar(
            "select exists (
                 select 1 from legacy_rows r
                 join legacy_rows o on o.tenant_id = $1 and o.source_table = r.source_table and o.pk <> r.pk
                                   and o.parent_id = r.parent_id and o.imported is not null and not o.vanished
                                   and btrim(o.row::json ->> 'user_id') = btrim(r.row::json ->> 'user_id')
                 where r.tenant_id = $1 and r.source_table = 'project_assignments' and r.pk = $2
                   and coalesce(nullif(btrim(o.row::json ->> 'role'), ''), 'member') = $3)",
        )
        .bind(self.tenant.to_string())
        .bind(pk)
        .bind(role)
        .fetch_one(self.pool)
        .await?)
    }

    /// Whether somebody else than an import changed the field, after one had left it as the old database says.
    async fn changed_here(
        &self,
        versions: &str,
        id: &str,
        ours: &Map<String, Value>,
        field: &Field<'_>,
    ) -> Result<bool, ImportError> {
        self.changed_by_others(versions, id, ours, field.own, |row| field.explains(row)).await
    }

    /// Whether the event after which a row was no longer `right` is of somebody else than an import, and the row stands
    /// as its newest version does.
    async fn changed_by_others(
        &self,
        versions: &str,
        id: &str,
        ours: &Map<String, Value>,
        own: &str,
        right: impl Fn(&Map<String, Value>) -> bool,
    ) -> Result<bool, ImportError> {
        let exact = exact(versions);
        // Only where the field changes; numbers as text, so that no digit is lost.
        let statement = format!(
            "select value::text, imported from (
                 select position, value, imported, lag(value) over (order by position) as before,
                        row_number() over (order by position) as version
                 from (
                     select t.position, (to_jsonb(t) {exact}) -> $3 as value,
                            coalesce(e.metadata ->> 'source' = 'legacy', false) as imported
                     from {versions} t join events e on e.position = t.position
                     where t.tenant_id = $1 and t.id = $2) versions) changes
             where version = 1 or value is distinct from before order by position"
        );
        let changes: Vec<(Option<String>, bool)> =
            sqlx::query_as(&statement).bind(self.tenant.to_string()).bind(id).bind(own).fetch_all(self.pool).await?;
        let (mut was_right, mut by_others, mut newest) = (false, false, Value::Null);
        for (value, imported) in changes {
            newest =
                value.map_or(Ok(Value::Null), |value| serde_json::from_str(&value)).map_err(ImportError::Encode)?;
            let is_right = right(&Map::from_iter([(own.to_owned(), newest.clone())]));
            if was_right && !is_right {
                by_others = !imported;
            }
            was_right = is_right;
        }
        Ok(by_others && !was_right && ours.get(own).unwrap_or(&Value::Null) == &newest)
    }

    async fn filed(&self, table: Table, pks: &[i64]) -> Result<HashMap<i64, Filed>, ImportError> {
        type Line = (i64, Option<String>, Option<String>, String, String, String, bool);
        let rows: Vec<Line> = sqlx::query_as(
            "select r.pk, k.local_id, p.local_id, r.heap, r.repairs, r.row, r.vanished from legacy_rows r
             left join legacy_keys k on k.tenant_id = r.tenant_id and k.source_table = r.source_table and k.pk = r.pk
             left join legacy_keys p on p.tenant_id = r.tenant_id and p.source_table = r.parent_table
                                    and p.legacy_id = r.parent_id and p.referable
             where r.tenant_id = $1 and r.source_table = $2 and r.pk = any($3)",
        )
        .bind(self.tenant.to_string())
        .bind(table.name())
        .bind(pks)
        .fetch_all(self.pool)
        .await?;
        rows.into_iter()
            .map(|(pk, local_id, parent, heap, repairs, row, vanished)| {
                let repairs = serde_json::from_str(&repairs).map_err(ImportError::Encode)?;
                Ok((pk, Filed { local_id, parent, heap, repairs, row, vanished }))
            })
            .collect()
    }

    /// The ids that rows have here. One that is gone from the old database is still who it was.
    async fn names(&self, named: HashSet<(&str, String)>) -> Result<HashMap<(String, String), String>, ImportError> {
        let (tables, ids): (Vec<&str>, Vec<String>) = named.into_iter().unzip();
        let rows: Vec<(String, String, String)> = sqlx::query_as(
            "select distinct on (k.source_table, k.legacy_id) k.source_table, k.legacy_id, k.local_id
             from unnest($2::text[], $3::text[]) as n (t, i)
             join legacy_keys k on k.tenant_id = $1 and k.source_table = n.t and k.legacy_id = n.i
             where k.local_id is not null
             order by k.source_table, k.legacy_id, k.referable desc, k.pk",
        )
        .bind(self.tenant.to_string())
        .bind(tables)
        .bind(ids)
        .fetch_all(self.pool)
        .await?;
        Ok(rows.into_iter().map(|(table, id, local)| ((table, id), local)).collect())
    }

    /// The rows of a read model as they are now; numbers as text, so that no digit is lost.
    async fn today(&self, model: &str, ids: &[String]) -> Result<HashMap<String, Map<String, Value>>, ImportError> {
        let exact = exact(model);
        let statement = format!(
            "select t.id, (to_jsonb(t) {exact})::text from {model} t
             where (t.tenant_id = $1 or (t.tenant_id = $2 and t.id = $3)) and t.id = any($4)"
        );
        let rows: Vec<(String, String)> = sqlx::query_as(&statement)
            .bind(self.tenant.to_string())
            .bind(TenantId::Platform.to_string())
            .bind(UserId::FOUNDER.to_string())
            .bind(ids)
            .fetch_all(self.pool)
            .await?;
        rows.into_iter().map(|(id, json)| Ok((id, serde_json::from_str(&json).map_err(ImportError::Encode)?))).collect()
    }
}

impl Filed {
    /// The id of the row that it became part of.
    fn id(&self, table: Table) -> Option<String> {
        match table {
            Table::ProjectCustomers | Table::ProjectAssignments => self.parent.clone(),
            _ => self.local_id.clone(),
        }
    }
}

fn addressed(table: Table) -> &'static [(&'static str, &'static str, How)] {
    if matches!(table, Table::Customers | Table::Leads) { &ADDRESSED } else { &[] }
}

/// Numeric columns of a read model, as text.
fn exact(model: &str) -> &'static str {
    if model.starts_with("lead") {
        "|| jsonb_build_object('estimated_value', t.estimated_value::text)"
    } else if model.starts_with("invoice") {
        "|| jsonb_build_object('amount', t.amount::text)"
    } else if model.starts_with("interaction") {
        "|| jsonb_build_object('billable_hours', t.billable_hours::text)"
    } else {
        ""
    }
}

/// A value of the old database, and all that says what it should be here.
#[derive(Clone, Copy)]
struct Field<'a> {
    table: Table,
    column: &'a str,
    own: &'a str,
    how: How,
    old: &'a Value,
    /// The row that it stands in.
    row: &'a Map<String, Value>,
    names: &'a HashMap<(String, String), String>,
    filed: &'a Filed,
}

impl Field<'_> {
    fn explains(&self, ours: &Map<String, Value>) -> bool {
        self.same(ours) || self.repaired(ours)
    }

    fn same(&self, ours: &Map<String, Value>) -> bool {
        match self.role(ours) {
            Some(role) => role == plain(Some(self.old)),
            None => same(self.how, self.old, ours, self.own, self.names),
        }
    }

    /// Whether a named repair explains the value: what it says was taken instead is what is there.
    fn repaired(&self, ours: &Map<String, Value>) -> bool {
        let is = self.role(ours).unwrap_or_else(|| plain(ours.get(self.own)));
        let is = is.as_deref();
        let explains = |repair: &Repair| match (repair.after.as_deref().map(str::trim), self.how) {
            (None, How::Address(part)) => plain(ours.get(self.own).and_then(|address| address.get(part))).is_none(),
            (None, How::Flag) => is != Some("true"),
            (None, How::Active) => is.is_some(),
            (None, _) => is.is_none(),
            (Some(after), How::Text) => is == Some(after),
            (Some(after), How::Number) => number(Some(after)) == number(is),
            // The currency stands beside the amount.
            (Some(after), How::Money) => number(after.split_whitespace().next()) == number(is),
            (Some(after), How::Date) => after.get(..10) == is,
            (Some(after), How::Time) => moment(Some(after)) == moment(is),
            (Some(after), How::Flag) => (after == "true") == (is == Some("true")),
            (Some("true"), How::Active) => is == Some("active"),
            (Some("false"), How::Active) => is != Some("active"),
            (Some(after), How::Active) => is == Some(after),
            (Some(after), How::Address(part)) => {
                plain(ours.get(self.own).and_then(|address| address.get(part))).as_deref() == Some(after)
            }
            (Some(after), How::Named(_)) => {
                same(self.how, &Value::String(after.to_owned()), ours, self.own, self.names)
            }
        };
        let repairs = &self.filed.repairs;
        repairs.iter().filter(|repair| repair.field == self.column).any(explains)
            || explained_by_place(self.table, self.column, repairs)
    }

    /// What the member does of whom the row speaks; none if the field is no role of a member.
    fn role(&self, ours: &Map<String, Value>) -> Option<Option<String>> {
        if self.own != "members" {
            return None;
        }
        let user = self.row.get("user_id").and_then(old_id)?;
        let user = self.names.get(&(Table::Users.name().to_owned(), user));
        let members = ours.get(self.own).and_then(Value::as_array).into_iter().flatten();
        let mut members =
            members.filter(|member| member.get("user_id").and_then(Value::as_str) == user.map(String::as_str));
        Some(members.next().and_then(|member| plain(member.get("role"))))
    }
}

/// What one repair explains of another column than its own.
fn explained_by_place(table: Table, column: &str, repairs: &[Repair]) -> bool {
    let any = |rules: &[&str]| repairs.iter().any(|repair| rules.contains(&repair.rule.as_str()));
    match (table, column) {
        (Table::Users, "is_active") => any(&["client_locked_out"]),
        (Table::Users, _) => any(&["founder_already_there"]),
        (Table::Invoices, "currency") => any(&["currency_of_amount"]),
        (Table::Leads, "stage") => any(&["stage_contradicts_conversion"]),
        (Table::Leads, "probability") => any(&["stage_contradicts_conversion", "probability_unreadable"]),
        (Table::ProjectAssignments, "role") => any(&["assigned_twice"]),
        _ => false,
    }
}

fn difference(
    proof: &mut Proof,
    table: Table,
    key: i64,
    id: Option<String>,
    field: Option<&str>,
    old: Value,
    new: Value,
) {
    if proof.differences.len() == TOLD {
        proof.left_out += 1;
        return;
    }
    let field = field.map(str::to_owned);
    proof.differences.push(Difference { table: table.name().to_owned(), key, id, field, old, new });
}

/// A value's text without the space around it; none for nothing.
fn plain(value: Option<&Value>) -> Option<String> {
    let text = match value? {
        Value::Null => return None,
        Value::String(text) => text.trim().replace("\r\n", "\n"),
        other => other.to_string(),
    };
    (!text.is_empty()).then_some(text)
}

fn same(
    how: How,
    old: &Value,
    ours: &Map<String, Value>,
    own: &str,
    names: &HashMap<(String, String), String>,
) -> bool {
    let new = ours.get(own).unwrap_or(&Value::Null);
    let (was, is) = (plain(Some(old)), plain(Some(new)));
    match how {
        How::Text => was == is || (own == "role" && was.as_deref().map(squashed) == is.as_deref().map(squashed)),
        How::Number | How::Money => number(was.as_deref()) == number(is.as_deref()) && was.is_some() == is.is_some(),
        // What is no day and no moment is not the same as nothing.
        How::Date => was.as_deref().map(|text| text.get(..10).unwrap_or(text)) == is.as_deref(),
        How::Time => moment(was.as_deref()) == moment(is.as_deref()) && was.is_some() == is.is_some(),
        How::Flag => (old == &Value::Bool(true)) == (new == &Value::Bool(true)),
        How::Active => (old == &Value::Bool(true)) == (is.as_deref() == Some("active")),
        How::Address(part) => was == plain(new.get(part)),
        How::Named(table) => {
            let local = old_id(old).map(|id| names.get(&(table.name().to_owned(), id)).cloned().unwrap_or_default());
            match new {
                Value::Array(many) => {
                    local.is_some_and(|local| many.iter().any(|one| *one == Value::String(local.clone())))
                }
                _ => local == is,
            }
        }
    }
}

fn number(text: Option<&str>) -> Option<Decimal> {
    text?.parse::<Decimal>().ok().map(|number| number.normalize())
}

/// A time of either database, to the microsecond.
fn moment(text: Option<&str>) -> Option<chrono::DateTime<chrono::Utc>> {
    let text = text?;
    text.parse().ok().or_else(|| {
        let of = |format| chrono::NaiveDateTime::parse_from_str(text, format).ok();
        Some(of("%Y-%m-%dT%H:%M:%S%.f").or_else(|| of("%Y-%m-%d %H:%M:%S%.f"))?.and_utc())
    })
}

/// The proof for a person.
#[must_use]
pub fn described(proof: &Proof) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<22} {:>8} {:>9} {:>9} {:>9} {:>9} {:>12}",
        "table", "rows", "compared", "values", "repaired", "changed", "quarantined"
    );
    for (name, table) in &proof.tables {
        let _ = writeln!(
            text,
            "{name:<22} {:>8} {:>9} {:>9} {:>9} {:>9} {:>12}",
            table.rows, table.compared, table.fields, table.repaired, table.changed_since, table.quarantined
        );
    }
    let differences = u64::try_from(proof.differences.len()).unwrap_or(0) + proof.left_out;
    let _ = writeln!(
        text,
        "\n{} rows read, {} compared with what they became, {} values; {differences} differences that nothing explains.",
        proof.rows, proof.compared, proof.fields
    );
    for found in &proof.differences {
        let place = format!("{} {}", found.table, found.key);
        let id = found.id.as_deref().unwrap_or("–");
        let _ = match &found.field {
            Some(field) => writeln!(text, "  {place} ({id}) {field}: {} → {}", found.old, found.new),
            None => writeln!(text, "  {place} ({id}): not there"),
        };
    }
    if !proof.only_in_the_log.is_empty() {
        let _ = writeln!(text, "\nNo field here, kept with the event: {}.", proof.only_in_the_log.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_read_is_not_the_same_as_nothing() {
        let is_same = |how, old: Value, new: Value| {
            let ours = Map::from_iter([("own".to_owned(), new)]);
            same(how, &old, &ours, "own", &HashMap::new())
        };
        for how in [How::Date, How::Time, How::Number, How::Money, How::Text] {
            assert!(is_same(how, Value::Null, Value::Null), "{how:?}");
            for old in ["soon", "infinity", "12 apples"] {
                assert!(!is_same(how, json!(old), Value::Null), "{how:?} {old}");
            }
        }
        assert!(is_same(How::Date, json!("2018-02-01T10:00:00"), json!("2018-02-01")));
        assert!(is_same(How::Time, json!("2018-02-01 10:00:00"), json!("2018-02-01T10:00:00+00:00")));
    }
}
