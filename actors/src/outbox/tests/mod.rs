//! The whole outbox: what is written is taken, in order and in any pieces.

mod acks;
mod answers;
mod batches;
mod confirms;
mod counters;
mod forbidden;
mod lock;
mod returns;
mod schedules;
mod transaction;
mod unwritten;
mod window;

use std::task::{Context, Poll, Waker};

use actix::{Actor, Context as ActorContext, Handler, Recipient};
use bytes::BytesMut;
use proptest::{prelude::*, test_runner::TestRunner};
use tokio::time::Instant;

use super::*;
use crate::{
    ErrorKind,
    message::{Outcome, Outgoing},
    returned::Return,
    wire::{Assembler, ContentMethod, Fault, FrameDecoder, FrameKind, Inbound, Properties, parse_method},
};

const EPOCH: u64 = 7;

/// Records flush requests.
#[derive(Default)]
pub(super) struct Flushes(pub(super) Arc<Mutex<Vec<Flush>>>);

impl Actor for Flushes {
    type Context = ActorContext<Self>;
}

impl Handler<Flush> for Flushes {
    type Result = ();

    fn handle(&mut self, flush: Flush, _: &mut Self::Context) {
        self.0.lock().unwrap().push(flush);
    }
}

fn config(confirms: bool) -> OutboxConfig {
    OutboxConfig {
        channel: 3,
        confirms,
        window: 1000,
        window_bytes: 1 << 20,
        deadline: Duration::from_secs(30),
    }
}

fn attached(confirms: bool, frame_max: u32) -> (Outbox, Arc<Mutex<Vec<Flush>>>) {
    let flushes = Arc::default();
    let outbox = Outbox::new(config(confirms));
    let recipient = Flushes(Arc::clone(&flushes)).start().recipient();
    outbox.attach(EPOCH, Arc::new(recipient), frame_max, false);
    (outbox, flushes)
}

fn publish(outbox: &Outbox, routing_key: &str, body: &Bytes) -> u64 {
    let properties = Properties::new();
    let outgoing = Outgoing {
        exchange: "ex",
        routing_key,
        mandatory: true,
        resend: true,
        properties: &properties,
        body,
    };
    outbox.queue_publish(outgoing).unwrap().expect("room in the window")
}

fn take_all(outbox: &Outbox, budget: usize) -> BytesMut {
    let mut bytes = BytesMut::new();
    let mut more = true;
    while more {
        let mut taken = Vec::new();
        more = outbox.take(EPOCH, budget, &mut taken);
        let taken = taken.concat();
        assert_whole_frames(&taken);
        bytes.extend_from_slice(&taken);
    }
    bytes
}

/// Another channel may write next.
fn assert_whole_frames(mut bytes: &[u8]) {
    while let [_, _, _, size @ ..] = bytes {
        let size = u32::from_be_bytes(*size.first_chunk().expect("a head")) as usize;
        assert_eq!(bytes.get(size + 7), Some(&0xCE), "a part of a frame");
        bytes = &bytes[size + 8..];
    }
    assert!(bytes.is_empty());
}

/// What the frames contain: publishes by routing key and body, methods by their ids.
#[derive(Debug, PartialEq, Eq)]
enum ReadBack {
    Publish(String, Bytes),
    Method(u16, u16),
}

impl ReadBack {
    /// Returns the routing key of a publish.
    fn key(self) -> Option<String> {
        match self {
            Self::Publish(key, _) => Some(key),
            Self::Method(..) => None,
        }
    }
}

