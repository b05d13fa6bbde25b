//! The handshake: every way in which it fails, and the limits that both sides negotiate. A client whose handshake fails
//! closes the socket without `connection.close`, as the protocol requires before a connection is open.

use std::time::Duration;

use actix_pika_actors::{
    ConnectionOptions, Error, ErrorKind, OpenChannel, Publish, Value,
    testing::{
        HandshakeScript, HandshakeStep, Peer, RawFrame,
        protocol::{channel, connection, queue},
        types::AMQPValue,
    },
};

use crate::common::{Bench, Client, ask};

/// Plays a script that fails, and returns the error of the client.
async fn fails(script: HandshakeScript) -> Error {
    fails_with(script, |_| {}).await
}

async fn fails_with(script: HandshakeScript, set: impl FnOnce(&mut ConnectionOptions)) -> Error {
    let peer = Peer::listen().await.unwrap();
    let client = Client::dial_with(&peer, set);
    let mut socket = peer.accept().await.unwrap();
    let channel = ask(&client.supervisor, OpenChannel::new());
    socket.handshake_with(&script).await.unwrap();
    let cause = client.closed().await.expect("a cause");
    assert_eq!(cause.entity(), Some(format!("127.0.0.1:{}", peer.addr().port()).as_str()));
    assert_eq!(socket.read_to_end().await.unwrap(), [], "after {cause}");
    // Calls from before and after the end are answered with the cause.
    assert_eq!(channel.answer().await.unwrap_err().kind(), ErrorKind::ConnectionClosed);
    let late = ask(&client.supervisor, OpenChannel::new()).answer().await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::ConnectionClosed);
    assert!(late.to_string().contains(&cause.to_string()), "{late}");
    cause
}

/// Sends bytes that violate the protocol at each step.
async fn assert_fault(bytes: Vec<u8>, code: u16) {
    for step in [HandshakeStep::Start, HandshakeStep::Tune, HandshakeStep::OpenOk] {
        let cause = fails(HandshakeScript::new().raw_at(step, bytes.clone())).await;
        assert_eq!(cause.kind(), ErrorKind::Protocol, "at {step:?}: {cause}");
        assert!(cause.to_string().contains(&code.to_string()), "at {step:?}: {cause}");
    }
}

macro_rules! faults {
    ($($name:ident: $code:literal, $bytes:expr;)*) => { $(
        /// PRO-12
        #[actix::test]
        async fn $name() {
            assert_fault($bytes, $code).await;
        }
    )* };
}

fn method<M: actix_pika_actors::testing::Method>(channel: u16, method: M) -> Vec<u8> {
    RawFrame::method(channel, method).to_bytes()
}

faults! {
    an_unknown_frame_type_before_open_is_a_frame_error: 501, RawFrame::new(7, 0, [0; 4]).to_bytes();
    a_frame_of_4_gib_before_open_is_a_frame_error: 501, vec![1, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF];
    a_heartbeat_with_a_payload_before_open_is_a_frame_error: 501, RawFrame::new(8, 0, [0]).to_bytes();
    a_heartbeat_on_a_channel_before_open_is_a_frame_error: 501, RawFrame::new(8, 1, []).to_bytes();
    a_wrong_frame_end_before_open_is_a_frame_error: 501, {
        let mut bytes = method(0, connection::Start::default());
        *bytes.last_mut().unwrap() = 0;
        bytes
    };
    arguments_cut_short_before_open_are_a_syntax_error: 502, RawFrame::new(1, 0, *b"\0\x0a\0\x32\x01").to_bytes();
    an_unknown_method_before_open_is_an_invalid_command: 503, RawFrame::new(1, 0, [0, 10, 0, 99]).to_bytes();
    an_unknown_class_before_open_is_an_invalid_command: 503, RawFrame::new(1, 0, [0, 99, 0, 10]).to_bytes();
    a_method_of_another_class_before_open_is_an_invalid_command: 503, method(0, queue::DeclareOk::default());
    a_blocked_before_open_is_an_invalid_command: 503, method(0, connection::Blocked { reason: "disk".into() });
    a_close_ok_before_open_is_an_invalid_command: 503, method(0, connection::CloseOk {});
    a_channel_before_open_is_a_channel_error: 504, method(1, channel::OpenOk {});
    content_before_open_is_an_unexpected_frame: 505, RawFrame::body(0, "x").to_bytes();
}

/// PRO-07: another version of AMQP, 0-9-1 again, HTTP, TLS.
#[actix::test]
async fn another_protocol_is_named() {
    let protocols = [
        (&b"AMQP\0\x01\0\0"[..], "AMQP 0-1-0-0"),
        (b"AMQP\0\0\x09\x01", "0-9-1"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "HTTP/1.1 400 Bad"),
        (b"\x15\x03\x01\0\x02\x02\x46", "TLS"),
    ];
    for (bytes, name) in protocols {
        let cause = fails(HandshakeScript::new().raw_at(HandshakeStep::Start, bytes)).await;
        let kind = if name == "TLS" { ErrorKind::Tls } else { ErrorKind::Protocol };
        assert_eq!(cause.kind(), kind, "{cause}");
        assert!(cause.to_string().contains(name), "{cause}");
    }
}

