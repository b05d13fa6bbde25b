//! Several consumes under way and one of them refused: the right caller is told, and the rest hears of the close.

use std::time::Duration;

use crate::support::scripted_peer::{connect_to_peer, open_channel};
use crate::support::within;
use actix_pika::testing::protocol::{basic, queue};
use actix_pika::testing::{PeerSocket, RawFrame};
use actix_pika::{Channel, Consume, DeliveryStream, Error, ErrorKind, OpenChannel};
use futures_util::future::join_all;

/// What a consume under way came to.
#[derive(Debug, PartialEq)]
enum Outcome {
    Began,
    Blamed,
    /// The channel was closed under it.
    Closed,
}

fn outcome(queue: &str, result: Result<DeliveryStream, Error>) -> Outcome {
    let Err(error) = result else { return Outcome::Began };
    let reason = error.close_reason().unwrap_or_else(|| panic!("{queue}: {error}"));
    assert_eq!((reason.code, reason.method), (404, "basic.consume"), "{error}");
    match error.kind() {
        ErrorKind::Refused => {
            assert_eq!(error.entity(), Some(queue));
            Outcome::Blamed
        }
        ErrorKind::ChannelClosed => Outcome::Closed,
        other => panic!("{other:?}: {error}"),
    }
}

/// Consumes of these queues at once; a queue whose name ends in "!" wants no acknowledgements, and is spared a
/// `basic.qos` before it.
async fn consume_all(channel: &Channel, queues: &[&str]) -> Vec<Outcome> {
    let calls = queues.iter().map(|&name| async move {
        let options = if name.ends_with('!') { Consume::new().no_ack(true) } else { Consume::new() };
        outcome(name, channel.queue(name).deliveries_with(options.tag(name)).await)
    });
    join_all(calls).await
}

/// The answers that a peer gives before it closes the channel, to the calls in their order.
async fn answer_some(socket: &mut PeerSocket, queues: &[&str], qos: usize, began: &[&str], text: &str) {
    for name in queues {
        if !name.ends_with('!') {
            socket.expect::<basic::Qos>(1).await.unwrap();
        }
        assert_eq!(socket.expect::<basic::Consume>(1).await.unwrap().queue.as_str(), *name);
    }
    let mut frames: Vec<_> = (0..qos).map(|_| RawFrame::method(1, basic::QosOk {})).collect();
    let ok = |tag: &str| RawFrame::method(1, basic::ConsumeOk { consumer_tag: tag.into() });
    frames.extend(began.iter().map(|tag| ok(tag)));
    socket.send_frames(&frames).await.unwrap();
    socket.close_channel(1, 404, text, 60, 20).await.unwrap();
}

/// CNS-07: by what was answered, and by the queue in the text where that leaves a choice. The broker answers in order,
/// but for the consumes.
#[actix::test]
async fn the_peers_refusal_is_told_to_the_right_caller() {
    use Outcome::{Began, Blamed, Closed};
    let naming = |queue: &str| format!("NOT_FOUND - no queue '{queue}' in vhost 'c!'");
    let cut = "NOT_FOUND - too long a text".to_owned();
    let cases = [
        // A second prefetch is acknowledged, so that what came before it is accepted.
        (["a", "b", "c"], 2, vec![], cut.clone(), [Closed, Blamed, Closed]),
        (["a", "b", "c"], 1, vec![], cut.clone(), [Blamed, Closed, Closed]),
        (["a", "b", "c"], 3, vec!["b"], cut.clone(), [Closed, Began, Blamed]),
        // Nothing but the text tells.
        (["a!", "b!", "c!"], 0, vec![], naming("b!"), [Closed, Blamed, Closed]),
        (["a!", "b!", "c!"], 0, vec!["b!"], naming("c!"), [Closed, Began, Blamed]),
        // A queue may be called like the virtual host.
        (["c!", "b!", "a!"], 0, vec![], naming("a!"), [Closed, Closed, Blamed]),
        // The text is of no use: the first that it can have been.
        (["a!", "b!", "c!"], 0, vec!["a!"], cut, [Began, Blamed, Closed]),
    ];
    for (queues, qos, began, text, expected) in cases {
        let case = async {
            let (connection, mut socket) = connect_to_peer(|connector| connector).await;
            let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
            let server = answer_some(&mut socket, &queues, qos, &began, &text);
            let (outcomes, ()) = tokio::join!(consume_all(&channel, &queues), server);
            assert_eq!(outcomes, expected, "{queues:?}, {qos} answers, {text}");
            assert!(channel.is_closed() && !connection.is_closed());
        };
        within("a case", 10, case).await;
    }
}

/// CNS-07: a call that the broker should have answered before is not passed over.
#[actix::test]
async fn a_consume_behind_an_unanswered_call_is_not_blamed() {
    let test = async {
        let (connection, mut socket) = connect_to_peer(|connector| connector).await;
        let options = OpenChannel::new().deadline(Duration::from_secs(20));
        let channel = open_channel(&connection, &mut socket, 1, options).await;
        let jobs = [channel.queue("jobs"), channel.queue("jobs")];
        let clients = async {
            tokio::join!(
                jobs[0].deliveries_with(Consume::new().no_ack(true).tag("1")),
                channel.declare_queue("other"),
                jobs[1].deliveries_with(Consume::new().no_ack(true).tag("2")),
            )
        };
        let server = async {
            socket.expect::<basic::Consume>(1).await.unwrap();
            socket.expect::<queue::Declare>(1).await.unwrap();
            socket.expect::<basic::Consume>(1).await.unwrap();
            let text = "NOT_FOUND - no queue 'jobs' in vhost '/'";
            socket.close_channel(1, 404, text, 60, 20).await.unwrap();
        };
        let ((one, other, two), ()) = tokio::join!(clients, server);
        assert_eq!([outcome("jobs", one), outcome("jobs", two)], [Outcome::Blamed, Outcome::Closed]);
        assert_eq!(other.unwrap_err().kind(), ErrorKind::ChannelClosed);
    };
    within("a refused consume", 10, test).await;
}

crate::modes! {
    /// CNS-07: ten consumes at once, and the fifth queue is not there.
    async fn the_brokers_refusal_is_told_to_the_right_caller(bench: Bench) {
        for mark in ["", "!"] {
            let channel = bench.another_channel().await;
            let names: Vec<String> = (0..10).map(|n| format!("q{n}{mark}")).collect();
            for (n, name) in names.iter().enumerate() {
                if n != 5 {
                    channel.declare_queue(name.as_str()).await.unwrap();
                }
            }
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let outcomes = consume_all(&channel, &names).await;
            assert_eq!(outcomes[5], Outcome::Blamed, "{outcomes:?}");
            // Whether those before it heard first of their beginning or of the close is up to the broker.
            assert!(!outcomes[..5].contains(&Outcome::Blamed), "{outcomes:?}");
            assert_eq!(outcomes[6..], [const { Outcome::Closed }; 4]);
        }
    }
}
