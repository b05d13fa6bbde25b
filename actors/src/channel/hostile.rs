//! A channel, its outbox, calls and consumers against a server that sends anything: see `testing/hostile.rs`.

use std::{
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Waker},
    time::Duration,
};

use actix::Recipient;
use bytes::BytesMut;
use tokio::time::Instant;

use super::{
    Call, Reply,
    machine::{ChannelMachine, ConnectionLink},
    output::Output,
};
use crate::{
    broker_rules::BrokerRules,
    error::Error,
    internal::{BrokerNotes, SupervisorMessage},
    message::{
        BindQueue, CancelConsumer, CloseChannel, CommitTx, Consume, ConsumerEnd, DeclareExchange,
        DeclareQueue, DeleteQueue, Delivery, DeliverySink, EntityKind, Get, Leave, OpenChannel, Publishing,
        PurgeQueue, Qos, Recover, RollbackTx, SelectTx, SinkRegistration,
    },
    outbox::{Confirm, Flush, Outbox, OutboxConfig},
    script::{Script, put_frame, right_reply},
    transport::ReadCredit,
    wire::{Assembler, FrameDecoder, FrameKind},
};

/// The number of the channel.
const CHANNEL: u16 = 1;
const FRAME_MAX: u32 = 4096;
const BODY_MAX: u64 = 64;

pub(crate) struct HostileChannel {
    machine: ChannelMachine,
    flush: Arc<Recipient<Flush>>,
    now: Instant,
    epoch: u64,
    sink: Arc<Kept>,
    /// The right replies to what the channel has sent.
    replies: VecDeque<Vec<u8>>,
    publishes: u64,
    calls: Vec<Box<dyn Fn() -> bool>>,
    confirms: Vec<Pin<Box<Confirm>>>,
    timers: Vec<Output>,
}

/// Keeps deliveries until the script settles them.
#[derive(Default)]
struct Kept(Mutex<Vec<Delivery>>);

impl HostileChannel {
    /// Runs a script to its end. Panics where the channel does, and where a call or a publish has no outcome.
    pub(crate) fn run(bytes: &[u8], flush: &Arc<Recipient<Flush>>) {
        let mut script = Script::new(bytes);
        let (confirms, recovers) = (script.choice(), script.below(4) > 0);
        let mut channel = Self::new(confirms, recovers, flush.clone());
        channel.attach(&mut script);
        // Most scripts begin with a channel that is open and consumes.
        if script.below(8) > 0 {
            channel.reply_all(&mut script);
            channel.make(Consume::new().queue("jobs").tag("ctag").sink(channel.sink.clone()));
            channel.reply_all(&mut script);
        }
        while !script.is_over() {
            channel.step(&mut script);
            channel.outputs(&mut script);
        }
        channel.end();
    }

    fn new(confirms: bool, recovers: bool, flush: Arc<Recipient<Flush>>) -> Self {
        let options = OpenChannel::new();
        let outbox = Outbox::new(OutboxConfig {
            channel: CHANNEL,
            confirms,
            window: 8,
            window_bytes: 4096,
            deadline: Duration::from_secs(30),
        });
        let now = Instant::now();
        let assembler = Assembler::new(BODY_MAX);
        Self {
            machine: ChannelMachine::new(Arc::new(outbox), &options, assembler, recovers, now),
            flush,
            now,
            epoch: 0,
            sink: Arc::default(),
            replies: VecDeque::new(),
            publishes: 0,
            calls: Vec::new(),
            confirms: Vec::new(),
            timers: Vec::new(),
        }
    }

    fn attach(&mut self, script: &mut Script<'_>) {
        self.epoch += 1;
        self.restart(script);
        let version = if script.choice() { "3.13.0" } else { "4.3.0" };
        let credit = Arc::new(ReadCredit::new(1 << 20, 1 << 20));
        let broker = Arc::new(BrokerNotes::new(BrokerRules::of("RabbitMQ", version)));
        let connection = ConnectionLink { epoch: self.epoch, share: credit.share(1), credit, broker };
        self.machine.attached(connection, self.flush.clone(), FRAME_MAX, self.now);
    }

    fn restart(&mut self, script: &mut Script<'_>) {
        self.replies.clear();
        self.publishes = 0;
        script.restart_tags();
    }

    fn lose(&mut self, error: &Error, script: &mut Script<'_>) {
        self.machine.connection_lost(error);
        self.attach(script);
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.below(40) {
            0..9 => self.reply(script),
            9..16 => self.right_frames(script),
            16..19 => {
                let mut frames = BytesMut::new();
                script.server_frames(CHANNEL, &mut frames);
                self.feed(frames, script);
            }
            19..25 => self.call(script),
            25..29 => self.publish(script),
            29..34 => self.settle(script),
            34..36 => self.pass(script),
            36 => self.supervisor(script),
            37 => self.reply_all(script),
            38 if script.below(4) > 0 => self.publish(script),
            _ => self.lose(&Error::connection_closed("reset", None), script),
        }
    }

