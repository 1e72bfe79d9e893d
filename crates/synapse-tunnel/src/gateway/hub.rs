//! All workers that are in. Of each worker the newest session counts; the end of an older one takes
//! nothing from it.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use synapse_core::id::KeyId;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

use super::{
    admission::{Admission, Busy, Gate},
    flapping::Comings,
    host,
    session::{Credential, End, Identity, Opening, Session},
};
use crate::{
    message::{Hello, Notice},
    protocol::{Close, HANDSHAKE, Liveness, code},
};

/// What a worker should know when it comes.
pub type Notices = Box<dyn Fn(&Hello) -> Vec<Notice> + Send + Sync>;

/// What a hub needs to know of its gateway.
pub struct HubOptions {
    /// Random for each process of the gateway.
    pub replica: String,
    /// Its software version.
    pub version: String,
    /// How long a worker that flaps must hold before it is routable.
    pub settle: Duration,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// When a silent worker is given up.
    pub liveness: Liveness,
    /// Whether a credential is still good. It is asked just before a worker is let in, when
    /// [`Hub::revoke`] can no longer miss it: change the record first, then revoke.
    pub is_valid: Box<dyn Fn(&Credential) -> bool + Send + Sync>,
    /// What a worker should know when it comes.
    pub notices: Notices,
}

impl HubOptions {
    /// The usual ones: every credential stays good, and there is nothing to tell.
    pub fn new(replica: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            replica: replica.into(),
            version: version.into(),
            settle: Duration::from_secs(10),
            handshake: HANDSHAKE,
            liveness: Liveness::default(),
            is_valid: Box::new(|_| true),
            notices: Box::new(|_| Vec::new()),
        }
    }
}

/// What has happened so far, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Workers that were let in.
    pub welcomed: AtomicU64,
    /// Connections that did not get through their handshake.
    pub refused: AtomicU64,
    /// Workers that were asked to come later.
    pub turned_away: AtomicU64,
    /// Sessions that gave way to a newer one of the same worker.
    pub superseded: AtomicU64,
    /// Sessions whose key was revoked.
    pub revoked: AtomicU64,
    /// Sessions that broke or fell silent.
    pub lost: AtomicU64,
    /// Sessions that began while their worker was flapping.
    pub flapping: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// All workers that are in.
pub struct Hub {
    pub(super) options: HubOptions,
    gate: Arc<Gate>,
    seats: Mutex<Seats>,
    changes: watch::Sender<u64>,
    counters: Counters,
    /// Whether nobody new is given work.
    draining: AtomicBool,
}

#[derive(Default)]
struct Seats {
    sessions: HashMap<Identity, Session>,
    comings: Comings,
    epoch: u64,
}

impl Hub {
    /// A hub without workers.
    pub fn new(options: HubOptions) -> Arc<Self> {
        Arc::new(Self {
            options,
            gate: Gate::new(Instant::now()),
            seats: Mutex::default(),
            changes: watch::Sender::new(0),
            counters: Counters::default(),
            draining: AtomicBool::new(false),
        })
    }

    /// The leave to upgrade a worker's connection; to be asked for after its key was checked.
    ///
    /// # Errors
    /// When too many come at once.
    pub fn admit(&self, key: &KeyId) -> Result<Admission, Busy> {
        self.gate.admit(Instant::now(), key).inspect_err(|_| count(&self.counters.turned_away))
    }

    /// Serves a worker on its upgraded connection until it ends. To be spawned on the runtime of the
    /// connection; dropping the future cuts the connection.
    pub async fn accept<S>(
        self: &Arc<Self>,
        io: S,
        credential: Credential,
        peer: Option<IpAddr>,
        admission: Admission,
    ) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Box::pin(host::serve(self, io, credential, peer, admission)).await
    }

    /// Counts how a connection has ended.
    pub(super) fn note_end(&self, end: &End) {
        match end {
            End::Refused(_) => count(&self.counters.refused),
            End::Lost => count(&self.counters.lost),
            End::Left | End::Closed(_) | End::ByWorker(_) => {}
        }
    }

    /// All sessions, by group and name.
    pub fn sessions(&self) -> Vec<Session> {
        let mut sessions: Vec<_> = self.seats().sessions.values().cloned().collect();
        sessions.sort_unstable_by(|a, b| a.identity().cmp(b.identity()));
        sessions
    }

    /// The session of one worker.
    pub fn get(&self, identity: &Identity) -> Option<Session> {
        self.seats().sessions.get(identity).cloned()
    }

    /// A number that grows whenever a session comes, goes, or has something new to say; changes that
    /// follow each other quickly may be seen as one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// What has happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Ends all sessions whose credential is one of these, at once; how many there were.
    pub fn revoke(&self, is_revoked: impl Fn(&Credential) -> bool) -> usize {
        let mut revoked = self.sessions();
        revoked.retain(|session| is_revoked(session.credential()));
        for session in &revoked {
            count(&self.counters.revoked);
            session.close(Close::new(code::REVOKED, "the worker's key is not valid any more"));
        }
        revoked.len()
    }

    /// Ends all sessions as their calls end.
    pub async fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        let sessions = self.sessions();
        futures_util::future::join_all(sessions.iter().map(Session::drain)).await;
    }

    /// Lets a worker in; an older session of it goes.
    pub(super) fn seat(
        self: &Arc<Self>,
        opening: impl FnOnce(u64, bool) -> Opening,
        identity: &Identity,
    ) -> Seated {
        let mut seats = self.seats();
        seats.epoch += 1;
        let flaps = seats.comings.note(identity, Instant::now());
        // One that takes the place of a serving one serves at once: a pause would help nobody.
        let takes_over = seats.sessions.get(identity).is_some_and(Session::may_serve);
        let session = Session::new(opening(seats.epoch, !flaps || takes_over));
        let older = seats.sessions.insert(identity.clone(), session.clone());
        drop(seats);
        count(&self.counters.welcomed);
        if flaps {
            count(&self.counters.flapping);
            tracing::warn!(worker = %identity, "the worker comes and goes; it gets requests once it holds");
        }
        if let Some(older) = older {
            count(&self.counters.superseded);
            let (code, reason) = if older.instance() == session.instance() {
                (code::REPLACED, "the worker has connected again")
            } else {
                (code::SUPERSEDED, "another worker has connected under the same name")
            };
            tracing::warn!(worker = %identity, "{reason}");
            older.close(Close::new(code, reason));
        }
        // It may have been on its way in when the others were drained.
        if self.draining.load(Ordering::SeqCst) {
            session.close(Close::new(code::GOING_AWAY, "the gateway is going down"));
        }
        self.changed();
        Seated { hub: Arc::clone(self), session, end: End::Lost }
    }

    /// A session has ended; a newer one of the same worker stays.
    fn unseat(&self, session: &Session, end: End) {
        let mut seats = self.seats();
        if seats.sessions.get(session.identity()).is_some_and(|seated| seated.epoch() == session.epoch()) {
            seats.sessions.remove(session.identity());
        }
        drop(seats);
        session.set_end(end);
        self.changed();
    }

    /// Something is new.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|number| *number += 1);
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a session in the hub; dropped, it is free.
pub(super) struct Seated {
    hub: Arc<Hub>,
    session: Session,
    end: End,
}

impl Seated {
    /// The session.
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Gives up the place, and says why.
    pub(super) fn leave(mut self, end: End) {
        self.end = end;
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.hub.unseat(&self.session, self.end.clone());
    }
}
