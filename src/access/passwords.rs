//! Passwords: what is accepted as one, how it is hashed, and how it is checked.
//!
//! Argon2id with 19 MiB, two passes and one lane (OWASP's first choice), at most as many at once as the
//! machine has cores, in memory that is handed on, away from the threads that answer requests. What came from the old
//! system is bcrypt until its owner signs in.

use std::sync::Arc;
use std::thread::available_parallelism;

use argon2::password_hash::Error as PhcError;
use secrecy::{ExposeSecret, SecretString};
use strum::{EnumString, IntoStaticStr};
use tokio::sync::Semaphore;

use super::argon2id::{Memory, Turn};
use super::bcrypt_hash::{BcryptHash, is_real_bcrypt};
use super::secrets::{SecretsError, random_bytes};

/// The fewest characters of a password.
pub const SHORTEST: usize = 12;

/// The most characters of a password.
pub const LONGEST: usize = 128;

/// A local part shorter than this is found in too many innocent passwords.
const SHORTEST_LOCAL_PART: usize = 4;

/// The fewest different characters of a password.
const FEWEST_DIFFERENT: usize = 5;

/// Long enough, and still among the first that anybody tries. In lower case.
const VERY_COMMON: [&str; 24] = [
    "123123123123",
    "1234567890123",
    "123456789012",
    "1q2w3e4r5t6y",
    "1qaz2wsx3edc",
    "abcdefghijkl",
    "administrator",
    "changeme1234",
    "changemenow!",
    "correcthorsebatterystaple",
    "iloveyou1234",
    "letmein12345",
    "password1234",
    "password12345",
    "password123!",
    "passwordpassword",
    "p@ssw0rd1234",
    "q1w2e3r4t5y6",
    "qwerty123456",
    "qwertyuiop12",
    "qwertyuiop123",
    "trustno1trustno1",
    "welcome12345",
    "zaq12wsxcde3",
];

/// Why a text is not accepted as a password; each a sentence for the person who chose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordRefused {
    /// Fewer than [`SHORTEST`] characters.
    #[error("A password has at least {SHORTEST} characters.")]
    TooShort,
    /// More than [`LONGEST`] characters.
    #[error("A password has at most {LONGEST} characters.")]
    TooLong,
    /// One that everybody tries first.
    #[error("This password is one of those that are tried first; choose another.")]
    VeryCommon,
    /// The part of the e-mail address before the @ is in it.
    #[error("A password does not contain the name in the e-mail address.")]
    ContainsEmail,
}

/// Whether this may be the password of whoever signs in with that e-mail address.
///
/// # Errors
/// The first rule that it breaks.
pub fn check(password: &SecretString, email: &str) -> Result<(), PasswordRefused> {
    let password = password.expose_secret();
    match password.chars().count() {
        ..SHORTEST => return Err(PasswordRefused::TooShort),
        SHORTEST..=LONGEST => {}
        _ => return Err(PasswordRefused::TooLong),
    }
    let folded = password.to_lowercase();
    let mut different: Vec<_> = folded.chars().collect();
    different.sort_unstable();
    different.dedup();
    if different.len() < FEWEST_DIFFERENT || VERY_COMMON.contains(&folded.as_str()) {
        return Err(PasswordRefused::VeryCommon);
    }
    let local_part = email.rsplit_once('@').map_or(email, |(local, _)| local).to_lowercase();
    if local_part.chars().count() >= SHORTEST_LOCAL_PART && folded.contains(&local_part) {
        return Err(PasswordRefused::ContainsEmail);
    }
    Ok(())
}

/// How a hash was made, and so how it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Scheme {
    /// A PHC string of Argon2id.
    Argon2id,
    /// A hash of the old system, `$2b$…`; replaced when its owner signs in.
    Bcrypt,
}

/// A hash and how to check it; the password is not in it.
#[derive(Clone)]
pub struct Credential {
    /// How the hash was made.
    pub scheme: Scheme,
    /// The hash as that scheme writes it.
    pub hash: SecretString,
}

impl Credential {
    /// A hash of the old system; none if it is not real (see [`is_real_bcrypt`]).
    #[must_use]
    pub fn from_bcrypt(hash: &str) -> Option<Self> {
        is_real_bcrypt(hash).then(|| Self { scheme: Scheme::Bcrypt, hash: hash.into() })
    }
}

/// Why a password could be neither hashed nor checked.
#[derive(Debug, thiserror::Error)]
pub enum PasswordsError {
    /// No salt.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// The stored hash is not what its scheme writes.
    #[error("a stored password hash cannot be read")]
    Unreadable,
    /// The process is going down, or has no memory for one more.
    #[error("no password can be hashed now")]
    Unavailable,
}

/// Hashes and checks passwords, so many at once and no more.
#[derive(Clone)]
pub struct Passwords {
    permits: Arc<Semaphore>,
    memory: Memory,
}

impl Default for Passwords {
    fn default() -> Self {
        Self::new(available_parallelism().map_or(1, std::num::NonZero::get))
    }
}

