//! Where a request may go for what it carries: backends of localities that its data class allows, and only
//! those of the house where it carries what cannot be searched and its key wants that. The plan asks here
//! before it considers a place, for first attempts, retries, fallbacks and lines alike.

use std::sync::Arc;

use synapse_core::{
    config::snapshot::Locality,
    data_class::DataClass,
    error::{Fault, FaultKind},
};

use super::{catalog::Route, endpoint::Endpoint};

/// Where a request may go.
#[derive(Clone)]
pub struct Reach {
    class: Arc<DataClass>,
    /// What of the request must not leave the house, because nothing can be found in it.
    unsearchable: Option<String>,
}

impl Reach {
    /// Wherever the class may go.
    pub const fn of(class: Arc<DataClass>) -> Self {
        Self { class, unsearchable: None }
    }

    /// The class.
    pub fn class(&self) -> &DataClass {
        &self.class
    }

    /// Whether it reaches beyond the house.
    pub fn leaves_house(&self) -> bool {
        self.unsearchable.is_none() && self.class.allows(Locality::Cloud)
    }

    /// Only within the house, for the sake of what stands at this place of the request.
    pub fn keep_in_house(&mut self, place: String) {
        self.unsearchable = Some(place);
    }

    /// Whether the request may go there.
    pub fn includes(&self, endpoint: &Endpoint) -> bool {
        let locality = endpoint.locality();
        self.class.allows(locality) && (self.unsearchable.is_none() || locality == Locality::OnPrem)
    }

    /// Whether the request may go to any of a route's places.
    pub fn includes_any_of(&self, route: &Route) -> bool {
        route.candidates.iter().any(|candidate| self.includes(&candidate.endpoint))
    }

    /// What the caller is told who can reach no backend of `model`.
    pub fn fault(&self, model: &str) -> Fault {
        let name = &self.class.name;
        let message = match &self.unsearchable {
            Some(place) => format!(
                "The model `{model}` has no backend on premises, where `{place}` would have to stay: \
                 it cannot be searched for sensitive data. Leave it out, or use another model."
            ),
            None => format!(
                "The model `{model}` has no backend that data of the class `{name}` may go to. \
                 Use another model, or a key for less sensitive data."
            ),
        };
        Fault::new(FaultKind::NoBackendAvailable, message).detail("data_class", name.as_str())
    }
}
