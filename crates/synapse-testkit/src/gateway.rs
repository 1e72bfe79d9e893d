//! The binary, running as a process in a folder of its own.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use bytes::Bytes;
use http::Method;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    certificate::Authority,
    client::Client,
    config::{Config, KEY},
    connection::{Connection, Protocol},
    logs::Logs,
    metrics::Samples,
    wait::poll,
};

/// A gateway that is about to be started.
pub struct Setup {
    binary: PathBuf,
    folder: TempDir,
    args: Vec<OsString>,
    wait: bool,
}

impl Setup {
    /// One of the binary at this path.
    ///
    /// # Panics
    /// When there is no place for its folder.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { binary: binary.into(), folder, args: Vec::new(), wait: true }
    }

    /// Its folder, which is also where it runs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// With a further argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Trusting this authority, and no other.
    ///
    /// # Panics
    /// When its certificate cannot be written.
    #[must_use]
    pub fn trusting(self, authority: &Authority) -> Self {
        fs::write(self.folder().join(TRUSTED), authority.pem()).expect("a certificate");
        self
    }

    /// Takes requests before it knows anything of its backends.
    #[must_use]
    pub fn without_discovery(mut self) -> Self {
        self.wait = false;
        self
    }

    /// Runs a management command in the folder.
    pub async fn cli(&self, args: &[&str]) -> Output {
        run(&self.binary, self.folder.path(), args).await
    }

    /// Starts with this configuration, and waits until it is up and has met its backends.
    pub async fn start(self, config: &Config) -> Gateway {
        self.start_with(&config.text()).await
    }

    /// The same, with the text of any configuration file.
    pub async fn start_with(mut self, text: &str) -> Gateway {
        write_config(self.folder.path(), text);
        self.args.splice(0..0, ["--config".into(), CONFIG.into()]);
        self.start_bare().await
    }

    /// Starts with no configuration but the arguments.
    pub async fn start_bare(self) -> Gateway {
        let (child, banner, logs) = launch(&self.binary, self.folder.path(), &self.args);
        let mut gateway = Gateway {
            binary: self.binary,
            folder: self.folder,
            args: self.args,
            child,
            banner,
            logs,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            metrics: None,
        };
        gateway.read_banner().await;
        if self.wait {
            gateway.until_discovered().await;
        }
        gateway
    }
}

const CONFIG: &str = "synapse.yaml";
/// What stands in place of the system's authorities.
const TRUSTED: &str = "trusted.pem";
/// What is shown of a gateway's log when a test fails; under load it has hundreds of thousands.
const LAST_LINES: usize = 100;

/// The process, with nothing of ours in its environment and everything it prints caught.
pub(crate) fn command(binary: &Path, folder: &Path) -> Command {
    let mut command = Command::new(binary);
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SYNAPSE_")) {
        command.env_remove(name);
    }
    let trusted = folder.join(TRUSTED);
    if trusted.exists() {
        command.env("SSL_CERT_FILE", trusted);
    }
    command
}

/// The running process, with what it prints on stdout and on stderr.
fn launch(binary: &Path, folder: &Path, args: &[OsString]) -> (Child, Logs, Logs) {
    let mut child = command(binary, folder).arg("serve").args(args).spawn().expect("the binary runs");
    let banner = Logs::collect(child.stdout.take().expect("its stdout"));
    let logs = Logs::collect(child.stderr.take().expect("its stderr"));
    (child, banner, logs)
}

async fn run(binary: &Path, folder: &Path, args: &[&str]) -> Output {
    let mut command = command(binary, folder);
    command.args(args);
    let run = tokio::task::spawn_blocking(move || command.output());
    run.await.expect("the command ends").expect("the binary runs")
}

/// Replaces the file as one, as an editor does.
fn write_config(folder: &Path, text: &str) {
    let next = folder.join("next.yaml");
    fs::write(&next, text).expect("the configuration can be written");
    fs::rename(next, folder.join(CONFIG)).expect("the configuration can be replaced");
}

/// A running gateway; dropped, it is killed.
pub struct Gateway {
    binary: PathBuf,
    folder: TempDir,
    args: Vec<OsString>,
    child: Child,
    banner: Logs,
    logs: Logs,
    address: SocketAddr,
    metrics: Option<SocketAddr>,
}

impl Gateway {
    async fn read_banner(&mut self) {
        // The last line of the banner is the request to try.
        let up = |lines: &[String]| lines.iter().any(|line| line.contains("-d '{")).then(|| lines.to_vec());
        let banner = self.banner.until(&format!("the banner; stderr: {:#?}", self.logs.lines()), up).await;
        let url = banner_field(&banner, "URL");
        let port = url.rsplit(':').next().and_then(|rest| rest.split('/').next()).unwrap_or_default();
        self.address.set_port(port.parse().expect("a port in the banner"));
        let metrics = banner_field(&banner, "Metrics");
        self.metrics = metrics.trim_start_matches("http://").trim_end_matches("/metrics").parse().ok();
    }

