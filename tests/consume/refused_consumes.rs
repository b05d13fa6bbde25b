//! One of several pending consumes is refused: its caller gets `Refused`, and the others get `ChannelClosed`.

use std::time::Duration;

use crate::support::scripted_peer::{connect_to_peer, open_channel};
use crate::support::within;
use actix_pika::testing::protocol::{basic, queue};
use actix_pika::testing::{PeerSocket, RawFrame};
use actix_pika::{Channel, Consume, DeliveryStream, Error, ErrorKind, OpenChannel};
use futures_util::future::join_all;

/// The result of a pending consume.
#[derive(Debug, PartialEq)]
enum Outcome {
    Started,
    Refused,
    /// The channel was closed because of another call.
    Closed,
}

fn outcome(queue: &str, result: Result<DeliveryStream, Error>) -> Outcome {
    let Err(error) = result else { return Outcome::Started };
    let reason = error.close_reason().unwrap_or_else(|| panic!("{queue}: {error}"));
    assert_eq!((reason.code, reason.method), (404, "basic.consume"), "{error}");
    match error.kind() {
        ErrorKind::Refused => {
            assert_eq!(error.entity(), Some(queue));
            Outcome::Refused
        }
        ErrorKind::ChannelClosed => Outcome::Closed,
        other => panic!("{other:?}: {error}"),
    }
}

/// Consumes from all of these queues at once. A name that ends in "!" means `no_ack`, for which no `basic.qos` is sent.
async fn consume_all(channel: &Channel, queues: &[&str]) -> Vec<Outcome> {
    let calls = queues.iter().map(|&name| async move {
        let options = if name.ends_with('!') { Consume::new().no_ack(true) } else { Consume::new() };
        outcome(name, channel.queue(name).deliveries_with(options.tag(name)).await)
    });
    join_all(calls).await
}

/// Expects the calls in order, answers `qos` prefetches and the consumes in `started`, and closes the channel with
/// `text`.
async fn answer_some(socket: &mut PeerSocket, queues: &[&str], qos: usize, started: &[&str], text: &str) {
    for name in queues {
        if !name.ends_with('!') {
            socket.expect::<basic::Qos>(1).await.unwrap();
        }
        assert_eq!(socket.expect::<basic::Consume>(1).await.unwrap().queue.as_str(), *name);
    }
    let mut frames: Vec<_> = (0..qos).map(|_| RawFrame::method(1, basic::QosOk {})).collect();
    let ok = |tag: &str| RawFrame::method(1, basic::ConsumeOk { consumer_tag: tag.into() });
    frames.extend(started.iter().map(|tag| ok(tag)));
    socket.send_frames(&frames).await.unwrap();
    socket.close_channel(1, 404, text, 60, 20).await.unwrap();
}

/// CNS-07: the failed call is found by the replies that came before the close, and among the rest by the queue name in
/// the text. The broker replies in order, except to consumes.
#[actix::test]
async fn a_refusal_is_returned_to_the_failed_call() {
    use Outcome::{Closed, Refused, Started};
    let naming = |queue: &str| format!("NOT_FOUND - no queue '{queue}' in vhost 'c!'");
    let no_name = "NOT_FOUND - too long a text".to_owned();
    let cases = [
        // The second prefetch was answered, so the broker had accepted the calls before it.
        (["a", "b", "c"], 2, vec![], no_name.clone(), [Closed, Refused, Closed]),
        (["a", "b", "c"], 1, vec![], no_name.clone(), [Refused, Closed, Closed]),
        (["a", "b", "c"], 3, vec!["b"], no_name.clone(), [Closed, Started, Refused]),
        // Only the text identifies the call.
        (["a!", "b!", "c!"], 0, vec![], naming("b!"), [Closed, Refused, Closed]),
        (["a!", "b!", "c!"], 0, vec!["b!"], naming("c!"), [Closed, Started, Refused]),
        // A queue has the same name as the virtual host.
        (["c!", "b!", "a!"], 0, vec![], naming("a!"), [Closed, Closed, Refused]),
        // The text has no queue name: the first call that has no reply.
        (["a!", "b!", "c!"], 0, vec!["a!"], no_name, [Started, Refused, Closed]),
    ];
    for (queues, qos, started, text, expected) in cases {
        let case = async {
            let (connection, mut socket) = connect_to_peer(|connector| connector).await;
            let channel = open_channel(&connection, &mut socket, 1, OpenChannel::new()).await;
            let server = answer_some(&mut socket, &queues, qos, &started, &text);
            let (outcomes, ()) = tokio::join!(consume_all(&channel, &queues), server);
            assert_eq!(outcomes, expected, "{queues:?}, {qos} qos-ok, {text}");
            assert!(channel.is_closed() && !connection.is_closed());
        };
        within("a case", 10, case).await;
    }
}

/// CNS-07: a consume behind a call without a reply is not taken for the failed one.
#[actix::test]
async fn a_consume_behind_an_unanswered_call_is_not_the_failed_call() {
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
        assert_eq!([outcome("jobs", one), outcome("jobs", two)], [Outcome::Refused, Outcome::Closed]);
        assert_eq!(other.unwrap_err().kind(), ErrorKind::ChannelClosed);
    };
    within("a refused consume", 10, test).await;
}

crate::modes! {
    /// CNS-07: of ten simultaneous consumes, the one on a missing queue is refused.
    async fn the_brokers_refusal_is_returned_to_the_failed_call(bench: Bench) {
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
            assert_eq!(outcomes[5], Outcome::Refused, "{outcomes:?}");
            // Whether the earlier ones start or get the close depends on the broker's timing.
            assert!(!outcomes[..5].contains(&Outcome::Refused), "{outcomes:?}");
            assert_eq!(outcomes[6..], [const { Outcome::Closed }; 4]);
        }
    }
}
