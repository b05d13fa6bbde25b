//! `basic.return`: which publish came back.
//!
//! The broker sends the exchange, the routing key, the properties and the body, but no delivery tag.

use super::{
    Outbox, OutboxState,
    confirms::{ConfirmState, Confirms},
    unconfirmed::ReadPosition,
    unconfirmed::Unconfirmed,
    written_publish::{PublishReader, WrittenPublish},
};
use crate::returned::Return;

/// What a publish has in common with one that came back, beside exchange and routing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    Nothing,
    Body,
    /// Body and properties. The broker may have changed properties (`BCC`).
    BodyAndProperties,
}

impl Outbox {
    /// Applies `basic.return`, with its encoded properties: the publish fails when its confirm arrives. Gives
    /// the return back if no unconfirmed publish matches it.
    pub(crate) fn returned(&self, returned: Return, properties: &[u8]) -> Option<Return> {
        let (unmatched, _old) = self.with(|state, _| {
            let OutboxState { unconfirmed, confirms, .. } = state;
            let awaits = |sequence| confirms.awaits_return(sequence);
            match unconfirmed.match_return(&returned, properties, awaits) {
                Some(sequence) => (None, confirms.returns.insert(sequence, returned)),
                None => {
                    confirms.answers.returned += u64::from(!self.config.confirms);
                    (Some(returned), None)
                }
            }
        });
        unmatched
    }
}

impl Confirms {
    /// Returns whether `sequence` is a mandatory publish that is neither resolved nor returned.
    fn awaits_return(&self, sequence: u64) -> bool {
        let at = sequence.checked_sub(self.base);
        let slot = at.and_then(|at| self.ring.get(at as usize));
        slot.is_some_and(|slot| slot.mandatory && slot.state != ConfirmState::Resolved)
            && !self.returns.contains_key(&sequence)
    }
}

impl Unconfirmed {
    /// Finds the publish that came back: of those with the same exchange and routing key the most similar
    /// one, and among equals the oldest one behind the last match.
    fn match_return(
        &mut self,
        returned: &Return,
        properties: &[u8],
        awaits_return: impl Fn(u64) -> bool,
    ) -> Option<u64> {
        let front = self.front()?;
        let start = self.next_return.filter(|position| position.batch >= front.batch).unwrap_or(front);
        let mut best: Option<(Likeness, u64, ReadPosition)> = None;
        for (from, until) in [(start, u64::MAX), (front, start.sequence)] {
            let mut reader = PublishReader::new(self, from);
            while reader.position().sequence < until
                && best.is_none_or(|(found, ..)| found < Likeness::BodyAndProperties)
            {
                let Some(publish) = reader.next_publish() else { break };
                let Some(likeness) = publish.likeness(returned, properties) else { continue };
                if best.is_none_or(|(found, ..)| found < likeness) && awaits_return(publish.sequence) {
                    best = Some((likeness, publish.sequence, reader.position()));
                }
            }
        }
        let (_, sequence, next) = best?;
        self.next_return = Some(next);
        Some(sequence)
    }
}

impl WrittenPublish<'_> {
    /// Compares with a return; `None` for another exchange or routing key.
    fn likeness(&self, returned: &Return, properties: &[u8]) -> Option<Likeness> {
        if self.exchange != returned.exchange.as_bytes()
            || self.routing_key != returned.routing_key.as_bytes()
        {
            return None;
        }
        Some(if !self.body_is(&returned.body) {
            Likeness::Nothing
        } else if self.properties == properties {
            Likeness::BodyAndProperties
        } else {
            Likeness::Body
        })
    }
}
