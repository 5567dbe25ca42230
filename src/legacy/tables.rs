//! The tables of the old application, in its three revisions.

use serde::Deserialize;
use strum::{EnumString, IntoStaticStr, VariantArray};
use utoipa::ToSchema;

use crate::aggregates::ids::{CustomerId, InteractionId, InvoiceId, LeadId, NoteId, ProjectId, UserId};

/// A table of the old application, in the order in which they are read.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    EnumString,
    IntoStaticStr,
    VariantArray,
    Deserialize,
    ToSchema,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[schema(as = LegacyTable)]
pub enum Table {
    /// Businesses; only in the last revision.
    Tenants,
    /// People who sign in.
    Users,
    /// Passwords in clear text: counted, never read.
    PasswordVault,
    /// Customers.
    Customers,
    /// Leads.
    Leads,
    /// Contact with leads.
    LeadInteractions,
    /// Contact with customers.
    CustomerInteractions,
    /// Notes on customers.
    CustomerNotes,
    /// Projects.
    Projects,
    /// Whom a project is for.
    ProjectCustomers,
    /// Who works on a project.
    ProjectAssignments,
    /// Invoices.
    Invoices,
}

impl Table {
    /// The table's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The prefix of the ids that its rows get; none for rows that have no id of their own.
    #[must_use]
    pub fn prefix(self) -> Option<&'static str> {
        Some(match self {
            Self::Users => UserId::PREFIX,
            Self::Customers => CustomerId::PREFIX,
            Self::Leads => LeadId::PREFIX,
            Self::LeadInteractions | Self::CustomerInteractions => InteractionId::PREFIX,
            Self::CustomerNotes => NoteId::PREFIX,
            Self::Projects => ProjectId::PREFIX,
            Self::Invoices => InvoiceId::PREFIX,
            Self::Tenants | Self::PasswordVault | Self::ProjectCustomers | Self::ProjectAssignments => return None,
        })
    }

    /// The prefixes under which the old application wrote ids of the same count.
    #[must_use]
    pub fn old_prefixes(self) -> &'static [&'static str] {
        match self {
            Self::Users => &["USR"],
            Self::Customers => &["CUS"],
            Self::Leads => &["LED"],
            // `LI-007` was counted apart from `INT-007`: only what was an INT keeps its number.
            Self::LeadInteractions | Self::CustomerInteractions => &["INT"],
            Self::CustomerNotes => &["NOT", "CN", "NOTE"],
            Self::Projects => &["PRJ"],
            Self::Invoices => &["INV"],
            Self::Tenants | Self::PasswordVault | Self::ProjectCustomers | Self::ProjectAssignments => &[],
        }
    }

    /// The table and column that a row belongs to: without its parent it means nothing.
    #[must_use]
    pub fn parent(self) -> Option<(Self, &'static str)> {
        match self {
            Self::LeadInteractions => Some((Self::Leads, "lead_id")),
            Self::CustomerInteractions | Self::CustomerNotes => Some((Self::Customers, "customer_id")),
            Self::ProjectCustomers | Self::ProjectAssignments => Some((Self::Projects, "project_id")),
            Self::Tenants
            | Self::Users
            | Self::PasswordVault
            | Self::Customers
            | Self::Leads
            | Self::Projects
            | Self::Invoices => None,
        }
    }

    /// The column under which the rows that belong to this table's name their parent; none if none belong to it.
    #[must_use]
    pub fn named_as(self) -> Option<&'static str> {
        let of_this = |child: &Self| child.parent().filter(|(parent, _)| *parent == self);
        Self::ALL.iter().find_map(of_this).map(|(_, column)| column)
    }

    /// The columns that name rows of other tables by their old ids, beside the parent.
    #[must_use]
    pub fn references(self) -> &'static [(&'static str, Self)] {
        match self {
            Self::Leads => &[("assigned_to", Self::Users), ("converted_customer_id", Self::Customers)],
            Self::LeadInteractions | Self::CustomerInteractions | Self::CustomerNotes | Self::ProjectAssignments => {
                &[("user_id", Self::Users)]
            }
            Self::Projects => &[("owner_id", Self::Users)],
            Self::ProjectCustomers | Self::Invoices => &[("customer_id", Self::Customers)],
            Self::PasswordVault => &[("user_system_id", Self::Users)],
            Self::Tenants | Self::Users | Self::Customers => &[],
        }
    }

    /// The columns that the old application's own migrations gave it.
    #[must_use]
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Tenants => &[
                "id",
                "system_id",
                "business_name",
                "business_email",
                "business_phone",
                "address_line1",
                "address_line2",
                "city",
                "state",
                "postal_code",
                "country",
                "subscription_plan",
                "is_active",
                "max_users",
                "created_at",
                "updated_at",
            ],
            Self::Users => &[
                "id",
                "system_id",
                "display_id",
                "email",
                "full_name",
                "hashed_password",
                "is_active",
                "is_founder",
                "created_at",
                "updated_at",
                "tenant_id",
                "tenant_name",
                "user_role",
                "department",
                "permissions",
            ],
            Self::PasswordVault => &[
                "id",
                "user_system_id",
                "original_password",
                "vault_access_code",
                "created_at",
                "updated_at",
                "created_by",
            ],
            Self::Customers => &[
                "id",
                "system_id",
                "name",
                "email",
                "phone",
                "company",
                "address_line1",
                "address_line2",
                "city",
                "state",
                "postal_code",
                "country",
                "is_active",
                "created_at",
                "updated_at",
                "tenant_id",
            ],
            Self::Leads => &[
                "id",
                "system_id",
                "name",
                "email",
                "phone",
                "company",
                "job_title",
                "source",
                "lead_score",
                "qualification_status",
                "stage",
                "estimated_value",
                "probability",
                "expected_close_date",
                "assigned_to",
                "address_line1",
                "address_line2",
                "city",
                "state",
                "postal_code",
                "country",
                "is_active",
                "converted_to_customer",
                "converted_customer_id",
                "created_at",
                "updated_at",
                "last_contacted",
                "tenant_id",
            ],
            Self::LeadInteractions => &[
                "id",
                "system_id",
                "lead_id",
                "user_id",
                "interaction_type",
                "subject",
                "description",
                "outcome",
                "scheduled_at",
                "completed_at",
                "follow_up_date",
                "status",
                "created_at",
                "updated_at",
            ],
            Self::CustomerInteractions => &[
                "id",
                "system_id",
                "customer_id",
                "user_id",
                "interaction_type",
                "subject",
                "description",
                "outcome",
                "priority",
                "scheduled_at",
                "completed_at",
                "follow_up_date",
                "status",
                "is_billable",
                "billable_hours",
                "created_at",
                "updated_at",
            ],
            Self::CustomerNotes => &[
                "id",
                "system_id",
                "customer_id",
                "user_id",
                "title",
                "content",
                "note_type",
                "is_private",
                "created_at",
                "updated_at",
            ],
            Self::Projects => &[
                "id",
                "system_id",
                "name",
                "description",
                "status",
                "owner_id",
                "created_at",
                "updated_at",
                "start_date",
                "due_date",
                "tenant_id",
            ],
            Self::ProjectCustomers => &["id", "project_id", "customer_id", "linked_at"],
            Self::ProjectAssignments => &["id", "user_id", "project_id", "role", "assigned_at"],
            Self::Invoices => &[
                "id",
                "system_id",
                "customer_id",
                "amount",
                "currency",
                "status",
                "issue_date",
                "due_date",
                "paid_date",
                "created_at",
                "updated_at",
            ],
        }
    }

    /// All of them.
    pub const ALL: &'static [Self] = <Self as VariantArray>::VARIANTS;
}

