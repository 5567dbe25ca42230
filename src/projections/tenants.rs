//! The businesses. Fed by the tenants' events.
//!
//! | event | does |
//! |---|---|
//! | Registered | the row begins |
//! | DetailsChanged, PlanChanged, SeatLimitChanged, QuotaChanged, FeatureSwitched | sets what changed |
//! | Suspended, Reactivated | sets the status |
//! | SupportSessionOpened, SupportSessionClosed | change nothing here; they are in the activity |

use cqrs_es::Aggregate;
use serde_json::{Map, Value};

use super::fact::{Event, Fact, Unread};
use super::model::{Affected, Poison, Projection, Touched};
use super::row::row;
use super::write::{json, patch_json, text};
use crate::aggregates::tenant::{Tenant, TenantEvent};
use crate::aggregates::values::TenantStatus;

row! {
    /// A business.
    pub struct TenantRow in "tenants", "tenant_versions" {
        /// Its name.
        pub business_name: String,
        /// Its e-mail address.
        pub business_email: String,
        /// Its telephone.
        pub business_phone: Option<String>,
        /// Its postal address.
        pub address: Option<Value>,
        /// Its country.
        pub country: Option<String>,
        /// Where its data is.
        pub region: String,
        /// What it subscribed to.
        pub subscription_plan: String,
        /// How many seats it has, if other than the plan's.
        pub seat_limit: Option<i32>,
        /// Its quotas, where they are other than the plan's.
        pub limits: Value,
        /// What is switched on or off for it, where that is other than the plan's.
        pub features: Value,
        /// Whether its users get in.
        pub status: String,
        /// Why they do not.
        pub suspended_reason: Option<String>,
    }
}

/// The businesses.
pub struct Tenants;

impl Projection for Tenants {
    type Row = TenantRow;
    const NAME: &'static str = "tenants";
    const FED_BY: &'static [&'static str] = &[Tenant::TYPE];

    fn touched(fact: &Fact) -> Vec<Touched> {
        match &fact.event {
            Event::Tenant(event) => vec![Touched::of(fact, matches!(event, TenantEvent::Registered { .. }))],
            _ => Vec::new(),
        }
    }

    fn affected(unread: &Unread) -> Affected {
        Affected::aggregate::<Tenant>(unread)
    }

    fn fold(row: Option<TenantRow>, _: &str, fact: &Fact) -> Result<Option<TenantRow>, Poison> {
        let Event::Tenant(event) = &fact.event else { return Ok(row) };
        Ok(match (row, event) {
            (None, TenantEvent::Registered { facts, region, plan, seat_limit, .. }) => Some(TenantRow {
                business_name: facts.business_name.to_string(),
                business_email: facts.business_email.to_string(),
                business_phone: text(facts.business_phone.as_deref()),
                address: json(facts.address.as_deref()),
                country: text(facts.country.as_ref()),
                region: region.to_string(),
                subscription_plan: plan.to_string(),
                seat_limit: seats(*seat_limit),
                limits: Value::Object(Map::new()),
                features: Value::Object(Map::new()),
                status: TenantStatus::Active.to_string(),
                suspended_reason: None,
            }),
            (None, _) => return Err(Poison::absent()),
            (Some(row), event) => Some(changed(row, event)),
        })
    }
}

fn changed(mut row: TenantRow, event: &TenantEvent) -> TenantRow {
    match event {
        TenantEvent::DetailsChanged { changes } => {
            changes.business_name.clone().map(|name| name.to_string()).apply_to_required(&mut row.business_name);
            changes.business_email.clone().map(|email| email.to_string()).apply_to_required(&mut row.business_email);
            changes.business_phone.clone().map(|phone| phone.to_string()).apply_to(&mut row.business_phone);
            patch_json(&changes.address, &mut row.address);
            changes.country.clone().map(|country| country.to_string()).apply_to(&mut row.country);
        }
        TenantEvent::PlanChanged { to, .. } => row.subscription_plan = to.to_string(),
        TenantEvent::SeatLimitChanged { limit } => row.seat_limit = seats(*limit),
        TenantEvent::QuotaChanged { quota, limit } => overridden(&mut row.limits, quota.as_str(), json(limit.as_ref())),
        TenantEvent::FeatureSwitched { feature, on } => {
            overridden(&mut row.features, feature.as_str(), json(on.as_ref()));
        }
        TenantEvent::Suspended { reason } => {
            row.status = TenantStatus::Suspended.to_string();
            row.suspended_reason = Some(reason.to_string());
        }
        TenantEvent::Reactivated {} => {
            row.status = TenantStatus::Active.to_string();
            row.suspended_reason = None;
        }
        TenantEvent::Registered { .. }
        | TenantEvent::SupportSessionOpened { .. }
        | TenantEvent::SupportSessionClosed { .. } => {}
    }
    row
}

/// Sets what is other than the plan's; none: as the plan says again.
fn overridden(overrides: &mut Value, name: &str, value: Option<Value>) {
    let Value::Object(overrides) = overrides else { return };
    match value {
        Some(value) => overrides.insert(name.to_owned(), value),
        None => overrides.remove(name),
    };
}

fn seats(limit: Option<u32>) -> Option<i32> {
    limit.map(|limit| i32::try_from(limit).unwrap_or(i32::MAX))
}
