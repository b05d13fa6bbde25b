//! What was declared on a connection that comes back: it is there again, once, and what is gone stays gone.

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

/// CON-02: a plain connection and a robust one are used alike; only the robust one comes back.
#[actix::test]
async fn only_a_robust_connection_comes_back() {
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
    assert_eq!(within("its end", 10, plain.closed()).await.unwrap_err().kind(), ErrorKind::Io);
    while !matches!(within("restored", 20, events.next()).await.unwrap(), ConnectionEvent::Recovered { .. }) {
    }
    let published = channels[0].default_exchange().publish("y", "jobs").await;
    assert_eq!(published.unwrap_err().kind(), ErrorKind::ConnectionClosed);
    channels[1].default_exchange().publish("y", "jobs").await.unwrap();
    assert_eq!(proxy.accepted_count(), 3);
}

/// CON-09, CON-14: the name is given again, and the addresses are tried in turn at each recovery.
#[actix::test]
async fn name_and_addresses_are_used_again() {
    let vhost = Vhost::fresh().await;
    let dead = Proxy::to(&vhost.broker().address());
    dead.refuse_new().await;
    let silent = Proxy::to(&vhost.broker().address());
    silent.stall(Direction::ToClient);
    let good = Proxy::to(&vhost.broker().address());
    let name = crate::support::unique("named");
    let urls = [&dead, &silent, &good].map(|proxy| proxy.url(&vhost.url()));
    let connector = Connector::from_uris(urls).unwrap().name(&name).connect_timeout(Duration::from_secs(1));
    let recovery = actix_pika::Recovery::fixed(Duration::from_millis(10));
    let connection = within("connect", 20, connector.recovery(recovery).connect()).await.unwrap();
    let mut events = connection.events();
    for _ in 0..2 {
        good.cut_all(Cut::Fin);
        while !matches!(
            within("restored", 30, events.next()).await.unwrap(),
            ConnectionEvent::Recovered { .. }
        ) {}
    }
    assert_eq!(good.accepted_count(), 3);
    let named = async || {
        let those = vhost.connections().await;
        let names = those.iter().filter(|c| c["user_provided_name"] == name.as_str()).count();
        (names == 1).then_some(())
    };
    eventually("the name", 15, named).await;
}

/// REC-07: channels keep their numbers; those that were closed are free.
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

/// REC-10, REC-13: exchanges, chains of them, queues and bindings are there again, in an order that works.
#[actix::test]
async fn a_whole_topology_is_declared_again() {
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

/// REC-16: what deletes itself is forgotten when its last user goes, along the whole chain.
#[actix::test]
async fn what_deletes_itself_is_forgotten() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    channel.declare_exchange(DeclareExchange::fanout("front").auto_delete(true)).await.unwrap();
    let back = channel.declare_exchange(DeclareExchange::fanout("back").auto_delete(true)).await.unwrap();
    back.bind("front", "").await.unwrap();
    let queue = channel.declare_queue(DeclareQueue::new("jobs").auto_delete(true)).await.unwrap();
    queue.bind("back", "").await.unwrap();
    channel.declare_queue("survivor").await.unwrap();
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
    channel.get_queue("survivor").await.unwrap();
    // To look is not to declare, and what was refused is not recorded.
    let records = robust.records().await;
    assert_eq!((records.exchanges, records.queues), (0, 1));

    channel.declare_exchange(DeclareExchange::fanout("front").auto_delete(true)).await.unwrap();
    let survivor = channel.queue("survivor");
    survivor.bind("front", "").await.unwrap();
    survivor.unbind("front", "").await.unwrap();
    assert_eq!(robust.records().await.exchanges, 0);
}

