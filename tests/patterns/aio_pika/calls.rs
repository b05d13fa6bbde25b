//! Calls between Rust and aio-pika's JsonRPC.

use std::time::Duration;

use actix_pika::{
    Channel,
    aio_pika::JsonRpc,
    rpc::{RemoteError, RpcError},
};
use futures_util::future::{join, join_all};
use serde_json::{Value, json};

use super::{Rig, python::Python};
use crate::support::{robust_connection::RobustConnection, within};

#[derive(serde::Serialize, serde::Deserialize)]
struct Factors {
    x: i64,
    y: i64,
}

/// The exchange of a service, and whether bodies are compressed.
const FORMS: [(&str, bool); 3] = [("", false), ("", true), ("billing", false)];

fn form(gzip: bool) -> &'static str {
    if gzip { "gzip" } else { "plain" }
}

async fn client(channel: &Channel, exchange: &str, gzip: bool) -> JsonRpc {
    let rpc = JsonRpc::new(channel).exchange(exchange).gzip(gzip).deadline(Duration::from_secs(80));
    within("a client", 10, rpc.into_future()).await.unwrap()
}

async fn call(rpc: &JsonRpc, method: &str, arguments: Value) -> Result<Value, RpcError> {
    within("a call", 90, rpc.call(method, &arguments)).await
}

/// AIO-01: methods of aio-pika are called by Rust: result, exception, unroutable, expired, unregistered.
#[actix::test]
async fn rust_calls_methods_of_python() {
    for (exchange, gzip) in FORMS {
        let rig = Rig::new().await;
        let Some(server) = Python::start("rpc_server.py", &rig.vhost, &[exchange, form(gzip)]).await else {
            return;
        };
        let rpc = client(&rig.channel, exchange, gzip).await;

        let product: i64 =
            within("a call", 90, rpc.call("multiply", &Factors { x: 6, y: -7 })).await.unwrap();
        assert_eq!(product, -42);
        let nested = json!({"text": "Grüße, 世界", "list": [1, 2.5, null, true], "table": {"a": {}}});
        assert_eq!(call(&rpc, "echo", nested.clone()).await.unwrap(), nested);
        within("a call", 90, rpc.call::<()>("nothing", &())).await.unwrap();
        let large = json!({"text": "x".repeat(300_000)});
        assert_eq!(call(&rpc, "echo", large.clone()).await.unwrap(), large);

        let raised = call(&rpc, "fail", json!({"why": "no"})).await.unwrap_err();
        let RpcError::Remote(error) = &raised else { panic!("{raised:?}") };
        assert_eq!((error.code(), error.text()), ("ValueError", "ValueError('no', 7)"));
        assert_eq!(error.data::<(String, i64)>().unwrap().unwrap(), ("no".into(), 7));
        let raised = call(&rpc, "multiply", json!({"x": 1})).await.unwrap_err();
        assert_eq!(raised.remote().unwrap().code(), "TypeError");

        let unroutable = call(&rpc, "missing", json!({})).await.unwrap_err();
        assert!(matches!(unroutable, RpcError::Unroutable(_)), "{unroutable:?}");
        let short = rpc.deadline(Duration::from_secs(1));
        let expired = call(&short, "unregistered", json!({})).await.unwrap_err();
        assert!(matches!(expired, RpcError::Timeout { may_have_run: false, .. }), "{expired:?}");
        let wrong: Result<u32, _> = within("a call", 90, rpc.call("echo", &json!({}))).await;
        assert!(matches!(wrong, Err(RpcError::Codec { may_have_run: true, .. })), "{wrong:?}");

        let sums = (0..200).map(|x| call(&rpc, "multiply", json!({"x": x, "y": 3})));
        for (x, product) in join_all(sums).await.into_iter().enumerate() {
            assert_eq!(product.unwrap(), json!(3 * x));
        }
        assert_eq!(rpc.pending(), 0);
        rpc.close().await;
        rpc.close().await;
        server.end().await;
    }
}

