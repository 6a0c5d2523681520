//! A TCP proxy that breaks connections, wherever in a frame or a message that falls.
//!
//! The first four of every five connections are cut after 60,000 bytes of both directions together; a fifth that lives
//! lets every program reach its end.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

const CUT_AFTER: i64 = 60_000;

/// Serves until the process ends; the threads of a connection end with it.
pub(crate) struct Proxy {
    address: String,
}

impl Proxy {
    pub(crate) fn start(broker: &str) -> Result<Self, String> {
        let listening = |error| format!("the proxy cannot listen: {error}");
        let listener = TcpListener::bind("127.0.0.1:0").map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?.to_string();
        let broker = broker.to_owned();
        thread::spawn(move || {
            for (number, client) in listener.incoming().enumerate() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&broker)) else {
                    return;
                };
                let budget = if number % 5 == 4 { i64::MAX } else { CUT_AFTER };
                relay(&client, &server, budget);
            }
        });
        Ok(Self { address })
    }

    pub(crate) fn address(&self) -> String {
        self.address.clone()
    }
}

fn relay(client: &TcpStream, server: &TcpStream, budget: i64) {
    let budget = Arc::new(AtomicI64::new(budget));
    for (from, to) in [(client, server), (server, client)] {
        let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
        let budget = Arc::clone(&budget);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                let left = budget.fetch_sub(read as i64, Ordering::Relaxed) - read as i64;
                if left < 0 || to.write_all(&buffer[..read]).is_err() {
                    break;
                }
            }
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}
