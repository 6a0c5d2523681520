//! What can be left out, to see that a test notices.
//!
//! Only a build with `--cfg sabotage` (`just sabotage`) can leave anything out; in every other one
//! [`skips`] is `false` and nothing of this is in the program. Each mechanism has a name, used
//! where it works, and a row in `tests/sabotage/list.rs`; a test compares the two.

use std::io;

/// Whether this mechanism is left out.
#[cfg(not(sabotage))]
pub(crate) const fn skips(_mechanism: &str) -> bool {
    false
}

/// Syncs, unless that is left out.
pub(crate) fn barrier(mechanism: &str, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    if skips(mechanism) { Ok(()) } else { sync() }
}

#[cfg(sabotage)]
pub use switched::leave_out;
#[cfg(sabotage)]
pub(crate) use switched::skips;

#[cfg(sabotage)]
mod switched {
    use std::cell::Cell;

    thread_local! {
        static LEFT_OUT: Cell<&'static str> = const { Cell::new("") };
    }

    /// From now on, in this thread, this mechanism is left out; an empty name: none.
    pub fn leave_out(mechanism: &'static str) {
        LEFT_OUT.set(mechanism);
    }

    /// Whether this mechanism is left out.
    pub(crate) fn skips(mechanism: &str) -> bool {
        LEFT_OUT.get() == mechanism
    }
}
