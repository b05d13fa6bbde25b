//! Channels that the broker closes because of a publish or a call, on a robust connection.

use std::{collections::HashSet, time::Duration};

use actix_pika::{
    Channel, ChannelEvent, Connector, Consume, DeclareExchange, Delivery, ErrorKind, Exchange, OpenChannel,
    Publishing, Recovery, events::Health, testing::Probe,
};
use futures_util::{StreamExt, future::join_all};
use lapin::{ExchangeKind, options::ExchangeDeleteOptions};

use crate::support::{
    broker::Vhost, eventually, oracle::Oracle, robust_connection::RobustConnection, take, within,
};

async fn delete_exchange(oracle: &Oracle, name: &str) {
    oracle.channel().exchange_delete(name.into(), ExchangeDeleteOptions::default()).await.unwrap();
}

/// Declares a fanout exchange and a queue that is bound to it, both by another client.
async fn bound_exchange(oracle: &Oracle, name: &str) {
    oracle.declare_exchange(name, ExchangeKind::Fanout).await;
    oracle.declare_queue(name).await;
    oracle.bind(name, name, "").await;
}

/// Publishes one after the other; returns the reply codes of those that failed.
async fn failures(exchange: &Exchange, publishes: usize) -> Vec<Option<u16>> {
    let mut codes = Vec::new();
    for _ in 0..publishes {
        if let Err(error) = within("an answer", 30, exchange.publish("m", "")).await {
            codes.push(error.code());
        }
    }
    codes
}

/// A channel and its events, beside the exchanges "x" and "y", which another client has declared.
struct Test {
    robust: RobustConnection,
    oracle: Oracle,
    channel: Channel,
    events: Probe<ChannelEvent>,
    x: Exchange,
    y: Exchange,
}

impl Test {
    async fn start() -> Self {
        let robust = RobustConnection::connect().await;
        let oracle = robust.oracle().await;
        for name in ["x", "y"] {
            bound_exchange(&oracle, name).await;
        }
        let channel = robust.channel().await;
        let events = Probe::<ChannelEvent>::start();
        channel.watch(events.recipient());
        let (x, y) = (channel.exchange("x"), channel.exchange("y"));
        Self { robust, oracle, channel, events, x, y }
    }

    /// Returns how often the channel was reopened.
    async fn reopened(&mut self) -> usize {
        let events = self.events.drain().await;
        events.iter().filter(|event| matches!(event, ChannelEvent::Reopened(_))).count()
    }
}

/// CH-31: a publish to a missing exchange gets the 404; publishes beside it are confirmed, and the channel stays open.
#[actix::test]
async fn a_wrong_publish_does_not_fail_its_neighbours() {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    channel.declare_queue("shared").await.unwrap();
    let (missing, exchange) = (channel.exchange("missing"), channel.default_exchange());
    for round in 0..8 {
        let good = join_all((0..10).map(|n| exchange.publish(format!("{round}.{n}"), "shared")));
        let both = async { tokio::join!(missing.publish("wrong", "k"), good) };
        let (wrong, good) = within("the answers", 20, both).await;
        let error = wrong.unwrap_err();
        assert_eq!((error.code(), error.is_retryable()), (Some(404), false), "{round}: {error}");
        let failed: Vec<_> = good.into_iter().filter_map(Result::err).collect();
        assert!(failed.is_empty(), "{round}: {failed:?}");
    }
    assert!(!channel.is_closed());
    within("a publish", 10, exchange.publish("last", "shared")).await.unwrap();
}

/// CH-31: six tasks share one channel: two publish to exchanges that do not exist, one under the name of another user, and
/// three publish what is right.
#[actix::test]
async fn six_tasks_share_one_channel() {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    channel.declare_queue("shared").await.unwrap();
    let wrong = |name: &'static str| {
        let exchange = channel.exchange(name);
        async move {
            for n in 0..3 {
                let error = exchange.publish("wrong", "k").await.unwrap_err();
                assert_eq!((error.code(), error.is_retryable()), (Some(404), false), "{n}: {error}");
                assert_eq!(error.entity(), Some(name));
            }
        }
    };
    let other_code = {
        let exchange = channel.default_exchange();
        async move {
            for n in 0..3 {
                let content = Publishing::new("wrong").user_id("somebody else");
                let error = exchange.publish(content, "shared").await.unwrap_err();
                assert_eq!((error.code(), error.is_retryable()), (Some(406), false), "{n}: {error}");
            }
        }
    };
    let right = |task: usize| {
        let exchange = channel.default_exchange();
        async move {
            for n in 0..100 {
                exchange.publish(format!("{task}.{n}"), "shared").await.unwrap();
            }
        }
    };
    let wrongs = async { tokio::join!(wrong("one"), wrong("two"), other_code) };
    within("six tasks", 60, async { tokio::join!(wrongs, right(0), right(1), right(2)) }).await;
    let oracle = robust.oracle().await;
    eventually("all messages", 10, async || (oracle.count("shared").await >= 300).then_some(())).await;
    assert!(!channel.is_closed());
}

