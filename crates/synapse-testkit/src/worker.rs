//! A worker, running as a process in a folder of its own.

use std::{
    path::Path,
    process::{Child, Command, ExitStatus},
};

use tempfile::TempDir;

use crate::{gateway::command, logs::Logs};

/// A running worker; dropped, it is killed.
pub struct Worker {
    _folder: TempDir,
    child: Child,
    logs: Logs,
}

impl Worker {
    /// One of the binary at this path, with these arguments after `worker`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(binary: impl AsRef<Path>, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = command(binary.as_ref(), folder.path());
        // The machine's own settings for OpenAI's clients are none of the test's.
        command.env_remove("OPENAI_BASE_URL").env_remove("OPENAI_API_KEY");
        let mut child = command.arg("worker").args(args).spawn().expect("the binary runs");
        let logs = Logs::collect(child.stderr.take().expect("its stderr"));
        Self { _folder: folder, child, logs }
    }

    /// What it logs.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// Asks it to end, as a supervisor does.
    ///
    /// # Panics
    /// When the signal cannot be sent.
    pub fn terminate(&self) {
        let sent = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        assert!(sent.expect("kill runs").success(), "the signal was not sent");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it goes on.
    pub async fn ended(&mut self) -> ExitStatus {
        self.logs.ended().await;
        self.child.wait().expect("its exit status")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already; either way it is gone afterwards.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the worker said:\n{}", self.logs.lines().join("\n"));
        }
    }
}
