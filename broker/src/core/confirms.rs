//! Confirms of a channel, merged as RabbitMQ merges them.

/// The confirms of a channel that are not sent yet.
#[derive(Debug)]
pub(crate) struct Confirms {
    /// The number of the next publish.
    next: u64,
    acked: Vec<u64>,
    nacked: Vec<u64>,
}

/// An ack or a nack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Confirm {
    pub(crate) tag: u64,
    pub(crate) multiple: bool,
    pub(crate) ack: bool,
}

impl Default for Confirms {
    fn default() -> Self {
        Self { next: 1, acked: Vec::new(), nacked: Vec::new() }
    }
}

impl Confirms {
    /// Returns the number of a publish.
    pub(crate) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.acked.is_empty() && self.nacked.is_empty()
    }

    /// Records what came of a publish.
    pub(crate) fn record(&mut self, number: u64, ack: bool) {
        if ack { self.acked.push(number) } else { self.nacked.push(number) }
    }

    /// Takes what is recorded: acks, then nacks. What is below the lowest of the other kind is one frame with
    /// `multiple`, unless it is alone.
    pub(crate) fn take(&mut self, send: &mut impl FnMut(Confirm)) {
        self.acked.sort_unstable();
        self.nacked.sort_unstable();
        // A single ack is never `multiple`, a single nack is whenever nothing lies below it.
        if let [tag] = self.acked[..] {
            send(Confirm { tag, multiple: false, ack: true });
        } else {
            merge(&self.acked, self.nacked.first().copied(), true, send);
        }
        merge(&self.nacked, self.acked.first().copied(), false, send);
        self.acked.clear();
        self.nacked.clear();
    }
}

fn merge(numbers: &[u64], cutoff: Option<u64>, ack: bool, send: &mut impl FnMut(Confirm)) {
    let below = numbers.partition_point(|number| cutoff.is_none_or(|cutoff| *number < cutoff));
    let (merged, single) = numbers.split_at(below);
    if let Some(tag) = merged.last() {
        send(Confirm { tag: *tag, multiple: true, ack });
    }
    for tag in single {
        send(Confirm { tag: *tag, multiple: false, ack });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(acks: &[u64], nacks: &[u64]) -> Vec<(u64, bool, bool)> {
        let mut confirms = Confirms::default();
        for number in acks {
            confirms.record(*number, true);
        }
        for number in nacks {
            confirms.record(*number, false);
        }
        let mut sent = Vec::new();
        confirms.take(&mut |confirm| sent.push((confirm.tag, confirm.multiple, confirm.ack)));
        assert!(confirms.is_empty());
        sent
    }

    /// broker.md 7
    #[test]
    fn confirms_are_merged_as_rabbitmq_does() {
        assert_eq!(sent(&[1], &[]), [(1, false, true)]);
        assert_eq!(sent(&[5, 2, 3], &[]), [(5, true, true)]);
        assert_eq!(
            sent(&[1, 2, 4], &[3, 5]),
            [(2, true, true), (4, false, true), (3, false, false), (5, false, false)]
        );
        assert_eq!(sent(&[], &[1]), [(1, true, false)]);
        assert_eq!(sent(&[4], &[1, 2]), [(4, false, true), (2, true, false)]);
    }

    #[test]
    fn numbers_count_from_one() {
        let mut confirms = Confirms::default();
        assert_eq!((confirms.number(), confirms.number()), (1, 2));
    }
}
