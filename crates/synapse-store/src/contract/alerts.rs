//! What every store promises of alerts and their deliveries.

use std::time::Duration;

use jiff::Timestamp;
use synapse_core::{
    alert::{Alert, Rule, Severity, State},
    store::{
        StoreError,
        alerts::{AlertFilter, AlertStore, Attempt, Delivery, Progress},
        keys::KeyStore,
    },
};

use super::Database;

fn at(second: u64) -> Timestamp {
    Timestamp::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + second)
}

fn alert(number: u64, severity: Severity) -> Alert {
    Alert {
        id: format!("alr_{number:04}"),
        at: at(number / 2),
        rule: Rule::DlpBlocks,
        severity,
        key: Some("AbCd1234".into()),
        team: Some("研究室".into()),
        source: None,
        title: "Key AbCd1234 is stopped again and again".into(),
        explanation: "5 requests within 10 minutes; that's the threshold.".into(),
        state: State::Open,
    }
}

fn ids(alerts: &[Alert]) -> Vec<&str> {
    alerts.iter().map(|alert| alert.id.as_str()).collect()
}

fn claimed(found: &[(Delivery, Alert)]) -> Vec<&str> {
    found.iter().map(|(delivery, _)| delivery.alert.as_str()).collect()
}

pub(crate) async fn an_alert_reads_back_as_it_was_kept(db: impl Database) {
    let store = db.open().await;
    let source =
        Alert { key: None, team: None, source: Some("192.0.2.0/24".into()), ..alert(2, Severity::Low) };
    for kept in [alert(1, Severity::High), source] {
        assert_eq!(store.add_alert(&kept, &["w"]).await.expect("kept"), kept);
        assert_eq!(store.get_alert(&kept.id).await.expect("the alert"), kept);
    }
    let refusal = store.get_alert("' OR 1=1 --").await.expect_err("a refusal");
    assert!(matches!(refusal, StoreError::NotFound { kind: "alert", .. }), "{refusal:?}");
}

pub(crate) async fn an_alert_kept_twice_is_one_and_owed_once(db: impl Database) {
    let store = db.open().await;
    let kept = alert(1, Severity::High);
    for _ in 0..2 {
        store.add_alert(&kept, &["v", "w"]).await.expect("kept");
    }
    assert_eq!(store.list_alerts(&AlertFilter::default(), 10).await.expect("a list"), [kept]);
    assert_eq!(store.list_deliveries("alr_0001").await.expect("a list").len(), 2);
}

pub(crate) async fn alerts_are_listed_newest_first_page_by_page(db: impl Database) {
    let store = db.open().await;
    for number in 0..7 {
        store.add_alert(&alert(number, Severity::Low), &[]).await.expect("kept");
    }
    let (mut seen, mut filter) = (Vec::new(), AlertFilter::default());
    loop {
        let page = store.list_alerts(&filter, 3).await.expect("a page");
        let Some(last) = page.last() else { break };
        filter.before = Some(last.id.clone());
        seen.extend(page);
    }
    let want: Vec<_> = (0..7).rev().map(|number| alert(number, Severity::Low)).collect();
    assert_eq!(seen, want);
}

pub(crate) async fn alerts_are_found_by_what_they_are_about(db: impl Database) {
    let store = db.open().await;
    store.add_alert(&alert(0, Severity::Low), &[]).await.expect("kept");
    let other = Alert { rule: Rule::Errors, key: None, team: Some("ops".into()), ..alert(2, Severity::High) };
    store.add_alert(&other, &[]).await.expect("kept");
    let any = AlertFilter::default;
    for (filter, want) in [
        (AlertFilter { team: Some("ops".into()), ..any() }, vec!["alr_0002"]),
        (AlertFilter { key: Some("AbCd1234".into()), ..any() }, vec!["alr_0000"]),
        (AlertFilter { rule: Some(Rule::Errors), ..any() }, vec!["alr_0002"]),
        (AlertFilter { severity: Some(Severity::Low), ..any() }, vec!["alr_0000"]),
        (AlertFilter { since: Some(at(1)), ..any() }, vec!["alr_0002"]),
        (AlertFilter { until: Some(at(1)), ..any() }, vec!["alr_0000"]),
        (AlertFilter { state: Some("open".into()), ..any() }, vec!["alr_0002", "alr_0000"]),
        (AlertFilter { state: Some("muted".into()), ..any() }, vec![]),
    ] {
        assert_eq!(ids(&store.list_alerts(&filter, 10).await.expect("a list")), want, "{filter:?}");
    }
}

pub(crate) async fn the_first_acknowledgement_of_an_alert_counts(db: impl Database) {
    let store = db.open().await;
    store.add_alert(&alert(1, Severity::Low), &[]).await.expect("kept");
    for second in [10, 20] {
        let state = store.acknowledge_alert("alr_0001", at(second)).await.expect("the alert").state;
        assert_eq!(state, State::Acknowledged { at: at(10) });
    }
    assert!(store.acknowledge_alert("alr_none", at(10)).await.is_err());
}

