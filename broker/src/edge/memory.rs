//! One budget of memory for what is on its way: connections, requests before they are admitted,
//! answers before clients read them.
//!
//! ```text
//! budget (a quarter of the memory of the machine or container, unless set)
//!   ├─ a quarter: connections    each pays what it costs for as long as it is open; without room it
//!   │                            is closed at once, or takes the place of one that says nothing
//!   ├─ three eighths: requests   room for a message is taken before its bytes are read, and given
//!   │                            back when the append is admitted or the call is over; without room:
//!   │                            OVERLOADED. An eighth of it is for small ones alone
//!   └─ three eighths: answers    a frame counts until the transport has taken it off (`answers.rs`);
//!                                without room calls wait, and clients that do not read are cut off
//! ```
//!
//! What the log engine holds (admission, ring, caches) has bounds of its own, see `StorageConfig`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answers::Answers;
use crate::config::EdgeConfig;
use crate::error::{Error, Reason};

/// What room is counted in: also the least that a call costs.
const UNIT: usize = 1 << 10;

/// A request up to this size is small.
const SMALL: usize = 64 << 10;

/// What a connection costs before it has any call: its task, the buffers and tables of HTTP/2.
pub(super) const CONNECTION: usize = 48 << 10;

/// What TLS adds to that.
pub(super) const TLS: usize = 32 << 10;

/// The least that a connection may send before it is read, as HTTP/2 has it.
const WINDOW: u32 = 64 << 10;

/// A client that is told to come back does so after this time.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// The budget without a setting and without any knowledge of the machine.
const FALLBACK: usize = 1 << 30;

/// The budget of one broker.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Room for connections, in units.
    pub(super) connections: Arc<Semaphore>,
    /// Room for requests, in units.
    requests: Arc<Semaphore>,
    /// Room for small requests alone, so that large ones which do not arrive leave them some.
    small: Arc<Semaphore>,
    /// Room for answers.
    pub(super) answers: Arc<Answers>,
    sizes: [usize; 3],
}

/// Room for requests; given back when dropped.
#[derive(Debug)]
pub(super) struct Room(Vec<OwnedSemaphorePermit>);

impl Room {
    /// Adds more to it, also of another part.
    pub(super) fn merge(&mut self, more: Self) {
        for permit in more.0 {
            let same = |held: &&mut OwnedSemaphorePermit| {
                Arc::ptr_eq(held.semaphore(), permit.semaphore())
            };
            match self.0.iter_mut().find(same) {
                Some(held) => held.merge(permit),
                None => self.0.push(permit),
            }
        }
    }

    /// How many bytes it is for.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(OwnedSemaphorePermit::num_permits).sum::<usize>() * UNIT
    }
}

/// How full a part of the budget is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    /// `connections`, `requests` or `answers`.
    pub(crate) part: &'static str,
    /// Bytes in use.
    pub(crate) used: usize,
    /// Bytes there are.
    pub(crate) limit: usize,
}

impl Memory {
    /// With these settings.
    pub(crate) fn new(config: &EdgeConfig) -> Arc<Self> {
        let budget = match config.memory.as_usize() {
            0 => machine().map_or(FALLBACK, |all| all / 4),
            bytes => bytes,
        };
        let room = |bytes: usize| (bytes / UNIT).clamp(1, 1 << 30);
        let parts = [budget / 4, budget / 64 * 21, budget / 64 * 3].map(room);
        let [connections, requests, small] = parts.map(|units| Arc::new(Semaphore::new(units)));
        let patience = config.stalled_reader_timeout.into();
        let answers = Answers::new(budget / 8 * 3, patience);
        Arc::new(Self {
            connections,
            requests,
            small,
            answers,
            sizes: parts.map(|units| units * UNIT),
        })
    }

    /// Room for a request of so many bytes, if there is some now.
    pub(super) fn room(&self, bytes: usize) -> Option<Room> {
        let small = || (bytes <= SMALL).then(|| take(&self.small, bytes)).flatten();
        take(&self.requests, bytes).or_else(small)
    }

