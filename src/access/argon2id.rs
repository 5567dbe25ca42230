//! Argon2id in memory that is used again: a hash fills 19 MiB, and blocks of that size, taken and freed by one thread after
//! another, are what an allocator keeps most of.
//!
//! A buffer that is given back is kept for whoever waits for a turn; if nobody does, it is overwritten and freed, so that
//! a server where nobody signs in holds none.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::password_hash::{Error, Result};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroize as _;

/// The parameters are Argon2's defaults, m = 19 456 KiB, t = 2, p = 1; a test of the passwords holds them to that.
const PARAMS: Params = Params::DEFAULT;

/// The memory of one hash.
type Buffer = Vec<Block>;

/// The memory that is kept between two hashes.
#[derive(Clone, Default)]
pub(super) struct Memory(Arc<Mutex<Kept>>);

/// No more buffers are free than turns wait.
#[derive(Default)]
struct Kept {
    free: Vec<Buffer>,
    waiting: usize,
    #[cfg(test)]
    made: usize,
}

/// The right to hash or check once; a buffer is kept for it until it is used or dropped.
pub(super) struct Turn(Memory);

impl Drop for Turn {
    fn drop(&mut self) {
        let mut kept = self.0.kept();
        kept.waiting = kept.waiting.saturating_sub(1);
        let surplus = kept.free.len().saturating_sub(kept.waiting);
        let freed: Vec<Buffer> = kept.free.drain(..surplus).collect();
        drop(kept);
        freed.into_iter().for_each(forget);
    }
}

impl Turn {
    /// The PHC string of a password.
    pub(super) fn hash(self, password: &[u8], salt: &[u8]) -> Result<String> {
        let salt = Salt::new(salt)?;
        let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
        let hash = self.output(Argon2::new(algorithm, version, PARAMS), password, &salt)?;
        let phc = PasswordHash {
            algorithm: algorithm.ident(),
            version: Some(version.into()),
            params: ParamsString::try_from(&PARAMS)?,
            salt: Some(salt),
            hash: Some(hash),
        };
        Ok(phc.to_string())
    }

    /// Whether that is the PHC string of this password, by the parameters that it names.
    pub(super) fn verify(self, password: &[u8], phc: &str) -> Result<bool> {
        let phc = PasswordHash::new(phc)?;
        let algorithm = Algorithm::try_from(phc.algorithm.as_str())?;
        let version = phc.version.map(Version::try_from).transpose()?.unwrap_or_default();
        let (Some(salt), Some(expected)) = (&phc.salt, &phc.hash) else { return Ok(false) };
        let argon2 = Argon2::new(algorithm, version, Params::try_from(&phc)?);
        // Outputs are compared in constant time.
        Ok(self.output(argon2, password, salt)? == *expected)
    }

    fn output(self, argon2: Argon2<'_>, password: &[u8], salt: &[u8]) -> Result<Output> {
        let length = argon2.params().output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN);
        let mut bytes = [0; Output::MAX_LENGTH];
        let out = bytes.get_mut(..length).ok_or(Error::OutputSize)?;
        let memory = self.0.clone();
        let mut buffer = self.buffer(argon2.params().block_count())?;
        let hashed = argon2.hash_password_into_with_memory(password, salt, out, &mut buffer);
        memory.give_back(buffer);
        hashed?;
        Output::new(out).map_err(Error::from)
    }

    /// So many blocks, with whatever the last hash has left in them: the first pass writes before it reads.
    fn buffer(self, blocks: usize) -> Result<Buffer> {
        let mut kept = self.0.kept();
        let used = kept.free.pop();
        #[cfg(test)]
        {
            kept.made += usize::from(used.is_none());
        }
        drop(kept);
        let mut buffer = used.unwrap_or_default();
        if let Some(missing) = blocks.checked_sub(buffer.len()) {
            buffer.try_reserve_exact(missing).map_err(|_| Error::OutOfMemory)?;
            buffer.resize(blocks, Block::new());
        }
        Ok(buffer)
    }
}

impl Memory {
    /// A turn of somebody who is going to wait for it.
    pub(super) fn turn(&self) -> Turn {
        self.kept().waiting += 1;
        Turn(self.clone())
    }

    fn give_back(&self, buffer: Buffer) {
        let mut kept = self.kept();
        // A hash that names other parameters than ours needs another size.
        if kept.free.len() < kept.waiting && buffer.len() == PARAMS.block_count() {
            kept.free.push(buffer);
        } else {
            drop(kept);
            forget(buffer);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is left does not tell the password, but guesses could be tried on it at less than the price of a hash.
fn forget(mut buffer: Buffer) {
    buffer.zeroize();
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: &[u8] = b"sixteen bytes  .";

    impl Memory {
        /// Buffers that are kept for those who wait.
        pub(in crate::access) fn free(&self) -> usize {
            self.kept().free.len()
        }

        /// Buffers that were ever made.
        pub(in crate::access) fn made(&self) -> usize {
            self.kept().made
        }
    }

    #[test]
    fn memory_that_was_used_gives_the_hash_that_new_memory_gives() {
        let memory = Memory::default();
        let next = memory.turn();
        let other = memory.turn().hash(b"any harbour, any storm", SALT).unwrap();
        assert_eq!((memory.free(), memory.made()), (1, 1));
        let again = next.hash(b"violet-trams", SALT).unwrap();
        assert_eq!((memory.free(), memory.made()), (0, 1));
        assert_ne!(again, other);
        assert_eq!(again, Memory::default().turn().hash(b"violet-trams", SALT).unwrap());
        // what the crate makes of it
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, PARAMS);
        let theirs = argon2::PasswordHasher::hash_password_with_salt(&argon2, b"violet-trams", SALT).unwrap();
        assert_eq!(again, theirs.to_string());
    }

    #[test]
    fn a_hash_is_checked_by_the_parameters_that_it_names() {
        for (params, version) in [((64, 3, 2, Some(16)), Version::V0x10), ((32 * 1024, 1, 1, None), Version::V0x13)] {
            let (m, t, p, length) = params;
            let argon2 = Argon2::new(Algorithm::Argon2id, version, Params::new(m, t, p, length).unwrap());
            let phc = argon2::PasswordHasher::hash_password_with_salt(&argon2, b"violet-trams", SALT).unwrap();
            let memory = Memory::default();
            let next = memory.turn();
            assert!(memory.turn().verify(b"violet-trams", &phc.to_string()).unwrap());
            assert!(!memory.turn().verify(b"violet-tram", &phc.to_string()).unwrap());
            assert_eq!(memory.free(), 0, "memory of another size is not kept");
            drop(next);
        }
    }

    #[test]
    fn no_memory_is_kept_for_whoever_gave_up_waiting() {
        let memory = Memory::default();
        let (first, second) = (memory.turn(), memory.turn());
        memory.turn().hash(b"violet-trams", SALT).unwrap();
        drop(first);
        assert_eq!(memory.free(), 1);
        drop(second);
        assert_eq!(memory.free(), 0);
    }
}
