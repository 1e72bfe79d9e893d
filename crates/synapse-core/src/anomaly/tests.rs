//! Scripted days and fortnights: the quiet ones raise nothing, the others exactly what they should.

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;

use super::*;
use crate::{
    alert::Severity,
    config::{load, testing::World},
};

/// A Monday, at midnight in Berlin.
const START: i64 = 1_788_732_000;
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

fn config(more: &str) -> Anomaly {
    let text = format!("anomaly: {{time_zone: Europe/Berlin{more}}}");
    load(&text, &World::default()).expect("a configuration").anomaly
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).expect("a time")
}

fn request(key: &str, second: i64) -> Observation {
    Observation {
        at: at(second),
        key: Some(key.into()),
        team: Some("lab".into()),
        model: Some("llama".into()),
        address: Some("192.0.2.1".parse().expect("an address")),
        outcome: Outcome::Completed,
        is_open: false,
        is_refused_key: false,
        tokens: 700,
    }
}

fn refused(address: &str, second: i64) -> Observation {
    Observation {
        key: None,
        team: None,
        model: None,
        address: Some(address.parse().expect("an address")),
        outcome: Outcome::Rejected,
        is_refused_key: true,
        ..request("", second)
    }
}

/// Rule and subject of each alert.
fn told(alerts: &[Alert]) -> Vec<(Rule, String)> {
    alerts.iter().map(|alert| (alert.rule, alert.subject())).collect()
}

/// Random numbers that are the same every time.
struct Dice(u64);

impl Dice {
    /// Below `most`.
    fn roll(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % most
    }
}

const TEAMS: u64 = 5;
const KEYS: u64 = 40;

/// What an office of forty keys in five teams does in the hour that begins at `second`: people by day, services all
/// the time, a job every night, and a mishap now and then.
fn office_hour(second: i64, dice: &mut Dice) -> Vec<Observation> {
    let (day, hour) = (second / DAY, second % DAY / HOUR);
    let is_working_day = day % 7 < 5;
    let mut seen = Vec::new();
    for key in 0..KEYS {
        let busy = 10 + 3 * (key % 20);
        let most = match key % 8 {
            6 => 40,
            7 if hour == 2 => 80,
            7 => 1,
            _ if is_working_day && (8..18).contains(&hour) => busy * 2,
            _ => 2,
        };
        // The sum of two rolls has a middle.
        let count = (dice.roll(most + 1) + dice.roll(most + 1)) / 2;
        let span = if key % 8 == 7 { 600 } else { 3600 };
        for _ in 0..count {
            let name = format!("key{key}");
            let outcome = match dice.roll(1000) {
                0..10 => Outcome::Failed,
                10..12 => Outcome::Blocked,
                12..30 => Outcome::Cancelled,
                _ => Outcome::Completed,
            };
            seen.push(Observation {
                team: Some(format!("team{}", key % TEAMS).into()),
                model: Some(format!("model{}", (key + dice.roll(3)) % 6).into()),
                address: Some(IpAddr::from([198, 51, (key % 8) as u8, 1 + dice.roll(200) as u8])),
                tokens: 200 + dice.roll(1000),
                outcome,
                ..request(&name, second + dice.roll(span) as i64)
            });
        }
    }
    for _ in 0..dice.roll(4) {
        seen.push(refused("203.0.113.9", second + dice.roll(3600) as i64));
    }
    seen
}

/// Hours of the office, with what is added to them, as the detector sees them.
fn replay(
    detector: &mut Detector,
    hours: std::ops::Range<i64>,
    extra: &mut dyn FnMut(i64) -> Vec<Observation>,
) -> Vec<Alert> {
    let mut alerts = Vec::new();
    for hour in hours {
        let mut dice = Dice(hour as u64 * 7919);
        let mut seen = office_hour(hour * HOUR, &mut dice);
        seen.extend(extra(hour));
        seen.sort_by_key(|one| one.at);
        for one in &seen {
            alerts.extend(detector.observe(one));
        }
    }
    alerts
}

fn nothing(_: i64) -> Vec<Observation> {
    Vec::new()
}

#[test]
fn the_scripted_time_begins_on_a_monday_at_midnight() {
    let zone = jiff::tz::TimeZone::get("Europe/Berlin").expect("a zone");
    assert_eq!(at(0).to_zoned(zone).strftime("%A %H:%M").to_string(), "Monday 00:00");
}

