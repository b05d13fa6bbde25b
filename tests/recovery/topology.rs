//! Topology recovery: what was declared is redeclared once, and what was deleted is not.

use std::time::Duration;

use actix_pika::{
    ConnectionEvent, Connector, DeclareExchange, DeclareQueue, Delivery, ErrorKind, OpenChannel, connect,
    events::{EntityKind, Health},
    message::{BindQueue, DeleteExchange, DeleteQueue, UnbindQueue},
    testing::Probe,
};
use futures_util::{StreamExt, future::join_all};

use crate::support::{
    broker::Vhost,
    eventually,
    proxy::{Cut, Direction, Proxy},
    robust_connection::RobustConnection,
    take, within,
};

/// CON-02: a plain and a robust connection have the same interface; only the robust one recovers.
#[actix::test]
async fn only_a_robust_connection_recovers() {
    let vhost = Vhost::fresh().await;
    let proxy = Proxy::to(&vhost.broker().address());
    let url = proxy.url(&vhost.url());
    let plain = connect(url.as_str()).await.unwrap();
    let robust = actix_pika::connect_robust(url.as_str()).await.unwrap();
    let mut events = robust.events();
    let mut channels = Vec::new();
    for connection in [&plain, &robust] {
        let channel = connection.channel().await.unwrap();
        channel.declare_queue("jobs").await.unwrap();
        channel.default_exchange().publish("x", "jobs").await.unwrap();
        channels.push(channel);
    }
    proxy.cut_all(Cut::Rst);
    assert_eq!(within("the end", 10, plain.closed()).await.unwrap_err().kind(), ErrorKind::Io);
    while !matches!(
        within("the recovery", 20, events.next()).await.unwrap(),
        ConnectionEvent::Recovered { .. }
    ) {}
    let published = channels[0].default_exchange().publish("y", "jobs").await;
    assert_eq!(published.unwrap_err().kind(), ErrorKind::ConnectionClosed);
    channels[1].default_exchange().publish("y", "jobs").await.unwrap();
    assert_eq!(proxy.accepted_count(), 3);
}

/// CON-09, CON-14: each reconnect uses the connection name again, and tries the addresses in turn.
#[actix::test]
async fn reconnects_use_the_name_and_all_addresses() {
    let vhost = Vhost::fresh().await;
    let refusing = Proxy::to(&vhost.broker().address());
    refusing.refuse_new().await;
    let silent = Proxy::to(&vhost.broker().address());
    silent.stall(Direction::ToClient);
    let working = Proxy::to(&vhost.broker().address());
    let name = crate::support::unique("named");
    let urls = [&refusing, &silent, &working].map(|proxy| proxy.url(&vhost.url()));
    let connector = Connector::from_uris(urls).unwrap().name(&name).connect_timeout(Duration::from_secs(1));
    let recovery = actix_pika::Recovery::fixed(Duration::from_millis(10));
    let connection = within("connect", 20, connector.recovery(recovery).connect()).await.unwrap();
    let mut events = connection.events();
    for _ in 0..2 {
        working.cut_all(Cut::Fin);
        while !matches!(
            within("the recovery", 30, events.next()).await.unwrap(),
            ConnectionEvent::Recovered { .. }
        ) {}
    }
    assert_eq!(working.accepted_count(), 3);
    let named = async || {
        let connections = vhost.connections().await;
        let names =
            connections.iter().filter(|connection| connection.client_name.as_ref() == Some(&name)).count();
        (names == 1).then_some(())
    };
    eventually("the name", 15, named).await;
}

/// REC-07: channels keep their numbers over a recovery; the numbers of closed channels are free.
#[actix::test]
async fn channels_keep_their_numbers() {
    let mut robust = RobustConnection::connect().await;
    let mut channels = Vec::new();
    for number in [1, 2, 3, 4, 11, 22] {
        channels.push(robust.connection.channel_with(OpenChannel::new().number(number)).await.unwrap());
    }
    channels.remove(3).close().await.unwrap();
    channels.remove(1).close().await.unwrap();
    robust.cut_and_recover().await;
    for channel in &channels {
        within("a call", 10, channel.set_qos(1)).await.unwrap();
    }
    let mut numbers: Vec<u16> = channels.iter().map(actix_pika::Channel::number).collect();
    for _ in 0..5 {
        let channel = robust.channel().await;
        numbers.push(channel.number());
        channels.push(channel);
    }
    assert_eq!(numbers, [1, 3, 11, 22, 2, 4, 5, 6, 7]);
}

