//! `tx.select`, `commit` and `rollback`.

use actix_pika_actors::wire::method::{AMQPClass, tx};

use super::{
    ChannelAt, Core,
    dispatch::Handled,
    error::Failure,
    session::{Mode, Transaction},
};

impl Core {
    pub(super) fn select_transaction(&mut self, at: ChannelAt) -> Handled {
        let channel = self.channel(at)?;
        match channel.mode {
            Mode::Confirm(_) => return Err(Failure::channel(406, "cannot switch from confirm to tx mode")),
            Mode::Transaction(_) => {}
            Mode::Plain => channel.mode = Mode::Transaction(Transaction::default()),
        }
        Ok(Some(AMQPClass::Tx(tx::AMQPMethod::SelectOk(tx::SelectOk {}))))
    }

    /// Publishes, in order, then what was settled. A queue that refuses a message fails the commit.
    pub(super) fn commit(&mut self, at: ChannelAt) -> Handled {
        let Transaction { publishes, settled } = self.take_transaction(at)?;
        let mut taken = true;
        for routed in publishes {
            taken &= self.deliver_committed(at, routed);
        }
        for (how, deliveries) in settled {
            self.settle_now(at, how, deliveries);
        }
        if !taken {
            return Err(Failure::channel(406, "partial tx completion"));
        }
        Ok(Some(AMQPClass::Tx(tx::AMQPMethod::CommitOk(tx::CommitOk {}))))
    }

    /// Forgets publishes, and puts what was settled back as outstanding.
    pub(super) fn roll_back(&mut self, at: ChannelAt) -> Handled {
        let transaction = self.take_transaction(at)?;
        let channel = self.channel(at)?;
        channel.unacked.put_back(transaction.settled.into_iter().flat_map(|(_, taken)| taken));
        Ok(Some(AMQPClass::Tx(tx::AMQPMethod::RollbackOk(tx::RollbackOk {}))))
    }

    fn take_transaction(&mut self, at: ChannelAt) -> Result<Transaction, Failure> {
        match &mut self.channel(at)?.mode {
            Mode::Transaction(transaction) => Ok(std::mem::take(transaction)),
            _ => Err(Failure::channel(406, "channel is not transactional")),
        }
    }
}
