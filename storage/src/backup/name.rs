//! Names that may come from anywhere: what is not exactly one of ours is no name.

use std::path::Path;

use crate::checkpoint::{checkpoint_name, checkpoint_number};
use crate::files::Place;
use crate::journal::slot_number;

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

/// True for an id as the engine makes them. It can be the name of a file, and no file that somebody
/// else made has such a name by chance.
pub(super) fn is_id(id: &str) -> bool {
    let is_number = |text: &str, digits: std::ops::RangeInclusive<usize>| {
        digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let is_salt = |text: &str| unhex::<16>(text).is_some();
    match id.split('-').collect::<Vec<_>>()[..] {
        ["journal", number, salt] => is_number(number, 16..=20) && is_salt(salt),
        ["journal", number, salt, "to", bytes] => {
            is_number(number, 16..=20) && is_salt(salt) && is_number(bytes, 1..=20)
        }
        ["segment", number, part, salt] => {
            is_number(number, 16..=20) && is_number(part, 1..=10) && is_salt(salt)
        }
        ["checkpoint", number, sum] => is_number(number, 16..=20) && unhex::<32>(sum).is_some(),
        _ => false,
    }
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
    fn only_ids_as_the_engine_makes_them_are_ids() {
        let (salt, sum) = ("0f".repeat(16), "a5".repeat(32));
        let of = |pattern: &str| pattern.replace("SALT", &salt).replace("SUM", &sum);
        for id in [
            "journal-0000000000000007-SALT",
            "journal-0000000000000007-SALT-to-8192",
            "segment-0000000000000007-0-SALT",
            "checkpoint-0000000000000007-SUM",
        ] {
            assert!(is_id(&of(id)), "{id}");
        }
        for id in [
            "",
            "notes",
            "src",
            "..",
            "a/b",
            "journal-000001",
            "journal-7-SALT",
            "journal-+000000000000007-SALT",
            "journal-0000000000000007-SALT-to-",
            "journal-0000000000000007-SALT-to-../x",
            "journal-0000000000000007-SALT-",
            "journal-0000000000000007-SALT\n",
            "Journal-0000000000000007-SALT",
            "segment-0000000000000007-SALT",
            "segment-0000000000000007-../0-SALT",
            "checkpoint-0000000000000007-SALT",
            "checkpoint-0000000000000001",
            "meshlog.lock",
        ] {
            assert!(!is_id(&of(id)), "{id}");
        }
    }

    #[test]
    fn hexadecimal_digits_read_back() {
        assert_eq!(unhex::<3>(&hex(&[0, 0xab, 0xff])), Some([0, 0xab, 0xff]));
        assert_eq!(unhex::<3>("00ABff"), None);
        assert_eq!(unhex::<3>("00ab"), None);
    }
}
