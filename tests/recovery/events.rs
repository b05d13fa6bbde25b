//! Events of connections and channels over a recovery and at the final close.

use std::time::Duration;

use actix_pika::{
    ChannelEvent, ConnectionEvent, Consume, ConsumerEnd, Delivery, ErrorKind, OpenChannel, Recovery,
    events::ConnectionState, testing::Probe,
};
use futures_util::{FutureExt, StreamExt};

use crate::support::{robust_connection::RobustConnection, within};

fn is_recovered(event: &ConnectionEvent) -> bool {
    matches!(event, ConnectionEvent::Recovered { .. })
}

/// REC-01, REC-04: two actors and two streams of the connection, and two of each channel, receive each loss and
/// recovery once; an actor that watches twice counts as one. The streams of a channel end when it is closed, and all
/// streams end when the connection is closed.
#[actix::test]
async fn every_watcher_receives_each_loss_and_recovery_once() {
    let mut robust = RobustConnection::connect().await;
    let connection = robust.connection.clone();
    let mut of_connection = [Probe::<ConnectionEvent>::start(), Probe::start()];
    for probe in of_connection.iter().chain(&of_connection) {
        connection.watch(probe.recipient());
    }
    let mut channels = Vec::new();
    for _ in 0..2 {
        let channel = robust.channel().await;
        let probes = [Probe::<ChannelEvent>::start(), Probe::start()];
        for probe in probes.iter().chain(&probes) {
            channel.watch(probe.recipient());
        }
        let streams = [channel.events(), channel.events()];
        channels.push((channel, probes, streams));
    }
    let mut other_events = connection.events();
    for (channel, ..) in &channels {
        within("a call", 10, channel.set_qos(1)).await.unwrap();
    }
    for probe in &mut of_connection {
        let events = probe.drain().await;
        assert!(!events.iter().any(is_recovered), "no recovery at the first connect: {events:?}");
    }
    for round in 0..2 {
        robust.cut_and_recover().await;
        for probe in &mut of_connection {
            let lost = probe.next_matching(|event| matches!(event, ConnectionEvent::Lost(_))).await.unwrap();
            assert!(matches!(lost, ConnectionEvent::Lost(error) if error.kind() == ErrorKind::Io));
            probe.next_matching(is_recovered).await.unwrap();
            let rest = probe.drain().await;
            assert!(rest.iter().all(|event| matches!(event, ConnectionEvent::Health(_))), "{rest:?}");
        }
        let mut received = Vec::new();
        while !received.last().is_some_and(is_recovered) {
            received.push(within("an event", 10, other_events.next()).await.unwrap());
        }
        let losses = received.iter().filter(|event| matches!(event, ConnectionEvent::Lost(_)));
        assert_eq!(losses.count(), 1, "round {round}: {received:?}");
        for (_, probes, streams) in &mut channels {
            let mut received = Vec::new();
            for probe in probes {
                received.push(probe.next().await.unwrap());
                assert!(probe.drain().await.is_empty());
            }
            for stream in streams {
                received.push(within("an event", 10, stream.next()).await.unwrap());
                assert!(stream.next().now_or_never().is_none());
            }
            for event in received {
                let ChannelEvent::Reopened(cause) = event else { panic!("{event:?}") };
                assert_eq!(cause.kind(), ErrorKind::ConnectionClosed);
            }
        }
    }
    for (at, (channel, mut probes, streams)) in channels.into_iter().enumerate() {
        match at {
            0 => within("close", 10, channel.close()).await.unwrap(),
            _ => within("close", 10, connection.close()).await.unwrap(),
        }
        for stream in streams {
            let rest: Vec<_> = within("the end of a stream", 10, stream.collect()).await;
            assert!(matches!(rest[..], [ChannelEvent::Closed(_)]), "{rest:?}");
        }
        for probe in &mut probes {
            assert!(matches!(probe.next().await.unwrap(), ChannelEvent::Closed(_)));
            assert!(probe.drain().await.is_empty());
        }
    }
    for stream in [robust.events, other_events] {
        let rest: Vec<_> = within("the end of a stream", 10, stream.collect()).await;
        let closed = rest.iter().filter(|event| matches!(event, ConnectionEvent::Closed(None)));
        assert_eq!(closed.count(), 1, "{rest:?}");
        assert!(matches!(rest.last(), Some(ConnectionEvent::Closed(None))), "{rest:?}");
    }
    for probe in &mut of_connection {
        probe.next_matching(|event| matches!(event, ConnectionEvent::Closed(None))).await.unwrap();
        assert!(probe.drain().await.is_empty());
    }
}

