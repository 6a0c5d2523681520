//! What is in `deploy/`, judged by the tools that will read it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Outcome, npm_tool, root, run};

/// Checks a container file; installed if there is none.
const DOCKERFILE_UTILS: &str = "dockerfile-utils@0.16.3";

/// Most that `systemd-analyze security` may find exposed, of 100.
const EXPOSURE_MAX: &str = "20";

/// The alert rules, by the tool of Prometheus.
pub(super) fn alert_rules_are_valid(may_install: bool) -> Outcome {
    let promtool = match debian_tool("promtool", "prometheus", may_install) {
        Ok(promtool) => promtool,
        Err(why) => return Outcome::Skipped(why),
    };
    run(Command::new(promtool)
        .args(["check", "rules"])
        .arg(root().join("deploy/prometheus/alerts.yml")))
}

/// The page of a live broker, by the same tool.
pub(super) fn the_page_of_metrics_is_well_formed(may_install: bool) -> Outcome {
    let promtool = match debian_tool("promtool", "prometheus", may_install) {
        Ok(promtool) => promtool,
        Err(why) => return Outcome::Skipped(why),
    };
    with_broker(|address| {
        let mut page = Vec::new();
        let fetched = std::net::TcpStream::connect(address).and_then(|mut stream| {
            use std::io::{Read as _, Write as _};
            write!(stream, "GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
            stream.read_to_end(&mut page)
        });
        if let Err(error) = fetched {
            return Outcome::Failed(format!("no page: {error}"));
        }
        let page = String::from_utf8_lossy(&page);
        let Some((_, body)) = page.split_once("\r\n\r\n") else {
            return Outcome::Failed(page.into_owned());
        };
        let mut check = Command::new(&promtool);
        check.args(["check", "metrics"]).stdin(Stdio::piped());
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("metrics.txt");
        if let Err(error) = std::fs::write(&file, body) {
            return Outcome::Failed(error.to_string());
        }
        match std::fs::File::open(&file) {
            Ok(file) => run(check.stdin(file)),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    })
}

/// The unit, by systemd, with the program where it says.
pub(super) fn the_unit_is_valid_and_hardened(_may_install: bool) -> Outcome {
    let version = Command::new("systemd-analyze").arg("--version").output();
    if !version.is_ok_and(|output| output.status.success()) {
        return Outcome::Skipped("systemd-analyze is not installed".to_owned());
    }
    let binary = match binary() {
        Ok(binary) => binary,
        Err(why) => return Outcome::Failed(why),
    };
    let unit = root().join("deploy/systemd/meshlog.service");
    let text = std::fs::read_to_string(&unit).unwrap_or_default();
    let text = text.replace("/usr/bin/meshlog", &binary.display().to_string());
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("unit");
    let copy = folder.join("meshlog.service");
    if let Err(error) = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&copy, text))
    {
        return Outcome::Failed(error.to_string());
    }
    let verify = run(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&copy));
    let Outcome::Passed = verify else { return verify };
    run(Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager", "--threshold", EXPOSURE_MAX])
        .arg(&copy))
}

/// The package: built, looked into, installed into a root of its own, run, removed.
pub(super) fn the_debian_package_installs_and_runs(_may_install: bool) -> Outcome {
    let is_there = |tool: &str| {
        Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    if !is_there("dpkg-deb") || !is_there("dpkg") {
        return Outcome::Skipped("dpkg is not installed".to_owned());
    }
    match install_package() {
        Ok(()) => Outcome::Passed,
        Err(why) => Outcome::Failed(why),
    }
}

fn install_package() -> Result<(), String> {
    let binary = binary()?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let build = root().join("deploy/debian/build.sh");
    let package = output(Command::new(build).arg(&binary).arg(folder.path()))?;
    let package = package.trim();
    let list = output(Command::new("dpkg-deb").args(["--contents", package]))?;
    for file in [
        "./usr/bin/meshlog",
        "./usr/lib/systemd/system/meshlog.service",
        "./usr/share/man/man1/meshlog.1.gz",
        "./usr/share/man/man1/meshlog-serve.1.gz",
        "./usr/share/bash-completion/completions/meshlog",
        "./usr/share/zsh/vendor-completions/_meshlog",
        "./usr/share/fish/vendor_completions.d/meshlog.fish",
        "./usr/share/doc/meshlog/config.toml",
        "./usr/share/doc/meshlog/copyright",
    ] {
        let there = list.lines().any(|line| line.ends_with(file) && line.contains("root/root"));
        if !there {
            return Err(format!("{file} is not in the package, or not root's:\n{list}"));
        }
    }
    if list.lines().any(|line| line.contains("/tmp") || line.contains("rwxrwxrwx")) {
        return Err(list);
    }

    let into = folder.path().join("root");
    for below in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"] {
        std::fs::create_dir_all(into.join(below)).map_err(|error| error.to_string())?;
    }
    std::fs::write(into.join("var/lib/dpkg/status"), "").map_err(|error| error.to_string())?;
    let dpkg = || {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", into.display()));
        // The root has no C library and no shell of its own.
        dpkg.args(["--force-depends", "--force-not-root", "--force-script-chrootless"]);
        dpkg.arg("--log=/dev/null").env("DPKG_MAINTSCRIPT_ARCH", "").env("PATH", path());
        dpkg
    };
    output(dpkg().args(["--install", package]))?;
    let installed = into.join("usr/bin/meshlog");
    let version = output(Command::new(&installed).arg("--version"))?;
    let expected = output(Command::new(&binary).arg("--version"))?;
    if version != expected {
        return Err(format!("it is {version}, not {expected}"));
    }
    let page = into.join("usr/share/man/man1/meshlog.1.gz");
    let page = output(Command::new("gzip").args(["--decompress", "--stdout"]).arg(page))?;
    if !page.contains(".TH meshlog 1") {
        return Err(format!("no manual page: {page}"));
    }
    output(dpkg().args(["--remove", "meshlog"]))?;
    match installed.exists() {
        true => Err("it is still there after it was removed".to_owned()),
        false => Ok(()),
    }
}

