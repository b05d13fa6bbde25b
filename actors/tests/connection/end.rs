//! Every way in which a connection ends: its cause is reported, and every waiting call is answered.

use std::{io, time::Duration};

use actix_pika_actors::{
    CloseConnection, ConnectionEvent, DeclareQueue, Error, ErrorKind, OpenChannel, Publish, WatchConnection,
    testing::{
        Disconnect, Probe, RawFrame,
        protocol::{basic, channel, connection, queue},
    },
};

use crate::common::{Bench, TryPublish, Waiters, ask, at_once, close};

fn code(error: &Error) -> u16 {
    error.close_reason().unwrap_or_else(|| panic!("no reason: {error}")).code
}

/// CON-19, CH-28, PRO-13: every waiting call gets reply code and text of the broker's close, unchanged.
#[actix::test]
async fn a_close_by_the_broker_fails_everything_with_its_code() {
    for (number, text) in [(320, "CONNECTION_FORCED - so"), (599, ""), (999, "caf\u{e9}")] {
        let mut bench = Bench::open().await;
        let mut probe = Probe::<ConnectionEvent>::start();
        bench.client.supervisor.do_send(WatchConnection(probe.recipient()));
        let waiters = Waiters::start(&mut bench).await;
        at_once("close-ok", bench.socket.close_connection(number, text)).await.unwrap();
        for error in waiters.all_fail().await {
            let reason = error.close_reason().expect("the broker's reason");
            assert_eq!((reason.code, reason.text.as_str(), reason.method), (number, text, ""));
        }
        let cause = bench.client.closed().await.unwrap();
        assert_eq!((cause.kind(), code(&cause)), (ErrorKind::ConnectionClosed, number));
        assert!(cause.is_retryable());
        assert_eq!(bench.socket.expect_eof().await.unwrap(), Disconnect::Closed);
        match probe.next().await.unwrap() {
            ConnectionEvent::Closed(Some(error)) => assert_eq!(code(&error), number),
            other => panic!("{other:?}"),
        }
        assert_eq!(probe.count().await, 1);
        let late = ask(&bench.client.supervisor, OpenChannel::new()).answer().await.unwrap_err();
        assert_eq!((late.kind(), code(&late)), (ErrorKind::ConnectionClosed, number));
    }
}

/// CON-19: the error names the failed method.
#[actix::test]
async fn a_close_names_the_method_that_caused_it() {
    let mut bench = Bench::open().await;
    let close = connection::Close { class_id: 40, method_id: 10, ..close(503, "COMMAND_INVALID - type") };
    bench.socket.send(0, close).await.unwrap();
    let cause = bench.client.closed().await.unwrap();
    assert_eq!(cause.close_reason().unwrap().method, "exchange.declare");
    assert!(!cause.is_soft());
    assert!(cause.to_string().contains("503 COMMAND_INVALID - type (caused by exchange.declare)"), "{cause}");
}

/// PRO-14
#[actix::test]
async fn reply_codes_are_soft_or_hard() {
    for (number, soft) in
        [(311, true), (403, true), (404, true), (405, true), (406, true), (500, false), (541, false)]
    {
        let mut bench = Bench::open().await;
        let channel = bench.channel(1, OpenChannel::new()).await;
        let call = ask(&channel.actor, DeclareQueue::new("jobs"));
        bench.socket.expect::<queue::Declare>(1).await.unwrap();
        bench.socket.close_channel(1, number, "BECAUSE - so", 50, 10).await.unwrap();
        let error = call.answer().await.unwrap_err();
        assert_eq!((error.kind(), code(&error), error.is_soft()), (ErrorKind::Refused, number, soft));
        assert!(error.to_string().contains(&format!("{number} BECAUSE - so")), "{error}");
        assert_eq!(error.entity(), Some("jobs"));
    }
}

/// CON-19: the broker may reset the socket after connection.close. The first reason counts.
#[actix::test]
async fn a_reset_after_the_close_keeps_the_reason() {
    let mut bench = Bench::open().await;
    let waiters = Waiters::start(&mut bench).await;
    bench.socket.send(0, close(320, "CONNECTION_FORCED")).await.unwrap();
    bench.socket.reset().unwrap();
    for error in waiters.all_fail().await {
        assert_eq!(code(&error), 320);
    }
    assert_eq!(code(&bench.client.closed().await.unwrap()), 320);
}

