//! What people prove themselves with: a real hash of the old application goes straight into the new account, never
//! through an event, a log or a table of the import. Everybody else is listed for a reset.

use std::collections::{BTreeMap, HashMap};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ImportError, Run};
use crate::access::bcrypt_hash::is_real_bcrypt;
use crate::access::credentials;
use crate::access::passwords::{Credential, Scheme};
use crate::aggregates::ids::{TenantId, UserId};

/// The old application's hashes, by the primary key of the user.
pub(super) type Hashes = BTreeMap<i64, SecretString>;

/// Somebody who cannot sign in, or whose password somebody else may know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = LegacyNeedsReset)]
pub struct NeedsReset {
    /// The user.
    pub id: String,
    /// What they sign in with.
    pub email: String,
    /// Why: `no_password`, `placeholder_password`, `password_in_vault`.
    pub reasons: Vec<String>,
}

/// A user that came in.
struct Account {
    pk: i64,
    tenant: TenantId,
    user: UserId,
    email: String,
    in_vault: bool,
}

async fn accounts(run: &Run<'_>) -> Result<Vec<Account>, ImportError> {
    let rows: Vec<(i64, String, Option<String>, bool)> = sqlx::query_as(
        "with vault as (
             select btrim(row::json ->> 'user_system_id') as id from legacy_staged
             where tenant_id = $1 and source_table = 'password_vault' and row is not null
             union
             select btrim(row::json ->> 'user_system_id') from legacy_rows
             where tenant_id = $1 and source_table = 'password_vault' and not vanished
         )
         select k.pk, k.local_id, coalesce(s.row, r.row)::json ->> 'email',
                exists (select 1 from vault where vault.id = k.legacy_id)
         from legacy_keys k
         left join legacy_outcomes o on o.tenant_id = $1 and o.source_table = 'users' and o.pk = k.pk
         left join legacy_staged s on s.tenant_id = $1 and s.source_table = 'users' and s.pk = k.pk
         left join legacy_rows r on r.tenant_id = $1 and r.source_table = 'users' and r.pk = k.pk
         where k.tenant_id = $1 and k.source_table = 'users' and k.local_id is not null
           and coalesce(o.heap, r.heap) <> 'quarantined' and not coalesce(r.vanished, false)
         order by k.pk",
    )
    .bind(run.staging.tenant())
    .fetch_all(&run.staging.pool)
    .await?;
    let account = |(pk, id, email, in_vault): (i64, String, Option<String>, bool)| {
        let user: UserId = id.parse().ok()?;
        let tenant = if user == UserId::FOUNDER { TenantId::Platform } else { run.tenant };
        Some(Account { pk, tenant, user, email: email.unwrap_or_default(), in_vault })
    };
    Ok(rows.into_iter().filter_map(account).collect())
}

/// Lets everybody who has a real hash sign in with the old password. Who has chosen another one since keeps that.
pub(super) async fn take_over(run: &Run<'_>, hashes: &Hashes) -> Result<(), ImportError> {
    let pool = &run.app.access.pool;
    for account in accounts(run).await? {
        let Some(hash) = hashes.get(&account.pk).map(|hash| hash.expose_secret().trim()) else { continue };
        let Some(credential) = Credential::from_bcrypt(hash) else { continue };
        let now = run.app.clock.now();
        let Account { tenant, user, .. } = account;
        if credentials::store_first(pool, tenant, user, &credential, now).await? {
            continue;
        }
        let there = credentials::load(pool, tenant, user).await?;
        let changed_in_the_old =
            there.is_some_and(|there| there.scheme == Scheme::Bcrypt && there.hash.expose_secret() != hash);
        if changed_in_the_old {
            credentials::store(pool, tenant, user, &credential, now).await?;
        }
    }
    Ok(())
}

/// Everybody who needs another password, and why.
pub(super) async fn needing_reset(run: &Run<'_>, hashes: &Hashes) -> Result<Vec<NeedsReset>, ImportError> {
    let chosen: Vec<(String, String)> = sqlx::query_as(
        "select tenant_id, user_id from platform.credentials where scheme <> 'bcrypt' and tenant_id in ($1, $2)",
    )
    .bind(run.tenant.to_string())
    .bind(TenantId::Platform.to_string())
    .fetch_all(&run.app.access.pool)
    .await?;
    let chosen: HashMap<(String, String), ()> = chosen.into_iter().map(|key| (key, ())).collect();
    let mut needing = Vec::new();
    for account in accounts(run).await? {
        // Whoever has chosen a password here needs no other.
        if chosen.contains_key(&(account.tenant.to_string(), account.user.to_string())) {
            continue;
        }
        let mut reasons = Vec::new();
        match hashes.get(&account.pk).map(|hash| hash.expose_secret().trim()) {
            None | Some("") => reasons.push("no_password".to_owned()),
            Some(hash) if !is_real_bcrypt(hash) => reasons.push("placeholder_password".to_owned()),
            Some(_) => {}
        }
        if account.in_vault {
            reasons.push("password_in_vault".to_owned());
        }
        if !reasons.is_empty() {
            needing.push(NeedsReset { id: account.user.to_string(), email: account.email, reasons });
        }
    }
    Ok(needing)
}
