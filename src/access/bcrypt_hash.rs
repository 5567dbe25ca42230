//! The hashes of the old system: bcrypt, checked until their owner signs in once, never made.

use std::ops::RangeInclusive;

use base64::Engine;
use base64::alphabet::BCRYPT;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::secrets::equal;

/// The versions of the format. All are checked alike; `2x` stands for a fault that concerns letters beyond ASCII
/// only, and whoever has such a password needs a reset.
const VERSIONS: [&str; 4] = ["$2a$", "$2b$", "$2x$", "$2y$"];

/// How often a round is doubled. Beyond 16, one guess takes a core for many seconds: whoever knows the e-mail address
/// that belongs to such a hash could keep the server from its work.
const COSTS: RangeInclusive<u32> = 4..=16;

/// The characters of the salt; those of the digest follow.
const SALT: usize = 22;

/// All that bcrypt takes of a password, in bytes.
const LONGEST: usize = 72;

/// bcrypt's own base64. The last bits that stand for nothing may be set, as some that made hashes left them.
const ALPHABET: GeneralPurpose = GeneralPurpose::new(
    &BCRYPT,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// Whether this is a hash that a password can be checked against, and none of the texts that the old system put in
/// its place.
#[must_use]
pub fn is_real_bcrypt(hash: &str) -> bool {
    BcryptHash::parse(hash).is_some()
}

/// A hash in its parts.
pub(super) struct BcryptHash {
    cost: u32,
    salt: [u8; 16],
    digest: [u8; 23],
}

impl BcryptHash {
    /// Reads `$2b$12$` and 53 characters of salt and digest.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let rest = VERSIONS.iter().find_map(|version| text.strip_prefix(version))?;
        let (cost, rest) = rest.split_once('$')?;
        let digits = cost.len() == 2 && cost.bytes().all(|digit| digit.is_ascii_digit());
        let cost = cost.parse().ok().filter(|cost| digits && COSTS.contains(cost))?;
        let (salt, digest) = rest.split_at_checked(SALT)?;
        let decode = |part: &str| ALPHABET.decode(part).ok();
        Some(Self { cost, salt: decode(salt)?.try_into().ok()?, digest: decode(digest)?.try_into().ok()? })
    }

    /// Whether this is the password. What bcrypt cannot take is not: it ends at a NUL and at 72 bytes, and would take
    /// another password for the right one.
    pub(super) fn is_of(&self, password: &str) -> bool {
        let mut key = password.as_bytes().to_vec();
        if key.len() > LONGEST || key.contains(&0) {
            return false;
        }
        // The NUL at the end belongs to it, where there is room for one.
        key.push(0);
        key.truncate(LONGEST);
        let digest = bcrypt::bcrypt(self.cost, self.salt, &key);
        digest.first_chunk::<23>().is_some_and(|digest| equal(digest, &self.digest))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // Made by libxcrypt.
    const LEGACY: &str = "$2b$04$abcdefghijklmnopqrstuuqfuAqhLdQgVWgBIkuN2B/KNKiFWwsIm";
    const OF_72_BYTES: &str = "$2b$04$abcdefghijklmnopqrstuubzadhGtS2zEF.gu0yd0opP6cVzb.e0i";
    const OF_A: &str = "$2b$04$abcdefghijklmnopqrstuuMFdJu9yVgmagVAIC24fOZkaFqd3s9JC";
    const BEYOND_ASCII: &str = "$2b$04$abcdefghijklmnopqrstuumCQDjFMNvleZ39dZ3EvudYSaR6.tGZy";

    fn is_of(hash: &str, password: &str) -> bool {
        BcryptHash::parse(hash).unwrap().is_of(password)
    }

    #[test]
    fn a_real_hash_is_told_from_what_stood_in_its_place() {
        assert!(is_real_bcrypt(LEGACY));
        assert!(is_real_bcrypt(&LEGACY.replace("$04$", "$16$")));
        for not_real in [
            "",
            "temp_password",
            "$2b$12$dummy_hash_replace_with_real",
            &LEGACY.replace("$2b", "$2c"),
            &LEGACY.replace("$2b", "$2"),
            &LEGACY.replace("$04$", "$03$"),
            &LEGACY.replace("$04$", "$17$"),
            &LEGACY.replace("$04$", "$4$"),
            &LEGACY.replace("$04$", "$+4$"),
            &LEGACY.replace("$04$", "$004$"),
            &LEGACY.replace("abc", "ab_"),
            &LEGACY.replace("abc", "ab\u{e9}"),
            &LEGACY.replace("abc", "ab="),
            LEGACY.trim_end_matches('m'),
            &format!("{LEGACY}."),
            &format!(" {LEGACY}"),
            &format!("{LEGACY}\n"),
        ] {
            assert!(!is_real_bcrypt(not_real), "{not_real:?}");
        }
    }

    #[test]
    fn every_version_knows_its_password() {
        for version in ["2a", "2b", "2x", "2y"] {
            let hash = LEGACY.replace("2b", version);
            assert!(is_of(&hash, "legacy-password-1"), "{version}");
            assert!(!is_of(&hash, "legacy-password-2"), "{version}");
        }
        assert!(is_of(BEYOND_ASCII, "pass-w\u{f6}rd"));
        assert!(is_of(&LEGACY.replace("stuu", "stuv"), "legacy-password-1"), "a bit that stands for nothing");
    }

    #[test]
    fn what_bcrypt_cannot_take_is_not_the_password() {
        let longest = "x".repeat(72);
        assert!(is_of(OF_72_BYTES, &longest));
        assert!(!is_of(OF_72_BYTES, &format!("{longest}x")));
        assert!(is_of(OF_A, "a"));
        // To bcrypt it is the same, which repeats the password and the NUL behind it.
        assert!(!is_of(OF_A, "a\0a"));
        assert!(!is_of(OF_A, ""));
    }

    proptest! {
        #[test]
        fn whatever_is_real_can_be_checked(hash in "\\$2[abxy]\\$0[45]\\$[./A-Za-z0-9]{53}", password in ".{0,80}") {
            prop_assert!(is_real_bcrypt(&hash));
            is_of(&hash, &password);
        }
    }
}
