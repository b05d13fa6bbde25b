//! Every malformed case, by its number in the list of cases: sent by a server on an open connection, and in place of
//! `connection.open-ok`. The client reports a fault with the reply code, or goes on; it neither hangs nor ends the
//! process.

use std::{sync::Arc, time::Duration};

use actix_pika_actors::{
    ConnectionOptions, ConnectionState, ConnectionSupervisor, Consume, OpenChannel, PurgeQueue,
    facade::{StreamSink, deliver_into},
    testing::{
        HandshakeScript, HandshakeStep, MemoryPeer, PeerMessage, PeerSocket, RawFrame,
        protocol::{BasicProperties, basic, channel, connection, queue},
    },
};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(10);
const FRAME_MAX: u32 = 131_072;

/// What the client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The connection closes with this reply code.
    Fault(u16),
    GoesOn,
}

use Then::{Fault, GoesOn};

fn method<M: actix_pika_actors::testing::Method>(channel: u16, method: M) -> Vec<u8> {
    RawFrame::method(channel, method).to_bytes()
}

fn bytes(frames: impl IntoIterator<Item = RawFrame>) -> Vec<u8> {
    frames.into_iter().flat_map(|frame| frame.to_bytes()).collect()
}

fn deliver() -> RawFrame {
    RawFrame::method(1, basic::Deliver { consumer_tag: "ctag".into(), delivery_tag: 1, ..Default::default() })
}

fn delivery(content: PeerMessage) -> Vec<u8> {
    bytes([deliver()].into_iter().chain(content.frames(1, FRAME_MAX)))
}

/// A delivery with one raw property list.
fn with_properties(properties: &[u8]) -> Vec<u8> {
    let mut header = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    header.extend(properties);
    bytes([deliver(), RawFrame::new(2, 1, header), RawFrame::body(1, "x")])
}

fn with_headers(table: &[u8]) -> Vec<u8> {
    let mut properties = vec![0x20, 0];
    properties.extend((table.len() as u32).to_be_bytes());
    properties.extend(table);
    with_properties(&properties)
}

/// Arrays within arrays, in a header.
fn nested(depth: usize) -> Vec<u8> {
    let mut value = Vec::new();
    for level in 0..depth {
        value.push(b'A');
        value.extend(((depth - level - 1) as u32 * 5).to_be_bytes());
    }
    with_headers(&[b"\x01k", &value[..]].concat())
}

/// The cases on an open connection.
pub fn cases() -> Vec<(u32, Vec<u8>, Then)> {
    let header = |class: u8| {
        let mut payload = RawFrame::header(1, 1, &BasicProperties::default()).payload;
        payload[1] = class;
        RawFrame::new(2, 1, payload)
    };
    let named = |routing_key: &[u8]| {
        let mut payload = b"\0\x3c\0\x3c\x04ctag\0\0\0\0\0\0\0\x01\0\0".to_vec();
        payload.push(routing_key.len() as u8);
        payload.extend(routing_key);
        bytes(
            std::iter::once(RawFrame::new(1, 1, payload)).chain(PeerMessage::from("x").frames(1, FRAME_MAX)),
        )
    };
    let mut wrong_end = method(1, basic::QosOk {});
    if let Some(end) = wrong_end.last_mut() {
        *end = 0xCD;
    }
    let mut four_gib = vec![3, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF];
    four_gib.resize(1 << 20, b'x');
    let empty = std::iter::repeat_n(RawFrame::body(1, ""), 200_000);
    vec![
        (1, nested(1000), GoesOn),
        (2, nested(26_000), GoesOn),
        (3, named(b"\xc3\x28"), GoesOn),
        (4, with_headers(b"\x02\xc3\x28t\x01"), GoesOn),
        (5, with_properties(b"\x04\0\x02\xc3\x28"), GoesOn),
        (6, with_headers(b"\x01kZ"), GoesOn),
        // It is skipped, and its rest never comes: a method is in its way.
        (
            7,
            [delivery(PeerMessage::default().announced_size(1 << 63)), method(1, basic::QosOk {})].concat(),
            Fault(505),
        ),
        (8, delivery(PeerMessage::from("xx").announced_size(1)), Fault(505)),
        (9, method(77, basic::Deliver::default()), Fault(504)),
        (10, RawFrame::new(1, 1, [0, 60, 0, 200]).to_bytes(), Fault(503)),
        (11, RawFrame::new(1, 1, [0, 99, 0, 10]).to_bytes(), Fault(503)),
        (12, wrong_end, Fault(501)),
        (13, RawFrame::new(7, 1, [0; 4]).to_bytes(), Fault(501)),
        (14, four_gib, Fault(501)),
        (15, header(60).to_bytes(), Fault(505)),
        (16, RawFrame::body(1, "x").to_bytes(), Fault(505)),
        (17, bytes([deliver(), header(60), deliver()]), Fault(505)),
        (18, RawFrame::new(8, 1, []).to_bytes(), Fault(501)),
        (19, RawFrame::new(8, 0, [0]).to_bytes(), Fault(501)),
        (20, bytes(nobody()), GoesOn),
        (21, method(1, queue::DeclareOk::default()), Fault(505)),
        (22, method(1, channel::OpenOk {}), Fault(503)),
        (23, method(1, basic::Publish::default()), Fault(503)),
        (24, method(0, connection::Tune::default()), Fault(503)),
        (25, bytes([deliver(), header(50)]), Fault(501)),
        (26, RawFrame::new(1, 1, *b"\0\x3c\0\x15\x09ct").to_bytes(), Fault(502)),
        (27, RawFrame::body(1, vec![b'x'; 200_000]).to_bytes(), Fault(501)),
        (28, bytes([deliver(), header(60)].into_iter().chain(empty)), Fault(505)),
        (29, method(0, channel::Close::default()), Fault(503)),
        (30, method(77, channel::Close::default()), Fault(504)),
        (31, method(0, connection::Close { reply_code: 999, ..Default::default() }), Fault(999)),
        (32, method(1, basic::Ack { delivery_tag: 7, multiple: false }), Fault(503)),
    ]
}

