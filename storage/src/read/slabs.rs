//! Memory that file reads go to: page-aligned slabs, used again when the last reader lets go.
//!
//! A fresh anonymous map costs a page fault for every 4 KiB, more than the read itself when the
//! bytes are in the page cache.

use std::io;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use memmap2::MmapMut;
use parking_lot::Mutex;

/// Slabs come in multiples of this.
const UNIT: usize = 256 << 10;
/// Free slabs kept, in bytes.
const FREE_BYTES_MAX: usize = 16 << 20;

/// Free slabs.
#[derive(Default)]
pub(crate) struct Slabs {
    free: Mutex<Free>,
}

#[derive(Default)]
struct Free {
    slabs: Vec<MmapMut>,
    bytes: usize,
}

/// One slab, of which the first `length` bytes are wanted.
pub(crate) struct Slab {
    map: Option<MmapMut>,
    length: usize,
    home: Weak<Slabs>,
}

impl Slabs {
    /// A slab of at least `length` bytes; what is in it is left over from its last use.
    pub(crate) fn take(self: &Arc<Self>, length: usize) -> io::Result<Slab> {
        let size = length.next_multiple_of(UNIT);
        let mut free = self.free.lock();
        let found = free.slabs.iter().position(|map| map.len() == size);
        let map = match found {
            Some(index) => {
                free.bytes -= size;
                free.slabs.swap_remove(index)
            }
            None => {
                drop(free);
                MmapMut::map_anon(size)?
            }
        };
        Ok(Slab { map: Some(map), length, home: Arc::downgrade(self) })
    }

    /// Gives the memory of free slabs back to the system.
    pub(crate) fn shrink(&self) {
        *self.free.lock() = Free::default();
    }

    fn give_back(&self, map: MmapMut) {
        let mut free = self.free.lock();
        if free.bytes + map.len() <= FREE_BYTES_MAX {
            free.bytes += map.len();
            free.slabs.push(map);
        }
    }
}

impl Slab {
    /// The bytes to read into.
    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        let length = self.length;
        self.map.as_mut().map_or(&mut [], |map| &mut map[..length])
    }

    /// The bytes, for any number of readers; the last one gives the slab back.
    pub(crate) fn share(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Slab {
    fn as_ref(&self) -> &[u8] {
        self.map.as_ref().map_or(&[], |map| &map[..self.length])
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        if let (Some(map), Some(home)) = (self.map.take(), self.home.upgrade()) {
            home.give_back(map);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slab_is_used_again_only_after_its_last_reader() {
        let slabs = Arc::new(Slabs::default());
        let mut first = slabs.take(1000).unwrap();
        first.bytes().fill(1);
        let shared = first.share();
        let slice = shared.slice(10..20);
        drop(shared);
        let mut second = slabs.take(1000).unwrap();
        second.bytes().fill(2);
        assert_eq!(slice[..], [1; 10]);
        let address = slice.as_ptr().addr() - 10;
        drop(slice);
        assert_eq!(slabs.take(500).unwrap().bytes().as_ptr().addr(), address);
    }
}