/// CON-19: after a failed write the client still reads, since the reason may be there.
#[actix::test]
async fn a_failed_write_keeps_the_reason_of_the_broker() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let publish = ask(&channel.actor, Publish::new("", "jobs", "first"));
    bench.socket.expect_publish(1).await.unwrap();
    bench.socket.send(0, close(320, "CONNECTION_FORCED")).await.unwrap();
    bench.socket.reset().unwrap();
    // Written before the client reads.
    channel.outbox.try_publish_text("jobs", "second");
    assert_eq!(code(&publish.answer().await.unwrap_err()), 320);
    assert_eq!(code(&bench.client.closed().await.unwrap()), 320);
}

/// A socket that ends without connection.close, by FIN and by RST.
#[actix::test]
async fn a_lost_socket_fails_everything_with_its_io_error() {
    for (reset, kind) in [(false, io::ErrorKind::UnexpectedEof), (true, io::ErrorKind::ConnectionReset)] {
        let mut bench = Bench::open().await;
        let waiters = Waiters::start(&mut bench).await;
        if reset {
            bench.socket.reset().unwrap();
        } else {
            bench.socket.shutdown().await.unwrap();
        }
        for error in waiters.all_fail().await {
            assert_eq!((error.io_kind(), error.close_reason()), (Some(kind), None));
            assert!(error.is_retryable(), "{error}");
        }
        let cause = bench.client.closed().await.unwrap();
        assert_eq!((cause.kind(), cause.io_kind()), (ErrorKind::Io, Some(kind)));
    }
}

/// NET-19
#[actix::test]
async fn a_delivery_cut_off_by_the_end_is_dropped() {
    let mut bench = Bench::open().await;
    let mut waiters = Waiters::start(&mut bench).await;
    let names =
        basic::Deliver { consumer_tag: crate::common::TAG.into(), delivery_tag: 1, ..Default::default() };
    let mut bytes = RawFrame::method(1, names).to_bytes();
    bytes.extend(RawFrame::header(1, 4, &Default::default()).to_bytes());
    bytes.extend(&RawFrame::body(1, "half").to_bytes()[..9]);
    bench.socket.send_raw(&bytes).await.unwrap();
    bench.socket.shutdown().await.unwrap();
    assert_eq!(waiters.deliveries.closed().await.io_kind(), Some(io::ErrorKind::UnexpectedEof));
    waiters.all_fail().await;
}

/// CON-01, CON-04: two calls of close send one connection.close and report one event.
#[actix::test]
async fn a_close_by_the_user_is_sent_once_and_reported_once() {
    let mut bench = Bench::open().await;
    let mut probe = Probe::<ConnectionEvent>::start();
    bench.client.supervisor.do_send(WatchConnection(probe.recipient()));
    let close = CloseConnection::new().reason(200, "good bye");
    let first = ask(&bench.client.supervisor, close);
    let second = ask(&bench.client.supervisor, CloseConnection::new());
    assert_eq!(bench.socket.expect_close().await.unwrap(), (200, "good bye".into()));
    first.answer().await.unwrap();
    second.answer().await.unwrap();
    assert_eq!(bench.socket.expect_eof().await.unwrap(), Disconnect::Closed);
    assert!(bench.client.closed().await.is_none());
    ask(&bench.client.supervisor, CloseConnection::new()).answer().await.unwrap();
    assert!(matches!(probe.next().await.unwrap(), ConnectionEvent::Closed(None)));
    assert_eq!(probe.count().await, 1);
}

/// Both sides close at once: the client sends close-ok and does not wait for one.
#[actix::test]
async fn closes_that_cross_are_both_answered() {
    let mut bench = Bench::open().await;
    let call = ask(&bench.client.supervisor, CloseConnection::new());
    bench.socket.expect::<connection::Close>(0).await.unwrap();
    // The broker sent this before it read the close of the client, which it does not answer.
    bench.socket.send(0, close(320, "CONNECTION_FORCED")).await.unwrap();
    bench.socket.expect::<connection::CloseOk>(0).await.unwrap();
    call.answer().await.unwrap();
    assert_eq!(bench.socket.expect_eof().await.unwrap(), Disconnect::Closed);
    assert!(bench.client.closed().await.is_none());
}

