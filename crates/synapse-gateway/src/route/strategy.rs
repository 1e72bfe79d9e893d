//! The choice among equals: deployments of the same order that are all ready to serve.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use synapse_core::config::snapshot::Strategy;

use super::{
    catalog::Candidate,
    endpoint::{Demand, Residency},
};

/// Whose turn it is, for the strategies that take turns.
static TURN: AtomicUsize = AtomicUsize::new(1);

/// A warm model is waited for rather than a cold one loaded, for about as long as loading takes.
const LOADING: Duration = Duration::from_secs(10);
/// Who is this much slower than the fastest is as good: nobody should get everything.
const AS_FAST: f64 = 1.2;
/// With prefix affinity, nobody gets more than this many times its share …
const BOUND: f64 = 1.25;
/// … or this many requests above it, if that is more: of a few requests at a time, chance alone puts
/// some at the same backend, and moving a conversation costs its whole prompt.
const ODD: f64 = 2.0;
/// The least weight of a backend that has just come back, so that it is measured at all.
const LEAST_RECOVERY: f64 = 0.1;

/// What a choice depends on.
#[derive(Clone, Copy)]
pub(super) struct Picker {
    pub(super) strategy: Strategy,
    /// The conversation's fingerprint, where conversations are to stay where their beginning is cached.
    pub(super) affinity: Option<u64>,
    pub(super) demand: Demand,
    /// How long a backend that takes up work again needs to get its full share.
    pub(super) slow_start: Duration,
}

impl Picker {
    /// One of `group`.
    pub(super) fn choose<'c>(&self, mut group: Vec<&'c Candidate>, now: Instant) -> Option<&'c Candidate> {
        if group.len() < 2 {
            return group.first().copied();
        }
        prefer_warm(&mut group, now);
        if let Some(fingerprint) = self.affinity {
            return self.by_affinity(&group, fingerprint, now);
        }
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        let chosen = match (group.as_slice(), self.strategy) {
            ([] | [_], _) => group.first().copied(),
            // Whose last turn is longest ago: that holds, whatever other models share the backends.
            (_, Strategy::RoundRobin) => group.into_iter().min_by_key(|c| c.endpoint.last_turn()),
            (_, Strategy::Weighted) => self.by_weight(&group, scatter(turn), now),
            (_, Strategy::Latency) => Some(self.by_latency(&group, scatter(turn), now)),
            (_, Strategy::LeastLoaded) => Some(self.less_loaded(&group, scatter(turn), now)),
        };
        chosen.inspect(|candidate| candidate.endpoint.note_turn(turn))
    }

    /// A candidate's weight; less while it is only just coming back.
    fn weight(&self, candidate: &Candidate, now: Instant) -> f64 {
        let recovery = candidate.endpoint.breaker.recovery(now, self.slow_start);
        f64::from(candidate.weight.max(1)) * recovery.max(LEAST_RECOVERY)
    }

    /// Two at random, the better one wins: nearly as good as looking at all, and no herd.
    fn less_loaded<'c>(&self, group: &[&'c Candidate], random: u64, now: Instant) -> &'c Candidate {
        let first = (random % group.len() as u64) as usize;
        let step = 1 + ((random >> 32) % (group.len() as u64 - 1).max(1)) as usize;
        let (a, b) = (group[first], group[(first + step) % group.len()]);
        let a_is_cheaper =
            a.endpoint.is_cheaper(self.weight(a, now), &b.endpoint, self.weight(b, now), self.demand, now);
        if a_is_cheaper { a } else { b }
    }

    /// The less loaded one of the fastest. What has not been measured lately is measured first, one
    /// request at a time.
    fn by_latency<'c>(&self, group: &[&'c Candidate], random: u64, now: Instant) -> &'c Candidate {
        let latency = |c: &Candidate| c.endpoint.latency(self.demand.streamed, now);
        let unmeasured = |c: &&&Candidate| latency(c).is_none() && c.endpoint.backend.in_flight() == 0;
        if let Some(unknown) = group.iter().find(unmeasured) {
            return unknown;
        }
        let Some(best) = group.iter().filter_map(|c| latency(c)).min() else {
            return self.less_loaded(group, random, now);
        };
        let fast: Vec<&Candidate> = group
            .iter()
            .copied()
            .filter(|c| latency(c).is_some_and(|l| l <= best.mul_f64(AS_FAST)))
            .collect();
        self.less_loaded(&fast, random, now)
    }

    fn by_weight<'c>(&self, group: &[&'c Candidate], random: u64, now: Instant) -> Option<&'c Candidate> {
        let total: f64 = group.iter().map(|c| self.weight(c, now)).sum();
        // The upper 53 bits as a fraction.
        let mut ticket = (random >> 11) as f64 / (1_u64 << 53) as f64 * total;
        let hit = group.iter().copied().find(|c| {
            ticket -= self.weight(c, now);
            ticket < 0.0
        });
        hit.or_else(|| group.last().copied())
    }

    /// Rendezvous hashing with bounded load: each backend draws a number for this conversation, the
    /// highest wins unless that backend has much more to do than the others. A backend that comes or
    /// goes moves only the conversations that are its own.
    ///
    /// Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998);
    /// Mirrokni, Thorup and Zadimoghaddam, "Consistent hashing with bounded loads" (2018).
    fn by_affinity<'c>(
        &self,
        group: &[&'c Candidate],
        fingerprint: u64,
        now: Instant,
    ) -> Option<&'c Candidate> {
        let in_flight = |c: &Candidate| f64::from(c.endpoint.backend.in_flight());
        let all: f64 = group.iter().map(|c| in_flight(c)).sum();
        let weights: f64 = group.iter().map(|c| self.weight(c, now)).sum();
        let has_room = |c: &&&Candidate| {
            let share = (all + 1.0) * self.weight(c, now) / weights;
            in_flight(c) + 1.0 <= (BOUND * share).max(share + ODD).ceil()
        };
        let drawn = |c: &&Candidate| draw(fingerprint, c);
        let best = group.iter().filter(has_room).max_by(|a, b| drawn(a).total_cmp(&drawn(b)));
        best.or_else(|| group.iter().min_by(|a, b| in_flight(a).total_cmp(&in_flight(b)))).copied()
    }
}

