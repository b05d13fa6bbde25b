//! Random operations said to a node of RabbitMQ, too: it answers the same.
//!
//! `BROKER_ORACLE` names the node, as in `rig.rs`, and `BROKER_SEEDS` the seeds, as `0..500`. Without a node nothing is
//! tested. Times to live and queues that expire are left out, since they depend on how long an operation takes, and
//! so is what a node may answer in several ways: see [`without_closed`] and [`only_reordered`].

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    oracle::Oracle,
    random::{Outstanding, first_operations, operation},
    rig::Rig,
};
use crate::core::Line;

/// How many sequences are said at once. Most of the time is spent on waiting.
const AT_ONCE: usize = 16;
const OPERATIONS: Range<usize> = 10..40;
/// How often a failed sequence is tried with fewer operations.
const SHRINKS: usize = 40;

/// The first operation that is answered differently.
struct Difference {
    at: usize,
    ours: Vec<String>,
    node: Vec<String>,
}

/// Says operations to both, as long as the answers are the same.
fn compare(line: Line, operations: &[String]) -> Option<Difference> {
    let mut rig = Rig::new(line);
    let mut node = rig.take_oracle()?;
    for (at, text) in operations.iter().enumerate() {
        if let Some(difference) = say_both(&mut rig, &mut node, text) {
            let (ours, node) = difference;
            let difference = Difference { at, ours, node };
            return Some(difference).filter(|difference| !only_reordered(difference));
        }
    }
    None
}

/// Says an operation and what has to follow an error; returns the answers if they differ.
fn say_both(rig: &mut Rig, node: &mut Oracle, text: &str) -> Option<(Vec<String>, Vec<String>)> {
    let ours = rig.say(text);
    let theirs = node.say_until(text, &ours);
    if without_closed(&ours) != without_closed(&theirs) {
        return Some((ours, theirs));
    }
    let closed = ours.iter().filter_map(|answer| answer.split_once(" close "));
    for (at, _) in closed {
        let follow = if at.ends_with('0') { format!("drop {}", &at[..1]) } else { format!("{at} close_ok") };
        let difference = say_both(rig, node, &follow);
        if difference.is_some() {
            return difference;
        }
    }
    None
}

/// Leaves out what other channels of a connection that closes are told: the channels of a node end one by one, and
/// what one of them gives back may reach another one before that ends too.
fn without_closed(answers: &[String]) -> Vec<&String> {
    let closed: Vec<&str> =
        answers.iter().filter_map(|answer| answer.split_once("0 close ").map(|(letter, _)| letter)).collect();
    let is_told = |answer: &&String| {
        !closed.iter().any(|letter| answer.starts_with(letter) && !answer[letter.len()..].starts_with('0'))
    };
    answers.iter().filter(is_told).collect()
}

/// Whether only the order differs in which queues deliver to one channel. The queues of a node are processes, so
/// any order is right; but the tags differ from then on.
fn only_reordered(difference: &Difference) -> bool {
    let untagged = |answers: &[String]| {
        let mut texts: Vec<String> = answers
            .iter()
            .map(|answer| match answer.split(' ').collect::<Vec<_>>()[..] {
                [at, "deliver", consumer, _, ref rest @ ..] => format!("{at} {consumer} {}", rest.join(" ")),
                _ => answer.clone(),
            })
            .collect();
        texts.sort();
        texts
    };
    untagged(&difference.ours) == untagged(&difference.node)
}

/// Draws operations; those that come later depend on the answers to the earlier ones.
fn draw(line: Line, seed: u64) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut rig = Rig::with(crate::core::CoreConfig { line, ..Default::default() });
    let mut outstanding = Outstanding::default();
    let mut said: Vec<String> = Vec::new();
    let mut say = |text: String, outstanding: &mut Outstanding, said: &mut Vec<String>| {
        for answer in rig.say(&text) {
            outstanding.note(&answer);
            if let Some((at, _)) = answer.split_once(" close ") {
                let end =
                    if at.ends_with('0') { format!("drop {}", &at[..1]) } else { format!("{at} close_ok") };
                rig.say(&end);
            }
        }
        said.push(text);
    };
    for text in first_operations(&mut random) {
        if !depends_on_time(&text) {
            say(text, &mut outstanding, &mut said);
        }
    }
    for _ in 0..random.usize(OPERATIONS) {
        let text = std::iter::repeat_with(|| operation(&mut random, &mut outstanding))
            .find(|text| !depends_on_time(text) && !counts_stream(text, &said))
            .unwrap();
        say(text, &mut outstanding, &mut said);
    }
    said
}

fn depends_on_time(text: &str) -> bool {
    ["advance", "p.expiration=20", "x-message-ttl", "x-expires"].iter().any(|word| text.contains(word))
}

/// Whether it asks for the counts of a stream, which a node knows some time later.
fn counts_stream(text: &str, said: &[String]) -> bool {
    let queue =
        |text: &str| text.split_once(" declare ").map(|(_, rest)| rest.split(' ').next().map(str::to_owned));
    let asked = queue(text);
    asked.is_some() && said.iter().any(|said| said.ends_with("=Sstream") && queue(said) == asked)
}

/// Leaves operations out that the difference does not need.
fn shrink(line: Line, mut operations: Vec<String>) -> Vec<String> {
    let mut tries = SHRINKS;
    let mut len = operations.len() / 2;
    while len > 0 && tries > 0 {
        let mut from = 0;
        while from < operations.len() && tries > 0 {
            tries -= 1;
            let mut fewer = operations.clone();
            fewer.drain(from..(from + len).min(operations.len()));
            match compare(line, &fewer) {
                Some(difference) => {
                    fewer.truncate(difference.at + 1);
                    operations = fewer;
                }
                None => from += len,
            }
        }
        len /= 2;
    }
    operations
}

#[test]
fn random_operations_are_answered_as_by_the_node() {
    let Some(line) = Oracle::line() else { return };
    let seeds = std::env::var("BROKER_SEEDS").unwrap_or_else(|_| "0..8".into());
    let (first, end) = seeds.split_once("..").unwrap();
    let next = AtomicU64::new(first.parse().unwrap());
    let end: u64 = end.parse().unwrap();
    let differences: Vec<String> = std::thread::scope(|scope| {
        let work = || {
            let mut found = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return found;
                }
                let mut operations = draw(line, seed);
                let Some(difference) = compare(line, &operations) else { continue };
                operations.truncate(difference.at + 1);
                let operations = shrink(line, operations);
                // It may depend on chance.
                let Some(difference) = compare(line, &operations) else {
                    found.push(format!("seed {seed}, not always:\n{}", operations.join("\n")));
                    continue;
                };
                let said = operations[..=difference.at].join("\n");
                let (ours, node) = (difference.ours, difference.node);
                found.push(format!("seed {seed}:\n{said}\n  ours {ours:?}\n  node {node:?}"));
            }
        };
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n\n"));
}
