//! `--self-update`: when a gateway has something newer, this worker's binary gives way to it, and the
//! process starts anew with the same arguments.

mod ledger;
mod place;
mod source;

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, anyhow, ensure};
use synapse_tunnel::worker::{Outdated, luck};
use tokio::{sync::watch, task::spawn_blocking, time::sleep};

use crate::binary::{Platform, Sum, running};
use ledger::{Ledger, Step};
use place::Place;
use source::Source;

/// The time until the next attempt, and up to half as much again.
const AGAIN: Duration = Duration::from_secs(60);

/// How this worker is updated.
pub(super) struct Updater {
    place: Place,
    /// What this process runs, whatever lies in its place by now.
    running: Sum,
    ca_file: Option<PathBuf>,
    hop: String,
    /// The longest wait before an update, so that the workers of a fleet do not all go at once.
    within: Duration,
    outdated: watch::Receiver<Option<Outdated>>,
}

/// What has come of an attempt.
enum Attempt {
    /// There is another binary in this one's place.
    Replaced,
    /// The gateway has this very one.
    UpToDate,
}

impl Updater {
    pub(super) async fn new(
        ca_file: Option<PathBuf>,
        hop: String,
        within: Duration,
        outdated: watch::Receiver<Option<Outdated>>,
    ) -> anyhow::Result<Self> {
        let place = Place::find().context("--self-update: it is not known where this binary lies")?;
        let reading = spawn_blocking(|| Sum::of(File::open(running()?)?));
        let (running, _) = reading.await?.context("--self-update: this binary cannot be read")?;
        Ok(Self { place, running, ca_file, hop, within, outdated })
    }

    /// Waits until another binary is in this one's place.
    pub(super) async fn replaced(&mut self) {
        let mut told = None;
        let mut awaited = None;
        loop {
            let Some(outdated) = self.wanted().await else { return std::future::pending().await };
            // Whom nobody lets in serves nobody, and need not wait.
            if outdated.is_let_in && awaited.as_ref() != Some(&outdated) {
                sleep(self.within.mul_f64(luck())).await;
                awaited = Some(outdated);
                continue;
            }
            match self.attempt(&outdated).await {
                Ok(Attempt::Replaced) => return,
                Ok(Attempt::UpToDate) => tracing::debug!("the gateway offers what runs here already"),
                Err(error) => {
                    let text = format!("{error:#}");
                    if told.as_ref() != Some(&text) {
                        tracing::warn!(server = %outdated.server, "the worker goes on as it is: {text}");
                        told = Some(text);
                    }
                }
            }
            sleep(AGAIN.mul_f64(1.0 + luck() / 2.0)).await;
        }
    }

    /// Waits until a gateway has something newer; `None` when nobody is left who could say so.
    async fn wanted(&mut self) -> Option<Outdated> {
        self.outdated.wait_for(Option::is_some).await.ok()?.clone()
    }

    async fn attempt(&self, outdated: &Outdated) -> anyhow::Result<Attempt> {
        let source = Source::new(&outdated.server, self.ca_file.as_deref(), &self.hop)?;
        let platform = Platform::own();
        let wanted = match outdated.sha256.get(platform.as_str()) {
            Some(text) => text.parse().map_err(|()| anyhow!("the gateway announced what is no SHA-256"))?,
            None => source.sum().await?,
        };
        if wanted == self.running {
            return Ok(Attempt::UpToDate);
        }
        // Another worker of this machine may have been here before.
        if self.place.sum().await.is_ok_and(|there| there == wanted) {
            return Ok(Attempt::Replaced);
        }
        let ledger = Ledger::beside(self.place.path());
        ledger.check(wanted, now())?;
        let file = self.place.beside()?;
        let offered = source.open().await?;
        ensure!(offered.sum == wanted, "the gateway offers another binary than it has announced");
        ledger.note(wanted, Step::Tried, now()).context("the attempt cannot be noted beside the binary")?;
        tracing::info!(server = %outdated.server, from = %self.running, to = %wanted, "updating");
        let new = offered.save(file, wanted).await?;
        self.place.replace(new).await?;
        ledger.note(wanted, Step::Installed, now())?;
        Ok(Attempt::Replaced)
    }

    /// Starts what lies in this binary's place, as this process was started; comes back only with an
    /// error.
    pub(super) fn restart(&self) -> anyhow::Error {
        let mut arguments = std::env::args_os();
        let mut command = Command::new(self.place.path());
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        let error = command.args(arguments).exec();
        anyhow::Error::new(error).context("the updated worker cannot be started")
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
