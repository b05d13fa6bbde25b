//! The client handshake, with the frames of the server built by the test.

use actix_pika_actors::{
    Mechanism, Table, Value,
    wire::{
        basic_encode::put_heartbeat,
        client_handshake::{HandshakeMachine, HandshakeStatus},
        fault::Fault,
        field_table::{from_field_table, to_field_table},
        frame::{FRAME_MIN_SIZE, Frame, FrameKind},
        frame_decoder::FrameDecoder,
        handshake_error::HandshakeError,
        handshake_options::HandshakeOptions,
        method::{AMQPClass, channel, connection, put_method, read_method},
        short::short,
        tune::Negotiated,
    },
};
use bytes::{Bytes, BytesMut};

fn options() -> HandshakeOptions {
    HandshakeOptions {
        mechanisms: vec![Mechanism::Plain],
        user: "alice".into(),
        password: "hunter2".into(),
        vhost: "orders".into(),
        locale: "en_US".into(),
        channel_max: 2047,
        frame_max: 131_072,
        heartbeat: None,
        client_properties: Table::new(),
    }
}

fn frames(bytes: &[u8]) -> Vec<Frame> {
    let (mut decoder, mut buf) = (FrameDecoder::new(FRAME_MIN_SIZE), BytesMut::from(bytes));
    let mut frames = Vec::new();
    while let Some(batch) = decoder.next_batch(&mut buf).unwrap() {
        frames.extend(batch);
    }
    assert!(buf.is_empty());
    frames
}

fn frame(method: connection::AMQPMethod) -> Frame {
    let mut buf = BytesMut::new();
    put_method(&mut buf, 0, &AMQPClass::Connection(method)).unwrap();
    frames(&buf).remove(0)
}

fn start(mechanisms: &str, locales: &str) -> Frame {
    let properties = Table::from([("product", "RabbitMQ"), ("version", "3.10.8")]);
    frame(connection::AMQPMethod::Start(connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties: to_field_table(&properties).unwrap(),
        mechanisms: mechanisms.into(),
        locales: locales.into(),
    }))
}

fn good_start() -> Frame {
    start("AMQPLAIN PLAIN", "en_US")
}

fn tune(channel_max: u16, frame_max: u32, heartbeat: u16) -> Frame {
    frame(connection::AMQPMethod::Tune(connection::Tune { channel_max, frame_max, heartbeat }))
}

fn open_ok() -> Frame {
    frame(connection::AMQPMethod::OpenOk(connection::OpenOk {}))
}

fn close(reply_code: u16, text: &str) -> Frame {
    frame(connection::AMQPMethod::Close(connection::Close {
        reply_code,
        reply_text: short("text", text).unwrap(),
        class_id: 10,
        method_id: 40,
    }))
}

/// Returns the methods that the client replies with.
fn reply(
    handshake: &mut HandshakeMachine,
    frame: &Frame,
) -> Result<Vec<connection::AMQPMethod>, HandshakeError> {
    let mut out = BytesMut::new();
    handshake.advance(frame, &mut out)?;
    Ok(methods(&out))
}

fn methods(out: &[u8]) -> Vec<connection::AMQPMethod> {
    let method = |frame: &Frame| match read_method(&frame.payload).unwrap() {
        AMQPClass::Connection(method) => method,
        other => panic!("{other:?}"),
    };
    frames(out).iter().map(method).collect()
}

/// Returns the error for `frame`, after checking that nothing was written.
fn silent_error(handshake: &mut HandshakeMachine, frame: &Frame) -> HandshakeError {
    let mut out = BytesMut::new();
    let error = handshake.advance(frame, &mut out).unwrap_err();
    assert!(out.is_empty());
    error
}

fn fault(error: HandshakeError) -> Fault {
    match error {
        HandshakeError::Fault(fault) => fault,
        other => panic!("{other}"),
    }
}

fn negotiated(options: HandshakeOptions, tune: &Frame) -> Result<Negotiated, HandshakeError> {
    let mut handshake = HandshakeMachine::new(options);
    reply(&mut handshake, &good_start())?;
    reply(&mut handshake, tune)?;
    match handshake.advance(&open_ok(), &mut BytesMut::new())? {
        HandshakeStatus::Open(negotiated) => Ok(negotiated),
        HandshakeStatus::Pending => panic!("not open"),
    }
}

