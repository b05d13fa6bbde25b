//! A machine under test: the broker's methods go in, and what the channel sends and reports comes out.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::{Actor, AsyncContext, Context, Handler, Recipient};
use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use crate::{
    broker_rules::BrokerRules,
    channel::{
        Call,
        machine::{ChannelMachine, ConnectionLink},
        output::Output,
        reply::Answer,
    },
    error::Error,
    internal::{BrokerNotes, SupervisorMessage},
    message::{
        ChannelEvent, Consume, Consumed, ConsumerEnd, Delivery, DeliverySink, Leave, OpenChannel, Outgoing,
        SelectTx, SinkRegistration,
    },
    outbox::{Flush, Outbox, OutboxConfig},
    transport::ReadCredit,
    wire::{
        AMQPClass, Assembler, FrameDecoder, FrameKind, Inbound, Properties, basic, channel, confirm, ids,
        method_name, parse_method, put_body, put_header, put_method, queue, read_method, tx,
    },
};

pub(super) struct Bench {
    pub(super) machine: ChannelMachine,
    pub(super) now: Instant,
    epoch: u64,
    /// Of the broker at the other end of the next connection.
    pub(super) version: &'static str,
}

impl Bench {
    /// Creates the machine of a channel with confirms that was never attached.
    pub(super) fn new(recovers: bool) -> Self {
        Self::with_confirms(recovers, true)
    }

    /// Creates the machine of an open channel that recovers, in transaction mode.
    pub(super) fn in_transaction() -> Self {
        let mut bench = Self::with_confirms(true, false);
        bench.attach();
        bench.answer_open();
        let selected = bench.call(SelectTx);
        assert_eq!(bench.sent(), ["channel.open", "tx.select"]);
        bench.receive(AMQPClass::Tx(tx::AMQPMethod::SelectOk(tx::SelectOk {})));
        assert!(selected.is_ok());
        bench.outputs();
        bench
    }

    fn with_confirms(recovers: bool, confirms: bool) -> Self {
        let options = OpenChannel::new();
        let outbox = Outbox::new(OutboxConfig {
            channel: 1,
            confirms,
            window: options.window,
            window_bytes: options.window_bytes,
            deadline: options.deadline,
        });
        let now = Instant::now();
        let machine = ChannelMachine::new(Arc::new(outbox), &options, Assembler::new(1 << 20), recovers, now);
        Self { machine, now, epoch: 0, version: "4.2.0" }
    }

    /// Creates the machine of an open channel that recovers.
    pub(super) fn open() -> Self {
        let mut bench = Self::new(true);
        bench.attach();
        assert_eq!(bench.sent(), ["channel.open", "confirm.select"]);
        bench.answer_opening();
        assert!(bench.machine.state.is_open());
        bench.outputs();
        bench
    }

    pub(super) fn attach(&mut self) {
        self.epoch += 1;
        let credit = Arc::new(ReadCredit::new(1 << 20, 1 << 20));
        let broker = Arc::new(BrokerNotes::new(BrokerRules::of("RabbitMQ", self.version)));
        let connection = ConnectionLink { epoch: self.epoch, share: credit.share(1), credit, broker };
        self.machine.attached(connection, Arc::new(flushes()), 131_072, self.now);
    }

    pub(super) fn lose_connection(&mut self) {
        self.machine.connection_lost(&Error::connection_closed("reset", None));
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.machine.tick(self.now);
    }

    /// Makes a call of the application.
    pub(super) fn call<C: Call>(&mut self, call: C) -> Answer<C::Answer> {
        self.machine.call(call, self.now).listen()
    }

    /// Starts a consumer on `jobs`.
    pub(super) fn start_consumer(&mut self, tag: &str) -> (Answer<Consumed>, Arc<Sink>) {
        let sink = Arc::new(Sink::default());
        (self.call(Consume::new().queue("jobs").tag(tag).sink(sink.clone())), sink)
    }

    /// Starts a consumer on `jobs`, which the broker accepts.
    pub(super) fn consume(&mut self, tag: &str) -> Arc<Sink> {
        let (consumed, sink) = self.start_consumer(tag);
        assert_eq!(self.sent(), ["basic.qos", "basic.consume"]);
        self.answer_qos();
        self.answer_consume(tag);
        assert!(consumed.is_ok());
        sink
    }

    pub(super) fn publish(&mut self) {
        let (properties, body) = (Properties::default(), Bytes::from_static(b"body"));
        let outgoing = Outgoing {
            exchange: "",
            routing_key: "jobs",
            mandatory: true,
            resend: true,
            properties: &properties,
            body: &body,
        };
        assert!(self.machine.outbox.queue_publish(outgoing).unwrap().is_some());
    }

