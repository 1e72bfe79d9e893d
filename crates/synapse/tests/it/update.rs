//! `synapse worker --self-update`: a binary that gives way to its gateway's, or stays what it is.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use hyper::{Request, Response, body::Incoming};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use sha2::{Digest, Sha256};
use synapse_core::key::SecretHash;
use synapse_testkit::{Config, Engine, Reception, Worker, within};
use synapse_tunnel::{
    body::BoxBody,
    gateway::{Credential, End, HubOptions, Session},
    message::{NEWER_VERSION, Notice, Status},
    protocol::{Close, Liveness, code},
    worker::{self, FailedAt, Failure, ServerUrl, Service, Terms, WorkerOptions},
};
use tokio::sync::watch;

use crate::start::gateway;

const KEY: &str = "key-of-workers";
/// A newer worker, which notes how it was called.
const NEWER: &str = "#!/bin/sh
if [ \"$1\" = --version ]; then exit; fi
printf '%s\\n' \"$@\" >\"$0.called\"
";

fn sum(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn reception() -> Reception {
    let credential =
        Credential { group: "lab".into(), key: "k".into(), secret: SecretHash::of(KEY), allows_cloud: false };
    Reception::start(HubOptions::new("replica", "9.9.9"), credential).await
}

/// Tells a worker that there is something newer, with this sum.
fn announce(session: &Session, sum: &str) {
    let os = std::env::consts::OS.replace("macos", "darwin");
    let sha256 = BTreeMap::from([(format!("{os}-{}", std::env::consts::ARCH), sum.to_owned())]);
    session.notify(Notice { sha256, ..Notice::new(NEWER_VERSION, "there is something newer") });
}

/// A worker whose binary lies in a folder of its own.
struct Installed {
    folder: tempfile::TempDir,
    worker: Worker,
    session: Session,
    _engine: Engine,
}

impl Installed {
    async fn new(reception: &Reception, more: &[&str]) -> Self {
        let engine = Engine::serving("e", "m").await;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("synapse-client");
        let binary = env!("CARGO_BIN_EXE_synapse");
        if fs::hard_link(binary, &path).is_err() {
            fs::copy(binary, &path).expect("a copy");
        }
        let (server, upstream) = (reception.url(), engine.url());
        let args = ["--server-url", &server, "--upstream", &upstream, "--ws-auth-key", KEY, "--name", "w"];
        let args = [&args[..], &["--self-update-within-s", "0"], more].concat();
        let worker = Worker::start(&path, &args);
        let session = reception.session("w").await;
        Self { folder, worker, session, _engine: engine }
    }

    fn file(&self, ending: &str) -> PathBuf {
        self.folder.path().join(format!("synapse-client{ending}"))
    }

    /// Waits until it says that it stays as it is, and why.
    async fn stays(&self) -> String {
        let line = self.worker.logs().line("the worker goes on as it is").await;
        let length = |path| fs::metadata(path).expect("a binary").len();
        assert_eq!(length(self.file("")), length(env!("CARGO_BIN_EXE_synapse").into()));
        assert!(self.session.is_open(), "it serves no more");
        line
    }

    /// Waits until the newer one has run in its place, and how it was called.
    async fn gives_way(&mut self) -> String {
        assert_eq!(self.worker.ended().await.code(), Some(0));
        assert_eq!(fs::read_to_string(self.file("")).expect("a binary"), NEWER);
        fs::read_to_string(self.file(".called")).expect("the newer one was called")
    }
}

#[tokio::test]
async fn a_worker_gives_way_to_what_its_gateway_has_and_starts_anew_as_it_was_started() {
    let reception = reception().await;
    reception.offer(NEWER, &sum(NEWER));
    let mut installed = Installed::new(&reception, &["--self-update", "--label", "a=b c"]).await;
    announce(&installed.session, &sum(NEWER));
    let called = installed.gives_way().await;
    let ends = (called.lines().next(), called.lines().last());
    assert_eq!(ends, (Some("worker"), Some("a=b c")), "{called}");
    let kept = fs::metadata(installed.file(".bak")).expect("a backup").len();
    assert_eq!(kept, fs::metadata(env!("CARGO_BIN_EXE_synapse")).expect("the binary").len());
    let ledger = fs::read_to_string(installed.file(".updates")).expect("a ledger");
    assert!(ledger.contains(" tried\n") && ledger.contains(" installed\n"), "{ledger}");
    // It left in order, so that no call was lost.
    assert_eq!(reception.end().await, End::Left);
}

#[tokio::test]
async fn a_worker_that_has_no_protocol_in_common_with_its_gateway_updates_itself_too() {
    let reception = reception().await;
    reception.offer(NEWER, &sum(NEWER));
    let mut installed = Installed::new(&reception, &["--self-update"]).await;
    installed.session.close(Close::new(code::VERSION, "no common protocol version"));
    installed.gives_way().await;
}

#[tokio::test]
async fn a_worker_whose_binary_another_one_has_updated_only_starts_anew() {
    let reception = reception().await;
    let mut installed = Installed::new(&reception, &["--self-update"]).await;
    let (path, next) = (installed.file(""), installed.file(".next"));
    fs::write(&next, NEWER).expect("written");
    let mode = fs::metadata(&path).expect("a binary").permissions();
    fs::set_permissions(&next, mode).expect("permissions");
    fs::rename(next, path).expect("renamed");
    announce(&installed.session, &sum(NEWER));
    installed.gives_way().await;
    assert!(!installed.file(".updates").exists(), "nothing was fetched");
}

#[tokio::test]
async fn what_is_not_what_was_announced_is_not_run() {
    let wrong = "0".repeat(64);
    for (announced, told, why) in [
        (sum(NEWER), wrong.clone(), "the gateway offers another binary than it has announced"),
        (wrong.clone(), wrong.clone(), "what came is not what was announced"),
        ("nonsense".to_owned(), sum(NEWER), "the gateway announced what is no SHA-256"),
    ] {
        let reception = reception().await;
        reception.offer(NEWER, &told);
        let installed = Installed::new(&reception, &["--self-update"]).await;
        announce(&installed.session, &announced);
        let line = installed.stays().await;
        assert!(line.contains(why), "{line}");
        let left = fs::read_dir(installed.folder.path()).expect("a folder").flatten();
        let left: Vec<_> =
            left.map(|entry| entry.file_name()).filter(|name| *name != "synapse-client").collect();
        assert!(left.iter().all(|name| *name == "synapse-client.updates"), "{left:?}");
    }
}

#[tokio::test]
async fn a_binary_that_does_not_run_here_does_not_take_the_workers_place() {
    let broken = "#!/no/such/shell\n";
    let reception = reception().await;
    reception.offer(broken, &sum(broken));
    let installed = Installed::new(&reception, &["--self-update"]).await;
    announce(&installed.session, &sum(broken));
    let line = installed.stays().await;
    assert!(line.contains("does not run on this machine"), "{line}");
}

#[tokio::test]
async fn what_was_tried_within_the_hour_is_not_tried_again() {
    let reception = reception().await;
    reception.offer(NEWER, &sum(NEWER));
    let installed = Installed::new(&reception, &["--self-update"]).await;
    let now = std::time::UNIX_EPOCH.elapsed().expect("a time after 1970").as_secs();
    fs::write(installed.file(".updates"), format!("{now} {} tried\n", sum(NEWER))).expect("written");
    announce(&installed.session, &sum(NEWER));
    let line = installed.stays().await;
    assert!(line.contains("this very update was tried less than an hour ago"), "{line}");
}

#[tokio::test]
async fn a_worker_whose_folder_cannot_be_written_goes_on_and_says_so() {
    let reception = reception().await;
    let installed = Installed::new(&reception, &["--self-update"]).await;
    fs::remove_dir_all(installed.folder.path()).expect("removed");
    announce(&installed.session, &sum(NEWER));
    let line = installed.worker.logs().line("the worker goes on as it is").await;
    assert!(line.contains("cannot be written, so the worker cannot replace itself"), "{line}");
    assert!(installed.session.is_open());
}

/// An engine that is never asked.
struct Nothing;

#[async_trait]
impl Service for Nothing {
    async fn call(&self, _: Request<Incoming>, _: &Terms) -> Result<Response<BoxBody>, Failure> {
        Err(Failure { at: FailedAt::Refused, detail: "there is nothing".into() })
    }
}

#[tokio::test]
async fn a_gateway_tells_a_worker_that_is_older_what_it_has_to_offer() {
    let config = Config::new().set("/groups", json!([{"name": "default", "ws_auth_keys": [KEY]}]));
    let gateway = gateway(&config).await;
    // So that it knows its own sum.
    let head = gateway.anonymous().get("/getclient").await;
    let tls = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    for (version, is_told) in [("0.0.1", true), (env!("CARGO_PKG_VERSION"), false), ("999.0.0", false)] {
        let (outdated, mut told) = watch::channel(None);
        let options = WorkerOptions {
            name: "w".into(),
            labels: BTreeMap::new(),
            capacity: None,
            version: version.into(),
            servers: vec![ServerUrl::parse(&format!("ws://{}/ws", gateway.address())).expect("a URL")],
            key: KEY.into(),
            tls: Arc::new(tls.clone()),
            grace: Duration::ZERO,
            liveness: Liveness::default(),
            outdated,
        };
        let (_status, feed) = watch::channel(Arc::new(Status::default()));
        let (stop, stopped) = watch::channel(false);
        let working = Box::pin(worker::run(options, Arc::new(Nothing), feed, stopped));
        let seen = Box::pin(async {
            if is_told {
                let told = told.wait_for(Option::is_some).await.expect("it lives").clone().expect("a word");
                let sums: Vec<_> = told.sha256.values().map(String::as_str).collect();
                assert_eq!((told.is_let_in, &sums[..]), (true, &[head.header("x-synapse-sha256")][..]));
            } else {
                gateway.metric("synapse_workers_connected", &[], |count| count == 1.0).await;
                assert_eq!(*told.borrow(), None, "{version}");
            }
            stop.send_replace(true);
        });
        let (worked, ()) = within("the worker", async { tokio::join!(working, seen) }).await;
        worked.expect("randomness");
        gateway.metric("synapse_workers_connected", &[], |count| count == 0.0).await;
    }
}

#[tokio::test]
async fn without_self_update_a_worker_only_passes_the_word_on() {
    let reception = reception().await;
    let installed = Installed::new(&reception, &[]).await;
    announce(&installed.session, &sum(NEWER));
    installed.worker.logs().line("there is something newer").await;
    assert!(installed.session.is_open());
}
