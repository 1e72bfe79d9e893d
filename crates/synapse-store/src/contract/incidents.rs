//! What every store promises of incidents.

use std::time::Duration;

use jiff::Timestamp;
use synapse_core::{
    incident::{Incident, IncidentFinding},
    store::{
        StoreError,
        incidents::{IncidentFilter, IncidentStore},
        keys::KeyStore,
    },
};

use super::Database;

fn incident(number: u64, team: &str, category: &str) -> Incident {
    let at = Timestamp::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + number / 2);
    Incident {
        id: format!("inc_{number:04}"),
        at,
        request: format!("req-{number}").into(),
        key: Some("AbCd1234".into()),
        team: Some(team.into()),
        model: Some("llama3".into()),
        policy: "cloud".into(),
        policy_version: "0011".into(),
        action: "redact".into(),
        severity: "high".into(),
        findings: vec![IncidentFinding {
            direction: "prompt".into(),
            category: category.into(),
            severity: "high".into(),
            action: "redact".into(),
            count: 2,
            paths: vec!["messages[0].content".into()],
        }],
    }
}

fn ids(incidents: &[Incident]) -> Vec<&str> {
    incidents.iter().map(|incident| incident.id.as_str()).collect()
}

pub(crate) async fn an_incident_reads_back_as_it_was_kept(db: impl Database) {
    let store = db.open().await;
    let kept = incident(1, "研究室", "us_ssn");
    store.add_incidents(std::slice::from_ref(&kept)).await.expect("kept");
    assert_eq!(store.get_incident("inc_0001").await.expect("the incident"), kept);
    let refusal = store.get_incident("' OR 1=1 --").await.expect_err("a refusal");
    assert!(matches!(refusal, StoreError::NotFound { kind: "incident", .. }), "{refusal:?}");
}

pub(crate) async fn an_incident_kept_twice_is_one(db: impl Database) {
    let store = db.open().await;
    let kept = [incident(1, "lab", "us_ssn")];
    store.add_incidents(&kept).await.expect("kept");
    store.add_incidents(&kept).await.expect("kept again");
    assert_eq!(store.list_incidents(&IncidentFilter::default(), 10).await.expect("a list"), kept);
}

pub(crate) async fn incidents_are_listed_newest_first_page_by_page(db: impl Database) {
    let store = db.open().await;
    let all: Vec<_> = (0..7).map(|number| incident(number, "lab", "us_ssn")).collect();
    store.add_incidents(&all).await.expect("kept");
    let mut seen = Vec::new();
    let mut filter = IncidentFilter::default();
    loop {
        let page = store.list_incidents(&filter, 3).await.expect("a page");
        let Some(last) = page.last() else { break };
        filter.before = Some(last.id.clone());
        seen.extend(page);
    }
    let mut newest_first = all;
    newest_first.reverse();
    assert_eq!(seen, newest_first);
}

pub(crate) async fn incidents_are_found_by_what_they_are_about(db: impl Database) {
    let store = db.open().await;
    let all = [incident(0, "lab", "us_ssn"), incident(2, "ops", "us_ssn"), incident(4, "lab", "email")];
    store.add_incidents(&all).await.expect("kept");
    let any = IncidentFilter::default;
    for (filter, want) in [
        (IncidentFilter { team: Some("lab".into()), ..any() }, vec!["inc_0004", "inc_0000"]),
        (IncidentFilter { category: Some("us_ssn".into()), ..any() }, vec!["inc_0002", "inc_0000"]),
        (IncidentFilter { since: Some(all[1].at), ..any() }, vec!["inc_0004", "inc_0002"]),
        (IncidentFilter { until: Some(all[1].at), ..any() }, vec!["inc_0000"]),
        (IncidentFilter { key: Some("other".into()), ..any() }, vec![]),
        (IncidentFilter { action: Some("block".into()), ..any() }, vec![]),
        (IncidentFilter { severity: Some("high".into()), ..any() }, vec!["inc_0004", "inc_0002", "inc_0000"]),
    ] {
        let found = store.list_incidents(&filter, 10).await.expect("a list");
        assert_eq!(ids(&found), want, "{filter:?}");
    }
}

pub(crate) async fn old_incidents_are_forgotten(db: impl Database) {
    let store = db.open().await;
    let all = [incident(0, "lab", "us_ssn"), incident(2, "lab", "us_ssn")];
    store.add_incidents(&all).await.expect("kept");
    assert_eq!(store.forget_incidents(all[1].at).await.expect("forgotten"), 1);
    let left = store.list_incidents(&IncidentFilter::default(), 10).await.expect("a list");
    assert_eq!(ids(&left), ["inc_0002"]);
}

pub(crate) async fn an_incident_leaves_the_mark_of_keys_alone(db: impl Database) {
    let (store, other) = (db.open().await, db.open().await);
    let before = other.change_mark().await.expect("a mark");
    store.add_incidents(&[incident(0, "lab", "us_ssn")]).await.expect("kept");
    assert_eq!(other.change_mark().await.expect("a mark"), before);
}
