//! Transactions (`tx.*`) and `basic.recover`.
//!
//! These calls change the meaning of earlier acks, so the outbox writes both under one lock.

use bytes::Bytes;
use tokio::time::Instant;

use super::{Call, ChannelMachine, PendingReply, Reply, Responder};
use crate::{
    error::{Error, Result},
    message::{CommitTx, Recover, RollbackTx, SelectTx, methods},
    returned::Return,
    wire::AMQPClass,
};

/// The transaction of a channel.
#[derive(Debug, Default)]
pub(super) enum TransactionState {
    #[default]
    None,
    /// `tx.select` is sent.
    Selected {
        /// The first publish that came back since the last commit.
        returned: Option<Box<Return>>,
    },
}

impl TransactionState {
    pub(super) fn selected(&self) -> bool {
        matches!(self, Self::Selected { .. })
    }

    fn select(&mut self) {
        if !self.selected() {
            *self = Self::Selected { returned: None };
        }
    }

    /// Keeps a publish that came back for the reply to the commit.
    pub(super) fn returned(&mut self, publish: &Return) {
        if let Self::Selected { returned } = self {
            returned.get_or_insert_with(|| Box::new(publish.clone()));
        }
    }

    /// Returns the reply to a commit.
    fn committed(&mut self) -> Result<()> {
        match self {
            Self::Selected { returned } => match returned.take() {
                Some(returned) => Err(Error::unroutable(*returned)),
                None => Ok(()),
            },
            Self::None => Ok(()),
        }
    }
}

impl ChannelMachine {
    /// Sends `method` by way of `send`, and expects its reply.
    fn ask_by(
        &mut self,
        method: &AMQPClass,
        send: impl FnOnce(&mut Self, Bytes) -> Result<()>,
        reply: impl FnOnce(Responder<()>) -> PendingReply,
        now: Instant,
    ) -> Reply<()> {
        let sent = self.state.usable().and_then(|()| {
            let frame = self.frame(method)?;
            send(self, frame)
        });
        if let Err(error) = sent {
            return Reply::now(Err(error));
        }
        let (answer, responder) = Reply::later();
        self.replies.expect(method, None, None, reply(responder), now);
        self.outputs.request_tick();
        answer
    }

    fn in_transaction(&self) -> Result<()> {
        self.state.usable()?;
        match self.transaction {
            TransactionState::Selected { .. } => Ok(()),
            TransactionState::None => {
                Err(Error::refused_here("the channel is not in transaction mode (tx.select)"))
            }
        }
    }

    /// Returns whether calls wait for the reply to a commit or rollback: the broker closes the connection (504)
    /// for a method that comes before it has committed.
    pub(super) fn awaits_commit(&self) -> bool {
        self.transaction.selected() && self.replies.has_commit()
    }

    /// A transaction does not survive its connection, so a commit never waits for the next one.
    pub(super) fn commit(&mut self, commit: CommitTx, now: Instant) -> Reply<()> {
        if let Err(error) = self.in_transaction() {
            return Reply::now(Err(error));
        }
        self.call(commit, now)
    }

    pub(super) fn rollback(&mut self, rollback: RollbackTx, now: Instant) -> Reply<()> {
        if let Err(error) = self.in_transaction() {
            return Reply::now(Err(error));
        }
        self.call(rollback, now)
    }

    fn commit_now(&mut self, now: Instant) -> Reply<()> {
        if let Err(error) = self.in_transaction() {
            return Reply::now(Err(error));
        }
        let send = |channel: &mut Self, frame| channel.outbox.commit_tx(frame);
        self.ask_by(&methods::tx_commit(), send, PendingReply::Committed, now)
    }

