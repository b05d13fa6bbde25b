//! What is to be written: how much of it is kept, and when it may go.

use actix_pika_actors::wire::{
    basic_encode::{put_ack, put_nack},
    method::{AMQPClass, put_method},
};
use bytes::Bytes;

use super::{
    super::{
        encode::{put_content, put_deliver, put_get_ok, put_return},
        handshake,
    },
    End, Now, Peer, Phase,
};
use crate::core::{Core, Output, Time};

/// More than this is not kept for a client that does not read: its consumers get nothing, and it is not read.
const HIGH_WATER: usize = 1 << 20;
const LOW_WATER: usize = 1 << 18;

impl Peer {
    /// Writes what the core says.
    pub(in crate::server) fn say(&mut self, now: Now<'_>, channel: u16, output: Output) {
        let frame_max = self.frame_max as usize;
        let out = &mut self.out;
        let before = out.len();
        match output {
            Output::Method(method) => {
                if put_method(out, channel, &method).is_err() {
                    log::error!("a method cannot be encoded: {method:?}");
                }
            }
            Output::Ack { tag, multiple } => put_ack(out, channel, tag, multiple),
            Output::Nack { tag, multiple } => put_nack(out, channel, tag, multiple, false),
            Output::Deliver { consumer_tag, delivery_tag, redelivered, properties, message } => {
                put_deliver(out, channel, &consumer_tag, delivery_tag, redelivered, &message);
                put_content(out, channel, &properties, &message.body, frame_max);
            }
            Output::GetOk { delivery_tag, redelivered, message_count, properties, message } => {
                put_get_ok(out, channel, delivery_tag, redelivered, message_count, &message);
                put_content(out, channel, &properties, &message.body, frame_max);
            }
            Output::Return { code, text, message } => {
                put_return(out, channel, code, text, &message);
                put_content(out, channel, message.properties(), &message.body, frame_max);
            }
            Output::CloseConnection(close) => {
                match self.phase {
                    Phase::Ended => {}
                    Phase::Silent => self.write_method(now, 0, &handshake::close_method(&close)),
                    _ => self.close_with(now, &close),
                }
                return;
            }
        }
        self.written(now, before);
    }

    pub(super) fn write(&mut self, now: Now<'_>, bytes: &[u8]) {
        let before = self.out.len();
        self.out.extend_from_slice(bytes);
        self.written(now, before);
    }

    pub(super) fn write_method(&mut self, now: Now<'_>, channel: u16, method: &AMQPClass) {
        let before = self.out.len();
        if put_method(&mut self.out, channel, method).is_err() {
            log::error!("a method cannot be encoded: {method:?}");
        }
        self.written(now, before);
    }

    pub(super) fn written(&mut self, now: Now<'_>, before: usize) {
        self.last_written = now.net;
        let written = self.out.len() - before;
        self.share.set((self.out.len() + self.in_flight) as u64);
        if self.delay == 0 && self.delayed.is_empty() {
            return;
        }
        let at = now.net.after_millis(self.delay);
        self.held += written;
        match self.delayed.back_mut() {
            // Nothing overtakes what was said before.
            Some((last, len)) if *last >= at => *len += written,
            _ => self.delayed.push_back((at, written)),
        }
    }

    /// What was delayed until now may be written.
    pub(super) fn release(&mut self, now: Time) {
        while let Some(&(at, len)) = self.delayed.front()
            && at <= now
        {
            self.delayed.pop_front();
            self.held -= len;
        }
    }

    /// Returns whether more is in the output than a client that reads leaves there.
    pub(in crate::server) fn is_flooded(&self) -> bool {
        self.writable && self.out.len() > HIGH_WATER
    }

    /// Tells the core whether more may be sent to this connection, and goes on with what was read.
    pub(in crate::server) fn watch_output(&mut self, core: &mut Core, now: Now<'_>) {
        let had_room = !self.waits_for_room();
        let has_room = if had_room { self.out.len() <= HIGH_WATER } else { self.out.len() <= LOW_WATER };
        if let Phase::Running(id) = self.phase
            && has_room != self.writable
        {
            self.writable = has_room;
            core.set_writable(now.core, id, has_room);
        }
        if self.full == has_room {
            self.full = !has_room;
            if has_room {
                self.last_read = now.net;
                self.process(core, now);
            }
        }
    }

    /// Takes the bytes to write.
    pub(in crate::server) fn take_output(&mut self, now: Time) -> Bytes {
        self.release(now);
        let ready = self.out.len() - self.held;
        if let Some(left) = &mut self.cut_after {
            let most = usize::try_from(*left).unwrap_or(usize::MAX);
            if ready >= most {
                let bytes = self.out.split_to(most).freeze();
                self.clear_output();
                self.end = Some(End::Reset);
                return bytes;
            }
            *left -= ready as u64;
        }
        let bytes = self.out.split_to(ready).freeze();
        // What was taken before is written.
        self.in_flight = bytes.len();
        self.share.set((self.out.len() + self.in_flight) as u64);
        bytes
    }

    /// Returns how the socket ends, once there is nothing to write.
    pub(in crate::server) fn end(&self) -> Option<End> {
        self.end.filter(|_| self.out.is_empty())
    }
}
