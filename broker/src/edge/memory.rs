//! One budget of memory for what is on its way: requests before they are admitted, answers before
//! clients read them.
//!
//! ```text
//! budget (a quarter of the memory of the machine or container, unless set)
//!   ├─ half: requests   room for a message is taken before its bytes are read, and given back when
//!   │                   the append is admitted or the call is over; without room: OVERLOADED.
//!   │                   An eighth of it is for small ones alone
//!   └─ half: answers    a frame counts until the client has taken it; without room calls wait, and
//!                       clients that do not read are cut off, those first that have not for longest
//! ```
//!
//! What the log engine holds (admission, ring, caches) has bounds of its own, see `StorageConfig`.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::EdgeConfig;
use crate::error::{Error, Reason};

/// What room is counted in: also the least that a call costs.
const UNIT: usize = 1 << 10;

/// A request up to this size is small.
const SMALL: usize = 64 << 10;

/// A client that is told to come back does so after this time.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// The budget without a setting and without any knowledge of the machine.
const FALLBACK: usize = 1 << 30;

/// The budget of one server.
#[derive(Debug)]
pub(super) struct Memory {
    /// Room for requests, in units.
    requests: Arc<Semaphore>,
    /// Room for small requests alone, so that large ones which do not arrive leave them some.
    small: Arc<Semaphore>,
    /// Bytes of answers that clients have not taken yet.
    answers: AtomicUsize,
    answers_limit: usize,
    /// What a call may hold in HTTP/2's buffers beside its newest frame.
    buffered: usize,
    patience: Duration,
    begun: Instant,
    /// Answers in more than one frame, as long as they go on. At most as many as there are calls.
    open: Mutex<Vec<Weak<Reader>>>,
}

/// Room for a message; given back when dropped.
pub(super) type Room = OwnedSemaphorePermit;

impl Memory {
    /// With these settings.
    pub(super) fn new(config: &EdgeConfig) -> Arc<Self> {
        let budget = match config.memory.as_usize() {
            0 => machine().map_or(FALLBACK, |all| all / 4),
            bytes => bytes,
        };
        Arc::new(Self {
            requests: Arc::new(Semaphore::new((budget / 16 * 7 / UNIT).clamp(1, 1 << 30))),
            small: Arc::new(Semaphore::new((budget / 16 / UNIT).clamp(1, 1 << 30))),
            answers: AtomicUsize::new(0),
            answers_limit: budget / 2,
            buffered: config.send_buffer.as_usize(),
            patience: config.stalled_reader_timeout.into(),
            begun: Instant::now(),
            open: Mutex::default(),
        })
    }

    /// Room for a request of so many bytes, if there is some now.
    pub(super) fn room(&self, bytes: usize) -> Option<Room> {
        let room = |of: &Arc<Semaphore>| Arc::clone(of).try_acquire_many_owned(units(bytes)).ok();
        let small = || (bytes <= SMALL).then(|| room(&self.small)).flatten();
        room(&self.requests).or_else(small)
    }

    /// Room for a message of a stream, which may wait for it.
    pub(super) async fn wait_for_room(requests: Arc<Semaphore>, bytes: usize) -> Option<Room> {
        requests.acquire_many_owned(units(bytes)).await.ok()
    }

    /// What [`Memory::wait_for_room`] waits on.
    pub(super) fn requests(&self) -> Arc<Semaphore> {
        Arc::clone(&self.requests)
    }

    /// Whether a call may make one more frame of its answer. One frame a connection may always have,
    /// so that those who read go on beside those who do not.
    pub(super) fn has_room_for_answers(&self, of: &Load) -> bool {
        self.answers.load(Ordering::Relaxed) < self.answers_limit
            || of.answers.load(Ordering::Relaxed) == 0
    }

