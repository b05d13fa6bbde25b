//! Orders of checks and texts of errors: broker.md 1 and 2.

use super::rig::{Rig, check_all};
use crate::core::Line;

const LOCKED: &str = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be \
                      originally declared on another connection or the exclusive property value does not match that \
                      of the original declaration.";

/// The answer to an operation that closes its channel, which is opened again.
fn refused(script: &[(&str, &str)]) {
    for line in [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3] {
        let mut rig = Rig::new(line);
        for (operation, expected) in script {
            if expected.is_empty() {
                rig.prepare(&[operation]);
            } else {
                let (channel, _) = operation.split_once(' ').unwrap();
                rig.check(&[(operation, &[&format!("{channel} close {expected}")])]);
                rig.check(&[(&format!("{channel} close_ok"), &[])]);
            }
        }
    }
}

/// broker.md 1, 2: queue.declare.
#[test]
fn queue_declare() {
    refused(&[
        (
            "a1 declare amq.x exclusive x-expires=Sno",
            "403 ACCESS_REFUSED - queue name 'amq.x' contains reserved prefix 'amq.*' at 50 10",
        ),
        ("a1 declare amq.x passive", "404 NOT_FOUND - no queue 'amq.x' in vhost '/' at 50 10"),
        ("a1 declare - passive", "404 NOT_FOUND - no queue '' in vhost '/' at 50 10"),
        ("a1 declare q durable x-expires=I60000", ""),
        // Only existence and the lock are looked at.
        ("a1 declare q passive auto_delete exclusive x-expires=I1", ""),
        ("b1 declare q durable exclusive x-expires=I60000", &format!("405 {LOCKED} at 50 10")),
        (
            "a1 declare q auto_delete",
            "406 PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but \
             current is 'true' at 50 10",
        ),
        (
            "a1 declare q durable auto_delete",
            "406 PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue 'q' in vhost '/': received 'true' but \
             current is 'false' at 50 10",
        ),
        (
            "a1 declare q durable",
            "406 PRECONDITION_FAILED - inequivalent arg 'x-expires' for queue 'q' in vhost '/': received none but \
             current is the value '60000' of type 'signedint' at 50 10",
        ),
        (
            "a1 declare q durable x-expires=I5",
            "406 PRECONDITION_FAILED - inequivalent arg 'x-expires' for queue 'q' in vhost '/': received '5' but \
             current is '60000' at 50 10",
        ),
        ("a1 declare q durable x-expires=l60000 unknown=I5", ""),
        (
            "a1 declare p x-dead-letter-exchange=I5 x-expires=I-1",
            "406 PRECONDITION_FAILED - invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'p' in \
             vhost '/' at 50 10",
        ),
        (
            "a1 declare p x-expires=I0",
            "406 PRECONDITION_FAILED - invalid arg 'x-expires' for queue 'p' in vhost '/': {value_zero,0} at 50 10",
        ),
        (
            "a1 declare p x-expires=Sx",
            "406 PRECONDITION_FAILED - invalid arg 'x-expires' for queue 'p' in vhost '/': \"expected integer, got \
             longstr\" at 50 10",
        ),
        (
            "a1 declare p x-max-priority=I256",
            "406 PRECONDITION_FAILED - invalid arg 'x-max-priority' for queue 'p' in vhost '/': \
             {max_value_exceeded,256} at 50 10",
        ),
        (
            "a1 declare p x-overflow=Sno",
            "406 PRECONDITION_FAILED - invalid arg 'x-overflow' for queue 'p' in vhost '/': invalid_overflow at 50 10",
        ),
        (
            "a1 declare p x-dead-letter-routing-key=Sk",
            "406 PRECONDITION_FAILED - invalid arg 'x-dead-letter-routing-key' for queue 'p' in vhost '/': \
             routing_key_but_no_dlx_defined at 50 10",
        ),
        (
            "a1 declare p x-queue-type=Sno",
            "406 PRECONDITION_FAILED - invalid arg 'x-queue-type' for queue 'p' in vhost '/': \"unsupported queue \
             type 'no'\" at 50 10",
        ),
        (
            "a1 declare p x-queue-type=Squorum",
            "406 PRECONDITION_FAILED - invalid property 'non-durable' for queue 'p' in vhost '/' at 50 10",
        ),
        (
            "a1 declare p exclusive x-queue-type=Squorum",
            "406 PRECONDITION_FAILED - invalid property 'exclusive-owner' for queue 'p' in vhost '/' at 50 10",
        ),
        (
            "a1 declare p durable auto_delete x-queue-type=Sstream",
            "406 PRECONDITION_FAILED - invalid property 'auto-delete' for queue 'p' in vhost '/' at 50 10",
        ),
        (
            "a1 declare p durable x-queue-type=Sstream x-message-ttl=I5",
            "406 PRECONDITION_FAILED - invalid arg 'x-message-ttl' for queue 'p' in vhost '/' of queue type \
             rabbit_stream_queue at 50 10",
        ),
    ]);
}

