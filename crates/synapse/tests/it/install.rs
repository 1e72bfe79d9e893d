//! The one-line installation of a worker: what `/run` hands out, executed, and what it downloads.

use std::{
    fs,
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use hyper::Method;
use serde_json::json;
use synapse_testkit::{Answer, Client, Config, Engine, Gateway, Setup, within};

use crate::start::{code, gateway, setup};

const KEY: &str = "hunter2-of-the-worker";
/// What a shell finds without any set-up.
const BARE_PATH: &str = "/usr/bin:/bin";

/// A program that stands in for the worker: it shows what it was called with.
const STAND_IN: &str = "#!/bin/sh
if [ \"$1\" = --version ]; then echo 'synapse 9.9.9'; exit; fi
printf 'called:'; printf ' <%s>' \"$@\"; printf '\\nkeys: %s %s\\n' \"$SYNAPSE_WS_AUTH_KEY\" \"$SYNAPSE_UPSTREAM_API_KEY\"
";

/// A gateway that offers this file to workers of its platform.
async fn offering(content: impl AsRef<[u8]>) -> (Gateway, PathBuf) {
    let setup = setup();
    let path = setup.folder().join("offered");
    replace(&path, content);
    (offering_at(setup, &path, &Config::new()).await, path)
}

async fn offering_at(setup: Setup, path: &Path, config: &Config) -> Gateway {
    setup.without_discovery().arg("--client-binary").arg(path).start(config).await
}

/// Replaces the file as one, as an installer does.
fn replace(path: &Path, content: impl AsRef<[u8]>) {
    let next = path.with_extension("next");
    fs::write(&next, content).expect("written");
    fs::rename(next, path).expect("renamed");
}

/// The script as somebody gets it who asks the gateway by its address.
async fn script(gateway: &Gateway) -> String {
    let host = gateway.address().to_string();
    let answer = gateway.anonymous().with("host", &host).get("/run").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text().to_owned()
}

/// Somebody's machine: a home folder, a path to programs, and nothing else.
struct Machine {
    home: tempfile::TempDir,
    path: String,
}

impl Machine {
    fn new() -> Self {
        Self { home: tempfile::tempdir().expect("a folder"), path: BARE_PATH.to_owned() }
    }

    /// One that has only these programs.
    fn with_only(programs: &[&str]) -> Self {
        let machine = Self::new();
        let folder = machine.home.path().join("programs");
        fs::create_dir(&folder).expect("a folder");
        for program in programs {
            let real = ["/usr/bin", "/bin"].map(|place| Path::new(place).join(program));
            let real = real.into_iter().find(|path| path.exists()).expect("the program");
            symlink(real, folder.join(program)).expect("a link");
        }
        Self { path: folder.display().to_string(), ..machine }
    }

    /// The same, with a program of our own before the others.
    fn with_program(mut self, name: &str, text: &str) -> Self {
        let folder = self.home.path().join("own");
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(name), text).expect("written");
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).expect("permissions");
        self.path = format!("{}:{}", folder.display(), self.path);
        self
    }

    fn home(&self) -> &Path {
        self.home.path()
    }

    fn client(&self) -> PathBuf {
        self.home().join(".local/bin/synapse-client")
    }

    /// What stands where workers are installed, hidden files included.
    fn installed(&self) -> Vec<String> {
        let entries = fs::read_dir(self.home().join(".local/bin")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// `… | bash -s -- ARGS`
    async fn run(&self, script: &str, args: &[&str]) -> Output {
        let child = self.start(script, args);
        let ran = tokio::task::spawn_blocking(move || child.wait_with_output().expect("its end"));
        within("the script", ran).await.expect("it runs")
    }

    fn start(&self, script: &str, args: &[&str]) -> Child {
        let mut bash = Command::new("/bin/bash");
        bash.args(["-s", "--"]).args(args).env_clear().env("PATH", &self.path).env("HOME", self.home());
        bash.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut bash = bash.spawn().expect("bash");
        // It may be done before it has read all.
        let _done = bash.stdin.take().expect("its stdin").write_all(script.as_bytes());
        bash
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn downloads(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metrics().await.sum("synapse_client_downloads_total", &[("outcome", outcome)])
}

#[tokio::test]
async fn one_line_installs_the_worker_and_starts_it_with_its_arguments() {
    let (gateway, _) = offering(STAND_IN).await;
    let (machine, script) = (Machine::new(), script(&gateway).await);
    let args = ["--upstream", "http://localhost:8000", "--ws-auth-key", KEY, "--label", "a b=$(id)"];
    let ran = machine.run(&script, &args).await;
    assert!(ran.status.success(), "{}", said(&ran));
    let called = format!(
        "called: <--server-url> <ws://{}/ws> <--upstream> <http://localhost:8000> <--label> <a b=$(id)>\nkeys: {KEY} \n",
        gateway.address()
    );
    assert_eq!(String::from_utf8_lossy(&ran.stdout), called);
    assert!(!String::from_utf8_lossy(&ran.stderr).contains(KEY), "{}", said(&ran));
    assert_eq!(machine.installed(), ["synapse-client"]);
    let mode = fs::metadata(machine.client()).expect("the worker").permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
}

/// A worker that is running; dropped, it is killed.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

#[tokio::test]
async fn one_line_brings_a_model_online() {
    let engine = Engine::serving("far", "m").await;
    let config = Config::new().set("/groups", json!([{"name": "default", "ws_auth_keys": [KEY]}]));
    let gateway = gateway(&config).await;
    let (machine, script) = (Machine::new(), script(&gateway).await);
    let worker = Running(machine.start(&script, &["--upstream", &engine.url(), "--ws-auth-key", KEY]));
    let client = gateway.client();
    let online = async || (client.get("/v1/models").await.json()["data"][0]["id"] == "m").then_some(());
    gateway.until("the model", online).await;
    assert!(client.chat("m").await.content().len() > 1);
    let process = Path::new("/proc").join(worker.0.id().to_string());
    if let Ok(line) = fs::read(process.join("cmdline")) {
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        assert!(line.contains("synapse-client --server-url") && !line.contains(KEY), "{line}");
    }
}

#[tokio::test]
async fn what_is_installed_already_is_not_downloaded_again_and_what_is_old_is_replaced() {
    let (gateway, offered) = offering(STAND_IN).await;
    let machine = Machine::new();
    for wanted in [1.0, 1.0] {
        let ran = machine.run(&script(&gateway).await, &[]).await;
        assert!(ran.status.success(), "{}", said(&ran));
        assert_eq!(downloads(&gateway, "completed").await, wanted);
    }
    let newer = STAND_IN.replace("called", "newer");
    replace(&offered, &newer);
    gateway
        .until("the newer one to be offered", async || {
            let ran = machine.run(&script(&gateway).await, &[]).await;
            String::from_utf8_lossy(&ran.stdout).starts_with("newer:").then_some(())
        })
        .await;
    assert_eq!(fs::read_to_string(machine.client()).expect("the worker"), newer);
}

#[tokio::test]
async fn wget_will_do_and_so_will_a_machine_that_has_little_else() {
    let (gateway, _) = offering(STAND_IN).await;
    let needed = ["mkdir", "mktemp", "chmod", "mv", "rm", "uname", "sha256sum", "sh"];
    for downloader in ["curl", "wget"] {
        let machine = Machine::with_only(&[&needed[..], &[downloader]].concat());
        let ran = machine.run(&script(&gateway).await, &["--api-key=sk-1"]).await;
        assert!(ran.status.success(), "{downloader}: {}", said(&ran));
        assert!(said(&ran).contains("keys:  sk-1\n"), "{}", said(&ran));
    }
    let machine = Machine::with_only(&needed);
    let ran = machine.run(&script(&gateway).await, &[]).await;
    assert!(!ran.status.success() && said(&ran).contains("curl or wget is needed"), "{}", said(&ran));
}

#[tokio::test]
async fn a_binary_that_is_not_what_was_announced_is_not_installed() {
    let (gateway, offered) = offering(STAND_IN).await;
    let (machine, script) = (Machine::new(), script(&gateway).await);
    replace(&offered, STAND_IN.replace("called", "swapped"));
    let ran = gateway
        .until("the other one to be offered", async || {
            let ran = machine.run(&script, &[]).await;
            let _installed_from_what_was_announced = fs::remove_file(machine.client());
            (!ran.status.success()).then_some(ran)
        })
        .await;
    assert!(said(&ran).contains("what came is not what the gateway has announced"), "{}", said(&ran));
    assert_eq!(machine.installed(), [""; 0]);
}

#[tokio::test]
async fn a_binary_that_does_not_run_here_is_not_installed() {
    let (gateway, _) = offering("#!/bin/sh\nexit 1\n").await;
    let machine = Machine::new();
    let ran = machine.run(&script(&gateway).await, &[]).await;
    assert!(!ran.status.success() && said(&ran).contains("does not run on this machine"), "{}", said(&ran));
    assert_eq!(machine.installed(), [""; 0]);
}

#[tokio::test]
async fn a_machine_that_nothing_fits_is_told_why() {
    let (gateway, _) = offering(STAND_IN).await;
    let script = script(&gateway).await;
    let ran = Machine::new().with_program("uname", "#!/bin/sh\necho Plan9\n").run(&script, &[]).await;
    let message = "the gateway has no binary for Plan9-Plan9, only for: ";
    assert!(!ran.status.success() && said(&ran).contains(message), "{}", said(&ran));
    let mut machine = Machine::new();
    fs::write(machine.home().join(".local"), "in the way").expect("written");
    let ran = machine.run(&script, &[]).await;
    assert!(!ran.status.success() && said(&ran).contains("set HOME"), "{}", said(&ran));
    machine = Machine::new();
    let ran = machine.run(&script, &["--ws-auth-key"]).await;
    assert!(said(&ran).contains("--ws-auth-key needs a value"), "{}", said(&ran));
}

#[tokio::test]
async fn a_script_that_was_cut_off_does_nothing() {
    let (gateway, _) = offering(STAND_IN).await;
    let (machine, script) = (Machine::new(), script(&gateway).await);
    let last_line = script.trim_end().rfind('\n').expect("lines") + 1;
    let lines = script.match_indices('\n').map(|(at, _)| at);
    // Each line, and of the last one each letter.
    for cut in lines.chain(last_line..script.trim_end().len()).filter(|cut| *cut < script.trim_end().len()) {
        let ran = machine.run(&script[..cut], &[]).await;
        assert!(ran.stdout.is_empty() && machine.installed().is_empty(), "{cut}: {}", said(&ran));
        assert!(!machine.home().join(".local").exists(), "{cut}");
    }
    assert_eq!(downloads(&gateway, "completed").await, 0.0);
}

/// A stand-in for systemd that notes how it was called.
const SYSTEMCTL: &str = "#!/bin/sh\nprintf '%s\\n' \"$*\" >>\"$HOME/systemctl\"\n";

#[tokio::test]
async fn as_a_service_the_key_stands_in_a_file_that_nobody_else_can_read() {
    let (gateway, _) = offering(STAND_IN).await;
    let machine = Machine::new().with_program("systemctl", SYSTEMCTL);
    let key = r#"a "b" \ $c %d"#;
    let args = ["--service", "--name", "gpu-1", "--ws-auth-key", key, "--label", r#"at=a "b" 100% $5"#];
    let ran = machine.run(&script(&gateway).await, &args).await;
    assert!(ran.status.success(), "{}", said(&ran));
    assert!(!said(&ran).contains(r#"a "b""#), "{}", said(&ran));
    let called = fs::read_to_string(machine.home().join("systemctl")).expect("calls");
    let wanted = "--user show-environment\n--user daemon-reload\n--user --quiet enable synapse-worker-gpu-1\n\
        --user restart synapse-worker-gpu-1\n";
    assert_eq!(called, wanted);

    let home = machine.home().display().to_string();
    let keys = machine.home().join(".config/synapse/synapse-worker-gpu-1.env");
    let unit = machine.home().join(".config/systemd/user/synapse-worker-gpu-1.service");
    assert_eq!(fs::metadata(&keys).expect("the keys").permissions().mode() & 0o777, 0o600);
    let written = fs::read_to_string(&keys).expect("the keys");
    assert_eq!(written, "SYNAPSE_WS_AUTH_KEY=\"a \\\"b\\\" \\\\ $c %d\"\n");
    let unit = fs::read_to_string(unit).expect("the unit");
    let command = format!(
        "ExecStart=\"{home}/.local/bin/synapse-client\" \"--server-url\" \"ws://{}/ws\" \"--name\" \"gpu-1\" \
         \"--label\" \"at=a \\\"b\\\" 100%% $$5\"\n",
        gateway.address()
    );
    assert!(unit.contains(&command), "{unit}");
    assert!(unit.contains(&format!("EnvironmentFile={}\n", keys.display())), "{unit}");
    assert!(!unit.contains("$c"), "{unit}");
}

#[tokio::test]
async fn a_service_without_systemd_is_refused_before_anything_is_installed() {
    let (gateway, _) = offering(STAND_IN).await;
    let machine = Machine::new().with_program("systemctl", "#!/bin/sh\nexit 1\n");
    let ran = machine.run(&script(&gateway).await, &["--service"]).await;
    assert!(!ran.status.success() && said(&ran).contains("--service needs a login"), "{}", said(&ran));
    assert_eq!(machine.installed(), [""; 0]);
}

#[tokio::test]
async fn a_hostile_host_is_refused_and_nothing_of_it_comes_back() {
    let (gateway, _) = offering(STAND_IN).await;
    let marker = gateway.folder().join("marker");
    for evil in
        ["$(touch MARKER)", "`touch MARKER`", "';touch MARKER;'", "a\"b", "a b", "x/../y", "a:0", "[::1"]
    {
        let evil = evil.replace("MARKER", &marker.display().to_string());
        let answer = gateway.anonymous().with("host", &evil).get("/run").await;
        assert_eq!(answer.status, 400, "{evil}: {}", answer.text());
        // The gate refuses what no host can be; what passes it is refused here.
        assert!(["malformed_request", "invalid_field"].contains(&code(&answer).1.as_str()), "{evil}");
        assert!(!answer.text().contains(&evil), "{}", answer.text());
        // Whoever pipes it into a shell nevertheless.
        let ran = Machine::new().run(answer.text(), &[]).await;
        assert!(ran.stdout.is_empty() && !marker.exists(), "{evil}: {}", said(&ran));
    }
}

#[tokio::test]
async fn a_refusal_that_is_piped_into_a_shell_runs_nothing() {
    let setup = setup();
    let nowhere = setup.folder().join("nowhere");
    let gateway = offering_at(setup, &nowhere, &Config::new()).await;
    let answer = gateway.anonymous().with("host", "gateway").get("/run").await;
    assert_eq!(code(&answer), (503, "no_client_binary".into()));
    assert!(answer.text().contains("--client-binary"));
    let refused = gateway.anonymous().with("host", "under_score").get("/run").await;
    assert_eq!((refused.status, refused.json()["error"]["param"].as_str()), (400, Some("host")));
    for answer in [answer, refused] {
        assert!(!answer.text().contains(['`', '$', '\\']), "{}", answer.text());
    }
    gateway.logs().line("a worker's binary cannot be offered").await;
    assert_eq!(gateway.anonymous().get("/livez").await.status, 200);
}

#[tokio::test]
async fn the_script_names_the_configured_url() {
    let config = Config::new().set("/server/external_url", "https://ai.example.com/synapse/");
    let gateway = setup().without_discovery().start(&config).await;
    let answer = gateway.anonymous().get("/run").await;
    let line = "local base_url='https://ai.example.com/synapse' tunnel_url='wss://ai.example.com/synapse/ws'";
    assert!(answer.text().contains(line), "{}", answer.text());
    assert_eq!(answer.header("content-type"), "text/x-shellscript; charset=utf-8");
    assert_eq!(answer.header("content-disposition"), "attachment; filename=\"install-client.sh\"");
}

#[tokio::test]
async fn a_gateway_offers_its_own_binary_unless_it_is_told_otherwise() {
    let gateway = setup().without_discovery().start(&Config::new()).await;
    let answer = gateway.anonymous().get("/getclient").await;
    let own = fs::read(env!("CARGO_BIN_EXE_synapse")).expect("the binary");
    assert!(answer.status == 200 && answer.body == own, "{} {}", answer.status, answer.body.len());
    assert_eq!(answer.header("content-length"), own.len().to_string());
    assert_eq!(answer.header("content-disposition"), "attachment; filename=\"synapse-client\"");
    let sum = answer.header("x-synapse-sha256");
    assert_eq!((sum.len(), answer.header("etag")), (64, format!("\"{sum}\"").as_str()));
}

async fn ask(client: &Client, method: Method, path: &str) -> Answer {
    client.send(client.request(method, path, "")).await
}

#[tokio::test]
async fn binaries_of_other_platforms_come_from_a_folder() {
    let setup = setup();
    let folder = setup.folder().join("clients");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("synapse-plan9-mips"), "for plan 9").expect("written");
    fs::write(folder.join("synapse-darwin-aarch64"), "for a mac").expect("written");
    let config = Config::new().set("/server/client_binaries", folder.display().to_string());
    let gateway = setup.without_discovery().start(&config).await;
    let client = gateway.anonymous();
    let answer = client.get("/getclient?os=plan9&arch=mips").await;
    assert_eq!((answer.status, answer.text()), (200, "for plan 9"));
    assert_eq!(client.get("/getclient?os=macos&arch=arm64").await.text(), "for a mac");
    let etag = answer.header("etag").to_owned();
    let known = client.clone().with("if-none-match", &etag).get("/getclient?os=plan9&arch=mips").await;
    assert_eq!((known.status, known.body.len()), (304, 0));
    let head = ask(&client, Method::HEAD, "/getclient?os=plan9&arch=mips").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "10", 0));
    assert_eq!(head.header("x-synapse-sha256").len(), 64);
    for path in ["/getclient?os=plan9&arch=sparc", "/getclient?os=../etc&arch=mips", "/getclient?os="] {
        let answer = client.get(path).await;
        assert_eq!(code(&answer), (404, "not_found".into()), "{path}");
        assert!(answer.text().contains("os=plan9&arch=mips"), "{}", answer.text());
    }
}

#[tokio::test]
async fn no_more_than_sixteen_download_at_once_and_the_others_are_asked_to_wait() {
    // More than sockets hold.
    let (gateway, _) = offering(vec![0; 32 << 20]).await;
    let client = gateway.anonymous();
    let mut held = Vec::new();
    for _ in 0..16 {
        let mut connection = client.connect().await;
        let reply = connection.send(client.request(Method::GET, "/getclient", "")).await.expect("a head");
        assert_eq!(reply.status(), 200);
        held.push((connection, reply));
    }
    let refused = client.get("/getclient").await;
    assert_eq!((code(&refused), refused.header("retry-after")), ((503, "overloaded".into()), "5"));
    assert_eq!(client.get("/run").await.status, 200);
    assert_eq!(downloads(&gateway, "turned_away").await, 1.0);
    drop(held);
    gateway.metric("synapse_client_downloads_total", &[("outcome", "cancelled")], |n| n == 16.0).await;
    assert_eq!(client.get("/getclient").await.body.len(), 32 << 20);
}

#[tokio::test]
async fn the_version_is_told_to_programs_and_to_people() {
    let gateway = setup().without_discovery().start(&Config::new()).await;
    let answer = gateway.anonymous().get("/version").await.json();
    assert_eq!(
        (&answer["version"], &answer["protocol"]["min"]),
        (&env!("CARGO_PKG_VERSION").into(), &1.into())
    );
    assert!(answer["protocol"]["max"].as_u64() >= Some(1));
    let answer = gateway.anonymous().with("accept", "text/plain").get("/version").await;
    assert_eq!(answer.text(), concat!(env!("CARGO_PKG_VERSION"), "\n"));
}
