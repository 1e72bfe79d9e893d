//! Checkpoints outside the database: each kind of sink has them, keeps them while others are away, and is enough to find
//! what was done to the log.

use std::{fs, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use synapse_testkit::{Authority, Bucket, Config, Engine, Gateway, Script};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, UdpSocket},
};

use crate::{
    audit::{entries, tamper},
    start::{gateway, setup},
};

/// A receiver of messages over HTTP, as the configuration has it.
fn webhook(receiver: &Script) -> Value {
    let secret = format!("whsec_{}", BASE64_STANDARD.encode([7; 32]));
    json!({"name": "hook", "url": receiver.url(), "secret": secret, "allow_private": true})
}

/// The report of a verification with one copy, and its exit code.
async fn verified(gateway: &Gateway, copy: &str) -> (Value, Option<i32>) {
    let command = ["audit", "verify", "--json", "--config", "synapse.yaml", "--checkpoints", copy];
    let out = gateway.cli(&command).await;
    (serde_json::from_slice(&out.stdout).unwrap_or_default(), out.status.code())
}

/// How many checkpoints of a copy hold, in all chains.
fn vouching(report: &Value, copy: &str) -> u64 {
    let chains = report["chains"].as_array().into_iter().flatten();
    let vouched = chains.flat_map(|chain| chain["vouched"].as_array().into_iter().flatten());
    vouched
        .filter(|vouched| vouched["source"] == copy)
        .filter_map(|vouched| vouched["checkpoints"].as_u64())
        .sum()
}

/// What came as datagrams so far, one a line.
fn datagrams(socket: &UdpSocket) -> String {
    let (mut lines, mut buffer) = (String::new(), [0; 4096]);
    while let Ok(length) = socket.try_recv(&mut buffer) {
        lines += &String::from_utf8_lossy(&buffer[..length]);
        lines.push('\n');
    }
    lines
}

/// What came in the bodies of requests so far, one a line.
fn bodies(receiver: &Script) -> String {
    let requests = receiver.requests();
    let bodies = requests.iter().filter_map(|request| request.split_once("\r\n\r\n"));
    bodies.map(|(_, body)| format!("{body}\n")).collect()
}

fn write(folder: &Path, name: &str, text: String) -> String {
    fs::write(folder.join(name), text).expect("a copy");
    name.to_owned()
}

#[tokio::test]
async fn the_copy_of_any_sink_is_enough_to_find_what_was_done_to_the_log() {
    let engine = Engine::serving("one", "m").await;
    let syslog = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let receiver = Script::saying("HTTP/1.1 204 No Content\r\n\r\n").await;
    let bucket = Bucket::named("box").await;
    let log = format!("udp://{}", syslog.local_addr().expect("an address"));
    let sinks = json!({
        "syslog": [{"name": "log", "url": log}],
        "webhooks": [webhook(&receiver)],
        "s3": [bucket.sink("vault", "a/b")],
    });
    let elsewhere = tempfile::tempdir().expect("a folder");
    let file = elsewhere.path().join("checkpoints").to_string_lossy().into_owned();
    let config =
        Config::with(&[&engine]).set("/audit/checkpoints", sinks).set("/audit/checkpoint_file", &*file);
    let mut gateway = gateway(&config).await;
    gateway.cli_json(&["team", "create", "lab"]).await;
    for _ in 0..3 {
        gateway.client().chat("m").await;
    }
    entries(&gateway, &[], 7).await;
    // Its end brings a checkpoint of its own; that of the command it has relayed before.
    gateway.terminate();
    assert!(gateway.ended().await.success());
    syslog.readable().await.expect("messages");
    let copies = [
        file,
        write(gateway.folder(), "syslog", datagrams(&syslog)),
        write(gateway.folder(), "bodies", bodies(&receiver)),
        "s3://box".to_owned(),
        "s3://box/a/b/".to_owned(),
    ];
    for copy in &copies {
        let (report, code) = verified(&gateway, copy).await;
        assert_eq!((code, vouching(&report, copy)), (Some(0), 2), "{copy}: {report}");
    }
    tamper(gateway.folder(), "DELETE FROM entries WHERE seq >= 3");
    tamper(gateway.folder(), "DELETE FROM checkpoints");
    for copy in &copies {
        let (report, code) = verified(&gateway, copy).await;
        let chains = report["chains"].as_array().into_iter().flatten();
        let damages: Vec<&Value> =
            chains.flat_map(|chain| chain["damages"].as_array().into_iter().flatten()).collect();
        let is_found = |damage: &&Value| {
            (&damage["kind"], &damage["seq"], &damage["source"])
                == (&json!("truncated"), &json!(3), &json!(copy))
        };
        assert!(code == Some(1) && damages.into_iter().any(|damage| is_found(&damage)), "{copy}: {report}");
    }
}

