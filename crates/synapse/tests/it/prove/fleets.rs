//! Fleets of groups at random: whoever asks sees and reaches what belongs to his group, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{
    collection::{btree_set, vec},
    prelude::*,
    strategy::ValueTree,
    test_runner::TestRunner,
};
use serde_json::json;
use synapse_testkit::{Client, Config, Engine, Gateway, Worker};

use super::figures::{Figure, at_scale};
use crate::{
    start::{code, gateway, saying, with, worker},
    tunnel::{listed, until_listed},
};

const GROUPS: usize = 4;
const MODELS: usize = 5;

/// Engines with their groups and models, by their numbers.
#[derive(Clone, Debug)]
struct Fleet {
    /// Those behind workers, which are in one group each.
    workers: Vec<(usize, BTreeSet<usize>)>,
    /// Those that the gateway calls directly, which may be in several.
    backends: Vec<(BTreeSet<usize>, BTreeSet<usize>)>,
}

fn fleets() -> impl Strategy<Value = Fleet> {
    let models = || btree_set(0..MODELS, 1..3);
    let workers = vec((0..GROUPS, models()), 1..5);
    let backends = vec((btree_set(0..GROUPS, 1..3), models()), 0..3);
    (workers, backends).prop_map(|(workers, backends)| Fleet { workers, backends })
}

fn group(number: usize) -> String {
    if number == 0 { "default".to_owned() } else { format!("g{number}") }
}

fn model(number: usize) -> String {
    format!("m{number}")
}

/// What callers of one group send, and what no other sends.
fn sign(group: usize) -> String {
    format!("callers of group {group}")
}

/// An engine, with its name as a backend, the groups that may reach it, and its models.
struct Member {
    engine: Engine,
    backend: String,
    groups: BTreeSet<usize>,
    models: BTreeSet<usize>,
}

/// A running fleet.
struct Running {
    gateway: Gateway,
    members: Vec<Member>,
    _workers: Vec<Worker>,
}

async fn engine(name: &str, models: &BTreeSet<usize>) -> Engine {
    let models = models.iter().map(|number| model(*number)).collect();
    Engine::start(name, synapse_simulator::Options { models, ..Engine::options("m") }).await
}

impl Running {
    async fn start(fleet: &Fleet) -> Self {
        let groups = (0..GROUPS).map(|number| {
            json!({"name": group(number), "ws_auth_keys": [format!("workers-{number}")], "api_keys": [format!("callers-{number}")]})
        });
        let mut config = Config::new().set("/groups", groups.collect::<Vec<_>>());
        let mut members = Vec::new();
        for (at, (groups, models)) in fleet.backends.iter().enumerate() {
            let (backend, names) = (format!("b{at}"), groups.iter().map(|number| group(*number)));
            let names: Vec<String> = names.collect();
            let engine = engine(&backend, models).await;
            config = config.backend(&engine).set(&format!("/backends/{at}/groups"), names);
            members.push(Member { engine, backend, groups: groups.clone(), models: models.clone() });
        }
        let gateway = gateway(&config).await;
        let mut workers = Vec::new();
        for (at, (own, models)) in fleet.workers.iter().enumerate() {
            // Workers of different groups may have the same name.
            let before = fleet.workers[..at].iter().filter(|(group, _)| group == own).count();
            let name = format!("w{before}");
            let engine = engine(&name, models).await;
            workers.push(worker(gateway.address(), &engine.url(), &name, &format!("workers-{own}")));
            let (backend, groups) = (format!("{}/{name}", group(*own)), BTreeSet::from([*own]));
            members.push(Member { engine, backend, groups, models: models.clone() });
        }
        let running = Self { gateway, members, _workers: workers };
        for number in 0..GROUPS {
            let own: Vec<String> = running.reach(number).keys().map(|number| model(*number)).collect();
            let own: Vec<&str> = own.iter().map(String::as_str).collect();
            until_listed(&running.gateway, &running.caller(number), &own).await;
        }
        for member in &running.members {
            running
                .gateway
                .metric("synapse_backend_up", &[("backend", &member.backend)], |up| up == 1.0)
                .await;
        }
        running
    }

