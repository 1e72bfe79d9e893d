//! The order of attempts. First the model asked for: by `order`, among equals by the strategy, the
//! next order when all before it are full or would keep a request waiting. Where all are full, a
//! place is waited for. Then the fallback models; last whatever seems broken, for want of a better
//! choice. No model is asked for twice at one backend.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use synapse_core::{
    config::snapshot::Strategy,
    error::{Fault, FaultKind},
    principal::Principal,
};
use synapse_dialect::openai::preferences::{Preferences, Sort};

use super::{
    catalog::{Candidate, Route},
    endpoint::{Demand, Endpoint, Refused},
    fleet::BackendHandle,
    reach::Reach,
    standing::Standing,
    strategy::Picker,
};
use crate::gateway::Live;

/// The next attempt's place.
pub struct Choice {
    /// The route that it belongs to: the one asked for, or a fallback.
    pub route: Arc<Route>,
    /// The place.
    pub candidate: Candidate,
}

/// What to do next.
pub enum Next {
    /// Try this.
    Try(Choice),
    /// Wait until one of these has a place.
    Wait(Vec<Candidate>),
    /// Give up.
    Nothing,
}

/// Who is so often too late at a place is not the right one for it.
const MAX_LOST_RACES: u32 = 16;

/// What is left to try for one request.
pub struct Plan {
    live: Arc<Live>,
    caller: Arc<Principal>,
    reach: Reach,
    preferences: Option<Box<Preferences>>,
    picker: Picker,
    routes: Vec<Arc<Route>>,
    /// Whether the fallbacks are among the routes yet.
    has_fallbacks: bool,
    may_wait: bool,
    tried: Vec<Arc<Endpoint>>,
    /// Backends that could not be reached: other models are no better there.
    unreachable: Vec<Arc<BackendHandle>>,
    lost_races: u32,
    /// The best standing among those left out, to tell the caller why nothing is left.
    left_out: Option<Standing>,
    /// When the first of them will take requests again.
    comes_back: Option<Instant>,
}

/// The routes of these names that the caller may use.
fn usable(live: &Live, caller: &Principal, names: &[String]) -> Vec<Arc<Route>> {
    let realm = live.realms.of(&caller.group);
    let find = |name: &String| realm.resolve(name);
    names.iter().filter_map(find).filter(|route| route.is_allowed(caller)).collect()
}

/// The models after that of `route`: those that the caller wishes for, then the fallbacks.
fn next_models(
    live: &Live,
    caller: &Principal,
    route: &Route,
    preferences: Option<&Preferences>,
) -> Vec<Arc<Route>> {
    let mut next = preferences.map_or_else(Vec::new, |wishes| usable(live, caller, &wishes.models));
    next.extend(usable(live, caller, &route.fallbacks));
    next
}

fn add(routes: &mut Vec<Arc<Route>>, route: Arc<Route>) {
    if routes.iter().all(|known| known.model != route.model) {
        routes.push(route);
    }
}

/// Every route that a request for `route` may come to take: that one, the fallbacks, and the larger models for
/// what is too long for one of them.
pub fn ways(
    live: &Live,
    caller: &Principal,
    route: &Arc<Route>,
    preferences: Option<&Preferences>,
) -> Vec<Arc<Route>> {
    let mut ways = vec![Arc::clone(route)];
    next_models(live, caller, route, preferences).into_iter().for_each(|route| add(&mut ways, route));
    let mut at = 0;
    while let Some(way) = ways.get(at).cloned() {
        let larger = usable(live, caller, &way.context_fallbacks);
        larger.into_iter().for_each(|route| add(&mut ways, route));
        at += 1;
    }
    ways
}

impl Plan {
    /// The plan for `route` and those of its fallbacks that the caller may use, within `reach`.
    /// `fingerprint` names the conversation, where it matters.
    pub fn new(
        live: Arc<Live>,
        route: Arc<Route>,
        caller: Arc<Principal>,
        reach: Reach,
        preferences: Option<Box<Preferences>>,
        demand: Demand,
        fingerprint: Option<u64>,
    ) -> Self {
        let routing = &live.snapshot.routing;
        let strategy = match preferences.as_ref().and_then(|wishes| wishes.sort) {
            Some(Sort::Latency) => Strategy::Latency,
            Some(Sort::Throughput) => Strategy::LeastLoaded,
            None => routing.strategy,
        };
        let picker = Picker { strategy, affinity: fingerprint, demand, slow_start: routing.slow_start };
        Self {
            live,
            caller,
            reach,
            preferences,
            picker,
            routes: vec![route],
            has_fallbacks: false,
            may_wait: true,
            tried: Vec::new(),
            unreachable: Vec::new(),
            lost_races: 0,
            left_out: None,
            comes_back: None,
        }
    }

