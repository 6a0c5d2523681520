//! Ends what answers a client that does not read: the task of a call, or a whole connection.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;

/// Ends a future from outside.
#[derive(Debug, Default)]
pub(super) struct Cut {
    is_cut: AtomicBool,
    waker: AtomicWaker,
}

tokio::task_local! {
    /// What ends the task that answers a call.
    static CUT: Arc<Cut>;
}

impl Cut {
    /// Ends it.
    pub(super) fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether it was ended.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }

    /// That of the current task; one without effect if there is none.
    pub(super) fn of_task() -> Arc<Self> {
        CUT.try_with(Arc::clone).unwrap_or_default()
    }

    /// Runs a future until its end or until this is cut.
    pub(super) async fn ends(self: Arc<Self>, future: impl Future) {
        let mut future = std::pin::pin!(CUT.scope(Arc::clone(&self), future));
        std::future::poll_fn(move |context| {
            self.waker.register(context.waker());
            match self.is_cut() {
                true => Poll::Ready(()),
                false => future.as_mut().poll(context).map(|_| ()),
            }
        })
        .await;
    }
}

/// Runs what answers calls, each so that it can be cut off.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tasks;

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        tokio::spawn(Arc::<Cut>::default().ends(future));
    }
}

/// Waits a little; for those who look again.
#[derive(Debug, Default)]
pub(super) struct Pause(Option<Pin<Box<tokio::time::Sleep>>>);

impl Pause {
    /// Ready after `pause`, and then anew.
    pub(super) fn poll(&mut self, pause: Duration, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
        let elapsed = sleep.as_mut().poll(context);
        if elapsed.is_ready() {
            self.0 = None;
        }
        elapsed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_is_cut_ends() {
        let (sender, cut) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(Arc::<Cut>::default().ends(async move {
            sender.send(Cut::of_task()).unwrap();
            std::future::pending::<()>().await;
        }));
        cut.await.unwrap().cut();
        task.await.unwrap();
    }
}
