//! What a connection that comes back says when, and what becomes of consumers and calls that waited.

#![allow(missing_docs, unreachable_pub, dead_code)]

mod common;

use std::time::Duration;

use actix_pika_actors::{
    ChannelEvent, ConnectionEvent, Consume, ConsumerEnd, DeclareQueue, Degradation, EntityKind, ErrorKind,
    GetHealth, Health, OpenChannel, WatchChannel, WatchConnection,
    testing::{
        GetRecordCounts, Probe,
        protocol::{basic, channel as methods, confirm, queue},
    },
};

use self::common::{
    TAG, answer_consume, ask, at_once,
    lives::{Lives, publish},
};

/// The channel that topology is declared on.
const SCRATCH: u16 = 2047;

async fn declare_ok(lives: &mut Lives, channel: u16, name: &str) {
    let ok = |declare: queue::Declare| queue::DeclareOk { queue: declare.queue, ..Default::default() };
    assert_eq!(lives.bench.socket.answer(channel, ok).await.unwrap().queue.as_str(), name);
}

async fn close_ok(lives: &mut Lives, channel: u16) {
    lives.bench.socket.answer(channel, |_: methods::Close| methods::CloseOk {}).await.unwrap();
}

/// Tells whether it was said that all is as before; the supervisor has read what it had to read.
async fn is_restored(lives: &Lives, events: &mut Probe<ConnectionEvent>) -> bool {
    at_once("a health", lives.bench.client.supervisor.send(GetHealth)).await.unwrap();
    events.drain().await.iter().any(|event| matches!(event, ConnectionEvent::Recovered { .. }))
}

/// REC-01: `Restored` is not told of the first connection, and of a later one when topology, channels and consumers are
/// there, once to each who watches.
#[actix::test]
async fn restored_is_told_last_and_once() {
    let mut lives = Lives::begin().await;
    let mut events = Probe::<ConnectionEvent>::start();
    for _ in 0..2 {
        lives.bench.client.supervisor.send(WatchConnection(events.recipient())).await.unwrap();
    }
    let channel = lives.bench.channel(1, OpenChannel::new()).await;
    let declare = ask(&channel.actor, DeclareQueue::new("jobs"));
    declare_ok(&mut lives, 1, "jobs").await;
    declare.answer().await.unwrap();
    let _deliveries = lives.bench.consume(&channel).await;
    assert!(!is_restored(&lives, &mut events).await);
    for _ in 0..2 {
        lives.lose().await;
        lives.back().await;
        lives.bench.socket.open_channel(SCRATCH).await.unwrap();
        assert!(!is_restored(&lives, &mut events).await, "before the topology");
        declare_ok(&mut lives, SCRATCH, "jobs").await;
        close_ok(&mut lives, SCRATCH).await;
        lives.bench.socket.open_channel(1).await.unwrap();
        assert!(!is_restored(&lives, &mut events).await, "before the consumer");
        answer_consume(&mut lives.bench.socket, 1).await;
        lives.bench.socket.expect::<confirm::Select>(1).await.unwrap();
        assert!(!is_restored(&lives, &mut events).await, "before the confirms");
        lives.bench.socket.send(1, confirm::SelectOk {}).await.unwrap();
        lives.restored().await;
        at_once("a health", lives.bench.client.supervisor.send(GetHealth)).await.unwrap();
        let told = events.drain().await;
        let restored = told.iter().filter(|event| matches!(event, ConnectionEvent::Recovered { .. }));
        assert_eq!(restored.count(), 1, "{told:?}");
    }
}

