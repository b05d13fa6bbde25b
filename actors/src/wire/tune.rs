//! Agreeing on limits: channels, frame size, heartbeat.
//!
//! A 0 says "no limit" on either side, and the other side's limit holds then. It never means unlimited memory: the
//! client always has a ceiling for frames of its own.

use super::{
    frame::FRAME_MIN_SIZE,
    handshake::{HandshakeError, Negotiated, Terms},
    method::connection,
    table::Table,
};

/// Bounds the frames of a client that names none, that of RabbitMQ by default.
///
/// # Examples
/// ```
/// # use actix_pika_actors::wire::tune::FRAME_MAX;
/// assert_eq!(FRAME_MAX, 128 * 1024);
/// ```
pub const FRAME_MAX: u32 = 131_072;

/// RabbitMQ 4.1 and later refuse a `tune-ok` with less.
const FRAME_MIN_SIZE_4_1: u32 = 8192;

/// What follows from the client's terms and the server's `tune`.
pub(super) fn negotiate(
    terms: &Terms,
    tune: &connection::Tune,
    server_properties: Table,
) -> Result<Negotiated, HandshakeError> {
    if tune.frame_max != 0 && tune.frame_max < FRAME_MIN_SIZE {
        let text =
            format!("server allows frames of {} bytes, AMQP at least {FRAME_MIN_SIZE}", tune.frame_max);
        return Err(HandshakeError::Limit(text));
    }
    let ceiling = if terms.frame_max == 0 { FRAME_MAX } else { terms.frame_max };
    let frame_max = lower(ceiling.max(least_frame_max(&server_properties)), tune.frame_max);
    let channel_max = match lower(terms.channel_max.into(), tune.channel_max.into()) {
        0 => u16::MAX,
        channels => u16::try_from(channels).unwrap_or(u16::MAX),
    };
    let heartbeat = terms.heartbeat.map_or(tune.heartbeat, |ours| ours.min(tune.heartbeat));
    Ok(Negotiated { channel_max, frame_max, heartbeat, server_properties })
}

/// The lower of two limits of which 0 is none.
fn lower(ours: u32, theirs: u32) -> u32 {
    match (ours, theirs) {
        (0, limit) | (limit, 0) => limit,
        (ours, theirs) => ours.min(theirs),
    }
}

fn least_frame_max(server_properties: &Table) -> u32 {
    let text = |key| server_properties.get(key).and_then(|value| value.as_str());
    let mut version = text("version").unwrap_or_default().split('.').map(|part| part.parse().unwrap_or(0));
    let version: (u32, u32) = (version.next().unwrap_or(0), version.next().unwrap_or(0));
    if text("product") == Some("RabbitMQ") && version >= (4, 1) { FRAME_MIN_SIZE_4_1 } else { FRAME_MIN_SIZE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::handshake::Mechanism;

    fn tuned(
        ours: (u16, u32, Option<u16>),
        theirs: (u16, u32, u16),
    ) -> Result<(u16, u32, u16), HandshakeError> {
        on(ours, theirs, Table::new())
    }

    fn on(
        (channel_max, frame_max, heartbeat): (u16, u32, Option<u16>),
        theirs: (u16, u32, u16),
        server_properties: Table,
    ) -> Result<(u16, u32, u16), HandshakeError> {
        let terms = Terms {
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
        negotiate(&terms, &tune, server_properties)
            .map(|agreed| (agreed.channel_max, agreed.frame_max, agreed.heartbeat))
    }

    #[test]
    fn the_lower_limit_holds() {
        assert_eq!(tuned((100, 65_536, Some(10)), (2047, 131_072, 60)).unwrap(), (100, 65_536, 10));
        assert_eq!(tuned((3000, 262_144, None), (2047, 131_072, 60)).unwrap(), (2047, 131_072, 60));
    }

    #[test]
    fn no_limit_leaves_the_other_sides() {
        assert_eq!(tuned((0, 0, None), (2047, 0, 0)).unwrap(), (2047, FRAME_MAX, 0));
        assert_eq!(tuned((0, 0, Some(0)), (0, u32::MAX >> 1, 60)).unwrap(), (u16::MAX, FRAME_MAX, 0));
        assert_eq!(tuned((7, 8192, Some(5)), (0, 0, 0)).unwrap(), (7, 8192, 0));
    }

    /// PRO-05
    #[test]
    fn frames_have_a_least_size() {
        assert_eq!(tuned((0, 1, None), (0, 8192, 0)).unwrap().1, FRAME_MIN_SIZE);
        assert_eq!(tuned((0, 2048, None), (0, 0, 0)).unwrap().1, FRAME_MIN_SIZE);
        assert!(matches!(tuned((0, 0, None), (0, 1, 0)), Err(HandshakeError::Limit(_))));
        let rabbit = |version: &str| Table::new().with("product", "RabbitMQ").with("version", version);
        assert_eq!(on((0, 4096, None), (0, 131_072, 0), rabbit("4.1.0")).unwrap().1, 8192);
        assert_eq!(on((0, 4096, None), (0, 131_072, 0), rabbit("3.13.7")).unwrap().1, 4096);
    }
}
