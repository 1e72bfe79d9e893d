//! `/health`: the last known state of all backends. It never asks anybody. Since it asks for no key either,
//! it names the default group's backends alone, and counts those of the others.

use serde_json::{Map, Value, json};
use synapse_core::id::GroupName;

use crate::{gateway::Live, route::fleet::Health};

/// The aggregate, in the contract's shape.
pub fn report(live: &Live) -> Value {
    let mut backends = Map::new();
    let (mut up, mut down, mut unnamed) = (0, 0, 0);
    for backend in live.fleet.iter() {
        match backend.health() {
            Health::Up => up += 1,
            Health::Down => down += 1,
            Health::Unknown => {}
        }
        if !backend.spec.groups.contains(&GroupName::default()) {
            unnamed += 1;
            continue;
        }
        let load = backend.load();
        backends.insert(
            backend.id().to_string(),
            json!({
                "status": backend.health().name(),
                "type": backend.spec.kind.name(),
                "models": backend.models.load().len(),
                "in_flight": backend.in_flight(),
                "running": load.running,
                "queue_depth": load.waiting,
                "slots": load.slots,
                "waiting": backend.waiting(),
            }),
        );
    }
    let total = live.fleet.iter().count();
    let status = match (up, down) {
        (0, 1..) => "unhealthy",
        (up, _) if up == total && total > 0 => "healthy",
        // Some are down, not yet known, or there are none at all.
        _ => "degraded",
    };
    json!({ "status": status, "backends": Value::Object(backends), "unnamed": unnamed })
}
