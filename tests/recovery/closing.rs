//! Closing a connection, or a channel, at each stage of a recovery; and what a connection leaves behind in the process.

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

/// The stages: waiting for the next try; login; open; declarations; bindings; a channel's consume.
const STAGES: [Option<(u16, u16)>; 6] =
    [None, Some((10, 11)), Some((10, 40)), Some((50, 10)), Some((50, 20)), Some((60, 20))];

async fn with_everything() -> RobustConnection {
    let robust = RobustConnection::connect().await;
    let channel = robust.channel().await;
    let queue = channel.declare_queue("jobs").await.unwrap();
    queue.bind("amq.fanout", "").await.unwrap();
    let probe = Probe::<Delivery>::start();
    queue.consume_with(Consume::new().tag("c"), probe.recipient()).await.unwrap();
    std::mem::forget(probe);
    robust
}

/// Brings a connection to a stage of its recovery, where the broker's answers are held back.
async fn brought_to(robust: &mut RobustConnection, stage: Option<(u16, u16)>) {
    robust.proxy.record();
    match stage {
        None => robust.proxy.refuse_new().await,
        Some(_) => robust.proxy.delay(Direction::ToClient, Duration::from_millis(100)),
    }
    robust.proxy.cut_all(Cut::Rst);
    robust.wait_for_loss().await;
    if let Some(method) = stage {
        let up = robust.proxy.wait_for_method(Direction::ToBroker, method, 1);
        within("the stage", 20, up).await;
    }
}

/// CON-23: `close()` at each stage ends soon, is told once, and leaves nothing behind at the broker.
#[actix::test]
async fn close_at_each_stage_of_a_recovery() {
    for stage in STAGES {
        let mut robust = with_everything().await;
        brought_to(&mut robust, stage).await;
        within(&format!("close at {stage:?}"), 5, robust.connection.close()).await.unwrap();
        assert!(matches!(robust.connection.state(), ConnectionState::Closed(None)), "{stage:?}");
        let mut closes = 0;
        while let Some(event) = within("the end of events", 5, robust.events.next()).await {
            assert_eq!(closes, 0, "{stage:?}: {event:?} after the end");
            match event {
                ConnectionEvent::Closed(None) => closes += 1,
                ConnectionEvent::Closed(cause) => panic!("{stage:?}: {cause:?}"),
                ConnectionEvent::Recovered { .. } => panic!("{stage:?}: restored"),
                _ => {}
            }
        }
        assert_eq!(closes, 1, "{stage:?}");
        within("no connection", 10, robust.proxy.wait_for_open(0)).await;
        let gone = async || robust.vhost.connections().await.is_empty().then_some(());
        eventually("no connection at the broker", 15, gone).await;
        assert_eq!(robust.connection.channel().await.unwrap_err().kind(), ErrorKind::ConnectionClosed);
    }
}

/// A channel that is closed at each stage stays closed, and the connection goes on without it. CH-03
#[actix::test]
async fn a_channel_closed_at_each_stage_stays_closed() {
    for stage in STAGES {
        let mut robust = RobustConnection::connect().await;
        let channel = robust.channel().await;
        let other = robust.channel().await;
        let queue = channel.declare_queue("jobs").await.unwrap();
        queue.bind("amq.fanout", "").await.unwrap();
        let probe = Probe::<Delivery>::start();
        queue.consume_with(Consume::new().tag("c"), probe.recipient()).await.unwrap();
        brought_to(&mut robust, stage).await;
        within(&format!("close at {stage:?}"), 10, channel.close()).await.unwrap();
        robust.proxy.delay(Direction::ToClient, Duration::ZERO);
        robust.proxy.accept_new().await;
        let skipped = robust.wait_for_recovery().await;
        assert!(skipped.is_empty(), "{stage:?}: {skipped:?}");
        assert!(channel.is_closed());
        assert_eq!(channel.set_qos(1).await.unwrap_err().kind(), ErrorKind::ChannelClosed);
        within("the other", 10, other.set_qos(1)).await.unwrap();
        assert_eq!(robust.oracle().await.queue_counts("jobs").await, Some((0, 0)), "{stage:?}");
        assert_eq!(robust.records().await.consumers, 0);
        // Its number is free, at the broker, too.
        let again =
            robust.connection.channel_with(OpenChannel::new().number(channel.number())).await.unwrap();
        within("the next of that number", 10, again.set_qos(1)).await.unwrap();
    }
}

/// A channel that is asked for while the connection is away opens with the next one, or fails at its deadline.
#[actix::test]
async fn a_channel_asked_for_during_an_outage() {
    let mut robust = RobustConnection::connect().await;
    robust.disconnect().await;
    let short = OpenChannel::new().deadline(Duration::from_millis(300));
    let error = within("its deadline", 10, robust.connection.channel_with(short)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let later = robust.connection.channel_with(OpenChannel::new().number(1));
    let (channel, ()) = futures_util::join!(within("a channel", 20, later), robust.proxy.accept_new());
    let channel = channel.unwrap();
    within("a declare", 10, channel.declare_queue(DeclareQueue::server_named())).await.unwrap();
}

/// How many sockets of this process are connected to `port` of this machine, where that can be read.
fn sockets_to(port: u16) -> Option<usize> {
    let table = std::fs::read_to_string("/proc/self/net/tcp").ok()?;
    let peer = format!("0100007F:{port:04X}");
    // A socket that nobody holds any more has no inode.
    let is_ours = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(2) == Some(&peer.as_str()) && fields.get(9) != Some(&"0")
    };
    Some(table.lines().filter(is_ours).count())
}

/// LEAK-01: connections that were cut many times leave no actor, no task and no socket behind.
#[test]
fn nothing_is_left_behind() {
    // A thread of its own, whose tasks can be counted.
    let counted = std::thread::spawn(|| {
        actix::System::new().block_on(async {
            let metrics = tokio::runtime::Handle::current().metrics();
            let mut before = None;
            for round in 0..3 {
                let mut robust = with_everything().await;
                let port = robust.proxy.address().port();
                for n in 0..4 {
                    robust.proxy.cut_once_after(Direction::ToBroker, 200 + n * 150, Cut::Rst);
                    robust.cut_and_recover().await;
                    robust.proxy.stop_cutting();
                    let one = async || matches!(sockets_to(port), None | Some(1)).then_some(());
                    eventually("one socket", 10, one).await;
                }
                let life =
                    (robust.connection.actor().downgrade(), robust.channel().await.actor().downgrade());
                within("close", 10, robust.connection.close()).await.unwrap();
                let none = async || matches!(sockets_to(port), None | Some(0)).then_some(());
                eventually("no socket", 10, none).await;
                drop(robust);
                let gone = async || (life.0.upgrade().is_none() && life.1.upgrade().is_none()).then_some(());
                eventually("the end of its actors", 10, gone).await;
                let tasks = metrics.num_alive_tasks();
                match before {
                    // The first round starts what the process keeps.
                    None => before = Some(tasks),
                    Some(before) => {
                        let less = async || (metrics.num_alive_tasks() <= before).then_some(());
                        eventually(&format!("{before} tasks, not {tasks}, in round {round}"), 10, less).await;
                    }
                }
            }
        });
    });
    counted.join().unwrap();
}