/// REC-08: after each of two recoveries, confirms and returns still reach their publishes on a channel with confirms,
/// and returns the watchers on a channel without.
#[actix::test]
async fn returns_and_confirms_work_after_a_recovery() {
    let mut robust = RobustConnection::connect().await;
    let confirming = robust.channel().await;
    let plain = robust.connection.channel_with(OpenChannel::new().confirms(false)).await.unwrap();
    confirming.declare_queue("jobs").await.unwrap();
    let mut returns = Probe::<ChannelEvent>::start();
    plain.watch(returns.recipient());
    let mut stream = plain.events();
    for round in 0..3_u64 {
        if round > 0 {
            robust.cut_and_recover().await;
            assert!(matches!(returns.next().await.unwrap(), ChannelEvent::Reopened(_)));
            assert!(matches!(stream.next().await.unwrap(), ChannelEvent::Reopened(_)));
        }
        let exchange = confirming.default_exchange();
        let confirmed = within("a confirm", 10, exchange.publish("x", "jobs")).await.unwrap();
        assert_eq!(confirmed.sequence(), Some(2 * round + 1));
        let error =
            within("a return", 10, exchange.publish(format!("{round}"), "nowhere")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unroutable);
        assert_eq!(error.returned().unwrap().body, format!("{round}").as_bytes());
        plain.default_exchange().publish(format!("plain {round}"), "nowhere").await.unwrap();
        let returned = [returns.next().await.unwrap(), within("a return", 10, stream.next()).await.unwrap()];
        for event in returned {
            let ChannelEvent::Returned(returned) = event else { panic!("{event:?}") };
            assert_eq!((returned.code, returned.routing_key.as_str()), (312, "nowhere"));
            assert_eq!(returned.body, format!("plain {round}").as_bytes());
        }
    }
    let load = confirming.load();
    assert_eq!((load.unconfirmed, load.waiting), (0, 0));
    assert_eq!(robust.oracle().await.count("jobs").await, 3);
}

