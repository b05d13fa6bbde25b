//! The test broker as a program.
//!
//! `actix-pika-broker --port 5672 --line 4.3`; `--help` tells all options. Those of TLS need the feature `tls-ring` or
//! `tls-aws-lc`. It prints its amqp URL, with TLS its amqps URL, and a line when it is ready, and ends on SIGTERM or SIGINT.

mod logging;
mod options;
mod signals;

use std::{io::Write, process::ExitCode};

use actix_pika_broker::{Broker, Builder};

use self::{
    options::{Asked, Options, Tls, USAGE, parse},
    signals::Signals,
};

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
    match parse(std::env::args_os().skip(1))? {
        Asked::Help => print(USAGE),
        Asked::Version => print(concat!("actix-pika-broker ", env!("CARGO_PKG_VERSION"))),
        Asked::Run(options) => serve(options),
    }
}

fn serve(Options { address, port, line, tls }: Options) -> Result<(), String> {
    logging::start();
    actix_rt::System::new().block_on(async {
        // Before the URL is printed: whoever reads it may end the broker.
        let signals = Signals::listen().map_err(|error| format!("cannot listen to signals: {error}"))?;
        let builder = Broker::builder().address(address).port(port).line(line);
        let broker = match &tls {
            None => start(builder)?,
            Some(tls) => start_with_tls(builder, tls)?,
        };
        print(&broker.url())?;
        #[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
        if tls.is_some() {
            print(&broker.tls_url())?;
        }
        let version = broker.line().version();
        print(&format!("a test broker that answers as RabbitMQ {version} is ready; it keeps all in memory"))?;
        tokio::select! {
            () = signals.wait() => Ok(()),
            broken = broker.broken() => Err(broken),
        }
    })
}

fn start(builder: Builder) -> Result<Broker, String> {
    builder.start().map_err(|error| error.to_string())
}

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
fn start_with_tls(builder: Builder, tls: &Tls) -> Result<Broker, String> {
    use std::{fs, path::Path};

    use self::options::Shown;

    let read =
        |path: &Path| fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
    let mut builder = builder.tls_port(tls.port);
    if let Some(authorities) = &tls.client_ca {
        builder = builder.tls_client_authority(read(authorities)?);
    }
    match &tls.shown {
        Shown::Files { certificate, key } => start(builder.tls_identity(read(certificate)?, read(key)?)),
        Shown::Made { write_ca } => {
            let broker = start(builder)?;
            if let Some(path) = write_ca {
                fs::write(path, broker.ca_pem())
                    .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
            }
            Ok(broker)
        }
    }
}

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc")))]
fn start_with_tls(_: Builder, _: &Tls) -> Result<Broker, String> {
    Err("this program was built without TLS: build it with --features tls-ring".into())
}

fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| format!("cannot write: {error}"))
}
