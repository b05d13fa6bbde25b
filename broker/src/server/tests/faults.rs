//! Faults on order, and what they find.

use std::{future::Future, time::Duration};

use actix_pika_actors::wire::method::{AMQPClass, connection::AMQPMethod as Method};
use tokio::io::AsyncWriteExt;

use super::rig::{Client, begin_publish, handshake, method};
use crate::{
    Broker, FaultKind,
    core::{Keep, Line},
    server::peer::End,
};

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("it takes less than 10 s")
}

/// The client goes on as if it had not noticed.
#[test]
fn a_restart_ends_handshakes_too() {
    let all = handshake();
    for sent in [0, 3, 8, 30, all.len() - 1] {
        for keep in [Keep::Durable, Keep::Nothing] {
            let client = Client::connect(Line::V4_3);
            client.send(&all[..sent]);
            client.shared.change(|state| state.restart(keep));
            client.send(&all[sent..]);
            client.read();
            assert_eq!(client.take().1, Some(End::Reset), "{sent}");
            assert_eq!(client.shared.look(|state| state.core.connections().count()), 0);
        }
    }
    let client = Client::open(Line::V4_3);
    client.shared.change(|state| state.restart(Keep::Durable));
    let text = "320 CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";
    assert_eq!(Client::closes(&client.read()), [text]);
    client.send(&method(0, AMQPClass::Connection(Method::CloseOk(Default::default()))));
    assert_eq!(client.take().1, Some(End::Close));
}

/// It has a socket until the client ends that.
#[tokio::test]
async fn a_connection_that_is_closed_is_not_open_for_faults() {
    let broker = Broker::start().unwrap();
    let mut stream = broker.dialer()().unwrap();
    within(stream.write_all(&handshake())).await.unwrap();
    within(broker.until(|state| state.connections().len() == 1)).await;
    let id = broker.connections()[0].id;
    let faults: [fn(&Broker, crate::core::ConnectionId) -> bool; 6] = [
        |broker, id| broker.resume_reading(id),
        |broker, id| broker.delay(id, Duration::ZERO),
        |broker, id| broker.cut_after(id, 1 << 20),
        |broker, id| broker.cut_input_after(id, 1 << 20),
        |broker, id| broker.close_connection(id, 320, "bye"),
        Broker::cut,
    ];
    assert_eq!(faults.map(|fault| fault(&broker, id)), [true, true, true, true, true, false]);
    assert_eq!(faults.map(|fault| fault(&broker, id)), [false; 6]);
    assert_eq!(broker.shared.look(|state| state.peers.len()), 1);
}

/// Also where nobody waits for it: the only peer is blocked.
#[test]
fn what_comes_of_a_fault_is_sent_at_once() {
    let broker = Broker::start().unwrap();
    let client = Client::open_at(&broker.shared);
    broker.block("low on disk");
    let seed = (0..).find(|seed| {
        let chaos = broker.chaos(*seed).every(2).start();
        let left = broker.shared.look(|state| state.chaos.as_ref().unwrap().left());
        drop(chaos);
        left == 2
    });
    let chaos = broker.chaos(seed.unwrap()).only([FaultKind::Close]).every(2).start();
    client.send(&begin_publish(1, "q", 10));
    assert_eq!(chaos.faults().len(), 1);
    assert_eq!(Client::closes(&client.read()), ["320 CONNECTION_FORCED - chaos"]);
}

/// What the broker keeps for a thread may be gone before it.
#[test]
fn a_broker_in_a_thread_local_ends_with_its_thread() {
    thread_local! {
        static BROKER: Broker = Broker::start().unwrap();
    }
    let port =
        std::thread::spawn(|| BROKER.with(|broker| broker.queues().len() + usize::from(broker.port())));
    let port = port.join().unwrap();
    assert!(std::net::TcpStream::connect(("127.0.0.1", port as u16)).is_err());
}