    fn caller(&self, group: usize) -> Client {
        self.gateway.client_with(&format!("callers-{group}"))
    }

    /// The models of a group, each with the backends that serve it.
    fn reach(&self, group: usize) -> BTreeMap<usize, Vec<&str>> {
        let mut reach = BTreeMap::<_, Vec<_>>::new();
        for member in self.members.iter().filter(|member| member.groups.contains(&group)) {
            for number in &member.models {
                reach.entry(*number).or_default().push(member.backend.as_str());
            }
        }
        reach
    }

    /// Looks at everything as each group; what was not as it should be, and how often was looked.
    async fn check(&self) -> (Vec<String>, u64) {
        let (mut wrong, mut looks) = (Vec::new(), 0);
        let mut look = |is_right: bool, what: String| {
            looks += 1;
            if !is_right {
                wrong.push(what);
            }
        };
        for number in 0..GROUPS {
            let (caller, reach) = (self.caller(number), self.reach(number));
            let own: Vec<String> = reach.keys().map(|number| model(*number)).collect();
            let seen = listed(&caller).await;
            look(seen == own, format!("group {number} sees {seen:?} instead of {own:?}"));
            for asked in 0..MODELS {
                let name = model(asked);
                let one = caller.get(&format!("/v1/models/{name}")).await.status;
                look(
                    (one == 200) == reach.contains_key(&asked),
                    format!("group {number} sees {name}: {one}"),
                );
                let plain = saying(&name, &sign(number));
                // Nor does it help to wish for what belongs to others.
                let wishes = json!({"models": (0..MODELS).map(model).collect::<Vec<_>>()});
                for body in [plain.clone(), plain.clone(), with(plain, wishes)] {
                    let answer = caller.post("/v1/chat/completions", &body).await;
                    let by = answer.header("x-synapse-backend");
                    let is_right = match reach.get(&asked) {
                        Some(own) => answer.status == 200 && own.contains(&by),
                        None if body["models"].is_null() => code(&answer).1 == "model_not_found",
                        None => answer.status != 200 || reach.values().flatten().any(|own| *own == by),
                    };
                    look(
                        is_right,
                        format!(
                            "group {number} asks for {name}: {} by {by:?}: {}",
                            answer.status,
                            answer.text()
                        ),
                    );
                }
            }
        }
        for member in &self.members {
            for call in member.engine.requests() {
                let body = String::from_utf8_lossy(&call.body).into_owned();
                let is_own = member.groups.iter().any(|number| body.contains(&sign(*number)));
                look(is_own, format!("{} got {body}", member.backend));
            }
        }
        (wrong, looks)
    }
}

#[tokio::test]
async fn no_group_sees_or_reaches_what_belongs_to_another() {
    let mut runner = TestRunner::default();
    let (fleets, mut workers, mut looks, mut wrong) = (at_scale(20, 2), 0, 0, 0);
    for _ in 0..fleets {
        let fleet = self::fleets().new_tree(&mut runner).expect("a fleet").current();
        let (mistakes, looked) = Running::start(&fleet).await.check().await;
        if !mistakes.is_empty() {
            eprintln!("{fleet:?}: {mistakes:#?}");
        }
        (workers, looks, wrong) = (workers + fleet.workers.len(), looks + looked, wrong + mistakes.len());
    }
    Figure {
        key: "9n-groups",
        test: "no_group_sees_or_reaches_what_belongs_to_another",
        promise: "Groups, workers, engines and models at random: a key sees and reaches all that belongs to its group, and nothing else",
        measured: wrong as f64,
        unit: format!("mistakes of {looks} looks at {fleets} fleets with {workers} workers"),
        limit: 0.0,
    }
    .hold();
}
