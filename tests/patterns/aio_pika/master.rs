//! Tasks between Rust and aio-pika's JsonMaster and CompressedJsonMaster.

use actix_pika::{
    DeclareQueue,
    codec::{Codec, GzipJson, Json},
    master::Master,
    tasks::{Failure, Task},
};
use serde_json::json;

use super::{Rig, python::Python};
use crate::support::{oracle::Oracle, within};

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Work {
    n: u32,
    #[serde(default)]
    text: String,
}

const QUEUE: &str = "worker.n";
const DEAD: &str = "worker.n.dead";

/// The queue as the Python worker declares it.
async fn queue(rig: &Rig) -> DeclareQueue {
    within("a queue", 10, rig.channel.declare_queue(DEAD)).await.unwrap();
    DeclareQueue::new(QUEUE).dead_letter_exchange("").dead_letter_routing_key(DEAD)
}

/// AIO-04: tasks of Rust are done by aio-pika's workers, in order, and what these reject is dead-lettered.
#[actix::test]
async fn python_works_for_rust() {
    async fn with<C: Codec<Work> + Clone>(codec: C, form: &str) -> Option<()> {
        let rig = Rig::new().await;
        within("a queue", 10, rig.channel.declare_queue(queue(&rig).await)).await.unwrap();
        let mut worker = Python::start("worker.py", &rig.vhost, &[QUEUE, form]).await?;
        let master = Master::new(&rig.channel).codec(codec);
        for n in 0..200 {
            let work = Work { n, text: "ü".repeat(n as usize) };
            within("a task", 10, master.create_task(QUEUE, &work)).await.unwrap();
        }
        for n in 0..200 {
            assert_eq!(worker.json().await, json!([n, "ü".repeat(n)]));
        }
        worker.end().await;
        let oracle = Oracle::connect(&rig.vhost.url()).await;
        oracle.wait_for_count(DEAD, 149).await;
        assert_eq!(oracle.count(QUEUE).await, 0);
        Some(())
    }
    with(Json, "plain").await;
    with(GzipJson::new(), "gzip").await;
}

/// AIO-05: tasks of aio-pika are done by workers of Rust, in order.
#[actix::test]
async fn rust_works_for_python() {
    async fn with<C: Codec<Work> + Clone>(codec: C, form: &str, content_type: &'static str) -> Option<()> {
        let rig = Rig::new().await;
        let queue = queue(&rig).await;
        let master = Master::new(&rig.channel).codec(codec);
        let (done, mut seen) = tokio::sync::mpsc::unbounded_channel();
        let worker = master.create_worker(queue, move |task: Task<Work>| {
            let done = done.clone();
            async move {
                assert_eq!(task.content().properties()?.content_type(), Some(content_type));
                assert_eq!(task.text, "ü".repeat(task.n as usize));
                done.send(task.n).ok();
                if (50..=100).contains(&task.n) { Ok(()) } else { Err(Failure::reject("not accepted")) }
            }
        });
        within("a worker", 10, worker).await.unwrap();
        Python::start("master.py", &rig.vhost, &[QUEUE, form, "200"]).await?.end().await;
        for n in 0..200 {
            assert_eq!(within("a task", 10, seen.recv()).await, Some(n));
        }
        let oracle = Oracle::connect(&rig.vhost.url()).await;
        oracle.wait_for_count(DEAD, 149).await;
        assert_eq!(oracle.count(QUEUE).await, 0);
        Some(())
    }
    with(Json, "plain", "application/json").await;
    with(GzipJson::new(), "gzip", "application/json;compression=gzip").await;
}
