//! How long the gate waits, and for what.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::Instant,
};

use super::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

struct Ends {
    gate: Gate<DuplexStream>,
    peer: DuplexStream,
    turnstile: Arc<Turnstile>,
    began: Instant,
}

fn ends() -> Ends {
    let (ours, peer) = duplex(64 * 1024);
    let turnstile = Turnstile::new();
    Ends { gate: Gate::new(ours, Arc::clone(&turnstile)), peer, turnstile, began: Instant::now() }
}

impl Ends {
    async fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; 8192];
        let count = self.gate.read(&mut buffer).await?;
        buffer.truncate(count);
        Ok(buffer)
    }

    async fn passes(&mut self, bytes: &[u8]) {
        self.peer.write_all(bytes).await.expect("written");
        assert_eq!(self.read().await.expect("bytes"), bytes);
    }

    fn seconds(&self) -> u64 {
        self.began.elapsed().as_secs()
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_newcomer_is_cut_and_a_dripping_head_is_told_why() {
    let mut silent = ends();
    assert_eq!(silent.read().await.expect_err("silence").kind(), io::ErrorKind::TimedOut);
    assert_eq!(silent.seconds(), 10);

    for begun in [false, true] {
        let mut dripping = ends();
        if begun {
            dripping.passes(GET).await;
            drop(dripping.turnstile.begin());
            dripping.began = Instant::now();
        }
        let drip = async {
            while dripping.peer.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(3)).await;
            }
        };
        let mut buffer = [0; 100];
        tokio::select! {
            () = drip => panic!("the peer was cut"),
            count = dripping.gate.read(&mut buffer) => assert_eq!(&buffer[..count.expect("bytes")], STAND_IN),
        }
        assert_eq!(dripping.seconds(), 10);
        assert_eq!(dripping.turnstile.begin().1, Some(HEAD_TIMED_OUT));
    }
}

#[tokio::test(start_paused = true)]
async fn within_a_request_time_is_not_limited_here_and_between_them_it_is() {
    let mut ends = ends();
    ends.passes(GET).await;
    let serving = ends.turnstile.begin();
    let waited = tokio::time::timeout(Duration::from_secs(3600), ends.read()).await;
    assert!(waited.is_err(), "a request may take its time");
    drop(serving);
    ends.began = Instant::now();
    assert_eq!(ends.read().await.expect_err("silence").kind(), io::ErrorKind::TimedOut);
    assert!((90..=180).contains(&ends.seconds()), "{}", ends.seconds());
}

#[tokio::test(start_paused = true)]
async fn the_next_request_waits_until_the_one_before_is_answered() {
    let mut ends = ends();
    ends.peer.write_all(&[GET, GET].concat()).await.expect("written");
    assert_eq!(ends.read().await.expect("bytes"), GET);
    let serving = ends.turnstile.begin();
    let too_soon = tokio::time::timeout(Duration::from_secs(1), ends.read()).await;
    assert!(too_soon.is_err());
    drop(serving);
    assert_eq!(ends.read().await.expect("bytes"), GET);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_leaves_is_noticed_behind_further_requests() {
    let mut ends = ends();
    ends.peer.write_all(&[GET, GET].concat()).await.expect("written");
    assert_eq!(ends.read().await.expect("bytes"), GET);
    let _serving = ends.turnstile.begin();
    ends.peer.shutdown().await.expect("closed");
    assert_eq!(ends.read().await.expect("an end"), b"");
}

#[tokio::test(start_paused = true)]
async fn a_reader_who_disagrees_gets_nothing_more() {
    // One who takes a whole head for half of one.
    let mut short = ends();
    short.passes(GET).await;
    assert_eq!(short.read().await.expect_err("an error").kind(), io::ErrorKind::InvalidData);
    // One who finds two requests where there is one.
    let mut long = ends();
    long.passes(GET).await;
    assert_eq!(long.turnstile.begin().1, None);
    assert!(long.turnstile.begin().1.is_some());
}

#[tokio::test(start_paused = true)]
async fn idle_http2_is_asked_to_leave() {
    let mut ends = ends();
    ends.passes(PREFACE).await;
    let serving = ends.turnstile.begin();
    assert!(tokio::time::timeout(Duration::from_secs(3600), ends.read()).await.is_err());
    drop(serving);
    ends.began = Instant::now();
    let turnstile = Arc::clone(&ends.turnstile);
    tokio::select! {
        biased;
        _ = turnstile.asked(Ask::Leave) => {}
        _ = ends.read() => panic!("it was cut at once"),
    }
    assert!((90..=180).contains(&ends.seconds()), "{}", ends.seconds());
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_answered_with_what_ends_the_connection() {
    let mut ends = ends();
    ends.passes(PREFACE).await;
    let resets = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8].repeat(201);
    ends.peer.write_all(&resets).await.expect("written");
    let mut got = Vec::new();
    while got.len() < 200 * 13 + CALM_DOWN.len() {
        got.extend(ends.read().await.expect("bytes"));
    }
    assert_eq!(got, [&resets[..200 * 13], &CALM_DOWN].concat());
}
