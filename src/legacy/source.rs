//! The old database: one consistent snapshot of it, read only, row by row.
//!
//! What it holds is found out from its catalogue, not assumed: which revision, which tables and columns are
//! missing, which were added by hand. Columns that hold secrets never leave it.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};

use super::ImportError;
use super::tables::{Revision, Table};

/// A column of which a word is one of these is not read, whoever added it.
const SECRET_WORDS: [&str; 14] =
    ["pass", "pin", "otp", "totp", "hotp", "salt", "creds", "cred", "cvv", "cvc", "mfa", "jwt", "pswd", "pw"];
/// The same for a column of which a word has one of these in it.
const SECRET_PARTS: [&str; 8] = ["passw", "passphrase", "passcode", "pwd", "secret", "token", "hash", "credential"];
/// The same for a column whose words together have one of these in them, or two words that mean one.
const SECRET_TOGETHER: [&str; 13] = [
    "vault",
    "apikey",
    "privatekey",
    "accesskey",
    "signingkey",
    "encryptionkey",
    "masterkey",
    "sshkey",
    "passkey",
    "accesscode",
    "otpcode",
    "recoverycode",
    "backupcode",
];
/// What begins like one of them and is none.
const NO_SECRETS: [&str; 5] = ["secretary", "secretaries", "secretariat", "hashtag", "hashtags"];

/// Rows that are read at once.
const FETCH: usize = 2_000;

/// What the old database is like.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[schema(as = LegacyDatabase)]
pub struct Shape {
    /// The revision, `fef60ef31522`.
    pub revision: String,
    /// How the revision was found, where that is worth a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
    /// Tables of that revision that are not there.
    pub missing_tables: Vec<String>,
    /// Columns of the old application that are not there.
    pub missing_columns: Vec<String>,
    /// Columns that somebody added by hand. They are kept with the row; one that may hold a secret is not read.
    pub added_columns: Vec<String>,
    /// Tables that are none of the old application's. They are not read.
    pub other_tables: Vec<String>,
    /// The rows of each table.
    pub rows: BTreeMap<String, i64>,
}

/// An open snapshot of the old database.
pub(super) struct Source {
    connection: PgConnection,
    schema: String,
    columns: BTreeMap<Table, BTreeSet<String>>,
    /// What it is like.
    pub shape: Shape,
    /// Where it is, without the password.
    pub address: String,
}

/// A row of the old database: its primary key and the row as JSON without its secrets.
pub(super) struct SourceRow {
    pub pk: i64,
    pub json: String,
}

impl Source {
    /// Opens a snapshot: repeatable read, read only.
    pub(super) async fn open(url: &SecretString) -> Result<Self, ImportError> {
        let options = PgConnectOptions::from_str(url.expose_secret())
            .map_err(|error| ImportError::Source(format!("the address is not understood: {error}")))?
            .application_name("devhub legacy import")
            .options([("timezone", "UTC"), ("default_transaction_read_only", "on")])
            .disable_statement_logging();
        let address = format!("{}/{}", options.get_host(), options.get_database().unwrap_or_default());
        let mut connection = PgConnection::connect_with(&options)
            .await
            .map_err(|error| ImportError::Source(format!("{address} cannot be reached: {error}")))?;
        sqlx::query("begin isolation level repeatable read, read only").execute(&mut connection).await?;
        let schema: Option<String> =
            sqlx::query_scalar("select current_schema()::text").fetch_one(&mut connection).await?;
        let schema = schema.unwrap_or_else(|| "public".to_owned());
        let mut source = Self { connection, schema, columns: BTreeMap::new(), shape: Shape::default(), address };
        source.look().await?;
        Ok(source)
    }

    async fn look(&mut self) -> Result<(), ImportError> {
        let found: Vec<(String, String)> = sqlx::query_as(
            "select c.relname::text, a.attname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
             join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
             where n.nspname = $1 and c.relkind in ('r', 'p', 'f', 'v', 'm') order by 1, a.attnum",
        )
        .bind(&self.schema)
        .fetch_all(&mut self.connection)
        .await?;
        let mut others = BTreeSet::new();
        for (table, column) in found {
            match table.parse::<Table>() {
                Ok(table) => {
                    self.columns.entry(table).or_default().insert(column);
                }
                Err(_) if table == "alembic_version" => {}
                Err(_) => {
                    others.insert(table);
                }
            }
        }
        if !self.columns.contains_key(&Table::Users) && !self.columns.contains_key(&Table::Customers) {
            return Err(ImportError::Source(format!(
                "{} is no old DevHub database: its schema {} has neither users nor customers",
                self.address, self.schema
            )));
        }
        for (table, columns) in &self.columns {
            if !columns.contains("id") {
                return Err(ImportError::Source(format!("the table {} has no column id", table.name())));
            }
        }
        self.shape.other_tables = others.into_iter().collect();
        let revision = self.revision().await?;
        self.describe(revision);
        self.count().await
    }

