//! The normal form of answers: what two brokers may say differently and both be right.
//!
//! | rule | what it makes equal | why |
//! |---|---|---|
//! | always | answers on different channels come in any order | a node has one process for each channel |
//! | always | generated names, reply addresses, times | the broker makes them up (`names.rs`, `values.rs`) |
//! | always | delivery tags | they follow from the order of deliveries; each side's must go up by one, and what is settled is named by place (`unsettled.rs`) |
//! | [`Rule::StreamCounts`] | the counts in the reply to a declaration of a stream | a node counts the messages now and then, and knows its consumers late |
//! | [`Rule::Interleaving`] | on one channel: replies, confirms and returns, and the deliveries of each consumer keep their order, but not among each other | each queue of a node is a process |
//! | [`Rule::Confirms`] | confirms are sets of publishes | each queue confirms on its own, and RabbitMQ merges acks by chance |
//! | [`Rule::ClosingConnection`] | what is said beside the close when a connection closes with an error; if it has several channels, the sequence ends there | channels end one by one, and what one gives back may reach another first |
//! | by chance | a difference that does not come again each time, when the broker has said the same each time (`run.rs`) | the node answers now so and now so: its queues, limits of channels and dead letters are processes |
//!
//! With a difference of these kinds a sequence ends (`excuses.rs`):
//!
//! | rule | what | why |
//! |---|---|---|
//! | [`Rule::LeftConsumer`] | what a quorum queue of 4.3 with a single active consumer has when a channel ends that has several consumers of it, of unequal priorities | the node keeps one of these consumers for good, and gives it what comes back |
//! | [`Rule::TagAgain`] | what follows when a channel consumes again from a queue with a tag | the node takes it for the former consumer: what that holds frees places of the new one; a quorum queue keeps the place and the priority, and in 3.10 takes the next delivery for one that is missing (541) |
//! | [`Rule::SharedLimit`] | which deliveries of a channel follow that it has requeued, if its consumers share a limit | the limit is a process, and is freed before or after each queue has what came back |
//! | [`Rule::OtherQueue`] | what follows a requeue, if a queue was declared anew with another type, or with priorities where it had none; in 3.10 also a connection that ends with 541 | a delivery of the former queue goes to the one that has its name, which crashes; a channel of 3.10 takes the queue for one of the former type |
//! | [`Rule::ActiveReturned`] | what follows when the active consumer of a quorum queue of 4.0 requeues what it holds, and one of a higher priority waits | neither of them is active from then on |
//! | [`Rule::LimitReached`] | what follows a requeue in 3.10, if a queue has a limit of deliveries | a consumer whose message has reached the limit may have one more than its prefetch from then on |
//! | [`Rule::ActiveCancelled`] | what follows when the active consumer of a classic queue of 3.10 is cancelled | the next one is not served, and the next publish crashes the queue |

use std::collections::{BTreeMap, BTreeSet};

use super::{
    answer::{Answer, Said},
    operation::At,
};

/// Why answers that are not the same count as the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    StreamCounts,
    Interleaving,
    Confirms,
    ClosingConnection,
    LeftConsumer,
    TagAgain,
    SharedLimit,
    OtherQueue,
    ActiveCancelled,
    ActiveReturned,
    LimitReached,
}

/// What keeps its order on a channel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Replies,
    Publisher,
    Consumer(String),
}

/// Compares answers; returns the rules without which they would differ.
/// `streams` are the queues that are streams.
pub(crate) fn same(ours: &[Answer], node: &[Answer], streams: &[&str]) -> Option<BTreeSet<Rule>> {
    let mut rules = BTreeSet::new();
    if in_order(ours) == in_order(node) {
        return Some(rules);
    }
    let (ours, node) = (&without_counts(ours, streams), &without_counts(node, streams));
    if streams.iter().any(|name| [ours, node].into_iter().flatten().any(|answer| is_counted(answer, name))) {
        rules.insert(Rule::StreamCounts);
    }
    if in_order(ours) == in_order(node) {
        return Some(rules);
    }
    let closing = closing(ours);
    let (mut ours, mut node) = (groups(ours), groups(node));
    if ours != node && !closing.is_empty() {
        rules.insert(Rule::ClosingConnection);
        for groups in [&mut ours, &mut node] {
            groups.retain(|(at, _), _| at.channel == 0);
        }
    }
    if ours == node {
        rules.insert(Rule::Interleaving);
        return Some(rules);
    }
    rules.insert(Rule::Confirms);
    for groups in [&mut ours, &mut node] {
        for ((_, group), lines) in groups.iter_mut() {
            if *group == Group::Publisher {
                lines.sort_by_key(|line| !line.starts_with("return"));
                let confirms =
                    lines.iter().position(|line| !line.starts_with("return")).unwrap_or(lines.len());
                lines[confirms..].sort();
            }
        }
    }
    (ours == node).then_some(rules)
}

fn is_counted(answer: &Answer, name: &str) -> bool {
    matches!(&answer.said, Said::Reply(text) if text.strip_prefix("declared ").is_some_and(|rest| rest.split(' ').next() == Some(name)))
}

fn without_counts(answers: &[Answer], streams: &[&str]) -> Vec<Answer> {
    let mut answers = answers.to_vec();
    for answer in &mut answers {
        if let Some(name) = streams.iter().find(|name| is_counted(answer, name)) {
            answer.said = Said::Reply(format!("declared {name}"));
        }
    }
    answers
}

/// Connections that the broker closes with an error.
fn closing(answers: &[Answer]) -> BTreeSet<char> {
    let closed = answers.iter().filter(|answer| matches!(answer.said, Said::ConnectionClosed(_)));
    closed.map(|answer| answer.at.connection).collect()
}

