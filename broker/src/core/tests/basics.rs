//! A message from a publisher to a consumer.

use super::rig::check_all;

#[test]
fn a_message_goes_through_a_queue() {
    check_all(&[
        ("a1 declare q", &["a1 declared q 0 0"]),
        ("a1 publish - q hello", &[]),
        ("a1 declare q passive", &["a1 declared q 1 0"]),
        ("a1 get q", &["a1 got 1 hello, 0 left"]),
        ("a1 ack 1", &[]),
        ("a1 get q", &["a1 empty"]),
        ("b1 consume q c", &["b1 consuming c"]),
        ("a1 publish - q two", &["b1 deliver c 1 two"]),
        ("b1 nack 1 requeue", &["b1 deliver c 2 two again"]),
        ("b1 ack 2", &[]),
        ("b1 ack 2", &["b1 close 406 PRECONDITION_FAILED - unknown delivery tag 2 at 60 80"]),
    ]);
}