    /// Reads a method of the broker.
    pub(super) fn receive(&mut self, method: AMQPClass) {
        let mut buffer = BytesMut::new();
        put_method(&mut buffer, 1, &method).unwrap();
        let batch = FrameDecoder::new(131_072).next_batch(&mut buffer).unwrap().expect("a batch");
        let now = self.now;
        self.machine.frames(self.epoch, &batch, || now);
    }

    /// Reads a delivery of `jobs` that announces `size` octets, in frames of 4,000 octets.
    pub(super) fn receive_delivery(&mut self, consumer_tag: &str, delivery_tag: u64, size: usize) {
        let (exchange, routing_key) = ("".into(), "jobs".into());
        let consumer_tag = consumer_tag.into();
        let deliver =
            basic::Deliver { consumer_tag, delivery_tag, redelivered: false, exchange, routing_key };
        let mut buffer = BytesMut::new();
        put_method(&mut buffer, 1, &AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver))).unwrap();
        put_header(&mut buffer, 1, size as u64, &Properties::default());
        vec![b'x'; size].chunks(4000).for_each(|part| put_body(&mut buffer, 1, part));
        let mut decoder = FrameDecoder::new(131_072);
        while let Some(batch) = decoder.next_batch(&mut buffer).unwrap() {
            let now = self.now;
            self.machine.frames(self.epoch, &batch, || now);
        }
    }

    pub(super) fn answer_opening(&mut self) {
        self.answer_open();
        self.answer_confirm_select();
    }

    /// The channel reopens with a consumer of this tag.
    pub(super) fn reopened_with(&mut self, tag: &str) {
        let sent = self.sent();
        assert!(
            sent.ends_with(
                &["channel.open", "basic.qos", "basic.consume", "confirm.select"].map(String::from)
            )
        );
        self.answer_open();
        self.answer_qos();
        self.answer_consume(tag);
        self.answer_confirm_select();
        assert!(self.machine.state.is_open());
    }

    /// Takes in which channel epoch the channel is to be reopened, and after which pause.
    pub(super) fn reopening(&mut self) -> Option<(u32, Duration)> {
        self.outputs().into_iter().find_map(|output| match output {
            Output::Reopen { channel_epoch, after } => Some((channel_epoch, after)),
            _ => None,
        })
    }

    /// Lets the pause pass before the channel reopens, and returns it.
    pub(super) fn wait_to_reopen(&mut self) -> Duration {
        let (epoch, pause) = self.reopening().expect("a pause");
        self.now += pause;
        self.machine.reopen_when_due(epoch, self.now);
        pause
    }

    pub(super) fn answer_open(&mut self) {
        self.receive(AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {})));
    }

    pub(super) fn answer_confirm_select(&mut self) {
        self.receive(AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(confirm::SelectOk {})));
    }

    pub(super) fn answer_qos(&mut self) {
        self.receive(AMQPClass::Basic(basic::AMQPMethod::QosOk(basic::QosOk {})));
    }

    pub(super) fn answer_consume(&mut self, tag: &str) {
        let ok = basic::ConsumeOk { consumer_tag: tag.into() };
        self.receive(AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(ok)));
    }

    pub(super) fn answer_cancel(&mut self, tag: &str) {
        let ok = basic::CancelOk { consumer_tag: tag.into() };
        self.receive(AMQPClass::Basic(basic::AMQPMethod::CancelOk(ok)));
    }

    pub(super) fn answer_purge(&mut self) {
        self.receive(AMQPClass::Queue(queue::AMQPMethod::PurgeOk(queue::PurgeOk { message_count: 3 })));
    }

    pub(super) fn answer_close(&mut self) {
        self.receive(AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})));
    }

    pub(super) fn cancel_by_broker(&mut self, tag: &str) {
        let cancel = basic::Cancel { consumer_tag: tag.into(), nowait: true };
        self.receive(AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)));
    }

    /// The broker closes the channel because of a method.
    pub(super) fn close_by_broker(&mut self, code: u16, text: &str, class_id: u16, method_id: u16) {
        let close = channel::Close { reply_code: code, reply_text: text.into(), class_id, method_id };
        self.receive(AMQPClass::Channel(channel::AMQPMethod::Close(close)));
    }

    pub(super) fn confirm(&mut self, tag: u64) {
        let ack = basic::Ack { delivery_tag: tag, multiple: false };
        self.receive(AMQPClass::Basic(basic::AMQPMethod::Ack(ack)));
    }

    /// Returns the names of the methods that were sent since the last time; of cancels with their tag.
    pub(super) fn sent(&self) -> Vec<String> {
        self.sent_payloads().iter().map(|payload| name(payload)).collect()
    }

    /// Returns the methods that were sent since the last time, except publishes and acks.
    pub(super) fn sent_methods(&self) -> Vec<AMQPClass> {
        let is_other = |payload: &Bytes| matches!(parse_method(payload), Ok(Inbound::Other { .. }));
        let payloads = self.sent_payloads();
        payloads
            .iter()
            .filter(|payload| is_other(payload))
            .map(|payload| read_method(payload).unwrap())
            .collect()
    }

    fn sent_payloads(&self) -> Vec<Bytes> {
        let (mut out, mut bytes) = (Vec::new(), BytesMut::new());
        while self.machine.outbox.take(self.epoch, 1 << 20, &mut out) {}
        out.iter().for_each(|chunk| bytes.extend_from_slice(chunk));
        let mut payloads = Vec::new();
        let mut decoder = FrameDecoder::new(131_072);
        while let Some(batch) = decoder.next_batch(&mut bytes).unwrap() {
            payloads.extend(
                batch.iter().filter(|frame| frame.kind == FrameKind::Method).map(|frame| frame.payload),
            );
        }
        payloads
    }

    /// Takes what the machine has asked for since the last time.
    pub(super) fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.machine.outputs.next()).collect()
    }

    /// Takes the names of the events since the last time.
    pub(super) fn events(&mut self) -> Vec<&'static str> {
        let name = |output| match output {
            Output::Event(ChannelEvent::Reopened(_)) => Some("reopened"),
            Output::Event(ChannelEvent::ConsumerLost { .. }) => Some("consumer lost"),
            Output::Event(ChannelEvent::ConsumerRecovered { .. }) => Some("consumer recovered"),
            Output::Event(ChannelEvent::Closed(None)) => Some("closed"),
            Output::Event(ChannelEvent::Closed(Some(_))) => Some("closed for a cause"),
            _ => None,
        };
        self.outputs().into_iter().filter_map(name).collect()
    }

    /// Takes the id of the consumer that the supervisor is to repair, if there is one.
    pub(super) fn repair(&mut self) -> Option<u32> {
        self.outputs().into_iter().find_map(|output| match output {
            Output::Supervisor(SupervisorMessage::RepairConsumer { consumer, .. }) => Some(consumer),
            _ => None,
        })
    }

    /// Takes whether the number is free, if the channel has ended.
    pub(super) fn ended(&mut self) -> Option<bool> {
        self.outputs().into_iter().find_map(|output| match output {
            Output::Supervisor(SupervisorMessage::ChannelClosed { free, .. }) => Some(free),
            _ => None,
        })
    }
}