    fn rollback_now(&mut self, now: Instant) -> Reply<()> {
        let (rollback, commit) = (methods::tx_rollback(), methods::tx_commit());
        let sent = self.in_transaction().and_then(|()| {
            let frames = (self.frame(&rollback)?, self.frame(&commit)?);
            self.outbox.rollback_tx(frames.0, frames.1)
        });
        let (reply, responder) = Reply::later();
        let done = PendingReply::Done(responder);
        match sent {
            Err(error) => return Reply::now(Err(error)),
            Ok(0) => self.replies.expect(&rollback, None, None, done, now),
            Ok(requeued) => {
                log::debug!("channel {}: rolled back, {requeued} deliveries requeued", self.number());
                self.replies.expect(&rollback, None, None, PendingReply::Internal, now);
                // They are in their queues once their refusal is committed.
                self.replies.expect(&commit, None, None, done, now);
            }
        }
        self.outputs.request_tick();
        reply
    }

    /// A reply to `tx.commit` or `tx.rollback` has come. With the last one, what waited for it is written.
    pub(super) fn transaction_answered(&mut self, reply: PendingReply) {
        if !self.replies.has_commit() {
            self.outbox.transaction_answered();
        }
        match reply {
            PendingReply::Committed(responder) => {
                let _ = responder.send(self.transaction.committed());
            }
            // The end of a rollback.
            PendingReply::Done(responder) => {
                let _ = responder.send(Ok(()));
            }
            // The caller has its timeout already. The next commit does not report what this one returned.
            _ => drop(self.transaction.committed()),
        }
    }

    /// The reply to `basic.recover` has come: what was delivered before is requeued, what comes from now on
    /// counts.
    pub(super) fn basic_recovered(&mut self, responder: Responder<()>) {
        self.basic_recovers = self.basic_recovers.saturating_sub(1);
        let _ = responder.send(Ok(()));
    }
}

impl Call for SelectTx {
    type Answer = ();

    fn make(self, channel: &mut ChannelMachine, now: Instant) -> Reply<()> {
        if channel.outbox.config().confirms {
            let what = "a channel with confirms cannot have transactions; open one with confirms(false)";
            return Reply::now(Err(Error::refused_here(what)));
        }
        let send = |channel: &mut ChannelMachine, frame| {
            channel.outbox.select_tx(frame)?;
            channel.transaction.select();
            Ok(())
        };
        channel.ask_by(&methods::tx_select(), send, PendingReply::Done, now)
    }
}

impl Call for CommitTx {
    type Answer = ();

    const OUTLIVES_CALLER: bool = true;

    fn make(self, channel: &mut ChannelMachine, now: Instant) -> Reply<()> {
        channel.commit_now(now)
    }
}

impl Call for RollbackTx {
    type Answer = ();

    const OUTLIVES_CALLER: bool = true;

    fn make(self, channel: &mut ChannelMachine, now: Instant) -> Reply<()> {
        channel.rollback_now(now)
    }
}

impl Call for Recover {
    type Answer = ();

    fn make(self, channel: &mut ChannelMachine, now: Instant) -> Reply<()> {
        let send = |channel: &mut ChannelMachine, frame| {
            channel.channel_epoch = channel.outbox.basic_recover(frame)?;
            channel.basic_recovers += 1;
            channel.consumers.discard();
            Ok(())
        };
        channel.ask_by(&methods::basic_recover(), send, PendingReply::BasicRecovered, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::ErrorKind, wire::Properties};

    fn returned(key: &str) -> Return {
        Return {
            code: 312,
            text: "NO_ROUTE".into(),
            exchange: String::new(),
            routing_key: key.into(),
            properties: Ok(Properties::default()),
            body: Bytes::new(),
        }
    }

    #[test]
    fn a_commit_reports_the_first_returned_publish_once() {
        let mut state = TransactionState::default();
        state.returned(&returned("before the transaction"));
        state.select();
        assert!(state.committed().is_ok());
        state.returned(&returned("first"));
        state.returned(&returned("second"));
        let error = state.committed().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unroutable);
        assert_eq!(error.returned().map(|returned| returned.routing_key.as_str()), Some("first"));
        assert!(state.committed().is_ok());
    }
}
