//! The audit log: two entries for each request, whatever becomes of it, in a chain that can be checked.

use std::{fs, path::Path};

use serde_json::{Value, json};
use synapse_testkit::{Config, Engine, Gateway, Postgres, Script};

use crate::start::{code, gateway, saying, single};

/// Entries that fit, newest first, once there are as many.
pub(crate) async fn entries(gateway: &Gateway, filter: &[&str], count: usize) -> Vec<Value> {
    let command = [&["audit", "list", "--accepted", "--limit", "10000"], filter].concat();
    gateway
        .until("entries are in the database", async || {
            let listed = gateway.cli_json(&command).await;
            listed.as_array().filter(|listed| listed.len() >= count).cloned()
        })
        .await
}

/// The report of a verification, and its exit code.
async fn verified(gateway: &Gateway) -> (Value, Option<i32>) {
    let out = gateway.cli(&["audit", "verify", "--json"]).await;
    (serde_json::from_slice(&out.stdout).unwrap_or_default(), out.status.code())
}

fn of_request(entries: &[Value], kind: &str) -> Value {
    entries.iter().find(|entry| entry["kind"] == kind).cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_request_has_an_entry_that_accepts_it_and_one_that_closes_it() {
    let (_engine, gateway) = single().await;
    let answer = gateway.client().chat("m").await;
    let id = answer.header("x-request-id").to_owned();
    let found = entries(&gateway, &["--request", &id], 2).await;
    assert_eq!(found.len(), 2, "{found:#?}");
    let (accepted, closed) = (of_request(&found, "request.accepted"), of_request(&found, "request.closed"));
    assert_eq!((&closed["outcome"], &closed["status"]), (&json!("completed"), &json!(200)));
    assert_eq!((&closed["model_asked"], &closed["zone"]), (&json!("m"), &json!("on_prem")));
    assert_eq!(accepted["request_digest"], closed["request_digest"]);
    assert!(closed["reply_digest"].is_string() && accepted["reply_digest"].is_null());
    let receipt = answer.header("x-synapse-receipt").to_owned();
    let parts: Vec<&str> = receipt.split('.').collect();
    assert_eq!(
        (parts[1], parts[2]),
        (&*accepted["seq"].to_string(), accepted["hash"].as_str().expect("a hash"))
    );
    let (report, code) = verified(&gateway).await;
    assert_eq!((code, &report["sound"]), (Some(0), &json!(true)), "{report}");
}

#[tokio::test]
async fn a_refusal_is_recorded_and_a_flood_of_them_is_counted() {
    let (_engine, gateway) = single().await;
    let stranger = gateway.client_with("no-such-key");
    let calls = (0..60).map(|_| stranger.chat("m"));
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.status, 403);
    }
    let found = entries(&gateway, &["--outcome", "rejected"], 1).await;
    assert!((10..60).contains(&found.len()), "{} of 60 were told one by one", found.len());
    assert!(found.iter().all(|entry| entry["code"] == "invalid_api_key" && entry["key"].is_null()));
    let gateway = gateway.restart().await;
    let counted = entries(&gateway, &["--kind", "request.refusals"], 1).await;
    let of = |entry: &Value| -> Option<u64> {
        serde_json::from_str::<Value>(entry["detail"].as_str()?).ok()?["count"].as_u64()
    };
    assert_eq!(found.len() as u64 + counted.iter().filter_map(of).sum::<u64>(), 60);
}

#[tokio::test]
async fn what_a_killed_gateway_left_open_is_orphaned_and_the_chain_goes_on() {
    let engine = Engine::serving("one", "m").await;
    engine.update(|behaviour| behaviour.itl = std::time::Duration::from_millis(50));
    let mut gateway = gateway(&Config::with(&[&engine])).await;
    let mut stream = gateway.client().open("m").await;
    stream.until("content").await;
    gateway.die();
    let gateway = gateway.start_again().await;
    let orphans = entries(&gateway, &["--outcome", "orphaned"], 1).await;
    assert_eq!(orphans.len(), 1, "{orphans:#?}");
    assert_eq!(
        entries(&gateway, &["--request", orphans[0]["request"].as_str().expect("an id")], 2).await.len(),
        2
    );
    gateway.client().chat("m").await;
    entries(&gateway, &["--outcome", "completed"], 1).await;
    let (report, code) = verified(&gateway).await;
    assert_eq!((code, report["chains"].as_array().map(Vec::len)), (Some(0), Some(1)), "{report}");
}

