//! Open streams ask again.

use std::sync::Arc;

use tokio::sync::watch;

use super::decision::Resource;
use super::epoch::LOOK;
use super::permission::Permissions;
use super::table::Rpc;
use crate::caller::Caller;
use crate::catalogue::Catalogue;
use crate::error::Result;

/// Whether whoever opened a stream may still have it. Costs one look at a number per message, and
/// nothing while the stream is idle and nothing changes.
pub(crate) struct Recheck {
    catalogue: Catalogue,
    caller: Caller,
    about: About,
    /// What the call needs beside what its row says.
    need: Option<Permissions>,
    changes: watch::Receiver<u64>,
    /// The epoch of the last decision.
    seen: Option<u64>,
}

enum About {
    /// Who calls, whatever it is about.
    Caller,
    Broker(Rpc),
    Product(Rpc, Arc<str>),
}

impl std::fmt::Debug for Recheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recheck").field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl Recheck {
    /// Of a call that was just allowed, on a product or on the broker.
    pub(crate) fn new(
        catalogue: &Catalogue,
        caller: &Caller,
        rpc: Rpc,
        product_id: Option<&Arc<str>>,
    ) -> Self {
        let about = match product_id {
            Some(id) => About::Product(rpc, Arc::clone(id)),
            None => About::Broker(rpc),
        };
        Self::about(catalogue, caller, about)
    }

    /// Of a caller whose every message is looked at anyway.
    pub(crate) fn of_caller(catalogue: &Catalogue, caller: &Caller) -> Self {
        Self::about(catalogue, caller, About::Caller)
    }

    /// Of a call that needs this beside what its row says.
    pub(crate) fn with(mut self, need: Permissions) -> Self {
        self.need = Some(need);
        self
    }

    fn about(catalogue: &Catalogue, caller: &Caller, about: About) -> Self {
        Self {
            catalogue: catalogue.clone(),
            caller: caller.clone(),
            about,
            need: None,
            changes: catalogue.access_epoch().changes(),
            seen: None,
        }
    }

    /// Refuses the stream if the caller may not have it any more.
    ///
    /// # Errors
    /// Why the caller is not known any more, or `PERMISSION_DENIED`.
    pub(crate) fn check(&mut self) -> Result<()> {
        if self.caller.is_trusted() {
            return Ok(());
        }
        let epoch = self.catalogue.epoch();
        if self.seen == Some(epoch) && !self.caller.has_end() {
            return Ok(());
        }
        self.catalogue.check_caller(&self.caller)?;
        match &self.about {
            About::Caller => {}
            About::Broker(rpc) => self.catalogue.allow(&self.caller, *rpc, Resource::Broker)?,
            About::Product(rpc, id) => {
                // One that is deleted ends the stream by itself.
                if let Some(product) = self.catalogue.find(id) {
                    let on = Resource::Product(&product);
                    self.catalogue.allow(&self.caller, *rpc, on)?;
                    if let Some(need) = self.need {
                        self.catalogue.allow_with(&self.caller, *rpc, on, need)?;
                    }
                }
            }
        }
        self.seen = Some(epoch);
        Ok(())
    }

    /// Waits until [`Recheck::check`] should be asked again. For callers inside the process: for ever.
    pub(crate) async fn due(&mut self) {
        if self.caller.is_trusted() {
            return std::future::pending().await;
        }
        let epoch = self.catalogue.access_epoch();
        loop {
            let has_end = epoch.has_end() || self.caller.has_end();
            tokio::select! {
                // The sender lives as long as the catalogue that is held here.
                _ = self.changes.changed() => return,
                () = tokio::time::sleep(LOOK), if has_end => {
                    if self.caller.has_end() || self.seen != Some(self.catalogue.epoch()) {
                        return;
                    }
                }
            }
        }
    }
}
