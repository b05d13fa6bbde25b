//! Bytes that do not come, or come in pieces: a server that stalls or cuts at any byte of both handshakes, reads of any
//! size, and an end with `close_notify` or without. The streams are in memory, and the clock is paused.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_pika_actors::{
    Error, ErrorKind, OpenChannel, Publish, Recovery,
    testing::{HandshakeScript, MemoryPeer, PeerMessage, PeerSocket, protocol::confirm},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split},
    task::JoinHandle,
    time::{Instant, pause},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    certificates::Authority,
    common::{Bench, Client, TAG, ask},
    server::{ServerSettings, trusting},
};

const LIMIT: Duration = Duration::from_secs(7);

/// What happens after the bytes that are let through.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Stall,
    End,
}

/// Lets `bytes` of the server through. Returns the server's side of the stream, and how many bytes came so far.
fn limited(client: DuplexStream, bytes: usize, then: Then) -> (DuplexStream, Arc<AtomicUsize>) {
    let (server, inner) = duplex(64 * 1024);
    let passed = Arc::<AtomicUsize>::default();
    let count = passed.clone();
    actix_rt::spawn(async move {
        let (mut from_client, mut to_client) = split(client);
        let (mut from_server, mut to_server) = split(inner);
        let up = async { tokio::io::copy(&mut from_client, &mut to_server).await.map(drop) };
        let down = async {
            let mut left = bytes;
            let mut buffer = vec![0; 4096];
            loop {
                let n = from_server.read(&mut buffer).await?;
                if n == 0 {
                    break;
                }
                to_client.write_all(&buffer[..n.min(left)]).await?;
                count.fetch_add(n, Ordering::Relaxed);
                left = left.saturating_sub(n);
                if left == 0 {
                    break;
                }
            }
            if then == Then::Stall {
                std::future::pending::<()>().await;
            }
            io::Result::Ok(())
        };
        // Whoever ends first ends both.
        tokio::select! { _ = up => {} _ = down => {} }
    });
    (server, passed)
}

/// Plays a server of which only `bytes` arrive. Returns the error of the client, or `None` if the connection opened,
/// and how many bytes the server has sent.
async fn attempt(
    acceptor: TlsAcceptor,
    authority: &Authority,
    bytes: usize,
    then: Then,
) -> (Option<Error>, usize) {
    let mut peer = MemoryPeer::new();
    let client = Client::dial_in_memory(&peer, |options| {
        options.tls = Some(trusting(authority).server_name("localhost"));
        options.connect_timeout = LIMIT;
    });
    let (stream, passed) = limited(peer.accept_stream().await.unwrap(), bytes, then);
    let server: JoinHandle<_> = actix_rt::spawn(async move {
        let mut socket = PeerSocket::over(acceptor.accept(stream).await.ok()?);
        socket.handshake_with(&HandshakeScript::new()).await.ok()?;
        Some(socket)
    });
    let mut state = client.state.clone();
    use actix_pika_actors::ConnectionState::{Closed, Open};
    let ended = state.wait_for(|state| matches!(state, Open(_) | Closed(_)));
    let error = match &*ended.await.unwrap() {
        Closed(cause) => cause.clone(),
        _ => None,
    };
    server.abort();
    (error, passed.load(Ordering::Relaxed))
}

/// TLS-10: a server that stalls at every byte ends with the connect timeout, which names the step; one that cuts
/// ends at once.
#[actix::test]
async fn a_server_that_stops_at_any_byte_ends_the_connect() {
    pause();
    let authority = Authority::new();
    let mut settings = ServerSettings::new(authority.server(&["localhost"]));
    settings.tickets = 0;
    let acceptor = settings.acceptor();
    let (error, total) = attempt(acceptor.clone(), &authority, usize::MAX, Then::Stall).await;
    assert!(error.is_none(), "{error:?}");
    let mut steps = Vec::new();
    let mut bytes = 0;
    while bytes < total {
        let since = Instant::now();
        let (error, _) = attempt(acceptor.clone(), &authority, bytes, Then::Stall).await;
        let error = error.unwrap_or_else(|| panic!("open after {bytes} of {total} bytes"));
        assert_eq!(error.kind(), ErrorKind::Timeout, "after {bytes} bytes: {error}");
        assert!((LIMIT..LIMIT + Duration::from_secs(1)).contains(&since.elapsed()));
        let step = error.to_string().split(": nothing").next().unwrap().to_owned();
        let is_tls = step == "TLS handshake";
        if steps.last() != Some(&step) {
            steps.push(step);
        }
        let (error, _) = attempt(acceptor.clone(), &authority, bytes, Then::End).await;
        let error = error.unwrap_or_else(|| panic!("open after {bytes} bytes"));
        assert_eq!(error.kind(), ErrorKind::Io, "after {bytes} bytes: {error}");
        // Where the client writes next, it finds a broken pipe.
        let ends = [io::ErrorKind::UnexpectedEof, io::ErrorKind::BrokenPipe];
        assert!(error.io_kind().is_some_and(|kind| ends.contains(&kind)), "after {bytes} bytes: {error}");
        // Frames of AMQP that stop are tested without TLS.
        bytes += if is_tls { 1 } else { 29 };
    }
    assert_eq!(
        steps,
        [
            "TLS handshake",
            "waiting for connection.start",
            "waiting for connection.tune",
            "waiting for connection.open-ok"
        ]
    );
}

