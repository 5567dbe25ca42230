//! The keys that access tokens are signed with, and their rotation.
//!
//! ```text
//!            ├── signs, 30 days ──┤ verifies until its tokens are over
//! announced ─┤                    ├──┤
//!                       announced ─┼── signs, 30 days …
//! ```
//!
//! A key is published a day before it signs, so that whoever keeps a copy of the key set has it in time;
//! with the one before it, two are valid during a rotation.

use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, crypto, decode_header, encode};
use quick_cache::sync::Cache;
use serde_json::{Value, json};
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, PgPool, Row};

use super::secrets::{MasterKey, Purpose, SecretsError, random_bytes, sha256};
use super::tokens::{ACCESS_TOKEN_LIFETIME, ACCESS_TOKEN_TYPE, Claims, TokenError};

/// How long a key signs.
const SIGNS_FOR: TimeDelta = TimeDelta::days(30);

/// How long a key is published before it signs.
const ANNOUNCED_FOR: TimeDelta = TimeDelta::days(1);

/// Verified tokens remembered: some 1 KiB each.
const REMEMBERED: usize = 10_000;

/// Why the keys cannot be had or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyRingError {
    /// The database's error.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// A private half does not open: the master key is not the one that it was sealed with.
    #[error("a signing key cannot be used: {0}")]
    Secrets(#[from] SecretsError),
    /// No key signs at this moment: no rotation has run since the last one ended.
    #[error("no key signs access tokens at this time")]
    NoneSigns,
    /// The token could not be written.
    #[error("an access token could not be signed")]
    NotSigned,
}

struct Key {
    kid: String,
    signs_from: DateTime<Utc>,
    signs_until: DateTime<Utc>,
    verifies_until: DateTime<Utc>,
    public: Vec<u8>,
    signing: EncodingKey,
    verifying: DecodingKey,
}

impl Key {
    fn signs_at(&self, now: DateTime<Utc>) -> bool {
        self.signs_from <= now && now < self.signs_until
    }

    fn verifies_at(&self, now: DateTime<Utc>) -> bool {
        self.signs_from <= now && now < self.verifies_until
    }
}

/// A token that was verified before: only the hours have to be looked at again.
#[derive(Clone)]
struct Verified {
    claims: Arc<Claims>,
    key_until: DateTime<Utc>,
}

/// Signs and verifies access tokens with the keys of `platform.signing_keys`.
pub struct KeyRing {
    master: Arc<MasterKey>,
    issuer: String,
    audience: String,
    /// Whether it makes keys and takes them up.
    rotates: bool,
    /// The newest first.
    keys: RwLock<Arc<[Key]>>,
    verified: Cache<[u8; 32], Verified>,
}

impl KeyRing {
    /// The keys as they are stored; the first one is made if there is none.
    ///
    /// # Errors
    /// The database's, or a master key that is not the one that the keys were sealed with.
    pub async fn load(
        pool: &PgPool,
        master: Arc<MasterKey>,
        issuer: &str,
        audience: &str,
        now: DateTime<Utc>,
    ) -> Result<Self, KeyRingError> {
        let ring = Self { rotates: true, ..Self::empty(master, issuer, audience) };
        ring.reload(pool, now).await?;
        ring.rotate_if_due(pool, now).await?;
        Ok(ring)
    }

    /// A ring that has no keys and makes none, for work in which nobody signs in.
    #[must_use]
    pub fn empty(master: Arc<MasterKey>, issuer: &str, audience: &str) -> Self {
        Self {
            master,
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            rotates: false,
            keys: RwLock::new(Arc::new([])),
            verified: Cache::new(REMEMBERED),
        }
    }

