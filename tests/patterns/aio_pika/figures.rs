//! Measurements beside aio-pika: `cargo test --release --all-features --test patterns -- --ignored figures`.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use actix_pika::{aio_pika::JsonRpc, master::Master, tasks::Task};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{Rig, python::Python};
use crate::support::{unique, within};

const CALLS: u32 = 5_000;
const AT_ONCE: usize = 100;

fn print(what: &str, since: Instant) {
    let rate = f64::from(CALLS) / since.elapsed().as_secs_f64();
    writeln!(std::io::stderr(), "{what}: {rate:.0} in a second").expect("stderr is open");
}

async fn client(rig: &Rig) -> JsonRpc {
    let rpc = JsonRpc::new(&rig.channel).deadline(Duration::from_secs(60));
    within("a client", 10, rpc.into_future()).await.unwrap()
}

async fn call_all(rpc: &JsonRpc) {
    let calls = stream::iter(0..CALLS).map(async |x| {
        let product: u32 = rpc.call("multiply", &json!({"x": x, "y": 2})).await.unwrap();
        assert_eq!(product, 2 * x);
    });
    within("all calls", 120, calls.buffer_unordered(AT_ONCE).collect::<Vec<_>>()).await;
}

#[actix::test]
#[ignore = "prints rates and asserts none; run by name, as the first line says"]
async fn figures_of_calls() {
    let rig = Rig::new().await;
    let Some(server) = Python::start("rpc_server.py", &rig.vhost, &["", "plain"]).await else { return };
    let rpc = client(&rig).await;
    let since = Instant::now();
    call_all(&rpc).await;
    print("calls of Rust, served by aio-pika", since);
    server.end().await;

    let rig = Rig::new().await;
    let rpc = client(&rig).await;
    let serve = rpc.register("multiply", |args: Value| async move {
        Ok(args["x"].as_u64().unwrap_or_default() * args["y"].as_u64().unwrap_or_default())
    });
    within("a server", 10, serve).await.unwrap();
    let Some(mut python) = Python::start("rpc_client.py", &rig.vhost, &["", "plain"]).await else { return };
    let since = Instant::now();
    let calls: Vec<u32> = (0..CALLS).collect();
    for some in calls.chunks(AT_ONCE) {
        let some: Vec<_> =
            some.iter().map(|x| json!({"method": "multiply", "kwargs": {"x": x, "y": 2}})).collect();
        python.ask(json!(some)).await;
    }
    print("calls of aio-pika, served by Rust", since);
    python.end().await;

    let since = Instant::now();
    call_all(&rpc).await;
    print("calls of Rust, served by Rust, in one process", since);
}

#[actix::test]
#[ignore = "prints rates and asserts none; run by name, as the first line says"]
async fn figures_of_tasks() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Work {
        n: u32,
    }
    let rig = Rig::new().await;
    let master = Master::new(&rig.channel).at_once(16);
    let queue = unique("work");
    let (done, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let worker = master.create_worker(queue.clone(), move |task: Task<Work>| {
        done.send(task.n).ok();
        async { Ok(()) }
    });
    within("a worker", 10, worker).await.unwrap();
    let since = Instant::now();
    let tasks = stream::iter(0..CALLS).map(async |n| master.create_task(&queue, &Work { n }).await.unwrap());
    within("all tasks", 120, tasks.buffer_unordered(AT_ONCE).collect::<Vec<_>>()).await;
    for _ in 0..CALLS {
        within("a task", 10, seen.recv()).await;
    }
    print("tasks of Rust, done by Rust, in one process", since);
}
