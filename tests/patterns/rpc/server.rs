//! Servers, of actors and of closures.

use std::{collections::BTreeMap, time::Duration};

use actix::prelude::*;
use actix_pika::{
    ConsumerEnd, DeclareExchange, ErrorKind, Publishing,
    options::ExchangeKind,
    rpc::{RemoteError, Replies, Rpc, RpcError, RpcServer},
};
use tokio::sync::Notify;

use super::*;
use crate::support::eventually;

/// Handles calls in several ways.
#[derive(Default)]
struct Calculator;

impl Actor for Calculator {
    type Context = Context<Self>;
}

impl Handler<Add> for Calculator {
    type Result = ResponseFuture<Answer<i64>>;

    fn handle(&mut self, Add { a, b }: Add, _: &mut Self::Context) -> Self::Result {
        Box::pin(async move {
            tokio::task::yield_now().await;
            Ok(a + b)
        })
    }
}

impl Handler<Divide> for Calculator {
    type Result = Answer<i64>;

    fn handle(&mut self, Divide { a, b }: Divide, _: &mut Self::Context) -> Self::Result {
        if b == 0 {
            return Err(RemoteError::new("division", "by zero").with(a));
        }
        let parsed: i64 = (a / b).to_string().parse()?;
        Ok(parsed)
    }
}

impl Handler<Double> for Calculator {
    type Result = ResponseActFuture<Self, Answer<i64>>;

    fn handle(&mut self, Double { n }: Double, ctx: &mut Self::Context) -> Self::Result {
        assert!(n != 13, "an actor panics in this test");
        if n == 14 {
            ctx.terminate();
        }
        Box::pin(fut::wrap_future(async move {
            match n {
                14 | 15 => std::future::pending().await,
                _ => Ok(2 * n),
            }
        }))
    }
}

#[derive(Message, Clone, Debug, serde::Serialize, serde::Deserialize)]
#[rtype(result = "Answer<i64>")]
pub struct Divide {
    a: i64,
    b: i64,
}

impl RpcRequest for Divide {
    type Reply = i64;
    const NAME: &'static str = "divide";
}

