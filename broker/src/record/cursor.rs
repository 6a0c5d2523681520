//! Where a reader stands in the partitions of a product, and how it moves on.
//!
//! Read and subscribe are the same walk: resolve the start, then fill one message after the
//! other. A fill asks the partitions in turn for equal shares, beginning with another one each
//! time, so none starves; it returns at least one batch if there is one.

use std::collections::VecDeque;
use std::sync::Arc;

use meshlog_proto::{server_v1, v1};
use meshlog_storage::{
    Bounds, Error as StorageError, ErrorKind, Offset, ReadHint, ReadRequest, ReadSlice,
    StoredBatch, StreamId,
};
use tokio::sync::oneshot;

use super::ahead::Room;
use super::append::{deleted, unknown_partition};
use super::wakeup::Watch;
use crate::broker::Broker;
use crate::catalogue::ProductHandle;
use crate::error::{Error, Reason, Result};
use crate::lineage::OpenReader;
use crate::time::{proto_time, storage_time};

/// What a batch costs in a message beside its payload.
const BATCH_OVERHEAD: usize = 64;
/// One offset delta costs at most this.
const DELTA_OVERHEAD: usize = 5;
/// Bytes asked of one partition at a time; larger requests would read what the budget refuses.
const SHARE: std::ops::RangeInclusive<usize> = 64 << 10..=1 << 20;

/// Positions in some partitions of one product.
#[derive(Debug)]
pub(super) struct Cursors {
    broker: Broker,
    product: Arc<ProductHandle>,
    cursors: Vec<Cursor>,
    turn: usize,
}

#[derive(Debug)]
struct Cursor {
    partition: u32,
    stream: StreamId,
    next: Offset,
    bounds: Bounds,
    hint: Option<ReadHint>,
    /// Read and not yet told: at most one slice.
    pending: VecDeque<StoredBatch>,
    /// Room for it while the message before it is sent.
    kept: Option<Room>,
    /// The slice after that, being read from files while the one before is sent.
    ahead: Option<Ahead>,
    reads_ahead: bool,
    /// Do not go beyond this.
    stop: Option<Offset>,
    /// Since the states were last told.
    moved: bool,
    /// Begins wherever the partition does, as long as nobody was told a position.
    follows_start: bool,
}

#[derive(Debug)]
struct Ahead {
    from: Offset,
    slice: oneshot::Receiver<meshlog_storage::Result<ReadSlice>>,
    _room: Room,
}

impl Cursors {
    /// Begins at `start` in the partitions named, or in all if none is. `turn` chooses the
    /// partition that is asked first.
    pub(super) async fn resolve(
        broker: &Broker,
        product: Arc<ProductHandle>,
        partitions: &[u32],
        start: Option<v1::Start>,
        turn: usize,
    ) -> Result<Self> {
        let at = start.and_then(|start| start.at);
        let mut cursors = Vec::new();
        for partition in partitions_of(&product, partitions)? {
            let stream = product.streams[partition as usize];
            let bounds = broker.storage().bounds(stream);
            let bounds = bounds.map_err(|error| explain(&product, partition, None, &error))?;
            let next = match &at {
                None => bounds.start,
                Some(v1::start::At::Edge(edge)) => match v1::StartEdge::try_from(*edge) {
                    Ok(v1::StartEdge::Unspecified | v1::StartEdge::Earliest) => bounds.start,
                    Ok(v1::StartEdge::Latest) => bounds.durable_end,
                    Err(_) => {
                        return Err(Error::new(
                            Reason::InvalidArgument,
                            "`start.edge` is EARLIEST or LATEST",
                        )
                        .with("field", "start.edge"));
                    }
                },
                Some(v1::start::At::AppendTime(time)) => {
                    offset_at_time(broker, &product, partition, storage_time(time)).await?
                }
                Some(v1::start::At::Positions(positions)) => {
                    let mut named =
                        positions.positions.iter().filter(|at| at.partition == partition);
                    named.next().map_or(bounds.start, |position| Offset(position.offset))
                }
            };
            if next < bounds.start || next > bounds.durable_end {
                return Err(out_of_range(&product, partition, next, bounds));
            }
            cursors.push(Cursor {
                partition,
                stream,
                next,
                bounds,
                hint: None,
                pending: VecDeque::new(),
                kept: None,
                ahead: None,
                reads_ahead: false,
                stop: None,
                moved: true,
                follows_start: match &at {
                    None | Some(v1::start::At::AppendTime(_)) => true,
                    Some(v1::start::At::Edge(edge)) => *edge != i32::from(v1::StartEdge::Latest),
                    Some(v1::start::At::Positions(_)) => false,
                },
            });
        }
        if let Some(v1::start::At::Positions(positions)) = &at {
            check_positions(&product, positions, &cursors)?;
        }
        Ok(Self { broker: broker.clone(), product, cursors, turn })
    }

