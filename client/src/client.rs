//! The entry point: a broker, and what can be done with it.

use meshlog_proto::v1;

use crate::{
    Catalog, ClientConfig, Connector, ConsumerBuilder, Governance, ProducerBuilder, Result,
    transport::{Connection, Transport},
};

/// A broker. Clones share the connection for single calls; every producer and consumer opens its
/// own.
#[derive(Clone)]
pub struct Client {
    transport: Transport,
    calls: Connection,
}

impl Client {
    /// Connects over TCP, to `http://127.0.0.1:7420` or just `127.0.0.1:7420`, with default
    /// settings.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if the address cannot be understood, `UNENCRYPTED` if a key would go to another
    /// machine without encryption, `UNREACHABLE` if no broker answers.
    pub async fn connect(address: impl AsRef<str>) -> Result<Self> {
        Self::connect_with(address, ClientConfig::default()).await
    }

    /// Connects over TCP.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect_with(address: impl AsRef<str>, config: ClientConfig) -> Result<Self> {
        Self::start(Transport::tcp(address.as_ref(), &config)?).await
    }

    /// Connects through byte streams that `connector` opens: to a broker in this process, without a
    /// socket.
    ///
    /// # Errors
    /// `UNREACHABLE` if the connector fails.
    pub async fn over(connector: impl Connector) -> Result<Self> {
        Self::over_with(connector, ClientConfig::default()).await
    }

    /// Connects through byte streams that `connector` opens.
    ///
    /// # Errors
    /// As [`Client::over`].
    pub async fn over_with(connector: impl Connector, config: ClientConfig) -> Result<Self> {
        Self::start(Transport::over(connector, &config)?).await
    }

    async fn start(transport: Transport) -> Result<Self> {
        let calls = transport.connect().await?;
        Ok(Self { transport, calls })
    }

    /// A producer of records of `product` (`<domain>.<name>`), to be configured and built.
    pub fn producer(&self, product: impl Into<String>) -> ProducerBuilder {
        ProducerBuilder::new(self.transport.clone(), product.into())
    }

    /// A consumer of records of `product` (`<domain>.<name>`), to be configured and built.
    pub fn consumer(&self, product: impl Into<String>) -> ConsumerBuilder {
        ConsumerBuilder::new(self.transport.clone(), self.calls.clone(), product.into())
    }

    /// Backs up everything, on a connection of its own: one consistent point in time, without the
    /// bytes of the files whose ids are in `have`. Dropping the stream ends it; one that ends
    /// before `end` came is not whole.
    ///
    /// # Errors
    /// As the broker says.
    pub async fn backup(
        &self,
        have: Vec<String>,
    ) -> Result<impl futures_util::Stream<Item = Result<v1::BackupResponse>> + Send + Unpin> {
        self.transport.connect().await?.backup(v1::BackupRequest { have }).await
    }

    /// The catalogue: products, schemas, domains, teams; single reads; facts about the broker.
    #[must_use]
    pub fn catalog(&self) -> Catalog {
        Catalog::new(self.calls.clone())
    }

    /// Keys, grants and requests for access; who this client is to the broker.
    #[must_use]
    pub fn governance(&self) -> Governance {
        Governance::new(self.calls.clone())
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
