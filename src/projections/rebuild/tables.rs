//! The tables of a projection in the catalogue: made anew beside the live ones, finished like them, put in their place.
//!
//! Nothing of a table is written down here: what the live one has is read from the catalogue, so that a migration
//! that adds a column, an index or a policy need not know of rebuilds.

use sqlx::Executor;
use sqlx::postgres::PgConnection;

/// The table of a cell, and the schemas in which it is made anew and thrown away.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The cell's schema.
    pub live: String,
    /// Where it is made anew.
    pub side: String,
    /// Where the one before waits to be thrown away.
    pub replaced: String,
}

/// What a table is, apart from its rows and its schema: a line each.
const DESCRIPTION: &str = "
with t as (
    select c.* from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2
)
select replace(line, quote_ident($1) || '.', '') from (
    select format('table of %s, persistence %s, row security %s %s, options %s, tablespace %s, identity %s, comment %s',
                  pg_get_userbyid(relowner), relpersistence, relrowsecurity, relforcerowsecurity, reloptions,
                  reltablespace, relreplident, obj_description(oid, 'pg_class'))
    from t
    union all
    select format('privilege %s', a) from t, unnest(relacl) a
    union all
    select format('column %s %s %s, null %s, generated %s, default %s, collation %s, storage %s, compression %s, statistics %s %s, privileges %s, comment %s',
                  row_number() over (order by attnum), attname, format_type(atttypid, atttypmod), not attnotnull,
                  attgenerated, pg_get_expr(d.adbin, d.adrelid), attcollation, attstorage, attcompression,
                  coalesce(nullif(attstattarget, -1)::text, ''), attoptions, attacl, col_description(t.oid, attnum))
    from t join pg_attribute a on a.attrelid = t.oid and attnum > 0 and not attisdropped
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    union all
    select format('constraint %s %s', conname, pg_get_constraintdef(k.oid))
    from t join pg_constraint k on k.conrelid = t.oid where contype <> 'n'
    union all
    select format('index %s, valid %s, clustered %s, identity %s', pg_get_indexdef(indexrelid), indisvalid, indisclustered, indisreplident)
    from t join pg_index i on i.indrelid = t.oid
    union all
    select format('policy %s %s %s %s using %s check %s', policyname, permissive, cmd, roles, qual, with_check)
    from t join pg_policies p on p.schemaname = $1 and p.tablename = t.relname
    union all
    select format('trigger %s', pg_get_triggerdef(g.oid)) from t join pg_trigger g on g.tgrelid = t.oid where not tgisinternal
    union all
    select format('statistics %s', stxname) from t join pg_statistic_ext s on s.stxrelid = t.oid
) lines (line)
order by 1";

/// Statements that give the table in `$2` the indexes that the one in `$1` has, those of its keys first.
const INDEXES: &str = "
select replace(pg_get_indexdef(indexrelid), format(' ON %I.%I ', $1, $3), format(' ON %I.%I ', $2, $3))
from pg_index i
where indrelid = format('%I.%I', $1, $3)::regclass
  and not exists (select from pg_constraint k where k.conindid = i.indexrelid and k.contype = 'x')
order by indisprimary desc, indexrelid";

/// Statements that make keys of the indexes that are to be keys. What excludes others makes its index itself.
const CONSTRAINTS: &str = "
select format('alter table %I.%I add constraint %I %s', $2, $3, conname, case contype
    when 'x' then pg_get_constraintdef(k.oid)
    else format('%s using index %I%s', case contype when 'p' then 'primary key' else 'unique' end, conname,
                case when condeferrable then ' deferrable' end || case when condeferred then ' initially deferred' else '' end)
    end)
from pg_constraint k where conrelid = format('%I.%I', $1, $3)::regclass and contype in ('p', 'u', 'x') order by conname";

/// The columns of the table `$1` that its indexes are made of, those of their conditions included.
const INDEXED: &str = "
select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
where attrelid = $1::regclass and attnum > 0 and not attisdropped
  and exists (
      select from pg_index i where indrelid = attrelid and (attnum = any(indkey) or exists (
          select from pg_depend d
          where d.classid = 'pg_class'::regclass and d.objid = indexrelid
            and d.refclassid = 'pg_class'::regclass and d.refobjid = indrelid and d.refobjsubid = attnum)))";

