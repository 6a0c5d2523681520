//! `meshlog bench`: how fast a broker is, seen from its clients.
//!
//! ```text
//!  ground ── a domain, a team and products of the run's own; gone when it ends, however it ends
//!    │
//!  pace ──► appending ──► broker ──► watching (at the tail) · reading (from the beginning)
//!    when an append is due     │
//!                              └──► figures: rates, latencies, costs of both sides; machine: D, F, G, g beside them
//! ```
//!
//! `broker.rs` finds the broker, or starts one. `plan.rs` is what the flags mean. Records are made and read with the Rust client, as a program would; the making of
//! each record is part of what is measured.

mod appending;
mod broker;
mod costs;
mod figures;
mod ground;
mod live;
mod machine;
mod pace;
mod payload;
mod plan;
mod process;
mod reading;
mod watching;

use std::{
    env,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use clap::{Args, Subcommand};
use meshlog_client::{Catalog, Client};

use crate::{
    change::DryRunArgs,
    confirm::ConfirmArgs,
    exit::{Exit, Failure, Result},
    output::{Out, OutputArgs},
    serve::Stop,
    settings::ServerArgs,
    words,
};
use appending::PRODUCERS_MAX;
use broker::Broker;
use costs::Counters;
use figures::Figures;
use ground::Ground;
use live::Live;
use machine::Machine;
use plan::{Load, Mode, Plan};
use reading::Until;
use watching::Watching;

/// Connections for single calls, where there are too many products for producers.
const CALL_CONNECTIONS: usize = 4;

/// Measure a broker.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Append as fast as it goes, or at a rate
    #[command(before_help = "Examples:
  meshlog bench append
  meshlog bench append --size 100 --batch 600 --in-flight 64 --limits /var/lib/meshlog
  meshlog bench append --own /mnt/disk
  meshlog bench append --records 1000000 --rate 50000 -o json")]
    Append(Run),
    /// Read products from their beginning, after filling them
    #[command(before_help = "Examples:
  meshlog bench read
  meshlog bench read --records 1000000 --size 100 --batch 600 --readers 4")]
    Read(Reading),
    /// Append at a rate, with one reader at the tail: until acknowledged, until received
    #[command(before_help = "Examples:
  meshlog bench latency
  meshlog bench latency --rate 5000 --size 100 --duration 60s")]
    Latency(Run),
    /// Append at a rate to one product with many readers at its tail
    #[command(before_help = "Examples:
  meshlog bench fanout --readers 100
  meshlog bench fanout --readers 10 --rate 20000 --batch 10 -o json")]
    Fanout(Reading),
    /// Create many products and append to all of them in turn, beside one
    #[command(before_help = "Examples:
  meshlog bench products --products 10000
  meshlog bench products --products 1000 --size 100 --batch 100")]
    Products(Run),
    /// Append at a rate to some products, each with a reader at its tail, while one is read from its beginning
    #[command(before_help = "Examples:
  meshlog bench mixed
  meshlog bench mixed --products 16 --rate 50000 --duration 60s")]
    Mixed(Run),
    /// Remove what runs left behind that were killed, or are still going
    #[command(before_help = "Examples:
  meshlog bench cleanup --dry-run
  meshlog bench cleanup --yes")]
    Cleanup(Cleanup),
}

/// Arguments of a run.
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    load: Load,
    /// Start a broker for this run, on a temporary directory in DIR [default: that of the system]; happens
    /// by itself where no broker is named and none listens at 127.0.0.1:7420
    #[arg(
        long,
        value_name = "DIR",
        num_args = 0..=1,
        default_missing_value = "",
        conflicts_with_all = ["server", "context"],
        value_hint = clap::ValueHint::DirPath
    )]
    own: Option<PathBuf>,
    /// Measure the limits of this machine too, if the broker is on it: D and F in this directory, which
    /// should be on the broker's disk [default: the current one], G and g over loopback; happens by
    /// itself with a broker of the run's own
    #[arg(
        long,
        value_name = "DIR",
        num_args = 0..=1,
        default_missing_value = ".",
        value_hint = clap::ValueHint::DirPath
    )]
    limits: Option<PathBuf>,
    /// Do not measure the limits of this machine
    #[arg(long, conflicts_with = "limits")]
    no_limits: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Arguments of a run with readers.
#[derive(Debug, Args)]
pub(crate) struct Reading {
    /// Readers of each product [default: 1; `fanout`: 10]
    #[arg(long, value_name = "N")]
    readers: Option<usize>,
    #[command(flatten)]
    run: Run,
}

/// Arguments of `bench cleanup`.
#[derive(Debug, Args)]
pub(crate) struct Cleanup {
    #[command(flatten)]
    change: DryRunArgs,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    server: ServerArgs,
}

