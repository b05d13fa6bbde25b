//! Callers that wait for room in the publish window.

use std::collections::HashMap;

use super::*;
use crate::outbox::publish::Ticket;

fn outgoing<'a>(properties: &'a Properties, body: &'a Bytes) -> Outgoing<'a> {
    Outgoing { exchange: "", routing_key: "jobs", mandatory: true, resend: true, properties, body }
}

/// The headers of a waiting publish may be too large for the next connection, whose frames are smaller.
#[actix::test]
async fn a_waiting_publish_that_fails_does_not_block_those_behind_it() {
    let outbox = Outbox::new(OutboxConfig { window: 1, ..config(true) });
    let connection = Arc::new(Flushes::default().start().recipient());
    outbox.attach(EPOCH, connection.clone(), 131_072, false);
    let (small, body) = (Properties::new(), Bytes::from_static(b"x"));
    let large = Properties::new().with_header("k", "v".repeat(5000));
    assert_eq!(outbox.queue_publish(outgoing(&small, &body)).unwrap(), Some(1));
    let mut cx = Context::from_waker(Waker::noop());
    let (mut first, mut second) = (Ticket::default(), Ticket::default());
    assert!(outbox.poll_publish(&mut first, &mut cx, outgoing(&large, &body)).is_pending());
    assert!(outbox.poll_publish(&mut second, &mut cx, outgoing(&small, &body)).is_pending());

    let error = Error::connection_closed("lost", None);
    outbox.detach(&Outage { error: &error, fail: false, hard_error: false });
    outbox.attach(EPOCH, connection, 4096, true);
    outbox.finish_recovery(&HashMap::new(), None);
    take_all(&outbox, usize::MAX);
    outbox.ack(1, false).unwrap();
    let failed = outbox.poll_publish(&mut first, &mut cx, outgoing(&large, &body));
    assert!(matches!(failed, Poll::Ready(Err(error)) if error.kind() == ErrorKind::Limit));
    let written = outbox.poll_publish(&mut second, &mut cx, outgoing(&small, &body));
    assert!(matches!(written, Poll::Ready(Ok(2))), "{written:?}");
    assert_eq!(outbox.load().waiting, 0);
}