/// broker.md 1, 3: exclusive queues.
#[test]
fn exclusive_queues() {
    refused(&[
        ("a1 declare q exclusive", ""),
        ("a1 declare q exclusive durable", ""),
        ("a1 declare q", &format!("405 {LOCKED} at 50 10")),
        ("b1 declare q passive", &format!("405 {LOCKED} at 50 10")),
        ("b1 declare q durable", &format!("405 {LOCKED} at 50 10")),
        ("b1 delete q if_empty", &format!("405 {LOCKED} at 50 40")),
        ("b1 purge q", &format!("405 {LOCKED} at 50 30")),
        ("b1 get q", &format!("405 {LOCKED} at 60 70")),
        ("b1 consume q c x-priority=Sx", &format!("405 {LOCKED} at 60 20")),
        ("b1 bind q amq.direct k", &format!("405 {LOCKED} at 50 20")),
        (
            "b1 bind q amq.headers k x-match=Sno",
            "406 PRECONDITION_FAILED - Invalid x-match field value <<\"no\">>; expected all, any, all-with-x, or \
             any-with-x at 50 20",
        ),
        ("b1 unbind q amq.direct k", ""),
        ("a1 bind q amq.direct k", ""),
        ("b1 unbind q amq.direct k", &format!("405 {LOCKED} at 50 50")),
        ("b1 publish - q x", ""),
        ("a1 declare q passive", ""),
    ]);
}

/// broker.md 1, 2: exchanges.
#[test]
fn exchanges() {
    refused(&[
        ("a1 xdeclare amq.direct direct durable", ""),
        (
            "a1 xdeclare amq.direct fanout durable",
            "406 PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'amq.direct' in vhost '/': received \
             'fanout' but current is 'direct' at 40 10",
        ),
        (
            "a1 xdeclare amq.x direct",
            "403 ACCESS_REFUSED - exchange name 'amq.x' contains reserved prefix 'amq.*' at 40 10",
        ),
        (
            "a1 xdeclare - direct",
            "403 ACCESS_REFUSED - operation not permitted on the default exchange at 40 10",
        ),
        (
            "a1 xdeclare - no passive",
            "403 ACCESS_REFUSED - operation not permitted on the default exchange at 40 10",
        ),
        ("a1 xdeclare x no passive", "404 NOT_FOUND - no exchange 'x' in vhost '/' at 40 10"),
        ("a1 xdeclare amq.direct no passive", ""),
        ("a1 xdeclare x direct alternate-exchange=Sae", ""),
        (
            "a1 xdeclare x direct durable",
            "406 PRECONDITION_FAILED - inequivalent arg 'durable' for exchange 'x' in vhost '/': received 'true' but \
             current is 'false' at 40 10",
        ),
        (
            "a1 xdeclare x direct internal",
            "406 PRECONDITION_FAILED - inequivalent arg 'internal' for exchange 'x' in vhost '/': received 'true' but \
             current is 'false' at 40 10",
        ),
        (
            "a1 xdeclare x direct other=I1",
            "406 PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange 'x' in vhost '/': received \
             none but current is the value 'ae' of type 'longstr' at 40 10",
        ),
        (
            "a1 xdeclare y direct alternate-exchange=I1",
            "406 PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange 'y' in vhost \
             '/' at 40 10",
        ),
        ("a1 xdelete -", "403 ACCESS_REFUSED - operation not permitted on the default exchange at 40 20"),
        (
            "a1 xdelete amq.no",
            "403 ACCESS_REFUSED - deletion of system exchange 'amq.no' in vhost '/' not allowed at 40 20",
        ),
        ("a1 xdelete no if_unused", ""),
        ("a1 declare q", ""),
        ("a1 bind q x k", ""),
        ("a1 xdelete x if_unused", "406 PRECONDITION_FAILED - exchange 'x' in vhost '/' in use at 40 20"),
        ("a1 xdelete x", ""),
    ]);
}

