//! Reads the keys of the issuer of tokens, again and again.
//!
//! ```text
//! every `refresh`, or when a token names an unknown key ─► key set ─► identity
//!        └ but not within `min_refresh` of the last attempt
//! ```
//!
//! An issuer that does not answer leaves the keys in use that were read last, for as long as
//! `keep_keys` says.

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::fetch::Fetcher;
use crate::broker::Broker;
use crate::config::TokenConfig;
use crate::identity::KeySet;

/// Most bytes of a key set, or of what says where it is.
const DOCUMENT_MAX: usize = 256 << 10;

/// An attempt that failed is repeated after this time.
const RETRY: Duration = Duration::from_secs(30);

/// A file is looked at this often.
const LOOK: Duration = Duration::from_secs(2);

/// What is read of `.well-known/openid-configuration`.
#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

/// Keeps the keys of the issuer as they are published; never returns.
pub(super) async fn watch(broker: Broker) {
    let Some(tokens) = broker.identity().tokens() else { return std::future::pending().await };
    let config = tokens.config();
    let fetcher = Fetcher::new(config.ca.as_deref());
    let mut last_problem = String::new();
    loop {
        let outcome = match (&config.keys_file, &fetcher) {
            (Some(file), _) => read(file).await,
            (None, Ok(fetcher)) => fetch(fetcher, config).await,
            (None, Err(why)) => Err(why.clone()),
        };
        let problem = outcome.as_ref().err().cloned().unwrap_or_default();
        if problem != last_problem {
            match problem.as_str() {
                "" => tracing::info!(issuer = config.issuer, "its keys are read again"),
                why => tracing::error!(
                    issuer = config.issuer,
                    why,
                    "the keys of the issuer of tokens cannot be read; those read last stay in use"
                ),
            }
        }
        let is_well = problem.is_empty();
        last_problem = problem;
        if tokens.learn(outcome, broker.catalogue().now()) {
            broker.catalogue().decide_anew();
        }
        let refresh = match (&config.keys_file, is_well) {
            (Some(_), _) => LOOK.min(config.refresh.into()),
            (None, true) => config.refresh.into(),
            (None, false) => RETRY.min(config.refresh.into()),
        };
        let pause = Duration::from(config.min_refresh);
        tokio::time::sleep(pause.min(refresh)).await;
        tokio::select! {
            () = tokio::time::sleep(refresh.saturating_sub(pause)) => {}
            () = tokens.asked() => {}
        }
    }
}

async fn read(file: &Path) -> Result<KeySet, String> {
    let shown = file.display().to_string();
    let file = file.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let size = std::fs::metadata(&file).map_err(|error| error.to_string())?.len();
        match size > DOCUMENT_MAX as u64 {
            true => Err(format!("it has {size} bytes, more than the {DOCUMENT_MAX} that are read")),
            false => std::fs::read(&file).map_err(|error| error.to_string()),
        }
    });
    let text = read.await.map_err(|error| error.to_string()).flatten();
    text.and_then(|text| KeySet::parse(&text)).map_err(|why| format!("{shown}: {why}"))
}

async fn fetch(fetcher: &Fetcher, config: &TokenConfig) -> Result<KeySet, String> {
    let from = match config.keys_uri.as_str() {
        "" => discover(fetcher, &config.issuer).await?,
        uri => uri.to_owned(),
    };
    let text = fetcher.get(&from, DOCUMENT_MAX).await?;
    KeySet::parse(&text).map_err(|why| format!("{from}: {why}"))
}

/// Where an issuer says that its keys are.
async fn discover(fetcher: &Fetcher, issuer: &str) -> Result<String, String> {
    let uri = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let text = fetcher.get(&uri, DOCUMENT_MAX).await?;
    let discovered: Discovered =
        serde_json::from_slice(&text).map_err(|error| format!("{uri}: {error}"))?;
    match discovered.issuer == issuer {
        true => Ok(discovered.jwks_uri),
        false => Err(format!(
            "{uri} is of another issuer: `{}`; the settings must name it exactly so",
            discovered.issuer
        )),
    }
}
