//! Actors that end by a panic or with their arbiter: everyone who waits gets an error, and the other actors go on.

use actix::Arbiter;
use actix_pika_actors::{
    CloseConnection, ConnectionOptions, ConnectionSupervisor, Consume, DeclareQueue, Delivery, ErrorKind,
    OpenChannel, Publish, facade,
    testing::{
        Panic, PanicConnection, Peer, Probe,
        protocol::{basic, queue},
    },
};

use crate::common::{Bench, Client, TAG, Waiters, answer_consume, ask, at_once};

#[actix::test]
async fn everyone_gets_an_error_when_the_connection_panics() {
    let mut bench = Bench::open().await;
    let waiters = Waiters::start(&mut bench).await;
    bench.client.supervisor.do_send(PanicConnection);
    for error in waiters.all_fail().await {
        assert!(error.to_string().contains("ended without a reason"), "{error}");
    }
    assert_eq!(bench.client.closed().await.unwrap().kind(), ErrorKind::Stopped);
    assert!(at_once("the client hangs up", bench.socket.read_to_end()).await.unwrap().is_empty());
    let late = ask(&bench.client.supervisor, OpenChannel::new()).answer().await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::ConnectionClosed);
}

#[actix::test]
async fn everyone_gets_an_error_when_the_supervisor_panics() {
    let mut bench = Bench::open().await;
    let waiters = Waiters::start(&mut bench).await;
    // Waits for the confirms, which do not come.
    let close = ask(&bench.client.supervisor, CloseConnection::new());
    bench.client.supervisor.do_send(Panic);
    waiters.all_fail().await;
    assert_eq!(close.answer().await.unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(bench.client.closed().await.unwrap().kind(), ErrorKind::Stopped);
    // The connection is closed.
    bench.socket.expect_close().await.unwrap();
    bench.socket.read_to_end().await.unwrap();
    let late = ask(&bench.client.supervisor, OpenChannel::new()).answer().await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Stopped);
}

#[actix::test]
async fn a_channel_that_panics_is_closed_and_its_callers_get_an_error() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new()).await;
    let neighbour = bench.channel(2, OpenChannel::new().confirms(false)).await;
    let mut deliveries = bench.consume(&channel).await;
    bench.socket.deliver(1, TAG, 1, "x").await.unwrap();
    let delivery = deliveries.next().await.unwrap();
    let publish = ask(&channel.actor, Publish::new("", "jobs", "x"));
    bench.socket.expect_publish(1).await.unwrap();
    let declare = ask(&channel.actor, DeclareQueue::new("jobs"));
    bench.socket.expect::<queue::Declare>(1).await.unwrap();
    channel.actor.do_send(Panic);

    let error = publish.answer().await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_arrived()), (ErrorKind::Stopped, true));
    assert_eq!(declare.answer().await.unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(deliveries.closed().await.kind(), ErrorKind::Stopped);
    assert_eq!(delivery.ack().unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(channel.outbox.closed().unwrap().kind(), ErrorKind::Stopped);
    // `channel.close` makes the broker requeue. The number is not used again, because nobody reads the answer.
    bench.socket.expect_channel_close(1).await.unwrap();
    bench.round_trip(&neighbour).await;
    bench.assert_works(3).await;
}

#[actix::test]
async fn a_call_to_a_channel_that_panics_fails() {
    let mut bench = Bench::open().await;
    let first = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let call = ask(&first.actor, DeclareQueue::new("jobs"));
    first.actor.do_send(Panic);
    assert_eq!(call.answer().await.unwrap_err().kind(), ErrorKind::Stopped);
    bench.assert_works(2).await;
}

/// ACT: the broker must not deliver for ever to an arbiter that has ended.
#[actix::test]
async fn a_consumer_ends_with_its_arbiter() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let arbiter = Arbiter::new();
    // The target goes on: only the Consumer actor in between has ended.
    let mut target = Probe::<Delivery>::start();
    let consume = Consume::new().queue("jobs").tag(TAG);
    let consume = facade::deliver_to(consume, target.recipient(), Some(&arbiter.handle()));
    let call = ask(&channel.actor, consume);
    answer_consume(&mut bench.socket, 1).await;
    call.answer().await.unwrap();
    bench.socket.deliver(1, TAG, 1, "x").await.unwrap();
    let first = target.next().await.unwrap();

    arbiter.stop();
    let cancel = bench.socket.expect::<basic::Cancel>(1).await.unwrap();
    assert_eq!(cancel.consumer_tag.as_str(), TAG);
    // Deliveries until cancel-ok are requeued after it.
    bench.socket.deliver(1, TAG, 2, "y").await.unwrap();
    bench.socket.expect_nothing(std::time::Duration::from_millis(50)).await.unwrap();
    bench.socket.send(1, basic::CancelOk { consumer_tag: TAG.into() }).await.unwrap();
    let nack = bench.socket.expect::<basic::Nack>(1).await.unwrap();
    assert_eq!((nack.delivery_tag, nack.requeue), (2, true));
    first.ack().unwrap();
    assert_eq!(bench.socket.expect::<basic::Ack>(1).await.unwrap().delivery_tag, 1);
    arbiter.join().unwrap();
}

/// A connection ends with its arbiter, and callers on other threads get an error.
#[actix::test]
async fn a_connection_ends_with_its_arbiter() {
    let peer = Peer::listen().await.unwrap();
    let arbiter = Arbiter::new();
    let mut options = ConnectionOptions::default();
    options.address = actix_pika_actors::Address::new("127.0.0.1", peer.addr().port());
    let (supervisor, state) = ConnectionSupervisor::launch(options, Some(&arbiter.handle()));
    let mut socket = peer.accept().await.unwrap();
    let terms = socket.handshake().await.unwrap();
    let mut bench = Bench { peer, socket, client: Client { supervisor, state }, terms };
    bench.client.opened().await;
    let mut waiters = Waiters::start(&mut bench).await;

    arbiter.stop();
    arbiter.join().unwrap();
    assert!(waiters.deliveries.next().await.is_err());
    assert_eq!(bench.client.closed().await.unwrap().kind(), ErrorKind::Stopped);
    waiters.are_answered().await;
    bench.socket.read_to_end().await.unwrap();
}

/// ACK-10: the delivery is requeued; the channel and its other deliveries go on.
#[actix::test]
async fn a_task_that_panics_costs_its_delivery_only() {
    let mut bench = Bench::open().await;
    let channel = bench.channel(1, OpenChannel::new().confirms(false)).await;
    let mut deliveries = bench.consume(&channel).await;
    bench.socket.deliver(1, TAG, 1, "poison").await.unwrap();
    bench.socket.deliver(1, TAG, 2, "next").await.unwrap();
    let poison = deliveries.next().await.unwrap();
    let task = actix_rt::spawn(async move {
        let _held = poison;
        panic!("this task panics on purpose");
    });
    assert!(at_once("the task", task).await.is_err_and(|error| error.is_panic()));
    let reject: basic::Reject = bench.socket.expect(1).await.unwrap();
    assert_eq!((reject.delivery_tag, reject.requeue), (1, true));
    deliveries.next().await.unwrap().ack().unwrap();
    assert_eq!(bench.socket.expect::<basic::Ack>(1).await.unwrap().delivery_tag, 2);
    bench.assert_works(2).await;
}