    /// What to do next.
    pub fn advance(&mut self) -> Next {
        let only_one = self.preferences.as_ref().is_some_and(|w| w.no_fallbacks && w.order.is_empty());
        if only_one && !self.tried.is_empty() {
            return Next::Nothing;
        }
        for standing in [Standing::Ready, Standing::Busy] {
            if let Some(choice) = self.pick(0, standing) {
                return Next::Try(choice);
            }
        }
        if self.may_wait {
            let full = self.full();
            if !full.is_empty() {
                return Next::Wait(full);
            }
        }
        self.add_fallbacks();
        let rest = [
            (1, Standing::Ready),
            (1, Standing::Busy),
            (0, Standing::Lacking),
            (0, Standing::Shaky),
            (0, Standing::Down),
        ];
        for (from, standing) in rest {
            if let Some(choice) = (from..self.routes.len()).find_map(|at| self.pick(at, standing)) {
                return Next::Try(choice);
            }
        }
        Next::Nothing
    }

    /// From now on, the model asked for is looked for among the backends of `live`, which has the same
    /// configuration.
    pub fn adopt(&mut self, live: Arc<Live>) {
        let anew = live.realms.of(&self.caller.group).resolve(self.routes[0].model.as_str());
        if let Some(route) = anew.filter(|route| route.is_allowed(&self.caller)) {
            self.routes[0] = route;
        }
        self.live = live;
    }

    /// A place at this endpoint was waited for and is had now.
    pub fn admitted(&mut self, endpoint: &Arc<Endpoint>) -> Option<Choice> {
        let route = Arc::clone(self.routes.first()?);
        let is_it = |c: &&Candidate| Arc::ptr_eq(&c.endpoint, endpoint) && self.reach.includes(&c.endpoint);
        let candidate = route.candidates.iter().find(is_it)?.clone();
        Some(self.take(route, candidate))
    }

    /// No place was had; when there may be one, if that is known.
    pub fn stop_waiting(&mut self, comes_back: Instant) {
        self.may_wait = false;
        self.leave_out(Standing::Full, Some(comes_back));
    }

    /// A place that had seemed ready took no more when it was asked.
    pub fn note_refused(&mut self, choice: &Choice, why: Refused) {
        match why {
            // Somebody was faster; it is looked at again like any other.
            Refused::Full => {
                self.lost_races += 1;
                if self.lost_races <= MAX_LOST_RACES {
                    self.tried.retain(|tried| !Arc::ptr_eq(tried, &choice.candidate.endpoint));
                }
                self.leave_out(Standing::Full, None);
            }
            Refused::Open => {
                self.leave_out(Standing::Open, choice.candidate.endpoint.breaker.opens_again());
            }
        }
    }

    /// The backend of a place could not be reached.
    pub fn note_unreachable(&mut self, choice: &Choice) {
        self.unreachable.push(Arc::clone(&choice.candidate.endpoint.backend));
    }

    /// The request is too long for the model of `route`: from now on, the larger ones that are named
    /// for this case are tried. Whether there are any.
    pub fn turn_to_larger(&mut self, route: &Route) -> bool {
        let larger = usable(&self.live, &self.caller, &route.context_fallbacks);
        let found = !larger.is_empty();
        if found {
            (self.routes, self.has_fallbacks, self.may_wait) = (larger, true, true);
        }
        found
    }

    fn add_fallbacks(&mut self) {
        if std::mem::replace(&mut self.has_fallbacks, true) {
            return;
        }
        let next = next_models(&self.live, &self.caller, &self.routes[0], self.preferences.as_deref());
        next.into_iter().for_each(|route| add(&mut self.routes, route));
    }

    fn leave_out(&mut self, standing: Standing, comes_back: Option<Instant>) {
        self.left_out = Some(self.left_out.map_or(standing, |known| known.min(standing)));
        self.comes_back = [self.comes_back, comes_back].into_iter().flatten().min();
    }

