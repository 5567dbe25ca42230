//! Signatures are made of blocks that have changed since the last one, a few at a time, by one process at once.

use std::collections::BTreeMap;

use sqlx::FromRow;
use sqlx::postgres::PgConnection;

use super::{BLOCK, SCHEME, Searched, Signature};
use crate::event_store::Cell;
use crate::projections::row::Row;
use crate::projections::{customers, invoices, leads, projects};

/// Blocks of one read model that are signed at once.
const AT_ONCE: i64 = 128;
/// Any number: one process of a cell signs at a time.
const LOCK: i32 = 0x7369_676e;

/// Every read model that is searched.
pub(super) fn all() -> impl Iterator<Item = &'static Searched> {
    [
        customers::CustomerRow::SEARCHED,
        leads::LeadRow::SEARCHED,
        projects::ProjectRow::SEARCHED,
        invoices::InvoiceRow::SEARCHED,
    ]
    .into_iter()
    .flatten()
}

/// A block, and how often what is searched in it had changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, FromRow)]
struct Block {
    tenant_id: String,
    block: i32,
    changes: i64,
    /// The table that it was read from.
    made_of: i64,
}

/// A record of a block.
#[derive(FromRow)]
struct Record {
    #[sqlx(flatten)]
    block: Block,
    number: i32,
    /// None: there is none of this number.
    texts: Option<Vec<Option<String>>>,
}

/// Signs some of the blocks that have no signature of what is in them now, of each read model a few. Answers how many: none
/// if there are none, or another process is at it.
///
/// # Errors
/// The database's; nothing of this time is written then.
pub async fn sign(cell: &Cell) -> sqlx::Result<usize> {
    let mut transaction = cell.replayer.begin().await?;
    let is_ours: bool = sqlx::query_scalar("select pg_try_advisory_xact_lock($1, hashtext($2))")
        .bind(LOCK)
        .bind(&*cell.name)
        .fetch_one(&mut *transaction)
        .await?;
    let mut signed = 0;
    if is_ours {
        for searched in all() {
            signed += sign_some(&mut transaction, searched).await?;
        }
    }
    transaction.commit().await?;
    metrics::counter!("search_blocks_signed_total").increment(u64::try_from(signed).unwrap_or(0));
    Ok(signed)
}

async fn sign_some(connection: &mut PgConnection, searched: &Searched) -> sqlx::Result<usize> {
    let Searched { table, prefix, columns } = searched;
    // Any of them, so that nobody who changes much keeps the others from their turn.
    let stale = format!(
        "select m.tenant_id, m.block
         from search_marks m
         left join search_signatures s on s.tenant_id = m.tenant_id and s.noun = m.noun and s.block = m.block
         where m.noun = '{table}' and (m.changes, {SCHEME}::smallint, '{table}'::regclass::oid)
             is distinct from (s.changes, s.scheme, s.made_of)
         order by random() limit {AT_ONCE}"
    );
    let stale: Vec<(String, i32)> = sqlx::query_as(&stale).fetch_all(&mut *connection).await?;
    if stale.is_empty() {
        return Ok(0);
    }
    let (tenants, blocks): (Vec<String>, Vec<i32>) = stale.into_iter().unzip();
    // Counts and records in one statement, which sees both as they were at the same moment.
    let records = format!(
        "select m.tenant_id, m.block, m.changes, '{table}'::regclass::oid::bigint as made_of, n as number, t.texts
         from unnest($1::text[], $2::int[]) as b (tenant_id, block)
         join search_marks m on m.tenant_id = b.tenant_id and m.noun = '{table}' and m.block = b.block
         cross join lateral generate_series(b.block * {BLOCK}, b.block * {BLOCK} + {BLOCK} - 1) n
         left join lateral (
             select array[r.id, {}] as texts from {table} r where r.tenant_id = b.tenant_id and r.id = '{prefix}-' || n
             offset 0
         ) t on true",
        columns.iter().map(|column| format!("r.{column}")).collect::<Vec<_>>().join(", ")
    );
    let records: Vec<Record> = sqlx::query_as(&records).bind(tenants).bind(blocks).fetch_all(&mut *connection).await?;
    let mut signatures: BTreeMap<Block, Signature> = BTreeMap::new();
    for record in records {
        let signature = signatures.entry(record.block).or_default();
        let number = u32::try_from(record.number).unwrap_or(0);
        record.texts.iter().flatten().flatten().for_each(|text| signature.add(number, text));
    }
    let signed = signatures.len();
    let write = format!(
        "insert into search_signatures (tenant_id, noun, block, changes, made_of, scheme, lines)
         values ($1, '{table}', $2, $3, $4::oid, {SCHEME}, $5)
         on conflict (tenant_id, noun, block) do update set
             changes = excluded.changes, made_of = excluded.made_of, scheme = excluded.scheme, lines = excluded.lines"
    );
    for (block, signature) in signatures {
        sqlx::query(&write)
            .bind(block.tenant_id)
            .bind(block.block)
            .bind(block.changes)
            .bind(block.made_of)
            .bind(signature.into_lines())
            .execute(&mut *connection)
            .await?;
    }
    Ok(signed)
}
