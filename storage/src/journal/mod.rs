//! The journal: one log for all streams, a sequence of files.
//!
//! ```text
//!  append ─► reservation ─► room in the open group ─► copy + checksum
//!              (lock)             (no lock, many at once)
//!                                     │
//!  committer  ─ takes the group ─► write ─► sync ─► apply ─► publish LSN ─► answer
//!
//!  file 7                                   file 8
//!  ┌────────┬───────┬───────┬─────────────┐ ┌────────┬───────┬───────┬─ ─ ─
//!  │ header │ LSN 41│ LSN 42│ 43: seal,   │ │ header │ LSN 44│ LSN 45│
//!  │  (×2)  │ group │ group │ footer of 7 │ │  (×2)  │ group │ group │
//!  └────────┴───────┴───────┴─────────────┘ └────────┴───────┴───────┴─ ─ ─
//! ```
//!
//! What an acknowledgement means. Writes and syncs strictly alternate: group L+1 is written only
//! after the sync of group L returned. So a group on disk proves every group before it durable,
//! and `SYNCED` is answered only after the sync of the entry's own group. Nothing is readable
//! before that either. A failed write or sync is final: entries of that group are `Unknown`,
//! later ones `No`, and the journal refuses appends until it is opened again.
//!
//! Lock order: reservation, then state, then the map of streams, then one stream. The committer
//! holds no lock while it writes and syncs.

mod arena;
mod committer;
mod ends;
mod group;
mod reservation;
mod ring;
mod slots;

pub(crate) use committer::{Committer, CurrentFile, FileProgress, NextFile, seal_bytes};
pub(crate) use group::{Done, refuse};
pub(crate) use reservation::{Refusal, Reservation, Reserved, Tail, synced};
pub(crate) use ring::Ring;
pub(crate) use slots::{Slot, SlotOnDisk, Slots, slot_number, slot_path, write_zeros};