#[test]
fn a_quiet_fortnight_raises_nothing() {
    let mut detector = Detector::new(config(""), at(0));
    let alerts = replay(&mut detector, 0..14 * 24, &mut nothing);
    assert_eq!(told(&alerts), [], "{alerts:#?}");
}

/// Five times what a key does in its busiest hour, a series of blocks, and a burst at three in the night.
fn bad_day(hour: i64) -> Vec<Observation> {
    let of = |key: &str, minute: i64, each: i64| {
        let key_number: u64 = key[3..].parse().expect("a number");
        Observation {
            team: Some(format!("team{}", key_number % TEAMS).into()),
            model: Some(format!("model{}", key_number % 6).into()),
            address: Some(IpAddr::from([198, 51, (key_number % 8) as u8, 9])),
            ..request(key, hour * HOUR + minute * 60 + each)
        }
    };
    match hour - 14 * 24 {
        10 => (0..400).map(|each| of("key4", 5, each)).collect(),
        14 => (0..6).map(|each| Observation { outcome: Outcome::Blocked, ..of("key9", each, 0) }).collect(),
        27 => (0..60).map(|each| of("key2", 20, each * 5)).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn a_spike_a_series_of_blocks_and_a_burst_at_night_raise_exactly_these_alerts() {
    let mut detector = Detector::new(config(""), at(0));
    let alerts = replay(&mut detector, 0..16 * 24, &mut bad_day);
    let want = [
        (Rule::UsageSpike, "key key4".to_owned()),
        (Rule::DlpBlocks, "key key9".to_owned()),
        (Rule::OffHours, "key key2".to_owned()),
    ];
    assert_eq!(told(&alerts), want, "{alerts:#?}");
    let spike = &alerts[0];
    assert!(
        spike.explanation.contains("requests since 10:00 (Europe/Berlin); usual in this hour"),
        "{spike:?}"
    );
    assert_eq!((spike.severity, spike.team.as_ref().map(TeamName::as_str)), (Severity::High, Some("team4")));
    assert!(alerts[2].explanation.starts_with("30 requests within 15 minutes outside"), "{:?}", alerts[2]);
}

/// So many requests of each of these keys in the first minutes of an hour.
fn burst(detector: &mut Detector, hour: i64, keys: i64, each: i64) -> Vec<Alert> {
    let requests =
        (0..each * keys).map(|number| request(&format!("k{}", number % keys), hour * HOUR + number / 8));
    requests.flat_map(|one| detector.observe(&one)).collect()
}

#[test]
fn a_key_that_asks_far_too_much_is_told_once_and_not_again_as_its_team() {
    let mut detector = Detector::new(config(""), at(0));
    let usual: Vec<_> = (0..4).flat_map(|day| burst(&mut detector, day * 24 + 10, 1, 50)).collect();
    assert_eq!(told(&usual), []);
    let spike = burst(&mut detector, 4 * 24 + 10, 1, 600);
    assert_eq!(told(&spike), [(Rule::UsageSpike, "key k0".to_owned())]);
    let quiet = request("k1", (4 * 24 + 10) * HOUR + 100);
    assert_eq!(told(&detector.observe(&quiet)), [], "whatever other keys of the team add");
}

#[test]
fn keys_that_together_ask_far_too_much_are_told_of_as_their_team() {
    let mut detector = Detector::new(config(""), at(0));
    let usual: Vec<_> = (0..4).flat_map(|day| burst(&mut detector, day * 24 + 10, 20, 10)).collect();
    assert_eq!(told(&usual), []);
    let spike = burst(&mut detector, 4 * 24 + 10, 20, 60);
    assert_eq!(told(&spike), [(Rule::UsageSpike, "team lab".to_owned())]);
    assert!(spike[0].explanation.starts_with("601 requests since 10:00"), "{}", spike[0].explanation);
}

#[test]
fn a_large_burst_at_night_is_told_once() {
    let mut detector = Detector::new(config(""), at(0));
    let usual: Vec<_> = (0..10).flat_map(|day| burst(&mut detector, day * 24 + 10, 1, 50)).collect();
    assert_eq!(told(&usual), []);
    let night = burst(&mut detector, 10 * 24 + 3, 1, 500);
    assert_eq!(told(&night), [(Rule::OffHours, "key k0".to_owned())], "{night:#?}");
}

#[test]
fn what_was_learnt_outlasts_a_restart() {
    let mut first = Detector::new(config(""), at(0));
    assert_eq!(told(&replay(&mut first, 0..13 * 24, &mut nothing)), []);
    let saved = first.save().expect("a text");
    let mut second = Detector::new(config(""), at(13 * DAY));
    second.restore(&saved).expect("what was saved");
    let alerts = replay(&mut second, 13 * 24..16 * 24, &mut bad_day);
    let rules: Vec<_> = alerts.iter().map(|alert| alert.rule).collect();
    assert_eq!(rules, [Rule::UsageSpike, Rule::DlpBlocks, Rule::OffHours], "{alerts:#?}");
}

#[test]
fn a_gateway_that_was_away_does_not_take_that_for_silence() {
    let mut first = Detector::new(config(""), at(0));
    replay(&mut first, 0..10 * 24, &mut nothing);
    let mut second = Detector::new(config(""), at(38 * DAY));
    second.restore(&first.save().expect("a text")).expect("what was saved");
    // The same office, four weeks later.
    let mut alerts = Vec::new();
    for hour in 10 * 24..14 * 24 {
        let mut seen = office_hour(hour * HOUR, &mut Dice(hour as u64 * 7919));
        seen.sort_by_key(|one| one.at);
        for one in seen {
            let later = one.at.checked_add(Duration::from_secs(28 * 86_400)).expect("a time");
            alerts.extend(second.observe(&Observation { at: later, ..one }));
        }
    }
    assert_eq!(told(&alerts), [], "{alerts:#?}");
}

#[test]
fn what_another_version_has_saved_is_not_taken_up() {
    let mut detector = Detector::new(config(""), at(0));
    let refusal = detector.restore("{\"version\": 999, \"keys\": 7}").expect_err("a refusal");
    assert!(matches!(refusal, Unreadable::Version(999)), "{refusal}");
    assert!(matches!(detector.restore("{"), Err(Unreadable::Damaged(_))));
}

#[test]
fn a_storm_of_refused_keys_is_told_once_per_network_and_cool_down() {
    let mut detector = Detector::new(config(""), at(0));
    let mut alerts = Vec::new();
    for second in 0..3 * HOUR {
        alerts.extend(detector.observe(&refused(&format!("203.0.113.{}", second % 200), second)));
        if second % 100 == 0 {
            alerts.extend(detector.observe(&refused("198.51.100.1", second)));
        }
    }
    let storm = (Rule::RefusedKeys, "source 203.0.113.0/24".to_owned());
    assert_eq!(told(&alerts), vec![storm; 3]);
    assert_eq!(alerts[0].at, at(49), "as soon as there are fifty");
}

#[test]
fn a_storm_of_refused_keys_from_many_networks_is_told_once() {
    let mut detector = Detector::new(config(""), at(0));
    let from = |number: i64| format!("10.{}.{}.1", number / 200 % 200, number % 200);
    let few: Vec<_> =
        (0..HOUR / 2).flat_map(|second| detector.observe(&refused(&from(second), 2 * second))).collect();
    assert_eq!(told(&few), [], "a hundred and fifty within five minutes, all over the world, are usual");
    let storm: Vec<_> = (0..HOUR)
        .flat_map(|second| {
            let loud = detector.observe(&refused("192.0.2.1", 2 * HOUR + second));
            [loud, detector.observe(&refused(&from(second), 2 * HOUR + second))].concat()
        })
        .collect();
    let subjects = ["source 192.0.2.0/24", "source many networks"];
    assert_eq!(told(&storm), subjects.map(|subject| (Rule::RefusedKeys, subject.to_owned())));
    assert!(storm[1].explanation.starts_with("200 requests from many networks"), "{}", storm[1].explanation);
}

#[test]
fn failures_are_told_of_a_team_when_they_are_many_and_much_of_what_it_asks() {
    let run = |fail_every: i64| {
        let mut detector = Detector::new(config(""), at(0));
        let mut alerts = Vec::new();
        for number in 0..300 {
            let failed = number % fail_every == 0;
            let outcome = if failed { Outcome::Failed } else { Outcome::Completed };
            alerts.extend(detector.observe(&Observation { outcome, ..request("a", 9 * HOUR + number) }));
        }
        told(&alerts)
    };
    assert_eq!(run(1), [(Rule::Errors, "team lab".to_owned())]);
    assert_eq!(run(4), [], "a quarter fails, which is less than half");
}

#[test]
fn where_nobody_needs_a_key_networks_are_told_apart_and_what_fails_is_told_of_everybody() {
    let mut detector = Detector::new(config(", learning_days: 2"), at(0));
    let open = |address: &str, second| Observation {
        key: None,
        team: None,
        is_open: true,
        address: Some(address.parse().expect("an address")),
        ..request("", second)
    };
    let mut alerts = Vec::new();
    for hour in 0..4 * 24 {
        for network in 0..4 {
            let address = format!("192.0.{network}.{}", hour % 200);
            alerts.extend(detector.observe(&open(&address, hour * HOUR + 60 * network)));
        }
    }
    assert_eq!(told(&alerts), []);
    let noon = 4 * DAY + 12 * HOUR;
    let seen = (0..200).flat_map(|second| detector.observe(&open("192.0.2.7", noon + second)));
    assert_eq!(told(&seen.collect::<Vec<_>>()), [(Rule::UsageSpike, "source 192.0.2.0/24".to_owned())]);
    let night = 4 * DAY + 23 * HOUR;
    let seen: Vec<_> =
        (0..40).flat_map(|second| detector.observe(&open("192.0.3.7", night + second))).collect();
    assert_eq!(told(&seen), [(Rule::OffHours, "source 192.0.3.0/24".to_owned())]);
    assert_eq!(seen[0].title, "Network 192.0.3.0/24 is busy outside working hours");
    let failed =
        |second| Observation { outcome: Outcome::Failed, ..open("192.0.1.1", night + HOUR + second) };
    let seen: Vec<_> = (0..30).flat_map(|second| detector.observe(&failed(second))).collect();
    assert_eq!(told(&seen)[0], (Rule::Errors, "source everybody".to_owned()));
    assert_eq!(seen[0].title, "Requests of everybody fail");
    let saved = detector.save().expect("a text");
    Detector::new(config(""), at(0)).restore(&saved).expect("the same");
}

#[test]
fn a_new_model_and_a_new_network_are_told_of_keys_that_are_known_long_enough() {
    let mut detector = Detector::new(config(""), at(0));
    let mut alerts = Vec::new();
    for day in 0..10 {
        alerts.extend(detector.observe(&request("a", day * DAY + 9 * HOUR)));
    }
    assert_eq!(told(&alerts), []);
    let odd = |second| Observation {
        model: Some("other".into()),
        address: Some("2001:db8::1".parse().expect("an address")),
        ..request("a", 10 * DAY + second)
    };
    let alerts: Vec<_> = (0..10).flat_map(|second| detector.observe(&odd(second))).collect();
    let key = "key a".to_owned();
    assert_eq!(told(&alerts), [(Rule::NewModel, key.clone()), (Rule::NewSource, key)]);
    assert!(alerts[0].explanation.contains("Model other") && alerts[1].explanation.contains("2001:db8::/48"));
    let young = detector.observe(&Observation { key: Some("b".into()), ..odd(20) });
    assert_eq!(told(&young), [], "everything is new about a new key");
}

#[test]
fn what_is_new_during_a_cool_down_is_told_after_it() {
    let mut detector = Detector::new(config(", learning_days: 0"), at(0));
    let with = |model: &str, minute: i64| Observation {
        model: Some(model.into()),
        ..request("a", 9 * HOUR + minute * 60)
    };
    let told_of = |alerts: Vec<Alert>| alerts.iter().filter(|alert| alert.rule == Rule::NewModel).count();
    let counts = [("x", 0), ("y", 1), ("y", 30), ("y", 61), ("y", 200), ("x", 300)]
        .map(|(model, minute)| told_of(detector.observe(&with(model, minute))));
    assert_eq!(counts, [1, 0, 0, 1, 0, 0]);
}

#[test]
fn a_rule_that_is_switched_off_tells_of_nothing() {
    for (rule, want) in [(", rules: {refused_keys: {enabled: false}}", 0), (", enabled: false", 0), ("", 1)] {
        let mut detector = Detector::new(config(rule), at(0));
        let storm = (0..60).flat_map(|second| detector.observe(&refused("203.0.113.1", second)));
        assert_eq!(storm.count(), want, "{rule}");
    }
}

#[test]
fn a_flood_of_networks_takes_no_more_memory_than_it_may() {
    let mut detector = Detector::new(config(""), at(0));
    for number in 0..20_000_u32 {
        let address = IpAddr::from(number.wrapping_mul(2_654_435_761).to_be_bytes());
        detector.observe(&refused(&address.to_string(), i64::from(number / 100)));
    }
    assert!(detector.sources.len() <= MOST_SOURCES);
}
