//! The businesses that use DevHub. Fed by the tenants' own events.
//!
//! | event | does |
//! |---|---|
//! | Registered | the row begins |
//! | DetailsChanged | sets what changed |
//! | PlanChanged, SeatLimitChanged | sets plan, seats |
//! | QuotaChanged, FeatureSwitched | sets or lifts what differs from the plan |
//! | Suspended, Reactivated | sets the status, and why |
//! | SupportSessionOpened, SupportSessionClosed | nothing but the version |

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::types::Json;

use super::fact::{Event, Fact};
use super::model::{Projection, Touched};
use super::row::row;
use super::write::{json, text};
use crate::aggregates::tenant::{TenantChanges, TenantEvent};
use crate::aggregates::values::{Feature, Patch, Quota, TenantStatus};

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
        /// Where its data lives.
        pub region: String,
        /// What it subscribes to.
        pub subscription_plan: String,
        /// Its seats, if not the plan's.
        pub seat_limit: Option<i64>,
        /// Its other limits, where they are not the plan's.
        pub limits: Json<BTreeMap<Quota, u32>>,
        /// Parts of the product switched on or off, where that is not as the plan says.
        pub features: Json<BTreeMap<Feature, bool>>,
        /// Whether its users are let in.
        pub status: String,
        /// Why they are not.
        pub suspended_reason: Option<String>,
    }
}

/// The tenants.
pub struct Tenants;

impl Projection for Tenants {
    type Row = TenantRow;
    const NAME: &'static str = "tenants";

    fn touched(fact: &Fact) -> Vec<Touched> {
        match &fact.event {
            Event::Tenant(event) => vec![Touched::of(fact, matches!(event, TenantEvent::Registered { .. }))],
            _ => Vec::new(),
        }
    }

    fn fold(row: Option<TenantRow>, _: &str, fact: &Fact) -> Option<TenantRow> {
        let Event::Tenant(event) = &fact.event else { return row };
        match (row, event) {
            (None, TenantEvent::Registered { facts, region, plan, seat_limit, .. }) => Some(TenantRow {
                business_name: facts.business_name.to_string(),
                business_email: facts.business_email.to_string(),
                business_phone: text(facts.business_phone.as_deref()),
                address: json(facts.address.as_deref()),
                country: text(facts.country.as_ref()),
                region: region.to_string(),
                subscription_plan: plan.to_string(),
                seat_limit: seat_limit.map(i64::from),
                limits: Json::default(),
                features: Json::default(),
                status: TenantStatus::Active.to_string(),
                suspended_reason: None,
            }),
            (None, _) => None,
            (Some(row), event) => Some(changed(row, event)),
        }
    }
}

fn changed(mut row: TenantRow, event: &TenantEvent) -> TenantRow {
    match event {
        TenantEvent::Registered { .. }
        | TenantEvent::SupportSessionOpened { .. }
        | TenantEvent::SupportSessionClosed { .. } => {}
        TenantEvent::DetailsChanged { changes } => details_changed(&mut row, changes),
        TenantEvent::PlanChanged { to, .. } => row.subscription_plan = to.to_string(),
        TenantEvent::SeatLimitChanged { limit } => row.seat_limit = limit.map(i64::from),
        TenantEvent::QuotaChanged { quota, limit } => set(&mut row.limits.0, *quota, *limit),
        TenantEvent::FeatureSwitched { feature, on } => set(&mut row.features.0, *feature, *on),
        TenantEvent::Suspended { reason } => {
            row.status = TenantStatus::Suspended.to_string();
            row.suspended_reason = Some(reason.to_string());
        }
        TenantEvent::Reactivated {} => {
            row.status = TenantStatus::Active.to_string();
            row.suspended_reason = None;
        }
    }
    row
}

/// Keeps what differs from the plan, and forgets what is the plan's again.
fn set<K: Ord, V>(overrides: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => overrides.insert(key, value),
        None => overrides.remove(&key),
    };
}

fn details_changed(row: &mut TenantRow, changes: &TenantChanges) {
    changes.business_name.clone().map(|name| name.to_string()).apply_to_required(&mut row.business_name);
    changes.business_email.clone().map(|email| email.to_string()).apply_to_required(&mut row.business_email);
    changes.business_phone.clone().map(|phone| phone.to_string()).apply_to(&mut row.business_phone);
    match &changes.address {
        Patch::Unchanged => {}
        Patch::Clear => row.address = None,
        Patch::Set(address) => row.address = json(Some(&**address)),
    }
    changes.country.clone().map(|country| country.to_string()).apply_to(&mut row.country);
}
