//! Where the gateway's configuration comes from: flags beat the environment, and both beat the file.

use std::{fmt, fs, io, path::PathBuf, sync::Arc};

use secrecy::SecretString;
use synapse_core::{
    config::{
        self, Problem, Surroundings,
        snapshot::{Snapshot, StaticKey, StaticWorkerKey},
    },
    glob::Glob,
    id::{GroupName, KeyId},
};

use crate::surroundings::{Files, Noting, Process};

/// What the command line says, by flag or environment.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    pub(crate) file: Option<PathBuf>,
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) metrics_port: Option<u16>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) database_url: Option<SecretString>,
    pub(crate) redis_url: Option<SecretString>,
    pub(crate) api_auth_key: Option<SecretString>,
    pub(crate) ws_auth_key: Option<SecretString>,
    /// What workers of the gateway's own platform are offered.
    pub(crate) client_binary: Option<PathBuf>,
    pub(crate) log_level: Option<String>,
}

/// What a configuration is made of: its own text, and the files that this refers to.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Sources {
    pub(crate) text: String,
    pub(crate) files: Files,
}

/// Why there is no configuration.
#[derive(Debug)]
pub(crate) enum SettingsError {
    /// The file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// The file is wrong.
    Wrong(PathBuf, Vec<Problem>),
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(f, "{} cannot be read: {error}", path.display()),
            Self::Wrong(path, problems) => {
                write!(f, "{} is not a valid configuration:", path.display())?;
                for problem in problems {
                    write!(f, "\n  {}:{problem}", path.display())?;
                    if let Some(hint) = &problem.hint {
                        write!(f, "\n    hint: {hint}")?;
                    }
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    /// The file's text; empty without a file.
    pub(crate) fn text(&self) -> Result<String, SettingsError> {
        match &self.file {
            None => Ok(String::new()),
            Some(path) => {
                fs::read_to_string(path).map_err(|error| SettingsError::Unreadable(path.clone(), error))
            }
        }
    }

    /// The configuration in `text`, with the command line's words on top.
    pub(crate) fn snapshot(&self, text: &str) -> Result<Snapshot, SettingsError> {
        self.load(text, &Process)
    }

    /// The same, with what it was made of; also where it is wrong, since a file may be what is to be mended.
    pub(crate) fn load_noting(&self, text: String) -> (Result<Snapshot, SettingsError>, Sources) {
        let noting = Noting::default();
        let loaded = self.load(&text, &noting);
        (loaded, Sources { text, files: noting.into_files() })
    }

    fn load(&self, text: &str, world: &dyn Surroundings) -> Result<Snapshot, SettingsError> {
        let path = || self.file.clone().unwrap_or_else(|| PathBuf::from("(no file)"));
        let mut snapshot =
            config::load(text, world).map_err(|problems| SettingsError::Wrong(path(), problems))?;
        if let Some(host) = &self.host {
            snapshot.server.host.clone_from(host);
        }
        if let Some(port) = self.port {
            snapshot.server.port = port;
        }
        if let (Some(port), Some((_, configured))) = (self.metrics_port, &mut snapshot.server.metrics) {
            *configured = port;
        }
        if let Some(folder) = &self.data_dir {
            snapshot.data_dir.clone_from(folder);
        }
        if let Some(url) = &self.database_url {
            snapshot.database_url = Some(url.clone());
        }
        if let Some(url) = &self.redis_url {
            snapshot.redis_url = Some(url.clone());
        }
        if let Some(level) = &self.log_level {
            snapshot.logs.level.clone_from(level);
        }
        if let Some(secret) = &self.api_auth_key {
            snapshot.auth.static_keys.push(StaticKey {
                id: KeyId::from("api-auth-key"),
                secret: secret.clone(),
                group: GroupName::default(),
                models: vec![Glob::new("*")],
                binding: Arc::default(),
            });
        }
        if let Some(secret) = &self.ws_auth_key {
            snapshot.auth.worker_keys.push(StaticWorkerKey {
                id: KeyId::from("ws-auth-key"),
                secret: secret.clone(),
                group: GroupName::default(),
            });
        }
        Ok(snapshot)
    }
}
