//! The way of a method: to its handler, and of the reply or the error back.

use actix_pika_actors::wire::method::{AMQPClass, basic, channel, confirm, exchange, ids, queue, tx};
use amq_protocol::protocol::access;

use super::{
    ChannelAt, Core,
    error::{Close, Failure},
    keys::ConnectionId,
    output::Output,
    session::{ChannelState, Ending, Settle},
    time::Time,
};

/// What a handler gives: a reply, or none where the client wants none.
pub(crate) type Handled = Result<Option<AMQPClass>, Failure>;

/// Returns a reply unless the client wants none.
pub(crate) fn unless(nowait: bool, reply: impl FnOnce() -> AMQPClass) -> Handled {
    Ok(if nowait { None } else { Some(reply()) })
}

impl Core {
    /// Takes a method of a channel other than 0, which is not `basic.publish`.
    ///
    /// An error closes the channel or the connection; its `close` is an output as any reply. A connection that
    /// does not exist any more is ignored.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_actors::wire::method::{AMQPClass, channel};
    /// # use actix_pika_broker::core::{ConnectionId, Core, Time};
    /// fn open(core: &mut Core, connection: ConnectionId) {
    ///     let open = channel::AMQPMethod::Open(channel::Open {});
    ///     core.method(Time::ZERO, connection, 1, AMQPClass::Channel(open));
    /// }
    /// ```
    pub fn method(&mut self, now: Time, connection: ConnectionId, channel: u16, method: AMQPClass) {
        self.arrive(now);
        let at = ChannelAt { connection, number: channel };
        let ids = ids(&method);
        let handled = match self.channel_state(connection, channel) {
            _ if !self.connections.contains_key(connection) => return,
            ChannelState::Open => self.handle(at, method),
            ChannelState::Closed => self.handle_closed(at, method),
            ChannelState::Closing => self.handle_closing(at, method),
        };
        match handled {
            Ok(None) => {}
            Ok(Some(reply)) => self.send(at, Output::Method(reply)),
            Err(failure) => self.fail_at(at, failure.at(ids)),
        }
        self.run();
    }

    /// Closes a channel or its connection because of an error that the server found, as in a frame.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Close, ConnectionId, Core, Failure, Time};
    /// fn refuse(core: &mut Core, connection: ConnectionId) {
    ///     let close = Close::new(540, "prefetch_size!=0 (5)").at(60, 10);
    ///     core.fail(Time::ZERO, connection, 1, Failure::Connection(close));
    /// }
    /// ```
    pub fn fail(&mut self, now: Time, connection: ConnectionId, channel: u16, failure: Failure) {
        self.arrive(now);
        self.fail_at(ChannelAt { connection, number: channel }, failure);
        self.run();
    }

    /// Returns the state of a channel.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{ChannelState, ConnectionId, Core, CoreConfig};
    /// let core = Core::new(CoreConfig::default());
    /// assert_eq!(core.channel_state(ConnectionId::default(), 1), ChannelState::Closed);
    /// ```
    pub fn channel_state(&self, connection: ConnectionId, channel: u16) -> ChannelState {
        match self.connections.get(connection).and_then(|connection| connection.channels.get(&channel)) {
            None => ChannelState::Closed,
            Some(channel) if channel.ending != Ending::No => ChannelState::Closing,
            Some(_) => ChannelState::Open,
        }
    }

    pub(super) fn fail_at(&mut self, at: ChannelAt, failure: Failure) {
        match failure {
            Failure::Channel(close) => self.close_channel_with(at, close),
            Failure::Connection(close) => self.close_connection_with(at.connection, close),
        }
    }

    fn handle_closed(&mut self, at: ChannelAt, method: AMQPClass) -> Handled {
        match method {
            AMQPClass::Channel(channel::AMQPMethod::Open(_)) => self.open_channel(at),
            _ => Err(Failure::connection(504, "expected 'channel.open'")),
        }
    }

