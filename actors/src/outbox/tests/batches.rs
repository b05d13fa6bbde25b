//! Errors of many publishes at once: they may have arrived if any of them may.

use std::{future::Future, pin::pin};

use super::*;
use crate::message::Publishing;

struct Jobs(Arc<Outbox>);

impl Destination for Jobs {
    fn outbox(&self) -> &Arc<Outbox> {
        &self.0
    }

    fn exchange(&self) -> &str {
        "ex"
    }

    fn routing_key(&self) -> &str {
        "jobs"
    }
}

/// The first publish comes back, and the second is lost with its connection.
fn return_first_and_close(outbox: &Outbox) {
    let returned = Return {
        code: 312,
        text: "NO_ROUTE".into(),
        exchange: "ex".into(),
        routing_key: "jobs".into(),
        properties: Ok(Properties::new()),
        body: Bytes::from("1"),
    };
    assert!(outbox.returned(returned, b"\0\0").is_none());
    outbox.ack(1, false).unwrap();
}

#[actix::test]
async fn a_batch_may_have_arrived_if_any_of_it_may() {
    for lost in [false, true] {
        let (outbox, _) = attached(true, 4096);
        let outbox = Arc::new(outbox);
        let contents = ["1", "2"].map(Publishing::new).into_iter();
        let mut batch = pin!(PublishAllFuture::new(Jobs(outbox.clone()), contents));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(batch.as_mut().poll(&mut cx).is_pending());
        if lost {
            take_all(&outbox, 1 << 20);
            return_first_and_close(&outbox);
        }
        outbox.end(Error::channel_closed("gone", None), FinalFrames::None);
        let Poll::Ready(Err(error)) = batch.as_mut().poll(&mut cx) else { panic!("unanswered") };
        let kind = if lost { ErrorKind::Unroutable } else { ErrorKind::ChannelClosed };
        assert_eq!((error.kind(), error.may_have_arrived()), (kind, lost));
    }
}

#[actix::test]
async fn a_wait_for_confirms_may_have_arrived_if_any_publish_may() {
    let (outbox, _) = attached(true, 4096);
    let outbox = Arc::new(outbox);
    for body in ["1", "2"] {
        let sequence = publish(&outbox, "jobs", &Bytes::from(body));
        outbox.forget_confirm(sequence);
    }
    take_all(&outbox, 1 << 20);
    return_first_and_close(&outbox);
    outbox.nack(2, false).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut wait = pin!(WaitForConfirmsFuture::new(outbox));
    let Poll::Ready(Err(error)) = wait.as_mut().poll(&mut cx) else { panic!("unanswered") };
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Unroutable, true));
    assert!(error.returned().is_some());
}
