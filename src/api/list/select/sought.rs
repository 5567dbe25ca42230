//! Where in a large business the words of a search can be at all: in the records of which a signature says so, or of which none
//! says anything. Where these are few they are looked at, else all records in the order of the list: the words may be in so
//! many that a page of them is soon found.

use std::collections::BTreeSet;

use super::{ListScope, Operand, Sql, table};
use crate::api::list::ListQuery;
use crate::projections::search::{BLOCK, FIRST, Letters, SCHEME, Searched};

/// The lines of a signature that are looked at, and the pairs. More would leave out little more.
const LINES: usize = 12;
const PAIRS: usize = 4;
/// Fewer blocks than this are looked through in the order of the list: that takes no longer.
const BLOCKS: u32 = 64;
/// One record in so many is few.
const FEW: u32 = 16;

/// What a list looks for.
pub(super) struct Sought {
    searched: Searched,
    /// The lines in which a record has its bit; [`LINES`] of them, or none, some of them several times if there are fewer.
    lines: Vec<i32>,
    /// The bits that a block has, and in which line; [`PAIRS`] of them.
    pairs: Vec<(i32, i64)>,
}

impl ListQuery {
    /// What this list looks for among the records as they are now; none if no letters have to be in a record for it to be
    /// in the list.
    pub(super) fn sought(&self, searched: &Searched) -> Option<Sought> {
        if self.as_of.is_some() || !self.spec.of_tenants || self.spec.table != searched.table {
            return None;
        }
        let is_known = |column: &str| column == self.spec.key || searched.columns.contains(&column);
        let mut letters = Letters::default();
        if self.spec.search.iter().all(|column| is_known(column)) {
            self.words.iter().for_each(|word| letters.add(word));
        }
        for filter in &self.filters {
            if let Operand::Texts(values) = &filter.operand
                && filter.is_part()
                && is_known(filter.column)
            {
                values.iter().for_each(|value| letters.add(value));
            }
        }
        if letters.pairs.is_empty() {
            return None;
        }
        let (lines, pairs) = (some(letters.lines, LINES), some(letters.pairs, PAIRS));
        Some(Sought { searched: *searched, lines, pairs })
    }
}

/// So many of them, from everywhere: there are not to be as many statements as there are lengths of words.
fn some<T: Clone>(all: BTreeSet<T>, many: usize) -> Vec<T> {
    let apart = all.len().div_ceil(many).max(1);
    let some: Vec<T> = all.into_iter().step_by(apart).collect();
    some.iter().cloned().cycle().take(many).collect()
}

impl Sought {
    /// The relation `sought`, of one row: the records in which it can be, by blocks, and whether they are few.
    pub(super) fn relation(&self, sql: &mut Sql, scope: &ListScope<'_>) {
        let noun = self.searched.table;
        let (records, marks, signatures) =
            (table(scope, noun), table(scope, "search_marks"), table(scope, "search_signatures"));
        sql.push(format_args!(
            ", sought as materialized (select f.*, f.blocks_in_all >= {BLOCKS} \
             and f.records * {FEW} <= f.blocks_in_all * {BLOCK} as few from scope cross join lateral (\
             select count(*) as blocks_in_all, coalesce(sum(bit_count(b.records::bit(64))), 0) as records, \
             array_agg(b.block) filter (where b.records <> 0) as blocks, \
             array_agg(b.records) filter (where b.records <> 0) as records_of from (\
             select m.block, case when (m.changes, {SCHEME}::smallint, '{records}'::regclass::oid) \
             is distinct from (s.changes, s.scheme, s.made_of) then -1"
        ));
        for (number, (line, second)) in self.pairs.iter().enumerate() {
            sql.push(if number == 0 { " when " } else { " or " });
            sql.push("s.lines[").push_bind(*line).push("] & ").push_bind(*second).push(" = 0");
        }
        sql.push(" then 0 else -1");
        for line in &self.lines {
            sql.push(" & s.lines[").push_bind(*line).push("]");
        }
        sql.push(format_args!(
            " end as records from {marks} m left join {signatures} s \
             on s.tenant_id = scope.tenant_id and s.noun = '{noun}' and s.block = m.block \
             where m.tenant_id = scope.tenant_id and m.noun = '{noun}' offset 0) b) f) "
        ));
    }

    /// These records and those that are in no block, one by one by their keys, as a relation `t` beside `sought`.
    pub(super) fn records(&self, sql: &mut Sql, scope: &ListScope<'_>) {
        let Searched { table: noun, prefix, .. } = self.searched;
        let records = table(scope, noun);
        sql.push(format_args!(
            "sought cross join lateral (select n from generate_series(0, {FIRST} - 1) n union all \
             select b.block * {BLOCK} + n from unnest(sought.blocks, sought.records_of) b (block, records), \
             generate_series(0, {BLOCK} - 1) n where b.records >> n & 1 = 1) n \
             cross join lateral (select r.* from {records} r where r.tenant_id = scope.tenant_id \
             and r.id = '{prefix}-' || lpad(n::text, greatest(3, length(n::text)), '0') offset 0) t"
        ));
    }
}
