//! Deliveries in time that passes as fast as the tests like, with receivers that fail as they are told.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
};

use async_trait::async_trait;
use synapse_core::{alert::Severity, config::snapshot::WebhookFormat, store::alerts::Progress};
use synapse_store::sqlite::SqliteStore;
use tempfile::TempDir;

use super::{
    message::tests::{alert, webhook},
    *,
};

type Answer = dyn Fn(&Message) -> Result<u16, Failure> + Send + Sync;

/// A receiver that answers as a test decides.
struct Receiver {
    answer: Box<Answer>,
    got: Mutex<Vec<Message>>,
}

impl Receiver {
    fn new(answer: impl Fn(&Message) -> Result<u16, Failure> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { answer: Box::new(answer), got: Mutex::default() })
    }

    fn got(&self) -> Vec<Message> {
        self.got.lock().unwrap().clone()
    }
}

#[async_trait]
impl Post for Receiver {
    async fn post(&self, _: &Webhook, message: &Message) -> Result<u16, Failure> {
        let answer = (self.answer)(message);
        if answer.is_ok() {
            self.got.lock().unwrap().push(message.clone());
        }
        answer
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

async fn store() -> (TempDir, Arc<SqliteStore>) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("synapse.db")).await.unwrap();
    (folder, Arc::new(store))
}

fn courier(store: &Arc<SqliteStore>, post: &Arc<Receiver>) -> Courier {
    Courier::new(Arc::clone(store) as _, Arc::clone(post) as _, Arc::default())
}

/// Rounds every two seconds of simulated time, as the gateway does.
async fn pass(courier: &mut Courier, webhooks: &[Webhook], seconds: std::ops::Range<i64>) {
    for second in seconds.step_by(2) {
        while courier.round(webhooks, at(second)).await.unwrap() > 0 {}
    }
}

#[tokio::test]
async fn when_a_receiver_was_down_for_ten_minutes_everything_arrives_afterwards_signed() {
    let (_folder, store) = store().await;
    let hooks = [webhook(WebhookFormat::Generic)];
    for number in 0..1000 {
        let severity = if number % 10 == 0 { Severity::Critical } else { Severity::Low };
        let alert = synapse_core::alert::Alert { severity, ..alert(number, at(number as i64 / 2)) };
        store.add_alert(&alert, &["w"]).await.unwrap();
    }
    let receiver = Receiver::new(|message| {
        if message.timestamp < at(600).as_second() {
            Err(Failure::Unreachable("down".into()))
        } else {
            Ok(200)
        }
    });
    let mut courier = courier(&store, &receiver);
    pass(&mut courier, &hooks, 0..1000).await;
    let got = receiver.got();
    let ids: HashSet<_> = got.iter().map(|message| message.id.clone()).collect();
    assert_eq!((got.len(), ids.len()), (1000, 1000));
    assert!(got.iter().all(|message| message.timestamp <= at(960).as_second()), "within five minutes or so");
    let critical: HashSet<_> = (0..1000).step_by(10).map(|number| format!("alr_{number:05}")).collect();
    let late = got.iter().rposition(|message| critical.contains(&message.id)).unwrap();
    assert!(late < 132, "the worst first: the last critical one is number {late}");
    for message in &got {
        assert!(message.signature.as_ref().is_some_and(|signature| signature.starts_with("v1,")));
    }
    assert_eq!(store.count_deliveries().await.unwrap(), [("w".into(), Progress::Delivered, 1000)]);
}

