//! The statement that writes a batch: one part after the other, each over the one-row relation `ok`, and the rows
//! as arrays, one a column.
//!
//! Arrays, because the server takes them as they are; rows as JSON cost it several times as much, most of that
//! for reading back what had just been written down.

use std::fmt::{Display, Write as _};

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use rust_decimal::Decimal;
use serde_json::Value;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArguments, PgHasArrayType};
use sqlx::{Arguments, Encode, Postgres, Type, TypeInfo};

use super::copy::CopiedRows;

/// Parts of a statement and their parameters.
#[derive(Default)]
pub struct Statement {
    parts: String,
    arguments: PgArguments,
    parameters: usize,
}

impl Statement {
    /// Adds a parameter; how the text names it, `$7`.
    ///
    /// # Errors
    /// If the value cannot be written down.
    pub fn bind<'v, T>(&mut self, value: T) -> Result<String, BoxDynError>
    where
        T: Encode<'v, Postgres> + Type<Postgres> + 'v,
    {
        self.arguments.add(value)?;
        self.parameters += 1;
        Ok(format!("${}", self.parameters))
    }

    /// Adds a part under a name that no other has.
    pub fn part(&mut self, name: impl Display, sql: impl Display) {
        let separator = if self.parts.is_empty() { "with" } else { "," };
        let _ = write!(self.parts, "{separator} {name} as ({sql}) ");
    }

    /// The whole, which ends in a query on its parts.
    #[must_use]
    pub fn ending(mut self, query: &str) -> (String, PgArguments) {
        self.parts.push_str(query);
        (self.parts, self.arguments)
    }
}

/// Rows on their way into a statement, a column at a time.
#[derive(Default)]
pub struct Columns {
    names: Vec<&'static str>,
    arrays: Vec<String>,
    reads: Vec<String>,
}

impl Columns {
    /// Adds the values of a column, in the order of the rows.
    ///
    /// # Errors
    /// If one cannot be written down.
    pub fn add<'v, T>(
        &mut self,
        statement: &mut Statement,
        name: &'static str,
        values: Vec<T>,
    ) -> Result<(), BoxDynError>
    where
        T: PgHasArrayType,
        Vec<T>: Encode<'v, Postgres> + Type<Postgres> + 'v,
    {
        let parameter = statement.bind(values)?;
        self.arrays.push(format!("{parameter}::{}", T::array_type_info().name()));
        self.names.push(name);
        self.reads.push(format!("r.{name}"));
        Ok(())
    }

    /// Adds the values of a read model's column.
    ///
    /// # Errors
    /// If one cannot be written down.
    pub fn add_fields<'v, F: Field>(
        &mut self,
        statement: &mut Statement,
        name: &'static str,
        values: impl Iterator<Item = &'v F>,
    ) -> Result<(), BoxDynError>
    where
        Vec<F::Bound<'v>>: Encode<'v, Postgres> + Type<Postgres> + 'v,
    {
        self.add(statement, name, values.map(Field::bound).collect())?;
        if let (Some(read), Some(cast)) = (self.reads.last_mut(), F::CAST) {
            *read = format!("r.{name}::{cast}");
        }
        Ok(())
    }

    /// The names of the columns.
    #[must_use]
    pub fn names(&self) -> String {
        self.names.join(", ")
    }

    /// The values of the columns, of [`rows`](Self::rows).
    #[must_use]
    pub fn values(&self) -> String {
        self.reads.join(", ")
    }

    /// The rows as a relation `r`.
    #[must_use]
    pub fn rows(&self) -> String {
        format!("unnest({}) as r ({})", self.arrays.join(", "), self.names())
    }
}

/// A type that a field of a read model's row can have.
pub trait Field: 'static {
    /// What one becomes as an element of an array.
    type Bound<'v>: PgHasArrayType;
    /// What the element is made into again, if it is of another type than the column.
    const CAST: Option<&'static str> = None;

    /// The value as an element of an array.
    fn bound(&self) -> Self::Bound<'_>;

    /// Makes the value one that PostgreSQL can keep: what lies before the earliest day it knows becomes that day. The log
    /// keeps what was said. Most types have no values beyond PostgreSQL's.
    fn fit(&mut self) {}

    /// Adds the value to a row that is copied.
    ///
    /// # Errors
    /// If it cannot be written down.
    fn copy(&self, rows: &mut CopiedRows) -> Result<(), BoxDynError>;
}

