//! `synapse worker`: connects an engine to gateways from anywhere.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, anyhow, ensure};
use clap::{Args, builder::PossibleValuesParser};
use secrecy::{ExposeSecret, SecretString};
use synapse_core::{
    config::{
        Surroundings,
        snapshot::{BaseUrl, EngineKind, LogFormat, Logs},
    },
    key::ApiKey,
};
use synapse_tunnel::{message::is_name, worker::ServerUrl};

use super::secret;
use crate::{surroundings::Process, worker};

const DEFAULT_UPSTREAM: &str = "http://localhost:8081";
/// The most labels.
const MAX_LABELS: usize = 32;
/// The longest part of a label.
const MAX_LABEL: usize = 256;

/// Flags of `synapse worker`.
#[derive(Args, Debug)]
pub(super) struct WorkerArgs {
    /// Base URL of the engine, with or without /v1; also OPENAI_BASE_URL [default: http://localhost:8081]
    #[arg(long, alias = "base-url", value_name = "URL")]
    pub(super) upstream: Option<String>,
    /// The engine's API key, or file:/path of it; also OPENAI_API_KEY
    #[arg(long, alias = "api-key", value_name = "KEY")]
    pub(super) upstream_api_key: Option<SecretString>,
    /// Where the gateway takes workers in; repeat it for more gateways
    #[arg(
        long = "server-url",
        value_name = "URL",
        value_delimiter = ',',
        default_value = "ws://localhost:8080/ws"
    )]
    pub(super) server_urls: Vec<String>,
    /// The worker key that the gateway knows, or file:/path of it
    #[arg(long, value_name = "KEY")]
    pub(super) ws_auth_key: Option<SecretString>,
    /// This worker's name, its own within its group [default: host name and the engine's port]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// A label, such as rack=3; repeat it for more
    #[arg(long = "label", value_name = "KEY=VALUE", value_delimiter = ',')]
    pub(super) labels: Vec<String>,
    /// Requests at once that the gateway may send
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) max_in_flight: Option<u32>,
    /// What the engine is; found out by itself where not given
    #[arg(long, value_parser = PossibleValuesParser::new(EngineKind::ALL.map(EngineKind::name)))]
    pub(super) engine: Option<String>,
    /// PEM file of certificate authorities to trust besides the system's, for gateway and engine
    #[arg(long, value_name = "FILE")]
    pub(super) ca_file: Option<PathBuf>,
    /// How long open requests may go on after a signal, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(super) drain_grace_s: u32,
    /// Between two looks at the engine's health and load, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = seconds)]
    pub(super) health_s: f64,
    /// Between two looks at the engine's models, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds)]
    pub(super) models_s: f64,
    /// Give way to the gateway's own binary where that is newer, and start anew
    #[arg(long)]
    pub(super) self_update: bool,
    /// The longest wait before an update: a random part of it keeps a fleet from going all at once
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(super) self_update_within_s: u32,
    /// What to log: error, warn, info, debug, trace, or filters such as `info,synapse_tunnel=debug`
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(super) log_level: String,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.05..=3600.0).contains(seconds));
    seconds.ok_or_else(|| "expected a number from 0.05 to 3600".into())
}

pub(super) async fn run(args: WorkerArgs) -> anyhow::Result<ExitCode> {
    let logs = Logs { level: args.log_level.clone(), format: LogFormat::Auto, access: false };
    worker::run(args.settings(&Process)?, &logs).await
}

impl WorkerArgs {
    /// What the flags and the environment say; every complaint names the flag.
    fn settings(self, world: &dyn Surroundings) -> anyhow::Result<worker::Settings> {
        let fallback = |name| world.env(name).filter(|value| !value.is_empty());
        let upstream = self.upstream.or_else(|| fallback("OPENAI_BASE_URL"));
        let upstream = upstream.unwrap_or_else(|| DEFAULT_UPSTREAM.to_owned());
        let url = BaseUrl::parse(&upstream).map_err(|error| anyhow!("--upstream {error}"))?;
        let key = self.upstream_api_key.or_else(|| fallback("OPENAI_API_KEY").map(SecretString::from));
        let name = match self.name {
            Some(name) => name,
            None => default_name(&url),
        };
        ensure!(is_name(&name), "--name must be 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_` and `-`");
        let servers = self
            .server_urls
            .iter()
            .map(|text| ServerUrl::parse(text).map_err(|error| anyhow!("--server-url {error}")));
        let secret = |flag, given| secret::read(flag, given, world);
        Ok(worker::Settings {
            servers: servers.collect::<Result<_, _>>()?,
            key: worker_key(secret("--ws-auth-key", self.ws_auth_key)?)?,
            api_key: secret("--upstream-api-key", key)?,
            engine: self.engine.and_then(|name| EngineKind::ALL.into_iter().find(|kind| kind.name() == name)),
            labels: labels(&self.labels)?,
            capacity: self.max_in_flight,
            ca_file: self.ca_file,
            grace: Duration::from_secs(self.drain_grace_s.into()),
            health_every: Duration::from_secs_f64(self.health_s),
            models_every: Duration::from_secs_f64(self.models_s),
            self_update: self.self_update.then(|| Duration::from_secs(self.self_update_within_s.into())),
            url,
            name,
        })
    }
}

