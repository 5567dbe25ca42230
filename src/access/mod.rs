//! Who is calling, and what they may do: passwords, sessions, tokens, keys, permissions.
//!
//! ```text
//! e-mail + password ─► throttle ─► passwords ─► sessions ─► tokens (15 min) ─► every request
//!                                                  └─ refresh token, good once ─┘
//! ```
//!
//! Users and tenants are event-sourced and live elsewhere; nothing that is kept here is ever in an event.

use std::sync::Arc;

use secrecy::SecretString;
use sqlx::PgPool;

use crate::aggregates::ids::{TenantId, UserId};
use crate::aggregates::permission::Role;
use crate::clock::Clock;

use key_ring::{KeyRing, KeyRingError};
use passwords::{Credential, Passwords, PasswordsError, Scheme};
use permissions::Permissions;
use secrets::{MasterKey, SecretsError};
use sessions::{Opened, Origin, Session};
use throttle::{Key, RetryAfter, ThrottleError};
use tokens::Claims;

pub mod api_keys;
mod argon2id;
pub mod bcrypt_hash;
pub mod credentials;
pub mod key_ring;
pub mod one_time_tokens;
pub mod passwords;
pub mod permissions;
mod rows;
pub mod secrets;
pub mod sessions;
pub mod throttle;
pub mod tokens;

/// Everything that knows who is calling, ready to be asked.
pub struct Access {
    /// Connections as `devhub_platform`.
    pub pool: PgPool,
    /// The time that everything here goes by.
    pub clock: Clock,
    /// What is sealed, and what goes out and comes back, hangs on it.
    pub master: Arc<MasterKey>,
    /// Signs and verifies access tokens.
    pub keys: KeyRing,
    /// Hashes and checks passwords.
    pub passwords: Passwords,
}

/// An access token, ready to be answered.
#[derive(Debug)]
pub struct Issued {
    /// The token.
    pub access_token: SecretString,
    /// How long it is good for, in seconds.
    pub expires_in: i64,
}

