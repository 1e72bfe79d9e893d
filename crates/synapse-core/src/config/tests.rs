//! Whole configurations, from text to snapshot or to the list of what is wrong.

use std::time::Duration;

use secrecy::ExposeSecret;

use super::{
    reference::EXAMPLE,
    snapshot::{AuthMode, EngineKind, Locality, Snapshot, Strategy},
    testing::World,
    *,
};

const PEM: &str = "-----BEGIN CERTIFICATE-----\n";

/// `LINE:COLUMN: path: message` of everything that is wrong with `text`.
fn mistakes(text: &str) -> Vec<String> {
    mistakes_in(text, &World::default())
}

fn mistakes_in(text: &str, world: &World) -> Vec<String> {
    load(text, world).err().into_iter().flatten().map(|problem| problem.to_string()).collect()
}

fn hints(text: &str) -> Vec<String> {
    load(text, &World::default()).err().into_iter().flatten().filter_map(|problem| problem.hint).collect()
}

fn loaded(text: &str, world: &World) -> Snapshot {
    load(text, world).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

fn example_world() -> World {
    World::default()
        .var("CI_KEY", "ci-secret")
        .var("GPU_KEY", "gpu-secret")
        .var("LAB_WORKER_KEY", "worker")
        .var("LAB_CALLER_KEY", "caller")
        .file("/run/secrets/openai", "sk-from-file\n")
        .file("/etc/synapse/tls.crt", PEM)
        .file("/etc/synapse/tls.key", PEM)
        .file("/etc/synapse/lab-ca.pem", PEM)
        .file("/etc/synapse/suppliers.txt", "Northern Light Timber\n")
        .file(
            "/etc/synapse/members.hashes",
            "00000000000000000000000000000000000000000000000000000000000000ff\n",
        )
        .file("/run/secrets/members_hash_key", "k\n")
        .file("/run/secrets/soc_webhook", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n")
        .file("/run/secrets/witness_webhook", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n")
        .file("/run/secrets/vault_access_key", "vault\n")
        .file("/run/secrets/vault_secret_key", "k\n")
        .file("/run/secrets/slack_url", "https://hooks.example.com/x\n")
        .file("/etc/synapse/ci-prompt.txt", "Be brief.\n")
        .file("/etc/synapse/prices.yaml", "models: [{model: listed, per_request: 0.01}]")
}

#[test]
fn by_default_what_is_well_again_has_a_quarter_of_its_share_within_15_seconds() {
    let routing = loaded("", &World::default()).routing;
    assert!(routing.breaker.open_for + routing.slow_start / 2 <= Duration::from_secs(15));
}

#[test]
fn an_empty_file_means_the_defaults() {
    let snapshot = loaded("", &World::default());
    assert_eq!((snapshot.server.host.as_str(), snapshot.server.port), ("localhost", 8080));
    assert_eq!(snapshot.server.metrics, Some(("127.0.0.1".to_owned(), 9464)));
    assert_eq!(snapshot.server.max_body_bytes, 32 << 20);
    assert_eq!(snapshot.auth.mode, AuthMode::Keys);
    assert_eq!(snapshot.routing.strategy, Strategy::LeastLoaded);
    assert!(snapshot.discovery.local, "with nothing configured, local engines are looked for");
    assert!(snapshot.warnings.is_empty());
}

#[test]
fn the_example_of_the_reference_is_valid() {
    let snapshot = loaded(EXAMPLE, &example_world());
    let gpu = &snapshot.backends[0];
    assert_eq!((gpu.id.as_str(), gpu.kind, gpu.locality), ("gpu-1", EngineKind::Vllm, Locality::OnPrem));
    let openai = &snapshot.backends[2];
    assert_eq!(openai.locality, Locality::Cloud);
    assert_eq!(openai.api_key.as_ref().map(ExposeSecret::expose_secret), Some("sk-from-file"));
    let llama = &snapshot.models[0];
    assert_eq!((llama.deployments[0].order, llama.deployments[0].weight), (1, 2));
    let timeouts = llama.deployments[1].timeouts.expect("timeouts of its own");
    assert_eq!((timeouts.first_token.as_secs(), timeouts.total.as_secs()), (120, 600));
    assert!(!snapshot.discovery.local);
    assert!(snapshot.routing.prefix_affinity);
    assert!(snapshot.redis_url.is_some() && snapshot.warnings.is_empty(), "{:?}", snapshot.warnings);
    let limits = &snapshot.auth.static_keys[0].binding.limits;
    assert_eq!(limits.cost_per_day.map(|most| most.to_string()).as_deref(), Some("12.5"));
    let price = snapshot.prices.of("llama-3.1-70b", "x", Locality::OnPrem).expect("a price");
    assert_eq!(price.per_gpu_second.to_string(), "0.0008");
    let rented = |upstream| snapshot.prices.of("x", upstream, Locality::Cloud);
    assert!(rented("listed").is_some() && rented("openai/listed").is_some(), "the file's");
    assert!(rented("gpt-4o").is_none(), "the file stands in place of the shipped list");
    assert!(snapshot.prices.of("listed", "listed", Locality::OnPrem).is_none(), "it is for what is rented");
}

#[test]
fn the_example_of_the_reference_uses_every_key() {
    fn missing(schema: &serde_json::Value, nodes: &[&yaml::Node], path: &str, found: &mut Vec<String>) {
        for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}/{key}");
            let mut values: Vec<&yaml::Node> = nodes.iter().filter_map(|node| node.get(key)).collect();
            // A deployment's timeouts are the backend's once more.
            if values.is_empty() && !path.starts_with("/models/deployments/timeouts") {
                found.push(path.clone());
            }
            if schema["type"] == "array" {
                values = values.into_iter().flat_map(yaml::Node::items).collect();
            }
            let inner = if schema["type"] == "array" { &schema["items"] } else { schema };
            missing(inner, &values, &path, found);
        }
    }
    let root = yaml::parse(EXAMPLE, &mut Vec::new()).expect("a tree");
    let mut found = Vec::new();
    missing(schema(), &[&root], "", &mut found);
    assert!(found.is_empty(), "not in the example: {found:?}");
}

#[test]
fn seven_mistakes_are_reported_at_once_each_in_its_line() {
    let text = "\
server:
  prot: 9000
  max_body_mb: lots
backends:
  - name: gpu-1
    url: ftp://10.0.0.5/v1
  - name: cloud
    type: opnai
    url: https://api.example.com/v1
    api_key: ${CLOUD_KEY}
models:
  - name: llama
    deployments:
      - {backend: gpu-2, model: llama}
    fallbacks: [lama]
";
    assert_eq!(
        mistakes(text),
        [
            "2:3: server.prot: unknown key",
            "3:16: server.max_body_mb: expected a whole number, found text",
            "6:10: backends[0].url: must begin with `http://` or `https://`",
            "8:11: backends[1].type: `opnai` is none of openai, vllm, sglang, llama-cpp, ollama, tgi, tensorrt-llm",
            "10:14: backends[1].api_key: environment variable `CLOUD_KEY` is not set",
            "14:19: models[0].deployments[0].backend: there is no backend of this name",
            "15:17: models[0].fallbacks[0]: there is no model of this name",
        ]
    );
    assert_eq!(
        hints(text),
        ["did you mean `port`?", "did you mean `openai`?", "did you mean `gpu-1`?", "did you mean `llama`?",]
    );
}

#[test]
fn each_mistake_is_named_for_what_it_is() {
    for (text, want) in [
        ("server: 5", "1:9: server: expected a section of keys, found a single value"),
        ("backends: {}", "1:11: backends: expected a list, found a section"),
        ("server: {port: [1]}", "1:16: server.port: expected a whole number, found a list"),
        ("server: {port: 65536}", "1:16: server.port: must be between 0 and 65535"),
        ("server: {port: 80.5}", "1:16: server.port: expected a whole number"),
        ("server: {port: '80'}", "1:16: server.port: expected a whole number, found text"),
        (
            "server: {port: 9464, host: 0.0.0.0}",
            "1:9: server.metrics.port: is the port of the public listener, too",
        ),
        ("server: {host: 'http://x'}", "1:16: server.host: is neither a host name nor an address"),
        (
            "server: {response_headers: maybe}",
            "1:28: server.response_headers: expected true or false, found text",
        ),
        (
            "server: {trusted_proxies: [10.0.0.0/40]}",
            "1:28: server.trusted_proxies[0]: is not a network such as `10.0.0.0/8`, nor an address",
        ),
        ("server: {cors_origins: ['https://a.example/x']}", "1:25: server.cors_origins[0]: is not an origin"),
        (
            "server: {external_url: 'https://gateway/$(id)'}",
            "1:24: server.external_url: is not a plain URL of `http` or `https`",
        ),
        ("server: {client_binaries: ''}", "1:27: server.client_binaries: must not be empty"),
        ("server: {tls: {key: /none}}", "1:15: server.tls.cert: is required, but missing"),
        ("data_dir: ''", "1:11: data_dir: must not be empty"),
        ("database: {url: 'mysql://x'}", "1:17: database.url: must begin with `sqlite://` or `postgres://`"),
        ("prices: {file: /nowhere}", "1:16: prices.file: the file cannot be read: entity not found"),
        ("redis: {url: 'http://x'}", "1:14: redis.url: must begin with `redis://` or `rediss://`"),
        (
            "routing: {strategy: fastest}",
            "1:21: routing.strategy: `fastest` is none of least_loaded, round_robin, weighted, latency, prefix",
        ),
        ("routing: {retry_budget: .nan}", "1:25: routing.retry_budget: expected a number, found text"),
        ("routing: {retry_budget: 1.5}", "1:25: routing.retry_budget: must be between 0 and 1"),
        ("logs: {level: inof}", "1:15: logs.level: a level is one of off, error, warn, info, debug, trace"),
        ("backends: [{url: 'http://x'}]", "1:12: backends[0].name: is required, but missing"),
        (
            "backends: [{name: a, url: 'http://u:p@x'}]",
            "1:27: backends[0].url: must not hold a user or a password; use `api_key`",
        ),
        (
            "backends: [{name: a, url: 'http://x', api_key: 'file:/none'}]",
            "1:48: backends[0].api_key: the secret file cannot be read: entity not found",
        ),
        (
            "backends: [{name: a, url: 'http://x', ca_file: /none}]",
            "1:48: backends[0].ca_file: the file cannot be read: entity not found",
        ),
        (
            "backends: [{name: a, url: 'http://x', timeouts: {idle_s: 0}}]",
            "1:58: backends[0].timeouts.idle_s: must be between 0.001 and 86400",
        ),
        (
            "backends: [{name: a, url: 'http://x'}, {name: a, url: 'http://y'}]",
            "1:47: backends[1].name: the name is taken, in line 1",
        ),
        (
            "backends: [{name: \"a\\nb\", url: 'http://x'}]",
            "1:19: backends[0].name: must be printable ASCII without spaces at its ends",
        ),
        ("groups: [{name: a}, {name: a}]", "1:28: groups[1].name: the name is taken, in line 1"),
        (
            "groups: [{name: a, api_keys: [x]}, {name: b, ws_auth_keys: [x]}]",
            "1:61: groups[1].ws_auth_keys[0]: is the same secret as in line 1",
        ),
        (
            "auth: {static_keys: [{id: a, secret: 'x y'}]}",
            "1:38: auth.static_keys[0].secret: must be printable ASCII without spaces, or no HTTP header can carry it",
        ),
        ("a: &x [*x]", "1:8: a[0]: this alias stands inside the value that it repeats"),
        ("models: [!include x]", "1:10: models[0]: unknown tag `!include`"),
    ] {
        let found = mistakes(text);
        assert!(found.iter().any(|mistake| mistake == want), "{text}\n  found {found:#?}\n  want  {want}");
    }
}

#[test]
fn mistakes_among_models_are_named_for_what_they_are() {
    let backends = "backends: [{name: b, url: 'http://x'}]\n";
    for (models, want) in [
        ("[{name: m, deployments: []}]", "models[0].deployments: must not be empty"),
        (
            "[{name: m, deployments: [{backend: b, model: x, weight: 0}]}]",
            "models[0].deployments: every deployment has weight 0, so none would be used",
        ),
        (
            "[{name: m, deployments: [{backend: b, model: '*'}]}]",
            "models[0].deployments[0].model: has a `*`, but the model's name has none to fill it",
        ),
        (
            "[{name: m/*, aliases: [n], deployments: [{backend: b, model: '*'}]}]",
            "models[0].aliases[0]: needs a `*`, as the model's name has one",
        ),
        (
            "[{name: m, aliases: [m], deployments: [{backend: b, model: x}]}]",
            "models[0].aliases[0]: the name is taken, in line 2",
        ),
        (
            "[{name: m, deployments: [{backend: b, model: x}], fallbacks: [m]}]",
            "models[0].fallbacks[0]: the model cannot fall back to itself",
        ),
        (
            "[{name: m, deployments: [{backend: b, model: x}], fallbacks: [n]}, \
           {name: n, aliases: [o], deployments: [{backend: b, model: x}], fallbacks: [m]}]",
            "models[1].fallbacks[0]: this fallback closes a circle",
        ),
        (
            "[{name: m, deployments: [{backend: b, model: x}], context_fallbacks: [m]}]",
            "models[0].context_fallbacks[0]: the model cannot fall back to itself",
        ),
    ] {
        let text = format!("{backends}models: {models}");
        let found = mistakes(&text);
        assert!(found.len() == 1 && found[0].ends_with(want), "{models}\n  found {found:#?}\n  want  {want}");
    }
}

#[test]
fn what_is_planned_is_told_apart_from_what_is_misspelt() {
    let text = "speech: {}\nbackends: [{name: a, type: anthropic, url: 'https://api.anthropic.com'}]\n";
    assert_eq!(mistakes(text).len(), 2);
    assert_eq!(hints(text), ["not available in this version of Synapse"; 2]);
}

#[test]
fn a_backend_with_mistakes_is_still_a_known_name() {
    let model = "models: [{name: m, deployments: [{backend: a, model: x}]}]\n";
    for backends in [
        "backends: [{name: a, url: nowhere}]\n",
        "backends: [{name: a}]\n",
        "backends: [{nmae: a, url: 'http://x'}]\n",
        "backend: [{name: a, url: 'http://x'}]\n",
        "backends: [{name: [a], url: 'http://x'}]\n",
        "backends: [a]\n",
        "backends: {name: a}\n",
    ] {
        let found = mistakes(&format!("{backends}{model}"));
        assert_eq!(found.len(), 1, "{backends}{found:#?}");
    }
}

#[test]
fn a_broken_value_raises_no_second_complaint() {
    for text in [
        "server: {port: x, metrics: {port: 8080}}",
        "server: {tls: {cert: [], key: /none}}",
        "models: [{name: [], deployments: []}]",
        "auth: {static_keys: [{id: a, secret: '${NONE}'}]}",
    ] {
        let found = mistakes(text);
        let places: std::collections::HashSet<_> = found.iter().map(|m| m.split(": ").nth(1)).collect();
        assert_eq!(places.len(), found.len(), "{found:#?}");
        assert!(found.iter().all(|mistake| !mistake.contains("missing")), "{found:#?}");
    }
    assert_eq!(mistakes("server: {port: x, metrics: {port: 8080}}").len(), 1);
}

#[test]
fn variables_stand_for_any_type_anywhere() {
    let text = "server: {port: \"${PORT}\", response_headers: \"${OFF:-false}\"}\n\
                backends:\n  - name: ${NAME}\n    url: http://${HOST}:8000\n    max_in_flight: ${N:-8}\n    api_key: ${NONE:-}\n";
    let world = World::default().var("PORT", "9000").var("NAME", "gpu").var("HOST", "10.0.0.9");
    let snapshot = loaded(text, &world);
    assert_eq!((snapshot.server.port, snapshot.server.reveal_backend), (9000, false));
    let gpu = &snapshot.backends[0];
    assert_eq!((gpu.id.as_str(), gpu.url.to_string().as_str()), ("gpu", "http://10.0.0.9:8000/v1"));
    assert_eq!(gpu.max_in_flight, Some(8));
    assert!(gpu.api_key.is_none(), "an empty variable with a default means no key");
}

#[test]
fn secrets_never_show_in_problems_or_debug_output() {
    let text = "\
database: {url: \"${DB}\"}
auth:
  static_keys: [{id: a, secret: hunter2-literal}, {id: b, secret: hunter2-literal}]
backends:
  - {name: \"${SECRET}\", type: \"${SECRET}\", url: \"${SECRET}\", max_in_flight: \"${SECRET}\"}
  - {name: b, url: \"http://user:hunter2@host/v1\", api_key: \"${SECRET} x\"}
  - {name: c, url: \"http://x\", api_key: [hunter2]}
models: [{name: m, deployments: [{backend: \"${SECRET}\", model: x}], fallbacks: [\"${SECRET}\"]}]
logs: {level: \"${SECRET}\"}
";
    let world = World::default().var("SECRET", "hunter2").var("DB", "mysql://hunter2@db");
    let problems = load(text, &world).expect_err("problems");
    assert!(problems.len() >= 8, "{problems:#?}");
    assert!(!format!("{problems:?}").contains("hunter2"), "{problems:#?}");

    let snapshot = loaded(EXAMPLE, &example_world());
    let shown = format!("{snapshot:?}");
    for secret in ["ci-secret", "gpu-secret", "sk-from-file", "synapse.db"] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

#[test]
fn a_key_over_plain_http_to_the_cloud_deserves_a_word() {
    let snapshot =
        loaded("backends: [{name: a, url: 'http://api.example.com/v1', api_key: x}]", &World::default());
    assert_eq!(snapshot.warnings, ["line 1: backends[0].url: the API key travels unencrypted; use https"]);
    assert!(!snapshot.discovery.local, "with a backend configured, nothing else is looked for");
}

#[test]
fn fractions_of_seconds_are_kept() {
    let text = "backends: [{name: a, url: 'http://x', timeouts: {connect_s: 0.25}}]";
    assert_eq!(loaded(text, &World::default()).backends[0].timeouts.connect, Duration::from_millis(250));
}

#[test]
fn the_schema_forbids_unknown_keys_everywhere() {
    fn open_sections(schema: &serde_json::Value, path: &str, found: &mut Vec<String>) {
        for (key, value) in schema.as_object().into_iter().flatten() {
            open_sections(value, &format!("{path}/{key}"), found);
        }
        let is_map = schema["additionalProperties"].is_object() && schema["properties"].is_null();
        if schema["type"] == "object" && schema["additionalProperties"] != false && !is_map {
            found.push(path.to_owned());
        }
    }
    let mut found = Vec::new();
    open_sections(schema(), "", &mut found);
    assert!(found.is_empty(), "{found:?}");
    assert_eq!(schema()["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

#[test]
fn the_published_reference_is_up_to_date() {
    let published = include_str!("../../../../docs/config.md");
    assert!(
        published == reference_markdown(),
        "docs/config.md is stale; run `cargo run -- config reference > docs/config.md`"
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_loader_panic(
        text in "((server|backends|models|name|url|deployments|model_list|auth|x): ?|- |  |\n|\\{|\\}|\\[|\\]|\\$\\{A\\}|[a-z0-9*.'\"]){0,60}"
    ) {
        let _ = load(&text, &World::default().var("A", "1"));
    }
}