/// CH-39: wrong publishes close the channel of a busy consumer again and again. What RabbitMQ had under way for it at each
/// close is not taken for deliveries of the next channel, whose tags count from 1 again.
#[actix::test]
async fn a_busy_consumer_goes_on_beside_wrong_publishes() {
    const MESSAGES: usize = 600;
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let mut events = Probe::<ChannelEvent>::start();
    channel.watch(events.recipient());
    let queue = channel.declare_queue("shared").await.unwrap();
    let mut deliveries = queue.deliveries_with(Consume::new().prefetch(100)).await.unwrap();
    let exchange = channel.default_exchange();
    let publishes = async {
        for n in 0..MESSAGES / 20 {
            let right = join_all((0..20).map(|m| exchange.publish(format!("{}", n * 20 + m), "shared")));
            let missing = channel.exchange(&format!("missing {n}"));
            let (right, wrong) = tokio::join!(right, missing.publish("wrong", "k"));
            assert_eq!(wrong.unwrap_err().code(), Some(404));
            right.into_iter().for_each(|confirmed| assert!(confirmed.unwrap().is_confirmed()));
        }
    };
    let consumer = async {
        let mut seen = HashSet::new();
        while seen.len() < MESSAGES {
            let delivery = deliveries.next().await.expect("a delivery");
            seen.insert(delivery.body().to_vec());
            // Fails if the channel was closed meanwhile: the message comes again.
            delivery.ack().ok();
        }
    };
    within("all messages", 60, async { tokio::join!(publishes, consumer) }).await;
    assert_eq!(robust.connection.counters().reconnects, 0);
    let causes: Vec<_> = events
        .drain()
        .await
        .into_iter()
        .filter_map(|event| match event {
            ChannelEvent::Reopened(cause) => Some(cause),
            _ => None,
        })
        .collect();
    assert!(causes.iter().all(|cause| cause.code() == Some(404)), "{causes:?}");
}

/// PUB-38: a missing exchange fails its own publishes with 404, no others, and closes the channel once at most.
#[actix::test]
async fn a_missing_exchange_fails_its_own_publishes_only() {
    let mut test = Test::start().await;
    within("a publish", 10, test.x.publish("m", "")).await.unwrap();
    delete_exchange(&test.oracle, "x").await;
    let (missing, present) = tokio::join!(failures(&test.x, 1000), failures(&test.y, 1000));
    assert_eq!(present, []);
    assert_eq!(missing, [Some(404); 1000]);
    assert!(!test.channel.is_closed());
    assert!(test.reopened().await <= 1);
}

/// PUB-38: publishes succeed again once somebody else has declared the exchange again.
#[actix::test]
async fn publishes_succeed_again_when_the_exchange_is_back() {
    let test = Test::start().await;
    delete_exchange(&test.oracle, "x").await;
    assert_eq!(failures(&test.x, 8).await, [Some(404); 8]);
    bound_exchange(&test.oracle, "x").await;
    eventually("a publish that succeeds", 15, async || test.x.publish("m", "").await.ok()).await;
    assert!(!test.channel.is_closed());
}

/// PUB-38: publishes succeed at once when this application declares the exchange, on whatever channel.
#[actix::test]
async fn a_publish_behind_the_declare_of_its_exchange_succeeds() {
    let robust = RobustConnection::connect().await;
    let (channel, other) = (robust.channel().await, robust.channel().await);
    let exchange = channel.exchange("later");
    for n in 0..3 {
        assert_eq!(failures(&exchange, 1).await, [Some(404)]);
        let declare = DeclareExchange::fanout("later").robust(n == 0);
        other.declare_exchange(declare).await.unwrap();
        let publish = exchange.publish(Publishing::new("m").mandatory(false), "").await;
        publish.unwrap_or_else(|error| panic!("{n}: {error}"));
        other.exchange("later").delete().await.unwrap();
    }
}

/// PUB-38: an exchange that this connection declared is declared and bound again when somebody else deletes it.
#[actix::test]
async fn a_recorded_exchange_that_is_deleted_is_declared_again() {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let exchange = channel.declare_exchange(DeclareExchange::fanout("x")).await.unwrap();
    channel.declare_queue("x").await.unwrap().bind("x", "").await.unwrap();
    let oracle = robust.oracle().await;
    delete_exchange(&oracle, "x").await;
    eventually("a publish that succeeds", 15, async || exchange.publish("m", "").await.ok()).await;
    oracle.wait_for_count("x", 1).await;
    assert!(!channel.is_closed());
}

