//! Bytes of Avro values, read without trust.
//!
//! Not with the library: a value of a recursive type may nest as deeply as it is long, an array of nulls
//! may have more items than there is memory, and neither may end the broker.

use super::record_check::MAX_VALUE_DEPTH;

/// The rest of a value.
pub(crate) struct AvroInput<'a> {
    pub(crate) rest: &'a [u8],
    /// Values that may still come; items may take no byte at all.
    visits: usize,
}

impl<'a> AvroInput<'a> {
    /// The bytes of one value.
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, visits: 16 * bytes.len() + 16_384 }
    }

    /// One value more, at this depth; `None` beyond the bounds.
    pub(crate) fn visit(&mut self, depth: usize) -> Option<()> {
        // A union takes a level of its own.
        if depth > 2 * MAX_VALUE_DEPTH {
            return None;
        }
        self.visits = self.visits.checked_sub(1)?;
        Some(())
    }

    /// So many bytes.
    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    /// A number of variable length.
    pub(crate) fn long(&mut self) -> Option<i64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            if shift == 63 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        None
    }

    /// Bytes after their number.
    pub(crate) fn counted(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.long()?).ok()?;
        self.take(length)
    }

    /// The number of items of the next block of an array or map; `Some(None)` at the end.
    pub(crate) fn block(&mut self) -> Option<Option<u64>> {
        match self.long()? {
            0 => Some(None),
            count if count > 0 => Some(Some(count.unsigned_abs())),
            count => {
                // A negative count is followed by the size of the block.
                self.long()?;
                self.visit(0)?;
                Some(Some(count.unsigned_abs()))
            }
        }
    }
}