    /// The product as it was when the walk began.
    pub(super) fn product(&self) -> &ProductHandle {
        &self.product
    }

    /// Batches were delivered on a subscription.
    pub(super) fn count(&self, reader: &mut OpenReader, batches: &[server_v1::StoredBatch]) {
        self.broker.count_delivered(&self.product, reader, batches);
    }

    /// The product's id.
    pub(super) fn product_id(&self) -> String {
        self.product.id.to_string()
    }

    /// Reads the next slice while one is sent, for readers that go on.
    pub(super) fn read_ahead(&mut self) {
        self.cursors.iter_mut().for_each(|cursor| cursor.reads_ahead = true);
    }

    /// Ends at the durable ends seen so far.
    pub(super) fn stop_at_end(&mut self) {
        for cursor in &mut self.cursors {
            cursor.stop = Some(cursor.bounds.durable_end);
        }
    }

    /// Whether every partition has reached its stop.
    pub(super) fn is_finished(&self) -> bool {
        self.cursors.iter().all(|cursor| cursor.stop.is_some_and(|stop| cursor.next >= stop))
    }

    /// Is woken when one of the partitions advances.
    pub(super) fn watch(&self) -> Watch {
        let streams = self.cursors.iter().map(|cursor| cursor.stream).collect();
        self.broker.wakeups().watch(streams)
    }

    /// The next batches, of at most `max_bytes` but at least one if there is one.
    pub(super) async fn fill(&mut self, max_bytes: usize) -> Result<Vec<server_v1::StoredBatch>> {
        let count = self.cursors.len();
        let mut message = Message { batches: Vec::new(), used: 0, max_bytes };
        let mut hungry: Vec<usize> = (0..count).map(|step| (self.turn + step) % count).collect();
        self.turn = (self.turn + 1) % count;
        while !hungry.is_empty() && message.used < max_bytes {
            let share = (max_bytes - message.used) / hungry.len();
            let share = share.clamp(*SHARE.start(), *SHARE.end());
            let mut still = Vec::new();
            for index in hungry {
                let cursor = &mut self.cursors[index];
                let room = max_bytes.saturating_sub(message.used);
                let read = cursor.read(&self.broker, &self.product, share.min(room).max(1)).await;
                if read.is_err() && !message.batches.is_empty() {
                    // What lies before damage is served; the next read meets it again.
                    return Ok(message.batches);
                }
                read?;
                let before = cursor.next;
                while let Some(batch) = cursor.pending.pop_front() {
                    if let Some(stop) = cursor.stop.filter(|stop| batch.base_offset >= *stop) {
                        // What stood before the stop was compacted away since.
                        cursor.next = cursor.next.max(stop);
                        cursor.moved = true;
                        cursor.pending.clear();
                        break;
                    }
                    if !message.has_room_for(&batch) {
                        cursor.pending.push_front(batch);
                        cursor.keep(&self.broker);
                        return Ok(message.batches);
                    }
                    let end = batch.end();
                    message.push(&self.broker, &self.product, cursor, batch)?;
                    assert!(end > cursor.next, "a read goes forward");
                    cursor.next = end;
                    cursor.moved = true;
                }
                let limit = cursor.stop.unwrap_or(cursor.bounds.durable_end);
                if cursor.next > before && cursor.next < limit.min(cursor.bounds.durable_end) {
                    still.push(index);
                }
            }
            hungry = still;
        }
        Ok(message.batches)
    }

    /// Where every partition stands.
    pub(super) fn states(&mut self) -> Vec<v1::PartitionState> {
        let bounds = |cursor: &Cursor| self.broker.storage().bounds(cursor.stream);
        let fresh: Vec<_> = self.cursors.iter().map(bounds).collect();
        for (cursor, bounds) in self.cursors.iter_mut().zip(fresh) {
            // A partition that is gone is reported by the next read, with its reason.
            cursor.bounds = bounds.unwrap_or(cursor.bounds);
            cursor.moved = false;
            cursor.follows_start = false;
        }
        self.cursors.iter().map(Cursor::state).collect()
    }

