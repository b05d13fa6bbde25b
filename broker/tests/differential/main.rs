//! Random sequences of operations said to the broker and to a node of RabbitMQ, over sockets: the frames that come back
//! are the same.
//!
//! ```sh
//! BROKER_ORACLE="127.0.0.1:5672 V3_10" BROKER_SEEDS=0..20000 cargo test -p actix-pika-broker --test differential
//! ```
//!
//! `BROKER_SEQUENCE=FILE` says the lines of a file instead, `BROKER_WORKERS` is how many sequences are said at once,
//! `BROKER_SHRINKS` how often one that differs is said with fewer operations.
//! Without a node the broker is held against itself. Both sides are spoken to by the same driver, which encodes and
//! decodes with amq-protocol: a fault of the wire format that the broker shares with the client shows.
//!
//! After each operation the driver waits until it is carried out: methods without a reply are followed by
//! `channel.flow`, whose reply comes after what precedes. The node may then take its time to say what the broker has
//! said, and to have as much in its queues (`monitor.rs`). What may differ all the same is in `normal.rs`.
//!
//! Left out, since they depend on how long an operation takes: `x-expires` of less than a minute, and times to live but
//! in sequences that begin with `slow`, where they are 20 ms and each operation is followed by a pause of 100 ms.

#![allow(missing_docs)]

mod answer;
mod ends;
mod excuses;
mod generator;
mod incoming;
mod monitor;
mod names;
mod normal;
mod operation;
mod pools;
mod run;
mod session;
mod shrink;
mod side;
mod socket;
mod unsettled;
mod values;
mod vhosts;

use std::{env, fs, ops::Range, time::Duration};

use actix_pika_broker::{Broker, Line};
use run::{Patience, Report, Run, SHRINKS, Source, run, say};

/// How long a broker in this process may take.
const AT_HOME: Patience =
    Patience { first: Duration::from_millis(500), shrinking: Duration::from_millis(300) };
/// How long a busy node may take.
const BUSY: Patience = Patience { first: Duration::from_secs(10), shrinking: Duration::from_millis(2500) };

const LINES: [Line; 4] = [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3];

fn vhosts(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("differential-{}-{number}", std::process::id())).collect()
}

fn broker(line: Line, vhosts: &[String]) -> (Broker, String) {
    let builder = Broker::builder().line(line);
    let broker = vhosts.iter().fold(builder, |builder, vhost| builder.vhost(vhost)).start().unwrap();
    let address = format!("127.0.0.1:{}", broker.port());
    (broker, address)
}

/// Holds a broker of one line against one of another line.
async fn between(one: Line, other: Line, workers: usize, sequences: Source) -> Report {
    let vhosts = vhosts(workers);
    let ((_one, ours), (_other, node)) = (broker(one, &vhosts), broker(other, &vhosts));
    run(Run { ours, node, vhosts, sequences, patience: AT_HOME, shrinks: SHRINKS, line: other }, false).await
}

#[tokio::test]
async fn the_broker_says_the_same_as_itself() {
    for line in LINES {
        let report = between(line, line, 8, Source::Seeds(0..40)).await;
        assert_eq!(report.sequences, 40);
        let found: Vec<String> = report.found.iter().map(ToString::to_string).collect();
        assert!(found.is_empty(), "{line:?}: {}", found.join("\n"));
    }
}

/// The first delivery of a quorum queue has a header in 3.10 that it does not have in 4.0.
#[tokio::test]
async fn a_difference_is_found_and_made_short() {
    let operations = [
        "a1 declare q",
        "a1 declare p durable x-queue-type=Squorum",
        "b1 confirm",
        "b1 publish - q m1 mandatory",
        "b1 publish - p m2 p.priority=1",
        "a1 get q",
        "a1 ack @0",
        "b2 get p",
        "b2 ack @0 multiple",
    ];
    let given = Source::Given(operations.map(str::to_owned).to_vec());
    let report = between(Line::V3_10, Line::V4_0, 1, given).await;
    let [found] = &report.found[..] else { panic!("{report}") };
    assert_eq!(
        found.difference.said,
        ["a1 declare p durable x-queue-type=Squorum", "b1 publish - p m2", "b2 get p"]
    );
    assert!(found.difference.ours.iter().any(|line| line.contains("x-delivery-count")), "{found}");
}

fn seeds() -> Range<u64> {
    let seeds = env::var("BROKER_SEEDS").unwrap_or_else(|_| "0..50".into());
    let (first, end) = seeds.split_once("..").expect("BROKER_SEEDS is like 0..100");
    first.parse().unwrap()..end.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_says_the_same_as_a_node() {
    let Ok(oracle) = env::var("BROKER_ORACLE") else { return };
    let (node, line) = oracle.split_once(' ').expect("BROKER_ORACLE is an address and a line");
    let line = LINES.into_iter().find(|known| format!("{known:?}") == line).expect("it is a known line");
    let sequences = match env::var("BROKER_SEQUENCE") {
        Ok(file) => Source::Given(
            fs::read_to_string(file).unwrap().lines().map(str::trim).map(str::to_owned).collect(),
        ),
        Err(_) => Source::Seeds(seeds()),
    };
    let workers = match sequences {
        Source::Given(_) => 1,
        Source::Seeds(_) => env::var("BROKER_WORKERS").map_or(48, |workers| workers.parse().unwrap()),
    };
    let vhosts = vhosts(workers);
    for vhost in &vhosts {
        vhosts::manage(node, "PUT", vhost).await.unwrap();
    }
    let (_broker, ours) = broker(line, &vhosts);
    let shrinks = env::var("BROKER_SHRINKS").map_or(SHRINKS, |tries| tries.parse().unwrap());
    let node_address = node.to_owned();
    let all =
        Run { ours, node: node_address, vhosts: vhosts.clone(), sequences, patience: BUSY, shrinks, line };
    let report = run(all, true).await;
    for vhost in &vhosts {
        vhosts::manage(node, "DELETE", vhost).await.unwrap();
    }
    say(&format!("{line:?}: {report}"));
    let differences = report.found.iter().filter(|found| !found.is_by_chance()).count();
    assert_eq!(differences, 0, "{line:?}");
}
