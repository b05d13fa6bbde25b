//! A process that has no file descriptors left. It has this one test, as the limit is that of the process.

#![cfg(unix)]
#![allow(missing_docs)]

use std::{fs::File, net::TcpStream};

use actix_pika_broker::Broker;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The start tells it, wherever it comes to want one, and does not wait for ever later.
#[test]
fn a_start_without_file_descriptors_fails() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 64.min(hard), hard).unwrap();
    let mut taken: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let mut failed = 0;
    let broker = loop {
        match Broker::start() {
            Ok(broker) => break broker,
            Err(error) => assert!(error.to_string().starts_with("cannot "), "{error}"),
        }
        failed += 1;
        drop(taken.pop().expect("it starts with so many"));
    };
    assert!(failed > 2, "{failed}");
    // One for the client.
    drop(taken);
    TcpStream::connect(("127.0.0.1", broker.port())).unwrap();
    assert!(broker.queues().is_empty());
}