/// REC-10, REC-13: chained exchanges, queues and bindings are redeclared in an order that the broker accepts.
#[actix::test]
async fn a_chained_topology_is_redeclared() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let third = channel.declare_exchange(DeclareExchange::fanout("third").auto_delete(true)).await.unwrap();
    let first = channel.declare_exchange(DeclareExchange::topic("first").auto_delete(true)).await.unwrap();
    let second = channel
        .declare_exchange(DeclareExchange::direct("second").auto_delete(true).internal(true))
        .await
        .unwrap();
    third.bind("second", "k").await.unwrap();
    second.bind("first", "#").await.unwrap();
    let queue = channel.declare_queue(DeclareQueue::new("end").auto_delete(true)).await.unwrap();
    queue.bind("third", "").await.unwrap();
    let mut probe = Probe::<Delivery>::start();
    queue.consume(probe.recipient()).await.unwrap();
    for _ in 0..2 {
        robust.cut_and_recover().await;
        first.publish("x", "k").await.unwrap();
        take(&mut probe, 1).await.remove(0).ack().unwrap();
    }
    let records = robust.records().await;
    assert_eq!((records.exchanges, records.queues, records.bindings), (3, 1, 3));
}

/// REC-16: the records of auto-delete entities are removed with their last user, along a chain of exchanges.
#[actix::test]
async fn auto_delete_entities_lose_their_records() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    channel.declare_exchange(DeclareExchange::fanout("front").auto_delete(true)).await.unwrap();
    let back = channel.declare_exchange(DeclareExchange::fanout("back").auto_delete(true)).await.unwrap();
    back.bind("front", "").await.unwrap();
    let queue = channel.declare_queue(DeclareQueue::new("jobs").auto_delete(true)).await.unwrap();
    queue.bind("back", "").await.unwrap();
    channel.declare_queue("durable").await.unwrap();
    let probe = Probe::<Delivery>::start();
    let first = queue.consume(probe.recipient()).await.unwrap();
    let last = queue.consume(probe.recipient()).await.unwrap();
    first.cancel().await.unwrap();
    assert_eq!(robust.records().await.queues, 2);
    last.cancel().await.unwrap();
    let records = robust.records().await;
    assert_eq!((records.exchanges, records.queues, records.bindings, records.consumers), (0, 1, 0, 0));
    robust.cut_and_recover().await;
    for error in [
        channel.get_queue("jobs").await.unwrap_err(),
        channel.get_exchange("front").await.unwrap_err(),
        channel.get_exchange("back").await.unwrap_err(),
    ] {
        assert_eq!(error.close_reason().unwrap().code, 404);
    }
    channel.get_queue("durable").await.unwrap();
    // A passive declare of a queue that is recorded, and refused declares, add no record.
    let records = robust.records().await;
    assert_eq!((records.exchanges, records.queues), (0, 1));

    channel.declare_exchange(DeclareExchange::fanout("front").auto_delete(true)).await.unwrap();
    let durable = channel.queue("durable");
    durable.bind("front", "").await.unwrap();
    durable.unbind("front", "").await.unwrap();
    assert_eq!(robust.records().await.exchanges, 0);
}

/// REC-18: a hundred rounds of declaring and deleting leave no record.
#[actix::test]
async fn records_do_not_accumulate() {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let probe = Probe::<Delivery>::start();
    for n in 0..100 {
        let name = format!("q{n}");
        let exchange = format!("e{n}");
        channel.declare_exchange(DeclareExchange::fanout(&exchange).auto_delete(true)).await.unwrap();
        let queue = channel.declare_queue(DeclareQueue::new(&name).auto_delete(true)).await.unwrap();
        queue.bind(&exchange, "").await.unwrap();
        match n % 4 {
            0 => queue.consume(probe.recipient()).await.unwrap().cancel().await.unwrap(),
            1 => {
                queue.delete().await.unwrap();
            }
            2 => {
                queue.unbind(&exchange, "").await.unwrap();
                channel.delete_queue(DeleteQueue::new(&name)).await.unwrap();
            }
            _ => {
                channel.delete_exchange(DeleteExchange::new(&exchange)).await.unwrap();
                let own = robust.channel().await;
                own.queue(&name).consume(probe.recipient()).await.unwrap();
                own.close().await.unwrap();
            }
        }
        let records = robust.records().await;
        let counts = [records.exchanges, records.queues, records.bindings, records.consumers];
        assert_eq!(counts, [0; 4], "{n}");
    }
}

