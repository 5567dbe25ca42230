//! A tenant: a business that uses DevHub.
//!
//! ```text
//! register ─► active ─► suspend ─► suspended
//!               ▲                      │
//!               └───── reactivate ─────┘
//! ```
//!
//! What it may use is its plan's, unless the founder said otherwise for this one.

mod details;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantNames};

pub use details::{TenantChanges, TenantDetails, TenantFacts, TenantPatch};

use super::Refusal;
use super::contract::event_sourced;
use super::values::{Feature, Plan, Quota, SupportMode, TenantStatus, Text};

/// What may be asked of a tenant.
#[derive(Debug, Clone, PartialEq)]
pub enum TenantCommand {
    /// Take the business in.
    Register {
        /// What is known of it.
        details: TenantDetails,
        /// Where its data lives.
        region: Text<40>,
        /// What it subscribes to.
        plan: Plan,
        /// Seats, if not the plan's.
        seat_limit: Option<u32>,
        /// Whether it runs the platform itself.
        platform: bool,
    },
    /// Change what is known.
    ChangeDetails(TenantPatch),
    /// Subscribe to something else.
    ChangePlan {
        /// What.
        plan: Plan,
    },
    /// Set its seats apart from its plan.
    ChangeSeatLimit {
        /// How many; the plan's if none.
        limit: Option<u32>,
    },
    /// Set another limit apart from its plan.
    ChangeQuota {
        /// Which.
        quota: Quota,
        /// How many; the plan's if none.
        limit: Option<u32>,
    },
    /// Switch a part of the product on or off, apart from its plan.
    SwitchFeature {
        /// Which.
        feature: Feature,
        /// On or off; as the plan says if none.
        on: Option<bool>,
    },
    /// Lock its users out; its data stays.
    Suspend {
        /// Why.
        reason: Text<500>,
    },
    /// Let its users in again.
    Reactivate {},
    /// Let the founder come in.
    OpenSupportSession {
        /// The session's id.
        session: String,
        /// Why.
        reason: Text<500>,
        /// To look, or to change as well.
        mode: SupportMode,
        /// Until when.
        expires_at: DateTime<Utc>,
    },
    /// Let the founder go out.
    CloseSupportSession {
        /// The session's id.
        session: String,
    },
}

/// What happened to a tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, IntoStaticStr, VariantNames)]
pub enum TenantEvent {
    /// The business came.
    Registered {
        /// What is known of it.
        #[serde(flatten)]
        facts: TenantFacts,
        /// Where its data lives.
        region: Text<40>,
        /// What it subscribes to.
        plan: Plan,
        /// Seats, if not the plan's.
        #[serde(default)]
        seat_limit: Option<u32>,
        /// Whether it runs the platform itself.
        platform: bool,
    },
    /// Something else is known of it now.
    DetailsChanged {
        /// What really changed.
        changes: TenantChanges,
    },
    /// It subscribes to something else.
    PlanChanged {
        /// To what before.
        from: Plan,
        /// To what now.
        to: Plan,
    },
    /// It has other seats.
    SeatLimitChanged {
        /// How many; the plan's if none.
        limit: Option<u32>,
    },
    /// It has another limit.
    QuotaChanged {
        /// Which.
        quota: Quota,
        /// How many; the plan's if none.
        limit: Option<u32>,
    },
    /// A part of the product was switched on or off for it.
    FeatureSwitched {
        /// Which.
        feature: Feature,
        /// On or off; as the plan says if none.
        on: Option<bool>,
    },
    /// Its users are locked out.
    Suspended {
        /// Why.
        reason: Text<500>,
    },
    /// Its users are let in again.
    Reactivated {},
    /// The founder came in.
    SupportSessionOpened {
        /// The session's id.
        session: String,
        /// Why.
        reason: Text<500>,
        /// To look, or to change as well.
        mode: SupportMode,
        /// Until when.
        expires_at: DateTime<Utc>,
    },
    /// The founder went out.
    SupportSessionClosed {
        /// The session's id.
        session: String,
    },
}

