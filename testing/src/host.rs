//! The thread a broker lives on.

use std::thread::JoinHandle;
use std::time::Duration;

use meshlog_broker::Broker;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// After this long a broker that does not close is left behind.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// A thread with a runtime, apart from the test's.
#[derive(Debug)]
pub(crate) struct Host {
    handle: Handle,
    last: Option<oneshot::Sender<Broker>>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    pub(crate) fn start() -> Self {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .thread_name("meshlog-test-work")
            .build()
            .expect("a runtime for the broker can be built");
        let handle = runtime.handle().clone();
        let (last, ends) = oneshot::channel::<Broker>();
        let thread = std::thread::Builder::new()
            .name("meshlog-test".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    if let Ok(broker) = ends.await {
                        // Nobody is left to hear how it went.
                        let _ = tokio::time::timeout(CLOSE_LIMIT, broker.close()).await;
                    }
                });
                runtime.shutdown_timeout(CLOSE_LIMIT);
            })
            .expect("a thread for the broker can be started");
        Self { handle, last: Some(last), thread: Some(thread) }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Does work there. It goes on if the caller does not wait for the end.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        match self.handle.spawn(work).await {
            Ok(done) => done,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(ended) => panic!("the broker of this test has ended: {ended}"),
            },
        }
    }

    /// Closes the broker and ends the thread.
    pub(crate) fn end(&mut self, broker: Broker) {
        if let Some(last) = self.last.take() {
            drop(last.send(broker));
        }
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