    /// Where those partitions stand that have moved since they were last told.
    pub(super) fn moved_states(&mut self) -> Vec<v1::PartitionState> {
        let moved = self.cursors.iter_mut().filter(|cursor| cursor.moved);
        moved
            .map(|cursor| {
                cursor.moved = false;
                cursor.follows_start = false;
                cursor.state()
            })
            .collect()
    }
}

impl Cursor {
    /// Makes sure that what comes next is pending, if there is anything.
    async fn read(
        &mut self,
        broker: &Broker,
        product: &ProductHandle,
        max_bytes: usize,
    ) -> Result<()> {
        loop {
            let next = self.next;
            self.read_once(broker, product, max_bytes).await?;
            if self.next == next {
                return Ok(());
            }
        }
    }

    /// As [`Cursor::read`]; moves on if the partition begins later by now.
    async fn read_once(
        &mut self,
        broker: &Broker,
        product: &ProductHandle,
        max_bytes: usize,
    ) -> Result<()> {
        self.kept = None;
        if !self.pending.is_empty() {
            return Ok(());
        }
        let ahead = self.ahead.take().filter(|ahead| ahead.from == self.next);
        let late = match ahead {
            Some(ahead) => Some(ahead.slice),
            None => match self.request(broker, self.next, max_bytes) {
                Ok(slice) => {
                    self.take(product, slice)?;
                    None
                }
                Err(late) => Some(late),
            },
        };
        if let Some(late) = late {
            let slice = late.await.unwrap_or_else(|_| Err(no_answer()));
            self.take(product, slice)?;
            // Files are slower than the wire: the next slice is read while this one is sent.
            if self.reads_ahead
                && let Some(from) = self.pending.back().map(StoredBatch::end)
                && from < self.stop.unwrap_or(self.bounds.durable_end)
                && let Some(room) = broker.ahead_room().take(max_bytes)
                && let Err(slice) = self.request(broker, from, max_bytes)
            {
                self.ahead = Some(Ahead { from, slice, _room: room });
            }
        }
        Ok(())
    }

    /// Keeps what is pending if there is room for it; otherwise it is read again.
    fn keep(&mut self, broker: &Broker) {
        let bytes = self.pending.iter().map(cost).sum();
        self.kept = broker.ahead_room().take(bytes);
        if self.kept.is_none() {
            self.pending.clear();
        }
    }

    /// Asks storage: the answer, or where it will arrive.
    fn request(
        &self,
        broker: &Broker,
        from: Offset,
        max_bytes: usize,
    ) -> Result<
        meshlog_storage::Result<ReadSlice>,
        oneshot::Receiver<meshlog_storage::Result<ReadSlice>>,
    > {
        let request = ReadRequest { stream: self.stream, from, max_bytes, hint: self.hint };
        let (sender, receiver) = oneshot::channel();
        let now = broker.storage().read(request, move |result| {
            // The reader may have gone away.
            let _gone = sender.send(result);
        });
        now.ok_or(receiver)
    }

    fn take(
        &mut self,
        product: &ProductHandle,
        slice: meshlog_storage::Result<ReadSlice>,
    ) -> Result<()> {
        let slice = match slice {
            Ok(slice) => slice,
            Err(error) => {
                if self.follows_start
                    && let ErrorKind::OffsetOutOfRange { start, durable_end } = error.kind()
                    && *start > self.next
                {
                    self.bounds = Bounds { start: *start, durable_end: *durable_end };
                    self.next = *start;
                    return Ok(());
                }
                return Err(explain(product, self.partition, Some(self.next), &error));
            }
        };
        self.hint = slice.hint;
        self.bounds = Bounds { start: slice.start, durable_end: slice.durable_end };
        self.pending.extend(slice.batches);
        Ok(())
    }

    fn state(&self) -> v1::PartitionState {
        v1::PartitionState {
            partition: self.partition,
            next_offset: self.next.0,
            start_offset: self.bounds.start.0,
            durable_end: self.bounds.durable_end.0,
        }
    }
}

