//! `connection.update-secret`, encoded by hand so that the secret is in a single buffer, which is wiped.

use bytes::{BufMut, Bytes};
use zeroize::Zeroizing;

use super::{
    frame::{FRAME_END, FRAME_OVERHEAD, METHOD},
    short::short_truncated,
};
use crate::secret::Secret;

const CONNECTION: u16 = 10;
const UPDATE_SECRET: u16 = 70;

/// Returns the frame of `connection.update-secret`, or `None` if it would exceed `frame_max`.
///
/// The memory of the frame is wiped when the last view of it is dropped. The reason is truncated to 255
/// bytes.
pub fn update_secret(secret: &Secret, reason: &str, frame_max: u32) -> Option<Bytes> {
    let (secret, reason) = (secret.expose().as_bytes(), short_truncated(reason));
    let reason = reason.as_str().as_bytes();
    let payload = 4 + 4 + secret.len() + 1 + reason.len();
    let len = payload + FRAME_OVERHEAD;
    if len > frame_max as usize {
        return None;
    }
    let mut frame = Zeroizing::new(Vec::with_capacity(len));
    frame.put_slice(&[METHOD, 0, 0]);
    frame.put_u32(payload as u32);
    frame.put_u16(CONNECTION);
    frame.put_u16(UPDATE_SECRET);
    frame.put_u32(secret.len() as u32);
    frame.put_slice(secret);
    frame.put_u8(reason.len() as u8);
    frame.put_slice(reason);
    frame.put_u8(FRAME_END);
    Some(Bytes::from_owner(frame))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::wire::{AMQPClass, connection, put_method};

    #[test]
    fn the_frame_equals_that_of_amq_protocol() {
        for (secret, reason) in [("s3cret", "rotation"), ("", ""), ("t\u{f6}ken", &"r".repeat(300))] {
            let method =
                connection::UpdateSecret { new_secret: secret.into(), reason: short_truncated(reason) };
            let mut expected = BytesMut::new();
            let method = AMQPClass::Connection(connection::AMQPMethod::UpdateSecret(method));
            put_method(&mut expected, 0, &method).unwrap();
            assert_eq!(update_secret(&secret.into(), reason, 4096).unwrap(), expected);
        }
    }

    #[test]
    fn a_secret_that_does_not_fit_a_frame_is_refused() {
        let most = "x".repeat(4096 - FRAME_OVERHEAD - 9);
        assert_eq!(update_secret(&most.as_str().into(), "", 4096).unwrap().len(), 4096);
        assert_eq!(update_secret(&format!("{most}x").into(), "", 4096), None);
    }
}
