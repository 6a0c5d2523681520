//! What producers take that were here and are idle. A process of its own, whose memory nobody else
//! moves, with an allocator that counts.

use std::sync::Arc;

use bytes::Bytes;
use meshlog_storage::{
    Batch, BatchCodec, Components, Control, Entry, NoObserver, Options, ProducerStamp, RecordKey,
    Result, Storage, StreamId,
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// One record a batch.
struct Single;

impl BatchCodec for Single {
    fn count(&self, _payload: &[u8]) -> Result<u32> {
        Ok(1)
    }

    fn keys(&self, _payload: &Bytes) -> Result<Vec<Option<RecordKey>>> {
        Ok(vec![None])
    }

    fn retain(&self, payload: &Bytes, _keep: &[u32]) -> Result<Bytes> {
        Ok(payload.clone())
    }
}

fn append(storage: &Storage, stream: StreamId, producers: std::ops::Range<u64>) {
    for number in producers.clone() {
        let mut id = [0; 16];
        // As random as the ids of real ones.
        id[..8].copy_from_slice(
            &number.wrapping_mul(0x9e37_79b9_7f4a_7c15).swap_bytes().to_le_bytes(),
        );
        let batch = Batch {
            stream,
            payload: vec![Bytes::from_static(b"x")],
            count: 1,
            schema: 0,
            application: 0,
            expected_offset: None,
        };
        let producer = Some(ProducerStamp { scope: 1, id, epoch: 0, sequence: 0 });
        let entry = Entry { batches: vec![batch], producer, ..Entry::default() };
        storage.append(entry, |outcome| assert!(outcome.is_ok(), "{outcome:?}"));
        if number % 4096 == 4095 {
            storage.drive();
        }
    }
    storage.drive();
    storage.checkpoint();
}

#[test]
fn an_idle_producer_takes_at_most_256_bytes() {
    // With these also the buffers for groups are there, which are not a producer's.
    const FEW: u64 = 96 << 10;
    const MANY: u64 = 192 << 10;
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        directory: directory.path().to_owned(),
        ring_bytes: 0,
        producers_max: MANY as usize,
        ..Options::default()
    };
    let parts = Components::on_disk(Arc::new(Single), Arc::new(NoObserver));
    let storage = Storage::open_without_threads(options, parts).unwrap();
    let stream = storage.allocate_stream();
    storage.append(
        Entry { controls: vec![Control::CreateStream(stream)], ..Entry::default() },
        |outcome| assert!(outcome.is_ok()),
    );
    append(&storage, stream, 0..FEW);
    let before = MEMORY.current_usage();
    append(&storage, stream, FEW..MANY);
    let grown = MEMORY.current_usage() - before;
    let each = grown as u64 / (MANY - FEW);
    println!("{each} bytes for each idle producer");
    assert!(each <= 256, "{each} bytes");
}
