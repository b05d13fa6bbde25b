//! The frames of channels, in and out of turn.

use bytes::Bytes;

use super::{
    super::frames::{BODY, Frame, HEADER, HEARTBEAT, METHOD},
    Contents, Event,
};
use crate::core::ChannelState;

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Frame {
    Frame { kind, channel, payload: Bytes::copy_from_slice(payload) }
}

const MAX: u64 = 10;
const PUBLISH_HELLO: &[u8] = b"\0\x3c\0\x28\0\0\x01x\x01k\x01";
const QOS: &[u8] = b"\0\x3c\0\x0a\0\0\0\0\0\x05\0";

fn header(size: u64) -> Vec<u8> {
    let mut header = b"\0\x3c\0\0".to_vec();
    header.extend(size.to_be_bytes());
    header.extend([0, 0]);
    header
}

fn contents() -> Contents {
    Contents::new(true)
}

fn refused(contents: &mut Contents, frame: Frame) -> (u16, u16, String) {
    let close = contents.take(frame, ChannelState::Open, MAX).unwrap_err();
    (close.class_id, close.method_id, close.to_string())
}

fn open(contents: &mut Contents, kind: u8, payload: &[u8]) -> Event {
    contents.take(frame(kind, 1, payload), ChannelState::Open, MAX).unwrap()
}

#[test]
fn a_content_is_complete_with_its_last_octet() {
    let mut contents = contents();
    assert_eq!(open(&mut contents, METHOD, PUBLISH_HELLO), Event::None);
    assert_eq!(open(&mut contents, HEADER, &header(5)), Event::Content);
    for part in [&b"he"[..], b"", b"l"] {
        assert_eq!(open(&mut contents, BODY, part), Event::Content);
    }
    let Event::Published(publish) = open(&mut contents, BODY, b"lo") else { panic!() };
    assert_eq!((&publish.exchange[..], &publish.routing_key[..]), (&b"x"[..], &b"k"[..]));
    assert_eq!((&publish.body[..], publish.mandatory, publish.immediate), (&b"hello"[..], true, false));
    assert_eq!(open(&mut contents, METHOD, PUBLISH_HELLO), Event::None);
    let Event::Published(publish) = open(&mut contents, HEADER, &header(0)) else { panic!() };
    assert_eq!(&publish.properties[..], [0, 0]);
}

#[test]
fn contents_of_channels_mix() {
    let mut contents = contents();
    for channel in [1, 2] {
        contents.take(frame(METHOD, channel, PUBLISH_HELLO), ChannelState::Open, MAX).unwrap();
        contents.take(frame(HEADER, channel, &header(2)), ChannelState::Open, MAX).unwrap();
    }
    for channel in [2, 1] {
        let event = contents.take(frame(BODY, channel, b"ab"), ChannelState::Open, MAX).unwrap();
        assert!(matches!(event, Event::Published(_)));
    }
}

/// PRO-08: broker.md 15, the texts of 505
#[test]
fn a_frame_out_of_turn_is_a_505_with_the_method_that_waits() {
    let waiting = "UNEXPECTED_FRAME - expected content header for class 60, got";
    let mut one = contents();
    open(&mut one, METHOD, PUBLISH_HELLO);
    let text = format!("{waiting} non content header frame instead");
    assert_eq!(refused(&mut one, frame(METHOD, 1, QOS)), (60, 40, text.clone()));
    assert_eq!(refused(&mut one, frame(BODY, 1, b"a")), (60, 40, text));
    let mut queue = header(1);
    queue[1] = 50;
    let text = format!("{waiting} one for class 50 instead");
    assert_eq!(refused(&mut one, frame(HEADER, 1, &queue)), (60, 40, text));
    open(&mut one, HEADER, &header(3));
    let text = "UNEXPECTED_FRAME - expected content body, got non content body frame instead".to_owned();
    assert_eq!(refused(&mut one, frame(HEADER, 1, &header(1))), (60, 40, text.clone()));
    assert_eq!(refused(&mut one, frame(METHOD, 1, QOS)), (60, 40, text));
    let text = "UNEXPECTED_FRAME - expected method frame, got non method frame instead".to_owned();
    assert_eq!(refused(&mut contents(), frame(BODY, 1, b"a")), (0, 0, text));
}

/// broker.md 15
#[test]
fn a_body_that_is_too_long_is_noticed_by_some_lines() {
    for (checks, noticed) in [(true, true), (false, false)] {
        let mut contents = Contents::new(checks);
        open(&mut contents, METHOD, PUBLISH_HELLO);
        open(&mut contents, HEADER, &header(1));
        let taken = contents.take(frame(BODY, 1, b"ab"), ChannelState::Open, MAX);
        assert_eq!(taken.is_err(), noticed);
    }
}

#[test]
fn a_body_that_is_too_large_is_not_kept() {
    let mut contents = contents();
    open(&mut contents, METHOD, PUBLISH_HELLO);
    open(&mut contents, HEADER, &header(30));
    for _ in 0..2 {
        open(&mut contents, BODY, &[7; 10]);
    }
    let Event::TooLarge { publish, size, max } = open(&mut contents, BODY, &[7; 10]) else { panic!() };
    assert_eq!((publish.body.len(), size, max), (0, 30, MAX));
}

/// Whether a body is kept is decided once: the limit may change while it comes.
#[test]
fn the_limit_of_a_body_is_that_of_its_header() {
    for (at_header, at_body) in [(10, 40), (40, 10)] {
        let mut contents = contents();
        let mut take = |kind, payload: &[u8], max| {
            contents.take(frame(kind, 1, payload), ChannelState::Open, max).unwrap()
        };
        take(METHOD, PUBLISH_HELLO, at_header);
        take(HEADER, &header(30), at_header);
        take(BODY, &[7; 20], at_body);
        match take(BODY, &[7; 10], at_body) {
            Event::Published(publish) => assert_eq!((at_header, &publish.body[..]), (40, &[7; 30][..])),
            event => {
                let Event::TooLarge { size: 30, max: 10, .. } = event else { panic!("{event:?}") };
                assert_eq!(at_header, 10);
            }
        }
    }
}

/// broker.md 15
#[test]
fn what_no_frame_should_be() {
    let unknown = "FRAME_ERROR - type 4, all octets = <<>>: unknown_frame".to_owned();
    assert_eq!(refused(&mut contents(), frame(4, 1, b"")), (0, 0, unknown));
    let heartbeat = "UNEXPECTED_FRAME - type 8, all octets = <<>>".to_owned();
    assert_eq!(refused(&mut contents(), frame(HEARTBEAT, 1, b"")), (0, 0, heartbeat));
    assert_eq!(open(&mut contents(), METHOD, b"\0\x3c\0\xd2"), Event::Reset);
    let cut = "FRAME_ERROR - cannot decode <<0,0,5,97>>".to_owned();
    assert_eq!(refused(&mut contents(), frame(METHOD, 1, b"\0\x32\0\x0a\0\0\x05a")), (50, 10, cut));
}

/// broker.md 1: a method on a channel that the server has closed is dropped, publishes with their content
#[test]
fn a_channel_that_the_broker_closed_hears_no_publish() {
    let mut contents = contents();
    let mut closing =
        |kind, payload: &[u8]| contents.take(frame(kind, 1, payload), ChannelState::Closing, MAX);
    assert_eq!(closing(METHOD, PUBLISH_HELLO), Ok(Event::None));
    assert_eq!(closing(HEADER, &header(1)), Ok(Event::None));
    assert_eq!(closing(BODY, b"a"), Ok(Event::None));
    assert!(matches!(closing(METHOD, QOS), Ok(Event::Method(_))));
}
