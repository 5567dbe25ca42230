//! The statement of a list: inside one tenant, filtered, in order, continued after the cursor, one row more than the page.

mod report;
mod sought;

use std::collections::BTreeSet;

use chrono::{DateTime, SecondsFormat, Utc};
use sought::Sought;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgConnection, Postgres, QueryBuilder, Row as _};

use super::cursor::{self, Keys};
use super::query::{Filter, ListQuery, Moment, Operand, Operator};
use super::sort::{self, Column, Term};
use super::{ListScope, Parent, Visibility};
use crate::api::Problem;
use crate::api::page::{Page, PageInfo};
use crate::api::past::{AsOf, Axis};
use crate::projections::row::{COMMON_COLUMNS, InOrder, Row, Stored};
use crate::projections::search::Searched;

type Sql = QueryBuilder<'static, Postgres>;

/// The sizes of page that are written into the statement. With them, and with the words of a filter, it says all that
/// the planner would look at, so that it is planned once for all tenants and not each time: planning takes longer than
/// reading the page. Other sizes are bound, and planned each time: nobody should fill the memory of plans by asking for
/// every size there is.
const USUAL: [u16; 5] = [10, 20, 50, 100, 200];

/// How many rows are read in the order of a list for a search, before it is asked where else it has to look: of what one in
/// a hundred has, that is a page.
const EARLY: u32 = 5_000;

/// The values of a filter that are read one by one and merged, at most.
const MOST_ABREAST: usize = 8;

