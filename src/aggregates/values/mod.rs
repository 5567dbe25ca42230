//! The values that the aggregates speak in: parsed once, valid ever after.
//!
//! Each refuses bad input while it is read, with a [`Rejected`] whose text is `code|sentence`, so
//! that a request learns both what a program and what a person needs to know.

pub mod calendar;
mod contact;
mod currency;
mod decimal;
mod hours;
mod money;
mod patch;
mod personal;
mod ratio;
mod text;
mod words;

use std::borrow::Cow;

pub use contact::{Address, Email, Phone};
pub use currency::Currency;
pub use decimal::parse_decimal;
pub(crate) use decimal::plain_decimal;
pub use hours::Hours;
pub use money::{Money, exact_amount};
pub use patch::Patch;
pub use personal::Personal;
pub use ratio::{Percent, Score};
pub use text::Text;
pub use words::{
    CustomerStatus, Feature, InteractionStatus, InteractionType, InvoiceStatus, LeadGrade, LeadSource, LeadStage, Plan,
    Priority, ProjectStatus, Qualification, Quota, SupportMode, TenantStatus, UserStatus,
};

/// Why a value was refused; written as `code|sentence`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}|{detail}")]
pub struct Rejected {
    /// A stable word for programs, such as `too_long`.
    pub code: &'static str,
    /// What is expected, for a person.
    pub detail: Cow<'static, str>,
}

impl Rejected {
    /// A refusal with a stable code and a sentence.
    pub fn new(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into() }
    }
}