impl Passwords {
    /// At most `at_once` at the same time: each takes 19 MiB and a core.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(at_once)), memory: Memory::default() }
    }

    /// The hash of a password, with a salt of its own.
    ///
    /// # Errors
    /// No random bytes, or no memory.
    pub async fn hash(&self, password: SecretString) -> Result<Credential, PasswordsError> {
        let salt: [u8; 16] = random_bytes()?;
        self.work(move |turn| {
            let phc = turn.hash(password.expose_secret().as_bytes(), &salt).map_err(|_| PasswordsError::Unavailable)?;
            Ok(Credential { scheme: Scheme::Argon2id, hash: phc.into() })
        })
        .await
    }

    /// Whether this is the password.
    ///
    /// # Errors
    /// The stored hash cannot be read.
    pub async fn verify(&self, credential: Credential, password: SecretString) -> Result<bool, PasswordsError> {
        self.work(move |turn| match credential.scheme {
            Scheme::Argon2id => {
                let hash = credential.hash.expose_secret();
                match turn.verify(password.expose_secret().as_bytes(), hash) {
                    Ok(right) => Ok(right),
                    Err(PhcError::OutOfMemory) => Err(PasswordsError::Unavailable),
                    Err(_) => Err(PasswordsError::Unreadable),
                }
            }
            Scheme::Bcrypt => {
                // It needs none of Argon2's memory.
                drop(turn);
                let hash = BcryptHash::parse(credential.hash.expose_secret()).ok_or(PasswordsError::Unreadable)?;
                Ok(hash.is_of(password.expose_secret()))
            }
        })
        .await
    }

    /// Takes as long as [`Self::verify`] with Argon2id, for whoever has no password here: the time of an answer must not tell
    /// whether an e-mail address is known.
    ///
    /// # Errors
    /// As [`Self::hash`].
    pub async fn verify_nothing(&self, password: SecretString) -> Result<(), PasswordsError> {
        self.hash(password).await.map(drop)
    }

    async fn work<T: Send + 'static>(
        &self,
        job: impl FnOnce(Turn) -> Result<T, PasswordsError> + Send + 'static,
    ) -> Result<T, PasswordsError> {
        let turn = self.memory.turn();
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| PasswordsError::Unavailable)?;
        let work = tokio::task::spawn_blocking(move || {
            // Held by the work itself: a caller who gives up waiting does not make room for one more.
            let _permit = permit;
            job(turn)
        });
        work.await.map_err(|_| PasswordsError::Unavailable)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(password: &str) -> Option<PasswordRefused> {
        check(&password.into(), "Grace.Hopper@navy.example").err()
    }

    #[test]
    fn the_policy_is_about_length_and_what_is_tried_first() {
        assert_eq!(refused("violet-tram"), Some(PasswordRefused::TooShort));
        assert_eq!(refused("violet-trams"), None);
        assert_eq!(refused(&"violet-trams".repeat(11)), Some(PasswordRefused::TooLong));
        assert_eq!(refused("PassWord1234"), Some(PasswordRefused::VeryCommon));
        assert_eq!(refused("abababababababab"), Some(PasswordRefused::VeryCommon));
        assert_eq!(refused("my GRACE.hopper 1906"), Some(PasswordRefused::ContainsEmail));
        assert_eq!(check(&"any harbour, any storm".into(), "any@navy.example"), Ok(()));
    }

    #[test]
    fn characters_are_counted_not_bytes() {
        assert_eq!(refused("äöüßéèêñçøå"), Some(PasswordRefused::TooShort));
        assert_eq!(refused(&"äöüßéèêñçøåæ".repeat(10)), None);
    }

    #[test]
    fn the_very_common_ones_are_written_as_they_are_compared() {
        assert!(VERY_COMMON.iter().all(|word| word.to_lowercase() == *word && word.chars().count() >= SHORTEST));
    }

    #[tokio::test]
    async fn a_hash_is_argon2id_with_its_own_salt_and_verifies_its_password_only() {
        let passwords = Passwords::new(1);
        let first = passwords.hash("violet-trams".into()).await.unwrap();
        assert!(first.hash.expose_secret().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert!(passwords.verify(first.clone(), "violet-trams".into()).await.unwrap());
        assert!(!passwords.verify(first.clone(), "violet-Trams".into()).await.unwrap());
        let second = passwords.hash("violet-trams".into()).await.unwrap();
        assert_ne!(first.hash.expose_secret(), second.hash.expose_secret());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn many_at_once_take_no_more_memory_than_may_work_at_once() {
        let passwords = Passwords::new(2);
        let credential = passwords.hash("violet-trams".into()).await.unwrap();
        let before = passwords.memory.made();
        let many = (0..12).map(|n| {
            let (passwords, credential) = (passwords.clone(), credential.clone());
            async move {
                let password = if n % 2 == 0 { "violet-trams" } else { "violet-tram-s" };
                assert_eq!(passwords.verify(credential, password.into()).await.unwrap(), n % 2 == 0);
            }
        });
        futures::future::join_all(many).await;
        assert!(passwords.memory.made() - before <= 2);
        assert_eq!(passwords.memory.free(), 0, "nobody waits");
    }

    #[tokio::test]
    async fn an_unreadable_hash_is_an_error_and_not_a_wrong_password() {
        for hash in ["", "temp_password", "$2b$12$dummy_hash"] {
            for scheme in [Scheme::Argon2id, Scheme::Bcrypt] {
                let credential = Credential { scheme, hash: hash.into() };
                let verified = Passwords::new(1).verify(credential, "violet-trams".into()).await;
                assert!(matches!(verified, Err(PasswordsError::Unreadable)), "{scheme:?} {hash}");
            }
        }
    }
}