#[tokio::test]
async fn every_durability_serves_requests_and_streams() {
    for durability in ["journal", "fsync", "database"] {
        let engine = Engine::serving("one", "m").await;
        let gateway = gateway(&Config::with(&[&engine]).set("/audit/durability", durability)).await;
        assert_eq!(gateway.client().chat("m").await.status, 200, "{durability}");
        let mut stream = gateway.client().open("m").await;
        stream.until("[DONE]").await;
        let found = entries(&gateway, &["--outcome", "completed"], 2).await;
        assert_eq!(found.len(), 2, "{durability}");
    }
}

/// Changes the database behind the gateway's back, as its administrator could.
pub(crate) fn tamper(folder: &Path, statement: &str) {
    let month = fs::read_dir(folder.join("data")).expect("a folder").flatten().find_map(|file| {
        let name = file.file_name().to_string_lossy().into_owned();
        (name.starts_with("audit-") && name.ends_with(".db")).then(|| file.path())
    });
    let python = "import sqlite3, sys\n\
                  db = sqlite3.connect(sys.argv[1])\n\
                  for (name,) in db.execute(\"SELECT name FROM sqlite_master WHERE type = 'trigger'\").fetchall():\n    \
                  db.execute(f'DROP TRIGGER {name}')\n\
                  db.execute(sys.argv[2])\n\
                  db.commit()";
    let done = std::process::Command::new("python3")
        .args(["-c", python])
        .arg(month.expect("a month"))
        .arg(statement)
        .status()
        .expect("Python runs");
    assert!(done.success(), "{statement}");
}

#[tokio::test]
async fn tampering_is_found_at_the_entry_that_was_changed() {
    for (statement, seq, kind) in [
        ("UPDATE entries SET status = 201 WHERE seq = 4", 4, "modified"),
        ("UPDATE entries SET team = 'other' WHERE seq = 3", 3, "modified"),
        ("DELETE FROM entries WHERE seq = 5", 5, "deleted"),
        ("DELETE FROM entries WHERE seq >= 7", 7, "truncated"),
    ] {
        let (_engine, gateway) = single().await;
        for _ in 0..5 {
            gateway.client().chat("m").await;
        }
        entries(&gateway, &[], 11).await;
        // Its end brings a checkpoint.
        let mut gateway = gateway;
        gateway.terminate();
        assert!(gateway.ended().await.success());
        let (report, code) = verified(&gateway).await;
        assert_eq!(code, Some(0), "{report}");
        tamper(gateway.folder(), statement);
        let (report, code) = verified(&gateway).await;
        let first = &report["chains"][0]["first"];
        assert_eq!(
            (code, &first["seq"], &first["kind"]),
            (Some(1), &json!(seq), &json!(kind)),
            "{statement}: {report}"
        );
    }
}

#[tokio::test]
async fn a_proof_is_checked_with_the_public_key_alone() {
    let (_engine, mut gateway) = single().await;
    let id = gateway.client().chat("m").await.header("x-request-id").to_owned();
    entries(&gateway, &["--request", &id], 2).await;
    gateway.terminate();
    assert!(gateway.ended().await.success());
    let text = |out: std::process::Output| String::from_utf8(out.stdout).expect("UTF-8");
    let key = text(gateway.cli(&["audit", "public-key"]).await);
    let proof = text(gateway.cli(&["audit", "proof", &id]).await);
    let elsewhere = tempfile::tempdir().expect("a folder");
    let file = elsewhere.path().join("proof");
    let check = async |proof: &str| {
        fs::write(&file, proof).expect("a file");
        let folder = elsewhere.path().to_string_lossy().into_owned();
        gateway
            .cli(&[
                "audit",
                "check-proof",
                &file.to_string_lossy(),
                "--public-key",
                key.trim(),
                "--data-dir",
                &folder,
            ])
            .await
    };
    let good = check(&proof).await;
    assert!(good.status.success() && text(good).contains(&id));
    let forged = check(&proof.replacen("path ", "path A", 1)).await;
    assert!(!forged.status.success());
}

