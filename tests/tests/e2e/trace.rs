//! Every answer says by which id its call is found, also that of a caller's trace.

use meshlog_proto::v1::{GetProductRequest, GetServerInfoRequest};
use meshlog_tests::TestBroker;
use tonic::Request;

fn id(metadata: &tonic::metadata::MetadataMap) -> String {
    metadata.get("meshlog-request-id").unwrap().to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_call_is_found_by_the_trace_of_its_caller_or_by_an_id_of_its_own() {
    let broker = TestBroker::start().await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let answer = broker.admin().get_server_info(GetServerInfoRequest {}).await.unwrap();
        ids.push(id(answer.metadata()));
    }
    assert!(ids[0].len() == 32 && ids[0] != ids[1], "{ids:?}");
    let trace = "0af7651916cd43dd8448eb211c80319c";
    for (parent, is_kept) in [
        (format!("00-{trace}-b7ad6b7169203331-01"), true),
        (format!("00-{trace}-0000000000000000-01"), false),
        ("odd".to_owned(), false),
    ] {
        let mut request = Request::new(GetProductRequest { name: "sandbox.none".to_owned() });
        request.metadata_mut().insert("traceparent", parent.parse().unwrap());
        let refused = broker.catalog().get_product(request).await.unwrap_err();
        assert_eq!(id(refused.metadata()) == trace, is_kept, "{parent}");
    }
}

/// A program that embeds brokers: their figures are apart, and nothing is registered anywhere.
#[tokio::test]
async fn two_brokers_in_one_process_count_apart() {
    let (one, other) = (TestBroker::start().await, TestBroker::start().await);
    for _ in 0..3 {
        one.admin().get_server_info(GetServerInfoRequest {}).await.unwrap();
    }
    let count = |broker: &TestBroker| {
        let page = broker.broker().metrics_page();
        let series = "meshlog_rpc_server_started_total{method=\"AdminService/GetServerInfo\"} ";
        page.lines().find_map(|line| line.strip_prefix(series)).map(str::to_owned)
    };
    assert_eq!((count(&one).as_deref(), count(&other)), (Some("3"), None));
}
