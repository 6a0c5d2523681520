//! `meshlog serve`: a broker on a data directory, or in memory, until it is told to stop.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use meshlog_broker::{Broker, Config, edge};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    exit::{Exit, Failure, Result},
    log::{self, LogFormat},
    notify::Manager,
    output::Out,
    settings::{self, DEFAULT_ADDRESS},
};

/// Arguments of `serve`.
#[derive(Debug, Args)]
#[command(before_help = "Examples:
  meshlog serve
  meshlog serve --data-dir ./data --listen 127.0.0.1:7421
  meshlog serve --in-memory --listen 127.0.0.1:0
  meshlog serve --listen 0.0.0.0:7420     with [broker.tls] in the file
  meshlog serve --log-format json
  meshlog serve --print-config > config.toml")]
pub(crate) struct Serve {
    /// Where the records are kept; created if it does not exist [default: `broker.data_dir` of the
    /// configuration file, or $XDG_DATA_HOME/meshlog]
    #[arg(long, value_name = "DIR", conflicts_with = "in_memory")]
    data_dir: Option<PathBuf>,
    /// Keep everything in memory; nothing survives the process
    #[arg(long)]
    in_memory: bool,
    /// Address to listen on; port 0 takes any free one [default: `serve.listen` of the
    /// configuration file, or 127.0.0.1:7420]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Serve an address that other machines can reach although connections are not encrypted or
    /// nobody proves who they are; for a lab
    #[arg(long)]
    insecure_allow_remote: bool,
    /// How log lines are written [default: `serve.log_format` of the configuration file, or auto]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Print the settings it would run with, as a configuration file that explains them, and end
    #[arg(long)]
    print_config: bool,
}

impl Serve {
    /// Runs the command until SIGTERM or SIGINT.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        let file = settings::File::load()?;
        let format = self.log_format.or(file.serve.log_format).unwrap_or_default();
        let telemetry = log::begin("info", format, &file.telemetry)?;
        let listen = match self.listen.or(file.serve.listen) {
            Some(listen) => listen,
            None => DEFAULT_ADDRESS.parse().map_err(|_| Failure::usage("the default address"))?,
        };
        let mut config = file.broker.clone();
        config.edge.insecure_allow_remote |= self.insecure_allow_remote;
        if self.in_memory {
            config.data_dir = None;
        } else {
            let directory =
                self.data_dir.or(config.data_dir).or_else(settings::default_data_dir).ok_or_else(
                    || Failure::usage("there is no home directory; name one with --data-dir DIR"),
                )?;
            // The first line of the log says it too.
            if !self.print_config && !format.is_json() {
                out.note(format_args!("data directory: {}", directory.display()));
            }
            config.data_dir = Some(directory);
        }
        if self.print_config {
            let serve = settings::ServeFile { listen: Some(listen), log_format: Some(format) };
            let file = settings::File { serve, broker: config, ..file };
            return out.line(file.to_toml()?.trim_end());
        }
        tell_settings(&listen, &config);
        // Before the directory is touched, so that a wrong address leaves nothing behind.
        let listener = bind(&config, listen).await?;
        let mut stop = Stop::listen()?;
        let mut manager = Manager::of_environment();
        let broker = open(config).await?;
        if let Err(refused) = edge::may_listen(&broker, listen) {
            broker.close().await?;
            return Err(Failure::usage(refused.to_string()));
        }
        let address = announce(&listener, out)?;
        manager.ready(&format!("listening on {address}"));
        let _reloads = AbortOnDropHandle::new(tokio::spawn(reload(broker.clone())));
        let served = {
            let asked_to_stop = async {
                stop.wait().await;
                manager.stopping();
            };
            edge::serve(broker.clone(), listener, asked_to_stop).await
        };
        let finish = async {
            served?;
            broker.close().await?;
            telemetry.finish().await;
            Ok(())
        };
        tokio::select! {
            result = finish => result,
            () = stop.wait() => Err(Failure::new(
                Exit::Interrupted,
                "stopped a second time while closing; the next start recovers what is open",
            )),
        }
    }
}

/// SIGHUP: the files of the TLS settings are read again.
async fn reload(broker: Broker) {
    // Without the signal the files are looked at all the same.
    let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
    while hangups.recv().await.is_some() {
        broker.reload_certificates();
    }
}

/// Binds an address that these settings may serve.
pub(crate) async fn bind(config: &Config, address: SocketAddr) -> Result<TcpListener> {
    edge::may_bind(config, address).map_err(|error| Failure::usage(error.to_string()))?;
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => Failure::new(
            Exit::Error,
            format!(
                "{address} is in use by another process; stop it, or choose another address with \
                 --listen 127.0.0.1:0"
            ),
        ),
        _ => Failure::new(Exit::Error, format!("cannot listen on {address}: {error}")),
    })
}

/// Opens a broker, which may take as long as recovery takes.
pub(crate) async fn open(config: Config) -> Result<Broker> {
    let opening = tokio::task::spawn_blocking(|| Broker::open(config));
    match opening.await {
        Ok(broker) => Ok(broker?),
        Err(error) => Err(Failure::new(Exit::Error, format!("opening the broker failed: {error}"))),
    }
}

/// The line that says that clients may come.
pub(crate) fn announce(listener: &TcpListener, out: &mut Out) -> Result<SocketAddr> {
    let address = listener.local_addr().map_err(|error| {
        Failure::new(Exit::Error, format!("the listener has no address: {error}"))
    })?;
    out.line(format_args!("listening on {address}"))?;
    out.flush()?;
    Ok(address)
}

/// The first line of the log: what runs, and with which settings.
fn tell_settings(listen: &SocketAddr, config: &Config) {
    let settings = serde_json::to_value(config).unwrap_or_default();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        process = std::process::id(),
        %listen,
        settings = %log::masked(settings),
        "starting"
    );
}

/// The signals that ask a broker to stop.
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Listens from now on; without a listener a signal ends the process at once.
    pub(crate) fn listen() -> Result<Self> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::new(Exit::Error, format!("signals cannot be received: {error}"))
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Resolves with the next signal.
    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
