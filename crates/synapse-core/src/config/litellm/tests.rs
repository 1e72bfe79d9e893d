//! LiteLLM files, from text to a Synapse configuration and to the snapshot of both.

use secrecy::ExposeSecret;

use super::*;
use crate::config::{
    Surroundings, load,
    snapshot::{Snapshot, Strategy},
    testing::World,
};

/// Two providers, a local engine with order and weight, and what usually stands around them.
const TYPICAL: &str = "\
model_list:
  - model_name: llama3.1-8b
    litellm_params:
      model: hosted_vllm/meta-llama/Meta-Llama-3.1-8B-Instruct
      api_base: http://10.0.0.5:8001/v1
      api_key: os.environ/VLLM_KEY
      order: 1
      weight: 2
      rpm: 60
  - model_name: llama3.1-8b
    litellm_params:
      model: ollama/llama3.1:8b
      api_base: http://ollama:11434
      order: 2
      timeout: 300
      stream_timeout: 120
  - model_name: gpt-4o
    litellm_params: {model: gpt-4o}
    model_info: {mode: chat}
  - model_name: groq-llama
    litellm_params:
      model: groq/llama-3.1-8b-instant
      max_parallel_requests: 8
  - model_name: openai/*
    litellm_params:
      model: openai/*
      api_key: os.environ/OPENAI_API_KEY
  - model_name: claude
    litellm_params:
      model: anthropic/claude-sonnet
litellm_settings:
  drop_params: true
  num_retries: 1
  request_timeout: 120
router_settings:
  routing_strategy: simple-shuffle
  num_retries: 3
  allowed_fails: 2
  cooldown_time: 20
  fallbacks:
    - llama3.1-8b: [groq-llama, claude]
    - groq-llama: [llama3.1-8b]
  default_fallbacks: [gpt-4o]
  model_group_alias:
    default: llama3.1-8b
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
  database_url: postgres://litellm
";

fn typical_world() -> World {
    World::default()
        .var("VLLM_KEY", "vllm-secret")
        .var("OPENAI_API_KEY", "openai-secret")
        .var("GROQ_API_KEY", "groq-secret")
        .var("LITELLM_MASTER_KEY", "sk-master")
}

fn imported(text: &str) -> Import {
    import(text).unwrap_or_else(|problems| panic!("{problems:#?}"))
}

/// Everything of a snapshot, secrets included, but its warnings, whose lines differ between the files.
fn essence(snapshot: &Snapshot) -> String {
    let Snapshot {
        server, data_dir, database_url: _, auth, backends, models, routing, discovery, logs, ..
    } = snapshot;
    let keys: Vec<_> = backends.iter().map(|b| b.api_key.as_ref().map(ExposeSecret::expose_secret)).collect();
    let statics: Vec<_> = auth.static_keys.iter().map(|key| key.secret.expose_secret()).collect();
    format!("{:#?}", (server, data_dir, (auth, statics), (backends, keys), models, routing, discovery, logs))
}

/// The snapshot of a LiteLLM file, which must be that of its conversion, too.
fn same_either_way(text: &str, world: &dyn Surroundings) -> Snapshot {
    let direct = load(text, world).unwrap_or_else(|problems| panic!("{text}\n{problems:#?}"));
    let yaml = imported(text).yaml;
    let converted = load(&yaml, world).unwrap_or_else(|problems| panic!("{yaml}\n{problems:#?}"));
    assert_eq!(essence(&converted), essence(&direct), "{yaml}");
    direct
}

#[test]
fn a_typical_file_becomes_a_clean_configuration() {
    assert_eq!(
        imported(TYPICAL).yaml,
        "\
auth:
  static_keys:
    - id: litellm-master-key
      secret: ${LITELLM_MASTER_KEY}
      data_class: non_sensitive
backends:
  - name: vllm-10.0.0.5-8001
    type: vllm
    url: http://10.0.0.5:8001/v1
    api_key: ${VLLM_KEY}
    timeouts:
      total_s: 120
  - name: ollama-11434
    type: ollama
    url: http://ollama:11434
    timeouts:
      total_s: 120
  - name: openai
    type: openai
    url: https://api.openai.com/v1
    api_key: ${OPENAI_API_KEY}
    timeouts:
      total_s: 120
  - name: groq
    type: openai
    url: https://api.groq.com/openai/v1
    api_key: ${GROQ_API_KEY}
    timeouts:
      total_s: 120
    max_in_flight: 8
models:
  - name: llama3.1-8b
    aliases:
      - default
    deployments:
      - backend: vllm-10.0.0.5-8001
        model: meta-llama/Meta-Llama-3.1-8B-Instruct
        order: 1
        weight: 2
      - backend: ollama-11434
        model: llama3.1:8b
        order: 2
        timeouts:
          first_token_s: 120
          total_s: 300
    fallbacks:
      - groq-llama
  - name: gpt-4o
    deployments:
      - backend: openai
        model: gpt-4o
  - name: groq-llama
    deployments:
      - backend: groq
        model: llama-3.1-8b-instant
  - name: openai/*
    deployments:
      - backend: openai
        model: \"*\"
    fallbacks:
      - gpt-4o
routing:
  strategy: weighted
  retries: 3
  breaker:
    failures: 3
    open_s: 20
"
    );
}

#[test]
fn what_has_no_place_is_listed_with_its_line_and_reason() {
    let notes: Vec<String> = imported(TYPICAL).not_carried.iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        [
            "line 9: model_list[0].litellm_params.rpm: not carried over: rates are limits of keys, not of deployments",
            "line 19: model_list[2].model_info: not carried over: prices and descriptions of models are not read",
            "line 28: model_list[5]: not carried over: `anthropic` speaks a protocol that this version does not translate",
            "line 32: litellm_settings.drop_params: not carried over: parameters are passed to the engine as they are",
            "line 41: router_settings.fallbacks[0][\"llama3.1-8b\"][1]: not carried over: no model of this name is carried over",
            "line 42: router_settings.fallbacks[1].groq-llama[0]: not carried over: this fallback would close a circle",
            "line 48: general_settings.database_url: not carried over: Synapse keeps its keys in a database of its own: see `database.url`",
        ]
    );
}

#[test]
fn the_file_and_its_conversion_mean_the_same() {
    let snapshot = same_either_way(TYPICAL, &typical_world());
    assert_eq!(snapshot.warnings.len(), 7);
    assert_eq!(snapshot.auth.static_keys[0].id.as_str(), "litellm-master-key");
    assert_eq!(snapshot.models[0].deployments[1].timeouts.map(|t| t.total.as_secs()), Some(300));
}

#[test]
fn mistakes_are_reported_where_they_stand_in_the_litellm_file() {
    let text = "\
model_list:
  - model_name: a
    litellm_params: {model: openai/a, api_base: 'ftp://x', api_key: os.environ/NONE}
  - model_name: b
  - litellm_params: {model: groq/x, api_key: k, timeout: soon}
";
    let problems = load(text, &World::default()).expect_err("problems");
    let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "3:49: model_list[0].litellm_params.api_base: must begin with `http://` or `https://`",
            "3:69: model_list[0].litellm_params.api_key: environment variable `NONE` is not set",
            "4:5: model_list[1].litellm_params.model: is required, but missing",
            "5:5: model_list[2].model_name: is required, but missing",
        ]
    );
}

#[test]
fn entries_at_one_address_share_a_backend_and_the_rest_are_told_apart() {
    let text = "\
model_list:
  - {model_name: a, litellm_params: {model: openai/a, api_base: 'http://gpu:8000/v1/', api_key: x}}
  - {model_name: b, litellm_params: {model: openai/b, api_base: 'http://gpu:8000/v1', api_key: x}}
  - {model_name: c, litellm_params: {model: openai/c, api_base: 'http://gpu:8000/v1', api_key: y}}
  - {model_name: d, litellm_params: {model: openai/d, api_base: os.environ/BASE}}
";
    let snapshot = same_either_way(text, &World::default().var("BASE", "http://10.0.0.1:1"));
    let names: Vec<&str> = snapshot.backends.iter().map(|backend| backend.id.as_str()).collect();
    assert_eq!(names, ["openai-gpu-8000", "openai-gpu-8000-2", "openai"]);
    assert!(snapshot.backends[2].api_key.is_none(), "the provider's own key is not for another address");
}

#[test]
fn entries_without_an_order_come_after_those_with_one() {
    let text = "\
model_list:
  - {model_name: a, litellm_params: {model: ollama/a}}
  - {model_name: a, litellm_params: {model: ollama/b, order: 3}}
";
    let orders: Vec<u32> =
        same_either_way(text, &World::default()).models[0].deployments.iter().map(|d| d.order).collect();
    assert_eq!(orders, [4, 3]);
}

#[test]
fn bounds_of_deployments_add_up_at_their_backend() {
    let entry = |name: &str, bound: &str| {
        format!("  - {{model_name: {name}, litellm_params: {{model: ollama/{name}{bound}}}}}\n")
    };
    let (a, b) = (entry("a", ", max_parallel_requests: 2"), entry("b", ", max_parallel_requests: 3"));
    let both = same_either_way(&format!("model_list:\n{a}{b}"), &World::default());
    assert_eq!(both.backends[0].max_in_flight, Some(5));
    let one = same_either_way(&format!("model_list:\n{a}{}", entry("b", "")), &World::default());
    assert_eq!(one.backends[0].max_in_flight, None);
    assert!(one.warnings.iter().any(|warning| warning.contains("max_parallel_requests")));
}

#[test]
fn text_that_looks_like_a_reference_of_ours_stays_text() {
    let text = "model_list:\n  - {model_name: a, litellm_params: {model: ollama/a, api_key: 'pa${ss}'}}\n";
    let snapshot = same_either_way(text, &World::default());
    let key = snapshot.backends[0].api_key.as_ref().map(ExposeSecret::expose_secret);
    assert_eq!(key, Some("pa${ss}"));
}

#[test]
fn a_model_that_cannot_be_carried_over_says_why() {
    for (params, reason) in [
        ("{model: hosted_vllm/x}", "`vllm` needs an `api_base`"),
        ("{model: '*'}", "`*` names no provider"),
        ("{model: bedrock/x}", "`bedrock` speaks a protocol"),
        ("{model: os.environ/MODEL}", "only be known at the start"),
    ] {
        let text = format!("model_list: [{{model_name: a, litellm_params: {params}}}]\n");
        let import = imported(&text);
        assert!(import.not_carried.iter().any(|note| note.reason.contains(reason)), "{import:?}");
        assert!(import.yaml.contains("models: []"), "{}", import.yaml);
    }
}

#[test]
fn references_are_never_resolved_by_an_import() {
    let yaml = imported(TYPICAL).yaml;
    assert!(yaml.contains("${VLLM_KEY}") && !yaml.contains("vllm-secret"));
}

#[test]
fn a_file_of_our_own_is_no_litellm_file() {
    let problems = import("backends: []\n").expect_err("a problem");
    assert!(problems[0].message.contains("model_list"));
}

#[test]
fn a_star_among_fallbacks_is_the_default() {
    let text = "\
model_list:
  - {model_name: a, litellm_params: {model: ollama/a}}
  - {model_name: b, litellm_params: {model: ollama/b}}
litellm_settings:
  fallbacks: [{'*': [b]}]
";
    let snapshot = same_either_way(text, &World::default());
    assert_eq!(
        (&*snapshot.models[0].fallbacks, &*snapshot.models[1].fallbacks),
        (&["b".to_owned()][..], &[][..])
    );
}

#[test]
fn fallbacks_for_long_requests_and_the_routing_strategy_are_carried_over() {
    let text = "\
model_list:
  - {model_name: a, litellm_params: {model: ollama/a}}
  - {model_name: b, litellm_params: {model: ollama/b}}
router_settings:
  routing_strategy: latency-based-routing
  fallbacks: [{b: [a]}]
  context_window_fallbacks: [{a: [b]}]
";
    let snapshot = same_either_way(text, &World::default());
    assert_eq!(snapshot.models[0].context_fallbacks, ["b"]);
    assert_eq!(snapshot.models[1].fallbacks, ["a"], "another kind of fallback closes no circle");
    assert_eq!(snapshot.routing.strategy, Strategy::Latency);
}

proptest::proptest! {
    #[test]
    fn a_valid_file_and_its_conversion_always_mean_the_same(
        entries in proptest::collection::vec(
            ("[a-c]", "(openai|ollama|groq|lm_studio|anthropic)/[a-z:.]{1,6}", 0_u8..3, 0_u8..4, proptest::bool::ANY),
            1..8,
        ),
        fallbacks in proptest::collection::vec(("[a-d]", "[a-d]"), 0..5),
    ) {
        let mut text = String::from("model_list:\n");
        for (name, model, host, order, with_order) in entries {
            text += &format!("  - model_name: {name}\n    litellm_params:\n      model: '{model}'\n      api_key: k\n");
            if host > 0 {
                text += &format!("      api_base: http://host-{host}:8000\n");
            }
            if with_order {
                text += &format!("      order: {order}\n      weight: {}\n", order + 1);
            }
        }
        text += "router_settings:\n  fallbacks:\n    - {}\n";
        for (from, to) in fallbacks {
            text += &format!("    - {from}: [{to}]\n");
        }
        same_either_way(&text, &World::default());
    }
}
