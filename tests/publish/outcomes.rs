//! Publishes whose messages are rejected, dropped, expire or are purged while their confirms are awaited, and returns
//! that come while everything ends.

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

/// So many publishes to an exchange, persistent or not, mandatory or not.
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

/// Every one of them is confirmed, in its own name, and nothing stays behind.
async fn all_confirmed(channel: &Channel, confirms: Vec<Confirm>) {
    let expected: Vec<_> = confirms.iter().map(Confirm::sequence).collect();
    assert!(expected.iter().all(Option::is_some));
    let answers = within("every confirm", 30, join_all(confirms)).await;
    let numbers: Vec<_> = answers.into_iter().map(|answer| answer.unwrap().sequence()).collect();
    assert_eq!(numbers, expected);
    let load = channel.load();
    assert_eq!((load.unconfirmed, load.bytes, load.waiting), (0, 0, 0));
}

/// Settles each delivery of a queue as it comes, `n` of them; how many were redelivered.
async fn settle_each(channel: Channel, queue: &str, n: usize, verdict: fn(Delivery)) -> usize {
    let mut deliveries = channel.queue(queue).deliveries().await.unwrap();
    let mut again = 0;
    for _ in 0..n {
        let delivery = within("a delivery", 20, deliveries.next()).await.unwrap();
        again += usize::from(delivery.redelivered());
        verdict(delivery);
    }
    deliveries.close().await.unwrap();
    channel.close().await.unwrap();
    again
}

/// PUB-16: to two queues at once, one of them transient.
#[actix::test]
async fn what_goes_to_two_queues_is_confirmed_once() {
    let bench = Bench::open(true).await;
    let channel = &bench.channel;
    channel.declare_exchange(DeclareExchange::fanout("both")).await.unwrap();
    let mut queues = Vec::new();
    for declare in [DeclareQueue::new("kept"), DeclareQueue::new("transient").durable(false)] {
        queues.push(channel.declare_queue(declare).await.unwrap());
        queues.last().unwrap().bind("both", "").await.unwrap();
    }
    let confirms = publish(channel, "both", "", MANY).await;
    all_confirmed(channel, confirms).await;
    for queue in queues {
        assert_eq!(queue.purge().await.unwrap(), MANY as u32);
    }
}

/// PUB-16: rejected for good while their confirms are awaited.
#[actix::test]
async fn what_a_consumer_rejects_is_confirmed() {
    let bench = Bench::open(true).await;
    let queue = bench.channel.declare_queue("q").await.unwrap();
    let consumer = bench.another_channel().await;
    let rejects =
        actix_rt::spawn(settle_each(consumer, "q", MANY, |delivery| delivery.reject(false).unwrap()));
    let confirms = publish(&bench.channel, "", "q", MANY).await;
    all_confirmed(&bench.channel, confirms).await;
    assert_eq!(within("the rejects", 30, rejects).await.unwrap(), 0);
    assert_eq!(queue.purge().await.unwrap(), 0);
}

/// PUB-16: put back once, and then rejected for good.
#[actix::test]
async fn what_a_consumer_puts_back_is_confirmed() {
    let bench = Bench::open(true).await;
    let queue = bench.channel.declare_queue("q").await.unwrap();
    let consumer = bench.another_channel().await;
    let rejects = actix_rt::spawn(settle_each(consumer, "q", 2 * MANY, |delivery| {
        let requeue = !delivery.redelivered();
        delivery.reject(requeue).unwrap();
    }));
    let confirms = publish(&bench.channel, "", "q", MANY).await;
    all_confirmed(&bench.channel, confirms).await;
    assert_eq!(within("the rejects", 30, rejects).await.unwrap(), MANY);
    assert_eq!(queue.purge().await.unwrap(), 0);
}

