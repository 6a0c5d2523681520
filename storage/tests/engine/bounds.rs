//! The size of the directory follows what is retained, not what was written.

use std::time::Duration;

use meshlog_storage::{Control, Entry, Policy, StreamId};

use crate::support::{Machine, append, entry, lines};

/// Slots kept for the next files, the reserves and the checkpoints.
const POOL: u64 = (3 + 2) * (256 << 10) + (512 << 10);

/// Writes ten times what is retained; the directory never takes more than 2.5 times that and the
/// pool. `batch` says which stream the nth batch is for, and its length.
fn stays_bounded(
    machine: &Machine,
    policies: &[(usize, u64)],
    retained: u64,
    per_entry: u64,
    batch: impl Fn(u64) -> (usize, usize),
) {
    let storage = machine.open().unwrap();
    let mut streams: Vec<StreamId> = Vec::new();
    let mut controls = Vec::new();
    for (count, bytes) in policies {
        for _ in 0..*count {
            let stream = storage.allocate_stream();
            controls.push(Control::CreateStream(stream));
            let policy = Policy { max_bytes: Some(*bytes), ..Policy::default() };
            controls.push(Control::SetPolicy(stream, policy));
            streams.push(stream);
        }
    }
    // A group of its own for each stream would be many times what the streams are to hold.
    for controls in controls.chunks(100) {
        append(&storage, Entry { controls: controls.to_vec(), ..Entry::default() }).unwrap();
    }
    let (mut written, mut most, mut tag) = (0, 0, 0);
    while written < 10 * retained {
        // Several batches a group, as a busy broker has them.
        let batches: Vec<_> = (0..per_entry)
            .map(|_| {
                tag += 1;
                let (index, length) = batch(tag);
                written += length as u64;
                lines(streams[index], tag, 1, length)
            })
            .collect();
        append(&storage, entry(batches)).unwrap();
        // What is retained passes in some minutes.
        machine.clock.advance(Duration::from_millis(200 * per_entry));
        storage.drive();
        most = most.max(machine.disk.used());
    }
    let bound = retained * 5 / 2 + POOL;
    assert!(most <= bound, "{most} bytes for {retained} retained; {:?}", storage.stats());
}

#[test]
fn one_large_stream_takes_no_more_than_it_retains() {
    let machine = Machine::new(1);
    stays_bounded(&machine, &[(1, 2 << 20)], 2 << 20, 8, |_| (0, 4000));
}

/// Slow streams keep their records in files of which the fast one's are long gone.
#[test]
fn a_mixture_of_fast_and_slow_streams_takes_no_more_than_it_retains() {
    let machine = Machine::new(3);
    let retained = (1 << 20) + 100 * 12_000;
    stays_bounded(&machine, &[(1, 1 << 20), (100, 10_000)], retained, 8, |tag| {
        if tag % 10 == 0 { (1 + (tag / 10 % 100) as usize, 1000) } else { (0, 3000) }
    });
}

/// Every file holds a little of many streams, and each of them goes at its own time.
#[test]
fn a_thousand_small_streams_take_no_more_than_they_retain() {
    let machine = Machine::new(2);
    stays_bounded(&machine, &[(1000, 2_500)], 1000 * 2_500, 20, |tag| ((tag % 1000) as usize, 500));
}
