//! An outbox over many lives, in random schedules, against a model of the broker that reads what it is given.

use std::collections::{BTreeMap, BTreeSet};

use actix::Actor;
use proptest::{prelude::*, sample::Index, test_runner::TestRunner};

use super::{tests::Flushes, *};
use crate::ErrorKind;

const FRAME_MAX: [u32; 3] = [4096, 8192, 131_072];

#[derive(Clone, Debug)]
enum Step {
    Publish { size: usize, resend: bool },
    Take(usize),
    Answer { which: Index, multiple: bool, nack: bool },
    Return(Index),
    Expire,
    Detach { suspicious: bool },
    Attach(Index),
    GoOn { patient: bool },
    Reopen,
    TryAgain,
    LosePatience,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sizes = prop_oneof![6 => 0..300usize, 2 => 4000..9000usize, 1 => 20_000..60_000usize];
    let index = any::<Index>;
    let step = prop_oneof![
        10 => (sizes, prop::bool::weighted(0.85)).prop_map(|(size, resend)| Step::Publish { size, resend }),
        8 => prop_oneof![Just(1), 1000..100_000usize].prop_map(Step::Take),
        4 => (index(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(which, multiple, nack)| Step::Answer { which, multiple, nack }),
        1 => index().prop_map(Step::Return),
        1 => Just(Step::Expire),
        3 => prop::bool::weighted(0.3).prop_map(|suspicious| Step::Detach { suspicious }),
        4 => index().prop_map(Step::Attach),
        6 => prop::bool::weighted(0.6).prop_map(|patient| Step::GoOn { patient }),
        2 => Just(Step::Reopen),
        3 => Just(Step::TryAgain),
        1 => Just(Step::LosePatience),
    ];
    prop::collection::vec(step, 1..120)
}

/// What the broker has of a content that is not whole yet.
#[derive(Debug)]
struct Begun {
    id: u64,
    missing: Option<usize>,
}

/// Reads frames, and notes everything that must not be.
#[derive(Debug, Default)]
struct Broker {
    frame_max: usize,
    /// Since `channel.close`, until it is answered.
    deaf: bool,
    begun: Option<Begun>,
    /// Of this life: what came, in order, and whether it is answered.
    came: Vec<(u64, bool)>,
    returned: BTreeSet<u64>,
    /// Of all lives: what was begun or came.
    handed: BTreeSet<u64>,
    /// What may come once more: it was under way when a connection was lost.
    again: BTreeSet<u64>,
    /// What had its answer before this life, or before it was sent.
    unwanted: BTreeSet<u64>,
    last_new: u64,
    acked: BTreeSet<u64>,
    nacked: BTreeSet<u64>,
    /// Nacked in a patient life: nobody hears of it, and they come again, unless it ends before the next one goes on.
    put_off: BTreeSet<u64>,
    sent_back: BTreeSet<u64>,
    /// Under way when a connection was lost.
    doubtful: BTreeSet<u64>,
}

impl Broker {
    fn read(&mut self, mut bytes: &[u8]) {
        while let [kind, _, _, size @ ..] = bytes {
            let size = u32::from_be_bytes(*size.first_chunk().expect("a head")) as usize;
            assert!(
                size + 8 <= self.frame_max,
                "a frame of {size} bytes where {} are allowed",
                self.frame_max
            );
            assert_eq!(bytes.get(size + 7), Some(&0xCE), "a part of a frame");
            self.frame(*kind, &bytes[7..size + 7]);
            bytes = &bytes[size + 8..];
        }
        assert!(bytes.is_empty());
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) {
        if kind == 1 && payload[..4] == [0, 20, 0, 41] {
            assert!(std::mem::take(&mut self.deaf), "channel.close-ok without channel.close");
            assert!(self.begun.is_none(), "channel.close-ok within a content");
            return;
        }
        let begun = match kind {
            1 => {
                assert_eq!(payload[..4], [0, 60, 0, 40]);
                assert!(self.begun.is_none(), "a publish within a content");
                let exchange = usize::from(payload[6]);
                let key = &payload[8 + exchange..][..usize::from(payload[7 + exchange])];
                let id = std::str::from_utf8(key).unwrap().parse().unwrap();
                assert!(!self.deaf, "a publish behind channel.close");
                self.begin(id);
                Begun { id, missing: None }
            }
            2 => {
                let begun = self.begun.take().expect("a header without a method");
                assert!(begun.missing.is_none());
                let length = u64::from_be_bytes(*payload[4..].first_chunk().unwrap());
                Begun { id: begun.id, missing: Some(length as usize) }
            }
            _ => {
                let begun = self.begun.take().expect("a body without a header");
                let missing = begun.missing.expect("a body before its header");
                Begun { id: begun.id, missing: Some(missing.checked_sub(payload.len()).expect("too long")) }
            }
        };
        match begun.missing {
            Some(0) if self.deaf => {}
            Some(0) => self.came.push((begun.id, false)),
            _ => self.begun = Some(begun),
        }
    }