/// The number that a backend draws for a conversation, in proportion to its weight.
fn draw(fingerprint: u64, candidate: &Candidate) -> f64 {
    let mut hasher = DefaultHasher::new();
    (fingerprint, candidate.endpoint.backend.id().as_str(), &*candidate.endpoint.model).hash(&mut hasher);
    let fraction = ((hasher.finish() >> 11) as f64 + 1.0) / (1_u64 << 53) as f64;
    -f64::from(candidate.weight.max(1)) / fraction.ln().min(-f64::EPSILON)
}

/// Leaves out those who would have to load the model first, while one who has it can serve soon.
fn prefer_warm(group: &mut Vec<&Candidate>, now: Instant) {
    let is_cold = |c: &Candidate| c.endpoint.residency() == Residency::Cold;
    let serves_soon = |c: &&Candidate| !is_cold(c) && c.endpoint.backend.expected_wait(now) <= LOADING;
    if group.iter().any(|c| is_cold(c)) && group.iter().any(serves_soon) {
        group.retain(|c| !is_cold(c));
    }
}

/// SplitMix64 over a counter: evenly spread, and needs no state of its own.
fn scatter(turn: usize) -> u64 {
    let mut z = (turn as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use synapse_core::operation::Operation;

    use super::*;
    use crate::route::{
        endpoint::Lease,
        testing::{LIMITS, candidate},
    };

    const DEMAND: Demand = Demand { operation: Operation::Chat, streamed: true, tokens: 100 };

    fn picker(strategy: Strategy) -> Picker {
        Picker { strategy, affinity: None, demand: DEMAND, slow_start: Duration::from_secs(10) }
    }

    /// How often each is chosen, without any of them being used.
    fn shares(picker: Picker, group: &[Candidate], times: u32) -> HashMap<String, u32> {
        let mut shares = HashMap::new();
        for _ in 0..times {
            let chosen = picker.choose(group.iter().collect(), Instant::now()).expect("one");
            *shares.entry(chosen.endpoint.backend.id().to_string()).or_default() += 1;
        }
        shares
    }

    fn lease(candidate: &Candidate) -> Lease {
        candidate.endpoint.lease(LIMITS, DEMAND).unwrap_or_else(|_| panic!("room"))
    }

    #[test]
    fn the_one_with_more_to_do_is_left_alone() {
        let group = [candidate("busy", 1), candidate("idle", 1)];
        let _work = (lease(&group[0]), lease(&group[0]));
        assert_eq!(shares(picker(Strategy::LeastLoaded), &group, 50)["idle"], 50);
    }

    #[test]
    fn requests_of_others_in_an_engine_count_as_work() {
        use crate::route::fleet::Load;
        let group = [candidate("shared", 1), candidate("own", 1)];
        group[0].endpoint.backend.set_load(Load { running: 3, waiting: 2, ..Load::default() }, 0);
        let _work = lease(&group[1]);
        assert_eq!(shares(picker(Strategy::LeastLoaded), &group, 50)["own"], 50);
    }

    #[test]
    fn weighted_shares_are_in_proportion() {
        let group = [candidate("light", 1), candidate("heavy", 3)];
        let shares = shares(picker(Strategy::Weighted), &group, 4000);
        assert!((2800..3200).contains(&shares["heavy"]), "{shares:?}");
    }

    #[test]
    fn by_latency_the_fastest_serve_once_all_are_measured() {
        let group = [candidate("fast", 1), candidate("as-fast", 1), candidate("slow", 1)];
        for (candidate, ms) in group.iter().zip([100, 110, 300]) {
            candidate.endpoint.observe(true, Instant::now(), Duration::from_millis(ms));
        }
        let shares = shares(picker(Strategy::Latency), &group, 200);
        assert_eq!(shares.get("slow"), None, "{shares:?}");
        let group = [group[0].clone(), candidate("unknown", 1)];
        assert_eq!(
            picker(Strategy::Latency)
                .choose(group.iter().collect(), Instant::now())
                .expect("one")
                .endpoint
                .backend
                .id()
                .as_str(),
            "unknown"
        );
    }

    #[test]
    fn a_warm_model_is_preferred_to_one_that_must_be_loaded() {
        let group = [candidate("cold", 1), candidate("warm", 1)];
        group[0].endpoint.set_residency(Residency::Cold);
        group[1].endpoint.set_residency(Residency::Warm);
        let _work = (lease(&group[1]), lease(&group[1]));
        assert_eq!(shares(picker(Strategy::RoundRobin), &group, 10)["warm"], 10);
    }

    #[test]
    fn a_warm_model_that_is_long_occupied_is_not_waited_for() {
        use crate::route::fleet::Load;
        let group = [candidate("cold", 1), candidate("warm", 1)];
        group[0].endpoint.set_residency(Residency::Cold);
        group[1].endpoint.backend.observe_hold(Instant::now(), Duration::from_secs(20));
        group[1]
            .endpoint
            .backend
            .set_load(Load { running: 1, waiting: 3, slots: Some(1), kv_usage: None }, 0);
        assert_eq!(shares(picker(Strategy::LeastLoaded), &group, 10)["cold"], 10);
    }

    #[test]
    fn a_conversation_keeps_its_backend_and_a_crowded_one_lends_its_load() {
        let group = [candidate("a", 1), candidate("b", 1), candidate("c", 1)];
        let of = |fingerprint| Picker { affinity: Some(fingerprint), ..picker(Strategy::LeastLoaded) };
        for fingerprint in 0..20 {
            assert_eq!(shares(of(fingerprint), &group, 10).len(), 1);
        }
        let mut held = Vec::new();
        for _ in 0..30 {
            held.push(lease(of(7).choose(group.iter().collect(), Instant::now()).expect("one")));
        }
        let most = group.iter().map(|c| c.endpoint.backend.in_flight()).max().expect("three");
        assert!(most <= 13, "a third of 30, times 1.25, rounded up: {most}");
    }

    #[test]
    fn a_conversation_does_not_leave_for_one_request_of_another() {
        let group = [candidate("a", 1), candidate("b", 1), candidate("c", 1)];
        let place = || {
            let picker = Picker { affinity: Some(7), ..picker(Strategy::LeastLoaded) };
            picker.choose(group.iter().collect(), Instant::now()).expect("one")
        };
        let home = place().endpoint.backend.id().clone();
        let _other = lease(place());
        assert_eq!(*place().endpoint.backend.id(), home);
    }

    #[test]
    fn a_backend_that_leaves_moves_only_its_own_conversations() {
        let group = [candidate("a", 1), candidate("b", 1), candidate("c", 1)];
        let place = |group: &[Candidate], fingerprint| {
            let picker = Picker { affinity: Some(fingerprint), ..picker(Strategy::LeastLoaded) };
            picker
                .choose(group.iter().collect(), Instant::now())
                .expect("one")
                .endpoint
                .backend
                .id()
                .to_string()
        };
        for fingerprint in 0..100 {
            let before = place(&group, fingerprint);
            if before != "c" {
                assert_eq!(place(&group[..2], fingerprint), before);
            }
        }
    }

    #[test]
    fn one_that_has_just_come_back_gets_its_share_bit_by_bit() {
        let group = [candidate("back", 1), candidate("well", 1)];
        group[0].endpoint.breaker.allow_probe(Instant::now());
        let shares = shares(picker(Strategy::Weighted), &group, 1000);
        assert!((10..200).contains(&shares["back"]), "{shares:?}");
    }

    #[test]
    fn turns_are_taken_evenly() {
        let group = [candidate("a", 1), candidate("b", 1), candidate("c", 1)];
        let shares = shares(picker(Strategy::RoundRobin), &group, 99);
        assert!(shares.values().all(|share| *share == 33), "{shares:?}");
    }
}