/// Why somebody is not signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInRefused {
    /// Too many failures before; whoever it is.
    #[error(transparent)]
    Wait(#[from] RetryAfter),
    /// The caller hears the same whether the address or the password is wrong.
    #[error("The e-mail address or the password is wrong.")]
    Wrong {
        /// Whose account it was, if the address is known: for the account's history, never for the answer.
        account: Option<(TenantId, UserId)>,
    },
    /// The database's error.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// The password could not be checked.
    #[error(transparent)]
    Passwords(#[from] PasswordsError),
}

impl From<ThrottleError> for SignInRefused {
    fn from(error: ThrottleError) -> Self {
        match error {
            ThrottleError::Wait(wait) => Self::Wait(wait),
            ThrottleError::Database(error) => Self::Database(error),
        }
    }
}

impl Access {
    /// Loads the keys; makes the first on the first start.
    ///
    /// # Errors
    /// The database's, or a master key that is not the one that the keys were sealed with.
    pub async fn start(
        pool: PgPool,
        clock: Clock,
        master: MasterKey,
        issuer: &str,
        audience: &str,
    ) -> Result<Self, KeyRingError> {
        let master = Arc::new(master);
        let keys = KeyRing::load(&pool, Arc::clone(&master), issuer, audience, clock.now()).await?;
        Ok(Self { pool, clock, master, keys, passwords: Passwords::default() })
    }

    /// For work in which nobody signs in: it needs no master key, and neither reads nor makes a signing key.
    ///
    /// # Errors
    /// [`SecretsError::Random`].
    pub fn without_keys(pool: PgPool, clock: Clock, issuer: &str, audience: &str) -> Result<Self, SecretsError> {
        let master = Arc::new(MasterKey::generate()?);
        let keys = KeyRing::empty(Arc::clone(&master), issuer, audience);
        Ok(Self { pool, clock, master, keys, passwords: Passwords::default() })
    }

    /// Who signs in with this e-mail address (as it is compared) and password. Whether the user and the
    /// tenant are active is the caller's to check, afterwards: only who knows the password may learn it. A hash of the
    /// old system is replaced. How long a wrong password takes depends on how the right one is hashed.
    ///
    /// # Errors
    /// See [`SignInRefused`].
    pub async fn authenticate(
        &self,
        email_key: &str,
        password: SecretString,
        origin: &Origin,
    ) -> Result<(TenantId, UserId), SignInRefused> {
        let now = self.clock.now();
        let keys: Vec<_> = origin.address.map(Key::address).into_iter().chain([Key::account(email_key)]).collect();
        for key in &keys {
            throttle::attempt(&self.pool, key, now).await?;
        }
        let account = credentials::find_login(&self.pool, email_key).await?;
        let credential = match account {
            Some((tenant, user)) => credentials::load(&self.pool, tenant, user).await?,
            None => None,
        };
        let right = match &credential {
            Some(credential) => self.passwords.verify(credential.clone(), password.clone()).await?,
            None => {
                self.passwords.verify_nothing(password.clone()).await?;
                false
            }
        };
        match account {
            Some(account) if right => {
                for key in &keys {
                    throttle::succeeded(&self.pool, key).await?;
                }
                if let Some(old) = credential.filter(|credential| credential.scheme == Scheme::Bcrypt) {
                    self.rehash(account, &old, password).await?;
                }
                Ok(account)
            }
            account => Err(SignInRefused::Wrong { account }),
        }
    }

    /// Hashes a password as passwords are hashed today; it stays the same, so that it is nothing to tell anybody.
    async fn rehash(
        &self,
        (tenant, user): (TenantId, UserId),
        old: &Credential,
        password: SecretString,
    ) -> Result<(), SignInRefused> {
        let new = self.passwords.hash(password).await?;
        Ok(credentials::replace(&self.pool, tenant, user, old, &new).await?)
    }

    /// Whether this is the user's own password, for changing it. Counted against the account as sign-ins are.
    ///
    /// # Errors
    /// See [`SignInRefused`].
    pub async fn confirm(&self, tenant: TenantId, user: UserId, password: SecretString) -> Result<(), SignInRefused> {
        let key = Key::account(&format!("{tenant}:{user}"));
        throttle::attempt(&self.pool, &key, self.clock.now()).await?;
        let right = match credentials::load(&self.pool, tenant, user).await? {
            Some(credential) => self.passwords.verify(credential, password).await?,
            None => false,
        };
        if !right {
            return Err(SignInRefused::Wrong { account: Some((tenant, user)) });
        }
        throttle::succeeded(&self.pool, &key).await?;
        Ok(())
    }

    /// Opens a session now.
    ///
    /// # Errors
    /// See [`sessions::open`].
    pub async fn open_session(
        &self,
        tenant: TenantId,
        user: UserId,
        origin: &Origin,
    ) -> Result<Opened, sessions::SessionsError> {
        sessions::open(&self.pool, tenant, user, origin, self.clock.now()).await
    }

    /// An access token for a session, with the role and permissions that its user has now.
    ///
    /// # Errors
    /// See [`KeyRing::sign`] and [`KeyRing::rotate_if_due`].
    pub async fn issue(
        &self,
        session: &Session,
        role: Role,
        permissions: &Permissions,
    ) -> Result<Issued, KeyRingError> {
        let now = self.clock.now();
        self.keys.rotate_if_due(&self.pool, now).await?;
        let claims = Claims::new(session, role, permissions, self.keys.issuer(), self.keys.audience(), now);
        let access_token = self.keys.sign(&claims, now)?.into();
        Ok(Issued { access_token, expires_in: claims.exp - claims.iat })
    }

    /// Rotates the keys if it is time, and removes what is over; to be done every few minutes.
    ///
    /// # Errors
    /// The database's.
    pub async fn tidy(&self) -> Result<(), KeyRingError> {
        let now = self.clock.now();
        self.keys.rotate_if_due(&self.pool, now).await?;
        self.keys.forget_old(&self.pool, now).await?;
        sessions::forget_old(&self.pool, now).await?;
        one_time_tokens::forget_old(&self.pool, now).await?;
        throttle::forget_old(&self.pool, now).await?;
        Ok(())
    }
}
