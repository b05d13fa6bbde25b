//! From the protocol header to `open-ok`.

use actix_pika_actors::wire::method::{AMQPClass, connection, read_method};
use bytes::Buf;

use super::{
    super::{
        frames::{Frame, HEARTBEAT, METHOD, describe, ids},
        handshake::{self, Refusal},
    },
    End, HANDSHAKE_MILLIS, Now, Peer, Phase,
};
use crate::core::{Close, ConnectionInfo, Core};

const GREETING: &[u8; 8] = b"AMQP\0\0\x09\x01";
/// That of AMQP 0-9, which is answered in the same way.
const OLDER_GREETING: &[u8; 8] = b"AMQP\x01\x01\0\x09";

impl Peer {
    /// Reads the protocol header. Returns whether it is the right one.
    pub(super) fn greet(&mut self, core: &Core, now: Now<'_>) -> bool {
        let Some(greeting) = self.input.first_chunk::<8>() else { return false };
        if greeting != GREETING && greeting != OLDER_GREETING {
            self.write(now, GREETING);
            self.finish(now, End::Close);
            return false;
        }
        self.input.advance(GREETING.len());
        self.write_method(now, 0, &handshake::start(core.config().line));
        self.phase = Phase::Starting;
        true
    }

    pub(super) fn shake_hands(&mut self, core: &mut Core, now: Now<'_>, frame: &Frame) {
        use connection::AMQPMethod as Method;
        if frame.kind == HEARTBEAT {
            return;
        }
        let is_opening = matches!(self.phase, Phase::Opening(..));
        let method = match read_method(&frame.payload) {
            Ok(AMQPClass::Connection(method)) if frame.kind == METHOD && frame.channel == 0 => method,
            _ if is_opening && frame.channel != 0 => {
                return self.close_with(now, &Close::new(505, describe(frame.kind, &frame.payload)));
            }
            _ => return self.silence(now),
        };
        self.deadline = Some(now.net.after_millis(HANDSHAKE_MILLIS));
        match (std::mem::replace(&mut self.phase, Phase::Silent), method) {
            (Phase::Starting, Method::StartOk(start_ok)) => match handshake::log_in(core, &start_ok) {
                Ok(client) => {
                    self.write_method(now, 0, &handshake::tune(core.config().frame_max));
                    self.tells_blocked = client.blocked;
                    start_ok.mechanism.as_str().clone_into(&mut self.mechanism);
                    self.phase = Phase::Tuning(client);
                }
                Err(Refusal::Told(close)) => self.refuse(now, &close),
                Err(Refusal::Silent) => self.silence(now),
            },
            (Phase::Tuning(client), Method::TuneOk(tune_ok)) => {
                match handshake::tuned(core.config(), &tune_ok) {
                    Some(limits) => {
                        self.frame_max = limits.frame_max;
                        self.channel_max = limits.channel_max;
                        self.heartbeat = u64::from(limits.heartbeat) * 1000;
                        self.phase = Phase::Opening(client, limits);
                    }
                    None => self.silence(now),
                }
            }
            (Phase::Opening(client, limits), Method::Open(open)) => {
                let info = ConnectionInfo {
                    user: client.user.into(),
                    vhost: open.virtual_host.as_str().into(),
                    cancel_notify: client.cancel_notify,
                    channel_max: limits.channel_max,
                    name: client.name.unwrap_or_else(|| self.address.clone()).into(),
                };
                match core.open_connection(now.core, info) {
                    Ok(id) => {
                        let ok = AMQPClass::Connection(Method::OpenOk(connection::OpenOk {}));
                        self.write_method(now, 0, &ok);
                        self.deadline = None;
                        self.connection = Some(id);
                        self.phase = Phase::Running(id);
                    }
                    Err(close) => self.close_with(now, &close),
                }
            }
            (Phase::Opening(..), _) => {
                let (class_id, method_id) = ids(&frame.payload);
                let close = Close::new(504, "unexpected method in connection state opening");
                self.close_with(now, &close.at(class_id, method_id));
            }
            _ => self.silence(now),
        }
    }

    /// Tells why, and ends the connection after the silence.
    pub(super) fn refuse(&mut self, now: Now<'_>, close: &Close) {
        self.write_method(now, 0, &handshake::close_method(close));
        self.silence(now);
    }
}