/// Where dpkg finds what it calls, also for those who are not root.
fn path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin")
}

/// The container file, by a linter; its user; and its health check, run against a live broker.
pub(super) fn the_container_file_is_valid_and_its_health_check_works(may_install: bool) -> Outcome {
    let file = root().join("deploy/Containerfile");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let whole = text.replace("\\\n", " ");
    let last = |word: &str| whole.lines().rev().find_map(|line| line.trim().strip_prefix(word));
    if last("USER ").is_none_or(|user| user.starts_with("root") || user.starts_with('0')) {
        return Outcome::Failed("the container runs as root".to_owned());
    }
    let check = last("HEALTHCHECK ").and_then(|line| line.split_once(" CMD "));
    let check = check.and_then(|(_, check)| exec_form(check));
    let (Some(check), Some(entry)) = (check, last("ENTRYPOINT ").and_then(exec_form)) else {
        return Outcome::Failed("no health check, or no entry point, without a shell".to_owned());
    };
    if check.first() != entry.first() {
        return Outcome::Failed(format!("{check:?} is not the program itself"));
    }
    let works = with_broker(|address| {
        let binary = match binary() {
            Ok(binary) => binary,
            Err(why) => return Outcome::Failed(why),
        };
        let args = check[1..].iter().map(|arg| arg.replace("127.0.0.1:7420", address));
        run(Command::new(binary).args(args))
    });
    let Outcome::Passed = works else { return works };
    match npm_tool("dockerfile-utils", DOCKERFILE_UTILS, may_install) {
        Ok(tool) => {
            let outcome = run(Command::new(tool).arg("lint").arg(&file));
            match outcome {
                Outcome::Failed(why) => Outcome::Failed(format!("the linter says: {why}")),
                other => other,
            }
        }
        Err(why) => Outcome::Skipped(format!("{why} (its user and its health check are fine)")),
    }
}

/// The words of `["a", "b"]`.
fn exec_form(text: &str) -> Option<Vec<String>> {
    let inner = text.trim().strip_prefix('[')?.strip_suffix(']')?;
    Some(inner.split(',').map(|word| word.trim().trim_matches('"').to_owned()).collect())
}

fn binary() -> Result<PathBuf, String> {
    meshlog_tests::binary(|mut build| match run(&mut build) {
        Outcome::Passed => Ok(()),
        Outcome::Failed(why) | Outcome::Skipped(why) => Err(why),
    })
}

/// A broker in memory as long as the check runs.
fn with_broker(check: impl FnOnce(&str) -> Outcome) -> Outcome {
    match start() {
        Ok((mut broker, address)) => {
            let outcome = check(&address);
            // It may have ended by itself.
            let _ = broker.kill();
            let _ = broker.wait();
            outcome
        }
        Err(why) => Outcome::Failed(why),
    }
}

fn start() -> Result<(Child, String), String> {
    let home = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut broker = Command::new(binary()?)
        .args(["serve", "--in-memory", "--listen", "127.0.0.1:0"])
        .env("HOME", home.path())
        .env_remove("XDG_CONFIG_HOME")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("the broker does not start: {error}"))?;
    let mut line = String::new();
    if let Some(stdout) = broker.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).map_err(|error| error.to_string())?;
    }
    let address = line.trim().strip_prefix("listening on ").unwrap_or_default().to_owned();
    Ok((broker, address))
}

/// A tool from `PATH`, or of a Debian package that is unpacked into a folder of this build.
fn debian_tool(name: &str, package: &str, may_install: bool) -> Result<PathBuf, String> {
    if Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()) {
        return Ok(name.into());
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("debian").join(package);
    let tool = folder.join("usr/bin").join(name);
    if tool.exists() {
        return Ok(tool);
    }
    if !may_install {
        return Err(format!("{name} is not installed; `apt-get install {package}` installs it"));
    }
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let download =
        || output(Command::new("apt-get").args(["download", package]).current_dir(&folder));
    if download().is_err() {
        output(Command::new("apt-get").arg("update"))?;
        download()?;
    }
    let found = std::fs::read_dir(&folder).map_err(|error| error.to_string())?;
    let file = found.flatten().map(|entry| entry.path()).find(|path| is_package(path));
    let file = file.ok_or_else(|| format!("apt-get brought no package {package}"))?;
    output(Command::new("dpkg-deb").arg("--extract").arg(file).arg(&folder))?;
    Ok(tool)
}

fn is_package(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "deb")
}

/// Standard output of a command that succeeds.
fn output(command: &mut Command) -> Result<String, String> {
    match command.output() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(output) => Err(format!(
            "{command:?}:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )),
        Err(error) => Err(format!("{command:?} cannot be run: {error}")),
    }
}
