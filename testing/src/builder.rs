//! What a test says about its broker before it starts.

use meshlog_broker::Config;

use crate::broker::{Medium, TestBroker};

/// Configures a [`TestBroker`]; in memory and without a port, unless told otherwise.
#[derive(Clone, Debug)]
#[must_use = "nothing runs until it is started"]
pub struct TestBrokerBuilder {
    pub(crate) config: Config,
    pub(crate) medium: Medium,
    pub(crate) has_port: bool,
}

impl TestBrokerBuilder {
    /// Settings. A `data_dir` among them is used, and stays behind at the end.
    pub fn config(mut self, config: Config) -> Self {
        if config.data_dir.is_some() {
            self.medium = Medium::Named;
        }
        self.config = config;
        self
    }

    /// Keeps its data in a temporary directory, which is removed at the end.
    pub fn on_disk(mut self) -> Self {
        self.medium = Medium::Temporary;
        self
    }

    /// Keeps its data on a simulated disk, which knows what was synced and what was not:
    /// [`TestBroker::crash`] takes the rest.
    pub fn on_simulated_disk(mut self) -> Self {
        self.medium = Medium::Simulated;
        self
    }

    /// Serves gRPC on a free port of 127.0.0.1: [`TestBroker::address`].
    pub fn port(mut self) -> Self {
        self.has_port = true;
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// If it cannot be started, with the reason.
    pub async fn start(self) -> TestBroker {
        TestBroker::start_as(self).await
    }
}
