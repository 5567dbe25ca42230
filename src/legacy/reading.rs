//! From the old database to staged rows: what is new, changed, gone, or waits in quarantine. Everything else is
//! counted and left alone.

use serde_json::{Map, Value};
use uuid::Uuid;

use super::ImportError;
use super::old::{old_id, squashed};
use super::progress::Progress;
use super::source::{Source, SourceRow};
use super::staging::Staging;
use super::tables::Table;
use crate::aggregates::ids::{CustomerId, InteractionId, InvoiceId, LeadId, NoteId, ProjectId, UserId};

/// So many rows of a table may be gone without anybody saying that it is right.
const FEW: u64 = 10;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct ReadRows {
    /// The founder's row.
    pub founder: Option<i64>,
    /// Rows that are new.
    pub new: u64,
    /// Rows that have changed since they were read last.
    pub changed: u64,
    /// Rows that are gone.
    pub vanished: u64,
}

/// Reads every table and stages what a run is about.
pub(super) async fn stage(
    staging: &Staging,
    source: &mut Source,
    import_id: Uuid,
    accept_deletions: bool,
    progress: &Progress,
) -> Result<ReadRows, ImportError> {
    let rows: i64 = source.shape.rows.values().sum();
    progress.part("reading", u64::try_from(rows).unwrap_or(0));
    let mut read = ReadRows::default();
    let mut founder = Founder::default();
    for table in source.tables() {
        let gone = stage_table(staging, source, import_id, table, &mut read, &mut founder, progress).await?;
        if !accept_deletions && gone > FEW {
            let imported: i64 = sqlx::query_scalar(
                "select count(*) from legacy_rows where tenant_id = $1 and source_table = $2 and not vanished",
            )
            .bind(staging.tenant())
            .bind(table.name())
            .fetch_one(&staging.pool)
            .await?;
            if gone > u64::try_from(imported).unwrap_or(0) / 20 {
                return Err(ImportError::ManyGone { table: table.name(), gone, imported });
            }
        }
        read.vanished += gone;
    }
    let named: Option<i64> = sqlx::query_scalar(
        "select pk from legacy_keys where tenant_id = $1 and source_table = 'users' and local_id = $2",
    )
    .bind(staging.tenant())
    .bind(UserId::FOUNDER.to_string())
    .fetch_optional(&staging.pool)
    .await?;
    // Whoever was taken for the founder once, stays it.
    read.founder = named.or(founder.row());
    Ok(read)
}

async fn stage_table(
    staging: &Staging,
    source: &mut Source,
    import_id: Uuid,
    table: Table,
    read: &mut ReadRows,
    founder: &mut Founder,
    progress: &Progress,
) -> Result<u64, ImportError> {
    let mut before = i64::MIN;
    let mut vanished = 0;
    source.begin(table).await?;
    let mut rows = source.next().await?;
    loop {
        let last = rows.last().map_or(i64::MAX, |row| row.pk);
        let mut known = staging.read_rows(table, before.saturating_add(1), last).await?;
        let (mut changed, mut parents, mut keys): (Vec<SourceRow>, _, _) = (Vec::new(), Vec::new(), Vec::new());
        let met: Vec<i64> = rows.iter().map(|row| row.pk).collect();
        let end = rows.is_empty();
        progress.done(u64::try_from(rows.len()).unwrap_or(0));
        for row in rows {
            let was = known.remove(&row.pk);
            if table == Table::Users {
                founder.consider(row.pk, &row.json);
            }
            match was {
                Some((text, false, false)) if text == row.json => continue,
                Some((text, ..)) if text == row.json => {}
                Some(_) => read.changed += 1,
                None => read.new += 1,
            }
            let fields: Map<String, Value> = serde_json::from_str(&row.json).map_err(ImportError::Encode)?;
            parents.push(table.parent().and_then(|(_, column)| text(&fields, column)));
            if table.prefix().is_some() {
                let legacy_id = text(&fields, "system_id");
                let number = legacy_id.as_deref().and_then(|id| number_of(id, table.old_prefixes()));
                let canonical = match (&legacy_id, number, table.prefix()) {
                    (Some(id), Some(number), Some(prefix)) => *id == format!("{prefix}-{number:03}"),
                    _ => false,
                };
                keys.push((row.pk, legacy_id, number, canonical));
            }
            changed.push(row);
        }
        // What is known between these rows and was not met is gone.
        if known.values().any(|(_, _, gone)| !gone) {
            vanished += staging.stage_vanished(table, before, last, &met).await?;
        }
        // While these are staged, the old database looks for the next.
        let keyed = async {
            match table.prefix() {
                Some(prefix) => staging.add_keys(import_id, table, prefix, &keys).await,
                None => Ok(()),
            }
        };
        if end {
            tokio::try_join!(keyed, staging.stage(table, &changed, &parents))?;
            return Ok(vanished);
        }
        let ((), (), next) = tokio::try_join!(keyed, staging.stage(table, &changed, &parents), source.next())?;
        rows = next;
        before = last;
    }
}

/// An id or a word that a row says.
fn text(fields: &Map<String, Value>, column: &str) -> Option<String> {
    old_id(fields.get(column)?)
}

/// The number that an old id says: `cus-100`, `CUS_0100` and `CUS 100` are all 100.
fn number_of(id: &str, prefixes: &[&str]) -> Option<i64> {
    let letters = id.find(|c: char| !c.is_ascii_alphabetic())?;
    let (prefix, rest) = id.split_at_checked(letters)?;
    let digits = rest.trim_start_matches(['-', '_', ' ']);
    let known = prefixes.iter().any(|known| known.eq_ignore_ascii_case(prefix));
    let number = if known && digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse::<u32>().ok() } else { None };
    number.map(i64::from)
}

