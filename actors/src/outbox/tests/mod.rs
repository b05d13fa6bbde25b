//! The outbox as a whole: what goes in comes out, in order, cut as the connection asks.

mod schedules;

use actix::{Actor, Context as ActorContext, Handler};
use bytes::BytesMut;
use proptest::{prelude::*, test_runner::TestRunner};

use super::*;
use crate::{
    ErrorKind,
    wire::{
        Assembler, ContentMethod, Fault, FrameDecoder, FrameKind, Inbound, parse_method,
        property_codec::put_properties,
    },
};

const EPOCH: u64 = 7;

/// Counts the flushes that it is asked for.
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

fn terms(confirms: bool) -> OutboxConfig {
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
    let outbox = Outbox::new(terms(confirms));
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

/// Another channel may write behind what was taken.
fn assert_whole_frames(mut bytes: &[u8]) {
    while let [_, _, _, size @ ..] = bytes {
        let size = u32::from_be_bytes(*size.first_chunk().expect("a head")) as usize;
        assert_eq!(bytes.get(size + 7), Some(&0xCE), "a part of a frame");
        bytes = &bytes[size + 8..];
    }
    assert!(bytes.is_empty());
}

/// Reads the frames back: publishes by key and body, anything else by its method ids.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Publish(String, Bytes),
    Method(u16, u16),
}

fn read_back(mut bytes: BytesMut, frame_max: u32) -> Vec<Seen> {
    let mut decoder = FrameDecoder::new(frame_max);
    let mut assembler = Assembler::new(u64::MAX);
    let mut seen = Vec::new();
    while let Some(run) = decoder.next_batch(&mut bytes).unwrap() {
        for frame in run.iter() {
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
                    seen.push(Seen::Method(id(0), id(2)));
                    Ok(None)
                }
                FrameKind::Header => assembler.header(&frame.payload),
                FrameKind::Body => assembler.body(frame.payload),
                FrameKind::Heartbeat => Err(Fault::frame("heartbeat")),
            };
            if let Some(content) = content.unwrap() {
                let ContentMethod::Return(head) = &content.method else { panic!("no publish") };
                let key = String::from_utf8(head.routing_key.of(&content.payload).to_vec()).unwrap();
                seen.push(Seen::Publish(key, content.body));
            }
        }
    }
    assert!(bytes.is_empty() && assembler.idle(), "half a frame");
    seen
}

