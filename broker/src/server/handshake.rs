//! The handshake from the broker's side: what it offers, and who may log in.

use actix_pika_actors::{
    Table, Value,
    wire::{
        field::decode_table,
        field_table::{from_field_table, to_field_table},
        method::{AMQPClass, connection},
    },
};
use zeroize::Zeroizing;

use crate::core::{Close, Core, CoreConfig, Line};

/// What RabbitMQ offers.
pub(super) const CHANNEL_MAX: u16 = 2047;
pub(super) const HEARTBEAT: u16 = 60;

const CAPABILITIES: [&str; 9] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
];

/// What a client has said of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Client {
    pub(super) user: String,
    pub(super) name: Option<String>,
    pub(super) cancel_notify: bool,
    pub(super) blocked: bool,
}

/// Why a client is not let in.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It is told.
    Told(Close),
    /// It did not say that it understands a close here.
    Silent,
}

/// The limits of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) channel_max: u16,
    pub(super) frame_max: u32,
    pub(super) heartbeat: u16,
}

/// Returns `connection.start`.
pub(super) fn start(line: Line) -> AMQPClass {
    let mut capabilities = Table::new();
    for capability in CAPABILITIES {
        capabilities.insert(capability, true);
    }
    let properties = Table::new()
        .with("capabilities", Value::Table(capabilities))
        .with("cluster_name", "actix-pika-broker@localhost")
        .with("copyright", "actix-pika")
        .with("information", "A broker to test with, in one process and in memory. It is not RabbitMQ.")
        .with("platform", "Rust")
        // Clients look at it to know what they may do.
        .with("product", "RabbitMQ")
        .with("version", line.version());
    AMQPClass::Connection(connection::AMQPMethod::Start(connection::Start {
        version_major: 0,
        version_minor: 9,
        server_properties: to_field_table(&properties).unwrap_or_default(),
        mechanisms: line.rules().mechanisms.into(),
        locales: "en_US".into(),
    }))
}

/// Returns `connection.tune`.
pub(super) fn tune(frame_max: u32) -> AMQPClass {
    AMQPClass::Connection(connection::AMQPMethod::Tune(connection::Tune {
        channel_max: CHANNEL_MAX,
        frame_max,
        heartbeat: HEARTBEAT,
    }))
}

/// Checks a login.
pub(super) fn log_in(core: &Core, start_ok: &connection::StartOk) -> Result<Client, Refusal> {
    let properties = from_field_table(&start_ok.client_properties);
    let has = |capability: &str| match properties.get("capabilities") {
        Some(Value::Table(table)) => table.get(capability).and_then(Value::as_bool).unwrap_or(false),
        _ => false,
    };
    let mechanism = start_ok.mechanism.as_str();
    let response = start_ok.response.as_bytes();
    let credentials = match mechanism {
        "PLAIN" => read_plain(response),
        "AMQPLAIN" => read_amqplain(response),
        // RabbitMQ does not tell.
        _ => return Err(Refusal::Silent),
    };
    match credentials {
        Some((user, password)) if core.authenticate(&user, &password) => Ok(Client {
            user,
            name: properties.get("connection_name").and_then(Value::as_str).map(str::to_owned),
            cancel_notify: has("consumer_cancel_notify"),
            blocked: has("connection.blocked"),
        }),
        Some(_) if has("authentication_failure_close") => {
            let text = format!(
                "Login was refused using authentication mechanism {mechanism}. For details see the broker logfile."
            );
            Err(Refusal::Told(Close::new(403, text)))
        }
        _ => Err(Refusal::Silent),
    }
}

/// Reads `tune-ok`. A limit that RabbitMQ does not accept is None.
pub(super) fn tuned(config: &CoreConfig, tune_ok: &connection::TuneOk) -> Option<Limits> {
    let frames = config.line.rules().frame_min..=config.frame_max;
    let channels = 1..=CHANNEL_MAX;
    (frames.contains(&tune_ok.frame_max) && channels.contains(&tune_ok.channel_max)).then_some(Limits {
        channel_max: tune_ok.channel_max,
        frame_max: tune_ok.frame_max,
        heartbeat: tune_ok.heartbeat,
    })
}

