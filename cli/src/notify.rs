//! Tells the service manager how the broker is: the protocol of systemd's `Type=notify`, one datagram
//! to the socket that `NOTIFY_SOCKET` names. Without one, nothing is told.

use std::{
    env,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::Duration,
};

use tokio::task::AbortHandle;

/// The way to the service manager.
pub(crate) struct Manager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<AbortHandle>,
}

impl Manager {
    /// As the environment says.
    pub(crate) fn of_environment() -> Self {
        let socket = env::var_os("NOTIFY_SOCKET").and_then(|name| {
            let bytes = name.as_encoded_bytes();
            let address = match bytes.strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(&name),
            };
            Some((UnixDatagram::unbound().ok()?, address.ok()?))
        });
        Self { socket, watchdog: None }
    }

    /// Clients may come; from now on a sign of life is sent as often as the manager wants one. It
    /// comes from the runtime, so it stops when the runtime does.
    pub(crate) fn ready(&mut self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={status}"));
        let Some(every) = watchdog() else { return };
        let Some((socket, address)) = &self.socket else { return };
        let (Ok(socket), address) = (socket.try_clone(), address.clone()) else { return };
        let alive = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(every);
            loop {
                ticks.tick().await;
                let _ = socket.send_to_addr(b"WATCHDOG=1", &address);
            }
        });
        self.watchdog = Some(alive.abort_handle());
    }

    /// The broker ends; what is under way is finished.
    pub(crate) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=finishing what is under way");
    }

    /// A manager that is gone is no reason to stop.
    fn tell(&self, state: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.send_to_addr(state.as_bytes(), address);
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(watchdog) = &self.watchdog {
            watchdog.abort();
        }
    }
}

/// Half of the time within which the manager wants a sign of life of this process.
fn watchdog() -> Option<Duration> {
    let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
    let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let micros = number("WATCHDOG_USEC").filter(|micros| is_ours && *micros > 0)?;
    Some(Duration::from_micros(micros / 2).max(Duration::from_millis(10)))
}
