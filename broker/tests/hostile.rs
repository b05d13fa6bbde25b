//! Hostile clients on real sockets, and brokers that end while they are connected.

#![allow(missing_docs)]

use std::{
    future::Future,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use actix_pika_broker::{Broker, core::EntityLimits};
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

fn method(payload: &[u8]) -> Vec<u8> {
    frame(1, 1, payload)
}

/// A publish to a queue, with so many octets.
fn publish(key: &str, octets: usize) -> Vec<u8> {
    let mut method_payload = b"\0\x3c\0\x28\0\0\0".to_vec();
    method_payload.push(key.len() as u8);
    method_payload.extend(key.as_bytes());
    method_payload.push(0);
    let mut all = method(&method_payload);
    let mut header = b"\0\x3c\0\0".to_vec();
    header.extend((octets as u64).to_be_bytes());
    header.extend([0, 0]);
    all.extend(frame(2, 1, &header));
    all.extend(frame(3, 1, &vec![b'x'; octets]));
    all
}

const LIMIT: u64 = 4 << 20;
/// What was read before a connection is blocked, and what its socket brings at once.
const SLACK: u64 = 2 << 20;

/// Writes until nothing more is taken.
fn flood(socket: &mut TcpStream, block: &[u8]) -> bool {
    socket.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    (0..2_000).any(|_| socket.write_all(block).is_err())
}

/// Small and large messages, to one queue and to many: who publishes is not read any more at the limit, is told, and goes on
/// when the messages are consumed.
#[tokio::test]
async fn a_flood_of_messages_stops_at_the_memory_limit() {
    for (octets, queues) in [(1, 1), (1_000, 1), (100_000, 1), (1, 50)] {
        let broker = Broker::builder().memory_limit(Some(LIMIT)).start().unwrap();
        let mut flooding = socket(&broker);
        flooding.write_all(&handshake()).unwrap();
        let mut key = "q0".to_owned();
        for queue in 0..queues {
            let name = format!("q{queue}");
            let mut declare = b"\0\x32\0\x0a\0\0".to_vec();
            declare.push(name.len() as u8);
            declare.extend(name.as_bytes());
            declare.extend([0, 0, 0, 0, 0]);
            flooding.write_all(&method(&declare)).unwrap();
        }
        let mut block = publish(&key, octets);
        if queues > 1 {
            // The fanout exchange of the virtual host.
            key = "amq.fanout".to_owned();
            for queue in 0..queues {
                let mut bind = b"\0\x32\0\x14\0\0".to_vec();
                for name in [format!("q{queue}"), key.clone(), String::new()] {
                    bind.push(name.len() as u8);
                    bind.extend(name.as_bytes());
                }
                bind.extend([0, 0, 0, 0, 0]);
                flooding.write_all(&method(&bind)).unwrap();
            }
            let mut to_all = b"\0\x3c\0\x28\0\0\x0aamq.fanout\0\0".to_vec();
            let with_key = publish("", octets);
            let content = with_key[8 + 4 + 5..].to_vec();
            to_all = [method(&to_all), content].concat();
            block = to_all;
        }
        let block = block.repeat(1 + 200_000 / block.len());
        assert!(flood(&mut flooding, &block), "{octets} octets");
        within(broker.until(|state| state.connections().iter().any(|connection| connection.blocked))).await;
        let used = broker.memory_used();
        assert!((LIMIT..LIMIT + SLACK).contains(&used), "{used} with {octets} octets, {queues} queues");
        // Others work, and consuming ends the alarm.
        let other =
            within(Connection::connect(&broker.url(), ConnectionProperties::default())).await.unwrap();
        let channel = within(other.create_channel()).await.unwrap();
        drop(flooding);
        // What its socket still has comes then, until its end is read.
        let end = async {
            while broker.connections().len() > 1 || broker.memory_used() >= LIMIT / 5 * 4 {
                for queue in 0..queues {
                    let name = format!("q{queue}");
                    channel.queue_purge(name.as_str().into(), Default::default()).await.unwrap();
                }
            }
        };
        within(end).await;
    }
}

/// Replies to one who does not read them count, too: those who reply are blocked.
#[tokio::test]
async fn a_flood_of_replies_stops_at_the_memory_limit() {
    let broker = Broker::builder().memory_limit(Some(LIMIT)).start().unwrap();
    let mut requester = socket(&broker);
    requester.write_all(&handshake()).unwrap();
    let mut consume = b"\0\x3c\0\x14\0\0\x15amq.rabbitmq.reply-to\x01t\x02\0\0\0\0".to_vec();
    requester.write_all(&method(&consume)).unwrap();
    // Its request, which has the address.
    consume = b"\0\x32\0\x0a\0\0\x01q\0\0\0\0\0".to_vec();
    requester.write_all(&method(&consume)).unwrap();
    let mut request = method(b"\0\x3c\0\x28\0\0\0\x01q\0");
    let mut header = b"\0\x3c\0\0\0\0\0\0\0\0\0\0\x02\0\x15".to_vec();
    header.extend(b"amq.rabbitmq.reply-to");
    request.extend(frame(2, 1, &header));
    requester.write_all(&request).unwrap();
    within(broker.until(|state| state.ready("q") == 1)).await;
    let address = broker.messages("q")[0].message.decoded_properties().reply_to().unwrap().to_owned();
    let mut flooding = socket(&broker);
    flooding.write_all(&handshake()).unwrap();
    let block = publish(&address, 10_000).repeat(20);
    assert!(flood(&mut flooding, &block));
    within(broker.until(|state| state.connections().iter().any(|connection| connection.blocked))).await;
    let used = broker.memory_used();
    assert!((LIMIT..LIMIT + SLACK).contains(&used), "{used}");
    drop(requester);
    within(broker.until(|state| state.connections().iter().all(|connection| !connection.blocked))).await;
    assert!(broker.memory_used() < LIMIT / 5 * 4);
}

/// `short` is a name or key: its length and its octets.
fn short(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

/// A declaration without an answer: its ids, its names, its flags and its arguments.
fn declaration(ids: [u8; 2], names: &[&str], flags: &[u8], arguments: &[u8]) -> Vec<u8> {
    let mut payload = vec![0, ids[0], 0, ids[1], 0, 0];
    names.iter().for_each(|name| payload.extend(short(name)));
    payload.extend(flags);
    payload.extend((arguments.len() as u32).to_be_bytes());
    payload.extend(arguments);
    method(&payload)
}

/// Writes all, and returns the code and the text of the `connection.close` that is read before the end.
fn refused(broker: &Broker, all: &[u8]) -> String {
    let mut flooding = socket(broker);
    flooding.write_all(&handshake()).unwrap();
    flooding.write_all(all).unwrap();
    flooding.shutdown(Shutdown::Write).unwrap();
    let mut read = Vec::new();
    flooding.read_to_end(&mut read).unwrap();
    let close = frame(1, 0, b"\0\x0a\0\x32");
    let at = read.windows(4).position(|part| part == &close[7..11]).expect("connection.close");
    let text = usize::from(read[at + 6]);
    let code = u16::from_be_bytes([read[at + 4], read[at + 5]]);
    format!("{code} {}", String::from_utf8_lossy(&read[at + 7..at + 7 + text]))
}

type Declare = fn(&str, &[u8]) -> Vec<u8>;

/// Each kind of entity, declared as `n`.
const DECLARATIONS: [(&str, Declare); 5] = [
    ("queues", |n, arguments| declaration([50, 10], &[n], &[0b1_0000], arguments)),
    ("exchanges", |n, arguments| declaration([40, 10], &[n, "fanout"], &[0b1_0000], arguments)),
    ("bindings", |n, arguments| declaration([50, 20], &["q", "amq.topic", n], &[1], arguments)),
    ("bindings", |n, arguments| declaration([40, 30], &["amq.direct", "amq.fanout", n], &[1], arguments)),
    ("consumers", |n, arguments| declaration([60, 20], &["q", n], &[0b1000], arguments)),
];

/// The queues, exchanges, bindings (without those of the default exchange) and consumers that are there.
fn counts(broker: &Broker) -> [usize; 4] {
    let vhost = broker.in_vhost("/");
    let bindings = vhost.bindings();
    let bindings = bindings.iter().filter(|binding| !binding.source.is_empty()).count();
    [vhost.queues().len(), vhost.exchanges().len(), bindings, vhost.consumers().len()]
}

/// Who only declares is closed at the limit. Others go on.
#[tokio::test]
async fn a_flood_of_declarations_stops_at_the_limit() {
    const MAX: u64 = 100;
    for (of, declare) in DECLARATIONS {
        let limits =
            EntityLimits { queues: MAX, exchanges: MAX, bindings: MAX, consumers: MAX, octets: 1 << 20 };
        let broker = Broker::builder().entity_limits(limits).start().unwrap();
        let q = declaration([50, 10], &["q"], &[0b1_0000], b"");
        let [_, system, ..] = counts(&broker);
        let flood: Vec<u8> = (0..10_000).flat_map(|n| declare(&format!("n{n}"), b"")).collect();
        assert_eq!(
            refused(&broker, &[q, flood].concat()),
            format!("506 RESOURCE_ERROR - the limit of {of} of this broker ({MAX}) is reached"),
        );
        within(broker.until(|state| state.connections().is_empty())).await;
        let max = MAX as usize;
        let expected = match of {
            "queues" => [max, system, 0, 0],
            "exchanges" => [1, system + max, 0, 0],
            "bindings" => [1, system, max, 0],
            // They are gone with their connection.
            _ => [1, system, 0, 0],
        };
        assert_eq!(counts(&broker), expected, "{of}");
        let other =
            within(Connection::connect(&broker.url(), ConnectionProperties::default())).await.unwrap();
        let channel = within(other.create_channel()).await.unwrap();
        within(channel.basic_consume("q".into(), "c".into(), Default::default(), Default::default()))
            .await
            .unwrap();
    }
}

/// An argument with 100,000 values of no octet takes some MB: few declarations are too many.
#[tokio::test]
async fn a_flood_of_arguments_stops_at_the_limit() {
    let mut arguments = b"\x03x-aA".to_vec();
    arguments.extend(100_000_u32.to_be_bytes());
    arguments.extend([b'V'; 100_000]);
    for (of, declare) in DECLARATIONS {
        let limits = EntityLimits { octets: 20_000_000, ..EntityLimits::default() };
        let broker = Broker::builder().entity_limits(limits).start().unwrap();
        let q = declaration([50, 10], &["q"], &[0b1_0000], b"");
        let [_, system, ..] = counts(&broker);
        let flood: Vec<u8> = (0..100).flat_map(|n| declare(&format!("n{n}"), &arguments)).collect();
        assert_eq!(
            refused(&broker, &[q, flood].concat()),
            "506 RESOURCE_ERROR - the limit of octets of names and arguments of this broker (20000000) is reached",
        );
        within(broker.until(|state| state.connections().is_empty())).await;
        let [queues, exchanges, bindings, _] = counts(&broker);
        let there = queues - 1 + exchanges - system + bindings;
        assert!(if of == "consumers" { there == 0 } else { (1..20).contains(&there) }, "{there} {of}");
    }
}
