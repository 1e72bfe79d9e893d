//! Relays with sinks that fail as they are told, and each kind of sink with a real receiver.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Mutex, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use synapse_audit::{
    note::SigningKey,
    sink::{FileSink, message},
};
use synapse_core::config::{self, Surroundings, snapshot::SyslogAddress};
use synapse_testkit::{Bucket, Script, poll};
use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, UdpSocket, UnixDatagram},
};
use uuid::Uuid;

use super::{super::work::Work, *};

/// Checkpoints of one chain.
fn checkpoints(count: u64) -> Vec<Given> {
    let key = SigningKey::generate("synapse-audit").unwrap();
    let chain = Uuid::now_v7();
    let checkpoint = |n: u64| Checkpoint {
        chain,
        first: n * 10,
        last: n * 10 + 9,
        root: [1; 32],
        head: [2; 32],
        previous: [3; 32],
        at: Timestamp::UNIX_EPOCH,
    };
    (0..count)
        .map(checkpoint)
        .map(|checkpoint| Given { checkpoint, note: checkpoint.sign(&key).note })
        .collect()
}

/// A data folder's file of checkpoints.
struct Folder {
    folder: TempDir,
    files: Files,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("audit")).unwrap();
        let files = Files::within(folder.path(), Some(folder.path().join("copy")));
        Self { folder, files }
    }

    fn append(&self, given: &[Given]) {
        let mut file = FileSink::open(&self.files.checkpoints()).unwrap();
        given.iter().for_each(|given| file.append(&given.note).unwrap());
    }

    fn relay(&self, name: &str, sink: impl Sink + 'static) -> Relay {
        Relay::new(Box::new(sink), self.files.checkpoints(), self.files.place_of(name), name.to_owned())
    }
}

fn notes(path: &Path) -> Vec<String> {
    FileSink::read(path).unwrap().map(|note| note.unwrap()).collect()
}

fn texts(given: &[Given]) -> Vec<String> {
    given.iter().map(|given| given.note.clone()).collect()
}

/// What a sink got, and how it answers what comes: with success where nothing is said.
#[derive(Clone, Default)]
struct Fake {
    got: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<VecDeque<Failure>>>,
    is_away: Arc<Mutex<bool>>,
}

impl Fake {
    fn got(&self) -> Vec<String> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_away(&self, is_away: bool) {
        *self.is_away.lock().unwrap() = is_away;
    }

    async fn until(&self, count: usize) {
        poll("checkpoints at the sink", async || (self.got().len() >= count).then_some(())).await;
    }
}

#[async_trait]
impl Sink for Fake {
    async fn give(&mut self, given: &Given) -> Result<(), Failure> {
        if *self.is_away.lock().unwrap() {
            return Err(Failure::Away("it is away".to_owned()));
        }
        if let Some(failure) = self.answers.lock().unwrap().pop_front() {
            return Err(failure);
        }
        self.got.lock().unwrap().push(given.note.clone());
        Ok(())
    }
}

/// A relay at work.
fn begin(relay: Relay, counts: &Counts) -> Work {
    let counts = counts.clone();
    Work::begin("audit relay", |stop| relay.run(counts, stop))
}

fn count(counts: &Counts, sink: &str, result: &'static str) -> u64 {
    counts.given.get_or_create(&SinkLabels { sink: Label::from(sink), result }).get()
}

fn waiting(counts: &Counts, sink: &str) -> i64 {
    counts.waiting.get_or_create(&SinkLabel { sink: Label::from(sink) }).get()
}

