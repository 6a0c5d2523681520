use meshlog_proto::v1;
use meshlog_tests::{TestBroker, append, failure, product};
use tonic::Code;

#[tokio::test]
async fn an_oversized_record_is_refused_by_its_index() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let request = append("ops.a").value("fine").value(vec![0; (1 << 20) + 1]);
    let refused = failure(&broker.records().append(request).await.unwrap_err());
    assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "TOO_LARGE"));
    assert_eq!(refused.metadata["record"], "1");
    assert_eq!(refused.metadata["limit"], "1048576");
    assert_eq!(refused.applied, "no");
}

#[tokio::test]
async fn an_oversized_request_is_refused_with_the_limit_however_large_it_is() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    for megabytes in [4, 5, 20] {
        let records = (0..megabytes * 2 + 1)
            .fold(append("ops.a"), |request, _| request.value(vec![0; (1 << 19) - 100]));
        let refused = broker.records().append(records).await.unwrap_err();
        let refused = failure(&refused);
        assert_eq!(refused.reason, "TOO_LARGE", "{megabytes} MiB");
        assert_eq!(refused.code, Code::InvalidArgument);
        assert!(refused.metadata["limit"].parse::<u32>().unwrap() <= 4 << 20);
    }
    broker.records().append(append("ops.a").value("alive")).await.unwrap();
}

#[tokio::test]
async fn an_oversized_request_on_a_stream_ends_the_stream_with_the_limit() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let huge = (0..10).fold(append("ops.a"), |request, _| request.value(vec![0; 1_000_000]));
    let requests = vec![append("ops.a").value("fine").numbered(1), huge.numbered(2)];
    let mut results =
        broker.records().append_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let first = results.message().await.unwrap().unwrap();
    assert_eq!(first.results.len(), 1);
    let ended = results.message().await.unwrap_err();
    assert_eq!(failure(&ended).reason, "TOO_LARGE");
}

#[tokio::test]
async fn an_empty_or_missing_batch_is_refused() {
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    let empty = append("ops.a");
    let missing = v1::AppendRequest { batch: None, ..append("ops.a").request() };
    for request in [empty.request(), missing] {
        let refused = broker.records().append(request).await.unwrap_err();
        assert_eq!(failure(&refused).reason, "BATCH_MALFORMED");
    }
}

#[tokio::test]
async fn the_server_tells_its_limits() {
    let broker = TestBroker::start().await;
    let info = broker.admin().get_server_info(v1::GetServerInfoRequest {}).await.unwrap();
    let info = info.into_inner();
    assert_eq!(info.api_version, "v1");
    let limits = info.limits.unwrap();
    assert_eq!(limits.max_request_bytes, 4 << 20);
    assert_eq!(limits.max_record_bytes, 1 << 20);
    assert_eq!(limits.max_batch_records, 10_000);
    assert!(info.storage.unwrap().in_memory);
}