impl ListQuery {
    /// Reads one page, and the total where it was asked for.
    ///
    /// # Errors
    /// `invalid_cursor`; `internal` where the database fails.
    pub async fn page<R>(&self, connection: &mut PgConnection, scope: &ListScope<'_>) -> Result<Page<R>, Problem>
    where
        R: for<'r> FromRow<'r, PgRow>,
    {
        self.page_of(connection, scope, None, |row| R::from_row(row)).await
    }

    async fn page_of<R>(
        &self,
        connection: &mut PgConnection,
        scope: &ListScope<'_>,
        searched: Option<&Searched>,
        read: impl Fn(&PgRow) -> sqlx::Result<R>,
    ) -> Result<Page<R>, Problem> {
        let tenant = if self.spec.of_tenants { scope.tenant.to_string() } else { String::new() };
        let context = self.context(&tenant)?;
        let terms = sort::terms(self.spec, &self.sort);
        let after = self.cursor.as_deref().map(|text| cursor::open(scope.cursor_key, &context, text)).transpose()?;
        // the context binds the sort, so the number of keys fits; a cursor of an older version might not
        if after.as_ref().is_some_and(|keys| keys.len() != terms.len()) {
            return Err(Problem::invalid_cursor());
        }

        let sought = searched.and_then(|searched| self.sought(searched));
        let mut rows =
            self.select(scope, &terms, after.as_ref(), sought.as_ref()).build().fetch_all(&mut *connection).await?;
        let has_more = rows.len() > usize::from(self.limit);
        rows.truncate(usize::from(self.limit));
        let next_cursor = match rows.last() {
            Some(last) if has_more => Some(cursor::seal(scope.cursor_key, &context, &keys_of(last, &terms)?)?),
            _ => None,
        };
        let data = rows.iter().map(read).collect::<Result<Vec<R>, _>>()?;
        let total = if self.counts {
            let mut count = self.count(scope, sought.as_ref());
            Some(count.build_query_scalar().fetch_one(&mut *connection).await?)
        } else {
            None
        };
        let next_address = next_cursor.as_deref().map(|cursor| self.address.page(cursor));
        Ok(Page { data, page: PageInfo { next_cursor, has_more, total }, next_address })
    }

    /// Reads one page of a read model's rows, each as `view` shows it. The list has to name their columns.
    ///
    /// # Errors
    /// As [`page`](Self::page).
    pub async fn records<T: Row, V>(
        &self,
        connection: &mut PgConnection,
        scope: &ListScope<'_>,
        view: impl Fn(Stored<T>) -> V,
    ) -> Result<Page<V>, Problem> {
        if self.spec.columns != [&COMMON_COLUMNS, T::COLUMNS] {
            return Err(Problem::internal(format_args!("the list of {} is not one of its rows", self.spec.noun)));
        }
        let read = |row: &PgRow| InOrder::from_row(row).map(|InOrder(stored)| view(stored));
        self.page_of(connection, scope, T::SEARCHED, read).await
    }

    /// The rows, each with those of its sort keys that are none of its columns, as text in `sort_key_0`, …
    fn select(&self, scope: &ListScope<'_>, terms: &[Term], after: Option<&Keys>, sought: Option<&Sought>) -> Sql {
        let mut sql = self.opening(scope);
        let early = sought.is_some() && self.is_in_index_order(terms);
        if let Some(sought) = sought {
            sought.relation(&mut sql, scope);
            if early {
                sql.push(", early as materialized (select e.* from scope cross join lateral (");
                self.in_one_part(&mut sql, scope, (terms, &self.filters, Source::First(terms, after)), after);
                sql.push(") e)");
            }
            self.way(&mut sql, scope, early);
        }
        if self.spec.columns.iter().all(|columns| columns.is_empty()) {
            sql.push("select q.*");
        }
        for (number, column) in self.spec.columns.iter().copied().flatten().enumerate() {
            sql.push(format_args!("{}{column}", if number == 0 { "select q." } else { ", q." }));
        }
        for (number, _) in worked_out(terms) {
            sql.push(format_args!(", q.sort_{number}::text as sort_key_{number}"));
        }
        sql.push(if self.spec.of_tenants { " from scope cross join lateral (" } else { " from (" });
        let in_order = if let Some(sought) = sought {
            if early {
                sql.push("select * from early where (select way from way) = 'early' union all ");
            }
            sql.push("select * from (");
            self.in_order(&mut sql, scope, (terms, Source::IfMany), after);
            sql.push(") a union all select * from (");
            self.in_one_part(&mut sql, scope, (terms, &self.filters, Source::IfFew(sought)), after);
            sql.push(") b");
            false
        } else {
            self.in_order(&mut sql, scope, (terms, Source::All), after)
        };
        sql.push(") q");
        // The rows of one tenant's page, joined to the one row that names the tenant: there is no other way to join
        // what depends on the other side than row by row, which keeps the order.
        if !in_order {
            self.merged(&mut sql, "q", terms);
        }
        sql
    }

    /// The first of the rows as the indexes have them. False if they still have to be put in order.
    fn in_order(
        &self,
        sql: &mut Sql,
        scope: &ListScope<'_>,
        (terms, source): (&[Term], Source<'_>),
        after: Option<&Keys>,
    ) -> bool {
        if matches!(terms, [first, key] if first.nullable && !key.nullable) {
            self.in_two_parts(sql, scope, (terms, source), after);
            return false;
        }
        let abreast = self.abreast(terms);
        if abreast.is_empty() {
            self.in_one_part(sql, scope, (terms, &self.filters, source), after);
            return true;
        }
        for (number, filters) in abreast.iter().enumerate() {
            sql.push(if number == 0 { "select u.* from ((" } else { ") union all (" });
            self.in_one_part(sql, scope, (terms, filters, source), after);
        }
        sql.push(")) u");
        self.merged(sql, "u", terms);
        true
    }

    /// What was read in parts, in the order of the terms, one row more than the page.
    fn merged(&self, sql: &mut Sql, parts: &str, terms: &[Term]) {
        let read = |(number, term): (usize, &Term)| {
            let value = match term.column {
                Some(column) => format!("{parts}.{}", column.name()),
                None => format!("{parts}.sort_{number}"),
            };
            value + term.direction()
        };
        self.one_row_more_by(sql, terms.iter().enumerate().map(read));
    }

    /// The filters of each part of a list that is read as several which are merged: those of a filter for several values
    /// that an index has in the order of the list one by one, and not together. However many rows of a business have one
    /// of these values, a page of each part is the most that is read of them. None: it is read as one.
    fn abreast(&self, terms: &[Term]) -> Vec<Vec<Filter>> {
        let Some(first) = terms.first() else { return Vec::new() };
        if self.as_of.is_some() || !self.is_in_index_order(terms) {
            return Vec::new();
        }
        let is_in_order = |filter: &Filter| {
            let field = self.spec.fields.iter().find(|field| field.column == filter.column);
            field.is_some_and(|field| field.in_order_of == Some(first.expression.as_str()))
                && matches!(filter.operator, Operator::Is | Operator::In)
                && filter.worked_out.is_none()
        };
        let values =
            self.filters.iter().map(|filter| if is_in_order(filter) { one_by_one(filter) } else { Vec::new() });
        let Some((place, values)) = values.enumerate().find(|(_, values)| (2..=MOST_ABREAST).contains(&values.len()))
        else {
            return Vec::new();
        };
        let with = |value: Filter| {
            let filters = self.filters.iter().enumerate();
            filters.map(|(number, filter)| if number == place { value.clone() } else { filter.clone() }).collect()
        };
        values.into_iter().map(with).collect()
    }

    /// Whether an index has all rows in the order of these terms: by a column that is never null, and the key.
    fn is_in_index_order(&self, terms: &[Term]) -> bool {
        matches!(terms, [first, key] if !first.nullable
            && key.expression == self.spec.key
            && key.descending == first.descending)
    }

    /// The relation `way`, of one row: which of the ways to search is gone. Each is tried only if those before it are none.
    fn way(&self, sql: &mut Sql, scope: &ListScope<'_>, early: bool) {
        sql.push(", way as materialized (select case when ");
        if early {
            sql.push("(select count(*) from early) > ");
            self.rows_of_a_page(sql, self.limit);
            sql.push(" then 'early' when ");
        }
        // what else is asked for may leave hardly any
        sql.push("(select r.rows from scope cross join lateral (select count(*) as rows from (select");
        self.rows(sql, scope, (&self.filters, Source::Unread));
        sql.push(format_args!(" limit {EARLY} + 1) s) r) <= {EARLY} then "));
        sql.push(if early { "'early'" } else { "'all'" });
        sql.push(" when (select few from sought) then 'few' else 'all' end as way) ");
    }

    /// The first of the rows that pass these filters.
    fn in_one_part(
        &self,
        sql: &mut Sql,
        scope: &ListScope<'_>,
        (terms, filters, source): (&[Term], &[Filter], Source<'_>),
        after: Option<&Keys>,
    ) {
        self.columns(sql, terms);
        self.rows(sql, scope, (filters, source));
        if let Some(keys) = after {
            sql.push(" and ");
            continued(sql, terms, keys);
        }
        self.first_in_order(sql, terms, Term::direction);
    }

    /// The first of those that have a value, and, if that is not a page, the first of those that have none: an index gives
    /// the former in order, both ways, and cannot give descending values before none; it has no entry for the latter,
    /// which come in the order of the key.
    fn in_two_parts(
        &self,
        sql: &mut Sql,
        scope: &ListScope<'_>,
        (terms, source): (&[Term], Source<'_>),
        after: Option<&Keys>,
    ) {
        let value = terms.first().map_or("", |term| term.expression.as_str());
        let at_the_end = after.is_some_and(|keys| matches!(keys.first(), Some(None)));
        if !at_the_end {
            sql.push("with valued as materialized (");
            self.columns(sql, terms);
            self.rows(sql, scope, (&self.filters, source));
            sql.push(format_args!(" and {value} is not null"));
            if let Some(keys) = after {
                sql.push(" and ");
                beyond(sql, terms, keys);
            }
            self.first_in_order(sql, terms, Term::plain_direction);
            sql.push(") select * from valued union all (");
        }
        self.columns(sql, terms);
        self.rows(sql, scope, (&self.filters, source));
        sql.push(format_args!(" and {value} is null"));
        if let (true, [_, terms @ ..], Some([_, keys @ ..])) = (at_the_end, terms, after.map(Vec::as_slice)) {
            sql.push(" and ");
            beyond(sql, terms, keys);
        }
        if !at_the_end {
            sql.push(" and (select count(*) from valued) <= ");
            self.rows_of_a_page(sql, self.limit);
        }
        self.first_in_order(sql, terms.get(1..).unwrap_or_default(), Term::plain_direction);
        if !at_the_end {
            sql.push(")");
        }
    }

    /// The columns of a row, and what else it is sorted by.
    fn columns(&self, sql: &mut Sql, terms: &[Term]) {
        sql.push("select t.*");
        for (number, term) in worked_out(terms) {
            sql.push(format_args!(", {} as sort_{number}", term.expression));
        }
    }

    /// In the order of the terms, one row more than the page.
    fn first_in_order(&self, sql: &mut Sql, terms: &[Term], direction: fn(&Term) -> &'static str) {
        self.one_row_more_by(sql, terms.iter().map(|term| format!("{}{}", term.expression, direction(term))));
    }

    fn one_row_more_by(&self, sql: &mut Sql, order: impl Iterator<Item = String>) {
        ordered_by(sql, order);
        sql.push(" limit ");
        self.rows_of_a_page(sql, self.limit + 1);
    }

    /// A number of rows that depends on the size of the page.
    fn rows_of_a_page(&self, sql: &mut Sql, rows: u16) {
        if USUAL.contains(&self.limit) {
            sql.push(rows);
        } else {
            sql.push_bind(i64::from(rows));
        }
    }

    fn count(&self, scope: &ListScope<'_>, sought: Option<&Sought>) -> Sql {
        let mut sql = self.opening(scope);
        if let Some(sought) = sought {
            sought.relation(&mut sql, scope);
            self.way(&mut sql, scope, false);
        }
        sql.push("select (select count(*)");
        if let Some(sought) = sought {
            self.rows(&mut sql, scope, (&self.filters, Source::IfMany));
            sql.push(") + (select count(*)");
            self.rows(&mut sql, scope, (&self.filters, Source::IfFew(sought)));
        } else {
            self.rows(&mut sql, scope, (&self.filters, Source::All));
        }
        sql.push(if self.spec.of_tenants { ") from scope" } else { ")" });
        sql
    }

    /// Names the tenant to row-level security in the statement itself: nothing can come in between, or be left behind.
    fn opening(&self, scope: &ListScope<'_>) -> Sql {
        let mut sql = Sql::new("");
        if self.spec.of_tenants {
            sql.push("with scope as materialized (select set_config('devhub.tenant_id', ");
            sql.push_bind(scope.tenant.to_string()).push(", true) as tenant_id) ");
        }
        sql
    }

    fn rows(&self, sql: &mut Sql, scope: &ListScope<'_>, (filters, source): (&[Filter], Source<'_>)) {
        sql.push(" from ");
        let name = self.spec.versions.filter(|_| self.as_of.is_some()).unwrap_or(self.spec.table);
        let all = |sql: &mut Sql| {
            sql.push(table(scope, name)).push(" t where ");
            sql.push(if self.spec.of_tenants { "t.tenant_id = scope.tenant_id" } else { "true" });
        };
        match source {
            Source::All | Source::Unread => all(sql),
            Source::First(terms, after) => {
                sql.push("(select t.* from ");
                all(sql);
                self.chosen(sql, scope, filters);
                if let Some(keys) = after {
                    sql.push(" and ");
                    continued(sql, terms, keys);
                }
                ordered_by(sql, terms.iter().map(|term| format!("{}{}", term.expression, term.direction())));
                sql.push(format_args!(" limit {EARLY}) t where true"));
            }
            Source::IfMany => {
                all(sql);
                sql.push(" and (select way from way) = 'all'");
            }
            Source::IfFew(sought) => {
                sought.records(sql, scope);
                sql.push(" where (select way from way) = 'few'");
            }
        }
        if !matches!(source, Source::First(..)) {
            self.chosen(sql, scope, filters);
        }
        if !matches!(source, Source::Unread) {
            self.read(sql, filters);
        }
    }

    /// The conditions for which no text has to be read.
    fn chosen(&self, sql: &mut Sql, scope: &ListScope<'_>, filters: &[Filter]) {
        if let Some(AsOf { at, axis }) = self.as_of {
            let (from, to) = axis.period();
            sql.push(format_args!(" and t.{from} <= ")).push_bind(at);
            sql.push(format_args!(" and t.{to} > ")).push_bind(at);
            if axis == Axis::Occurred {
                // the same as the beginning of the period, and what the index is by
                sql.push(" and t.updated_at <= ").push_bind(at);
            }
        }
        if self.spec.hides_deleted {
            sql.push(" and t.deleted_at is null");
        }
        if let Some(condition) = self.spec.condition {
            sql.push(" and (").push(condition).push(")");
        }
        self.visible(sql, scope);
        for filter in filters.iter().filter(|filter| !filter.is_part()) {
            sql.push(" and ");
            compared(sql, filter);
        }
    }

    /// What stands somewhere in a text.
    fn read(&self, sql: &mut Sql, filters: &[Filter]) {
        for filter in filters.iter().filter(|filter| filter.is_part()) {
            sql.push(" and ");
            compared(sql, filter);
        }
        for word in &self.words {
            sql.push(" and (");
            for (number, column) in self.spec.search.iter().enumerate() {
                sql.push(if number == 0 { "" } else { " or " });
                sql.push(column).push(" ilike ").push_bind(anywhere(word));
            }
            sql.push(")");
        }
    }

    /// Only what the caller may see: of the past, what they may see as it is now.
    fn visible(&self, sql: &mut Sql, scope: &ListScope<'_>) {
        let everything = scope.visibility == Visibility::Everything;
        if self.as_of.is_none() {
            if !everything {
                sql.push(" and ");
                seen(sql, scope, (self.spec.owner, self.spec.members), scope.visibility);
            }
            return;
        }
        if everything && self.today.is_empty() {
            return;
        }
        let (key, now) = (self.spec.key, table(scope, self.spec.table));
        sql.push(format_args!(" and t.{key} in (select n.{key} from {now} n where n.tenant_id = scope.tenant_id"));
        if !everything {
            sql.push(" and ");
            seen(sql, scope, (self.spec.owner, self.spec.members), scope.visibility);
        }
        for (column, values) in &self.today {
            sql.push(" and ");
            any(sql, column).push_bind(values.clone()).push("))");
        }
        sql.push(")");
    }
}

fn ordered_by(sql: &mut Sql, order: impl Iterator<Item = String>) {
    for (number, by) in order.enumerate() {
        sql.push(if number == 0 { " order by " } else { ", " }).push(by);
    }
}

/// Out of what the rows of a list are read.
#[derive(Clone, Copy)]
enum Source<'a> {
    /// All that the business has.
    All,
    /// The same, without what stands somewhere in a text.
    Unread,
    /// The first of these in an order, after a row.
    First(&'a [Term], Option<&'a Keys>),
    /// All, if that is the way.
    IfMany,
    /// Those in which it can be, if that is the way.
    IfFew(&'a Sought),
}

/// That a row with these columns for its owner and for who takes part can be seen.
fn seen(
    sql: &mut Sql,
    scope: &ListScope<'_>,
    (owner, members): (Option<&'static str>, Option<&'static str>),
    visibility: Visibility<'_>,
) {
    let (department, user) = match visibility {
        Visibility::Everything => {
            sql.push("true");
            return;
        }
        Visibility::Within(parents) => return within(sql, scope, parents),
        Visibility::Department { department, user } => (Some(department), user.to_string()),
        Visibility::OwnedBy(user) => (None, user.to_string()),
    };
    sql.push("(false");
    if let Some(members) = members {
        sql.push(" or ").push_bind(user.clone()).push(format_args!(" = any({members})"));
    }
    if let Some(owner) = owner {
        sql.push(format_args!(" or {owner} = ")).push_bind(user);
        if let Some(department) = department {
            sql.push(format_args!(" or {owner} in (select u.id from {} u", table(scope, "users")));
            sql.push(" where u.tenant_id = scope.tenant_id and u.department = ");
            sql.push_bind(department.to_owned()).push(")");
        }
    }
    sql.push(")");
}

/// That a row belongs to something that can be seen: to the first of `parents` that it names.
fn within(sql: &mut Sql, scope: &ListScope<'_>, parents: &[Parent<'_>]) {
    sql.push("(false");
    for (number, parent) in parents.iter().enumerate() {
        sql.push(" or (");
        for before in parents.iter().take(number) {
            sql.push(before.column).push(" is null and ");
        }
        let (column, parents) = (parent.column, table(scope, parent.table));
        sql.push(format_args!("{column} in (select p.id from {parents} p where p.tenant_id = scope.tenant_id and "));
        seen(sql, scope, (Some(parent.owner), None), parent.visibility);
        sql.push("))");
    }
    sql.push(")");
}

/// The table in the schema of the tenant's cell.
fn table(scope: &ListScope<'_>, name: &str) -> String {
    match scope.schema {
        Some(schema) => format!("\"{}\".{name}", schema.replace('"', "\"\"")),
        None => name.to_owned(),
    }
}

fn keys_of(row: &PgRow, terms: &[Term]) -> Result<Keys, Problem> {
    let key = |(number, term): (usize, &Term)| match term.column {
        Some(Column::Text(name)) => row.try_get(name),
        Some(Column::Timestamp(name)) => {
            let at: Option<DateTime<Utc>> = row.try_get(name)?;
            Ok(at.map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true)))
        }
        None => row.try_get(format!("sort_key_{number}").as_str()),
    };
    Ok(terms.iter().enumerate().map(key).collect::<Result<Keys, sqlx::Error>>()?)
}