impl BenchCommand {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        let (mode, readers, run) = match self {
            Self::Append(run) => (Mode::Append, 1, run),
            Self::Read(args) => (Mode::Read, args.readers.unwrap_or(1), args.run),
            Self::Latency(run) => (Mode::Latency, 1, run),
            Self::Fanout(args) => (Mode::Fanout, args.readers.unwrap_or(10), args.run),
            Self::Products(run) => (Mode::Products, 1, run),
            Self::Mixed(run) => (Mode::Mixed, 1, run),
            Self::Cleanup(args) => return args.run(out).await,
        };
        let plan = run.load.plan(mode, readers)?;
        measure(run, plan, out).await
    }
}

/// Runs a plan, and removes what it made whatever came of it.
async fn measure(run: Run, plan: Plan, out: &mut Out) -> Result<()> {
    let mut stop = Stop::listen()?;
    // Without a place, where the system has its temporary files.
    let own =
        run.own.map(|place| if place.as_os_str().is_empty() { env::temp_dir() } else { place });
    let broker = Broker::find(&run.server, own.as_deref(), out).await?;
    let mut clients = vec![broker.client.clone()];
    if plan.products > PRODUCERS_MAX {
        for _ in 1..CALL_CONNECTIONS {
            clients.push(broker.connect().await?);
        }
    }
    let limits = run.limits.or_else(|| broker.own_directory()).filter(|_| !run.no_limits);
    let ground = Ground::new(&clients[0], plan.partitions);
    let session = Session { ground, live: Live::new(), limits, clients, plan, broker };
    let outcome = tokio::select! {
        () = stop.wait() => Err(Failure::quiet(Exit::Interrupted)),
        outcome = session.run() => outcome,
    };
    session.live.clear();
    if outcome.as_ref().is_err_and(|failure| failure.exit() == Exit::Interrupted) {
        out.note("interrupted; removing what the run made");
    }
    if session.broker.own_directory().is_some() {
        // With it goes all that was made in it.
        session.broker.end().await;
    } else {
        let cleared = tokio::select! {
            () = stop.wait() => Err(Failure::quiet(Exit::Interrupted)),
            cleared = session.ground.clear() => cleared,
        };
        if let Err(failure) = cleared {
            out.note(format_args!(
                "what the run made is still there, in the domain `{}`{}: `meshlog bench cleanup` \
                 removes it",
                session.ground.name(),
                if failure.is_quiet() { String::new() } else { format!(" ({failure})") }
            ));
            outcome?;
            return Err(failure);
        }
    }
    let figures = outcome?;
    if run.output.output.is_for_people() {
        out.list(run.output.output, &figures.lines())
    } else {
        out.one(run.output.output, &figures)
    }
}

/// A run that is under way.
struct Session {
    /// The first one also for the catalogue.
    clients: Vec<Client>,
    ground: Ground,
    plan: Plan,
    live: Live,
    broker: Broker,
    limits: Option<PathBuf>,
}

impl Session {
    fn catalog(&self) -> Catalog {
        self.clients[0].catalog()
    }

    async fn run(&self) -> Result<Figures> {
        let info = self.catalog().server_info().await?;
        let in_memory = info.storage.is_some_and(|storage| storage.in_memory);
        let mut figures =
            Figures::new(self.broker.address.clone(), info.version, in_memory, &self.plan);
        figures.own_broker = self.broker.own_directory().is_some();
        if self.limits.is_some()
            && let Err(why) = &self.broker.process
        {
            return Err(Failure::usage(format!(
                "--limits is for a broker on this machine, and {}: {why}; leave it out",
                self.broker.address
            )));
        }
        match self.plan.mode {
            Mode::Append => self.append(&mut figures).await?,
            Mode::Read => self.read(&mut figures).await?,
            Mode::Latency | Mode::Fanout => self.deliver(&mut figures).await?,
            Mode::Products => self.products(&mut figures).await?,
            Mode::Mixed => self.mixed(&mut figures).await?,
        }
        if let Some(directory) = &self.limits {
            let _phase = self.live.phase("measuring the limits of this machine");
            figures.limits = Some(Machine::measure(directory, &self.plan).await?);
        }
        Ok(figures)
    }

    async fn appending(
        &self,
        products: &[String],
        plan: &Plan,
        epoch: Option<Instant>,
        streams: bool,
    ) -> Result<appending::Appended> {
        appending::append(&self.clients, products, plan, epoch, streams, &self.live).await
    }

    /// Creates the products of the plan.
    async fn create(&self, figures: &mut Figures) -> Result<Vec<String>> {
        let begun = Instant::now();
        let products = self.ground.create("product", self.plan.products, &self.live).await?;
        figures.created(products.len(), begun.elapsed());
        Ok(products)
    }

    fn streams(&self) -> bool {
        self.plan.products <= PRODUCERS_MAX
    }

    async fn append(&self, figures: &mut Figures) -> Result<()> {
        let products = self.create(figures).await?;
        let counters = self.counters().await?;
        let appended = self.appending(&products, &self.plan, None, self.streams()).await?;
        figures.costs = Some(self.costs(counters, &appended, 0, 0).await?);
        figures.appended(&appended);
        Ok(())
    }