    fn take(&mut self, route: Arc<Route>, candidate: Candidate) -> Choice {
        self.tried.push(Arc::clone(&candidate.endpoint));
        Choice { route, candidate }
    }

    /// Whether it is still to be tried, the request may go there, and the caller has nothing against it.
    fn is_open_to(&self, candidate: &Candidate) -> bool {
        let endpoint = &candidate.endpoint;
        let wanted = self.preferences.as_ref().is_none_or(|w| w.allow(endpoint.backend.id().as_str()));
        wanted
            && self.reach.includes(endpoint)
            && !self.tried.iter().any(|tried| Arc::ptr_eq(tried, endpoint))
            && !self.unreachable.iter().any(|backend| Arc::ptr_eq(backend, &endpoint.backend))
    }

    /// One of the best untried candidates of a route, if there are any of this standing.
    fn pick(&mut self, route: usize, acceptable: Standing) -> Option<Choice> {
        let route = Arc::clone(self.routes.get(route)?);
        let (now, spill_after) = (Instant::now(), self.live.snapshot.routing.spill_after);
        let wished = |c: &Candidate| {
            self.preferences.as_ref().map_or(0, |wishes| wishes.rank(c.endpoint.backend.id().as_str()))
        };
        let mut best = None;
        let mut group = Vec::new();
        let mut left_out: Vec<(Standing, Option<Instant>)> = Vec::new();
        for candidate in route.candidates.iter().filter(|c| self.is_open_to(c)) {
            let standing = Standing::of(candidate, self.picker.demand.operation, now, spill_after);
            if standing != acceptable {
                if standing.is_left_out() {
                    left_out.push((standing, candidate.endpoint.breaker.opens_again()));
                }
                continue;
            }
            let place = (wished(candidate), candidate.order);
            if best.is_none_or(|best| place < best) {
                best = Some(place);
                group.clear();
            }
            if best == Some(place) {
                group.push(candidate);
            }
        }
        let chosen = self.picker.choose(group, now).cloned();
        left_out.into_iter().for_each(|(standing, at)| self.leave_out(standing, at));
        chosen.map(|candidate| self.take(route, candidate))
    }

    /// The places of the model asked for that are full, one per backend.
    fn full(&self) -> Vec<Candidate> {
        let (now, spill_after) = (Instant::now(), self.live.snapshot.routing.spill_after);
        let mut full = Vec::<Candidate>::new();
        for candidate in self.routes[0].candidates.iter().filter(|c| self.is_open_to(c)) {
            let backend = &candidate.endpoint.backend;
            let standing = Standing::of(candidate, self.picker.demand.operation, now, spill_after);
            if standing == Standing::Full
                && full.iter().all(|known| !Arc::ptr_eq(&known.endpoint.backend, backend))
            {
                full.push(candidate.clone());
            }
        }
        full
    }

    /// Why nothing was left before the first attempt.
    pub fn exhausted(&self, model: &str) -> Fault {
        let back = self.comes_back.map(|at| at.saturating_duration_since(Instant::now()));
        let wait = back.unwrap_or_default().max(Duration::from_secs(1));
        match self.left_out {
            Some(Standing::Full) => Fault::new(
                FaultKind::Overloaded,
                format!(
                    "Every backend of the model `{model}` is at its limit, and as many requests wait as may."
                ),
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
            None if self.is_out_of_reach() => return self.reach.fault(model),
            None if self.has_unwanted() => {
                return Fault::new(
                    FaultKind::InvalidField,
                    format!("The field `provider` leaves no backend of the model `{model}`."),
                )
                .param("provider");
            }
            None => Fault::new(
                FaultKind::NoBackendAvailable,
                format!("No backend serves the model `{model}` now."),
            ),
        }
        .retry_after(wait)
    }

    /// Whether there are backends, but none that the request may go to.
    fn is_out_of_reach(&self) -> bool {
        self.routes.iter().any(|route| !route.candidates.is_empty())
            && !self.routes.iter().any(|route| self.reach.includes_any_of(route))
    }

    /// Whether there are backends that the caller does not want.
    fn has_unwanted(&self) -> bool {
        let Some(wishes) = &self.preferences else { return false };
        let mut candidates = self.routes.iter().flat_map(|route| &route.candidates);
        candidates.any(|c| !wishes.allow(c.endpoint.backend.id().as_str()))
    }
}