/// broker.md 1, 2: bindings.
#[test]
fn bindings() {
    refused(&[
        ("a1 bind q no k", "404 NOT_FOUND - no exchange 'no' in vhost '/' at 50 20"),
        ("a1 bind q amq.direct k", "404 NOT_FOUND - no queue 'q' in vhost '/' at 50 20"),
        ("a1 bind q - k", "403 ACCESS_REFUSED - operation not permitted on the default exchange at 50 20"),
        ("a1 unbind q - k", "403 ACCESS_REFUSED - operation not permitted on the default exchange at 50 50"),
        ("a1 xbind no amq.direct k", "404 NOT_FOUND - no exchange 'no' in vhost '/' at 40 30"),
        (
            "a1 xbind - amq.direct k",
            "403 ACCESS_REFUSED - operation not permitted on the default exchange at 40 30",
        ),
        ("a1 unbind q no k", ""),
        ("a1 unbind q amq.direct k", ""),
        ("a1 xunbind no no k", ""),
        ("a1 bind - amq.direct -", "404 NOT_FOUND - no previously declared queue at 50 20"),
        ("a1 declare q", ""),
        (
            "a1 bind q amq.headers k x-match=Ssome",
            "406 PRECONDITION_FAILED - Invalid x-match field value <<\"some\">>; expected all, any, all-with-x, or \
             any-with-x at 50 20",
        ),
        (
            "a1 bind q amq.headers k x-match=I1",
            "406 PRECONDITION_FAILED - Invalid x-match field type signedint (value 1); expected longstr at 50 20",
        ),
    ]);
}

/// broker.md 1, 2: what uses queues.
#[test]
fn queues() {
    refused(&[
        ("a1 consume no c x-priority=Sx", "404 NOT_FOUND - no queue 'no' in vhost '/' at 60 20"),
        ("a1 get no", "404 NOT_FOUND - no queue 'no' in vhost '/' at 60 70"),
        ("a1 purge no", "404 NOT_FOUND - no queue 'no' in vhost '/' at 50 30"),
        ("a1 delete no if_empty if_unused", ""),
        ("a1 declare q", ""),
        ("a1 publish - q x", ""),
        ("b1 qos 1", ""),
        ("b1 consume q c", ""),
        ("a1 publish - q y", ""),
        (
            "a1 delete q if_empty if_unused",
            "406 PRECONDITION_FAILED - queue 'q' in vhost '/' not empty at 50 40",
        ),
        ("a1 delete q if_unused", "406 PRECONDITION_FAILED - queue 'q' in vhost '/' in use at 50 40"),
        ("a1 consume q d exclusive", "403 ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use at 60 20"),
        (
            "a1 consume q d x-priority=Sx",
            "406 PRECONDITION_FAILED - invalid arg 'x-priority' for queue 'q' in vhost '/': \"expected integer, got \
             longstr\" at 60 20",
        ),
        (
            "a1 consume q d x-stream-offset=Sfirst",
            "406 PRECONDITION_FAILED - invalid arg 'x-stream-offset' for queue 'q' in vhost '/' of queue type \
             rabbit_classic_queue at 60 20",
        ),
    ]);
}

/// broker.md 1, 2: basic.publish.
#[test]
fn publishes() {
    refused(&[
        ("a1 publish no k x p.expiration=a", "404 NOT_FOUND - no exchange 'no' in vhost '/' at 60 40"),
        ("a1 tx", ""),
        ("a1 publish no k x", "404 NOT_FOUND - no exchange 'no' in vhost '/' at 60 40"),
        ("a1 xdeclare x fanout internal", ""),
        (
            "a1 publish x k x p.expiration=a",
            "403 ACCESS_REFUSED - cannot publish to internal exchange 'x' in vhost '/' at 60 40",
        ),
        (
            "a1 publish - k x p.expiration=a",
            "406 PRECONDITION_FAILED - invalid expiration 'a': no_integer at 60 40",
        ),
        (
            "a1 publish - k x p.user=no",
            "406 PRECONDITION_FAILED - user_id property set to 'no' but authenticated user was 'guest' at 60 40",
        ),
        ("a1 publish - k x p.user=guest", ""),
        (
            "a1 publish - k x CC=Sq",
            "406 PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"CC\",longstr} at 60 40",
        ),
        (
            "a1 publish - k x p.reply_to=amq.rabbitmq.reply-to",
            "406 PRECONDITION_FAILED - fast reply consumer does not exist at 60 40",
        ),
    ]);
}

