//! The frames of all channels, and the methods of channel 0, against a server that sends anything: see
//! `testing/hostile.rs`.

use std::{
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use actix::Recipient;
use bytes::Bytes;

use super::{Connection, phase::ConnectionPhase};
use crate::{
    error::Error,
    internal::{ChannelMessage, SupervisorMessage},
    message::Publishing,
    options::ConnectionOptions,
    outbox::{Flush, Outbox, OutboxConfig},
    script::Script,
    transport::{ReadCredit, Writer},
    wire::Fault,
};

/// The most that a connection may have to write of its own accord, in all.
const OWN_FRAMES: usize = 64 * 1024;

/// The bytes to take from one channel at a time.
const TAKE_BYTES: usize = 16 * 1024;

pub(crate) struct HostileConnection {
    connection: Connection,
    channels: Recipient<ChannelMessage>,
    flush: Arc<Recipient<Flush>>,
    outboxes: Vec<Arc<Outbox>>,
}

impl HostileConnection {
    /// Runs a script to its end. Panics where the connection does, and where it has too much to write.
    pub(crate) fn run(
        bytes: &[u8],
        supervisor: Recipient<SupervisorMessage>,
        channels: Recipient<ChannelMessage>,
        flush: Arc<Recipient<Flush>>,
    ) {
        let mut script = Script::new(bytes);
        let options = Arc::new(ConnectionOptions { frame_max: 4096, ..Default::default() });
        let credit = Arc::new(ReadCredit::new(1 << 20, 1 << 20));
        let mut connection = Connection::new(options, 1, credit, supervisor, None);
        connection.phase = ConnectionPhase::Open;
        let mut hostile = Self { connection, channels, flush, outboxes: Vec::new() };
        hostile.attach(1);
        while !script.is_over() {
            hostile.step(&mut script);
        }
        let _ = hostile.connection.socket_ended(Error::connection_closed("the end of the script", None));
    }

    fn attach(&mut self, channel: u16) {
        let outbox = Arc::new(Outbox::new(OutboxConfig {
            channel,
            confirms: true,
            window: 8,
            window_bytes: 4096,
            deadline: Duration::from_secs(30),
        }));
        outbox.attach(1, self.flush.clone(), 4096, false);
        self.connection.channels.attach(channel, self.channels.clone(), outbox.clone());
        self.outboxes.push(outbox);
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let connection = &mut self.connection;
        match script.below(16) {
            0..8 => {
                let before = connection.reader.buffer.len();
                for _ in 0..=script.below(6) {
                    let channel = [0, 0, 0, 1, 2, 77].get(script.below(6)).copied().unwrap_or_default();
                    script.server_frames(channel, &mut connection.reader.buffer);
                }
                // Only a part may have arrived.
                let read = connection.reader.buffer.len() - before;
                let cut = before + read - script.below(3).min(read);
                let rest = connection.reader.buffer.split_off(cut);
                connection.decode_frames();
                connection.reader.buffer.unsplit(rest);
                connection.decode_frames();
                connection.check_answers(read);
                if let Some(reason) = connection.blocks.poll_ends() {
                    connection.report_blocked(reason);
                }
            }
            8 => connection.update_secret(Bytes::from_static(b"frame")),
            9 => self.attach(1 + script.below(3) as u16),
            10 => connection.detach_channel(1 + script.below(3) as u16),
            11 => {
                let content = Publishing::new(vec![b'x'; script.below(200) * 20]);
                if let Some(outbox) = self.outboxes.get(script.below(4)) {
                    let _ = outbox.try_publish("", "jobs", &content);
                    connection.channels.mark_ready(outbox.channel());
                }
            }
            12 => {
                let epoch = connection.epoch();
                while connection.writer.pending() < TAKE_BYTES
                    && connection.channels.take_next(epoch, TAKE_BYTES, &mut connection.taken)
                {
                    connection.taken.drain(..).for_each(|chunk| connection.writer.push(chunk));
                }
                connection.writer = Writer::default();
            }
            13 if script.below(8) == 0 => connection.close(200, "bye", Duration::from_secs(1)),
            14 if script.below(8) == 0 => connection.close_write(Error::connection_closed("reset", None)),
            15 if script.below(8) == 0 => connection.fail(Fault::internal("a channel failed")),
            _ => {
                let mut cx = Context::from_waker(Waker::noop());
                let _ = connection.phase.is_closed(connection.writer.is_empty());
                let _ = connection.close_timer.is_due(&mut cx);
            }
        }
        let pending = self.connection.writer.pending();
        assert!(pending < OWN_FRAMES + self.outboxes.len() * 2 * TAKE_BYTES, "{pending} bytes to write");
    }
}
