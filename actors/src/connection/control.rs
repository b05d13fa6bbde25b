//! Channel 0: what broker and client say of the connection itself.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::sleep;

use super::{Connection, ConnectionPhase};
use crate::{
    error::{CloseReason, Error},
    message::internal::SupervisorMessage,
    transport::Writer,
    wire::{
        AMQPClass, Fault, Frame, FrameBatch, FrameKind, connection as methods, cut_short, ids, put_method,
        read_method,
    },
};

/// How long the broker may take to answer `connection.close`, whatever is asked for.
const CLOSE_OK_WITHIN: Duration = Duration::from_secs(10);
/// How long a peer that broke the protocol, or closed, is given to take our last words.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(2);

impl Connection {
    pub(super) fn control(&mut self, run: &FrameBatch) {
        for frame in run.iter() {
            if let Err(fault) = self.control_frame(&frame) {
                self.fail(fault);
            }
        }
    }

    fn control_frame(&mut self, frame: &Frame) -> Result<(), Fault> {
        match frame.kind {
            FrameKind::Heartbeat => return Ok(()),
            FrameKind::Method => {}
            FrameKind::Header | FrameKind::Body => {
                return Err(Fault::unexpected("content on channel 0"));
            }
        }
        let method = match read_method(&frame.payload)? {
            AMQPClass::Connection(method) => method,
            _ => return Err(Fault::command("a method on channel 0 that is not of class connection")),
        };
        if matches!(self.phase, ConnectionPhase::Ending) {
            return self.control_while_ending(method);
        }
        match method {
            methods::AMQPMethod::Close(close) => {
                let text = close.reply_text.to_string();
                let reason = CloseReason::new(close.reply_code, text, close.class_id, close.method_id);
                self.end(Error::connection_closed("the broker closed the connection", Some(reason)));
                self.say_method(methods::AMQPMethod::CloseOk(methods::CloseOk {}));
                Ok(())
            }
            methods::AMQPMethod::Blocked(blocked) => {
                self.tell_blocked(Some(blocked.reason.to_string()));
                Ok(())
            }
            methods::AMQPMethod::Unblocked(_) => {
                self.tell_blocked(None);
                Ok(())
            }
            methods::AMQPMethod::UpdateSecretOk(_) if self.secrets_under_way > 0 => {
                self.secrets_under_way -= 1;
                let epoch = self.epoch();
                self.report.supervisor.do_send(SupervisorMessage::SecretUpdated { epoch });
                Ok(())
            }
            other => {
                let (class_id, method_id) = ids(&AMQPClass::Connection(other));
                Err(Fault::command("unexpected method on channel 0").with_method(class_id, method_id))
            }
        }
    }

    fn control_while_ending(&mut self, method: methods::AMQPMethod) -> Result<(), Fault> {
        match method {
            methods::AMQPMethod::CloseOk(_) => self.await_close_ok = false,
            // Both closed at once: the peer waits for our answer and gives none to ours.
            methods::AMQPMethod::Close(_) => {
                self.say_method(methods::AMQPMethod::CloseOk(methods::CloseOk {}));
                self.await_close_ok = false;
            }
            _ => {}
        }
        Ok(())
    }

    /// Says `connection.update-secret`.
    pub(super) fn update_secret(&mut self, frame: Bytes) {
        if matches!(self.phase, ConnectionPhase::Open) {
            self.secrets_under_way += 1;
            self.writer.push(frame);
        }
    }

    fn tell_blocked(&mut self, reason: Option<String>) {
        let epoch = self.epoch();
        self.report.supervisor.do_send(SupervisorMessage::ConnectionBlocked { epoch, reason });
    }

    /// Ends the connection because the peer broke the protocol; everyone concerned is told at once.
    pub(super) fn fail(&mut self, fault: Fault) {
        if matches!(self.phase, ConnectionPhase::Ending) {
            return;
        }
        log::warn!("connection {}: {fault}", self.epoch());
        self.end(fault.clone().into());
        self.await_close_ok = true;
        self.say_method(methods::AMQPMethod::Close(methods::Close {
            reply_code: fault.code,
            reply_text: cut_short(&fault.text),
            class_id: fault.class_id,
            method_id: fault.method_id,
        }));
    }

    /// Ends the connection because the user wants it to; nobody is told before the broker has answered.
    pub(super) fn close(&mut self, code: u16, text: &str, within: Duration) {
        self.write_out();
        self.phase = ConnectionPhase::Ending;
        self.linger = Some(Box::pin(sleep(within.min(CLOSE_OK_WITHIN))));
        self.last_error = Some(Error::connection_closed("closed by the application", None));
        self.await_close_ok = true;
        self.say_method(methods::AMQPMethod::Close(methods::Close {
            reply_code: code,
            reply_text: cut_short(text),
            class_id: 0,
            method_id: 0,
        }));
    }

    /// The socket takes nothing any more: reads on for a moment, because the peer may have said why.
    pub(super) fn fall_mute(&mut self, error: Error) {
        self.mute = true;
        self.writer = Writer::default();
        self.last_error.get_or_insert(error);
        self.linger = Some(Box::pin(sleep(LAST_WORDS_WITHIN)));
    }

    fn end(&mut self, error: Error) {
        self.phase = ConnectionPhase::Ending;
        self.linger = Some(Box::pin(sleep(LAST_WORDS_WITHIN)));
        self.report.ended(error);
    }

    fn say_method(&mut self, method: methods::AMQPMethod) {
        let mut frame = BytesMut::new();
        // Nothing here is too long to encode.
        if put_method(&mut frame, 0, &AMQPClass::Connection(method)).is_ok() {
            self.writer.push(frame.freeze());
        }
    }
}
