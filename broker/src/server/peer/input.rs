//! What is read of a connection: frames, and what they bring to the core.

use actix_pika_actors::wire::method::{AMQPClass, channel::AMQPMethod as Channel};

use super::{
    super::{
        contents::{Event, Published},
        frames::{Frame, HEARTBEAT, next_frame},
    },
    End, Now, Peer, Phase,
};
use crate::core::{ChannelState, Close, ConnectionId, Core, Failure, Publish, text_of, too_many_channels};

/// The octets of answers that wait in the core before they are taken, and what is read goes on.
const ANSWERED_MAX: usize = 1 << 18;

impl Peer {
    /// Has nothing of it read, or goes on reading. Meanwhile its heartbeats are not missed.
    pub(in crate::server) fn set_read_paused(&mut self, core: &mut Core, now: Now<'_>, read_paused: bool) {
        if std::mem::replace(&mut self.read_paused, read_paused) && !read_paused {
            self.last_read = now.net;
            self.process(core, now);
        }
    }
    /// Takes what was read.
    pub(in crate::server) fn receive(&mut self, core: &mut Core, now: Now<'_>, bytes: &[u8]) {
        self.last_read = now.net;
        if matches!(self.phase, Phase::Silent | Phase::Ended) {
            return;
        }
        let Some(left) = self.cut_input_after else {
            self.input.extend_from_slice(bytes);
            return self.process(core, now);
        };
        let before_cut = bytes.get(..usize::try_from(left).unwrap_or(usize::MAX)).unwrap_or(bytes);
        self.cut_input_after = Some(left - before_cut.len() as u64);
        self.input.extend_from_slice(before_cut);
        self.process(core, now);
        if self.cut_input_after == Some(0) {
            self.reset(core, now);
        }
    }

    /// Returns how many frames were handled since this was asked.
    pub(in crate::server) fn take_handled(&mut self) -> u64 {
        std::mem::take(&mut self.handled)
    }

    /// Sets how many frames are handled at most, with those that were not counted yet.
    pub(in crate::server) fn set_budget(&mut self, frames: u64) {
        self.budget = frames.saturating_sub(self.handled);
    }

    /// Returns whether frames may wait because it has handled all that it may.
    pub(in crate::server) fn is_over_budget(&self) -> bool {
        self.over_budget
    }

    /// Handles the frames that are there, up to one that blocks the connection.
    pub(in crate::server) fn process(&mut self, core: &mut Core, now: Now<'_>) {
        if matches!(self.phase, Phase::Greeting) && !self.greet(core, now) {
            return;
        }
        self.over_budget = false;
        while !self.blocked
            && !self.read_paused
            && !self.full
            && !matches!(self.phase, Phase::Silent | Phase::Ended)
        {
            self.over_budget = self.budget == 0;
            if self.over_budget {
                break;
            }
            if core.answered() > ANSWERED_MAX {
                // Goes on when these answers are in the output.
                self.full = true;
                return;
            }
            match next_frame(&mut self.input, self.frame_max) {
                Ok(None) => break,
                Ok(Some(frame)) => self.handle(core, now, frame),
                Err(close) => {
                    self.cannot_read(core, now, close);
                    break;
                }
            }
        }
        core.flush(now.core);
    }

    /// The bytes are no frames: nothing more is read.
    fn cannot_read(&mut self, core: &mut Core, now: Now<'_>, close: Close) {
        match self.phase {
            // Its close is said in the silence.
            Phase::Running(id) if core.is_open(id) => {
                core.fail(now.core, id, 0, Failure::Connection(close));
                self.silence(now);
            }
            Phase::Opening(..) => self.refuse(now, &close),
            _ => self.finish(now, End::Reset),
        }
    }

    fn handle(&mut self, core: &mut Core, now: Now<'_>, frame: Frame) {
        if frame.kind != HEARTBEAT {
            self.handled += 1;
            self.budget = self.budget.saturating_sub(1);
        }
        match &self.phase {
            Phase::Running(id) if core.is_open(*id) => {
                let id = *id;
                self.run(core, now, id, frame);
            }
            // Either side has closed it. What the core says of that may not be taken yet.
            Phase::Running(_) | Phase::Closing => self.close_on(core, now, &frame),
            Phase::Starting | Phase::Tuning(_) | Phase::Opening(..) => self.shake_hands(core, now, &frame),
            Phase::Greeting | Phase::Silent | Phase::Ended => {}
        }
    }

    fn run(&mut self, core: &mut Core, now: Now<'_>, id: ConnectionId, frame: Frame) {
        let channel = frame.channel;
        let state = if channel == 0 { ChannelState::Open } else { core.channel_state(id, channel) };
        match self.contents.take(frame, state, core.message_max()) {
            // RabbitMQ has a channel as soon as it has a frame of it.
            Ok(Event::None) if self.contents.len() > usize::from(self.channel_max) => {
                core.fail(now.core, id, 0, too_many_channels(self.channel_max));
            }
            Ok(Event::None | Event::Heartbeat) => {}
            Ok(Event::Method(method)) => {
                let ends = matches!(method, AMQPClass::Channel(Channel::Close(_)));
                core.method(now.core, id, channel, method);
                if ends {
                    self.contents.forget(channel);
                }
            }
            Ok(Event::Control { class_id, method_id, payload }) => {
                self.control(core, now, id, (class_id, method_id), &payload);
            }
            Ok(Event::Published(published)) => {
                let Published { properties, body, .. } = &published;
                let (properties, body) = (properties.clone(), body.clone());
                let (exchange, key) = (text_of(&published.exchange), text_of(&published.routing_key));
                let publish = publish(&published, &exchange, &key);
                core.publish(now.core, id, channel, publish, properties, body);
                self.block(core, now);
            }
            Ok(Event::TooLarge { publish: published, size, max }) => {
                let (exchange, key) = (text_of(&published.exchange), text_of(&published.routing_key));
                let publish = publish(&published, &exchange, &key);
                core.publish_too_large(now.core, id, channel, publish, size, max);
                self.block(core, now);
            }
            Ok(Event::Content) => self.block(core, now),
            Ok(Event::Reset) => self.reset(core, now),
            Err(close) => core.fail(now.core, id, channel, Failure::Connection(close)),
        }
    }
}

fn publish<'a>(published: &Published, exchange: &'a str, routing_key: &'a str) -> Publish<'a> {
    Publish { exchange, routing_key, mandatory: published.mandatory, immediate: published.immediate }
}
