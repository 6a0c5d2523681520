//! A TCP proxy that cuts each connection after a number of bytes, wherever that falls: inside a
//! frame header, a message, a handshake.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

pub(crate) struct CuttingProxy {
    pub(crate) address: SocketAddr,
    pub(crate) cuts: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A small generator, so that a failing run can be repeated from its seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

impl CuttingProxy {
    /// Cuts each of the first `cuts` connections after fewer than `most` bytes of both directions
    /// together, drawn from `seed`; later connections live on.
    pub(crate) async fn start(broker: SocketAddr, seed: u64, cuts: u64, most: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let made = Arc::new(AtomicU64::new(0));
        let counter = made.clone();
        let task = tokio::spawn(async move {
            let mut random = Random::new(seed);
            // Ends its tasks when the proxy is dropped.
            let mut relays = JoinSet::new();
            for connection in 0.. {
                let Ok((client, _)) = listener.accept().await else { return };
                let budget = if connection < cuts { random.below(most) } else { u64::MAX };
                let counter = counter.clone();
                relays.spawn(async move {
                    relay(client, broker, budget).await;
                    counter.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Self { address, cuts: made, task }
    }
}

async fn relay(mut client: TcpStream, broker: SocketAddr, mut budget: u64) {
    let Ok(mut broker) = TcpStream::connect(broker).await else { return };
    let (mut up, mut down) = ([0; 4096], [0; 4096]);
    while budget > 0 {
        let (read, to, buffer) = tokio::select! {
            read = client.read(&mut up) => (read, &mut broker, &up),
            read = broker.read(&mut down) => (read, &mut client, &down),
        };
        let Ok(read @ 1..) = read else { return };
        let allowed = read.min(usize::try_from(budget).unwrap_or(usize::MAX));
        if to.write_all(&buffer[..allowed]).await.is_err() {
            return;
        }
        budget -= allowed as u64;
    }
}
