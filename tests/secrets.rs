//! Passwords do not appear in `Debug` or `Display` output, in errors, or in the log at any level, and nothing that a peer
//! sends forges a line of the log.

#![allow(missing_docs, unreachable_pub, dead_code)]

#[path = "../actors/tests/common/log_lines.rs"]
mod log_lines;
#[macro_use]
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix_pika::testing::{
    HandshakeScript, HandshakeStep, Peer, PeerMessage, RawFrame,
    protocol::{basic, channel, connection, queue},
    types::AMQPValue,
};
use actix_pika::{
    ChannelEvent, ConnectionEvent, Connector, Credentials, DeclareQueue, ErrorKind, OpenChannel, connect,
    message::UpdateSecret,
    options::{Mechanism, Secret},
};
use futures_util::StreamExt;
use log_lines::LogLines;
use support::{
    broker::{Vhost, base64, encode},
    scripted_peer::{connect_with_script, open_channel},
    within,
};

const RIGHT: &str = "Zq7-hunter2!open/sesame";
const WRONG: &str = "Xk9-hunter3?open/pepper";

/// Returns the forms in which a password may be printed: plain, escaped, base64, hexadecimal, decimal.
fn forms(user: &str, password: &str) -> Vec<String> {
    let mut forms = vec![password.to_owned(), encode(password), password.escape_debug().to_string()];
    let response = format!("\0{user}\0{password}");
    forms.push(base64(response.as_bytes()));
    for text in [password, "hunter"] {
        // Within a longer base64 text, the password begins at one of three offsets.
        for skipped in 0..3 {
            let encoded = base64(text.get(skipped..).unwrap().as_bytes());
            forms.push(encoded[..encoded.len() - 4].to_owned());
        }
        for separator in ["", " ", ":", ", "] {
            let join = |parts: Vec<String>| parts.join(separator);
            forms.push(join(text.bytes().map(|byte| format!("{byte:02x}")).collect()));
            forms.push(join(text.bytes().map(|byte| format!("{byte:02X}")).collect()));
            forms.push(join(text.bytes().map(|byte| format!("0x{byte:02x}")).collect()));
            if !separator.is_empty() {
                forms.push(join(text.bytes().map(|byte| byte.to_string()).collect()));
            }
        }
    }
    forms.push("hunter".into());
    forms
}

fn assert_no_password(what: &str, text: &str, user: &str) {
    for form in [RIGHT, WRONG].into_iter().flat_map(|password| forms(user, password)) {
        assert!(!text.contains(&form), "{what} shows a password as {form}: {text}");
    }
}

/// URI-12: in a session and in a refused connect, for every type with `Debug` output.
#[actix::test]
async fn a_password_is_never_shown() {
    let log_lines = LogLines::install();
    let vhost = Vhost::fresh().await;
    let user = vhost.create_user(RIGHT).await;
    vhost.permit(&user, ".*", ".*", ".*").await;
    let mut shown = Vec::new();

    let connector = Connector::new(&vhost.url_as(&user, RIGHT)).unwrap().name("secretive");
    shown.push(("Connector", format!("{connector:?} {connector:#?}")));
    let connection = within("connect", 10, connector.connect()).await.unwrap();
    shown.push(("Connection", format!("{connection:?} {:?} {:?}", connection.state(), connection.actor())));
    let channel = connection.channel().await.unwrap();
    let queue = channel.declare_queue("jobs").await.unwrap();
    channel.default_exchange().publish("work", "jobs").await.unwrap();
    let mut deliveries = queue.deliveries().await.unwrap();
    deliveries.next().await.unwrap().ack().unwrap();
    shown.push(("handles", format!("{channel:?} {queue:?} {deliveries:?} {:?}", channel.default_exchange())));
    let error = channel.declare_queue("amq.restricted").await.unwrap_err();
    shown.push(("Refused", format!("{error} {error:?}")));
    within("close", 10, connection.close()).await.unwrap();
    shown.push(("closed Connection", format!("{connection:?} {:?}", connection.state())));

    let error = within("a wrong password", 10, connect(vhost.url_as(&user, WRONG))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Auth);
    shown.push(("Auth", format!("{error} {error:?} {error:#?}")));
    let unused = format!("amqp://{}:{}@127.0.0.1:1/", encode(&user), encode(RIGHT));
    let error = connect(unused).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    shown.push(("Io", format!("{error} {error:?}")));
    let secret = Secret::new(RIGHT);
    shown.push(("Secret", format!("{secret:?} {secret:#?}")));

    for (what, text) in shown {
        assert_no_password(what, &text, &user);
    }
    let lines = log_lines.so_far();
    let of_library = lines.iter().filter(|line| line.contains("actix_pika")).count();
    assert!(of_library > 3, "the logger is not installed: {lines:?}");
    for line in &lines {
        assert_no_password("the log", line, &user);
    }
}

