//! Publishes and calls that the broker refuses again and again, on a channel that others use as well.

use actix_pika_actors::{
    BindQueue, Confirmation, DeclareQueue, Error, ErrorKind, OpenChannel, OpenedChannel, Publish, Publishing,
    testing::protocol::{confirm, queue},
};

use super::common::{
    Call, ask,
    recovery::{RecoveryBench, publish, publish_as},
};

/// What matters of an error of a publish: kind, code, whether it is retryable and whether it may have arrived.
fn truth(error: &Error) -> (ErrorKind, Option<u16>, bool, bool) {
    (error.kind(), error.code(), error.is_retryable(), error.may_have_arrived())
}

/// Checks that a publish fails because the broker has refused it, without having arrived.
async fn assert_refused(call: Call<Confirmation>, code: u16) {
    let error = call.answer().await.unwrap_err();
    assert_eq!(truth(&error), (ErrorKind::ChannelClosed, Some(code), false, false), "{error}");
}

/// Publishes once what the peer refuses with this reason, and once more, which is not sent.
async fn assert_refused_once(
    test: &mut RecoveryBench,
    channel: &OpenedChannel,
    (code, text): (u16, &str),
    wrong: impl Fn() -> Publish,
) {
    let before = publish(channel, "before").await;
    let refused = publish_as(channel, wrong()).await;
    test.expect_publishes(&["before", "wrong"]).await;
    test.bench.socket.close_channel(1, code, text, 60, 40).await.unwrap();
    assert_refused(refused, code).await;
    test.reopen_channel(1).await;
    test.expect_publishes(&["before"]).await;
    test.bench.socket.confirm(1, 1, false).await.unwrap();
    before.answer().await.unwrap();
    assert_refused(publish_as(channel, wrong()).await, code).await;
    assert_confirmed(test, channel, 2, Publish::new("", "jobs", "next")).await;
}

/// Publishes what the peer confirms with this delivery tag.
async fn assert_confirmed(test: &mut RecoveryBench, channel: &OpenedChannel, tag: u64, publish: Publish) {
    let right = publish_as(channel, publish).await;
    test.next_publish().await;
    test.bench.socket.confirm(1, tag, false).await.unwrap();
    right.answer().await.unwrap();
}

/// PUB-50: a publish that is forbidden closes the channel once; the next ones are answered here for a while.
#[actix::test]
async fn forbidden_publishes_are_answered_here_and_leave_their_neighbours_alone() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let texts = [
        "ACCESS_REFUSED - write access to exchange 'gone' in vhost '/' refused for user 'u'",
        "ACCESS_REFUSED - write access to topic 'a.b' in exchange 'topics' in vhost '/' refused for user 'u'",
    ];
    for (text, exchange, key) in [(texts[0], "gone", "key"), (texts[1], "topics", "a.b")] {
        let wrong = || Publish::new(exchange, key, "wrong");
        assert_refused_once(&mut test, &channel, (403, text), wrong).await;
        assert_confirmed(&mut test, &channel, 3, Publish::new("topics", "a.c", "other")).await;
    }
}

/// PUB-51: the broker cuts long texts, and the name of the missing exchange with them.
#[actix::test]
async fn an_exchange_whose_name_is_cut_is_known_to_be_missing() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let name = "x".repeat(250);
    let text = format!("NOT_FOUND - no exchange '{}...", "x".repeat(220));
    let wrong = || Publish::new(&name, "key", "wrong");
    assert_refused_once(&mut test, &channel, (404, &text), wrong).await;
}

/// PUB-51: the broker cuts the routing key of a forbidden topic, or the name of its exchange.
#[actix::test]
async fn a_topic_that_is_cut_is_known_to_be_forbidden() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let (long, topics) = ("k".repeat(250), "t".repeat(150));
    let cut_key = format!("ACCESS_REFUSED - write access to topic '{}...", "k".repeat(212));
    let cut_exchange = format!(
        "ACCESS_REFUSED - write access to topic '{}' in exchange '{}...",
        "a".repeat(80),
        "t".repeat(117)
    );
    for (text, exchange, key) in [(cut_key, "topics", &long), (cut_exchange, &topics, &"a".repeat(80))] {
        let wrong = || Publish::new(exchange, key, "wrong");
        assert_refused_once(&mut test, &channel, (403, &text), wrong).await;
        assert_confirmed(&mut test, &channel, 3, Publish::new(exchange, &key[1..], "other")).await;
    }
}

/// PUB-51: a channel without confirms keeps no publishes; their long names are known.
#[actix::test]
async fn names_that_are_cut_are_known_without_confirms() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new().confirms(false)).await;
    let (long, key) = ("x".repeat(250), "k".repeat(250));
    let cut_exchange = format!("NOT_FOUND - no exchange '{}...", "x".repeat(227));
    let cut_key = format!("ACCESS_REFUSED - write access to topic '{}...", "k".repeat(212));
    for (code, text, exchange, key) in [(404, cut_exchange, &*long, "k"), (403, cut_key, "topics", &*key)] {
        publish_as(&channel, Publish::new(exchange, key, "wrong")).await.answer().await.unwrap();
        test.expect_publishes(&["wrong"]).await;
        test.bench.socket.close_channel(1, code, &text, 60, 40).await.unwrap();
        test.bench.socket.open_channel(1).await.unwrap();
        test.bench.round_trip(&channel).await;
        assert_refused(publish_as(&channel, Publish::new(exchange, key, "wrong")).await, code).await;
        publish(&channel, "right").await.answer().await.unwrap();
        test.expect_publishes(&["right"]).await;
    }
}