    /// What a server may send of its own accord: deliveries, returns, a close, a cancel, `channel.flow`.
    fn right_frames(&mut self, script: &mut Script<'_>) {
        let mut frames = BytesMut::new();
        for _ in 0..=script.below(3) {
            match script.below(16) {
                0..9 => script.delivery(CHANNEL, &mut frames),
                9..13 => put_frame(&mut frames, 1, CHANNEL, &[0, 20, 0, 20, script.byte() & 1]),
                13 => put_frame(&mut frames, 1, CHANNEL, b"\0\x3c\0\x1e\x04ctag\x01"),
                14 => {
                    let ids = [[0, 60, 0, 40], [0, 60, 0, 20], [0, 50, 0, 10], [0, 0, 0, 0]];
                    let mut close = b"\0\x14\0\x28\x01\x94\x1fNOT_FOUND - no exchange 'logs' ".to_vec();
                    close.extend(ids.get(script.below(4)).copied().unwrap_or_default());
                    put_frame(&mut frames, 1, CHANNEL, &close);
                }
                _ => script.returned(CHANNEL, &mut frames),
            }
        }
        self.feed(frames, script);
    }

    /// Replies until the channel has no question left.
    fn reply_all(&mut self, script: &mut Script<'_>) {
        for _ in 0..8 {
            self.take(usize::MAX, script);
            let mut frames = BytesMut::new();
            self.replies.drain(..).for_each(|reply| put_frame(&mut frames, 1, CHANNEL, &reply));
            if frames.is_empty() {
                return;
            }
            self.feed(frames, script);
            self.outputs(script);
        }
    }

    /// Takes what the channel sends, and feeds it some of the right replies.
    fn reply(&mut self, script: &mut Script<'_>) {
        let budget = 64 + script.below(8) * 64;
        self.take(budget, script);
        let mut frames = BytesMut::new();
        for _ in 0..=script.below(12) {
            let Some(reply) = self.replies.pop_front() else { break };
            put_frame(&mut frames, 1, CHANNEL, &reply);
        }
        self.feed(frames, script);
    }

    /// Takes what the channel sends, and notes the right replies.
    fn take(&mut self, budget: usize, script: &mut Script<'_>) {
        let (mut taken, mut bytes) = (Vec::new(), BytesMut::new());
        while self.machine.outbox.take(self.epoch, budget, &mut taken) {}
        taken.iter().for_each(|chunk| bytes.extend_from_slice(chunk));
        let mut decoder = FrameDecoder::new(FRAME_MAX);
        while let Ok(Some(batch)) = decoder.next_batch(&mut bytes) {
            for frame in batch.iter().filter(|frame| frame.kind == FrameKind::Method) {
                if frame.payload.starts_with(&[0, 20, 0, 10]) {
                    self.restart(script);
                }
                let mut reply = right_reply(&frame.payload, &mut self.publishes);
                if let Some([0, 60, 0, id @ 80, ..]) = reply.as_deref_mut()
                    && script.below(6) == 0
                {
                    // basic.nack
                    *id = 120;
                }
                self.replies.extend(reply);
            }
        }
    }

    fn feed(&mut self, mut bytes: BytesMut, script: &mut Script<'_>) {
        let mut decoder = FrameDecoder::new(FRAME_MAX);
        loop {
            match decoder.next_batch(&mut bytes) {
                Ok(Some(batch)) if batch.channel == CHANNEL => {
                    let now = self.now;
                    self.machine.frames(self.epoch, &batch, || now);
                }
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(fault) => return self.lose(&fault.into(), script),
            }
        }
    }

