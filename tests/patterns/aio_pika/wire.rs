//! What is on the wire, and what becomes of calls among Rust programs.

use std::{cell::Cell, rc::Rc, time::Duration};

use actix_pika::{
    Channel, Connector, DeclareQueue, Delivery, ErrorKind, Publishing,
    aio_pika::JsonRpc,
    message::{DeliveryMode, Value},
    rpc::RpcError,
};
use futures_util::future::{join, join_all};
use serde_json::json;
use tokio::sync::{Notify, Semaphore};

use super::Rig;
use crate::rpc::hostile::{Bomb, Next};
use crate::support::{eventually, get_message, oracle::Oracle, robust_connection::RobustConnection, within};

async fn client(channel: &Channel) -> JsonRpc {
    let rpc = JsonRpc::new(channel).deadline(Duration::from_secs(20)).correlation_prefix("myPrefix");
    within("a client", 10, rpc.into_future()).await.unwrap()
}

/// A queue as that of a method, without a server.
async fn method_queue(rig: &Rig, method: &str) -> actix_pika::Queue {
    let queue = DeclareQueue::new(method).dead_letter_exchange("rpc.dlx");
    within("a queue", 10, rig.channel.declare_queue(queue)).await.unwrap()
}

/// Makes a call of which `become_of` decides.
async fn call_with(rig: &Rig, become_of: impl AsyncFnOnce(Delivery)) -> Result<serde_json::Value, RpcError> {
    let queue = method_queue(rig, "method").await;
    let rpc = client(&rig.channel).await;
    let server = async { become_of(get_message(&queue).await).await };
    within("a call", 20, join(rpc.call("method", &json!({"a": 1})), server)).await.0
}

fn reply_to(call: &Delivery, kind: &str, body: &str) -> Publishing {
    let id = call.properties().unwrap().correlation_id().unwrap().to_owned();
    Publishing::new(body.to_owned()).correlation_id(id).message_type(kind)
}

async fn publish(rig: &Rig, message: Publishing, queue: &str) {
    within("a publish", 10, rig.channel.default_exchange().publish(message, queue)).await.unwrap();
}

