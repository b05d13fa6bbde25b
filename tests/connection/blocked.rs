//! A broker that blocks a connection: events, pending publishes and calls, and deadlines.

use std::{panic::AssertUnwindSafe, time::Duration};

use crate::support::scripted_peer::{connect_to_peer, open_channel};
use crate::support::{
    broker::{Alarm, SecondNode, Vhost},
    eventually, within,
};
use actix::prelude::*;
use actix_pika::testing::{
    PeerSocket, Probe,
    protocol::{channel, confirm, connection, queue},
};
use actix_pika::{
    Connection, ConnectionEvent, Connector, ErrorKind, OpenChannel, events::Events, message::UpdateSecret,
};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;

const DEADLINE: Duration = Duration::from_millis(200);

/// Sends connection.blocked and waits until the client has handled it.
async fn block(connection: &Connection, socket: &mut PeerSocket, reason: &str) {
    let mut events = connection.events();
    // The stream is registered once the supervisor has answered.
    connection.actor().send(actix_pika::message::GetState).await.unwrap();
    socket.send(0, connection::Blocked { reason: reason.into() }).await.unwrap();
    match within("blocked", 5, events.next()).await {
        Some(ConnectionEvent::Blocked(reported)) => assert_eq!(reported, reason),
        other => panic!("{other:?}"),
    }
    assert!(connection.is_blocked());
}

async fn unblock(connection: &Connection, socket: &mut PeerSocket) {
    let mut events = connection.events();
    connection.actor().send(actix_pika::message::GetState).await.unwrap();
    socket.send(0, connection::Unblocked {}).await.unwrap();
    let event = within("unblocked", 5, events.next()).await;
    assert!(matches!(event, Some(ConnectionEvent::Unblocked)), "{event:?}");
    assert!(!connection.is_blocked());
}

/// BLK-01: by events and by `is_blocked`.
#[actix::test]
async fn blocked_and_unblocked_are_reported() {
    let (connection, mut socket) = within("connect", 10, connect_to_peer(|connector| connector)).await;
    let mut probe = Probe::<ConnectionEvent>::start();
    connection.watch(probe.recipient());
    assert!(!connection.is_blocked());
    block(&connection, &mut socket, "low on memory").await;
    let event = probe.next().await.unwrap();
    assert!(matches!(&event, ConnectionEvent::Blocked(reason) if reason == "low on memory"), "{event:?}");
    unblock(&connection, &mut socket).await;
    assert!(matches!(probe.next().await.unwrap(), ConnectionEvent::Unblocked));
    block(&connection, &mut socket, "low on disk").await;
    socket.close_connection(320, "CONNECTION_FORCED").await.unwrap();
    within("the end", 5, connection.closed()).await.unwrap_err();
    assert!(!connection.is_blocked());
}

/// BLK-07: nothing is written while the connection is blocked.
#[actix::test]
async fn publishes_are_sent_after_unblocked() {
    let (connection, mut socket) = within("connect", 10, connect_to_peer(|connector| connector)).await;
    let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
    block(&connection, &mut socket, "low on memory").await;
    let exchange = channel.default_exchange();
    let publish = actix_rt::spawn(async move { exchange.publish("later", "q").await.map(drop) });
    socket.expect_nothing(DEADLINE).await.unwrap();
    assert!(!publish.is_finished());
    unblock(&connection, &mut socket).await;
    let published = socket.expect_publish(1).await.unwrap();
    assert_eq!(&published.body[..], b"later");
    socket.confirm(1, 1, false).await.unwrap();
    within("a confirm", 5, publish).await.unwrap().unwrap();
}