/// Returns `connection.close`.
pub(super) fn close_method(close: &Close) -> AMQPClass {
    AMQPClass::Connection(connection::AMQPMethod::Close(connection::Close {
        reply_code: close.code,
        reply_text: close.reply_text(),
        class_id: close.class_id,
        method_id: close.method_id,
    }))
}

type Login = (String, Zeroizing<String>);

fn read_plain(response: &[u8]) -> Option<Login> {
    let rest = response.strip_prefix(b"\0")?;
    let end = rest.iter().position(|&octet| octet == 0)?;
    let (user, password) = rest.split_at(end);
    Some((text(user)?, Zeroizing::new(text(password.get(1..)?)?)))
}

fn read_amqplain(response: &[u8]) -> Option<Login> {
    // The response is a table without its length.
    let mut bytes = u32::try_from(response.len()).ok()?.to_be_bytes().to_vec();
    bytes.extend_from_slice(response);
    let (table, _) = decode_table(&bytes).ok()?;
    let field = |name: &str| table.get(name).and_then(Value::as_str).map(str::to_owned);
    Some((field("LOGIN")?, Zeroizing::new(field("PASSWORD")?)))
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use actix_pika_actors::wire::field::encode_table;
    use bytes::BytesMut;

    use super::*;

    fn start_ok(mechanism: &str, response: &[u8], told: bool) -> connection::StartOk {
        let capabilities = Table::new().with("authentication_failure_close", told);
        let properties =
            Table::new().with("capabilities", Value::Table(capabilities)).with("connection_name", "mine");
        connection::StartOk {
            client_properties: to_field_table(&properties).unwrap(),
            mechanism: mechanism.into(),
            response: response.into(),
            locale: "en_US".into(),
        }
    }

    /// AUTH-01
    #[test]
    fn a_login_by_plain_and_by_amqplain() {
        let core = Core::new(CoreConfig::default());
        let mut table = BytesMut::new();
        encode_table(&mut table, &Table::new().with("LOGIN", "guest").with("PASSWORD", "guest")).unwrap();
        for (mechanism, response) in [("PLAIN", &b"\0guest\0guest"[..]), ("AMQPLAIN", &table[4..])] {
            let client = log_in(&core, &start_ok(mechanism, response, true)).unwrap();
            assert_eq!((&*client.user, client.name.as_deref()), ("guest", Some("mine")), "{mechanism}");
        }
    }

    #[test]
    fn a_wrong_login_is_told_to_who_understands_it() {
        let core = Core::new(CoreConfig::default());
        let wrong = |told| log_in(&core, &start_ok("PLAIN", b"\0guest\0no", told)).unwrap_err();
        let Refusal::Told(close) = wrong(true) else { panic!() };
        let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the \
                    broker logfile.";
        assert_eq!(close.to_string(), text);
        assert!(matches!(wrong(false), Refusal::Silent));
        for response in [&b""[..], b"guest", b"\0guest", b"\0\xff\0guest"] {
            let refused = log_in(&core, &start_ok("PLAIN", response, true)).unwrap_err();
            assert!(matches!(refused, Refusal::Silent));
        }
        let external = log_in(&core, &start_ok("EXTERNAL", b"", true)).unwrap_err();
        assert!(matches!(external, Refusal::Silent));
    }

    /// broker.md 15
    #[test]
    fn limits_outside_those_of_rabbitmq_are_refused() {
        let tuned = |line, channel_max, frame_max| {
            let config = CoreConfig { line, ..CoreConfig::default() };
            tuned(&config, &connection::TuneOk { channel_max, frame_max, heartbeat: 7 })
                .map(|limits| limits.heartbeat)
        };
        for line in [Line::V3_10, Line::V4_0, Line::V4_3] {
            for (channels, frames) in [(0, 131_072), (2048, 131_072), (1, 0), (1, 131_073), (1, 4095)] {
                assert_eq!(tuned(line, channels, frames), None, "{line:?} {channels} {frames}");
            }
            assert_eq!(tuned(line, 2047, 131_072), Some(7));
            assert_eq!(tuned(line, 1, 4096), (line != Line::V4_3).then_some(7));
        }
    }
}
