//! The key in the metadata of every call, and where it may not go.

use std::net::IpAddr;

use http::Uri;
use tonic::metadata::{Ascii, MetadataValue};
use zeroize::Zeroizing;

use crate::{
    Error, Key, Result,
    error::{Code, reason},
};

/// `Bearer` and the key. Marked as sensitive: no log shows it, and no table of headers remembers it.
pub(super) fn authorization(key: &Key) -> Result<MetadataValue<Ascii>> {
    let text = Zeroizing::new(format!("Bearer {}", key.reveal()));
    let is_key =
        !key.reveal().is_empty() && key.reveal().bytes().all(|byte| byte.is_ascii_graphic());
    let value = text.parse::<MetadataValue<Ascii>>().ok().filter(|_| is_key);
    let mut value = value.ok_or_else(|| {
        let message =
            "the key is not one word of printable ASCII; take it as it was shown when it was made";
        Error::new(Code::InvalidArgument, reason::INVALID_ARGUMENT, message)
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// Refuses to send a key unencrypted to another machine.
pub(super) fn stays_here(broker: &Uri) -> Result<()> {
    let host = broker.host().unwrap_or_default();
    if is_this_machine(host) {
        return Ok(());
    }
    let message = format!(
        "the key would go to {host} unencrypted, and everybody on the way could read it; connect with \
         https:// or name the authority that vouches for the broker, or say that the key may be sent so"
    );
    Err(Error::new(Code::InvalidArgument, reason::UNENCRYPTED, message))
}

/// Whether what is sent to a host stays on this machine.
fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        // Names below it are loopback too, says RFC 6761.
        Err(_) => {
            let name = bare.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost" || name.ends_with(".localhost")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_to_this_machine_or_encrypted() {
        for here in
            ["127.0.0.1", "127.9.9.9", "[::1]", "[::ffff:127.0.0.1]", "localhost", "a.LOCALHOST."]
        {
            stays_here(&format!("http://{here}:7420").parse().unwrap()).unwrap();
        }
        for elsewhere in ["broker.example", "192.0.2.7", "[2001:db8::1]", "0.0.0.0", "notlocalhost"]
        {
            let broker = format!("http://{elsewhere}:7420").parse().unwrap();
            let refused = stays_here(&broker).unwrap_err();
            assert_eq!(refused.reason(), reason::UNENCRYPTED);
            assert!(refused.message().contains("https://"), "{refused}");
        }
    }

    #[test]
    fn what_is_sent_is_not_shown_and_what_cannot_be_sent_is_not_repeated() {
        let value = authorization(&Key::from("mlk_01_secret")).unwrap();
        assert!(value.is_sensitive());
        assert_eq!(value.to_str().unwrap(), "Bearer mlk_01_secret");
        assert!(!format!("{value:?}").contains("secret"));
        for odd in ["", "secret\nsecret", "secret secret", "sécret", "secret\0"] {
            let refused = authorization(&Key::from(odd)).unwrap_err();
            assert!(!refused.to_string().contains("cret"), "{refused}");
        }
    }
}
