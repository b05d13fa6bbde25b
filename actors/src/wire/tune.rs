//! Negotiation of limits: channels, frame size, heartbeat.
//!
//! A limit of 0 means that a side has no limit, so the limit of the other side applies. The frame size always
//! has a limit, because the client never accepts frames of any size.

use super::{
    frame::FRAME_MIN_SIZE, handshake_error::HandshakeError, handshake_options::HandshakeOptions,
    method::connection, table::Table, value::Value,
};
use crate::broker_rules::BrokerRules;

/// The largest frame in bytes if neither side sets a limit. This is the default of RabbitMQ.
pub const FRAME_MAX: u32 = 131_072;

/// The limits that both sides agreed on.
///
/// The lower of two limits applies; 0 means that a side has no limit. RabbitMQ 4.1 and later require a
/// `frame_max` of at least 8,192 bytes.
///
/// **Over a reconnect**: the limits are negotiated again.
///
/// Source: AMQP 0-9-1 section 1.4.2.5 (`connection.tune`); section 1.4.2.6 (`connection.tune-ok`);
/// <https://www.rabbitmq.com/docs/configure>
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Negotiated {
    /// The highest channel number, never 0.
    pub channel_max: u16,
    /// The largest frame in bytes, never 0.
    pub frame_max: u32,
    /// Seconds between heartbeats, 0 for no heartbeats.
    pub heartbeat: u16,
    /// The properties that the server sent in `connection.start`.
    pub server_properties: Table,
}

impl Negotiated {
    /// Returns the rules of the server's version, if it is a RabbitMQ.
    pub fn rules(&self) -> Option<BrokerRules> {
        rules(&self.server_properties)
    }
}

/// Combines the options of the client with the `tune` of the server.
pub(super) fn negotiate(
    options: &HandshakeOptions,
    tune: &connection::Tune,
    server_properties: Table,
) -> Result<Negotiated, HandshakeError> {
    let rules = rules(&server_properties);
    let least = rules.map_or(FRAME_MIN_SIZE, |rules| rules.least_frame_max);
    if tune.frame_max != 0 && tune.frame_max < least {
        // RabbitMQ would reset the connection after three seconds.
        let who = match rules {
            Some(BrokerRules { version: (major, minor, _), .. }) => format!("RabbitMQ {major}.{minor}"),
            None => "AMQP".into(),
        };
        let text = format!(
            "frame_max of the server is {} bytes, which is less than the {least} that {who} requires",
            tune.frame_max
        );
        return Err(HandshakeError::Limit(text));
    }
    let ceiling = if options.frame_max == 0 { FRAME_MAX } else { options.frame_max };
    let frame_max = lower(ceiling.max(least), tune.frame_max);
    let channel_max = match lower(options.channel_max.into(), tune.channel_max.into()) {
        0 => u16::MAX,
        channels => u16::try_from(channels).unwrap_or(u16::MAX),
    };
    let heartbeat = options.heartbeat.map_or(tune.heartbeat, |ours| ours.min(tune.heartbeat));
    Ok(Negotiated { channel_max, frame_max, heartbeat, server_properties })
}

/// Returns the lower of two limits, where 0 is no limit.
fn lower(ours: u32, theirs: u32) -> u32 {
    match (ours, theirs) {
        (0, limit) | (limit, 0) => limit,
        (ours, theirs) => ours.min(theirs),
    }
}

fn rules(server_properties: &Table) -> Option<BrokerRules> {
    let text = |key| server_properties.get(key).and_then(Value::as_str);
    BrokerRules::of(text("product")?, text("version")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::mechanism::Mechanism;

    fn negotiated(
        ours: (u16, u32, Option<u16>),
        theirs: (u16, u32, u16),
    ) -> Result<(u16, u32, u16), HandshakeError> {
        negotiated_with(ours, theirs, Table::new())
    }

    fn negotiated_with(
        (channel_max, frame_max, heartbeat): (u16, u32, Option<u16>),
        theirs: (u16, u32, u16),
        server_properties: Table,
    ) -> Result<(u16, u32, u16), HandshakeError> {
        let options = HandshakeOptions {
            mechanisms: vec![Mechanism::Plain],
            user: String::new(),
            password: "".into(),
            vhost: String::new(),
            locale: String::new(),
            channel_max,
            frame_max,
            heartbeat,
            client_properties: Table::new(),
        };
        let tune = connection::Tune { channel_max: theirs.0, frame_max: theirs.1, heartbeat: theirs.2 };
        negotiate(&options, &tune, server_properties)
            .map(|limits| (limits.channel_max, limits.frame_max, limits.heartbeat))
    }

    #[test]
    fn the_lower_limit_applies() {
        assert_eq!(negotiated((100, 65_536, Some(10)), (2047, 131_072, 60)).unwrap(), (100, 65_536, 10));
        assert_eq!(negotiated((3000, 262_144, None), (2047, 131_072, 60)).unwrap(), (2047, 131_072, 60));
    }

    #[test]
    fn without_a_limit_the_other_side_decides() {
        assert_eq!(negotiated((0, 0, None), (2047, 0, 0)).unwrap(), (2047, FRAME_MAX, 0));
        assert_eq!(negotiated((0, 0, Some(0)), (0, u32::MAX >> 1, 60)).unwrap(), (u16::MAX, FRAME_MAX, 0));
        assert_eq!(negotiated((7, 8192, Some(5)), (0, 0, 0)).unwrap(), (7, 8192, 0));
    }

    /// PRO-05
    #[test]
    fn frame_max_has_a_minimum() {
        assert_eq!(negotiated((0, 1, None), (0, 8192, 0)).unwrap().1, FRAME_MIN_SIZE);
        assert_eq!(negotiated((0, 2048, None), (0, 0, 0)).unwrap().1, FRAME_MIN_SIZE);
        assert!(matches!(negotiated((0, 0, None), (0, 1, 0)), Err(HandshakeError::Limit(_))));
        let rabbit = |version: &str| Table::new().with("product", "RabbitMQ").with("version", version);
        assert_eq!(negotiated_with((0, 4096, None), (0, 131_072, 0), rabbit("4.1.0")).unwrap().1, 8192);
        assert_eq!(negotiated_with((0, 4096, None), (0, 131_072, 0), rabbit("3.13.7")).unwrap().1, 4096);
        // Configured with less than it accepts.
        let error = negotiated_with((0, 0, None), (0, 4096, 0), rabbit("4.3.6")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "frame_max of the server is 4096 bytes, which is less than the 8192 that RabbitMQ 4.3 requires"
        );
    }
}
