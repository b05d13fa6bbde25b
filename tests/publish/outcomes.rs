//! Confirms of messages that are rejected, dropped, expired or purged meanwhile, and returns that arrive while the
//! channel or the connection ends.

use std::{collections::BTreeMap, time::Duration};

use crate::support::{
    broker::Vhost,
    modes::Bench,
    proxy::{Cut, Direction, Proxy},
    within,
};
use actix_pika::{
    Channel, ChannelEvent, Confirm, DeclareExchange, DeclareQueue, Delivery, Error, ErrorKind, Publishing,
    connect,
};
use futures_util::{StreamExt, future::join_all};

const MANY: usize = 1000;

/// Publishes `n` messages: half of them persistent, half of them mandatory.
async fn publish(channel: &Channel, exchange: &str, key: &str, n: usize) -> Vec<Confirm> {
    let exchange = channel.exchange(exchange);
    let mut confirms = Vec::new();
    for at in 0..n {
        let content = Publishing::new(at.to_string()).mandatory(at % 2 == 0);
        let content = if at % 4 < 2 { content } else { content.persistent(false) };
        confirms.push(exchange.publish_deferred(content, key).await.unwrap());
    }
    confirms
}

/// Checks that each publish is confirmed with its own sequence number, and that the channel's load is zero.
async fn assert_all_confirmed(channel: &Channel, confirms: Vec<Confirm>) {
    let expected: Vec<_> = confirms.iter().map(Confirm::sequence).collect();
    assert!(expected.iter().all(Option::is_some));
    let results = within("every confirm", 30, join_all(confirms)).await;
    let numbers: Vec<_> = results.into_iter().map(|result| result.unwrap().sequence()).collect();
    assert_eq!(numbers, expected);
    let load = channel.load();
    assert_eq!((load.unconfirmed, load.bytes, load.waiting), (0, 0, 0));
}

/// Takes `n` deliveries of a queue, settles each with `settle`, and returns how many were redelivered.
async fn settle_each(channel: Channel, queue: &str, n: usize, settle: fn(Delivery)) -> usize {
    let mut deliveries = channel.queue(queue).deliveries().await.unwrap();
    let mut redelivered = 0;
    for _ in 0..n {
        let delivery = within("a delivery", 20, deliveries.next()).await.unwrap();
        redelivered += usize::from(delivery.redelivered());
        settle(delivery);
    }
    deliveries.close().await.unwrap();
    channel.close().await.unwrap();
    redelivered
}

/// PUB-16: messages routed to a durable and a transient queue are confirmed once.
#[actix::test]
async fn a_message_for_two_queues_is_confirmed_once() {
    let bench = Bench::open(true).await;
    let channel = &bench.channel;
    channel.declare_exchange(DeclareExchange::fanout("both")).await.unwrap();
    let mut queues = Vec::new();
    for declare in [DeclareQueue::new("durable"), DeclareQueue::new("transient").durable(false)] {
        queues.push(channel.declare_queue(declare).await.unwrap());
        queues.last().unwrap().bind("both", "").await.unwrap();
    }
    let confirms = publish(channel, "both", "", MANY).await;
    assert_all_confirmed(channel, confirms).await;
    for queue in queues {
        assert_eq!(queue.purge().await.unwrap(), MANY as u32);
    }
}

/// PUB-16: messages that a consumer rejects without requeue are confirmed.
#[actix::test]
async fn rejected_messages_are_confirmed() {
    let bench = Bench::open(true).await;
    let queue = bench.channel.declare_queue("q").await.unwrap();
    let consumer = bench.another_channel().await;
    let rejects =
        actix_rt::spawn(settle_each(consumer, "q", MANY, |delivery| delivery.reject(false).unwrap()));
    let confirms = publish(&bench.channel, "", "q", MANY).await;
    assert_all_confirmed(&bench.channel, confirms).await;
    assert_eq!(within("the rejects", 30, rejects).await.unwrap(), 0);
    assert_eq!(queue.purge().await.unwrap(), 0);
}

/// PUB-16: messages that a consumer requeues once and then rejects are confirmed.
#[actix::test]
async fn requeued_messages_are_confirmed() {
    let bench = Bench::open(true).await;
    let queue = bench.channel.declare_queue("q").await.unwrap();
    let consumer = bench.another_channel().await;
    let rejects = actix_rt::spawn(settle_each(consumer, "q", 2 * MANY, |delivery| {
        let requeue = !delivery.redelivered();
        delivery.reject(requeue).unwrap();
    }));
    let confirms = publish(&bench.channel, "", "q", MANY).await;
    assert_all_confirmed(&bench.channel, confirms).await;
    assert_eq!(within("the rejects", 30, rejects).await.unwrap(), MANY);
    assert_eq!(queue.purge().await.unwrap(), 0);
}

