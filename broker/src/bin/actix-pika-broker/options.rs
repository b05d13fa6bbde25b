//! What the program is asked for.

use std::{ffi::OsString, net::IpAddr, path::PathBuf, str::FromStr};

use actix_pika_broker::Line;

pub(crate) const USAGE: &str = "\
usage: actix-pika-broker [OPTION VALUE]...

  --address ADDRESS       the address to listen on; 127.0.0.1 unless set. Anybody who reaches it may log in as guest
  --port PORT             the port of AMQP; 5672 unless set, 0 for a free one
  --line LINE             the line of RabbitMQ that it answers as: 3.10, 3.13, 4.0 or 4.3, which it is unless set
  --tls-port PORT         the port for TLS; 5671 unless set, 0 for a free one. Each of these options turns TLS on, with
                          a certificate that is made on the spot for localhost and the address
  --tls-certificate FILE  the chain of certificates to show instead, in PEM
  --tls-key FILE          the key of the first of them, in PEM
  --tls-client-ca FILE    clients have to show a certificate of one of these authorities, in PEM
  --tls-write-ca FILE     writes the authority of the certificate that is made, in PEM, for clients to trust
  --help, --version

It prints its amqp URL, with TLS then its amqps URL, and a line when it is ready. SIGTERM and SIGINT end it.";

/// What there is to do.
#[derive(Debug, PartialEq)]
pub(crate) enum Asked {
    Help,
    Version,
    Run(Options),
}

#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) line: Line,
    pub(crate) tls: Option<Tls>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Tls {
    pub(crate) port: u16,
    pub(crate) shown: Shown,
    /// The authorities of clients, if they have to show a certificate.
    pub(crate) client_ca: Option<PathBuf>,
}

/// The certificate that clients see.
#[derive(Debug, PartialEq)]
pub(crate) enum Shown {
    /// Made on the spot. Its authority is written here.
    Made {
        write_ca: Option<PathBuf>,
    },
    Files {
        certificate: PathBuf,
        key: PathBuf,
    },
}

/// Reads the arguments, without the name of the program.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Asked, String> {
    let mut options =
        Options { address: IpAddr::from([127, 0, 0, 1]), port: 5672, line: Line::default(), tls: None };
    let (mut tls_port, mut certificate, mut key, mut client_ca, mut write_ca) =
        (None, None, None, None, None);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        // One that is no text is none of these.
        let argument = argument.to_string_lossy();
        let mut value = || arguments.next().ok_or_else(|| wrong(&format!("{argument} needs a value")));
        match &*argument {
            "--help" => return Ok(Asked::Help),
            "--version" => return Ok(Asked::Version),
            "--address" => options.address = read(value()?, "address")?,
            "--port" => options.port = read(value()?, "port")?,
            "--line" => options.line = line(value()?)?,
            "--tls-port" => tls_port = Some(read(value()?, "port")?),
            "--tls-certificate" => certificate = Some(value()?.into()),
            "--tls-key" => key = Some(value()?.into()),
            "--tls-client-ca" => client_ca = Some(value()?.into()),
            "--tls-write-ca" => write_ca = Some(value()?.into()),
            _ => return Err(wrong(&format!("'{argument}' is unknown"))),
        }
    }
    let shown = match (certificate, key, write_ca) {
        (None, None, None) if tls_port.is_none() && client_ca.is_none() => return Ok(Asked::Run(options)),
        (None, None, write_ca) => Shown::Made { write_ca },
        (Some(certificate), Some(key), None) => Shown::Files { certificate, key },
        (Some(_), Some(_), Some(_)) => {
            return Err(wrong("--tls-write-ca writes an authority that is made: not with --tls-certificate"));
        }
        _ => return Err(wrong("--tls-certificate and --tls-key go together")),
    };
    options.tls = Some(Tls { port: tls_port.unwrap_or(5671), shown, client_ca });
    Ok(Asked::Run(options))
}

fn read<T: FromStr>(value: OsString, what: &str) -> Result<T, String> {
    let text = value.to_string_lossy();
    text.parse().map_err(|_| wrong(&format!("'{text}' is no {what}")))
}

fn line(value: OsString) -> Result<Line, String> {
    match value.to_str() {
        Some("3.10") => Ok(Line::V3_10),
        Some("3.13") => Ok(Line::V3_13),
        Some("4.0") => Ok(Line::V4_0),
        Some("4.3") => Ok(Line::V4_3),
        _ => Err(wrong(&format!("'{}' is no line", value.to_string_lossy()))),
    }
}

