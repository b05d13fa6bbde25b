//! Closing a connection or a channel at each stage of a recovery, and leaks of actors, tasks and sockets.

use std::time::Duration;

use actix_pika::{
    ConnectionEvent, Consume, DeclareQueue, Delivery, ErrorKind, OpenChannel, events::ConnectionState,
    testing::Probe,
};
use futures_util::StreamExt;

use crate::support::{
    eventually,
    proxy::{Cut, Direction},
    robust_connection::RobustConnection,
    within,
};

/// The stages: waiting for the next attempt; start-ok; open; queue declares; bindings; a channel's consume.
const STAGES: [Option<(u16, u16)>; 6] =
    [None, Some((10, 11)), Some((10, 40)), Some((50, 10)), Some((50, 20)), Some((60, 20))];

/// Connects and creates a channel with a queue, a binding and a consumer.
async fn connect_with_topology() -> RobustConnection {
    let robust = RobustConnection::connect_plain().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("jobs").await.unwrap();
    queue.bind("amq.fanout", "").await.unwrap();
    let probe = Probe::<Delivery>::start();
    queue.consume_with(Consume::new().tag("c"), probe.recipient()).await.unwrap();
    // Keeps the target running.
    std::mem::forget(probe);
    robust
}

/// Cuts the connection and waits until its recovery has reached `stage`. The broker's replies are refused or delayed.
async fn recover_to(robust: &mut RobustConnection, stage: Option<(u16, u16)>) {
    robust.proxy.record();
    match stage {
        None => robust.proxy.refuse_new().await,
        Some(_) => robust.proxy.delay(Direction::ToClient, Duration::from_millis(100)),
    }
    robust.proxy.cut_all(Cut::Rst);
    robust.wait_for_loss().await;
    if let Some(method) = stage {
        let sent = robust.proxy.wait_for_method(Direction::ToBroker, method, 1);
        within("the stage", 20, sent).await;
    }
}

/// CON-23: `close()` at each stage returns soon, sends one `Closed` event, and leaves no connection at the broker.
#[actix::test]
async fn a_connection_can_be_closed_at_each_stage() {
    for stage in STAGES {
        let mut robust = connect_with_topology().await;
        recover_to(&mut robust, stage).await;
        within(&format!("close at {stage:?}"), 5, robust.connection.close()).await.unwrap();
        assert!(matches!(robust.connection.state(), ConnectionState::Closed(None)), "{stage:?}");
        let mut closes = 0;
        while let Some(event) = within("the end of events", 5, robust.events.next()).await {
            assert_eq!(closes, 0, "{stage:?}: {event:?} after the end");
            match event {
                ConnectionEvent::Closed(None) => closes += 1,
                ConnectionEvent::Closed(cause) => panic!("{stage:?}: {cause:?}"),
                ConnectionEvent::Recovered { .. } => panic!("{stage:?}: recovered"),
                _ => {}
            }
        }
        assert_eq!(closes, 1, "{stage:?}");
        within("no connection", 10, robust.proxy.wait_for_open(0)).await;
        let closed = async || robust.vhost.connections().await.is_empty().then_some(());
        eventually("no connection at the broker", 15, closed).await;
        assert_eq!(robust.connection.channel().await.unwrap_err().kind(), ErrorKind::ConnectionClosed);
    }
}

