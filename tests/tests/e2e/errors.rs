use meshlog_proto::v1;
use meshlog_tests::{TestBroker, append, failure, positions, product, read, subscribe};
use proptest::prelude::*;
use tonic::Code;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Sends bytes as they are, to say what no generated client can say.
#[derive(Clone, Copy, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        *self
    }
    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = tonic::Status;
    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Vec<u8>;
    type Error = tonic::Status;
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, tonic::Status> {
        let length = bytes::Buf::remaining(buffer);
        Ok(Some(bytes::Buf::copy_to_bytes(buffer, length).to_vec()))
    }
}

async fn raw_append(
    channel: tonic::transport::Channel,
    message: Vec<u8>,
) -> Result<(), tonic::Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/meshlog.v1.RecordService/Append");
    grpc.unary(tonic::Request::new(message), path, RawCodec).await.map(drop)
}

#[tokio::test]
async fn an_unknown_product_is_named_by_every_call() {
    let broker = TestBroker::start().await;
    let mut records = broker.records();
    let listed = v1::ListOffsetsRequest { product: "ops.none".to_owned(), ..Default::default() };
    for status in [
        records.append(append("ops.none").value("x")).await.unwrap_err(),
        records.read(read("ops.none")).await.unwrap_err(),
        records.subscribe(subscribe("ops.none")).await.unwrap_err(),
        records.list_offsets(listed).await.unwrap_err(),
    ] {
        let refused = failure(&status);
        assert_eq!((refused.code, refused.reason.as_str()), (Code::NotFound, "PRODUCT_NOT_FOUND"));
        assert_eq!(refused.metadata["product"], "ops.none");
        assert_eq!(refused.applied, "no");
    }
}

#[tokio::test]
async fn a_pinned_product_that_is_another_one_now_is_refused() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let request = v1::AppendRequest {
        product_id: "another".to_owned(),
        ..append("ops.a").value("x").request()
    };
    let refused = broker.records().append(request).await.unwrap_err();
    assert_eq!(failure(&refused).reason, "PRODUCT_RECREATED");
    let request = v1::ReadRequest { product_id: "another".to_owned(), ..read("ops.a") };
    let refused = broker.records().read(request).await.unwrap_err();
    assert_eq!(failure(&refused).reason, "PRODUCT_RECREATED");
}

#[tokio::test]
async fn a_bad_partition_is_refused_with_those_there_are() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a").partitions(2)).await;
    let mut records = broker.records();
    let in_read = v1::ReadRequest { partitions: vec![0, 2], ..read("ops.a") };
    let in_start = v1::ReadRequest { start: Some(positions(&[(2, 0)])), ..read("ops.a") };
    for status in [
        records.append(append("ops.a").value("x").partition(2)).await.unwrap_err(),
        records.read(in_read).await.unwrap_err(),
        records.read(in_start).await.unwrap_err(),
    ] {
        let refused = failure(&status);
        assert_eq!(refused.reason, "PARTITION_NOT_FOUND");
        assert_eq!(refused.metadata["partitions"], "2");
        assert!(refused.message.contains("0 to 1"), "{}", refused.message);
    }
    let twice = v1::ReadRequest { start: Some(positions(&[(0, 0), (0, 0)])), ..read("ops.a") };
    let refused = records.read(twice).await.unwrap_err();
    assert_eq!(failure(&refused).violations[0].0, "start.positions");
}

#[tokio::test]
async fn a_durability_that_cannot_be_asked_for_is_refused() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let request = append("ops.a").value("x").durability(v1::Durability::Memory);
    let refused = broker.records().append(request).await.unwrap_err();
    assert_eq!(failure(&refused).violations[0].0, "durability");
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused_and_the_broker_goes_on() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let refused = raw_append(broker.channel(), vec![0xff; 20]).await.unwrap_err();
    let refused = failure(&refused);
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::InvalidArgument, "INVALID_ARGUMENT")
    );
    broker.records().append(append("ops.a").value("alive")).await.unwrap();
}

#[tokio::test]
async fn a_batch_that_occurs_twice_is_refused_instead_of_merged() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let one = prost::Message::encode_to_vec(&append("ops.a").value("x").request());
    let twice = [one.clone(), one].concat();
    let refused = raw_append(broker.channel(), twice).await.unwrap_err();
    assert_eq!(failure(&refused).reason, "BATCH_MALFORMED");
}

#[test]
fn arbitrary_batch_bytes_are_answered_and_what_is_accepted_reads_back() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let broker = runtime.block_on(async {
        let broker = TestBroker::start().await;
        broker.create(product("ops.a")).await;
        broker
    });
    let config = ProptestConfig { cases: 200, ..ProptestConfig::default() };
    proptest!(config, |(batch in prop::collection::vec(any::<u8>(), 0..60))| {
        let mut message = prost::Message::encode_to_vec(&v1::AppendRequest {
            product: "ops.a".to_owned(),
            ..v1::AppendRequest::default()
        });
        message.extend([0x22, batch.len() as u8]);
        message.extend(&batch);
        runtime.block_on(async {
            if let Err(status) = raw_append(broker.channel(), message).await {
                let reason = failure(&status).reason;
                assert!(["BATCH_MALFORMED", "TOO_LARGE"].contains(&reason.as_str()), "{reason}");
            }
        });
    });
    runtime.block_on(async {
        let found = broker.records().read(read("ops.a")).await;
        found.expect("everything that was accepted can be decoded");
    });
}

#[tokio::test]
async fn a_non_loopback_address_is_refused_with_the_reason() {
    let broker = meshlog_broker::Broker::in_memory().unwrap();
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = meshlog_broker::edge::serve(broker, listener, std::future::pending()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.reason(), meshlog_broker::Reason::AddressUnavailable);
    assert!(refused.to_string().contains("127.0.0.1"), "{refused}");
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let broker = TestBroker::start().await;
    let mut grpc = tonic::client::Grpc::new(broker.channel());
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/meshlog.v1.RecordService/Nothing");
    let answer: Result<tonic::Response<Vec<u8>>, _> =
        grpc.unary(tonic::Request::new(Vec::new()), path, RawCodec).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
}