pub(crate) async fn what_is_muted_is_kept_and_not_told(db: impl Database) {
    let store = db.open().await;
    store.add_alert(&alert(0, Severity::Low), &["w"]).await.expect("kept");
    store.mute_alert("alr_0000", at(10)).await.expect("muted");
    let kept = store.add_alert(&alert(2, Severity::Low), &["w"]).await.expect("kept");
    assert_eq!(kept.state, State::Muted { until: at(10) });
    assert_eq!(store.list_deliveries("alr_0002").await.expect("a list"), []);
    let of_another = Alert { key: Some("other".into()), ..alert(4, Severity::Low) };
    let of_another_rule = Alert { rule: Rule::OffHours, ..alert(6, Severity::Low) };
    let afterwards = alert(40, Severity::Low);
    for told in [of_another, of_another_rule, afterwards] {
        assert_eq!(store.add_alert(&told, &["w"]).await.expect("kept").state, State::Open, "{told:?}");
        assert_eq!(store.list_deliveries(&told.id).await.expect("a list").len(), 1);
    }
}

pub(crate) async fn due_deliveries_are_claimed_once_and_the_worst_first(db: impl Database) {
    let (store, other) = (db.open().await, db.open().await);
    for (number, severity) in [(0, Severity::Low), (1, Severity::Critical), (2, Severity::Low)] {
        store.add_alert(&alert(number, severity), &["v", "w"]).await.expect("kept");
    }
    let first = store.claim_deliveries("w", at(5), at(65), 2).await.expect("some");
    assert_eq!(claimed(&first), ["alr_0001", "alr_0000"]);
    assert_eq!(first[0].1, alert(1, Severity::Critical));
    let second = other.claim_deliveries("w", at(5), at(65), 9).await.expect("some");
    assert_eq!(claimed(&second), ["alr_0002"], "the others are somebody's");
    let left_lying = other.claim_deliveries("w", at(65), at(125), 9).await.expect("some");
    assert_eq!(left_lying.len(), 3, "who claimed them did not come back");
    assert_eq!(store.claim_deliveries("v", at(5), at(65), 9).await.expect("some").len(), 3);
    assert_eq!(store.claim_deliveries("u", at(5), at(65), 9).await.expect("none").len(), 0);
}

pub(crate) async fn an_attempt_decides_what_becomes_of_a_delivery(db: impl Database) {
    let store = db.open().await;
    for number in 0..3 {
        store.add_alert(&alert(number, Severity::Low), &["w"]).await.expect("kept");
    }
    let found = store.claim_deliveries("w", at(5), at(65), 9).await.expect("some");
    let error = "it answered 500".to_owned();
    let attempts = [
        Attempt::Delivered,
        Attempt::Failed { again_at: at(30), error: error.clone() },
        Attempt::Dead { error: error.clone() },
    ];
    for ((delivery, _), attempt) in found.iter().zip(&attempts) {
        store.record_attempt(delivery, attempt).await.expect("recorded");
    }
    let again = store.claim_deliveries("w", at(30), at(90), 9).await.expect("some");
    assert_eq!(claimed(&again), ["alr_0001"]);
    assert_eq!((again[0].0.attempts, again[0].0.error.as_deref()), (1, Some(error.as_str())));
    let counted = store.count_deliveries().await.expect("counts");
    let want = [Progress::Dead, Progress::Delivered, Progress::Pending].map(|how| ("w".to_owned(), how, 1));
    assert_eq!(counted, want);
}

pub(crate) async fn what_nobody_delivers_is_given_up_in_the_end(db: impl Database) {
    let store = db.open().await;
    for number in [0, 2] {
        store.add_alert(&alert(number, Severity::Low), &["w"]).await.expect("kept");
    }
    assert_eq!(store.abandon_deliveries(at(1)).await.expect("given up"), 1);
    assert_eq!(store.abandon_deliveries(at(1)).await.expect("none"), 0);
    let old = store.list_deliveries("alr_0000").await.expect("a list");
    assert!(old[0].progress == Progress::Dead && old[0].error.is_some(), "{old:?}");
    assert_eq!(store.list_deliveries("alr_0002").await.expect("a list")[0].progress, Progress::Pending);
}

pub(crate) async fn old_alerts_are_forgotten_with_their_deliveries(db: impl Database) {
    let store = db.open().await;
    for number in [0, 2] {
        store.add_alert(&alert(number, Severity::Low), &["w"]).await.expect("kept");
    }
    assert_eq!(store.forget_alerts(at(1)).await.expect("forgotten"), 1);
    assert_eq!(ids(&store.list_alerts(&AlertFilter::default(), 10).await.expect("a list")), ["alr_0002"]);
    assert_eq!(store.list_deliveries("alr_0000").await.expect("a list"), []);
}

pub(crate) async fn what_a_detector_learnt_is_kept_for_its_instance(db: impl Database) {
    let store = db.open().await;
    assert_eq!(store.load_baselines("one").await.expect("nothing"), None);
    for state in ["first", "second"] {
        store.save_baselines("one", state).await.expect("saved");
    }
    store.save_baselines("two", "other").await.expect("saved");
    assert_eq!(store.load_baselines("one").await.expect("a state").as_deref(), Some("second"));
}

pub(crate) async fn an_alert_leaves_the_mark_of_keys_alone(db: impl Database) {
    let (store, other) = (db.open().await, db.open().await);
    let before = other.change_mark().await.expect("a mark");
    store.add_alert(&alert(1, Severity::Low), &["w"]).await.expect("kept");
    assert_eq!(other.change_mark().await.expect("a mark"), before);
}
