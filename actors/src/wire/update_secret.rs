//! `connection.update-secret`, written by hand so that the secret is in one buffer only, which is wiped.

use bytes::{BufMut, Bytes};
use zeroize::Zeroizing;

use super::{
    frame::{FRAME_END, FRAME_OVERHEAD},
    short::cut_short,
};
use crate::secret::Secret;

const CLASS: u16 = 10;
const UPDATE_SECRET: u16 = 70;

/// Makes the frame of `connection.update-secret`; its memory is wiped when the last part of it is dropped.
///
/// The reason is cut to 255 bytes. `None` when the frame would be larger than `frame_max`.
///
/// # Examples
/// ```
/// # use actix_pika_actors::{Secret, wire::update_secret};
/// assert!(update_secret(&Secret::new("token"), "rotation", 4096).is_some());
/// assert!(update_secret(&Secret::new("x".repeat(5000)), "rotation", 4096).is_none());
/// ```
pub fn update_secret(secret: &Secret, reason: &str, frame_max: u32) -> Option<Bytes> {
    let (secret, reason) = (secret.expose().as_bytes(), cut_short(reason));
    let reason = reason.as_str().as_bytes();
    let payload = 4 + 4 + secret.len() + 1 + reason.len();
    let len = payload + FRAME_OVERHEAD;
    if len > frame_max as usize {
        return None;
    }
    let mut frame = Zeroizing::new(Vec::with_capacity(len));
    frame.put_slice(&[1, 0, 0]);
    frame.put_u32(payload as u32);
    frame.put_u16(CLASS);
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
    fn it_is_what_amq_protocol_writes() {
        for (secret, reason) in [("s3cret", "rotation"), ("", ""), ("t\u{f6}ken", &"r".repeat(300))] {
            let method = connection::UpdateSecret { new_secret: secret.into(), reason: cut_short(reason) };
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