    /// Of a channel that the broker has closed, only the end of the close is heard.
    fn handle_closing(&mut self, at: ChannelAt, method: AMQPClass) -> Handled {
        match method {
            AMQPClass::Channel(channel::AMQPMethod::Open(_)) => {
                Err(Failure::connection(504, "second 'channel.open' seen"))
            }
            AMQPClass::Channel(channel::AMQPMethod::Close(_)) => {
                // The broker's own close is still to be answered.
                Ok(Some(AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {}))))
            }
            AMQPClass::Channel(channel::AMQPMethod::CloseOk(_)) => {
                self.forget_channel(at);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    fn handle(&mut self, at: ChannelAt, method: AMQPClass) -> Handled {
        match method {
            AMQPClass::Basic(method) => self.handle_basic(at, method),
            AMQPClass::Queue(method) => self.handle_queue(at, method),
            AMQPClass::Exchange(method) => self.handle_exchange(at, method),
            AMQPClass::Channel(method) => self.handle_channel(at, method),
            AMQPClass::Confirm(confirm::AMQPMethod::Select(select)) => self.select_confirm(at, &select),
            AMQPClass::Tx(tx::AMQPMethod::Select(_)) => self.select_transaction(at),
            AMQPClass::Tx(tx::AMQPMethod::Commit(_)) => self.commit(at),
            AMQPClass::Tx(tx::AMQPMethod::Rollback(_)) => self.roll_back(at),
            AMQPClass::Access(access::AMQPMethod::Request(_)) => {
                Ok(Some(AMQPClass::Access(access::AMQPMethod::RequestOk(access::RequestOk {}))))
            }
            _ => Err(unimplemented_method()),
        }
    }

    fn handle_basic(&mut self, at: ChannelAt, method: basic::AMQPMethod) -> Handled {
        use basic::AMQPMethod as Method;
        match method {
            Method::Ack(ack) => self.settle(at, ack.delivery_tag, ack.multiple, Settle::Ack),
            Method::Nack(nack) => {
                self.settle(at, nack.delivery_tag, nack.multiple, Settle::Nack { requeue: nack.requeue })
            }
            Method::Reject(reject) => {
                self.settle(at, reject.delivery_tag, false, Settle::Reject { requeue: reject.requeue })
            }
            Method::Get(get) => self.get(at, &get),
            Method::Consume(consume) => self.consume(at, &consume),
            Method::Cancel(cancel) => self.cancel(at, &cancel),
            Method::Qos(qos) => self.set_prefetch(at, &qos),
            Method::Recover(recover) => self.recover(at, recover.requeue, true),
            Method::RecoverAsync(recover) => self.recover(at, recover.requeue, false),
            _ => Err(unimplemented_method()),
        }
    }

    fn handle_queue(&mut self, at: ChannelAt, method: queue::AMQPMethod) -> Handled {
        use queue::AMQPMethod as Method;
        match method {
            Method::Declare(declare) => self.declare_queue(at, &declare),
            Method::Bind(bind) => self.bind_queue(at, &bind),
            Method::Unbind(unbind) => self.unbind_queue(at, &unbind),
            Method::Purge(purge) => self.purge_queue(at, &purge),
            Method::Delete(delete) => self.delete_queue_method(at, &delete),
            _ => Err(unimplemented_method()),
        }
    }

    fn handle_exchange(&mut self, at: ChannelAt, method: exchange::AMQPMethod) -> Handled {
        use exchange::AMQPMethod as Method;
        match method {
            Method::Declare(declare) => self.declare_exchange(at, &declare),
            Method::Delete(delete) => self.delete_exchange_method(at, &delete),
            Method::Bind(bind) => self.bind_exchange(at, &bind),
            Method::Unbind(unbind) => self.unbind_exchange(at, &unbind),
            _ => Err(unimplemented_method()),
        }
    }

    fn handle_channel(&mut self, at: ChannelAt, method: channel::AMQPMethod) -> Handled {
        use channel::AMQPMethod as Method;
        match method {
            Method::Open(_) => Err(Failure::connection(504, "second 'channel.open' seen")),
            Method::Close(_) => self.close_channel(at),
            Method::Flow(flow) => self.flow(flow.active),
            _ => Err(unimplemented_method()),
        }
    }
}

fn unimplemented_method() -> Failure {
    Failure::Connection(Close::new(503, "unimplemented method"))
}
