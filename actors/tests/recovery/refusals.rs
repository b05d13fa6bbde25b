//! Refusals in the handshake of a reconnect, by their meaning: which are waited out, and which end the recovery.

use std::time::Duration;

use actix_pika_actors::{
    Address, ConnectionEvent, ConnectionOptions, ErrorKind, Recovery, WatchConnection,
    testing::{HandshakeScript, HandshakeStep, MemoryPeer, Probe},
};
use tokio::time::{Instant, pause};

use super::common::{Bench, Client};

const LIMIT: &str =
    "NOT_ALLOWED - access to vhost '/' refused for user 'guest': connection limit (1) is reached";
const NO_VHOST: &str = "NOT_ALLOWED - vhost / not found";
const LOGIN: &str = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the \
                     broker logfile.";
const MINUTE: Duration = Duration::from_secs(60);

fn refuse_login() -> HandshakeScript {
    HandshakeScript::new().refuse_at(HandshakeStep::Tune, 403, LOGIN)
}

fn refuse_open(text: &str) -> HandshakeScript {
    HandshakeScript::new().refuse_at(HandshakeStep::OpenOk, 530, text)
}

/// A connection in memory that was lost, and a peer that plays all of its addresses, in turn.
struct Lost {
    bench: Bench<MemoryPeer>,
    events: Probe<ConnectionEvent>,
    since: Instant,
}

impl Lost {
    async fn with_addresses(more: &[&str]) -> Self {
        let set = |options: &mut ConnectionOptions| {
            options.recovery = Recovery::fixed(Duration::from_millis(500));
            options.other_addresses = more.iter().map(|host| Address::new(*host, 1)).collect();
        };
        let mut bench = Bench::open_in_memory(&HandshakeScript::new(), set).await;
        let events = Probe::start();
        bench.client.supervisor.send(WatchConnection(events.recipient())).await.unwrap();
        bench.socket.shutdown().await.unwrap();
        Self { bench, events, since: Instant::now() }
    }

    async fn answer(&mut self, script: &HandshakeScript) {
        self.bench.socket = self.bench.peer.accept().await.unwrap();
        self.bench.socket.handshake_with(script).await.unwrap();
    }

    /// Waits for the end of an attempt; `None` if the recovery has ended.
    async fn attempt(&mut self) -> Option<actix_pika_actors::Error> {
        loop {
            match self.events.next().await.unwrap() {
                ConnectionEvent::Retrying { error, .. } => return Some(error),
                ConnectionEvent::Closed(_) => return None,
                _ => {}
            }
        }
    }

    async fn assert_works(mut self) {
        self.answer(&HandshakeScript::new()).await;
        self.bench.assert_works(1).await;
    }
}

/// REC-66: a limit of connections passes, however long that takes.
#[actix::test]
async fn a_limit_of_connections_is_waited_out() {
    pause();
    let mut lost = Lost::with_addresses(&[]).await;
    assert_eq!(lost.attempt().await.unwrap().kind(), ErrorKind::Io);
    while lost.since.elapsed() < 2 * MINUTE {
        lost.answer(&refuse_open(LIMIT)).await;
        let error = lost.attempt().await.expect("another attempt");
        assert_eq!((error.kind(), error.is_retryable(), error.code()), (ErrorKind::Limit, true, Some(530)));
    }
    lost.assert_works().await;
}

/// REC-66: each address is asked once in each attempt, and after a minute of refusals by all of them the recovery ends.
#[actix::test]
async fn a_minute_of_refusals_by_every_address_ends_the_recovery() {
    pause();
    let mut lost = Lost::with_addresses(&["b", "a", "b"]).await;
    lost.attempt().await;
    let since = Instant::now();
    loop {
        lost.answer(&refuse_login()).await;
        lost.answer(&refuse_open(NO_VHOST)).await;
        lost.answer(&refuse_login()).await;
        match lost.attempt().await {
            Some(error) => assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Auth, false)),
            None => break,
        }
    }
    assert!((MINUTE..MINUTE + Duration::from_secs(2)).contains(&since.elapsed()), "{:?}", since.elapsed());
    let cause = lost.bench.client.closed().await.expect("a cause");
    assert_eq!((cause.kind(), cause.code()), (ErrorKind::Auth, Some(403)));
}

/// REC-66: one node of two refuses the login, the other one cannot be reached or is full.
#[actix::test]
async fn refusals_by_one_of_two_addresses_never_end_the_recovery() {
    pause();
    for limit in [true, false] {
        let mut lost = Lost::with_addresses(&["b"]).await;
        lost.attempt().await;
        while lost.since.elapsed() < 2 * MINUTE {
            lost.answer(&refuse_login()).await;
            if limit {
                lost.answer(&refuse_open(LIMIT)).await;
            } else {
                lost.bench.peer.accept().await.unwrap().shutdown().await.unwrap();
            }
            let error = lost.attempt().await.expect("another attempt");
            assert!(error.is_retryable() && error.to_string().contains(LOGIN), "{error}");
        }
        // The first address still refuses.
        lost.answer(&refuse_login()).await;
        lost.assert_works().await;
    }
}

/// REC-66: AMQP 0-9-1 lets a server refuse a login by closing the socket. One that announces that it replies does not.
#[actix::test]
async fn a_disconnect_after_the_login_is_a_refusal_where_the_server_does_not_reply() {
    pause();
    for replies in [false, true] {
        let mut lost = Lost::with_addresses(&[]).await;
        lost.attempt().await;
        let capabilities: &[&str] = if replies { &["authentication_failure_close"] } else { &["basic.nack"] };
        let script = HandshakeScript::new().capabilities(capabilities).silent_at(HandshakeStep::Tune);
        let ended = loop {
            lost.answer(&script).await;
            lost.bench.socket.shutdown().await.unwrap();
            match lost.attempt().await {
                Some(_) if lost.since.elapsed() > 2 * MINUTE => break false,
                Some(error) => assert_eq!(error.kind(), ErrorKind::Io),
                None => break true,
            }
        };
        assert_eq!(ended, !replies);
    }
}

/// CON-25
#[actix::test]
async fn the_first_connect_asks_every_address_once() {
    pause();
    let mut peer = MemoryPeer::new();
    let client = Client::dial_in_memory(&peer, |options| {
        options.recovery = Recovery::default();
        options.other_addresses = ["localhost", "b"].map(|host| Address::new(host, 5672)).into();
    });
    for _ in 0..2 {
        peer.accept().await.unwrap().handshake_with(&refuse_login()).await.unwrap();
    }
    let error = client.closed().await.expect("a cause");
    assert_eq!((error.kind(), error.entity()), (ErrorKind::Auth, Some("b:5672")));
    peer.time_limit(Duration::from_secs(1)).accept().await.unwrap_err();
}
