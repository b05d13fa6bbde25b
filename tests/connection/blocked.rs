//! A broker that blocks a connection: what waits, what is told, and how every wait ends.

use std::{panic::AssertUnwindSafe, time::Duration};

use crate::support::scripted_peer::{connect_to_peer, open_channel};
use crate::support::{
    broker::{SecondNode, Vhost},
    eventually, within,
};
use actix::prelude::*;
use actix_pika::testing::{
    PeerSocket, Probe,
    protocol::{channel, confirm, connection, queue},
};
use actix_pika::{
    Connection, ConnectionEvent, ErrorKind, OpenChannel, events::Events, message::UpdateSecret,
};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;

const SHORT: Duration = Duration::from_millis(200);

async fn block(connection: &Connection, socket: &mut PeerSocket, reason: &str) {
    let mut events = connection.events();
    // The stream is there once the supervisor has answered.
    connection.actor().send(actix_pika::message::GetState).await.unwrap();
    socket.send(0, connection::Blocked { reason: reason.into() }).await.unwrap();
    match within("blocked", 5, events.next()).await {
        Some(ConnectionEvent::Blocked(told)) => assert_eq!(told, reason),
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

/// BLK-01: to actors and to streams, and readable at any time.
#[actix::test]
async fn the_notices_of_the_broker_are_told() {
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

/// BLK-07: nothing of it is written while the broker blocks, and it goes out when that ends.
#[actix::test]
async fn publishes_wait_until_the_broker_takes_them_again() {
    let (connection, mut socket) = within("connect", 10, connect_to_peer(|connector| connector)).await;
    let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
    block(&connection, &mut socket, "low on memory").await;
    // The channel has heard of it, too, once it has answered.
    let waiting = channel.default_exchange();
    let publish = actix_rt::spawn(async move { waiting.publish("later", "q").await.map(drop) });
    socket.expect_nothing(SHORT).await.unwrap();
    assert!(!publish.is_finished());
    unblock(&connection, &mut socket).await;
    let published = socket.expect_publish(1).await.unwrap();
    assert_eq!(&published.body[..], b"later");
    socket.confirm(1, 1, false).await.unwrap();
    within("a confirm", 5, publish).await.unwrap().unwrap();
}

/// BLK-05, design 7.13: deadlines are answered `Blocked`; the channel stays and no late answer goes astray.
#[actix::test]
async fn what_reaches_its_deadline_is_answered_blocked_and_the_channel_stays() {
    let (connection, mut socket) = within("connect", 10, connect_to_peer(|connector| connector)).await;
    let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new().deadline(SHORT)).await;
    block(&connection, &mut socket, "low on memory").await;
    let error = within("a deadline", 5, channel.declare_queue("first")).await.unwrap_err();
    assert_eq!((error.kind(), error.entity()), (ErrorKind::Blocked, Some("first")));
    let error = within("a deadline", 5, channel.default_exchange().publish("x", "q")).await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Blocked, false));
    // Two more deadlines of silence do not cost the channel while it is blocked.
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

/// A channel that was given up while it could not open is closed when it can, and its number is not used before that.
#[actix::test]
async fn a_channel_that_cannot_open_is_answered_blocked_and_closed_later() {
    let (connection, mut socket) = within("connect", 10, connect_to_peer(|connector| connector)).await;
    block(&connection, &mut socket, "low on memory").await;
    let options = OpenChannel::new().deadline(SHORT);
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
    within("a channel that works", 5, async {
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

/// Closing a channel takes until the broker reads again; who waits for it is answered in time.
#[actix::test]
async fn closing_a_channel_while_blocked_is_answered_blocked() {
    let (connection, mut socket) = within("connect", 10, connect_to_peer(|connector| connector)).await;
    let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new().deadline(SHORT)).await;
    block(&connection, &mut socket, "low on memory").await;
    let error = within("a deadline", 5, channel.close()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Blocked);
    unblock(&connection, &mut socket).await;
    socket.answer(1, |_: channel::Close| channel::CloseOk {}).await.unwrap();
    eventually("it is closed", 5, async || channel.is_closed().then_some(())).await;
    within("closing again", 5, channel.close()).await.unwrap();
}

/// AUTH-13 in the dark: the broker does not read it.
#[actix::test]
async fn a_new_secret_that_is_not_read_is_answered_blocked() {
    let (connection, mut socket) = within("connect", 10, connect_to_peer(|connector| connector)).await;
    block(&connection, &mut socket, "low on memory").await;
    let update = connection.update_secret_with(UpdateSecret::new("new", "").deadline(SHORT));
    assert_eq!(within("a deadline", 5, update).await.unwrap_err().kind(), ErrorKind::Blocked);
}

/// BLK-05: closing gives up at its limit and says what was abandoned, and why.
#[actix::test]
async fn closing_while_blocked_says_what_was_abandoned() {
    let set = |connector: actix_pika::Connector| connector.close_timeout(SHORT);
    let (connection, mut socket) = within("connect", 10, connect_to_peer(set)).await;
    let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
    let _confirm = channel.default_exchange().publish_deferred("x", "q").await.unwrap();
    socket.expect_publish(1).await.unwrap();
    block(&connection, &mut socket, "low on memory").await;
    let (closed, heard) = tokio::join!(connection.close(), socket.expect_close());
    let error = closed.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Blocked);
    assert!(error.to_string().contains("1 publishes unconfirmed"), "{error}");
    heard.unwrap();
}

/// BLK-01 with a broker: the alarm precedes the connection, the first publish brings the notice, a consumer goes on.
#[actix::test]
async fn an_alarm_of_the_broker_blocks_who_publishes() {
    let node = SecondNode::start().await;
    let vhost = Vhost::fresh_on(node.broker()).await;
    let connection = within("connect", 10, actix_pika::connect(vhost.url())).await.unwrap();
    let mut events = connection.events();
    let channel = within("a channel", 10, connection.channel()).await.unwrap();
    within("a queue", 10, channel.declare_queue("q")).await.unwrap();
    let watermark = async |fraction: &str| {
        node.broker().rabbitmqctl(&["-q", "set_vm_memory_high_watermark", fraction]).await;
    };
    watermark("0").await;
    let first = channel.default_exchange().publish_deferred("first", "q").await.unwrap();
    let event = within("the notice", 20, events.next()).await;
    let told = matches!(&event, Some(ConnectionEvent::Blocked(reason)) if reason.contains("memory"));
    let blocked = connection.is_blocked();
    watermark("0.6").await;
    assert!(told && blocked, "{event:?}");
    let event = within("the end of the alarm", 20, events.next()).await;
    assert!(matches!(event, Some(ConnectionEvent::Unblocked)), "{event:?}");
    within("the confirm", 20, first).await.unwrap();
    within("another publish", 20, channel.default_exchange().publish("second", "q")).await.unwrap();
    within("close", 10, connection.close()).await.unwrap();
}

/// BLK-03: of two alarms that overlap the first to end lifts nothing; only the end of the second does, and it is told once.
#[actix::test]
async fn overlapping_alarms_block_until_both_are_over() {
    let node = SecondNode::start().await;
    let vhost = Vhost::fresh_on(node.broker()).await;
    let ctl = async |args: &[&str]| drop(node.broker().rabbitmqctl(&[&["-q"], args].concat()).await);
    let memory = async |fraction| ctl(&["set_vm_memory_high_watermark", fraction]).await;
    let disk = async |limit| ctl(&["set_disk_free_limit", limit]).await;
    let story = AssertUnwindSafe(async {
        let (first, mut events) = publisher(&vhost).await;
        memory("0").await;
        let confirm = first.default_exchange().publish_deferred("first", "q").await.unwrap();
        told_of(&mut events, "memory").await;
        disk("1000000GB").await;
        memory("0.6").await;
        // Who begins to publish now hears of the disk alone, so the end of the other alarm has gone round.
        let (second, mut seconds) = publisher(&vhost).await;
        let late = second.default_exchange().publish_deferred("second", "q").await.unwrap();
        let reason = told_of(&mut seconds, "disk").await;
        assert!(!reason.contains("memory"), "{reason}");
        assert!(first.connection().is_blocked() && second.connection().is_blocked());
        disk("50MB").await;
        for events in [&mut events, &mut seconds] {
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
    let story = story.catch_unwind().await;
    // The node is left as it was, for the next test.
    memory("0.6").await;
    disk("50MB").await;
    story.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// A channel with a queue "q", and the events of its connection.
async fn publisher(vhost: &Vhost) -> (actix_pika::Channel, Events<ConnectionEvent>) {
    let connection = within("connect", 10, actix_pika::connect(vhost.url())).await.unwrap();
    let events = connection.events();
    let channel = within("a channel", 10, connection.channel()).await.unwrap();
    within("a queue", 10, channel.declare_queue("q")).await.unwrap();
    (channel, events)
}

/// The reason that the next event gives for being blocked.
async fn told_of(events: &mut Events<ConnectionEvent>, what: &str) -> String {
    match within("the notice", 20, events.next()).await {
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
        self.0.send(()).ok();
        panic!("a watcher panics (as it should in this test)");
    }
}

/// BLK-06: a watcher that fails at the notice harms nobody: the others are told, and publishing goes on afterwards.
#[actix::test]
async fn a_watcher_that_fails_leaves_the_connection_alone() {
    let (connection, mut socket) = within("connect", 10, connect_to_peer(|connector| connector)).await;
    let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
    let (to, mut failed) = mpsc::unbounded_channel();
    connection.watch(Failing(to).start());
    let mut probe = Probe::<ConnectionEvent>::start();
    connection.watch(probe.recipient());
    block(&connection, &mut socket, "low on memory").await;
    assert_eq!(within("the failure", 5, failed.recv()).await, Some(()));
    assert!(matches!(probe.next().await.unwrap(), ConnectionEvent::Blocked(_)));
    let exchange = channel.default_exchange();
    let publish = actix_rt::spawn(async move { exchange.publish("later", "q").await.map(drop) });
    unblock(&connection, &mut socket).await;
    assert!(matches!(probe.next().await.unwrap(), ConnectionEvent::Unblocked));
    assert_eq!(&socket.expect_publish(1).await.unwrap().body[..], b"later");
    socket.confirm(1, 1, false).await.unwrap();
    within("a confirm", 5, publish).await.unwrap().unwrap();
    // It failed once and for all.
    assert_eq!(within("no more", 5, failed.recv()).await, None);
    assert!(!connection.is_closed());
    let (closed, heard) = tokio::join!(connection.close(), socket.expect_close());
    closed.unwrap();
    assert_eq!(heard.unwrap().0, 200);
}
