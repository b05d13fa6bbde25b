//! Many subscribers, and those that do not keep up.

use super::*;
use crate::support::{broker::Vhost, eventually};
use actix::{Actor, Arbiter, AsyncContext, Context, Handler};
use actix_pika::{
    bridge::{Lagging, Subscribe},
    connect,
};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};
use tokio::sync::mpsc;

/// Counts messages, and checks their order. With a gate, it handles nothing until that is opened.
struct Counting {
    handled: Arc<AtomicU64>,
    missed: Arc<AtomicU64>,
    next: u64,
}

impl Actor for Counting {
    type Context = Context<Self>;
}

impl Handler<BridgeEvent> for Counting {
    type Result = ();

    fn handle(&mut self, event: BridgeEvent, _: &mut Self::Context) {
        match event {
            BridgeEvent::Message(content) => {
                let n: u64 = String::from_utf8_lossy(content.body()).parse().unwrap();
                assert!(n >= self.next, "{n} after {}", self.next);
                self.next = n + 1;
                self.handled.fetch_add(1, SeqCst);
            }
            BridgeEvent::Lagged(lost) => {
                self.missed.fetch_add(lost, SeqCst);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// BRG-06: of a thousand actors on two arbiters one is stuck: the others get every message in order, and the stuck one
/// keeps no more than its bound and its mailbox.
#[actix::test]
async fn a_stuck_subscriber_costs_the_others_nothing() {
    const MESSAGES: u64 = 200;
    let vhost = Vhost::fresh().await;
    let channel = connect(vhost.url()).await.unwrap().channel().await.unwrap();
    let bridge = channel.exchange("amq.topic").bridge().start().await.unwrap();
    let (handled, missed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let arbiter = Arbiter::new();
    let mut subscriptions = Vec::new();
    for n in 0..999 {
        let (handled, missed) = (handled.clone(), missed.clone());
        let counting = move || Counting { handled, missed, next: 0 };
        let actor = match n % 2 {
            0 => counting().start(),
            _ => Counting::start_in_arbiter(&arbiter.handle(), |_| counting()),
        };
        let pattern = ["#", "orders.*", "orders.at"][n % 3];
        subscriptions.push(bridge.subscribe(pattern, MESSAGES as usize, actor).await.unwrap());
    }
    let (open, gate) = mpsc::unbounded_channel();
    let (tell, mut told) = mpsc::unbounded_channel();
    let stuck = Stuck { gate: Some(gate), tell }.start();
    let stuck = bridge.subscribe("#", 8, stuck).await.unwrap();
    for n in 0..MESSAGES {
        publish(&channel, "amq.topic", "orders.at", n).await;
    }
    let all = 999 * MESSAGES;
    eventually("all messages", 60, async || (handled.load(SeqCst) == all).then_some(())).await;
    assert_eq!(missed.load(SeqCst), 0);
    assert!(subscriptions.iter().all(|subscription| subscription.lost() == 0));
    // Eight wait, and up to 16 are in its mailbox.
    let (lost, waiting) = (stuck.lost(), stuck.waiting() as u64);
    assert!((9..=24).contains(&waiting), "{waiting} wait");
    assert_eq!(bridge.stats().lost, lost);
    // Released, it is told what it has lost, and gets the newest.
    open.send(()).unwrap();
    let mut events = Vec::new();
    while events.last() != Some(&message("orders.at", MESSAGES - 1)) {
        events.push(Told::from(within("an event", 10, told.recv()).await.unwrap()));
    }
    let lagged: Vec<_> = events.iter().filter(|event| !matches!(event, Told::Message(..))).collect();
    assert_eq!(lagged, [&Told::Lagged(lost)]);
    assert_eq!(events.len() as u64 - 1 + lost, MESSAGES);
    assert_eq!(events[events.len() - 9], Told::Lagged(lost));
}

/// Waits in its first handler until the gate is opened.
struct Stuck {
    gate: Option<mpsc::UnboundedReceiver<()>>,
    tell: mpsc::UnboundedSender<BridgeEvent>,
}

impl Actor for Stuck {
    type Context = Context<Self>;
}

impl Handler<BridgeEvent> for Stuck {
    type Result = ();

    fn handle(&mut self, event: BridgeEvent, ctx: &mut Self::Context) {
        let _ = self.tell.send(event);
        if let Some(mut gate) = self.gate.take() {
            ctx.wait(actix::fut::wrap_future(async move {
                gate.recv().await;
            }));
        }
    }
}

/// BRG-07: each policy, at a stream that is not read.
#[actix::test]
async fn slow_streams_lose_by_their_policy() {
    let vhost = Vhost::fresh().await;
    let channel = connect(vhost.url()).await.unwrap().channel().await.unwrap();
    let bridge = channel.exchange("amq.topic").bridge().start().await.unwrap();
    let subscribe = |lagging| bridge.stream_with(Subscribe::new("#", 2).lagging(lagging));
    let mut newest = subscribe(Lagging::DropOldest).await.unwrap();
    let mut oldest = subscribe(Lagging::DropNewest).await.unwrap();
    let mut strict = subscribe(Lagging::Disconnect).await.unwrap();
    for n in 0..5 {
        publish(&channel, "amq.topic", "a", n).await;
    }
    eventually("received", 10, async || (bridge.stats().received == 5).then_some(())).await;
    let told = [next(&mut newest).await, next(&mut newest).await, next(&mut newest).await];
    assert_eq!(told, [Told::Lagged(3), message("a", 3), message("a", 4)]);
    let told = [next(&mut oldest).await, next(&mut oldest).await, next(&mut oldest).await];
    assert_eq!(told, [message("a", 0), message("a", 1), Told::Lagged(3)]);
    assert_eq!(
        [next(&mut strict).await, next(&mut strict).await],
        [Told::Lagged(3), Told::Ended("too slow")]
    );
    assert!(strict.next().await.is_none());
    assert_eq!((bridge.stats().subscribers, bridge.stats().lost), (2, 9));
    publish(&channel, "amq.topic", "a", 5).await;
    assert_eq!((next(&mut newest).await, next(&mut oldest).await), (message("a", 5), message("a", 5)));
}

struct Fragile;

impl Actor for Fragile {
    type Context = Context<Self>;
}

impl Handler<BridgeEvent> for Fragile {
    type Result = ();

    fn handle(&mut self, event: BridgeEvent, ctx: &mut Self::Context) {
        use actix::ActorContext;
        match Told::from(event) {
            Told::Message(_, body) if body == "panic" => panic!("a panic in a test"),
            _ => ctx.stop(),
        }
    }
}

/// BRG-08: an actor that stops or panics is unsubscribed, and so is one whose subscription is dropped.
#[actix::test]
async fn subscribers_that_are_gone_are_unsubscribed() {
    let vhost = Vhost::fresh().await;
    let channel = connect(vhost.url()).await.unwrap().channel().await.unwrap();
    let bridge = channel.exchange("amq.topic").bridge().start().await.unwrap();
    let mut others = bridge.stream("#", 64).await.unwrap();
    let gone =
        async |n| eventually("gone", 10, async || (bridge.stats().subscribers == n).then_some(())).await;
    let mut kept = Vec::new();
    for body in ["panic", "stop"] {
        kept.push(bridge.subscribe("a", 8, Fragile.start()).await.unwrap());
        assert_eq!(bridge.stats().subscribers, 2);
        publish(&channel, "amq.topic", "a", body).await;
        gone(1).await;
    }
    drop(bridge.subscribe("a", 8, Fragile.start()).await.unwrap());
    assert_eq!(bridge.stats().subscribers, 1);
    publish(&channel, "amq.topic", "b", "last").await;
    assert_eq!(until(&mut others, "last").await, [message("a", "panic"), message("a", "stop")]);
}
