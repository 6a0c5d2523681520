//! Another client, who only wants to work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use meshlog_proto::v1::record_service_client::RecordServiceClient;
use meshlog_tests::append;
use tokio::task::JoinHandle;

use super::server::Server;

/// Appends small batches to `ops.b`, one after the other.
pub(crate) struct Bystander {
    done: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
    task: JoinHandle<Others>,
}

/// How it went for others.
pub(crate) struct Others {
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    pub(crate) p99: Duration,
    pub(crate) why: Option<String>,
}

impl Bystander {
    pub(crate) async fn start(server: &Server) -> Self {
        let (done, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut records = RecordServiceClient::new(server.connect());
        let (ended, counted) = (Arc::clone(&done), Arc::clone(&calls));
        let task = tokio::spawn(async move {
            let (mut times, mut failed, mut why) = (Vec::new(), 0, None);
            while !ended.load(Ordering::Relaxed) {
                let begun = Instant::now();
                if let Err(status) = records.append(append("ops.b").value("{}")).await {
                    failed += 1;
                    why = Some(status.to_string());
                }
                times.push(begun.elapsed());
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            times.sort();
            let p99 = times[times.len() * 99 / 100];
            Others { calls: times.len() as u64, failed, p99, why }
        });
        Self { done, calls, task }
    }

    /// Waits until it has made so many more calls.
    pub(crate) async fn goes_on(&self, count: u64) {
        let until = self.calls.load(Ordering::Relaxed) + count;
        let wait = async {
            while self.calls.load(Ordering::Relaxed) < until {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.expect("others go on");
    }

    pub(crate) async fn end(self) -> Others {
        self.done.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}