/// A method with optional arguments, and a result whose keys may have no JSON form.
#[derive(Message, Clone, Debug, serde::Serialize, serde::Deserialize)]
#[rtype(result = "Answer<Pairs>")]
pub struct Test {
    foo: Option<String>,
    bar: Option<String>,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Pairs(BTreeMap<Option<String>, Option<String>>);

impl RpcRequest for Test {
    type Reply = Pairs;
    const NAME: &'static str = "test.rpc";
}

async fn serve_add(channel: &Channel) -> RpcServer {
    Rpc::serve_fn(channel, |add: Add| async move { Ok(add.a + add.b) }).await.unwrap()
}

/// RPC-01: a method is registered, called with arguments and without, unregistered; both ends are closed, twice.
#[actix::test]
async fn a_method_is_registered_called_and_unregistered() {
    let (_vhost, connection) = fresh().await;
    let channel = connection.channel().await.unwrap();
    let test =
        |test: Test| async move { Ok(Pairs([(Some(test.foo.unwrap_or("foo".into())), test.bar)].into())) };
    let server = Rpc::serve_fn(&channel, test).await.unwrap();
    assert_eq!(server.queue(), "rpc.test.rpc");
    for replies in [Replies::Direct, Replies::Queue] {
        let client = Rpc::client(&connection).replies(replies).await.unwrap();
        let call = |foo, bar| within("a call", 10, client.send(Test { foo, bar }));
        let pair = |a: &str, b: Option<&str>| Pairs([(Some(a.to_owned()), b.map(str::to_owned))].into());
        assert_eq!(call(None, None).await.unwrap(), pair("foo", None));
        assert_eq!(call(Some("a".into()), Some("b".into())).await.unwrap(), pair("a", Some("b")));
        client.close().await;
        client.close().await;
    }
    within("the end of the method", 10, server.unregister()).await.unwrap();
    within("the same again", 10, server.unregister()).await.unwrap();
    let client = Rpc::client(&connection).await.unwrap();
    let gone = within("a call", 10, client.send(Test { foo: None, bar: None })).await.unwrap_err();
    assert!(matches!(gone, RpcError::Unroutable(_)), "{gone:?}");
    channel.close().await.unwrap();
    channel.close().await.unwrap();
}

/// RPC-02: errors cross as data: one that the handler makes, and one of the `?` operator.
#[actix::test]
async fn an_error_reaches_the_caller_as_data() {
    let (_vhost, connection) = fresh().await;
    let channel = connection.channel().await.unwrap();
    Rpc::serve::<Divide>(&channel, Calculator.start()).await.unwrap();
    let parse = |double: Double| async move { Ok(format!("{}x", double.n).parse::<i64>()?) };
    Rpc::serve_fn(&channel, parse).await.unwrap();
    let client = Rpc::client(&connection).await.unwrap();
    assert_eq!(within("a call", 10, client.send(Divide { a: 6, b: 3 })).await.unwrap(), 2);
    let error = within("a call", 10, client.send(Divide { a: 6, b: 0 })).await.unwrap_err();
    let remote = error.remote().unwrap();
    assert_eq!((remote.code(), remote.text(), remote.is_retryable()), ("division", "by zero", false));
    assert_eq!(remote.data::<i64>().unwrap().unwrap(), 6);
    let error = within("a call", 10, client.send(Double { n: 1 })).await.unwrap_err();
    let remote = error.remote().unwrap();
    assert_eq!((remote.code(), remote.text()), ("error", "invalid digit found in string"));
}

/// RPC-02: a panic of a closure is an error of that call, without its text; the server goes on.
#[actix::test]
async fn a_panic_is_an_error_without_its_text() {
    let (_vhost, connection) = fresh().await;
    let channel = connection.channel().await.unwrap();
    let add = |add: Add| async move {
        assert!(add.a != 13, "the secret of this test");
        Ok(add.a + add.b)
    };
    Rpc::serve_fn(&channel, add).await.unwrap();
    let client = Rpc::client(&connection).await.unwrap();
    let error = within("a call", 10, client.send(add_of(13))).await.unwrap_err();
    let remote = error.remote().unwrap();
    assert_eq!((remote.code(), remote.text()), ("panic", "the handler has panicked"));
    assert_eq!(within("a call", 10, client.send(add_of(1))).await.unwrap(), 1);
}

fn add_of(a: i64) -> Add {
    Add { a, b: 0 }
}

/// RPC-02: an actor that panics or stops with a request answers it as such. The server ends with it; what it has not begun
/// goes to the next one.
#[actix::test]
async fn an_actor_that_ends_ends_its_server() {
    let (_vhost, connection) = fresh().await;
    let client = Rpc::client(&connection).await.unwrap();
    for (n, code) in [(13, "panic"), (14, "gone")] {
        let channel = connection.channel().await.unwrap();
        let server = Rpc::serve::<Double>(&channel, Calculator.start()).await.unwrap();
        // One that runs when the actor ends.
        let running = start(&client, Double { n: 15 });
        eventually("the request", 10, async || (channel.load().unsettled == 1).then_some(())).await;
        let error = within("a call", 10, client.send(Double { n })).await.unwrap_err();
        assert_eq!(error.remote().unwrap().code(), code);
        assert_eq!(outcome(running).await.unwrap_err().remote().unwrap().code(), code);
        let waiting = start(&client, Double { n: 4 });
        let end = within("the end of the server", 10, server.ended()).await;
        assert!(matches!(end, ConsumerEnd::Cancelled), "{end:?}");
        let next = Rpc::serve::<Double>(&channel, Calculator.start()).await.unwrap();
        assert_eq!(outcome(waiting).await.unwrap(), 8);
        next.unregister().await.unwrap();
    }
}

/// RPC-08: the same method twice on one channel and exchange is an error; after it is unregistered, it is not.
#[actix::test]
async fn a_method_is_served_once_on_a_channel() {
    let (_vhost, connection) = fresh().await;
    let channel = connection.channel().await.unwrap();
    let first = serve_add(&channel).await;
    let second = Rpc::serve::<Add>(&channel, Calculator.start()).await.unwrap_err();
    assert_eq!((second.kind(), second.code(), second.entity()), (ErrorKind::Refused, None, Some("rpc.add")));
    let other = connection.channel().await.unwrap();
    let elsewhere = serve_add(&other).await;
    first.unregister().await.unwrap();
    first.unregister().await.unwrap();
    let again = serve_add(&channel).await;
    // The first one has ended since, and has nothing to give back.
    within("the end of the first", 10, first.ended()).await;
    first.unregister().await.unwrap();
    let twice = Rpc::serve::<Add>(&channel, Calculator.start()).await.unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::Refused);
    again.unregister().await.unwrap();
    // The other server still has the queue.
    let client = Rpc::client(&connection).await.unwrap();
    assert_eq!(within("a call", 10, client.send(add(1, 2))).await.unwrap(), 3);
    elsewhere.unregister().await.unwrap();
    let gone = within("a call", 10, client.send(add(1, 2))).await.unwrap_err();
    assert!(matches!(gone, RpcError::Unroutable(_)), "{gone:?}");
}

