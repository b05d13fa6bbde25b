//! How a connection ends.

use bytes::BytesMut;

use super::{End, LINGER_MILLIS, Now, Peer, Phase, SILENT_MILLIS};
use crate::core::Core;

impl Peer {
    /// The client will send nothing more. What it was answered is still written.
    pub(in crate::server) fn finished(&mut self, core: &mut Core, now: Now<'_>) {
        if let Phase::Running(id) = self.phase {
            core.close_connection(now.core, id);
        }
        self.finish(now, End::Close);
    }

    /// The socket has ended.
    pub(in crate::server) fn lost(&mut self, core: &mut Core, now: Now<'_>) {
        if let Phase::Running(id) = self.phase {
            core.close_connection(now.core, id);
        }
        self.phase = Phase::Ended;
        self.end.get_or_insert(End::Reset);
        self.clear_output();
    }

    /// Ends the socket by a reset after what waits to be written. For the core it is lost.
    pub(in crate::server) fn reset(&mut self, core: &mut Core, now: Now<'_>) {
        if let Phase::Running(id) = self.phase {
            core.close_connection(now.core, id);
        }
        self.finish(now, End::Reset);
    }

    /// Cuts the connection when `octets` more are written.
    pub(in crate::server) fn cut_after(&mut self, octets: u64) {
        self.cut_after = Some(octets);
    }

    /// Cuts the connection when `octets` more are read.
    pub(in crate::server) fn cut_input_after(&mut self, core: &mut Core, now: Now<'_>, octets: u64) {
        self.cut_input_after = Some(octets);
        if octets == 0 {
            self.reset(core, now);
        }
    }

    pub(super) fn finish(&mut self, now: Now<'_>, end: End) {
        self.phase = Phase::Ended;
        self.end.get_or_insert(end);
        let lingers = self.delayed.back().map_or(now.net, |(at, _)| now.net.max(*at));
        self.deadline = Some(lingers.after_millis(LINGER_MILLIS));
        self.input = BytesMut::new();
        self.contents.clear();
    }

    pub(super) fn clear_output(&mut self) {
        self.out.clear();
        self.in_flight = 0;
        self.share.set(0);
        self.delayed.clear();
        self.held = 0;
    }

    pub(super) fn silence(&mut self, now: Now<'_>) {
        self.phase = Phase::Silent;
        self.input = BytesMut::new();
        self.contents.clear();
        self.deadline = Some(now.net.after_millis(SILENT_MILLIS));
    }
}
