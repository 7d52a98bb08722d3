//! What the agent is given from outside: time and randomness.

use std::sync::Arc;

use sallyport_domain::{Timestamp, TransactionId};

use crate::clock::Clock;

/// Random bytes; the real source is the operating system's.
pub trait Random: Send + Sync {
    /// Fills the buffer with unpredictable bytes.
    ///
    /// # Errors
    /// The source failed; nothing may go on without it.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError>;
}

/// The operating system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gave no random bytes; restart the machine before using this gate")]
pub struct RandomError;

/// The operating system's random source.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomError> {
        getrandom::fill(buffer).map_err(|_| RandomError)
    }
}

/// Time and randomness, passed to everything that needs them.
#[derive(Clone)]
pub struct Deps {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

impl Deps {
    /// A fresh transaction id and door nonce (16 bytes in hexadecimal).
    ///
    /// # Errors
    /// No random bytes.
    pub fn new_transaction(&self, now: Timestamp) -> Result<(TransactionId, String), RandomError> {
        let mut id = [0; 10];
        let mut nonce = [0; 16];
        self.random.fill(&mut id)?;
        self.random.fill(&mut nonce)?;
        Ok((TransactionId::new(now, id), hex::encode(nonce)))
    }
}