/// RPC-08: a server that is drained or whose handle is dropped leaves its place to the next one.
#[actix::test]
async fn a_drained_server_leaves_its_queue() {
    let (_vhost, connection) = fresh().await;
    let channel = connection.channel().await.unwrap();
    let server = serve_add(&channel).await;
    let client = Rpc::client(&connection).await.unwrap();
    let report = within("the drain", 10, server.drain(Duration::from_secs(5))).await;
    assert_eq!((report.finished, report.abandoned), (0, 0));
    let waiting = start(&client, add(1, 2));
    drop(serve_add(&channel).await);
    assert_eq!(outcome(waiting).await.unwrap(), 3);
    assert_eq!(within("a call", 10, client.send(add(1, 2))).await.unwrap(), 3);
}

/// RPC-10: a result that has no JSON form is an error of that call; the server goes on.
#[actix::test]
async fn a_result_without_a_json_form_is_an_error() {
    let (_vhost, connection) = fresh().await;
    let channel = connection.channel().await.unwrap();
    let test = |test: Test| async move { Ok(Pairs([(test.foo, None)].into())) };
    Rpc::serve_fn(&channel, test).await.unwrap();
    let client = Rpc::client(&connection).await.unwrap();
    // A key that is null has no JSON form.
    let error = within("a call", 10, client.send(Test { foo: None, bar: None })).await.unwrap_err();
    assert_eq!(error.remote().unwrap().code(), "unserialisable", "{error}");
    let call = client.send(Test { foo: Some("a".into()), bar: None });
    assert_eq!(within("a call", 10, call).await.unwrap(), Pairs([(Some("a".into()), None)].into()));
}

/// RPC-11: exchanges isolate the same method name.
#[actix::test]
async fn exchanges_isolate_methods() {
    let (_vhost, connection) = fresh().await;
    let channel = connection.channel().await.unwrap();
    for name in ["ex1", "ex2"] {
        channel.declare_exchange(DeclareExchange::new(name, ExchangeKind::Direct)).await.unwrap();
    }
    let client = async |exchange: &str| Rpc::client(&connection).exchange(exchange).await.unwrap();
    let clients = [client("ex1").await, client("ex2").await, client("").await];
    let server = async |exchange: &str, offset: i64| {
        let add = move |add: Add| async move { Ok(add.a + add.b + offset) };
        Rpc::serve_fn(&channel, add).exchange(exchange).await.unwrap()
    };
    let first = server("ex1", 100).await;
    assert_eq!(first.queue(), "rpc.ex1.add");
    let call = async |n: usize| within("a call", 10, clients[n].send(add(1, 2))).await;
    assert_eq!(call(0).await.unwrap(), 103);
    for n in [1, 2] {
        let error = call(n).await.unwrap_err();
        assert!(matches!(error, RpcError::Unroutable(_)), "{error:?}");
    }
    let (_second, _third) = (server("ex2", 200).await, server("", 300).await);
    assert_eq!([call(0).await.unwrap(), call(1).await.unwrap(), call(2).await.unwrap()], [103, 203, 303]);
    first.unregister().await.unwrap();
    assert!(matches!(call(0).await, Err(RpcError::Unroutable(_))));
    assert_eq!(call(1).await.unwrap(), 203);
    let missing = Rpc::client(&connection).exchange("ex3").await.unwrap_err();
    assert_eq!(missing.code(), Some(404));
}

/// RPC-12: 2,000 calls side by side are answered, each with its own reply.
#[actix::test]
async fn thousands_of_calls_are_in_flight() {
    let (_vhost, connection) = fresh().await;
    let channel = connection.channel().await.unwrap();
    let server = Rpc::serve::<Add>(&channel, Calculator.start()).at_once(256).await.unwrap();
    for replies in [Replies::Direct, Replies::Queue] {
        let client = Rpc::client(&connection).replies(replies).await.unwrap();
        let calls: Vec<_> = (0..2000).map(|n| start(&client, add(n, n))).collect();
        for (n, call) in (0..).zip(calls) {
            assert_eq!(outcome(call).await.unwrap(), 2 * n);
        }
        let counters = client.counters();
        assert_eq!((counters.replies, counters.pending, counters.late), (2000, 0, 0));
        client.close().await;
    }
    server.unregister().await.unwrap();
}