/// A delete followed by a declare of the same name leaves the queue declared, in the records and at the broker.
#[actix::test]
async fn a_declare_after_a_delete_is_recorded() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("jobs").await.unwrap();
    for _ in 0..5 {
        // Both replies arrive in one read.
        robust.proxy.stall(Direction::ToClient);
        let both = async { futures_util::join!(queue.delete(), channel.declare_queue("jobs")) };
        let resume = async {
            within(
                "both",
                10,
                robust
                    .proxy
                    .wait_for_bytes(Direction::ToBroker, robust.proxy.byte_count(Direction::ToBroker) + 1),
            )
            .await;
            robust.proxy.resume(Direction::ToClient);
        };
        let ((deleted, declared), ()) = within("both", 10, async { futures_util::join!(both, resume) }).await;
        deleted.unwrap();
        declared.unwrap();
        assert_eq!(robust.records().await.queues, 1);
    }
    let oracle = robust.oracle().await;
    robust.disconnect().await;
    oracle.channel().queue_delete("jobs".into(), Default::default()).await.unwrap();
    robust.proxy.accept_new().await;
    assert!(robust.wait_for_recovery().await.is_empty());
    assert_eq!(oracle.queue_counts("jobs").await, Some((0, 0)));
}

/// REC-19: entities and bindings with `robust(false)` are not redeclared.
#[actix::test]
async fn entities_that_are_not_robust_are_not_redeclared() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let not_robust = DeclareExchange::fanout("not robust").durable(false).robust(false);
    channel.declare_exchange(not_robust).await.unwrap();
    let queue = channel.declare_queue(DeclareQueue::new("jobs")).await.unwrap();
    channel.declare_queue(DeclareQueue::new("mine").exclusive(true).robust(false)).await.unwrap();
    queue.bind_with(BindQueue::new("jobs", "amq.direct", "not robust").robust(false)).await.unwrap();
    queue.bind("amq.direct", "robust").await.unwrap();
    let records = robust.records().await;
    assert_eq!((records.exchanges, records.queues, records.bindings), (0, 1, 1));
    let oracle = robust.oracle().await;
    robust.disconnect().await;
    oracle.channel().queue_delete("jobs".into(), Default::default()).await.unwrap();
    oracle.channel().exchange_delete("not robust".into(), Default::default()).await.unwrap();
    robust.proxy.accept_new().await;
    assert!(robust.wait_for_recovery().await.is_empty());
    assert_eq!(oracle.queue_counts("mine").await, None);
    let error = channel.get_exchange("not robust").await.unwrap_err();
    assert_eq!(error.close_reason().unwrap().code, 404);
    let direct = channel.exchange("amq.direct");
    direct.publish("x", "robust").await.unwrap();
    assert_eq!(direct.publish("x", "not robust").await.unwrap_err().kind(), ErrorKind::Unroutable);
}

/// REC-36: a passive declare is repeated as passive: a missing entity is skipped and reported, not created.
#[actix::test]
async fn a_passive_declare_creates_nothing_in_a_recovery() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let oracle = robust.oracle().await;
    for queue in ["gone", "there"] {
        oracle.declare_queue(queue).await;
        channel.get_queue(queue).await.unwrap();
    }
    robust.disconnect().await;
    oracle.channel().queue_delete("gone".into(), Default::default()).await.unwrap();
    robust.proxy.accept_new().await;
    let skipped = robust.wait_for_recovery().await;
    let skipped: Vec<_> =
        skipped.iter().map(|s| (s.kind, s.name.as_str(), s.error.close_reason().unwrap().code)).collect();
    assert_eq!(skipped, [(EntityKind::Queue, "gone", 404)]);
    assert_eq!(oracle.queue_counts("gone").await, None);
    assert_eq!(robust.proxy.accepted_count(), 2, "one loss, one reconnect");
    // An active declare creates it, also in the next recovery.
    channel.declare_queue("gone").await.unwrap();
    robust.cut_and_recover().await;
}