/// CON-27: the broker does not answer connection.close, which is an error, or closes the socket.
#[actix::test]
async fn a_close_that_is_not_answered_ends_in_time() {
    for hangs_up in [false, true] {
        let mut bench =
            Bench::open_with(&Default::default(), |o| o.close_timeout = Duration::from_millis(200)).await;
        let call = ask(&bench.client.supervisor, CloseConnection::new());
        bench.socket.expect::<connection::Close>(0).await.unwrap();
        if hangs_up {
            bench.socket.shutdown().await.unwrap();
        }
        let answer = call.answer().await;
        assert_eq!(answer.err().map(|error| error.kind()), (!hangs_up).then_some(ErrorKind::Timeout));
        assert!(bench.client.closed().await.is_none());
    }
}

/// A close waits for confirms until its timeout, and then returns the number of unconfirmed publishes.
#[actix::test]
async fn a_close_reports_unconfirmed_publishes() {
    let mut bench =
        Bench::open_with(&Default::default(), |o| o.close_timeout = Duration::from_millis(200)).await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let publish = ask(&channel.actor, Publish::new("", "jobs", "lost"));
    bench.socket.expect_publish(1).await.unwrap();
    let call = ask(&bench.client.supervisor, CloseConnection::new());
    // No channel opens meanwhile.
    let late = ask(&bench.client.supervisor, OpenChannel::new()).answer().await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::ConnectionClosed);
    bench.socket.expect_close().await.unwrap();
    let error = call.answer().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("1 publish"), "{error}");
    assert!(publish.answer().await.unwrap_err().may_have_arrived());
}

/// The same when the connection is lost before the confirms have come.
#[actix::test]
async fn a_close_that_loses_its_connection_reports_unconfirmed_publishes() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let publish = ask(&channel.actor, Publish::new("", "jobs", "lost"));
    bench.socket.expect_publish(1).await.unwrap();
    let call = ask(&bench.client.supervisor, CloseConnection::new());
    assert!(at_once("an answer", ask(&bench.client.supervisor, OpenChannel::new()).answer()).await.is_err());
    bench.socket.reset().unwrap();
    let error = call.answer().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.io_kind()),
        (ErrorKind::ConnectionClosed, Some(io::ErrorKind::ConnectionReset))
    );
    assert!(error.may_have_arrived() && error.to_string().contains("1 publish"), "{error}");
    assert_eq!(publish.answer().await.unwrap_err().kind(), ErrorKind::ConnectionClosed);
}

#[actix::test]
async fn a_close_waits_for_confirms() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let publish = ask(&channel.actor, Publish::new("", "jobs", "kept"));
    bench.socket.expect_publish(1).await.unwrap();
    let call = ask(&bench.client.supervisor, CloseConnection::new());
    // Queued behind the close in the mailbox: once it is answered, the close has begun.
    ask(&bench.client.supervisor, OpenChannel::new()).answer().await.unwrap_err();
    bench.socket.confirm(1, 1, false).await.unwrap();
    publish.answer().await.unwrap();
    bench.socket.expect_close().await.unwrap();
    call.answer().await.unwrap();
}

/// CON-23
#[actix::test]
async fn a_close_during_the_handshake_ends_it() {
    let peer = actix_pika_actors::testing::Peer::listen().await.unwrap();
    let client = crate::common::Client::dial(&peer);
    let mut socket = peer.accept().await.unwrap();
    socket.expect_header().await.unwrap();
    ask(&client.supervisor, CloseConnection::new()).answer().await.unwrap();
    assert!(client.closed().await.is_none());
    assert_eq!(socket.read_to_end().await.unwrap(), []);
}

#[actix::test]
async fn a_close_while_a_channel_opens_fails_the_channel() {
    let mut bench = Bench::open().await;
    let call = ask(&bench.client.supervisor, OpenChannel::new());
    bench.socket.expect::<channel::Open>(1).await.unwrap();
    bench.socket.close_connection(504, "CHANNEL_ERROR").await.unwrap();
    let error = call.answer().await.unwrap_err();
    assert_eq!((error.kind(), code(&error)), (ErrorKind::ConnectionClosed, 504));
}

