//! Users: who they are, what they may do, and whether they may come in.

use super::{Existence, Facet, Goal, Past, Record, Taking, shown};
use crate::access::permissions::Permissions;
use crate::aggregates::ids::UserId;
use crate::aggregates::user::{User, UserCommand, UserError, UserEvent};
use crate::aggregates::values::{Patch, UserStatus};
use crate::api::caller::Caller;
use crate::api::write::refused;
use crate::api::{App, Problem, users};

impl Past for User {
    const NOUN: &'static str = "user";

    fn touched(event: &UserEvent) -> Vec<Record> {
        match event {
            UserEvent::PasswordChanged {}
            | UserEvent::LoggedIn { .. }
            | UserEvent::LoginFailed { .. }
            | UserEvent::SessionsRevoked { .. } => Vec::new(),
            UserEvent::Registered { .. }
            | UserEvent::Invited { .. }
            | UserEvent::InvitationAccepted {}
            | UserEvent::Locked { .. }
            | UserEvent::Deactivated {}
            | UserEvent::Unlocked { .. }
            | UserEvent::Reactivated { .. }
            | UserEvent::ProfileChanged { .. }
            | UserEvent::EmailChanged { .. }
            | UserEvent::RoleChanged { .. }
            | UserEvent::DepartmentChanged { .. }
            | UserEvent::PermissionsChanged { .. } => vec![Record::Itself],
        }
    }

    fn facet(&self, record: Record) -> Option<Facet> {
        let facts = self.facts.as_ref().filter(|_| record == Record::Itself)?;
        let fields = [
            ("full_name", shown(&*facts.full_name)),
            ("role", shown(facts.role)),
            ("department", shown(&facts.department)),
            ("permissions", shown(&facts.permissions)),
            ("status", shown(self.status)),
        ];
        let fixed = [("email", shown(&*facts.email))];
        Some(Facet { fields: fields.into(), fixed: fixed.into(), deleted: false })
    }

    fn is_gone(&self, _: Record) -> bool {
        self.status == UserStatus::Deactivated
    }

    fn stays(&self, _: &str) -> Problem {
        Problem::conflict("login_stays", "what somebody signs in with is changed by themselves only")
    }

    async fn allow(&self, app: &App, caller: &Caller, id: &str, _: Record) -> Result<(), Problem> {
        users::managed(app, caller, id.parse().map_err(|_| Problem::not_found())?).await.map(drop)
    }

    async fn bring_back(taking: &mut Taking<'_>, goal: &Goal<'_, Self>) -> Result<(), Problem> {
        let id: UserId = taking.id.parse().map_err(|_| Problem::not_found())?;
        if goal.existence == Existence::Gone {
            let command = users::deactivation(taking.app, taking.caller, taking.work, id).await?;
            return taking.send_whole::<Self>(command).await.map(drop);
        }
        let (Some(now), Some(then)) = (&goal.now.facts, &goal.then.facts) else { return Ok(()) };
        if goal.fields.contains("full_name") {
            let full_name = Patch::Set(then.full_name.clone().into_inner());
            taking.send::<Self>(&["full_name"], UserCommand::ChangeProfile { full_name, email: None }).await?;
        }
        let may: Vec<&'static str> =
            ["role", "permissions"].into_iter().filter(|field| goal.fields.contains(field)).collect();
        if !may.is_empty() {
            let role = if may.contains(&"role") { then.role } else { now.role };
            let grants = if may.contains(&"permissions") { &then.permissions } else { &now.permissions };
            let before = Permissions::resolve(now.role, &now.permissions);
            if taking.allowed(&may, users::may_give(taking.caller, role, grants, &before))? {
                if may.contains(&"role") {
                    let command = users::role_change(taking.app, taking.caller, taking.work, id, role).await?;
                    taking.send::<Self>(&["role"], command).await?;
                }
                if may.contains(&"permissions") {
                    let command = UserCommand::ChangePermissions { permissions: grants.clone() };
                    taking.send::<Self>(&["permissions"], command).await?;
                }
            }
        }
        if goal.fields.contains("department") {
            let placed = users::may_place(taking.caller, then.department.as_ref());
            if taking.allowed(&["department"], placed)? {
                let command = UserCommand::ChangeDepartment { department: then.department.clone() };
                taking.send::<Self>(&["department"], command).await?;
            }
        }
        if goal.fields.contains("status") {
            status(taking, goal, id).await?;
        }
        Ok(())
    }

    async fn settle(app: &App, caller: &Caller, id: &str) -> Result<(), Problem> {
        users::let_go(app, caller, id.parse().map_err(|_| Problem::not_found())?).await
    }
}

/// Whoever is locked out or gone is first let in again; nobody is invited again who has come.
async fn status(taking: &mut Taking<'_>, goal: &Goal<'_, User>, id: UserId) -> Result<(), Problem> {
    const FIELD: &[&str] = &["status"];
    if goal.then.accepted != goal.now.accepted {
        return taking.keep(FIELD, refused(&UserError::AlreadyAccepted));
    }
    let let_in = match goal.now.status {
        UserStatus::Locked => taking.send::<User>(FIELD, UserCommand::Unlock {}).await?,
        UserStatus::Deactivated => {
            let seat = users::require_seat(taking.app, taking.caller, taking.work).await;
            taking.allowed(FIELD, seat)? && taking.send::<User>(FIELD, UserCommand::Reactivate {}).await?
        }
        UserStatus::Active | UserStatus::Invited => true,
    };
    let command = match goal.then.status {
        _ if !let_in => return Ok(()),
        UserStatus::Active | UserStatus::Invited => return Ok(()),
        UserStatus::Locked => users::lock_out(taking.app, taking.caller, taking.work, id).await?,
        UserStatus::Deactivated => users::deactivation(taking.app, taking.caller, taking.work, id).await?,
    };
    taking.send::<User>(FIELD, command).await.map(drop)
}