/// Which row is the founder's: whoever is said to be it, by role or flag, best by both and as USR-000.
#[derive(Default)]
struct Founder {
    best: Option<(u8, i64)>,
}

impl Founder {
    fn consider(&mut self, pk: i64, json: &str) {
        let Ok(fields) = serde_json::from_str::<Map<String, Value>>(json) else { return };
        let role = text(&fields, "user_role").map(|role| squashed(&role)).unwrap_or_default();
        let by_role = matches!(role.as_str(), "founder" | "platformfounder");
        let by_flag = fields.get("is_founder") == Some(&Value::Bool(true));
        let by_name = text(&fields, "system_id").is_some_and(|id| id.eq_ignore_ascii_case("USR-000"));
        // The name alone makes nobody the founder of the whole platform.
        if !by_role && !by_flag {
            return;
        }
        let score = 2 * u8::from(by_role) + 2 * u8::from(by_flag) + u8::from(by_name);
        if self.best.is_none_or(|(best, _)| score > best) {
            self.best = Some((score, pk));
        }
    }

    fn row(&self) -> Option<i64> {
        self.best.map(|(_, pk)| pk)
    }
}

/// What is counted, from which number on, and how to find what the tenant uses already.
const COUNTED: [(&str, i64, &str); 7] = [
    (UserId::PREFIX, 1, "User"),
    (CustomerId::PREFIX, 0, "Customer"),
    (LeadId::PREFIX, 0, "Lead"),
    (ProjectId::PREFIX, 0, "Project"),
    (InvoiceId::PREFIX, 0, "Invoice"),
    (InteractionId::PREFIX, 0, "interactions"),
    (NoteId::PREFIX, 0, "notes"),
];

/// Gives every row that has an id of its own a name of ours.
pub(super) async fn name_rows(staging: &Staging, founder: Option<i64>) -> Result<(), ImportError> {
    if let Some(pk) = founder {
        staging.name_founder(pk, &UserId::FOUNDER.to_string()).await?;
    }
    staging.analyze(&["legacy_keys"]).await?;
    let kinds = COUNTED.into_iter().map(|(prefix, lowest, what)| async move {
        let taken = if what.starts_with(char::is_uppercase) {
            format!(
                "select split_part(split_part(aggregate_id, ':', 2), '-', 2)::bigint as number from events
                 where aggregate_type = '{what}' and tenant_id = $1 and sequence = 1"
            )
        } else {
            format!("select split_part(id, '-', 2)::bigint as number from {what} where tenant_id = $1")
        };
        staging.assign_names(prefix, lowest, &taken).await
    });
    futures::future::try_join_all(kinds).await?;
    Ok(())
}

/// What is counted and has a stream of its own, by prefix.
pub(super) fn kinds_of_streams() -> Vec<(&'static str, &'static str)> {
    let streams = COUNTED.iter().filter(|(.., what)| what.starts_with(char::is_uppercase));
    streams.map(|(prefix, _, what)| (*prefix, *what)).collect()
}

/// The number after the highest of each kind.
pub(super) async fn next_numbers(staging: &Staging) -> Result<Vec<(&'static str, u32)>, ImportError> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "select prefix, max(greatest(number, split_part(local_id, '-', 2)::bigint)) + 1 from legacy_keys
         where tenant_id = $1 and local_id is not null group by prefix",
    )
    .bind(staging.tenant())
    .fetch_all(&staging.pool)
    .await?;
    let counted = |(prefix, next): (String, i64)| {
        let (kind, ..) = COUNTED.into_iter().find(|(kind, ..)| *kind == prefix)?;
        Some((kind, u32::try_from(next).ok()?))
    };
    Ok(rows.into_iter().filter_map(counted).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_id_is_read_however_it_was_written() {
        for (id, number) in [
            ("CUS-042", Some(42)),
            ("cus-100", Some(100)),
            ("CUS-1042", Some(1042)),
            ("CUS_7", Some(7)),
            ("INV-042", None),
            ("CUS-", None),
            ("CUS-4x", None),
            ("CUS-99999999999", None),
            ("042", None),
        ] {
            assert_eq!(number_of(id, &["CUS"]), number, "{id}");
        }
        assert_eq!(number_of("CN-007", Table::CustomerNotes.old_prefixes()), Some(7));
        assert_eq!(number_of("LI-007", Table::LeadInteractions.old_prefixes()), None);
    }

    #[test]
    fn the_founder_is_whoever_is_said_to_be_it() {
        let chosen = |rows: &[&str]| {
            let mut founder = Founder::default();
            for (pk, row) in (1..).zip(rows) {
                founder.consider(pk, row);
            }
            founder.row()
        };
        let (plain, named) = (r#"{"user_role": "EMPLOYEE"}"#, r#"{"system_id": "USR-000", "user_role": "EMPLOYEE"}"#);
        let (flag, both) = (r#"{"is_founder": true}"#, r#"{"is_founder": true, "user_role": "founder"}"#);
        let whole = r#"{"system_id": "USR-000", "is_founder": true, "user_role": "PLATFORM_FOUNDER"}"#;
        assert_eq!(chosen(&[plain, named]), None, "the name alone is not enough");
        assert_eq!(chosen(&[plain, flag]), Some(2));
        assert_eq!(chosen(&[flag, both, whole]), Some(3));
        assert_eq!(chosen(&[both, both]), Some(1));
    }
}