/// CON-27: a peer that reads nothing cannot delay a close, however much is queued. The error says so.
#[actix::test]
async fn a_close_against_a_full_socket_ends_in_time() {
    let quick = |options: &mut actix_pika_actors::ConnectionOptions| {
        options.close_timeout = Duration::from_millis(200);
    };
    for confirms in [false, true] {
        let mut bench = Bench::open_with(&Default::default(), quick).await;
        let channel = bench.channel(1, OpenChannel::new().confirms(confirms)).await;
        let body = vec![b'x'; 12 << 20];
        let publishes = [(); 4].map(|()| ask(&channel.actor, Publish::new("", "jobs", body.clone())));
        let call = ask(&bench.client.supervisor, CloseConnection::new());
        assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(bench.client.closed().await.is_none());
        for publish in publishes {
            // Without confirms, a publish succeeds once it is queued.
            let answer = publish.answer().await;
            assert!(!confirms || answer.is_err_and(|error| error.kind() == ErrorKind::ConnectionClosed));
        }
        drop(bench.socket);
    }
}

/// CON-27: publishes without confirms that were never written are not closed in order.
#[actix::test]
async fn a_close_whose_socket_fails_before_everything_is_written_is_an_error() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let publishes = [(); 2].map(|()| ask(&channel.actor, Publish::new("", "jobs", vec![b'x'; 12 << 20])));
    for publish in publishes {
        publish.answer().await.unwrap();
    }
    let call = ask(&bench.client.supervisor, CloseConnection::new());
    ask(&bench.client.supervisor, OpenChannel::new()).answer().await.unwrap_err();
    bench.socket.reset().unwrap();
    let error = call.answer().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.io_kind()),
        (ErrorKind::ConnectionClosed, Some(io::ErrorKind::ConnectionReset))
    );
    assert_eq!(bench.client.closed().await.unwrap().kind(), ErrorKind::Io);
}

/// BLK-05: a full window under an alarm: the close ends at its own limit, and names the alarm.
#[actix::test]
async fn a_close_during_an_alarm_ends_in_time_and_names_it() {
    let quick = |options: &mut actix_pika_actors::ConnectionOptions| {
        options.close_timeout = Duration::from_millis(200);
    };
    for unconfirmed in [true, false] {
        let mut bench = Bench::open_with(&Default::default(), quick).await;
        let channel = bench.channel(1, OpenChannel::new().window(1)).await;
        let publishes =
            unconfirmed.then(|| [(); 2].map(|()| ask(&channel.actor, Publish::new("", "jobs", "x"))));
        bench.socket.send(0, connection::Blocked { reason: "low on memory".into() }).await.unwrap();
        let mut state = bench.client.state.clone();
        let blocked = state.wait_for(|state| {
            matches!(state, actix_pika_actors::ConnectionState::Open(opened) if opened.blocked.is_some())
        });
        drop(at_once("the alarm", blocked).await.unwrap());
        let error = ask(&bench.client.supervisor, CloseConnection::new()).answer().await.unwrap_err();
        assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Blocked, unconfirmed), "{error}");
        assert!(error.to_string().contains("low on memory"), "{error}");
        assert!(bench.client.closed().await.is_none());
        for publish in publishes.into_iter().flatten() {
            assert_eq!(publish.answer().await.unwrap_err().kind(), ErrorKind::ConnectionClosed);
        }
    }
}

/// While reading is paused because consumers hold too much, close-ok is still read.
#[actix::test]
async fn a_close_while_reading_is_paused_is_answered() {
    let mut bench = Bench::open_with(&Default::default(), |options| options.read_ahead = 1000).await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let consume = actix_pika_actors::Consume::new().tag(crate::common::TAG).no_ack(true);
    let mut deliveries = bench.consume_as(&channel, consume).await;
    for tag in 1..=1000 {
        bench.socket.deliver(1, crate::common::TAG, tag, vec![b'x'; 1000]).await.unwrap();
    }
    let call = ask(&bench.client.supervisor, CloseConnection::new());
    bench.socket.expect_close().await.unwrap();
    call.answer().await.unwrap();
    assert!(bench.client.closed().await.is_none());
    while deliveries.next().await.is_ok() {}
}