/// PUB-16: messages that expire after 0 or 1 ms, by the queue's TTL or their own, are confirmed.
#[actix::test]
async fn expired_messages_are_confirmed() {
    let bench = Bench::open(true).await;
    let channel = &bench.channel;
    for ttl in [0, 1] {
        let name = format!("ttl {ttl}");
        let declare = DeclareQueue::new(&*name).argument("x-message-ttl", ttl);
        channel.declare_queue(declare).await.unwrap();
        let confirms = publish(channel, "", &name, MANY).await;
        assert_all_confirmed(channel, confirms).await;
    }
    channel.declare_queue("q").await.unwrap();
    let mut confirms = Vec::new();
    for n in 0..MANY {
        let content = Publishing::new("body").expiration(Duration::from_millis(n as u64 % 2));
        confirms.push(channel.default_exchange().publish_deferred(content, "q").await.unwrap());
    }
    assert_all_confirmed(channel, confirms).await;
}

/// PUB-16: messages that a full queue drops at its head are confirmed; the last ten remain.
#[actix::test]
async fn messages_dropped_by_a_full_queue_are_confirmed() {
    let bench = Bench::open(true).await;
    let declare = DeclareQueue::new("q").argument("x-max-length", 10);
    let queue = bench.channel.declare_queue(declare).await.unwrap();
    let confirms = publish(&bench.channel, "", "q", MANY).await;
    assert_all_confirmed(&bench.channel, confirms).await;
    for n in MANY - 10..MANY {
        let last = queue.get().await.unwrap().expect("one of the last ten");
        assert_eq!(last.body(), n.to_string().as_bytes());
        last.ack().unwrap();
    }
    assert!(queue.get().await.unwrap().is_none());
}

/// PUB-16: with `reject-publish`, the messages that a full queue accepted are confirmed and the others are nacked.
#[actix::test]
async fn messages_refused_by_a_full_queue_are_nacked() {
    let bench = Bench::open(true).await;
    let declare =
        DeclareQueue::new("q").argument("x-max-length", 10).argument("x-overflow", "reject-publish");
    let queue = bench.channel.declare_queue(declare).await.unwrap();
    let confirms = publish(&bench.channel, "", "q", MANY).await;
    let mut accepted = Vec::new();
    for (n, confirm) in confirms.into_iter().enumerate() {
        match within("a result", 20, confirm).await {
            Ok(_) => accepted.push(n.to_string().into_bytes()),
            Err(error) => {
                assert_eq!((error.kind(), error.entity()), (ErrorKind::Nacked, Some("q")));
                // A queue that takes the message may be beside the full one.
                assert!(error.may_have_arrived());
            }
        }
    }
    assert!((10..MANY).contains(&accepted.len()), "{}", accepted.len());
    for body in &accepted {
        let message = queue.get().await.unwrap().expect("a confirmed message");
        assert_eq!(message.body(), body);
        message.ack().unwrap();
    }
    assert!(queue.get().await.unwrap().is_none());
}

/// PUB-16: messages of a queue that is deleted are confirmed; mandatory publishes after the delete are unroutable.
#[actix::test]
async fn messages_of_a_deleted_queue_are_confirmed() {
    let bench = Bench::open(true).await;
    let queue = bench.channel.declare_queue("q").await.unwrap();
    let before = publish(&bench.channel, "", "q", MANY).await;
    // The delete follows the publishes on the same channel.
    assert_eq!(queue.delete().await.unwrap(), MANY as u32);
    for result in within("every confirm", 30, join_all(before)).await {
        result.unwrap();
    }
    // Published only now: a return cannot be matched to one of two equal messages that are both unconfirmed.
    let after = publish(&bench.channel, "", "q", MANY).await;
    for (n, result) in within("every result", 30, join_all(after)).await.into_iter().enumerate() {
        match result {
            Ok(_) => assert_eq!(n % 2, 1, "{n} was mandatory"),
            Err(error) => assert_eq!((n % 2, error.kind()), (0, ErrorKind::Unroutable)),
        }
    }
    assert_eq!(bench.channel.load().unconfirmed, 0);
}

/// PUB-17: 20,000 publishes with a purge after each hundred are all confirmed, and the purges count each message once.
#[actix::test]
async fn publishes_between_purges_are_confirmed() {
    let bench = Bench::open(true).await;
    let queue = bench.channel.declare_queue("q").await.unwrap();
    let mut confirms = Vec::new();
    let mut purged = 0;
    for _ in 0..200 {
        confirms.extend(publish(&bench.channel, "", "q", 100).await);
        purged += within("a purge", 20, queue.purge()).await.unwrap();
    }
    assert_all_confirmed(&bench.channel, confirms).await;
    assert_eq!(purged + queue.purge().await.unwrap(), 20_000);
}

