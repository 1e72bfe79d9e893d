//! Classes of data: sensitive traffic reaches nothing outside the house, whatever fails and whatever is asked.

use std::time::Duration;

use serde_json::{Value, json};
use synapse_testkit::{Answer, Client, Config, Engine, Gateway, KEY, Worker};
use tokio::task::JoinSet;

use crate::{
    dice::Dice,
    start::{code, gateway, saying, with, worker},
};

/// The key of traffic that may go anywhere.
const OPEN_KEY: &str = "sk-open";

/// A configuration with a sensitive key, [`OPEN_KEY`], and these engines, of which `cloud` is outside.
fn config(house: &[&Engine], cloud: &Engine) -> Config {
    let open = json!({"id": "open", "secret": OPEN_KEY, "data_class": "non_sensitive"});
    let keys = json!([{"id": "it", "secret": KEY}, open]);
    Config::with(house).set("/auth/static_keys", keys).push(
        "backends",
        json!({"name": cloud.name(), "type": cloud.kind(), "url": cloud.url(), "locality": "cloud"}),
    )
}

#[tokio::test]
async fn a_sensitive_key_does_not_reach_a_cloud_and_hears_why() {
    let (house, cloud) = (Engine::serving("house", "m").await, Engine::serving("cloud", "far").await);
    let gateway = gateway(&config(&[&house], &cloud)).await;
    let (sensitive, open) = (gateway.client(), gateway.client_with(OPEN_KEY));
    assert_eq!(sensitive.chat("m").await.status, 200);
    assert_eq!(open.chat("far").await.status, 200);
    let received = cloud.counters().received;
    for answer in [sensitive.chat("far").await, sensitive.stream("far").await] {
        assert_eq!(code(&answer), (503, "no_backend_available".to_owned()));
        assert!(answer.text().contains("class `sensitive`"), "{}", answer.text());
    }
    assert_eq!(code(&sensitive.get("/v1/models/far").await), (503, "no_backend_available".to_owned()));
    assert_eq!(cloud.counters().received, received);
    let listed = |answer: &Answer| {
        let ids = answer.json()["data"].as_array().cloned().unwrap_or_default();
        ids.iter().map(|model| model["id"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(&sensitive.get("/v1/models").await), ["m"]);
    assert_eq!(listed(&open.get("/v1/models").await), ["far", "m"]);
}

#[tokio::test]
async fn the_banner_says_which_keys_may_leave_the_house() {
    let cloud = Engine::serving("cloud", "far").await;
    let some = gateway(&config(&[], &cloud)).await;
    assert!(some.banner().contains("Cloud    cloud: open to open\n"), "{}", some.banner());
    let none = config(&[], &cloud).set("/auth", json!({"mode": "open"}));
    let none = gateway(&none).await;
    assert!(none.banner().contains("give one the data class `non_sensitive`"), "{}", none.banner());
    assert_eq!(none.anonymous().chat("far").await.status, 503);
    let open =
        config(&[], &cloud).set("/auth", json!({"mode": "open", "open": {"data_class": "non_sensitive"}}));
    let open = gateway(&open).await;
    assert!(open.banner().contains("open to everyone"), "{}", open.banner());
    assert_eq!(open.anonymous().chat("far").await.status, 200);
}

#[tokio::test]
async fn a_key_of_an_unknown_class_is_as_sensitive_as_can_be_and_the_log_says_so() {
    let cloud = Engine::serving("cloud", "far").await;
    let gateway = gateway(&config(&[], &cloud)).await;
    gateway.cli_json(&["team", "create", "lab"]).await;
    let flags = ["--team", "lab", "--model", "*", "--data-class", "no_such_class"];
    let made = gateway.cli_json(&[&["key", "create"][..], &flags].concat()).await;
    gateway.logs().line("the configuration has no such data class").await;
    let client = gateway.client_with(made["key"].as_str().expect("a key"));
    assert_eq!(code(&client.chat("far").await), (503, "no_backend_available".to_owned()));
}

#[tokio::test]
async fn a_request_can_raise_its_class_and_cannot_lower_it() {
    let cloud = Engine::serving("cloud", "far").await;
    let gateway = gateway(&config(&[], &cloud)).await;
    let open = gateway.client_with(OPEN_KEY);
    let raised = open.clone().with("x-synapse-data-class", "sensitive").chat("far").await;
    assert_eq!(code(&raised), (503, "no_backend_available".to_owned()));
    let refused = (403, "data_class_not_allowed".to_owned());
    let lowered = gateway.client().with("x-synapse-data-class", "non_sensitive").chat("far").await;
    assert_eq!(code(&lowered), refused);
    assert_eq!(code(&open.clone().with("x-synapse-data-class", "secret").chat("far").await), refused);
    assert_eq!(cloud.counters().received, 0);
    assert_eq!(open.chat("far").await.status, 200);
}

#[tokio::test]
async fn what_cannot_be_searched_stays_in_the_house_or_goes_nowhere() {
    let (house, cloud) = (Engine::serving("house", "m").await, Engine::serving("cloud", "m").await);
    let blocked = json!({"id": "b", "secret": "sk-b", "data_class": "non_sensitive", "unscannable": "block"});
    let allowed = json!({"id": "a", "secret": "sk-a", "data_class": "non_sensitive", "unscannable": "allow"});
    let keys = json!([{"id": "it", "secret": KEY}, {"id": "open", "secret": OPEN_KEY, "data_class": "non_sensitive"}, blocked, allowed]);
    let config = config(&[&house], &cloud).set("/auth/static_keys", keys);
    let gateway = gateway(&config.set("/routing", json!({"strategy": "round_robin"}))).await;
    let picture = json!({"model": "m", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]}]});
    let ask = async |key: &str| gateway.client_with(key).post("/v1/chat/completions", &picture).await;
    for _ in 0..6 {
        assert_eq!(ask(OPEN_KEY).await.status, 200);
    }
    assert_eq!((house.counters().received, cloud.counters().received), (6, 0));
    let refused = ask("sk-b").await;
    assert_eq!(code(&refused), (400, "content_unscannable".to_owned()));
    assert_eq!(refused.json()["error"]["param"], "messages[0].content[1]");
    for _ in 0..6 {
        assert_eq!(ask("sk-a").await.status, 200);
    }
    assert!(cloud.counters().received > 0, "allowed, it goes anywhere");
}

