//! What a recorder knows of channels that were opened again: answers and replies are for one opening.

use tokio::time::timeout;

use super::Square;
use crate::{
    Confirm, Connection, ErrorKind,
    rpc::Rpc,
    testing::{Answer, Detached, RecordedPublish, TIME_LIMIT, TestErrorKind},
};

const NOT_FOUND: &str = "NOT_FOUND - no exchange 'refused' in vhost '/'";

async fn is_confirmed(confirm: Confirm) -> bool {
    timeout(TIME_LIMIT, confirm).await.unwrap().unwrap().is_confirmed()
}

async fn next(rabbit: &Detached, body: &str) -> RecordedPublish {
    let publish = rabbit.next_published().await.unwrap();
    assert_eq!(publish.body(), body);
    publish
}

#[actix::test]
async fn a_publish_from_before_a_reconnect_answers_none_that_was_resent() {
    tokio::time::pause();
    let rabbit = Detached::start_robust().await.unwrap();
    rabbit.answer(Answer::Hold);
    let [a, b] = ["a", "b"].map(|body| rabbit.exchange("").try_publish(body, "jobs").unwrap().unwrap());
    let (old_a, old_b) = (next(&rabbit, "a").await, next(&rabbit, "b").await);
    old_a.answer(Answer::Ack).unwrap();
    assert!(is_confirmed(a).await);

    rabbit.lose_connection();
    let resent = next(&rabbit, "b").await;
    for old in [old_a, old_b] {
        assert_eq!(old.answer(Answer::Nack).unwrap_err().kind(), TestErrorKind::Unexpected);
    }
    resent.answer(Answer::Ack).unwrap();
    assert!(is_confirmed(b).await);
}

#[actix::test]
async fn a_publish_of_a_closed_channel_answers_none_of_the_next_with_its_number() {
    let rabbit = Detached::start().await.unwrap();
    rabbit.answer(Answer::Hold);
    let first = rabbit.connection().channel().await.unwrap();
    let _unconfirmed = first.exchange("").try_publish("a", "jobs").unwrap().unwrap();
    let old = next(&rabbit, "a").await;
    rabbit.answer_held(Answer::Ack);
    timeout(TIME_LIMIT, first.close()).await.unwrap().unwrap();

    let second = rabbit.connection().channel().await.unwrap();
    assert_eq!(second.number(), old.channel());
    let confirm = second.exchange("").try_publish("b", "jobs").unwrap().unwrap();
    let new = next(&rabbit, "b").await;
    assert_eq!(old.answer(Answer::Nack).unwrap_err().kind(), TestErrorKind::Unexpected);
    assert_eq!(rabbit.answer_held(Answer::Ack), 1);
    assert_eq!(new.answer(Answer::Ack).unwrap_err().kind(), TestErrorKind::Unexpected);
    assert!(is_confirmed(confirm).await);
}

/// Two publishes on a connection that is recovered, of which the first is answered by a close with this text.
async fn closed_by(text: &str) -> (Detached, [Confirm; 2]) {
    let rabbit = Detached::start_robust().await.unwrap();
    rabbit.answer_next(Answer::Hold);
    rabbit.answer_next(Answer::Hold);
    let refused = rabbit.exchange("refused").try_publish("1", "key").unwrap().unwrap();
    let other = rabbit.exchange("other").try_publish("2", "key").unwrap().unwrap();
    let first = next(&rabbit, "1").await;
    next(&rabbit, "2").await;
    first.answer(Answer::Close { code: 404, text: text.to_owned() }).unwrap();
    (rabbit, [refused, other])
}

#[actix::test]
async fn a_close_that_names_the_publish_fails_it_alone_on_a_connection_that_recovers() {
    tokio::time::pause();
    let (rabbit, [refused, other]) = closed_by(NOT_FOUND).await;
    next(&rabbit, "2").await;
    assert!(is_confirmed(other).await);
    let error = timeout(TIME_LIMIT, refused).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::ChannelClosed, Some(404)));
    rabbit.nothing_published().unwrap();
}

#[actix::test]
async fn a_close_that_names_none_of_several_has_them_resent() {
    tokio::time::pause();
    let (rabbit, confirms) = closed_by("NOT_FOUND").await;
    next(&rabbit, "1").await;
    next(&rabbit, "2").await;
    for confirm in confirms {
        assert!(is_confirmed(confirm).await);
    }
}

#[actix::test]
async fn a_channel_that_is_not_recovered_stays_closed() {
    let rabbit = Detached::start().await.unwrap();
    rabbit.answer_next(Answer::Close { code: 404, text: NOT_FOUND.to_owned() });
    rabbit.answer_next(Answer::Hold);
    let exchange = rabbit.exchange("refused");
    for _ in 0..2 {
        let error = timeout(TIME_LIMIT, exchange.publish("1", "key")).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ChannelClosed);
    }
    let channel = rabbit.connection().channel().await.unwrap();
    let confirm = channel.exchange("").try_publish("2", "jobs").unwrap().unwrap();
    next(&rabbit, "1").await;
    next(&rabbit, "2").await;
    assert_eq!(rabbit.answer_held(Answer::Ack), 1, "the answer was still there");
    assert!(is_confirmed(confirm).await);
}

async fn client(connection: &Connection) -> crate::rpc::RpcClient {
    Rpc::client(connection).await.unwrap()
}

#[actix::test]
async fn a_reply_to_a_client_that_is_gone_keeps_no_other_one_back() {
    let rabbit = Detached::start().await.unwrap();
    let gone = client(rabbit.connection()).await;
    let other = client(rabbit.connection()).await;
    let first = actix::spawn({
        let gone = gone.clone();
        async move { gone.send(Square(7)).await }
    });
    let to_gone = next(&rabbit, "7").await;
    first.abort();
    assert!(first.await.is_err());
    drop(gone);

    let call = actix::spawn(async move { other.send(Square(8)).await });
    let to_other = next(&rabbit, "8").await;
    rabbit.reply(&to_gone, "49").unwrap();
    rabbit.reply(&to_other, crate::Publishing::new("64").content_type("application/json")).unwrap();
    assert_eq!(timeout(TIME_LIMIT, call).await.unwrap().unwrap().unwrap(), 64);
}

#[actix::test]
async fn a_direct_reply_goes_to_no_later_opening_of_its_channel() {
    tokio::time::pause();
    let rabbit = Detached::start_robust().await.unwrap();
    let client = client(rabbit.connection()).await;
    let old = {
        let client = client.clone();
        let call = actix::spawn(async move { client.send(Square(7)).await });
        let old = next(&rabbit, "7").await;
        rabbit.lose_connection();
        assert!(timeout(TIME_LIMIT, call).await.unwrap().unwrap().is_err());
        old
    };
    let call = actix::spawn(async move { client.send(Square(8)).await });
    let new = next(&rabbit, "8").await;
    assert_eq!(old.channel(), new.channel());
    rabbit.reply(&old, "49").unwrap();
    rabbit.reply(&new, crate::Publishing::new("64").content_type("application/json")).unwrap();
    assert_eq!(timeout(TIME_LIMIT, call).await.unwrap().unwrap().unwrap(), 64);
}
