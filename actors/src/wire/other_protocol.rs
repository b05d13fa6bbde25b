//! Detects a peer that is not an AMQP 0-9-1 server: another version of AMQP, HTTP, TLS, anything else.
//!
//! A server that does not accept the client's protocol header sends its own and closes the socket.

use super::{fault::Fault, frame::FrameKind};

/// Checks the first bytes of a connection and returns a [`Fault`] if the peer does not use AMQP 0-9-1.
///
/// Returns `None` if the bytes may be AMQP 0-9-1, or if more bytes are needed to decide.
pub fn other_protocol_detected(buf: &[u8]) -> Option<Fault> {
    let first = *buf.first()?;
    if FrameKind::of(first).is_some() {
        return None;
    }
    if buf.starts_with(b"AMQP") {
        return match buf.get(4..8)? {
            [0, 0, 9, 1] => Some(Fault::frame("peer refused our protocol header and asks for AMQP 0-9-1")),
            [id, major, minor, revision] => Some(Fault::frame(format!(
                "peer asks for another protocol version: AMQP {id}-{major}-{minor}-{revision}"
            ))),
            _ => None,
        };
    }
    if b"AMQP".starts_with(buf) {
        return None;
    }
    if tls_detected(buf) {
        return Some(Fault::frame("peer uses TLS on this port"));
    }
    let excerpt: String = buf
        .iter()
        .take(16)
        .map(|&octet| if octet.is_ascii_graphic() || octet == b' ' { char::from(octet) } else { '.' })
        .collect();
    Some(Fault::frame(format!("peer does not use AMQP, its first bytes are \"{excerpt}\"")))
}

/// Returns whether the first bytes of a connection are a record of TLS: an alert, or a handshake.
pub fn tls_detected(buf: &[u8]) -> bool {
    matches!(buf, [0x15 | 0x16] | [0x15 | 0x16, 0x03, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_protocols_are_detected() {
        assert_eq!(other_protocol_detected(b""), None);
        assert_eq!(other_protocol_detected(b"\x01\0\0\0\0\0\0\xce"), None);
        assert_eq!(other_protocol_detected(b"AM"), None);
        assert_eq!(other_protocol_detected(b"AMQP\0\x01"), None);
        let text = |bytes: &[u8]| other_protocol_detected(bytes).unwrap().text.into_owned();
        assert!(text(b"AMQP\0\x01\0\0").ends_with("AMQP 0-1-0-0"));
        assert!(text(b"AMQP\0\0\x09\x01").contains("0-9-1"));
        assert!(text(b"HTTP/1.1 400 Bad Request\r\n").contains("\"HTTP/1.1 400 Bad\""));
        assert!(text(&[0x15, 3, 3, 0, 2]).contains("TLS"));
    }
}