    /// The revision that the old application wrote down, or the one that the tables look like.
    async fn revision(&mut self) -> Result<Revision, ImportError> {
        let looks_like = if self.columns.contains_key(&Table::Tenants) {
            Revision::Tenants
        } else if self.columns.contains_key(&Table::Leads) {
            Revision::Crm
        } else {
            Revision::Base
        };
        let there: bool = sqlx::query_scalar("select to_regclass(format('%I.alembic_version', $1::text)) is not null")
            .bind(&self.schema)
            .fetch_one(&mut self.connection)
            .await?;
        let written: Option<String> = if there {
            let statement = format!("select version_num::text from {}", self.qualified("alembic_version"));
            sqlx::query_scalar(&statement).fetch_optional(&mut self.connection).await?
        } else {
            None
        };
        let known = written.as_deref().and_then(|written| Revision::from_str(written).ok());
        self.shape.remark = match (&written, known) {
            (None, _) => Some(format!("no revision is written down; the tables are those of {}", looks_like.id())),
            (Some(written), None) => {
                Some(format!("the revision {written} is unknown; the tables are those of {}", looks_like.id()))
            }
            (Some(_), Some(known)) if known != looks_like => {
                Some(format!("it says {}, but the tables are those of {}", known.id(), looks_like.id()))
            }
            _ => None,
        };
        Ok(looks_like)
    }

    fn describe(&mut self, revision: Revision) {
        self.shape.revision = revision.id().to_owned();
        for table in Table::ALL {
            let Some(columns) = self.columns.get(table) else {
                if revision.has(*table) {
                    self.shape.missing_tables.push(table.name().to_owned());
                }
                continue;
            };
            let known = |column: &str| {
                table.columns().contains(&column)
                    && (revision == Revision::Tenants
                        || !matches!((table, column), (Table::Users, "department" | "permissions"))
                            && (*table == Table::Users || column != "tenant_id"))
            };
            for column in columns.iter().filter(|column| !known(column)) {
                self.shape.added_columns.push(format!("{}.{column}", table.name()));
            }
            for column in table.columns().iter().filter(|column| known(column) && !columns.contains(**column)) {
                // The last revision took it away.
                if *column == "tenant_name" && revision == Revision::Tenants {
                    continue;
                }
                self.shape.missing_columns.push(format!("{}.{column}", table.name()));
            }
        }
    }

    async fn count(&mut self) -> Result<(), ImportError> {
        for table in self.tables() {
            let statement = format!("select count(*) from {}", self.qualified(table.name()));
            let rows: i64 = sqlx::query_scalar(&statement).fetch_one(&mut self.connection).await?;
            self.shape.rows.insert(table.name().to_owned(), rows);
        }
        Ok(())
    }

    /// The tables that are there.
    pub(super) fn tables(&self) -> Vec<Table> {
        self.columns.keys().copied().collect()
    }

    /// The table's columns.
    pub(super) fn columns(&self, table: Table) -> impl Iterator<Item = &String> {
        self.columns.get(&table).into_iter().flatten()
    }

    /// Whether the table has the column.
    pub(super) fn has(&self, table: Table, column: &str) -> bool {
        self.columns.get(&table).is_some_and(|columns| columns.contains(column))
    }

    /// Begins to read a table by primary key; [`Source::next`] goes on.
    pub(super) async fn begin(&mut self, table: Table) -> Result<(), ImportError> {
        let name = self.qualified(table.name());
        let select = if table == Table::PasswordVault {
            // Whose entry it is, and nothing else.
            let user = if self.has(table, "user_system_id") { "user_system_id" } else { "null" };
            format!(
                "select id::bigint, json_build_object('id', id, 'user_system_id', {user})::text from {name} order by id"
            )
        } else {
            let secrets = self.secrets(table).iter().map(|column| quoted(column)).collect::<Vec<_>>().join(", ");
            format!("select id::bigint, (to_jsonb(t) - array[{secrets}]::text[])::text from {name} t order by id")
        };
        let declare = format!("declare legacy_rows no scroll cursor for {select}");
        sqlx::query(&declare).execute(&mut self.connection).await?;
        Ok(())
    }

    /// The next rows of the table that was begun, as JSON without secrets; none at its end.
    pub(super) async fn next(&mut self) -> Result<Vec<SourceRow>, ImportError> {
        let fetch = format!("fetch forward {FETCH} from legacy_rows");
        let rows: Vec<(i64, String)> = sqlx::query_as(&fetch).fetch_all(&mut self.connection).await?;
        if rows.is_empty() {
            sqlx::query("close legacy_rows").execute(&mut self.connection).await?;
        }
        Ok(rows.into_iter().map(|(pk, json)| SourceRow { pk, json }).collect())
    }

    fn secrets(&self, table: Table) -> Vec<String> {
        let columns = self.columns.get(&table).into_iter().flatten();
        columns.filter(|column| is_secret(column)).cloned().collect()
    }