/// CH-03: a channel that is closed at each stage stays closed, and the connection recovers without it.
#[actix::test]
async fn a_channel_closed_at_each_stage_stays_closed() {
    for stage in STAGES {
        let mut robust = RobustConnection::connect_plain().await;
        let channel = robust.channel().await;
        let other = robust.channel().await;
        let queue = channel.declare_queue("jobs").await.unwrap();
        queue.bind("amq.fanout", "").await.unwrap();
        let probe = Probe::<Delivery>::start();
        queue.consume_with(Consume::new().tag("c"), probe.recipient()).await.unwrap();
        recover_to(&mut robust, stage).await;
        within(&format!("close at {stage:?}"), 10, channel.close()).await.unwrap();
        robust.proxy.delay(Direction::ToClient, Duration::ZERO);
        robust.proxy.accept_new().await;
        let skipped = robust.wait_for_recovery().await;
        assert!(skipped.is_empty(), "{stage:?}: {skipped:?}");
        assert!(channel.is_closed());
        assert_eq!(channel.set_qos(1).await.unwrap_err().kind(), ErrorKind::ChannelClosed);
        within("the other channel", 10, other.set_qos(1)).await.unwrap();
        assert_eq!(robust.oracle().await.queue_counts("jobs").await, Some((0, 0)), "{stage:?}");
        assert_eq!(robust.records().await.consumers, 0);
        // Its number is free at the client and the broker.
        let again =
            robust.connection.channel_with(OpenChannel::new().number(channel.number())).await.unwrap();
        within("the next channel with that number", 10, again.set_qos(1)).await.unwrap();
    }
}

/// A channel that is opened during an outage opens on the next connection, or times out at its deadline.
#[actix::test]
async fn a_channel_can_be_opened_during_an_outage() {
    let mut robust = RobustConnection::connect().await;
    robust.disconnect().await;
    let short = OpenChannel::new().deadline(Duration::from_millis(300));
    let error = within("the deadline", 10, robust.connection.channel_with(short)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let later = robust.connection.channel_with(OpenChannel::new().number(1));
    let (channel, ()) = futures_util::join!(within("a channel", 20, later), robust.proxy.accept_new());
    let channel = channel.unwrap();
    within("a declare", 10, channel.declare_queue(DeclareQueue::server_named())).await.unwrap();
}

/// Counts the sockets of this process that are connected to a local `port`. `None` if the system does not show that.
fn sockets_to(port: u16) -> Option<usize> {
    let table = std::fs::read_to_string("/proc/self/net/tcp").ok()?;
    let peer = format!("0100007F:{port:04X}");
    // A closed socket that the system still lists has inode 0.
    let is_ours = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(2) == Some(&peer.as_str()) && fields.get(9) != Some(&"0")
    };
    Some(table.lines().filter(is_ours).count())
}

/// LEAK-01: a connection that was cut many times leaves no actor, task or socket after its close.
#[test]
fn a_closed_connection_leaves_no_actor_task_or_socket() {
    // On its own thread, whose tasks can be counted.
    let counted = std::thread::spawn(|| {
        actix::System::new().block_on(async {
            let metrics = tokio::runtime::Handle::current().metrics();
            let mut before = None;
            for round in 0..3 {
                let mut robust = connect_with_topology().await;
                let port = robust.proxy.address().port();
                for n in 0..4 {
                    robust.proxy.cut_once_after(Direction::ToBroker, 200 + n * 150, Cut::Rst);
                    robust.cut_and_recover().await;
                    robust.proxy.stop_cutting();
                    let one = async || matches!(sockets_to(port), None | Some(1)).then_some(());
                    eventually("one socket", 10, one).await;
                }
                let actors =
                    (robust.connection.actor().downgrade(), robust.channel().await.actor().downgrade());
                within("close", 10, robust.connection.close()).await.unwrap();
                let none = async || matches!(sockets_to(port), None | Some(0)).then_some(());
                eventually("no socket", 10, none).await;
                drop(robust);
                let stopped =
                    async || (actors.0.upgrade().is_none() && actors.1.upgrade().is_none()).then_some(());
                eventually("stopped actors", 10, stopped).await;
                let tasks = metrics.num_alive_tasks();
                match before {
                    // The first round starts tasks that the process keeps.
                    None => before = Some(tasks),
                    Some(before) => {
                        let stopped = async || (metrics.num_alive_tasks() <= before).then_some(());
                        eventually(&format!("{before} tasks, not {tasks}, in round {round}"), 10, stopped)
                            .await;
                    }
                }
            }
        });
    });
    counted.join().unwrap();
}
