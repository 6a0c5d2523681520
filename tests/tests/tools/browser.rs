//! A page of another site in a real browser: with CORS off it can do nothing; from an allowed origin
//! it appends and subscribes with a client of gRPC-Web, and uses JSON and server-sent events.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use meshlog_broker::Config;
use meshlog_tests::{TestBroker, product, read, values};
use serde_json::{Value, json};

use crate::http::{Served, request, serve};
use crate::install::{debian_tool, npm_packages};
use crate::{Outcome, free_port};

/// What the page is made with.
const PACKAGES: [&str; 3] =
    ["@bufbuild/protobuf@2.17.0", "@connectrpc/connect@2.3.0", "@connectrpc/connect-web@2.3.0"];
/// A browser that does nothing of its own accord and leaves nothing behind.
const FLAGS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];
/// A page may take this long, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// The check.
pub(crate) fn check(may_install: bool) -> Outcome {
    let tools = debian_tool("chromium", "chromium", may_install).and_then(|browser| {
        let driver = debian_tool("chromedriver", "chromium-driver", may_install)?;
        Ok((browser, driver, npm_packages("browser", &PACKAGES, may_install)?))
    });
    let (browser, driver, modules) = match tools {
        Ok(tools) => tools,
        Err(why) => return Outcome::Skipped(why),
    };
    let run = || -> Result<(), String> {
        let descriptors = meshlog_proto::FILE_DESCRIPTOR_SET.to_vec();
        let site = serve(vec![
            ("/", Served::Bytes("text/html", include_bytes!("page.html").to_vec())),
            ("/descriptors.bin", Served::Bytes("application/octet-stream", descriptors)),
            ("/node_modules/", Served::Folder(modules.clone())),
        ])?;
        let driver = Driver::start(&driver, &browser)?;
        let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
        runtime.block_on(async {
            refused(&driver, site).await?;
            allowed(&driver, site).await
        })
    };
    match run() {
        Ok(()) => Outcome::Passed,
        Err(why) => Outcome::Failed(why),
    }
}

async fn broker(config: Config) -> TestBroker {
    let broker = TestBroker::start_with(config).await;
    broker.create(product("sandbox.page")).await;
    broker
}

async fn stored(broker: &TestBroker) -> Result<Vec<String>, String> {
    let read = broker.records().read(read("sandbox.page")).await;
    let read = read.map_err(|status| status.to_string())?.into_inner();
    Ok(values(&read.batches))
}

/// With the default settings.
async fn refused(driver: &Driver, site: SocketAddr) -> Result<(), String> {
    let broker = broker(Config::default()).await;
    let done = driver.visit(site, broker.address())?;
    for step in ["unary", "text", "stream", "json", "tail"] {
        let said = done[step].as_str().unwrap_or_default();
        if !said.starts_with("refused: ") {
            return Err(format!("with CORS off, `{step}` of another site was not refused: {done}"));
        }
    }
    match stored(&broker).await? {
        stored if stored.is_empty() => Ok(()),
        stored => Err(format!("with CORS off, another site has appended {stored:?}")),
    }
}

/// With the origin of the page among those that are allowed.
async fn allowed(driver: &Driver, site: SocketAddr) -> Result<(), String> {
    let mut config = Config::default();
    config.http.allowed_origins.push(format!("http://{site}"));
    let broker = broker(config).await;
    let done = driver.visit(site, broker.address())?;
    let expected = json!({
        "unary": "0",
        "text": "1",
        "stream": "unary,text,live",
        "error": "5 PRODUCT_NOT_FOUND",
        "json": "200 3",
        "tail": "0:1 0, 0:2 1, 0:3 2, 0:4 3",
        "simple": "sent",
    });
    if done != expected {
        return Err(format!("an allowed page did {done:#}, not {expected:#}"));
    }
    match stored(&broker).await? {
        stored if stored == ["unary", "text", "live", "\"json\"", "forged"] => Ok(()),
        stored => Err(format!("the log has {stored:?}")),
    }
}

/// A browser that is told what to do, and ended when this is dropped.
struct Driver {
    process: Child,
    address: SocketAddr,
    session: String,
    _profile: tempfile::TempDir,
}

impl Driver {
    fn start(driver: &str, browser: &str) -> Result<Self, String> {
        let profile = tempfile::tempdir().map_err(|error| error.to_string())?;
        let address = free_port()?;
        let process = Command::new(driver)
            .arg(format!("--port={}", address.port()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("{driver} cannot be run: {error}"))?;
        let mut driver = Self { process, address, session: String::new(), _profile: profile };
        let begun = Instant::now();
        while request(address, "GET", "/status", &[], "").is_err() {
            if begun.elapsed() > PATIENCE {
                return Err("chromedriver does not answer".to_owned());
            }
            pause();
        }
        let mut flags: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
        flags.push(format!("--user-data-dir={}", driver._profile.path().display()));
        let wishes = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"binary": which(browser), "args": flags},
        }}});
        let opened = driver.command("POST", "/session", &wishes)?;
        let session = opened["sessionId"].as_str().ok_or("there is no session")?;
        driver.session = session.to_owned();
        Ok(driver)
    }

    /// Opens the page and answers what it has done.
    fn visit(&self, site: SocketAddr, broker: SocketAddr) -> Result<Value, String> {
        let session = format!("/session/{}", self.session);
        let url = json!({"url": format!("http://{site}/?broker=http://{broker}")});
        self.command("POST", &format!("{session}/url"), &url)?;
        let begun = Instant::now();
        loop {
            let script = json!({"script": "return window.done ?? null", "args": []});
            match self.command("POST", &format!("{session}/execute/sync"), &script)? {
                Value::Null if begun.elapsed() > PATIENCE => {
                    return Err("the page is not done in time".to_owned());
                }
                Value::Null => pause(),
                done => return Ok(done),
            }
        }
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let headers = [("content-type", "application/json")];
        let (status, answer) = request(self.address, method, path, &headers, &body.to_string())?;
        let answer: Value = serde_json::from_str(&answer)
            .map_err(|error| format!("{method} {path}: {error} in {answer}"))?;
        match status {
            200 => Ok(answer["value"].clone()),
            _ => Err(format!("{method} {path}: {answer}")),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Ends the browser, which outlives its driver.
        if !self.session.is_empty() {
            _ = self.command("DELETE", &format!("/session/{}", self.session), &json!({}));
        }
        _ = self.process.kill();
        _ = self.process.wait();
    }
}

#[expect(clippy::disallowed_methods, reason = "another program tells nobody that it is ready")]
fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}

/// The driver wants the whole path of its browser.
fn which(program: &str) -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.exists())
        .map_or_else(|| program.to_owned(), |file| file.display().to_string())
}