/// PUB-51: the broker cuts the name of a missing exchange from the text for a binding: publishes to it fail here.
#[actix::test]
async fn an_exchange_that_a_binding_misses_is_known_by_its_call() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let name = "x".repeat(250);
    let bind = ask(&channel.actor, BindQueue::new("q", &*name, "k").robust(false));
    test.bench.socket.expect::<queue::Bind>(1).await.unwrap();
    let text = format!("NOT_FOUND - no exchange '{}...", "x".repeat(227));
    test.bench.socket.close_channel(1, 404, &text, 50, 20).await.unwrap();
    let error = bind.answer().await.unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, Some(404)), "{error}");
    test.reopen_channel(1).await;
    assert_refused(publish_as(&channel, Publish::new(&*name, "k", "wrong")).await, 404).await;
}

/// PUB-53: what the broker refuses by a property or the size closes the channel once; the next ones are answered here.
#[actix::test]
async fn publishes_that_are_refused_by_a_property_are_answered_here() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    let of = |content: Publishing| Publish::new("", "jobs", content);
    let user = |name: &str| of(Publishing::new("wrong").user_id(name));
    let text = "PRECONDITION_FAILED - user_id property set to 'no' but authenticated user was 'guest'";
    assert_refused_once(&mut test, &channel, (406, text), || user("no")).await;
    assert_refused(publish_as(&channel, user("another")).await, 406).await;
    assert_confirmed(&mut test, &channel, 3, user("guest")).await;
    let text = "PRECONDITION_FAILED - fast reply consumer does not exist";
    let request = || of(Publishing::new("wrong").reply_to("amq.rabbitmq.reply-to"));
    assert_refused_once(&mut test, &channel, (406, text), request).await;
    let text = "invalid message: {delivery_mode_unknown,3}";
    let mode = || {
        let properties = actix_pika_actors::Properties::new();
        let mode = actix_pika_actors::DeliveryMode::Other(3);
        of(Publishing::new("wrong").properties(properties.with_delivery_mode(mode)))
    };
    assert_refused_once(&mut test, &channel, (406, text), mode).await;
    // The bodies beside it are shorter or longer.
    let text = "PRECONDITION_FAILED - message size 11 is larger than configured max size 10";
    let large = publish(&channel, "a large one").await;
    test.expect_publishes(&["a large one"]).await;
    test.bench.socket.close_channel(1, 406, text, 60, 40).await.unwrap();
    assert_refused(large, 406).await;
    test.reopen_channel(1).await;
    assert_refused(publish(&channel, "another large one").await, 406).await;
    assert_confirmed(&mut test, &channel, 1, Publish::new("", "jobs", "ten bytes.")).await;
}

/// PUB-54: what the broker refuses is taken out: however often it closes the channel, publishes beside it arrive.
#[actix::test]
async fn ever_new_wrong_publishes_do_not_hold_up_their_neighbours() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    for n in 0..20 {
        let (before, key) = (publish(&channel, "before").await, format!("topic.{n}"));
        let wrong = publish_as(&channel, Publish::new("topics", &*key, "wrong")).await;
        let behind = publish(&channel, "behind").await;
        test.expect_publishes(&["before", "wrong", "behind"]).await;
        let text = format!(
            "ACCESS_REFUSED - write access to topic '{key}' in exchange 'topics' in vhost '/' refused for user 'u'"
        );
        test.bench.socket.close_channel(1, 403, &text, 60, 40).await.unwrap();
        assert_refused(wrong, 403).await;
        test.reopen_channel(1).await;
        test.expect_publishes(&["before", "behind"]).await;
        test.bench.socket.confirm(1, 2, true).await.unwrap();
        before.answer().await.unwrap();
        behind.answer().await.unwrap();
    }
}

/// CH-38: a call that is refused again and again does not hold up the publishes of the channel.
#[actix::test]
async fn a_call_that_is_refused_again_and_again_does_not_hold_up_its_neighbours() {
    let mut test = RecoveryBench::start().await;
    let channel = test.bench.channel(1, OpenChannel::new()).await;
    for _ in 0..20 {
        let beside = publish(&channel, "beside").await;
        let wrong = ask(&channel.actor, DeclareQueue::new("gone").passive(true));
        test.expect_publishes(&["beside"]).await;
        test.bench.socket.expect::<queue::Declare>(1).await.unwrap();
        test.bench
            .socket
            .close_channel(1, 404, "NOT_FOUND - no queue 'gone' in vhost '/'", 50, 10)
            .await
            .unwrap();
        let error = wrong.answer().await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Refused, Some(404)), "{error}");
        test.bench.socket.open_channel(1).await.unwrap();
        test.bench.socket.answer(1, |_: confirm::Select| confirm::SelectOk {}).await.unwrap();
        test.expect_publishes(&["beside"]).await;
        // Another one would cost the publish its confirm again.
        let next = ask(&channel.actor, DeclareQueue::new("gone").passive(true));
        let newer = publish(&channel, "newer").await;
        test.expect_publishes(&["newer"]).await;
        test.bench.socket.confirm(1, 2, true).await.unwrap();
        beside.answer().await.unwrap();
        newer.answer().await.unwrap();
        super::common::recovery::declare_ok(&mut test.bench.socket, 1, "gone").await;
        next.answer().await.unwrap();
    }
}
