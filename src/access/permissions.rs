//! What each role may do, in one table, and what a user may do once their own grants are counted in.
//!
//! The middleware, the API's documentation and the console's menus all ask here.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::aggregates::permission::{Action, Grants, Module, Permission, Role, Scope};

/// One line of the table: a permission, and how far it reaches for each role of a business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// What may be done.
    pub permission: Permission,
    /// How far for a `BUSINESS_OWNER`; none: not at all.
    pub owner: Option<Scope>,
    /// How far for a `MANAGER`. Of `users:manage` it holds for `EMPLOYEE`s only: see [`manages`].
    pub manager: Option<Scope>,
    /// How far for an `EMPLOYEE`.
    pub employee: Option<Scope>,
}

const fn row(
    module: Module,
    action: Action,
    owner: Option<Scope>,
    manager: Option<Scope>,
    employee: Option<Scope>,
) -> Row {
    Row { permission: Permission { module, action }, owner, manager, employee }
}

const NO: Option<Scope> = None;
const OWN: Option<Scope> = Some(Scope::Own);
const DEPARTMENT: Option<Scope> = Some(Scope::Department);
const TENANT: Option<Scope> = Some(Scope::Tenant);

/// The table. Whoever manages something reads it too; a manager sees no fewer colleagues than an employee.
#[rustfmt::skip]
const TABLE: [Row; 18] = [
    //                                          BUSINESS_OWNER  MANAGER     EMPLOYEE
    row(Module::Customers, Action::Read,        TENANT,         TENANT,     TENANT),
    row(Module::Customers, Action::Write,       TENANT,         DEPARTMENT, OWN),
    row(Module::Leads,     Action::Read,        TENANT,         DEPARTMENT, DEPARTMENT),
    row(Module::Leads,     Action::Write,       TENANT,         DEPARTMENT, OWN),
    row(Module::Leads,     Action::Convert,     TENANT,         DEPARTMENT, OWN),
    row(Module::Projects,  Action::Read,        TENANT,         DEPARTMENT, DEPARTMENT),
    row(Module::Projects,  Action::Write,       TENANT,         DEPARTMENT, OWN),
    row(Module::Invoices,  Action::Read,        TENANT,         DEPARTMENT, NO),
    row(Module::Invoices,  Action::Write,       TENANT,         NO,         NO),
    row(Module::Reports,   Action::Read,        TENANT,         DEPARTMENT, OWN),
    row(Module::Reports,   Action::Export,      TENANT,         DEPARTMENT, NO),
    row(Module::Reports,   Action::Rebuild,     TENANT,         NO,         NO),
    row(Module::Audit,     Action::Read,        TENANT,         DEPARTMENT, OWN),
    row(Module::Audit,     Action::Export,      TENANT,         NO,         NO),
    row(Module::Users,     Action::Read,        TENANT,         TENANT,     TENANT),
    row(Module::Users,     Action::Manage,      TENANT,         DEPARTMENT, NO),
    row(Module::Tenant,    Action::Read,        TENANT,         TENANT,     TENANT),
    row(Module::Tenant,    Action::Manage,      TENANT,         NO,         NO),
];

/// The table, line by line, in the order in which it is shown.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    TABLE.iter()
}

/// How far a role reaches by itself; none: not at all. The founder reaches everything (of TNT-PLT).
#[must_use]
pub fn default_scope(role: Role, permission: Permission) -> Option<Scope> {
    let row = rows().find(|row| row.permission == permission)?;
    match role {
        Role::PlatformFounder => TENANT,
        Role::BusinessOwner => row.owner,
        Role::Manager => row.manager,
        Role::Employee => row.employee,
    }
}

/// The roles that somebody of this role may give, take and look after, if `users:manage` lets them at all.
#[must_use]
pub fn manages(role: Role) -> &'static [Role] {
    match role {
        Role::PlatformFounder | Role::BusinessOwner => &[Role::BusinessOwner, Role::Manager, Role::Employee],
        Role::Manager | Role::Employee => &[Role::Employee],
    }
}

/// What somebody may do, worked out: `{"customers": {"read": "tenant", "write": "own"}, …}`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permissions(BTreeMap<Permission, Scope>);