#[tokio::test]
async fn a_model_that_an_ollama_passes_on_is_outside_the_house() {
    let engine = Engine::start(
        "ollama",
        synapse_simulator::Options {
            engine: synapse_simulator::Engine::Ollama,
            ..Engine::options("big:120b-cloud")
        },
    )
    .await;
    let open = json!({"backend": engine.name(), "model": "unlisted"});
    let config = Config::with(&[&engine]).model("unlisted", &[open]);
    let gateway = gateway(&config).await;
    for name in ["big:120b-cloud", "unlisted"] {
        let refused = gateway.client().chat(name).await;
        assert_eq!(code(&refused), (503, "no_backend_available".to_owned()), "{name}");
    }
    assert_eq!(engine.counters().received, 0);
}

/// What sensitive requests can be up against.
pub(crate) struct Siege {
    house: [Engine; 2],
    cloud: Engine,
    /// An engine outside, behind a worker that comes and goes.
    outside: Engine,
    worker: Option<Worker>,
    worker_key: String,
    gateway: Gateway,
}

impl Siege {
    pub(crate) async fn begin() -> Self {
        let house = [Engine::serving("house-1", "m").await, Engine::serving("house-2", "m").await];
        let cloud = Engine::serving("cloud", "m").await;
        let outside = Engine::serving("outside", "m").await;
        for (engine, own) in [(&cloud, "far"), (&outside, "outside-m")] {
            engine.update(|behaviour| behaviour.models = vec!["m".to_owned(), own.to_owned()]);
        }
        let gateway = gateway(&Self::config(&house, &cloud, 0)).await;
        let made = gateway.cli_json(&["worker-key", "create", "--allow-cloud"]).await;
        let worker_key = made["key"].as_str().expect("a key").to_owned();
        let mut siege = Self { house, cloud, outside, worker: None, worker_key, gateway };
        siege.flap();
        let open = siege.gateway.client_with(OPEN_KEY);
        let reached = async || (open.chat("outside-m").await.status == 200).then_some(());
        siege.gateway.until("the worker", reached).await;
        siege
    }

    /// The worker goes if it is there, and comes if it is not.
    fn flap(&mut self) {
        self.worker = match self.worker.take() {
            Some(_) => None,
            None => Some(worker(self.gateway.address(), &self.outside.url(), "outside", &self.worker_key)),
        };
    }

    /// What reached the outside so far.
    fn strayed(&self) -> u64 {
        self.cloud.counters().received + self.outside.counters().received
    }