    /// Somebody begins to read an answer of several frames.
    pub(super) fn reader(self: &Arc<Self>, cut: Arc<Cut>, load: Arc<Load>) -> Arc<Reader> {
        let reader = Arc::new(Reader {
            memory: Arc::clone(self),
            load,
            cut,
            frame: AtomicUsize::new(0),
            total: AtomicUsize::new(0),
            since: AtomicU64::new(self.now()),
            waits_for_us: AtomicBool::new(true),
        });
        let mut open = self.open.lock();
        if open.len() == open.capacity() {
            open.retain(|reader| reader.strong_count() > 0);
        }
        open.push(Arc::downgrade(&reader));
        drop(open);
        reader
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Cuts off clients that do not read, if what is kept for them is more than there is room for:
    /// those first that have not read for longest. Called about once a second. Gives how many.
    pub(super) fn cut_stalled(&self) -> usize {
        let now = self.now();
        let mut stalled = Vec::new();
        let mut kept = 0;
        self.open.lock().retain(|reader| {
            let Some(reader) = reader.upgrade() else { return false };
            let Some((silent, bytes)) = reader.stalled(now, self.buffered) else { return true };
            kept += bytes;
            stalled.push((silent, bytes, reader));
            true
        });
        stalled.sort_by_key(|(silent, _, _)| std::cmp::Reverse(*silent));
        let mut count = 0;
        for (silent, bytes, reader) in stalled {
            if kept <= self.answers_limit {
                break;
            }
            // Far beyond the limit nobody has the whole time.
            let patience = match kept > self.answers_limit.saturating_mul(3) / 2 {
                true => self.patience / 10,
                false => self.patience,
            };
            if silent < patience {
                continue;
            }
            kept -= bytes;
            count += 1;
            reader.cut.cut();
        }
        if count > 0 {
            tracing::warn!(
                count,
                "clients that did not read were cut off, because memory is short"
            );
        }
        count
    }
}

fn units(bytes: usize) -> u32 {
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

/// What one connection has under way.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Calls.
    pub(super) calls: AtomicUsize,
    /// Bytes of answers that the client has not taken.
    answers: AtomicUsize,
}

/// An answer of several frames, and how its reader gets on.
#[derive(Debug)]
pub(super) struct Reader {
    memory: Arc<Memory>,
    load: Arc<Load>,
    cut: Arc<Cut>,
    /// Bytes of the newest frame, until the client has taken those before it.
    frame: AtomicUsize,
    /// Bytes of all frames.
    total: AtomicUsize,
    /// When the client last took something.
    since: AtomicU64,
    /// The client would take more if there were more.
    waits_for_us: AtomicBool,
}

impl Reader {
    /// The client asks for more.
    pub(super) fn asks(&self) {
        self.counts(0);
        self.since.store(self.memory.now(), Ordering::Relaxed);
        self.waits_for_us.store(true, Ordering::Relaxed);
    }

    /// There will be more, of about so many bytes.
    pub(super) fn expects(&self, bytes: usize) {
        self.counts(bytes);
    }

    /// There is more.
    pub(super) fn gets(&self, bytes: usize) {
        self.counts(bytes);
        self.total.fetch_add(bytes, Ordering::Relaxed);
        self.waits_for_us.store(false, Ordering::Relaxed);
    }

    fn counts(&self, bytes: usize) {
        let before = self.frame.swap(bytes, Ordering::Relaxed);
        for sum in [&self.memory.answers, &self.load.answers] {
            sum.fetch_add(bytes, Ordering::Relaxed);
            sum.fetch_sub(before, Ordering::Relaxed);
        }
    }

    /// For how long the client has taken nothing, and what is kept for it.
    fn stalled(&self, now: u64, buffered: usize) -> Option<(Duration, usize)> {
        if self.waits_for_us.load(Ordering::Relaxed) {
            return None;
        }
        let silent = now.saturating_sub(self.since.load(Ordering::Relaxed));
        let before = self.total.load(Ordering::Relaxed).min(buffered);
        Some((Duration::from_millis(silent), self.frame.load(Ordering::Relaxed) + before))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.asks();
    }
}

/// Ends a future from outside.
#[derive(Debug, Default)]
pub(super) struct Cut {
    is_cut: AtomicBool,
    waker: AtomicWaker,
}

tokio::task_local! {
    /// What ends the task that answers a call.
    static CUT: Arc<Cut>;
}

impl Cut {
    /// Ends it.
    pub(super) fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// That of the current task; one without effect if there is none.
    pub(super) fn of_task() -> Arc<Self> {
        CUT.try_with(Arc::clone).unwrap_or_default()
    }

