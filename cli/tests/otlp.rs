//! Spans and log lines as a collector of OpenTelemetry receives them.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use meshlog_proto::v1::{
    GetProductRequest, GetServerInfoRequest, admin_service_client::AdminServiceClient,
    catalog_service_client::CatalogServiceClient,
};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{
            ExportLogsServiceRequest, ExportLogsServiceResponse,
            logs_service_server::{LogsService, LogsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    logs::v1::LogRecord,
    trace::v1::{Span, span::SpanKind},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// What arrived.
#[derive(Clone, Default)]
struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
    logs: Arc<Mutex<Vec<LogRecord>>>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let scopes = resources.into_iter().flat_map(|resource| resource.scope_spans);
        self.spans.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let resources = request.into_inner().resource_logs;
        let scopes = resources.into_iter().flat_map(|resource| resource.scope_logs);
        self.logs.lock().unwrap().extend(scopes.flat_map(|scope| scope.log_records));
        Ok(Response::new(Default::default()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_receives_the_span_of_a_call_under_its_caller_and_the_log_lines() {
    let collector = Collector::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .add_service(LogsServiceServer::new(collector.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    let server = tokio::spawn(server);

    let home = tempfile::tempdir().unwrap();
    let config = home.path().join(".config/meshlog");
    std::fs::create_dir_all(&config).unwrap();
    let text = format!("[telemetry]\notlp_endpoint = \"{endpoint}\"\n");
    std::fs::write(config.join("config.toml"), text).unwrap();
    let mut broker = Command::new(env!("CARGO_BIN_EXE_meshlog"))
        .args(["serve", "--in-memory", "--listen", "127.0.0.1:0"])
        .env("HOME", home.path())
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("MESHLOG_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(broker.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on ").unwrap();

    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let channel = channel.connect().await.unwrap();
    let mut call = Request::new(GetProductRequest { name: "sandbox.none".to_owned() });
    let parent = format!("00-{TRACE}-{PARENT}-01");
    call.metadata_mut().insert("traceparent", parent.parse().unwrap());
    let refused = CatalogServiceClient::new(channel.clone()).get_product(call).await.unwrap_err();
    let id = refused.metadata().get("meshlog-request-id").unwrap();
    assert_eq!(id.to_str().unwrap(), TRACE, "the request is found by its trace");
    let alone = AdminServiceClient::new(channel).get_server_info(GetServerInfoRequest {}).await;
    let own =
        alone.unwrap().metadata().get("meshlog-request-id").unwrap().to_str().unwrap().to_owned();
    assert_ne!(own, TRACE);

    let pid = rustix::process::Pid::from_raw(i32::try_from(broker.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while broker.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "it exports what is left and ends");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let spans = collector.spans.lock().unwrap();
    let called = spans.iter().find(|span| span.name == "CatalogService/GetProduct").unwrap();
    assert_eq!((hex(&called.trace_id), hex(&called.parent_span_id)), (TRACE.into(), PARENT.into()));
    assert_eq!(called.kind, i32::from(SpanKind::Server as i32));
    let root = spans.iter().find(|span| span.name == "AdminService/GetServerInfo").unwrap();
    assert!(root.parent_span_id.is_empty(), "{root:?}");
    assert_eq!(hex(&root.trace_id), own, "without a caller's trace the request has its own");
    let logs = collector.logs.lock().unwrap();
    let said = |log: &LogRecord| format!("{:?}", log.body);
    assert!(logs.iter().any(|log| said(log).contains("listening")), "{:?}", *logs);
    server.abort();
}