#[tokio::test]
async fn a_sink_that_is_away_gets_what_it_missed_and_holds_up_nobody() {
    let engine = Engine::serving("one", "m").await;
    let (bucket, receiver) =
        (Bucket::named("box").await, Script::saying("HTTP/1.1 204 No Content\r\n\r\n").await);
    bucket.fail(Some(503));
    let sinks = json!({"webhooks": [webhook(&receiver)], "s3": [bucket.sink("vault", "")]});
    let gateway = gateway(&Config::with(&[&engine]).set("/audit/checkpoints", sinks)).await;
    gateway.cli_json(&["team", "create", "one"]).await;
    gateway
        .metric("synapse_audit_checkpoints_total", &[("sink", "hook"), ("result", "delivered")], |n| n == 1.0)
        .await;
    gateway
        .metric("synapse_audit_checkpoints_total", &[("sink", "vault"), ("result", "failed")], |n| n > 0.0)
        .await;
    gateway.metric("synapse_audit_checkpoints_waiting", &[("sink", "vault")], |n| n == 1.0).await;
    gateway.client().chat("m").await;
    entries(&gateway, &["--outcome", "completed"], 1).await;
    // Its end cannot bring anything to the bucket, and is not held up by it.
    let gateway = gateway.restart().await;
    gateway.metric("synapse_audit_checkpoints_waiting", &[("sink", "vault")], |n| n >= 2.0).await;
    gateway
        .metric("synapse_audit_checkpoints_total", &[("sink", "vault"), ("result", "failed")], |n| n >= 2.0)
        .await;
    let is_told = |line: &&String| line.contains("a sink cannot be given");
    let told = |lines: &[String]| Some(lines.iter().filter(is_told).count()).filter(|count| *count > 0);
    assert_eq!((gateway.logs().until("what is wrong", told).await, bucket.objects().len()), (1, 0));
    bucket.fail(None);
    gateway.metric("synapse_audit_checkpoints_waiting", &[("sink", "vault")], |n| n == 0.0).await;
    let (report, code) = verified(&gateway, "s3://box").await;
    assert_eq!((code, vouching(&report, "s3://box")), (Some(0), bucket.objects().len() as u64), "{report}");
}

#[tokio::test]
async fn a_syslog_server_is_spoken_to_within_tls_if_it_can_be_trusted() {
    let engine = Engine::serving("one", "m").await;
    let (trusted, other) = (Authority::new(), Authority::new());
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = server.local_addr().expect("an address").port();
    let sinks = json!({"syslog": [{"name": "log", "url": format!("tls://localhost:{port}")}]});
    let config = Config::with(&[&engine]).set("/audit/checkpoints", sinks);
    let gateway = setup().trusting(&trusted).start(&config).await;
    gateway.cli_json(&["team", "create", "lab"]).await;
    let (stream, _) = server.accept().await.expect("a connection");
    assert!(other.acceptor().accept(stream).await.is_err(), "it does not trust this one");
    let (stream, _) = server.accept().await.expect("another connection");
    let mut stream = trusted.acceptor().accept(stream).await.expect("TLS");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("a message and an orderly end");
    let (length, message) = text.split_once(' ').expect("a frame");
    assert_eq!(length.parse(), Ok(message.len()));
    drop(stream);
    gateway.metric("synapse_audit_checkpoints_total", &[("result", "delivered")], |n| n == 1.0).await;
    let copy = write(gateway.folder(), "syslog", format!("{message}\n"));
    let (report, code) = verified(&gateway, &copy).await;
    assert_eq!((code, vouching(&report, &copy)), (Some(0), 1), "{report}");
}

#[tokio::test]
async fn a_bucket_that_cannot_be_read_is_no_sound_log() {
    let engine = Engine::serving("one", "m").await;
    let bucket = Bucket::named("box").await;
    let sinks = json!({"s3": [bucket.sink("vault", "")]});
    let gateway = gateway(&Config::with(&[&engine]).set("/audit/checkpoints", sinks)).await;
    assert_eq!(verified(&gateway, "s3://other").await.1, Some(2), "no such bucket is configured");
    bucket.fail(Some(403));
    assert_eq!(verified(&gateway, "s3://box").await.1, Some(2));
}
