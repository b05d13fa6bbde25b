//! The connection and its channels: what happens to them, and what the machine has done with them.

use super::{
    consumers::ConsumerStateModel,
    run::Run,
    steps::{Answer, Step},
};
use crate::{
    connection::FailedAttempt,
    error::{CloseReason, Error},
    internal::{ConnectionCommand, TrialResult},
    message::{ConnectionState, ConsumerEnd, EntityKind, OpenChannel, Skipped},
    supervisor::{
        effect::Effect,
        missing::EntityKey,
        phase::Phase,
        tests::{SECOND, refusal},
        trial_connection::trial_result,
    },
};

fn name(state: &ConnectionState) -> &'static str {
    match state {
        ConnectionState::Connecting => "connecting",
        ConnectionState::Open(_) => "open",
        ConnectionState::Reconnecting(_) => "reconnecting",
        ConnectionState::Closed(_) => "closed",
    }
}

fn closed_by_broker(code: u16, text: &str, class_id: u16, method_id: u16) -> Error {
    let reason = CloseReason::new(code, text.to_owned(), class_id, method_id);
    Error::connection_closed("the broker closed the connection", Some(reason))
}

impl Run {
    fn is_dialling(&self) -> bool {
        self.connection && matches!(self.machine.supervision.phase, Phase::Dialling(_))
    }

    pub(super) fn is_open(&self) -> bool {
        self.connection && self.state == "open"
    }

    pub(super) fn connection_opened(&mut self) {
        if self.is_dialling() {
            self.machine.connect_with_channels(200);
            self.refused_since = None;
        }
    }

    pub(super) fn connection_ended(&mut self) {
        if self.connection {
            self.refused_since = None;
            self.machine.lose();
        }
    }

    pub(super) fn attempt_refused(&mut self, answers: &[Answer]) {
        if self.is_dialling() {
            let now = self.machine.now;
            let for_good = answers.iter().all(|answer| answer.is_for_good());
            self.refused_since = if for_good { self.refused_since.or(Some(now)) } else { None };
            let mut failed = FailedAttempt::default();
            answers.iter().for_each(|answer| failed.add(answer.error()));
            self.machine.supervision.connection_ended(failed.into_error().unwrap(), now);
        }
    }

    pub(super) fn channel_limit(&mut self) {
        if self.connection {
            let error = closed_by_broker(530, "NOT_ALLOWED - number of channels", 20, 10);
            self.machine.supervision.connection_ended(error, self.machine.now);
        }
    }

    /// The broker closes the connection for a method, once the utility channel had some of its replies.
    pub(super) fn fatal_method(&mut self, class_id: u16, method_id: u16, answered: usize) {
        if self.is_open() {
            let (now, supervision) = (self.machine.now, &mut self.machine.supervision);
            let (epoch, utility) = (supervision.epoch, self.utility.take());
            let error = closed_by_broker(541, "INTERNAL_ERROR", class_id, method_id);
            supervision.connection_ended(error, now);
            if let Some((number, steps)) = utility {
                let replies = steps.iter().take(answered).map(|step| self.broker.run(step).map(|()| None));
                supervision.utility_lost(epoch, number, replies.collect(), now);
            }
        }
    }

    pub(super) fn fatal_consumer(&mut self, at: usize) {
        let recovering = &self.recovering;
        let mut starting = self.made.iter_mut().filter(|((channel, _), made)| match made.state {
            ConsumerStateModel::Starting => true,
            ConsumerStateModel::Running => recovering.contains(channel),
            ConsumerStateModel::Suspended | ConsumerStateModel::ByApplication => false,
        });
        if self.connection
            && self.state == "open"
            && let Some(((channel, _), made)) = starting.nth(at)
        {
            let (now, supervision) = (self.machine.now, &mut self.machine.supervision);
            let error = closed_by_broker(541, "INTERNAL_ERROR", 60, 20);
            supervision.connection_ended(error.clone(), now);
            supervision.add_fatal_entity(EntityKey::consumer(*channel, &made.tag), error, now);
            made.is_at_fault = true;
        }
    }

    pub(super) fn trial_done(&mut self, result: u8) {
        if let Some((trial, steps)) = self.trial.take() {
            let result = match result {
                0 => {
                    let results = steps.iter().map(|step| self.broker.run(step).map(|()| None)).collect();
                    trial_result(&steps, results)
                }
                1 => TrialResult::Refused(refusal(541)),
                _ => TrialResult::NotMade(refusal(530)),
            };
            self.machine.supervision.trial_done(trial, result, self.machine.now);
        }
    }

    pub(super) fn open_channel(&mut self) {
        if let Ok(number) = self.machine.supervision.open_channel(&OpenChannel::new().confirms(false)) {
            self.channels.push(number);
        }
    }

    pub(super) fn channel_opened(&mut self, at: usize) {
        if let Some(channel) = self.channels.get(at).filter(|channel| self.attached.contains(channel)) {
            self.machine.supervision.channel_opened(*channel);
            self.opened.insert(*channel);
        }
    }

    pub(super) fn channel_closed(&mut self, at: usize, free: bool) {
        if let Some(&channel) = self.channels.get(at) {
            self.channels.retain(|other| *other != channel);
            self.made.retain(|(of, _), _| *of != channel);
            self.machine.supervision.channel_closed(channel, free, self.machine.now);
            self.attached.remove(&channel);
            self.opened.remove(&channel);
            self.recovering.remove(&channel);
        }
    }

