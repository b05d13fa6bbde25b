//! A peer that violates the protocol on an open connection: the client sends `connection.close` with the reply code, and
//! every waiting call is answered at once.

use actix_pika_actors::{
    ErrorKind,
    testing::{
        PeerMessage, RawFrame,
        protocol::{BasicProperties, basic, channel, confirm, connection, queue},
    },
};

use crate::common::{Bench, TAG, Waiters};

/// Sends bytes that violate the protocol, and checks everything that follows.
async fn assert_fault(bytes: Vec<u8>, code: u16) {
    let mut bench = Bench::open().await;
    let waiters = Waiters::start(&mut bench).await;
    bench.socket.send_raw(&bytes).await.unwrap();

    let (reply_code, text) = bench.socket.expect_close().await.unwrap();
    assert_eq!(reply_code, code, "{text}");
    for error in waiters.all_fail().await {
        assert!(error.to_string().contains(&code.to_string()), "{error}");
        // The code was sent by the client, so it is not the broker's reason.
        assert_eq!(error.close_reason(), None);
    }
    let cause = bench.client.closed().await.expect("a cause");
    assert_eq!(cause.kind(), ErrorKind::Protocol, "{cause}");
    assert!(cause.to_string().contains(&format!("{code} {text}")), "{cause}");
    // The client sends nothing else, and closes the socket.
    assert_eq!(bench.socket.read_to_end().await.unwrap(), []);
}