/// PRO-07
#[actix::test]
async fn another_version_in_start_is_named() {
    let cause = fails_before_an_answer(HandshakeScript::new().version(1, 0)).await;
    assert_eq!(cause.kind(), ErrorKind::Protocol);
    assert!(cause.to_string().contains("AMQP 1-0"), "{cause}");
}

/// A password is only sent with a mechanism that the broker offers.
#[actix::test]
async fn without_a_mechanism_in_common_nothing_is_sent() {
    for mechanisms in ["", "EXTERNAL", "PLAINER AMQPLAIN"] {
        let cause = fails_before_an_answer(HandshakeScript::new().mechanisms(mechanisms)).await;
        assert_eq!(cause.kind(), ErrorKind::Auth, "{cause}");
        assert!(cause.to_string().contains(&format!("{mechanisms:?}")), "{cause}");
    }
    let cause = fails_before_an_answer(HandshakeScript::new().locales("nb_NO")).await;
    assert_eq!(cause.kind(), ErrorKind::Protocol, "{cause}");
}

/// PRO-15
#[actix::test]
async fn client_properties_that_are_too_large_are_refused_before_they_are_sent() {
    let peer = Peer::listen().await.unwrap();
    let client = Client::dial_with(&peer, |options| {
        options.client_properties.insert("story", Value::from("x".repeat(4096)));
    });
    let mut socket = peer.accept().await.unwrap();
    socket.expect_header().await.unwrap();
    socket.send(0, start()).await.unwrap();
    assert_eq!(client.closed().await.unwrap().kind(), ErrorKind::Limit);
    assert_eq!(socket.read_to_end().await.unwrap(), []);
}

/// Plays a `connection.start` that the client does not answer, and returns its error.
async fn fails_before_an_answer(script: HandshakeScript) -> Error {
    let peer = Peer::listen().await.unwrap();
    let client = Client::dial(&peer);
    let mut socket = peer.accept().await.unwrap();
    // The script waits for start-ok; the client closes the socket instead.
    socket.handshake_with(&script).await.unwrap_err();
    client.closed().await.expect("a cause")
}

fn start() -> connection::Start {
    let mut start = connection::Start { version_minor: 9, ..Default::default() };
    (start.mechanisms, start.locales) = ("PLAIN".into(), "en_US".into());
    start.server_properties.insert("product".into(), AMQPValue::LongString("peer".into()));
    start
}

/// CON-19, PRO-13: the broker closes the connection at each step.
#[actix::test]
async fn a_close_during_the_handshake_keeps_its_code() {
    let refusals = [
        (HandshakeStep::Start, 320, ErrorKind::ConnectionClosed),
        (HandshakeStep::Tune, 403, ErrorKind::Auth),
        (HandshakeStep::Tune, 599, ErrorKind::ConnectionClosed),
        (HandshakeStep::OpenOk, 530, ErrorKind::Vhost),
        (HandshakeStep::OpenOk, 320, ErrorKind::ConnectionClosed),
        (HandshakeStep::OpenOk, 999, ErrorKind::ConnectionClosed),
    ];
    for (step, code, kind) in refusals {
        let cause = fails(HandshakeScript::new().refuse_at(step, code, "BECAUSE - of that")).await;
        let reason = cause.close_reason().expect("the broker's reason");
        assert_eq!((cause.kind(), reason.code, reason.text.as_str()), (kind, code, "BECAUSE - of that"));
        assert!(cause.to_string().contains(&format!("{code} BECAUSE - of that")), "{cause}");
    }
}

/// CON-19: the broker resets the socket after connection.close.
#[actix::test]
async fn a_close_and_a_reset_during_the_handshake_keep_the_reason() {
    let peer = Peer::listen().await.unwrap();
    let client = Client::dial(&peer);
    let mut socket = peer.accept().await.unwrap();
    socket.handshake_with(&HandshakeScript::new().silent_at(HandshakeStep::OpenOk)).await.unwrap();
    socket.send(0, crate::common::close(530, "NOT_ALLOWED - vhost gone")).await.unwrap();
    socket.reset().unwrap();
    let cause = client.closed().await.unwrap();
    assert_eq!((cause.kind(), cause.close_reason().unwrap().code), (ErrorKind::Vhost, 530));
}

#[actix::test]
async fn the_error_names_the_step_at_which_the_peer_closed_the_socket() {
    for (step, stage) in
        [(HandshakeStep::Start, "start"), (HandshakeStep::Tune, "tune"), (HandshakeStep::OpenOk, "open-ok")]
    {
        let peer = Peer::listen().await.unwrap();
        let client = Client::dial(&peer);
        let mut socket = peer.accept().await.unwrap();
        socket.handshake_with(&HandshakeScript::new().silent_at(step)).await.unwrap();
        drop(socket);
        let cause = client.closed().await.unwrap();
        assert_eq!(cause.kind(), ErrorKind::Io, "{cause}");
        assert!(cause.to_string().contains(&format!("connection.{stage}")), "{cause}");
    }
}