/// REC-21: entities that another client redefined are skipped and reported; all others are redeclared.
#[actix::test]
async fn a_refused_entity_does_not_stop_the_recovery() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let oracle = robust.oracle().await;
    channel.declare_exchange(DeclareExchange::fanout("kind")).await.unwrap();
    for name in ["a", "limited", "z"] {
        let queue =
            channel.declare_queue(DeclareQueue::new(name).argument("x-max-length", 10)).await.unwrap();
        queue.bind("amq.topic", name).await.unwrap();
    }
    let mut probe = Probe::<Delivery>::start();
    channel.queue("limited").consume(probe.recipient()).await.unwrap();
    robust.disconnect().await;
    let other = connect(robust.vhost.url()).await.unwrap().channel().await.unwrap();
    other.delete_queue(DeleteQueue::new("limited")).await.unwrap();
    other.declare_queue(DeclareQueue::new("limited").argument("x-max-length", 99)).await.unwrap();
    other.delete_exchange(DeleteExchange::new("kind")).await.unwrap();
    other.declare_exchange(DeclareExchange::topic("kind")).await.unwrap();
    for queue in ["a", "z"] {
        other.delete_queue(DeleteQueue::new(queue)).await.unwrap();
    }
    robust.proxy.accept_new().await;
    let skipped = robust.wait_for_recovery().await;
    let skipped: Vec<_> =
        skipped.iter().map(|s| (s.kind, s.name.as_str(), s.error.close_reason().unwrap().code)).collect();
    assert_eq!(skipped, [(EntityKind::Exchange, "kind", 406), (EntityKind::Queue, "limited", 406)]);
    for key in ["a", "limited", "z"] {
        channel.exchange("amq.topic").publish(key, key).await.unwrap();
    }
    assert_eq!(take(&mut probe, 1).await.remove(0).body(), b"limited");
    assert_eq!((oracle.count("a").await, oracle.count("z").await), (1, 1));
    let health = robust.connection.health().await.unwrap();
    assert!(matches!(health, Health::Degraded(why) if why.len() == 2));
}

/// TOP-06, LEAK-04: declaring an entity many times, active or passive, leaves one record.
#[actix::test]
async fn an_entity_has_one_record() {
    let robust = RobustConnection::connect().await;
    let (one, two) = (robust.channel().await, robust.channel().await);
    for _ in 0..5 {
        for channel in [&one, &two] {
            channel.declare_queue("jobs").await.unwrap();
            channel.get_queue("jobs").await.unwrap();
            channel.declare_exchange(DeclareExchange::topic("events")).await.unwrap();
            channel.get_exchange("events").await.unwrap();
            channel.get_exchange("amq.topic").await.unwrap();
            channel.queue("jobs").bind("events", "#").await.unwrap();
        }
    }
    let records = robust.records().await;
    assert_eq!((records.exchanges, records.queues, records.bindings), (2, 1, 1));
}

/// TOP-45: bindings that differ only in their arguments are two bindings, also after a recovery.
#[actix::test]
async fn bindings_with_different_arguments_are_recorded_separately() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
    for kind in ["a", "b", "a"] {
        let bind = BindQueue::new(queue.name(), "amq.headers", "");
        queue.bind_with(bind.argument("x-match", "all").argument("kind", kind)).await.unwrap();
    }
    assert_eq!(robust.records().await.bindings, 2);
    let unbind = UnbindQueue::new(queue.name(), "amq.headers", "");
    queue.unbind_with(unbind.argument("x-match", "all").argument("kind", "a")).await.unwrap();
    assert_eq!(robust.records().await.bindings, 1);
    robust.cut_and_recover().await;
    let headers = channel.exchange("amq.headers");
    let publish = |kind: &str| actix_pika::Publishing::new(kind.to_owned()).header("kind", kind);
    headers.publish(publish("b"), "").await.unwrap();
    assert_eq!(headers.publish(publish("a"), "").await.unwrap_err().kind(), ErrorKind::Unroutable);
}

