//! Hostile clients on real sockets, and brokers that end while they are connected.

#![allow(missing_docs)]

use std::{
    future::Future,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use actix_pika_broker::Broker;
use lapin::{Connection, ConnectionProperties};

const GREETING: &[u8] = b"AMQP\0\0\x09\x01";

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it takes less than 20 s")
}

fn socket(broker: &Broker) -> TcpStream {
    let socket = TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend(channel.to_be_bytes());
    frame.extend((payload.len() as u32).to_be_bytes());
    frame.extend(payload);
    frame.push(0xCE);
    frame
}

fn handshake() -> Vec<u8> {
    let mut all = GREETING.to_vec();
    all.extend(frame(1, 0, b"\0\x0a\0\x0b\0\0\0\0\x05PLAIN\0\0\0\x0c\0guest\0guest\x05en_US"));
    all.extend(frame(1, 0, b"\0\x0a\0\x1f\x07\xff\0\x02\0\0\0\0"));
    all.extend(frame(1, 0, b"\0\x0a\0\x28\x01/\0\0"));
    all.extend(frame(1, 1, b"\0\x14\0\x0a\0"));
    all
}

/// Who greets and says no more does not keep others out.
#[tokio::test]
async fn five_hundred_handshakes_that_stop() {
    let broker = Broker::start().unwrap();
    let mut sockets = Vec::new();
    for step in 0..500 {
        let mut socket = socket(&broker);
        let all = handshake();
        socket.write_all(&all[..step % (all.len() - 30)]).unwrap();
        sockets.push(socket);
    }
    let connection =
        within(Connection::connect(&broker.url(), ConnectionProperties::default())).await.unwrap();
    within(connection.create_channel()).await.unwrap();
    assert_eq!(broker.connections().len(), 1);
    drop(sockets);
    within(connection.create_channel()).await.unwrap();
}

/// The answers to what was sent before come before the end.
#[test]
fn who_sends_its_last_and_closes_that_half_is_answered() {
    let broker = Broker::start().unwrap();
    let mut socket = socket(&broker);
    let mut all = handshake();
    for _ in 0..1_000 {
        all.extend(frame(1, 1, b"\0\x32\0\x0a\0\0\x01q\0\0\0\0\0"));
    }
    socket.write_all(&all).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let mut read = Vec::new();
    socket.read_to_end(&mut read).unwrap();
    let answer = frame(1, 1, b"\0\x32\0\x0b\x01q\0\0\0\0\0\0\0\0");
    assert_eq!(read.windows(answer.len()).filter(|part| *part == answer).count(), 1_000);
}

/// Declares again and again without reading an answer: it is not read any more.
#[tokio::test]
async fn a_flood_of_calls_is_stopped_by_its_own_answers() {
    let broker = Broker::start().unwrap();
    let mut socket = socket(&broker);
    socket.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    socket.write_all(&handshake()).unwrap();
    let calls = frame(1, 1, b"\0\x32\0\x0a\0\0\x01q\0\0\0\0\0").repeat(10_000);
    // Far more than the buffers of two sockets take.
    let stopped = (0..400).any(|_| socket.write_all(&calls).is_err());
    assert!(stopped);
    let other = within(Connection::connect(&broker.url(), ConnectionProperties::default())).await.unwrap();
    within(other.create_channel()).await.unwrap();
}

/// A broker ends at once, whatever its clients do.
#[actix_rt::test]
async fn a_broker_is_dropped_while_clients_are_connected() {
    for _ in 0..20 {
        let broker = Broker::start().unwrap();
        let mut silent = socket(&broker);
        let mut open = socket(&broker);
        open.write_all(&handshake()).unwrap();
        within(broker.until(|state| state.connections().len() == 1)).await;
        drop(broker);
        for socket in [&mut silent, &mut open] {
            // The end, or a reset.
            let _ = socket.read_to_end(&mut Vec::new());
        }
    }
    let broker = Broker::start().unwrap();
    let port = broker.port();
    std::thread::spawn(move || drop(broker)).join().unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

/// In memory, under a clock that stands still: heartbeats and time limits are those of the test.
#[actix_rt::test]
async fn a_broker_in_the_same_arbiter_under_a_paused_clock() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    tokio::time::pause();
    let broker = Broker::builder().start_here();
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    broker.serve(server);
    client.write_all(&handshake()).await.unwrap();
    within(broker.until(|state| state.connections().len() == 1)).await;
    // A handshake that stops ends by the clock of tokio, which jumps there.
    let (mut stopped, server) = tokio::io::duplex(1024);
    broker.serve(server);
    stopped.write_all(GREETING).await.unwrap();
    let started = tokio::time::Instant::now();
    stopped.read_to_end(&mut Vec::new()).await.unwrap();
    assert_eq!(started.elapsed().as_secs(), 10);
    assert_eq!(broker.connections().len(), 1);
    drop(broker);
    within(client.read_to_end(&mut Vec::new())).await.unwrap();
}
