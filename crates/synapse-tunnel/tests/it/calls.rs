//! Calls through a tunnel.

use crate::kit::{Gateway, Worker, echo, post, read};

#[tokio::test]
async fn a_call_reaches_the_workers_engine_and_its_reply_comes_back() {
    let gateway = Gateway::start().await;
    let _worker = Worker::start("gpu-1", &[&gateway.url()], echo());
    let session = gateway.session("gpu-1").await;
    assert_eq!((session.version(), session.engine().as_str()), ("1.2.4", "vllm"));
    assert_eq!((session.capacity(), session.labels()["rack"].as_str()), (Some(8), "3"));
    assert_eq!(session.status().models[0].id, "m");

    let reply = session.send(post("/v1/chat/completions?a=b", "hello")).await.expect("a reply");
    assert_eq!(reply.headers()["x-path"], "/v1/chat/completions?a=b");
    assert_eq!(reply.headers()["x-method"], "POST");
    assert_eq!(session.in_flight(), 1);
    assert_eq!(read(reply).await, "hello");
    assert_eq!(session.in_flight(), 0);
}
