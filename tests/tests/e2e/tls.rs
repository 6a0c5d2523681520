//! Encrypted connections, with certificates made for the test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use meshlog_broker::{Broker, Config, edge};
use meshlog_client::{Client, ClientConfig, Record, TlsConfig};
use meshlog_tests::product;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// An authority and what it signed, in files.
struct Authority {
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Authority {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        Self { directory, issuer: Issuer::new(params, key) }
    }

    fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A certificate of this name, good until the year given.
    fn sign(&self, file: &str, host: &str, until: i32) -> Files {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_after = date_time_ymd(until, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = Files {
            certificate: self.path(&format!("{file}.pem")),
            key: self.path(&format!("{file}-key.pem")),
        };
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }
}

/// A broker whose port is encrypted, until it is dropped.
struct Encrypted {
    broker: Broker,
    address: SocketAddr,
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Encrypted {
    async fn start(files: &Files, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.tls.certificate = Some(files.certificate.clone());
        config.tls.key = Some(files.key.clone());
        change(&mut config);
        let broker = Broker::open(config).unwrap();
        let local = Client::over(broker.local_connector()).await.unwrap();
        local.catalog().create_product(product("ops.a").request()).await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serving = broker.clone();
        tokio::spawn(async move {
            let end = async move { drop(stopped.await) };
            edge::serve(serving, listener, end).await.unwrap();
        });
        while broker.certificate_expires().is_none() {
            tokio::task::yield_now().await;
        }
        Self { broker, address, _stop: stop }
    }

    async fn connect(&self, host: &str, tls: TlsConfig) -> meshlog_client::Result<Client> {
        let address = format!("https://{host}:{}", self.address.port());
        let config = ClientConfig { tls: Some(tls), ..ClientConfig::default() };
        Client::connect_with(address, config).await
    }
}

fn trusting(ca: &Path) -> TlsConfig {
    TlsConfig { ca: Some(ca.to_owned()), ..TlsConfig::default() }
}

fn showing(ca: &Path, files: &Files) -> TlsConfig {
    TlsConfig {
        certificate: Some(files.certificate.clone()),
        key: Some(files.key.clone()),
        ..trusting(ca)
    }
}

#[tokio::test]
async fn records_go_through_an_encrypted_connection() {
    let authority = Authority::new();
    let broker = Encrypted::start(&authority.sign("server", "localhost", 4000), |_| ()).await;
    let client = broker.connect("localhost", trusting(&authority.ca())).await.unwrap();
    let producer = client.producer("ops.a").build().unwrap();
    producer.send(Record::new(vec![b'x'; 900_000])).await.unwrap();
    let mut consumer = client.consumer("ops.a").build();
    assert_eq!(consumer.next_record().await.unwrap().unwrap().record.value.unwrap().len(), 900_000);
    assert!(broker.broker.certificate_expires().is_some());
    // Who does not encrypt gets nothing.
    let plain = Client::connect(broker.address.to_string()).await;
    let answered = match plain {
        Ok(client) => client.catalog().server_info().await.is_ok(),
        Err(_) => false,
    };
    assert!(!answered);
}

#[tokio::test]
async fn a_broker_that_does_not_prove_who_it_is_is_not_talked_to() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let good = authority.sign("server", "localhost", 4000);
    let broker = Encrypted::start(&good, |_| ()).await;
    let other_authority = broker.connect("localhost", trusting(&stranger.ca())).await.unwrap_err();
    // The certificate is for `localhost`.
    let other_name = broker.connect("127.0.0.1", trusting(&authority.ca())).await.unwrap_err();
    let old = authority.sign("old", "localhost", 2020);
    let expired = Encrypted::start(&old, |_| ()).await;
    let notes = expired.broker.server_info().storage.unwrap().notes;
    assert!(notes.iter().any(|note| note.contains("has expired")), "{notes:?}");
    let expired = expired.connect("localhost", trusting(&authority.ca())).await.unwrap_err();
    for (refused, why) in
        [(other_authority, "BadSignature"), (other_name, "not valid for"), (expired, "xpired")]
    {
        assert_eq!(refused.reason(), "UNTRUSTED", "{refused}");
        assert!(refused.message().contains(why), "{refused}");
    }
}

#[tokio::test]
async fn a_client_shows_a_certificate_where_one_is_required() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = authority.sign("server", "localhost", 4000);
    let ca = authority.ca();
    let broker = Encrypted::start(&server, |config| {
        config.tls.client_ca = Some(ca.clone());
        config.tls.require_client_certificate = true;
    })
    .await;
    let info =
        |tls| async { broker.connect("localhost", tls).await?.catalog().server_info().await };
    info(showing(&ca, &authority.sign("loader", "loader", 4000))).await.unwrap();
    for refused in [
        trusting(&ca),
        showing(&ca, &stranger.sign("spy", "loader", 4000)),
        showing(&ca, &authority.sign("gone", "loader", 2020)),
    ] {
        assert!(info(refused).await.is_err());
    }
    let optional =
        Encrypted::start(&server, |config| config.tls.client_ca = Some(ca.clone())).await;
    let without = optional.connect("localhost", trusting(&ca)).await.unwrap();
    without.catalog().server_info().await.unwrap();
    let wrong = optional.connect("localhost", showing(&ca, &stranger.sign("spy", "spy", 4000)));
    let wrong = async { wrong.await?.catalog().server_info().await };
    assert!(wrong.await.is_err(), "a certificate that is shown must be a good one");
}