impl TenantEvent {
    /// The version of each type's payload; raised together with an upcaster.
    fn version(_name: &str) -> &'static str {
        "1"
    }
}

/// Why a tenant refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TenantError {
    /// Absent.
    #[error("there is no such business")]
    NotFound,
    /// The id is taken.
    #[error("this business is already there")]
    AlreadyExists,
    /// Something that a business cannot be without was cleared.
    #[error("a business needs this")]
    Required {
        /// Where it stands in the request.
        pointer: &'static str,
    },
    /// A business without a seat.
    #[error("a business has at least one seat")]
    NoSeat,
    /// The business that runs the platform.
    #[error("the business that runs the platform is not suspended")]
    Platform,
    /// The session's id is taken.
    #[error("this support session is already open")]
    SupportSessionOpen,
    /// No such session, or it was closed.
    #[error("there is no such open support session")]
    SupportSessionNotFound,
}

impl TenantError {
    /// A stable word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Required { .. } => "required",
            Self::NoSeat => "out_of_range",
            Self::Platform => "platform_protected",
            Self::SupportSessionOpen => "support_session_open",
            Self::SupportSessionNotFound => "support_session_not_found",
        }
    }

    /// What kind of answer it makes.
    #[must_use]
    pub fn kind(&self) -> Refusal {
        match self {
            Self::NotFound | Self::SupportSessionNotFound => Refusal::NotFound,
            Self::Required { pointer } => Refusal::Invalid { pointer },
            Self::NoSeat => Refusal::Invalid { pointer: "/seat_limit" },
            Self::AlreadyExists | Self::Platform | Self::SupportSessionOpen => Refusal::Conflict,
        }
    }
}

/// A visit of the founder's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupportSession {
    /// Why.
    pub reason: Text<500>,
    /// To look, or to change as well.
    pub mode: SupportMode,
    /// Until when.
    pub expires_at: DateTime<Utc>,
}

/// A tenant as it stands; the default is one that is not there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tenant {
    /// What is known of it; nothing before it was registered.
    pub facts: Option<TenantFacts>,
    /// Where its data lives.
    pub region: Option<Text<40>>,
    /// What it subscribes to.
    pub plan: Plan,
    /// Seats, if not the plan's.
    pub seat_override: Option<u32>,
    /// Other limits, if not the plan's.
    pub quotas: BTreeMap<Quota, u32>,
    /// Parts of the product, if not as the plan says.
    pub switches: BTreeMap<Feature, bool>,
    /// Whether it may use DevHub.
    pub status: TenantStatus,
    /// Why it may not.
    pub suspension_reason: Option<Text<500>>,
    /// Whether it runs the platform itself.
    pub platform: bool,
    /// The founder's visits that were not closed; they may have expired.
    pub support_sessions: BTreeMap<String, SupportSession>,
}

event_sourced!(Tenant, "Tenant", TenantCommand, TenantEvent, TenantError);

impl Tenant {
    /// How many users it may have; none is without limit.
    #[must_use]
    pub fn seat_limit(&self) -> Option<u32> {
        self.seat_override.or(self.plan.allowance().seats)
    }

    /// How many of something else it may have; none is without limit.
    #[must_use]
    pub fn quota(&self, quota: Quota) -> Option<u32> {
        let switched = self.switches.get(&quota.feature()).copied();
        self.plan.quota_with(quota, self.quotas.get(&quota).copied(), switched)
    }

