//! What keys of the configuration are bound to, and the classes of data.

use std::sync::Arc;

use secrecy::ExposeSecret;

use super::{Check, Names, Unique, access::Known, raw};
use crate::{
    binding::{Binding, ParameterCaps, SystemPrompt, Unscannable},
    config::snapshot::{IpNet, Locality},
    data_class::{DataClass, DataClasses},
    id::{ClassName, PolicyName},
    limits::{Limits, Money, RequestLimit},
    operation::Operation,
};

/// The classes, and the names of all of them.
pub(super) fn classes(
    raw: Vec<raw::DataClass>,
    policies: &Names,
    check: &mut Check<'_>,
) -> (DataClasses, Names) {
    let incomplete = check.places.is_broken("/data_classes") || raw.iter().any(|class| class.name.is_none());
    let mut unique = Unique::default();
    let mut classes = Vec::<DataClass>::new();
    for (index, class) in raw.into_iter().enumerate() {
        let at = format!("/data_classes/{index}");
        let (Some(name), Some(localities), Some(policy)) = (class.name, class.localities, class.dlp_policy)
        else {
            continue;
        };
        unique.claim(&name, &format!("{at}/name"), check);
        let class = DataClass {
            name: name.into(),
            localities: localities.into_iter().map(Locality::from).collect(),
            dlp_policy: policy.into(),
        };
        if !class.name.is_well_formed() {
            check.report(&format!("{at}/name"), WORD_RULE);
        }
        known_policy(class.dlp_policy.as_str(), &at, policies, check);
        if let Some(before) = classes.last()
            && class.localities.iter().any(|locality| !before.allows(*locality))
        {
            let message = format!("goes where the less sensitive `{}` may not", before.name);
            let problem = check.problem(&format!("{at}/localities"), message);
            check.problems.push(problem.hint("list the classes from the least to the most sensitive"));
        }
        classes.push(class);
    }
    let classes = DataClasses::new(classes);
    let known = classes.iter().map(|class| class.name.to_string()).collect();
    (classes, Names { kind: "data class", known, incomplete })
}

fn known_policy(name: &str, at: &str, policies: &Names, check: &mut Check<'_>) {
    let unknown = policies.problem_with(name, &format!("{at}/dlp_policy"), check);
    check.problems.extend(unknown);
}

const WORD_RULE: &str = "must be ASCII letters, digits, `_`, `-` and `.` only";

/// A binding that stands at `at`.
pub(super) fn binding(raw: raw::Binding, at: &str, names: &Known<'_>, check: &mut Check<'_>) -> Arc<Binding> {
    if let Some(name) = &raw.data_class {
        let pointer = format!("{at}/data_class");
        let unknown = names.classes.problem_with(name, &pointer, check);
        check.problems.extend(unknown);
    }
    if let Some(name) = &raw.dlp_policy {
        known_policy(name, at, names.policies, check);
    }
    let prompt = |text: raw::Secret| SystemPrompt::new(1, text.0.expose_secret());
    let binding = Binding {
        operations: raw.operations.and_then(|names| operations(&names, at, check)),
        system_prompt: raw.system_prompt.map(|text| Arc::new(prompt(text))),
        data_class: raw.data_class.map(ClassName::from),
        dlp_policy: raw.dlp_policy.map(PolicyName::from),
        unscannable: match raw.unscannable {
            raw::Unscannable::Allow => Unscannable::Allow,
            raw::Unscannable::OnPrem => Unscannable::OnPrem,
            raw::Unscannable::Block => Unscannable::Block,
        },
        networks: networks(&raw.networks, &format!("{at}/networks"), check),
        parameters: ParameterCaps {
            max_tokens: raw.parameters.max_tokens,
            min_temperature: raw.parameters.min_temperature,
            max_temperature: raw.parameters.max_temperature,
            tools: raw.parameters.tools,
        },
        limits: limits(raw.limits, &format!("{at}/limits"), check),
    };
    if let Err(unfit) = binding.check() {
        check.report(&format!("{at}/{}", unfit.field.replace('.', "/")), unfit.rule);
    }
    Arc::new(binding)
}

/// The operations of these names, if all of them can be read.
fn operations(names: &[String], at: &str, check: &mut Check<'_>) -> Option<Vec<Operation>> {
    let mut known = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        match Operation::from_name(name) {
            Some(operation) => known.push(operation),
            None => {
                let all = Operation::ALL.map(Operation::name);
                let message = format!("an operation is one of {}", all.join(", "));
                let problem = check.problem(&format!("{at}/operations/{index}"), message);
                check.problems.push(problem.nearest(name, all));
            }
        }
    }
    (known.len() == names.len()).then_some(known)
}

