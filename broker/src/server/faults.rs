//! Faults on order.

use std::time::Duration;

use super::{
    handle::{Broker, millis},
    peer::Peer,
    state::State,
};
use crate::core::{Close, ConnectionId, Core, Failure, Keep};

impl Broker {
    /// Cuts a connection by a reset, as a firewall does. Returns false if it is not open.
    ///
    /// # Examples
    /// ```no_run
    /// # fn cut(broker: actix_pika_broker::Broker) {
    /// for connection in broker.connections() {
    ///     broker.cut(connection.id);
    /// }
    /// # }
    /// ```
    pub fn cut(&self, connection: ConnectionId) -> bool {
        self.with(connection, |peer, core, now| peer.reset(core, now))
    }

    /// Cuts a connection by a reset when so many octets more were written to it. Returns false if it is not open.
    ///
    /// # Examples
    /// ```no_run
    /// # fn cut(broker: actix_pika_broker::Broker) {
    /// // In the middle of the next frame.
    /// broker.cut_after(broker.connections()[0].id, 5);
    /// # }
    /// ```
    pub fn cut_after(&self, connection: ConnectionId, octets: u64) -> bool {
        self.with(connection, |peer, _, _| peer.cut_after(octets))
    }

    /// Cuts a connection by a reset when so many octets more were read from it. Returns false if it is not open.
    ///
    /// # Examples
    /// ```no_run
    /// # fn cut(broker: actix_pika_broker::Broker) {
    /// // In the middle of the next publish.
    /// broker.cut_input_after(broker.connections()[0].id, 40);
    /// # }
    /// ```
    pub fn cut_input_after(&self, connection: ConnectionId, octets: u64) -> bool {
        self.with(connection, |peer, core, now| peer.cut_input_after(core, now, octets))
    }

    /// Closes a connection with a reply code and a text. The broker puts the name of the code in front of the text: 320 and
    /// `bye` become `CONNECTION_FORCED - bye`. Returns false if it is not open.
    ///
    /// # Examples
    /// ```no_run
    /// # fn close(broker: actix_pika_broker::Broker) {
    /// for connection in broker.connections() {
    ///     broker.close_connection(connection.id, 320, "Closed via management plugin");
    /// }
    /// # }
    /// ```
    pub fn close_connection(&self, connection: ConnectionId, code: u16, text: &str) -> bool {
        self.shared.change(|state| {
            let is_open = state.core.is_open(connection);
            let close = Failure::Connection(Close::new(code, text.to_owned()));
            state.core.fail(state.clock.core(), connection, 0, close);
            is_open
        })
    }

    /// Stops reading from a connection: what the client sends stays in the buffers of the sockets, and its silence is not
    /// noticed. Returns false if it is not open.
    ///
    /// # Examples
    /// ```no_run
    /// # fn stop(broker: actix_pika_broker::Broker) {
    /// for connection in broker.connections() {
    ///     broker.stop_reading(connection.id);
    /// }
    /// # }
    /// ```
    pub fn stop_reading(&self, connection: ConnectionId) -> bool {
        self.with(connection, |peer, core, now| peer.set_read_paused(core, now, true))
    }

    /// Resumes reading from a connection. Returns false if it is not open.
    ///
    /// # Examples
    /// ```no_run
    /// # fn resume(broker: actix_pika_broker::Broker) {
    /// for connection in broker.connections() {
    ///     broker.resume_reading(connection.id);
    /// }
    /// # }
    /// ```
    pub fn resume_reading(&self, connection: ConnectionId) -> bool {
        self.with(connection, |peer, core, now| peer.set_read_paused(core, now, false))
    }

    /// Delays what is written to a connection from now on. Returns false if it is not open.
    ///
    /// # Examples
    /// ```no_run
    /// # fn delay(broker: actix_pika_broker::Broker) {
    /// broker.delay(broker.connections()[0].id, std::time::Duration::from_millis(200));
    /// # }
    /// ```
    pub fn delay(&self, connection: ConnectionId, by: Duration) -> bool {
        self.with(connection, |peer, _, _| peer.delay = millis(by))
    }

    /// Refuses the next connects: their sockets are reset.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().refuse_connects(3);
    /// ```
    pub fn refuse_connects(&self, connects: u32) {
        self.shared.change(|state| state.refused = connects);
    }

    /// Refuses the next publishes with `basic.nack`, where there are confirms.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().nack_next(3);
    /// ```
    pub fn nack_next(&self, publishes: u32) {
        self.shared.change(|state| state.core.nack_next(publishes));
    }

    /// Returns the next publishes as if no queue got them (312).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().return_next(1);
    /// ```
    pub fn return_next(&self, publishes: u32) {
        self.shared.change(|state| state.core.return_next(publishes));
    }

    /// Cancels all consumers of a queue of the virtual host `/`, as if it moved to another node. Returns how many there
    /// were.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// assert_eq!(Broker::start().unwrap().cancel_consumers("orders"), 0);
    /// ```
    pub fn cancel_consumers(&self, queue: &str) -> usize {
        self.in_vhost("/").cancel_consumers(queue)
    }

    /// Sets an alarm: connections that publish are blocked, for this reason (`low on memory`, `low on disk`).
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().block("low on memory");
    /// ```
    pub fn block(&self, reason: &str) {
        self.shared.change(|state| state.set_alarm(Some(reason.to_owned())));
    }

    /// Ends the alarm.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().unblock();
    /// ```
    pub fn unblock(&self) {
        self.shared.change(|state| state.set_alarm(None));
    }

    /// Restarts: connections are closed with 320, handshakes are reset, and durable entities with their persistent
    /// messages stay.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().restart();
    /// ```
    pub fn restart(&self) {
        self.shared.change(|state| state.restart(Keep::Durable));
    }

    /// Restarts without what was declared and published, as after the loss of the disk.
    ///
    /// # Examples
    /// ```
    /// # use actix_pika_broker::Broker;
    /// Broker::start().unwrap().restart_empty();
    /// ```
    pub fn restart_empty(&self) {
        self.shared.change(|state| state.restart(Keep::Nothing));
    }

    fn with(
        &self,
        connection: ConnectionId,
        then: impl FnOnce(&mut Peer, &mut Core, super::peer::Now<'_>),
    ) -> bool {
        // One that is closed has a socket until the client ends it.
        let open = |state: &State| state.peer_of(connection).filter(|_| state.core.is_open(connection));
        self.shared.change(|state: &mut State| match open(state) {
            Some(id) => {
                state.with_peer(id, then);
                true
            }
            None => false,
        })
    }
}