/// broker.md 1: tags of deliveries.
#[test]
fn delivery_tags() {
    check_all(&[
        ("a1 declare q", &["a1 declared q 0 0"]),
        ("a1 publish - q 1", &[]),
        ("a1 publish - q 2", &[]),
        ("a1 publish - q 3", &[]),
        ("b1 ack 0 multiple", &[]),
        ("b1 nack 0 multiple", &[]),
        ("b1 get q", &["b1 got 1 1, 2 left"]),
        ("b1 get q", &["b1 got 2 2, 1 left"]),
        ("b1 get q", &["b1 got 3 3, 0 left"]),
        ("b1 ack 3", &[]),
        // The tag itself is no longer outstanding: nothing is acked, and all comes back.
        ("b1 ack 3 multiple", &["b1 close 406 PRECONDITION_FAILED - unknown delivery tag 3 at 60 80"]),
        ("b1 close_ok", &[]),
        ("a1 declare q passive", &["a1 declared q 2 0"]),
        ("b1 get q", &["b1 got 1 1 again, 1 left"]),
        ("b1 ack 0", &["b1 close 406 PRECONDITION_FAILED - unknown delivery tag 0 at 60 80"]),
        ("b1 close_ok", &[]),
        ("b1 reject 7", &["b1 close 406 PRECONDITION_FAILED - unknown delivery tag 7 at 60 90"]),
        ("b1 close_ok", &[]),
        ("b1 nack 7", &["b1 close 406 PRECONDITION_FAILED - unknown delivery tag 7 at 60 120"]),
    ]);
}

/// broker.md 1: a channel that the broker has closed.
#[test]
fn a_closed_channel_hears_only_the_end_of_its_close() {
    check_all(&[
        ("a1 declare q", &["a1 declared q 0 0"]),
        ("a1 get no", &["a1 close 404 NOT_FOUND - no queue 'no' in vhost '/' at 60 70"]),
        ("a1 declare p", &[]),
        ("a1 publish - q x", &[]),
        // Both closes cross: close-ok for the client's, and the broker's own is still due.
        ("a1 close", &["a1 closed"]),
        ("a2 declare q passive", &["a2 declared q 0 0"]),
        ("a2 declare p passive", &["a2 close 404 NOT_FOUND - no queue 'p' in vhost '/' at 50 10"]),
        ("a2 close_ok", &[]),
        ("a2 declare q passive", &["a2 declared q 0 0"]),
        ("a2 open", &["a0 close 504 CHANNEL_ERROR - second 'channel.open' seen at 20 10"]),
    ]);
}

/// broker.md 1, 2, 15: errors of the connection.
#[test]
fn errors_of_the_connection() {
    for (operation, expected) in [
        ("a1 consume q c", "530 NOT_ALLOWED - attempt to reuse consumer tag 'c' at 60 20"),
        ("a1 publish no k x immediate", "540 NOT_IMPLEMENTED - immediate=true at 60 40"),
        ("a1 flow off", "540 NOT_IMPLEMENTED - active=false at 20 20"),
        ("a1 recover no", "540 NOT_IMPLEMENTED - requeue=false at 60 110"),
    ] {
        check_all(&[
            ("a1 declare q", &["a1 declared q 0 0"]),
            ("a1 consume q c", &["a1 consuming c"]),
            ("a1 flow on", &["a1 ok"]),
            (operation, &[&format!("a0 close {expected}")]),
        ]);
    }
}

/// broker.md 16: unknown exchange types.
#[test]
fn an_unknown_type_of_exchange() {
    let text = "unknown exchange type 'nosuchtype' at 40 10";
    Rig::new(Line::V3_10)
        .check(&[("a1 xdeclare x nosuchtype", &[&format!("a0 close 503 COMMAND_INVALID - {text}")])]);
    for line in [Line::V3_13, Line::V4_0, Line::V4_3] {
        Rig::new(line)
            .check(&[("a1 xdeclare x nosuchtype", &[&format!("a1 close 406 PRECONDITION_FAILED - {text}")])]);
    }
}