fn in_order(answers: &[Answer]) -> BTreeMap<At, Vec<String>> {
    let mut channels = BTreeMap::<At, Vec<String>>::new();
    for answer in answers {
        channels.entry(answer.at).or_default().push(untagged(answer));
    }
    channels
}

fn groups(answers: &[Answer]) -> BTreeMap<(At, Group), Vec<String>> {
    let mut groups = BTreeMap::<_, Vec<String>>::new();
    for answer in answers {
        groups.entry((answer.at, group(&answer.said))).or_default().push(untagged(answer));
    }
    groups
}

fn group(said: &Said) -> Group {
    match said {
        Said::Deliver { consumer, .. } => Group::Consumer(consumer.clone()),
        Said::Consumer { tag, .. } => Group::Consumer(tag.clone()),
        Said::Returned(_) | Said::Confirm { .. } => Group::Publisher,
        _ => Group::Replies,
    }
}

/// The answer without its delivery tag.
fn untagged(answer: &Answer) -> String {
    match &answer.said {
        Said::Deliver { consumer, text, .. } => format!("deliver {consumer} {text}"),
        Said::Got { text, .. } => format!("got {text}"),
        _ => answer.to_string().split_once(' ').unwrap_or_default().1.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{same as same_with, *};

    const A1: At = At { connection: 'a', channel: 1 };
    const A2: At = At { connection: 'a', channel: 2 };
    const B1: At = At { connection: 'b', channel: 1 };

    fn same(ours: &[Answer], node: &[Answer]) -> Option<BTreeSet<Rule>> {
        same_with(ours, node, &[])
    }

    fn deliver(at: At, consumer: &str, delivery: u64, text: &str) -> Answer {
        Answer { at, said: Said::Deliver { consumer: consumer.into(), delivery, text: text.into() } }
    }

    fn confirm(number: u64) -> Answer {
        Answer { at: A1, said: Said::Confirm { number, refused: false } }
    }

    fn reply(at: At, text: &str) -> Answer {
        Answer { at, said: Said::Reply(text.into()) }
    }

    fn by(rules: &[Rule]) -> Option<BTreeSet<Rule>> {
        Some(rules.iter().copied().collect())
    }

    #[test]
    fn channels_are_independent() {
        let (one, two) = (reply(A1, "ok"), reply(B1, "ok"));
        assert_eq!(same(&[one.clone(), two.clone()], &[two.clone(), one.clone()]), by(&[]));
        assert_eq!(same(std::slice::from_ref(&one), &[two]), None);
        assert_eq!(same(&[one], &[reply(A1, "empty")]), None);
    }

    #[test]
    fn consumers_of_a_channel_interleave_but_each_keeps_its_order() {
        let ours = [deliver(A1, "c", 1, "m1"), deliver(A1, "c", 2, "m2"), deliver(A1, "d", 3, "m3")];
        let node = [deliver(A1, "d", 1, "m3"), deliver(A1, "c", 2, "m1"), deliver(A1, "c", 3, "m2")];
        assert_eq!(same(&ours, &node), by(&[Rule::Interleaving]));
        let turned = [deliver(A1, "c", 1, "m2"), deliver(A1, "c", 2, "m1"), deliver(A1, "d", 3, "m3")];
        assert_eq!(same(&ours, &turned), None);
        assert_eq!(same(&ours, &ours[..2]), None);
    }

    #[test]
    fn confirms_are_sets_and_a_return_comes_before_its_confirm() {
        assert_eq!(same(&[confirm(1), confirm(2)], &[confirm(2), confirm(1)]), by(&[Rule::Confirms]));
        assert_eq!(same(&[confirm(1)], &[confirm(2)]), None);
        let refused = Answer { at: A1, said: Said::Confirm { number: 1, refused: true } };
        assert_eq!(same(&[confirm(1)], &[refused]), None);
        let returned = |text: &str| Answer { at: A1, said: Said::Returned(text.into()) };
        assert_eq!(same(&[returned("312 m1")], &[returned("312 m2")]), None);
        assert_eq!(same(&[returned("m1"), returned("m2")], &[returned("m2"), returned("m1")]), None);
    }

    #[test]
    fn a_reply_and_a_delivery_that_cross_are_the_same() {
        let ours = [reply(A1, "ok"), deliver(A1, "c", 1, "m1")];
        let node = [deliver(A1, "c", 1, "m1"), reply(A1, "ok")];
        assert_eq!(same(&ours, &node), by(&[Rule::Interleaving]));
        let cancelled = Answer { at: A1, said: Said::Consumer { tag: "c".into(), text: "cancelled".into() } };
        // After cancel-ok, a consumer gets nothing.
        assert_eq!(
            same(&[deliver(A1, "c", 1, "m"), cancelled.clone()], &[cancelled, deliver(A1, "c", 1, "m")]),
            None
        );
    }

    #[test]
    fn other_channels_of_a_closed_connection_may_hear_more() {
        let close = |text: &str| Answer {
            at: At { connection: 'a', channel: 0 },
            said: Said::ConnectionClosed(text.into()),
        };
        let heard = deliver(A2, "c", 1, "m1");
        assert_eq!(
            same(&[close("540")], &[heard.clone(), close("540")]),
            by(&[Rule::ClosingConnection, Rule::Interleaving])
        );
        assert_eq!(same(&[close("540")], &[heard.clone(), close("530")]), None);
        assert_eq!(same(&[], &[heard]), None);
    }

    #[test]
    fn a_stream_is_declared_with_any_counts() {
        let (ours, node) = ([reply(A1, "declared s 0 0")], [reply(A1, "declared s 3 1")]);
        assert_eq!(same_with(&ours, &node, &["s"]), by(&[Rule::StreamCounts]));
        assert_eq!(same_with(&ours, &node, &["q"]), None);
    }
}