#[tokio::test]
async fn every_sink_gets_every_checkpoint_in_order_and_one_that_is_away_holds_up_nobody() {
    let (folder, counts) = (Folder::new(), Counts::default());
    let made = checkpoints(200);
    let (near, away) = (Fake::default(), Fake::default());
    away.set_away(true);
    folder.append(&made[..1]);
    let mut works = [
        begin(folder.relay("near", near.clone()), &counts),
        begin(folder.relay("away", away.clone()), &counts),
    ];
    near.until(1).await;
    folder.append(&made[1..]);
    near.until(200).await;
    assert_eq!((near.got(), away.got().len()), (texts(&made), 0));
    away.set_away(false);
    away.until(200).await;
    for work in &mut works {
        work.finish().await;
    }
    assert_eq!(away.got(), texts(&made));
    assert_eq!((count(&counts, "near", "delivered"), count(&counts, "near", "failed")), (200, 0));
    assert!(count(&counts, "away", "failed") > 0);
    assert_eq!((waiting(&counts, "near"), waiting(&counts, "away")), (0, 0));
}

#[tokio::test]
async fn what_waits_for_a_sink_is_counted_and_outlasts_the_process() {
    let (folder, counts) = (Folder::new(), Counts::default());
    let made = checkpoints(100);
    let sink = Fake::default();
    folder.append(&made[..70]);
    let mut work = begin(folder.relay("s", sink.clone()), &counts);
    sink.until(70).await;
    sink.set_away(true);
    folder.append(&made[70..]);
    poll("waiting checkpoints", async || (waiting(&counts, "s") == 30).then_some(())).await;
    work.finish().await;
    sink.set_away(false);
    // Another process goes on where this one came to; its end waits for all there is.
    begin(folder.relay("s", sink.clone()), &counts).finish().await;
    assert_eq!(sink.got(), texts(&made));
    // Another name is another sink.
    let other = Fake::default();
    begin(folder.relay("other", other.clone()), &counts).finish().await;
    assert_eq!(other.got(), texts(&made));
}

#[tokio::test]
async fn a_file_of_checkpoints_that_is_another_one_is_read_from_its_beginning() {
    let (folder, counts) = (Folder::new(), Counts::default());
    let (old, new) = (checkpoints(3), checkpoints(5));
    let sink = Fake::default();
    folder.append(&old);
    begin(folder.relay("s", sink.clone()), &counts).finish().await;
    std::fs::remove_file(folder.files.checkpoints()).unwrap();
    folder.append(&new);
    begin(folder.relay("s", sink.clone()), &counts).finish().await;
    assert_eq!(sink.got(), [texts(&old), texts(&new)].concat());
}

#[tokio::test]
async fn a_checkpoint_that_is_refused_for_good_does_not_hold_up_the_next() {
    let (folder, counts) = (Folder::new(), Counts::default());
    let made = checkpoints(2);
    let sink = Fake::default();
    sink.answers.lock().unwrap().push_back(Failure::Refused("taken".to_owned()));
    folder.append(&made);
    begin(folder.relay("s", sink.clone()), &counts).finish().await;
    assert_eq!(sink.got(), texts(&made[1..]));
    assert_eq!((count(&counts, "s", "refused"), count(&counts, "s", "delivered")), (1, 1));
}

#[tokio::test]
async fn a_copy_of_the_file_is_never_the_file_itself() {
    let folder = Folder::new();
    let made = checkpoints(2);
    folder.append(&made);
    std::os::unix::fs::symlink(folder.files.checkpoints(), folder.folder.path().join("copy")).unwrap();
    let mut copy = file::Copy::new(folder.files.copy().unwrap(), folder.files.checkpoints());
    assert_eq!(copy.give(&made[0]).await, Ok(()));
    assert_eq!(notes(&folder.files.checkpoints()), texts(&made));
}

#[tokio::test]
async fn a_copy_that_was_moved_away_is_begun_anew() {
    let folder = Folder::new();
    let made = checkpoints(2);
    folder.append(&made);
    let path = folder.files.copy().unwrap();
    let mut copy = file::Copy::new(path.clone(), folder.files.checkpoints());
    assert_eq!(copy.give(&made[0]).await, Ok(()));
    std::fs::rename(&path, folder.folder.path().join("moved")).unwrap();
    assert_eq!(copy.give(&made[1]).await, Ok(()));
    assert_eq!(notes(&path), texts(&made[1..]));
}