    /// What every account proved itself with, by primary key: read straight into the new account, kept nowhere else.
    pub(super) async fn hashes(&mut self) -> Result<BTreeMap<i64, SecretString>, ImportError> {
        if !self.has(Table::Users, "hashed_password") {
            return Ok(BTreeMap::new());
        }
        let statement = format!(
            "select id::bigint, hashed_password::text from {} where hashed_password is not null",
            self.qualified("users")
        );
        let rows: Vec<(i64, String)> = sqlx::query_as(&statement).fetch_all(&mut self.connection).await?;
        Ok(rows.into_iter().map(|(pk, hash)| (pk, hash.into())).collect())
    }

    /// The latest moment that the database knows of, up to `now`: what has no time of its own was there by then.
    pub(super) async fn last_moment(&mut self, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, ImportError> {
        let columns: Vec<(String, String)> = sqlx::query_as(
            "select table_name::text, column_name::text from information_schema.columns
             where table_schema = $1 and data_type like 'timestamp%' and column_name in ('created_at', 'updated_at')",
        )
        .bind(&self.schema)
        .fetch_all(&mut self.connection)
        .await?;
        let mut last: Option<DateTime<Utc>> = None;
        for (table, column) in columns {
            let Ok(known) = table.parse::<Table>() else { continue };
            if known == Table::PasswordVault {
                continue;
            }
            let column = quoted_name(&column);
            let statement = format!(
                "select (max({column}) at time zone 'UTC')::timestamptz from {}
                 where {column} between timestamp '1970-01-01' and $1::timestamptz at time zone 'UTC'",
                self.qualified(&table)
            );
            let found: Option<DateTime<Utc>> =
                sqlx::query_scalar(&statement).bind(now).fetch_one(&mut self.connection).await?;
            last = last.max(found);
        }
        Ok(last)
    }

    fn qualified(&self, table: &str) -> String {
        format!("{}.{}", quoted_name(&self.schema), quoted_name(table))
    }

    /// Ends the snapshot.
    pub(super) async fn close(self) -> Result<(), ImportError> {
        Ok(self.connection.close().await?)
    }
}

/// Whether a column of that name may hold a secret, however its words are put together.
fn is_secret(column: &str) -> bool {
    let words = words_of(column);
    let together = words.concat();
    let secret = |word: &String| {
        let word = word.trim_end_matches(|c: char| c.is_ascii_digit());
        SECRET_WORDS.contains(&word)
            || SECRET_WORDS.iter().any(|one| word.strip_suffix('s') == Some(one))
            || (SECRET_PARTS.iter().any(|part| word.contains(part)) && !NO_SECRETS.contains(&word))
            || ["user", "login", "db", "my", "admin"]
                .iter()
                .any(|of| word.strip_prefix(of).is_some_and(|rest| SECRET_WORDS.contains(&rest)))
    };
    words.iter().any(secret) || SECRET_TOGETHER.iter().any(|part| together.contains(part))
}

/// `apiKey`, `API_KEY` and `api-key` are all *api* and *key*.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = ' ';
    for c in name.chars() {
        let begins = !c.is_alphanumeric() || (c.is_uppercase() && before.is_lowercase());
        if begins {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// A text as an SQL literal.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as an SQL identifier.
fn quoted_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_that_may_hold_a_secret_is_known_by_its_name() {
        for column in ["hashed_password", "Temp_Passwd", "reset_token", "otp_code", "vault_access_code", "apiSecret"] {
            assert!(is_secret(column), "{column}");
        }
        for column in [
            "pwd",
            "user_pwd",
            "userPwd",
            "pass",
            "USER_PASS",
            "userpass",
            "pass2",
            "pin",
            "loginPin",
            "pins",
            "PIN_CODE",
            "apiKey",
            "api_key",
            "APIKEY",
            "private_key",
            "privateKey",
            "salt",
            "password_salt",
            "credential",
            "credentials",
            "aws_credentials",
            "passphrase",
            "pass_word",
            "sshKey",
            "accessKey",
            "totp",
            "otpcode",
        ] {
            assert!(is_secret(column), "{column}");
        }
        for column in [
            "shipping",
            "shipping_address",
            "passport",
            "passport_number",
            "passenger",
            "compass",
            "bypass",
            "compass_width",
            "spin",
            "opinion",
            "pinned",
            "pink",
            "footprint",
            "option",
            "secretary",
            "hashtag",
            "basalt",
            "salted_fish",
            "monkey",
            "key",
            "keyboard",
            "encompass",
            "author",
            "primary_key",
            "api_version",
        ] {
            assert!(!is_secret(column), "{column}");
        }
        for table in Table::ALL.iter().filter(|table| !matches!(table, Table::PasswordVault)) {
            for column in table.columns().iter().filter(|column| **column != "hashed_password") {
                assert!(!is_secret(column), "{column}");
            }
        }
    }
}
