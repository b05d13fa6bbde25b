//! The client, with servers that the tests play.

use std::time::Duration;

use actix_pika::{
    DeclareQueue, ErrorKind, Publishing,
    rpc::{Replies, Rpc, RpcError},
};

use super::*;
use crate::support::eventually;

const BOTH: [Replies; 2] = [Replies::Direct, Replies::Queue];

/// RPC-03: a call of a method that nobody serves fails at once, and nothing has run.
#[actix::test]
async fn a_call_of_an_unknown_method_is_unroutable_at_once() {
    let (_vhost, connection) = fresh().await;
    for replies in BOTH {
        let client = Rpc::client(&connection).replies(replies).await.unwrap();
        let error = within("the call", 10, client.send(add(1, 2))).await.unwrap_err();
        let RpcError::Unroutable(cause) = &error else { panic!("{error:?}") };
        assert_eq!((cause.kind(), cause.returned().unwrap().code), (ErrorKind::Unroutable, 312));
        assert_eq!((error.may_have_run(), error.is_retryable()), (false, true));
        let error = within("the call", 10, client.send_to("nowhere", add(1, 2))).await.unwrap_err();
        assert!(matches!(error, RpcError::Unroutable(_)), "{error:?}");
        assert_eq!(client.counters().pending, 0);
    }
}

/// RPC-12: correlation ids match replies, in any order; their prefix can be chosen.
#[actix::test]
async fn replies_find_their_calls() {
    let (_vhost, connection) = fresh().await;
    for replies in BOTH {
        let mut server = RawServer::on(&connection, "rpc.add").await;
        let client = Rpc::client(&connection).replies(replies).correlation_prefix("myPrefix").await.unwrap();
        let calls = [start(&client, add(1, 1)), start(&client, add(2, 2)), start(&client, add(3, 3))];
        let requests = [server.next().await, server.next().await, server.next().await];
        let id = |request: &Delivery| request.properties().unwrap().correlation_id().unwrap().to_owned();
        let mut ids = requests.each_ref().map(id);
        ids.sort();
        assert_eq!(ids, ["myPrefix-1", "myPrefix-2", "myPrefix-3"]);
        for request in requests.into_iter().rev() {
            let Add { a, b } = serde_json::from_slice(request.body()).unwrap();
            server.reply(&request, Publishing::new((a + b).to_string())).await;
            request.ack().unwrap();
        }
        let [one, two, three] = calls;
        assert_eq!(outcome(one).await.unwrap(), 2);
        assert_eq!(outcome(two).await.unwrap(), 4);
        assert_eq!(outcome(three).await.unwrap(), 6);
        let counters = client.counters();
        assert_eq!((counters.replies, counters.pending, counters.late, counters.unexpected), (3, 0, 0, 0));
        client.close().await;
    }
}

/// RPC-03, RPC-12: a call that nobody answers ends at its deadline, and leaves nothing behind; the late reply is dropped.
#[actix::test]
async fn a_late_reply_is_dropped_and_counted() {
    let (_vhost, connection) = fresh().await;
    for replies in BOTH {
        let mut server = RawServer::on(&connection, "rpc.add").await;
        let client =
            Rpc::client(&connection).replies(replies).deadline(Duration::from_millis(200)).await.unwrap();
        let call = start(&client, add(1, 2));
        let request = server.next().await;
        assert_eq!(request.properties().unwrap().expiration(), Some(Duration::from_millis(200)));
        let error = outcome(call).await.unwrap_err();
        assert!(matches!(error, RpcError::Timeout { may_have_run: true, .. }), "{error:?}");
        assert_eq!(client.counters().pending, 0);
        server.reply(&request, Publishing::new("3")).await;
        request.ack().unwrap();
        eventually("the late reply", 10, async || (client.counters().late == 1).then_some(())).await;
        let counters = client.counters();
        assert_eq!((counters.replies, counters.unexpected), (0, 0));
        client.close().await;
    }
}

/// RPC-12: a call whose future is dropped leaves nothing behind.
#[actix::test]
async fn a_call_that_is_dropped_is_forgotten() {
    let (_vhost, connection) = fresh().await;
    let mut server = RawServer::on(&connection, "rpc.add").await;
    let client = Rpc::client(&connection).await.unwrap();
    let call = start(&client, add(1, 2));
    let request = server.next().await;
    assert_eq!(client.counters().pending, 1);
    call.abort();
    eventually("the end of the call", 10, async || (client.counters().pending == 0).then_some(())).await;
    server.reply(&request, Publishing::new("3")).await;
    eventually("the late reply", 10, async || (client.counters().late == 1).then_some(())).await;
}