    /// Who issues the tokens (`iss`).
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whom they are meant for (`aud`).
    #[must_use]
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// Makes the next key if the current one is about to end, and takes up one that another process made.
    /// Costs nothing when nothing is due; call it often.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn rotate_if_due(&self, pool: &PgPool, now: DateTime<Utc>) -> Result<(), KeyRingError> {
        if !self.rotates || !self.is_due(now) {
            return Ok(());
        }
        let mut connection = pool.acquire().await?;
        let mut transaction = connection.begin().await?;
        // One process makes the next key; the others wait here, and then find it.
        sqlx::query("lock table platform.signing_keys in share row exclusive mode").execute(&mut *transaction).await?;
        self.read(&mut transaction, now).await?;
        if self.is_due(now) {
            let current_ends = self.keys().iter().map(|key| key.signs_until).max();
            let signs_from = current_ends.filter(|end| *end > now).unwrap_or(now);
            self.create(&mut transaction, signs_from, now).await?;
            self.read(&mut transaction, now).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Reads the keys again.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn reload(&self, pool: &PgPool, now: DateTime<Utc>) -> Result<(), KeyRingError> {
        let mut connection = pool.acquire().await?;
        self.read(&mut connection, now).await
    }

    /// Removes keys that verify nothing any more.
    ///
    /// # Errors
    /// The database's.
    pub async fn forget_old(&self, pool: &PgPool, now: DateTime<Utc>) -> Result<(), KeyRingError> {
        sqlx::query("delete from platform.signing_keys where verifies_until <= $1").bind(now).execute(pool).await?;
        Ok(())
    }

    fn is_due(&self, now: DateTime<Utc>) -> bool {
        self.keys().iter().all(|key| key.signs_until - ANNOUNCED_FOR <= now)
    }

    fn keys(&self) -> Arc<[Key]> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    async fn read(&self, db: &mut PgConnection, now: DateTime<Utc>) -> Result<(), KeyRingError> {
        let rows = sqlx::query(
            "select kid, sealed_private, public_key, signs_from, signs_until, verifies_until
             from platform.signing_keys where verifies_until > $1 order by signs_from desc",
        )
        .bind(now)
        .fetch_all(db)
        .await?;
        let keys = rows.iter().map(|row| self.open(row)).collect::<Result<Arc<[_]>, _>>()?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    fn open(&self, row: &PgRow) -> Result<Key, KeyRingError> {
        let kid: String = row.try_get("kid")?;
        let public: Vec<u8> = row.try_get("public_key")?;
        let sealed: Vec<u8> = row.try_get("sealed_private")?;
        let private = self.master.open(Purpose::SigningKeys, kid.as_bytes(), &sealed)?;
        Ok(Key {
            signs_from: row.try_get("signs_from")?,
            signs_until: row.try_get("signs_until")?,
            verifies_until: row.try_get("verifies_until")?,
            signing: EncodingKey::from_ed_der(&private),
            verifying: DecodingKey::from_ed_der(&public),
            kid,
            public,
        })
    }

    async fn create(
        &self,
        db: &mut PgConnection,
        signs_from: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(), KeyRingError> {
        let kid = BASE64_URL_SAFE_NO_PAD.encode(random_bytes::<12>()?);
        let private = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| SecretsError::Random)?;
        let pair = Ed25519KeyPair::from_pkcs8(private.as_ref()).map_err(|_| SecretsError::DoesNotOpen)?;
        let signs_until = signs_from + SIGNS_FOR;
        sqlx::query(
            "insert into platform.signing_keys
                 (kid, sealed_private, public_key, created_at, signs_from, signs_until, verifies_until)
             values ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&kid)
        .bind(self.master.seal(Purpose::SigningKeys, kid.as_bytes(), private.as_ref())?)
        .bind(pair.public_key().as_ref())
        .bind(now)
        .bind(signs_from)
        .bind(signs_until)
        .bind(signs_until + ACCESS_TOKEN_LIFETIME)
        .execute(db)
        .await?;
        Ok(())
    }

    /// The public keys, as a JSON Web Key Set (RFC 7517, RFC 8037), those that are only announced included.
    #[must_use]
    pub fn jwks(&self, now: DateTime<Utc>) -> Value {
        let keys = self.keys();
        let published = keys.iter().filter(|key| now < key.verifies_until).map(|key| {
            json!({
                "kty": "OKP",
                "crv": "Ed25519",
                "use": "sig",
                "alg": "EdDSA",
                "kid": key.kid,
                "x": BASE64_URL_SAFE_NO_PAD.encode(&key.public),
            })
        });
        json!({ "keys": published.collect::<Vec<_>>() })
    }

    /// Signs a token with the key that signs at this time.
    ///
    /// # Errors
    /// [`KeyRingError::NoneSigns`] if no rotation has run in time.
    pub fn sign(&self, claims: &Claims, now: DateTime<Utc>) -> Result<String, KeyRingError> {
        let keys = self.keys();
        let key = keys.iter().find(|key| key.signs_at(now)).ok_or(KeyRingError::NoneSigns)?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(ACCESS_TOKEN_TYPE.to_owned());
        header.kid = Some(key.kid.clone());
        encode(&header, claims, &key.signing).map_err(|_| KeyRingError::NotSigned)
    }

    /// What a token says, if it is one of ours and good at this time. Whether its session still is, is
    /// another question: see [`sessions::active`](super::sessions::active).
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn verify(&self, token: &str, now: DateTime<Utc>) -> Result<Arc<Claims>, TokenError> {
        let digest = sha256(token.as_bytes());
        if let Some(known) = self.verified.get(&digest) {
            let good = known.claims.check_time(now);
            if good.is_ok() && now < known.key_until {
                return Ok(known.claims);
            }
            self.verified.remove(&digest);
            good?;
        }
        let verified = self.verify_anew(token, now)?;
        let claims = Arc::clone(&verified.claims);
        self.verified.insert(digest, verified);
        Ok(claims)
    }

    fn verify_anew(&self, token: &str, now: DateTime<Utc>) -> Result<Verified, TokenError> {
        // The header is the sender's word: it chooses among our keys, and nothing else.
        let header = decode_header(token).map_err(|_| TokenError::Malformed)?;
        if header.alg != Algorithm::EdDSA || header.typ.as_deref() != Some(ACCESS_TOKEN_TYPE) || header.crit.is_some() {
            return Err(TokenError::WrongKind);
        }
        let keys = self.keys();
        let key = keys
            .iter()
            .find(|key| Some(&key.kid) == header.kid.as_ref() && key.verifies_at(now))
            .ok_or(TokenError::UnknownKey)?;

        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let signed = crypto::verify(signature, message.as_bytes(), &key.verifying, Algorithm::EdDSA);
        if !signed.map_err(|_| TokenError::Malformed)? {
            return Err(TokenError::BadSignature);
        }
        let (_, payload) = message.split_once('.').ok_or(TokenError::Malformed)?;
        let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).map_err(|_| TokenError::Malformed)?;
        let claims: Claims = serde_json::from_slice(&payload).map_err(|_| TokenError::Malformed)?;
        if claims.iss != self.issuer || claims.aud != self.audience {
            return Err(TokenError::WrongParty);
        }
        claims.check_time(now)?;
        Ok(Verified { claims: Arc::new(claims), key_until: key.verifies_until })
    }
}

#[cfg(test)]
#[path = "key_ring_tests.rs"]
mod tests;
