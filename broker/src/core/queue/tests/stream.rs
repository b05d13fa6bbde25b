//! Streams: broker.md section 13.

use actix_pika_actors::{Table, Value};

use super::*;

fn stream(max_age: Option<u64>, max_bytes: Option<u64>, segment_bytes: u64) -> Rig {
    let mut settings = settings(Line::V4_3, QueueKind::Stream { max_age, segment_bytes });
    settings.max_bytes = max_bytes;
    Rig::new(settings)
}

fn offsets(rig: &Rig) -> (u64, u64) {
    (start(rig, OffsetSpec::First), start(rig, OffsetSpec::Next))
}

fn start(rig: &Rig, offset: OffsetSpec) -> u64 {
    rig.queue.stream().unwrap().start(offset, rig.now, 1000)
}

#[test]
fn messages_stay_and_have_offsets() {
    let mut rig = stream(None, None, 1000);
    rig.publish("a b");
    let log = rig.queue.stream().unwrap();
    let read = |offset| log.read(offset).map(body);
    assert_eq!((read(0), read(1), read(2)), (Some("a".to_owned()), Some("b".to_owned()), None));
    let second = log.read(1).unwrap();
    assert!(!second.redelivered);
    let headers: Vec<_> = second.headers_to_add(rig.queue.settings(), HandOut::Deliver).collect();
    assert_eq!(headers, [("x-stream-offset", 1)]);
    assert_eq!((offsets(&rig), rig.ready().as_str()), ((0, 2), "a b"));
}

/// Publishes messages with their bodies as filter values, but for `none`.
fn publish_values(rig: &mut Rig, millis: u64, bodies: &str) {
    rig.now = at(millis);
    for body in bodies.split(' ') {
        rig.push(message_with(body, |properties| match body {
            "none" => properties,
            value => properties.with_header("x-stream-filter-value", value),
        }));
    }
}

/// The offsets of what a consumer gets now.
fn places_of(reader: &mut StreamReader, log: &StreamLog) -> Vec<u64> {
    std::iter::from_fn(|| reader.next(log)).map(|stored| stored.place).collect()
}

/// A chunk comes as a whole if a filter wants one of its messages.
#[test]
fn a_filter_chooses_chunks() {
    let mut rig = stream(None, None, 1000);
    for (millis, bodies) in [(1, "a b"), (2, "none"), (3, "c b")] {
        publish_values(&mut rig, millis, bodies);
    }
    let log = rig.queue.stream().unwrap();
    let places = |arguments: Table| {
        let mut reader = StreamReader::new(0, StreamFilter::of(&arguments));
        places_of(&mut reader, log)
    };
    assert_eq!(places(Table::from([("x-stream-filter", "a")])), [0, 1]);
    assert_eq!(places(Table::from([("x-stream-filter", "b")])), [0, 1, 3, 4]);
    assert!(places(Table::from([("x-stream-filter", "no")])).is_empty());
    let c = Table::new().with("x-stream-filter", vec![Value::from("c")]);
    assert_eq!(places(c.with("x-stream-match-unfiltered", true)), [2, 3, 4]);
    assert_eq!(StreamFilter::of(&Table::new()), None);
}

/// The last chunk grows, and what comes later may make it wanted. One in the middle of which a consumer starts is wanted
/// as a whole, too.
#[test]
fn a_filter_looks_at_what_comes_later() {
    let mut rig = stream(None, None, 1000);
    let filter = || StreamFilter::of(&Table::from([("x-stream-filter", "a")]));
    let mut readers = [0, 1, 4, 9].map(|start| StreamReader::new(start, filter()));
    for (millis, bodies, expected) in [
        (1, "a b", [vec![0, 1], vec![1], vec![], vec![]]),
        (1, "b", [vec![2], vec![2], vec![], vec![]]),
        (2, "b", [vec![], vec![], vec![], vec![]]),
        (2, "c", [vec![], vec![], vec![], vec![]]),
        (2, "a", [vec![3, 4, 5], vec![3, 4, 5], vec![4, 5], vec![]]),
        (3, "b", [vec![], vec![], vec![], vec![]]),
        (4, "b", [vec![], vec![], vec![], vec![]]),
        (4, "a b b", [vec![7, 8, 9, 10], vec![7, 8, 9, 10], vec![7, 8, 9, 10], vec![9, 10]]),
    ] {
        publish_values(&mut rig, millis, bodies);
        let log = rig.queue.stream().unwrap();
        assert_eq!(readers.each_mut().map(|reader| places_of(reader, log)), expected, "{bodies} at {millis}");
    }
}