/// AIO-02: methods of Rust are called by aio-pika.
#[actix::test]
async fn python_calls_methods_of_rust() {
    for (exchange, gzip) in FORMS {
        let rig = Rig::new().await;
        let rpc = client(&rig.channel, exchange, gzip).await;
        rpc.register("multiply", |f: Factors| async move { Ok(f.x * f.y) }).await.unwrap();
        rpc.register("echo", |any: Value| async move { Ok(any) }).await.unwrap();
        rpc.register("nothing", |(): ()| async { Ok(()) }).await.unwrap();
        let fail = |(): ()| async { Err::<(), _>(RemoteError::new("NoFunds", "3 are left").with([3])) };
        rpc.register("fail", fail).await.unwrap();
        rpc.register("parse", |(): ()| async { Ok("x".parse::<u32>()?) }).await.unwrap();
        let panics = |(): ()| async { if true { panic!("a handler panics in this test") } else { Ok(()) } };
        rpc.register("panics", panics).await.unwrap();
        let odd = |(): ()| async { Ok(std::collections::BTreeMap::from([((1, 2), 3)])) };
        rpc.register("odd", odd).await.unwrap();
        let gone = rpc.register("gone", |(): ()| async { Ok(()) }).await.unwrap();
        within("an end", 10, gone.unregister()).await;

        let Some(mut python) = Python::start("rpc_client.py", &rig.vhost, &[exchange, form(gzip)]).await
        else {
            return;
        };
        let nested = json!({"text": "Grüße, 世界", "list": [1, 2.5, null, true], "table": {"a": {}}});
        let answers = python
            .ask(json!([
                {"method": "multiply", "kwargs": {"x": 6, "y": -7}},
                {"method": "echo", "kwargs": nested.clone()},
                {"method": "nothing"},
                {"method": "fail"},
                {"method": "parse"},
                {"method": "panics"},
                {"method": "odd"},
                {"method": "multiply", "kwargs": {"x": 1}},
                {"method": "missing"},
                {"method": "gone", "expiration": 1},
            ]))
            .await;
        let remote = |code: &str, message: &str, args: Value| json!({"remote": {"type": code, "message": message, "args": args}});
        assert_eq!(answers[0], json!({"result": -42}));
        assert_eq!(answers[1], json!({"result": nested}));
        assert_eq!(answers[2], json!({"result": null}));
        assert_eq!(answers[3], remote("NoFunds", "3 are left", json!([3])));
        let digit = "invalid digit found in string";
        assert_eq!(answers[4], remote("error", digit, json!([digit])));
        let panicked = "the handler has panicked";
        assert_eq!(answers[5], remote("panic", panicked, json!([panicked])));
        assert_eq!(answers[6]["remote"]["type"], "unserialisable");
        assert_eq!(answers[7]["remote"]["type"], "undecodable");
        assert_eq!(answers[8], json!({"unroutable": "Message has been returned"}));
        assert_eq!(answers[9], json!({"timeout": "Message timed-out"}));

        let sums: Vec<_> =
            (0..200).map(|x| json!({"method": "multiply", "kwargs": {"x": x, "y": 3}})).collect();
        let products: Vec<_> = (0..200).map(|x| json!({"result": 3 * x})).collect();
        assert_eq!(python.ask(json!(sums)).await, json!(products));
        python.end().await;
    }
}

/// AIO-03: Python and Rust serve one method side by side.
#[actix::test]
async fn a_method_is_served_by_a_mixed_fleet() {
    let rig = Rig::new().await;
    let Some(server) = Python::start("rpc_server.py", &rig.vhost, &["", "plain"]).await else { return };
    let rpc = client(&rig.channel, "", false).await;
    let (served, mut here) = tokio::sync::mpsc::unbounded_channel();
    let multiply = rpc.method("multiply").queue(|queue| queue.durable(true)).serve(move |f: Factors| {
        served.send(f.x).ok();
        async move { Ok(f.x * f.y) }
    });
    let multiply = within("a server", 10, multiply).await.unwrap();
    let calls = (0..100).map(|x| call(&rpc, "multiply", json!({"x": x, "y": 3})));
    for (x, product) in join_all(calls).await.into_iter().enumerate() {
        assert_eq!(product.unwrap(), json!(3 * x));
    }
    within("an end", 10, multiply.unregister()).await;
    let mut count = 0;
    while here.try_recv().is_ok() {
        count += 1;
    }
    assert!((1..100).contains(&count), "{count} of 100 calls were served by Rust");
    // Only Python is left.
    assert_eq!(call(&rpc, "multiply", json!({"x": 2, "y": 3})).await.unwrap(), json!(6));
    server.end().await;
}

/// AIO-13: calls that Python handles while the connection of their client is cut are answered.
#[actix::test]
async fn python_answers_over_a_reconnect() {
    let mut rig = RobustConnection::connect_plain().await;
    let Some(mut server) = Python::start("rpc_server.py", &rig.vhost, &["", "plain"]).await else { return };
    let rpc = client(&rig.channel().await, "", false).await;
    let calls = join_all((0..10).map(|number| call(&rpc, "wait", json!({"number": number}))));
    let cut = async {
        for _ in 0..10 {
            server.line().await;
        }
        rig.disconnect().await;
        server.write("go on").await;
        rig.proxy.accept_new().await;
        rig.wait_for_recovery().await;
    };
    let (answers, ()) = within("all calls", 60, join(calls, cut)).await;
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap(), json!(number));
    }
    server.end().await;
}