/// Statements that give it policies, privileges, settings and owner as well.
const RIGHTS: &str = "
select format('create policy %I on %I.%I as %s for %s to %s%s%s', policyname, $2, $3, permissive, cmd,
              (select string_agg(case role when 'public' then 'public' else quote_ident(role) end, ', ')
               from unnest(roles) role),
              ' using (' || qual || ')', ' with check (' || with_check || ')')
from pg_policies where schemaname = $1 and tablename = $3
union all
select * from (
    select format('grant %s on %I.%I to %s%s', privilege_type, $2, $3,
                  case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
                  case when is_grantable then ' with grant option' else '' end)
    from pg_class c, aclexplode(c.relacl) with ordinality
    where c.oid = format('%I.%I', $1, $3)::regclass order by ordinality
) grants
union all
select format('grant %s (%I) on %I.%I to %s%s', privilege_type, attname, $2, $3,
              case grantee when 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
              case when is_grantable then ' with grant option' else '' end)
from pg_attribute a, aclexplode(a.attacl) where attrelid = format('%I.%I', $1, $3)::regclass
union all
select format('alter table %I.%I set (%s)', $2, $3, array_to_string(reloptions, ', '))
from pg_class where oid = format('%I.%I', $1, $3)::regclass and reloptions is not null
union all
select format('alter table %I.%I alter column %I set statistics %s', $2, $3, attname, attstattarget)
from pg_attribute where attrelid = format('%I.%I', $1, $3)::regclass and attnum > 0 and not attisdropped
  and attstattarget > -1
union all
select format('alter table %I.%I alter column %I set (%s)', $2, $3, attname, array_to_string(attoptions, ', '))
from pg_attribute where attrelid = format('%I.%I', $1, $3)::regclass and attnum > 0 and not attisdropped
  and attoptions is not null
union all
select format('comment on table %I.%I is %L', $2, $3, comment)
from obj_description(format('%I.%I', $1, $3)::regclass, 'pg_class') comment where comment is not null
union all
select format('alter table %I.%I owner to %I', $2, $3, pg_get_userbyid(relowner))
from pg_class where oid = format('%I.%I', $1, $3)::regclass and relowner <> current_user::regrole";

/// Statements that switch row-level security on, as it is on the live table. No row can be copied in afterwards.
const SECURITY: &str = "
select format('alter table %I.%I enable row level security', $2, $3)
from pg_class where oid = format('%I.%I', $1, $3)::regclass and relrowsecurity
union all
select format('alter table %I.%I force row level security', $2, $3)
from pg_class where oid = format('%I.%I', $1, $3)::regclass and relforcerowsecurity";

impl Place {
    /// Makes the table anew: columns and checks, no indexes yet, since they are made faster of all rows at once.
    pub(super) async fn create(&self, owner: &mut PgConnection, table: &str) -> sqlx::Result<()> {
        let Self { live, side, .. } = self;
        run(owner, format!("create table {side}.{table} (like {live}.{table} including all excluding indexes)")).await
    }

    /// The statements that give it the indexes of the live one; what helped to fill it goes.
    pub(super) async fn indexes(&self, owner: &mut PgConnection, table: &str) -> sqlx::Result<Vec<String>> {
        let helping: Vec<String> =
            sqlx::query_scalar("select indexrelid::regclass::text from pg_index where indrelid = $1::regclass")
                .bind(format!("{}.{table}", self.side))
                .fetch_all(&mut *owner)
                .await?;
        for index in helping {
            run(owner, format!("drop index {index}")).await?;
        }
        self.following(owner, INDEXES, table).await
    }

    /// Gives it everything else but row-level security.
    pub(super) async fn finish(&self, owner: &mut PgConnection, table: &str) -> sqlx::Result<()> {
        self.follow(owner, CONSTRAINTS, table).await?;
        self.follow(owner, RIGHTS, table).await
    }

    /// The statement that tells the planner what it chooses an index by. What is in the other columns, which takes longer
    /// than all indexes do, the server looks at by itself soon: its own analysis is still due.
    pub(super) async fn analyze(&self, owner: &mut PgConnection, table: &str) -> sqlx::Result<String> {
        let table = format!("{}.{table}", self.side);
        let columns: Option<String> = sqlx::query_scalar(INDEXED).bind(&table).fetch_one(owner).await?;
        Ok(columns.map_or_else(|| format!("analyze {table}"), |columns| format!("analyze {table} ({columns})")))
    }