/// A state of the old application's schema, named by its Alembic revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, EnumString, IntoStaticStr, VariantArray)]
pub enum Revision {
    /// Before leads, interactions and notes.
    #[strum(serialize = "fa5b1aceebaf")]
    Base,
    /// With them; one business.
    #[strum(serialize = "fef60ef31522")]
    Crm,
    /// With the tables for several businesses.
    #[strum(serialize = "47d23c886898")]
    Tenants,
}

impl Revision {
    /// The revision's id.
    #[must_use]
    pub fn id(self) -> &'static str {
        self.into()
    }

    /// Whether the table is part of this revision.
    #[must_use]
    pub fn has(self, table: Table) -> bool {
        match table {
            Table::Tenants => self == Self::Tenants,
            Table::Leads | Table::LeadInteractions | Table::CustomerInteractions | Table::CustomerNotes => {
                self >= Self::Crm
            }
            // Made by hand in every installation that has one.
            Table::PasswordVault => false,
            Table::Users
            | Table::Customers
            | Table::Projects
            | Table::ProjectCustomers
            | Table::ProjectAssignments
            | Table::Invoices => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_known_by_its_name() {
        assert_eq!(Table::LeadInteractions.name(), "lead_interactions");
        assert_eq!("password_vault".parse(), Ok(Table::PasswordVault));
        assert_eq!("fef60ef31522".parse(), Ok(Revision::Crm));
    }

    #[test]
    fn all_that_belongs_to_a_table_names_it_alike() {
        for table in Table::ALL {
            if let Some((parent, column)) = table.parent() {
                assert_eq!(parent.named_as(), Some(column));
            }
        }
        assert_eq!(Table::Invoices.named_as(), None);
    }

    #[test]
    fn parents_are_read_before_their_children() {
        for table in Table::ALL {
            assert!(
                table.parent().is_none_or(|(parent, column)| { parent < *table && table.columns().contains(&column) })
            );
        }
    }
}
