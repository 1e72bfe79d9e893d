//! Sensitive data in prompts and replies: what of it passes, and what is told of it.

mod incidents;
mod prompts;
pub(crate) mod replies;
mod try_out;

use serde_json::{Value, json};
use synapse_testkit::{Config, Engine, Gateway, Script};

use crate::start::{gateway, setup};

/// A card number that no bank has, put together so that no scanner of sources takes it for one.
pub(crate) fn card() -> String {
    ["4915", "5582", "1734", "9243"].concat()
}

/// A token in a format that is blocked on its way to the cloud.
pub(crate) fn token() -> String {
    ["gl", "pat-", "12kWzgQuP7ADrwt", "q3Mpa"].concat()
}

/// A policy of this text, which the one key has.
pub(crate) fn under(policy: Value, config: Config) -> Config {
    config.set("/dlp/policies", json!([named("on_prem", policy)]))
}

/// A policy with a name.
pub(crate) fn named(name: &str, mut policy: Value) -> Value {
    policy["name"] = name.into();
    policy
}

/// A gateway with an engine behind it, under a policy.
pub(super) async fn single_under(policy: Value) -> (Engine, Gateway) {
    let engine = Engine::serving("one", "m").await;
    let gateway = gateway(&under(policy, Config::with(&[&engine]))).await;
    (engine, gateway)
}

/// A gateway that serves `m` by a script, under a policy.
pub(super) async fn before_under(script: &Script, policy: Value) -> Gateway {
    let config = Config::new().backend_at("script", "openai", &script.url());
    let places = [json!({"backend": "script", "model": "m"})];
    setup().without_discovery().start(&under(policy, config.model("m", &places))).await
}
