//! `synapse serve`: runs the gateway.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use secrecy::SecretString;

use super::{location::StoreLocation, secret};
use crate::{compose, settings::Settings, surroundings::Process};

/// Flags of `synapse serve`. What is not given is left to the configuration and its defaults.
#[derive(Args, Debug)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    pub(super) location: StoreLocation,
    /// Name or address to listen on; `localhost` means both families [default: localhost]
    #[arg(long)]
    pub(super) host: Option<String>,
    /// Port to listen on; 0 picks a free one [default: 8080]
    #[arg(long)]
    pub(super) port: Option<u16>,
    /// Port for Prometheus' metrics; 0 picks a free one [default: 9464]
    #[arg(long, value_name = "PORT")]
    pub(super) metrics_port: Option<u16>,
    /// Redis, for limits that several gateways hold together: redis://… or rediss://…, or file:/path of it
    #[arg(long, value_name = "URL")]
    pub(super) redis_url: Option<SecretString>,
    /// An API key of your own spelling, for team `default`, or file:/path of it
    #[arg(long, value_name = "KEY")]
    pub(super) api_auth_key: Option<SecretString>,
    /// A key of your own spelling for workers, in group `default`, or file:/path of it
    #[arg(long, value_name = "KEY")]
    pub(super) ws_auth_key: Option<SecretString>,
    /// The binary that /getclient offers to workers of this platform [default: this one]
    #[arg(long, value_name = "FILE")]
    pub(super) client_binary: Option<PathBuf>,
    /// Add a simulated engine, so that the first request works with no model at all
    #[arg(long)]
    pub(super) demo: bool,
    /// What to log: error, warn, info, debug, trace, or filters such as `info,synapse_gateway=debug`
    #[arg(long, value_name = "LEVEL")]
    pub(super) log_level: Option<String>,
}

pub(super) async fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let StoreLocation { config, data_dir, database_url } = args.location;
    let settings = Settings {
        file: config,
        host: args.host,
        port: args.port,
        metrics_port: args.metrics_port,
        data_dir,
        database_url,
        redis_url: secret::read("--redis-url", args.redis_url, &Process)?,
        api_auth_key: secret::read("--api-auth-key", args.api_auth_key, &Process)?,
        ws_auth_key: secret::read("--ws-auth-key", args.ws_auth_key, &Process)?,
        client_binary: args.client_binary,
        log_level: args.log_level,
    };
    compose::serve(settings, args.demo).await
}