    /// Waits until every backend has been looked at, and those that live have listed their models.
    async fn until_discovered(&self) {
        poll("all backends to be discovered", async || {
            let health = self.anonymous().get("/health").await.json();
            let backends = health["backends"].as_object()?;
            let is_known = |backend: &Value| match backend["status"].as_str() {
                Some("healthy") => backend["models"] != 0,
                status => status != Some("unknown"),
            };
            backends.values().all(is_known).then_some(())
        })
        .await;
    }

    /// The key that the banner shows.
    pub fn shown_key(&self) -> String {
        let key = banner_field(&self.banner.lines(), "Key");
        key.split_whitespace().next().unwrap_or_default().to_owned()
    }

    /// The administrator's token that its banner shows; empty if there is none.
    pub fn shown_admin_token(&self) -> String {
        let shown = self.banner.lines().iter().any(|line| line.trim_start().starts_with("Admin "));
        let token = if shown { banner_field(&self.banner.lines(), "Admin") } else { String::new() };
        token.split_whitespace().next().unwrap_or_default().to_owned()
    }

    /// What it printed on stdout.
    pub fn banner(&self) -> String {
        self.banner.lines().join("\n")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it logs.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// A caller with the configuration's key.
    pub fn client(&self) -> Client {
        self.client_with(KEY)
    }

    /// A caller with another key.
    pub fn client_with(&self, key: &str) -> Client {
        Client::new(self.address, Some(key))
    }

    /// A caller without any.
    pub fn anonymous(&self) -> Client {
        Client::new(self.address, None)
    }

    /// A connection in the protocol of choice.
    ///
    /// # Panics
    /// When there is none.
    pub async fn connect(&self, protocol: Protocol) -> Connection {
        Connection::open(self.address, protocol).await.expect("a connection")
    }

    /// A scrape of its metrics.
    ///
    /// # Panics
    /// When its banner names no metrics listener.
    pub async fn metrics(&self) -> Samples {
        let address = self.metrics.expect("a metrics listener");
        let client = Client::new(address, None);
        let scrape = client.send(client.request(Method::GET, "/metrics", Bytes::new())).await;
        Samples::new(scrape.text().to_owned())
    }

    /// Waits until a metric satisfies `condition`.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)], condition: impl Fn(f64) -> bool) -> f64 {
        let what = format!("{name}{labels:?}");
        poll(&what, async || Some(self.metrics().await.sum(name, labels)).filter(|value| condition(*value)))
            .await
    }

    /// Waits until asking gives what is wanted: for changes that come into force by and by.
    pub async fn until<T>(&self, what: &str, ask: impl AsyncFnMut() -> Option<T>) -> T {
        poll(what, ask).await
    }

    /// Writes another configuration in place of its own, and returns at once.
    pub fn reconfigure(&self, config: &Config) {
        write_config(self.folder.path(), &config.text());
    }

    /// Runs a management command on its store.
    pub async fn cli(&self, args: &[&str]) -> Output {
        run(&self.binary, self.folder.path(), args).await
    }

    /// The document that a management command prints.
    ///
    /// # Panics
    /// When it fails.
    pub async fn cli_json(&self, args: &[&str]) -> Value {
        let output = self.cli(&[args, &["--json"]].concat()).await;
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {complaint}");
        serde_json::from_slice(&output.stdout).expect("one JSON document")
    }

    /// Asks it to go down, as a supervisor does.
    ///
    /// # Panics
    /// When the signal cannot be sent.
    pub fn terminate(&self) {
        let sent = Command::new("kill").arg("-TERM").arg(self.pid().to_string()).status();
        assert!(sent.expect("kill runs").success(), "the signal was not sent");
    }

    /// Goes down and comes up again in the same folder, with the same arguments.
    pub async fn restart(mut self) -> Self {
        self.terminate();
        self.ended().await;
        self.start_again().await
    }

    /// Dies at once, as with its machine.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn die(&mut self) {
        self.child.kill().expect("it lives");
        self.child.wait().expect("its exit status");
    }

    /// Comes up again after its end in the same folder, with the same arguments.
    pub async fn start_again(mut self) -> Self {
        let (child, banner, logs) = launch(&self.binary, self.folder.path(), &self.args);
        (self.child, self.banner, self.logs) = (child, banner, logs);
        self.read_banner().await;
        self.until_discovered().await;
        self
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it goes on.
    pub async fn ended(&mut self) -> ExitStatus {
        self.logs.ended().await;
        self.child.wait().expect("its exit status")
    }
}

/// The value beside a word of the banner.
fn banner_field(banner: &[String], name: &str) -> String {
    let value = banner.iter().find_map(|line| line.trim_start().strip_prefix(name));
    value.unwrap_or_default().trim().to_owned()
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended already; either way it is gone afterwards.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
        if std::thread::panicking() {
            let lines = self.logs.lines();
            let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
            eprintln!("the gateway said, of {} lines at last:\n{}", lines.len(), last.join("\n"));
        }
    }
}
