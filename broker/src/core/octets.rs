//! Routing keys that are no UTF-8, as texts.
//!
//! RabbitMQ checks short strings but those of `basic.publish`. The core has texts as keys: an octet that belongs to no
//! character is a character of the range `U+10FF80..=U+10FFFF`, which is for private use, and so are the octets of such a
//! character that a client sends. No octets are lost, and words of topics end at the same dots.

use std::borrow::Cow;

/// The character of the octet 0.
const BASE: u32 = 0x0010_FF00;
/// The first octet of these characters, and of few others.
const MARK: u8 = 0xF4;

fn escaped(octet: u8) -> char {
    char::from_u32(BASE + u32::from(octet)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn octet(character: char) -> Option<u8> {
    u32::from(character)
        .checked_sub(BASE)
        .and_then(|octet| u8::try_from(octet).ok())
        .filter(|octet| *octet >= 0x80)
}

/// Returns octets as a text.
pub(crate) fn text_of(octets: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(octets) {
        Ok(text) if !octets.contains(&MARK) => Cow::Borrowed(text),
        _ => {
            let mut text = String::with_capacity(4 * octets.len());
            for chunk in octets.utf8_chunks() {
                for character in chunk.valid().chars() {
                    match octet(character) {
                        None => text.push(character),
                        Some(_) => {
                            let mut buf = [0; 4];
                            text.extend(character.encode_utf8(&mut buf).bytes().map(escaped));
                        }
                    }
                }
                text.extend(chunk.invalid().iter().copied().map(escaped));
            }
            Cow::Owned(text)
        }
    }
}

/// Returns the octets of a text.
pub(crate) fn octets_of(text: &str) -> Cow<'_, [u8]> {
    if !text.as_bytes().contains(&MARK) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut octets = Vec::with_capacity(text.len());
    for character in text.chars() {
        match octet(character) {
            Some(octet) => octets.push(octet),
            None => octets.extend(character.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    Cow::Owned(octets)
}

/// Returns a text for a reply text, where an octet is the character of that number, as in RabbitMQ from 4.0 on.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.as_bytes().contains(&MARK) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|character| octet(character).map_or(character, char::from)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_octets_are_lost() {
        let private = "a\u{10FF80}\u{10FFFF}\u{10FF7F}\u{F0000}";
        for octets in
            [&b"a.b"[..], b"", b"\xff", b"a.\xff.b", b"\xc3", b"\xc3\xa9\xa9", b"\xf4", private.as_bytes()]
        {
            let text = text_of(octets);
            assert_eq!(&*octets_of(&text), octets, "{octets:?}");
        }
        // Each has a text of its own.
        assert_ne!(text_of(b"\xff"), text_of(escaped(0xFF).to_string().as_bytes()));
        assert_eq!(text_of("é".as_bytes()), "é");
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let octets: Vec<u8> = (0..random.usize(..20))
                .map(|_| *random.choice(&[0xF4, 0x8F, 0xBE, 0xBF, 0x80, 0xFF, b'.', b'a', 0xC3]).unwrap())
                .collect();
            assert_eq!(&*octets_of(&text_of(&octets)), octets);
        }
    }

    #[test]
    fn a_reply_text_has_characters() {
        assert_eq!(printable(&text_of(b"q\xff")), "qÿ");
        assert_eq!(printable("é"), "é");
    }
}
