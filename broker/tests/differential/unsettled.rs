//! The deliveries that can be settled, with the tag that each side gave them.

use std::collections::{BTreeMap, BTreeSet};

use amq_protocol::protocol::{AMQPClass, basic, tx};

use super::{
    answer::{Answer, Said},
    operation::{At, Operation, Settle, Tag},
};

/// A delivery that both sides made.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pair {
    ours: u64,
    node: u64,
}

#[derive(Default)]
struct Channel {
    pairs: Vec<Pair>,
    /// Settled in the transaction that is open.
    in_transaction: Vec<Pair>,
    is_transactional: bool,
}

#[derive(Default)]
pub(crate) struct Unsettled {
    channels: BTreeMap<At, Channel>,
    /// Consumers without acks.
    automatic: BTreeSet<(At, String)>,
}

/// A settle as it is said to each side.
#[derive(Debug, PartialEq)]
pub(crate) struct Resolved {
    pub(crate) ours: AMQPClass,
    pub(crate) node: AMQPClass,
    /// As text, with the tag of our side.
    pub(crate) tag: u64,
    pub(crate) multiple: bool,
}

impl Unsettled {
    /// The tags that a settle stands for; none if nothing is unsettled there.
    pub(crate) fn resolve(&mut self, at: At, settle: Settle) -> Option<Resolved> {
        let channel = self.channels.entry(at).or_default();
        let pairs = &mut channel.pairs;
        let mut settle = settle;
        let pair = match settle.tag {
            Tag::Unsettled(_) if pairs.is_empty() => return None,
            Tag::Unsettled(place) => pairs[place % pairs.len()],
            Tag::Number(tag) => Pair { ours: tag, node: tag },
        };
        let is_covered = |other: &Pair| {
            other.ours == pair.ours || settle.multiple && (pair.ours == 0 || other.ours < pair.ours)
        };
        // The sides have made deliveries of several queues in different orders: `multiple` would not mean the same.
        let is_covered_there = |other: &Pair| {
            other.node == pair.node || settle.multiple && (pair.node == 0 || other.node < pair.node)
        };
        if pairs.iter().any(|pair| is_covered(pair) != is_covered_there(pair)) {
            if let Tag::Number(_) = settle.tag {
                return None;
            }
            settle.multiple = false;
            pairs.retain(|other| *other != pair);
            if channel.is_transactional {
                channel.in_transaction.push(pair);
            }
        } else {
            let (covered, kept) = pairs.iter().copied().partition(is_covered);
            *pairs = kept;
            let covered: Vec<Pair> = covered;
            if channel.is_transactional {
                channel.in_transaction.extend(covered);
            }
        }
        let (ours, node) = (settle.method(pair.ours), settle.method(pair.node));
        Some(Resolved { ours, node, tag: pair.ours, multiple: settle.multiple })
    }

    /// Takes note of an operation and of the answers to it, which are the same.
    pub(crate) fn note(&mut self, operation: &Operation, ours: &[Answer], node: &[Answer]) {
        let mut gets_settled = false;
        match operation {
            Operation::Method(at, AMQPClass::Basic(basic::AMQPMethod::Consume(consume))) => {
                let consumer = (*at, consume.consumer_tag.to_string());
                let is_new = ours
                    .iter()
                    .any(|answer| matches!(&answer.said, Said::Consumer { text, .. } if text == "consuming"));
                if consume.no_ack {
                    self.automatic.insert(consumer);
                } else if is_new || consume.nowait {
                    self.automatic.remove(&consumer);
                }
            }
            Operation::Method(_, AMQPClass::Basic(basic::AMQPMethod::Get(get))) => gets_settled = get.no_ack,
            Operation::Method(at, AMQPClass::Basic(basic::AMQPMethod::Recover(_))) => {
                self.channels.entry(*at).or_default().pairs.clear();
            }
            Operation::Method(at, AMQPClass::Tx(method)) => {
                let channel = self.channels.entry(*at).or_default();
                match method {
                    tx::AMQPMethod::Select(_) => channel.is_transactional = true,
                    tx::AMQPMethod::Commit(_) => channel.in_transaction.clear(),
                    tx::AMQPMethod::Rollback(_) => {
                        channel.pairs.append(&mut channel.in_transaction);
                        channel.pairs.sort_by_key(|pair| pair.ours);
                    }
                    _ => {}
                }
            }
            Operation::Drop(letter) | Operation::Shut(letter) => self.forget(*letter),
            _ => {}
        }
        self.pair(ours, node, gets_settled);
        for answer in ours {
            match &answer.said {
                Said::ChannelClosed(_) => self.forget_channel(answer.at),
                Said::Reply(text) if text == "closed" => self.forget_channel(answer.at),
                Said::ConnectionClosed(_) | Said::Ended => self.forget(answer.at.connection),
                _ => {}
            }
        }
    }