/// Opens a connection over TLS in memory.
async fn open(recovery: Recovery) -> Bench<(MemoryPeer, TlsAcceptor)> {
    open_over(MemoryPeer::new(), recovery).await
}

async fn open_over(mut peer: MemoryPeer, recovery: Recovery) -> Bench<(MemoryPeer, TlsAcceptor)> {
    let authority = Authority::new();
    let mut settings = ServerSettings::new(authority.server(&["localhost"]));
    // Through a small buffer, the server would write them while the client writes, too.
    settings.tickets = 0;
    let acceptor = settings.acceptor();
    let client = Client::dial_in_memory(&peer, |options| {
        options.tls = Some(trusting(&authority).server_name("localhost"));
        options.recovery = recovery;
    });
    let stream = acceptor.accept(peer.accept_stream().await.unwrap()).await.unwrap();
    let mut socket = PeerSocket::over(stream);
    let terms = socket.handshake().await.unwrap();
    client.opened().await;
    Bench { peer: (peer, acceptor), socket, client, terms }
}

/// TLS-11
#[actix::test]
async fn an_end_without_close_notify_is_a_loss_like_any_other() {
    pause();
    let bench = open(Recovery::Never).await;
    drop(bench.socket);
    let error = bench.client.closed().await.unwrap();
    assert_eq!(
        (error.kind(), error.io_kind()),
        (ErrorKind::Io, Some(io::ErrorKind::UnexpectedEof)),
        "{error}"
    );
    assert!(error.is_retryable());

    let mut bench = open(Recovery::fixed(Duration::from_millis(10))).await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let publish = ask(&channel.actor, Publish::new("", "jobs", "kept"));
    bench.socket.expect_publish(1).await.unwrap();
    drop(bench.socket);
    let (mut peer, acceptor) = bench.peer;
    let stream = acceptor.accept(peer.accept_stream().await.unwrap()).await.unwrap();
    let mut socket = PeerSocket::over(stream);
    socket.handshake().await.unwrap();
    socket.open_channel(1).await.unwrap();
    socket.answer(1, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
    assert_eq!(socket.expect_publish(1).await.unwrap().body, b"kept"[..]);
    socket.confirm(1, 1, false).await.unwrap();
    publish.answer().await.unwrap();
}

/// TLS-16: records are split at any byte, or many of them arrive at once; then the server ends with `close_notify`, or
/// cuts.
#[actix::test]
async fn deliveries_arrive_whole_in_reads_of_any_size() {
    pause();
    let sizes = [0, 1, 4096, 16_384, 16_385, 65_536, 300_000];
    for (buffer, is_cut) in [(7, false), (1000, true), (65_536, false), (1 << 20, true)] {
        let mut bench = open_over(MemoryPeer::new().buffer(buffer), Recovery::Never).await;
        let channel = bench.channel(1, OpenChannel::new()).await;
        let mut deliveries = bench.consume(&channel).await;
        for (tag, size) in (1..).zip(sizes) {
            let body = PeerMessage::from(vec![tag as u8; size]).body_frame_size(100_000);
            bench.socket.deliver(1, TAG, tag, body).await.unwrap();
        }
        for (tag, size) in (1..).zip(sizes) {
            let delivery = deliveries.next().await.unwrap();
            assert_eq!(delivery.delivery_tag(), tag, "a buffer of {buffer}");
            assert!(delivery.body() == vec![tag as u8; size], "{size} bytes, a buffer of {buffer}");
        }
        if !is_cut {
            bench.socket.shutdown().await.unwrap();
        }
        drop(bench.socket);
        let error = bench.client.closed().await.unwrap();
        assert_eq!(error.io_kind(), Some(io::ErrorKind::UnexpectedEof), "{error}");
    }
}

/// What TLS holds back counts as not written: nothing more is taken from channels, and all of it arrives once the
/// server reads.
#[actix::test]
async fn a_server_that_does_not_read_holds_publishers_back() {
    pause();
    let mut bench = open(Recovery::Never).await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let calls: Vec<_> =
        (0..64).map(|at| ask(&channel.actor, Publish::new("", "jobs", vec![at; 64 * 1024]))).collect();
    for at in 0..64 {
        assert_eq!(bench.socket.expect_publish(1).await.unwrap().body, vec![at; 64 * 1024]);
    }
    bench.socket.confirm(1, 64, true).await.unwrap();
    for call in calls {
        call.answer().await.unwrap();
    }
}