    /// Runs a future until its end or until it is cut.
    pub(super) async fn may_end(future: impl Future) {
        let cut = Arc::new(Self::default());
        let mut future = std::pin::pin!(CUT.scope(Arc::clone(&cut), future));
        std::future::poll_fn(move |context| {
            cut.waker.register(context.waker());
            match cut.is_cut.load(Ordering::Acquire) {
                true => Poll::Ready(()),
                false => future.as_mut().poll(context).map(|_| ()),
            }
        })
        .await;
    }
}

/// Runs what answers calls, each so that it can be cut off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tasks;

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(Cut::may_end(future));
    }
}

/// Waits a little; for those who look again.
#[derive(Debug, Default)]
pub(super) struct Pause(Option<Pin<Box<tokio::time::Sleep>>>);

impl Pause {
    /// Ready after `pause`, and then anew.
    pub(super) fn poll(&mut self, pause: Duration, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        let elapsed = sleep.as_mut().poll(context);
        if elapsed.is_ready() {
            self.0 = None;
        }
        elapsed
    }
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

    fn memory(bytes: u64) -> Arc<Memory> {
        let memory = crate::config::ByteSize(bytes);
        Memory::new(&EdgeConfig { memory, ..EdgeConfig::default() })
    }

    #[test]
    fn requests_have_half_of_the_budget_and_give_it_back() {
        let memory = memory(8 << 20);
        let held = memory.room(7 << 19).expect("seven sixteenths");
        assert!(memory.room(SMALL + 1).is_none());
        let small = memory.room(SMALL).expect("small ones have room of their own");
        drop((held, small));
        assert!(memory.room(SMALL + 1).is_some());
        assert!(memory.room((7 << 19) + 1).is_none());
    }

    #[test]
    fn a_client_that_does_not_read_is_cut_only_if_memory_is_short() {
        let config = EdgeConfig {
            memory: crate::config::ByteSize(2_000),
            stalled_reader_timeout: "0ms".parse().unwrap(),
            ..EdgeConfig::default()
        };
        let memory = Memory::new(&config);
        let cuts: Vec<Arc<Cut>> = (0..2).map(|_| Arc::default()).collect();
        let load = Arc::<Load>::default();
        let reader = |cut: &Arc<Cut>| memory.reader(Arc::clone(cut), Arc::clone(&load));
        let readers: Vec<_> = cuts.iter().map(reader).collect();
        readers[0].gets(300);
        assert_eq!(memory.cut_stalled(), 0, "600 bytes of 1,000");
        readers[1].asks();
        readers[1].gets(300);
        assert!(memory.has_room_for_answers(&load));
        assert_eq!(memory.cut_stalled(), 1, "1,200 bytes: the one that has waited for longer goes");
        assert!(cuts[0].is_cut.load(Ordering::Acquire) && !cuts[1].is_cut.load(Ordering::Acquire));
        readers[1].gets(1_000);
        assert!(!memory.has_room_for_answers(&load), "1,300 bytes of 1,000");
        assert!(memory.has_room_for_answers(&Load::default()), "one frame of another connection");
        drop(readers);
        assert_eq!(memory.answers.load(Ordering::Relaxed), 0);
        assert_eq!(memory.cut_stalled(), 0);
        assert!(memory.open.lock().is_empty(), "nobody is remembered");
    }

    #[tokio::test]
    async fn a_task_that_is_cut_ends() {
        let (sender, cut) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(Cut::may_end(async move {
            sender.send(Cut::of_task()).unwrap();
            std::future::pending::<()>().await;
        }));
        cut.await.unwrap().cut();
        task.await.unwrap();
    }

    #[test]
    fn the_machine_tells_its_memory() {
        assert!(machine().is_some_and(|bytes| bytes > 64 << 20));
    }
}
