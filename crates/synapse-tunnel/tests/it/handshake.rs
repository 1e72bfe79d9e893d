//! The handshake, and those who do not get through it.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use futures_util::SinkExt;
use serde_json::json;
use synapse_testkit::{Relay, within};
use synapse_tunnel::{
    gateway::{End, HubOptions},
    message::Notice,
    protocol::code,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::{
    kit::{Gateway, KEY, Worker, credential, echo, gateway, post, read},
    peer::{Peer, closed, dial},
};

#[tokio::test]
async fn a_hello_with_the_right_proof_is_welcome() {
    let mut options = HubOptions::new("replica-7", "1.2.3");
    options.notices = Box::new(|hello| vec![Notice::new("heard", hello.version.as_str())]);
    let gateway = Gateway::start(options, credential()).await;
    let mut peer = Peer::connect(gateway.address).await;
    peer.hello(json!({"capacity": 3, "unheard_of": [1]})).await;
    let welcome = peer.hear().await;
    assert_eq!(
        welcome,
        json!({
            "type": "welcome", "protocol": 1, "session": 1, "epoch": 1, "group": "lab", "allows_cloud": false,
            "notices": [{"code": "heard", "text": "by hand"}],
        })
    );
    let session = gateway.session("peer").await;
    assert_eq!((session.capacity(), session.credential().key.as_str()), (Some(3), "k"));
    // It is asked for an echo; an unknown message and an unasked echo do no harm.
    let echo = peer.hear().await;
    peer.say(&json!({"type": "telepathy"}));
    peer.say(&json!({"type": "echo", "number": 77}));
    peer.say(&echo);
    peer.say(
        &json!({"type": "status", "health": "up", "models": [{"id": "m"}, {"id": ""}, {"id": "a\u{7}"}]}),
    );
    let session = gateway.until("peer", |session| !session.status().models.is_empty()).await;
    assert!(session.round_trip().is_some());
    assert_eq!(session.status().models.len(), 1);
}

#[tokio::test]
async fn a_key_that_is_not_known_gets_no_websocket() {
    let gateway = gateway().await;
    let refused = dial(gateway.address, "another key").await.expect_err("a refusal");
    assert!(matches!(&refused, Error::Http(reply) if reply.status() == 401), "{refused}");
}

#[tokio::test]
async fn whoever_has_not_the_key_itself_cannot_prove_it() {
    let gateway = gateway().await;
    let lies = [
        json!({"proof": "00".repeat(32)}),
        json!({"proof": ""}),
        // A proof holds for one name, one process, one connection.
        json!({"name": "another"}),
        json!({"instance": "another"}),
        json!({"nonce": "m".repeat(32)}),
    ];
    for lie in lies {
        let mut peer = Peer::connect(gateway.address).await;
        peer.hello(lie.clone()).await;
        assert_eq!(
            peer.closed().await,
            (code::BAD_PROOF, "the proof of the worker's key is wrong".into()),
            "{lie}"
        );
    }
    assert!(gateway.hub.sessions().is_empty());
    assert_eq!(gateway.hub.counters().refused.load(Ordering::Relaxed), 5);
}

#[tokio::test]
async fn a_recorded_connection_cannot_be_played_again() {
    let gateway = gateway().await;
    let relay = Relay::to(gateway.address).await;
    let worker = Worker::start("gpu-1", &[&format!("ws://{}/ws", relay.address())], echo());
    gateway.session("gpu-1").await;
    let recorded = relay.sent();
    drop(worker);
    gateway.empty().await;
    gateway.end().await;

    // As one would who knows the protocol: every part when it is asked for.
    let request_end = recorded.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    let mut again = TcpStream::connect(gateway.address).await.expect("a connection");
    again.write_all(&recorded[..request_end]).await.expect("it is taken");
    let mut heard = Vec::new();
    let greeting = async {
        while !String::from_utf8_lossy(&heard).contains("greeting") {
            again.read_buf(&mut heard).await.expect("bytes");
        }
    };
    within("the greeting", greeting).await;
    again.write_all(&recorded[request_end..]).await.expect("it is taken");
    let end = gateway.end().await;
    assert!(matches!(&end, End::Refused(close) if close.code == code::BAD_PROOF), "{end:?}");
    assert_eq!(gateway.hub.counters().welcomed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn versions_that_do_not_meet_are_told_apart_from_all_other_refusals() {
    let gateway = gateway().await;
    let mut peer = Peer::connect(gateway.address).await;
    peer.hello(json!({"protocol": {"min": 2, "max": 5}})).await;
    let (code, reason) = peer.closed().await;
    assert_eq!(code, code::VERSION);
    assert_eq!(
        reason,
        "no common protocol version: the gateway speaks 1-1, the worker 2-5; update the older"
    );
    let mut newer = Peer::connect(gateway.address).await;
    newer.hello(json!({"protocol": {"min": 1, "max": 5}})).await;
    assert_eq!(newer.hear().await["protocol"], 1);
}

#[tokio::test]
async fn a_hello_that_makes_no_sense_is_refused_for_its_reason() {
    let gateway = gateway().await;
    let labels: serde_json::Map<_, _> = (0..33).map(|n| (n.to_string(), "x".into())).collect();
    for (change, word) in [
        (json!({"name": "a b"}), "--name"),
        (json!({"name": ""}), "--name"),
        (json!({"version": "x".repeat(300)}), "256"),
        (json!({"labels": {"a": "b\nc"}}), "256"),
        (json!({"labels": labels}), "32 labels"),
        (json!({"nonce": "short"}), "nonce"),
        (json!({"instance": ""}), "instance"),
        (json!({"protocol": "one"}), "begin with a hello"),
        (json!({"type": "status"}), "begin with a hello"),
    ] {
        let mut peer = Peer::connect(gateway.address).await;
        peer.hello(change.clone()).await;
        let (code, reason) = peer.closed().await;
        assert_eq!(code, code::BAD_HELLO, "{change}: {reason}");
        assert!(reason.contains(word), "{change}: {reason}");
    }
    for bytes in [Bytes::from_static(b"no JSON\n"), Bytes::from(vec![b'x'; 1024 * 1024 + 2])] {
        let peer = Peer::connect(gateway.address).await;
        peer.say_bytes(bytes);
        assert_eq!(peer.closed().await.0, code::BAD_HELLO);
    }
    assert!(gateway.hub.sessions().is_empty());
}

#[tokio::test]
async fn whoever_dawdles_in_the_handshake_is_sent_away() {
    let mut options = HubOptions::new("replica", "1.2.3");
    options.handshake = Duration::from_millis(50);
    let gateway = Gateway::start(options, credential()).await;
    let silent = dial(gateway.address, KEY).await.expect("a WebSocket");
    assert_eq!(closed(silent).await.0, code::TOO_SLOW);
    let half_way = Peer::connect(gateway.address).await;
    assert_eq!(half_way.closed().await.0, code::TOO_SLOW);
}

#[tokio::test]
async fn too_many_unfinished_handshakes_are_asked_to_come_later() {
    let gateway = gateway().await;
    let mut held = Vec::new();
    within("all places to be taken", async {
        while held.len() < 64 {
            // No key takes more than half of them.
            let key = if held.len() < 32 { "one" } else { "other" };
            match gateway.hub.admit(&key.into()) {
                Ok(admission) => held.push(admission),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    let refused = dial(gateway.address, KEY).await.expect_err("a refusal");
    assert!(matches!(&refused, Error::Http(reply) if reply.status() == 503), "{refused}");
    drop(held);
    let _worker = Worker::start("gpu-1", &[&gateway.url()], echo());
    gateway.session("gpu-1").await;
}

#[tokio::test]
async fn what_is_no_tunnel_ends_its_own_connection_and_no_other() {
    let gateway = gateway().await;
    let _worker = Worker::start("gpu-1", &[&gateway.url()], echo());
    let session = gateway.session("gpu-1").await;
    let long = vec![0; 1024 * 1024 + 1];
    for (message, want) in [
        (Message::text("hello"), code::UNSUPPORTED),
        (Message::binary(long), code::TOO_BIG),
        (Message::binary(&b"GET / HTTP/1.1\r\n\r\n"[..]), code::PROTOCOL),
        (Message::binary(vec![0xff; 100]), code::PROTOCOL),
    ] {
        let mut socket = dial(gateway.address, KEY).await.expect("a WebSocket");
        // It may be sent away before it has said everything.
        let _sent = socket.send(message).await;
        assert_eq!(closed(socket).await.0, want);
    }
    // Bytes that are no frames of a WebSocket at all.
    let mut socket = dial(gateway.address, KEY).await.expect("a WebSocket");
    socket.get_mut().write_all(&[0xff; 64]).await.expect("it is taken");
    assert_eq!(closed(socket).await.0, code::PROTOCOL);
    assert_eq!(read(session.send(post("/", "x")).await.expect("a reply")).await, "x");
}

#[tokio::test]
async fn a_worker_that_talks_nonsense_once_it_is_in_is_closed() {
    let gateway = gateway().await;
    let endless = Bytes::from(vec![b'x'; 1024 * 1024 + 2]);
    for (bytes, want) in [(Bytes::from_static(b"nonsense\n"), code::PROTOCOL), (endless, code::TOO_BIG)] {
        let mut peer = Peer::connect(gateway.address).await;
        peer.hello(json!({})).await;
        assert_eq!(peer.hear().await["type"], "welcome");
        peer.say_bytes(bytes);
        assert_eq!(peer.closed().await.0, want);
        gateway.empty().await;
    }
}
