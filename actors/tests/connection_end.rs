//! Every way in which a connection ends: its cause survives, and everyone who waits is answered.

#![allow(missing_docs, unreachable_pub, dead_code)]

mod common;

use std::{io, time::Duration};

use actix_pika_actors::{
    CloseConnection, ConnectionEvent, DeclareQueue, Error, ErrorKind, OpenChannel, Publish, WatchConnection,
    testing::{
        Disconnect, Probe, RawFrame,
        protocol::{basic, channel, connection, queue},
    },
};

use self::common::{Bench, TryPublish, Waiters, ask, at_once, close};

fn code(error: &Error) -> u16 {
    error.close_reason().unwrap_or_else(|| panic!("no reason: {error}")).code
}

/// CON-19, CH-28, PRO-13: the broker's close reaches everyone, code and text as they came.
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

/// CON-19: the method that the broker names, and the question whether it was soft.
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
async fn codes_are_soft_or_hard() {
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

/// CON-19: after its close the broker resets the socket; the first reason counts.
#[actix::test]
async fn a_reset_behind_the_close_keeps_the_reason() {
    let mut bench = Bench::open().await;
    let waiters = Waiters::start(&mut bench).await;
    bench.socket.send(0, close(320, "CONNECTION_FORCED")).await.unwrap();
    bench.socket.reset().unwrap();
    for error in waiters.all_fail().await {
        assert_eq!(code(&error), 320);
    }
    assert_eq!(code(&bench.client.closed().await.unwrap()), 320);
}

/// CON-19: a write that fails is no reason while there may be a better one to read.
#[actix::test]
async fn a_write_into_a_reset_socket_keeps_the_reason() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let waiters = ask(&channel.actor, Publish::new("", "jobs", "first"));
    bench.socket.expect_publish(1).await.unwrap();
    bench.socket.send(0, close(320, "CONNECTION_FORCED")).await.unwrap();
    bench.socket.reset().unwrap();
    // Written before anyone could see that there is something to read.
    channel.outbox.try_publish_text("jobs", "second");
    assert_eq!(code(&waiters.answer().await.unwrap_err()), 320);
    assert_eq!(code(&bench.client.closed().await.unwrap()), 320);
}

/// A socket that ends without a word, in each way.
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

/// NET-19: a frame that was cut off by the end is no delivery.
#[actix::test]
async fn half_a_delivery_is_none() {
    let mut bench = Bench::open().await;
    let mut waiters = Waiters::start(&mut bench).await;
    let names = basic::Deliver { consumer_tag: common::TAG.into(), delivery_tag: 1, ..Default::default() };
    let mut bytes = RawFrame::method(1, names).to_bytes();
    bytes.extend(RawFrame::header(1, 4, &Default::default()).to_bytes());
    bytes.extend(&RawFrame::body(1, "half").to_bytes()[..9]);
    bench.socket.send_raw(&bytes).await.unwrap();
    bench.socket.shutdown().await.unwrap();
    assert_eq!(waiters.deliveries.closed().await.io_kind(), Some(io::ErrorKind::UnexpectedEof));
    waiters.all_fail().await;
}

/// CON-01, CON-04: an orderly close by the user, heard once.
#[actix::test]
async fn a_close_by_the_user_is_said_once_and_told_once() {
    let mut bench = Bench::open().await;
    let mut probe = Probe::<ConnectionEvent>::start();
    bench.client.supervisor.do_send(WatchConnection(probe.recipient()));
    let bye = CloseConnection::new().reason(200, "good bye");
    let first = ask(&bench.client.supervisor, bye);
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

/// Both sides close at once: each answers the other, and nobody waits for what does not come.
#[actix::test]
async fn closes_that_cross_are_both_answered() {
    let mut bench = Bench::open().await;
    let call = ask(&bench.client.supervisor, CloseConnection::new());
    bench.socket.expect::<connection::Close>(0).await.unwrap();
    // Said before it read ours: it gives no answer.
    bench.socket.send(0, close(320, "CONNECTION_FORCED")).await.unwrap();
    bench.socket.expect::<connection::CloseOk>(0).await.unwrap();
    call.answer().await.unwrap();
    assert_eq!(bench.socket.expect_eof().await.unwrap(), Disconnect::Closed);
    assert!(bench.client.closed().await.is_none());
}

/// A broker that answers `connection.close` with nothing, or with the end of the socket.
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
        call.answer().await.unwrap();
        assert!(bench.client.closed().await.is_none());
    }
}