#[test]
fn a_connection_opens_in_three_steps() {
    let mut handshake = HandshakeMachine::new(options());
    let mut out = BytesMut::new();
    handshake.start(&mut out);
    assert_eq!(out[..], *b"AMQP\0\0\x09\x01");
    assert_eq!(handshake.state_name(), "waiting for connection.start");

    let [connection::AMQPMethod::StartOk(start_ok)] = &reply(&mut handshake, &good_start()).unwrap()[..]
    else {
        panic!()
    };
    assert_eq!(start_ok.mechanism.as_str(), "PLAIN");
    assert_eq!(start_ok.response.as_bytes(), b"\0alice\0hunter2");
    assert_eq!(start_ok.locale.as_str(), "en_US");
    assert_eq!(handshake.state_name(), "waiting for connection.tune");

    let replies = reply(&mut handshake, &tune(2047, 131_072, 60)).unwrap();
    let [connection::AMQPMethod::TuneOk(tune_ok), connection::AMQPMethod::Open(open)] = &replies[..] else {
        panic!()
    };
    assert_eq!((tune_ok.channel_max, tune_ok.frame_max, tune_ok.heartbeat), (2047, 131_072, 60));
    assert_eq!(open.virtual_host.as_str(), "orders");
    assert_eq!(handshake.state_name(), "waiting for connection.open-ok");

    let mut out = BytesMut::new();
    let HandshakeStatus::Open(negotiated) = handshake.advance(&open_ok(), &mut out).unwrap() else {
        panic!()
    };
    assert!(out.is_empty());
    assert_eq!((negotiated.channel_max, negotiated.frame_max, negotiated.heartbeat), (2047, 131_072, 60));
    assert_eq!(negotiated.server_properties.get("version").and_then(Value::as_str), Some("3.10.8"));
    assert_eq!(fault(silent_error(&mut handshake, &open_ok())).code, 503);
}

