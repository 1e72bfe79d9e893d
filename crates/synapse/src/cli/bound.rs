//! Flags that say what a key is bound to and what a key or a team may spend, for making and for changing
//! one; and the same as people read it.

use std::{fs, path::Path, str::FromStr};

use anyhow::{Context, bail};
use clap::{ArgGroup, Args, ValueEnum};
use synapse_core::{
    binding::{Binding, BindingChange, Change, LimitsChange, Unscannable},
    config::snapshot::IpNet,
    id::{ClassName, PolicyName},
    limits::{Limits, Money, RequestLimit},
    operation::Operation,
};
use synapse_gateway::inspect::policies::Policies;

use super::{environment::BINDING_FLAGS, location::StoreLocation, output::Output};

/// What a key is bound to.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = BINDING_FLAGS)]
pub(super) struct BindingArgs {
    /// An operation that the key may be used for, such as chat or embeddings; repeat it for more. Default: all
    #[arg(long = "operation", value_name = "NAME", value_delimiter = ',', value_parser = parse_operation)]
    operations: Vec<Operation>,
    /// The system prompt that stands in place of the caller's: a text, or @FILE
    #[arg(long, value_name = "TEXT|@FILE")]
    system_prompt: Option<PromptSource>,
    /// How sensitive its traffic is, by one of the configuration's `data_classes`. Default: the most sensitive
    #[arg(long, value_name = "CLASS")]
    data_class: Option<ClassName>,
    /// The policy for sensitive data in prompts and replies. Default: the data class's
    #[arg(long, value_name = "POLICY")]
    dlp_policy: Option<PolicyName>,
    /// What happens to images, audio and files that cannot be searched for sensitive data. Default: on_prem
    #[arg(long, value_name = "WHAT", value_parser = parse_unscannable)]
    unscannable: Option<Unscannable>,
    /// A network that callers may come from, such as 10.0.0.0/8; repeat it for more. Default: any
    #[arg(long = "network", value_name = "CIDR", value_delimiter = ',', value_parser = parse_network)]
    networks: Vec<IpNet>,
    /// The most tokens of a reply
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    /// The temperatures that are allowed, such as 0..1, ..0.7 or 0.2..; others are moved into them
    #[arg(long, value_name = "MIN..MAX")]
    temperature: Option<Range>,
    /// Whether tools may be offered to the model
    #[arg(long, value_name = "yes|no")]
    tools: Option<YesNo>,
}

/// The arguments of [`BindingArgs`].
pub(super) const BINDING: [&str; 9] = [
    "operations",
    "system_prompt",
    "data_class",
    "dlp_policy",
    "unscannable",
    "networks",
    "max_tokens",
    "temperature",
    "tools",
];

/// The arguments of [`LimitArgs`].
pub(super) const LIMITS: [&str; 6] =
    ["requests", "tokens_per_minute", "tokens_per_day", "concurrent", "cost_per_day", "cost_per_month"];

/// These arguments as a group of which a change needs at least one.
pub(super) fn changes(arguments: &[&[&'static str]]) -> ArgGroup {
    ArgGroup::new("changes").args(arguments.concat()).required(true).multiple(true)
}

/// What a key or a team may spend.
#[derive(Args, Debug, Default)]
#[command(next_help_heading = BINDING_FLAGS)]
pub(super) struct LimitArgs {
    /// Requests within a stretch of time, such as 100/60s or 1000/1h
    #[arg(long, value_name = "COUNT/SPAN", value_parser = parse_requests)]
    requests: Option<RequestLimit>,
    /// Tokens of prompts and replies within a minute
    #[arg(long, value_name = "N")]
    tokens_per_minute: Option<u64>,
    /// Tokens of prompts and replies within a day (UTC)
    #[arg(long, value_name = "N")]
    tokens_per_day: Option<u64>,
    /// Requests at once
    #[arg(long, value_name = "N")]
    concurrent: Option<u32>,
    /// Money within a day (UTC), in the currency of the price table
    #[arg(long, value_name = "AMOUNT")]
    cost_per_day: Option<Money>,
    /// Money within a calendar month (UTC)
    #[arg(long, value_name = "AMOUNT")]
    cost_per_month: Option<Money>,
}

/// What `--clear` takes away from a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum KeyField {
    Name,
    Expires,
    Operation,
    SystemPrompt,
    DataClass,
    DlpPolicy,
    Unscannable,
    Network,
    MaxTokens,
    Temperature,
    Tools,
    Requests,
    TokensPerMinute,
    TokensPerDay,
    Concurrent,
    CostPerDay,
    CostPerMonth,
}

/// What `--clear` takes away from a team.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TeamField {
    Requests,
    TokensPerMinute,
    TokensPerDay,
    Concurrent,
    CostPerDay,
    CostPerMonth,
}

