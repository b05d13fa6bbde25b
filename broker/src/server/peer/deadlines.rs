//! What time brings to a connection: heartbeats, deadlines, output that was delayed.

use actix_pika_actors::wire::basic_encode::put_heartbeat;

use super::{End, Now, Peer, Phase};
use crate::core::{Core, Time};

impl Peer {
    /// Returns when [`tick`](Self::tick) has something to do.
    pub(in crate::server) fn next_tick(&self) -> Option<Time> {
        let heartbeats = match self.phase {
            Phase::Running(_) | Phase::Closing if self.heartbeat > 0 => {
                let silent = self.is_watched().then(|| self.last_read.after_millis(3 * self.heartbeat));
                let idle = self.last_written.after_millis(self.heartbeat / 2);
                Some(silent.map_or(idle, |silent| silent.min(idle)))
            }
            _ => None,
        };
        let delayed = self.delayed.front().map(|(at, _)| *at);
        [heartbeats, self.deadline, delayed].into_iter().flatten().min()
    }

    /// Does what is due: heartbeats, and the end of who is silent.
    pub(in crate::server) fn tick(&mut self, core: &mut Core, now: Now<'_>) {
        self.release(now.net);
        if self.deadline.is_some_and(|at| at <= now.net) {
            if matches!(self.phase, Phase::Ended) {
                self.abandoned = true;
                self.deadline = None;
                self.clear_output();
            } else {
                self.finish(now, End::Reset);
            }
            return;
        }
        if self.heartbeat == 0 || !matches!(self.phase, Phase::Running(_) | Phase::Closing) {
            return;
        }
        // Two intervals were missed, and the third has ended.
        if self.is_watched() && self.last_read.after_millis(3 * self.heartbeat) <= now.net {
            self.reset(core, now);
        } else if self.last_written.after_millis(self.heartbeat / 2) <= now.net {
            let before = self.out.len();
            put_heartbeat(&mut self.out);
            self.written(now, before);
        }
    }

    /// Whether its client is given up if it is silent.
    fn is_watched(&self) -> bool {
        self.reads() && matches!(self.phase, Phase::Running(_))
    }
}