#[tokio::test]
async fn connections_beyond_the_cap_are_closed_and_the_others_go_on() {
    let mut config = meshlog_broker::Config::default();
    config.edge.max_connections = 2;
    let broker = TestBroker::start_with(config).await;
    let ask = |channel| async move {
        let mut admin = v1::admin_service_client::AdminServiceClient::new(channel);
        admin.get_server_info(v1::GetServerInfoRequest {}).await
    };
    let (one, two) = (broker.connect(), broker.connect());
    ask(one.clone()).await.unwrap();
    ask(two.clone()).await.unwrap();
    assert!(ask(broker.connect()).await.is_err(), "the third has no place");
    ask(one.clone()).await.unwrap();
    drop(two);
    // The place of the second comes back once its connection is closed.
    for attempt in 0.. {
        if ask(broker.connect()).await.is_ok() {
            break;
        }
        assert!(attempt < 500, "the place never came back");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_connection_that_asks_for_nothing_is_closed() {
    use tokio::io::AsyncReadExt as _;
    let mut config = meshlog_broker::Config::default();
    config.edge.first_request_timeout = "300ms".parse().unwrap();
    let broker = TestBroker::start_with(config).await;
    let mut silent = tokio::net::TcpStream::connect(broker.address()).await.unwrap();
    let mut bytes = Vec::new();
    let closed =
        tokio::time::timeout(std::time::Duration::from_secs(10), silent.read_to_end(&mut bytes));
    assert!(closed.await.is_ok(), "the server closes it");
    let mut admin = broker.admin();
    admin.get_server_info(v1::GetServerInfoRequest {}).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    let again = admin.get_server_info(v1::GetServerInfoRequest {}).await;
    again.expect("a connection that was used stays open");
}

#[tokio::test]
async fn a_new_connection_takes_the_place_of_one_that_says_nothing() {
    let mut config = meshlog_broker::Config::default();
    config.edge.max_connections = 2;
    let broker = TestBroker::start_with(config).await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(tokio::net::TcpStream::connect(broker.address()).await.unwrap());
    }
    let mut admin = v1::admin_service_client::AdminServiceClient::new(broker.connect());
    admin.get_server_info(v1::GetServerInfoRequest {}).await.unwrap();
    let mut other = v1::admin_service_client::AdminServiceClient::new(broker.connect());
    other.get_server_info(v1::GetServerInfoRequest {}).await.unwrap();
    admin.get_server_info(v1::GetServerInfoRequest {}).await.expect("who asks stays");
}

#[tokio::test]
async fn compressed_requests_are_taken_up_to_the_size_of_others() {
    use meshlog_proto::v1::record_service_client::RecordServiceClient;
    use tonic::codec::CompressionEncoding;
    let broker = TestBroker::start().await;
    broker.create(product("ops.a")).await;
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let records = RecordServiceClient::new(broker.channel()).send_compressed(encoding);
        let mut records = records.max_encoding_message_size(64 << 20);
        records.append(append("ops.a").value(vec![b'x'; 1_000_000])).await.unwrap();
        let bomb = (0..20).fold(append("ops.a"), |batch, _| batch.value(vec![0; 1_000_000]));
        let refused = records.append(bomb).await.unwrap_err();
        assert_eq!(failure(&refused).reason, "TOO_LARGE", "{encoding:?}");
    }
}

#[tokio::test]
async fn a_rate_that_is_used_up_says_when_there_is_more() {
    use tonic_types::StatusExt as _;
    let mut config = meshlog_broker::Config::default();
    config.quotas.requests_per_second = 1;
    let broker = TestBroker::start_with(config).await;
    let mut admin = broker.admin();
    let mut last = Ok(());
    for _ in 0..30 {
        let mut request = tonic::Request::new(v1::GetServerInfoRequest {});
        request.metadata_mut().insert("meshlog-application", "greedy".parse().unwrap());
        last = admin.get_server_info(request).await.map(drop);
        if last.is_err() {
            break;
        }
    }
    let refused = last.unwrap_err();
    assert_eq!(failure(&refused).reason, "QUOTA_EXCEEDED");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let delay = refused.get_error_details().retry_info().unwrap().retry_delay.unwrap();
    let pushback = refused.metadata().get("grpc-retry-pushback-ms").unwrap();
    assert_eq!(pushback.to_str().unwrap(), delay.as_millis().to_string());
    // Others have their own.
    admin.get_server_info(v1::GetServerInfoRequest {}).await.unwrap();
}

