//! Who may do what, as words: roles, permissions (`leads:write`), their scope, and a user's own grants.
//!
//! What a role may do by default is one table, in `access::permissions`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use strum::{EnumString, IntoStaticStr, VariantArray};
use utoipa::ToSchema;

/// What somebody is in their business.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    ToSchema,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
pub enum Role {
    /// Runs DevHub itself: USR-000 of TNT-PLT and nobody else.
    PlatformFounder,
    /// Full control within the business.
    BusinessOwner,
    /// Leads a department.
    Manager,
    /// Works on what is theirs.
    Employee,
}

impl Role {
    /// The word as it stands in tokens, events and answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A part of the product that permissions speak of.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    ToSchema,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[expect(missing_docs, reason = "each is the noun it names")]
pub enum Module {
    Customers,
    Leads,
    Projects,
    Invoices,
    Reports,
    Audit,
    Users,
    Tenant,
}

/// What is done to it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    ToSchema,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
#[expect(missing_docs, reason = "each is the verb it names")]
pub enum Action {
    Read,
    Write,
    Convert,
    Export,
    Rebuild,
    Manage,
}

/// How far a permission reaches; a wider scope includes the narrower ones.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    ToSchema,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Scope {
    /// What I own, or what is assigned to me.
    Own,
    /// What somebody of my department owns.
    Department,
    /// Everything in my business.
    Tenant,
}

/// `module:action`, such as `leads:write`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Permission {
    /// The part of the product.
    pub module: Module,
    /// What is done to it.
    pub action: Action,
}

/// A text that names no permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a permission like leads:write")]
pub struct UnknownPermission;

impl Permission {
    /// The actions that mean something for a module.
    #[must_use]
    pub fn actions_of(module: Module) -> &'static [Action] {
        match module {
            Module::Customers | Module::Projects | Module::Invoices => &[Action::Read, Action::Write],
            Module::Leads => &[Action::Read, Action::Write, Action::Convert],
            Module::Reports => &[Action::Read, Action::Export, Action::Rebuild],
            Module::Audit => &[Action::Read, Action::Export],
            Module::Users | Module::Tenant => &[Action::Read, Action::Manage],
        }
    }

    /// Every permission there is, module by module.
    pub fn all() -> impl Iterator<Item = Self> {
        Module::VARIANTS
            .iter()
            .flat_map(|&module| Self::actions_of(module).iter().map(move |&action| Self { module, action }))
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", <&str>::from(self.module), <&str>::from(self.action))
    }
}

impl FromStr for Permission {
    type Err = UnknownPermission;

    fn from_str(text: &str) -> Result<Self, UnknownPermission> {
        let (module, action) = text.split_once(':').ok_or(UnknownPermission)?;
        let module = module.parse().map_err(|_| UnknownPermission)?;
        let action = action.parse().map_err(|_| UnknownPermission)?;
        if !Self::actions_of(module).contains(&action) {
            return Err(UnknownPermission);
        }
        Ok(Self { module, action })
    }
}

impl Serialize for Permission {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Permission {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A user's own word on one permission; an explicit denial wins over the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grant {
    /// Granted for what is theirs.
    Own,
    /// Granted for their department.
    Department,
    /// Granted for the whole business.
    Tenant,
    /// Taken away, whatever the role says.
    Deny,
}

impl Grant {
    /// The scope granted; none for a denial.
    #[must_use]
    pub fn scope(self) -> Option<Scope> {
        match self {
            Self::Own => Some(Scope::Own),
            Self::Department => Some(Scope::Department),
            Self::Tenant => Some(Scope::Tenant),
            Self::Deny => None,
        }
    }
}

/// What a user was granted or denied beside the role: `{"invoices:read": "tenant", "leads:convert": "deny"}`.
pub type Grants = BTreeMap<Permission, Grant>;
