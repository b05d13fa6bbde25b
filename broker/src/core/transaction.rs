//! `tx.select`, `commit` and `rollback`.

use actix_pika_actors::wire::method::{AMQPClass, tx};

use super::{
    ChannelAt, Core,
    dispatch::Handled,
    error::Failure,
    line::GoneAtCommit,
    session::{Mode, Routed, Transaction, Uncommitted},
    term::print_binary,
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
        for publish in publishes {
            taken &= self.commit_publish(at, publish)?;
        }
        for (how, deliveries) in settled {
            self.settle_now(at, how, deliveries);
        }
        if !taken {
            return Err(Failure::channel(406, "partial tx completion"));
        }
        Ok(Some(AMQPClass::Tx(tx::AMQPMethod::CommitOk(tx::CommitOk {}))))
    }

    /// Gives a message to its queues. Returns whether all of them took it.
    fn commit_publish(&mut self, at: ChannelAt, publish: Uncommitted) -> Result<bool, Failure> {
        let Uncommitted { message, mut mandatory, queues: routed, replied } = publish;
        let vhost = self.connection(at)?.vhost;
        let mut taken = true;
        let mut queues = Vec::with_capacity(routed.len());
        for (key, name) in routed {
            if self.topology.queues.contains_key(key) {
                queues.push(key);
                continue;
            }
            let of_that_name = self.topology.queue(vhost, &name);
            match (self.rules.gone_at_commit, of_that_name) {
                (GoneAtCommit::LookedUp, found) => queues.extend(found),
                (GoneAtCommit::Fatal, None) => {
                    let vhost = print_binary(self.topology.vhost_name(vhost).as_bytes());
                    let name = print_binary(name.as_bytes());
                    let text =
                        format!("failed to deliver message: {{not_found,{{resource,{vhost},queue,{name}}}}}");
                    return Err(Failure::connection(506, text));
                }
                (GoneAtCommit::Refused | GoneAtCommit::Fatal, _) => (taken, mandatory) = (false, false),
            }
        }
        Ok(self.deliver_to(at, Routed { message, mandatory, queues, replied }) && taken)
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
