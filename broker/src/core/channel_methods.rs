//! `channel.flow`, `confirm.select` and the prefetch.

use actix_pika_actors::wire::method::{AMQPClass, basic, channel, confirm};

use super::{
    ChannelAt, Core,
    confirms::Confirms,
    dispatch::{Handled, unless},
    error::Failure,
    output::Output,
    session::Mode,
    time::Time,
};

impl Core {
    pub(super) fn flow(&mut self, active: bool) -> Handled {
        if active {
            Ok(Some(AMQPClass::Channel(channel::AMQPMethod::FlowOk(channel::FlowOk { active }))))
        } else {
            Err(Failure::connection(540, "active=false"))
        }
    }

    pub(super) fn select_confirm(&mut self, at: ChannelAt, select: &confirm::Select) -> Handled {
        let channel = self.channel(at)?;
        match channel.mode {
            Mode::Transaction(_) => {
                return Err(Failure::channel(406, "cannot switch from tx to confirm mode"));
            }
            Mode::Confirm(_) => {}
            Mode::Plain => channel.mode = Mode::Confirm(Confirms::default()),
        }
        unless(select.nowait, || AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(confirm::SelectOk {})))
    }

    /// `basic.qos`. Limits hold for consumers that start later; the shared one holds at once.
    pub(super) fn set_prefetch(&mut self, at: ChannelAt, qos: &basic::Qos) -> Handled {
        let shares = self.config.permits.shares_prefetch(self.config.line);
        let channel = self.channel(at)?;
        if qos.global && shares {
            // What is outstanding when the first limit is set counts, as do messages that were got.
            if channel.shared.limit == 0 {
                channel.shared.used = channel.unacked.len() as u32;
            }
            channel.shared.limit = qos.prefetch_count;
        } else {
            channel.prefetch = qos.prefetch_count;
            channel.shared.limit = 0;
        }
        self.review_consumers(at);
        Ok(Some(AMQPClass::Basic(basic::AMQPMethod::QosOk(basic::QosOk {}))))
    }

    /// Sends the confirms that were merged until now. To be called when all that was read is handled.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::core::{Core, CoreConfig, Time};
    /// Core::new(CoreConfig::default()).flush(Time::ZERO);
    /// ```
    pub fn flush(&mut self, now: Time) {
        self.arrive(now);
        while let Some(at) = self.confirming.pop() {
            self.send_confirms(at);
        }
    }

    /// Sends the confirms of a channel.
    pub(super) fn send_confirms(&mut self, at: ChannelAt) {
        let Some(channel) = self
            .connections
            .get_mut(at.connection)
            .and_then(|connection| connection.channels.get_mut(&at.number))
        else {
            return;
        };
        if let Mode::Confirm(confirms) = &mut channel.mode {
            let outputs = &mut self.outputs;
            confirms.take(&mut |confirm| {
                let (tag, multiple) = (confirm.tag, confirm.multiple);
                let output =
                    if confirm.ack { Output::Ack { tag, multiple } } else { Output::Nack { tag, multiple } };
                outputs.push_back(super::Outgoing { connection: at.connection, channel: at.number, output });
            });
        }
    }
}