/// RPC-04: a call to a queue without consumers, which dead-letters, times out after about its deadline, and has not run.
/// The request that comes back as a dead letter ends its call as well.
#[actix::test]
async fn a_call_to_a_queue_without_consumers_times_out() {
    let (_vhost, connection) = fresh().await;
    let channel = connection.channel().await.unwrap();
    // A queue that expires requests on its own sends them to the reply queue before the deadline of the client.
    let dead_letters = DeclareQueue::new("rpc.add")
        .message_ttl(Duration::from_millis(100))
        .dead_letter_exchange("")
        .dead_letter_routing_key("rpc.reply.client-1");
    channel.declare_queue(dead_letters).await.unwrap();
    let queue =
        Rpc::client(&connection).replies(Replies::Queue).correlation_prefix("client-1").await.unwrap();
    let error = within("the dead letter", 10, queue.send(add(1, 2))).await.unwrap_err();
    assert!(matches!(error, RpcError::Timeout { may_have_run: false, cause: None }), "{error:?}");
    let direct = Rpc::client(&connection).deadline(Duration::from_secs(1)).await.unwrap();
    let began = std::time::Instant::now();
    let error = within("the deadline", 10, direct.send(add(1, 2))).await.unwrap_err();
    assert!(matches!(error, RpcError::Timeout { .. }), "{error:?}");
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

/// RPC-05: closing twice, and by two handles, is harmless; a closed client makes no calls.
#[actix::test]
async fn a_client_can_be_closed_twice() {
    let (_vhost, connection) = fresh().await;
    for replies in BOTH {
        let client = Rpc::client(&connection).replies(replies).await.unwrap();
        let other = client.clone();
        within("two closes", 10, futures_util::future::join(client.close(), other.close())).await;
        within("a third one", 10, client.close()).await;
        assert!(client.is_closed());
        let error = client.send(add(1, 2)).await.unwrap_err();
        assert!(matches!(error, RpcError::Closed { may_have_run: false, .. }), "{error:?}");
    }
}

/// RPC-05: a client that is dropped gives back its channel and its queue, and a closed connection ends it.
#[actix::test]
async fn a_client_ends_with_its_last_handle_or_its_connection() {
    let (vhost, connection) = fresh().await;
    let client = Rpc::client(&connection).replies(Replies::Queue).correlation_prefix("one").await.unwrap();
    drop(client);
    let observer = connect(vhost.url()).await.unwrap();
    eventually("the end of the queue", 10, async || {
        let channel = observer.channel().await.unwrap();
        channel.get_queue("rpc.reply.one").await.err().filter(|error| error.code() == Some(404))
    })
    .await;
    let client = Rpc::client(&connection).await.unwrap();
    within("the close", 10, connection.close()).await.unwrap();
    eventually("the end of the client", 10, async || client.is_closed().then_some(())).await;
    let error = client.send(add(1, 2)).await.unwrap_err();
    assert!(matches!(error, RpcError::Closed { may_have_run: false, .. }), "{error:?}");
    within("the close of the client", 10, client.close()).await;
}

/// RPC-06: messages without a correlation id, or with a foreign one, are counted and dropped. The client goes on.
#[actix::test]
async fn a_message_that_is_no_reply_is_dropped() {
    let (_vhost, connection) = fresh().await;
    for replies in BOTH {
        let mut server = RawServer::on(&connection, "rpc.add").await;
        let client = Rpc::client(&connection).replies(replies).correlation_prefix("c").await.unwrap();
        let call = start(&client, add(1, 2));
        let request = server.next().await;
        server.send(&request, Publishing::new("3")).await;
        for foreign in ["", "c", "c-", "c-x", "c-0", "c-2", "c-99999999999999999999999", "d-1", "1"] {
            server.send(&request, Publishing::new("4").correlation_id(foreign)).await;
        }
        server.send(&request, Publishing::new("5").correlation_id_bytes(vec![0xff, 0xfe])).await;
        server.reply(&request, Publishing::new("6")).await;
        request.ack().unwrap();
        assert_eq!(outcome(call).await.unwrap(), 6);
        let counters = client.counters();
        assert_eq!((counters.replies, counters.late, counters.unexpected), (1, 0, 11));
        // A message that reaches no queue, without a correlation id: an error of its publish, and of nothing else.
        let stray = server.channel.default_exchange().publish("stray", "nowhere").await.unwrap_err();
        assert_eq!(stray.kind(), ErrorKind::Unroutable);
        let call = start(&client, add(1, 2));
        let request = server.next().await;
        server.reply(&request, Publishing::new("3")).await;
        request.ack().unwrap();
        assert_eq!(outcome(call).await.unwrap(), 3);
        client.close().await;
    }
}

/// RPC-06: the first of such messages is warned of, and the next ones only now and then.
#[actix::test]
async fn a_message_that_is_no_reply_is_warned_of() {
    let log = log_lines::LogLines::install();
    log::set_max_level(log::LevelFilter::Warn);
    let (_vhost, connection) = fresh().await;
    let mut server = RawServer::on(&connection, "rpc.add").await;
    for (prefix, stray, line) in [
        ("first", Publishing::new("12345"), "dropped a message of 5 bytes without a correlation id"),
        (
            "second",
            Publishing::new("1").correlation_id("a\nb"),
            r#"dropped a message of 1 bytes with correlation id "a\nb", which is that of no call"#,
        ),
    ] {
        let client = Rpc::client(&connection).correlation_prefix(prefix).await.unwrap();
        let call = start(&client, add(1, 2));
        let request = server.next().await;
        for _ in 0..10 {
            server.send(&request, stray.clone()).await;
        }
        server.reply(&request, Publishing::new("3")).await;
        request.ack().unwrap();
        assert_eq!(outcome(call).await.unwrap(), 3);
        let of_client = format!("rpc client {prefix}: ");
        let lines: Vec<_> = log.so_far().into_iter().filter(|line| line.contains(&of_client)).collect();
        assert!(lines.first().is_some_and(|first| first.ends_with(line)), "{lines:?}");
        assert!(lines.len() < 10 && lines.iter().all(|line| line.starts_with("WARN")), "{lines:?}");
    }
}

/// RPC-07: calls that await their replies end when the client is closed.
#[actix::test]
async fn a_close_ends_pending_calls() {
    let (_vhost, connection) = fresh().await;
    for replies in BOTH {
        let mut server = RawServer::on(&connection, "rpc.add").await;
        let client = Rpc::client(&connection).replies(replies).await.unwrap();
        let calls: Vec<_> = (0..10).map(|n| start(&client, add(n, n))).collect();
        let mut requests = Vec::new();
        for _ in 0..10 {
            requests.push(server.next().await);
        }
        within("the close", 10, client.close()).await;
        for call in calls {
            let error = outcome(call).await.unwrap_err();
            assert!(matches!(error, RpcError::Closed { may_have_run: true, .. }), "{error:?}");
        }
        assert_eq!(client.counters().pending, 0);
        requests.into_iter().for_each(|request| request.ack().unwrap());
    }
}

/// RPC-02: what a server must not send ends its call as an error of the codec, and no other call.
#[actix::test]
async fn a_wrong_reply_is_an_error_of_its_call() {
    let (_vhost, connection) = fresh().await;
    let mut server = RawServer::on(&connection, "rpc.add").await;
    let client = Rpc::client(&connection).await.unwrap();
    let wrong = [
        Publishing::new("three"),
        Publishing::new(""),
        Publishing::new("3").message_type("call"),
        Publishing::new("3").content_type("text/plain"),
        Publishing::new("3").message_type("error"),
        Publishing::new(&b"\xff"[..]),
    ];
    for reply in wrong {
        let call = start(&client, add(1, 2));
        let request = server.next().await;
        server.reply(&request, reply).await;
        request.ack().unwrap();
        let error = outcome(call).await.unwrap_err();
        assert!(matches!(error, RpcError::Codec { may_have_run: true, .. }), "{error:?}");
    }
    let call = start(&client, add(1, 2));
    let request = server.next().await;
    server
        .reply(&request, Publishing::new(r#"{"code":"busy","retryable":true}"#).message_type("error"))
        .await;
    request.ack().unwrap();
    let error = outcome(call).await.unwrap_err();
    assert_eq!((error.remote().unwrap().code(), error.is_retryable()), ("busy", true));
}
