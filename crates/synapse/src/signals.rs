//! Signals: the first asks the process to end in order, the second ends it.

use synapse_gateway::tasks;
use tokio::signal::unix::{SignalKind, signal};

use crate::logs::LogWriter;

/// Waits for the first signal; another one after it ends the process at once. `hung_up` is what to say
/// to a hang-up, which ends nothing.
pub(crate) async fn wait(logs: LogWriter, hung_up: &str) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            // Asked to reload, as other servers are; or a terminal has closed.
            _ = hang_up.recv() => tracing::info!("{hung_up}"),
        }
    }
    tasks::detach("second signal", async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("a second signal ends the process at once");
        logs.flush();
        std::process::exit(1);
    });
    Ok(())
}