/// REC-18: a long life of declaring and deleting leaves no record.
#[actix::test]
async fn records_do_not_pile_up() {
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
            1 => drop(queue.delete().await.unwrap()),
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

/// A delete and a declare of one name, sent one behind the other, leave the declared one, here and at the broker.
#[actix::test]
async fn the_last_of_a_delete_and_a_declare_counts() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("jobs").await.unwrap();
    for _ in 0..5 {
        // Both answers in one read.
        robust.proxy.stall(Direction::ToClient);
        let both = async { futures_util::join!(queue.delete(), channel.declare_queue("jobs")) };
        let go = async {
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
        let ((deleted, declared), ()) = within("both", 10, async { futures_util::join!(both, go) }).await;
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

/// REC-19 in our words: what is declared or bound with `robust(false)` is not declared again.
#[actix::test]
async fn what_is_not_robust_is_not_declared_again() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let loose = DeclareExchange::fanout("loose").durable(false).robust(false);
    channel.declare_exchange(loose).await.unwrap();
    let queue = channel.declare_queue(DeclareQueue::new("jobs")).await.unwrap();
    channel.declare_queue(DeclareQueue::new("mine").exclusive(true).robust(false)).await.unwrap();
    queue.bind_with(BindQueue::new("jobs", "amq.direct", "loose").robust(false)).await.unwrap();
    queue.bind("amq.direct", "tight").await.unwrap();
    let records = robust.records().await;
    assert_eq!((records.exchanges, records.queues, records.bindings), (0, 1, 1));
    let oracle = robust.oracle().await;
    robust.disconnect().await;
    oracle.channel().queue_delete("jobs".into(), Default::default()).await.unwrap();
    oracle.channel().exchange_delete("loose".into(), Default::default()).await.unwrap();
    robust.proxy.accept_new().await;
    assert!(robust.wait_for_recovery().await.is_empty());
    assert_eq!(oracle.queue_counts("mine").await, None);
    let error = channel.get_exchange("loose").await.unwrap_err();
    assert_eq!(error.close_reason().unwrap().code, 404);
    let direct = channel.exchange("amq.direct");
    direct.publish("x", "tight").await.unwrap();
    assert_eq!(direct.publish("x", "loose").await.unwrap_err().kind(), ErrorKind::Unroutable);
}

/// REC-36: a passive declare is asked again passively; what is gone is skipped and reported, not created.
#[actix::test]
async fn a_passive_declare_creates_nothing() {
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
    assert_eq!(robust.proxy.accepted_count(), 2, "one drop, one reconnect");
    // To declare it for real is to have it.
    channel.declare_queue("gone").await.unwrap();
    robust.cut_and_recover().await;
}

/// REC-21: what was redefined behind our back is skipped and reported; everything behind it is there.
#[actix::test]
async fn one_refused_entity_does_not_hold_up_the_rest() {
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

/// TOP-06, LEAK-04: to look at or declare a thing many times leaves one record of it.
#[actix::test]
async fn one_thing_has_one_record() {
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

/// TOP-45: bindings that differ in their arguments are two, also after a reconnect.
#[actix::test]
async fn bindings_that_differ_in_arguments_are_two() {
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

/// Design 13.13: publishes kept for a queue of the broker's naming reach it under its new name.
#[actix::test]
async fn kept_publishes_follow_a_renamed_queue() {
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
    let (sent, skipped) = within("all of it", 30, async { futures_util::join!(join_all(sent), cut) }).await;
    assert!(skipped.is_empty());
    sent.into_iter().for_each(|sent| assert!(sent.is_ok()));
    for n in 0..20 {
        let delivery = within("a delivery", 10, deliveries.next()).await.unwrap();
        assert_eq!(delivery.body(), n.to_string().as_bytes());
        delivery.ack().unwrap();
    }
}

/// REC-25: two hundred queues with bindings and consumers, whose connections are all closed by an operator.
#[actix::test]
async fn two_hundred_queues_survive_an_operator() {
    let mut robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
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
    let known = async || (!robust.vhost.connections().await.is_empty()).then_some(());
    eventually("the connection", 15, known).await;
    assert_eq!(robust.vhost.delete_connections("for a test").await, 1);
    let error = robust.wait_for_loss().await;
    assert_eq!(error.close_reason().unwrap().code, 320);
    // The broker may still delete a queue of the dead connection after it was declared again.
    robust.wait_for_recovery().await;
    robust.wait_for_health(Health::is_up).await;
    let records = robust.records().await;
    assert_eq!((records.queues, records.bindings, records.consumers), (200, 400, 200));
    assert_eq!(robust.oracle().await.queue_counts("q100").await, Some((0, 1)));
    for n in [0, 99, 199] {
        channel.exchange("amq.topic").publish("x", &format!("b.{n}")).await.unwrap();
        take(&mut probe, 1).await.remove(0).ack().unwrap();
    }
}

/// CH-21: a call that a slow network keeps past its deadline costs the channel at most one opening.
#[actix::test]
async fn a_slow_network_costs_a_call_not_the_channel() {
    let robust = RobustConnection::connect().await;
    let options = OpenChannel::new().deadline(Duration::from_millis(500));
    let channel = robust.connection.channel_with(options).await.unwrap();
    robust.proxy.delay(Direction::Both, Duration::from_millis(700));
    assert_eq!(channel.set_qos(5).await.unwrap_err().kind(), ErrorKind::Timeout);
    robust.proxy.delay(Direction::Both, Duration::ZERO);
    for count in [0, 1] {
        let set = async || channel.set_qos(count).await.ok();
        eventually("a prefetch", 20, set).await;
    }
    assert!(!channel.is_closed());
}
