//! Methods of channel 0 once the connection is open: closes of both sides, what is not understood.

use actix_pika_actors::wire::method::{AMQPClass, connection, read_method};

use super::{
    super::{
        frames::{Frame, METHOD, ids},
        handshake,
    },
    CLOSING_MILLIS, End, Now, Peer, Phase,
};
use crate::core::{Close, ConnectionId, Core, Failure};

impl Peer {
    /// A method of channel 0.
    pub(super) fn control(
        &mut self,
        core: &mut Core,
        now: Now<'_>,
        id: ConnectionId,
        (class_id, method_id): (u16, u16),
        payload: &[u8],
    ) {
        use connection::AMQPMethod as Method;
        match (class_id, method_id) {
            (10, 50) => {
                core.close_connection(now.core, id);
                core.answer(id, AMQPClass::Connection(Method::CloseOk(connection::CloseOk {})));
                self.await_end(now);
            }
            (10, 70) if read_method(payload).is_ok() => {
                let ok = Method::UpdateSecretOk(connection::UpdateSecretOk {});
                core.answer(id, AMQPClass::Connection(ok));
            }
            _ if read_method(payload).is_err_and(|fault| fault.code == 503) => self.reset(core, now),
            _ => {
                let close = Close::new(504, "unexpected method in connection state running");
                core.fail(now.core, id, 0, Failure::Connection(close.at(class_id, method_id)));
            }
        }
    }

    /// A frame behind the broker's `close`. Its answer is behind what the core still says.
    pub(super) fn close_on(&mut self, core: &mut Core, now: Now<'_>, frame: &Frame) {
        if (frame.kind, frame.channel) != (METHOD, 0) {
            return;
        }
        match ids(&frame.payload) {
            (10, 50) => {
                let ok = AMQPClass::Connection(connection::AMQPMethod::CloseOk(connection::CloseOk {}));
                match self.connection {
                    Some(id) => core.answer(id, ok),
                    // It was refused, and is none of the core.
                    None => self.write_method(now, 0, &ok),
                }
            }
            (10, 51) => self.finish(now, End::Close),
            _ => {}
        }
    }

    pub(super) fn close_with(&mut self, now: Now<'_>, close: &Close) {
        self.write_method(now, 0, &handshake::close_method(close));
        self.await_end(now);
    }

    /// Either side has closed the connection. RabbitMQ leaves the end of the socket to the client.
    fn await_end(&mut self, now: Now<'_>) {
        self.phase = Phase::Closing;
        let millis = if self.heartbeat == 0 { CLOSING_MILLIS } else { self.heartbeat.min(CLOSING_MILLIS) };
        self.deadline = Some(now.net.after_millis(millis));
        self.contents.clear();
    }
}
