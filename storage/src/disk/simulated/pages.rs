//! The bytes of a file, in pages that copies share until one of them is written.

use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, OnceLock};

use super::SECTOR;

pub(super) const PAGE: usize = 4096;
pub(super) const SECTORS: usize = PAGE / SECTOR;
static ZEROS: [u8; PAGE] = [0; PAGE];

/// Bytes; pages that were never written take no memory.
#[derive(Clone, Default)]
pub(super) struct Pages {
    pages: Vec<Option<Arc<Page>>>,
    length: usize,
}

struct Page {
    bytes: [u8; PAGE],
    hash: OnceLock<u64>,
}

impl Clone for Page {
    /// For a change, so without the hash.
    fn clone(&self) -> Self {
        Self { bytes: self.bytes, hash: OnceLock::new() }
    }
}

impl Pages {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Makes it longer, with zeros.
    pub(super) fn grow(&mut self, length: usize) {
        if self.length < length {
            self.length = length;
            self.pages.resize(length.div_ceil(PAGE), None);
        }
    }

    pub(super) fn read(&self, position: usize, buffer: &mut [u8]) {
        let mut done = 0;
        while done < buffer.len() {
            let (page, at) = ((position + done) / PAGE, (position + done) % PAGE);
            let length = (PAGE - at).min(buffer.len() - done);
            buffer[done..done + length].copy_from_slice(&self.page(page)[at..at + length]);
            done += length;
        }
    }

    /// Within the length.
    pub(super) fn write(&mut self, position: usize, bytes: &[u8]) {
        assert!(position + bytes.len() <= self.length, "the file was made to fit");
        let mut done = 0;
        while done < bytes.len() {
            let (page, at) = ((position + done) / PAGE, (position + done) % PAGE);
            let length = (PAGE - at).min(bytes.len() - done);
            let part = &bytes[done..done + length];
            if self.page(page)[at..at + length] != *part {
                let empty = || Arc::new(Page { bytes: ZEROS, hash: OnceLock::new() });
                let page = Arc::make_mut(self.pages[page].get_or_insert_with(empty));
                page.hash = OnceLock::new();
                page.bytes[at..at + length].copy_from_slice(part);
            }
            done += length;
        }
    }

    /// Takes over these sectors (a bit each) of a page of another file at the same place.
    pub(super) fn take_sectors(&mut self, from: &Self, page: usize, sectors: u8) {
        let end = (page * PAGE + PAGE).min(from.length);
        for sector in (0..SECTORS).filter(|sector| sectors & 1 << sector != 0) {
            let start = page * PAGE + sector * SECTOR;
            let until = (start + SECTOR).min(end);
            if start < until {
                self.grow(until);
                self.write(start, &from.page(page)[start % PAGE..start % PAGE + until - start]);
            }
        }
        // The same bytes are kept once.
        if self.pages.len() > page && self.page(page) == from.page(page) {
            self.pages[page] = from.pages[page].clone();
        }
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length];
        self.read(0, &mut bytes);
        bytes
    }

    pub(super) fn hash(&self, hasher: &mut DefaultHasher) {
        hasher.write_usize(self.length);
        for page in &self.pages {
            hasher.write_u64(page.as_ref().map_or(0, |page| page.hash()));
        }
    }

    fn page(&self, page: usize) -> &[u8; PAGE] {
        self.pages[page].as_ref().map_or(&ZEROS, |page| &page.bytes)
    }
}

impl Page {
    /// Zero for a page of zeros, as for one never written.
    fn hash(&self) -> u64 {
        *self.hash.get_or_init(|| {
            if self.bytes == ZEROS {
                return 0;
            }
            let mut hasher = DefaultHasher::new();
            hasher.write(&self.bytes);
            hasher.finish()
        })
    }
}

impl From<Vec<u8>> for Pages {
    fn from(bytes: Vec<u8>) -> Self {
        let mut pages = Self::default();
        pages.grow(bytes.len());
        pages.write(0, &bytes);
        pages
    }
}