fn read_back(mut bytes: BytesMut, frame_max: u32) -> Vec<ReadBack> {
    let mut decoder = FrameDecoder::new(frame_max);
    let mut assembler = Assembler::new(u64::MAX);
    let mut seen = Vec::new();
    while let Some(batch) = decoder.next_batch(&mut bytes).unwrap() {
        for frame in batch.iter() {
            assert_eq!(frame.channel, 3);
            let content = match frame.kind {
                FrameKind::Method if frame.payload[..4] == [0, 60, 0, 40] => {
                    // The assembler knows no publish; a return has its strings in the same order.
                    let mut as_return = BytesMut::from(&[0, 60, 0, 50, 1, 56, 0][..]);
                    as_return.extend_from_slice(&frame.payload[6..]);
                    let as_return = as_return.freeze();
                    let Inbound::Return(head) = parse_method(&as_return).unwrap() else {
                        panic!("no return")
                    };
                    assembler
                        .begin(ContentMethod::Return(head), as_return)
                        .map(|()| None::<crate::wire::AssembledContent>)
                }
                FrameKind::Method => {
                    let id = |at: usize| u16::from_be_bytes([frame.payload[at], frame.payload[at + 1]]);
                    seen.push(ReadBack::Method(id(0), id(2)));
                    Ok(None)
                }
                FrameKind::Header => assembler.header(&frame.payload),
                FrameKind::Body => assembler.body(frame.payload),
                FrameKind::Heartbeat => Err(Fault::frame("heartbeat")),
            };
            if let Some(content) = content.unwrap() {
                let ContentMethod::Return(head) = &content.method else { panic!("no publish") };
                let key = String::from_utf8(head.routing_key.of(&content.payload).to_vec()).unwrap();
                seen.push(ReadBack::Publish(key, content.body.unwrap()));
            }
        }
    }
    assert!(bytes.is_empty() && assembler.idle(), "half a frame");
    seen
}

#[actix::test]
async fn publishes_are_taken_whole_and_in_order_with_any_budget() {
    let sizes =
        prop_oneof![4 => 0..200usize, 2 => 4080..4110usize, 1 => 8170..8210usize, 1 => 0..60_000usize];
    let cases = (prop::collection::vec(sizes, 1..30), 1..200_000usize, any::<bool>(), 0..3usize);
    let check = |(sizes, budget, confirms, pause): (Vec<usize>, usize, bool, usize)| {
        let (outbox, _) = attached(confirms, 8192);
        let mut expected = Vec::new();
        let mut bytes = BytesMut::new();
        for (n, size) in sizes.into_iter().enumerate() {
            let body = Bytes::from(vec![n as u8; size]);
            publish(&outbox, &format!("key{n}"), &body);
            expected.push(ReadBack::Publish(format!("key{n}"), body));
            if pause > 0 && n % pause == 0 {
                let mut taken = Vec::new();
                outbox.take(EPOCH, budget, &mut taken);
                assert_whole_frames(&taken.concat());
                bytes.extend_from_slice(&taken.concat());
            }
        }
        bytes.extend_from_slice(&take_all(&outbox, budget));
        prop_assert_eq!(read_back(bytes, 8192), expected);
        prop_assert!(outbox.load().drained);
        Ok(())
    };
    TestRunner::default().run(&cases, check).unwrap();
}

#[actix::test]
async fn one_flush_is_requested_until_everything_is_taken() {
    let (outbox, flushes) = attached(true, 131_072);
    let body = Bytes::from_static(b"x");
    for _ in 0..10 {
        publish(&outbox, "key", &body);
    }
    tokio::task::yield_now().await;
    assert_eq!(flushes.lock().unwrap().len(), 1);
    assert_eq!(read_back(take_all(&outbox, 64 * 1024), 131_072).len(), 10);
    publish(&outbox, "key", &body);
    tokio::task::yield_now().await;
    let flushes = flushes.lock().unwrap();
    assert_eq!(flushes.iter().map(|f| (f.channel, f.epoch)).collect::<Vec<_>>(), [(3, EPOCH), (3, EPOCH)]);
}

