//! Opening and closing channels: numbers, errors that close a channel, and their effect on other channels.

use std::{collections::BTreeSet, time::Duration};

use crate::support::{broker::Vhost, eventually, modes::Bench, oracle::Oracle, within};
use actix_pika::{
    Channel, Connector, Consume, ConsumerEnd, DeclareExchange, DeclareQueue, Error, ErrorKind, OpenChannel,
    Publishing, connect,
    message::{CancelConsumer, DeleteQueue},
};
use futures_util::{StreamExt, future::join_all};

/// Returns the kind of an error, and the code and method of its close reason.
fn kind_code_method(error: &Error) -> (ErrorKind, u16, &'static str) {
    let reason = error.close_reason().unwrap_or_else(|| panic!("no reason: {error:?}"));
    (error.kind(), reason.code, reason.method)
}

/// Makes the broker close the channel with 404, and returns the error of the call.
async fn close_with_404(channel: &Channel) -> Error {
    channel.declare_queue(DeclareQueue::new("missing").passive(true)).await.expect_err("404")
}

crate::modes! {
    /// CH-01, CH-02, CH-07: a closed channel stays closed and keeps its cause. Its number is free.
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

    /// CH-04: the refused call and all later ones fail with the code. Later calls send nothing.
    async fn a_refused_declare_closes_only_its_channel(bench: Bench) {
        let other = bench.another_channel().await;
        let error = bench.channel.declare_queue("amq.restricted").await.unwrap_err();
        assert_eq!(kind_code_method(&error), (ErrorKind::Refused, 403, "queue.declare"));
        assert_eq!(error.entity(), Some("amq.restricted"));
        assert!(error.is_soft());
        let later = bench.channel.set_qos(100).await.unwrap_err();
        assert_eq!(kind_code_method(&later), (ErrorKind::ChannelClosed, 403, "queue.declare"));
        let later = bench.channel.queue("jobs").delete().await.unwrap_err();
        assert_eq!(kind_code_method(&later), (ErrorKind::ChannelClosed, 403, "queue.declare"));
        let publish = bench.channel.default_exchange().publish("x", "jobs").await.unwrap_err();
        assert_eq!(kind_code_method(&publish), (ErrorKind::ChannelClosed, 403, "queue.declare"));
        assert!(!publish.may_have_arrived());
        bench.channel.close().await.unwrap();
        other.declare_queue("jobs").await.unwrap();
        assert!(!bench.connection.is_closed());
    }

    /// CH-07
    async fn calls_on_a_closed_channel_fail_with_its_cause(bench: Bench) {
        bench.channel.declare_queue("jobs").await.unwrap();
        let error = bench.channel.declare_queue(DeclareQueue::new("jobs").durable(false)).await.unwrap_err();
        assert_eq!(kind_code_method(&error), (ErrorKind::Refused, 406, "queue.declare"));
        assert!(error.to_string().contains("PRECONDITION_FAILED"), "{error}");
        for _ in 0..3 {
            let later = bench.channel.queue("jobs").purge().await.unwrap_err();
            assert_eq!(kind_code_method(&later), (ErrorKind::ChannelClosed, 406, "queue.declare"));
            assert!(later.to_string().contains("406 PRECONDITION_FAILED"), "{later}");
        }
        assert_eq!(kind_code_method(&bench.channel.close_cause().unwrap()), (ErrorKind::ChannelClosed, 406, "queue.declare"));
    }

    /// CH-04, CH-07: later calls, the consumers and the unsettled deliveries of a channel fail with the code, text, method
    /// and entity of the cause.
    async fn the_cause_names_code_method_and_entity(bench: Bench) {
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
            let assert_cause = |error: &Error| {
                let reason = error.close_reason().unwrap_or_else(|| panic!("no reason in {error}"));
                assert_eq!((reason.method, reason.code, error.entity()), (method, code, Some(entity)), "{error}");
                assert!(reason.text.contains(" - "), "{error}");
                assert!(error.to_string().contains(&format!("[{entity}]: {code} ")), "{error}");
            };
            match refused {
                Some(error) => assert_cause(&error),
                // Without confirms a publish succeeds when it is written.
                None => assert!(method == "basic.publish" && !bench.confirms),
            }
            assert!(deliveries.next().await.is_none());
            match deliveries.end() {
                Some(ConsumerEnd::Closed(error)) => assert_cause(error),
                end => panic!("{end:?}"),
            }
            assert_cause(&delivery.ack().unwrap_err());
            assert_cause(&channel.close_cause().expect("a cause"));
            assert_cause(&channel.declare_queue("other").await.unwrap_err());
            assert_cause(&channel.default_exchange().publish("x", "jobs").await.unwrap_err());
            let jobs = bench.another_channel().await.queue("jobs");
            eventually("the message is requeued", 10, async || (jobs.purge().await.unwrap() == 1).then_some(())).await;
        }
        assert!(!bench.connection.is_closed());
    }

    /// CH-08: after ten closes, and after ten channel errors.
    async fn a_chosen_number_can_be_reused(bench: Bench) {
        let open_eleventh = || bench.connection.channel_with(Bench::options(bench.confirms).number(11));
        for _ in 0..10 {
            let channel = open_eleventh().await.unwrap();
            assert_eq!(channel.number(), 11);
            channel.close().await.unwrap();
        }
        for _ in 0..10 {
            let channel = open_eleventh().await.unwrap();
            let error = channel.declare_queue("amq.restricted").await.unwrap_err();
            assert_eq!(kind_code_method(&error), (ErrorKind::Refused, 403, "queue.declare"));
        }
        open_eleventh().await.unwrap().set_qos(1).await.unwrap();
    }

    /// CH-09, CH-12: a number that is out of range or in use.
    async fn an_unavailable_number_is_a_limit_error(bench: Bench) {
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

    /// CH-11: numbers in use are skipped.
    async fn the_lowest_free_number_is_allocated(bench: Bench) {
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

    /// CH-16: over and over.
    async fn publishes_to_a_missing_exchange_close_only_their_channel(bench: Bench) {
        for round in 0..25 {
            let channel = bench.another_channel().await;
            let missing = channel.exchange("missing");
            let mut outcomes = Vec::new();
            for _ in 0..100 {
                match missing.publish_deferred("x", "y").await {
                    Ok(confirm) => outcomes.push(confirm),
                    Err(error) => {
                        assert_eq!(kind_code_method(&error), (ErrorKind::ChannelClosed, 404, "basic.publish"));
                        break;
                    }
                }
            }
            for outcome in outcomes {
                match outcome.await {
                    Err(error) => {
                        assert_eq!(kind_code_method(&error), (ErrorKind::ChannelClosed, 404, "basic.publish"), "{round}");
                        assert!(bench.confirms);
                    }
                    Ok(_) => assert!(!bench.confirms),
                }
            }
            // Without confirms the next call fails.
            let error = channel.set_qos(1).await.unwrap_err();
            assert_eq!(kind_code_method(&error), (ErrorKind::ChannelClosed, 404, "basic.publish"), "{round}");
        }
        bench.channel.set_qos(1).await.unwrap();
    }

    /// CH-23
    async fn pending_deliveries_do_not_block_calls(bench: Bench) {
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

    /// CH-28, CH-30: an ack fails with the cause, and the message is delivered to another consumer.
    async fn deliveries_of_a_closed_channel_are_stale_and_redelivered(bench: Bench) {
        let queue = bench.channel.declare_queue("jobs").await.unwrap();
        bench.channel.default_exchange().publish("work", "jobs").await.unwrap();
        let mut deliveries = queue.deliveries().await.unwrap();
        let delivery = deliveries.next().await.unwrap();
        assert!(!delivery.is_stale());
        assert_eq!(kind_code_method(&close_with_404(&bench.channel).await), (ErrorKind::Refused, 404, "queue.declare"));
        assert!(delivery.is_stale());
        assert_eq!(kind_code_method(&delivery.ack().unwrap_err()), (ErrorKind::ChannelClosed, 404, "queue.declare"));
        assert!(deliveries.next().await.is_none());
        let channel = bench.another_channel().await;
        let mut deliveries = channel.queue("jobs").deliveries().await.unwrap();
        let again = deliveries.next().await.unwrap();
        assert_eq!((again.body(), again.redelivered()), (&b"work"[..], true));
        again.ack().unwrap();
    }

    /// CH-14: in batches of 2 to 256.
    async fn channels_open_and_close_concurrently(bench: Bench) {
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

    /// CH-28
    async fn a_channel_error_does_not_affect_pending_calls_of_other_channels(bench: Bench) {
        let (one, two) = (bench.another_channel().await, bench.another_channel().await);
        let calls = join_all((0..50).map(|n| two.declare_queue(format!("q{n}"))));
        let failing = join_all((0..10).map(|n| {
            one.declare_queue(match n {
                4 => "amq.restricted".into(),
                n => format!("r{n}"),
            })
        }));
        let (calls, failing) = tokio::join!(calls, failing);
        assert!(calls.iter().all(Result::is_ok));
        for (n, result) in failing.into_iter().enumerate() {
            match n {
                0..4 => assert_eq!(result.unwrap().name(), format!("r{n}")),
                4 => assert_eq!(kind_code_method(&result.unwrap_err()), (ErrorKind::Refused, 403, "queue.declare")),
                _ => assert_eq!(kind_code_method(&result.unwrap_err()), (ErrorKind::ChannelClosed, 403, "queue.declare")),
            }
        }
        two.declare_exchange(DeclareExchange::topic("orders")).await.unwrap();
        let publishing = Publishing::new("x").mandatory(false);
        two.exchange("orders").publish(publishing, "nowhere").await.unwrap();
    }

    /// CH-33
    async fn cancelling_an_unknown_consumer_is_no_error(bench: Bench) {
        let actor = bench.channel.actor();
        actor.send(CancelConsumer::new("nobody")).await.unwrap().unwrap();
        actor.send(CancelConsumer::new("x".repeat(300))).await.unwrap().unwrap();
        bench.channel.set_qos(1).await.unwrap();
    }

    /// CH-34
    async fn the_least_and_the_greatest_prefetch_are_accepted(bench: Bench) {
        bench.channel.set_qos(0).await.unwrap();
        bench.channel.set_qos(u16::MAX).await.unwrap();
    }
}

/// LEAK-03, CH-14: closed by a call, by a channel error, or by dropping the handle.
#[actix::test]
async fn closed_channels_release_their_numbers_and_actors() {
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
                    1 => {
                        close_with_404(&channel).await;
                    }
                    _ => {
                        channel.default_exchange().publish_deferred("x", "missing").await.map(drop).unwrap();
                        channel.exchange("missing").publish("x", "y").await.unwrap_err();
                    }
                }
            }
        }
    };
    within("rounds of five channels", 30, rounds).await;
    eventually("neither client nor broker has a channel", 10, async || {
        let running = actors.iter().filter(|actor| actor.upgrade().is_some()).count();
        (running == 0 && vhost.channels().await.is_empty()).then_some(())
    })
    .await;
}

