//! Classes of data: how sensitive traffic is, and where it may go for that.

use std::sync::Arc;

use crate::{
    config::snapshot::Locality,
    id::{ClassName, PolicyName},
};

/// One class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataClass {
    /// Its name.
    pub name: ClassName,
    /// Where its traffic may go.
    pub localities: Vec<Locality>,
    /// The policy for sensitive data in it, where its key names none.
    pub dlp_policy: PolicyName,
}

impl DataClass {
    /// Whether its traffic may go there.
    pub fn allows(&self, locality: Locality) -> bool {
        self.localities.contains(&locality)
    }
}

/// All classes, the least sensitive first. There is always one, and a more sensitive one goes nowhere that a
/// less sensitive one does not: so raising a class can only narrow where a request goes.
#[derive(Clone, Debug)]
pub struct DataClasses {
    rest: Vec<Arc<DataClass>>,
    most_sensitive: Arc<DataClass>,
}

impl Default for DataClasses {
    fn default() -> Self {
        let class = |name: &str, localities: &[Locality], policy: &str| DataClass {
            name: name.into(),
            localities: localities.to_vec(),
            dlp_policy: policy.into(),
        };
        let non_sensitive = class("non_sensitive", &[Locality::OnPrem, Locality::Cloud], "cloud");
        Self {
            rest: vec![Arc::new(non_sensitive)],
            most_sensitive: Arc::new(class("sensitive", &[Locality::OnPrem], "on_prem")),
        }
    }
}

impl DataClasses {
    /// These classes, the least sensitive first; the usual two where there are none.
    pub fn new(classes: Vec<DataClass>) -> Self {
        let mut rest: Vec<Arc<DataClass>> = classes.into_iter().map(Arc::new).collect();
        rest.pop().map_or_else(Self::default, |most_sensitive| Self { rest, most_sensitive })
    }

    /// All of them, the least sensitive first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<DataClass>> {
        self.rest.iter().chain([&self.most_sensitive])
    }

    /// The class of this name, and how sensitive it is among all.
    pub fn find(&self, name: &str) -> Option<(usize, &Arc<DataClass>)> {
        self.iter().enumerate().find(|(_, class)| class.name.as_str() == name)
    }

    /// The class of a key that names this one, and how sensitive it is: the most sensitive class, where the key
    /// names none, or one that does not exist.
    pub fn of(&self, name: Option<&ClassName>) -> (usize, &Arc<DataClass>) {
        let named = name.and_then(|name| self.find(name.as_str()));
        named.unwrap_or((self.rest.len(), &self.most_sensitive))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_without_a_class_or_with_an_unknown_one_is_as_sensitive_as_can_be() {
        let classes = DataClasses::default();
        for name in [None, Some("no_such_class".into()), Some("Non_Sensitive".into()), Some("".into())] {
            let (rank, class) = classes.of(name.as_ref());
            assert_eq!((rank, class.name.as_str()), (1, "sensitive"), "{name:?}");
            assert!(class.allows(Locality::OnPrem) && !class.allows(Locality::Cloud));
        }
        assert_eq!(classes.of(Some(&"non_sensitive".into())).0, 0);
    }
}
