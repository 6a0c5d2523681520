//! The address that the broker is to listen on: free, or who is there.

use std::{net::SocketAddr, time::Duration};

use meshlog_client::{Client, ClientConfig};

use super::Finding;

const WHAT: &str = "address";
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Who has the address.
pub(super) async fn look(address: SocketAddr) -> Finding {
    let error = match tokio::net::TcpListener::bind(address).await {
        Ok(_) if address.ip().is_loopback() => {
            return Finding::ok(WHAT, format!("{address} is free"));
        }
        Ok(_) => {
            return Finding::problem(
                WHAT,
                format!("{address} can be reached from other machines"),
                "callers cannot be authenticated yet; listen on 127.0.0.1 or [::1]",
            );
        }
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
        client.catalog().server_info().await.ok()
    };
    match tokio::time::timeout(ANSWER_WITHIN, ask).await.ok().flatten() {
        Some(info) => {
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
        None => Finding::problem(
            WHAT,
            format!("another program listens on {address}"),
            "stop it, or choose another address with --listen 127.0.0.1:0",
        ),
    }
}
