//! How fast the test broker is: its start, its core, and its process under a client over a socket.
//!
//! ```text
//! cargo run --release -p actix-pika-broker --example speed
//! cargo run --release -p actix-pika-broker --example speed -- 5672 PID     # another broker, for comparison (Linux)
//! ```

#![allow(clippy::print_stdout, missing_docs)]

use std::{
    io::{self, BufRead, BufReader, Read as _},
    process::{Command, Stdio},
};

use actix_pika_broker::Broker;

mod client;
mod core;
mod sockets;
mod start;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            start::measure()?;
            core::measure();
            with_child(sockets::measure)
        }
        ["serve"] => serve(),
        [port, process] => sockets::measure(port.parse()?, process.parse()?),
        _ => Err("usage: speed [PORT PROCESS-ID]".into()),
    }
}

/// Runs a broker until the standard input ends.
fn serve() -> Result<()> {
    let broker = Broker::start()?;
    println!("{}", broker.port());
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Calls `measure` with the port and the id of a process that is only a broker.
fn with_child(measure: fn(u16, u32) -> Result<()>) -> Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut port = String::new();
    let mut output = BufReader::new(child.stdout.take().ok_or("the broker has no output")?);
    output.read_line(&mut port)?;
    let measured = measure(port.trim().parse()?, child.id());
    drop(child.stdin.take());
    child.wait()?;
    measured
}