/// BLK-05, design 7.13: the channel stays open, and late answers are matched to their calls.
#[actix::test]
async fn a_deadline_while_blocked_is_a_blocked_error_and_keeps_the_channel() {
    let (connection, mut socket) = within("connect", 10, connect_to_peer(|connector| connector)).await;
    let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new().deadline(DEADLINE)).await;
    block(&connection, &mut socket, "low on memory").await;
    let error = within("a deadline", 5, channel.declare_queue("first")).await.unwrap_err();
    assert_eq!((error.kind(), error.entity()), (ErrorKind::Blocked, Some("first")));
    assert!(error.may_have_arrived(), "the broker reads it later");
    assert!(error.to_string().contains("low on memory"), "{error}");
    let error = within("a deadline", 5, channel.default_exchange().publish("x", "q")).await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Blocked, false));
    assert!(error.to_string().contains("low on memory"), "{error}");
    // Further deadlines do not close the channel while it is blocked.
    for _ in 0..2 {
        let error = within("a deadline", 5, channel.declare_queue("more")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Blocked);
    }
    unblock(&connection, &mut socket).await;
    let answers = async {
        for name in ["first", "more", "more", "last"] {
            let declare: queue::Declare = socket.expect(1).await.unwrap();
            assert_eq!(declare.queue.as_str(), name);
            let ok = queue::DeclareOk { queue: declare.queue, message_count: 5, consumer_count: 0 };
            socket.send(1, ok).await.unwrap();
        }
    };
    let (last, ()) = tokio::join!(channel.declare_queue("last"), answers);
    assert_eq!(last.unwrap().name(), "last");
}

/// The channel is closed once the broker has opened it. Its number is not used before.
#[actix::test]
async fn opening_a_channel_while_blocked_fails_and_closes_it_later() {
    let (connection, mut socket) = within("connect", 10, connect_to_peer(|connector| connector)).await;
    block(&connection, &mut socket, "low on memory").await;
    let options = OpenChannel::new().deadline(DEADLINE);
    let error = within("a deadline", 5, connection.channel_with(options)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Blocked);
    unblock(&connection, &mut socket).await;
    let answers = async {
        socket.open_channel(1).await.unwrap();
        socket.answer(1, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
        socket.open_channel(2).await.unwrap();
        socket.answer(2, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
        socket.expect_channel_close(1).await.unwrap();
    };
    let (second, ()) = tokio::join!(connection.channel(), answers);
    within("a call on the second channel", 5, async {
        let second = second.unwrap();
        let declare = socket.answer(2, |declare: queue::Declare| queue::DeclareOk {
            queue: declare.queue,
            ..Default::default()
        });
        let (queue, _) = tokio::join!(second.declare_queue("q"), declare);
        queue.unwrap();
    })
    .await;
}

/// The close completes once the broker reads again.
#[actix::test]
async fn closing_a_channel_while_blocked_fails_at_the_deadline() {
    let (connection, mut socket) = within("connect", 10, connect_to_peer(|connector| connector)).await;
    let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new().deadline(DEADLINE)).await;
    block(&connection, &mut socket, "low on memory").await;
    let error = within("a deadline", 5, channel.close()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Blocked);
    unblock(&connection, &mut socket).await;
    socket.answer(1, |_: channel::Close| channel::CloseOk {}).await.unwrap();
    eventually("the channel is closed", 5, async || channel.is_closed().then_some(())).await;
    within("closing again", 5, channel.close()).await.unwrap();
}

/// AUTH-13: a blocked broker does not read the method.
#[actix::test]
async fn update_secret_while_blocked_fails_at_the_deadline() {
    let (connection, mut socket) = within("connect", 10, connect_to_peer(|connector| connector)).await;
    block(&connection, &mut socket, "low on memory").await;
    let update = connection.update_secret_with(UpdateSecret::new("new", "").deadline(DEADLINE));
    assert_eq!(within("a deadline", 5, update).await.unwrap_err().kind(), ErrorKind::Blocked);
}

/// BLK-05: at the close timeout.
#[actix::test]
async fn closing_while_blocked_reports_unconfirmed_publishes() {
    let settings = |connector: actix_pika::Connector| connector.close_timeout(DEADLINE);
    let (connection, mut socket) = within("connect", 10, connect_to_peer(settings)).await;
    let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
    let _confirm = channel.default_exchange().publish_deferred("x", "q").await.unwrap();
    socket.expect_publish(1).await.unwrap();
    block(&connection, &mut socket, "low on memory").await;
    let (closed, sent) = tokio::join!(connection.close(), socket.expect_close());
    let error = closed.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Blocked);
    assert!(error.to_string().contains("1 publishes unconfirmed"), "{error}");
    sent.unwrap();
}

