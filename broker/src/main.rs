//! The test broker as a program.
//!
//! `actix-pika-broker --port 5672 --line 4.3`; port 0 is a free one. It prints its URL and a line when it is ready, and
//! ends on SIGTERM or SIGINT.

use std::{io::Write, process::ExitCode};

use actix_pika_broker::{Broker, Line};

const USAGE: &str = "usage: actix-pika-broker [--port PORT] [--line 3.10|3.13|4.0|4.3]";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            let _ = writeln!(std::io::stderr(), "{text}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let mut builder = Broker::builder().port(5672);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value\n{USAGE}"));
        match argument.as_str() {
            "--port" => {
                let port = value()?;
                builder = builder.port(port.parse().map_err(|_| format!("'{port}' is no port"))?);
            }
            "--line" => {
                let line = value()?;
                builder =
                    builder.line(line_of(&line).ok_or_else(|| format!("'{line}' is no line\n{USAGE}"))?);
            }
            "--help" => return print(USAGE),
            _ => return Err(format!("'{argument}' is unknown\n{USAGE}")),
        }
    }
    let runtime = actix_rt::System::new();
    runtime.block_on(async {
        // Before the URL is printed: whoever reads it may end the broker.
        let ended = Ended::listen().map_err(|error| format!("cannot listen to signals: {error}"))?;
        let broker = builder.start().map_err(|error| error.to_string())?;
        print(&broker.url())?;
        print(&format!(
            "a test broker that answers as RabbitMQ {} is ready; it keeps all in memory",
            broker.line().version()
        ))?;
        ended.wait().await;
        Ok(())
    })
}

fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| format!("cannot write: {error}"))
}

fn line_of(name: &str) -> Option<Line> {
    match name {
        "3.10" => Some(Line::V3_10),
        "3.13" => Some(Line::V3_13),
        "4.0" => Some(Line::V4_0),
        "4.3" => Some(Line::V4_3),
        _ => None,
    }
}

/// The signals that end the program.
struct Ended {
    #[cfg(unix)]
    terminated: tokio::signal::unix::Signal,
}

impl Ended {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminated: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?,
        })
    }

    #[cfg(unix)]
    async fn wait(mut self) {
        tokio::select! {
            _ = self.terminated.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }

    #[cfg(not(unix))]
    async fn wait(self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
