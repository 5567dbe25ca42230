//! What is known of a customer: as it is told, as it is recorded, and as it changes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::CustomerError;
use crate::aggregates::ids::{NoteId, UserId};
use crate::aggregates::lead::LeadFacts;
use crate::aggregates::values::{Address, Email, Patch, Personal, Phone, Text};

/// What is told about a customer: a company, a contact's name, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CustomerDetails {
    /// The company.
    pub company: Option<Text<200>>,
    /// The contact's name.
    pub name: Option<Text<200>>,
    /// E-mail.
    pub email: Option<Email>,
    /// Telephone.
    pub phone: Option<Phone>,
    /// Postal address.
    pub address: Option<Address>,
}

/// The same as it stands in events: what tells something about a person is marked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomerFacts {
    /// The company.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub company: Option<Text<200>>,
    /// The contact's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Personal<Text<200>>>,
    /// E-mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<Personal<Email>>,
    /// Telephone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<Personal<Phone>>,
    /// Postal address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<Personal<Address>>,
}

/// A change of details, as JSON Merge Patch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CustomerPatch {
    /// The company.
    #[schema(inline, value_type = Option<Text<200>>)]
    pub company: Patch<Text<200>>,
    /// The contact's name.
    #[schema(inline, value_type = Option<Text<200>>)]
    pub name: Patch<Text<200>>,
    /// E-mail.
    #[schema(inline, value_type = Option<Email>)]
    pub email: Patch<Email>,
    /// Telephone.
    #[schema(inline, value_type = Option<Phone>)]
    pub phone: Patch<Phone>,
    /// Postal address.
    #[schema(inline, value_type = Option<Address>)]
    pub address: Patch<Address>,
}

/// The details that really changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomerChanges {
    /// The company.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub company: Patch<Text<200>>,
    /// The contact's name.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub name: Patch<Personal<Text<200>>>,
    /// E-mail.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub email: Patch<Personal<Email>>,
    /// Telephone.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub phone: Patch<Personal<Phone>>,
    /// Postal address.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub address: Patch<Personal<Address>>,
}

impl From<&LeadFacts> for CustomerDetails {
    /// What a lead becomes when it is converted.
    fn from(lead: &LeadFacts) -> Self {
        Self {
            company: lead.company.clone(),
            name: Some(lead.name.clone().into_inner()),
            email: lead.email.clone().map(Personal::into_inner),
            phone: lead.phone.clone().map(Personal::into_inner),
            address: lead.address.clone().map(Personal::into_inner),
        }
    }
}

impl CustomerFacts {
    /// A customer is known by a company or a name.
    fn named(self) -> Result<Self, CustomerError> {
        if self.company.is_none() && self.name.is_none() { Err(CustomerError::Nameless) } else { Ok(self) }
    }
}

impl CustomerDetails {
    pub(super) fn into_facts(self) -> Result<CustomerFacts, CustomerError> {
        CustomerFacts {
            company: self.company,
            name: self.name.map(Personal::new),
            email: self.email.map(Personal::new),
            phone: self.phone.map(Personal::new),
            address: self.address.map(Personal::new),
        }
        .named()
    }
}

impl CustomerPatch {
    /// What the patch really changes.
    pub(super) fn changes_to(self, facts: &CustomerFacts) -> Result<CustomerChanges, CustomerError> {
        let changes = CustomerChanges {
            company: self.company.retain_changes(&facts.company),
            name: self.name.map(Personal::new).retain_changes(&facts.name),
            email: self.email.map(Personal::new).retain_changes(&facts.email),
            phone: self.phone.map(Personal::new).retain_changes(&facts.phone),
            address: self.address.map(Personal::new).retain_changes(&facts.address),
        };
        let mut changed = facts.clone();
        changes.clone().apply_to(&mut changed);
        changed.named()?;
        Ok(changes)
    }
}

impl CustomerChanges {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Makes the changes.
    pub fn apply_to(self, facts: &mut CustomerFacts) {
        self.company.apply_to(&mut facts.company);
        self.name.apply_to(&mut facts.name);
        self.email.apply_to(&mut facts.email);
        self.phone.apply_to(&mut facts.phone);
        self.address.apply_to(&mut facts.address);
    }
}

/// A note on a customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Its id.
    pub id: NoteId,
    /// Who wrote it.
    pub author: UserId,
    /// Its title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Personal<Text<200>>>,
    /// What it says.
    pub content: Personal<Text<10000>>,
    /// Whether only its author sees it.
    pub private: bool,
}

impl Note {
    /// Whether this user may know of it: a private one is its author's alone.
    #[must_use]
    pub fn is_seen_by(&self, user: UserId) -> bool {
        !self.private || self.author == user
    }
}

/// A change of a note, as JSON Merge Patch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NotePatch {
    /// Its title.
    #[schema(inline, value_type = Option<Text<200>>)]
    pub title: Patch<Text<200>>,
    /// What it says; cannot be cleared.
    #[schema(inline, value_type = Option<Text<10000>>)]
    pub content: Patch<Text<10000>>,
    /// Whether only its author sees it; clearing makes it public.
    #[schema(inline, value_type = Option<bool>)]
    pub private: Patch<bool>,
}

/// What really changed about a note.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NoteChanges {
    /// Its title.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub title: Patch<Personal<Text<200>>>,
    /// What it says; never cleared.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub content: Patch<Personal<Text<10000>>>,
    /// Whether only its author sees it; never cleared.
    #[serde(skip_serializing_if = "Patch::is_unchanged")]
    pub private: Patch<bool>,
}

impl NotePatch {
    pub(super) fn changes_to(self, note: &Note) -> Result<NoteChanges, CustomerError> {
        if self.content == Patch::Clear {
            return Err(CustomerError::NoteEmpty);
        }
        let private = if self.private == Patch::Clear { Patch::Set(false) } else { self.private };
        Ok(NoteChanges {
            title: self.title.map(Personal::new).retain_changes(&note.title),
            content: self.content.map(Personal::new).retain_changes_to_required(&note.content),
            private: private.retain_changes_to_required(&note.private),
        })
    }
}

impl NoteChanges {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Makes the changes.
    pub fn apply_to(self, note: &mut Note) {
        self.title.apply_to(&mut note.title);
        self.content.apply_to_required(&mut note.content);
        self.private.apply_to_required(&mut note.private);
    }
}
