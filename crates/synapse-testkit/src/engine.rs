//! Simulated engines, in the process of the test.

use std::{net::SocketAddr, ops::Deref, time::Duration};

use synapse_simulator::{Behaviour, Control, Counters, Engine as Kind, Options, Simulator};
use tokio::{net::TcpStream, task::JoinSet};

use crate::wait::{poll, within};

/// A running engine; dropped, it dies. Its control is at hand.
pub struct Engine {
    name: String,
    kind: Kind,
    address: SocketAddr,
    control: Control,
    serving: JoinSet<()>,
}

impl Deref for Engine {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.control
    }
}

impl Engine {
    /// An engine of the usual kind that serves `model` at once, in replies of eight tokens.
    pub async fn serving(name: &str, model: &str) -> Self {
        Self::start(name, Self::options(model)).await
    }

    /// The options of [`Self::serving`].
    pub fn options(model: &str) -> Options {
        Options { models: vec![model.to_owned()], tokens: 8, ..Options::default() }
    }

    /// An engine as the options say.
    ///
    /// # Panics
    /// When its port is taken.
    pub async fn start(name: &str, options: Options) -> Self {
        let kind = options.engine;
        let simulator = Simulator::bind(options).await.expect("the simulator binds");
        let (address, control) = (simulator.addr(), simulator.control());
        let mut serving = JoinSet::new();
        serving.spawn(simulator.run());
        Self { name: name.to_owned(), kind, address, control, serving }
    }

    /// The same engine, begun with another behaviour.
    #[must_use]
    pub fn that(self, change: impl FnOnce(&mut Behaviour)) -> Self {
        self.control.update(change);
        self
    }

    /// The same engine, with this much time between two tokens.
    #[must_use]
    pub fn paced(self, between_tokens: Duration) -> Self {
        self.that(|behaviour| behaviour.itl = between_tokens)
    }

    /// Waits until the counters satisfy `condition`.
    pub async fn until(&self, condition: impl FnMut(&Counters) -> bool) -> Counters {
        within("the engine to see it", self.control.until(condition)).await
    }

    /// Dies, and is gone for certain when this returns.
    pub async fn die(&mut self) {
        self.control.kill();
        while self.serving.join_next().await.is_some() {}
        // A process that is just being started elsewhere may hold the socket for a moment longer.
        let gone = async || TcpStream::connect(self.address).await.is_err().then_some(());
        poll("the engine's port to be closed", gone).await;
    }

    /// Its name as a backend.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its kind, as a configuration spells it.
    pub fn kind(&self) -> &'static str {
        self.kind.as_str()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The body of the call that came last.
    ///
    /// # Panics
    /// When there was none.
    pub fn last_body(&self) -> String {
        let calls = self.requests();
        let body = &calls.last().expect("a call at the engine").body;
        String::from_utf8_lossy(body).into_owned()
    }
}