/// Each message is looked at once, however many there are that are not wanted.
#[test]
fn a_filter_goes_on_where_it_was() {
    let mut rig = stream(None, None, 1_000_000);
    let mut reader = StreamReader::new(0, StreamFilter::of(&Table::from([("x-stream-filter", "a")])));
    for count in 0..20_000 {
        publish_values(&mut rig, count / 10_000, "b");
        assert!(reader.next(rig.queue.stream().unwrap()).is_none());
    }
    publish_values(&mut rig, 1, "a");
    let places = places_of(&mut reader, rig.queue.stream().unwrap());
    assert!(places.into_iter().eq(10_000..=20_000));
}

/// What a filter has not looked at may be gone.
#[test]
fn a_filter_and_a_stream_that_loses_segments() {
    let mut rig = stream(None, Some(200), 50);
    let mut reader = StreamReader::new(0, StreamFilter::of(&Table::from([("x-stream-filter", "a")])));
    publish_values(&mut rig, 1, "b b");
    assert!(reader.next(rig.queue.stream().unwrap()).is_none());
    publish_values(&mut rig, 2, "b b a b b b b b");
    assert_eq!(offsets(&rig), (4, 10));
    assert_eq!(places_of(&mut reader, rig.queue.stream().unwrap()), [4, 5, 6, 7, 8, 9]);
}

/// The counts of a declaration are 0, and nothing is taken or purged.
#[test]
fn nothing_is_ready() {
    let mut rig = stream(None, None, 1000);
    rig.publish("a b");
    let mut dead = Vec::new();
    assert!(rig.queue.take(rig.now, &mut dead).is_none());
    assert_eq!((rig.queue.ready(), rig.queue.ready_bytes(), rig.queue.purge()), (0, 0, 0));
    rig.queue.restart(rig.now, false);
    assert_eq!((rig.ready().as_str(), rig.queue.next_expiry()), ("a b", None));
}

#[test]
fn where_a_consumer_starts() {
    use OffsetSpec::{Age, First, Last, Next, Number, Timestamp};
    let mut rig = stream(None, None, 1000);
    for offset in [First, Last, Next, Timestamp(1000), Age(0), Number(0)] {
        assert_eq!(start(&rig, offset), 0);
    }
    rig.publish("0 1");
    rig.queue.restart(rig.now, false);
    rig.publish("2");
    rig.now = at(2000);
    rig.publish("3 4 5");
    rig.now = at(2500);
    for (offset, expected) in [
        (First, 0),
        // The last chunk has several messages.
        (Last, 3),
        (Next, 6),
        (Number(4), 4),
        // It waits for that one.
        (Number(100), 100),
        (Timestamp(0), 0),
        (Timestamp(1000), 0),
        (Timestamp(1001), 3),
        (Timestamp(1002), 3),
        (Timestamp(1003), 6),
        (Age(499), 6),
        (Age(500), 3),
        (Age(2499), 3),
        (Age(2500), 0),
        (Age(u64::MAX), 0),
    ] {
        assert_eq!(start(&rig, offset), expected, "{offset:?}");
    }
    rig.queue.restart(rig.now, false);
    rig.publish("6");
    assert_eq!(start(&rig, Last), 6);
}

/// Whole segments are removed, when another one begins.
#[test]
fn a_stream_that_is_too_large_loses_segments() {
    let mut rig = stream(None, Some(35), 11);
    // Each has 5 octets and 3 of properties, so two fill a segment.
    rig.publish("aaaa0 aaaa1 aaaa2 aaaa3 aaaa4");
    assert_eq!(offsets(&rig), (0, 5));
    rig.publish("aaaa5 aaaa6");
    assert_eq!(offsets(&rig), (2, 7));
    assert_eq!(rig.queue.stream().unwrap().read(0).map(body), Some("aaaa2".to_owned()));
    assert_eq!((start(&rig, OffsetSpec::First), start(&rig, OffsetSpec::Number(0))), (2, 2));
    rig.publish("longer-than-the-limit-of-the-stream");
    rig.publish("x");
    assert_eq!((offsets(&rig), rig.ready().as_str()), ((8, 9), "x"));
}

#[test]
fn a_stream_loses_old_segments() {
    let mut rig = stream(Some(100), None, 10);
    rig.publish("aaaa0 aaaa1 aaaa2");
    rig.now = at(150);
    rig.publish("aaaa3");
    assert_eq!(offsets(&rig), (0, 4));
    rig.publish("aaaa4");
    // The segment of 0 and 1 is too old. That of 2 and 3 was written to at 150.
    assert_eq!(offsets(&rig), (2, 5));
    rig.now = at(400);
    rig.publish("aaaa5 aaaa6");
    assert_eq!(offsets(&rig), (4, 7));
}
