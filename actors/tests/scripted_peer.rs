//! The scripted peer and the probe, tested with a client of a few lines that sends exactly the bytes a test wants.

use std::time::Duration;

use actix::{Message, Recipient};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};

use actix_pika_actors::testing::{
    ClientHandshake, Disconnect, HandshakeScript, HandshakeStep, Peer, PeerMessage, PeerSocket, Probe,
    Published, RawFrame, TestError, TestErrorKind,
    protocol::{BasicProperties, basic, channel, confirm, connection, queue},
    types::{AMQPValue, FieldTable},
};

const HEADER: &[u8] = b"AMQP\0\0\x09\x01";
const MOMENT: Duration = Duration::from_millis(50);

/// The client. It encodes and decodes frames, in any order.
struct Client {
    stream: TcpStream,
}

impl Client {
    async fn dial(peer: &Peer) -> Self {
        Self { stream: TcpStream::connect(peer.addr()).await.expect("the peer listens") }
    }

    async fn send(&mut self, frames: &[RawFrame]) {
        for frame in frames {
            self.raw(&frame.to_bytes()).await;
        }
    }

    async fn raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the peer reads");
    }

    async fn frame(&mut self) -> RawFrame {
        let mut head = [0; 7];
        self.stream.read_exact(&mut head).await.expect("a frame");
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let mut payload = vec![0; size + 1];
        self.stream.read_exact(&mut payload).await.expect("all of the frame");
        assert_eq!(payload.pop(), Some(0xCE));
        RawFrame::new(head[0], u16::from_be_bytes([head[1], head[2]]), payload)
    }

    async fn expect<M: actix_pika_actors::testing::Method>(&mut self, channel: u16) -> M {
        let frame = self.frame().await;
        assert_eq!(frame.channel, channel, "{frame}");
        M::from_class(frame.class().expect("a method")).expect("the method that is due")
    }

    async fn shake_hands(&mut self) {
        self.raw(HEADER).await;
        let start: connection::Start = self.expect(0).await;
        assert_eq!((start.version_major, start.version_minor), (0, 9));
        self.send(&[start_ok()]).await;
        let tune: connection::Tune = self.expect(0).await;
        self.send(&[tune_ok(tune.channel_max, 4096, 10), open("/")]).await;
        self.expect::<connection::OpenOk>(0).await;
    }
}

fn start_ok() -> RawFrame {
    let mut properties = FieldTable::default();
    properties.insert("product".into(), AMQPValue::LongString("tiny".into()));
    let start_ok = connection::StartOk {
        client_properties: properties,
        mechanism: "PLAIN".into(),
        response: "\0guest\0secret".into(),
        locale: "en_US".into(),
    };
    RawFrame::method(0, start_ok)
}

fn tune_ok(channel_max: u16, frame_max: u32, heartbeat: u16) -> RawFrame {
    RawFrame::method(0, connection::TuneOk { channel_max, frame_max, heartbeat })
}

fn open(vhost: &str) -> RawFrame {
    RawFrame::method(0, connection::Open { virtual_host: vhost.into() })
}

fn publish(channel: u16, routing_key: &str, mandatory: bool) -> RawFrame {
    let exchange = "logs".into();
    RawFrame::method(
        channel,
        basic::Publish { exchange, routing_key: routing_key.into(), mandatory, immediate: false },
    )
}

/// A peer and a client before the handshake.
async fn connected() -> (PeerSocket, Client) {
    let peer = Peer::listen().await.unwrap();
    let client = Client::dial(&peer).await;
    (peer.accept().await.unwrap(), client)
}

/// A peer and a client after the handshake.
async fn open_connection() -> (PeerSocket, Client) {
    let (mut socket, mut client) = connected().await;
    let (sent, ()) = tokio::join!(socket.handshake(), client.shake_hands());
    sent.unwrap();
    (socket, client)
}