/// RPC-06, RPC-16: requests that are wrong, that have no reply address, or a hostile one, end alone. The server goes on.
#[actix::test]
async fn requests_of_any_kind_are_handled_or_refused() {
    let (_vhost, connection) = fresh().await;
    let channel = connection.channel().await.unwrap();
    let (runs, ran) = tokio::sync::watch::channel(0);
    let runs = std::rc::Rc::new(runs);
    let count = move |add: Add| {
        runs.send_modify(|runs| *runs += 1);
        async move { Ok(add.a + add.b) }
    };
    Rpc::serve_fn(&channel, count).await.unwrap();
    let publisher = connection.channel().await.unwrap();
    let send = async |request: Publishing| {
        publisher.default_exchange().publish(request, "rpc.add").await.unwrap();
    };
    let good = || Publishing::new(r#"{"a":1,"b":2}"#);
    let client = Rpc::client(&connection).await.unwrap();
    let addresses = ["", "amq.rabbitmq.reply-to.garbage", "nowhere", "a\nb", "rpc.reply.x"];
    let mut handled = 0;
    for address in addresses {
        send(good().reply_to(address).correlation_id("1")).await;
        send(good().reply_to(address)).await;
        handled += 2;
    }
    send(good()).await;
    send(good().correlation_id_bytes(vec![0xff]).reply_to("x".repeat(255))).await;
    handled += 2;
    for wrong in ["", "{", "[]", r#"{"a":1}"#, "\"a\""] {
        send(Publishing::new(wrong)).await;
        send(Publishing::new(wrong).reply_to("nowhere").correlation_id("1")).await;
    }
    send(good().content_type("text/plain").reply_to("nowhere")).await;
    let mut ran = ran;
    within("the runs", 10, ran.wait_for(|runs| *runs == handled)).await.unwrap();
    assert_eq!(within("a call", 10, client.send(add(1, 2))).await.unwrap(), 3);
    assert_eq!(*ran.borrow(), handled + 1);
    let unsettled = async || (channel.load().unsettled == 0).then_some(());
    eventually("all are settled", 10, unsettled).await;
    assert_eq!(client.counters().unexpected, 0);
}

/// RPC-02: a request that cannot be decoded is answered as such, and does not run.
#[actix::test]
async fn an_undecodable_request_is_answered() {
    let (_vhost, connection) = fresh().await;
    let channel = connection.channel().await.unwrap();
    serve_add(&channel).await;
    let client = Rpc::client(&connection).await.unwrap();
    // A request of another method, sent to this queue.
    let error = within("a call", 10, client.send_to("rpc.add", Double { n: 1 })).await.unwrap_err();
    assert_eq!(error.remote().unwrap().code(), "undecodable");
}

/// RPC-17: a server whose handlers hang can be stopped; what it holds is answered by the next one.
#[actix::test]
async fn a_server_can_be_stopped_while_its_handlers_hang() {
    let (_vhost, connection) = fresh().await;
    let channel = connection.channel().await.unwrap();
    let hang = |_: Add| std::future::pending::<Answer<i64>>();
    let server = Rpc::serve_fn(&channel, hang).at_once(2).await.unwrap();
    let client = Rpc::client(&connection).await.unwrap();
    let calls: Vec<_> = (0..5).map(|n| start(&client, add(n, 0))).collect();
    eventually("requests", 10, async || (channel.load().unsettled == 5).then_some(())).await;
    let report = within("the drain", 10, server.drain(Duration::from_millis(10))).await;
    assert_eq!((report.finished, report.given_back, report.abandoned), (0, 3, 2));
    serve_add(&channel).await;
    for (n, call) in (0..).zip(calls) {
        assert_eq!(outcome(call).await.unwrap(), n);
    }
}

/// RPC-08: handlers that run when their method is unregistered still reply.
#[actix::test]
async fn handlers_reply_after_their_method_is_unregistered() {
    let (_vhost, connection) = fresh().await;
    let channel = connection.channel().await.unwrap();
    let gate = std::sync::Arc::new(Notify::new());
    let of_server = gate.clone();
    let wait = move |add: Add| {
        let gate = of_server.clone();
        async move {
            gate.notified().await;
            Ok(add.a + add.b)
        }
    };
    let server = Rpc::serve_fn(&channel, wait).await.unwrap();
    let client = Rpc::client(&connection).await.unwrap();
    let call = start(&client, add(1, 2));
    eventually("the request", 10, async || (channel.load().unsettled == 1).then_some(())).await;
    within("the end of the method", 10, server.unregister()).await.unwrap();
    gate.notify_one();
    assert_eq!(outcome(call).await.unwrap(), 3);
}