#[tokio::test]
async fn a_connection_that_is_old_ends_without_a_failed_call() {
    let mut config = meshlog_broker::Config::default();
    config.edge.first_request_timeout = "100ms".parse().unwrap();
    config.edge.max_connection_age = "200ms".parse().unwrap();
    let broker = TestBroker::start_with(config).await;
    let mut admin = broker.admin();
    let until = std::time::Instant::now() + std::time::Duration::from_millis(1_500);
    while std::time::Instant::now() < until {
        admin.get_server_info(v1::GetServerInfoRequest {}).await.expect("a new one takes over");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let mut config = meshlog_broker::Config::default();
    config.edge.first_request_timeout = "100ms".parse().unwrap();
    config.edge.idle_timeout = "300ms".parse().unwrap();
    let broker = TestBroker::start_with(config).await;
    let stream = tokio::net::TcpStream::connect(broker.address()).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let request = http::Request::post("http://localhost/none").body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    let closed = tokio::spawn(connection);
    answer.await.unwrap();
    let closed = tokio::time::timeout(std::time::Duration::from_secs(10), closed);
    closed.await.expect("the server closes it").unwrap().unwrap();
}

#[tokio::test]
async fn a_team_stores_so_much_and_is_told_what_to_do_then() {
    let mut config = meshlog_broker::Config::default();
    config.quotas.stored_bytes_per_team = meshlog_broker::config::ByteSize(1 << 20);
    let broker = TestBroker::start_with(config).await;
    broker.create(product("ops.a")).await;
    let mut refused = None;
    for _ in 0..30 {
        if let Err(status) =
            broker.records().append(append("ops.a").value(vec![b'x'; 100_000])).await
        {
            refused = Some(failure(&status));
            break;
        }
    }
    let refused = refused.expect("3 MB of 1 MiB");
    assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "LIMIT_REACHED"));
    assert_eq!(refused.metadata["quota"], "stored_bytes_per_team");
    assert_eq!(refused.metadata["limit"], "1048576");
    assert!(refused.metadata["stored"].parse::<u64>().unwrap() > 900_000);
    assert!(refused.message.contains("retention_bytes"), "{}", refused.message);
    assert_eq!(refused.applied, "no");
}

#[tokio::test]
async fn a_principal_has_so_many_connections() {
    let mut config = meshlog_broker::Config::default();
    config.quotas.connections = 2;
    let broker = TestBroker::start_with(config).await;
    let ask = async |channel, name: &str| {
        let mut admin = v1::admin_service_client::AdminServiceClient::new(channel);
        let mut request = tonic::Request::new(v1::GetServerInfoRequest {});
        request.metadata_mut().insert("meshlog-application", name.parse().unwrap());
        admin.get_server_info(request).await.map(drop)
    };
    let (one, two, third) = (broker.connect(), broker.connect(), broker.connect());
    for channel in [&one, &two, &one] {
        ask(channel.clone(), "greedy").await.unwrap();
    }
    let refused = failure(&ask(third.clone(), "greedy").await.unwrap_err());
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::ResourceExhausted, "QUOTA_EXCEEDED")
    );
    assert_eq!(refused.metadata["quota"], "connections");
    ask(third.clone(), "modest").await.expect("others have their own");
    drop(two);
    for attempt in 0.. {
        if ask(third.clone(), "greedy").await.is_ok() {
            break;
        }
        assert!(attempt < 500, "the place never came back");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn connections_are_bounded_by_the_memory_that_they_cost() {
    let mut config = meshlog_broker::Config::default();
    // A quarter of it is for connections: five of them.
    config.edge.memory = meshlog_broker::config::ByteSize(1 << 20);
    let broker = TestBroker::start_with(config).await;
    let mut open = Vec::new();
    for _ in 0..20 {
        let channel = broker.connect();
        let mut admin = v1::admin_service_client::AdminServiceClient::new(channel.clone());
        if admin.get_server_info(v1::GetServerInfoRequest {}).await.is_ok() {
            open.push(channel);
        }
    }
    assert!((2..=6).contains(&open.len()), "{}", open.len());
    let page = broker.broker().metrics_page();
    let figure = |name: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    };
    let used = figure("meshlog_edge_memory_used_bytes{part=\"connections\"}");
    let limit = figure("meshlog_edge_memory_limit_bytes{part=\"connections\"}");
    assert!(used > limit / 2.0 && used <= limit, "{used} of {limit}");
}