/// The earliest day that PostgreSQL knows, 24 November 4714 BC; the last of chrono's years, 262142, is none too many for it.
const EARLIEST_DAY: NaiveDate = match NaiveDate::from_ymd_opt(-4713, 11, 24) {
    Some(day) => day,
    None => NaiveDate::MAX,
};
/// How that begins: its earliest moment.
const EARLIEST: DateTime<Utc> = EARLIEST_DAY.and_time(NaiveTime::MIN).and_utc();

macro_rules! copied {
    ($($type:ty $(=> $earliest:ident)?),* $(,)?) => {
        $(
            impl Field for $type {
                type Bound<'v> = Self;

                fn bound(&self) -> Self {
                    *self
                }

                $(fn fit(&mut self) {
                    *self = $earliest.max(*self);
                })?

                fn copy(&self, rows: &mut CopiedRows) -> Result<(), BoxDynError> {
                    rows.field(self)
                }
            }

            impl Field for Option<$type> {
                type Bound<'v> = Self;

                fn bound(&self) -> Self {
                    *self
                }

                $(fn fit(&mut self) {
                    *self = self.map(|value| $earliest.max(value));
                })?

                fn copy(&self, rows: &mut CopiedRows) -> Result<(), BoxDynError> {
                    rows.field(self)
                }
            }
        )*
    };
}

copied!(bool, i16, i32, i64, Decimal, NaiveDate => EARLIEST_DAY, DateTime<Utc> => EARLIEST);

macro_rules! borrowed {
    ($($type:ty as $bound:ty),* $(,)?) => {
        $(
            impl Field for $type {
                type Bound<'v> = &'v $bound;

                fn bound(&self) -> &$bound {
                    self
                }

                fn copy(&self, rows: &mut CopiedRows) -> Result<(), BoxDynError> {
                    rows.field(self.bound())
                }
            }

            impl Field for Option<$type> {
                type Bound<'v> = Option<&'v $bound>;

                fn bound(&self) -> Option<&$bound> {
                    self.as_ref().map(|value| -> &$bound { value })
                }

                fn copy(&self, rows: &mut CopiedRows) -> Result<(), BoxDynError> {
                    rows.field(self.bound())
                }
            }
        )*
    };
}

borrowed!(String as str, Value as Value);

/// There are no arrays of arrays of unequal length: each goes as its text.
impl Field for Vec<String> {
    type Bound<'v> = String;
    const CAST: Option<&'static str> = Some("text[]");

    fn bound(&self) -> String {
        let mut text = String::from("{");
        for (index, element) in self.iter().enumerate() {
            text.push_str(if index == 0 { "\"" } else { ",\"" });
            for c in element.chars() {
                if matches!(c, '"' | '\\') {
                    text.push('\\');
                }
                text.push(c);
            }
            text.push('"');
        }
        text.push('}');
        text
    }

    fn copy(&self, rows: &mut CopiedRows) -> Result<(), BoxDynError> {
        rows.field(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_texts_is_written_as_postgres_reads_it() {
        let list = |elements: &[&str]| elements.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>().bound();
        assert_eq!(list(&[]), "{}");
        assert_eq!(list(&["LED-001"]), r#"{"LED-001"}"#);
        assert_eq!(list(&["", "NULL", r#"a "b", c\{}"#]), r#"{"","NULL","a \"b\", c\\{}"}"#);
    }

    #[test]
    fn a_statement_numbers_its_parameters_and_a_column_may_be_read_as_another_type() {
        let mut statement = Statement::default();
        statement.part("ok", "select 1");
        let mut columns = Columns::default();
        columns.add(&mut statement, "id", vec![7_i64]).unwrap();
        columns.add_fields(&mut statement, "names", [vec!["a".to_owned()]].iter()).unwrap();
        statement.part("new", format!("select {} from {}", columns.values(), columns.rows()));
        assert_eq!(
            statement.ending("select 2").0,
            "with ok as (select 1) , new as (select r.id, r.names::text[] \
             from unnest($1::INT8[], $2::TEXT[]) as r (id, names)) select 2"
        );
    }
}
