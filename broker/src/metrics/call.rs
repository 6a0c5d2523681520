//! How long calls take, by method and outcome.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Instant;

use meshlog_storage::Durations;
use prost::Message as _;

use super::writer::Page;

/// What a call that is none of gRPC's is counted under.
const OTHER: &str = "http";

/// Outcomes: those of gRPC by their numbers, then answers of HTTP by their hundreds.
const CODES: [&str; 22] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
    "1xx",
    "2xx",
    "3xx",
    "4xx",
    "5xx",
];

/// Number of an outcome that nobody told: the client went away.
const CANCELLED: usize = 1;
const UNKNOWN: usize = 2;
const INTERNAL: usize = 13;
/// Where the hundreds of HTTP begin.
const HTTP: usize = 16;

/// Every method of the contract, and of the services beside it: its path, and whether it streams
/// answers.
static METHODS: LazyLock<Vec<(String, bool)>> = LazyLock::new(|| {
    let sets = [meshlog_proto::FILE_DESCRIPTOR_SET, tonic_health::pb::FILE_DESCRIPTOR_SET];
    let files = sets.into_iter().flat_map(|set| {
        // Both are made by the compiler of this program.
        prost_types::FileDescriptorSet::decode(set).map(|set| set.file).unwrap_or_default()
    });
    let mut methods = Vec::new();
    for file in files {
        for service in &file.service {
            for method in &service.method {
                let (package, service) = (file.package(), service.name());
                let path = format!("/{package}.{service}/{}", method.name());
                methods.push((path, method.server_streaming()));
            }
        }
    }
    methods.sort();
    methods.dedup();
    methods
});

/// Calls of one broker.
#[derive(Debug)]
pub(crate) struct Calls {
    methods: HashMap<&'static str, Arc<Method>>,
    other: Arc<Method>,
}

/// Calls of one method.
#[derive(Debug)]
pub(crate) struct Method {
    /// As `RecordService/Append`.
    name: &'static str,
    streams: bool,
    /// Made when the outcome first happens.
    by_code: [OnceLock<Box<Durations>>; CODES.len()],
    begun: AtomicU64,
}

/// A call under way. Dropped without an outcome, its client went away.
#[derive(Debug)]
pub(crate) struct Call {
    method: Arc<Method>,
    began: Instant,
    is_told: bool,
}

impl Default for Calls {
    fn default() -> Self {
        let methods = METHODS.iter().map(|(path, streams)| {
            let name = path.rsplit_once('.').map_or(path.as_str(), |(_, name)| name);
            (path.as_str(), Arc::new(Method::new(name, *streams)))
        });
        Self { methods: methods.collect(), other: Arc::new(Method::new(OTHER, false)) }
    }
}

impl Calls {
    /// A call of this path begins.
    pub(crate) fn begin(&self, path: &str) -> Call {
        let method = Arc::clone(self.methods.get(path).unwrap_or(&self.other));
        method.begun.fetch_add(1, Relaxed);
        Call { method, began: Instant::now(), is_told: false }
    }

    /// Writes what was counted, by name of the method.
    pub(super) fn write(&self, page: &mut Page) {
        let mut methods: Vec<&Arc<Method>> = self.methods.values().collect();
        methods.sort_by_key(|method| method.name);
        methods.push(&self.other);
        let name = "meshlog_rpc_server_duration_seconds";
        let help = "How long calls took, to the end of a stream's answers.";
        for method in &methods {
            for (code, durations) in CODES.iter().zip(&method.by_code) {
                if let Some(durations) = durations.get() {
                    let labels = [("method", method.name), ("code", *code)];
                    page.durations(name, help, labels, durations.counts());
                }
            }
        }
        let name = "meshlog_rpc_server_started";
        for method in methods.iter().filter(|method| method.begun.load(Relaxed) > 0) {
            let labels = [("method", method.name)];
            page.counted(name, "Calls begun.", labels, method.begun.load(Relaxed));
        }
    }
}

impl Method {
    fn new(name: &'static str, streams: bool) -> Self {
        let by_code = std::array::from_fn(|_| OnceLock::new());
        Self { name, streams, by_code, begun: AtomicU64::new(0) }
    }

    /// As `RecordService/Append`.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Its outcome is told behind its last answer.
    pub(crate) fn streams(&self) -> bool {
        self.streams
    }
}

impl Call {
    /// The method that is called.
    pub(crate) fn method(&self) -> &Method {
        &self.method
    }

    /// It ended with this status of gRPC.
    pub(crate) fn end(self, code: i32) {
        let code = usize::try_from(code).ok().filter(|code| *code <= HTTP).unwrap_or(UNKNOWN);
        self.tell(code);
    }

    /// It ended with this status of HTTP.
    pub(crate) fn end_http(self, status: u16) {
        self.tell(HTTP + usize::from(status / 100).clamp(1, 5));
    }

    /// Whether it is one of HTTP.
    pub(crate) fn is_http(&self) -> bool {
        self.method.name == OTHER
    }

    fn tell(mut self, code: usize) {
        self.is_told = true;
        self.count(code);
    }

    fn count(&self, code: usize) {
        self.method.by_code[code].get_or_init(Box::default).add(self.began.elapsed());
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.is_told {
            self.count(if std::thread::panicking() { INTERNAL } else { CANCELLED });
        }
    }
}