impl Permissions {
    /// The role's defaults with the user's own grants: a grant sets the scope (wider or narrower), a denial
    /// takes the permission away. The founder cannot be denied anything.
    #[must_use]
    pub fn resolve(role: Role, grants: &Grants) -> Self {
        let scope = |permission| match grants.get(&permission) {
            Some(grant) if role != Role::PlatformFounder => grant.scope(),
            _ => default_scope(role, permission),
        };
        Self(Permission::all().filter_map(|permission| Some((permission, scope(permission)?))).collect())
    }

    /// How far this permission reaches; none: not granted.
    #[must_use]
    pub fn scope(&self, permission: Permission) -> Option<Scope> {
        self.0.get(&permission).copied()
    }

    /// Whether the permission reaches at least that far.
    #[must_use]
    pub fn allows(&self, permission: Permission, needed: Scope) -> bool {
        self.scope(permission).is_some_and(|granted| granted >= needed)
    }

    /// What both allow, as far as both reach.
    #[must_use]
    pub fn intersect(&self, other: &Self) -> Self {
        let common = self.iter().filter_map(|(permission, scope)| {
            let other = other.scope(permission)?;
            Some((permission, scope.min(other)))
        });
        common.collect()
    }

    /// Whether all that `other` allows is allowed here too: nobody hands out more than they have.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        other.0.iter().all(|(&permission, &scope)| self.allows(permission, scope))
    }

    /// What is left when nothing may be changed, made or taken away.
    #[must_use]
    pub fn read_only(&self) -> Self {
        let reads = self.0.iter().filter(|(permission, _)| permission.action == Action::Read);
        Self(reads.map(|(&permission, &scope)| (permission, scope)).collect())
    }

    /// Every permission held, with its scope.
    pub fn iter(&self) -> impl Iterator<Item = (Permission, Scope)> {
        self.0.iter().map(|(&permission, &scope)| (permission, scope))
    }
}

impl FromIterator<(Permission, Scope)> for Permissions {
    fn from_iter<I: IntoIterator<Item = (Permission, Scope)>>(permissions: I) -> Self {
        Self(permissions.into_iter().collect())
    }
}

/// How [`Permissions`] are written.
type ByModule = BTreeMap<Module, BTreeMap<Action, Scope>>;

impl Serialize for Permissions {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut modules = ByModule::new();
        for (permission, scope) in self.iter() {
            modules.entry(permission.module).or_default().insert(permission.action, scope);
        }
        modules.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Permissions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut permissions = BTreeMap::new();
        for (module, actions) in ByModule::deserialize(deserializer)? {
            for (action, scope) in actions {
                if !Permission::actions_of(module).contains(&action) {
                    let permission = Permission { module, action };
                    return Err(D::Error::custom(format_args!("there is no permission {permission}")));
                }
                permissions.insert(Permission { module, action }, scope);
            }
        }
        Ok(Self(permissions))
    }
}

impl PartialSchema for Permissions {
    fn schema() -> RefOr<Schema> {
        BTreeMap::<String, BTreeMap<String, Scope>>::schema()
    }
}