/// REC-23: when the attempts of the recovery policy are used up, the connection is closed: each watcher receives
/// `Closed` with the cause once, streams end, and waiting and later calls fail.
#[actix::test]
async fn exhausted_attempts_close_the_connection() {
    let recovery = Recovery::fixed(Duration::from_millis(20)).attempts(2);
    let mut robust = RobustConnection::connect_with(|connector| connector.recovery(recovery)).await;
    let connection = robust.connection.clone();
    let channel = robust.channel().await;
    let queue = channel.declare_queue("jobs").await.unwrap();
    let mut of_connection = Probe::<ConnectionEvent>::start();
    let mut of_channel = Probe::<ChannelEvent>::start();
    for _ in 0..2 {
        connection.watch(of_connection.recipient());
        channel.watch(of_channel.recipient());
    }
    let events = channel.events();
    let mut deliveries = queue.deliveries().await.unwrap();
    let (target, mut ends) = (Probe::<Delivery>::start(), Probe::<ConsumerEnd>::start());
    let options = Consume::new().watch(ends.recipient());
    let consumer = queue.consume_with(options, target.recipient()).await.unwrap();
    robust.disconnect().await;
    let exchange = channel.default_exchange();
    let waiting = async { futures_util::join!(exchange.publish("x", "jobs"), channel.set_qos(1)) };
    let (published, called) = within("the waiting calls", 20, waiting).await;
    assert_eq!(published.unwrap_err().kind(), ErrorKind::ConnectionClosed);
    assert_eq!(called.unwrap_err().kind(), ErrorKind::ConnectionClosed);
    let cause = within("the end", 10, connection.closed()).await.unwrap_err();
    assert_eq!(cause.kind(), ErrorKind::Io);
    assert!(
        matches!(connection.state(), ConnectionState::Closed(Some(error)) if error.kind() == cause.kind())
    );

    let rest: Vec<_> = within("the end of the events", 10, robust.events.collect()).await;
    let watched = of_connection.drain().await;
    for (received, losses) in [(rest, 0), (watched, 1)] {
        let count =
            |which: fn(&ConnectionEvent) -> bool| received.iter().filter(|event| which(event)).count();
        assert_eq!(count(|event| matches!(event, ConnectionEvent::Lost(_))), losses, "{received:?}");
        assert_eq!(
            count(|event| matches!(event, ConnectionEvent::Retrying { attempt: 1, .. })),
            1,
            "{received:?}"
        );
        assert_eq!(
            count(|event| matches!(event, ConnectionEvent::Retrying { attempt: 2, .. })),
            1,
            "{received:?}"
        );
        assert_eq!(count(|event| matches!(event, ConnectionEvent::Retrying { .. })), 2, "{received:?}");
        assert_eq!(count(|event| matches!(event, ConnectionEvent::Closed(_))), 1, "{received:?}");
        let Some(ConnectionEvent::Closed(Some(error))) = received.last() else { panic!("{received:?}") };
        assert_eq!(error.kind(), ErrorKind::Io);
    }
    let rest: Vec<_> = within("the end of the events", 10, events.collect()).await;
    for received in [rest, of_channel.drain().await] {
        let [ChannelEvent::Closed(Some(error))] = &received[..] else { panic!("{received:?}") };
        assert_eq!(error.kind(), ErrorKind::ConnectionClosed);
    }
    assert!(within("the end of the stream", 10, deliveries.next()).await.is_none());
    let end = ends.next().await.unwrap();
    assert!(matches!(end, ConsumerEnd::Closed(error) if error.kind() == ErrorKind::ConnectionClosed));
    assert!(ends.drain().await.is_empty() && consumer.end().is_some());

    // A later watcher receives `Closed` at once.
    let mut late = Probe::<ConnectionEvent>::start();
    connection.watch(late.recipient());
    assert!(matches!(late.next().await.unwrap(), ConnectionEvent::Closed(Some(_))));
    for _ in 0..2 {
        let errors = [
            connection.channel().await.map(drop).unwrap_err(),
            channel.declare_queue("late").await.map(drop).unwrap_err(),
            channel.default_exchange().publish("x", "jobs").await.map(drop).unwrap_err(),
            queue.consume(target.recipient()).await.map(drop).unwrap_err(),
        ];
        assert_eq!(errors.map(|error| error.kind()), [ErrorKind::ConnectionClosed; 4]);
    }
    assert_eq!(robust.proxy.accepted_count(), 1, "the proxy refused all later ones");
    within("close", 5, connection.close()).await.unwrap();
    within("close", 5, channel.close()).await.unwrap();
    assert!(of_connection.drain().await.is_empty() && late.drain().await.is_empty());
}

/// REC-43: `ready` waits over an outage until channels and consumers work again.
#[actix::test]
async fn a_connection_is_ready_after_its_recovery() {
    let mut robust = RobustConnection::connect().await;
    within("ready", 5, robust.connection.ready()).await.unwrap();
    let channel = robust.channel().await;
    channel.declare_queue("jobs").await.unwrap();
    robust.disconnect().await;
    let short = robust.connection.ready_within(Duration::from_millis(50));
    let error = within("the limit", 5, short).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Timeout, true), "{error}");
    assert!(error.io_kind().is_some(), "{error:?} has no cause");
    robust.proxy.accept_new().await;
    within("ready", 20, robust.connection.ready()).await.unwrap();
    assert!(robust.connection.health().await.unwrap().is_up());
    within("a publish", 10, channel.default_exchange().publish("work", "jobs")).await.unwrap();
    within("close", 10, robust.connection.close()).await.unwrap();
    let error = within("the end", 5, robust.connection.ready()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionClosed);
}
