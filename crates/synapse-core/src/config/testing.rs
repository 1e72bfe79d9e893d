//! A world of variables and files in memory, for the tests of this module.

use std::{collections::HashMap, io, path::Path};

use super::Surroundings;

#[derive(Default)]
pub(crate) struct World {
    vars: HashMap<&'static str, &'static str>,
    files: HashMap<&'static str, &'static str>,
}

impl World {
    pub(crate) fn var(mut self, name: &'static str, value: &'static str) -> Self {
        self.vars.insert(name, value);
        self
    }

    pub(crate) fn file(mut self, path: &'static str, text: &'static str) -> Self {
        self.files.insert(path, text);
        self
    }
}

impl Surroundings for World {
    fn env(&self, name: &str) -> Option<String> {
        self.vars.get(name).map(ToString::to_string)
    }

    fn read_file(&self, path: &Path) -> io::Result<String> {
        let found = path.to_str().and_then(|path| self.files.get(path));
        found.map(ToString::to_string).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}