/// PUB-38: publishes that were queued for an exchange that is gone after the reconnect close the channel once, and what
/// was queued beside them is sent.
#[actix::test]
async fn publishes_queued_for_a_missing_exchange_close_the_channel_once() {
    let mut test = Test::start().await;
    test.robust.disconnect().await;
    delete_exchange(&test.oracle, "x").await;
    let exchanges = [&test.x, &test.y].into_iter().cycle();
    let all = join_all(exchanges.take(40).map(|exchange| exchange.publish("m", "")));
    let answers = async { tokio::join!(all, test.robust.proxy.accept_new()).0 };
    let answers = within("the answers", 30, answers).await;
    for (n, answer) in answers.into_iter().enumerate() {
        let code = answer.map(drop).map_err(|error| error.code());
        assert_eq!(code, if n % 2 == 0 { Err(Some(404)) } else { Ok(()) }, "{n}");
    }
    test.oracle.wait_for_count("y", 20).await;
    assert_eq!(test.reopened().await, 2, "after the reconnect and after the 404");
}

/// PUB-38: publishes to a missing exchange do not end a consumer of the same channel.
#[actix::test]
async fn publishes_to_a_missing_exchange_do_not_end_the_consumer_beside_them() {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("jobs").await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    let consumer = queue.consume(probe.recipient()).await.unwrap();
    let missing = channel.exchange("missing");
    for attempt in 0..10 {
        let error = within("an answer", 10, missing.publish("lost", "k")).await.unwrap_err();
        assert_eq!(error.code(), Some(404), "{attempt}: {error}");
    }
    assert!(!channel.is_closed());
    assert!(consumer.end().is_none());
    within("a publish", 10, channel.default_exchange().publish("work", "jobs")).await.unwrap();
    within("the delivery", 10, take(&mut probe, 1)).await.remove(0).ack().unwrap();
}

/// CH-41: a publish to a missing exchange is under way when its channel is closed: both have the 404.
#[actix::test]
async fn a_close_behind_a_refused_publish_has_its_cause() {
    let robust = RobustConnection::connect().await;
    for options in [OpenChannel::new(), OpenChannel::new().deadline(Duration::from_secs(5))] {
        let channel = robust.connection.channel_with(options).await.unwrap();
        let missing = channel.exchange("missing");
        let both = async { tokio::join!(missing.publish("wrong", "k"), channel.close()) };
        let (publish, close) = within("the answers", 10, both).await;
        let error = publish.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(404)), "{error}");
        if let Err(error) = close {
            assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(404)), "{error}");
        }
    }
}

/// PUB-48: an exchange that this user may not declare again, and that somebody else does: publishes go to it.
#[actix::test]
async fn publishes_go_to_an_exchange_that_only_others_can_declare_again() {
    let vhost = Vhost::fresh().await;
    let user = vhost.create_user("secret").await;
    vhost.permit(&user, ".*", ".*", ".*").await;
    let connector = Connector::new(&vhost.url_as(&user, "secret")).unwrap().recovery(Recovery::default());
    let connection = within("connect", 10, connector.connect()).await.unwrap();
    let channel = connection.channel().await.unwrap();
    let exchange = channel.declare_exchange(DeclareExchange::fanout("x")).await.unwrap();
    let oracle = Oracle::connect(&vhost.url()).await;
    vhost.permit(&user, "^$", ".*", ".*").await;
    delete_exchange(&oracle, "x").await;
    assert_eq!(failures(&exchange, 1).await, [Some(404)]);
    eventually("the refusal", 10, async || {
        let missing = connection.missing().await.unwrap();
        missing.iter().any(|one| one.error.code() == Some(403)).then_some(())
    })
    .await;
    bound_exchange(&oracle, "x").await;
    eventually("a publish", 20, async || exchange.publish("m", "").await.ok()).await;
    assert!(!channel.is_closed() && !connection.health().await.unwrap().is_up());
}

/// PUB-49: a queue that somebody deletes under publishes through the default exchange is declared again.
#[actix::test]
async fn a_queue_to_which_publishes_come_back_is_declared_again() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    channel.declare_queue("jobs").await.unwrap();
    let oracle = robust.oracle().await;
    for _ in 0..3 {
        oracle.channel().queue_delete("jobs".into(), Default::default()).await.unwrap();
        let error =
            within("an answer", 10, channel.default_exchange().publish("m", "jobs")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unroutable, "{error}");
        eventually("the queue", 20, async || oracle.queue_counts("jobs").await).await;
        within("a publish", 10, channel.default_exchange().publish("m", "jobs")).await.unwrap();
        robust.wait_for_health(Health::is_up).await;
    }
    assert!(!channel.is_closed());
}