#[actix::test]
async fn content_acks_and_methods_keep_their_order() {
    let (outbox, _) = attached(true, 131_072);
    let body = Bytes::from_static(b"x");
    outbox.delivered(&[DeliveredTags { first: 1, last: 2, consumer: Some(1) }], 0).unwrap();
    publish(&outbox, "first", &body);
    outbox.settle(0, 1, 1, Outcome::Ack).unwrap();
    // channel.close, as an example of a method
    outbox.method(Bytes::from_static(&[1, 0, 3, 0, 0, 0, 4, 0, 20, 0, 40, 0xCE])).unwrap();
    publish(&outbox, "second", &body);
    outbox.settle(0, 2, 1, Outcome::Nack { requeue: true }).unwrap();
    let expected = [
        ReadBack::Publish("first".into(), body.clone()),
        ReadBack::Method(60, 80),
        ReadBack::Method(20, 40),
        ReadBack::Publish("second".into(), body.clone()),
        ReadBack::Method(60, 120),
    ];
    assert_eq!(read_back(take_all(&outbox, 64 * 1024), 131_072), expected);
}

#[actix::test]
async fn another_epoch_takes_nothing_and_a_closed_outbox_has_only_final_frames() {
    let (outbox, _) = attached(true, 131_072);
    publish(&outbox, "key", &Bytes::from_static(b"x"));
    let mut taken = Vec::new();
    assert!(!outbox.take(EPOCH - 1, usize::MAX, &mut taken) && taken.is_empty());
    let close_ok = Bytes::from_static(&[1, 0, 3, 0, 0, 0, 4, 0, 20, 0, 41, 0xCE]);
    outbox.end(Error::channel_closed("refused", None), FinalFrames::Only(close_ok));
    assert_eq!(read_back(take_all(&outbox, 64 * 1024), 131_072), [ReadBack::Method(20, 41)]);
    let properties = Properties::new();
    let outgoing = Outgoing {
        resend: true,
        exchange: "",
        routing_key: "",
        mandatory: false,
        properties: &properties,
        body: &Bytes::new(),
    };
    assert_eq!(outbox.queue_publish(outgoing).unwrap_err().kind(), ErrorKind::ChannelClosed);
    assert_eq!(outbox.settle(1, 1, 1, Outcome::Ack).unwrap_err().kind(), ErrorKind::ChannelClosed);
    assert_eq!(outbox.settle(0, 1, 1, Outcome::Ack).unwrap_err().kind(), ErrorKind::ChannelClosed);
}

#[actix::test]
async fn frames_over_the_limit_are_refused_and_take_no_number() {
    let (outbox, _) = attached(true, 4096);
    let body = Bytes::from_static(b"x");
    let properties = Properties::new().with_header("k", "v".repeat(5000));
    let outgoing = Outgoing {
        exchange: "",
        routing_key: "",
        mandatory: true,
        resend: true,
        properties: &properties,
        body: &body,
    };
    assert_eq!(outbox.queue_publish(outgoing).unwrap_err().kind(), ErrorKind::Limit);
    assert_eq!(outbox.method(Bytes::from(vec![0; 4097])).unwrap_err().kind(), ErrorKind::Limit);
    assert!(outbox.load().drained);
    assert_eq!(publish(&outbox, "key", &body), 1);
}

#[actix::test]
async fn a_partially_written_publish_is_completed_before_final_frames() {
    let close_ok = Bytes::from_static(&[1, 0, 3, 0, 0, 0, 4, 0, 20, 0, 41, 0xCE]);
    let body = Bytes::from(vec![7; 60_000]);
    for partial in [false, true] {
        let (outbox, _) = attached(true, 8192);
        publish(&outbox, "partial", &body);
        publish(&outbox, "never", &body);
        let mut taken = Vec::new();
        if partial {
            assert!(outbox.take(EPOCH, 1, &mut taken));
        }
        outbox.end(Error::channel_closed("refused", None), FinalFrames::Only(close_ok.clone()));
        let mut bytes = BytesMut::from(&taken.concat()[..]);
        bytes.extend_from_slice(&take_all(&outbox, 1));
        let mut expected = vec![ReadBack::Method(20, 41)];
        if partial {
            expected.insert(0, ReadBack::Publish("partial".into(), body.clone()));
        }
        assert_eq!(read_back(bytes, 8192), expected);
    }
}
