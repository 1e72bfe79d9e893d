//! What `synapse serve` prints when it is up: its addresses, a key where one may be shown, what it
//! found, and a request to try.

use std::{
    io::{self, Write},
    net::SocketAddr,
    time::Duration,
};

use synapse_core::{
    config::snapshot::{AuthMode, Locality},
    id::GroupName,
    principal::Principal,
};
use synapse_gateway::{
    gateway::{Gateway, Live},
    route::fleet::{BackendHandle, Health},
};

/// How long to wait for engines to list their models before printing without them.
const PATIENCE: Duration = Duration::from_millis(400);

/// What is shown this once.
pub(crate) struct Secrets<'s> {
    /// A key to call models with.
    pub(crate) key: Option<&'s str>,
    /// A token for the admin API.
    pub(crate) admin_token: Option<&'s str>,
}

/// Prints the banner to stdout.
pub(crate) async fn print(
    gateway: &Gateway,
    addresses: &[SocketAddr],
    metrics: Option<SocketAddr>,
    secrets: &Secrets<'_>,
) -> anyhow::Result<()> {
    wait_for_models(gateway).await;
    let text = text(gateway, addresses, metrics, secrets);
    match io::stdout().write_all(text.as_bytes()) {
        // With nobody to read it, the gateway runs all the same.
        Err(error) => {
            tracing::warn!(%error, "the banner cannot be printed");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

async fn wait_for_models(gateway: &Gateway) {
    let unknown = || {
        let live = gateway.live();
        // The catalogue follows a moment after the last backend's list.
        let unlisted = live.realms.of(&GroupName::default()).catalog.listing().is_empty()
            && live.fleet.iter().any(|b| b.health() == Health::Up);
        unlisted || live.fleet.iter().any(|b| b.health() == Health::Unknown)
    };
    let known = async {
        while unknown() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let _known_in_time = tokio::time::timeout(PATIENCE, known).await;
}

fn text(
    gateway: &Gateway,
    addresses: &[SocketAddr],
    metrics: Option<SocketAddr>,
    secrets: &Secrets<'_>,
) -> String {
    let key = secrets.key;
    let live = gateway.live();
    let server = &live.snapshot.server;
    let scheme = if server.tls.is_some() { "https" } else { "http" };
    let port = addresses.first().map_or(server.port, SocketAddr::port);
    let host = match server.host.as_str() {
        "0.0.0.0" | "::" | "[::]" => "localhost",
        host => host,
    };
    let host =
        if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    let url = format!("{scheme}://{host}:{port}/v1");

    let engines: Vec<String> =
        live.fleet.iter().map(|b| format!("{} ({}{})", b.id(), b.spec.kind.name(), down(b))).collect();
    let engines = if engines.is_empty() {
        "none found; start one, or name one under `backends:` in a file and pass it with --config".to_owned()
    } else {
        engines.join(", ")
    };
    let models: Vec<&str> =
        live.realms.of(&GroupName::default()).catalog.listing().iter().map(|(id, _)| id.as_str()).collect();
    let shown = match (key, live.snapshot.auth.mode) {
        (Some(key), _) => format!("{key}   (shown this once)"),
        (None, AuthMode::Open) => "none needed: auth.mode is `open`".to_owned(),
        (None, AuthMode::Keys) => {
            "yours; make one with `synapse key create --team TEAM --model GLOB`".to_owned()
        }
    };
    let metrics = metrics.map_or_else(|| "off".to_owned(), |address| format!("http://{address}/metrics"));
    let answers = |name: &&str| {
        live.realms.of(&GroupName::default()).resolve(name).is_some_and(|route| route.has_live_backend())
    };
    let model = models.iter().copied().find(answers).or(models.first().copied()).unwrap_or("MODEL");
    let authorization = match (key, live.snapshot.auth.mode) {
        (_, AuthMode::Open) => String::new(),
        (key, AuthMode::Keys) => {
            format!("    -H 'Authorization: Bearer {}' \\\n", key.unwrap_or("YOUR_KEY"))
        }
    };
    format!(
        "Synapse {version} is up.\n\n  URL      {url}\n  Key      {shown}\n{admin}  Engines  {engines}\n{cloud}  Models   {models}\n  \
         Metrics  {metrics}\n\n\
         Try it:\n\n  curl -N {url}/chat/completions \\\n{authorization}    -H 'Content-Type: application/json' \\\n    \
         -d '{{\"model\":\"{model}\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"Hello!\"}}]}}'\n\n",
        version = env!("CARGO_PKG_VERSION"),
        models = summary(&models),
        cloud = cloud(gateway, &live),
        admin = secrets.admin_token.map_or_else(String::new, |token| {
            format!("  Admin    {token}   (a token for the admin API, shown this once)\n")
        }),
    )
}

/// Which keys may send anything to backends outside the house, where there are such backends.
fn cloud(gateway: &Gateway, live: &Live) -> String {
    let outside = live.fleet.iter().filter(|backend| backend.spec.locality == Locality::Cloud);
    let outside: Vec<&str> = outside.map(|backend| backend.id().as_str()).collect();
    if outside.is_empty() {
        return String::new();
    }
    let (auth, classes) = (&live.snapshot.auth, &live.snapshot.data_classes);
    let may = |key: &Principal| classes.of(key.binding.data_class.as_ref()).1.allows(Locality::Cloud);
    let keys = gateway.keys();
    let mut able: Vec<&str> = match auth.mode {
        AuthMode::Open => [&*auth.open].into_iter().filter(|key| may(key)).map(|_| "everyone").collect(),
        AuthMode::Keys => keys.principals().filter(|key| may(key)).map(|key| key.key.as_str()).collect(),
    };
    able.sort_unstable();
    let who = match (able.is_empty(), classes.iter().find(|class| class.allows(Locality::Cloud))) {
        (false, _) => format!("open to {}", summary(&able)),
        (true, Some(class)) => format!("open to no key yet; give one the data class `{}`", class.name),
        (true, None) => "open to no key: no data class may leave the house".to_owned(),
    };
    format!("  Cloud    {}: {who}\n", summary(&outside))
}

/// A word on an engine that does not answer.
fn down(backend: &BackendHandle) -> &'static str {
    if backend.health() == Health::Down { ", not answering" } else { "" }
}

/// The first few names.
fn summary(models: &[&str]) -> String {
    const SHOWN: usize = 8;
    match models.len() {
        0 => "none yet".to_owned(),
        n if n <= SHOWN => models.join(", "),
        n => format!("{}, and {} more", models[..SHOWN].join(", "), n - SHOWN),
    }
}
