//! A set of documents by number.

/// One bit per document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DocSet {
    words: Vec<u64>,
}

impl DocSet {
    pub(super) fn insert(&mut self, doc: u32) {
        let at = doc as usize / 64;
        if at >= self.words.len() {
            self.words.resize(at + 1, 0);
        }
        self.words[at] |= 1 << (doc % 64);
    }

    pub(super) fn remove(&mut self, doc: u32) {
        if let Some(word) = self.words.get_mut(doc as usize / 64) {
            *word &= !(1 << (doc % 64));
        }
    }

    pub(super) fn contains(&self, doc: u32) -> bool {
        self.words.get(doc as usize / 64).is_some_and(|word| word >> (doc % 64) & 1 == 1)
    }

    /// Adds what is in `other`.
    pub(super) fn add_all(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    /// Number of documents that are in `other` too.
    pub(super) fn count_in(&self, other: &Self) -> usize {
        let both = self.words.iter().zip(&other.words);
        both.map(|(word, other)| (word & other).count_ones() as usize).sum()
    }

    /// Drops everything, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.words.clear();
    }

    /// Keeps what is in `other` too.
    pub(super) fn keep(&mut self, other: &Self) {
        self.words.truncate(other.words.len());
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= other;
        }
    }

    /// Drops what is in `other`.
    pub(super) fn drop_all(&mut self, other: &Self) {
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word &= !other;
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let mut word = *word;
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros())?;
                word &= word - 1;
                Some(at as u32 * 64 + bit)
            })
        })
    }
}

impl Extend<u32> for DocSet {
    fn extend<I: IntoIterator<Item = u32>>(&mut self, docs: I) {
        docs.into_iter().for_each(|doc| self.insert(doc));
    }
}