/// BLK-05: opens a connection under an alarm, fills a publish window, and returns the result of the close.
async fn close_with_a_full_window(vhost: &Vhost) -> Result<(), actix_pika::Error> {
    let connector = Connector::new(&vhost.url()).unwrap().close_timeout(Duration::from_millis(500));
    let connection = within("connect", 20, connector.connect()).await.unwrap();
    let mut events = connection.events();
    let options = alarm_options().window(1);
    let channel = within("a channel", 20, connection.channel_with(options)).await.unwrap();
    let confirm = within("room", 20, channel.default_exchange().publish_deferred("x", "q")).await.unwrap();
    expect_blocked(&mut events, "memory").await;
    let waiting = actix_rt::spawn({
        let exchange = channel.default_exchange();
        async move { exchange.publish("y", "q").await.map(drop) }
    });
    let closed = within("close", 20, connection.close()).await;
    assert!(within("the confirm", 5, confirm).await.unwrap_err().may_have_arrived());
    assert!(!within("the waiting publish", 5, waiting).await.unwrap().unwrap_err().may_have_arrived());
    closed
}

/// BLK-01: a real broker sends `connection.blocked` after the first publish.
#[actix::test]
async fn an_alarm_blocks_publishing_connections() {
    let node = SecondNode::start().await;
    let vhost = Vhost::fresh_on(node.broker()).await;
    let connection = within("connect", 10, actix_pika::connect(vhost.url())).await.unwrap();
    let mut events = connection.events();
    let channel = within("a channel", 10, connection.channel_with(alarm_options())).await.unwrap();
    within("a queue", 10, channel.declare_queue("q")).await.unwrap();
    node.alarm(Alarm::Memory).await;
    let first = channel.default_exchange().publish_deferred("first", "q").await.unwrap();
    let event = within("blocked", 20, events.next()).await;
    let reported = matches!(&event, Some(ConnectionEvent::Blocked(reason)) if reason.contains("memory"));
    let blocked = connection.is_blocked();
    let closed = close_with_a_full_window(&vhost).await;
    node.end_alarm(Alarm::Memory).await;
    assert!(reported && blocked, "{event:?}");
    let error = closed.unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Blocked, true), "{error}");
    assert!(error.to_string().contains("memory"), "{error}");
    let event = within("the end of the alarm", 20, events.next()).await;
    assert!(matches!(event, Some(ConnectionEvent::Unblocked)), "{event:?}");
    within("the confirm", 20, first).await.unwrap();
    within("another publish", 20, channel.default_exchange().publish("second", "q")).await.unwrap();
    within("close", 10, connection.close()).await.unwrap();
}

