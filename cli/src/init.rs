//! `meshlog init`: the first key of a broker.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use meshlog_broker::{Broker, Caller};
use meshlog_client::proto::{ApiKey, CreateKeyRequest, CreateKeyResponse};

use crate::{
    credential::NewFile,
    exit::{Exit, Failure, Result},
    key,
    output::{Out, OutputArgs},
    serve,
    settings::{self, File},
};

/// Arguments of `init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The data directory of a broker that does not run; created if it does not exist [default:
    /// `broker.data_dir` of the configuration file, or $XDG_DATA_HOME/meshlog]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    data_dir: Option<PathBuf>,
    /// Make a further administrator's key where there have been keys before
    #[arg(long)]
    rescue: bool,
    /// Write the key into this new file, readable by its owner alone, and do not show it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output_file: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

impl Init {
    /// Runs the command.
    pub(crate) async fn run(self, out: &mut Out) -> Result<()> {
        if self.output_file.is_none() {
            key::shows_secret(self.output.output)?;
        }
        let mut config = File::load()?.broker;
        let directory = self.data_dir.or(config.data_dir).or_else(settings::default_data_dir);
        let directory = directory.ok_or_else(|| {
            Failure::usage("there is no home directory; name one with --data-dir DIR")
        })?;
        config.data_dir = Some(directory.clone());
        let broker = serve::open(config).await.map_err(|failure| match failure.reason() {
            Some("DIRECTORY_UNAVAILABLE") => Failure::new(
                failure.exit(),
                format!(
                    "{failure}; a broker that runs on it gets its keys with `meshlog key create --admin`"
                ),
            ),
            _ => failure,
        })?;
        let made = self.output_file.as_deref().map(NewFile::create).transpose();
        let made = match made {
            Ok(file) => make(&broker, self.rescue).await.map(|created| (created, file)),
            Err(failure) => Err(failure),
        };
        broker.close().await?;
        let (created, file) = made?;
        out.note(format_args!("data directory: {}", directory.display()));
        let view = key::View::made(created, file, out)?;
        out.note(key::FIRST);
        match &view.secret {
            // Alone on its line, so that it can go to a file or a store of secrets.
            Some(secret) if self.output.output.is_for_people() => out.line(secret),
            _ => out.one(self.output.output, &view),
        }
    }
}

/// Whoever has the directory has the broker, so nobody is asked for a key.
async fn make(broker: &Broker, rescue: bool) -> Result<CreateKeyResponse> {
    if broker.catalogue().is_protected() && !rescue {
        return Err(Failure::new(
            Exit::Conflict,
            "this broker has had keys already; use one of them, or make another administrator's key \
             with `meshlog init --rescue`",
        ));
    }
    let description = if rescue { "made by meshlog init --rescue" } else { "made by meshlog init" };
    let key = ApiKey { admin: true, description: description.to_owned(), ..ApiKey::default() };
    let request = CreateKeyRequest { key: Some(key), validate_only: false };
    Ok(broker.catalogue().create_key(&Caller::new("meshlog-init"), request).await?)
}
