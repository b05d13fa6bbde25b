//! Calls of a client whose connection is cut, with servers that the tests play.

use std::time::Duration;

use actix_pika::{
    Publishing,
    message::DeleteQueue,
    rpc::{Replies, Rpc, RpcError},
};

use super::*;
use crate::support::{eventually, proxy::Cut, robust_connection::RobustConnection};

async fn pair(queue: &str, replies: Replies) -> (RobustConnection, RpcClient, Connection, RawServer) {
    let robust = RobustConnection::connect().await;
    let connection = within("connect", 10, connect(robust.vhost.url())).await.unwrap();
    let server = RawServer::on(&connection, queue).await;
    let client = Rpc::client(&robust.connection).replies(replies).await.unwrap();
    (robust, client, connection, server)
}

async fn take_requests(server: &mut RawServer, n: usize) -> Vec<Delivery> {
    let mut requests = Vec::new();
    for _ in 0..n {
        requests.push(server.next().await);
    }
    requests
}

async fn answer(server: &RawServer, requests: Vec<Delivery>) {
    for request in requests {
        server.reply(&request, Publishing::new("7")).await;
        request.ack().unwrap();
    }
}

/// RPC-12: calls that await a direct reply when the connection is cut fail while it is still down. Calls that are made
/// while it is down are sent afterwards, and none of them is taken for one of the earlier connection.
#[actix::test]
async fn calls_with_direct_replies_are_lost_at_once() {
    let (mut robust, client, _connection, mut server) = pair("rpc.add", Replies::Direct).await;
    let before: Vec<_> = (0..10).map(|n| start(&client, add(n, 0))).collect();
    let requests = take_requests(&mut server, 10).await;
    robust.disconnect().await;
    for call in before {
        let error = outcome(call).await.unwrap_err();
        let RpcError::Lost { may_have_run: true, cause } = &error else { panic!("{error:?}") };
        assert!(cause.is_retryable() && error.is_retryable(), "{cause}");
    }
    let during: Vec<_> = (0..10).map(|n| start(&client, add(n, 0))).collect();
    eventually("the calls", 10, async || (client.counters().pending == 10).then_some(())).await;
    robust.proxy.accept_new().await;
    robust.wait_for_recovery().await;
    let after: Vec<_> = (0..10).map(|n| start(&client, add(n, 0))).collect();
    answer(&server, requests).await;
    let requests = take_requests(&mut server, 20).await;
    answer(&server, requests).await;
    for call in during.into_iter().chain(after) {
        assert_eq!(outcome(call).await.unwrap(), 7);
    }
    let counters = client.counters();
    assert_eq!((counters.replies, counters.late, counters.unexpected, counters.pending), (20, 0, 0, 0));
}

/// RPC-12: an idempotent call is marked, and sent again under its correlation id; its first reply counts.
#[actix::test]
async fn idempotent_calls_are_repeated_under_their_ids() {
    let (mut robust, client, _connection, mut server) = pair("rpc.double", Replies::Direct).await;
    let calls: Vec<_> = (0..10).map(|n| start(&client, Double { n })).collect();
    let first = take_requests(&mut server, 10).await;
    robust.cut_and_recover().await;
    let second = take_requests(&mut server, 10).await;
    let ids = |requests: &[Delivery]| {
        let id = |request: &Delivery| request.properties().unwrap().correlation_id().unwrap().to_owned();
        let mut ids: Vec<_> = requests.iter().map(id).collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&first), ids(&second));
    let is_marked = |request: &Delivery| {
        request.properties().unwrap().headers().is_some_and(|headers| headers.get("rpc-idempotent").is_some())
    };
    assert!(first.iter().chain(&second).all(is_marked));
    answer(&server, first).await; // to addresses that are gone
    answer(&server, second).await;
    for call in calls {
        assert_eq!(outcome(call).await.unwrap(), 7);
    }
    assert_eq!((client.counters().replies, client.counters().late), (10, 0));
}

/// RPC-12: with a reply queue, calls are answered over a cut, whether the reply comes before or after the reconnect.
#[actix::test]
async fn calls_with_a_reply_queue_are_answered_over_a_cut() {
    let (mut robust, client, _connection, mut server) = pair("rpc.add", Replies::Queue).await;
    let calls: Vec<_> = (0..10).map(|n| start(&client, add(n, 0))).collect();
    let mut requests = take_requests(&mut server, 10).await;
    // What is not confirmed yet would be lost.
    eventually("confirms", 10, async || {
        (robust.connection.counters().channels.confirmed >= 10).then_some(())
    })
    .await;
    robust.disconnect().await;
    let later = requests.split_off(5);
    answer(&server, requests).await;
    robust.proxy.accept_new().await;
    robust.wait_for_recovery().await;
    answer(&server, later).await;
    for call in calls {
        assert_eq!(outcome(call).await.unwrap(), 7);
    }
    assert_eq!((client.counters().replies, client.counters().pending), (10, 0));
}

/// RPC-12: many cuts, with calls all the time: each call ends, none by its deadline.
#[actix::test]
async fn every_call_ends_over_many_cuts() {
    let (mut robust, client, _connection, mut server) = pair("rpc.double", Replies::Direct).await;
    let serving = tokio::task::spawn_local(async move {
        loop {
            let request = server.next().await;
            server.reply(&request, Publishing::new("7")).await;
            request.ack().unwrap();
        }
    });
    let mut calls = Vec::new();
    for _ in 0..10 {
        calls.extend((0..20).map(|n| start(&client, Double { n })));
        robust.proxy.cut_all(Cut::Rst);
        calls.extend((0..20).map(|n| start(&client, Double { n })));
        robust.wait_for_loss().await;
        robust.wait_for_recovery().await;
    }
    for call in calls {
        assert_eq!(outcome(call).await.unwrap(), 7);
    }
    assert_eq!(client.counters().pending, 0);
    serving.abort();
}

/// RPC-19: queues that somebody deletes, of the method and of replies, come back with their consumers: later calls are
/// answered.
#[actix::test]
async fn queues_that_are_deleted_come_back() {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    Rpc::serve_fn(&channel, |add: Add| async move { Ok(add.a + add.b) }).await.unwrap();
    let client =
        Rpc::client(&robust.connection).replies(Replies::Queue).correlation_prefix("one").await.unwrap();
    assert_eq!(within("a call", 10, client.send(add(1, 2))).await.unwrap(), 3);
    let other = within("connect", 10, connect(robust.vhost.url())).await.unwrap();
    let other = other.channel().await.unwrap();
    for queue in ["rpc.reply.one", "rpc.add"] {
        other.delete_queue(DeleteQueue::new(queue)).await.unwrap();
        let patient = client.deadline(Duration::from_millis(500));
        let answered = async || patient.send(add(1, 2)).await.ok();
        assert_eq!(eventually("an answer", 30, answered).await, 3);
    }
    assert!(!client.is_closed());
}
