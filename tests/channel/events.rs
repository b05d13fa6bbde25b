//! Channel events, received by watchers and by streams.

use crate::support::within;
use actix::prelude::*;
use actix_pika::{ChannelEvent, ConsumerEnd, DeclareQueue, ErrorKind, Publishing};
use futures_util::StreamExt;
use tokio::sync::mpsc;

/// Forwards every event to a tokio channel.
struct Watcher {
    sender: mpsc::UnboundedSender<ChannelEvent>,
    panics: bool,
}

impl Actor for Watcher {
    type Context = Context<Self>;
}

impl Handler<ChannelEvent> for Watcher {
    type Result = ();
    fn handle(&mut self, event: ChannelEvent, _: &mut Self::Context) {
        let _ = self.sender.send(event);
        assert!(!self.panics, "a watcher panics (as it should in this test)");
    }
}

fn watcher(panics: bool) -> (Recipient<ChannelEvent>, mpsc::UnboundedReceiver<ChannelEvent>) {
    let (sender, events) = mpsc::unbounded_channel();
    (Watcher { sender, panics }.start().recipient(), events)
}

/// Handles nothing until `gate` is dropped, on a thread of its own.
struct Held {
    gate: Option<std::sync::mpsc::Receiver<()>>,
    sender: mpsc::UnboundedSender<ChannelEvent>,
}

impl Actor for Held {
    type Context = Context<Self>;
}

impl Handler<ChannelEvent> for Held {
    type Result = ();
    fn handle(&mut self, event: ChannelEvent, _: &mut Self::Context) {
        if let Some(gate) = self.gate.take() {
            let _ = gate.recv();
        }
        let _ = self.sender.send(event);
    }
}

/// PUB-55: what waits for a slow watcher, an actor or a stream, is bounded; it hears how many events it has missed.
#[actix::test]
async fn a_slow_watcher_misses_events_and_is_told_how_many() {
    const RETURNS: u64 = 1000;
    let bench = crate::support::modes::Bench::open(false).await;
    let (release, gate) = std::sync::mpsc::channel();
    let (sender, mut events) = mpsc::unbounded_channel();
    let arbiter = Arbiter::new();
    let held = Held::start_in_arbiter(&arbiter.handle(), |_| Held { gate: Some(gate), sender });
    bench.channel.watch(held.recipient());
    let stream = bench.channel.events();

    let exchange = bench.channel.default_exchange();
    for _ in 0..RETURNS {
        exchange.publish(vec![7; 10_000], "nowhere").await.unwrap();
    }
    // Its reply comes behind all returns.
    bench.channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
    drop(release);
    bench.channel.close().await.unwrap();

    let from_actor = async {
        let mut all = Vec::new();
        while let Some(event) = events.recv().await {
            let is_last = matches!(event, ChannelEvent::Closed(_));
            all.push(event);
            if is_last {
                break;
            }
        }
        all
    };
    for all in [within("the actor", 10, from_actor).await, within("the stream", 10, stream.collect()).await] {
        let [returns @ .., ChannelEvent::EventsDropped(missed), ChannelEvent::Closed(None)] = &all[..] else {
            panic!("{:?}", all.last())
        };
        assert!(returns.iter().all(|event| matches!(event, ChannelEvent::Returned(_))));
        assert_eq!((returns.len(), *missed), (256, RETURNS - 256));
    }
    arbiter.stop();
}

crate::modes! {
    /// CH-01: also to a recipient that was registered twice. The connection can open another channel.
    async fn closed_is_sent_once(bench: Bench) {
        let (recipient, mut events) = watcher(false);
        bench.channel.watch(recipient.clone());
        bench.channel.watch(recipient.clone());
        drop(recipient);
        let stream = bench.channel.events();
        bench.channel.close().await.unwrap();
        bench.channel.close().await.unwrap();
        assert!(matches!(events.recv().await, Some(ChannelEvent::Closed(None))));
        let all: Vec<_> = stream.collect().await;
        assert!(matches!(all[..], [ChannelEvent::Closed(None)]), "{all:?}");
        drop(bench.channel.clone());
        let late: Vec<_> = bench.channel.events().collect().await;
        assert!(matches!(late[..], [ChannelEvent::Closed(None)]), "{late:?}");
        bench.another_channel().await.close().await.unwrap();
        assert!(events.recv().await.is_none(), "the watcher was removed");
    }

    /// CH-01: when the broker or the end of the connection closed the channel.
    async fn closed_has_the_cause(bench: Bench) {
        let stream = bench.channel.events();
        bench.channel.get_queue("nothing").await.unwrap_err();
        let all: Vec<_> = stream.collect().await;
        let [ChannelEvent::Closed(Some(cause))] = &all[..] else { panic!("{all:?}") };
        assert_eq!((cause.kind(), cause.close_reason().unwrap().code), (ErrorKind::ChannelClosed, 404));
        let channel = bench.another_channel().await;
        let stream = channel.events();
        bench.connection.close().await.unwrap();
        let all: Vec<_> = stream.collect().await;
        assert!(matches!(all[..], [ChannelEvent::Closed(_)]), "{all:?}");
    }

    /// PUB-07: on a channel without confirms, with body and properties. A watcher that panics does not affect others.
    async fn returned_messages_are_events(bench: Bench) {
        let (panicking, mut its_events) = watcher(true);
        bench.channel.watch(panicking);
        let mut events = bench.channel.events();
        let content = Publishing::new("a body").content_type("text/plain");
        let published = bench.channel.default_exchange().publish(content, "nowhere").await;
        if bench.confirms {
            assert_eq!(published.unwrap_err().kind(), ErrorKind::Unroutable);
            return;
        }
        published.unwrap();
        assert!(matches!(its_events.recv().await, Some(ChannelEvent::Returned(_))));
        let Some(ChannelEvent::Returned(returned)) = events.next().await else { panic!("no return") };
        assert_eq!((returned.code, returned.routing_key.as_str()), (312, "nowhere"));
        assert_eq!((&returned.body[..], returned.exchange.as_str()), (&b"a body"[..], ""));
        assert_eq!(returned.properties.unwrap().content_type(), Some("text/plain"));
        let not_mandatory = Publishing::new("dropped").mandatory(false);
        bench.channel.default_exchange().publish(not_mandatory, "nowhere").await.unwrap();
        bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        bench.channel.close().await.unwrap();
        let rest: Vec<_> = events.collect().await;
        assert!(matches!(rest[..], [ChannelEvent::Closed(None)]), "{rest:?}");
    }

    /// CNS-09: when its queue is deleted, but not when the client cancels it.
    async fn a_lost_consumer_is_an_event(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        let mut events = bench.channel.events();
        queue.deliveries().await.unwrap().close().await.unwrap();
        let mut deliveries = queue.deliveries().await.unwrap();
        queue.delete().await.unwrap();
        let Some(ChannelEvent::ConsumerLost { tag, end }) = events.next().await else { panic!("no event") };
        assert_eq!(&*tag, deliveries.tag());
        assert!(matches!(end, ConsumerEnd::CancelledByBroker));
        assert!(within("the stream ends", 10, deliveries.next()).await.is_none());
    }
}
