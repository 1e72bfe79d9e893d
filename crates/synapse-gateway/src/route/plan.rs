//! The order of attempts: within a route by `order`, among equals by the strategy, then the
//! fallback routes. No endpoint is tried twice; one that health checks call dead comes last in its
//! route, one that is full or whose breaker is open is left out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use synapse_core::{
    config::snapshot::Strategy,
    error::{Fault, FaultKind},
    principal::Principal,
};

use super::{
    breaker::State,
    catalog::{Candidate, Catalog, Route},
    endpoint::{Endpoint, Refused},
    fleet::{Fleet, Health},
};

/// Whose turn it is, for the strategies that take turns.
static TURN: AtomicUsize = AtomicUsize::new(0);

/// How promising a candidate is; lower is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Ready,
    Down,
    Full,
    /// It has asked for a pause.
    Limited,
    Open,
}

/// The next attempt's place.
pub struct Choice {
    /// The route that it belongs to: the one asked for, or a fallback.
    pub route: Arc<Route>,
    /// The place.
    pub candidate: Candidate,
}

/// What is left to try for one request.
pub struct Plan {
    routes: Vec<Arc<Route>>,
    tried: Vec<Arc<Endpoint>>,
    strategy: Strategy,
    /// The best standing among those left out, to tell the caller why nothing is left.
    left_out: Option<Standing>,
    /// When the first of them will take requests again.
    comes_back: Option<Instant>,
}

impl Plan {
    /// The plan for `route` and those of its fallbacks that the caller may use.
    pub fn new(
        route: Arc<Route>,
        caller: &Principal,
        catalog: &Catalog,
        fleet: &Fleet,
        strategy: Strategy,
    ) -> Self {
        let mut routes = vec![route];
        let names = routes[0].fallbacks.clone();
        for name in &names {
            let fallback = catalog.resolve(name, fleet).filter(|route| route.is_allowed(caller));
            let Some(fallback) = fallback else { continue };
            if routes.iter().all(|known| known.model != fallback.model) {
                routes.push(fallback);
            }
        }
        Self { routes, tried: Vec::new(), strategy, left_out: None, comes_back: None }
    }

    /// The next place to try: whatever seems well, fallbacks included, before what seems dead.
    pub fn next_choice(&mut self) -> Option<Choice> {
        for acceptable in [Standing::Ready, Standing::Down] {
            for at in 0..self.routes.len() {
                let route = Arc::clone(&self.routes[at]);
                if let Some(candidate) = self.pick(&route.candidates, acceptable) {
                    self.tried.push(Arc::clone(&candidate.endpoint));
                    return Some(Choice { route, candidate });
                }
            }
        }
        None
    }

    /// A place that had seemed ready took no more when it was asked.
    pub fn note_refused(&mut self, choice: &Choice, why: Refused) {
        let standing = match why {
            Refused::Full => Standing::Full,
            Refused::Open => Standing::Open,
        };
        self.leave_out(standing, &choice.candidate.endpoint);
    }

    fn leave_out(&mut self, standing: Standing, endpoint: &Endpoint) {
        self.left_out = Some(self.left_out.map_or(standing, |known| known.min(standing)));
        if let Some(at) = endpoint.breaker.opens_again() {
            self.comes_back = Some(self.comes_back.map_or(at, |known| known.min(at)));
        }
    }

    /// The best group of untried candidates, and one of it by the strategy.
    fn pick(&mut self, candidates: &[Candidate], acceptable: Standing) -> Option<Candidate> {
        let now = Instant::now();
        let tried = &self.tried;
        let untried = |c: &&Candidate| !tried.iter().any(|t| Arc::ptr_eq(t, &c.endpoint));
        let mut ranked: Vec<(Standing, &Candidate)> =
            candidates.iter().filter(untried).map(|c| (standing(c, now), c)).collect();
        for (standing, candidate) in &ranked {
            if *standing > Standing::Down {
                self.leave_out(*standing, &candidate.endpoint);
            }
        }
        ranked.retain(|(standing, _)| *standing == acceptable);
        let first = ranked.iter().map(|(_, c)| c.order).min()?;
        ranked.retain(|(_, c)| c.order == first);
        let group: Vec<&Candidate> = ranked.into_iter().map(|(_, c)| c).collect();
        choose(&group, self.strategy).cloned()
    }

    /// Why nothing was left before the first attempt.
    pub fn exhausted(&self, model: &str) -> Fault {
        let back = self.comes_back.map(|at| at.saturating_duration_since(Instant::now()));
        let wait = back.unwrap_or_default().max(Duration::from_secs(1));
        match self.left_out {
            Some(Standing::Full) => Fault::new(
                FaultKind::Overloaded,
                format!("Every backend of the model `{model}` is at its limit."),
            ),
            Some(Standing::Limited) => Fault::new(
                FaultKind::UpstreamRateLimited,
                format!("Every backend of the model `{model}` is at its rate limit."),
            ),
            Some(_) => Fault::new(
                FaultKind::CircuitOpen,
                format!(
                    "Every backend of the model `{model}` has failed lately and is left alone for a while."
                ),
            ),
            None => Fault::new(
                FaultKind::NoBackendAvailable,
                format!("No backend serves the model `{model}` now."),
            ),
        }
        .retry_after(wait)
    }
}

fn standing(candidate: &Candidate, now: Instant) -> Standing {
    let endpoint = &candidate.endpoint;
    if endpoint.breaker.pause_left(now).is_some() {
        Standing::Limited
    } else if endpoint.breaker.state(now) == State::Open {
        Standing::Open
    } else if !endpoint.has_room() {
        Standing::Full
    } else if endpoint.backend.health() == Health::Down {
        Standing::Down
    } else {
        Standing::Ready
    }
}

fn choose<'c>(group: &[&'c Candidate], strategy: Strategy) -> Option<&'c Candidate> {
    let turn = TURN.fetch_add(1, Ordering::Relaxed);
    match (group, strategy) {
        ([] | [_], _) => group.first().copied(),
        (_, Strategy::RoundRobin) => Some(group[turn % group.len()]),
        (_, Strategy::Weighted) => by_weight(group, scatter(turn)),
        (_, Strategy::LeastLoaded) => {
            // Two at random, the better one wins: nearly as good as looking at all, and no herd.
            let random = scatter(turn);
            let first = (random % group.len() as u64) as usize;
            let step = 1 + ((random >> 32) % (group.len() as u64 - 1)) as usize;
            let (a, b) = (group[first], group[(first + step) % group.len()]);
            Some(if a.endpoint.is_cheaper(a.weight, &b.endpoint, b.weight) { a } else { b })
        }
    }
}

fn by_weight<'c>(group: &[&'c Candidate], random: u64) -> Option<&'c Candidate> {
    let total: u64 = group.iter().map(|c| u64::from(c.weight)).sum();
    let mut ticket = random % total.max(1);
    group.iter().copied().find(|c| {
        let weight = u64::from(c.weight);
        let hit = ticket < weight;
        ticket = ticket.saturating_sub(weight);
        hit
    })
}

/// SplitMix64 over a counter: evenly spread, and needs no state of its own.
fn scatter(turn: usize) -> u64 {
    let mut z = (turn as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