/// Networks in CIDR notation.
pub(super) fn networks(raw: &[String], at: &str, check: &mut Check<'_>) -> Vec<IpNet> {
    let mut networks = Vec::with_capacity(raw.len());
    for (index, text) in raw.iter().enumerate() {
        match IpNet::parse(text) {
            Some(network) => networks.push(network),
            None => check
                .report(&format!("{at}/{index}"), "is not a network such as `10.0.0.0/8`, nor an address"),
        }
    }
    networks
}

fn limits(raw: raw::KeyLimits, at: &str, check: &mut Check<'_>) -> Limits {
    let requests =
        raw.requests.and_then(|limit| Some(RequestLimit { count: limit.count?, window_s: limit.window_s }));
    let mut money = |key: &str, text: Option<String>| {
        let amount = text?.parse::<Money>();
        amount.map_err(|error| check.report(&format!("{at}/{key}"), error.to_string())).ok()
    };
    Limits {
        requests,
        tokens_per_minute: raw.tokens_per_minute,
        tokens_per_day: raw.tokens_per_day,
        concurrent: raw.concurrent,
        cost_per_day: money("cost_per_day", raw.cost_per_day),
        cost_per_month: money("cost_per_month", raw.cost_per_month),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Problem, load, snapshot::Snapshot, testing::World};

    fn loaded(text: &str) -> Snapshot {
        let world = World::default().file("/prompt.txt", "Be brief.\n");
        load(text, &world).unwrap_or_else(|problems| panic!("{problems:#?}"))
    }

    fn problem(text: &str) -> Problem {
        let mut problems = load(text, &World::default()).expect_err("a problem");
        assert_eq!(problems.len(), 1, "{text}: {problems:#?}");
        problems.remove(0)
    }

    #[test]
    fn a_key_of_the_file_can_be_bound_like_an_issued_one() {
        let snapshot = loaded(
            "{auth: {static_keys: [{id: a, secret: s, operations: [chat], system_prompt: 'file:/prompt.txt', \
               data_class: non_sensitive, networks: [10.0.0.0/8], parameters: {max_tokens: 5, tools: false}, \
               limits: {requests: {count: 10, window_s: 60}, cost_per_day: 2.5}}], \
               open: {data_class: non_sensitive}}, \
             groups: [{name: lab, api_keys: [k], binding: {unscannable: block}}]}",
        );
        let [own, groups] = &snapshot.auth.static_keys[..] else { panic!("{:?}", snapshot.auth) };
        let binding = &own.binding;
        assert_eq!(binding.system_prompt.as_ref().map(|prompt| prompt.text.as_str()), Some("Be brief."));
        assert_eq!(binding.limits.cost_per_day.map(|money| money.to_string()), Some("2.5".to_owned()));
        assert_eq!((binding.parameters.max_tokens, binding.networks.len()), (Some(5), 1));
        assert_eq!(groups.binding.unscannable, crate::binding::Unscannable::Block);
        assert_eq!(snapshot.auth.open.binding.data_class, Some("non_sensitive".into()));
    }

    #[test]
    fn what_cannot_bind_is_reported_at_its_place() {
        let key = |fields: &str| format!("auth: {{static_keys: [{{id: a, secret: s, {fields}}}]}}");
        for (fields, place, hint) in [
            ("data_class: sensitiv", "data_class", Some("did you mean `sensitive`?")),
            ("operations: [chatt]", "operations[0]", Some("did you mean `chat`?")),
            ("operations: []", "operations", None),
            ("networks: [lan]", "networks[0]", None),
            ("limits: {cost_per_day: free}", "limits.cost_per_day", None),
            ("parameters: {min_temperature: 1, max_temperature: 0.5}", "parameters.min_temperature", None),
            ("data_clas: sensitive", "data_clas", Some("did you mean `data_class`?")),
        ] {
            let found = problem(&key(fields));
            assert_eq!(
                (found.place.path.as_str(), found.hint.as_deref()),
                (format!("auth.static_keys[0].{place}").as_str(), hint),
                "{found:?}"
            );
        }
    }

    #[test]
    fn by_default_sensitive_data_stays_in_the_house() {
        let classes = loaded("").data_classes;
        let names: Vec<_> = classes.iter().map(|class| class.name.to_string()).collect();
        assert_eq!(names, ["non_sensitive", "sensitive"]);
    }

    #[test]
    fn classes_are_listed_from_the_least_to_the_most_sensitive() {
        let class =
            |name, localities| format!("{{name: {name}, localities: {localities}, dlp_policy: cloud}}");
        let (open, inner) = (class("open", "[on_prem, cloud]"), class("inner", "[on_prem]"));
        let classes = loaded(&format!("data_classes: [{open}, {inner}]")).data_classes;
        assert_eq!(classes.of(None).1.name.as_str(), "inner");
        let found = problem(&format!("data_classes: [{inner}, {open}]"));
        assert!(found.message.contains("less sensitive `inner` may not"), "{found:?}");
        let found = problem(&format!("data_classes: [{open}, {open}]"));
        assert!(found.message.contains("taken"), "{found:?}");
    }
}