// CON-10
#[test]
fn the_client_sends_its_properties_and_capabilities() {
    let mut options = options();
    options.client_properties = Table::new()
        .with("product", "orders")
        .with("connection_name", "c1")
        .with("capabilities", Table::from([("basic.nack", false), ("own", true)]));
    let start_ok = reply(&mut HandshakeMachine::new(options), &good_start()).unwrap().remove(0);
    let connection::AMQPMethod::StartOk(start_ok) = start_ok else { panic!() };
    let properties = from_field_table(&start_ok.client_properties);
    let text = |key| properties.get(key).and_then(Value::as_str);
    assert_eq!(text("product"), Some("orders"));
    assert_eq!(text("connection_name"), Some("c1"));
    assert_eq!(text("version"), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(text("platform"), Some("Rust"));
    let capabilities = properties.get("capabilities").and_then(Value::as_table).unwrap();
    for (capability, value) in [
        ("publisher_confirms", true),
        ("exchange_exchange_bindings", true),
        ("basic.nack", false),
        ("consumer_cancel_notify", true),
        ("connection.blocked", true),
        ("authentication_failure_close", true),
        ("own", true),
    ] {
        assert_eq!(capabilities.get(capability), Some(&Value::Boolean(value)), "{capability}");
    }
}

// AUTH-06; cases 50, 51
#[test]
fn without_a_common_mechanism_nothing_is_sent() {
    for offered in ["KERBEROS NTLM", "", "EXTERNAL", "XPLAIN PLAINX"] {
        let error = silent_error(&mut HandshakeMachine::new(options()), &start(offered, "en_US"));
        assert_eq!(error, HandshakeError::Mechanism { offered: offered.into() });
    }
    let error = silent_error(&mut HandshakeMachine::new(options()), &start("PLAIN", "de_DE"));
    assert_eq!(error, HandshakeError::Locale { offered: "de_DE".into() });
}

#[test]
fn a_close_is_replied_to_and_keeps_its_reason() {
    for before in [&[][..], &[good_start()], &[good_start(), tune(0, 0, 0)]] {
        let mut handshake = HandshakeMachine::new(options());
        for frame in before {
            reply(&mut handshake, frame).unwrap();
        }
        let mut out = BytesMut::new();
        let error =
            handshake.advance(&close(530, "NOT_ALLOWED - vhost orders not found"), &mut out).unwrap_err();
        let text = "NOT_ALLOWED - vhost orders not found".to_string();
        assert_eq!(error, HandshakeError::Closed { code: 530, text, class_id: 10, method_id: 40 });
        assert!(error.to_string().contains("connection.open: 530"));
        assert!(matches!(methods(&out)[..], [connection::AMQPMethod::CloseOk(_)]));
        assert_eq!(handshake.state_name(), "finished");
    }
}

// PRO-05; cases 40 to 44
#[test]
fn limits_are_negotiated() {
    let limits = |tune: &Frame| {
        let Negotiated { channel_max, frame_max, heartbeat, .. } = negotiated(options(), tune).unwrap();
        (channel_max, frame_max, heartbeat)
    };
    assert_eq!(limits(&tune(0, 0, 1)), (2047, 131_072, 1));
    assert_eq!(limits(&tune(0, u32::MAX >> 1, 0)), (2047, 131_072, 0));
    assert_eq!(limits(&tune(100, 8192, 60)), (100, 8192, 60));
    assert!(matches!(negotiated(options(), &tune(0, 1, 0)), Err(HandshakeError::Limit(_))));
}

// PRO-12; cases 10, 11, 23, 24, 29
#[test]
fn a_method_out_of_order_is_a_503() {
    let secure = frame(connection::AMQPMethod::Secure(connection::Secure { challenge: "?".into() }));
    for (before, wrong) in [
        (&[][..], &tune(0, 0, 0)),
        (&[], &open_ok()),
        (&[good_start()], &good_start()),
        (&[good_start()], &secure),
        (&[good_start()], &open_ok()),
        (&[good_start(), tune(0, 0, 0)], &tune(0, 0, 0)),
    ] {
        let mut handshake = HandshakeMachine::new(options());
        for frame in before {
            reply(&mut handshake, frame).unwrap();
        }
        let state = handshake.state_name();
        let fault = fault(silent_error(&mut handshake, wrong));
        assert_eq!((fault.code, fault.class_id), (503, 10));
        assert!(fault.text.contains(state), "{fault}");
    }
    let mut buf = BytesMut::new();
    let flow = channel::AMQPMethod::Flow(channel::Flow { active: true });
    put_method(&mut buf, 0, &AMQPClass::Channel(flow)).unwrap();
    assert_eq!(fault(silent_error(&mut HandshakeMachine::new(options()), &frames(&buf)[0])).code, 503);
}

#[test]
fn frames_that_are_not_methods_of_channel_0_are_faults() {
    let mut handshake = HandshakeMachine::new(options());
    let heartbeat = Frame { kind: FrameKind::Heartbeat, channel: 0, payload: Bytes::new() };
    assert_eq!(handshake.advance(&heartbeat, &mut BytesMut::new()), Ok(HandshakeStatus::Pending));
    let body = Frame { kind: FrameKind::Body, ..heartbeat.clone() };
    assert_eq!(fault(silent_error(&mut handshake, &body)).code, 505);
    let other_channel = Frame { channel: 1, ..good_start() };
    assert_eq!(fault(silent_error(&mut handshake, &other_channel)).code, 504);
    let broken = Frame { payload: good_start().payload.slice(..9), ..good_start() };
    assert_eq!(fault(silent_error(&mut handshake, &broken)).code, 502);
}

// PRO-15
#[test]
fn what_the_server_would_not_accept_is_not_sent() {
    let mut large = options();
    large.client_properties.insert("information", "x".repeat(4096));
    let mut nan = options();
    nan.client_properties.insert("load", f64::NAN);
    let vhost = HandshakeOptions { vhost: "v".repeat(256), ..options() };
    let nul = HandshakeOptions { user: "al\0ice".into(), ..options() };
    for options in [large, nan, vhost, nul] {
        let error = silent_error(&mut HandshakeMachine::new(options), &good_start());
        assert!(matches!(error, HandshakeError::Limit(_)), "{error}");
    }
    let mut largest = options();
    largest.client_properties.insert("x", "");
    let mut out = BytesMut::new();
    HandshakeMachine::new(largest.clone()).advance(&good_start(), &mut out).unwrap();
    largest.client_properties.insert("x", "x".repeat(4096 - out.len()));
    out.clear();
    HandshakeMachine::new(largest).advance(&good_start(), &mut out).unwrap();
    assert_eq!(out.len(), 4096);
}

// URI-12, AUTH-12
#[test]
fn the_password_is_neither_printed_nor_kept() {
    let mut handshake = HandshakeMachine::new(options());
    assert!(!format!("{handshake:?}").contains("hunter2"));
    let mut out = BytesMut::new();
    handshake.advance(&good_start(), &mut out).unwrap();
    assert!(out.windows(7).any(|window| window == b"hunter2"));
    out.clear();
    put_heartbeat(&mut out);
    assert!(!format!("{handshake:?}").contains("hunter2"));
}
