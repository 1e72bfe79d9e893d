//! How the tests start what they test.

use std::net::SocketAddr;

use serde_json::{Value, json};
use synapse_testkit::{Config, Engine, Gateway, Script, Setup, Worker};

/// The binary under test, not yet started.
pub(crate) fn setup() -> Setup {
    Setup::new(env!("CARGO_BIN_EXE_synapse"))
}

/// A gateway with this configuration.
pub(crate) async fn gateway(config: &Config) -> Gateway {
    setup().start(config).await
}

/// A gateway with one engine behind it, `one`, that serves the model `m`.
pub(crate) async fn single() -> (Engine, Gateway) {
    let engine = Engine::serving("one", "m").await;
    let gateway = gateway(&Config::with(&[&engine])).await;
    (engine, gateway)
}

/// Two engines, `first` and `second`, and a gateway that asks them for `m` in this order.
pub(crate) async fn pair() -> (Engine, Engine, Gateway) {
    let (first, second) = (Engine::serving("first", "m").await, Engine::serving("second", "m").await);
    let gateway = gateway(&Config::in_order("m", &[&first, &second])).await;
    (first, second, gateway)
}

/// A gateway that serves `m` by a script.
pub(crate) async fn before(script: &Script) -> Gateway {
    let config = Config::new().backend_at("script", "openai", &script.url());
    let places = [json!({"backend": "script", "model": "m"})];
    setup().without_discovery().start(&config.model("m", &places)).await
}

/// A worker of this name that brings an engine to a gateway, and looks often.
pub(crate) fn worker(gateway: SocketAddr, upstream: &str, name: &str, key: &str) -> Worker {
    let server = format!("ws://{gateway}/ws");
    let usual = ["--server-url", &server, "--upstream", upstream, "--ws-auth-key", key, "--name", name];
    let often = ["--health-s", "0.1", "--models-s", "0.1"];
    Worker::start(env!("CARGO_BIN_EXE_synapse"), &[&usual[..], &often].concat())
}

/// A chat in which the user says this.
pub(crate) fn saying(model: &str, text: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": text}]})
}

/// The same, with further fields.
pub(crate) fn with(mut body: Value, more: Value) -> Value {
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    body
}

/// Status and code of a refusal.
pub(crate) fn code(answer: &synapse_testkit::Answer) -> (u16, String) {
    let (status, _, code) = answer.refusal();
    (status, code)
}