impl From<TeamField> for KeyField {
    fn from(field: TeamField) -> Self {
        match field {
            TeamField::Requests => Self::Requests,
            TeamField::TokensPerMinute => Self::TokensPerMinute,
            TeamField::TokensPerDay => Self::TokensPerDay,
            TeamField::Concurrent => Self::Concurrent,
            TeamField::CostPerDay => Self::CostPerDay,
            TeamField::CostPerMonth => Self::CostPerMonth,
        }
    }
}

/// Fields that are to be cleared.
pub(super) struct Cleared(pub(super) Vec<KeyField>);

impl Cleared {
    /// The change of a field with this new value, if there is one.
    ///
    /// # Errors
    /// When it is to be set and cleared at once.
    pub(super) fn or_set<T>(&self, field: KeyField, value: Option<T>) -> anyhow::Result<Change<T>> {
        match (value, self.0.contains(&field)) {
            (Some(_), true) => {
                let name = field.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned());
                bail!("--{name} and --clear {name} contradict each other; leave one out")
            }
            (None, true) => Ok(Some(None)),
            (value, false) => Ok(value.map(Some)),
        }
    }
}

impl BindingArgs {
    /// Checks that the configuration has what is named. Where none is given it cannot be told, and that is said.
    pub(super) fn check_names(&self, location: &StoreLocation, output: Output) -> anyhow::Result<()> {
        let named = [
            ("data class", self.data_class.as_ref().map(ClassName::as_str)),
            ("policy for sensitive data", self.dlp_policy.as_ref().map(PolicyName::as_str)),
        ];
        if named.iter().all(|(_, name)| name.is_none()) {
            return Ok(());
        }
        let snapshot = location.snapshot()?;
        let policies = Policies::compile(&snapshot.dlp)?;
        let classes = snapshot.data_classes.iter().map(|class| class.name.as_str()).collect();
        for ((what, name), known) in named.into_iter().zip([classes, policies.names()]) {
            match name.filter(|name| !known.contains(name)) {
                None => {}
                Some(name) if location.config.is_some() => {
                    bail!("the configuration has no {what} `{name}`; known: {}", known.join(", "))
                }
                Some(name) => output.note(&format!(
                    "The gateway's configuration must have the {what} `{name}`; with --config FILE that is checked."
                ))?,
            }
        }
        Ok(())
    }

    /// The change that the flags stand for.
    pub(super) fn change(self, limits: LimitArgs, cleared: &Cleared) -> anyhow::Result<BindingChange> {
        let some = |list: Vec<Operation>| (!list.is_empty()).then_some(list);
        let prompt = self.system_prompt.map(PromptSource::read).transpose()?;
        Ok(BindingChange {
            operations: cleared.or_set(KeyField::Operation, some(self.operations))?,
            system_prompt: cleared.or_set(KeyField::SystemPrompt, prompt)?,
            data_class: cleared.or_set(KeyField::DataClass, self.data_class)?,
            dlp_policy: cleared.or_set(KeyField::DlpPolicy, self.dlp_policy)?,
            unscannable: cleared.or_set(KeyField::Unscannable, self.unscannable)?,
            networks: cleared
                .or_set(KeyField::Network, Some(self.networks).filter(|list| !list.is_empty()))?,
            max_tokens: cleared.or_set(KeyField::MaxTokens, self.max_tokens)?,
            temperature: cleared.or_set(KeyField::Temperature, self.temperature.map(|range| range.0))?,
            tools: cleared.or_set(KeyField::Tools, self.tools.map(|answer| answer == YesNo::Yes))?,
            limits: limits.change(cleared)?,
        })
    }
}

impl LimitArgs {
    /// The change that the flags stand for.
    pub(super) fn change(self, cleared: &Cleared) -> anyhow::Result<LimitsChange> {
        Ok(LimitsChange {
            requests: cleared.or_set(KeyField::Requests, self.requests)?,
            tokens_per_minute: cleared.or_set(KeyField::TokensPerMinute, self.tokens_per_minute)?,
            tokens_per_day: cleared.or_set(KeyField::TokensPerDay, self.tokens_per_day)?,
            concurrent: cleared.or_set(KeyField::Concurrent, self.concurrent)?,
            cost_per_day: cleared.or_set(KeyField::CostPerDay, self.cost_per_day)?,
            cost_per_month: cleared.or_set(KeyField::CostPerMonth, self.cost_per_month)?,
        })
    }
}

/// A system prompt, or where it is.
#[derive(Clone, Debug)]
struct PromptSource(String);