/// A message under way.
struct Message {
    batches: Vec<server_v1::StoredBatch>,
    used: usize,
    max_bytes: usize,
}

impl Message {
    fn has_room_for(&self, batch: &StoredBatch) -> bool {
        self.batches.is_empty() || self.used + cost(batch) <= self.max_bytes
    }

    fn push(
        &mut self,
        broker: &Broker,
        product: &ProductHandle,
        cursor: &Cursor,
        batch: StoredBatch,
    ) -> Result<()> {
        self.used += cost(&batch);
        let schema_version = broker.catalogue().schema_of(batch.schema).ok_or_else(|| {
            Error::new(
                Reason::Internal,
                format!(
                    "a batch of {} at offset {} names an unknown schema; report this",
                    product.name, batch.base_offset
                ),
            )
        })?;
        self.batches.push(server_v1::StoredBatch {
            partition: cursor.partition,
            base_offset: batch.base_offset.0,
            count: batch.count,
            skip: skip(&batch, cursor.next),
            append_time: Some(proto_time(batch.append_time)),
            schema_version,
            offset_deltas: batch.offset_deltas,
            batch: batch.payload,
        });
        Ok(())
    }
}

fn cost(batch: &StoredBatch) -> usize {
    batch.payload.len() + BATCH_OVERHEAD + batch.offset_deltas.len() * DELTA_OVERHEAD
}

/// How many leading records lie before `from`.
fn skip(batch: &StoredBatch, from: Offset) -> u32 {
    let before = from.0.saturating_sub(batch.base_offset.0);
    if batch.offset_deltas.is_empty() {
        return before.min(u64::from(batch.count)) as u32;
    }
    batch.offset_deltas.partition_point(|delta| u64::from(*delta) < before) as u32
}

/// The partitions asked for, rising, each once; all if none is named.
pub(crate) fn partitions_of(product: &ProductHandle, asked: &[u32]) -> Result<Vec<u32>> {
    let count = product.streams.len() as u32;
    if let Some(unknown) = asked.iter().find(|partition| **partition >= count) {
        return Err(unknown_partition(product, *unknown));
    }
    if asked.is_empty() {
        return Ok((0..count).collect());
    }
    let mut partitions = asked.to_vec();
    partitions.sort_unstable();
    partitions.dedup();
    Ok(partitions)
}

fn check_positions(
    product: &ProductHandle,
    positions: &v1::Positions,
    cursors: &[Cursor],
) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for position in &positions.positions {
        if position.partition as usize >= product.streams.len() {
            return Err(unknown_partition(product, position.partition));
        }
        if !seen.insert(position.partition) {
            return Err(Error::new(
                Reason::InvalidArgument,
                format!("`start.positions` names partition {} twice", position.partition),
            )
            .with("field", "start.positions"));
        }
        if !cursors.iter().any(|cursor| cursor.partition == position.partition) {
            return Err(Error::new(
                Reason::InvalidArgument,
                format!(
                    "`start.positions` names partition {}, which is not among `partitions`",
                    position.partition
                ),
            )
            .with("field", "start.positions"));
        }
    }
    Ok(())
}

/// The first offset appended at or after a time, or the durable end.
pub(crate) async fn offset_at_time(
    broker: &Broker,
    product: &ProductHandle,
    partition: u32,
    time: meshlog_storage::Timestamp,
) -> Result<Offset> {
    let (sender, receiver) = oneshot::channel();
    let stream = product.streams[partition as usize];
    broker.storage().offset_at_time(stream, time, move |result| {
        // The reader may have gone away.
        let _gone = sender.send(result);
    });
    let result = receiver.await.unwrap_or_else(|_| Err(no_answer()));
    result.map_err(|error| explain(product, partition, None, &error))
}

pub(crate) fn no_answer() -> StorageError {
    StorageError::new(ErrorKind::Closed, "storage closed while it was reading; connect again")
}

/// The readable range of a partition.
pub(crate) fn bounds_of(
    broker: &Broker,
    product: &ProductHandle,
    partition: u32,
) -> Result<Bounds> {
    let bounds = broker.storage().bounds(product.streams[partition as usize]);
    bounds.map_err(|error| explain(product, partition, None, &error))
}