#[actix::test]
async fn whatever_is_published_comes_out_whole_in_any_cut() {
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
            expected.push(Seen::Publish(format!("key{n}"), body));
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
async fn one_flush_is_asked_for_until_everything_is_taken() {
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
async fn content_settles_and_methods_keep_their_order() {
    let (outbox, _) = attached(true, 131_072);
    let body = Bytes::from_static(b"x");
    outbox.delivered(&[acks::Seen { first: 1, last: 2, consumer: Some(1) }]).unwrap();
    publish(&outbox, "first", &body);
    outbox.settle(0, 1, 1, Outcome::Ack).unwrap();
    // channel.close, as an example of a method
    outbox.method(Bytes::from_static(&[1, 0, 3, 0, 0, 0, 4, 0, 20, 0, 40, 0xCE])).unwrap();
    publish(&outbox, "second", &body);
    outbox.settle(0, 2, 1, Outcome::Nack { requeue: true }).unwrap();
    let expected = [
        Seen::Publish("first".into(), body.clone()),
        Seen::Method(60, 80),
        Seen::Method(20, 40),
        Seen::Publish("second".into(), body.clone()),
        Seen::Method(60, 120),
    ];
    assert_eq!(read_back(take_all(&outbox, 64 * 1024), 131_072), expected);
}

#[actix::test]
async fn another_epoch_gets_nothing_and_a_closed_outbox_has_only_last_words() {
    let (outbox, _) = attached(true, 131_072);
    publish(&outbox, "key", &Bytes::from_static(b"x"));
    let mut taken = Vec::new();
    assert!(!outbox.take(EPOCH - 1, usize::MAX, &mut taken) && taken.is_empty());
    let close_ok = Bytes::from_static(&[1, 0, 3, 0, 0, 0, 4, 0, 20, 0, 41, 0xCE]);
    outbox.close(Error::channel_closed("refused", None), Some(close_ok));
    assert_eq!(read_back(take_all(&outbox, 64 * 1024), 131_072), [Seen::Method(20, 41)]);
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

/// Design 13.5: a return belongs to the oldest publish that is most like it.
#[actix::test]
async fn a_return_finds_its_publish_by_key_and_then_by_body() {
    let (outbox, _) = attached(true, 8192);
    let bodies: Vec<Bytes> = [3, 5000, 20_000, 3].iter().map(|&n| Bytes::from(vec![b'a'; n])).collect();
    let other = Bytes::from_static(b"other");
    for body in &bodies {
        publish(&outbox, "routed", body);
        publish(&outbox, "lost", body);
    }
    publish(&outbox, "lost", &other);
    take_all(&outbox, 1);
    let back = |body: &Bytes| Return {
        code: 312,
        text: "NO_ROUTE".into(),
        exchange: "ex".into(),
        routing_key: "lost".into(),
        properties: Ok(Properties::new()),
        body: body.clone(),
    };
    // The broker may route the first two elsewhere by their headers and give back the rest.
    for body in [&bodies[2], &bodies[3], &other] {
        assert!(outbox.returned(back(body), &[0, 0]).is_none());
    }
    let unknown = Return { routing_key: "never".into(), ..back(&other) };
    assert_eq!(outbox.returned(unknown, &[0, 0]).unwrap().routing_key, "never");
    outbox.ack(9, true).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let unroutable: Vec<u64> = (1..=9)
        .filter(|&sequence| {
            let Poll::Ready(answer) = outbox.poll_confirm(sequence, &mut cx) else { panic!("unanswered") };
            answer.is_err_and(|error| error.kind() == ErrorKind::Unroutable)
        })
        .collect();
    assert_eq!(unroutable, [6, 8, 9]);
    assert_eq!(outbox.load(), Load { drained: true, ..Load::default() });
}

/// Design 13.5: a return belongs to the oldest publish that is most like it.
#[actix::test]
async fn a_return_is_told_from_one_that_differs_in_its_properties() {
    let (outbox, _) = attached(true, 8192);
    let body = Bytes::from_static(b"same");
    let properties = |id: u64| Properties::new().with_message_id(id.to_string());
    for id in 1..=4 {
        let outgoing = Outgoing {
            exchange: "ex",
            routing_key: "key",
            mandatory: true,
            resend: true,
            properties: &properties(id),
            body: &body,
        };
        outbox.queue_publish(outgoing).unwrap().expect("room in the window");
    }
    take_all(&outbox, usize::MAX);
    // The last one has properties that the broker changed on the way.
    for (id, sequence) in [(4, 4), (2, 2), (9, 3)] {
        let mut raw = BytesMut::new();
        put_properties(&mut raw, &properties(id));
        let returned = Return {
            code: 312,
            text: "NO_ROUTE".into(),
            exchange: "ex".into(),
            routing_key: "key".into(),
            properties: Ok(properties(id)),
            body: body.clone(),
        };
        assert!(outbox.returned(returned, &raw).is_none());
        outbox.ack(sequence, false).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Err(error)) = outbox.poll_confirm(sequence, &mut cx) else { panic!("{sequence}") };
        assert_eq!(error.returned().unwrap().properties.as_ref().unwrap(), &properties(id));
    }
    outbox.ack(1, false).unwrap();
}

#[actix::test]
async fn what_does_not_fit_a_frame_is_refused_and_takes_no_number() {
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
async fn a_content_that_was_begun_is_ended_before_the_last_words() {
    let close_ok = Bytes::from_static(&[1, 0, 3, 0, 0, 0, 4, 0, 20, 0, 41, 0xCE]);
    let body = Bytes::from(vec![7; 60_000]);
    for begun in [false, true] {
        let (outbox, _) = attached(true, 8192);
        publish(&outbox, "begun", &body);
        publish(&outbox, "never", &body);
        let mut taken = Vec::new();
        if begun {
            assert!(outbox.take(EPOCH, 1, &mut taken));
        }
        outbox.close(Error::channel_closed("refused", None), Some(close_ok.clone()));
        let mut bytes = BytesMut::from(&taken.concat()[..]);
        bytes.extend_from_slice(&take_all(&outbox, 1));
        let mut expected = vec![Seen::Method(20, 41)];
        if begun {
            expected.insert(0, Seen::Publish("begun".into(), body.clone()));
        }
        assert_eq!(read_back(bytes, 8192), expected);
    }
}