/// URI-12: of credentials that are renewed, of `connection.update-secret`, accepted and refused, and of `EXTERNAL`,
/// where the password is not sent.
#[actix::test]
async fn secrets_that_change_are_never_shown() {
    let log_lines = LogLines::install();
    let calls = Arc::new(AtomicU64::new(0));
    let provider = move || {
        let n = calls.fetch_add(1, Ordering::Relaxed);
        async move {
            let password = if n.is_multiple_of(2) { RIGHT } else { WRONG };
            Ok(Credentials::new("alice", password).expires_in(Duration::from_millis(500)))
        }
    };
    let mut shown = Vec::new();
    let rotating = |connector: Connector| connector.credentials(provider);
    let (client, mut socket, _) =
        within("connect", 10, connect_with_script(rotating, &HandshakeScript::new())).await;
    let mut events = client.events();
    for password in [WRONG, RIGHT] {
        let renewed =
            socket.answer(0, |_: connection::UpdateSecret| connection::UpdateSecretOk {}).await.unwrap();
        assert_eq!(renewed.new_secret.as_bytes(), password.as_bytes());
        let event = within("an update", 10, events.next()).await.unwrap();
        shown.push(("an event", format!("{event:?} {client:?} {:?}", client.state())));
    }
    let update = UpdateSecret::new(WRONG, "rotation");
    shown.push(("a message", format!("{update:?} {update:#?}")));
    let refuse = async {
        socket.expect::<connection::UpdateSecret>(0).await.unwrap();
        socket.close_connection(530, "NOT_ALLOWED - New secret was refused").await.unwrap();
    };
    let (refused, ()) = tokio::join!(client.update_secret(WRONG, "rotation"), refuse);
    let error = refused.unwrap_err();
    shown.push(("a refused secret", format!("{error} {error:?} {:?}", client.state())));
    let too_long = |connector: Connector| connector.frame_max(4096);
    let (client, _socket, _) =
        within("connect", 10, connect_with_script(too_long, &HandshakeScript::new())).await;
    let error = client.update_secret(RIGHT.repeat(400), "rotation").await.unwrap_err();
    shown.push(("a long secret", format!("{error} {error:?}")));

    let external = |connector: Connector| {
        connector.credentials(Credentials::new("alice", RIGHT)).mechanisms([Mechanism::External])
    };
    let script = HandshakeScript::new().mechanisms("PLAIN EXTERNAL");
    let (client, _socket, handshake) = within("connect", 10, connect_with_script(external, &script)).await;
    assert_eq!(handshake.mechanism, "EXTERNAL");
    assert_no_password("EXTERNAL", &String::from_utf8_lossy(&handshake.response), "alice");
    shown.push(("EXTERNAL", format!("{client:?} {:?}", client.state())));
    let none = HandshakeScript::new().mechanisms("PLAIN");
    let external = |connector: Connector| {
        connector.credentials(Credentials::new("alice", RIGHT)).mechanisms([Mechanism::External])
    };
    let peer = Peer::listen().await.unwrap();
    let play = async {
        let mut socket = peer.accept().await.unwrap();
        // The client closes the socket.
        socket.handshake_with(&none).await.is_err()
    };
    let connect = external(Connector::new(&peer.url()).unwrap()).connect();
    let (refused, is_closed) = within("connect", 10, async { tokio::join!(connect, play) }).await;
    let error = refused.unwrap_err();
    assert!(is_closed);
    shown.push(("no mechanism", format!("{error} {error:?}")));

    for (what, text) in shown {
        assert_no_password(what, &text, "alice");
    }
    let lines = log_lines.so_far();
    assert!(lines.iter().any(|line| line.contains("secret updated")), "nothing was logged");
    for line in &lines {
        assert_no_password("the log", line, "alice");
    }
}

