//! What counts as unusual, and webhooks: time zones, hours, URLs, secrets.

use std::time::Duration;

use jiff::{
    civil::{Date, Weekday},
    tz::TimeZone,
};
use secrecy::ExposeSecret;

use super::{Check, Unique, raw, seconds};
use crate::{
    alert::{Rule, Severity},
    config::snapshot::{Anomaly, Calendar, Repeated, UsageSpike, Watch, Webhook, WebhookFormat},
};

pub(super) fn anomaly(raw: &raw::Anomaly, check: &mut Check<'_>) -> Anomaly {
    let rules = &raw.rules;
    macro_rules! watch {
        ($rule:ident) => {
            Watch {
                enabled: rules.$rule.enabled,
                severity: severity(rules.$rule.severity),
                cool_down: minutes(rules.$rule.cool_down_m),
            }
        };
    }
    macro_rules! repeated {
        ($rule:ident) => {
            Repeated { watch: watch!($rule), count: rules.$rule.count, window: minutes(rules.$rule.window_m) }
        };
    }
    Anomaly {
        enabled: raw.enabled,
        calendar: calendar(raw, check),
        learning: Duration::from_secs(u64::from(raw.learning_days) * 86_400),
        usage_spike: UsageSpike {
            watch: watch!(usage_spike),
            deviations: rules.usage_spike.deviations,
            factor: rules.usage_spike.factor,
            min_requests: rules.usage_spike.min_requests,
            min_tokens: rules.usage_spike.min_tokens,
        },
        off_hours: repeated!(off_hours),
        dlp_blocks: repeated!(dlp_blocks),
        new_model: watch!(new_model),
        new_source: watch!(new_source),
        refused_keys: repeated!(refused_keys),
        errors: repeated!(errors),
        error_share: rules.errors.share,
    }
}

fn minutes(number: f64) -> Duration {
    seconds(number * 60.0)
}

fn severity(raw: raw::AlertSeverity) -> Severity {
    match raw {
        raw::AlertSeverity::Low => Severity::Low,
        raw::AlertSeverity::Medium => Severity::Medium,
        raw::AlertSeverity::High => Severity::High,
        raw::AlertSeverity::Critical => Severity::Critical,
    }
}

fn calendar(raw: &raw::Anomaly, check: &mut Check<'_>) -> Calendar {
    let time_zone = TimeZone::get(&raw.time_zone).unwrap_or_else(|_| {
        let message = "is not the name of a time zone; write one such as `Europe/Berlin` or `UTC`";
        check.report("/anomaly/time_zone", message);
        TimeZone::UTC
    });
    let hours = &raw.working_hours;
    let mut minute = |pointer: &str, text: &str| {
        minute_of_day(text).unwrap_or_else(|| {
            check.report(pointer, "is not a time of day; write it such as `07:30`");
            0
        })
    };
    let from = minute("/anomaly/working_hours/from", &hours.from);
    let to = minute("/anomaly/working_hours/to", &hours.to);
    if from >= to && minute_of_day(&hours.from).is_some() && minute_of_day(&hours.to).is_some() {
        check.report("/anomaly/working_hours/to", "must be later than `from`");
    }
    let mut holidays = Vec::new();
    for (at, day) in raw.holidays.iter().enumerate() {
        match day.parse::<Date>() {
            Ok(date) => holidays.push(date),
            Err(_) => {
                check.report(
                    &format!("/anomaly/holidays/{at}"),
                    "is not a day; write it such as `2026-12-25`",
                );
            }
        }
    }
    let days = hours.days.iter().map(|day| weekday(*day)).collect();
    Calendar { time_zone, minutes: (from, to), days, holidays }
}

