//! The rules: what a request adds to the history of its key, team and network, and what is unusual about it then.

use jiff::Timestamp;

use super::{
    Detector, KeyHistory, MANY, Observation, alert,
    clock::{self, Slot, hour_of, is_working_day},
    hours::{Hours, Lesson},
    is_within, tell,
    text::{number, span, title},
    who::Who,
};
use crate::{
    alert::{Alert, Rule},
    audit::Outcome,
    config::snapshot::Anomaly,
    network::Network,
};

/// Whether usage is unusual, and how to say so.
struct Spike {
    what: &'static str,
    seen: f64,
    usual: f64,
    deviation: f64,
    hours: u32,
    threshold: f64,
}

/// What an hour has more of than is usual for its like.
fn spike(hours: &Hours, slot: Slot, config: &Anomaly) -> Option<Spike> {
    let rule = &config.usage_spike;
    let usual = hours.usual(slot)?;
    let asked = [
        ("requests", hours.requests, u64::from(rule.min_requests), &usual.requests),
        ("tokens", hours.tokens, rule.min_tokens, &usual.tokens),
    ];
    asked.into_iter().find_map(|(what, count, least, mean)| {
        let threshold = mean.bound(rule.factor, rule.deviations);
        (count >= least && count as f64 > threshold).then(|| Spike {
            what,
            seen: count as f64,
            usual: mean.value(),
            deviation: mean.deviation(),
            hours: usual.seen,
            threshold: threshold.max(least as f64),
        })
    })
}

impl Spike {
    fn explanation(&self, since: &str, slot: Slot) -> String {
        let day = if is_working_day(slot) { "a working day" } else { "a day off" };
        format!(
            "{} {} since {since}; usual in this hour of {day}: {} ± {}, as learnt from {} such hours; the threshold is {}.",
            number(self.seen),
            self.what,
            number(self.usual),
            number(self.deviation),
            self.hours,
            number(self.threshold),
        )
    }
}

impl Detector {
    /// Somebody asked; whether it was far more than usual.
    pub(super) fn caller(
        &mut self,
        who: &Who,
        seen: &Observation,
        at: Timestamp,
        alerts: &mut Vec<Alert>,
    ) -> bool {
        let (config, local) = (&self.config, self.clock.local(at));
        let history = self.keys.of(who.name(), || KeyHistory { first: at, ..KeyHistory::default() });
        let mut found = Vec::new();
        let lesson = lesson(config, &self.clock, self.awake_since);
        history.hours.count(hour_of(at), seen.tokens, &lesson);

        let mut is_spike = false;
        if config.usage_spike.watch.enabled
            && let Some(spike) = spike(&history.hours, local.slot, config)
        {
            is_spike = true;
            found.extend(tell(&mut history.told, config, Rule::UsageSpike, at, || {
                let since = self.clock.beginning(hour_of(at));
                let title = title(format_args!("{who} asks far more than usual"));
                alert(config, Rule::UsageSpike, at, title, spike.explanation(&since, local.slot))
            }));
        }
        if !local.is_working {
            found.extend(history.off_hours(who, at, local, config));
        }
        if seen.outcome == Outcome::Blocked {
            found.extend(history.block(who, at, config));
        }
        found.extend(history.novelties(who, seen, at, config));
        alerts.extend(found.into_iter().map(|alert| who.on(alert)));
        is_spike
    }

    /// One of them asked.
    pub(super) fn together(
        &mut self,
        who: &Who,
        seen: &Observation,
        at: Timestamp,
        is_told_of_caller: bool,
        alerts: &mut Vec<Alert>,
    ) {
        let (config, local) = (&self.config, self.clock.local(at));
        let history = self.teams.of(who.name(), Default::default);
        let lesson = lesson(config, &self.clock, self.awake_since);
        history.hours.count(hour_of(at), seen.tokens, &lesson);
        let mut found = Vec::new();
        if is_told_of_caller {
            // One that asks too much is told of once, and not again as its team.
            history.told.insert(Rule::UsageSpike, at);
        } else if config.usage_spike.watch.enabled
            && let Some(spike) = spike(&history.hours, local.slot, config)
        {
            found.extend(tell(&mut history.told, config, Rule::UsageSpike, at, || {
                let since = self.clock.beginning(hour_of(at));
                let title = title(format_args!("{who} asks far more than usual"));
                alert(config, Rule::UsageSpike, at, title, spike.explanation(&since, local.slot))
            }));
        }
        let rule = &config.errors;
        let requests = history.requests.happens(at, rule.window);
        if rule.watch.enabled
            && seen.outcome == Outcome::Failed
            && history.failures.happens(at, rule.count, rule.window)
            && f64::from(rule.count) >= config.error_share * requests as f64
        {
            found.extend(tell(&mut history.told, config, Rule::Errors, at, || {
                let explanation = format!(
                    "{} of about {requests} requests failed within {}; the threshold is {} failures that are {:.0} % of the requests.",
                    rule.count,
                    span(rule.window),
                    rule.count,
                    config.error_share * 100.0,
                );
                alert(config, Rule::Errors, at, format!("Requests of {who} fail"), explanation)
            }));
        }
        alerts.extend(found.into_iter().map(|alert| who.on(alert)));
    }