/// URI-12: the error does not repeat any part of the URI that may be a password.
#[test]
fn uri_errors_do_not_repeat_the_password() {
    let uris = [
        "amqp://user:PASS@host:port/",
        "amqp://user:PASS@[::1/",
        "amqp://user:PASS%zz@host/",
        "amqp://user:PASS@host/%zz",
        "amqp://user:PASS@host/?heartbeat=PASS",
        "amqp://user:PASS@host/?heartbeat=1&heartbeat=PASS",
        "amqp://user:a?PASS@host/",
        "amqp://user:a#PASS@host/",
        "amqp://user:a/PASS@host/",
        "amqp://user:a PASS@host/",
        "http://user:PASS@host/",
        "amqps://user:PASS@host/?keyfile=/k.pem",
        "user:PASS@host",
    ];
    for uri in uris {
        let uri = uri.replace("PASS", "hunter2");
        let error = Connector::new(&uri).expect_err(&uri);
        assert_eq!(error.kind(), ErrorKind::Uri, "{uri}: {error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

/// A text that would end a line of a log, begin a forged one, and colour it.
const FORGERY: &str = "gone\r\n[INFO] all is well\u{1b}[32m";

fn assert_not_forged(what: &str, text: &str) {
    assert!(!text.contains(['\n', '\r', '\u{1b}']), "{what}: {text:?}");
}

/// CON-30: the texts of a close, a return and a block, names, tags, and what is in the handshake, are escaped in the log
/// and in `Display` and `Debug` of everything that has them. The texts themselves can be compared.
#[actix::test]
async fn what_a_peer_sends_forges_no_line_of_the_log() {
    let log_lines = LogLines::install();
    let mut shown = Vec::new();
    let table = AMQPValue::LongString(FORGERY.into());
    let script =
        HandshakeScript::new().server_property(FORGERY, table.clone()).server_property("product", table);
    let (client, mut socket, _) = within("connect", 10, connect_with_script(|it| it, &script)).await;
    let mut events = client.events();
    let state = client.state();
    shown.push(("state", format!("{state:?}")));
    if let actix_pika::events::ConnectionState::Open(opened) = &state {
        let properties = opened.server_properties();
        shown.push(("server properties", format!("{properties} {properties:?}")));
        assert_eq!(properties.get("product").and_then(|value| value.as_str()), Some(FORGERY));
    }
    let channel = open_channel(&client, &mut socket, 1, OpenChannel::new().confirms(false)).await;
    let mut channel_events = channel.events();

    socket.send(0, connection::Blocked { reason: FORGERY.into() }).await.unwrap();
    let Some(ConnectionEvent::Blocked(reason)) = within("blocked", 10, events.next()).await else { panic!() };
    assert_eq!(reason, FORGERY);
    shown.push(("blocked", format!("{reason} {reason:?} {:?} {:?}", client.state(), client.health().await)));
    socket.send(0, connection::Unblocked {}).await.unwrap();

    socket
        .return_message(1, 312, FORGERY, PeerMessage::from("x").published_to(FORGERY, FORGERY))
        .await
        .unwrap();
    let Some(ChannelEvent::Returned(back)) = within("a return", 10, channel_events.next()).await else {
        panic!()
    };
    assert_eq!((back.text.as_str(), &*back.routing_key), (FORGERY, FORGERY));
    shown.push(("return", format!("{} {back:?}", back.text)));

    let declare = actix_rt::spawn({
        let channel = channel.clone();
        async move { channel.declare_queue(DeclareQueue::server_named()).await }
    });
    let named =
        |_: queue::Declare| queue::DeclareOk { queue: FORGERY.into(), message_count: 0, consumer_count: 0 };
    socket.answer(1, named).await.unwrap();
    let declared = within("a declare", 10, declare).await.unwrap().unwrap();
    let name = declared.declared().unwrap().current_name.clone();
    assert_eq!(name.as_str(), FORGERY);
    shown.push(("a name", format!("{name} {name:?} {declared:?}")));

    let error = declared.deliveries().await.unwrap_err();
    shown.push(("a refused name", format!("{error} {error:?}")));

    let jobs = channel.queue("jobs");
    let consume = actix_rt::spawn(async move { jobs.deliveries().await });
    socket.answer(1, |_: basic::Qos| basic::QosOk {}).await.unwrap();
    socket.answer(1, |_: basic::Consume| basic::ConsumeOk { consumer_tag: FORGERY.into() }).await.unwrap();
    let consume = within("a consume", 10, consume).await.unwrap();
    shown.push(("a consumer", format!("{consume:?}")));

    let call = actix_rt::spawn({
        let queue = channel.queue("jobs");
        async move { queue.purge().await }
    });
    socket.expect::<queue::Purge>(1).await.unwrap();
    socket.close_channel(1, 404, FORGERY, 50, 30).await.unwrap();
    let error = within("a refusal", 10, call).await.unwrap().unwrap_err();
    let reason = error.close_reason().unwrap();
    assert_eq!(reason.text, FORGERY);
    shown.push(("refused", format!("{error} {error:?} {error:#?} {reason} {reason:?}")));

    socket.close_connection(541, FORGERY).await.unwrap();
    let error = within("the end", 10, client.closed()).await.unwrap_err();
    shown.push(("closed", format!("{error} {error:?} {:?}", client.state())));

    let refusals = [
        HandshakeScript::new().refuse_at(HandshakeStep::Tune, 403, FORGERY),
        HandshakeScript::new().refuse_at(HandshakeStep::OpenOk, 530, FORGERY),
        HandshakeScript::new().mechanisms(FORGERY),
        HandshakeScript::new().locales(FORGERY),
        HandshakeScript::new().raw_at(HandshakeStep::Start, FORGERY),
        HandshakeScript::new().raw_at(HandshakeStep::Start, format!("HTTP/1.1 400 {FORGERY}")),
    ];
    for (number, script) in refusals.iter().enumerate() {
        let peer = Peer::listen().await.unwrap();
        let play = async {
            let mut socket = peer.accept().await.unwrap();
            // A client that gives up does not answer the script to its end.
            let _ = socket.handshake_with(script).await;
        };
        let both = async { tokio::join!(connect(peer.url()), play) };
        let error = within("a failed connect", 10, both).await.0.unwrap_err();
        shown.push(("handshake", format!("{number} {error} {error:?}")));
    }

    for (what, text) in shown {
        assert_not_forged(what, &text);
    }
    let lines = log_lines.so_far();
    assert!(lines.iter().any(|line| line.contains("all is well")), "nothing was logged: {lines:?}");
    for line in lines.iter().filter(|line| line.contains("actix_pika")) {
        assert_not_forged("the log", line);
    }
}

/// CON-32: what a peer repeats without end is counted, and told in a few lines.
#[actix::test]
async fn a_storm_is_a_few_lines_of_the_log() {
    const STORM: usize = 20_000;
    let log_lines = LogLines::install();
    let (client, mut socket, _) =
        within("connect", 10, connect_with_script(|it| it, &HandshakeScript::new())).await;
    let channel = open_channel(&client, &mut socket, 1, OpenChannel::new().confirms(false)).await;
    let _unread = channel.events();
    let mut peer = actix_rt::spawn(async move {
        for part in 0..STORM / 500 {
            let mut frames = Vec::new();
            for n in 0..500usize {
                frames.push(RawFrame::method(1, channel::Flow { active: n.is_multiple_of(2) }));
                let delivery_tag = (part * 500 + n + 1) as u64;
                let names =
                    basic::Deliver { consumer_tag: "nobody".into(), delivery_tag, ..Default::default() };
                frames.push(RawFrame::method(1, names));
                frames.extend(PeerMessage::from("x").frames(1, 131_072));
                frames.push(RawFrame::method(1, basic::Return { reply_code: 312, ..Default::default() }));
                frames.extend(PeerMessage::from("storm").frames(1, 131_072));
                frames.push(RawFrame::method(0, connection::Blocked { reason: "storm".into() }));
                frames.push(RawFrame::method(0, connection::Unblocked {}));
            }
            socket.send_frames(&frames).await.unwrap();
            // It reads the answers, so that it is not given up: flow-ok and nack.
            for _ in 0..1000 {
                socket.next_frame_on(1).await.unwrap();
            }
        }
        socket
    });
    let mut socket = within("the storm", 60, &mut peer).await.unwrap();
    let call = actix_rt::spawn(async move { channel.queue("jobs").purge().await });
    socket.answer(1, |_: queue::Purge| queue::PurgeOk { message_count: 0 }).await.unwrap();
    within("a call behind the storm", 10, call).await.unwrap().unwrap();

    let lines = log_lines.so_far();
    for text in
        ["channel.flow", "for no consumer requeued", "without confirms returned", "are blocked", "too slow"]
    {
        let told = lines.iter().filter(|line| line.contains(text)).count();
        // More only where the storm takes longer: the intervals double.
        assert!((1..=12).contains(&told), "{told} lines of {text}");
    }
}