/// PUB-16: too old at once or soon, by the queue's limit or the message's own.
#[actix::test]
async fn what_expires_is_confirmed() {
    let bench = Bench::open(true).await;
    let channel = &bench.channel;
    for ttl in [0, 1] {
        let name = format!("ttl {ttl}");
        let declare = DeclareQueue::new(&*name).argument("x-message-ttl", ttl);
        channel.declare_queue(declare).await.unwrap();
        let confirms = publish(channel, "", &name, MANY).await;
        all_confirmed(channel, confirms).await;
    }
    channel.declare_queue("q").await.unwrap();
    let mut confirms = Vec::new();
    for n in 0..MANY {
        let content = Publishing::new("body").expiration(Duration::from_millis(n as u64 % 2));
        confirms.push(channel.default_exchange().publish_deferred(content, "q").await.unwrap());
    }
    all_confirmed(channel, confirms).await;
}

/// PUB-16: pushed out at the head of a full queue.
#[actix::test]
async fn what_a_full_queue_drops_is_confirmed() {
    let bench = Bench::open(true).await;
    let declare = DeclareQueue::new("q").argument("x-max-length", 10);
    let queue = bench.channel.declare_queue(declare).await.unwrap();
    let confirms = publish(&bench.channel, "", "q", MANY).await;
    all_confirmed(&bench.channel, confirms).await;
    for n in MANY - 10..MANY {
        let last = queue.get().await.unwrap().expect("one of the last ten");
        assert_eq!(last.body(), n.to_string().as_bytes());
        last.ack().unwrap();
    }
    assert!(queue.get().await.unwrap().is_none());
}

/// PUB-16: a queue that rejects what it has no room for: as many are confirmed as it holds, and the rest are nacks.
#[actix::test]
async fn what_a_full_queue_refuses_is_nacked() {
    let bench = Bench::open(true).await;
    let declare =
        DeclareQueue::new("q").argument("x-max-length", 10).argument("x-overflow", "reject-publish");
    let queue = bench.channel.declare_queue(declare).await.unwrap();
    let confirms = publish(&bench.channel, "", "q", MANY).await;
    let mut taken = Vec::new();
    for (n, confirm) in confirms.into_iter().enumerate() {
        match within("an answer", 20, confirm).await {
            Ok(_) => taken.push(n.to_string().into_bytes()),
            Err(error) => assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Nacked, false)),
        }
    }
    assert!((10..MANY).contains(&taken.len()), "{}", taken.len());
    for body in &taken {
        let held = queue.get().await.unwrap().expect("what was confirmed");
        assert_eq!(held.body(), body);
        held.ack().unwrap();
    }
    assert!(queue.get().await.unwrap().is_none());
}

/// PUB-16: the queue is deleted under what is not confirmed yet; what comes after it has no queue, and says so.
#[actix::test]
async fn what_goes_with_its_queue_is_confirmed() {
    let bench = Bench::open(true).await;
    let queue = bench.channel.declare_queue("q").await.unwrap();
    let before = publish(&bench.channel, "", "q", MANY).await;
    // Behind these on the channel.
    assert_eq!(queue.delete().await.unwrap(), MANY as u32);
    for answer in within("every confirm", 30, join_all(before)).await {
        answer.unwrap();
    }
    // The same bodies again: a return could not tell which of two was meant, if both were under way.
    let after = publish(&bench.channel, "", "q", MANY).await;
    for (n, answer) in within("every answer", 30, join_all(after)).await.into_iter().enumerate() {
        match answer {
            Ok(_) => assert_eq!(n % 2, 1, "{n} was mandatory"),
            Err(error) => assert_eq!((n % 2, error.kind()), (0, ErrorKind::Unroutable)),
        }
    }
    assert_eq!(bench.channel.load().unconfirmed, 0);
}

/// PUB-17: a purge after each hundred: all 20,000 are confirmed, and each was in the queue once.
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
    all_confirmed(&bench.channel, confirms).await;
    assert_eq!(purged + queue.purge().await.unwrap(), 20_000);
}

/// How often each kind of answer came.
async fn kinds(confirms: Vec<Confirm>) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for answer in within("every answer", 20, join_all(confirms)).await {
        let kind = answer.map(drop).map_err(|error: Error| error.kind());
        *kinds.entry(format!("{kind:?}")).or_default() += 1;
    }
    kinds
}

