//! Appends and reads as tests need them.

use bytes::Bytes;
use meshlog_proto::v1;

/// An append to this product, without records yet.
#[must_use]
pub fn append(product: &str) -> AppendBuilder {
    AppendBuilder(v1::AppendRequest {
        product: product.to_owned(),
        batch: Some(v1::RecordBatch::default()),
        ..v1::AppendRequest::default()
    })
}

/// Builds a [`v1::AppendRequest`]; passes for one where a client expects a request.
#[derive(Clone, Debug)]
pub struct AppendBuilder(v1::AppendRequest);

impl AppendBuilder {
    /// One more record, of a value alone.
    #[must_use]
    pub fn value(self, value: impl Into<Bytes>) -> Self {
        self.record(v1::Record { value: Some(value.into()), ..v1::Record::default() })
    }

    /// One more record, of key and value.
    #[must_use]
    pub fn keyed(self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        let (key, value) = (Some(key.into()), Some(value.into()));
        self.record(v1::Record { key, value, ..v1::Record::default() })
    }

    /// One more record.
    #[must_use]
    pub fn record(mut self, record: v1::Record) -> Self {
        self.0.batch.get_or_insert_with(Default::default).records.push(record);
        self
    }

    /// To this partition; by default the server chooses.
    #[must_use]
    pub fn partition(mut self, partition: u32) -> Self {
        self.0.partition = Some(partition);
        self
    }

    /// Only if the next offset is this one.
    #[must_use]
    pub fn expect(mut self, offset: u64) -> Self {
        self.0.expected_offset = Some(offset);
        self
    }

    /// Of a producer whose id is this byte 16 times, at this epoch and sequence.
    #[must_use]
    pub fn producer(mut self, id: u8, epoch: u32, sequence: u64) -> Self {
        let id = Bytes::from(vec![id; 16]);
        self.0.producer = Some(v1::Producer { id, epoch, sequence });
        self
    }

    /// The wish.
    #[must_use]
    pub fn durability(mut self, durability: v1::Durability) -> Self {
        self.0.durability = durability.into();
        self
    }

    /// The schema version; by default the current one.
    #[must_use]
    pub fn schema_version(mut self, version: u32) -> Self {
        self.0.schema_version = version;
        self
    }

    /// The request.
    #[must_use]
    pub fn request(self) -> v1::AppendRequest {
        self.0
    }

    /// The request, as one of a stream.
    #[must_use]
    pub fn numbered(self, request_id: u64) -> v1::AppendStreamRequest {
        v1::AppendStreamRequest { request_id, append: Some(self.0) }
    }
}

impl tonic::IntoRequest<v1::AppendRequest> for AppendBuilder {
    fn into_request(self) -> tonic::Request<v1::AppendRequest> {
        tonic::Request::new(self.0)
    }
}

/// A read of this product from the beginning.
#[must_use]
pub fn read(product: &str) -> v1::ReadRequest {
    v1::ReadRequest { product: product.to_owned(), ..v1::ReadRequest::default() }
}

/// A subscription to this product from the beginning.
#[must_use]
pub fn subscribe(product: &str) -> v1::SubscribeRequest {
    v1::SubscribeRequest { product: product.to_owned(), ..v1::SubscribeRequest::default() }
}

/// A start at these (partition, offset).
#[must_use]
pub fn positions(positions: &[(u32, u64)]) -> v1::Start {
    let positions = positions
        .iter()
        .map(|(partition, offset)| v1::Position { partition: *partition, offset: *offset });
    let at = v1::start::At::Positions(v1::Positions { positions: positions.collect() });
    v1::Start { at: Some(at) }
}

/// The values of some batches, without the records that `skip` says to drop; an absent value is
/// empty.
#[must_use]
pub fn values(batches: &[v1::StoredBatch]) -> Vec<String> {
    let records = batches.iter().flat_map(|batch| {
        let records = batch.batch.iter().flat_map(|batch| &batch.records);
        records.skip(batch.skip as usize)
    });
    records
        .map(|record| String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into())
        .collect()
}
