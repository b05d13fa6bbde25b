//! Channel 0: the methods of class `connection` after the handshake, and the close of a connection from
//! either side.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::Connection;
use crate::{
    error::{CloseReason, Error},
    internal::SupervisorMessage,
    message::methods,
    options::clamp_timeout,
    transport::Writer,
    wire::{
        AMQPClass, Fault, Frame, FrameBatch, FrameKind, PeerText, connection, ids, put_method, read_method,
    },
};

/// How long to wait for final frames once the connection has failed or the peer has closed it.
const FINAL_FRAMES_TIMEOUT: Duration = Duration::from_secs(2);
/// `connection.close` and a heartbeat are never longer.
const LAST_FRAMES_MAX: usize = 320;

impl Connection {
    pub(super) fn handle_channel_0(&mut self, batch: &FrameBatch) {
        for frame in batch.iter() {
            if let Err(fault) = self.handle_control_frame(&frame) {
                self.fail(fault);
            }
        }
    }

    fn handle_control_frame(&mut self, frame: &Frame) -> Result<(), Fault> {
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
        if self.phase.is_closing() {
            self.handle_method_while_closing(method);
            return Ok(());
        }
        match method {
            connection::AMQPMethod::Close(close) => {
                let text = close.reply_text.as_str();
                let reason = CloseReason::new(close.reply_code, text, close.class_id, close.method_id);
                let error = Error::connection_closed("the broker closed the connection", Some(reason));
                self.end_now(error, false);
                self.send_method(&methods::connection_close_ok());
                Ok(())
            }
            connection::AMQPMethod::Blocked(blocked) => {
                self.blocked(Some(blocked.reason.as_str().into()));
                Ok(())
            }
            connection::AMQPMethod::Unblocked(_) => {
                self.blocked(None);
                Ok(())
            }
            connection::AMQPMethod::UpdateSecretOk(_) if self.unanswered_secrets > 0 => {
                self.unanswered_secrets -= 1;
                let epoch = self.epoch();
                self.end_report.supervisor.do_send(SupervisorMessage::SecretUpdated { epoch });
                Ok(())
            }
            other => {
                let (class_id, method_id) = ids(&AMQPClass::Connection(other));
                Err(Fault::command("unexpected method on channel 0").with_method(class_id, method_id))
            }
        }
    }

    fn handle_method_while_closing(&mut self, method: connection::AMQPMethod) {
        match method {
            connection::AMQPMethod::CloseOk(_) => self.phase.close_ok_received(),
            // Both sides closed at once: the peer waits for the client's close-ok and does not reply to the
            // client's close.
            connection::AMQPMethod::Close(_) if self.phase.awaits_close_ok() => {
                self.send_method(&methods::connection_close_ok());
                self.phase.close_ok_received();
            }
            _ => {}
        }
    }

    /// Sends `connection.update-secret`.
    pub(super) fn update_secret(&mut self, frame: Bytes) {
        if self.phase.is_open() {
            self.unanswered_secrets += 1;
            self.writer.push(frame);
        }
    }

    fn blocked(&mut self, reason: Option<PeerText>) {
        if let Some(reason) = self.blocks.received(reason) {
            self.report_blocked(reason);
        }
    }

    pub(super) fn report_blocked(&mut self, reason: Option<PeerText>) {
        let epoch = self.epoch();
        self.end_report.supervisor.do_send(SupervisorMessage::ConnectionBlocked { epoch, reason });
    }

    /// Closes the connection because the peer violated the protocol. The supervisor gets the error at once.
    pub(super) fn fail(&mut self, fault: Fault) {
        if self.phase.is_closing() {
            return;
        }
        log::warn!("connection {}: {fault}", self.epoch());
        let close = methods::connection_close(&fault);
        self.end_now(fault.into(), true);
        self.send_method(&close);
    }

    /// Closes the connection for the user. The supervisor gets the end when the broker has replied, or after
    /// `timeout`.
    pub(super) fn close(&mut self, code: u16, text: &str, timeout: Duration) {
        self.take_from_all_channels();
        let cause = Error::connection_closed_here("closed by the application");
        self.phase.start_closing(true, Some(cause));
        // Nothing can be sent after a failed write.
        let timeout = if self.phase.is_write_closed() { timeout.min(FINAL_FRAMES_TIMEOUT) } else { timeout };
        self.close_timer.set(Instant::now() + clamp_timeout(timeout));
        let reason = Fault { code, text: text.to_owned().into(), class_id: 0, method_id: 0, channel: 0 };
        self.send_method(&methods::connection_close(&reason));
    }

    /// Stops writing after a failed write, and reads on for a moment: the peer may have sent the reason.
    pub(super) fn close_write(&mut self, error: Error) {
        self.content_lost |= self.has_unwritten_content();
        self.writer = Writer::default();
        self.phase.close_write(error);
        self.close_timer.set(Instant::now() + FINAL_FRAMES_TIMEOUT);
    }

    /// The socket has ended. Returns the error to report.
    pub(super) fn socket_ended(&mut self, error: Error) -> Error {
        if self.content_lost || self.has_unwritten_content() {
            let epoch = self.epoch();
            self.end_report.supervisor.do_send(SupervisorMessage::ContentLost { epoch });
            if self.phase.awaits_close_ok() {
                return error;
            }
        }
        // The broker may reset the socket after connection.close: the first error is reported.
        self.phase.take_cause().unwrap_or(error)
    }

    /// Returns whether more than `connection.close` is not written yet.
    fn has_unwritten_content(&self) -> bool {
        self.writer.pending() > LAST_FRAMES_MAX
    }

    /// Reports the end to the supervisor, and starts closing.
    fn end_now(&mut self, error: Error, await_close_ok: bool) {
        self.phase.start_closing(await_close_ok, None);
        self.close_timer.set(Instant::now() + FINAL_FRAMES_TIMEOUT);
        self.end_report.send(error);
    }

    fn send_method(&mut self, method: &AMQPClass) {
        let mut frame = BytesMut::new();
        // Never fails: none of these methods is too long to encode.
        if put_method(&mut frame, 0, method).is_ok() {
            self.writer.push(frame.freeze());
        }
    }
}