/// Names a method that was sent.
fn name(payload: &[u8]) -> String {
    let name = |class_id, method_id| method_name(class_id, method_id).to_owned();
    // Those that `read_method` does not decode are of the hot path.
    match parse_method(payload) {
        Ok(Inbound::Other { .. }) => {}
        _ => return name(payload[1].into(), payload[3].into()),
    }
    match read_method(payload).unwrap() {
        AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)) => {
            format!("basic.cancel {}", cancel.consumer_tag)
        }
        other => {
            let (class_id, method_id) = ids(&other);
            name(class_id, method_id)
        }
    }
}

/// Returns a recipient without a running actor.
fn flushes() -> Recipient<Flush> {
    struct Nobody;
    impl Actor for Nobody {
        type Context = Context<Self>;
    }
    impl Handler<Flush> for Nobody {
        type Result = ();

        fn handle(&mut self, _: Flush, _: &mut Self::Context) {}
    }
    Context::<Nobody>::new().address().recipient()
}

/// Keeps how it ended.
#[derive(Debug, Default)]
pub(super) struct Sink(Mutex<Option<ConsumerEnd>>);

impl Sink {
    pub(super) fn end(&self) -> Option<ConsumerEnd> {
        self.0.lock().unwrap().clone()
    }
}

impl DeliverySink for Sink {
    fn bind(&self, _: SinkRegistration) {}

    fn batch(&self, _: Vec<Delivery>) {}

    fn ended(&self) {}

    fn leave(&self, _: Leave) {}

    fn has_target(&self) -> bool {
        true
    }

    fn discard(&self) {}

    fn take_back(&self) {}

    fn pause(&self, _: bool) {}

    fn end(&self, end: ConsumerEnd) {
        self.0.lock().unwrap().get_or_insert(end);
    }
}