macro_rules! faults {
    ($($(#[$meta:meta])* $name:ident: $code:literal, $bytes:expr;)*) => { $(
        $(#[$meta])*
        #[actix::test]
        async fn $name() {
            assert_fault($bytes, $code).await;
        }
    )* };
}

fn frames(frames: impl IntoIterator<Item = RawFrame>) -> Vec<u8> {
    frames.into_iter().flat_map(|frame| frame.to_bytes()).collect()
}

fn one(frame: RawFrame) -> Vec<u8> {
    frame.to_bytes()
}

fn method<M: actix_pika_actors::testing::Method>(channel: u16, method: M) -> Vec<u8> {
    one(RawFrame::method(channel, method))
}

fn deliver(channel: u16, delivery_tag: u64) -> RawFrame {
    let names = basic::Deliver { consumer_tag: TAG.into(), delivery_tag, ..Default::default() };
    RawFrame::method(channel, names)
}

fn header(channel: u16, size: u64) -> RawFrame {
    RawFrame::header(channel, size, &BasicProperties::default())
}

/// The frames of a delivery.
fn delivery(delivery_tag: u64, content: PeerMessage) -> Vec<RawFrame> {
    let mut all = vec![deliver(1, delivery_tag)];
    all.extend(content.frames(1, 131_072));
    all
}

fn with_end(mut bytes: Vec<u8>, end: u8) -> Vec<u8> {
    *bytes.last_mut().expect("a frame") = end;
    bytes
}

faults! {
    /// PRO-01
    a_header_without_a_method_is_an_unexpected_frame: 505, one(header(1, 5));
    /// PRO-01
    a_body_without_a_header_is_an_unexpected_frame: 505, one(RawFrame::body(1, "x"));
    /// PRO-01
    a_body_after_its_method_is_an_unexpected_frame: 505, frames([deliver(1, 1), RawFrame::body(1, "x")]);
    /// PRO-01
    a_method_within_a_content_is_an_unexpected_frame: 505, frames([deliver(1, 1), header(1, 5), deliver(1, 2)]);
    /// PRO-01
    any_method_in_place_of_a_header_is_an_unexpected_frame: 505,
        frames([deliver(1, 1), RawFrame::method(1, basic::QosOk {})]);
    /// PRO-01
    a_second_header_is_an_unexpected_frame: 505, frames([deliver(1, 1), header(1, 5), header(1, 5)]);
    content_on_channel_0_is_an_unexpected_frame: 505, one(header(0, 5));
    /// PRO-02
    a_body_longer_than_announced_is_an_unexpected_frame: 505, frames(delivery(1, PeerMessage::from("xx").announced_size(1)));
    /// PRO-02
    a_body_after_a_header_that_announced_none_is_an_unexpected_frame: 505,
        frames(delivery(1, PeerMessage::from("x").announced_size(0)));
    /// PRO-09
    a_method_within_a_body_that_is_skipped_is_an_unexpected_frame: 505, {
        let mut bytes = frames(delivery(1, PeerMessage::from("x").announced_size(1 << 63)));
        bytes.extend(one(deliver(1, 2)));
        bytes
    };
    /// PRO-08
    a_delivery_on_a_channel_that_was_never_open_is_a_channel_error: 504, one(deliver(77, 1));
    /// PRO-08
    a_close_of_a_channel_that_was_never_open_is_a_channel_error: 504, method(77, channel::Close::default());
    an_unknown_method_is_an_invalid_command: 503, one(RawFrame::new(1, 1, [0, 60, 0, 200]));
    an_unknown_class_is_an_invalid_command: 503, one(RawFrame::new(1, 1, [0, 99, 0, 10]));
    an_unknown_method_on_channel_0_is_an_invalid_command: 503, one(RawFrame::new(1, 0, [0, 10, 0, 99]));
    a_wrong_frame_end_is_a_frame_error: 501, with_end(method(1, basic::QosOk {}), 0xCD);
    an_unknown_frame_type_is_a_frame_error: 501, one(RawFrame::new(7, 1, [0; 4]));
    /// Seven octets are enough to tell.
    a_frame_of_4_gib_is_a_frame_error_before_its_payload: 501, vec![1, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF];
    /// Seven octets are enough to tell.
    a_frame_over_frame_max_is_a_frame_error_before_its_payload: 501, {
        let [_, s2, s1, s0] = 200_000u32.to_be_bytes();
        vec![3, 0, 1, 0, s2, s1, s0]
    };
    /// Seven octets are enough to tell. The longest frame has 1 MiB, head and end octet included.
    a_header_over_its_limit_is_a_frame_error_before_its_payload: 501, vec![2, 0, 1, 0, 0x0F, 0xFF, 0xF9];
    a_heartbeat_on_a_channel_is_a_frame_error: 501, one(RawFrame::new(8, 1, []));
    a_heartbeat_with_a_payload_is_a_frame_error: 501, one(RawFrame::new(8, 0, [0]));
    a_header_of_another_class_is_a_frame_error: 501, {
        let mut payload = header(1, 1).payload;
        payload[1] = 50;
        frames([deliver(1, 1), RawFrame::new(2, 1, payload)])
    };
    arguments_cut_short_are_a_syntax_error: 502, one(RawFrame::new(1, 1, *b"\0\x3c\0\x15\x09ct"));
    a_delivery_cut_short_is_a_syntax_error: 502, one(RawFrame::new(1, 1, *b"\0\x3c\0\x3c\x04ctag\0\0"));
    a_method_frame_of_two_octets_is_a_syntax_error: 502, one(RawFrame::new(1, 1, [0, 60]));
    a_header_cut_short_is_a_syntax_error: 502, frames([deliver(1, 1), RawFrame::new(2, 1, [0, 60, 0])]);
    an_unsolicited_declare_ok_is_an_unexpected_frame: 505, method(1, queue::DeclareOk::default());
    an_unsolicited_consume_ok_is_an_unexpected_frame: 505, method(1, basic::ConsumeOk { consumer_tag: TAG.into() });
    an_unsolicited_cancel_ok_is_an_unexpected_frame: 505, method(1, basic::CancelOk { consumer_tag: TAG.into() });
    an_unsolicited_select_ok_is_an_unexpected_frame: 505, method(1, confirm::SelectOk {});
    an_unsolicited_get_ok_is_an_unexpected_frame: 505, method(1, basic::GetOk::default());
    an_unsolicited_get_empty_is_an_unexpected_frame: 505, method(1, basic::GetEmpty {});
    /// CH-24: another reply is pending.
    an_answer_to_another_call_is_an_unexpected_frame: 505, method(2, queue::BindOk {});
    an_unsolicited_open_ok_is_an_invalid_command: 503, method(1, channel::OpenOk {});
    an_unsolicited_close_ok_is_an_invalid_command: 503, method(1, channel::CloseOk {});
    a_publish_from_the_server_is_an_invalid_command: 503, method(1, basic::Publish::default());
    a_declare_from_the_server_is_an_invalid_command: 503, method(1, queue::Declare::default());
    /// PRO-12
    a_second_start_is_an_invalid_command: 503, method(0, connection::Start::default());
    /// PRO-12
    a_late_secure_is_an_invalid_command: 503, method(0, connection::Secure { challenge: "who?".into() });
    /// PRO-12
    a_second_tune_is_an_invalid_command: 503, method(0, connection::Tune::default());
    /// PRO-12
    a_second_connection_open_ok_is_an_invalid_command: 503, method(0, connection::OpenOk {});
    a_close_ok_without_a_close_is_an_invalid_command: 503, method(0, connection::CloseOk {});
    a_channel_close_on_channel_0_is_an_invalid_command: 503, method(0, channel::Close::default());
    a_confirm_of_a_message_never_published_is_refused: 503,
        method(1, basic::Ack { delivery_tag: 2, multiple: false });
    a_nack_of_a_message_never_published_is_refused: 503,
        method(1, basic::Nack { delivery_tag: 2, multiple: true, requeue: false });
    a_confirm_outside_confirm_mode_is_refused: 503, method(2, basic::Ack { delivery_tag: 1, multiple: false });
    a_delivery_tag_used_before_is_refused: 503,
        frames(delivery(1, "x".into()).into_iter().chain(delivery(1, "y".into())));
    delivery_tag_0_is_refused: 503, frames(delivery(0, "x".into()));
    the_highest_delivery_tag_is_refused: 503, frames(delivery(u64::MAX, "x".into()));
    a_delivery_tag_behind_the_highest_one_is_refused: 503,
        frames(delivery(u64::MAX, "x".into()).into_iter().chain(delivery(0, "y".into())));
    delivery_tags_that_count_past_the_highest_one_are_refused: 503, {
        let tags = [u64::MAX - 2, u64::MAX - 1, u64::MAX, 0, 1];
        frames(tags.into_iter().flat_map(|tag| delivery(tag, "x".into())))
    };
    a_confirm_of_the_highest_tag_is_refused: 503,
        method(1, basic::Ack { delivery_tag: u64::MAX, multiple: true });
    a_nack_of_the_highest_tag_is_refused: 503,
        method(1, basic::Nack { delivery_tag: u64::MAX, multiple: false, requeue: false });
    /// PRO-10
    empty_body_frames_without_end_are_an_unexpected_frame: 505, {
        let empty = std::iter::repeat_n(RawFrame::body(1, ""), 65);
        frames([deliver(1, 1), header(1, 1)].into_iter().chain(empty))
    };
}

/// PRO-08: later faults are not reported, and the first reason is kept.
#[actix::test]
async fn only_the_first_fault_is_reported() {
    let wrong = [one(RawFrame::new(7, 1, [0; 4])), one(header(1, 5)), vec![0xFF; 64]].concat();
    assert_fault(wrong, 501).await;
}

/// A correct delivery before the fault still reaches its consumer, and cannot be settled any more.
#[actix::test]
async fn a_delivery_before_the_fault_is_handed_out() {
    let mut bench = Bench::open().await;
    let mut waiters = Waiters::start(&mut bench).await;
    let mut bytes = frames(delivery(1, "good".into()));
    bytes.extend(vec![9; 7]);
    bench.socket.send_raw(&bytes).await.unwrap();
    assert_eq!(bench.socket.expect_close().await.unwrap().0, 501);
    let good = waiters.deliveries.next().await;
    // The channel may have closed before the stream took it: then the broker requeues it.
    if let Ok(good) = good {
        assert_eq!(good.body(), b"good");
        assert!(good.is_stale());
        assert_eq!(good.ack().unwrap_err().kind(), ErrorKind::ConnectionClosed);
    }
}
