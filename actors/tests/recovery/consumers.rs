//! When `Recovered` is sent, and what happens to consumers and waiting calls over a reconnect.

use std::time::Duration;

use actix_pika_actors::{
    ChannelEvent, ConnectionEvent, Consume, ConsumerEnd, DeclareQueue, Degradation, EntityKind, ErrorKind,
    GetHealth, Health, OpenChannel, WatchChannel, WatchConnection,
    testing::{
        GetRecordCounts, Probe,
        protocol::{basic, channel as methods, confirm, queue},
    },
};

use super::common::{
    TAG, answer_consume, ask, at_once,
    recovery::{RecoveryBench, publish},
};

/// The channel that the library declares topology on.
const UTILITY: u16 = 2047;

async fn declare_ok(test: &mut RecoveryBench, channel: u16, name: &str) {
    let ok = |declare: queue::Declare| queue::DeclareOk { queue: declare.queue, ..Default::default() };
    assert_eq!(test.bench.socket.answer(channel, ok).await.unwrap().queue.as_str(), name);
}

async fn close_ok(test: &mut RecoveryBench, channel: u16) {
    test.bench.socket.answer(channel, |_: methods::Close| methods::CloseOk {}).await.unwrap();
}

/// Returns whether `Recovered` was sent, once the supervisor has handled its messages.
async fn is_recovered(test: &RecoveryBench, events: &mut Probe<ConnectionEvent>) -> bool {
    at_once("a health", test.bench.client.supervisor.send(GetHealth)).await.unwrap();
    events.drain().await.iter().any(|event| matches!(event, ConnectionEvent::Recovered { .. }))
}

/// REC-01: `Recovered` is not sent for the first connection. For a later one it is sent after topology, channels and
/// consumers, once per watcher.
#[actix::test]
async fn recovered_is_sent_last_and_once() {
    let mut test = RecoveryBench::start().await;
    let mut events = Probe::<ConnectionEvent>::start();
    for _ in 0..2 {
        test.bench.client.supervisor.send(WatchConnection(events.recipient())).await.unwrap();
    }
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let declare = ask(&channel.actor, DeclareQueue::new("jobs"));
    declare_ok(&mut test, 1, "jobs").await;
    declare.answer().await.unwrap();
    let _deliveries = test.bench.consume(&channel).await;
    assert!(!is_recovered(&test, &mut events).await);
    for _ in 0..2 {
        test.disconnect().await;
        test.reconnect().await;
        test.bench.socket.open_channel(UTILITY).await.unwrap();
        assert!(!is_recovered(&test, &mut events).await, "before the topology");
        declare_ok(&mut test, UTILITY, "jobs").await;
        close_ok(&mut test, UTILITY).await;
        test.bench.socket.open_channel(1).await.unwrap();
        assert!(!is_recovered(&test, &mut events).await, "before the consumer");
        answer_consume(&mut test.bench.socket, 1).await;
        test.bench.socket.expect::<confirm::Select>(1).await.unwrap();
        assert!(!is_recovered(&test, &mut events).await, "before the confirms");
        test.bench.socket.send(1, confirm::SelectOk {}).await.unwrap();
        test.recovered().await;
        at_once("a health", test.bench.client.supervisor.send(GetHealth)).await.unwrap();
        let sent = events.drain().await;
        let recovered = sent.iter().filter(|event| matches!(event, ConnectionEvent::Recovered { .. }));
        assert_eq!(recovered.count(), 1, "{sent:?}");
    }
}

