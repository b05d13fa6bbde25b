//! Dialling: the first connection, a lost connection, the back-off before the next attempt, and when to give
//! up.

use tokio::time::Instant;

use super::{
    effect::Effect,
    phase::{History, Open, Phase, Retry},
    supervision::Supervision,
};
use crate::{
    error::{Error, ErrorKind},
    internal::ChannelMessage,
    message::{ConnectionEvent, Opened},
    options::{Backoff, Recovery, clamp_timeout},
};

impl Supervision {
    pub(super) fn dial(&mut self, retry: Option<Retry>) {
        self.epoch += 1;
        self.phase = Phase::Dialling(retry);
        self.effects.push_back(Effect::Dial);
    }

    /// Dials again when the back-off is over.
    pub(super) fn dial_when_due(&mut self, now: Instant) {
        if let Phase::BackingOff { until, retry } = &self.phase
            && *until <= now
        {
            let retry = retry.clone();
            self.dial(Some(retry));
        }
    }

    /// The handshake is done. Returns whether the connection is used: not when it is being closed.
    pub(super) fn connection_opened(&mut self, opened: Opened, now: Instant) -> bool {
        let Phase::Dialling(_) = self.phase else { return false };
        let history = self.phase.history();
        let peer = opened.peer_addr.to_string();
        let peer = if peer == opened.address.to_string() { String::new() } else { format!(" ({peer})") };
        log::info!("connection {}: open, {}{peer}", self.epoch, opened.address);
        self.channels.numbers.set_max(opened.negotiated.channel_max);
        self.backoff.connected();
        let open = Open { opened: opened.into() };
        self.phase = Phase::Up(open.clone());
        self.effects.push_back(Effect::SetState(self.phase.state()));
        self.notify(ConnectionEvent::Connected);
        match history {
            History::NeverOpen => {
                self.backoff.came_up(now);
                self.outage = None;
                self.health_changed();
            }
            History::WasOpen => {
                self.reconnects += 1;
                self.redeclare_topology(open, now);
            }
        }
        true
    }

    /// The `Connection` actor has ended: the connection is lost, or could not be opened.
    pub(super) fn connection_ended(&mut self, error: Error, now: Instant) {
        self.effects.push_back(Effect::DropConnection);
        let fails_fast = self.options.fail_fast && self.phase.history() == History::NeverOpen;
        match self.options.recovery {
            Recovery::After(backoff)
                if !matches!(self.phase, Phase::Closing(_)) && !fails_fast && !self.is_unneeded() =>
            {
                self.back_off(error, backoff, now);
            }
            _ => self.end(error),
        }
    }

    fn back_off(&mut self, error: Error, backoff: Backoff, now: Instant) {
        let history = self.phase.history();
        let epoch = self.epoch;
        if self.phase.open().is_some() {
            self.backoff.lost(now);
        }
        let is_refused_for_good = self.backoff.is_refused_for_good(error.is_refused_for_good(), now);
        let next = if is_refused_for_good { None } else { self.backoff.next(&backoff, now) };
        let until = next.map(|(_, delay)| now + clamp_timeout(delay));
        let error = until.map_or(error.clone(), |at| error.tried_again_at(at));
        if self.phase.open().is_some() {
            log::warn!("connection {epoch}: lost: {error}");
            self.detach_all(&error, now);
            self.notify(ConnectionEvent::Lost(error.clone()));
        } else {
            log::debug!("connection {epoch}: not connected: {error}");
            self.send_to_channels(|| ChannelMessage::ConnectFailed { error: error.clone() });
            if error.kind() == ErrorKind::Vhost {
                self.vhost_gone(now);
            }
        }
        let (Some((attempt, delay)), Some(until)) = (next, until) else {
            match is_refused_for_good {
                true => log::error!("connection {epoch}: gave up, because every address refuses it: {error}"),
                false => {
                    log::error!("connection {epoch}: gave up, because the attempts are used up: {error}")
                }
            }
            return self.end(error);
        };
        log::info!("connection: attempt {attempt} in {delay:?}: {error}");
        self.outage = Some(error.clone());
        self.phase = Phase::BackingOff { until, retry: Retry { error: error.clone(), history } };
        self.effects.push_back(Effect::SetState(self.phase.state()));
        self.health_changed();
        self.notify(ConnectionEvent::Retrying { attempt, delay, error });
    }

    /// Detaches the channels and ends what used the lost connection: the utility channel, repairs, secret
    /// updates.
    fn detach_all(&mut self, error: &Error, now: Instant) {
        let epoch = self.epoch;
        self.note_channel_limit(error, now);
        let utility = self.utility.take();
        self.note_lost_steps(utility, error, now);
        self.effects.push_back(Effect::StopUtility(error.clone()));
        self.missing.detached(now);
        self.topology.forget_deletes();
        self.effects.push_back(Effect::FailSecrets(error.clone()));
        self.send_to_channels(|| ChannelMessage::Detached { epoch, error: error.clone() });
        self.announce();
        self.channels.reset_numbers();
    }
}
