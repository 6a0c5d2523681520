//! The audit log as it is written beside changes, read and proven.
//!
//! ```text
//! a change ──────► its record in the same entry (`catalogue/audit.rs`) ─┐
//! a refused call ► Denials ─ some at once, a flood as counts per minute ┴► meshlog.audit, a chain
//!                                              list ◄─ filters ──────────┘   └─ verify: does it hold?
//! ```
//!
//! Records hold names, etags and values of the catalogue; never what a record of a product holds,
//! and never what somebody proves who it is with.

mod chain;
mod denials;
mod listing;
mod reading;
mod verify;

#[cfg(test)]
mod tests;

pub use chain::{Break, HASH_HEADER, Link, Walk, Walked, hash_of};
pub(crate) use denials::Denials;
pub use denials::{Denial, Refused};

use crate::Caller;
use crate::broker::Broker;
use crate::catalogue::{Act, AuditKind, Told};
use crate::error::Result;
use crate::time::proto_time;

impl Broker {
    /// Writes down that somebody did something with the broker as a whole, durable when it answers:
    /// `action` is the name of the call in snake case, `what` what it was about.
    ///
    /// # Errors
    /// Those of the engine; then it must not be done either.
    pub(crate) async fn tell_audit(
        &self,
        caller: &Caller,
        action: &'static str,
        what: &str,
    ) -> Result<()> {
        let act = Act::new(action, AuditKind::Broker, what);
        let time = proto_time(self.storage().now());
        self.catalogue().tell(&[Told { caller, act: &act, time }]).await
    }
}