    /// Returns a channel that is open, or recovers on this connection.
    pub(super) fn attached_channel(&self, at: usize) -> Option<u16> {
        let is_open = |channel: &u16| self.attached.contains(channel) && self.opened.contains(channel);
        self.channels.get(at).copied().filter(is_open)
    }

    pub(super) fn channel_backs_off(&mut self, at: usize) {
        if let Some(channel) = self.attached_channel(at)
            && self.recovering.insert(channel)
        {
            let now = self.machine.now;
            self.machine.supervision.channel_backing_off(channel, refusal(406), Some(now + SECOND), now);
        }
    }

    /// A channel has recovered, except for consumers that are at fault, that the broker refuses, and the first
    /// one if `skips` is a code.
    pub(super) fn channel_recovered(&mut self, at: usize, skips: u16) {
        let Some(&channel) = self.channels.get(at) else { return };
        if !self.recovering.remove(&channel) {
            return;
        }
        let (mut skipped, mut repairs) = (Vec::new(), Vec::new());
        for (key, made) in self.made.iter_mut().filter(|((of, _), _)| *of == channel) {
            if made.state == ConsumerStateModel::ByApplication {
                continue;
            }
            let error = match self.broker.consume(&made.queue) {
                _ if made.is_at_fault => refusal(541),
                _ if skips != 0 && skipped.is_empty() => refusal(skips),
                Ok(()) => continue,
                Err(error) => error,
            };
            let (kind, name) = (EntityKind::Consumer, made.tag.to_string());
            skipped.push(Skipped { kind, name, error: error.clone() });
            made.state = ConsumerStateModel::Suspended;
            repairs.push((made.is_at_fault, made.repair(*key, ConsumerEnd::Closed(error))));
        }
        let (now, supervision) = (self.machine.now, &mut self.machine.supervision);
        supervision.channel_reopened(channel, skipped, now);
        for (is_at_fault, repair) in repairs {
            match is_at_fault {
                true => supervision.consumer_waits(repair, now),
                false => supervision.repair(repair, now),
            }
        }
    }

    /// Carries out what the machine has decided, and checks that it fits the connection.
    pub(super) fn perform(&mut self) {
        while let Some(effect) = self.machine.supervision.next_effect() {
            match effect {
                Effect::Dial => {
                    assert!(!self.connection, "two connections");
                    (self.connection, self.ends) = (true, false);
                }
                Effect::DropConnection => self.connection_is_gone(),
                Effect::Command(ConnectionCommand::Close { .. } | ConnectionCommand::Fail { .. }) => {
                    assert!(self.connection, "a command without a connection");
                    self.ends = true;
                }
                Effect::Command(_) => assert!(self.connection, "a command without a connection"),
                Effect::SetState(state) => self.state = name(&state),
                Effect::Attach(channel) => {
                    assert!(self.is_open(), "attached without a connection");
                    let is_new = self.channels.contains(&channel) && self.attached.insert(channel);
                    assert!(is_new, "{channel} attached");
                    if self.opened.contains(&channel) {
                        self.recovering.insert(channel);
                    }
                }
                Effect::StartUtility { number, steps } => {
                    assert!(self.is_open() && self.utility.is_none());
                    assert!(!self.attached.contains(&number), "the number of a channel");
                    self.utility = Some((number, steps));
                }
                Effect::StartTrial { number, steps } => {
                    assert!(self.is_open() && self.trial.is_none());
                    // Without steps it looks for room.
                    assert!(!steps.is_empty() || self.machine.supervision.room.is_probing());
                    self.trial = Some((number, steps));
                }
                Effect::StopTrial => assert!(self.trial.take().is_some(), "no trial"),
                Effect::SendToChannel(channel, message) => self.channel_message(channel, message),
                Effect::CloseForGood { .. } => {
                    let refused = self.refused_since.map(|since| self.machine.now - since);
                    assert!(self.may_close || refused >= Some(60 * SECOND), "given up after {refused:?}");
                    self.connection_is_gone();
                    (self.state, self.closed, self.trial) = ("closed", true, None);
                    self.channels.clear();
                    self.made.clear();
                }
                Effect::Stop => assert!(self.closed),
                Effect::Notify(_)
                | Effect::BlockUtility(_)
                | Effect::DropUtility
                | Effect::StopUtility(_)
                | Effect::FailSecrets(_)
                | Effect::CountUnconfirmed => {}
            }
        }
        assert_eq!(self.state, name(&self.machine.supervision.phase.state()));
    }

    fn connection_is_gone(&mut self) {
        (self.connection, self.utility) = (false, None);
        self.attached.clear();
        self.recovering.clear();
    }

    /// The channels come to rest.
    pub(super) fn settle_channels(&mut self) {
        if self.machine.supervision.room.error().is_some() {
            self.step(&Step::ChannelClosed { at: 0, free: true });
        }
        self.step(&Step::Blocked(false));
        for at in 0..self.channels.len() {
            self.step(&Step::ChannelOpened(at));
            self.step(&Step::ChannelRecovered { at, skips: 0 });
            if matches!(self.machine.supervision.phase, Phase::Closing(_)) {
                self.step(&Step::ChannelDrained(at));
            }
        }
    }
}