/// A pattern that finds a text anywhere, with nothing in it taken for a wildcard.
fn anywhere(text: &str) -> String {
    format!("%{}%", text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"))
}

/// Only what comes after the row with these keys.
///
/// Keys that are never null and all go one way compare as one row, which one index range answers. Else: equal in the
/// first keys and after in the next, key by key, with the range of the first key beside it where that helps.
fn continued(sql: &mut Sql, terms: &[Term], keys: &Keys) {
    let one_way = terms.windows(2).all(|pair| matches!(pair, [a, b] if a.descending == b.descending));
    if one_way && terms.iter().all(|term| !term.nullable) {
        beyond(sql, terms, keys);
        return;
    }
    if let (Some(first), Some(key)) = (terms.first(), keys.first())
        && !first.nullable
    {
        sql.push(format_args!("{} {} ", first.expression, if first.descending { "<=" } else { ">=" }));
        bind_key(sql, first, key.as_ref());
        sql.push(" and ");
    }
    sql.push("(false");
    for (depth, (last, last_key)) in terms.iter().zip(keys).enumerate() {
        // after a null comes nothing but what is equal
        let Some(last_key) = last_key else { continue };
        sql.push(" or (");
        for (term, key) in terms.iter().zip(keys).take(depth) {
            sql.push(&term.expression);
            if key.is_some() {
                sql.push(" = ");
                bind_key(sql, term, key.as_ref());
            } else {
                sql.push(" is null");
            }
            sql.push(" and ");
        }
        sql.push(format_args!("({} {} ", last.expression, if last.descending { "<" } else { ">" }));
        bind_key(sql, last, Some(last_key));
        if last.nullable {
            sql.push(format_args!(" or {} is null", last.expression));
        }
        sql.push("))");
    }
    sql.push(")");
}

/// Only what comes after these values, all of which go one way.
fn beyond(sql: &mut Sql, terms: &[Term], keys: &[Option<String>]) {
    let expressions: Vec<&str> = terms.iter().map(|term| term.expression.as_str()).collect();
    let sign = if terms.iter().any(|term| term.descending) { "<" } else { ">" };
    sql.push(format_args!("({}) {sign} (", expressions.join(", ")));
    for (number, (term, key)) in terms.iter().zip(keys).enumerate() {
        sql.push(if number == 0 { "" } else { ", " });
        bind_key(sql, term, key.as_ref());
    }
    sql.push(")");
}

/// The terms that are no columns of the row.
fn worked_out(terms: &[Term]) -> impl Iterator<Item = (usize, &Term)> {
    terms.iter().enumerate().filter(|(_, term)| term.column.is_none())
}

fn bind_key(sql: &mut Sql, term: &Term, key: Option<&String>) {
    sql.push_bind(key.cloned()).push("::").push(term.cast);
}

fn compared(sql: &mut Sql, filter: &Filter) {
    let column = filter.column;
    if filter.operator == Operator::Ne {
        // what has no value is not that value either
        sql.push(format_args!("({column} is null or not "));
        any_of(sql, filter);
        sql.push(")");
        return;
    }
    let sign = match filter.operator {
        Operator::Is | Operator::In | Operator::Ne => return any_of(sql, filter),
        Operator::Contains => return contains(sql, filter),
        Operator::Gt => ">",
        Operator::Gte => ">=",
        Operator::Lt => "<",
        Operator::Lte => "<=",
    };
    sql.push("(true");
    let and = |sql: &mut Sql, sign: &str| {
        sql.push(format_args!(" and {column} {sign} "));
    };
    match &filter.operand {
        Operand::Integers(values) => {
            for value in values {
                and(sql, sign);
                sql.push_bind(*value);
            }
        }
        Operand::Decimals(values) => {
            for value in values {
                and(sql, sign);
                sql.push_bind(*value);
            }
        }
        Operand::Dates(values) => {
            for value in values {
                and(sql, sign);
                sql.push_bind(*value);
            }
        }
        Operand::Moments(values) => {
            for Moment { start, end } in values {
                // after a day is from its end on; up to a day is until its end
                let (sign, bound) = match (filter.operator, end) {
                    (Operator::Gt, Some(end)) => (">=", end),
                    (Operator::Lte, Some(end)) => ("<", end),
                    _ => (sign, start),
                };
                and(sql, sign);
                sql.push_bind(*bound);
            }
        }
        // these have no order, and so no such operators
        Operand::Texts(_) | Operand::Words(_) | Operand::Bools(_) => {}
    }
    sql.push(")");
}

fn any_of(sql: &mut Sql, filter: &Filter) {
    let Some(meaning) = filter.worked_out else { return holds(sql, filter) };
    sql.push("(");
    holds(sql, filter);
    sql.push(" or ");
    let among: Vec<String> = meaning.among.iter().map(|word| (*word).to_owned()).collect();
    any(sql, meaning.column).push_bind(among).push(")) and ");
    sql.push(meaning.date).push(" < ").push_bind(meaning.before).push(")");
}

fn holds(sql: &mut Sql, filter: &Filter) {
    let column = filter.column;
    match &filter.operand {
        Operand::Texts(values) if filter.is_array => {
            sql.push(format_args!("({column} && ")).push_bind(values.clone()).push(")")
        }
        // By one value the planner can follow an index in the order of the list, by several it cannot.
        Operand::Texts(values) => match values.as_slice() {
            [value] => sql.push(format_args!("({column} = ")).push_bind(value.clone()).push(")"),
            values => any(sql, column).push_bind(values.to_vec()).push("))"),
        },
        Operand::Words(words) => match words.as_slice() {
            [word] => sql.push(format_args!("({column} = {})", literal(word))),
            words => any(sql, column).push(literals(words)).push("))"),
        },
        Operand::Integers(values) => any(sql, column).push_bind(values.clone()).push("))"),
        Operand::Decimals(values) => any(sql, column).push_bind(values.clone()).push("))"),
        Operand::Dates(values) => any(sql, column).push_bind(values.clone()).push("))"),
        Operand::Bools(values) => any(sql, column).push_bind(values.clone()).push("))"),
        Operand::Moments(values) => {
            sql.push("(false");
            for Moment { start, end } in values {
                match end {
                    Some(end) => {
                        sql.push(format_args!(" or ({column} >= ")).push_bind(*start);
                        sql.push(format_args!(" and {column} < ")).push_bind(*end).push(")");
                    }
                    None => {
                        sql.push(format_args!(" or {column} = ")).push_bind(*start);
                    }
                }
            }
            sql.push(")")
        }
    };
}

/// The same filter for each of its values.
fn one_by_one(filter: &Filter) -> Vec<Filter> {
    let one = |operand| Filter { operand, ..filter.clone() };
    match &filter.operand {
        Operand::Texts(values) if !filter.is_array => {
            let values: BTreeSet<&String> = values.iter().collect();
            values.into_iter().map(|value| one(Operand::Texts(vec![value.clone()]))).collect()
        }
        Operand::Words(words) => {
            let words: BTreeSet<&'static str> = words.iter().copied().collect();
            words.into_iter().map(|word| one(Operand::Words(vec![word]))).collect()
        }
        _ => Vec::new(),
    }
}

/// Words of ours as an array that the planner can look into.
fn literals(words: &[&'static str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| literal(word)).collect();
    format!("array[{}]", quoted.join(","))
}

fn literal(word: &str) -> String {
    format!("'{}'", word.replace('\'', "''"))
}

fn any<'a>(sql: &'a mut Sql, column: &str) -> &'a mut Sql {
    sql.push(format_args!("({column} = any("))
}

fn contains(sql: &mut Sql, filter: &Filter) {
    let Operand::Texts(values) = &filter.operand else { return };
    sql.push("(true");
    for value in values {
        sql.push(format_args!(" and {} ", filter.column));
        if filter.is_array {
            sql.push("@> ").push_bind(vec![value.clone()]);
        } else {
            sql.push("ilike ").push_bind(anywhere(value));
        }
    }
    sql.push(")");
}

#[cfg(test)]
mod tests;
