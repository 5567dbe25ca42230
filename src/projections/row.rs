//! The rows of read models: what each holds itself, and what all of them keep about time and origin.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::error::BoxDynError;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row as _};

use super::copy::CopiedRows;
use super::search::Searched;
use super::statement::{Columns, Field, Statement};

/// What one read model keeps of one entity. Made by [`row!`].
pub trait Row: Serialize + for<'r> FromRow<'r, PgRow> + Clone + PartialEq + Send + Sync + Unpin + 'static {
    /// The table of rows as they are now.
    const TABLE: &'static str;
    /// The table of every row that ever was.
    const VERSIONS: &'static str;
    /// The columns that are this read model's own.
    const COLUMNS: &'static [&'static str];
    /// What of it is searched among all that a business has; none: nothing is, or never much.
    const SEARCHED: Option<&'static Searched>;

    /// Whether what is searched is the same in another row.
    fn reads_like(&self, other: &Self) -> bool;

    /// Reads the read model's own columns, which stand in order from this one on.
    ///
    /// # Errors
    /// If one is not what it should be.
    fn in_order(row: &PgRow, first: usize) -> sqlx::Result<Self>;

    /// Makes each of the read model's own columns a value that PostgreSQL can keep.
    fn fit(&mut self);

    /// Adds the read model's own columns of these rows.
    ///
    /// # Errors
    /// If a value cannot be written down.
    fn add_columns(rows: &[&Self], columns: &mut Columns, statement: &mut Statement) -> Result<(), BoxDynError>;

    /// Adds the read model's own columns to a row that is copied.
    ///
    /// # Errors
    /// If a value cannot be written down.
    fn copy(&self, rows: &mut CopiedRows) -> Result<(), BoxDynError>;
}

/// A row with whose it is, which version, and since when it has been so.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stored<T> {
    /// Whose it is.
    pub tenant_id: String,
    /// The id within the tenant.
    pub id: String,
    /// The aggregate's version: how many events it has had.
    pub version: i64,
    /// When it came to be, in the business.
    pub created_at: DateTime<Utc>,
    /// When it last changed, in the business.
    pub updated_at: DateTime<Utc>,
    /// The event that made it so.
    pub position: i64,
    /// Since when it has been so, in the business; never before the version before it.
    pub occurred_from: DateTime<Utc>,
    /// Since when the log has known.
    pub recorded_from: DateTime<Utc>,
    /// What the read model itself holds.
    #[serde(flatten)]
    pub row: T,
}

impl<'r, T: FromRow<'r, PgRow>> FromRow<'r, PgRow> for Stored<T> {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            tenant_id: row.try_get("tenant_id")?,
            id: row.try_get("id")?,
            version: row.try_get("version")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            position: row.try_get("position")?,
            occurred_from: row.try_get("occurred_from")?,
            recorded_from: row.try_get("recorded_from")?,
            row: T::from_row(row)?,
        })
    }
}

/// A row whose columns were selected in the order of [`COMMON_COLUMNS`] and the read model's own. To look each up by its
/// name and to compare its type, for every row of a page, would take as long as to read it.
#[derive(Debug)]
pub struct InOrder<T>(pub Stored<T>);

impl<'r, T: Row> FromRow<'r, PgRow> for InOrder<T> {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        Ok(Self(Stored {
            tenant_id: row.try_get_unchecked(0)?,
            id: row.try_get_unchecked(1)?,
            version: row.try_get_unchecked(2)?,
            created_at: row.try_get_unchecked(3)?,
            updated_at: row.try_get_unchecked(4)?,
            position: row.try_get_unchecked(5)?,
            occurred_from: row.try_get_unchecked(6)?,
            recorded_from: row.try_get_unchecked(7)?,
            row: T::in_order(row, COMMON_COLUMNS.len())?,
        }))
    }
}

