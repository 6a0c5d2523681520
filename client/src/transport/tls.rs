//! TLS towards the broker.

use std::path::Path;

use http::Uri;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::{
    Error, Result, TlsConfig,
    error::{Code, reason},
};

/// The endpoint, over encrypted connections.
pub(super) fn encrypting(endpoint: Endpoint, config: Option<&TlsConfig>) -> Result<Endpoint> {
    let mut tls = ClientTlsConfig::new();
    let config = config.cloned().unwrap_or_default();
    tls = match &config.ca {
        Some(file) => tls.ca_certificate(Certificate::from_pem(read(file)?)),
        None => tls.with_native_roots(),
    };
    tls = match (&config.certificate, &config.key) {
        (Some(certificate), Some(key)) => {
            tls.identity(Identity::from_pem(read(certificate)?, read(key)?))
        }
        (None, None) => tls,
        _ => {
            return Err(invalid("a client certificate needs its key, and the key its certificate"));
        }
    };
    if let Some(name) = config.server_name {
        tls = tls.domain_name(name);
    }
    endpoint
        .tls_config(tls)
        .map_err(|error| invalid(format!("TLS cannot be set up: {}", super::innermost(&error))))
}

/// The error of a broker that did not prove to be the one asked for, if that is what happened.
pub(super) fn untrusted(broker: &Uri, why: &str) -> Option<Error> {
    let why = why.strip_prefix("invalid peer certificate: ")?;
    let message = format!(
        "the broker at {broker} does not prove who it is: {why}; name the file of the authority that \
         vouches for it, and the host as it stands in its certificate"
    );
    Some(Error::new(Code::Unauthenticated, reason::UNTRUSTED, message))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file)
        .map_err(|error| invalid(format!("{} cannot be read: {error}", file.display())))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidArgument, reason::INVALID_ARGUMENT, message)
}