#[actix::test]
async fn handshake_returns_what_the_client_sent() {
    let (mut socket, mut client) = connected().await;
    let (sent, ()) = tokio::join!(socket.handshake(), client.shake_hands());
    let sent: ClientHandshake = sent.unwrap();

    assert_eq!((sent.mechanism.as_str(), sent.locale.as_str(), sent.vhost.as_str()), ("PLAIN", "en_US", "/"));
    assert_eq!(sent.response, b"\0guest\0secret");
    assert_eq!((sent.channel_max, sent.frame_max, sent.heartbeat), (2047, 4096, 10));
    assert_eq!(sent.properties.inner().get("product"), Some(&AMQPValue::LongString("tiny".into())));
    assert!(!format!("{sent:?}").contains("secret"));
}

#[actix::test]
async fn handshake_sends_what_the_script_contains() {
    let (mut socket, mut client) = connected().await;
    let script = HandshakeScript::new()
        .version(1, 0)
        .mechanisms("EXTERNAL")
        .locales("nb_NO")
        .capabilities(&["basic.nack"])
        .server_property("version", AMQPValue::LongInt(9))
        .challenge("who?")
        .challenge("sure?")
        .tune(0, 1, u16::MAX);
    let talk = async {
        client.raw(HEADER).await;
        let start: connection::Start = client.expect(0).await;
        assert_eq!((start.version_major, start.version_minor), (1, 0));
        assert_eq!(
            (start.mechanisms.as_bytes(), start.locales.as_bytes()),
            (&b"EXTERNAL"[..], &b"nb_NO"[..])
        );
        assert_eq!(start.server_properties.inner().get("version"), Some(&AMQPValue::LongInt(9)));
        let Some(AMQPValue::FieldTable(can)) = start.server_properties.inner().get("capabilities") else {
            panic!("no capabilities")
        };
        assert_eq!(can.inner().len(), 1);
        client.send(&[start_ok()]).await;
        for (challenge, response) in [("who?", "me"), ("sure?", "yes")] {
            assert_eq!(
                client.expect::<connection::Secure>(0).await.challenge.as_bytes(),
                challenge.as_bytes()
            );
            client.send(&[RawFrame::method(0, connection::SecureOk { response: response.into() })]).await;
        }
        let tune: connection::Tune = client.expect(0).await;
        assert_eq!((tune.channel_max, tune.frame_max, tune.heartbeat), (0, 1, u16::MAX));
        client.send(&[tune_ok(1, 4096, 0), open("v")]).await;
        client.expect::<connection::OpenOk>(0).await;
    };
    let (sent, ()) = tokio::join!(socket.handshake_with(&script), talk);
    assert_eq!(sent.unwrap().answers, [b"me".to_vec(), b"yes".to_vec()]);
}

#[actix::test]
async fn a_script_can_answer_with_another_protocol() {
    for bytes in [&b"AMQP\0\x01\0\0"[..], b"HTTP/1.1 400 Bad Request\r\n\r\n"] {
        let (mut socket, mut client) = connected().await;
        client.raw(HEADER).await;
        let sent =
            socket.handshake_with(&HandshakeScript::new().raw_at(HandshakeStep::Start, bytes)).await.unwrap();
        assert_eq!(sent, ClientHandshake::default());
        socket.shutdown().await.unwrap();

        let mut received = Vec::new();
        client.stream.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, bytes);
        drop(client);
        assert_eq!(socket.expect_eof().await.unwrap(), Disconnect::Closed);
    }
}

#[actix::test]
async fn a_script_can_be_silent_at_each_step() {
    let frames = [start_ok(), tune_ok(0, 4096, 0), open("/")];
    for (step, answers) in [(HandshakeStep::Start, 0), (HandshakeStep::Tune, 1), (HandshakeStep::OpenOk, 3)] {
        let (mut socket, mut client) = connected().await;
        client.raw(HEADER).await;
        client.send(&frames[..answers]).await;
        let sent = socket.handshake_with(&HandshakeScript::new().silent_at(step)).await.unwrap();
        assert_eq!(sent.vhost, if step == HandshakeStep::OpenOk { "/" } else { "" });
        client.send(&[RawFrame::heartbeat(), open("late")]).await;
        client.stream.shutdown().await.unwrap();
        assert_eq!(socket.read_to_end().await.unwrap(), [open("late")]);
        assert_eq!(socket.heartbeats(), 1);
    }
}