fn nobody() -> Vec<RawFrame> {
    let names = basic::Deliver { consumer_tag: "nobody".into(), delivery_tag: 1, ..Default::default() };
    let mut frames = vec![RawFrame::method(1, names)];
    frames.extend(PeerMessage::from("x").frames(1, FRAME_MAX));
    frames
}

/// Connects a client to a peer in memory.
fn dial(
    peer: &MemoryPeer,
) -> (actix::Addr<ConnectionSupervisor>, tokio::sync::watch::Receiver<ConnectionState>) {
    let mut options = ConnectionOptions::default();
    options.memory = Some(peer.dialer());
    options.connect_timeout = Duration::from_secs(2);
    ConnectionSupervisor::launch(options, None)
}

/// Sends a case on an open connection.
pub async fn after_open(number: u32, bytes: &[u8], then: Then) {
    let test = async {
        let mut peer = MemoryPeer::new();
        let (supervisor, mut state) = dial(&peer);
        let mut socket = peer.accept().await.expect("a client");
        socket.handshake().await.expect("a handshake");
        let open = actix_rt::spawn({
            let supervisor = supervisor.clone();
            async move { supervisor.send(OpenChannel::new().confirms(false)).await }
        });
        socket.open_channel(1).await.expect("channel.open");
        let channel = open.await.expect("no panic").expect("a supervisor").expect("a channel");
        let consume = channel
            .actor
            .send(deliver_into(Consume::new().tag("ctag").queue("jobs"), Arc::new(StreamSink::default())));
        let consume = actix_rt::spawn(consume);
        socket.answer(1, |_: basic::Qos| basic::QosOk {}).await.expect("basic.qos");
        socket
            .answer(1, |consume: basic::Consume| basic::ConsumeOk { consumer_tag: consume.consumer_tag })
            .await
            .expect("basic.consume");
        consume.await.expect("no panic").expect("a channel").expect("a consumer");
        // Fails where the client closes the connection before it has read all of it.
        let _ = socket.send_raw(bytes).await;
        match then {
            Fault(code) => {
                let closed = state.wait_for(|state| matches!(state, ConnectionState::Closed(_))).await;
                let ConnectionState::Closed(Some(cause)) = closed.expect("a supervisor").clone() else {
                    panic!("case {number}: no cause")
                };
                assert!(cause.to_string().contains(&code.to_string()), "case {number}: {cause}, not {code}");
            }
            GoesOn => {
                let purge = actix_rt::spawn(channel.actor.send(PurgeQueue::new("jobs")));
                answer_purge(&mut socket).await;
                purge
                    .await
                    .expect("no panic")
                    .expect("a channel")
                    .unwrap_or_else(|e| panic!("case {number}: {e}"));
            }
        }
    };
    assert!(timeout(LIMIT, test).await.is_ok(), "case {number} hangs");
}

/// Answers `queue.purge`, behind what the client sends before it.
async fn answer_purge(socket: &mut PeerSocket) {
    loop {
        let frame = socket.next_frame_on(1).await.expect("the connection stands");
        if frame.is::<queue::Purge>() {
            return socket.send(1, queue::PurgeOk::default()).await.expect("the client reads");
        }
    }
}

/// Sends a case in place of `connection.open-ok`, or plays another handshake.
pub async fn before_open(number: u32, script: &HandshakeScript) {
    let test = async {
        let mut peer = MemoryPeer::new();
        let (_supervisor, mut state) = dial(&peer);
        let play = async {
            let mut socket = peer.accept().await.expect("a client");
            let _ = socket.handshake_with(script).await;
            socket
        };
        let ended =
            async { state.wait_for(|state| !matches!(state, ConnectionState::Connecting)).await.is_ok() };
        assert!(tokio::join!(play, ended).1, "case {number}: the supervisor ended");
    };
    assert!(timeout(LIMIT, test).await.is_ok(), "case {number} hangs before open-ok");
}

/// The cases of the handshake.
pub fn handshakes() -> Vec<(u32, HandshakeScript)> {
    let new = HandshakeScript::new;
    vec![
        (40, new().tune(0, 0, 0)),
        (41, new().tune(2047, 0x7FFF_FFFF, 0)),
        (42, new().tune(2047, 1, 0)),
        (43, new().tune(0, 131_072, 1)),
        (44, new().tune(2047, 8192, 0)),
        (50, new().mechanisms("")),
        (51, new().mechanisms("EXTERNAL")),
    ]
}

/// Runs all cases. Returns how many there were.
pub async fn run() -> usize {
    // Nothing here waits for the operating system, so timeouts take no time.
    tokio::time::pause();
    let (cases, handshakes) = (cases(), handshakes());
    for (number, bytes, then) in &cases {
        after_open(*number, bytes, *then).await;
        before_open(*number, &HandshakeScript::new().raw_at(HandshakeStep::OpenOk, bytes.clone())).await;
    }
    for (number, script) in &handshakes {
        before_open(*number, script).await;
    }
    2 * cases.len() + handshakes.len()
}
