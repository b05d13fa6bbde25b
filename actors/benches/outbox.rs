//! Publishes through an outbox and confirms, without a connection. `make bench` runs it.

#![allow(missing_docs, unreachable_pub, clippy::print_stdout)]

mod common;

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use actix_pika_actors::{Confirm, Publishing, testing::BenchOutbox};
use bytes::Bytes;

use self::common::measure;

const BATCH: u32 = 1000;

fn assert_confirmed(confirm: Confirm) {
    let result = pin!(confirm).poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(result, Poll::Ready(Ok(_))));
}

fn publish_and_confirm(name: &str, body: usize, acks: u32) {
    let outbox = BenchOutbox::new(BATCH as usize);
    let content = Publishing::new(Bytes::from(vec![b'x'; body]));
    let (mut confirms, mut out, mut sequence) = (Vec::new(), Vec::new(), 0);
    measure(name, BATCH, || {
        for _ in 0..BATCH {
            let confirm = outbox.try_publish("jobs", &content).expect("an open outbox");
            confirms.push(confirm.expect("room in the window"));
        }
        outbox.take(&mut out);
        out.clear();
        for _ in 0..acks {
            sequence += u64::from(BATCH / acks);
            assert!(outbox.ack_up_to(sequence));
        }
        for confirm in confirms.drain(..) {
            assert_confirmed(confirm);
        }
    });
}

fn main() {
    actix::System::new().block_on(async {
        publish_and_confirm("publish and confirm, 16 B, one ack for each", 16, BATCH);
        publish_and_confirm("publish and confirm, 16 B, one ack for 1000", 16, 1);
        publish_and_confirm("publish and confirm, 64 KiB, one ack for each", 65_536, BATCH);
    });
}