/// A close waits for confirms, but not longer than it may; then it says how many it did not get.
#[actix::test]
async fn a_close_tells_of_publishes_that_were_not_confirmed() {
    let mut bench =
        Bench::open_with(&Default::default(), |o| o.close_timeout = Duration::from_millis(200)).await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let publish = ask(&channel.actor, Publish::new("", "jobs", "lost"));
    bench.socket.expect_publish(1).await.unwrap();
    let call = ask(&bench.client.supervisor, CloseConnection::new());
    // Nothing new begins meanwhile.
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
async fn a_close_that_loses_its_connection_tells_of_publishes_that_were_not_confirmed() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let publish = ask(&channel.actor, Publish::new("", "jobs", "lost"));
    bench.socket.expect_publish(1).await.unwrap();
    let call = ask(&bench.client.supervisor, CloseConnection::new());
    assert!(at_once("an answer", ask(&bench.client.supervisor, OpenChannel::new()).answer()).await.is_err());
    bench.socket.reset().unwrap();
    let error = call.answer().await.unwrap_err();
    assert!(error.to_string().contains("1 publish"), "{error}");
    assert_eq!(publish.answer().await.unwrap_err().kind(), ErrorKind::ConnectionClosed);
}

/// A close awaits the confirms that come.
#[actix::test]
async fn a_close_waits_for_confirms() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let publish = ask(&channel.actor, Publish::new("", "jobs", "kept"));
    bench.socket.expect_publish(1).await.unwrap();
    let call = ask(&bench.client.supervisor, CloseConnection::new());
    // Behind the close in its mailbox: by now it has begun.
    ask(&bench.client.supervisor, OpenChannel::new()).answer().await.unwrap_err();
    bench.socket.confirm(1, 1, false).await.unwrap();
    publish.answer().await.unwrap();
    bench.socket.expect_close().await.unwrap();
    call.answer().await.unwrap();
}

/// CON-23: closed by the user while it is in its handshake.
#[actix::test]
async fn a_close_during_the_handshake_ends_it() {
    let peer = actix_pika_actors::testing::Peer::listen().await.unwrap();
    let client = common::Client::dial(&peer);
    let mut socket = peer.accept().await.unwrap();
    socket.expect_header().await.unwrap();
    ask(&client.supervisor, CloseConnection::new()).answer().await.unwrap();
    assert!(client.closed().await.is_none());
    assert_eq!(socket.read_to_end().await.unwrap(), []);
}

/// The broker closes the connection while a channel opens.
#[actix::test]
async fn a_close_while_a_channel_opens_fails_it() {
    let mut bench = Bench::open().await;
    let call = ask(&bench.client.supervisor, OpenChannel::new());
    bench.socket.expect::<channel::Open>(1).await.unwrap();
    bench.socket.close_connection(504, "CHANNEL_ERROR").await.unwrap();
    let error = call.answer().await.unwrap_err();
    assert_eq!((error.kind(), code(&error)), (ErrorKind::ConnectionClosed, 504));
}

/// A peer that reads nothing cannot hold up a close, whatever waits to be written.
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
        drop(call.answer().await);
        assert!(bench.client.closed().await.is_none());
        for publish in publishes {
            // Without confirms, on its way is all that is promised.
            let answer = publish.answer().await;
            assert!(!confirms || answer.is_err_and(|error| error.kind() == ErrorKind::ConnectionClosed));
        }
        drop(bench.socket);
    }
}

/// The answer to a close is read even when nothing else is, because user code has too much to do.
#[actix::test]
async fn a_close_of_a_connection_that_does_not_read_is_answered() {
    let mut bench = Bench::open_with(&Default::default(), |options| options.read_ahead = 1000).await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let consume = actix_pika_actors::Consume::new().tag(common::TAG).no_ack(true);
    let mut deliveries = bench.consume_as(&channel, consume).await;
    for tag in 1..=1000 {
        bench.socket.deliver(1, common::TAG, tag, vec![b'x'; 1000]).await.unwrap();
    }
    let call = ask(&bench.client.supervisor, CloseConnection::new());
    bench.socket.expect_close().await.unwrap();
    call.answer().await.unwrap();
    assert!(bench.client.closed().await.is_none());
    while deliveries.next().await.is_ok() {}
}