pub(crate) fn out_of_range(
    product: &ProductHandle,
    partition: u32,
    offset: Offset,
    bounds: Bounds,
) -> Error {
    let Bounds { start, durable_end } = bounds;
    Error::new(
        Reason::OffsetOutOfRange,
        format!(
            "offset {offset} of {} partition {partition} is not between {start} and {durable_end}; \
             start at one of these or in between",
            product.name
        ),
    )
    .with("product", &product.name)
    .with("partition", partition)
    .with("start_offset", start)
    .with("durable_end", durable_end)
}

/// What storage says, in the words of the product.
pub(crate) fn explain(
    product: &ProductHandle,
    partition: u32,
    at: Option<Offset>,
    error: &StorageError,
) -> Error {
    match (error.kind(), at) {
        (ErrorKind::UnknownStream(_), _) => deleted(&product.name),
        (ErrorKind::OffsetOutOfRange { start, durable_end }, Some(at)) => {
            let bounds = Bounds { start: *start, durable_end: *durable_end };
            out_of_range(product, partition, at, bounds)
        }
        _ => {
            let error = Error::from(error.clone());
            error.with("product", &product.name).with("partition", partition)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use meshlog_storage::Timestamp;

    fn batch(base: u64, count: u32, offset_deltas: Vec<u32>) -> StoredBatch {
        StoredBatch {
            stream: StreamId(1),
            base_offset: Offset(base),
            count,
            offset_deltas,
            append_time: Timestamp(0),
            broker_time: Timestamp(0),
            schema: 0,
            application: 0,
            producer: None,
            payload: Bytes::new(),
        }
    }

    /// Who asked for the beginning and heard of no position gets what is the beginning by then;
    /// who was told where it is gets an error.
    #[tokio::test]
    async fn the_beginning_may_move_until_somebody_was_told_where_it_is() {
        let broker = Broker::in_memory().unwrap();
        let name = "sandbox.a".to_owned();
        let product = Some(v1::Product { name: name.clone(), ..Default::default() });
        let request = v1::CreateProductRequest { product, ..Default::default() };
        let caller = crate::Caller::default();
        broker.catalogue().create_product(&caller, request).await.unwrap();
        let record = v1::Record { value: Some(Bytes::from_static(b"{}")), ..Default::default() };
        let batch = v1::RecordBatch { records: vec![record; 10] };
        let request = server_v1::AppendRequest {
            product: name.clone(),
            batch: vec![Bytes::from(prost::Message::encode_to_vec(&batch))],
            ..Default::default()
        };
        broker.append(&caller, request).await.unwrap();
        let handle = broker.catalogue().resolve(&name, "").unwrap();
        let begin = async |start| {
            Cursors::resolve(&broker, Arc::clone(&handle), &[], start, 0).await.unwrap()
        };
        let here = v1::Positions { positions: vec![v1::Position { partition: 0, offset: 0 }] };
        let here = Some(v1::Start { at: Some(v1::start::At::Positions(here)) });
        let (mut free, mut told, mut exact) =
            (begin(None).await, begin(None).await, begin(here).await);
        assert_eq!(told.states()[0].next_offset, 0);
        let positions = vec![v1::Position { partition: 0, offset: 6 }];
        let which = v1::trim_product_request::Which::BeforeOffsets(v1::Positions { positions });
        let request =
            v1::TrimProductRequest { product: name, which: Some(which), ..Default::default() };
        broker.trim_product(&caller, request).await.unwrap();
        let batches = free.fill(1 << 20).await.unwrap();
        assert_eq!((batches[0].base_offset, batches[0].skip), (0, 6));
        for cursors in [&mut told, &mut exact] {
            let error = cursors.fill(1 << 20).await.unwrap_err();
            assert_eq!(error.reason(), Reason::OffsetOutOfRange);
        }
    }

    #[test]
    fn skip_counts_the_records_before_the_position() {
        assert_eq!(skip(&batch(10, 5, vec![]), Offset(10)), 0);
        assert_eq!(skip(&batch(10, 5, vec![]), Offset(13)), 3);
        assert_eq!(skip(&batch(10, 5, vec![]), Offset(9)), 0);
    }

    #[test]
    fn skip_counts_records_not_offsets_in_a_compacted_batch() {
        let compacted = batch(10, 3, vec![0, 4, 9]);
        assert_eq!(skip(&compacted, Offset(11)), 1);
        assert_eq!(skip(&compacted, Offset(14)), 1);
        assert_eq!(skip(&compacted, Offset(15)), 2);
    }
}
