//! Master and workers, with JSON and with compressed JSON.

use std::time::Duration;

use actix_pika::{
    Channel, Connector, DeclareQueue, ErrorKind, Publishing,
    codec::{Codec, GzipJson, Json},
    master::{Master, OnFailure},
    tasks::{Failure, Task},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::support::{broker::Vhost, oracle::Oracle, within};

#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
struct Foo {
    foo: u32,
    bar: u32,
}

const QUEUE: &str = "worker.foo";
const DEAD: &str = "worker.foo.dead";

/// A virtual host with a channel in it.
struct Rig {
    vhost: Vhost,
    channel: Channel,
}

impl Rig {
    async fn new() -> Self {
        let vhost = Vhost::fresh().await;
        let connector = Connector::new(&vhost.url()).unwrap();
        let connection = within("connect", 10, connector.connect()).await.unwrap();
        let channel = within("a channel", 10, connection.channel()).await.unwrap();
        Self { vhost, channel }
    }

    /// A queue for dead letters, and one that has it.
    async fn dead_letters(&self) -> DeclareQueue {
        within("a queue", 10, self.channel.declare_queue(DEAD)).await.unwrap();
        DeclareQueue::new(QUEUE).dead_letter_exchange("").dead_letter_routing_key(DEAD)
    }

    async fn oracle(&self) -> Oracle {
        Oracle::connect(&self.vhost.url()).await
    }
}

/// What a worker has seen.
struct Seen(UnboundedReceiver<u32>);

impl Seen {
    fn new() -> (UnboundedSender<u32>, Self) {
        let (seen, receiver) = unbounded_channel();
        (seen, Self(receiver))
    }

    async fn next(&mut self, tasks: usize) -> Vec<u32> {
        let mut seen = Vec::new();
        for _ in 0..tasks {
            seen.push(within("a task", 10, self.0.recv()).await.unwrap());
        }
        seen
    }

    fn no_more(&mut self) {
        assert!(self.0.try_recv().is_err());
    }
}

/// One task is handled once, with its content type.
async fn one_task<C: Codec<Foo> + Codec<u32> + Clone>(codec: C, content_type: &'static str) {
    let rig = Rig::new().await;
    let master = Master::new(&rig.channel).codec(codec);
    let (sender, mut seen) = Seen::new();
    let worker = master.create_worker(QUEUE, move |task: Task<Foo>| {
        let sender = sender.clone();
        async move {
            assert_eq!(*task, Foo { foo: 1, bar: 2 });
            let properties = task.content().properties()?;
            assert_eq!(properties.content_type(), Some(content_type));
            sender.send(task.foo).ok();
            Ok(())
        }
    });
    let worker = within("a worker", 10, worker).await.unwrap();
    let confirmation =
        within("a task", 10, master.create_task(QUEUE, &Foo { foo: 1, bar: 2 })).await.unwrap();
    assert!(confirmation.is_confirmed());
    assert_eq!(seen.next(1).await, [1]);
    let report = within("a drain", 10, worker.drain(Duration::from_secs(5))).await;
    assert_eq!((report.given_back, report.abandoned), (0, 0));

    // The worker is closed.
    let proxy = master.proxy::<Foo>(QUEUE);
    within("a task", 10, proxy.create(&Foo { foo: 3, bar: 4 })).await.unwrap();
    assert_eq!(rig.oracle().await.count(QUEUE).await, 1);
    seen.no_more();
    let nobody = within("a return", 10, master.create_task("nobody", &Foo { foo: 1, bar: 2 })).await;
    assert_eq!(nobody.unwrap_err().kind(), ErrorKind::Unroutable);
}

/// 100 tasks are handled in order.
async fn in_order<C: Codec<Foo> + Clone>(codec: C) {
    let rig = Rig::new().await;
    let master = Master::new(&rig.channel).codec(codec);
    let (sender, mut seen) = Seen::new();
    let worker = master.create_worker(QUEUE, move |task: Task<Foo>| {
        sender.send(task.foo).ok();
        async { Ok(()) }
    });
    within("a worker", 10, worker).await.unwrap();
    for n in 0..100 {
        within("a task", 10, master.create_task(QUEUE, &Foo { foo: n, bar: 0 })).await.unwrap();
    }
    assert_eq!(seen.next(100).await, (0..100).collect::<Vec<_>>());
}

/// Of 200 tasks, those below 50 and above 100 are rejected.
async fn outcomes<C: Codec<Foo> + Clone>(codec: C) {
    let rig = Rig::new().await;
    let queue = rig.dead_letters().await;
    let master = Master::new(&rig.channel).codec(codec);
    let (sender, mut seen) = Seen::new();
    let worker = master.create_worker(queue, move |task: Task<Foo>| {
        let sender = sender.clone();
        async move {
            sender.send(task.foo).ok();
            match task.foo {
                50..=100 => Ok(()),
                other => Err(Failure::reject(format!("{other} is not accepted"))),
            }
        }
    });
    let worker = within("a worker", 10, worker).await.unwrap();
    for n in 0..200 {
        within("a task", 10, master.create_task(QUEUE, &Foo { foo: n, bar: 0 })).await.unwrap();
    }
    assert_eq!(seen.next(200).await, (0..200).collect::<Vec<_>>());
    let report = within("a drain", 10, worker.drain(Duration::from_secs(5))).await;
    assert_eq!((report.given_back, report.abandoned), (0, 0));
    within("a close", 10, rig.channel.close()).await.unwrap();
    let oracle = rig.oracle().await;
    assert_eq!(oracle.count(QUEUE).await, 0);
    let mut dead = Vec::new();
    let codec = GzipJson::new(); // reads both
    for _ in 0..149 {
        let letter = oracle.get(DEAD).await.expect("a dead letter");
        let content = actix_pika::testing::TestContent::new(Publishing::new(letter.data)).build();
        dead.push(Codec::<Foo>::decode(&codec, &content).unwrap().foo);
    }
    assert_eq!(dead, (0..50).chain(101..200).collect::<Vec<_>>());
}

/// MAS-01: a worker handles a task once, and is closed.
#[actix::test]
async fn a_task_is_handled_once() {
    one_task(Json, "application/json").await;
}

/// MAS-02: tasks arrive in order.
#[actix::test]
async fn tasks_are_handled_in_order() {
    in_order(Json).await;
}

/// MAS-03: rejected tasks do not come back, and the queue is empty in the end.
#[actix::test]
async fn rejected_tasks_are_dead_lettered() {
    outcomes(Json).await;
}

/// MAS-04: the same with gzip.
#[actix::test]
async fn tasks_can_be_compressed() {
    one_task(GzipJson::new(), "application/json;compression=gzip").await;
    in_order(GzipJson::new()).await;
    outcomes(GzipJson::new()).await;
}

/// MAS-05: a task that fails otherwise is requeued or rejected by the setting, and rejected if it fails again.
#[actix::test]
async fn failures_go_by_the_setting() {
    for (on_failure, reject_redelivered, tries) in
        [(OnFailure::Reject, false, vec![false]), (OnFailure::Requeue, true, vec![false, true])]
    {
        for panics in [false, true] {
            let rig = Rig::new().await;
            let queue = rig.dead_letters().await;
            let master =
                Master::new(&rig.channel).on_failure(on_failure).reject_redelivered(reject_redelivered);
            let (sender, mut seen) = unbounded_channel();
            let worker = master.create_worker(queue, move |task: Task<Foo>| {
                sender.send(task.redelivered()).ok();
                async move {
                    assert!(!panics, "a handler panics in this test");
                    Ok("x".parse::<u32>().map(drop)?)
                }
            });
            within("a worker", 10, worker).await.unwrap();
            within("a task", 10, master.create_task(QUEUE, &Foo { foo: 1, bar: 2 })).await.unwrap();
            let dead = rig.channel.queue(DEAD);
            let letter = crate::support::get_message(&dead).await;
            assert_eq!(letter.deaths()[0].reason, actix_pika::message::DeathReason::Rejected);
            letter.ack().unwrap();
            let mut redelivered = Vec::new();
            while let Ok(one) = seen.try_recv() {
                redelivered.push(one);
            }
            assert_eq!(redelivered, tries, "{on_failure:?}, panics: {panics}");
            assert_eq!(rig.oracle().await.count(QUEUE).await, 0);
        }
    }
}

/// MAS-05: a body that cannot be decoded, or that has another content type, is rejected and not handled.
#[actix::test]
async fn an_undecodable_task_is_rejected() {
    let rig = Rig::new().await;
    let queue = rig.dead_letters().await;
    let master = Master::new(&rig.channel).on_failure(OnFailure::Requeue);
    let (sender, mut seen) = Seen::new();
    let worker = master.create_worker(queue, move |task: Task<Foo>| {
        sender.send(task.foo).ok();
        async { Ok(()) }
    });
    within("a worker", 10, worker).await.unwrap();
    let bad = [
        Publishing::new("{\"foo\":1").content_type("application/json"),
        Publishing::new("{\"foo\":1,\"bar\":2}").content_type("application/python-pickle"),
    ];
    for message in bad {
        within("a publish", 10, rig.channel.default_exchange().publish(message, QUEUE)).await.unwrap();
    }
    within("a task", 10, master.create_task(QUEUE, &Foo { foo: 7, bar: 2 })).await.unwrap();
    assert_eq!(seen.next(1).await, [7]);
    for _ in 0..2 {
        crate::support::get_message(&rig.channel.queue(DEAD)).await.ack().unwrap();
    }
    seen.no_more();
}

#[actix::test]
async fn a_requeued_task_is_handled_again() {
    let rig = Rig::new().await;
    let master = Master::new(&rig.channel);
    let (sender, mut seen) = Seen::new();
    let worker = master.create_worker(QUEUE, move |task: Task<Foo>| {
        let sender = sender.clone();
        async move {
            sender.send(u32::from(task.redelivered())).ok();
            if task.redelivered() { Ok(()) } else { Err(Failure::requeue("not now")) }
        }
    });
    within("a worker", 10, worker).await.unwrap();
    let urgent = master.create_task_with(QUEUE, &Foo { foo: 1, bar: 2 }, |message| message.priority(9));
    within("a task", 10, urgent).await.unwrap();
    assert_eq!(seen.next(2).await, [0, 1]);
}
