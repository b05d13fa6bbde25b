//! What happens to a channel, told to those who watch it.

use crate::support::within;
use actix::prelude::*;
use actix_pika::{ChannelEvent, ConsumerEnd, DeclareQueue, ErrorKind, Publishing};
use futures_util::StreamExt;
use tokio::sync::mpsc;

/// Passes every event on.
struct Watcher {
    to: mpsc::UnboundedSender<ChannelEvent>,
    panics: bool,
}

impl Actor for Watcher {
    type Context = Context<Self>;
}

impl Handler<ChannelEvent> for Watcher {
    type Result = ();
    fn handle(&mut self, event: ChannelEvent, _: &mut Self::Context) {
        let _ = self.to.send(event);
        assert!(!self.panics, "a watcher panics (as it should in this test)");
    }
}

fn watcher(panics: bool) -> (Recipient<ChannelEvent>, mpsc::UnboundedReceiver<ChannelEvent>) {
    let (to, events) = mpsc::unbounded_channel();
    (Watcher { to, panics }.start().recipient(), events)
}

crate::modes! {
    /// CH-01: who watches is told of the end once, however often it asked, and the connection opens another channel.
    async fn the_end_is_told_once(bench: Bench) {
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
        assert!(events.recv().await.is_none(), "nobody is left to tell it again");
    }

    /// CH-01: the cause is told with the end, where it was not ours.
    async fn the_end_is_told_with_its_cause(bench: Bench) {
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

    /// PUB-07: without confirms, what comes back is told with its body; a watcher that panics harms nobody.
    async fn what_comes_back_is_told(bench: Bench) {
        let (panicking, mut first) = watcher(true);
        bench.channel.watch(panicking);
        let mut events = bench.channel.events();
        let content = Publishing::new("a body").content_type("text/plain");
        let published = bench.channel.default_exchange().publish(content, "nowhere").await;
        if bench.confirms {
            assert_eq!(published.unwrap_err().kind(), ErrorKind::Unroutable);
            return;
        }
        published.unwrap();
        assert!(matches!(first.recv().await, Some(ChannelEvent::Returned(_))));
        let Some(ChannelEvent::Returned(returned)) = events.next().await else { panic!("no return") };
        assert_eq!((returned.code, returned.routing_key.as_str()), (312, "nowhere"));
        assert_eq!((&returned.body[..], returned.exchange.as_str()), (&b"a body"[..], ""));
        assert_eq!(returned.properties.unwrap().content_type(), Some("text/plain"));
        let quiet = Publishing::new("for nobody").mandatory(false);
        bench.channel.default_exchange().publish(quiet, "nowhere").await.unwrap();
        bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        bench.channel.close().await.unwrap();
        let rest: Vec<_> = events.collect().await;
        assert!(matches!(rest[..], [ChannelEvent::Closed(None)]), "{rest:?}");
    }

    /// CNS-09: a consumer whose queue is deleted is told to be lost, with its tag; one that is cancelled is not.
    async fn a_lost_consumer_is_told(bench: Bench) {
        let queue = bench.channel.declare_queue(DeclareQueue::new("q")).await.unwrap();
        let mut events = bench.channel.events();
        queue.deliveries().await.unwrap().close().await.unwrap();
        let mut deliveries = queue.deliveries().await.unwrap();
        queue.delete().await.unwrap();
        let Some(ChannelEvent::ConsumerLost { tag, end }) = events.next().await else { panic!("not told") };
        assert_eq!(&*tag, deliveries.tag());
        assert!(matches!(end, ConsumerEnd::CancelledByBroker));
        assert!(within("the stream ends", 10, deliveries.next()).await.is_none());
    }
}