/// BLK-03: the end of the first alarm is not reported; the end of the second is reported once.
#[actix::test]
async fn overlapping_alarms_block_until_both_have_ended() {
    let node = SecondNode::start().await;
    let vhost = Vhost::fresh_on(node.broker()).await;
    let test = AssertUnwindSafe(async {
        let (first, mut events) = publisher(&vhost).await;
        node.alarm(Alarm::Memory).await;
        let confirm = first.default_exchange().publish_deferred("first", "q").await.unwrap();
        expect_blocked(&mut events, "memory").await;
        node.alarm(Alarm::Disk).await;
        node.end_alarm(Alarm::Memory).await;
        // A new publisher is blocked by the disk alarm alone, so the broker has processed the end of the memory alarm.
        let (second, mut other_events) = publisher(&vhost).await;
        let late = second.default_exchange().publish_deferred("second", "q").await.unwrap();
        let reason = expect_blocked(&mut other_events, "disk").await;
        assert!(!reason.contains("memory"), "{reason}");
        assert!(first.connection().is_blocked() && second.connection().is_blocked());
        node.end_alarm(Alarm::Disk).await;
        for events in [&mut events, &mut other_events] {
            let event = within("the end of the alarms", 20, events.next()).await;
            assert!(matches!(event, Some(ConnectionEvent::Unblocked)), "{event:?}");
        }
        for confirm in [confirm, late] {
            within("a confirm", 20, confirm).await.unwrap();
        }
        assert_eq!(within("purge", 10, first.queue("q").purge()).await.unwrap(), 2);
        within("close", 10, first.connection().close()).await.unwrap();
        let rest: Vec<_> = within("the end", 10, events.collect()).await;
        assert!(matches!(rest[..], [ConnectionEvent::Closed(None)]), "{rest:?}");
    });
    let test = test.catch_unwind().await;
    // Resets the node for the next test.
    for alarm in [Alarm::Memory, Alarm::Disk] {
        node.end_alarm(alarm).await;
    }
    test.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Channel options with a deadline that a publish keeps while `rabbitmqctl` sets and clears alarms on a busy machine.
fn alarm_options() -> OpenChannel {
    OpenChannel::new().deadline(Duration::from_secs(120))
}

/// Connects and declares the queue "q". Returns a channel and the events of the connection.
async fn publisher(vhost: &Vhost) -> (actix_pika::Channel, Events<ConnectionEvent>) {
    let connection = within("connect", 10, actix_pika::connect(vhost.url())).await.unwrap();
    let events = connection.events();
    let channel = within("a channel", 10, connection.channel_with(alarm_options())).await.unwrap();
    within("a queue", 10, channel.declare_queue("q")).await.unwrap();
    (channel, events)
}

/// Asserts that the next event is `Blocked` with a reason that contains `what`, and returns the reason.
async fn expect_blocked(events: &mut Events<ConnectionEvent>, what: &str) -> String {
    match within("blocked", 20, events.next()).await {
        Some(ConnectionEvent::Blocked(reason)) if reason.contains(what) => reason.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Panics at each event.
struct Failing(mpsc::UnboundedSender<()>);

impl Actor for Failing {
    type Context = Context<Self>;
}

impl Handler<ConnectionEvent> for Failing {
    type Result = ();

    fn handle(&mut self, _: ConnectionEvent, _: &mut Self::Context) {
        let _ = self.0.send(());
        panic!("a watcher panics (as it should in this test)");
    }
}

/// BLK-06: other watchers receive the event, and publishing continues after `unblocked`.
#[actix::test]
async fn a_watcher_that_panics_does_not_affect_the_connection() {
    let (connection, mut socket) = within("connect", 10, connect_to_peer(|connector| connector)).await;
    let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
    let (sender, mut handled) = mpsc::unbounded_channel();
    connection.watch(Failing(sender).start());
    let mut probe = Probe::<ConnectionEvent>::start();
    connection.watch(probe.recipient());
    block(&connection, &mut socket, "low on memory").await;
    assert_eq!(within("the panic", 5, handled.recv()).await, Some(()));
    assert!(matches!(probe.next().await.unwrap(), ConnectionEvent::Blocked(_)));
    let exchange = channel.default_exchange();
    let publish = actix_rt::spawn(async move { exchange.publish("later", "q").await.map(drop) });
    unblock(&connection, &mut socket).await;
    assert!(matches!(probe.next().await.unwrap(), ConnectionEvent::Unblocked));
    assert_eq!(&socket.expect_publish(1).await.unwrap().body[..], b"later");
    socket.confirm(1, 1, false).await.unwrap();
    within("a confirm", 5, publish).await.unwrap().unwrap();
    // The watcher has stopped.
    assert_eq!(within("the watcher stops", 5, handled.recv()).await, None);
    assert!(!connection.is_closed());
    let (closed, sent) = tokio::join!(connection.close(), socket.expect_close());
    closed.unwrap();
    assert_eq!(sent.unwrap().0, 200);
}
