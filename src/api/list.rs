//! The one place that builds dynamic lists: filters, search, sort and keyset pages over a read model.
//!
//! ```text
//! ?stage=proposal,negotiation&estimated_value[gte]=10000&q=acme&sort=-updated_at&limit=50&cursor=…
//!        │ ListSpec: what this list offers
//!        ▼
//! ListQuery ─► one select, inside the tenant ─► Page + Link
//! ```

pub(super) mod cursor;
mod query;
mod select;
mod sort;

use crate::aggregates::ids::{TenantId, UserId};
use crate::reports::Grouping;

pub use query::{LIMIT_DEFAULT, LIMIT_MOST, ListQuery, Operator, WorkedOut};
pub(super) use query::{Moment, moment};

/// What the list of a noun offers. Every text in it is SQL or a name of ours, never a caller's.
#[derive(Debug, Clone, Copy)]
pub struct ListSpec {
    /// The plural that cursors are made for: `leads`.
    pub noun: &'static str,
    /// The read model, without its schema; for the platform's own lists also a select in brackets, so that what is large
    /// and not shown is not read.
    pub table: &'static str,
    /// The columns that are read, in this order; none: all, in the table's.
    pub columns: [&'static [&'static str]; 2],
    /// The table of every row that ever was; with it, the list can be read as of an instant.
    pub versions: Option<&'static str>,
    /// The column that tells rows apart; a text, never null.
    pub key: &'static str,
    /// Whether the rows belong to tenants; false for the platform's own tables only.
    pub of_tenants: bool,
    /// What can be filtered and sorted by.
    pub fields: &'static [Field],
    /// Columns in which `q` looks; none: there is no `q`.
    pub search: &'static [&'static str],
    /// As in `sort`: `-updated_at`.
    pub default_sort: &'static str,
    /// The column that says whose a row is.
    pub owner: Option<&'static str>,
    /// An array column of those who take part; it is theirs as well.
    pub members: Option<&'static str>,
    /// Whether rows with `deleted_at` are left out.
    pub hides_deleted: bool,
    /// A condition that holds for every row of this list, such as `status <> 'merged'`.
    pub condition: Option<&'static str>,
    /// Further parameters that the route reads itself, by [`ListQuery::extra`].
    pub extra: &'static [&'static str],
    /// By what its rows can be grouped, if it is what a report is worked out of: that has no pages.
    pub grouping: Option<Grouping>,
}

impl ListSpec {
    /// A list of a tenant's table, by `id`, newest change first, deleted rows hidden; the rest is set with `..`.
    #[must_use]
    pub const fn new(noun: &'static str, fields: &'static [Field]) -> Self {
        Self {
            noun,
            table: noun,
            columns: [&[]; 2],
            versions: None,
            key: "id",
            of_tenants: true,
            fields,
            search: &[],
            default_sort: "-updated_at",
            owner: None,
            members: None,
            hides_deleted: true,
            condition: None,
            extra: &[],
            grouping: None,
        }
    }

    fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// The names that `sort` takes.
    pub fn sortable(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().filter(|field| field.sort).map(|field| field.name)
    }
}

/// A field that a list can be filtered or sorted by.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// As in the JSON of the record.
    pub name: &'static str,
    /// The column, or an SQL expression over the columns of the table.
    pub column: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// Whether it can be filtered by.
    pub filter: bool,
    /// Whether it can be sorted by.
    pub sort: bool,
    /// Whether it can be null; rows without a value come last in either direction.
    pub nullable: bool,
    /// The column in whose order, and that of the key, an index has the rows with one of its values.
    pub in_order_of: Option<&'static str>,
}

impl Field {
    /// A nullable column of the same name, to filter and to sort by (an array: to filter by).
    #[must_use]
    pub const fn new(name: &'static str, kind: Kind) -> Self {
        Self {
            name,
            column: name,
            kind,
            filter: true,
            sort: !matches!(kind, Kind::TextArray),
            nullable: true,
            in_order_of: None,
        }
    }

    /// An index has the rows with one of its values in the order of this column and the key.
    #[must_use]
    pub const fn in_order_of(self, column: &'static str) -> Self {
        Self { in_order_of: Some(column), ..self }
    }

    /// It stands in another column, or is worked out.
    #[must_use]
    pub const fn column(self, column: &'static str) -> Self {
        Self { column, ..self }
    }

    /// It is never null, so that an ordinary index serves its order in both directions.
    #[must_use]
    pub const fn not_null(self) -> Self {
        Self { nullable: false, ..self }
    }

    /// It can be filtered by and not sorted by.
    #[must_use]
    pub const fn filter_only(self) -> Self {
        Self { sort: false, ..self }
    }

    /// It can be sorted by and not filtered by.
    #[must_use]
    pub const fn sort_only(self) -> Self {
        Self { filter: false, ..self }
    }
}

/// What the values of a field are, which decides the operators and how values are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `text`
    Text,
    /// One of these words, in a `text`.
    Enum(&'static [&'static str]),
    /// `CUS-042` in a `text`; sorted by number, so that `CUS-1000` follows `CUS-999`.
    Id,
    /// `integer` or `bigint`
    Integer,
    /// `numeric`
    Decimal,
    /// An amount of money in a `bigint` of ten-thousandths: `numeric` comparisons are not leakproof, so that
    /// under row-level security no index could serve them.
    Amount,
    /// `date`
    Date,
    /// `timestamptz`; a filter takes RFC 3339, or a date, which stands for the whole day in UTC.
    Timestamp,
    /// `boolean`
    Bool,
    /// `text[]`; a filter asks for what is among them.
    TextArray,
}

impl Kind {
    /// The operators that mean something for such values; [`Operator::Is`] is the plain `field=value`.
    #[must_use]
    pub const fn operators(self) -> &'static [Operator] {
        use Operator::{Contains, Gt, Gte, In, Is, Lt, Lte, Ne};
        match self {
            Self::Text | Self::TextArray => &[Is, Ne, In, Contains],
            Self::Enum(_) | Self::Id => &[Is, Ne, In],
            Self::Integer | Self::Decimal | Self::Amount | Self::Date | Self::Timestamp => {
                &[Is, Ne, In, Gt, Gte, Lt, Lte]
            }
            Self::Bool => &[Is, Ne],
        }
    }
}

/// Which rows the caller may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility<'a> {
    /// All of the tenant.
    Everything,
    /// What somebody of this department owns, and what is the user's own.
    ///
    /// A user without a department sees [`Visibility::OwnedBy`].
    Department {
        /// The caller's department.
        department: &'a str,
        /// The caller.
        user: UserId,
    },
    /// What is the user's own.
    OwnedBy(UserId),
    /// What belongs to something that the caller may see: to the first of these that it names.
    Within(&'a [Parent<'a>]),
}

/// What other records belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent<'a> {
    /// The column of theirs that names it.
    pub column: &'static str,
    /// The read model that it is kept in.
    pub table: &'static str,
    /// The column of that which says whose it is.
    pub owner: &'static str,
    /// Which of it the caller may see.
    pub visibility: Visibility<'a>,
}

/// Inside which bounds a list is read.
#[derive(Debug, Clone, Copy)]
pub struct ListScope<'a> {
    /// The tenant whose rows are read, and no other's.
    pub tenant: TenantId,
    /// The schema of the tenant's cell; none: as the connection's search path says.
    pub schema: Option<&'a str>,
    /// Which of the tenant's rows.
    pub visibility: Visibility<'a>,
    /// Seals the cursors; the same on every node.
    pub cursor_key: &'a [u8; 32],
}