#[tokio::test]
async fn a_known_text_is_found_until_its_key_is_destroyed() {
    let (_engine, gateway) = single().await;
    let body = saying("m", "a text that somebody asks about");
    gateway.client().post("/v1/chat/completions", &body).await;
    entries(&gateway, &["--outcome", "completed"], 1).await;
    let file = gateway.folder().join("text");
    fs::write(&file, body.to_string()).expect("a file");
    let find = async || {
        let out = gateway.cli(&["audit", "find", "--content", &file.to_string_lossy()]).await;
        String::from_utf8(out.stdout).expect("UTF-8").lines().count()
    };
    assert_eq!(find().await, 1);
    let month = jiff::Timestamp::now().strftime("%Y-%m").to_string();
    assert!(gateway.cli(&["audit", "erase", "default", "--month", &month]).await.status.success());
    assert_eq!(find().await, 0);
}

#[tokio::test]
async fn an_upload_is_found_by_its_file_and_by_its_whole_body() {
    let engine = Engine::serving("one", "whisper").await;
    let gateway = gateway(&Config::with(&[&engine])).await;
    // Above 1 MiB, an upload is not kept in memory on its way.
    for size in [1000, 3_000_000] {
        let recording: Vec<u8> = (0..size).map(|at: u32| (at % 251) as u8).collect();
        let part = |headers: &str, body: &[u8]| {
            let head = format!("--b\r\nContent-Disposition: form-data; name={headers}\r\n\r\n");
            [head.as_bytes(), body, b"\r\n"].concat()
        };
        let file = part("\"file\"; filename=\"a.wav\"", &recording);
        let form = [part("\"model\"", b"whisper"), file, b"--b--\r\n".to_vec()].concat();
        let client = gateway.client();
        let mut request = client.request(hyper::Method::POST, "/v1/audio/transcriptions", form.clone());
        let kind = "multipart/form-data; boundary=b".parse().expect("a value");
        request.headers_mut().insert("content-type", kind);
        let answer = client.send(request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let id = answer.header("x-request-id").to_owned();
        entries(&gateway, &["--request", &id], 2).await;
        for known in [recording, form] {
            let text = gateway.folder().join("known");
            fs::write(&text, known).expect("a file");
            let out = gateway.cli(&["audit", "find", "--content", &text.to_string_lossy()]).await;
            let found = String::from_utf8(out.stdout).expect("UTF-8");
            assert_eq!(found.matches(&id).count(), 1, "{size}: {found}");
        }
    }
}

/// What an entry says of a change.
fn change(entry: &Value) -> (String, String) {
    let detail: Value = serde_json::from_str(entry["detail"].as_str().expect("a detail")).expect("JSON");
    (
        detail["action"].as_str().unwrap_or_default().to_owned(),
        entry["actor"].as_str().unwrap_or_default().to_owned(),
    )
}

#[tokio::test]
async fn changes_of_keys_teams_and_the_configuration_are_entries_too() {
    let engine = Engine::serving("one", "m").await;
    let config = Config::with(&[&engine]);
    let gateway = gateway(&config).await;
    gateway.cli_json(&["team", "create", "lab"]).await;
    let made = gateway
        .cli_json(&["key", "create", "--team", "lab", "--model", "*", "--system-prompt", "a secret prompt"])
        .await;
    let id = made["id"].as_str().expect("an id").to_owned();
    gateway.cli_json(&["key", "revoke", &id]).await;
    let found = entries(&gateway, &["--kind", "admin.change", "--team", "lab"], 3).await;
    let mut actions: Vec<(String, String)> = found.iter().map(change).collect();
    actions.sort();
    assert_eq!(
        actions.iter().map(|(action, _)| action.as_str()).collect::<Vec<_>>(),
        ["key.created", "key.revoked", "team.created"]
    );
    assert!(actions.iter().all(|(_, actor)| actor.starts_with("command line, uid ")));
    assert!(found.iter().all(|entry| !entry.to_string().contains("secret prompt")));
    gateway.reconfigure(&config.set("/server/drain_grace_s", 7));
    let versions = entries(&gateway, &["--kind", "config.version"], 2).await;
    assert!(versions.iter().all(|entry| entry["outcome"] == "in_force"), "{versions:#?}");
    assert_ne!(versions[0]["detail"], versions[1]["detail"]);
    let (report, code) = verified(&gateway).await;
    assert_eq!((code, report["chains"].as_array().map(Vec::len)), (Some(0), Some(4)), "{report}");
    // A command's entry is vouched for by a file that the database's administrator cannot reach.
    let seq = found[0]["chain"].as_str().expect("a chain").replace('-', "");
    tamper(gateway.folder(), &format!("DELETE FROM entries WHERE hex(chain) = upper('{seq}')"));
    tamper(gateway.folder(), &format!("DELETE FROM checkpoints WHERE hex(chain) = upper('{seq}')"));
    let (report, code) = verified(&gateway).await;
    assert_eq!(code, Some(1), "{report}");
}

#[tokio::test]
async fn what_becomes_of_alerts_and_webhooks_is_an_entry_too() {
    let (engine, receiver) =
        (Engine::serving("one", "m").await, Script::saying("HTTP/1.1 204 X\r\n\r\n").await);
    let with = |hooks: &[(&str, &str)]| {
        let hooks = hooks.iter().map(|(name, path)| {
            json!({"name": name, "url": format!("{}/{path}", receiver.url()), "format": "slack", "allow_private": true})
        });
        Config::with(&[&engine])
            .set("/anomaly", json!({"rules": {"refused_keys": {"count": 1}}}))
            .set("/alerts", json!({"webhooks": hooks.collect::<Vec<_>>()}))
    };
    let gateway = gateway(&with(&[("stays", "a"), ("moves", "hidden"), ("goes", "a")])).await;
    gateway.client_with("no-such-key").chat("m").await;
    let alert = gateway.until("an alert", async || {
        gateway.cli_json(&["alert", "list"]).await[0]["id"].as_str().map(str::to_owned)
    });
    let alert = alert.await;
    gateway.cli_json(&["alert", "ack", &alert]).await;
    gateway.cli_json(&["alert", "mute", &alert]).await;
    assert!(gateway.cli(&["webhook", "test", "stays", "--config", "synapse.yaml"]).await.status.success());
    gateway.reconfigure(&with(&[("stays", "a"), ("moves", "also hidden"), ("comes", "a")]));
    let found = entries(&gateway, &["--kind", "admin.change"], 6).await;
    let detail = |entry: &Value| -> Option<Value> { serde_json::from_str(entry["detail"].as_str()?).ok() };
    let told = |action: &str, target: &str| {
        let said = json!({"action": action, "target": target});
        found.iter().any(|entry| detail(entry).as_ref() == Some(&said))
    };
    for (action, target) in [
        ("alert.acknowledged", alert.as_str()),
        ("alert.muted", &alert),
        ("webhook.tested", "stays"),
        ("webhook.changed", "moves"),
        ("webhook.deleted", "goes"),
        ("webhook.created", "comes"),
    ] {
        assert!(told(action, target), "{action} {target}: {found:#?}");
    }
    assert!(!told("webhook.changed", "stays") && !json!(found).to_string().contains("hidden"));
    let (report, code) = verified(&gateway).await;
    assert_eq!(code, Some(0), "{report}");
}

#[tokio::test]
async fn without_room_for_its_entries_no_request_is_served_and_none_is_lost() {
    let engine = Engine::serving("one", "m").await;
    let mut postgres = Postgres::start().await;
    let url = postgres.database().await;
    let config = Config::with(&[&engine]).set("/database/url", url.as_str()).set("/audit/journal_mb", 1);
    let gateway = gateway(&config).await;
    assert_eq!(gateway.client().chat("m").await.status, 200);
    postgres.die();
    let (mut served, mut refused) = (1, None);
    while refused.is_none() {
        match gateway.client().chat("m").await {
            answer if answer.status == 200 => served += 1,
            answer => refused = Some(answer),
        }
        assert!(served < 5000, "a journal of 1 MiB has its end");
    }
    assert_eq!(code(&refused.expect("a refusal")), (503, "audit_unavailable".to_owned()));
    assert_eq!(engine.counters().completed, served, "what was not recorded did not reach the engine");
    postgres.start_again().await;
    gateway
        .until("it to be served again", async || {
            (gateway.client().chat("m").await.status == 200).then_some(())
        })
        .await;
    let listed = gateway.until("all entries to be there", async || {
        let out = gateway.cli(&["audit", "export", "--outcome", "completed", "--database-url", &url]).await;
        let count = String::from_utf8(out.stdout).expect("UTF-8").lines().count() as u64;
        (count > served).then_some(count)
    });
    assert_eq!(listed.await, served + 1);
    let out = gateway.cli(&["audit", "verify", "--database-url", &url]).await;
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}
