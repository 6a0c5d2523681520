//! The address that the broker is to listen on: free, or who is there.

use std::{net::SocketAddr, time::Duration};

use meshlog_broker::{Config, edge};
use meshlog_client::{Client, ClientConfig};

use super::Finding;

const WHAT: &str = "address";
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Who has the address.
pub(super) async fn look(config: &Config, address: SocketAddr) -> Finding {
    let error = match tokio::net::TcpListener::bind(address).await {
        Ok(_) => match edge::may_bind(config, address) {
            Ok(()) if edge::needs_keys(config, address) => {
                return Finding::warning(
                    WHAT,
                    format!("{address} is free, and served only once the broker has keys"),
                    "make the first one with `meshlog init`, unless that was done",
                );
            }
            Ok(()) => return Finding::ok(WHAT, format!("{address} is free")),
            Err(refused) => {
                let advice = "see docs/guide/serve-other-machines.md, or listen on 127.0.0.1";
                return Finding::problem(WHAT, refused.to_string(), advice);
            }
        },
        Err(error) => error,
    };
    if error.kind() != std::io::ErrorKind::AddrInUse {
        return Finding::problem(
            WHAT,
            format!("{address} cannot be listened on: {error}"),
            "choose an address of this machine with --listen",
        );
    }
    let ask = async {
        let config = ClientConfig { application: "meshlog-cli".into(), ..ClientConfig::default() };
        let client = Client::connect_with(address.to_string(), config).await.ok()?;
        Some(client.catalog().server_info().await)
    };
    match tokio::time::timeout(ANSWER_WITHIN, ask).await.ok().flatten() {
        Some(Err(error)) if error.reason() == "CREDENTIAL_MISSING" => {
            Finding::ok(WHAT, format!("a broker that wants to know who calls listens on {address}"))
        }
        Some(Ok(info)) => {
            let storage = info.storage.unwrap_or_default();
            let found = format!(
                "a broker of version {} with {} products listens on {address}",
                info.version, info.products
            );
            if !storage.appends_refused.is_empty() {
                let advice = "see `meshlog server info`, and restart the broker after the cause";
                let found = format!("{found}; it refuses appends: {}", storage.appends_refused);
                return Finding::problem(WHAT, found, advice);
            }
            if !storage.damage.is_empty() {
                let found = format!("{found}; it reports damaged data: {}", storage.damage[0]);
                let advice = "stop it and run `meshlog verify` on its directory";
                return Finding::problem(WHAT, found, advice);
            }
            // The forecast of the disk comes first among them.
            if let Some(note) = storage.notes.first() {
                return Finding::warning(WHAT, found, format!("it says: {note}"));
            }
            Finding::ok(WHAT, found)
        }
        Some(Err(_)) | None => Finding::problem(
            WHAT,
            format!("another program listens on {address}"),
            "stop it, or choose another address with --listen 127.0.0.1:0",
        ),
    }
}