    fn begin(&mut self, id: u64) {
        assert!(!self.unwanted.contains(&id), "{id} was answered before");
        if self.handed.insert(id) {
            assert!(id > self.last_new, "{id} after {}", self.last_new);
            self.last_new = id;
        } else {
            assert!(self.again.remove(&id), "{id} twice, but it was not under way");
        }
    }

    fn open(&self) -> Vec<usize> {
        (0..self.came.len()).filter(|&at| !self.came[at].1).collect()
    }

    /// What this life was handed and has not answered.
    fn under_way(&self) -> Vec<u64> {
        let whole = self.came.iter().filter(|(_, answered)| !answered).map(|(id, _)| *id);
        whole.chain(self.begun.iter().map(|begun| begun.id)).collect()
    }

    fn forget_life(&mut self) {
        self.again.extend(&self.put_off);
        self.came.clear();
        self.returned.clear();
    }
}

/// What one publish is told, and what it may be told.
#[derive(Debug)]
struct Publish {
    resend: bool,
    strikes: u8,
    answer: Option<Result<()>>,
    late: bool,
    /// It was under way when its channel was closed, or its connection lost.
    channel_closed: bool,
    connection_lost: bool,
}

struct World {
    outbox: Outbox,
    flush: Arc<Recipient<Flush>>,
    fails: bool,
    broker: Broker,
    publishes: BTreeMap<u64, Publish>,
    attached: bool,
    gated: bool,
    patient: bool,
    epoch: u64,
    now: Instant,
}

fn lost() -> Error {
    Error::connection_closed("lost", None)
}

impl World {
    fn new(flush: Arc<Recipient<Flush>>, fails: bool) -> Self {
        let deadline = Duration::from_secs(30);
        let terms = OutboxConfig { channel: 3, confirms: true, window: 12, window_bytes: 70_000, deadline };
        let outbox = Outbox::new(terms);
        outbox.attach(1, flush.clone(), FRAME_MAX[0], false);
        let broker = Broker { frame_max: FRAME_MAX[0] as usize, ..Broker::default() };
        let (publishes, now) = (BTreeMap::new(), Instant::now());
        let (attached, gated, patient, epoch) = (true, false, false, 1);
        Self { outbox, flush, fails, broker, publishes, attached, gated, patient, epoch, now }
    }

    /// Asks for every answer that is not there yet; what has one must not be asked again.
    fn look(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        for (&id, publish) in self.publishes.iter_mut().filter(|(_, publish)| publish.answer.is_none()) {
            if let Poll::Ready(answer) = self.outbox.poll_confirm(id, &mut cx) {
                let known = |set: &BTreeSet<u64>| set.contains(&id);
                let broker = &self.broker;
                match &answer {
                    Ok(()) => assert!(known(&broker.acked), "{id} was never confirmed"),
                    Err(error) => {
                        let kind = error.kind();
                        let may = match kind {
                            ErrorKind::Nacked => known(&broker.nacked),
                            ErrorKind::Unroutable => known(&broker.sent_back),
                            ErrorKind::Timeout => publish.late,
                            ErrorKind::ChannelClosed => publish.channel_closed,
                            ErrorKind::ConnectionClosed => publish.connection_lost,
                            _ => false,
                        };
                        assert!(may, "{id}: {error:?}, {publish:?}");
                        if kind == ErrorKind::Nacked {
                            assert_eq!(error.may_have_arrived(), known(&broker.doubtful), "{id}: {error}");
                        }
                        if matches!(kind, ErrorKind::ChannelClosed | ErrorKind::ConnectionClosed) {
                            assert_eq!(error.may_have_arrived(), known(&broker.handed), "{id}: {error}");
                        }
                    }
                }
                publish.answer = Some(answer);
            }
        }
    }

