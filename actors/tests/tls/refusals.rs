//! Which failures of TLS end the recovery of a connection, and which are waited out. In memory, with a paused clock.

use std::time::Duration;

use actix_pika_actors::{
    ConnectionEvent, Error, ErrorKind, Recovery, TlsFailure, WatchConnection,
    testing::{MemoryPeer, PeerSocket, Probe},
};
use rcgen::date_time_ymd;
use tokio::time::{Instant, pause};

use crate::{
    certificates::{Authority, Identity},
    common::Client,
    server::{ServerSettings, trusting},
};

const MINUTE: Duration = Duration::from_secs(60);

/// Loses a connection, and lets each attempt to reconnect find a server with this identity, for two minutes at most.
/// Returns the error of the connection if that ended, and after which time.
async fn reconnect_to(authority: &Authority, identity: Identity) -> (Option<Error>, Duration) {
    let mut peer = MemoryPeer::new();
    let client = Client::dial_in_memory(&peer, |options| {
        options.tls = Some(trusting(authority).server_name("localhost"));
        options.recovery = Recovery::fixed(Duration::from_millis(500));
    });
    let good = ServerSettings::new(authority.server(&["localhost"])).acceptor();
    let stream = good.accept(peer.accept_stream().await.unwrap()).await.unwrap();
    let mut socket = PeerSocket::over(stream);
    socket.handshake().await.unwrap();
    client.opened().await;
    let mut events = Probe::start();
    client.supervisor.send(WatchConnection(events.recipient())).await.unwrap();
    drop(socket);
    let since = Instant::now();
    let bad = ServerSettings::new(identity).acceptor();
    let serve = async {
        loop {
            let _ = bad.accept(peer.accept_stream().await.unwrap()).await;
        }
    };
    let watch = async {
        loop {
            match events.next().await.unwrap() {
                ConnectionEvent::Closed(cause) => return cause,
                _ if since.elapsed() > 2 * MINUTE => return None,
                _ => {}
            }
        }
    };
    let ended = tokio::select! { () = serve => unreachable!(), ended = watch => ended };
    (ended, since.elapsed())
}

/// TLS-13
#[actix::test]
async fn a_refusal_of_the_server_for_a_minute_ends_the_recovery() {
    pause();
    let (authority, other) = (Authority::new(), Authority::new());
    for (identity, failure) in [
        (other.server(&["localhost"]), TlsFailure::UnknownAuthority),
        (authority.server(&["other.example"]), TlsFailure::NameMismatch),
    ] {
        let (ended, after) = reconnect_to(&authority, identity).await;
        let error = ended.expect("the recovery ends");
        assert_eq!((error.kind(), error.tls_failure()), (ErrorKind::Tls, Some(failure)), "{error}");
        assert!((MINUTE..MINUTE + Duration::from_secs(3)).contains(&after), "{after:?}");
    }
}

/// TLS-13
#[actix::test]
async fn a_certificate_out_of_its_time_is_waited_out() {
    pause();
    let authority = Authority::new();
    let expired = authority.sign(&["localhost"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    let (ended, _) = reconnect_to(&authority, expired).await;
    assert!(ended.is_none(), "{ended:?}");
}
