//! The broker as a program: what it prints, and how it ends.

#![cfg(unix)]
#![allow(missing_docs)]

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::ffi::OsStrExt,
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_actix-pika-broker"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A program that runs; a test that fails kills it.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child = program().args(arguments).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Sends a signal, and returns the exit code.
    fn end_by(mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn failed(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(stdout.is_empty());
    (status.code(), String::from_utf8(stderr).unwrap().lines().next().unwrap_or_default().to_owned())
}

/// The first octets of the answer to the header of AMQP.
fn greet(url: &str) -> [u8; 3] {
    let address = url.strip_prefix("amqp://guest:guest@").unwrap().strip_suffix("/%2f").unwrap();
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.write_all(b"AMQP\0\0\x09\x01").unwrap();
    let mut answer = [0; 3];
    socket.read_exact(&mut answer).unwrap();
    answer
}

#[test]
fn the_url_is_the_first_line_and_what_ends_it_may_come_at_once() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut program = Running::start(&["--port", "0", "--line", "4.0"]);
        let url = program.line();
        assert_eq!(greet(&url), [1, 0, 0]);
        assert_eq!(program.end_by(signal), Some(0));
    }
}

#[test]
fn it_says_when_it_is_ready_and_as_what_it_answers() {
    let mut program = Running::start(&["--port", "0", "--line", "3.10", "--address", "0.0.0.0"]);
    assert!(program.line().starts_with("amqp://guest:guest@0.0.0.0:"));
    let ready = "a test broker that answers as RabbitMQ 3.10.8 is ready; it keeps all in memory";
    assert_eq!(program.line(), ready);
    assert_eq!(program.end_by(Signal::SIGTERM), Some(0));
}

#[test]
fn what_is_wrong_goes_to_stderr_with_the_code_2() {
    assert_eq!(failed(program().arg("--prot")), (Some(2), "'--prot' is unknown".to_owned()));
    let odd = failed(program().arg(OsStr::from_bytes(b"\xff")));
    assert_eq!(odd, (Some(2), "'\u{fffd}' is unknown".to_owned()));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (code, told) = failed(program().args(["--port", &port]));
    assert_eq!(code, Some(2));
    assert!(told.starts_with(&format!("cannot listen on 127.0.0.1:{port}: ")), "{told}");
}

#[test]
fn help_and_version_go_to_stdout() {
    let Output { status, stdout, .. } = program().arg("--help").output().unwrap();
    assert!(status.success() && stdout.starts_with(b"usage: actix-pika-broker "));
    let Output { status, stdout, .. } = program().arg("--version").output().unwrap();
    let version = concat!("actix-pika-broker ", env!("CARGO_PKG_VERSION"), "\n");
    assert!(status.success() && stdout == version.as_bytes());
}

#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc")))]
#[test]
fn without_the_feature_there_is_no_tls() {
    let text = "this program was built without TLS: build it with --features tls-ring";
    assert_eq!(failed(program().args(["--port", "0", "--tls-port", "0"])), (Some(2), text.to_owned()));
}

#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
mod with_tls {
    use std::{fs, path::PathBuf};

    use super::*;

    /// A folder of its own for each test.
    fn folder(name: &str) -> PathBuf {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn tls(program: &mut Running) -> String {
        assert_eq!(greet(&program.line()), [1, 0, 0]);
        let url = program.line();
        assert!(program.line().starts_with("a test broker that answers as RabbitMQ 4.3.6 is ready"));
        url
    }

    #[test]
    fn the_second_line_is_the_url_of_tls_and_the_authority_is_written() {
        let ca = folder("written").join("ca.pem");
        let mut program =
            Running::start(&["--port", "0", "--tls-port", "0", "--tls-write-ca", ca.to_str().unwrap()]);
        assert!(tls(&mut program).starts_with("amqps://guest:guest@127.0.0.1:"));
        let pem = fs::read_to_string(&ca).unwrap();
        assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
        assert_eq!(program.end_by(Signal::SIGINT), Some(0));
    }

    #[test]
    fn a_handshake_that_fails_is_told_on_stderr() {
        let mut program = Running::start(&["--port", "0", "--tls-port", "0"]);
        let url = tls(&mut program);
        let address = url.strip_prefix("amqps://guest:guest@").unwrap().strip_suffix("/%2f").unwrap();
        // As a client without TLS.
        TcpStream::connect(address).unwrap().write_all(b"AMQP\0\0\x09\x01").unwrap();
        let mut told = String::new();
        BufReader::new(program.child.stderr.take().unwrap()).read_line(&mut told).unwrap();
        assert!(told.starts_with("info: a handshake of TLS failed: "), "{told}");
        assert_eq!(program.end_by(Signal::SIGINT), Some(0));
    }

    #[test]
    fn certificates_are_read_from_files() {
        // One authority that signs itself stands for all: that of a broker, and a certificate that it made.
        let maker = actix_pika_broker::Broker::builder().tls_client_certificates().start().unwrap();
        let made = maker.client_certificate();
        let folder = folder("read");
        let [certificate, key, ca] = [
            ("certificate.pem", made.certificate_pem().to_owned()),
            ("key.pem", made.key_pem().to_owned()),
            ("ca.pem", maker.ca_pem()),
        ]
        .map(|(name, text)| {
            let path = folder.join(name);
            fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        });
        let files = ["--tls-certificate", &certificate, "--tls-key", &key, "--tls-client-ca", &ca];
        let arguments = [&["--port", "0", "--tls-port", "0"][..], &files].concat();
        let mut program = Running::start(&arguments);
        assert!(tls(&mut program).starts_with("amqps://"));
        assert_eq!(program.end_by(Signal::SIGTERM), Some(0));

        let swapped = ["--port", "0", "--tls-port", "0", "--tls-certificate", &key, "--tls-key", &key];
        let (code, told) = failed(super::program().args(swapped));
        let text = "cannot use what Builder::tls_identity was given: no certificate in PEM";
        assert_eq!((code, &*told), (Some(2), text));
        let missing = folder.join("none.pem");
        let (code, told) = failed(super::program().arg("--tls-client-ca").arg(&missing));
        assert_eq!(code, Some(2));
        assert!(told.starts_with(&format!("cannot read {}: ", missing.display())), "{told}");
    }
}