    /// Whether it may use a part of the product.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.switches.get(&feature).copied().unwrap_or(self.plan.includes(feature))
    }

    /// The rules. No clock, no I/O.
    ///
    /// # Errors
    /// The rule that forbids it.
    pub fn decide(&self, command: TenantCommand) -> Result<Vec<TenantEvent>, TenantError> {
        let Some(facts) = &self.facts else { return register(command).map(|event| vec![event]) };
        let event = match command {
            TenantCommand::Register { .. } => return Err(TenantError::AlreadyExists),
            TenantCommand::ChangeDetails(patch) => {
                let changes = patch.changes_to(facts)?;
                (!changes.is_empty()).then_some(TenantEvent::DetailsChanged { changes })
            }
            TenantCommand::ChangePlan { plan } => {
                (plan != self.plan).then_some(TenantEvent::PlanChanged { from: self.plan, to: plan })
            }
            TenantCommand::ChangeSeatLimit { limit: Some(0) } => return Err(TenantError::NoSeat),
            TenantCommand::ChangeSeatLimit { limit } => {
                (limit != self.seat_override).then_some(TenantEvent::SeatLimitChanged { limit })
            }
            TenantCommand::ChangeQuota { quota, limit } => {
                (limit != self.quotas.get(&quota).copied()).then_some(TenantEvent::QuotaChanged { quota, limit })
            }
            TenantCommand::SwitchFeature { feature, on } => {
                (on != self.switches.get(&feature).copied()).then_some(TenantEvent::FeatureSwitched { feature, on })
            }
            TenantCommand::Suspend { .. } if self.platform => return Err(TenantError::Platform),
            TenantCommand::Suspend { reason } => {
                (self.status == TenantStatus::Active).then_some(TenantEvent::Suspended { reason })
            }
            TenantCommand::Reactivate {} => {
                (self.status == TenantStatus::Suspended).then_some(TenantEvent::Reactivated {})
            }
            TenantCommand::OpenSupportSession { session, .. } if self.support_sessions.contains_key(&session) => {
                return Err(TenantError::SupportSessionOpen);
            }
            TenantCommand::OpenSupportSession { session, reason, mode, expires_at } => {
                Some(TenantEvent::SupportSessionOpened { session, reason, mode, expires_at })
            }
            TenantCommand::CloseSupportSession { session } if self.support_sessions.contains_key(&session) => {
                Some(TenantEvent::SupportSessionClosed { session })
            }
            TenantCommand::CloseSupportSession { .. } => return Err(TenantError::SupportSessionNotFound),
        };
        Ok(event.into_iter().collect())
    }

    fn evolve(&mut self, event: TenantEvent) {
        match event {
            TenantEvent::Registered { facts, region, plan, seat_limit, platform } => {
                self.facts = Some(facts);
                self.region = Some(region);
                self.plan = plan;
                self.seat_override = seat_limit;
                self.platform = platform;
            }
            TenantEvent::DetailsChanged { changes } => {
                if let Some(facts) = &mut self.facts {
                    changes.apply_to(facts);
                }
            }
            TenantEvent::PlanChanged { to, .. } => self.plan = to,
            TenantEvent::SeatLimitChanged { limit } => self.seat_override = limit,
            TenantEvent::QuotaChanged { quota, limit } => set(&mut self.quotas, quota, limit),
            TenantEvent::FeatureSwitched { feature, on } => set(&mut self.switches, feature, on),
            TenantEvent::Suspended { reason } => {
                self.status = TenantStatus::Suspended;
                self.suspension_reason = Some(reason);
            }
            TenantEvent::Reactivated {} => {
                self.status = TenantStatus::Active;
                self.suspension_reason = None;
            }
            TenantEvent::SupportSessionOpened { session, reason, mode, expires_at } => {
                self.support_sessions.insert(session, SupportSession { reason, mode, expires_at });
            }
            TenantEvent::SupportSessionClosed { session } => {
                self.support_sessions.remove(&session);
            }
        }
    }
}

fn set<K: Ord, V>(overrides: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => overrides.insert(key, value),
        None => overrides.remove(&key),
    };
}

fn register(command: TenantCommand) -> Result<TenantEvent, TenantError> {
    match command {
        TenantCommand::Register { seat_limit: Some(0), .. } => Err(TenantError::NoSeat),
        TenantCommand::Register { details, region, plan, seat_limit, platform } => {
            Ok(TenantEvent::Registered { facts: details.into(), region, plan, seat_limit, platform })
        }
        _ => Err(TenantError::NotFound),
    }
}