    /// One of several configurations; all have fallbacks to the cloud.
    fn config(house: &[Engine; 2], cloud: &Engine, variant: u64) -> Config {
        let place = |name: &str, model: &str, order| json!({"backend": name, "model": model, "order": order});
        let own = if variant.is_multiple_of(3) {
            vec![&house[0], &house[1]]
        } else {
            vec![&house[(variant % 2) as usize]]
        };
        let mut places: Vec<Value> = own.iter().map(|engine| place(engine.name(), "m", 2)).collect();
        // In some, the cloud comes first.
        places.push(place("cloud", "m", 1 + (variant % 3)));
        // In most, nobody is left alone for failing: more is tried then.
        let failures = if variant % 4 == 1 { 3 } else { 1_000_000 };
        let breaker = json!({"failures": failures, "open_s": 0.1, "success_rate": 0});
        config(&own, cloud)
            .set("/models", json!([
                {"name": "public", "deployments": places, "fallbacks": ["far"], "context_fallbacks": ["far"]},
                {"name": "far", "deployments": [place("cloud", "far", 1)]},
                {"name": "any/*", "deployments": [place("cloud", "*", 1), place(own[0].name(), "*", 2)]},
            ]))
            .set("/routing", json!({"affinity": if variant.is_multiple_of(2) { "prefix" } else { "none" }, "retries": 3, "retry_budget": 1.0}))
            .set("/routing/breaker", breaker)
            .set("/routing/queue", json!({"max_waiting": 4, "max_wait_s": 0.2}))
            .set("/backends/0/max_in_flight", 2 + variant % 4)
    }

    /// One request of a sensitive key, with whatever might lead it astray.
    async fn ask(client: Client, dice: u64) -> Answer {
        let names = ["public", "m", "far", "any/m", "any/far", "outside-m", "public"];
        let mut body = saying(names[(dice % 7) as usize], &format!("conversation {}", dice % 13));
        if dice.is_multiple_of(2) {
            body = with(body, json!({"stream": true}));
        }
        if dice.is_multiple_of(3) {
            body = with(
                body,
                json!({"provider": {"order": ["cloud"], "only": ["cloud"], "allow_fallbacks": dice.is_multiple_of(4)}}),
            );
        }
        if dice.is_multiple_of(5) {
            body = with(body, json!({"models": ["far", "any/far", "m"]}));
        }
        let client = match dice % 11 {
            0 => client.with("x-synapse-data-class", "non_sensitive"),
            1 => client.with("x-synapse-data-class", "sensitive"),
            2 => client.with("x-forwarded-for", "203.0.113.9").with("x-synapse-data-class", "non_sensitive"),
            _ => client,
        };
        client.post("/v1/chat/completions", &body).await
    }

    /// Sends `requests` of a sensitive key while everything in the house fails in turn; how many of them were
    /// served, and how many calls the cloud got.
    pub(crate) async fn run(mut self, requests: u64, seed: u64) -> (u64, u64) {
        let mut random = Dice(seed);
        let (before, mut callers, mut served) = (self.strayed(), JoinSet::new(), 0);
        for number in 0..requests {
            if number.is_multiple_of(50) {
                self.shake(&mut random, number / 50);
            }
            while callers.len() >= 24 {
                served +=
                    u64::from(callers.join_next().await.is_some_and(|status| status.is_ok_and(|s| s == 200)));
            }
            let (client, dice) = (self.gateway.client(), random.throw(1 << 31));
            callers.spawn(async move { Self::ask(client, dice).await.status });
        }
        served += callers.join_all().await.into_iter().filter(|status| *status == 200).count() as u64;
        (served, self.strayed() - before)
    }

    /// Another state of the house, and of the configuration.
    fn shake(&mut self, random: &mut Dice, round: u64) {
        for engine in &self.house {
            let fate = random.throw(6);
            engine.update(|behaviour| {
                behaviour.status = None;
                behaviour.error_rate = if fate == 1 { 0.5 } else { 0.0 };
                behaviour.ttft = Duration::from_millis(if fate == 2 { 20 } else { 0 });
            });
            if fate == 3 {
                engine.set(engine.behaviour().failing(503));
            }
            if fate == 4 && round % 5 == 4 {
                engine.set(engine.behaviour().failing(429));
            }
        }
        if round % 6 == 5 {
            self.flap();
        }
        if round % 4 == 3 {
            self.gateway.reconfigure(&Self::config(&self.house, &self.cloud, round));
        }
    }
}

#[tokio::test]
async fn whatever_fails_no_sensitive_request_reaches_a_cloud() {
    let (served, strayed) = Siege::begin().await.run(1_500, 7).await;
    assert_eq!(strayed, 0);
    assert!(served > 100, "the house serves as far as it can: {served}");
}

#[tokio::test]
async fn the_same_siege_would_be_noticed_if_it_let_requests_through() {
    let siege = Siege::begin().await;
    let (open, before) = (siege.gateway.client_with(OPEN_KEY), siege.cloud.counters().received);
    for dice in 0..40 {
        Siege::ask(open.clone(), dice * 11 + 4).await;
    }
    assert!(siege.cloud.counters().received > before);
}
