//! What one group of keys reaches: its own backends and models, and nothing of any other group's. A
//! group's requests are routed in its realm alone, so isolation needs no check along the way.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use synapse_core::{config::snapshot::Snapshot, id::GroupName};

use super::{
    catalog::{Catalog, Route},
    fleet::{BackendHandle, Fleet},
};

/// A group's backends and models.
#[derive(Default)]
pub struct Realm {
    /// Its backends.
    pub fleet: Fleet,
    /// Its models.
    pub catalog: Catalog,
}

impl Realm {
    /// The way of a model's name.
    pub fn resolve(&self, name: &str) -> Option<Arc<Route>> {
        self.catalog.resolve(name, &self.fleet)
    }
}

/// The realms of all groups.
#[derive(Default)]
pub struct Realms {
    by_group: HashMap<GroupName, Realm>,
    nowhere: Realm,
}

impl Realms {
    /// Builds the realms of every group that has a backend, and the default one.
    pub fn build(snapshot: &Snapshot, fleet: &Fleet, before: &Self) -> Self {
        let named = fleet.iter().flat_map(|backend| backend.spec.groups.iter().cloned());
        // One whose last backend has left is remembered for as long as its models are.
        let remembered = before.by_group.iter().filter(|(_, realm)| !realm.catalog.is_empty());
        let remembered = remembered.map(|(group, _)| group.clone());
        let groups: BTreeSet<GroupName> = named.chain(remembered).chain([GroupName::default()]).collect();
        let build = |group: GroupName| {
            let is_own = |backend: &&Arc<BackendHandle>| backend.spec.groups.contains(&group);
            let own = Fleet::new(fleet.iter().filter(is_own).cloned().collect());
            let catalog = Catalog::build(snapshot, &own, &before.of(&group).catalog);
            (group, Realm { fleet: own, catalog })
        };
        Self { by_group: groups.into_iter().map(build).collect(), nowhere: Realm::default() }
    }

    /// The realm of a group; an empty one where the group has no backend.
    pub fn of(&self, group: &GroupName) -> &Realm {
        self.by_group.get(group).unwrap_or(&self.nowhere)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, io, path::Path};

    use proptest::prelude::*;
    use synapse_core::config::{self, Surroundings};

    use super::*;
    use crate::route::testing::backend_of;

    /// A world without files and variables.
    struct Nothing;

    impl Surroundings for Nothing {
        fn env(&self, _: &str) -> Option<String> {
            None
        }

        fn read_file(&self, _: &Path) -> io::Result<String> {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    proptest! {
        #[test]
        fn no_group_ever_sees_or_reaches_what_is_not_its_own(
            fleet in prop::collection::vec((prop::collection::btree_set(0..4_usize, 1..3), prop::collection::btree_set(0..6_usize, 0..4)), 0..8),
            asked in prop::collection::vec(0..6_usize, 0..6),
        ) {
            let group = |number: usize| GroupName::from(format!("g{number}"));
            let model = |number: usize| format!("m{number}");
            let handles = fleet.iter().enumerate().map(|(at, (groups, models))| {
                let groups = groups.iter().map(|number| group(*number)).collect();
                backend_of(&format!("b{at}"), groups, &models.iter().map(|number| model(*number)).collect::<Vec<_>>())
            });
            let all = Fleet::new(handles.collect());
            let snapshot = config::load("", &Nothing).expect("a configuration");
            // Whatever was there before.
            let before = Fleet::new(all.iter().skip(all.iter().count() / 2).cloned().collect());
            let earlier = Realms::build(&snapshot, &before, &Realms::default());
            let realms = Realms::build(&snapshot, &all, &earlier);
            for number in 0..4 {
                let realm = realms.of(&group(number));
                let own: BTreeSet<String> = fleet
                    .iter()
                    .filter(|(groups, _)| groups.contains(&number))
                    .flat_map(|(_, models)| models.iter().map(|m| model(*m)))
                    .collect();
                let listed: BTreeSet<String> = realm.catalog.listing().iter().map(|(id, _)| id.clone()).collect();
                prop_assert_eq!(&listed, &own);
                for wanted in asked.iter().map(|number| model(*number)) {
                    let reached = realm.resolve(&wanted);
                    prop_assert_eq!(reached.is_some(), own.contains(&wanted));
                    for candidate in reached.iter().flat_map(|route| &route.candidates) {
                        prop_assert!(candidate.endpoint.backend.spec.groups.contains(&group(number)));
                    }
                }
            }
        }
    }
}
