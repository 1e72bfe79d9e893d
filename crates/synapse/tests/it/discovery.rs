//! Discovery: what the gateway learns of every kind of engine, by itself.

use synapse_simulator::{Engine as Kind, Options};
use synapse_testkit::{Config, Engine};

use crate::start::{gateway, setup, single};

#[tokio::test]
async fn every_kind_of_engine_is_discovered_with_its_models() {
    let mut engines = Vec::new();
    for kind in Kind::ALL {
        let options = Options { engine: kind, ..Engine::options(&format!("of-{kind}")) };
        engines.push(Engine::start(kind.as_str(), options).await);
    }
    let gateway = gateway(&Config::with(&engines.iter().collect::<Vec<_>>())).await;
    let health = gateway.anonymous().get("/health").await.json();
    assert_eq!(health["status"], "healthy", "{health}");
    let listed = gateway.client().get("/v1/models").await.text().to_owned();
    for kind in Kind::ALL {
        assert!(listed.contains(&format!("\"of-{kind}\"")), "{kind}: {listed}");
        assert_eq!(gateway.client().chat(&format!("of-{kind}")).await.status, 200, "{kind}");
        assert_eq!(health["backends"][kind.as_str()]["type"], kind.as_str());
    }
}

#[tokio::test]
async fn an_engines_queue_shows_in_the_metrics() {
    for kind in [Kind::Vllm, Kind::Sglang, Kind::Tgi, Kind::LlamaCpp, Kind::TensorRtLlm] {
        let options = Options { engine: kind, slots: Some(1), ..Engine::options("m") };
        let engine = Engine::start("one", options).await;
        let gateway = gateway(&Config::with(&[&engine])).await;
        engine.update(|behaviour| {
            (behaviour.tokens, behaviour.itl) = (10_000, std::time::Duration::from_millis(50))
        });
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let client = gateway.client();
            callers.spawn(async move { drop(client.stream("m").await) });
        }
        gateway.metric("synapse_backend_queue_depth", &[("backend", "one")], |depth| depth == 2.0).await;
        gateway.metric("synapse_requests_in_flight", &[("backend", "one")], |open| open == 3.0).await;
    }
}

#[tokio::test]
async fn the_demo_needs_no_engine_and_no_configuration() {
    let setup = setup().arg("--demo").arg("--port").arg("0");
    let gateway = setup
        .start_with("{\"discovery\": {\"local\": false}, \"server\": {\"metrics\": {\"port\": 0}}}")
        .await;
    let key = gateway.shown_key();
    let answer = gateway.client_with(&key).stream("demo").await;
    assert!(answer.is_done(), "{}", answer.text());
    assert!(gateway.banner().contains("demo"), "{}", gateway.banner());
}

#[tokio::test]
async fn the_banner_tells_an_operator_where_everything_is() {
    let (_engine, gateway) = single().await;
    let banner = gateway.banner();
    let url = format!("http://127.0.0.1:{}/v1", gateway.address().port());
    for word in [&url[..], "one (openai)", "Models   m", "Metrics  http://127.0.0.1:", "curl -N"] {
        assert!(banner.contains(word), "{word} in\n{banner}");
    }
    assert!(!banner.contains(synapse_testkit::KEY), "{banner}");
    assert!(gateway.metrics().await.text().contains("# EOF"));
}
