//! What goes wrong, and when.

use std::io;
use std::time::Duration;

/// What a crash keeps of what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashPlan {
    /// Nothing.
    KeepNothing,
    /// Everything.
    KeepAll,
    /// Of each file the sectors up to a point from this seed, and the first changes of names: a
    /// disk that writes in order and was cut short.
    InOrder(u64),
    /// Each sector and each name by a coin from this seed.
    Random(u64),
}

/// What goes wrong in one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails and does nothing. A sync that fails forgets what it should have made durable: the
    /// next one succeeds, and the bytes are gone after a crash.
    Error(io::ErrorKind),
    /// Half of a write or of a read is done, and the call that asks for the rest fails. Other calls
    /// fail at once.
    Short(io::ErrorKind),
    /// Half of a write or of a read is done; the rest is when it is asked for.
    Partial,
    /// A write fails, and any of its sectors (by this seed) are changed all the same.
    Torn(io::ErrorKind, u64),
    /// A signal came: it must be called again.
    Interrupted,
    /// It takes this long, by the clock given to [`super::SimulatedDisk::with_clock`].
    Slow(Duration),
    /// One sector of a write (by this seed) keeps what it held, and nobody is told.
    Stale(u64),
    /// One sector of a write (by this seed) arrives at another place of the file as well, and
    /// nobody is told.
    Misdirected(u64),
    /// A bit of what is read (by this seed) is flipped on its way.
    Flipped(u64),
}