#[actix::test]
async fn a_refusal_waits_for_close_ok_and_drops_other_frames() {
    let (mut socket, mut client) = connected().await;
    let script =
        HandshakeScript::new().refuse_at(HandshakeStep::OpenOk, 530, "NOT_ALLOWED - vhost x not found");
    let talk = async {
        client.raw(HEADER).await;
        client.send(&[start_ok(), tune_ok(0, 0, 0), open("x")]).await;
        client.send(&[RawFrame::method(1, channel::Open {}), RawFrame::heartbeat()]).await;
        client.expect::<connection::Start>(0).await;
        client.expect::<connection::Tune>(0).await;
        let close: connection::Close = client.expect(0).await;
        assert_eq!((close.reply_code, close.class_id, close.method_id), (530, 0, 0));
        client.send(&[RawFrame::method(0, connection::CloseOk {})]).await;
    };
    let (sent, ()) = tokio::join!(socket.handshake_with(&script), talk);
    assert_eq!(sent.unwrap().vhost, "x");
}

#[actix::test]
async fn a_publish_is_assembled_from_its_frames() {
    let (mut socket, mut client) = open_connection().await;
    client
        .send(&[
            RawFrame::method(1, channel::Open {}),
            RawFrame::method(1, confirm::Select { nowait: false }),
        ])
        .await;
    socket.open_channel(1).await.unwrap();
    socket.answer(1, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
    client.expect::<channel::OpenOk>(1).await;
    client.expect::<confirm::SelectOk>(1).await;

    let properties = BasicProperties::default().with_delivery_mode(2).with_message_id("m1".into());
    client.send(&[publish(1, "info", true), RawFrame::header(1, 5, &properties)]).await;
    // Frames of another channel in between are kept.
    client
        .send(&[RawFrame::body(1, "hel"), RawFrame::method(2, channel::Open {}), RawFrame::heartbeat()])
        .await;
    client
        .send(&[RawFrame::body(1, "lo"), publish(1, "empty", false), RawFrame::header(1, 0, &properties)])
        .await;

    let first: Published = socket.expect_publish(1).await.unwrap();
    assert_eq!((first.exchange.as_str(), first.routing_key.as_str()), ("logs", "info"));
    assert!(first.mandatory && !first.immediate);
    assert_eq!((&first.body[..], &first.frame_lengths[..]), (&b"hello"[..], &[3, 2][..]));
    assert_eq!(first.properties, properties);
    assert_eq!(first.raw_properties[..], [0x10, 0x80, 2, 2, b'm', b'1']);
    let second = socket.expect_publish(1).await.unwrap();
    assert_eq!((second.routing_key.as_str(), second.body.len()), ("empty", 0));
    socket.open_channel(2).await.unwrap();
    assert_eq!(socket.heartbeats(), 1);

    client.expect::<channel::OpenOk>(2).await;
    socket.return_message(1, 312, "NO_ROUTE", first).await.unwrap();
    socket.confirm(1, 1, false).await.unwrap();
    socket.nack(1, 2, true).await.unwrap();
    assert_eq!(client.expect::<basic::Return>(1).await.routing_key.as_str(), "info");
    assert_eq!(client.frame().await, RawFrame::header(1, 5, &properties));
    assert_eq!(client.frame().await, RawFrame::body(1, "hello"));
    assert_eq!(client.expect::<basic::Ack>(1).await, basic::Ack { delivery_tag: 1, multiple: false });
    assert!(client.expect::<basic::Nack>(1).await.multiple);
}

#[actix::test]
async fn malformed_content_is_unexpected() {
    let cases: [(&[RawFrame], &str); 7] = [
        (&[RawFrame::body(1, "x")], "a content body of 1 bytes"),
        (&[publish(1, "again", false)], "basic.publish on channel 1 came"),
        (&[RawFrame::new(2, 1, [0, 60])], "a content header of only 2 bytes"),
        (
            &[RawFrame::new(2, 1, [0, 50, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
            "a content header on channel 1",
        ),
        (&[RawFrame::raw_header(1, 1, &[0, 0, 9])], "a content header on channel 1"),
        (&[RawFrame::raw_header(1, 1, &[0, 0]), RawFrame::body(1, "xy")], "a content body of 2 bytes"),
        (&[RawFrame::raw_header(1, 1, &[0, 0]), RawFrame::body(1, "")], "a content body of 0 bytes"),
    ];
    for (frames, shown) in cases {
        let (mut socket, mut client) = open_connection().await;
        client.send(&[publish(1, "k", false)]).await;
        client.send(frames).await;
        let error = socket.expect_publish(1).await.unwrap_err();
        assert_eq!(error.kind(), TestErrorKind::Unexpected);
        assert!(error.to_string().contains(shown), "{error}");
    }
}

#[actix::test]
async fn deliveries_are_split_at_the_negotiated_frame_size_or_as_set() {
    let (mut socket, mut client) = open_connection().await;
    socket
        .deliver(1, "ctag", 1, PeerMessage::from(vec![7; 5000]).published_to("e", "k").redelivered(true))
        .await
        .unwrap();
    let deliver: basic::Deliver = client.expect(1).await;
    assert_eq!((deliver.consumer_tag.as_str(), deliver.delivery_tag, deliver.redelivered), ("ctag", 1, true));
    assert_eq!((deliver.exchange.as_str(), deliver.routing_key.as_str()), ("e", "k"));
    assert_eq!(client.frame().await, RawFrame::raw_header(1, 5000, &[0, 0]));
    assert_eq!(client.frame().await.payload.len(), 4088);
    assert_eq!(client.frame().await.payload.len(), 912);

    let wrong =
        PeerMessage::from("abc").announced_size(1 << 63).body_frame_size(2).raw_properties([0x20, 0, 0xFF]);
    socket.get_ok(1, 2, 9, wrong).await.unwrap();
    assert_eq!(client.expect::<basic::GetOk>(1).await.message_count, 9);
    assert_eq!(client.frame().await, RawFrame::raw_header(1, 1 << 63, &[0x20, 0, 0xFF]));
    assert_eq!(client.frame().await, RawFrame::body(1, "ab"));
    assert_eq!(client.frame().await, RawFrame::body(1, "c"));

    socket.deliver(1, "ctag", 3, "").await.unwrap();
    socket.send_frame(7, 77, b"odd").await.unwrap();
    client.expect::<basic::Deliver>(1).await;
    assert_eq!(client.frame().await.kind, RawFrame::HEADER);
    assert_eq!(client.frame().await, RawFrame::new(7, 77, *b"odd"));
}

#[actix::test]
async fn an_error_shows_what_was_awaited_what_came_and_what_was_before() {
    let (mut socket, mut client) = open_connection().await;
    client.send(&[RawFrame::method(2, channel::Open {}), RawFrame::method(1, basic::RecoverOk {})]).await;
    let error = socket.expect::<queue::Declare>(1).await.unwrap_err();

    let text = format!("{error:?}");
    let first = text.lines().next().unwrap();
    assert_eq!(first, "awaited queue.declare on channel 1, but basic.recover-ok on channel 1 came");
    assert!(text.contains("\n  < connection.tune on channel 0\n"), "{text}");
    assert!(text.ends_with("? not asked for yet: channel.open on channel 2"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[actix::test]
async fn every_wait_ends() {
    let peer = Peer::listen().await.unwrap().time_limit(MOMENT);
    assert_eq!(peer.accept().await.unwrap_err().kind(), TestErrorKind::TimedOut);

    let mut client = Client::dial(&peer).await;
    let mut socket = peer.accept().await.unwrap();
    client.raw(&RawFrame::method(1, channel::Open {}).to_bytes()[..11]).await;
    assert_eq!(socket.next_frame().await.unwrap_err().kind(), TestErrorKind::TimedOut);
    assert_eq!(socket.expect_eof().await.unwrap_err().kind(), TestErrorKind::TimedOut);
    assert_eq!(socket.expect_heartbeat().await.unwrap_err().kind(), TestErrorKind::TimedOut);
    assert_eq!(socket.read_to_end().await.unwrap_err().kind(), TestErrorKind::TimedOut);
    assert_eq!(socket.expect_nothing(MOMENT).await.unwrap_err().kind(), TestErrorKind::Malformed);
    // A part of a frame that a timeout interrupted is kept.
    client.raw(&RawFrame::method(1, channel::Open {}).to_bytes()[11..]).await;
    socket.open_channel(1).await.unwrap();
    // A client that does not read takes what the system buffers, and no more.
    assert_eq!(socket.send_raw(&vec![0; 64 << 20]).await.unwrap_err().kind(), TestErrorKind::TimedOut);
}

#[actix::test]
async fn bytes_that_are_not_a_frame_are_malformed() {
    let ack = RawFrame::method(1, basic::Ack { delivery_tag: 1, multiple: false }).to_bytes();
    let mut bad_end = ack.clone();
    *bad_end.last_mut().unwrap() = 0;
    let cases: [(&[u8], &str); 3] = [
        (&bad_end, "basic.ack on channel 1, with 0x00 as its end octet, came"),
        (b"\x01\0\0\xFF\xFF\xFF\xFF", "a frame of kind 1 announcing 4294967295 bytes came"),
        (&ack[..12], "12 bytes of a frame and then its end came"),
    ];
    for (bytes, shown) in cases {
        let (mut socket, mut client) = open_connection().await;
        client.raw(bytes).await;
        client.stream.shutdown().await.unwrap();
        let error = socket.next_frame().await.unwrap_err();
        assert_eq!(error.kind(), TestErrorKind::Malformed);
        assert!(error.to_string().contains(shown), "{error}");
    }
}

#[actix::test]
async fn another_protocol_header_is_named() {
    let (mut socket, mut client) = connected().await;
    client.raw(b"AMQP\x03\x01\0\0").await;
    let error = socket.handshake().await.unwrap_err();
    assert!(error.to_string().contains(r"the protocol header AMQP\x03\x01\x00\x00 came"), "{error}");

    let (mut socket, mut client) = connected().await;
    client.raw(b"AMQ").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(socket.handshake().await.unwrap_err().kind(), TestErrorKind::Disconnected);
}

#[actix::test]
async fn heartbeats_are_counted_and_malformed_ones_are_frames() {
    let (mut socket, mut client) = open_connection().await;
    socket.expect_nothing(MOMENT).await.unwrap();
    client.send(&[RawFrame::method(1, channel::Open {}), RawFrame::heartbeat(), RawFrame::heartbeat()]).await;
    socket.expect_heartbeat().await.unwrap();
    socket.expect_heartbeat().await.unwrap();
    assert_eq!(socket.heartbeats(), 2);
    socket.open_channel(1).await.unwrap();

    client.send(&[RawFrame::new(8, 1, [])]).await;
    assert_eq!(socket.next_frame().await.unwrap(), RawFrame::new(8, 1, []));
    client.send(&[RawFrame::heartbeat()]).await;
    let error = socket.expect_nothing(Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.kind(), TestErrorKind::Unexpected);

    socket.send_heartbeat().await.unwrap();
    client.expect::<channel::OpenOk>(1).await;
    assert!(client.frame().await.is_heartbeat());
}

#[actix::test]
async fn channels_and_connections_close_from_both_sides() {
    let (mut socket, mut client) = open_connection().await;
    let talk = async {
        client.send(&[publish(1, "late", false), RawFrame::raw_header(1, 0, &[0, 0])]).await;
        client.send(&[RawFrame::method(2, channel::Open {})]).await;
        let close: channel::Close = client.expect(1).await;
        assert_eq!((close.reply_code, close.class_id, close.method_id), (404, 50, 10));
        client.send(&[RawFrame::method(1, channel::CloseOk {})]).await;
    };
    let (closed, ()) = tokio::join!(socket.close_channel(1, 404, "NOT_FOUND", 50, 10), talk);
    closed.unwrap();
    socket.open_channel(2).await.unwrap();
    client.expect::<channel::OpenOk>(2).await;

    let close = channel::Close { reply_code: 200, reply_text: "done".into(), ..Default::default() };
    client.send(&[RawFrame::method(2, close)]).await;
    assert_eq!(socket.expect_channel_close(2).await.unwrap(), (200, "done".to_owned()));
    client.expect::<channel::CloseOk>(2).await;

    let close =
        connection::Close { reply_code: 505, reply_text: "UNEXPECTED_FRAME".into(), ..Default::default() };
    client.send(&[RawFrame::method(0, close)]).await;
    for _ in 0..2 {
        let error = socket.expect::<queue::Declare>(3).await.unwrap_err();
        assert!(error.to_string().contains(r#"connection.close 505 "UNEXPECTED_FRAME""#), "{error}");
    }
    assert_eq!(socket.expect_close().await.unwrap(), (505, "UNEXPECTED_FRAME".to_owned()));
    client.expect::<connection::CloseOk>(0).await;
    drop(client);
    assert_eq!(socket.expect_eof().await.unwrap(), Disconnect::Closed);
}

#[actix::test]
async fn both_sides_see_a_reset() {
    let (socket, mut client) = open_connection().await;
    socket.reset().unwrap();
    let error = client.stream.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);

    let (mut socket, client) = open_connection().await;
    socket.send_heartbeat().await.unwrap();
    client.stream.readable().await.unwrap(); // and dropped with the heartbeat unread
    drop(client);
    assert_eq!(socket.expect_eof().await.unwrap(), Disconnect::Reset);
    assert_eq!(socket.next_frame().await.unwrap_err().kind(), TestErrorKind::Disconnected);
}

#[actix::test]
async fn a_peer_can_listen_again_on_its_port() {
    let peer = Peer::listen().await.unwrap();
    let addr = peer.addr();
    assert_eq!(peer.url(), format!("amqp://guest:guest@{addr}/"));
    drop(peer);
    let refused = TcpStream::connect(addr).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let peer = Peer::listen_at(addr).await.unwrap();
    Client::dial(&peer).await;
    peer.accept().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_duplex_stream_works_with_a_paused_clock() {
    let (ours, mut theirs) = tokio::io::duplex(1024);
    let mut socket = PeerSocket::over(ours);
    socket.set_time_limit(Duration::from_secs(3600));
    let heartbeat = async {
        tokio::time::sleep(Duration::from_secs(1800)).await;
        theirs.write_all(&RawFrame::heartbeat().to_bytes()).await.unwrap();
    };
    let (received, ()) = tokio::join!(socket.expect_heartbeat(), heartbeat);
    received.unwrap();
    socket.reset().unwrap();
    assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0);
}

#[derive(Message, Debug, PartialEq)]
#[rtype(result = "()")]
struct Ping(u32);

#[actix::test]
async fn a_probe_returns_messages_in_order() {
    let mut probe = Probe::<Ping>::start().time_limit(MOMENT);
    let recipient: Recipient<Ping> = probe.recipient();
    assert_eq!(probe.next().await.unwrap_err().kind(), TestErrorKind::TimedOut);
    (1..=6).for_each(|number| recipient.do_send(Ping(number)));
    assert_eq!(probe.count().await, 6);
    assert_eq!(probe.next().await.unwrap(), Ping(1));
    assert_eq!(probe.next_matching(|rang| rang.0 > 2).await.unwrap(), Ping(3));
    assert_eq!(probe.drain().await, [Ping(4), Ping(5), Ping(6)]);
    assert_eq!(probe.next_matching(|_| true).await.unwrap_err().kind(), TestErrorKind::TimedOut);
    assert_eq!(probe.count().await, 6);
    drop(probe);
    recipient.send(Ping(7)).await.unwrap();
}

#[actix::test]
async fn a_probe_sees_messages_sent_before_the_future_ended() -> Result<(), TestError> {
    let mut probe = Probe::<Ping>::start();
    let recipient = probe.recipient();
    assert_eq!(probe.expect_none_until(async { 7 }).await?, 7);

    // Sent by the future itself, which ends before the actor has run.
    let error = probe.expect_none_until(async { recipient.do_send(Ping(1)) }).await.unwrap_err();
    assert_eq!(error.to_string(), "awaited no Ping, but 1 came");
    assert_eq!(probe.next().await?, Ping(1));

    // A message ends the wait for a future that never ends.
    let (hold, never) = oneshot::channel::<()>();
    recipient.do_send(Ping(2));
    assert!(probe.expect_none_until(never).await.is_err());
    drop(hold);
    assert_eq!(probe.drain().await, [Ping(2)]);
    Ok(())
}