/// The key to connect with; no gateway lets anybody in without.
fn worker_key(given: Option<SecretString>) -> anyhow::Result<SecretString> {
    let remedy = "`synapse worker-key create` at the gateway makes one";
    let key = given.with_context(|| format!("--ws-auth-key is required; {remedy}"))?;
    ensure!(
        ApiKey::parse(key.expose_secret()).is_none(),
        "--ws-auth-key is the key of a caller, not of a worker; {remedy}"
    );
    Ok(key)
}

fn labels(given: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    ensure!(given.len() <= MAX_LABELS, "--label can be given up to {MAX_LABELS} times");
    let fits = |text: &str| text.len() <= MAX_LABEL && !text.chars().any(char::is_control);
    let label = |text: &String| match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && fits(key) && fits(value) => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(anyhow!("--label must be KEY=VALUE, each of up to {MAX_LABEL} plain characters")),
    };
    given.iter().map(label).collect()
}

/// The host's name and the engine's port: several engines of a host have several names.
fn default_name(url: &BaseUrl) -> String {
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    let mut name: String =
        host.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
    name.truncate(58);
    format!("{name}-{}", url.port)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, io, path::Path};

    use clap::Parser;
    use secrecy::ExposeSecret;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: WorkerArgs,
    }

    #[derive(Default)]
    struct World {
        variables: HashMap<&'static str, &'static str>,
    }

    impl Surroundings for World {
        fn env(&self, name: &str) -> Option<String> {
            self.variables.get(name).map(|value| (*value).to_owned())
        }

        fn read_file(&self, path: &Path) -> io::Result<String> {
            match path.to_str() {
                Some("/run/key") => Ok("from a file\n".into()),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        }
    }

    fn settings_in(world: &World, flags: &[&str]) -> anyhow::Result<worker::Settings> {
        let key: &[&str] = if flags.contains(&"--ws-auth-key") { &[] } else { &["--ws-auth-key", "k"] };
        let line = ["worker"].iter().chain(key).chain(flags).copied();
        Line::try_parse_from(line).expect("flags").args.settings(world)
    }

    fn settings(flags: &[&str]) -> anyhow::Result<worker::Settings> {
        settings_in(&World::default(), flags)
    }

    #[test]
    fn nothing_given_means_an_engine_and_a_gateway_on_this_machine() {
        let settings = settings(&[]).expect("settings");
        assert_eq!(settings.url.to_string(), "http://localhost:8081/v1");
        assert_eq!(settings.servers[0].to_string(), "ws://localhost:8080/ws");
        assert!(settings.name.ends_with("-8081") && is_name(&settings.name), "{}", settings.name);
        assert!(settings.api_key.is_none());
    }

    #[test]
    fn no_worker_comes_without_a_workers_key() {
        let callers = ApiKey::generate().expect("randomness");
        for key in [None, Some(callers.reveal())] {
            let key = key.map(|key| SecretString::from(key.to_owned()));
            let error = worker_key(key).expect_err("a complaint").to_string();
            assert!(error.contains("worker-key create") && !error.contains(callers.reveal()), "{error}");
        }
    }

    #[test]
    fn the_variables_of_openais_clients_stand_in_for_flags() {
        let variables = [("OPENAI_BASE_URL", "http://gpu:9000/v1"), ("OPENAI_API_KEY", "sk-1")];
        let world = World { variables: variables.into() };
        let found = settings_in(&world, &[]).expect("settings");
        assert_eq!(found.url.to_string(), "http://gpu:9000/v1");
        assert_eq!(found.api_key.expect("a key").expose_secret(), "sk-1");
        let found =
            settings_in(&world, &["--base-url", "http://other", "--api-key", "sk-2"]).expect("settings");
        assert_eq!(found.url.host, "other");
        assert_eq!(found.api_key.expect("a key").expose_secret(), "sk-2");
        let world = World { variables: [("OPENAI_BASE_URL", "")].into() };
        assert_eq!(settings_in(&world, &[]).expect("settings").url.port, 8081);
    }

    #[test]
    fn secrets_may_be_in_files() {
        let found = settings(&["--ws-auth-key", "file:/run/key"]).expect("settings");
        assert_eq!(found.key.expose_secret(), "from a file");
        let error = settings(&["--ws-auth-key", "file:/none"]).expect_err("no such file");
        assert_eq!(error.to_string(), "--ws-auth-key: the file /none cannot be read");
    }

    #[test]
    fn gateways_and_labels_can_be_several() {
        let flags =
            ["--server-url", "ws://a,wss://b/x", "--server-url", "ws://c:1", "--label", "rack=3,zone=b=c"];
        let found = settings(&flags).expect("settings");
        let servers: Vec<_> = found.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["ws://a/ws", "wss://b/x", "ws://c:1/ws"]);
        assert_eq!(found.labels["zone"], "b=c");
    }

    #[test]
    fn a_complaint_names_its_flag_and_never_repeats_a_secret() {
        for (flags, word) in [
            (["--upstream", "localhost:8081"], "--upstream must begin with"),
            (["--server-url", "ws://g/ws?ws_auth_key=hunter2"], "--server-url must not have a query"),
            (["--server-url", "ws://me:hunter2@g/ws"], "--server-url must not hold a user"),
            (["--ws-auth-key", "hunter2\u{e4}"], "--ws-auth-key must be of plain ASCII"),
            (["--name", "a b"], "--name must be 1 to 64"),
            (["--label", "hunter2"], "--label must be KEY=VALUE"),
        ] {
            let error = settings(&flags).expect_err("a complaint").to_string();
            assert!(error.contains(word) && !error.contains("hunter2"), "{error}");
        }
    }
}