#[tokio::test]
async fn who_dies_between_sending_and_writing_it_down_sends_again_under_the_same_id() {
    let (folder, first) = store().await;
    let hooks = [webhook(WebhookFormat::Generic)];
    for number in 0..3 {
        first.add_alert(&alert(number, at(0)), &["w"]).await.unwrap();
    }
    // The process ends after the receiver has got the first message, with all three claimed.
    let claimed = first.claim_deliveries("w", at(0), at(60), 9).await.unwrap();
    let sent = Message::new(&claimed[0].1, &hooks[0], at(0));
    drop(first);
    let second = Arc::new(SqliteStore::open(folder.path().join("synapse.db")).await.unwrap());
    let receiver = Receiver::new(|_| Ok(200));
    let mut courier = courier(&second, &receiver);
    pass(&mut courier, &hooks, 2..58).await;
    assert_eq!(receiver.got(), [], "they are still claimed");
    pass(&mut courier, &hooks, 58..70).await;
    let got = receiver.got();
    assert_eq!(got.len(), 3);
    assert_eq!((&got[0].id, &got[0].body), (&sent.id, &sent.body));
}

#[tokio::test]
async fn a_receiver_that_never_answers_is_given_up_after_a_day_and_asked_ever_less() {
    let (_folder, store) = store().await;
    let hooks = [webhook(WebhookFormat::Generic)];
    store.add_alert(&alert(1, at(0)), &["w"]).await.unwrap();
    let attempts = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&attempts);
    let receiver = Receiver::new(move |_| {
        *counted.lock().unwrap() += 1;
        Err(Failure::Unwell(503))
    });
    let mut courier = courier(&store, &receiver);
    // The last pause may begin shortly before the day is over.
    for second in (0..36 * 3600).step_by(30) {
        courier.round(&hooks, at(second)).await.unwrap();
    }
    let owed = store.list_deliveries("alr_00001").await.unwrap();
    assert_eq!((owed[0].progress, owed[0].error.as_deref()), (Progress::Dead, Some("it answered 503")));
    assert!((20..60).contains(&*attempts.lock().unwrap()), "{} attempts", attempts.lock().unwrap());
}

#[tokio::test]
async fn a_message_that_is_refused_holds_up_no_other_and_one_receiver_no_other() {
    let (_folder, store) = store().await;
    let hooks = ["broken", "picky", "well"]
        .map(|name| Webhook { name: name.into(), ..webhook(WebhookFormat::Generic) });
    for number in 0..5 {
        store.add_alert(&alert(number, at(0)), &["broken", "picky", "well"]).await.unwrap();
    }
    struct Town(Mutex<HashMap<String, Vec<String>>>);
    #[async_trait]
    impl Post for Town {
        async fn post(&self, webhook: &Webhook, message: &Message) -> Result<u16, Failure> {
            match (webhook.name.as_str(), message.id.as_str()) {
                ("broken", _) => return Err(Failure::Unreachable("down".into())),
                ("picky", "alr_00000") => return Err(Failure::Refused(400)),
                ("picky", "alr_00001") => return Err(Failure::Gone),
                _ => {}
            }
            self.0.lock().unwrap().entry(webhook.name.clone()).or_default().push(message.id.clone());
            Ok(200)
        }
    }
    let town = Arc::new(Town(Mutex::default()));
    let mut courier = Courier::new(Arc::clone(&store) as _, Arc::clone(&town) as _, Arc::default());
    courier.round(&hooks, at(0)).await.unwrap();
    let got = town.0.lock().unwrap().clone();
    assert_eq!((got["well"].len(), got["picky"].len(), got.contains_key("broken")), (5, 3, false));
    let counts = store.count_deliveries().await.unwrap();
    assert!(counts.contains(&("picky".into(), Progress::Dead, 1)), "{counts:?}");
    assert!(counts.contains(&("picky".into(), Progress::Pending, 1)), "{counts:?}");
    assert!(counts.contains(&("broken".into(), Progress::Pending, 5)), "{counts:?}");
}

#[test]
fn pauses_double_up_to_an_hour_and_are_never_all_the_same() {
    let seconds = |failures| pause(failures).as_secs_f64();
    for (failures, whole) in [(0, 5.0), (1, 10.0), (3, 40.0), (20, 3600.0), (u32::MAX, 3600.0)] {
        let found = seconds(failures);
        assert!((whole * 0.8..=whole * 1.2).contains(&found), "{failures}: {found}");
    }
    let different: HashSet<_> = (0..20).map(|_| pause(5)).collect();
    assert!(different.len() > 1);
}
