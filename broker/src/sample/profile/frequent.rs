//! The most frequent values, in bounded memory: the space-saving algorithm (Metwally, Agrawal,
//! El Abbadi 2005). A value that makes up more than 1/32 of all is certainly among those kept.

const KEPT: usize = 32;

/// Counts values by their hash and keeps the text of some.
#[derive(Clone, Debug, Default)]
pub(super) struct Frequent(Vec<Kept>);

#[derive(Clone, Debug)]
struct Kept {
    hash: u64,
    count: u64,
    text: Box<str>,
}

impl Frequent {
    /// One more value; `text` is asked for only if it is to be kept.
    pub(super) fn add(&mut self, hash: u64, text: impl FnOnce() -> String) {
        if let Some(known) = self.0.iter_mut().find(|kept| kept.hash == hash) {
            known.count += 1;
            return;
        }
        if self.0.len() < KEPT {
            self.0.push(Kept { hash, count: 1, text: text().into() });
        } else if let Some(rarest) = self.0.iter_mut().min_by_key(|kept| kept.count) {
            *rarest = Kept { hash, count: rarest.count + 1, text: text().into() };
        }
    }

    /// The most frequent first.
    pub(super) fn top(mut self, most: usize) -> Vec<String> {
        self.0.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.text.cmp(&b.text)));
        self.0.into_iter().take(most).map(|kept| kept.text.into()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequent_values_are_found_among_many_that_occur_once() {
        let mut frequent = Frequent::default();
        for n in 0..10_000_u64 {
            frequent.add(1_000_000 + n, || format!("once {n}"));
            for often in 0..5 {
                if n % (often + 2) == 0 {
                    frequent.add(often, || format!("often {often}"));
                }
            }
        }
        let top: Vec<String> = (0..5).map(|often| format!("often {often}")).collect();
        assert_eq!(frequent.top(5), top);
    }

    #[test]
    fn equally_frequent_values_come_by_their_text() {
        let mut frequent = Frequent::default();
        for text in ["b", "a", "c", "c"] {
            frequent.add(u64::from(text.as_bytes()[0]), || text.to_owned());
        }
        assert_eq!(frequent.top(2), ["c", "a"]);
    }
}
