//! The master key, what is sealed and signed with it, and where chance comes in.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::{constant_time, digest, hmac, rand};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};

/// The environment variable that holds the master key: 32 bytes in base64.
pub const MASTER_KEY_VARIABLE: &str = "DEVHUB_MASTER_KEY";

/// The file in the state folder that holds it otherwise.
const MASTER_KEY_FILE: &str = "master.key";

/// The first byte of what is sealed, so that another cipher can follow.
const SEALED_AES_256_GCM: u8 = 1;

/// Why something secret could not be had or used. Never tells the secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretsError {
    /// The operating system has no random bytes.
    #[error("the operating system gave no random bytes")]
    Random,
    /// The text is not 32 bytes in base64.
    #[error("the master key in {0} is not 32 bytes in base64")]
    NotAKey(String),
    /// The key file can be neither read nor made.
    #[error("the master key {path} can be neither read nor made: {source}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Sealed with another master key, for another purpose or record, or damaged.
    #[error("a sealed value does not open: another master key, or a damaged value")]
    DoesNotOpen,
    /// The cryptographic library refused, which it does only for impossible sizes.
    #[error("a value could not be sealed")]
    NotSealed,
}

/// What a derived key is for; a key for one purpose opens nothing of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The private halves of the keys that sign access tokens.
    SigningKeys,
    /// The cursors of lists.
    Cursors,
    /// The answers of requests that may be repeated.
    Answers,
}

impl Purpose {
    /// Part of every derived key: never change one.
    fn label(self) -> &'static str {
        match self {
            Self::SigningKeys => "signing-keys",
            Self::Cursors => "cursors",
            Self::Answers => "answers",
        }
    }
}

/// The one secret that everything else hangs on.
#[derive(Clone)]
pub struct MasterKey([u8; 32]);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl MasterKey {
    /// A key of its own, for tests and for the first start.
    ///
    /// # Errors
    /// [`SecretsError::Random`].
    pub fn generate() -> Result<Self, SecretsError> {
        random_bytes().map(Self)
    }

    /// The key that was configured (the value of [`MASTER_KEY_VARIABLE`]), else the one in the state folder,
    /// which is made on the first start.
    ///
    /// # Errors
    /// The configured text is not a key, or the file can be neither read nor made.
    pub fn load(configured: Option<&SecretString>, state_dir: &Path) -> Result<Self, SecretsError> {
        match configured {
            Some(text) => Self::decode(text.expose_secret(), || MASTER_KEY_VARIABLE.to_owned()),
            None => Self::load_file(&state_dir.join(MASTER_KEY_FILE)),
        }
    }

    fn load_file(path: &Path) -> Result<Self, SecretsError> {
        let failed = |source| SecretsError::File { path: path.to_owned(), source };
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_key_file(path, &Self::generate()?).and_then(|()| fs::read_to_string(path)).map_err(failed)?
            }
            other => other.map_err(failed)?,
        };
        Self::decode(&text, || path.display().to_string())
    }

    fn decode(text: &str, origin: impl Fn() -> String) -> Result<Self, SecretsError> {
        let bytes = BASE64_STANDARD.decode(text.trim()).map_err(|_| SecretsError::NotAKey(origin()))?;
        bytes.try_into().map(Self).map_err(|_| SecretsError::NotAKey(origin()))
    }

    /// A key for one purpose and use: HKDF with SHA-256 (RFC 5869).
    fn derive(&self, usage: &str, purpose: Purpose) -> Result<[u8; 32], SecretsError> {
        let mut key = [0; 32];
        Salt::new(HKDF_SHA256, b"devhub")
            .extract(&self.0)
            .expand(&[usage.as_bytes(), b"\0", purpose.label().as_bytes()], HKDF_SHA256)
            .and_then(|okm| okm.fill(&mut key))
            .map_err(|_| SecretsError::NotSealed)?;
        Ok(key)
    }

    /// Encrypts with AES-256-GCM. `aad` is not kept, but has to be the same to open it: name the record that
    /// the value belongs to, so that it cannot be moved to another.
    ///
    /// # Errors
    /// No random bytes, or a value beyond what AES-GCM takes (64 GiB).
    pub fn seal(&self, purpose: Purpose, aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, SecretsError> {
        let key = self.sealing_key(purpose)?;
        let mut body = plain.to_vec();
        let nonce = key.seal_in_place_append_tag(Aad::from(aad), &mut body).map_err(|_| SecretsError::NotSealed)?;
        Ok([&[SEALED_AES_256_GCM], nonce.as_ref().as_slice(), &body].concat())
    }

    /// Opens what [`Self::seal`] made for the same purpose and record.
    ///
    /// # Errors
    /// [`SecretsError::DoesNotOpen`].
    pub fn open(&self, purpose: Purpose, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SecretsError> {
        let Some((&SEALED_AES_256_GCM, rest)) = sealed.split_first() else {
            return Err(SecretsError::DoesNotOpen);
        };
        let (nonce, body) = rest.split_first_chunk::<12>().ok_or(SecretsError::DoesNotOpen)?;
        let mut body = body.to_vec();
        let plain = self
            .sealing_key(purpose)?
            .open_in_place(Nonce::from(nonce), Aad::from(aad), &mut body)
            .map_err(|_| SecretsError::DoesNotOpen)?;
        Ok(plain.to_vec())
    }

    fn sealing_key(&self, purpose: Purpose) -> Result<RandomizedNonceKey, SecretsError> {
        let key = self.derive("seal", purpose)?;
        RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(|_| SecretsError::NotSealed)
    }

    /// A key for code that seals by itself, such as that of cursors: the same for every holder of this master key.
    ///
    /// # Errors
    /// [`SecretsError::NotSealed`], if no key can be derived.
    pub fn key_for(&self, purpose: Purpose) -> Result<[u8; 32], SecretsError> {
        self.derive("key", purpose)
    }

    /// Authenticates bytes that go out and come back, such as a cursor: HMAC-SHA-256.
    ///
    /// # Errors
    /// [`SecretsError::NotSealed`], if no key can be derived.
    pub fn sign(&self, purpose: Purpose, bytes: &[u8]) -> Result<Vec<u8>, SecretsError> {
        Ok(hmac::sign(&self.signing_key(purpose)?, bytes).as_ref().to_vec())
    }

    /// Whether the tag is [`Self::sign`]'s for these bytes; takes the same time for every wrong tag.
    #[must_use]
    pub fn verify(&self, purpose: Purpose, bytes: &[u8], tag: &[u8]) -> bool {
        self.signing_key(purpose).is_ok_and(|key| hmac::verify(&key, bytes, tag).is_ok())
    }

    fn signing_key(&self, purpose: Purpose) -> Result<hmac::Key, SecretsError> {
        Ok(hmac::Key::new(hmac::HMAC_SHA256, &self.derive("sign", purpose)?))
    }
}

/// Makes the key file, or leaves the one that another process made meanwhile.
///
/// It is written aside, then linked into place: the link fails if the name is taken, and no reader ever
/// sees half a key.
fn create_key_file(path: &Path, key: &MasterKey) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let suffix: [u8; 8] = random_bytes().map_err(io::Error::other)?;
    let aside = path.with_extension(hex::encode(suffix));
    let written = write_private(&aside, &key.0).and_then(|()| match fs::hard_link(&aside, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    });
    fs::remove_file(&aside)?;
    written?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn write_private(path: &Path, key: &[u8; 32]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", BASE64_STANDARD.encode(key))?;
    file.sync_all()
}

/// Bytes from the system's generator.
///
/// # Errors
/// [`SecretsError::Random`].
pub fn random_bytes<const N: usize>() -> Result<[u8; N], SecretsError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| SecretsError::Random)?;
    Ok(bytes)
}