    fn publish(&mut self, size: usize, resend: bool) {
        let id = self.outbox.published();
        let (properties, body) = (Properties::new(), Bytes::from(vec![b'x'; size]));
        let routing_key = &id.to_string();
        let outgoing = Outgoing {
            exchange: "ex",
            routing_key,
            mandatory: true,
            resend,
            properties: &properties,
            body: &body,
        };
        match self.outbox.queue_publish(outgoing) {
            Ok(Some(sequence)) => {
                assert_eq!(sequence, id);
                let (strikes, late, channel_closed, connection_lost) = (0, false, false, false);
                let publish =
                    Publish { resend, strikes, answer: None, late, channel_closed, connection_lost };
                self.publishes.insert(id, publish);
            }
            Ok(None) => {}
            Err(error) => {
                let is_out = self.fails && (!self.attached || self.gated);
                assert!(is_out && error.kind() == ErrorKind::ConnectionClosed, "{error}");
            }
        }
    }

    fn take(&mut self, budget: usize) {
        let mut taken = Vec::new();
        self.outbox.take(self.epoch, budget, &mut taken);
        assert!(self.attached || taken.is_empty());
        self.broker.read(&taken.concat());
    }

    fn answer(&mut self, at: usize, multiple: bool, nack: bool) {
        let first = if multiple { 0 } else { at };
        for (id, answered) in &mut self.broker.came[first..=at] {
            if !std::mem::replace(answered, true) {
                let publish = &self.publishes[id];
                match () {
                    () if nack && self.patient && publish.resend && !publish.late => {
                        self.broker.put_off.insert(*id)
                    }
                    () if nack => self.broker.nacked.insert(*id),
                    () if self.broker.returned.contains(id) => self.broker.sent_back.insert(*id),
                    () => self.broker.acked.insert(*id),
                };
            }
        }
        let tag = at as u64 + 1;
        match nack {
            true => {
                let again = self.outbox.nack(tag, multiple).unwrap();
                assert_eq!(again, !self.broker.put_off.is_empty());
            }
            false => self.outbox.ack(tag, multiple).unwrap(),
        }
    }

    fn send_back(&mut self, at: usize) {
        let (id, _) = self.broker.came[at];
        // One return per publish and life, as brokers do.
        if self.broker.returned.insert(id) {
            let returned = Return {
                code: 312,
                text: "NO_ROUTE".into(),
                exchange: "ex".into(),
                routing_key: id.to_string(),
                properties: Ok(Properties::new()),
                body: Bytes::new(),
            };
            assert!(self.outbox.returned(returned, &[0, 0]).is_none(), "{id} is not known");
        }
    }

    fn detach(&mut self, suspicious: bool) {
        let under_way = self.broker.under_way();
        for id in under_way {
            let publish = self.publishes.get_mut(&id).expect("a publish");
            publish.strikes += u8::from(suspicious);
            publish.connection_lost |= self.fails || !publish.resend || publish.strikes >= 2;
            self.broker.again.insert(id);
            self.broker.doubtful.insert(id);
        }
        if self.fails {
            self.publishes.values_mut().for_each(|publish| publish.connection_lost = true);
            self.tell_nacks();
        }
        self.broker.begun = None;
        self.broker.deaf = false;
        self.broker.forget_life();
        self.outbox.detach(&Outage { error: &lost(), fail: self.fails, suspicious });
        (self.attached, self.gated, self.patient) = (false, false, false);
    }

    fn attach(&mut self, frame_max: u32) {
        self.epoch += 1;
        self.broker.frame_max = frame_max as usize;
        self.outbox.attach(self.epoch, self.flush.clone(), frame_max, true);
        (self.attached, self.gated) = (true, true);
    }

    fn go_on(&mut self, patient: bool) {
        self.look();
        let answered = self.publishes.iter().filter(|(_, publish)| publish.answer.is_some());
        self.broker.unwanted = answered.map(|(id, _)| *id).collect();
        let far = Instant::now() + Duration::from_secs(3600);
        self.broker.put_off.clear();
        self.outbox.go_on(&Default::default(), patient.then_some(far));
        (self.gated, self.patient) = (false, patient);
    }

    fn tell_nacks(&mut self) {
        let Broker { put_off, nacked, .. } = &mut self.broker;
        nacked.append(put_off);
        self.patient = false;
    }

    fn reopen(&mut self) {
        if !self.gated {
            for id in self.broker.under_way() {
                self.publishes.get_mut(&id).expect("a publish").channel_closed = true;
            }
        }
        self.broker.deaf = true;
        self.broker.forget_life();
        let close_ok = Bytes::from_static(&[1, 0, 3, 0, 0, 0, 4, 0, 20, 0, 41, 0xCE]);
        self.outbox.reopen(&Error::channel_closed("closed", None), close_ok);
        (self.gated, self.patient) = (true, false);
    }

