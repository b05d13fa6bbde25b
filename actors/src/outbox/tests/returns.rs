//! `basic.return`: which publish it belongs to.

use super::*;
use crate::wire::property_codec::put_properties;

/// Design 13.5: a return belongs to the oldest publish that is most like it.
#[actix::test]
async fn a_return_is_matched_by_routing_key_and_body() {
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
async fn a_return_is_matched_by_properties() {
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
