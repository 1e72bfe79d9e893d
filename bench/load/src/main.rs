//! Puts load on an OpenAI-style endpoint and reports, as one JSON object, what came back and how
//! much CPU time it took the processes under load.

mod client;
mod cpu;
mod drive;
mod report;
mod schedule;

use std::{io::Write as _, net::SocketAddr, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use client::{Ask, Target};

#[derive(Parser)]
#[command(about = "Puts load on a chat endpoint on loopback")]
struct Cli {
    #[command(subcommand)]
    arrivals: Arrivals,
}

#[derive(Subcommand)]
enum Arrivals {
    /// Each connection sends its next request when the last one is answered.
    Closed {
        #[command(flatten)]
        common: Common,
        /// A new connection for every request.
        #[arg(long)]
        fresh: bool,
        /// Ends earlier, after this many requests.
        #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
        requests: u64,
        /// The connections begin one after the other within so many milliseconds, so that paced
        /// streams do not all have their events at the same moments.
        #[arg(long, default_value_t = 0)]
        spread_ms: u64,
    },
    /// Requests arrive at a fixed rate, whether earlier ones are answered or not, and go to the
    /// connection that has been idle for longest. Latency counts from when a request was due.
    Open {
        #[command(flatten)]
        common: Common,
        /// Requests per second.
        #[arg(long)]
        rate: f64,
        /// Requests per second, on a connection of their own and not in the figures, that each
        /// keep the proxy's thread busy for `--busy-us`.
        #[arg(long, default_value_t = 0.0, requires = "busy_us")]
        busy_rate: f64,
        /// Microseconds of CPU asked for by the header `x-busy-us`.
        #[arg(long, default_value_t = 0)]
        busy_us: u64,
    },
}

#[derive(Args)]
struct Common {
    /// A loopback address.
    #[arg(long)]
    address: SocketAddr,
    #[arg(long, default_value_t = 32)]
    connections: usize,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds of the same load before anything counts (closed loop only).
    #[arg(long, default_value_t = 0.0)]
    warmup: f64,
    #[arg(long, value_enum, default_value = "plain")]
    reply: Reply,
    /// Events that a stream must have, before its `[DONE]`.
    #[arg(long, default_value_t = 64)]
    events: u64,
    /// How long the prompt is.
    #[arg(long, default_value_t = 864)]
    prompt_bytes: usize,
    /// Sent as a bearer token.
    #[arg(long)]
    key: Option<String>,
    /// Processes whose CPU time is counted.
    #[arg(long, value_delimiter = ',')]
    pids: Vec<i32>,
}

/// What to ask the upstream for.
#[derive(Clone, Copy, ValueEnum)]
enum Reply {
    Plain,
    Burst,
    Paced,
}

impl Common {
    fn target(&self) -> anyhow::Result<Target> {
        anyhow::ensure!(self.address.ip().is_loopback(), "only loopback addresses are allowed");
        anyhow::ensure!((0.1..=600.0).contains(&self.seconds), "--seconds goes from 0.1 to 600");
        let (model, events) = match self.reply {
            Reply::Plain => ("plain", None),
            Reply::Burst => ("burst", Some(self.events)),
            Reply::Paced => ("paced", Some(self.events)),
        };
        let ask = Ask { model, events, prompt_bytes: self.prompt_bytes, key: self.key.as_deref() };
        Target::new(self.address, &ask)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let report = match Cli::parse().arrivals {
        Arrivals::Closed { common, fresh, requests, spread_ms } => {
            let target = common.target()?;
            let spread = Duration::from_millis(spread_ms);
            let how = drive::Closed { connections: common.connections, fresh, requests, spread };
            if common.warmup > 0.0 {
                drive::closed(&target, &how, Duration::from_secs_f64(common.warmup.min(60.0))).await?;
            }
            let before = cpu::Snapshot::take(&common.pids)?;
            let tally = drive::closed(&target, &how, Duration::from_secs_f64(common.seconds)).await?;
            tally.report(&before.until_now()?)
        }
        Arrivals::Open { common, rate, busy_rate, busy_us } => {
            let target = common.target()?;
            anyhow::ensure!((1.0..=100_000.0).contains(&rate), "--rate goes from 1 to 100000");
            let duration = Duration::from_secs_f64(common.seconds);
            let busy = drive::Busy { rate: busy_rate, micros: busy_us };
            let before = cpu::Snapshot::take(&common.pids)?;
            let tally = drive::open(target, common.connections, rate, busy, duration).await?;
            tally.report(&before.until_now()?)
        }
    };
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&report)?)?;
    Ok(())
}
