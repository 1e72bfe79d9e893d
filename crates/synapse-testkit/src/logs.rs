//! What a process prints, kept line by line, and waited for.

use std::{
    io::{BufRead, BufReader, Read},
    thread,
};

use serde_json::Value;
use tokio::sync::watch;

use crate::wait::within;

/// The lines of a process.
#[derive(Clone, Debug)]
pub struct Logs(watch::Receiver<Vec<String>>);

impl Logs {
    /// Collects the lines of `stream` until it ends.
    pub(crate) fn collect(stream: impl Read + Send + 'static) -> Self {
        let lines = watch::Sender::new(Vec::new());
        let logs = Self(lines.subscribe());
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                lines.send_modify(|lines| lines.push(line));
            }
        });
        logs
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    /// The lines so far that are JSON objects.
    pub fn entries(&self) -> Vec<Value> {
        self.lines().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The access lines so far.
    pub fn accesses(&self) -> Vec<Value> {
        self.entries().into_iter().filter(|entry| entry["target"] == "synapse::access").collect()
    }

    /// Waits until the lines satisfy `condition`.
    ///
    /// # Panics
    /// When the process ends before they do.
    pub async fn until<T>(&self, what: &str, mut condition: impl FnMut(&[String]) -> Option<T>) -> T {
        let mut lines = self.0.clone();
        let mut found = None;
        let met = lines.wait_for(|lines| {
            found = condition(lines);
            found.is_some()
        });
        let ended = within(what, met).await.is_err();
        found.unwrap_or_else(|| panic!("{what}: not said (process ended: {ended})"))
    }

    /// Waits for a line with this text in it.
    pub async fn line(&self, text: &str) -> String {
        let find = |lines: &[String]| lines.iter().find(|line| line.contains(text)).cloned();
        self.until(&format!("a line with `{text}`"), find).await
    }

    /// Waits until there are this many access lines.
    pub async fn accesses_reach(&self, count: usize) -> Vec<Value> {
        self.until(&format!("{count} access lines"), |lines| {
            let found: Vec<Value> = lines
                .iter()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .filter(|entry| entry["target"] == "synapse::access")
                .collect();
            (found.len() >= count).then_some(found)
        })
        .await
    }

    /// Waits until the process prints no more.
    pub(crate) async fn ended(&self) {
        let mut lines = self.0.clone();
        within("the process to end", async { while lines.changed().await.is_ok() {} }).await;
    }
}
