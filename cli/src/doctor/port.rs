//! The address that the broker is to listen on: free, or who is there.

use std::{net::SocketAddr, time::Duration};

use meshlog_broker::{Config, edge};
use meshlog_client::{Client, ClientConfig, proto::GetServerInfoResponse};

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
        Some(Ok(info)) => of_broker(address, &info),
        Some(Err(_)) | None => Finding::problem(
            WHAT,
            format!("another program listens on {address}"),
            "stop it, or choose another address with --listen 127.0.0.1:0",
        ),
    }
}

/// What a broker that listens there says of itself.
fn of_broker(address: SocketAddr, info: &GetServerInfoResponse) -> Finding {
    let found = format!(
        "a broker of version {} with {} products listens on {address}",
        info.version, info.products
    );
    let Some(storage) = &info.storage else { return Finding::ok(WHAT, found) };
    if !storage.appends_refused.is_empty() {
        let advice = "see `meshlog server info`, and restart the broker after the cause";
        let found = format!("{found}; it refuses appends: {}", storage.appends_refused);
        return Finding::problem(WHAT, found, advice);
    }
    if let Some(damage) = storage.damage.first() {
        let advice = "stop it and run `meshlog verify` on its directory";
        return Finding::problem(
            WHAT,
            format!("{found}; it reports damaged data: {damage}"),
            advice,
        );
    }
    // The forecast of the disk comes first among them.
    match storage.notes.first() {
        Some(note) => Finding::warning(WHAT, found, format!("it says: {note}")),
        None => Finding::ok(WHAT, found),
    }
}

#[cfg(test)]
mod tests {
    use meshlog_client::proto::StorageInfo;

    use super::*;
    use crate::doctor::State;

    #[test]
    fn the_worst_of_what_a_broker_says_is_told_and_its_forecast_is_a_warning() {
        let address = "127.0.0.1:7420".parse().unwrap();
        let said = |appends_refused: &str, damage: &[&str], notes: &[&str]| {
            let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            let storage = StorageInfo {
                appends_refused: appends_refused.to_owned(),
                damage: texts(damage),
                notes: texts(notes),
                ..StorageInfo::default()
            };
            let info = GetServerInfoResponse { storage: Some(storage), ..Default::default() };
            let finding = of_broker(address, &info);
            (finding.state, finding.found, finding.advice)
        };
        let notes = ["the disk is full in about 2 days", "an old note"];
        let (state, _, advice) = said("", &[], &notes);
        assert_eq!(state, State::Warning);
        assert_eq!(advice.unwrap(), "it says: the disk is full in about 2 days");
        let (state, found, _) = said("", &["journal file 3"], &notes);
        assert!(state == State::Problem && found.contains("journal file 3"), "{found}");
        let (state, found, _) = said("the disk is full", &["journal file 3"], &notes);
        assert!(state == State::Problem && found.contains("the disk is full"), "{found}");
        assert_eq!(said("", &[], &[]).0, State::Ok);
    }
}
