//! The file that says what the directory is.

use super::source::Malformed;

/// Its name.
pub(crate) const FORMAT_FILE: &str = "meshlog.format";

/// The version of the format on disk that this code writes.
pub const FORMAT_VERSION: u32 = 3;

/// The oldest version that this code opens. It is of version [`FORMAT_VERSION`] from then on.
pub(crate) const FORMAT_VERSION_MIN: u32 = 1;

/// Version and feature bits of a directory, as three lines of text.
///
/// An unknown bit in `incompatible` means the directory cannot be opened, in `read_only` that it
/// cannot be written, in `compatible` nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DirectoryFormat {
    pub(crate) version: u32,
    pub(crate) compatible: u32,
    pub(crate) read_only: u32,
    pub(crate) incompatible: u32,
}

impl DirectoryFormat {
    pub(crate) const CURRENT: Self =
        Self { version: FORMAT_VERSION, compatible: 0, read_only: 0, incompatible: 0 };

    pub(crate) fn encode(&self) -> String {
        format!(
            "meshlog data directory\nversion {}\nfeatures {:08x} {:08x} {:08x}\n",
            self.version, self.compatible, self.read_only, self.incompatible
        )
    }

    pub(crate) fn decode(text: &[u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(text).map_err(|_| Malformed("not text"))?;
        let mut lines = text.lines();
        if lines.next() != Some("meshlog data directory") {
            return Err(Malformed("not the format file of Meshlog"));
        }
        let version = lines
            .next()
            .and_then(|line| line.strip_prefix("version "))
            .and_then(|number| number.parse().ok())
            .ok_or(Malformed("no version"))?;
        let bits = lines
            .next()
            .and_then(|line| line.strip_prefix("features "))
            .map(|line| line.split(' ').map(|word| u32::from_str_radix(word, 16)))
            .ok_or(Malformed("no features"))?
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| Malformed("features are not hexadecimal"))?;
        match bits[..] {
            [compatible, read_only, incompatible] => {
                Ok(Self { version, compatible, read_only, incompatible })
            }
            _ => Err(Malformed("not three words of features")),
        }
    }
}
