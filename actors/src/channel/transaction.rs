//! Transactions and `basic.recover`: calls that change what the settles before them mean, so that they go out under the
//! same lock with them.

use actix::{Context, Handler};
use bytes::Bytes;

use super::{Channel, Reply, Responder, replies::PendingReply};
use crate::{
    error::{Error, Result},
    message::{CommitTx, Recover, RollbackTx, SelectTx},
    returned::Return,
    wire::{AMQPClass, basic, ids, tx},
};

/// What a channel knows of its transaction.
#[derive(Debug, Default)]
pub(super) struct TransactionState {
    selected: bool,
    /// The first publish that came back since the last commit.
    returned: Option<Return>,
}

impl TransactionState {
    pub(super) fn selected(&self) -> bool {
        self.selected
    }

    /// Keeps a publish that came back for the answer to the commit.
    pub(super) fn returned(&mut self, returned: &Return) {
        if self.selected && self.returned.is_none() {
            self.returned = Some(returned.clone());
        }
    }
}

impl Channel {
    /// Sends `method` by way of `send`, and expects its answer.
    fn ask_by(
        &mut self,
        ctx: &mut Context<Self>,
        what: &'static str,
        method: AMQPClass,
        send: impl FnOnce(&mut Self, Bytes) -> Result<()>,
        on: impl FnOnce(Responder<()>) -> PendingReply,
    ) -> Reply<()> {
        let sent = self.usable().and_then(|()| {
            let frame = self.frame(&method)?;
            send(self, frame)
        });
        if let Err(error) = sent {
            return Reply::now(Err(error));
        }
        let (reply, responder) = Reply::later();
        self.replies.expect(what, None, ids(&method), on(responder));
        self.keep_ticking(ctx);
        reply
    }

    fn in_transaction(&self) -> Result<()> {
        self.usable()?;
        if self.transacting.selected {
            Ok(())
        } else {
            Err(Error::refused_here("the channel is not in transaction mode (tx.select)"))
        }
    }

    /// `tx.commit` was answered.
    pub(super) fn committed(&mut self, responder: Responder<()>) {
        let answer = match self.transacting.returned.take() {
            Some(returned) => Err(Error::unroutable(returned)),
            None => Ok(()),
        };
        drop(responder.send(answer));
    }
}

impl Handler<SelectTx> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, select: SelectTx, ctx: &mut Context<Self>) -> Reply<()> {
        if self.waits() {
            return self.later(select, ctx);
        }
        if self.outbox.terms().confirms {
            let what = "a channel with confirms cannot have transactions; open one with confirms(false)";
            return Reply::now(Err(Error::refused_here(what)));
        }
        let select = AMQPClass::Tx(tx::AMQPMethod::Select(tx::Select {}));
        let send = |channel: &mut Self, frame| {
            channel.outbox.select_tx(frame)?;
            channel.transacting.selected = true;
            Ok(())
        };
        self.ask_by(ctx, "tx.select", select, send, PendingReply::Done)
    }
}

impl Handler<CommitTx> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, _: CommitTx, ctx: &mut Context<Self>) -> Reply<()> {
        if let Err(error) = self.in_transaction() {
            return Reply::now(Err(error));
        }
        let send = |channel: &mut Self, frame| channel.outbox.commit_tx(frame);
        self.ask_by(ctx, "tx.commit", commit(), send, PendingReply::Committed)
    }
}

impl Handler<RollbackTx> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, _: RollbackTx, ctx: &mut Context<Self>) -> Reply<()> {
        let rollback = AMQPClass::Tx(tx::AMQPMethod::Rollback(tx::Rollback {}));
        let sent = self.in_transaction().and_then(|()| {
            let (rollback, commit) = (self.frame(&rollback)?, self.frame(&commit())?);
            self.outbox.rollback_tx(rollback, commit)
        });
        let (reply, responder) = Reply::later();
        match sent {
            Err(error) => return Reply::now(Err(error)),
            Ok(0) => self.replies.expect("tx.rollback", None, ids(&rollback), PendingReply::Done(responder)),
            Ok(requeued) => {
                log::debug!("channel {}: rolled back, {requeued} deliveries go back", self.number());
                self.replies.expect("tx.rollback", None, ids(&rollback), PendingReply::Internal);
                // Only then are they in their queues.
                self.replies.expect("tx.commit", None, ids(&commit()), PendingReply::Done(responder));
            }
        }
        self.keep_ticking(ctx);
        reply
    }
}

impl Handler<Recover> for Channel {
    type Result = Reply<()>;

    fn handle(&mut self, recover: Recover, ctx: &mut Context<Self>) -> Reply<()> {
        if self.waits() {
            return self.later(recover, ctx);
        }
        let recover = AMQPClass::Basic(basic::AMQPMethod::Recover(basic::Recover { requeue: true }));
        let send = |channel: &mut Self, frame| {
            channel.channel_epoch = channel.outbox.recover(frame)?;
            channel.recovering += 1;
            channel.consumers.discard();
            Ok(())
        };
        self.ask_by(ctx, "basic.recover", recover, send, PendingReply::Recovered)
    }
}

fn commit() -> AMQPClass {
    AMQPClass::Tx(tx::AMQPMethod::Commit(tx::Commit {}))
}
