//! Channels: their numbers, their opening and closing, and what an error of one leaves of the others.

use std::{collections::BTreeSet, time::Duration};

use crate::support::{broker::Vhost, eventually, modes::Bench, oracle::Oracle, within};
use actix_pika::{
    Channel, Connector, Consume, ConsumerEnd, DeclareExchange, DeclareQueue, Error, ErrorKind, OpenChannel,
    Publishing, connect,
    message::{CancelConsumer, DeleteQueue},
};
use futures_util::{StreamExt, future::join_all};

/// The kind, the code, and the method that caused it.
fn facts(error: &Error) -> (ErrorKind, u16, &'static str) {
    let reason = error.close_reason().unwrap_or_else(|| panic!("no reason: {error:?}"));
    (error.kind(), reason.code, reason.method)
}

/// Makes the broker close the channel with 404.
async fn kill(channel: &Channel) -> Error {
    channel.declare_queue(DeclareQueue::new("missing").passive(true)).await.expect_err("404")
}

crate::modes! {
    /// CH-01, CH-02, CH-07: a closed channel stays closed and says so, its number is free, and others open.
    async fn a_closed_channel_leaves_the_connection_open(bench: Bench) {
        bench.channel.close().await.unwrap();
        assert!(bench.channel.is_closed());
        let cause = bench.channel.close_cause().expect("a cause");
        assert_eq!((cause.kind(), cause.close_reason()), (ErrorKind::ChannelClosed, None));
        assert!(cause.to_string().contains("the channel is closed"), "{cause}");
        let error = bench.channel.set_qos(1).await.unwrap_err();
        assert_eq!((error.kind(), error.close_reason()), (ErrorKind::ChannelClosed, None));
        bench.channel.close().await.unwrap();
        let next = bench.another_channel().await;
        assert_eq!(next.number(), bench.channel.number());
        next.set_qos(1).await.unwrap();
        assert!(bench.channel.is_closed());
    }

    /// CH-04: the call that is refused has the code, and so has every later one, without asking the broker.
    async fn a_refused_declare_closes_only_its_channel(bench: Bench) {
        let other = bench.another_channel().await;
        let error = bench.channel.declare_queue("amq.restricted").await.unwrap_err();
        assert_eq!(facts(&error), (ErrorKind::Refused, 403, "queue.declare"));
        assert_eq!(error.entity(), Some("amq.restricted"));
        assert!(error.is_soft());
        let later = bench.channel.set_qos(100).await.unwrap_err();
        assert_eq!(facts(&later), (ErrorKind::ChannelClosed, 403, "queue.declare"));
        let later = bench.channel.queue("jobs").delete().await.unwrap_err();
        assert_eq!(facts(&later), (ErrorKind::ChannelClosed, 403, "queue.declare"));
        let publish = bench.channel.default_exchange().publish("x", "jobs").await.unwrap_err();
        assert_eq!(facts(&publish), (ErrorKind::ChannelClosed, 403, "queue.declare"));
        assert!(!publish.may_have_arrived());
        bench.channel.close().await.unwrap();
        other.declare_queue("jobs").await.unwrap();
        assert!(!bench.connection.is_closed());
    }

    /// CH-07
    async fn the_cause_of_a_closed_channel_is_kept(bench: Bench) {
        bench.channel.declare_queue("jobs").await.unwrap();
        let error = bench.channel.declare_queue(DeclareQueue::new("jobs").durable(false)).await.unwrap_err();
        assert_eq!(facts(&error), (ErrorKind::Refused, 406, "queue.declare"));
        assert!(error.to_string().contains("PRECONDITION_FAILED"), "{error}");
        for _ in 0..3 {
            let later = bench.channel.queue("jobs").purge().await.unwrap_err();
            assert_eq!(facts(&later), (ErrorKind::ChannelClosed, 406, "queue.declare"));
            assert!(later.to_string().contains("406 PRECONDITION_FAILED"), "{later}");
        }
        assert_eq!(facts(&bench.channel.close_cause().unwrap()), (ErrorKind::ChannelClosed, 406, "queue.declare"));
    }

    /// CH-04, CH-07: whatever ended a channel, each later call, the channel's consumers and its unsettled deliveries tell
    /// code, text, method and entity of it.
    async fn what_the_cause_was_about_is_kept(bench: Bench) {
        bench.channel.declare_queue("jobs").await.unwrap();
        bench.channel.declare_exchange(DeclareExchange::fanout("inner").internal(true)).await.unwrap();
        let cases = [
            ("queue.declare", 406, "jobs"),
            ("queue.delete", 406, "jobs"),
            ("queue.bind", 404, "jobs"),
            ("exchange.delete", 403, "amq.topic"),
            ("basic.consume", 404, "never"),
            ("basic.get", 404, "never"),
            ("basic.publish", 404, "never"),
            ("basic.publish", 403, "inner"),
        ];
        for (method, code, entity) in cases {
            let channel = bench.another_channel().await;
            channel.default_exchange().publish("work", "jobs").await.unwrap();
            let jobs = channel.queue("jobs");
            let consumer = Consume::new().prefetch(1);
            let mut deliveries = jobs.deliveries_with(consumer).await.unwrap();
            let delivery = deliveries.next().await.expect("a delivery");
            let refused = match (method, code) {
                ("queue.declare", _) => channel.declare_queue(DeclareQueue::new("jobs").max_length(1)).await.err(),
                ("queue.delete", _) => channel.delete_queue(DeleteQueue::new("jobs").if_unused(true)).await.err(),
                ("queue.bind", _) => jobs.bind("nowhere", "").await.err(),
                ("exchange.delete", _) => channel.exchange("amq.topic").delete().await.err(),
                ("basic.consume", _) => channel.queue("never").deliveries().await.err(),
                ("basic.get", _) => channel.queue("never").get().await.err(),
                _ => channel.exchange(entity).publish("x", "").await.err(),
            };
            let told = |error: &Error| {
                let reason = error.close_reason().unwrap_or_else(|| panic!("no reason in {error}"));
                assert_eq!((reason.method, reason.code, error.entity()), (method, code, Some(entity)), "{error}");
                assert!(reason.text.contains(" - "), "{error}");
                assert!(error.to_string().contains(&format!("[{entity}]: {code} ")), "{error}");
            };
            match refused {
                Some(error) => told(&error),
                // Without confirms a publish is on its way, no more.
                None => assert!(method == "basic.publish" && !bench.confirms),
            }
            assert!(deliveries.next().await.is_none());
            match deliveries.end() {
                Some(ConsumerEnd::Closed(error)) => told(error),
                end => panic!("{end:?}"),
            }
            told(&delivery.ack().unwrap_err());
            told(&channel.close_cause().expect("a cause"));
            told(&channel.declare_queue("other").await.unwrap_err());
            told(&channel.default_exchange().publish("x", "jobs").await.unwrap_err());
            let jobs = bench.another_channel().await.queue("jobs");
            eventually("the work is back", 10, async || (jobs.purge().await.unwrap() == 1).then_some(())).await;
        }
        assert!(!bench.connection.is_closed());
    }

    /// CH-08: opened and closed ten times, and ten times more with an error for an end.
    async fn a_number_can_be_asked_for_again_and_again(bench: Bench) {
        let eleven = || bench.connection.channel_with(Bench::options(bench.confirms).number(11));
        for _ in 0..10 {
            let channel = eleven().await.unwrap();
            assert_eq!(channel.number(), 11);
            channel.close().await.unwrap();
        }
        for _ in 0..10 {
            let channel = eleven().await.unwrap();
            let error = channel.declare_queue("amq.restricted").await.unwrap_err();
            assert_eq!(facts(&error), (ErrorKind::Refused, 403, "queue.declare"));
        }
        eleven().await.unwrap().set_qos(1).await.unwrap();
    }

    /// CH-09, CH-12: numbers that are no channel, or one that is open.
    async fn a_number_that_cannot_be_had_is_a_limit_error(bench: Bench) {
        let max = bench.connection.channel_max().unwrap();
        let numbers = [0, bench.channel.number(), max + 1, u16::MAX];
        for number in numbers {
            let options = Bench::options(bench.confirms).number(number);
            let error = bench.connection.channel_with(options).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Limit, "{number}: {error}");
        }
        let last = bench.connection.channel_with(Bench::options(bench.confirms).number(max)).await.unwrap();
        last.set_qos(1).await.unwrap();
        bench.channel.set_qos(1).await.unwrap();
    }

    /// CH-11: in order, without those that are taken, and the lowest again when it is free.
    async fn numbers_are_handed_out_in_order(bench: Bench) {
        assert_eq!(bench.channel.number(), 1);
        let fifth = bench.connection.channel_with(Bench::options(bench.confirms).number(5)).await.unwrap();
        let mut channels = Vec::new();
        for _ in 0..5 {
            channels.push(bench.another_channel().await);
        }
        let numbers: Vec<u16> = channels.iter().map(Channel::number).collect();
        assert_eq!(numbers, [2, 3, 4, 6, 7]);
        channels.remove(1).close().await.unwrap();
        fifth.close().await.unwrap();
        assert_eq!(bench.another_channel().await.number(), 3);
        assert_eq!(bench.another_channel().await.number(), 5);
    }

    /// CH-15
    async fn a_channel_with_an_idle_consumer_closes_at_once(bench: Bench) {
        let queue = bench.channel.declare_queue("jobs").await.unwrap();
        let mut deliveries = queue.deliveries().await.unwrap();
        within("the close", 5, bench.channel.close()).await.unwrap();
        assert!(within("the end of the stream", 5, deliveries.next()).await.is_none());
        let oracle = Oracle::connect(&bench.vhost.url()).await;
        assert_eq!(oracle.queue_counts("jobs").await, Some((0, 0)));
    }

    /// CH-16: publishes to a missing exchange end their channel, and nothing else.
    async fn many_channels_die_of_publishes_without_an_exchange(bench: Bench) {
        for round in 0..25 {
            let channel = bench.another_channel().await;
            let missing = channel.exchange("missing");
            let mut outcomes = Vec::new();
            for _ in 0..100 {
                match missing.publish_deferred("x", "y").await {
                    Ok(confirm) => outcomes.push(confirm),
                    Err(error) => {
                        assert_eq!(facts(&error), (ErrorKind::ChannelClosed, 404, "basic.publish"));
                        break;
                    }
                }
            }
            for outcome in outcomes {
                match outcome.await {
                    Err(error) => {
                        assert_eq!(facts(&error), (ErrorKind::ChannelClosed, 404, "basic.publish"), "{round}");
                        assert!(bench.confirms);
                    }
                    Ok(_) => assert!(!bench.confirms),
                }
            }
            // Without confirms nobody has heard of it yet.
            let error = channel.set_qos(1).await.unwrap_err();
            assert_eq!(facts(&error), (ErrorKind::ChannelClosed, 404, "basic.publish"), "{round}");
        }
        bench.channel.set_qos(1).await.unwrap();
    }

    /// CH-23: a delivery on its way does not hold up another call.
    async fn a_delivery_under_way_does_not_hold_up_calls(bench: Bench) {
        let queue = bench.channel.declare_queue("jobs").await.unwrap();
        let mut deliveries = queue.deliveries_with(Consume::new().prefetch(1)).await.unwrap();
        let exchange = bench.channel.default_exchange();
        exchange.publish("first", "jobs").await.unwrap();
        exchange.publish("second", "jobs").await.unwrap();
        let first = deliveries.next().await.unwrap();
        let other = bench.another_channel().await;
        other.declare_queue("others").await.unwrap();
        bench.channel.declare_queue("more").await.unwrap();
        assert_eq!(first.body(), b"first");
        first.ack().unwrap();
        let second = deliveries.next().await.unwrap();
        assert_eq!(second.body(), b"second");
        second.ack().unwrap();
    }

    /// CH-28, CH-30: who holds a delivery of a dead channel is told, and the message comes again elsewhere.
    async fn a_delivery_of_a_dead_channel_cannot_be_settled(bench: Bench) {
        let queue = bench.channel.declare_queue("jobs").await.unwrap();
        bench.channel.default_exchange().publish("work", "jobs").await.unwrap();
        let mut deliveries = queue.deliveries().await.unwrap();
        let delivery = deliveries.next().await.unwrap();
        assert!(!delivery.is_stale());
        assert_eq!(facts(&kill(&bench.channel).await), (ErrorKind::Refused, 404, "queue.declare"));
        assert!(delivery.is_stale());
        assert_eq!(facts(&delivery.ack().unwrap_err()), (ErrorKind::ChannelClosed, 404, "queue.declare"));
        assert!(deliveries.next().await.is_none());
        let channel = bench.another_channel().await;
        let mut deliveries = channel.queue("jobs").deliveries().await.unwrap();
        let again = deliveries.next().await.unwrap();
        assert_eq!((again.body(), again.redelivered()), (&b"work"[..], true));
        again.ack().unwrap();
    }

    /// CH-14: opened and closed in batches of 2 to 256, each batch at once.
    async fn channels_come_and_go_in_batches(bench: Bench) {
        for exponent in 1..=8 {
            let size = 1 << exponent;
            let options = || Bench::options(bench.confirms);
            let opened = join_all((0..size).map(|_| bench.connection.channel_with(options()))).await;
            let channels: Vec<Channel> = opened.into_iter().map(Result::unwrap).collect();
            let numbers: BTreeSet<u16> = channels.iter().map(Channel::number).collect();
            assert_eq!(numbers, (2..size + 2).collect());
            let closed = join_all(channels.iter().map(Channel::close)).await;
            assert!(closed.iter().all(Result::is_ok), "{closed:?}");
        }
        bench.channel.set_qos(1).await.unwrap();
    }

    /// CH-28: a channel's failure is its own: pending calls of its siblings go on.
    async fn an_error_of_a_channel_leaves_its_siblings_calls_alone(bench: Bench) {
        let (one, two) = (bench.another_channel().await, bench.another_channel().await);
        let calls = join_all((0..50).map(|n| two.declare_queue(format!("q{n}"))));
        let doomed = join_all((0..10).map(|n| {
            one.declare_queue(match n {
                4 => "amq.restricted".into(),
                n => format!("r{n}"),
            })
        }));
        let (calls, doomed) = tokio::join!(calls, doomed);
        assert!(calls.iter().all(Result::is_ok));
        for (n, result) in doomed.into_iter().enumerate() {
            match n {
                0..4 => assert_eq!(result.unwrap().name(), format!("r{n}")),
                4 => assert_eq!(facts(&result.unwrap_err()), (ErrorKind::Refused, 403, "queue.declare")),
                _ => assert_eq!(facts(&result.unwrap_err()), (ErrorKind::ChannelClosed, 403, "queue.declare")),
            }
        }
        two.declare_exchange(DeclareExchange::topic("orders")).await.unwrap();
        let publishing = Publishing::new("x").mandatory(false);
        two.exchange("orders").publish(publishing, "nowhere").await.unwrap();
    }

    /// CH-33
    async fn to_cancel_an_unknown_consumer_is_no_error(bench: Bench) {
        let actor = bench.channel.actor();
        actor.send(CancelConsumer::new("nobody")).await.unwrap().unwrap();
        actor.send(CancelConsumer::new("x".repeat(300))).await.unwrap().unwrap();
        bench.channel.set_qos(1).await.unwrap();
    }

    /// CH-34
    async fn the_limits_of_prefetch_are_accepted(bench: Bench) {
        bench.channel.set_qos(0).await.unwrap();
        bench.channel.set_qos(u16::MAX).await.unwrap();
    }
}