impl<T: Row> Stored<T> {
    /// Adds all columns of these rows.
    ///
    /// # Errors
    /// If a value cannot be written down.
    pub fn add_columns(rows: &[&Self], columns: &mut Columns, statement: &mut Statement) -> Result<(), BoxDynError> {
        let own: Vec<&T> = rows.iter().map(|stored| &stored.row).collect();
        columns.add_fields(statement, "tenant_id", rows.iter().map(|stored| &stored.tenant_id))?;
        columns.add_fields(statement, "id", rows.iter().map(|stored| &stored.id))?;
        columns.add_fields(statement, "version", rows.iter().map(|stored| &stored.version))?;
        columns.add_fields(statement, "created_at", rows.iter().map(|stored| &stored.created_at))?;
        columns.add_fields(statement, "updated_at", rows.iter().map(|stored| &stored.updated_at))?;
        columns.add_fields(statement, "position", rows.iter().map(|stored| &stored.position))?;
        columns.add_fields(statement, "occurred_from", rows.iter().map(|stored| &stored.occurred_from))?;
        columns.add_fields(statement, "recorded_from", rows.iter().map(|stored| &stored.recorded_from))?;
        T::add_columns(&own, columns, statement)
    }

    /// Adds all columns to a row that is copied, in the order of [`COMMON_COLUMNS`] and the read model's own.
    ///
    /// # Errors
    /// If a value cannot be written down.
    pub fn copy(&self, rows: &mut CopiedRows) -> Result<(), BoxDynError> {
        self.tenant_id.copy(rows)?;
        self.id.copy(rows)?;
        self.version.copy(rows)?;
        self.created_at.copy(rows)?;
        self.updated_at.copy(rows)?;
        self.position.copy(rows)?;
        self.occurred_from.copy(rows)?;
        self.recorded_from.copy(rows)?;
        self.row.copy(rows)
    }
}

/// The columns of [`Stored`] that every read model has.
pub const COMMON_COLUMNS: [&str; 8] =
    ["tenant_id", "id", "version", "created_at", "updated_at", "position", "occurred_from", "recorded_from"];

/// A row of a read model: a struct whose fields are the columns of its two tables. With the type of its ids, those that are
/// searched.
macro_rules! row {
    (
        $(#[$meta:meta])*
        pub struct $name:ident in $table:literal, $versions:literal $(searched $id:ident [$($searched:ident),*])? {
            $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, sqlx::FromRow)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl $crate::projections::row::Row for $name {
            const TABLE: &'static str = $table;
            const VERSIONS: &'static str = $versions;
            const COLUMNS: &'static [&'static str] = &[$(stringify!($field)),*];
            const SEARCHED: Option<&'static $crate::projections::search::Searched> = [
                $(Some(&$crate::projections::search::Searched {
                    table: $table,
                    prefix: $id::PREFIX,
                    columns: &[$(stringify!($searched)),*],
                }),)?
                None,
            ][0];

            fn reads_like(&self, other: &Self) -> bool {
                let _ = other;
                true $($(&& self.$searched == other.$searched)*)?
            }

            fn in_order(row: &sqlx::postgres::PgRow, first: usize) -> sqlx::Result<Self> {
                let mut places = first..;
                Ok(Self {
                    $($field: sqlx::Row::try_get_unchecked(row, places.next().unwrap_or_default())?,)*
                })
            }

            fn fit(&mut self) {
                $($crate::projections::statement::Field::fit(&mut self.$field);)*
            }

            fn add_columns(
                rows: &[&Self],
                columns: &mut $crate::projections::statement::Columns,
                statement: &mut $crate::projections::statement::Statement,
            ) -> Result<(), sqlx::error::BoxDynError> {
                $(columns.add_fields(statement, stringify!($field), rows.iter().map(|row| &row.$field))?;)*
                Ok(())
            }

            fn copy(&self, rows: &mut $crate::projections::copy::CopiedRows) -> Result<(), sqlx::error::BoxDynError> {
                $($crate::projections::statement::Field::copy(&self.$field, rows)?;)*
                Ok(())
            }
        }
    };
}
pub(crate) use row;
