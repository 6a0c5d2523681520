//! One read, with a long poll at the durable end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use meshlog_proto::{server_v1, v1};
use tokio::time::Instant;

use super::cursor::Cursors;
use super::limits::{DEFAULT_READ_BYTES, MAX_READ_BYTES, MAX_READ_WAIT};
use crate::access::{Recheck, Rpc};
use crate::broker::Broker;
use crate::caller::Caller;
use crate::error::Result;
use crate::time::duration_within;

impl Broker {
    /// Reads once from a start position. With nothing there, waits up to `max_wait` for new
    /// records; an answer without batches means that none came.
    pub async fn read(
        &self,
        caller: &Caller,
        request: v1::ReadRequest,
    ) -> Result<server_v1::ReadResponse> {
        self.refuse_if_closing()?;
        let wait = duration_within(
            request.max_wait.as_ref(),
            "max_wait",
            Duration::ZERO,
            Duration::ZERO..=MAX_READ_WAIT,
        )?;
        let product = self.catalogue().resolve_for(
            caller,
            Rpc::Read,
            &request.product,
            &request.product_id,
        )?;
        let notices = self.catalogue().notices(&product, &request.product);
        let turn = self.turn().fetch_add(1, Ordering::Relaxed) as usize;
        let mut cursors =
            Cursors::resolve(self, product, &request.partitions, request.start, turn).await?;
        let max_bytes = read_bytes(request.max_bytes);
        let mut batches = cursors.fill(max_bytes).await?;
        if batches.is_empty() && !wait.is_zero() {
            let until = Instant::now() + wait;
            let watch = cursors.watch();
            let product_id = &cursors.product().id;
            let mut access = Recheck::new(self.catalogue(), caller, Rpc::Read, Some(product_id));
            loop {
                access.check()?;
                batches = cursors.fill(max_bytes).await?;
                if !batches.is_empty() {
                    break;
                }
                tokio::select! {
                    () = watch.advanced() => {}
                    () = access.due() => {}
                    () = tokio::time::sleep_until(until) => break,
                    () = self.closing().cancelled() => break,
                }
            }
        }
        self.count_read(cursors.product(), caller, &batches);
        Ok(server_v1::ReadResponse {
            product_id: cursors.product_id(),
            batches,
            partitions: cursors.states(),
            notices,
        })
    }
}

/// The bytes of one message: what was asked for, within what a frame allows.
pub(super) fn read_bytes(asked: u32) -> usize {
    match asked as usize {
        0 => DEFAULT_READ_BYTES,
        bytes => bytes.min(MAX_READ_BYTES),
    }
}