    /// A key was refused.
    pub(super) fn refused(&mut self, seen: &Observation, at: Timestamp, alerts: &mut Vec<Alert>) {
        let rule = &self.config.refused_keys;
        let Some(address) = seen.address.filter(|_| rule.watch.enabled) else { return };
        let network = Network::from(address).to_string();
        let of_network = self.sources.of(&network, Default::default);
        let is_storm = of_network.refused.happens(at, rule.count, rule.window);
        let is_told = of_network.told.get(&Rule::RefusedKeys);
        // What is told of one network is no part of what many do together.
        let (history, source, count, is_storm) =
            if is_storm || is_told.is_some_and(|told| is_within(*told, at, rule.watch.cool_down)) {
                (of_network, network.as_str(), rule.count, is_storm)
            } else {
                let (many, count) = (&mut self.many_sources, rule.count.saturating_mul(MANY));
                let is_storm = many.refused.happens(at, count, rule.window);
                (many, MANY_NETWORKS, count, is_storm)
            };
        if !is_storm {
            return;
        }
        alerts.extend(tell(&mut history.told, &self.config, Rule::RefusedKeys, at, || {
            let explanation = format!(
                "{count} requests from {source} with keys that are unknown, revoked, expired or switched off within {}; that is the threshold.",
                span(rule.window),
            );
            let title = format!("Keys from {source} are refused again and again");
            Alert {
                source: Some(source.to_owned()),
                ..alert(&self.config, Rule::RefusedKeys, at, title, explanation)
            }
        }));
    }
}

/// What networks are called that do together what none of them does alone.
const MANY_NETWORKS: &str = "many networks";

fn lesson<'c>(config: &Anomaly, clock: &'c clock::Clock, awake_since: i64) -> Lesson<'c> {
    let rule = &config.usage_spike;
    Lesson { clock, awake_since, factor: rule.factor, deviations: rule.deviations }
}

impl KeyHistory {
    fn is_learning(&self, at: Timestamp, config: &Anomaly) -> bool {
        is_within(self.first, at, config.learning)
    }

    /// It is used when nobody works.
    fn off_hours(
        &mut self,
        who: &Who,
        at: Timestamp,
        local: clock::Local,
        config: &Anomaly,
    ) -> Option<Alert> {
        let rule = &config.off_hours;
        let is_often = self.off_hours.happens(at, rule.count, rule.window);
        // What comes every night is a job, and not a surprise.
        let usual = self.hours.usual_or_alike(local.slot);
        let is_usual = match usual {
            Some(usual) => {
                let spike = &config.usage_spike;
                self.hours.requests as f64 <= usual.requests.bound(spike.factor, spike.deviations)
            }
            None => self.is_learning(at, config),
        };
        // Far more than usual, at night: that is told of already.
        let told = self.told.get(&Rule::UsageSpike);
        let is_told = told.is_some_and(|told| is_within(*told, at, config.usage_spike.watch.cool_down));
        if !rule.watch.enabled || !is_often || is_usual || is_told {
            return None;
        }
        let usual = usual.map_or_else(
            || "nothing is known of this hour".to_owned(),
            |usual| format!("usual in this hour: {}", number(usual.requests.value())),
        );
        let alert = tell(&mut self.told, config, Rule::OffHours, at, || {
            let explanation = format!(
                "{} requests within {} outside working hours, which is the threshold; {usual}.",
                rule.count,
                span(rule.window),
            );
            alert(
                config,
                Rule::OffHours,
                at,
                title(format_args!("{who} is busy outside working hours")),
                explanation,
            )
        });
        if alert.is_some() {
            // And the other way round.
            self.told.insert(Rule::UsageSpike, at);
        }
        alert
    }

    /// A policy for sensitive data stopped it.
    fn block(&mut self, who: &Who, at: Timestamp, config: &Anomaly) -> Option<Alert> {
        let rule = &config.dlp_blocks;
        if !rule.watch.enabled || !self.blocks.happens(at, rule.count, rule.window) {
            return None;
        }
        tell(&mut self.told, config, Rule::DlpBlocks, at, || {
            let explanation = format!(
                "Policies for sensitive data stopped {} requests within {}; that is the threshold. Their incidents say what was found.",
                rule.count,
                span(rule.window),
            );
            let title = title(format_args!("{who} is stopped for sensitive data again and again"));
            alert(config, Rule::DlpBlocks, at, title, explanation)
        })
    }

    /// It asks for something new, or from somewhere new. What was told of is known; what was not, because the same
    /// was told lately, is told of later.
    fn novelties(&mut self, who: &Who, seen: &Observation, at: Timestamp, config: &Anomaly) -> Vec<Alert> {
        let is_learning = self.is_learning(at, config);
        let age = (at.as_second() - self.first.as_second()) / 86_400;
        let mut alerts = Vec::new();
        if let Some(model) = &seen.model
            && !self.models.sees(model.as_str(), at)
        {
            let told = (!is_learning && config.new_model.enabled).then(|| {
                tell(&mut self.told, config, Rule::NewModel, at, || {
                    let explanation = format!(
                        "Model {model}; in {age} days {who} has asked for {} others, and never for this one.",
                        self.models.len(),
                    );
                    alert(
                        config,
                        Rule::NewModel,
                        at,
                        title(format_args!("{who} asks for a new model")),
                        explanation,
                    )
                })
            });
            if told.as_ref().is_none_or(Option::is_some) {
                self.models.add(model.as_str().to_owned(), at);
            }
            alerts.extend(told.flatten());
        }
        if let (Some(network), Who::Key(..)) = (seen.address.map(Network::from), who)
            && !self.networks.sees(&network, at)
        {
            let told = (!is_learning && config.new_source.enabled).then(|| {
                tell(&mut self.told, config, Rule::NewSource, at, || {
                    let explanation = format!(
                        "Network {network}; in {age} days {who} was used from {} others, and never from this one.",
                        self.networks.len(),
                    );
                    let title = title(format_args!("{who} is used from a new network"));
                    let source = Some(network.to_string());
                    Alert { source, ..alert(config, Rule::NewSource, at, title, explanation) }
                })
            });
            if told.as_ref().is_none_or(Option::is_some) {
                self.networks.add(network, at);
            }
            alerts.extend(told.flatten());
        }
        alerts
    }
}