    /// Pairs deliveries: the first to a consumer with the first to it, and so on.
    fn pair(&mut self, ours: &[Answer], node: &[Answer], gets_settled: bool) {
        let mut there = BTreeMap::<_, Vec<u64>>::new();
        for (at, consumer, tag) in node.iter().filter_map(delivery) {
            there.entry((at, consumer)).or_default().insert(0, tag);
        }
        for (at, consumer, tag) in ours.iter().filter_map(delivery) {
            let Some(node) = there.get_mut(&(at, consumer.clone())).and_then(Vec::pop) else { continue };
            let is_settled = match &consumer {
                Some(consumer) => self.automatic.contains(&(at, consumer.replace("amq.ctag-*", ""))),
                None => gets_settled,
            };
            if !is_settled {
                self.channels.entry(at).or_default().pairs.push(Pair { ours: tag, node });
            }
        }
    }

    fn forget_channel(&mut self, at: At) {
        self.channels.remove(&at);
        self.automatic.retain(|(of, _)| *of != at);
    }

    fn forget(&mut self, letter: char) {
        self.channels.retain(|at, _| at.connection != letter);
        self.automatic.retain(|(at, _)| at.connection != letter);
    }
}

fn delivery(answer: &Answer) -> Option<(At, Option<String>, u64)> {
    match &answer.said {
        Said::Deliver { consumer, delivery, .. } => Some((answer.at, Some(consumer.clone()), *delivery)),
        Said::Got { delivery, .. } => Some((answer.at, None, *delivery)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::How;

    const AT: At = At { connection: 'a', channel: 1 };

    fn deliver(consumer: &str, delivery: u64) -> Answer {
        Answer { at: AT, said: Said::Deliver { consumer: consumer.into(), delivery, text: String::new() } }
    }

    fn ack(tag: Tag, multiple: bool) -> Settle {
        Settle { how: How::Ack, tag, multiple, requeue: false }
    }

    fn tags(resolved: Option<Resolved>) -> Option<(u64, u64, bool)> {
        let resolved = resolved?;
        let AMQPClass::Basic(basic::AMQPMethod::Ack(node)) = resolved.node else { panic!() };
        Some((resolved.tag, node.delivery_tag, node.multiple))
    }

    fn crossed() -> Unsettled {
        let mut unsettled = Unsettled::default();
        let (ours, node) = ([deliver("c", 1), deliver("d", 2)], [deliver("d", 1), deliver("c", 2)]);
        unsettled.note(&Operation::Slow, &ours, &node);
        unsettled
    }

    #[test]
    fn a_place_is_the_same_delivery_on_both_sides() {
        let mut unsettled = crossed();
        assert_eq!(tags(unsettled.resolve(AT, ack(Tag::Unsettled(0), false))), Some((1, 2, false)));
        assert_eq!(tags(unsettled.resolve(AT, ack(Tag::Unsettled(4), false))), Some((2, 1, false)));
        assert_eq!(unsettled.resolve(AT, ack(Tag::Unsettled(0), false)), None);
    }

    #[test]
    fn multiple_is_left_out_where_it_would_mean_other_deliveries() {
        let mut unsettled = crossed();
        assert_eq!(tags(unsettled.resolve(AT, ack(Tag::Unsettled(0), true))), Some((1, 2, false)));
        assert_eq!(tags(crossed().resolve(AT, ack(Tag::Number(0), true))), Some((0, 0, true)));
        assert_eq!(tags(crossed().resolve(AT, ack(Tag::Number(1), true))), None);
    }

    #[test]
    fn a_rollback_brings_back_what_was_settled() {
        let mut unsettled = Unsettled::default();
        unsettled.note(&Operation::Slow, &[deliver("c", 1)], &[deliver("c", 1)]);
        let select = Operation::Method(AT, AMQPClass::Tx(tx::AMQPMethod::Select(tx::Select {})));
        unsettled.note(&select, &[], &[]);
        assert!(unsettled.resolve(AT, ack(Tag::Unsettled(0), false)).is_some());
        assert!(unsettled.resolve(AT, ack(Tag::Unsettled(0), false)).is_none());
        let rollback = Operation::Method(AT, AMQPClass::Tx(tx::AMQPMethod::Rollback(tx::Rollback {})));
        unsettled.note(&rollback, &[], &[]);
        assert!(unsettled.resolve(AT, ack(Tag::Unsettled(0), false)).is_some());
    }
}
