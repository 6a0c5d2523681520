//! How many bytes of the disk the products of a team may take.
//!
//! What a team has stored is looked up in the files, at most every few seconds, and what its
//! products append in between is added. So a team may go beyond its quota by what a look missed,
//! never by more than those seconds' worth.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::broker::Broker;
use crate::catalogue::ProductHandle;
use crate::config::ByteSize;
use crate::error::{Error, Reason, Result};

/// A look is worth so long.
const LOOK: Duration = Duration::from_secs(5);

/// What teams have stored.
#[derive(Debug, Default)]
pub(crate) struct Stored(Mutex<HashMap<Arc<str>, Known>>);

#[derive(Clone, Copy, Debug)]
struct Known {
    bytes: u64,
    at: Instant,
}

impl Broker {
    /// Counts an append to a product against the quota of the team that owns it.
    ///
    /// # Errors
    /// `LIMIT_REACHED` once the team has stored as much as it may.
    pub(super) async fn count_stored(&self, product: &ProductHandle, bytes: usize) -> Result<()> {
        let limit = self.config().quotas.stored_bytes_per_team;
        // The broker's own products belong to nobody's quota.
        if limit.0 == 0 || product.number == 0 {
            return Ok(());
        }
        let team: Arc<str> = Arc::from(product.owner());
        let stored = self.stored();
        let is_fresh = |known: &&Known| known.at.elapsed() < LOOK;
        if stored.0.lock().get(&team).filter(is_fresh).is_none() {
            let bytes = self.look_up(&team).await;
            stored.0.lock().insert(Arc::clone(&team), Known { bytes, at: Instant::now() });
        }
        let mut teams = stored.0.lock();
        let Some(known) = teams.get_mut(&team) else { return Ok(()) };
        if known.bytes + bytes as u64 > limit.0 {
            return Err(reached(&team, limit, known.bytes));
        }
        known.bytes += bytes as u64;
        Ok(())
    }

    /// What the files hold. One that cannot be read counts as nothing: whoever reads it is told.
    async fn look_up(&self, team: &str) -> u64 {
        let mut sum = 0;
        for stream in self.catalogue().streams_of_team(team) {
            let (sender, receiver) = oneshot::channel();
            self.storage().stored_bytes(stream, move |bytes| {
                // Whoever asked may have gone away.
                let _gone = sender.send(bytes);
            });
            sum += receiver.await.ok().and_then(Result::ok).unwrap_or_default();
        }
        sum
    }
}

fn reached(team: &str, limit: ByteSize, stored: u64) -> Error {
    Error::new(
        Reason::LimitReached,
        format!(
            "the products of {team} take {} of the {limit} that a team may store; trim or delete \
             some, let their records go sooner (retention_age, retention_bytes), or ask for a larger \
             quota (quotas.stored_bytes_per_team)",
            ByteSize(stored)
        ),
    )
    .with("limit", limit.0)
    .with("quota", "stored_bytes_per_team")
    .with("stored", stored)
    .with("team", team)
}
