//! How busy the machine was, and with what.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

/// CPU time this thread has used so far, user and system.
#[must_use]
pub fn thread_cpu() -> Duration {
    clock(ClockId::ThreadCPUTime)
}

/// CPU time all threads of this process have used so far, user and system.
#[must_use]
pub fn process_cpu() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

fn clock(id: ClockId) -> Duration {
    let at = clock_gettime(id);
    // CPU clocks start at zero and only rise, so both parts are in range.
    Duration::new(at.tv_sec.unsigned_abs(), u32::try_from(at.tv_nsec).unwrap_or(0))
}

/// Measures the CPU that others used while a series ran: other processes,
/// kernel threads working for anyone, and other machines on the same host. A lower bound
/// while this process moves much over the network, because packet work cannot be told apart.
#[derive(Debug)]
pub struct OtherLoad {
    began: Instant,
    busy: Duration,
    own: Duration,
}

impl OtherLoad {
    /// Starts measuring.
    ///
    /// # Errors
    /// When the kernel's CPU counters cannot be read.
    pub fn start() -> io::Result<Self> {
        Ok(Self { began: Instant::now(), busy: busy_time()?, own: process_cpu() })
    }

    /// Cores kept busy by others since the start, on average: 2.0 means two whole cores. At least: see [`Self`].
    ///
    /// # Errors
    /// When the kernel's CPU counters cannot be read.
    pub fn cores(&self) -> io::Result<f64> {
        let busy = busy_time()?.saturating_sub(self.busy);
        let own = process_cpu().saturating_sub(self.own);
        Ok(busy.saturating_sub(own).as_secs_f64() / self.began.elapsed().as_secs_f64())
    }
}

/// Time all cores together have spent on running anything, since boot.
fn busy_time() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let ticks: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, (idle, iowait, irq, softirq,) steal; ticks of 1/100 s. Interrupts are left out: most of them
    // are our own packets and writes. Some of that time is in our own CPU time as well, so beside much network traffic
    // the result is a lower bound.
    let busy: u64 = [0, 1, 2, 7].iter().filter_map(|&field| ticks.get(field)).sum();
    Ok(Duration::from_millis(busy * 10))
}