    fn made<T: 'static>(&mut self, reply: Reply<T>) {
        let answer = reply.listen();
        self.calls.push(Box::new(move || answer.is_complete()));
    }

    fn make<C: Call>(&mut self, call: C)
    where
        C::Answer: 'static,
    {
        let reply = self.machine.call(call, self.now);
        self.made(reply);
    }

    fn call(&mut self, script: &mut Script<'_>) {
        let (name, now) = (script.name(), self.now);
        match script.below(18) {
            0..4 => {
                let consume = Consume::new().queue(name).tag(script.name()).no_ack(script.below(5) == 0);
                self.make(consume.robust(script.choice()).sink(self.sink.clone()));
            }
            4 => {
                let reply = self.machine.cancel_consumer(&CancelConsumer::new(name), now);
                self.made(reply);
            }
            5 | 6 => self.make(Get::new(name)),
            7 | 8 => self.make(DeclareQueue::new(name)),
            9 => self.make(DeclareExchange::direct(name)),
            10 => self.make(BindQueue::new(name, "logs", "key")),
            11 => self.make(PurgeQueue::new(name)),
            12 => self.make(DeleteQueue::new(name)),
            13 => self.make(Qos::new(script.byte().into()).global(script.choice())),
            14 => self.make(Recover),
            15 => self.make(SelectTx),
            16 => {
                let reply = if script.choice() {
                    self.machine.commit(CommitTx, now)
                } else {
                    self.machine.rollback(RollbackTx, now)
                };
                self.made(reply);
            }
            _ if script.below(4) == 0 => {
                let reply = self.machine.close(CloseChannel::new(), now);
                self.made(reply);
            }
            _ => {}
        }
    }

    fn publish(&mut self, script: &mut Script<'_>) {
        let body = vec![b'x'; script.below(3) * script.below(256) * 8];
        let content = Publishing::new(body).mandatory(script.choice()).resend(script.choice());
        if let Ok(Some(confirm)) = self.machine.outbox.try_publish(script.name(), script.name(), &content) {
            self.confirms.push(Box::pin(confirm));
        }
    }

    fn settle(&mut self, script: &mut Script<'_>) {
        let mut kept = self.sink.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_empty() {
            return;
        }
        let at = script.below(kept.len());
        let delivery = kept.swap_remove(at);
        drop(kept);
        let _ = match script.below(6) {
            0 => delivery.nack(script.choice()),
            1 => delivery.reject(script.choice()),
            2 => delivery.ack_all(),
            3 => {
                drop(delivery);
                Ok(())
            }
            _ => delivery.ack(),
        };
    }

    fn pass(&mut self, script: &mut Script<'_>) {
        self.now += Duration::from_millis([1, 100, 5000, 31_000].get(script.below(4)).copied().unwrap_or(1));
        for timer in std::mem::take(&mut self.timers) {
            match timer {
                Output::RetryNacks { channel_epoch, .. } => self.machine.retry_nacks(channel_epoch, self.now),
                Output::Reopen { channel_epoch, .. } => self.machine.reopen_when_due(channel_epoch, self.now),
                _ => self.machine.requeue_due(self.now),
            }
        }
        self.machine.tick(self.now);
    }

    /// What the supervisor and the connection may say.
    fn supervisor(&mut self, script: &mut Script<'_>) {
        let (consumer, now) = (script.below(4) as u32, self.now);
        match script.below(10) {
            0 => self.machine.consumer_repaired(consumer, Ok(()), now),
            1 => self.machine.consumer_repaired(consumer, Err(ConsumerEnd::CancelledByBroker), now),
            2 => self.machine.start_cancelled(consumer, Vec::new(), now),
            3 => self.machine.give_up_consumer(script.name(), now),
            4 => self.machine.cancel_slow_consumer(consumer, now),
            5 => self.machine.entity_found(EntityKind::Exchange, script.name()),
            6 => self.machine.queue_renamed("amq.gen-1".into(), script.name().into()),
            7 => self.machine.outbox.set_blocked(script.choice().then(|| "memory".into())),
            8 => self.machine.consumer_at_fault(consumer, Error::connection_closed("its start", None)),
            _ if script.below(8) == 0 => self.machine.drain(now),
            _ => self.machine.release(now),
        }
    }

    fn outputs(&mut self, script: &mut Script<'_>) {
        let mut lost = None;
        while let Some(output) = self.machine.outputs.next() {
            match output {
                Output::Supervisor(SupervisorMessage::ProtocolFault { fault, .. }) => lost = Some(fault),
                Output::RetryNacks { .. } | Output::Reopen { .. } | Output::RequeueAt(_) => {
                    self.timers.push(output);
                }
                Output::Supervisor(_) | Output::Event(_) | Output::BindSink { .. } => {}
            }
        }
        let _ = self.machine.outputs.take_tick();
        if let Some(fault) = lost {
            assert!((501..=541).contains(&fault.code), "{fault}");
            self.lose(&fault.into(), script);
        }
    }

    /// The actor ends: everyone has an outcome.
    fn end(mut self) {
        self.machine.stop();
        while self.machine.outputs.next().is_some() {}
        assert!(self.calls.iter().all(|is_complete| is_complete()), "a call without an outcome");
        let mut cx = Context::from_waker(Waker::noop());
        for confirm in &mut self.confirms {
            assert!(confirm.as_mut().poll(&mut cx).is_ready(), "a publish without an outcome");
        }
        let load = self.machine.outbox.load();
        assert_eq!((load.unconfirmed, load.bytes, load.waiting), (0, 0, 0));
    }
}

impl DeliverySink for Kept {
    fn bind(&self, _: SinkRegistration) {}

    fn batch(&self, deliveries: Vec<Delivery>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(deliveries);
    }

    fn ended(&self) {}

    fn take_back(&self) {
        let waiting = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(Delivery::hand_back);
    }

    fn discard(&self) {
        let stale = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        stale.into_iter().for_each(Delivery::discard);
    }

    fn pause(&self, _: bool) {}

    fn leave(&self, _: Leave) {}

    fn has_target(&self) -> bool {
        true
    }

    fn end(&self, _: ConsumerEnd) {}
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kept")
    }
}
