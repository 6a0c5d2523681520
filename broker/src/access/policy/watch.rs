//! New policies without a restart.

use std::path::PathBuf;
use std::time::Duration;

use super::Policies;
use super::files::stamps;
use crate::broker::Broker;
use crate::error::Result;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Reads the policies again whenever their files change; never returns. Those that are not right
/// change nothing and are complained of once, in the log and among the notes of the broker.
pub(crate) async fn watch(broker: Broker) {
    let Some(path) = broker.config().access.policies.clone() else {
        return std::future::pending().await;
    };
    // Those that the broker was opened with may have changed since.
    let mut known = None;
    loop {
        let (of, before) = (path.clone(), known.take());
        let looked = tokio::task::spawn_blocking(move || look(of, before)).await;
        let Ok((stamps, loaded)) = looked else { continue };
        let is_first = known.replace(stamps).is_none();
        match loaded {
            None => {}
            Some(Ok(policies)) => {
                tracing::info!(policies = policies.count(), is_first, "policies are in use");
                broker.catalogue().use_policies(Some(policies).into());
            }
            Some(Err(error)) => {
                tracing::error!(%error, "the policies in use stay");
                broker.catalogue().keep_policies(error.to_string());
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

type Stamps = Vec<(PathBuf, Option<std::time::SystemTime>, u64)>;

fn look(path: PathBuf, known: Option<Stamps>) -> (Stamps, Option<Result<Policies>>) {
    // Before the files are read, so that one written meanwhile is noticed as changed.
    let now = stamps(&path);
    let is_same = known.is_some_and(|known| known == now);
    let loaded = (!is_same).then(|| Policies::load(&path));
    (now, loaded)
}