fn wrong(what: &str) -> String {
    format!("{what}\n{USAGE}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Options {
        match parse(arguments.iter().map(OsString::from)) {
            Ok(Asked::Run(options)) => options,
            other => panic!("{other:?}"),
        }
    }

    /// The first line of an error.
    fn error(arguments: &[&str]) -> String {
        let error = parse(arguments.iter().map(OsString::from)).unwrap_err();
        assert!(error.ends_with(USAGE));
        error.lines().next().unwrap().to_owned()
    }

    #[test]
    fn without_arguments_it_is_the_usual_broker() {
        let usual = Options { address: [127, 0, 0, 1].into(), port: 5672, line: Line::V4_3, tls: None };
        assert_eq!(options(&[]), usual);
    }

    #[test]
    fn it_listens_where_it_is_told_to() {
        let asked = options(&["--address", "::", "--port", "0", "--line", "3.10"]);
        let there = Options { address: [0u16; 8].into(), port: 0, line: Line::V3_10, tls: None };
        assert_eq!(asked, there);
        let lines = ["3.10", "3.13", "4.0", "4.3"].map(|line| options(&["--line", line]).line);
        assert_eq!(lines, [Line::V3_10, Line::V3_13, Line::V4_0, Line::V4_3]);
    }

    #[test]
    fn each_option_of_tls_turns_it_on() {
        let made = |write_ca| Shown::Made { write_ca };
        let of = |arguments: &[&str]| options(arguments).tls.unwrap();
        assert_eq!(of(&["--tls-port", "0"]), Tls { port: 0, shown: made(None), client_ca: None });
        let written = Some("ca.pem".into());
        assert_eq!(
            of(&["--tls-write-ca", "ca.pem"]),
            Tls { port: 5671, shown: made(written), client_ca: None }
        );
        let client_ca = Some("clients.pem".into());
        assert_eq!(of(&["--tls-client-ca", "clients.pem"]), Tls { port: 5671, shown: made(None), client_ca });
        let files = Shown::Files { certificate: "c.pem".into(), key: "k.pem".into() };
        assert_eq!(
            of(&["--tls-key", "k.pem", "--tls-certificate", "c.pem", "--tls-port", "1"]),
            Tls { port: 1, shown: files, client_ca: None }
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(error(&["--prot", "1"]), "'--prot' is unknown");
        assert_eq!(error(&["--port"]), "--port needs a value");
        assert_eq!(error(&["--port", "65536"]), "'65536' is no port");
        assert_eq!(error(&["--tls-port", "-1"]), "'-1' is no port");
        assert_eq!(error(&["--address", "localhost"]), "'localhost' is no address");
        assert_eq!(error(&["--line", "4.1"]), "'4.1' is no line");
        assert_eq!(error(&["--tls-certificate", "c"]), "--tls-certificate and --tls-key go together");
        assert_eq!(
            error(&["--tls-key", "k", "--tls-write-ca", "f"]),
            "--tls-certificate and --tls-key go together"
        );
        assert_eq!(
            error(&["--tls-key", "k", "--tls-certificate", "c", "--tls-write-ca", "f"]),
            "--tls-write-ca writes an authority that is made: not with --tls-certificate"
        );
    }

    #[test]
    fn help_and_version_are_answered_whatever_follows() {
        let of = |arguments: [&str; 2]| parse(arguments.map(OsString::from));
        assert_eq!(of(["--help", "--prot"]), Ok(Asked::Help));
        assert_eq!(of(["--version", "--prot"]), Ok(Asked::Version));
    }

    /// A file may have any name, an option may not.
    #[cfg(unix)]
    #[test]
    fn arguments_need_not_be_texts() {
        use std::os::unix::ffi::OsStringExt;

        let odd = || OsString::from_vec(vec![b'a', 0xff]);
        assert!(parse([odd()]).unwrap_err().starts_with("'a\u{fffd}' is unknown\n"));
        assert!(parse(["--port".into(), odd()]).unwrap_err().starts_with("'a\u{fffd}' is no port\n"));
        assert!(parse(["--line".into(), odd()]).unwrap_err().starts_with("'a\u{fffd}' is no line\n"));
        let Ok(Asked::Run(Options { tls: Some(tls), .. })) = parse(["--tls-write-ca".into(), odd()]) else {
            panic!("it is refused")
        };
        assert_eq!(tls.shown, Shown::Made { write_ca: Some(odd().into()) });
    }
}