/// Design 7.2: a call that waited for the connection has the rest of its deadline for its reply; a call made after the
/// reconnect has all of it.
#[actix::test]
async fn a_call_that_waited_has_the_rest_of_its_deadline() {
    let mut test = RecoveryBench::start().await;
    let options = |millis| OpenChannel::new().confirms(false).deadline(Duration::from_millis(millis));
    let channel = test.bench.channel(1, options(1200)).await;
    let clock = test.bench.channel(2, options(600)).await;
    test.disconnect().await;
    let waited = ask(&channel.actor, DeclareQueue::new("waited"));
    let half = ask(&clock.actor, DeclareQueue::new("half"));
    assert_eq!(half.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    test.reconnect().await;
    test.bench.socket.open_channel(1).await.unwrap();
    test.bench.socket.open_channel(2).await.unwrap();
    test.bench.socket.expect::<queue::Declare>(1).await.unwrap();
    let fresh = ask(&channel.actor, DeclareQueue::new("fresh"));
    test.bench.socket.expect::<queue::Declare>(1).await.unwrap();
    let error = waited.answer().await.unwrap_err();
    assert_eq!((error.kind(), error.entity()), (ErrorKind::Timeout, Some("waited")));
    // Replies sent together with it have arrived by then.
    test.bench.round_trip(&clock).await;
    assert!(!fresh.is_answered());
    assert_eq!(fresh.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
}

/// Design 13.3: an auto-delete queue may be deleted with the dead connection after it was redeclared. Its consumer is
/// reported as missing then, and repaired right afterwards.
#[actix::test]
async fn a_queue_that_vanishes_after_its_declare_is_repaired() {
    let (mut test, channel) = RecoveryBench::with_channel().await;
    let mut changes = Probe::<ChannelEvent>::start();
    channel.actor.send(WatchChannel(changes.recipient())).await.unwrap();
    let declare = ask(&channel.actor, DeclareQueue::new("jobs").auto_delete(true));
    declare_ok(&mut test, 1, "jobs").await;
    declare.answer().await.unwrap();
    let mut deliveries = test.bench.consume(&channel).await;
    test.disconnect().await;
    test.reconnect().await;
    test.bench.socket.open_channel(UTILITY).await.unwrap();
    declare_ok(&mut test, UTILITY, "jobs").await;
    close_ok(&mut test, UTILITY).await;
    test.bench.socket.open_channel(1).await.unwrap();
    test.bench.socket.answer(1, |_: basic::Qos| basic::QosOk {}).await.unwrap();
    test.bench.socket.expect::<basic::Consume>(1).await.unwrap();
    test.bench.socket.expect::<confirm::Select>(1).await.unwrap();
    let gone = "NOT_FOUND - no queue 'jobs' in vhost '/'";
    test.bench.socket.close_channel(1, 404, gone, 60, 20).await.unwrap();
    test.reopen_channel(1).await;
    let skipped = loop {
        if let ConnectionEvent::Recovered { skipped, .. } = test.events.next().await.unwrap() {
            break skipped;
        }
    };
    let [one] = &skipped[..] else { panic!("{skipped:?}") };
    assert_eq!((one.kind, one.name.as_str()), (EntityKind::Consumer, TAG));
    assert_eq!(one.error.close_reason().unwrap().code, 404);
    let health = test.bench.client.supervisor.send(GetHealth).await.unwrap();
    let Health::Degraded(why) = health else { panic!("{health:?}") };
    assert!(matches!(&why[..], [Degradation::Missing(missing)] if missing.name == TAG), "{why:?}");

    test.bench.socket.open_channel(UTILITY).await.unwrap();
    declare_ok(&mut test, UTILITY, "jobs").await;
    answer_consume(&mut test.bench.socket, UTILITY).await;
    let cancel_ok = |cancel: basic::Cancel| basic::CancelOk { consumer_tag: cancel.consumer_tag };
    test.bench.socket.answer(UTILITY, cancel_ok).await.unwrap();
    // The queue was deleted with the trial consumer.
    declare_ok(&mut test, UTILITY, "jobs").await;
    close_ok(&mut test, UTILITY).await;
    answer_consume(&mut test.bench.socket, 1).await;
    assert!(matches!(changes.next().await.unwrap(), ChannelEvent::Reopened(_)));
    let recovered = changes.next().await.unwrap();
    assert!(matches!(&recovered, ChannelEvent::ConsumerRecovered { tag } if **tag == *TAG), "{recovered:?}");
    assert!(test.bench.client.supervisor.send(GetHealth).await.unwrap().is_up());
    test.bench.socket.deliver(1, TAG, 1, "x").await.unwrap();
    deliveries.next().await.unwrap().ack().unwrap();
    test.bench.socket.expect::<basic::Ack>(1).await.unwrap();
    let kept = publish(&channel, "kept").await;
    test.expect_publishes(&["kept"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    kept.answer().await.unwrap();
    let records = test.bench.client.supervisor.send(GetRecordCounts).await.unwrap();
    assert_eq!((records.queues, records.consumers), (1, 1));
}

/// Design 7.8: a consumer with `robust(false)` starts again when the broker closed only its channel. If the broker
/// refuses it then, it is lost, with the reason that the broker gave.
#[actix::test]
async fn a_non_robust_consumer_that_is_refused_is_lost() {
    let (mut test, channel) = RecoveryBench::with_channel().await;
    let mut changes = Probe::<ChannelEvent>::start();
    channel.actor.send(WatchChannel(changes.recipient())).await.unwrap();
    let mut deliveries = test.bench.consume_as(&channel, Consume::new().tag(TAG).robust(false)).await;
    for refused in [false, true] {
        let look = ask(&channel.actor, DeclareQueue::existing("missing"));
        test.bench.socket.expect::<queue::Declare>(1).await.unwrap();
        test.bench.socket.close_channel(1, 404, "NOT_FOUND - no queue 'missing'", 50, 10).await.unwrap();
        assert_eq!(look.answer().await.unwrap_err().kind(), ErrorKind::Refused);
        test.bench.socket.open_channel(1).await.unwrap();
        if !refused {
            answer_consume(&mut test.bench.socket, 1).await;
            test.bench.socket.answer(1, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
            assert!(matches!(changes.next().await.unwrap(), ChannelEvent::Reopened(_)));
            continue;
        }
        test.bench.socket.answer(1, |_: basic::Qos| basic::QosOk {}).await.unwrap();
        test.bench.socket.expect::<basic::Consume>(1).await.unwrap();
        test.bench.socket.expect::<confirm::Select>(1).await.unwrap();
        let gone = "NOT_FOUND - no queue 'jobs' in vhost '/'";
        test.bench.socket.close_channel(1, 404, gone, 60, 20).await.unwrap();
        test.reopen_channel(1).await;
        assert!(matches!(changes.next().await.unwrap(), ChannelEvent::Reopened(_)));
        let ChannelEvent::ConsumerLost { tag, end } = changes.next().await.unwrap() else {
            panic!("not lost")
        };
        let ConsumerEnd::Closed(error) = end else { panic!("{end:?}") };
        assert_eq!((&*tag, error.close_reason().unwrap().code), (TAG, 404));
        let error = deliveries.closed().await;
        assert_eq!(error.close_reason().map(|reason| reason.code), Some(404), "{error}");
    }
    test.bench.round_trip(&channel).await;
}