#[tokio::test]
async fn a_certificate_is_replaced_under_load_without_a_failed_call() {
    let authority = Authority::new();
    let files = authority.sign("server", "localhost", 4000);
    let broker = Arc::new(Encrypted::start(&files, |_| ()).await);
    let before = broker.broker.certificate_expires().unwrap();
    let (done, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut load = Vec::new();
    for task in 0..3 {
        let (broker, done, calls) = (Arc::clone(&broker), Arc::clone(&done), Arc::clone(&calls));
        let ca = authority.ca();
        load.push(tokio::spawn(async move {
            let lasting = broker.connect("localhost", trusting(&ca)).await.unwrap();
            while !done.load(Ordering::Relaxed) {
                // One connection that lasts, and new ones all the time.
                let client = match task {
                    0 => lasting.clone(),
                    _ => broker.connect("localhost", trusting(&ca)).await.unwrap(),
                };
                client.catalog().server_info().await.unwrap();
                calls.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let goes_on = async |count: u64| {
        let until = calls.load(Ordering::Relaxed) + count;
        while calls.load(Ordering::Relaxed) < until {
            assert!(load.iter().all(|task| !task.is_finished()), "a call failed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    goes_on(20).await;
    // The key of another certificate: refused, told, and the one before stays.
    std::fs::write(&files.key, KeyPair::generate().unwrap().serialize_pem()).unwrap();
    broker.broker.reload_certificates();
    let notes = || broker.broker.server_info().storage.unwrap().notes;
    let until = async |is_so: &dyn Fn() -> bool| {
        for _ in 0..1_000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never came: {:?}", notes());
    };
    until(&|| notes().iter().any(|note| note.contains("not in use"))).await;
    goes_on(20).await;
    assert_eq!(broker.broker.certificate_expires(), Some(before));
    // A good pair is noticed without being told.
    authority.sign("server", "localhost", 3000);
    until(&|| broker.broker.certificate_expires() != Some(before)).await;
    assert!(notes().is_empty(), "{:?}", notes());
    goes_on(20).await;
    done.store(true, Ordering::Relaxed);
    for task in load {
        task.await.expect("no call failed");
    }
}

#[tokio::test]
async fn tls_1_1_and_silence_are_refused() {
    let authority = Authority::new();
    let files = authority.sign("server", "localhost", 4000);
    let quick = |config: &mut Config| config.tls.handshake_timeout = "300ms".parse().unwrap();
    let broker = Encrypted::start(&files, quick).await;
    // A hello that differs in nothing but its version.
    let hello = |version: u8| {
        let mut hello = vec![3, version];
        hello.extend([7; 32]);
        // No session; ECDHE-ECDSA with AES-128-GCM; no compression.
        hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
        let extensions: &[u8] = &[
            0, 10, 0, 6, 0, 4, 0, 0x1d, 0, 0x17, 0, 11, 0, 2, 1, 0, 0, 13, 0, 4, 0, 2, 4, 3, 0,
            0x17, 0, 0,
        ];
        hello.extend([0, extensions.len() as u8]);
        hello.extend(extensions);
        let mut bytes = vec![22, 3, 1, 0, (hello.len() + 4) as u8, 1, 0, 0, hello.len() as u8];
        bytes.extend(hello);
        bytes
    };
    // To one of TLS 1.2 the server says hello as well: a record of the kind handshake.
    let mut good = tokio::net::TcpStream::connect(broker.address).await.unwrap();
    good.write_all(&hello(3)).await.unwrap();
    assert_eq!(good.read_u8().await.unwrap(), 22);
    let bytes = hello(2);
    for (bytes, alert) in [(bytes, Some(70)), (Vec::new(), None)] {
        let mut stream = tokio::net::TcpStream::connect(broker.address).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer));
        read.await.expect("it is closed").unwrap();
        match alert {
            // A record of the kind alert, fatal, `protocol_version`.
            Some(kind) => assert_eq!((answer[0], &answer[5..7]), (21, &[2, kind][..])),
            None => assert!(answer.is_empty()),
        }
    }
}

#[test]
fn files_that_cannot_be_used_are_named_before_anything_is_served() {
    let authority = Authority::new();
    let files = authority.sign("server", "localhost", 4000);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let serve = |change: &dyn Fn(&mut Config)| {
        let mut config = Config::default();
        config.tls.certificate = Some(files.certificate.clone());
        config.tls.key = Some(files.key.clone());
        change(&mut config);
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let broker = Broker::open(config).unwrap();
            edge::serve(broker, listener, std::future::ready(())).await
        })
    };
    serve(&|_| ()).unwrap();
    let ca = authority.ca();
    for (change, named) in [
        (&|config: &mut Config| config.tls.key = None, "tls.key"),
        (&|config: &mut Config| config.tls.key = Some("/nowhere.pem".into()), "/nowhere.pem"),
        (&|config: &mut Config| config.tls.require_client_certificate = true, "tls.client_ca"),
    ] as [(&dyn Fn(&mut Config), &str); 3]
    {
        let error = serve(change).unwrap_err();
        assert_eq!(error.reason(), meshlog_broker::Reason::CertificateUnusable);
        assert!(error.to_string().contains(named), "{error}");
    }
    // A certificate with the key of another, and a key where a certificate should be.
    let other = authority.sign("other", "localhost", 4000);
    assert!(serve(&|config| config.tls.key = Some(other.key.clone())).is_err());
    assert!(serve(&|config| config.tls.client_ca = Some(other.key.clone())).is_err());
    serve(&|config| config.tls.client_ca = Some(ca.clone())).unwrap();
}