/// Design 13.13: unconfirmed publishes to a server-named queue are resent to its new name.
#[actix::test]
async fn resent_publishes_follow_a_renamed_queue() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue(DeclareQueue::server_named()).await.unwrap();
    let mut deliveries = queue.deliveries().await.unwrap();
    robust.proxy.stall(Direction::ToBroker);
    let exchange = channel.default_exchange();
    let sent: Vec<_> = (0..20).map(|n| exchange.publish(n.to_string(), queue.name())).collect();
    let cut = async {
        robust.proxy.cut_all(Cut::Rst);
        robust.wait_for_loss().await;
        robust.proxy.resume(Direction::ToBroker);
        robust.wait_for_recovery().await
    };
    let (sent, skipped) =
        within("publishes and recovery", 30, async { futures_util::join!(join_all(sent), cut) }).await;
    assert!(skipped.is_empty());
    sent.into_iter().for_each(|sent| assert!(sent.is_ok()));
    for n in 0..20 {
        let delivery = within("a delivery", 10, deliveries.next()).await.unwrap();
        assert_eq!(delivery.body(), n.to_string().as_bytes());
        delivery.ack().unwrap();
    }
}

/// REC-25: two hundred queues with bindings and consumers are recovered after an operator closed the connection.
#[actix::test]
async fn two_hundred_queues_are_recovered_after_a_close() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    // Before its close the broker waits for the channels to end: 3 s for each of them, and then it drops the connection
    // without a close. A channel ends when its 200 auto-delete queues are deleted, which takes seconds on a busy machine.
    let mut others = Vec::new();
    for _ in 0..9 {
        others.push(robust.channel().await);
    }
    let mut probe = Probe::<Delivery>::start();
    let declares = (0..200).map(|n| {
        let (channel, to) = (channel.clone(), probe.recipient());
        async move {
            let queue = channel.declare_queue(DeclareQueue::new(format!("q{n}")).auto_delete(true)).await?;
            queue.bind("amq.topic", &format!("a.{n}")).await?;
            queue.bind("amq.topic", &format!("b.{n}")).await?;
            queue.consume(to).await
        }
    });
    join_all(declares).await.into_iter().for_each(|consumer| drop(consumer.unwrap()));
    let listed = async || (!robust.vhost.connections().await.is_empty()).then_some(());
    eventually("the connection", 15, listed).await;
    assert_eq!(robust.vhost.delete_connections("for a test").await, 1);
    let error = robust.wait_for_loss().await;
    assert_eq!(error.close_reason().unwrap().code, 320);
    // The broker may delete a queue of the lost connection even after the redeclare, which is then repaired.
    robust.wait_for_recovery().await;
    robust.wait_for_health(Health::is_up).await;
    let records = robust.records().await;
    assert_eq!((records.queues, records.bindings, records.consumers), (200, 400, 200));
    robust.oracle().await.wait_for_consumers("q100", 1).await;
    for n in [0, 99, 199] {
        channel.exchange("amq.topic").publish("x", &format!("b.{n}")).await.unwrap();
        take(&mut probe, 1).await.remove(0).ack().unwrap();
    }
}

/// CH-21: after a call timed out on a slow network, the channel accepts further calls.
#[actix::test]
async fn a_channel_works_after_a_timeout_on_a_slow_network() {
    let robust = RobustConnection::connect().await;
    let options = OpenChannel::new().deadline(Duration::from_millis(500));
    let channel = robust.connection.channel_with(options).await.unwrap();
    robust.proxy.delay(Direction::Both, Duration::from_millis(700));
    assert_eq!(channel.set_qos(5).await.unwrap_err().kind(), ErrorKind::Timeout);
    robust.proxy.delay(Direction::Both, Duration::ZERO);
    for count in [0, 1] {
        let set_qos = async || channel.set_qos(count).await.ok();
        eventually("a prefetch", 20, set_qos).await;
    }
    assert!(!channel.is_closed());
}
