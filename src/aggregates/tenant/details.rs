//! What is known of a business: as it is told, as it is recorded, and as it changes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::TenantError;
use crate::aggregates::values::{Address, Email, Patch, Personal, Phone, Text};

/// What is told about a business.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantDetails {
    /// Its name.
    pub business_name: Text<200>,
    /// Its e-mail address.
    pub business_email: Email,
    /// Its telephone.
    #[serde(default)]
    pub business_phone: Option<Phone>,
    /// Its postal address.
    #[serde(default)]
    pub address: Option<Address>,
    /// Its country.
    #[serde(default)]
    pub country: Option<Text<100>>,
}

/// The same as it stands in events. A small business's address is a person's, so these are marked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantFacts {
    /// Its name.
    pub business_name: Text<200>,
    /// Its e-mail address.
    pub business_email: Personal<Email>,
    /// Its telephone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub business_phone: Option<Personal<Phone>>,
    /// Its postal address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Personal<Address>>,
    /// Its country.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<Text<100>>,
}

/// A change of details, as JSON Merge Patch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TenantPatch {
    /// Its name; cannot be cleared.
    #[schema(inline, value_type = Option<Text<200>>)]
    pub business_name: Patch<Text<200>>,
    /// Its e-mail address; cannot be cleared.
    #[schema(inline, value_type = Option<Email>)]
    pub business_email: Patch<Email>,
    /// Its telephone.
    #[schema(inline, value_type = Option<Phone>)]
    pub business_phone: Patch<Phone>,
    /// Its postal address.
    #[schema(inline, value_type = Option<Address>)]
    pub address: Patch<Address>,
    /// Its country.
    #[schema(inline, value_type = Option<Text<100>>)]
    pub country: Patch<Text<100>>,
}

/// The details that really changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "each is the field of TenantFacts with its name")]
pub struct TenantChanges {
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub business_name: Patch<Text<200>>,
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub business_email: Patch<Personal<Email>>,
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub business_phone: Patch<Personal<Phone>>,
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub address: Patch<Personal<Address>>,
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub country: Patch<Text<100>>,
}

impl From<TenantDetails> for TenantFacts {
    fn from(details: TenantDetails) -> Self {
        Self {
            business_name: details.business_name,
            business_email: details.business_email.into(),
            business_phone: details.business_phone.map(Personal::new),
            address: details.address.map(Personal::new),
            country: details.country,
        }
    }
}

impl TenantPatch {
    /// What the patch really changes.
    pub(super) fn changes_to(self, facts: &TenantFacts) -> Result<TenantChanges, TenantError> {
        if self.business_name == Patch::Clear {
            return Err(TenantError::Required { pointer: "/business_name" });
        }
        if self.business_email == Patch::Clear {
            return Err(TenantError::Required { pointer: "/business_email" });
        }
        Ok(TenantChanges {
            business_name: self.business_name.retain_changes_to_required(&facts.business_name),
            business_email: self.business_email.map(Personal::new).retain_changes_to_required(&facts.business_email),
            business_phone: self.business_phone.map(Personal::new).retain_changes(&facts.business_phone),
            address: self.address.map(Personal::new).retain_changes(&facts.address),
            country: self.country.retain_changes(&facts.country),
        })
    }
}

impl TenantChanges {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Makes the changes.
    pub fn apply_to(self, facts: &mut TenantFacts) {
        self.business_name.apply_to_required(&mut facts.business_name);
        self.business_email.apply_to_required(&mut facts.business_email);
        self.business_phone.apply_to(&mut facts.business_phone);
        self.address.apply_to(&mut facts.address);
        self.country.apply_to(&mut facts.country);
    }
}
