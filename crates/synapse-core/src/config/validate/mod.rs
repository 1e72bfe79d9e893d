//! Meaning: what was read becomes a [`Snapshot`], or a list of everything that is wrong with it.
//! Each section is checked in a file of its own; one section's mistakes never stop another's checks.

mod access;
mod alerts;
mod audit;
mod backends;
mod binding;
mod dlp;
mod limits;
mod models;
mod outside;
mod prices;
mod routing;
mod server;
mod sinks;

use std::{collections::HashMap, time::Duration};

use super::{
    interpolate::Surroundings,
    problem::Problem,
    raw,
    reader::{self, Places, Reading},
    snapshot::{Discovery, LogFormat, Logs, PemFile, Snapshot},
    yaml::Node,
};
use crate::id::fits_header;

/// What is said of a name that could not stand in a header.
const NAME_RULE: &str = "must be printable ASCII without spaces at its ends";

/// Checks the tree of a configuration. Mistakes are added to `problems`; the snapshot is complete
/// only if there were none.
pub(super) fn snapshot(root: &Node, world: &dyn Surroundings, problems: &mut Vec<Problem>) -> Snapshot {
    let Reading { config, places } = reader::read(root, world, problems);
    let mut check = Check { places: &places, world, problems, warnings: Vec::new() };
    let discovery = &config.discovery;
    let discovery = Discovery {
        local: discovery.local.unwrap_or(config.backends.is_empty()),
        models_every: seconds(discovery.models_s),
        health_every: seconds(discovery.health_s),
    };
    let server = server::check(config.server, &mut check);
    let database_url = server::database(config.database, &mut check);
    let redis_url = server::redis(config.redis, &mut check);
    let prices = prices::check(config.prices, &mut check);
    let groups = access::group_names(&config.groups, &mut check);
    let (dlp, policies) = dlp::check(config.dlp, &mut check);
    let (data_classes, classes) = binding::classes(config.data_classes, &policies, &mut check);
    let known = access::Known { groups: &groups, classes: &classes, policies: &policies };
    let auth = access::check(config.auth, config.groups, &known, &mut check);
    let (backends, names) = backends::check(config.backends, &groups, &mut check);
    let models = models::check(config.models, &names, &backends, &mut check);
    let audit = audit::check(config.audit, &mut check);
    let logs = logs(config.logs, &mut check);
    let anomaly = alerts::anomaly(&config.anomaly, &mut check);
    let webhooks = alerts::webhooks(config.alerts, &mut check);
    let warnings = check.warnings;
    Snapshot {
        server,
        data_dir: config.data_dir.unwrap_or_else(|| "./data".to_owned()).into(),
        database_url,
        redis_url,
        counting: limits::counting(&config.limits),
        prices: prices.into(),
        auth,
        data_classes,
        backends,
        models,
        routing: routing::check(&config.routing),
        dlp,
        audit,
        anomaly,
        webhooks,
        discovery,
        logs,
        warnings,
    }
}

/// What the checks of every section share.
struct Check<'a> {
    places: &'a Places,
    world: &'a dyn Surroundings,
    problems: &'a mut Vec<Problem>,
    warnings: Vec<String>,
}

impl Check<'_> {
    /// A problem with the value at a JSON pointer such as `/backends/0/url`, yet to be reported.
    fn problem(&self, pointer: &str, message: impl Into<String>) -> Problem {
        Problem::new(&self.places.of(pointer), message)
    }

    fn report(&mut self, pointer: &str, message: impl Into<String>) {
        self.problems.push(self.problem(pointer, message));
    }

    fn warn(&mut self, pointer: &str, message: &str) {
        let place = self.places.of(pointer);
        self.warnings.push(format!("line {}: {}: {message}", place.line, place.path));
    }

    /// Reports a name that could not stand in headers and metrics.
    fn name(&mut self, pointer: &str, name: &str) {
        if !fits_header(name) {
            self.report(pointer, NAME_RULE);
        }
    }

    /// A PEM file; reports one that is none, or not there.
    fn pem_file(&mut self, pointer: &str, path: &str) -> Option<PemFile> {
        match self.world.read_file(path.as_ref()) {
            Ok(text) if text.contains("-----BEGIN ") => return Some(PemFile { path: path.into(), text }),
            Ok(_) => self.report(pointer, "is not a PEM file"),
            Err(error) => self.report(pointer, format!("the file cannot be read: {error}")),
        }
        None
    }
}

/// Names that others may refer to.
struct Names {
    /// `backend` or `group`.
    kind: &'static str,
    known: Vec<String>,
    /// Whether there are more that could not be read, so that an unknown one may be among them.
    incomplete: bool,
}

impl Names {
    /// What is wrong with a reference to `name` at `pointer`, if none of these is meant.
    fn problem_with(&self, name: &str, pointer: &str, check: &Check<'_>) -> Option<Problem> {
        let unknown = !self.incomplete && self.known.iter().all(|known| known != name);
        unknown.then(|| {
            let problem = check.problem(pointer, format!("there is no {} of this name", self.kind));
            problem.nearest(name, self.known.iter().map(String::as_str))
        })
    }
}

/// Names that must be given once only.
#[derive(Default)]
struct Unique {
    lines: HashMap<String, usize>,
}

impl Unique {
    /// Reports `name` at `pointer` if it was taken before.
    fn claim(&mut self, name: &str, pointer: &str, check: &mut Check<'_>) {
        let line = check.places.of(pointer).line;
        match self.lines.get(name) {
            Some(first) => check.report(pointer, format!("the name is taken, in line {first}")),
            None => {
                self.lines.insert(name.to_owned(), line);
            }
        }
    }
}

fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or(Duration::MAX)
}

fn logs(raw: raw::Logs, check: &mut Check<'_>) -> Logs {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for directive in raw.level.split(',') {
        // A bare word that is no level would silence everything but a module of that name.
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level).trim();
        let is_span_filter = directive.contains(['[', '{']);
        if !is_span_filter && !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
            let problem = check.problem("/logs/level", format!("a level is one of {}", LEVELS.join(", ")));
            check.problems.push(problem.nearest(level, LEVELS));
        }
    }
    let format = match raw.format {
        raw::LogFormat::Auto => LogFormat::Auto,
        raw::LogFormat::Pretty => LogFormat::Pretty,
        raw::LogFormat::Json => LogFormat::Json,
    };
    Logs { level: raw.level, format, access: raw.access }
}
