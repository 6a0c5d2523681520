//! Backup: a consistent point in time taken while appends, merges and retention go on, and the way
//! back from it to a data directory.
//!
//! ```text
//!  under the committer's lock:  the file being written, sealed if a quarter of it is used
//!                               a checkpoint of exactly this moment, in memory
//!                               every file it names, pinned
//!  afterwards, at any pace:     checkpoint ─► finished files ─► the file being written, up to its
//!                               durable end at that moment
//! ```
//!
//! What was acknowledged before the point was taken is in it; what was reserved later is not; no
//! group is in it by half. Finished files never change, and neither do the durable bytes of the
//! one being written, so a file is named by what it is (number, salt, length): whoever has a file
//! of that name already has its bytes, and only the others are read.
//!
//! A pinned file is neither reused nor removed, whatever merges and retention do meanwhile. It is
//! let go as soon as it was read, or with the [`BackupPoint`], or by [`BackupPins::let_go`], which
//! its owner must call when nobody reads on. While somebody waits for space, the engine itself
//! lets go of points that keep files nobody else needs.
//!
//! What was read becomes a [`BackupFolder`] or an archive, described by a [`BackupManifest`], and
//! a data directory again by a [`Restore`].

mod folder;
mod manifest;
mod name;
mod pins;
mod point;
mod reader;
mod restore;

pub use folder::{BackupFolder, BackupWriter};
pub use manifest::{BackupFile, BackupManifest, MANIFEST_NAME, StoredBackupFile};
pub use pins::BackupPins;
pub(crate) use pins::LivePins;
pub use point::BackupPoint;
pub use reader::{BackupReader, ReadBack};
pub use restore::Restore;
pub(crate) use restore::UNFINISHED_RESTORE;