    fn run(&mut self, step: Step) {
        let pick = |open: Vec<usize>, which: Index| open.get(which.index(open.len().max(1))).copied();
        match step {
            Step::Publish { size, resend } => self.publish(size, resend),
            Step::Take(budget) => self.take(budget),
            Step::Answer { which, multiple, nack } => {
                if let Some(at) = pick(self.broker.open(), which) {
                    self.answer(at, multiple, nack);
                }
            }
            Step::Return(which) => {
                if let Some(at) = pick(self.broker.open(), which) {
                    self.send_back(at);
                }
            }
            Step::Expire => {
                self.publishes.values_mut().for_each(|publish| publish.late = true);
                let Broker { put_off, nacked, .. } = &mut self.broker;
                nacked.extend(&*put_off);
                self.now += Duration::from_secs(3600);
                self.outbox.expire(self.now);
            }
            Step::Detach { suspicious } if self.attached => self.detach(suspicious),
            Step::Attach(which) if !self.attached => self.attach(FRAME_MAX[which.index(FRAME_MAX.len())]),
            Step::GoOn { patient } if self.gated && !self.broker.deaf => self.go_on(patient),
            Step::Reopen if self.attached && !self.broker.deaf => self.reopen(),
            Step::TryAgain
                if self.attached
                    && !self.gated
                    && !self.broker.put_off.is_empty()
                    && self.outbox.awaits_only_nacked() =>
            {
                assert_eq!(self.broker.under_way(), [0; 0]);
                self.reopen();
            }
            Step::LosePatience => {
                self.outbox.lose_patience();
                self.tell_nacks();
            }
            Step::Detach { .. } | Step::Attach(_) | Step::GoOn { .. } | Step::Reopen | Step::TryAgain => {}
        }
        self.look();
    }

    /// Either everything is confirmed in one more life, or the channel ends; there is an answer for each.
    fn end(&mut self, in_peace: bool) {
        if in_peace {
            if !self.attached {
                self.attach(FRAME_MAX[1]);
            }
            self.take(usize::MAX);
            if self.gated {
                self.go_on(false);
            }
            self.outbox.lose_patience();
            self.tell_nacks();
            while !self.outbox.load().drained {
                self.take(100);
            }
            if let Some(last) = self.broker.came.len().checked_sub(1) {
                self.answer(last, true, false);
            }
        } else {
            self.publishes.values_mut().for_each(|publish| publish.channel_closed = true);
            self.tell_nacks();
            self.outbox.close(Error::channel_closed("over", None), None);
        }
        self.look();
        let unanswered: Vec<_> =
            self.publishes.iter().filter(|(_, publish)| publish.answer.is_none()).collect();
        assert!(unanswered.is_empty(), "{unanswered:?}");
        assert_eq!(self.outbox.load(), Load { drained: true, ..Load::default() });
    }
}

/// Design 13.1, design 13.4, design 13.9: whatever happens in whatever order, every publish has one answer,
/// and a true one; first deliveries are in order; only what was under way comes twice; nothing is left.
#[actix::test]
async fn every_publish_is_answered_once_over_any_lives() {
    let flush: Arc<Recipient<Flush>> = Arc::new(Flushes::default().start().recipient());
    let check = |(steps, fails, in_peace): (Vec<Step>, bool, bool)| {
        let mut world = World::new(flush.clone(), fails);
        steps.into_iter().for_each(|step| world.run(step));
        world.end(in_peace);
        Ok(())
    };
    let config = proptest::test_runner::Config { cases: 2000, ..Default::default() };
    TestRunner::new(config).run(&(steps(), prop::bool::weighted(0.2), any::<bool>()), check).unwrap();
}

/// Design 13.1: what is new comes behind what is sent again, and is known by its own number in the next life, too.
#[actix::test]
async fn a_gap_before_what_is_new_is_no_gap_in_the_next_life() {
    let flush: Arc<Recipient<Flush>> = Arc::new(Flushes::default().start().recipient());
    let mut world = World::new(flush, false);
    for resend in [false, true, false] {
        world.publish(0, resend);
    }
    world.take(1);
    world.detach(false);
    world.attach(FRAME_MAX[0]);
    world.go_on(false);
    world.publish(0, true);
    world.detach(false);
    world.attach(FRAME_MAX[0]);
    world.go_on(false);
    world.take(usize::MAX);
    assert_eq!(world.broker.under_way(), [2, 4]);
}
