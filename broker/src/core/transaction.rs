//! `tx.select`, `commit` and `rollback`.

use std::mem::discriminant;

use actix_pika_actors::wire::method::{AMQPClass, tx};

use super::{
    ChannelAt, Core,
    dispatch::Handled,
    error::Failure,
    keys::{QueueKey, VhostKey},
    names::queue_text,
    pretty::Pretty,
    rules::GoneAtCommit,
    session::{Delivered, Mode, Routed, Settle, Target, Transaction, Uncommitted},
    settings::QueueKind,
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
            match self.commit_publish(at, publish) {
                Ok(kept) => taken &= kept,
                Err(failure) => {
                    self.put_back(at, settled)?;
                    return Err(failure);
                }
            }
        }
        for (how, deliveries) in settled {
            self.settle_now(at, how, deliveries);
        }
        if !taken {
            // The queues tell later that they have refused a message: what was settled is done.
            while self.step() {}
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
        for target in routed {
            if let Some((key, _)) = target.found
                && self.topology.queues.contains_key(key)
            {
                queues.push(key);
                continue;
            }
            match self.instead_of(vhost, &target)? {
                Instead::Queue(found) => queues.push(found),
                Instead::Nothing => {}
                Instead::NoReturn => mandatory = false,
                Instead::Refusal => (taken, mandatory) = (false, false),
            }
        }
        Ok(self.deliver_to(at, Routed { message, mandatory, queues, replied }) && taken)
    }

    /// What a queue that is gone, or was not there, stands for.
    fn instead_of(&self, vhost: VhostKey, target: &Target) -> Result<Instead, Failure> {
        let found = self.topology.queue(vhost, &target.name);
        let Some((_, kind)) = &target.found else {
            return Ok(found.map_or(Instead::Nothing, Instead::Queue));
        };
        let is_same = |key: &QueueKey| {
            let queue = self.topology.queues.get(*key);
            queue.is_some_and(|queue| discriminant(&queue.queue.settings().kind) == discriminant(kind))
        };
        let same = found.filter(is_same);
        let vhost = self.topology.vhost_name(vhost);
        Ok(match (self.rules.gone_at_commit, kind) {
            (GoneAtCommit::LookedUp, _) => found.map_or(Instead::Nothing, Instead::Queue),
            (GoneAtCommit::ByKind, QueueKind::Classic { .. }) => Instead::Refusal,
            (GoneAtCommit::ByKind, QueueKind::Quorum { .. }) => {
                same.map_or(Instead::NoReturn, Instead::Queue)
            }
            (GoneAtCommit::ByKind, QueueKind::Stream { .. }) => {
                let text = format!("Stream not found for {}", queue_text(&vhost, &target.name));
                return Err(Failure::connection(506, text));
            }
            (GoneAtCommit::Fatal, _) if found.is_none() => {
                let text = "failed to deliver message: ";
                let term = not_found(&vhost, &target.name).behind(text.len());
                return Err(Failure::connection(506, format!("{text}{term}")));
            }
            (GoneAtCommit::Fatal, _) if same.is_none() => return Err(Failure::connection(541, "")),
            (GoneAtCommit::Fatal, QueueKind::Classic { .. }) => Instead::Refusal,
            (GoneAtCommit::Fatal, _) => same.map_or(Instead::Nothing, Instead::Queue),
        })
    }

    /// Forgets publishes, and puts what was settled back as outstanding.
    pub(super) fn roll_back(&mut self, at: ChannelAt) -> Handled {
        let transaction = self.take_transaction(at)?;
        self.put_back(at, transaction.settled)?;
        self.watch_again(at);
        Ok(Some(AMQPClass::Tx(tx::AMQPMethod::RollbackOk(tx::RollbackOk {}))))
    }

    fn put_back(
        &mut self,
        at: ChannelAt,
        settled: Vec<(Settle, Vec<(u64, Delivered)>)>,
    ) -> Result<(), Failure> {
        self.channel(at)?.unacked.put_back(settled.into_iter().flat_map(|(_, taken)| taken));
        Ok(())
    }

    fn take_transaction(&mut self, at: ChannelAt) -> Result<Transaction, Failure> {
        match &mut self.channel(at)?.mode {
            Mode::Transaction(transaction) => Ok(std::mem::take(transaction)),
            _ => Err(Failure::channel(406, "channel is not transactional")),
        }
    }
}

/// What becomes of a message for a queue that is gone.
enum Instead {
    Queue(QueueKey),
    Nothing,
    /// It is dropped, and does not come back even if it is mandatory.
    NoReturn,
    /// The commit fails.
    Refusal,
}

fn not_found(vhost: &str, queue: &str) -> Pretty {
    let binary = |name: &str| Pretty::Atomic(print_binary(name.as_bytes()));
    let resource = vec![binary(vhost), Pretty::Atomic("queue".into()), binary(queue)];
    Pretty::Tuple("not_found".into(), vec![Pretty::Tuple("resource".into(), resource)])
}
