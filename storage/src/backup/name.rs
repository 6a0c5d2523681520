//! Names that may come from anywhere: what is not exactly one of ours is no name.

use std::path::Path;

use crate::checkpoint::{checkpoint_name, checkpoint_number};
use crate::files::Place;
use crate::journal::slot_number;

/// Longest id of a file.
const ID_BYTES_MAX: usize = 100;

/// True for the name that a data file of a backup has in a data directory: a journal file, a
/// segment or a checkpoint. So no name leads out of the directory or to a file of another kind.
pub(super) fn is_data_file(name: &str) -> bool {
    let place = slot_number(name).map(Place::Slot).or_else(|| Place::segment(name));
    let written = match (place, checkpoint_number(name)) {
        (Some(place), _) => place.path(Path::new("")).into_os_string().into_string().ok(),
        (None, Some(number)) => Some(checkpoint_name(number)),
        (None, None) => None,
    };
    // Numbers have more than one spelling; the only one of ours is how we write them.
    written.as_deref() == Some(name)
}

/// True for an id as the engine makes them: it can be the name of a file.
pub(super) fn is_id(id: &str) -> bool {
    let is_ours = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    id.len() <= ID_BYTES_MAX
        && id.bytes().all(is_ours)
        && id.starts_with(|first: char| first.is_ascii_lowercase())
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of lower-case hexadecimal digits.
pub(super) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_as_the_engine_writes_them_are_data_files() {
        for name in ["journal-000001", "segment-0000000000000012-3", "checkpoint-0000000000000001"]
        {
            assert!(is_data_file(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            "/etc/passwd",
            "../journal-000001",
            "journal-000001/../x",
            "journal-000001\0",
            "journal-+00001",
            "journal-1",
            "journal-000001.unfinished",
            "segment-0000000000000012-03",
            "segment-0000000000000012-+3",
            "segment-+000000000000012-3",
            "checkpoint-+000000000000001",
            "checkpoint-1",
            "meshlog.format",
            "meshlog.lock",
            "footer-0000000000000001",
            "reserve",
            "restore.unfinished",
        ] {
            assert!(!is_data_file(name), "{name}");
        }
    }

    #[test]
    fn an_id_is_always_a_plain_file_name() {
        assert!(is_id("journal-0000000000000007-00ff-8192"));
        for id in ["", "a/b", "..", ".a", "A", "7-a", "-a", "a.b", "a b", "a\n"] {
            assert!(!is_id(id), "{id:?}");
        }
        assert!(!is_id(&"a".repeat(ID_BYTES_MAX + 1)));
    }

    #[test]
    fn hexadecimal_digits_read_back() {
        assert_eq!(unhex::<3>(&hex(&[0, 0xab, 0xff])), Some([0, 0xab, 0xff]));
        assert_eq!(unhex::<3>("00ABff"), None);
        assert_eq!(unhex::<3>("00ab"), None);
    }
}