    /// Room for what nobody has read yet, if there is some now; that of small requests is not touched.
    pub(super) fn room_for_unread(&self, bytes: usize) -> Option<Room> {
        take(&self.requests, bytes)
    }

    /// Room for a message of a stream, which may wait for it.
    pub(super) async fn wait_for_room(requests: Arc<Semaphore>, bytes: usize) -> Option<Room> {
        let permit = requests.acquire_many_owned(units(bytes)).await.ok()?;
        Some(Room(vec![permit]))
    }

    /// What [`Memory::wait_for_room`] waits on.
    pub(super) fn requests(&self) -> Arc<Semaphore> {
        Arc::clone(&self.requests)
    }

    /// What one connection may send before it is read: at most an eighth of the room of requests.
    pub(super) fn window(&self) -> u32 {
        u32::try_from(self.sizes[1] / 8).unwrap_or(u32::MAX).max(WINDOW)
    }

    /// How full each part is.
    pub(crate) fn levels(&self) -> [Level; 3] {
        let free = |of: &Semaphore| of.available_permits() * UNIT;
        let [connections, requests, small] = self.sizes;
        let (answers, answers_limit) = self.answers.level();
        let level =
            |part, limit: usize, free| Level { part, used: limit.saturating_sub(free), limit };
        [
            level("connections", connections, free(&self.connections)),
            level("requests", requests + small, free(&self.requests) + free(&self.small)),
            Level { part: "answers", used: answers, limit: answers_limit },
        ]
    }
}

fn take(of: &Arc<Semaphore>, bytes: usize) -> Option<Room> {
    let permit = Arc::clone(of).try_acquire_many_owned(units(bytes)).ok()?;
    Some(Room(vec![permit]))
}

/// Bytes in units of room.
pub(super) fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT).max(1)).unwrap_or(u32::MAX)
}

/// The error of a request for which there is no room.
pub(super) fn overloaded() -> Error {
    Error::new(
        Reason::Overloaded,
        "more requests are under way than the broker has memory for; try again after the delay given",
    )
    .with("retry_after_ms", RETRY_AFTER.as_millis())
}

/// Memory of the machine, or of the container if that is less.
fn machine() -> Option<usize> {
    let number = |text: String| text.trim().parse::<usize>().ok();
    let read = |path| std::fs::read_to_string(path).ok();
    let all = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().to_owned();
        number(line.trim_end_matches("kB").to_owned()).map(|kib| kib << 10)
    });
    let container = read("/sys/fs/cgroup/memory.max")
        .and_then(number)
        .or_else(|| read("/sys/fs/cgroup/memory/memory.limit_in_bytes").and_then(number));
    all.into_iter().chain(container).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_have_three_eighths_of_the_budget_and_give_it_back() {
        let memory = crate::config::ByteSize(8 << 20);
        let memory = Memory::new(&EdgeConfig { memory, ..EdgeConfig::default() });
        let most = (8 << 20) / 64 * 21;
        let held = memory.room(most).expect("seven eighths of three eighths");
        assert!(memory.room(SMALL + 1).is_none());
        let small = memory.room(SMALL).expect("small ones have room of their own");
        assert_eq!(memory.levels()[1].used, most + SMALL);
        let (mut held, more) = (held, small);
        held.merge(more);
        assert_eq!(held.bytes(), most + SMALL);
        drop(held);
        assert!(memory.room(SMALL + 1).is_some());
        assert!(memory.room(most + 1).is_none());
        let limits = memory.levels().map(|level| level.limit);
        assert_eq!(limits.iter().sum::<usize>(), 8 << 20, "the parts are the whole");
        assert!(memory.levels().iter().all(|level| level.used == 0));
    }

    #[test]
    fn the_machine_tells_its_memory() {
        assert!(machine().is_some_and(|bytes| bytes > 64 << 20));
    }
}
