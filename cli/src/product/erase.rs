//! What to say when bytes were erased from the disk.

use meshlog_client::proto::Erased;

use crate::{output::Out, words};

/// Says what was done, if something was asked for.
pub(crate) fn tell(erased: Option<Erased>, out: &mut Out) {
    let Some(erased) = erased else { return };
    out.note(format_args!(
        "erased: no file of the broker holds a byte of it any more ({} bytes rewritten, {} bytes \
         overwritten with zeros); drives and backups may",
        words::count(erased.rewritten_bytes),
        words::count(erased.zeroed_bytes)
    ));
    if erased.unsplit_batches > 0 {
        out.note(format_args!(
            "except {} that begin before the new beginning and could not be split",
            words::counted(erased.unsplit_batches, "batch")
        ));
    }
    for file in erased.set_aside {
        out.note(format_args!("{file} is damaged and was set aside: nobody knows what is in it"));
    }
}