#[actix::test]
async fn a_silent_handshake_times_out_and_names_the_step() {
    for (step, stage) in
        [(HandshakeStep::Start, "start"), (HandshakeStep::Tune, "tune"), (HandshakeStep::OpenOk, "open-ok")]
    {
        let script = HandshakeScript::new().silent_at(step);
        let cause = fails_with(script, |o| o.connect_timeout = Duration::from_millis(100)).await;
        assert_eq!(cause.kind(), ErrorKind::Timeout, "{cause}");
        assert!(cause.to_string().contains(&format!("connection.{stage}")), "{cause}");
    }
}

/// PRO-05: the lower of both, where 0 means no limit; frame_max is at least 4096.
#[actix::test]
async fn the_lower_limits_are_negotiated() {
    let table = [
        // (ours), (theirs), (agreed): channel_max, frame_max
        ((u16::MAX, 131_072), (2047, 131_072), (2047, 131_072)),
        ((100, 8192), (0, 16_384), (100, 8192)),
        ((0, 0), (0, 0), (u16::MAX, 131_072)),
        ((0, 0), (7, i32::MAX as u32), (7, 131_072)),
        ((1, 1), (5, 8192), (1, 4096)),
        ((9, 2048), (9, 0), (9, 4096)),
    ];
    for ((channel_max, frame_max), theirs, agreed) in table {
        let script = HandshakeScript::new().tune(theirs.0, theirs.1, 60);
        let bench = Bench::open_with(&script, |options| {
            (options.channel_max, options.frame_max) = (channel_max, frame_max);
        })
        .await;
        assert_eq!((bench.terms.channel_max, bench.terms.frame_max), agreed);
        let opened = bench.client.opened().await;
        assert_eq!((opened.channel_max(), opened.frame_max()), agreed);
    }
}

/// PRO-05: a frame_max below 4096 is refused before tune-ok.
#[actix::test]
async fn a_frame_max_of_1_is_refused() {
    let peer = Peer::listen().await.unwrap();
    let client = Client::dial(&peer);
    let mut socket = peer.accept().await.unwrap();
    socket.handshake_with(&HandshakeScript::new().tune(0, 1, 0)).await.unwrap_err();
    assert_eq!(client.closed().await.unwrap().kind(), ErrorKind::Limit);
}

/// HB-07: the shorter of both, 0 turns heartbeats off; unset, the broker's.
#[actix::test]
async fn the_shorter_heartbeat_is_negotiated() {
    let table = [(None, 60, 60), (Some(10), 60, 10), (Some(0), 60, 0), (Some(60), 10, 10), (None, 0, 0)];
    for (ours, theirs, agreed) in table {
        let script = HandshakeScript::new().tune(0, 0, theirs);
        let bench =
            Bench::open_with(&script, |options| options.heartbeat = ours.map(Duration::from_secs)).await;
        assert_eq!(bench.terms.heartbeat, agreed);
        assert_eq!(bench.client.opened().await.heartbeat(), Duration::from_secs(agreed.into()));
    }
}

/// PRO-05, PUB-01: to the octet.
#[actix::test]
async fn bodies_are_split_at_the_negotiated_frame_size() {
    for frame_max in [4096, 8192] {
        let most = frame_max as usize - 8;
        let mut bench = Bench::open_with(&HandshakeScript::new().tune(0, frame_max, 0), |_| {}).await;
        let channel = bench.channel(1, OpenChannel::new()).await;
        for (tag, size) in [0, 1, most - 1, most, most + 1, 3 * most, 3 * most + 5].into_iter().enumerate() {
            let call = ask(&channel.actor, Publish::new("", "jobs", vec![b'x'; size]));
            let published = bench.socket.expect_publish(1).await.unwrap();
            assert_eq!((published.body.len(), published.frame_lengths.len()), (size, size.div_ceil(most)));
            assert!(published.frame_lengths.iter().all(|&cut| cut <= most), "{:?}", published.frame_lengths);
            bench.socket.confirm(1, tag as u64 + 1, false).await.unwrap();
            call.answer().await.unwrap();
        }
        // The client accepts frames of that size.
        let mut deliveries = bench.consume(&channel).await;
        let content = actix_pika_actors::testing::PeerMessage::from(vec![b'y'; 2 * most]);
        bench.socket.deliver(1, crate::common::TAG, 1, content).await.unwrap();
        assert_eq!(deliveries.next().await.unwrap().body().len(), 2 * most);
    }
}

/// PRO-05: before its payload arrives.
#[actix::test]
async fn a_frame_one_octet_over_the_negotiated_size_is_refused() {
    let mut bench = Bench::open_with(&HandshakeScript::new().tune(0, 4096, 0), |_| {}).await;
    bench.channel(1, OpenChannel::new()).await;
    let [s3, s2, s1, s0] = (4096u32 - 8 + 1).to_be_bytes();
    bench.socket.send_raw(&[3, 0, 1, s3, s2, s1, s0]).await.unwrap();
    assert_eq!(bench.socket.expect_close().await.unwrap().0, 501);
}