/// What the events of a channel were, of which its end must be the last and come once; the returns among them.
fn returns(events: &[ChannelEvent]) -> usize {
    let (last, rest) = events.split_last().expect("the end");
    assert!(matches!(last, ChannelEvent::Closed(_)), "{last:?}");
    assert!(rest.iter().all(|event| matches!(event, ChannelEvent::Returned(_))), "{rest:?}");
    rest.len()
}

crate::modes! {
    /// PUB-29: an orderly end among returns: with confirms it awaits them, and without it the end is told last.
    async fn returns_meet_an_orderly_end(bench: Bench) {
        for closes_all in [false, true] {
            let channel = bench.another_channel().await;
            let events = channel.events();
            let confirms = publish(&channel, "", "nowhere", 200).await;
            let closing = async {
                match closes_all {
                    true => bench.connection.close().await.unwrap(),
                    false => channel.close().await.unwrap(),
                }
            };
            let (kinds, all, ()) = within("the end", 20, async {
                tokio::join!(kinds(confirms), events.collect::<Vec<_>>(), closing)
            })
            .await;
            let returns = returns(&all);
            if bench.confirms {
                let expected = [("Err(Unroutable)".to_owned(), 100), ("Ok(())".to_owned(), 100)];
                assert_eq!((kinds, returns), (expected.into(), 0));
            } else {
                assert_eq!(kinds, [("Ok(())".to_owned(), 200)].into());
                // A channel that is closing takes nothing but the answer to that.
                assert!(returns <= 100, "{returns}");
            }
        }
    }

    /// PUB-29: the broker closes the channel among returns: every publish has an answer, and no event comes after the end.
    async fn returns_do_not_get_in_the_way_of_an_error(bench: Bench) {
        for _ in 0..5 {
            let channel = bench.another_channel().await;
            let events = channel.events();
            let mut confirms = publish(&channel, "", "nowhere", 100).await;
            confirms.push(channel.exchange("missing").publish_deferred("x", "y").await.unwrap());
            let last = channel.declare_queue("q").await.unwrap_err();
            assert_eq!((last.kind(), last.close_reason().unwrap().code), (ErrorKind::ChannelClosed, 404));
            let kinds = kinds(confirms).await;
            let all = within("the end", 20, events.collect::<Vec<_>>()).await;
            let (returns, of) = (returns(&all), |kind: &str| kinds.get(kind).copied().unwrap_or(0));
            if bench.confirms {
                assert_eq!(of("Ok(())") + of("Err(Unroutable)") + of("Err(ChannelClosed)"), 101, "{kinds:?}");
                assert!(of("Err(ChannelClosed)") >= 1 && of("Err(Unroutable)") <= 50, "{kinds:?}");
                assert_eq!(returns, 0);
            } else {
                // Returns precede the close on the wire.
                assert_eq!((of("Ok(())"), returns), (101, 50));
            }
        }
        assert!(!bench.connection.is_closed());
    }
}

/// PUB-29: the socket is cut among returns.
#[actix::test]
async fn a_cut_among_returns_answers_every_publish() {
    for confirms_on in [true, false] {
        for passed in [50, 500, 5_000] {
            let vhost = Vhost::fresh().await;
            let proxy = Proxy::to(&vhost.broker().address());
            let connection = connect(proxy.url(&vhost.url())).await.unwrap();
            let channel = connection.channel_with(Bench::options(confirms_on)).await.unwrap();
            let events = channel.events();
            proxy.cut_once_after(Direction::ToClient, passed, Cut::Rst);
            let exchange = channel.default_exchange();
            let mut confirms = Vec::new();
            for n in 0..400 {
                match exchange.publish_deferred(n.to_string(), "nowhere").await {
                    Ok(confirm) => confirms.push(confirm),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionClosed),
                }
            }
            let kinds = kinds(confirms).await;
            let known = ["Ok(())", "Err(Unroutable)", "Err(ConnectionClosed)"];
            assert!(kinds.keys().all(|kind| known.contains(&&**kind)), "{kinds:?}");
            let all = within("the end", 20, events.collect::<Vec<_>>()).await;
            let returns = returns(&all);
            assert!(returns < 400 && (!confirms_on || returns == 0), "{returns}");
            let error = within("the end", 10, connection.closed()).await.unwrap_err();
            assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Io, true));
        }
    }
}
