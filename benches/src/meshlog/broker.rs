//! A broker in this process, served over TCP.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use meshlog_broker::config::Config;
use meshlog_broker::{Broker, Caller};
use meshlog_proto::v1;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A broker and the address it listens on. Stopped when dropped.
#[derive(Debug)]
pub struct UnderTest {
    runtime: Runtime,
    broker: Broker,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: Option<JoinHandle<meshlog_broker::Result<()>>>,
}

impl UnderTest {
    /// Opens a broker on a directory and serves it on a port of loopback, on a runtime with two workers.
    ///
    /// # Errors
    /// When the directory, the runtime or the listener cannot be had.
    pub fn start(directory: &Path) -> io::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let config = Config { data_dir: Some(directory.to_owned()), ..Config::default() };
        let broker = Broker::open(config).map_err(io::Error::other)?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let served = runtime.spawn(meshlog_broker::edge::serve(broker.clone(), listener, async {
            let _ = stopped.await;
        }));
        Ok(Self { runtime, broker, address, stop: Some(stop), served: Some(served) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Syncs of the journal so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.broker.server_info().storage.map_or(0, |storage| storage.syncs)
    }

    /// Creates products `sandbox.<prefix>-0` and so on, 64 at a time, and returns their names.
    ///
    /// # Errors
    /// When one cannot be created.
    pub fn create_products(&self, prefix: &str, count: usize) -> io::Result<Vec<String>> {
        let names: Vec<String> =
            (0..count).map(|number| format!("sandbox.{prefix}-{number}")).collect();
        self.runtime.block_on(async {
            for chunk in names.chunks(64) {
                let created = chunk.iter().map(|name| async {
                    let product = v1::Product { name: name.clone(), ..v1::Product::default() };
                    let request = v1::CreateProductRequest {
                        product: Some(product),
                        ..v1::CreateProductRequest::default()
                    };
                    self.broker.catalogue().create_product(&Caller::new("bench"), request).await
                });
                futures_util::future::try_join_all(created).await.map_err(io::Error::other)?;
            }
            Ok(names)
        })
    }

    /// Deletes a product with its records.
    ///
    /// # Errors
    /// When it cannot be deleted.
    pub fn delete_product(&self, name: &str) -> io::Result<()> {
        let request = v1::DeleteProductRequest {
            name: name.to_owned(),
            ..v1::DeleteProductRequest::default()
        };
        let caller = Caller::new("bench");
        let deleted = self.broker.catalogue().delete_product(&caller, request);
        self.runtime.block_on(deleted).map_err(io::Error::other)?;
        Ok(())
    }
}

impl Drop for UnderTest {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(served) = self.served.take() {
            let _ = self.runtime.block_on(served);
        }
        let _ = self.runtime.block_on(self.broker.close());
    }
}