/// `HH:MM`, up to `24:00`.
fn minute_of_day(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |digits: &str| {
        let fine = (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        digits.parse::<u16>().ok().filter(|_| fine)
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let total = hours * 60 + minutes;
    (minutes < 60 && total <= 24 * 60).then_some(total)
}

fn weekday(raw: raw::Day) -> Weekday {
    match raw {
        raw::Day::Mon => Weekday::Monday,
        raw::Day::Tue => Weekday::Tuesday,
        raw::Day::Wed => Weekday::Wednesday,
        raw::Day::Thu => Weekday::Thursday,
        raw::Day::Fri => Weekday::Friday,
        raw::Day::Sat => Weekday::Saturday,
        raw::Day::Sun => Weekday::Sunday,
    }
}

pub(super) fn webhooks(raw: raw::Alerts, check: &mut Check<'_>) -> Vec<Webhook> {
    let mut names = Unique::default();
    let mut webhooks = Vec::with_capacity(raw.webhooks.len());
    for (at, webhook) in raw.webhooks.into_iter().enumerate() {
        let pointer = format!("/alerts/webhooks/{at}");
        // What is missing was reported where it was read.
        let (Some(name), Some(url)) = (webhook.name, webhook.url) else { continue };
        check.name(&format!("{pointer}/name"), &name);
        names.claim(&name, &format!("{pointer}/name"), check);
        let format = match webhook.format {
            raw::WebhookFormat::Generic => WebhookFormat::Generic,
            raw::WebhookFormat::Slack => WebhookFormat::Slack,
            raw::WebhookFormat::Teams => WebhookFormat::Teams,
        };
        if format == WebhookFormat::Generic && webhook.secret.is_none() {
            let broken = check.places.is_broken(&format!("{pointer}/secret"));
            if !broken {
                let message =
                    "is required for `format: generic`; `echo whsec_$(openssl rand -base64 32)` makes one";
                check.report(&format!("{pointer}/secret"), message);
            }
        }
        let secret = webhook.secret.map(|secret| check.signing_secret(&format!("{pointer}/secret"), secret));
        let url = check.outside_url(&format!("{pointer}/url"), url.0.expose_secret(), webhook.allow_private);
        let Some(url) = url else { continue };
        webhooks.push(Webhook {
            name,
            url,
            secret,
            format,
            rules: webhook.rules.into_iter().map(rule).collect(),
            min_severity: severity(webhook.min_severity),
            allow_private: webhook.allow_private,
        });
    }
    webhooks
}

fn rule(raw: raw::RuleName) -> Rule {
    match raw {
        raw::RuleName::UsageSpike => Rule::UsageSpike,
        raw::RuleName::OffHours => Rule::OffHours,
        raw::RuleName::DlpBlocks => Rule::DlpBlocks,
        raw::RuleName::NewModel => Rule::NewModel,
        raw::RuleName::NewSource => Rule::NewSource,
        raw::RuleName::RefusedKeys => Rule::RefusedKeys,
        raw::RuleName::Errors => Rule::Errors,
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        alert::{Rule, Severity},
        config::{load, snapshot::Snapshot, testing::World},
    };

    fn mistakes(text: &str) -> Vec<String> {
        let problems = load(text, &World::default()).err().unwrap_or_default();
        problems.iter().map(|problem| format!("{}: {}", problem.place.path, problem.message)).collect()
    }

    fn loaded(text: &str) -> Snapshot {
        load(text, &World::default()).unwrap_or_else(|problems| panic!("{problems:#?}"))
    }

    /// Of 24 zero bytes.
    const SECRET: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    #[test]
    fn a_webhook_is_told_of_what_it_asks_for() {
        let text = format!(
            "alerts: {{webhooks: [{{name: w, url: 'https://h.example/a?b=c', secret: {SECRET}, rules: [errors], min_severity: high}}]}}"
        );
        let snapshot = loaded(&text);
        let webhook = &snapshot.webhooks[0];
        assert!(webhook.wants(Rule::Errors, Severity::Critical));
        assert!(
            !webhook.wants(Rule::Errors, Severity::Low) && !webhook.wants(Rule::OffHours, Severity::High)
        );
        assert_eq!((webhook.url.target.as_str(), webhook.url.port), ("/a?b=c", 443));
    }

    #[test]
    fn neither_the_url_nor_the_secret_of_a_webhook_is_ever_shown() {
        let text = format!(
            "alerts: {{webhooks: [{{name: w, url: 'https://h.example/hidden', secret: {SECRET}, format: slack}}]}}"
        );
        let shown = format!("{:?}", loaded(&text).webhooks);
        assert!(!shown.contains("hidden") && !shown.contains("AAAA"), "{shown}");
    }

    #[test]
    fn what_is_wrong_with_a_webhook_is_told_by_field() {
        for (webhook, want) in [
            ("name: w, url: 'https://h/'", "secret: is required for `format: generic`"),
            ("name: w, url: 'https://h/', secret: short", "secret: is not `whsec_`"),
            ("name: w, url: 'https://h/', secret: whsec_AAAA", "secret: is not `whsec_`"),
            ("name: w, url: 'http://h/', format: slack", "url: must begin with `https://`"),
            ("name: w, url: 'ftp://h/', format: slack", "url: must begin with `https://`"),
            ("name: w, url: 'https://u:p@h/', format: slack", "url: must not hold a user"),
            ("url: 'https://h/', format: slack", "name: is required"),
            ("name: w, format: slack", "url: is required"),
            ("name: w, url: 'https://h/', format: slack, rules: [spikes]", "rules[0]: `spikes` is none of"),
        ] {
            let found = mistakes(&format!("alerts: {{webhooks: [{{{webhook}}}]}}"));
            let want = format!("alerts.webhooks[0].{want}");
            assert!(found.len() == 1 && found[0].starts_with(&want), "{webhook}: {found:?}");
        }
    }

    #[test]
    fn a_house_may_have_webhooks_without_tls() {
        let text = "alerts: {webhooks: [{name: w, url: 'http://[fd00::1]:8000', format: teams, allow_private: true}]}";
        assert_eq!(loaded(text).webhooks[0].url.authority(), "[fd00::1]:8000");
    }

    #[test]
    fn what_is_wrong_with_a_calendar_is_told_by_field() {
        for (calendar, want) in [
            ("time_zone: Mars/Olympus", "time_zone: is not the name of a time zone"),
            ("working_hours: {from: '7'}", "working_hours.from: is not a time of day"),
            ("working_hours: {to: '24:01'}", "working_hours.to: is not a time of day"),
            ("working_hours: {from: '18:00', to: '08:00'}", "working_hours.to: must be later than `from`"),
            ("holidays: ['25.12.2026']", "holidays[0]: is not a day"),
            ("rules: {errors: {share: 2}}", "rules.errors.share: must be between 0 and 1"),
        ] {
            let found = mistakes(&format!("anomaly: {{{calendar}}}"));
            let want = format!("anomaly.{want}");
            assert!(found.len() == 1 && found[0].starts_with(&want), "{calendar}: {found:?}");
        }
    }

    #[test]
    fn time_zones_are_known_without_the_systems_help() {
        let calendar = loaded("anomaly: {time_zone: America/New_York}").anomaly.calendar;
        assert_eq!(calendar.time_zone.iana_name(), Some("America/New_York"));
    }
}
