//! What each plan allows: one table, looked up wherever a limit is kept.

use super::values::{Feature, Plan, Quota};

/// What a plan allows. `None` is without limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Users that are invited, active or locked.
    pub seats: Option<u32>,
    /// Keys for programs.
    pub api_keys: Option<u32>,
    /// Webhook endpoints.
    pub webhooks: Option<u32>,
    /// Days of audit history shown; all of it is kept on every plan.
    pub audit_days: Option<u32>,
    /// Parts of the product included.
    pub features: &'static [Feature],
}

const STARTER: Allowance =
    Allowance { seats: Some(5), api_keys: Some(0), webhooks: Some(0), audit_days: Some(90), features: &[] };

const PROFESSIONAL: Allowance = Allowance {
    seats: Some(50),
    api_keys: Some(5),
    webhooks: Some(5),
    audit_days: Some(730),
    features: &[Feature::Exports, Feature::LiveStream, Feature::ApiKeys, Feature::Webhooks],
};

const ENTERPRISE: Allowance = Allowance {
    seats: None,
    api_keys: None,
    webhooks: None,
    audit_days: None,
    features: &[
        Feature::Exports,
        Feature::LiveStream,
        Feature::Rebuild,
        Feature::SqlAccess,
        Feature::ApiKeys,
        Feature::Webhooks,
    ],
};

impl Plan {
    /// What the plan allows.
    #[must_use]
    pub fn allowance(self) -> &'static Allowance {
        match self {
            Self::Starter => &STARTER,
            Self::Professional => &PROFESSIONAL,
            Self::Enterprise => &ENTERPRISE,
        }
    }

    /// How many of something the plan allows; none is without limit.
    #[must_use]
    pub fn quota(self, quota: Quota) -> Option<u32> {
        match quota {
            Quota::ApiKeys => self.allowance().api_keys,
            Quota::Webhooks => self.allowance().webhooks,
        }
    }

    /// How many of something a business on the plan may have, none being without limit, where the founder has set a
    /// `limit` apart from the plan or switched what it belongs to on or off. A limit that is set counts whatever the plan
    /// includes; what is switched on comes as in the smallest plan that includes it.
    #[must_use]
    pub fn quota_with(self, quota: Quota, limit: Option<u32>, switched: Option<bool>) -> Option<u32> {
        let feature = quota.feature();
        match (switched, limit) {
            (Some(false), _) => Some(0),
            (_, Some(limit)) => Some(limit),
            (Some(true), None) if !self.includes(feature) => Self::first_with(feature).quota(quota),
            (_, None) => self.quota(quota),
        }
    }

    /// Whether the plan includes a part of the product.
    #[must_use]
    pub fn includes(self, feature: Feature) -> bool {
        self.allowance().features.contains(&feature)
    }

    /// The smallest plan that includes a part of the product.
    #[must_use]
    pub fn first_with(feature: Feature) -> Self {
        [Self::Starter, Self::Professional].into_iter().find(|plan| plan.includes(feature)).unwrap_or(Self::Enterprise)
    }

    /// The next larger plan, which lifts a limit reached on this one.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Starter => Some(Self::Professional),
            Self::Professional => Some(Self::Enterprise),
            Self::Enterprise => None,
        }
    }
}

impl Quota {
    /// The part of the product that it is a number of.
    #[must_use]
    pub fn feature(self) -> Feature {
        match self {
            Self::ApiKeys => Feature::ApiKeys,
            Self::Webhooks => Feature::Webhooks,
        }
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn a_larger_plan_never_allows_less() {
        let more =
            |larger: Option<u32>, smaller: Option<u32>| larger.unwrap_or(u32::MAX) >= smaller.unwrap_or(u32::MAX);
        for plan in Plan::VARIANTS {
            let Some(next) = plan.next() else { continue };
            let (smaller, larger) = (plan.allowance(), next.allowance());
            assert!(more(larger.seats, smaller.seats));
            assert!(more(larger.api_keys, smaller.api_keys));
            assert!(more(larger.webhooks, smaller.webhooks));
            assert!(more(larger.audit_days, smaller.audit_days));
            assert!(smaller.features.iter().all(|&feature| next.includes(feature)));
        }
    }

    #[test]
    fn the_table_says_what_each_plan_includes() {
        assert_eq!(Plan::Starter.allowance().seats, Some(5));
        assert_eq!(Plan::Professional.allowance().seats, Some(50));
        assert_eq!(Plan::Enterprise.allowance().seats, None);
        assert_eq!(Plan::first_with(Feature::Exports), Plan::Professional);
        assert_eq!(Plan::first_with(Feature::SqlAccess), Plan::Enterprise);
        for feature in Feature::VARIANTS {
            assert!(Plan::Enterprise.includes(*feature) && !Plan::Starter.includes(*feature));
        }
    }
}
