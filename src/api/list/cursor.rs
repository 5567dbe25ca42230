//! Cursors: the sort keys of a page's last row, sealed for one list, tenant, filter and sort.
//!
//! Sealed and not only signed, since a sort key may be a customer's name, and a cursor ends up in addresses and logs.
//! AES-256-GCM-SIV, so that chance need not be good for many pages under one key (RFC 8452).

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::api::Problem;

/// The sort keys as PostgreSQL writes them; none is null.
pub(in crate::api) type Keys = Vec<Option<String>>;

/// Makes the cursor that continues after these keys, good for this context only.
pub(in crate::api) fn seal(key: &[u8; 32], context: &[u8], keys: &[Option<String>]) -> Result<String, Problem> {
    let failed = |_| Problem::internal("cannot seal a cursor");
    let mut bytes = serde_json::to_vec(keys).map_err(Problem::internal)?;
    let sealing = RandomizedNonceKey::new(&AES_256_GCM_SIV, key).map_err(failed)?;
    let nonce = sealing.seal_in_place_append_tag(Aad::from(context), &mut bytes).map_err(failed)?;
    bytes.extend_from_slice(nonce.as_ref());
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Reads a cursor back.
///
/// # Errors
/// `invalid_cursor` for one that was made in another context, or not by us.
pub(in crate::api) fn open(key: &[u8; 32], context: &[u8], cursor: &str) -> Result<Keys, Problem> {
    let opened = || {
        let mut bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let nonce = bytes.split_off(bytes.len().checked_sub(NONCE_LEN)?);
        let nonce = Nonce::try_assume_unique_for_key(&nonce).ok()?;
        let opening = RandomizedNonceKey::new(&AES_256_GCM_SIV, key).ok()?;
        let plain = opening.open_in_place(nonce, Aad::from(context), &mut bytes).ok()?;
        serde_json::from_slice(plain).ok()
    };
    opened().ok_or_else(Problem::invalid_cursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_opens_where_it_was_made_and_nowhere_else() {
        let (key, keys) = ([7; 32], vec![Some("Grace Hopper".to_owned()), None]);
        let cursor = seal(&key, b"leads TNT-001", &keys).unwrap();
        assert_eq!(open(&key, b"leads TNT-001", &cursor).unwrap(), keys);
        assert!(open(&key, b"leads TNT-002", &cursor).is_err());
        assert!(open(&[8; 32], b"leads TNT-001", &cursor).is_err());
        for odd in ["", "x", "AAAA", cursor.get(1..).unwrap(), &format!("{cursor}A"), &cursor.to_lowercase()] {
            assert!(open(&key, b"leads TNT-001", odd).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn a_cursor_tells_nothing_of_the_row() {
        let cursor = seal(&[7; 32], b"", &[Some("Grace Hopper".to_owned())]).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(cursor).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("Grace"));
    }
}
