//! The octets of frames and methods.

pub(crate) const GREETING: &[u8] = b"AMQP\0\0\x09\x01";
pub(crate) const OPEN_CHANNEL: &[u8] = b"\0\x14\0\x0a\0";
pub(crate) const CLOSE_CHANNEL: &[u8] = b"\0\x14\0\x28\0\xc8\x02ok\0\0\0\0";
pub(crate) const CLOSE_OK_CHANNEL: &[u8] = b"\0\x14\0\x29";
pub(crate) const CLOSE: &[u8] = b"\0\x0a\0\x32\0\xc8\x02ok\0\0\0\0";
pub(crate) const PUBLISH: &[u8] = b"\0\x3c\0\x28\0\0\0\x06nobody\0";
/// A passive declare of a queue that is not there.
pub(crate) const NO_QUEUE: &[u8] = b"\0\x32\0\x0a\0\0\x13there.is.no.queue..\x01\0\0\0\0";

/// Stands where an answer is awaited before more is said.
pub(crate) const ANSWER: Vec<u8> = Vec::new();

pub(crate) fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend(channel.to_be_bytes());
    frame.extend((payload.len() as u32).to_be_bytes());
    frame.extend(payload);
    frame.push(0xCE);
    frame
}

pub(crate) fn method(channel: u16, payload: &[u8]) -> Vec<u8> {
    frame(1, channel, payload)
}

pub(crate) fn start_ok(mechanism: &str, response: &[u8], told: bool) -> Vec<u8> {
    start_ok_in("en_US", mechanism, response, told)
}

pub(crate) fn start_ok_in(locale: &str, mechanism: &str, response: &[u8], told: bool) -> Vec<u8> {
    let mut payload = b"\0\x0a\0\x0b".to_vec();
    let mut capabilities = b"\x1cauthentication_failure_closet\x01".to_vec();
    *capabilities.last_mut().unwrap() = told.into();
    let mut table = b"\x0ccapabilitiesF".to_vec();
    table.extend((capabilities.len() as u32).to_be_bytes());
    table.extend(capabilities);
    payload.extend((table.len() as u32).to_be_bytes());
    payload.extend(table);
    payload.extend(text(mechanism));
    payload.extend((response.len() as u32).to_be_bytes());
    payload.extend(response);
    payload.extend(text(locale));
    method(0, &payload)
}

pub(crate) fn tune_ok(channels: u16, frames: u32) -> Vec<u8> {
    let mut payload = b"\0\x0a\0\x1f".to_vec();
    payload.extend(channels.to_be_bytes());
    payload.extend(frames.to_be_bytes());
    payload.extend([0, 0]);
    method(0, &payload)
}

pub(crate) fn open(vhost: &str) -> Vec<u8> {
    let mut payload = b"\0\x0a\0\x28".to_vec();
    payload.extend(text(vhost));
    payload.extend([0, 0]);
    method(0, &payload)
}

pub(crate) fn header(class: u16, weight: u16, size: u64) -> Vec<u8> {
    let mut payload = class.to_be_bytes().to_vec();
    payload.extend(weight.to_be_bytes());
    payload.extend(size.to_be_bytes());
    payload.extend([0, 0]);
    payload
}

pub(crate) fn channels_of(range: std::ops::RangeInclusive<u16>, payload: &[u8]) -> Vec<u8> {
    range.flat_map(|channel| method(channel, payload)).collect()
}

/// A short string.
pub(crate) fn text(text: &str) -> Vec<u8> {
    [&[text.len() as u8], text.as_bytes()].concat()
}

/// A method of channel 1 from its numbers and its arguments.
pub(crate) fn call(class: u16, id: u16, arguments: &[&[u8]]) -> Vec<u8> {
    method(1, &[&class.to_be_bytes()[..], &id.to_be_bytes(), &arguments.concat()].concat())
}
