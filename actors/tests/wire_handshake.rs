//! The handshake against a server that is written out frame by frame.

use actix_pika_actors::wire::{
    basic_frames,
    fault::Fault,
    frame::{FRAME_MIN_SIZE, Frame, FrameDecoder, FrameKind},
    handshake::{Handshake, HandshakeError, Mechanism, Negotiated, Progress, Terms},
    method::{AMQPClass, channel, connection, put_method, read_method},
    short::short,
    table::Table,
    value::Value,
};
use bytes::{Bytes, BytesMut};

fn terms() -> Terms {
    Terms {
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
    let (mut cutter, mut buf) = (FrameDecoder::new(FRAME_MIN_SIZE), BytesMut::from(bytes));
    let mut frames = Vec::new();
    while let Some(run) = cutter.next_run(&mut buf).unwrap() {
        frames.extend(run);
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
        server_properties: properties.to_field_table().unwrap(),
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

/// What the client writes in answer to `frame`.
fn answer(handshake: &mut Handshake, frame: &Frame) -> Result<Vec<connection::AMQPMethod>, HandshakeError> {
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

/// The error that `frame` leads to, and that nothing was written.
fn silent_error(handshake: &mut Handshake, frame: &Frame) -> HandshakeError {
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

fn negotiated(terms: Terms, tune: &Frame) -> Result<Negotiated, HandshakeError> {
    let mut handshake = Handshake::new(terms);
    answer(&mut handshake, &good_start())?;
    answer(&mut handshake, tune)?;
    match handshake.advance(&open_ok(), &mut BytesMut::new())? {
        Progress::Open(negotiated) => Ok(negotiated),
        Progress::More => panic!("not open"),
    }
}

#[test]
fn a_connection_opens_in_three_steps() {
    let mut handshake = Handshake::new(terms());
    let mut out = BytesMut::new();
    handshake.start(&mut out);
    assert_eq!(out[..], *b"AMQP\0\0\x09\x01");
    assert_eq!(handshake.stage(), "waiting for connection.start");

    let [connection::AMQPMethod::StartOk(start_ok)] = &answer(&mut handshake, &good_start()).unwrap()[..]
    else {
        panic!()
    };
    assert_eq!(start_ok.mechanism.as_str(), "PLAIN");
    assert_eq!(start_ok.response.as_bytes(), b"\0alice\0hunter2");
    assert_eq!(start_ok.locale.as_str(), "en_US");
    assert_eq!(handshake.stage(), "waiting for connection.tune");

    let answers = answer(&mut handshake, &tune(2047, 131_072, 60)).unwrap();
    let [connection::AMQPMethod::TuneOk(tune_ok), connection::AMQPMethod::Open(open)] = &answers[..] else {
        panic!()
    };
    assert_eq!((tune_ok.channel_max, tune_ok.frame_max, tune_ok.heartbeat), (2047, 131_072, 60));
    assert_eq!(open.virtual_host.as_str(), "orders");
    assert_eq!(handshake.stage(), "waiting for connection.open-ok");

    let mut out = BytesMut::new();
    let Progress::Open(negotiated) = handshake.advance(&open_ok(), &mut out).unwrap() else { panic!() };
    assert!(out.is_empty());
    assert_eq!((negotiated.channel_max, negotiated.frame_max, negotiated.heartbeat), (2047, 131_072, 60));
    assert_eq!(negotiated.server_properties.get("version").and_then(Value::as_str), Some("3.10.8"));
    assert_eq!(fault(silent_error(&mut handshake, &open_ok())).code, 503);
}

// CON-10
#[test]
fn the_client_says_what_it_is_and_can() {
    let mut terms = terms();
    terms.client_properties = Table::new()
        .with("product", "orders")
        .with("connection_name", "c1")
        .with("capabilities", Table::from([("basic.nack", false), ("own", true)]));
    let start_ok = answer(&mut Handshake::new(terms), &good_start()).unwrap().remove(0);
    let connection::AMQPMethod::StartOk(start_ok) = start_ok else { panic!() };
    let properties = Table::from_field_table(&start_ok.client_properties);
    let text = |key| properties.get(key).and_then(Value::as_str);
    assert_eq!(text("product"), Some("orders"));
    assert_eq!(text("connection_name"), Some("c1"));
    assert_eq!(text("version"), Some(env!("CARGO_PKG_VERSION")));
    assert_eq!(text("platform"), Some("Rust"));
    let capabilities = properties.get("capabilities").and_then(Value::as_table).unwrap();
    for (capability, can) in [
        ("publisher_confirms", true),
        ("exchange_exchange_bindings", true),
        ("basic.nack", false),
        ("consumer_cancel_notify", true),
        ("connection.blocked", true),
        ("authentication_failure_close", true),
        ("own", true),
    ] {
        assert_eq!(capabilities.get(capability), Some(&Value::Boolean(can)), "{capability}");
    }
}

// AUTH-06; cases 50, 51
#[test]
fn without_a_common_mechanism_nothing_is_sent() {
    for offered in ["KERBEROS NTLM", "", "EXTERNAL", "XPLAIN PLAINX"] {
        let error = silent_error(&mut Handshake::new(terms()), &start(offered, "en_US"));
        assert_eq!(error, HandshakeError::Mechanism { offered: offered.into() });
    }
    let error = silent_error(&mut Handshake::new(terms()), &start("PLAIN", "de_DE"));
    assert_eq!(error, HandshakeError::Locale { offered: "de_DE".into() });
}

#[test]
fn a_close_is_answered_and_keeps_its_reason() {
    for before in [&[][..], &[good_start()], &[good_start(), tune(0, 0, 0)]] {
        let mut handshake = Handshake::new(terms());
        for frame in before {
            answer(&mut handshake, frame).unwrap();
        }
        let mut out = BytesMut::new();
        let error =
            handshake.advance(&close(530, "NOT_ALLOWED - vhost orders not found"), &mut out).unwrap_err();
        let text = "NOT_ALLOWED - vhost orders not found".to_string();
        assert_eq!(error, HandshakeError::Refused { code: 530, text, class_id: 10, method_id: 40 });
        assert!(error.to_string().contains("connection.open: 530"));
        assert!(matches!(methods(&out)[..], [connection::AMQPMethod::CloseOk(_)]));
        assert_eq!(handshake.stage(), "over");
    }
}

// PRO-05; cases 40 to 44
#[test]
fn limits_are_agreed_on() {
    let agreed = |tune: &Frame| {
        let Negotiated { channel_max, frame_max, heartbeat, .. } = negotiated(terms(), tune).unwrap();
        (channel_max, frame_max, heartbeat)
    };
    assert_eq!(agreed(&tune(0, 0, 1)), (2047, 131_072, 1));
    assert_eq!(agreed(&tune(0, u32::MAX >> 1, 0)), (2047, 131_072, 0));
    assert_eq!(agreed(&tune(100, 8192, 60)), (100, 8192, 60));
    assert!(matches!(negotiated(terms(), &tune(0, 1, 0)), Err(HandshakeError::Limit(_))));
}

// PRO-12; cases 10, 11, 23, 24, 29
#[test]
fn a_method_out_of_its_order_is_a_503() {
    let secure = frame(connection::AMQPMethod::Secure(connection::Secure { challenge: "?".into() }));
    for (before, wrong) in [
        (&[][..], &tune(0, 0, 0)),
        (&[], &open_ok()),
        (&[good_start()], &good_start()),
        (&[good_start()], &secure),
        (&[good_start()], &open_ok()),
        (&[good_start(), tune(0, 0, 0)], &tune(0, 0, 0)),
    ] {
        let mut handshake = Handshake::new(terms());
        for frame in before {
            answer(&mut handshake, frame).unwrap();
        }
        let stage = handshake.stage();
        let fault = fault(silent_error(&mut handshake, wrong));
        assert_eq!((fault.code, fault.class_id), (503, 10));
        assert!(fault.text.contains(stage), "{fault}");
    }
    let mut buf = BytesMut::new();
    let flow = channel::AMQPMethod::Flow(channel::Flow { active: true });
    put_method(&mut buf, 0, &AMQPClass::Channel(flow)).unwrap();
    assert_eq!(fault(silent_error(&mut Handshake::new(terms()), &frames(&buf)[0])).code, 503);
}

#[test]
fn other_frames_have_no_place_in_it() {
    let mut handshake = Handshake::new(terms());
    let heartbeat = Frame { kind: FrameKind::Heartbeat, channel: 0, payload: Bytes::new() };
    assert_eq!(handshake.advance(&heartbeat, &mut BytesMut::new()), Ok(Progress::More));
    let body = Frame { kind: FrameKind::Body, ..heartbeat.clone() };
    assert_eq!(fault(silent_error(&mut handshake, &body)).code, 505);
    let elsewhere = Frame { channel: 1, ..good_start() };
    assert_eq!(fault(silent_error(&mut handshake, &elsewhere)).code, 504);
    let broken = Frame { payload: good_start().payload.slice(..9), ..good_start() };
    assert_eq!(fault(silent_error(&mut handshake, &broken)).code, 502);
}

// PRO-15
#[test]
fn what_the_server_would_not_read_is_not_sent() {
    let mut large = terms();
    large.client_properties.insert("information", "x".repeat(4096));
    let mut nan = terms();
    nan.client_properties.insert("load", f64::NAN);
    let vhost = Terms { vhost: "v".repeat(256), ..terms() };
    let nul = Terms { user: "al\0ice".into(), ..terms() };
    for terms in [large, nan, vhost, nul] {
        let error = silent_error(&mut Handshake::new(terms), &good_start());
        assert!(matches!(error, HandshakeError::Limit(_)), "{error}");
    }
    let mut most = terms();
    most.client_properties.insert("x", "");
    let mut out = BytesMut::new();
    Handshake::new(most.clone()).advance(&good_start(), &mut out).unwrap();
    most.client_properties.insert("x", "x".repeat(4096 - out.len()));
    out.clear();
    Handshake::new(most).advance(&good_start(), &mut out).unwrap();
    assert_eq!(out.len(), 4096);
}

// URI-12, AUTH-12
#[test]
fn the_password_is_not_shown_and_not_kept() {
    let mut handshake = Handshake::new(terms());
    assert!(!format!("{handshake:?}").contains("hunter2"));
    let mut out = BytesMut::new();
    handshake.advance(&good_start(), &mut out).unwrap();
    assert!(out.windows(7).any(|window| window == b"hunter2"));
    out.clear();
    basic_frames::put_heartbeat(&mut out);
    assert!(!format!("{handshake:?}").contains("hunter2"));
}
