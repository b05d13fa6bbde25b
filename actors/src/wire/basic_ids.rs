//! Ids of the class `basic`, the only class that carries content.

/// The class id of `basic`.
pub(super) const BASIC: u16 = 60;

pub(super) const PUBLISH: u16 = 40;
pub(super) const RETURN: u16 = 50;
pub(super) const DELIVER: u16 = 60;
pub(super) const GET_OK: u16 = 71;
pub(super) const GET_EMPTY: u16 = 72;
pub(super) const ACK: u16 = 80;
pub(super) const REJECT: u16 = 90;
pub(super) const NACK: u16 = 120;

/// The number of octets of a content header before its properties: class, weight, body size.
pub(super) const CONTENT_HEADER_LEN: usize = 12;
