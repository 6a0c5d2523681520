//! `meshlog tls`: certificates for a lab.

use std::{
    fs,
    io::{self, Write as _},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use jiff::{ToSpan as _, Zoned, civil::Date};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use serde::Serialize;

use crate::{
    exit::{Exit, Failure, Result},
    output::{Out, OutputArgs},
};

/// Certificates for a lab.
#[derive(Debug, Subcommand)]
pub(crate) enum TlsCommand {
    /// Make an authority, and a certificate for the broker and one for clients that it vouches for
    ///
    /// For a lab: the key of the authority lies beside the others. Elsewhere certificates come from
    /// whoever makes them for your other services.
    #[command(before_help = "Examples:
  meshlog tls init ./tls --host broker.lab.example
  meshlog tls init --host broker --host 192.0.2.7 --client loader --days 30
  meshlog tls init ./tls --host broker.lab.example --dry-run")]
    Init(Init),
}

/// Arguments of `tls init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Where the files go; created if it does not exist
    #[arg(value_name = "DIR", default_value = "tls", value_hint = clap::ValueHint::DirPath)]
    directory: PathBuf,
    /// A name or an address by which clients reach the broker; localhost, 127.0.0.1 and ::1 are
    /// always among them
    #[arg(long = "host", value_name = "HOST", value_parser = parse_host)]
    hosts: Vec<String>,
    /// The name in the certificate for clients
    #[arg(long, value_name = "NAME", default_value = "client", value_parser = parse_host)]
    client: String,
    /// How long the certificates hold
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..))]
    days: u16,
    /// Replace files that are there
    #[arg(long)]
    replace: bool,
    /// Say what would be made, and make nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// What was made.
#[derive(Serialize)]
struct View {
    ca: String,
    ca_key: String,
    certificate: String,
    key: String,
    client_certificate: String,
    client_key: String,
    hosts: Vec<String>,
    client: String,
    expires: Date,
    made: bool,
}

impl TlsCommand {
    /// Runs the command.
    pub(crate) fn run(self, out: &mut Out) -> Result<()> {
        let Self::Init(args) = self;
        let today = Zoned::now().date();
        let view = args.view(today);
        let files = [
            &view.ca,
            &view.ca_key,
            &view.certificate,
            &view.key,
            &view.client_certificate,
            &view.client_key,
        ];
        if let Some(there) = files.iter().find(|file| !args.replace && Path::new(file).exists()) {
            return Err(Failure::new(
                Exit::Conflict,
                format!(
                    "{there} is there already, and whoever trusts it would not trust a new one; \
                     choose another directory, or add --replace"
                ),
            ));
        }
        if !args.dry_run {
            let made = make(&view, today).map_err(|error| {
                Failure::new(Exit::Error, format!("the certificates cannot be made: {error}"))
            })?;
            fs::create_dir_all(&args.directory)
                .map_err(|error| unwritten(&args.directory, &error))?;
            for (file, text) in files.into_iter().zip(made) {
                write(Path::new(file), &text)
                    .map_err(|error| unwritten(Path::new(file), &error))?;
            }
        }
        if !args.output.output.is_for_people() {
            return out.one(args.output.output, &view);
        }
        let verb = if args.dry_run { "would make" } else { "made" };
        out.line(format_args!(
            "{verb} an authority, a certificate for {} and one for clients ({}), until {}\n\n\
             In the configuration file of the broker (`meshlog config path`):\n\n\
             [broker.tls]\ncertificate = \"{}\"\nkey = \"{}\"\nclient_ca = \"{}\"\n\
             require_client_certificate = true\n\nOn the machine of a client, with these three files:\n\n\
             meshlog server info --server {}:7420 --tls-ca {} \\\n    --tls-cert {} --tls-key {}\n\n\
             With keys instead of certificates for clients, leave the last two lines of [broker.tls] out and \
             make the first key:\n\nmeshlog init",
            view.hosts.join(", "),
            view.client,
            view.expires,
            view.certificate,
            view.key,
            view.ca,
            view.hosts[0],
            view.ca,
            view.client_certificate,
            view.client_key,
        ))
    }
}

impl Init {
    fn view(&self, today: Date) -> View {
        let directory = std::path::absolute(&self.directory).unwrap_or(self.directory.clone());
        let file = |name: &str| directory.join(name).display().to_string();
        let mut hosts = self.hosts.clone();
        for always in ["localhost", "127.0.0.1", "::1"] {
            if !hosts.iter().any(|host| host == always) {
                hosts.push(always.to_owned());
            }
        }
        View {
            ca: file("ca.pem"),
            ca_key: file("ca-key.pem"),
            certificate: file("server.pem"),
            key: file("server-key.pem"),
            client_certificate: file("client.pem"),
            client_key: file("client-key.pem"),
            hosts,
            client: self.client.clone(),
            expires: today.saturating_add(i64::from(self.days).days()),
            made: !self.dry_run,
        }
    }
}

/// The texts of the six files, in the order of [`View`].
fn make(view: &View, today: Date) -> Result<[String; 6], rcgen::Error> {
    let authority_key = KeyPair::generate()?;
    let mut authority = valid(Vec::new(), today, view.expires, "Meshlog lab authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority_pem = authority.self_signed(&authority_key)?.pem();
    let authority_key_pem = authority_key.serialize_pem();
    let issuer = Issuer::new(authority, authority_key);
    let leaf = |names: Vec<SanType>, name: &str, purpose| -> Result<[String; 2], rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = valid(names, today, view.expires, name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        Ok([params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()])
    };
    let names: Result<Vec<_>, _> = view.hosts.iter().map(|host| name_of(host)).collect();
    let [server, server_key] = leaf(names?, &view.hosts[0], ExtendedKeyUsagePurpose::ServerAuth)?;
    let [client, client_key] =
        leaf(vec![name_of(&view.client)?], &view.client, ExtendedKeyUsagePurpose::ClientAuth)?;
    Ok([authority_pem, authority_key_pem, server, server_key, client, client_key])
}

fn valid(names: Vec<SanType>, from: Date, until: Date, name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let time = |date: Date| {
        date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    // Clocks of a lab may differ by a day.
    params.not_before = time(from.saturating_sub(1.day()));
    params.not_after = time(until);
    params.subject_alt_names = names;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn name_of(host: &str) -> Result<SanType, rcgen::Error> {
    Ok(match host.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(host.try_into()?),
    })
}

/// A file that only its owner can read, also while it is written.
fn write(path: &Path, text: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::Error, format!("{} cannot be written: {error}", path.display()))
}

fn parse_host(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '*');
    if text.parse::<IpAddr>().is_ok()
        || (!text.is_empty() && text.len() < 254 && text.chars().all(fits))
    {
        return Ok(text.to_owned());
    }
    Err("write a name such as broker.example, or an address, without a port".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        for good in ["broker", "broker.lab.example", "192.0.2.7", "::1", "*.lab.example"] {
            assert!(parse_host(good).is_ok(), "{good}");
        }
        for bad in ["", "broker:7420", "https://broker", "a b"] {
            assert!(parse_host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_files_are_written_for_their_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key.pem");
        fs::write(&path, "old").unwrap();
        write(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
