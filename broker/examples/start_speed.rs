//! The time from the start of a broker to the first delivery of a client, who is as fast as a client can be.
//!
//! `cargo run --release -p actix-pika-broker --example start_speed`

#![allow(clippy::print_stdout, missing_docs)]

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use actix_pika_broker::Broker;

const ROUNDS: usize = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        took.push(start_to_delivery()?);
    }
    took.sort_unstable();
    let at = |part: usize| took.get(part * (ROUNDS - 1) / 100).copied().unwrap_or_default();
    println!("start to first delivery: median {:?}, 90 % {:?}, most {:?}", at(50), at(90), at(100));
    Ok(())
}

fn start_to_delivery() -> Result<Duration, Box<dyn std::error::Error>> {
    let start = Instant::now();
    let broker = Broker::start()?;
    let mut socket = TcpStream::connect(("127.0.0.1", broker.port()))?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.set_nodelay(true)?;
    let steps: [&[&[u8]]; 4] = [
        &[b"\0\x0a\0\x0b\0\0\0\0\x05PLAIN\0\0\0\x0c\0guest\0guest\x05en_US"],
        &[b"\0\x0a\0\x1f\x07\xff\0\x02\0\0\0\0", b"\0\x0a\0\x28\x01/\0\0"],
        &[b"\0\x14\0\x0a\0"],
        &[b"\0\x32\0\x0a\0\0\x01q\x02\0\0\0\0", b"\0\x3c\0\x14\0\0\x01q\x01c\0\0\0\0\0"],
    ];
    socket.write_all(b"AMQP\0\0\x09\x01")?;
    let mut buf = [0; 4096];
    for (step, methods) in steps.into_iter().enumerate() {
        // Each step waits for the answer to the one before.
        let _ = socket.read(&mut buf)?;
        let channel = u16::from(step > 1);
        let mut out = Vec::new();
        for method in methods {
            frame(&mut out, 1, channel, method)?;
        }
        socket.write_all(&out)?;
    }
    let _ = socket.read(&mut buf)?;
    let mut out = Vec::new();
    frame(&mut out, 1, 1, b"\0\x3c\0\x28\0\0\0\x01q\0")?;
    frame(&mut out, 2, 1, b"\0\x3c\0\0\0\0\0\0\0\0\0\x05\0\0")?;
    frame(&mut out, 3, 1, b"hello")?;
    socket.write_all(&out)?;
    let mut read = Vec::new();
    while !read.ends_with(b"hello\xce") {
        match socket.read(&mut buf)? {
            0 => return Err("the broker has closed the connection".into()),
            len => read.extend_from_slice(buf.get(..len).unwrap_or_default()),
        }
    }
    Ok(start.elapsed())
}

fn frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: &[u8]) -> Result<(), std::num::TryFromIntError> {
    out.push(kind);
    out.extend(channel.to_be_bytes());
    out.extend(u32::try_from(payload.len())?.to_be_bytes());
    out.extend(payload);
    out.push(0xCE);
    Ok(())
}