/// What a syslog server writes down, as verification reads it.
fn logged(line: &str) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{line}\n")).unwrap();
    notes(file.path())
}

/// A message as RFC 5424 wants it.
fn is_fine(line: &str, given: &Given) {
    let fields: Vec<&str> = line.splitn(8, ' ').collect();
    let [priority, time, host, app, process, kind, data, text] = fields[..] else { panic!("{line}") };
    assert_eq!((priority, app, kind, data), ("<109>1", "synapse", "checkpoint", "-"));
    assert!(time.parse::<Timestamp>().is_ok() && time.ends_with('Z'), "{time}");
    assert!(!host.is_empty() && process.parse::<u32>().is_ok());
    assert_eq!(text, message::of(&given.checkpoint, &given.note));
    assert_eq!(logged(line), texts(std::slice::from_ref(given)));
}

fn syslog(to: SyslogAddress) -> syslog::Syslog {
    syslog::Syslog::new(to, Arc::default())
}

#[tokio::test]
async fn a_syslog_server_gets_a_message_by_datagram() {
    let given = checkpoints(1).remove(0);
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let to = SyslogAddress::Udp("127.0.0.1".to_owned(), port);
    assert_eq!(syslog(to.clone()).give(&given).await, Ok(()));
    let mut buffer = [0; 4096];
    let length = server.recv(&mut buffer).await.unwrap();
    is_fine(std::str::from_utf8(&buffer[..length]).unwrap(), &given);
    drop(server);
    let failure = syslog(to).give(&given).await;
    assert!(matches!(failure, Err(Failure::Away(_))), "nobody listens there: {failure:?}");
}