/// LEAK-03, CH-14: five channels at most, opened and closed in every way: the numbers are free again.
#[actix::test]
async fn a_channel_that_is_gone_gives_its_number_back() {
    let vhost = Vhost::fresh().await;
    let connection = Connector::new(&vhost.url()).unwrap().channel_max(5).connect().await.unwrap();
    let all = async || join_all((0..5).map(|_| connection.channel())).await;
    let opened = async || -> Vec<Channel> { all().await.into_iter().map(Result::unwrap).collect() };
    let mut actors = Vec::new();
    let rounds = async {
        for round in 0..6 {
            let channels = opened().await;
            let numbers: BTreeSet<u16> = channels.iter().map(Channel::number).collect();
            assert_eq!(numbers, (1..=5).collect(), "round {round}");
            let error = connection.channel().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Limit);
            actors.extend(channels.iter().map(|channel| channel.actor().downgrade()));
            for channel in channels {
                match round % 3 {
                    0 => channel.close().await.unwrap(),
                    1 => drop(kill(&channel).await),
                    _ => {
                        channel.default_exchange().publish_deferred("x", "missing").await.map(drop).unwrap();
                        channel.exchange("missing").publish("x", "y").await.unwrap_err();
                    }
                }
            }
        }
    };
    within("rounds of five channels", 30, rounds).await;
    crate::support::eventually("no channel here and at the broker", 10, async || {
        let here = actors.iter().filter(|actor| actor.upgrade().is_some()).count();
        (here == 0 && vhost.channels().await.is_empty()).then_some(())
    })
    .await;
}

