//! A connection that is blocked while an alarm is on.

use actix_pika_actors::wire::{
    method::{AMQPClass, connection},
    short::short_truncated,
};

use super::{Now, Peer, Phase};
use crate::core::Core;
use crate::server::alarm::LOW_ON_MEMORY;

impl Peer {
    pub(in crate::server) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// A content has come: while an alarm is on, the publisher is told, and not read any more.
    pub(super) fn block(&mut self, core: &mut Core, now: Now<'_>) {
        let Some(reason) = now.alarm.or_else(|| core.is_low_on_memory().then_some(LOW_ON_MEMORY)) else {
            return;
        };
        if self.blocked || !matches!(self.phase, Phase::Running(_)) {
            return;
        }
        self.blocked = true;
        if self.tells_blocked {
            let reason = short_truncated(reason);
            let blocked = connection::AMQPMethod::Blocked(connection::Blocked { reason });
            self.write_method(now, 0, &AMQPClass::Connection(blocked));
        }
    }

    /// The alarm is over: goes on with what was sent meanwhile.
    pub(in crate::server) fn unblock(&mut self, core: &mut Core, now: Now<'_>) {
        if !self.blocked {
            return;
        }
        self.blocked = false;
        self.last_read = now.net;
        if self.tells_blocked && matches!(self.phase, Phase::Running(_)) {
            let unblocked = connection::AMQPMethod::Unblocked(connection::Unblocked {});
            self.write_method(now, 0, &AMQPClass::Connection(unblocked));
        }
        self.process(core, now);
    }
}