#[tokio::test]
async fn a_syslog_server_gets_a_message_by_its_local_socket() {
    let given = checkpoints(1).remove(0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let failure = syslog(SyslogAddress::Unix(path.clone())).give(&given).await;
    assert!(matches!(failure, Err(Failure::Away(_))), "there is none: {failure:?}");
    let server = UnixDatagram::bind(&path).unwrap();
    assert_eq!(syslog(SyslogAddress::Unix(path)).give(&given).await, Ok(()));
    let mut buffer = [0; 4096];
    let length = server.recv(&mut buffer).await.unwrap();
    is_fine(std::str::from_utf8(&buffer[..length]).unwrap(), &given);
}

#[tokio::test]
async fn a_syslog_server_gets_a_message_in_a_frame_and_one_that_breaks_off_is_noticed() {
    let given = checkpoints(1).remove(0);
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = SyslogAddress::Tcp("localhost".to_owned(), server.local_addr().unwrap().port());
    let mut sink = syslog(to);
    let serve = async {
        let (mut stream, _) = server.accept().await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    let (given_to, text) = tokio::join!(sink.give(&given), serve);
    assert_eq!(given_to, Ok(()));
    let (length, line) = text.split_once(' ').unwrap();
    assert_eq!(length.parse::<usize>().unwrap(), line.len());
    is_fine(line, &given);
    let break_off = async {
        let (mut stream, _) = server.accept().await.unwrap();
        // What is not read when a socket is closed is answered with a reset.
        stream.read_u8().await.unwrap();
    };
    let (given_to, ()) = tokio::join!(sink.give(&given), break_off);
    assert!(matches!(given_to, Err(Failure::Away(_))), "{given_to:?}");
}

struct NoWorld;

impl Surroundings for NoWorld {
    fn env(&self, _: &str) -> Option<String> {
        None
    }

    fn read_file(&self, _: &Path) -> std::io::Result<String> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

/// What a sink is, as the configuration says it.
fn configured(sinks: &serde_json::Value) -> SinkKind {
    let text = serde_json::json!({"audit": {"checkpoints": sinks}}).to_string();
    let snapshot = config::load(&text, &NoWorld).unwrap();
    snapshot.audit.sinks.into_iter().next().unwrap().kind
}

#[tokio::test]
async fn a_webhook_gets_a_signed_message_with_the_same_id_each_time() {
    let given = checkpoints(1).remove(0);
    let server = Script::saying("HTTP/1.1 204 No Content\r\n\r\n").await;
    let secret = format!("whsec_{}", BASE64_STANDARD.encode([7; 32]));
    let sink = serde_json::json!({"name": "w", "url": server.url(), "secret": secret, "allow_private": true});
    let SinkKind::Webhook(to) = configured(&serde_json::json!({"webhooks": [sink]})) else { panic!() };
    let mut sink = webhook::Receiver::new(to, Arc::default());
    assert_eq!(sink.give(&given).await, Ok(()));
    assert_eq!(sink.give(&given).await, Ok(()));
    let requests = server.requests();
    let header = |request: &str, name: &str| {
        let line =
            request.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")).map(str::to_owned));
        line.unwrap_or_default()
    };
    let ids: Vec<_> = requests.iter().map(|request| header(request, "webhook-id")).collect();
    assert_eq!(ids, vec![format!("checkpoint-{}-9", given.checkpoint.chain); 2]);
    assert!(header(&requests[0], "webhook-signature").starts_with("v1,"));
    let (_, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert_eq!(logged(body), texts(&[given]));
}

fn objects(sink: serde_json::Value) -> s3::Objects {
    let SinkKind::S3(to) = configured(&serde_json::json!({"s3": [sink]})) else { panic!("no bucket") };
    s3::Objects::new(&to, Arc::default()).unwrap()
}

#[tokio::test]
async fn a_bucket_gets_an_object_for_each_checkpoint_and_none_is_written_over() {
    let bucket = Bucket::named("box").await;
    let mut sink = objects(bucket.sink("s", "audit/one"));
    let made = checkpoints(2);
    for given in [&made[0], &made[1], &made[1]] {
        assert_eq!(sink.give(given).await, Ok(()));
    }
    let key =
        |given: &Given| format!("audit/one/{}/{:020}.note", given.checkpoint.chain, given.checkpoint.last);
    let expected: Vec<_> = made.iter().map(|given| (key(given), given.note.clone().into_bytes())).collect();
    assert_eq!(bucket.objects().into_iter().collect::<Vec<_>>(), expected);
    bucket.put(&key(&made[0]), "something else");
    assert!(matches!(sink.give(&made[0]).await, Err(Failure::Refused(_))));
    assert_eq!(bucket.objects()[&key(&made[0])], b"something else");
}

#[tokio::test]
async fn a_bucket_says_why_it_takes_nothing() {
    let bucket = Bucket::named("box").await;
    let given = checkpoints(1).remove(0);
    for (field, value, why) in [
        ("secret_key", "wrong", "it answered 403 (SignatureDoesNotMatch)"),
        ("region", "elsewhere", "it answered 403 (SignatureDoesNotMatch)"),
        ("bucket", "another", "it answered 404 (NoSuchBucket)"),
    ] {
        let mut sink = bucket.sink("s", "");
        sink[field] = value.into();
        assert_eq!(objects(sink).give(&given).await, Err(Failure::Away(why.to_owned())), "{field}");
    }
    bucket.fail(Some(503));
    let failure = objects(bucket.sink("s", "")).give(&given).await;
    assert_eq!(failure, Err(Failure::Away("it answered 503 (ServiceUnavailable)".to_owned())));
}

#[tokio::test]
async fn a_bucket_is_read_back_page_by_page_and_in_order() {
    let bucket = Bucket::named("box").await;
    let mut sink = objects(bucket.sink("s", ""));
    let made = checkpoints(10);
    for given in made.iter().rev() {
        assert_eq!(sink.give(given).await, Ok(()));
    }
    bucket.put("other.txt", "no checkpoint");
    let mut read = Vec::new();
    sink.read("", |note| {
        read.push(note.to_owned());
        Ok(())
    })
    .await
    .unwrap();
    assert_eq!(read, texts(&made));
}