/// CH-14: 500 one after the other, then 800 in eight tasks.
#[actix::test]
async fn many_channels_open_and_close() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, connect(vhost.url())).await.unwrap();
    let open_and_close = async |n: usize| {
        for _ in 0..n {
            connection.channel_with(OpenChannel::new().confirms(false)).await?.close().await?;
        }
        Ok::<_, Error>(())
    };
    within("one after the other", 30, open_and_close(500)).await.unwrap();
    let results = within("eight tasks", 30, join_all((0..8).map(|_| open_and_close(100)))).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(connection.channel().await.unwrap().number(), 1);
}

/// LEAK-02
#[actix::test]
async fn closing_a_connection_ends_its_channels() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, connect(vhost.url())).await.unwrap();
    let channels = join_all((0..5).map(|_| connection.channel())).await;
    within("close", 10, connection.close()).await.unwrap();
    let actors: Vec<_> = channels.iter().flatten().map(|channel| channel.actor().downgrade()).collect();
    assert_eq!(actors.len(), 5);
    assert!(channels.into_iter().all(|channel| channel.unwrap().is_closed()));
    eventually("no Channel actor", 5, async || {
        actors.iter().all(|actor| actor.upgrade().is_none()).then_some(())
    })
    .await;
    eventually("no channel at the broker", 10, async || {
        let (channels, connections) = (vhost.channels().await, vhost.connections().await);
        (channels.is_empty() && connections.is_empty()).then_some(())
    })
    .await;
}

/// The deadline limits each call, not the channel.
#[actix::test]
async fn a_channel_stays_open_beyond_its_deadline() {
    let vhost = Vhost::fresh().await;
    let connection = within("connect", 10, connect(vhost.url())).await.unwrap();
    // Long enough for a broker under load.
    let options = OpenChannel::new().deadline(Duration::from_secs(1));
    let channel = connection.channel_with(options).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    channel.declare_queue("jobs").await.unwrap();
    channel.default_exchange().publish("x", "jobs").await.unwrap();
}