    /// Switches row-level security on.
    pub(super) async fn secure(&self, owner: &mut PgConnection, table: &str) -> sqlx::Result<()> {
        self.follow(owner, SECURITY, table).await
    }

    /// What the live one has and the new one lacks, or the other way round; nothing if they are alike.
    pub(super) async fn unlike(&self, owner: &mut PgConnection, table: &str) -> sqlx::Result<Vec<String>> {
        let live: Vec<String> =
            sqlx::query_scalar(DESCRIPTION).bind(&self.live).bind(table).fetch_all(&mut *owner).await?;
        let side: Vec<String> = sqlx::query_scalar(DESCRIPTION).bind(&self.side).bind(table).fetch_all(owner).await?;
        let lacks = |these: &[String], those: &[String], what: &str| -> Vec<String> {
            these.iter().filter(|line| !those.contains(line)).map(|line| format!("{table}: {what} {line}")).collect()
        };
        Ok([lacks(&live, &side, "only the live one has"), lacks(&side, &live, "only the new one has")].concat())
    }

    /// Puts the new one in the place of the live one, whose names it bears.
    pub(super) async fn exchange(&self, owner: &mut PgConnection, table: &str) -> sqlx::Result<()> {
        let Self { live, side, replaced } = self;
        run(owner, format!("alter table {live}.{table} set schema {replaced}")).await?;
        run(owner, format!("alter table {side}.{table} set schema {live}")).await
    }

    /// Throws away what was made anew and what was replaced.
    pub(super) async fn drop_leftovers(&self, owner: &mut PgConnection, table: &str) -> sqlx::Result<()> {
        for schema in [&self.side, &self.replaced] {
            run(owner, format!("drop table if exists {schema}.{table}")).await?;
        }
        Ok(())
    }

    /// Whether this account owns the live table and may make tables beside it.
    pub(super) async fn is_ours(&self, owner: &mut PgConnection, table: &str) -> sqlx::Result<bool> {
        sqlx::query_scalar(
            "select pg_has_role(relowner, 'usage') and has_schema_privilege($1, 'create')
                and coalesce(has_schema_privilege(to_regnamespace($2), 'create'), false)
                and coalesce(has_schema_privilege(to_regnamespace($3), 'create'), false)
             from pg_class where oid = format('%I.%I', $1, $4)::regclass",
        )
        .bind(&self.live)
        .bind(&self.side)
        .bind(&self.replaced)
        .bind(table)
        .fetch_one(owner)
        .await
    }

    /// The views on the live table: they would go on showing the one that was replaced.
    pub(super) async fn views(&self, owner: &mut PgConnection, table: &str) -> sqlx::Result<Vec<String>> {
        sqlx::query_scalar(
            "select distinct r.ev_class::regclass::text
             from pg_depend d join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
             where d.refclassid = 'pg_class'::regclass and d.refobjid = $1::regclass and r.ev_class <> d.refobjid",
        )
        .bind(format!("{}.{table}", self.live))
        .fetch_all(owner)
        .await
    }

    /// The columns that are written, in order; generated ones write themselves.
    pub(super) async fn columns(&self, owner: &mut PgConnection, table: &str) -> sqlx::Result<String> {
        sqlx::query_scalar(
            "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
             where attrelid = $1::regclass and attnum > 0 and not attisdropped and attgenerated = ''",
        )
        .bind(format!("{}.{table}", self.live))
        .fetch_one(owner)
        .await
    }

    /// The statements that a query on the catalogue makes of the live table for the new one.
    async fn following(&self, owner: &mut PgConnection, query: &str, table: &str) -> sqlx::Result<Vec<String>> {
        sqlx::query_scalar(query).bind(&self.live).bind(&self.side).bind(table).fetch_all(owner).await
    }

    async fn follow(&self, owner: &mut PgConnection, query: &str, table: &str) -> sqlx::Result<()> {
        for statement in self.following(owner, query, table).await? {
            run(owner, statement).await?;
        }
        Ok(())
    }
}

/// Runs a statement that is used once.
pub(super) async fn run(owner: &mut PgConnection, statement: String) -> sqlx::Result<()> {
    owner.execute(sqlx::raw_sql(&statement)).await.map(drop)
}