/// CH-14, scaled to what a test may take: one after the other, then eight tasks at once.
#[actix::test]
async fn many_channels_come_and_go() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, connect(vhost.url())).await.unwrap();
    let churn = async |n: usize| {
        for _ in 0..n {
            connection.channel_with(OpenChannel::new().confirms(false)).await?.close().await?;
        }
        Ok::<_, Error>(())
    };
    within("one after the other", 30, churn(500)).await.unwrap();
    let results = within("eight tasks", 30, join_all((0..8).map(|_| churn(100)))).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(connection.channel().await.unwrap().number(), 1);
}

/// LEAK-02: what is closed with its connection.
#[actix::test]
async fn a_closed_connection_leaves_no_channel() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, connect(vhost.url())).await.unwrap();
    let channels = join_all((0..5).map(|_| connection.channel())).await;
    within("close", 10, connection.close()).await.unwrap();
    let actors: Vec<_> = channels.iter().flatten().map(|channel| channel.actor().downgrade()).collect();
    assert_eq!(actors.len(), 5);
    assert!(channels.into_iter().all(|channel| channel.unwrap().is_closed()));
    crate::support::eventually("no Channel actor", 5, async || {
        actors.iter().all(|actor| actor.upgrade().is_none()).then_some(())
    })
    .await;
    crate::support::eventually("no channel at the broker", 10, async || {
        let (channels, connections) = (vhost.channels().await, vhost.connections().await);
        (channels.is_empty() && connections.is_empty()).then_some(())
    })
    .await;
}

/// A deadline is a channel's own.
#[actix::test]
async fn an_open_channel_outlives_its_deadline() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, connect(vhost.url())).await.unwrap();
    // Long enough for a broker that has much to do.
    let options = OpenChannel::new().deadline(Duration::from_secs(1));
    let channel = connection.channel_with(options).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    channel.declare_queue("jobs").await.unwrap();
    channel.default_exchange().publish("x", "jobs").await.unwrap();
}