/// Design 7.2: a call that waited for the connection has no more time for its answer than was left of its deadline; one
/// that was made when the connection was back has all of it.
#[actix::test]
async fn a_call_that_waited_has_what_is_left_of_its_deadline() {
    let mut lives = Lives::begin().await;
    let options = |millis| OpenChannel::new().confirms(false).deadline(Duration::from_millis(millis));
    let channel = lives.bench.channel(1, options(1200)).await;
    let clock = lives.bench.channel(2, options(600)).await;
    lives.lose().await;
    let waited = ask(&channel.actor, DeclareQueue::new("waited"));
    let half = ask(&clock.actor, DeclareQueue::new("half"));
    assert_eq!(half.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
    lives.back().await;
    lives.bench.socket.open_channel(1).await.unwrap();
    lives.bench.socket.open_channel(2).await.unwrap();
    lives.bench.socket.expect::<queue::Declare>(1).await.unwrap();
    let fresh = ask(&channel.actor, DeclareQueue::new("fresh"));
    lives.bench.socket.expect::<queue::Declare>(1).await.unwrap();
    let error = waited.answer().await.unwrap_err();
    assert_eq!((error.kind(), error.entity()), (ErrorKind::Timeout, Some("waited")));
    // What was answered together with it has come by then.
    lives.bench.round_trip(&clock).await;
    assert!(!fresh.is_answered());
    assert_eq!(fresh.answer().await.unwrap_err().kind(), ErrorKind::Timeout);
}

/// Design 13.3: a queue that deletes itself may go with the dead connection after it was declared again. Its consumer is
/// named as missing then, and repaired right afterwards.
#[actix::test]
async fn a_queue_that_vanishes_after_its_declare_is_repaired() {
    let mut lives = Lives::begin().await;
    let channel = lives.bench.channel(1, OpenChannel::new()).await;
    let mut changes = Probe::<ChannelEvent>::start();
    channel.actor.send(WatchChannel(changes.recipient())).await.unwrap();
    let declare = ask(&channel.actor, DeclareQueue::new("jobs").auto_delete(true));
    declare_ok(&mut lives, 1, "jobs").await;
    declare.answer().await.unwrap();
    let mut deliveries = lives.bench.consume(&channel).await;
    lives.lose().await;
    lives.back().await;
    lives.bench.socket.open_channel(SCRATCH).await.unwrap();
    declare_ok(&mut lives, SCRATCH, "jobs").await;
    close_ok(&mut lives, SCRATCH).await;
    lives.bench.socket.open_channel(1).await.unwrap();
    lives.bench.socket.answer(1, |_: basic::Qos| basic::QosOk {}).await.unwrap();
    lives.bench.socket.expect::<basic::Consume>(1).await.unwrap();
    lives.bench.socket.expect::<confirm::Select>(1).await.unwrap();
    let gone = "NOT_FOUND - no queue 'jobs' in vhost '/'";
    lives.bench.socket.close_channel(1, 404, gone, 60, 20).await.unwrap();
    lives.reopen(1).await;
    let skipped = loop {
        if let ConnectionEvent::Recovered { skipped, .. } = lives.events.next().await.unwrap() {
            break skipped;
        }
    };
    let [one] = &skipped[..] else { panic!("{skipped:?}") };
    assert_eq!((one.kind, one.name.as_str()), (EntityKind::Consumer, TAG));
    assert_eq!(one.error.close_reason().unwrap().code, 404);
    let health = lives.bench.client.supervisor.send(GetHealth).await.unwrap();
    let Health::Degraded(why) = health else { panic!("{health:?}") };
    assert!(matches!(&why[..], [Degradation::Missing(missing)] if missing.name == TAG), "{why:?}");

    lives.bench.socket.open_channel(SCRATCH).await.unwrap();
    declare_ok(&mut lives, SCRATCH, "jobs").await;
    answer_consume(&mut lives.bench.socket, SCRATCH).await;
    let cancel_ok = |cancel: basic::Cancel| basic::CancelOk { consumer_tag: cancel.consumer_tag };
    lives.bench.socket.answer(SCRATCH, cancel_ok).await.unwrap();
    // It went with the consumer that was tried.
    declare_ok(&mut lives, SCRATCH, "jobs").await;
    close_ok(&mut lives, SCRATCH).await;
    answer_consume(&mut lives.bench.socket, 1).await;
    assert!(matches!(changes.next().await.unwrap(), ChannelEvent::Reopened(_)));
    let restored = changes.next().await.unwrap();
    assert!(matches!(&restored, ChannelEvent::ConsumerRecovered { tag } if **tag == *TAG), "{restored:?}");
    assert!(lives.bench.client.supervisor.send(GetHealth).await.unwrap().is_up());
    lives.bench.socket.deliver(1, TAG, 1, "x").await.unwrap();
    deliveries.next().await.unwrap().ack().unwrap();
    lives.bench.socket.expect::<basic::Ack>(1).await.unwrap();
    let kept = publish(&channel, "kept").await;
    lives.publishes(&["kept"]).await;
    lives.bench.socket.confirm(1, 1, false).await.unwrap();
    kept.answer().await.unwrap();
    let records = lives.bench.client.supervisor.send(GetRecordCounts).await.unwrap();
    assert_eq!((records.queues, records.consumers), (1, 1));
}

/// Design 7.8: a consumer that is not to outlive its connection starts again with its channel, which the broker closed. One
/// that is refused then was not cancelled: it is lost, for the reason that the broker gave.
#[actix::test]
async fn a_passing_consumer_that_is_refused_with_its_channel_is_lost() {
    let mut lives = Lives::begin().await;
    let channel = lives.bench.channel(1, OpenChannel::new()).await;
    let mut changes = Probe::<ChannelEvent>::start();
    channel.actor.send(WatchChannel(changes.recipient())).await.unwrap();
    let mut deliveries = lives.bench.consume_as(&channel, Consume::new().tag(TAG).robust(false)).await;
    for refused in [false, true] {
        let look = ask(&channel.actor, DeclareQueue::existing("missing"));
        lives.bench.socket.expect::<queue::Declare>(1).await.unwrap();
        lives.bench.socket.close_channel(1, 404, "NOT_FOUND - no queue 'missing'", 50, 10).await.unwrap();
        assert_eq!(look.answer().await.unwrap_err().kind(), ErrorKind::Refused);
        lives.bench.socket.open_channel(1).await.unwrap();
        if !refused {
            answer_consume(&mut lives.bench.socket, 1).await;
            lives.bench.socket.answer(1, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
            assert!(matches!(changes.next().await.unwrap(), ChannelEvent::Reopened(_)));
            continue;
        }
        lives.bench.socket.answer(1, |_: basic::Qos| basic::QosOk {}).await.unwrap();
        lives.bench.socket.expect::<basic::Consume>(1).await.unwrap();
        lives.bench.socket.expect::<confirm::Select>(1).await.unwrap();
        let gone = "NOT_FOUND - no queue 'jobs' in vhost '/'";
        lives.bench.socket.close_channel(1, 404, gone, 60, 20).await.unwrap();
        lives.reopen(1).await;
        assert!(matches!(changes.next().await.unwrap(), ChannelEvent::Reopened(_)));
        let ChannelEvent::ConsumerLost { tag, end } = changes.next().await.unwrap() else {
            panic!("not lost")
        };
        let ConsumerEnd::Closed(error) = end else { panic!("{end:?}") };
        assert_eq!((&*tag, error.close_reason().unwrap().code), (TAG, 404));
        let error = deliveries.closed().await;
        assert_eq!(error.close_reason().map(|reason| reason.code), Some(404), "{error}");
    }
    lives.bench.round_trip(&channel).await;
}