    async fn read(&self, figures: &mut Figures) -> Result<()> {
        let products = self.create(figures).await?;
        let fill = Plan { duration: None, rate: None, ..self.plan.clone() };
        let filled = self.appending(&products, &fill, None, self.streams()).await?;
        figures.appended(&filled);
        let counters = self.counters().await?;
        let until = match self.plan.duration {
            Some(duration) => Until::Time(Instant::now() + duration),
            None => Until::Once,
        };
        let (client, readers) = (&self.clients[0], self.plan.readers);
        let read = reading::read(client, &products, readers, &until, &self.live).await?;
        let (bytes, records) = (read.bytes, read.records);
        let costs =
            counters.costs(&self.catalog(), &self.broker.process, bytes, records, 0).await?;
        figures.costs = Some(costs);
        figures.was_read(&read);
        Ok(())
    }

    async fn deliver(&self, figures: &mut Figures) -> Result<()> {
        let products = self.create(figures).await?;
        let epoch = Instant::now();
        let watching = self.watch(&products, epoch).await?;
        let counters = self.counters().await?;
        let appended = self.appending(&products, &self.plan, Some(epoch), self.streams()).await?;
        let delivered = watching.finish(&appended.of_product).await?;
        let costs = self.costs(counters, &appended, delivered.bytes, delivered.records).await?;
        figures.costs = Some(costs);
        figures.appended(&appended);
        figures.delivered(&delivered);
        Ok(())
    }

    async fn products(&self, figures: &mut Figures) -> Result<()> {
        let one = self.ground.create("one", 1, &self.live).await?;
        let before = self.counters().await?;
        let products = self.create(figures).await?;
        // Appended in the same way, or the comparison would be one of ways.
        let alone = self.appending(&one, &self.plan, None, self.streams()).await?;
        let appended = self.appending(&products, &self.plan, None, self.streams()).await?;
        figures.costs = Some(self.costs(before, &appended, alone.bytes, alone.records).await?);
        figures.appended_to_one(&alone);
        figures.appended(&appended);
        Ok(())
    }

    async fn mixed(&self, figures: &mut Figures) -> Result<()> {
        let products = self.create(figures).await?;
        let epoch = Instant::now();
        let watching = self.watch(&products, epoch).await?;
        let counters = self.counters().await?;
        let enough = Arc::new(AtomicBool::new(false));
        let until = Until::Told(enough.clone());
        let silent = Live::silent();
        let reading = reading::read(&self.clients[0], &products[..1], 1, &until, &silent);
        let appending = async {
            let appended = self.appending(&products, &self.plan, Some(epoch), self.streams()).await;
            enough.store(true, Ordering::Relaxed);
            appended
        };
        let (read, appended) = tokio::try_join!(reading, appending)?;
        let delivered = watching.finish(&appended.of_product).await?;
        let (bytes, records) = (read.bytes + delivered.bytes, read.records + delivered.records);
        figures.costs = Some(self.costs(counters, &appended, bytes, records).await?);
        figures.appended(&appended);
        figures.delivered(&delivered);
        figures.was_read(&read);
        Ok(())
    }

    async fn watch(&self, products: &[String], epoch: Instant) -> Result<Watching> {
        let _phase = self.live.phase("starting readers");
        let Plan { readers, partitions, size, .. } = self.plan;
        Watching::start(&self.clients[0], products, readers, partitions, size, epoch).await
    }

    async fn counters(&self) -> Result<Counters> {
        Counters::read(&self.catalog(), &self.broker.process).await
    }

    /// What appends and so many bytes and records read or appended beside them cost.
    async fn costs(
        &self,
        counters: Counters,
        appended: &appending::Appended,
        bytes: u64,
        records: u64,
    ) -> Result<costs::Costs> {
        let (bytes, records) = (bytes + appended.bytes, records + appended.records);
        counters
            .costs(&self.catalog(), &self.broker.process, bytes, records, appended.appends)
            .await
    }
}

impl Cleanup {
    async fn run(self, out: &mut Out) -> Result<()> {
        let catalog = self.server.connect().await?.catalog();
        let names = ground::left_behind(&catalog).await?;
        if names.is_empty() {
            out.note("no run left anything behind");
            return Ok(());
        }
        for name in &names {
            out.line(name)?;
        }
        out.flush()?;
        if self.change.dry_run {
            out.note("nothing was removed (--dry-run)");
            return Ok(());
        }
        let count = words::counted(names.len() as u64, "domain");
        let question = format!("Remove {count} of `meshlog bench`, with all products and records?");
        self.confirm.ask(&question, "nothing was removed")?;
        let mut products = 0;
        for name in names {
            products += Ground::existing(catalog.clone(), name, 1).clear().await?;
        }
        out.note(format_args!("removed, with {}", words::counted(products, "product")));
        Ok(())
    }
}