/// 256 bits of chance, in base64url: a token that is worth what it opens. Keep only its [`sha256`].
///
/// # Errors
/// [`SecretsError::Random`].
pub fn random_token() -> Result<SecretString, SecretsError> {
    Ok(BASE64_URL_SAFE_NO_PAD.encode(random_bytes::<32>()?).into())
}

/// SHA-256. Enough to store a [`random_token`]; a password needs a slow hash.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// Compares without telling by the time it takes where the difference is.
#[must_use]
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn key() -> MasterKey {
        MasterKey([7; 32])
    }

    #[test]
    fn what_is_sealed_opens_only_with_the_same_key_purpose_and_record() {
        let sealed = key().seal(Purpose::SigningKeys, b"k1", b"secret").unwrap();
        assert_eq!(key().open(Purpose::SigningKeys, b"k1", &sealed).unwrap(), b"secret");
        assert!(key().open(Purpose::SigningKeys, b"k2", &sealed).is_err());
        assert!(key().open(Purpose::Cursors, b"k1", &sealed).is_err());
        assert!(MasterKey([8; 32]).open(Purpose::SigningKeys, b"k1", &sealed).is_err());
        assert_ne!(sealed, key().seal(Purpose::SigningKeys, b"k1", b"secret").unwrap());
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let sealed = key().seal(Purpose::SigningKeys, b"", b"secret").unwrap();
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(key().open(Purpose::SigningKeys, b"", &damaged).is_err(), "byte {at}");
            assert!(key().open(Purpose::SigningKeys, b"", &sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_signature_holds_for_its_bytes_and_purpose() {
        let tag = key().sign(Purpose::Cursors, b"after 7").unwrap();
        assert!(key().verify(Purpose::Cursors, b"after 7", &tag));
        assert!(!key().verify(Purpose::Cursors, b"after 8", &tag));
        assert!(!key().verify(Purpose::SigningKeys, b"after 7", &tag));
        assert!(!key().verify(Purpose::Cursors, b"after 7", &tag[1..]));
        assert!(!MasterKey([8; 32]).verify(Purpose::Cursors, b"after 7", &tag));
    }

    #[test]
    fn starters_at_the_same_time_agree_on_one_private_key_file() {
        let folder = std::env::temp_dir().join(format!("devhub-{}", hex::encode(random_bytes::<8>().unwrap())));
        let keys: Vec<_> = std::thread::scope(|scope| {
            let starters: Vec<_> = (0..8).map(|_| scope.spawn(|| MasterKey::load(None, &folder).unwrap().0)).collect();
            starters.into_iter().map(|starter| starter.join().unwrap()).collect()
        });
        assert!(keys.windows(2).all(|pair| pair[0] == pair[1]));
        let files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap()).collect();
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_configured_key_comes_first_and_has_to_be_one() {
        let nowhere = Path::new("/nonexistent/devhub");
        let text = SecretString::from(BASE64_STANDARD.encode([9; 32]));
        assert_eq!(MasterKey::load(Some(&text), nowhere).unwrap().0, [9; 32]);
        for wrong in ["", "short", "bm90IDMyIGJ5dGVz"] {
            let error = MasterKey::load(Some(&wrong.into()), nowhere).unwrap_err();
            assert!(matches!(&error, SecretsError::NotAKey(origin) if origin == MASTER_KEY_VARIABLE));
        }
    }

    #[test]
    fn a_key_does_not_print_itself() {
        assert_eq!(format!("{:?}", key()), "MasterKey(…)");
    }
}
