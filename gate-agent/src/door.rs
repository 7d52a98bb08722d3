//! Doors: a guard that accepts a signed order at most once, and the relay behind it.
//!
//! A [`ReleasePermit`] is the only thing that a [`Door`] accepts; only [`DoorGuard::admit`] makes
//! one, it cannot be copied, and releasing consumes it.

mod guard;
mod nonces;
mod simulated;

pub use guard::{DoorGuard, Expected, GuardError, OrderRejection, ReleasePermit};
pub use nonces::{NonceError, UsedNonces};
pub use simulated::SimulatedDoor;

use sallyport_domain::Timestamp;

/// The relay did not do what it was told.
#[derive(Debug, thiserror::Error)]
#[error("the door did not answer: {0}")]
pub struct DoorFault(pub String);

/// One door's relay.
pub trait Door: Send {
    /// Releases the door once.
    ///
    /// # Errors
    /// The relay did not confirm; whether the door moved is unknown.
    fn release(&mut self, permit: ReleasePermit, at: Timestamp) -> Result<(), DoorFault>;
}