impl FromStr for PromptSource {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl PromptSource {
    fn read(self) -> anyhow::Result<String> {
        let Some(path) = self.0.strip_prefix('@') else { return Ok(self.0) };
        let text = fs::read_to_string(Path::new(path));
        let text = text.with_context(|| format!("--system-prompt: cannot read {path}"))?;
        Ok(text.trim_end_matches(['\n', '\r']).to_owned())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum YesNo {
    Yes,
    No,
}

/// A least and a greatest temperature.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Range((Option<f64>, Option<f64>));

impl FromStr for Range {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const HELP: &str = "expected a range such as 0..1, ..0.7 or 0.2..";
        let (min, max) = text.split_once("..").ok_or(HELP)?;
        let bound = |text: &str| match text.trim() {
            "" => Ok(None),
            number => number.parse().map(Some).map_err(|_| HELP),
        };
        let range = (bound(min)?, bound(max)?);
        if range == (None, None) { Err(HELP) } else { Ok(Self(range)) }
    }
}

fn parse_operation(text: &str) -> Result<Operation, String> {
    let known = || Operation::ALL.map(Operation::name).join(", ");
    Operation::from_name(text).ok_or_else(|| format!("expected one of {}", known()))
}

fn parse_unscannable(text: &str) -> Result<Unscannable, &'static str> {
    let all = [Unscannable::Allow, Unscannable::OnPrem, Unscannable::Block];
    all.into_iter().find(|known| known.name() == text).ok_or("expected allow, on_prem or block")
}

fn parse_network(text: &str) -> Result<IpNet, &'static str> {
    IpNet::parse(text).ok_or("expected a network such as 10.0.0.0/8, or an address")
}

fn parse_requests(text: &str) -> Result<RequestLimit, &'static str> {
    const HELP: &str = "expected a count and a stretch of time, such as 100/60s or 1000/1h";
    let (count, span) = text.split_once('/').ok_or(HELP)?;
    let span = super::time::parse_duration(span).map_err(|_| HELP)?;
    if span.subsec_nanos() > 0 {
        return Err("the stretch of time is a whole number of seconds");
    }
    let window_s = span.as_secs().try_into().map_err(|_| HELP)?;
    Ok(RequestLimit { count: count.parse().map_err(|_| HELP)?, window_s })
}

/// What a binding says, one labelled value a line; nothing where it says nothing.
pub(super) fn describe(binding: &Binding) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let mut line = |label, value: Option<String>| lines.extend(value.map(|value| (label, value)));
    let named = |list: &Vec<Operation>| list.iter().map(|op| op.name()).collect::<Vec<_>>().join(", ");
    line("operations", binding.operations.as_ref().map(named));
    line("data class", binding.data_class.as_ref().map(ToString::to_string));
    line("dlp policy", binding.dlp_policy.as_ref().map(ToString::to_string));
    let unscannable = Some(binding.unscannable).filter(|what| *what != Unscannable::default());
    line("unscannable", unscannable.map(|what| what.name().to_owned()));
    let networks = binding.networks.iter().map(ToString::to_string).collect::<Vec<_>>();
    line("networks", Some(networks.join(", ")).filter(|text| !text.is_empty()));
    let parameters = &binding.parameters;
    line("max tokens", parameters.max_tokens.map(|most| most.to_string()));
    let end = |bound: Option<f64>| bound.map_or_else(String::new, |at| at.to_string());
    let (min, max) = (parameters.min_temperature, parameters.max_temperature);
    line("temperature", min.or(max).map(|_| format!("{}..{}", end(min), end(max))));
    line("tools", parameters.tools.map(|may| if may { "yes" } else { "no" }.to_owned()));
    lines.extend(describe_limits(&binding.limits));
    if let Some(prompt) = &binding.system_prompt {
        lines.push(("system prompt", format!("version {}: {}", prompt.version, prompt.text)));
    }
    lines
}

/// The same of limits.
pub(super) fn describe_limits(limits: &Limits) -> Vec<(&'static str, String)> {
    let lines = [
        ("requests", limits.requests.map(|limit| format!("{}/{}s", limit.count, limit.window_s))),
        ("tokens per minute", limits.tokens_per_minute.map(|most| most.to_string())),
        ("tokens per day", limits.tokens_per_day.map(|most| most.to_string())),
        ("concurrent", limits.concurrent.map(|most| most.to_string())),
        ("cost per day", limits.cost_per_day.map(|most| most.to_string())),
        ("cost per month", limits.cost_per_month.map(|most| most.to_string())),
    ];
    lines.into_iter().filter_map(|(label, value)| Some((label, value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_may_be_open_at_one_end() {
        for (text, range) in
            [("0..1", (Some(0.0), Some(1.0))), ("..0.7", (None, Some(0.7))), ("0.2..", (Some(0.2), None))]
        {
            assert_eq!(text.parse(), Ok(Range(range)), "{text}");
        }
        for bad in ["", "..", "1", "a..b"] {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
    }

    #[test]
    fn requests_are_a_count_within_a_span() {
        assert_eq!(parse_requests("100/60s"), Ok(RequestLimit { count: 100, window_s: 60 }));
        assert_eq!(parse_requests("1000/1h"), Ok(RequestLimit { count: 1000, window_s: 3600 }));
        for bad in ["100", "100/", "x/60s", "1/1500ms", "-1/60s"] {
            assert!(parse_requests(bad).is_err(), "{bad}");
        }
    }
}