/// AIO-06: a call has the properties of aio-pika's, and its reply is taken by its correlation id.
#[actix::test]
async fn a_call_on_the_wire() {
    let rig = Rig::new().await;
    let result = call_with(&rig, async |call| {
        let properties = call.properties().unwrap();
        let queue = properties.reply_to().unwrap().to_owned();
        assert_eq!(call.body(), br#"{"a":1}"#);
        assert_eq!(properties.message_type(), Some("call"));
        assert_eq!(properties.content_type(), Some("application/json"));
        assert_eq!(properties.correlation_id(), Some("myPrefix-1"));
        assert_eq!(properties.header("From"), Some(&Value::from(&*queue)));
        assert_eq!(properties.priority(), Some(5));
        assert_eq!(properties.delivery_mode(), Some(DeliveryMode::Transient));
        assert_eq!(properties.expiration(), Some(Duration::from_millis(19_800)));
        assert!(properties.timestamp().is_some());
        // What is no reply changes nothing.
        publish(&rig, Publishing::new("no id"), &queue).await;
        publish(&rig, Publishing::new("{}").correlation_id("myPrefix-2"), &queue).await;
        publish(&rig, reply_to(&call, "result", "[7]"), &queue).await;
        publish(&rig, reply_to(&call, "result", "[8]"), &queue).await;
        call.ack().unwrap();
    })
    .await;
    assert_eq!(result.unwrap(), json!([7]));
}

/// AIO-07: what a server answers wrongly is an error of the call.
#[actix::test]
async fn wrong_replies_are_errors() {
    let wrong = [("result", "{"), ("error", "\u{1}"), ("other", "{}")];
    for (kind, body) in wrong {
        let rig = Rig::new().await;
        let error = call_with(&rig, async |call| {
            let queue = call.properties().unwrap().reply_to().unwrap().to_owned();
            publish(&rig, reply_to(&call, kind, body), &queue).await;
            call.ack().unwrap();
        })
        .await
        .unwrap_err();
        assert!(matches!(error, RpcError::Codec { may_have_run: true, .. }), "{kind}: {error:?}");
    }
}

/// AIO-08: a call that its server rejects comes back at once, and is no time-out.
#[actix::test]
async fn a_rejected_call_comes_back() {
    let rig = Rig::new().await;
    let error = call_with(&rig, async |call| call.reject(false).unwrap()).await.unwrap_err();
    assert!(matches!(error, RpcError::Lost { may_have_run: true, .. }), "{error:?}");
}

/// AIO-09: a reply has the correlation id and delivery mode of its call; a call without a reply queue is handled.
#[actix::test]
async fn a_reply_on_the_wire() {
    let rig = Rig::new().await;
    let replies = within("a queue", 10, rig.channel.declare_queue("replies")).await.unwrap();
    let rpc = client(&rig.channel).await;
    let handled = Rc::new(Cell::new(0));
    let count = handled.clone();
    let serve = rpc.register("method", move |_: serde_json::Value| {
        count.set(count.get() + 1);
        async { Ok(7) }
    });
    within("a server", 10, serve).await.unwrap();

    let id = &b"\xff\x00id"[..];
    let call = || Publishing::new("{}").message_type("call");
    publish(&rig, call(), "method").await;
    publish(&rig, call().reply_to("nobody").correlation_id("1"), "method").await;
    publish(&rig, call().reply_to("replies").correlation_id_bytes(id).persistent(true), "method").await;
    publish(&rig, call().reply_to("replies").persistent(false), "method").await;
    for (id, mode) in [(Some(id), DeliveryMode::Persistent), (None, DeliveryMode::Transient)] {
        let reply = get_message(&replies).await;
        let properties = reply.properties().unwrap();
        assert_eq!(reply.body(), b"7");
        assert_eq!(properties.message_type(), Some("result"));
        assert_eq!(properties.content_type(), Some("application/json"));
        assert_eq!((properties.correlation_id_bytes(), properties.delivery_mode()), (id, Some(mode)));
        assert!(properties.timestamp().is_some());
        reply.ack().unwrap();
    }
    assert_eq!(handled.get(), 4);
}

/// AIO-10: a method is registered once at a time, and again after it was unregistered.
#[actix::test]
async fn a_method_is_registered_once() {
    let rig = Rig::new().await;
    let rpc = client(&rig.channel).await;
    let first = within("a server", 10, rpc.register("a", |(): ()| async { Ok(1) })).await.unwrap();
    let second = within("a refusal", 10, rpc.register("a", |(): ()| async { Ok(2) })).await.unwrap_err();
    assert_eq!((second.kind(), second.code()), (ErrorKind::Refused, None));
    within("an end", 10, first.unregister()).await;
    let again = within("a server", 10, rpc.register("a", |(): ()| async { Ok(3) })).await.unwrap();
    assert_eq!(within("a call", 10, rpc.call::<i32>("a", &())).await.unwrap(), 3);

    // A queue that somebody else has declared in another way; the name is free again then.
    within("a queue", 10, rig.channel.declare_queue("b")).await.unwrap();
    let channel = within("a channel", 10, rig.connection.channel()).await.unwrap();
    let other = client(&channel).await;
    for _ in 0..1 {
        let refused = within("a refusal", 10, other.register("b", |(): ()| async { Ok(()) })).await;
        assert_eq!(refused.unwrap_err().code(), Some(406));
    }
    // Dropping the registration serves on.
    drop(again);
    assert_eq!(within("a call", 10, rpc.call::<i32>("a", &())).await.unwrap(), 3);
}

/// AIO-11: a close ends the calls that wait, and deletes the reply queue; so does dropping the client.
#[actix::test]
async fn a_close_ends_calls() {
    let rig = Rig::new().await;
    let oracle = Oracle::connect(&rig.vhost.url()).await;
    method_queue(&rig, "slow").await;
    let rpc = client(&rig.channel).await;
    let queue = rig.vhost.queues().await;
    let queue = queue.iter().map(|queue| &*queue.name).find(|name| name.starts_with("rpc."));
    let queue = queue.expect("a reply queue").to_owned();
    let calls = join_all((0..10).map(|_| rpc.call::<()>("slow", &())));
    let close = async {
        eventually("calls", 10, async || (rpc.pending() == 10).then_some(())).await;
        oracle.wait_for_count("slow", 10).await;
        rpc.close().await;
    };
    let (calls, ()) = within("an end", 20, join(calls, close)).await;
    for call in calls {
        assert!(matches!(call, Err(RpcError::Closed { may_have_run: true, .. })), "{call:?}");
    }
    rpc.close().await;
    assert!(rpc.is_closed());
    let later = rpc.call::<()>("slow", &()).await;
    assert!(matches!(later, Err(RpcError::Closed { may_have_run: false, .. })), "{later:?}");
    assert_eq!(oracle.queue_counts(&queue).await, None);

    let dropped = client(&rig.channel).await;
    let debug = format!("{dropped:?}");
    let queue = debug.split('"').find(|part| part.starts_with("rpc.reply.")).unwrap().to_owned();
    assert!(oracle.queue_counts(&queue).await.is_some());
    drop(dropped);
    eventually("the end of the reply queue", 10, async || {
        oracle.queue_counts(&queue).await.is_none().then_some(())
    })
    .await;
    assert!(!rig.channel.is_closed());
}

/// AIO-12: calls that run when the connection of both ends is cut are answered, each by one run.
#[actix::test]
async fn calls_are_answered_over_a_reconnect() {
    let mut rig = RobustConnection::connect().await;
    let channel = rig.channel().await;
    let rpc = client(&channel).await;
    let (runs, gate, begun) = (Rc::new(Cell::new(0)), Rc::new(Semaphore::new(0)), Rc::new(Notify::new()));
    let (count, pass, tell) = (runs.clone(), gate.clone(), begun.clone());
    let serve = rpc.method("slow").serve(move |n: serde_json::Value| {
        count.set(count.get() + 1);
        if count.get() == 10 {
            tell.notify_one();
        }
        let pass = pass.clone();
        async move {
            let _pass = pass.acquire().await?;
            Ok(n["n"].clone())
        }
    });
    within("a server", 10, serve).await.unwrap();
    let arguments: Vec<_> = (0..10).map(|n| json!({"n": n})).collect();
    let calls = join_all(arguments.iter().map(|n| rpc.call::<u32>("slow", n)));
    let cut = async {
        begun.notified().await;
        rig.cut_and_recover().await;
        gate.add_permits(10);
    };
    let (results, ()) = within("all calls", 30, join(calls, cut)).await;
    let results: Vec<_> = results.into_iter().map(Result::unwrap).collect();
    assert_eq!((results, runs.get()), ((0..10).collect(), 10));
    // And calls that are made now.
    assert_eq!(within("a call", 20, rpc.call::<u32>("slow", &json!({"n": 11}))).await.unwrap(), 11);
}

#[actix::test]
async fn the_end_of_the_connection_ends_calls() {
    let rig = Rig::new().await;
    method_queue(&rig, "slow").await;
    let rpc = client(&rig.channel).await;
    let close = async {
        eventually("a call", 10, async || (rpc.pending() == 1).then_some(())).await;
        rig.connection.close().await.unwrap();
    };
    let (call, ()) = within("an end", 20, join(rpc.call::<()>("slow", &()), close)).await;
    assert!(matches!(call, Err(RpcError::Closed { .. })), "{call:?}");
    assert!(rpc.is_closed());
    let again = within("connect", 10, Connector::new(&rig.vhost.url()).unwrap().connect()).await.unwrap();
    again.close().await.unwrap();
}

/// AIO-14: a value whose encoding or decoding panics is an error of its call, and nothing runs twice.
#[actix::test]
async fn a_codec_that_panics_costs_its_own_call() {
    let rig = Rig::new().await;
    let rpc = client(&rig.channel).await;
    let runs = Rc::new(Cell::new(0));
    let counted = runs.clone();
    let bomb = move |n: Option<Bomb>| {
        counted.set(counted.get() + 1);
        async move { Ok(n.unwrap_or(Bomb(13))) }
    };
    let decoding = rpc.register("decode", |Next { n }: Next| async move { Ok(n) });
    let _decoding = within("a method", 10, decoding).await.unwrap();
    let _bomb = within("a method", 10, rpc.register("encode", bomb)).await.unwrap();
    for (method, arguments, code) in
        [("decode", json!({"n": 14}), "undecodable"), ("encode", json!(null), "unserialisable")]
    {
        let call = within("a call", 20, rpc.call::<u64>(method, &arguments));
        assert_eq!(call.await.unwrap_err().remote().unwrap().code(), code);
    }
    let n = within("a call", 20, rpc.call::<u64>("decode", &json!({"n": 1}))).await.unwrap();
    assert_eq!((n, runs.get()), (1, 1));
}
