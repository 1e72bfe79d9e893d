//! Calls through a tunnel: what goes through, how they are cancelled, and how they fail.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use synapse_testkit::within;
use synapse_tunnel::{
    body::BoxBody,
    gateway::FailedAt,
    message::Status,
    worker::{self, Failure},
};
use tokio::sync::mpsc;

use crate::kit::{Gateway, Serves, Worker, credential, echo, gateway, options, piped, post, read};

fn body(text: &'static str) -> BoxBody {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()
}

#[tokio::test]
async fn a_call_reaches_the_workers_engine_and_its_reply_comes_back() {
    let gateway = gateway().await;
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

#[tokio::test]
async fn a_call_without_a_body_and_a_reply_without_one_go_through() {
    let gateway = gateway().await;
    let _worker = Worker::start("gpu-1", &[&gateway.url()], echo());
    let session = gateway.session("gpu-1").await;
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let request = Request::builder().method(method).uri("/health").body(Empty::<Bytes>::new());
        let reply = session.send(request.expect("a request")).await.expect("a reply");
        assert_eq!(reply.status(), StatusCode::OK);
        assert_eq!(reply.headers()["x-method"], method);
        assert_eq!(read(reply).await, "");
    }
}

#[tokio::test]
async fn headers_go_through_except_those_of_one_connection() {
    let gateway = gateway().await;
    let (told, mut heard) = mpsc::unbounded_channel::<HeaderMap>();
    let service = Serves(move |request: Request<Incoming>, _| {
        let _unheard = told.send(request.headers().clone());
        let reply = Response::builder()
            .status(206)
            .header("content-length", "5")
            .header("x-twice", "1")
            .header("x-twice", "2")
            .header("connection", "x-gone, close")
            .header("x-gone", "1")
            .header("keep-alive", "timeout=5")
            .header("x-synapse-tunnel-error", "connect")
            .body(body("reply"));
        async { Ok(reply.expect("a reply")) }
    });
    let _worker = Worker::start("gpu-1", &[&gateway.url()], service);
    let session = gateway.session("gpu-1").await;
    let request = Request::post("/v1/audio/transcriptions")
        .header("host", "gateway")
        .header("content-type", "multipart/form-data; boundary=x")
        .header("content-length", "4")
        .header("connection", "keep-alive, x-hop")
        .header("x-hop", "1")
        .header("te", "gzip")
        .header("x-twice", "a")
        .header("x-twice", "b")
        .body(Full::new(Bytes::from_static(b"body")));
    let reply = session.send(request.expect("a request")).await.expect("a reply");
    let heard = heard.recv().await.expect("the worker's headers");
    for gone in ["host", "connection", "x-hop", "te"] {
        assert!(!heard.contains_key(gone), "{gone}: {heard:?}");
    }
    assert_eq!(heard["content-length"], "4");
    assert_eq!(heard.get_all("x-twice").iter().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(reply.status(), 206);
    assert_eq!(reply.headers()["content-length"], "5");
    assert_eq!(reply.headers().get_all("x-twice").iter().collect::<Vec<_>>(), ["1", "2"]);
    for gone in ["connection", "x-gone", "keep-alive", "x-synapse-tunnel-error"] {
        assert!(!reply.headers().contains_key(gone), "{gone}");
    }
    assert_eq!(read(reply).await, "reply");
}

#[tokio::test]
async fn trailers_end_a_reply_and_are_dropped() {
    let gateway = gateway().await;
    let service = Serves(|_: Request<Incoming>, _| async {
        let trailers =
            HeaderMap::from_iter([("x-sum".parse().expect("a name"), "1".parse().expect("a value"))]);
        let frames = [Frame::data(Bytes::from_static(b"reply")), Frame::trailers(trailers)];
        let frames = futures_util::stream::iter(frames.map(Ok));
        Ok(Response::new(StreamBody::new(frames).boxed_unsync()))
    });
    let _worker = Worker::start("gpu-1", &[&gateway.url()], service);
    let session = gateway.session("gpu-1").await;
    let reply = session.send(post("/", "x")).await.expect("a reply");
    let collected = within("the reply", reply.into_body().collect()).await.expect("a whole body");
    assert!(collected.trailers().is_none());
    assert_eq!(collected.to_bytes(), "reply");
}

#[tokio::test]
async fn what_the_worker_says_itself_is_told_apart_from_what_the_engine_says() {
    let gateway = gateway().await;
    let service = Serves(|request: Request<Incoming>, _| async move {
        let at = match request.uri().path() {
            "/connect" => worker::FailedAt::Connect,
            "/stale" => worker::FailedAt::Stale,
            "/head" => worker::FailedAt::Head,
            "/refused" => worker::FailedAt::Refused,
            _ => return Ok(Response::builder().status(502).body(body("the engine's own")).expect("a reply")),
        };
        Err(Failure { at, detail: "secret address".into() })
    });
    let _worker = Worker::start("gpu-1", &[&gateway.url()], service);
    let session = gateway.session("gpu-1").await;
    for (path, want) in [
        ("/connect", FailedAt::Connect),
        ("/stale", FailedAt::Stale),
        ("/head", FailedAt::Head),
        ("/refused", FailedAt::Connect),
    ] {
        let error = session.send(post(path, "x")).await.expect_err("no reply");
        assert_eq!(error.at, want, "{path}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let reply = session.send(post("/", "x")).await.expect("a reply");
    assert_eq!((reply.status().as_u16(), read(reply).await), (502, Bytes::from("the engine's own")));
}

#[tokio::test]
async fn a_reply_that_breaks_at_the_engine_breaks_at_the_gateway() {
    let gateway = gateway().await;
    let (engine, service) = piped();
    let _worker = Worker::start("gpu-1", &[&gateway.url()], service);
    let session = gateway.session("gpu-1").await;
    let mut reply = session.send(post("/", "x")).await.expect("a head").into_body();
    engine.send(Ok("begun".into())).await.expect("it listens");
    let first = within("a token", reply.frame()).await.expect("a frame").expect("unbroken");
    assert_eq!(first.into_data().expect("data"), "begun");
    engine.send(Err("it broke".into())).await.expect("it listens");
    let end = within("the end", reply.frame()).await.expect("a clean end would be a lie");
    assert!(end.is_err());
    assert!(session.is_open(), "one call's end is not the session's");
}

/// Tells when it is dropped.
struct Told(mpsc::UnboundedSender<&'static str>, &'static str);

impl Drop for Told {
    fn drop(&mut self) {
        let _unheard = self.0.send(self.1);
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_is_dropped_at_the_worker() {
    let gateway = gateway().await;
    let (told, mut heard) = mpsc::unbounded_channel();
    let service = Serves(move |request: Request<Incoming>, _| {
        let told = told.clone();
        async move {
            let _begun = told.send("begun");
            if request.uri().path() == "/no-head" {
                let _ends = Told(told, "before the head");
                return std::future::pending().await;
            }
            let ends = Told(told, "in the body");
            let frames = futures_util::stream::unfold(ends, |ends| async move {
                tokio::task::yield_now().await;
                Some((Ok(Frame::data(Bytes::from_static(b"token"))), ends))
            });
            Ok(Response::new(StreamBody::new(frames).boxed_unsync()))
        }
    });
    let _worker = Worker::start("gpu-1", &[&gateway.url()], service);
    let session = gateway.session("gpu-1").await;
    for _ in 0..50 {
        let no_head = session.send(post("/no-head", "x"));
        tokio::select! {
            _ = no_head => panic!("there is no head"),
            begun = heard.recv() => assert_eq!(begun, Some("begun")),
        }
        assert_eq!(within("the cancel", heard.recv()).await, Some("before the head"));
        let reply = session.send(post("/body", "x")).await.expect("a head");
        assert_eq!(heard.recv().await, Some("begun"));
        drop(reply);
        assert_eq!(within("the cancel", heard.recv()).await, Some("in the body"));
    }
    assert_eq!(session.in_flight(), 0);
    assert!(session.is_open(), "cancelling is no attack");
}

#[tokio::test]
async fn thousands_of_cancelled_calls_do_not_end_the_session() {
    let gateway = gateway().await;
    let _worker = Worker::start("gpu-1", &[&gateway.url()], echo());
    let session = gateway.session("gpu-1").await;
    for _ in 0..30 {
        let calls = (0..100).map(|_| session.send(post("/", vec![0; 4096])));
        // Some are cancelled before they are sent, some while they are answered.
        let all = futures_util::future::join_all(calls);
        tokio::select! {
            biased;
            _ = tokio::task::yield_now() => {}
            _ = all => {}
        }
    }
    assert_eq!(read(session.send(post("/", "x")).await.expect("a reply")).await, "x");
}

#[tokio::test]
async fn an_engine_outside_the_house_serves_only_where_the_key_allows_it() {
    let outside = |status: &mut std::sync::Arc<Status>| std::sync::Arc::make_mut(status).cloud = true;
    let gateway = gateway().await;
    let worker = Worker::start("gpu-1", &[&gateway.url()], echo());
    worker.status.send_modify(outside);
    let session = gateway.until("gpu-1", |session| session.status().reason.is_some()).await;
    assert!(!session.is_routable());
    let refused = session.send(post("/", "x")).await.expect_err("a refusal");
    assert_eq!(refused.at, FailedAt::Connect);

    let allowing = synapse_tunnel::gateway::Credential { allows_cloud: true, ..credential() };
    let gateway = Gateway::start(synapse_tunnel::gateway::HubOptions::new("r", "1"), allowing).await;
    let worker = Worker::start_with(options("gpu-1", &[&gateway.url()]), echo());
    worker.status.send_modify(outside);
    let session = gateway.until("gpu-1", |session| session.status().cloud).await;
    assert!(session.is_routable());
    assert_eq!(read(session.send(post("/", "x")).await.expect("a reply")).await, "x");
}
