//! Who a TLS client is.

/// The names in the certificate of a client whose chain was verified. A connection with mutual TLS puts
/// it into the extensions of each of its requests; one without puts none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Subject alternative names of the kind dNSName, as they stand in the certificate.
    pub dns: Vec<String>,
    /// Subject alternative names of the kind uniformResourceIdentifier.
    pub uris: Vec<String>,
}
