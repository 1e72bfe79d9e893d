//! A LiteLLM file, served as it is.

use synapse_testkit::Engine;

use crate::start::{code, setup};

#[tokio::test]
async fn a_litellm_file_with_two_providers_and_a_fallback_is_served_unchanged() {
    let mut vllm = Engine::serving("vllm", "org/llama").await;
    let openai = Engine::serving("openai", "gpt-4o-mini").await;
    let text = format!(
        "\
model_list:
  - model_name: llama
    litellm_params:
      model: hosted_vllm/org/llama
      api_base: {}/v1
  - model_name: gpt-4o-mini
    litellm_params:
      model: openai/gpt-4o-mini
      api_base: {}/v1
      api_key: sk-provider
litellm_settings:
  num_retries: 1
router_settings:
  fallbacks:
    - llama: [gpt-4o-mini]
general_settings:
  master_key: sk-master
",
        vllm.url(),
        openai.url()
    );
    // Such a file knows nothing of ports.
    let ports = ["--port", "0", "--metrics-port", "0"];
    let setup = ports.into_iter().fold(setup(), |setup, arg| setup.arg(arg));
    let gateway = setup.without_discovery().start_with(&text).await;
    let client = gateway.client_with("sk-master");
    assert_eq!(client.chat("llama").await.status, 200);
    assert!(vllm.last_body().contains("\"org/llama\""), "{}", vllm.last_body());
    assert!(client.stream("gpt-4o-mini").await.is_done());
    assert_eq!(openai.requests()[0].headers["authorization"], "Bearer sk-provider");
    assert_eq!(code(&gateway.client().chat("llama").await), (403, "invalid_api_key".to_owned()));

    vllm.die().await;
    let answer = client.chat("llama").await;
    assert_eq!((answer.status, answer.header("x-synapse-model")), (200, "gpt-4o-mini"));
    assert!(openai.last_body().contains("\"gpt-4o-mini\""));
}