/// Counts the results of publishes by kind.
async fn count_results(confirms: Vec<Confirm>) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for result in within("every result", 20, join_all(confirms)).await {
        let kind = result.map(drop).map_err(|error: Error| error.kind());
        *kinds.entry(format!("{kind:?}")).or_default() += 1;
    }
    kinds
}

/// Returns the number of `Returned` events. Panics unless `Closed` comes once, as the last event.
fn count_returns(events: &[ChannelEvent]) -> usize {
    let (last, rest) = events.split_last().expect("the end");
    assert!(matches!(last, ChannelEvent::Closed(_)), "{last:?}");
    assert!(rest.iter().all(|event| matches!(event, ChannelEvent::Returned(_))), "{rest:?}");
    rest.len()
}

crate::modes! {
    /// PUB-29: closing channel or connection while returns arrive: with confirms the close waits for them; without, the
    /// `Closed` event is the last one.
    async fn returns_during_a_close_are_handled(bench: Bench) {
        for close_connection in [false, true] {
            let channel = bench.another_channel().await;
            let events = channel.events();
            let confirms = publish(&channel, "", "nowhere", 200).await;
            let closing = async {
                let closed = if close_connection { bench.connection.close().await } else { channel.close().await };
                closed.unwrap();
            };
            let (kinds, all, ()) = within("the end", 20, async {
                tokio::join!(count_results(confirms), events.collect::<Vec<_>>(), closing)
            })
            .await;
            let returns = count_returns(&all);
            if bench.confirms {
                let expected = [("Err(Unroutable)".to_owned(), 100), ("Ok(())".to_owned(), 100)];
                assert_eq!((kinds, returns), (expected.into(), 0));
            } else {
                assert_eq!(kinds, [("Ok(())".to_owned(), 200)].into());
                // A channel that is closing discards everything but `channel.close-ok`.
                assert!(returns <= 100, "{returns}");
            }
        }
    }

    /// PUB-29: the broker closes the channel while returns arrive: each publish has a result, and `Closed` is the last
    /// event.
    async fn returns_before_a_channel_close_are_handled(bench: Bench) {
        for _ in 0..5 {
            let channel = bench.another_channel().await;
            let events = channel.events();
            let mut confirms = publish(&channel, "", "nowhere", 100).await;
            confirms.push(channel.exchange("missing").publish_deferred("x", "y").await.unwrap());
            let last = channel.declare_queue("q").await.unwrap_err();
            assert_eq!((last.kind(), last.close_reason().unwrap().code), (ErrorKind::ChannelClosed, 404));
            let kinds = count_results(confirms).await;
            let all = within("the end", 20, events.collect::<Vec<_>>()).await;
            let (returns, count) = (count_returns(&all), |kind: &str| kinds.get(kind).copied().unwrap_or(0));
            if bench.confirms {
                assert_eq!(count("Ok(())") + count("Err(Unroutable)") + count("Err(ChannelClosed)"), 101, "{kinds:?}");
                assert!(count("Err(ChannelClosed)") >= 1 && count("Err(Unroutable)") <= 50, "{kinds:?}");
                assert_eq!(returns, 0);
            } else {
                // The broker sends the returns before the close.
                assert_eq!((count("Ok(())"), returns), (101, 50));
            }
        }
        assert!(!bench.connection.is_closed());
    }
}

/// PUB-29: the connection is cut while returns arrive: each publish has a result, and `Closed` is the last event.
#[actix::test]
async fn a_cut_during_returns_completes_every_publish() {
    for with_confirms in [true, false] {
        for bytes in [50, 500, 5_000] {
            let vhost = Vhost::fresh().await;
            let proxy = Proxy::to(&vhost.broker().address());
            let connection = connect(proxy.url(&vhost.url())).await.unwrap();
            let channel = connection.channel_with(Bench::options(with_confirms)).await.unwrap();
            let events = channel.events();
            proxy.cut_once_after(Direction::ToClient, bytes, Cut::Rst);
            let exchange = channel.default_exchange();
            let mut confirms = Vec::new();
            for n in 0..400 {
                match exchange.publish_deferred(n.to_string(), "nowhere").await {
                    Ok(confirm) => confirms.push(confirm),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionClosed),
                }
            }
            let kinds = count_results(confirms).await;
            let known = ["Ok(())", "Err(Unroutable)", "Err(ConnectionClosed)"];
            assert!(kinds.keys().all(|kind| known.contains(&&**kind)), "{kinds:?}");
            let all = within("the end", 20, events.collect::<Vec<_>>()).await;
            let returns = count_returns(&all);
            assert!(returns < 400 && (!with_confirms || returns == 0), "{returns}");
            let error = within("the end", 10, connection.closed()).await.unwrap_err();
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Io, true));
        }
    }
}