impl ToSchema for Permissions {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Scope::name().into_owned(), Scope::schema()));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::aggregates::permission::Grant;

    fn permission(text: &str) -> Permission {
        text.parse().unwrap()
    }

    /// The table as it is agreed with the business, with "manage includes read" written out.
    const AGREED: &str = "
        customers:read   tenant tenant     tenant
        customers:write  tenant department own
        leads:read       tenant department department
        leads:write      tenant department own
        leads:convert    tenant department own
        projects:read    tenant department department
        projects:write   tenant department own
        invoices:read    tenant department -
        invoices:write   tenant -          -
        reports:read     tenant department own
        reports:export   tenant department -
        reports:rebuild  tenant -          -
        audit:read       tenant department own
        audit:export     tenant -          -
        users:read       tenant tenant     tenant
        users:manage     tenant department -
        tenant:read      tenant tenant     tenant
        tenant:manage    tenant -          -";

    #[test]
    fn each_role_has_what_the_agreed_table_says_cell_by_cell() {
        let mut cells = 0;
        for line in AGREED.trim().lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            let permission = permission(words[0]);
            for (role, word) in [Role::BusinessOwner, Role::Manager, Role::Employee].into_iter().zip(&words[1..]) {
                let agreed = (*word != "-").then(|| word.parse::<Scope>().unwrap());
                let resolved = Permissions::resolve(role, &Grants::new());
                assert_eq!(resolved.scope(permission), agreed, "{permission} of {}", role.as_str());
                cells += 1;
            }
        }
        assert_eq!(cells, 3 * Permission::all().count());
    }

    #[test]
    fn every_permission_has_one_line() {
        let lines: Vec<_> = rows().map(|row| row.permission).collect();
        assert_eq!(lines, Permission::all().collect::<Vec<_>>());
    }

    #[test]
    fn the_founder_has_everything_and_cannot_be_denied() {
        let denied: Grants = Permission::all().map(|permission| (permission, Grant::Deny)).collect();
        let founder = Permissions::resolve(Role::PlatformFounder, &denied);
        assert!(Permission::all().all(|permission| founder.scope(permission) == Some(Scope::Tenant)));
    }

    #[test]
    fn a_grant_adds_widens_or_narrows_and_a_denial_wins() {
        let grants: Grants = [
            (permission("invoices:read"), Grant::Tenant),
            (permission("leads:write"), Grant::Department),
            (permission("customers:read"), Grant::Own),
            (permission("leads:convert"), Grant::Deny),
            (permission("audit:export"), Grant::Deny),
        ]
        .into();
        let resolved = Permissions::resolve(Role::Employee, &grants);
        assert_eq!(resolved.scope(permission("invoices:read")), Some(Scope::Tenant));
        assert_eq!(resolved.scope(permission("leads:write")), Some(Scope::Department));
        assert_eq!(resolved.scope(permission("customers:read")), Some(Scope::Own));
        assert_eq!(resolved.scope(permission("leads:convert")), None);
        assert_eq!(resolved.scope(permission("audit:export")), None);
        assert_eq!(resolved.scope(permission("leads:read")), Some(Scope::Department));
    }

    #[test]
    fn a_wider_scope_covers_the_narrower() {
        let manager = Permissions::resolve(Role::Manager, &Grants::new());
        assert!(manager.allows(permission("leads:write"), Scope::Own));
        assert!(manager.allows(permission("leads:write"), Scope::Department));
        assert!(!manager.allows(permission("leads:write"), Scope::Tenant));
        assert!(!manager.allows(permission("invoices:write"), Scope::Own));
    }

    #[test]
    fn an_intersection_exceeds_neither_side() {
        let roles = [Role::PlatformFounder, Role::BusinessOwner, Role::Manager, Role::Employee];
        for (a, b) in roles.into_iter().flat_map(|a| roles.map(|b| (a, b))) {
            let a = Permissions::resolve(a, &Grants::new());
            let b = Permissions::resolve(b, &[(permission("leads:write"), Grant::Deny)].into());
            let both = a.intersect(&b);
            assert!(a.includes(&both) && b.includes(&both));
            assert_eq!(both, b.intersect(&a));
        }
        let (manager, employee) = (Permissions::resolve(Role::Manager, &Grants::new()), Permissions::default());
        assert!(manager.includes(&employee) && !employee.includes(&manager));
    }

    #[test]
    fn only_reading_is_left_of_a_read_only_visit() {
        let visit = Permissions::resolve(Role::PlatformFounder, &Grants::new()).read_only();
        assert!(visit.allows(permission("invoices:read"), Scope::Tenant));
        assert!(visit.iter().all(|(permission, _)| permission.action == Action::Read));
    }

    #[test]
    fn a_manager_manages_employees_only() {
        assert_eq!(manages(Role::Manager), [Role::Employee]);
        assert!(manages(Role::BusinessOwner).contains(&Role::Manager));
        assert!(!manages(Role::PlatformFounder).contains(&Role::PlatformFounder));
    }

    #[test]
    fn permissions_are_written_by_module_and_read_back() {
        let grants = [(permission("customers:write"), Grant::Deny)].into();
        let resolved = Permissions::resolve(Role::Employee, &grants);
        let written = serde_json::to_value(&resolved).unwrap();
        assert_eq!(
            written,
            json!({
                "customers": {"read": "tenant"},
                "leads": {"read": "department", "write": "own", "convert": "own"},
                "projects": {"read": "department", "write": "own"},
                "reports": {"read": "own"},
                "audit": {"read": "own"},
                "users": {"read": "tenant"},
                "tenant": {"read": "tenant"},
            })
        );
        assert_eq!(serde_json::from_value::<Permissions>(written).unwrap(), resolved);
        assert!(serde_json::from_value::<Permissions>(json!({"tenant": {"convert": "own"}})).is_err());
    }
}
