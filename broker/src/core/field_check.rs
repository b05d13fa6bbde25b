//! Checks field tables as RabbitMQ's parser does, without decoding them.

use super::properties::DEPTH_MAX;

/// Returns whether RabbitMQ can read a table, its length in front: all types are known, all lengths end where
/// their container ends, and floats are finite. Those that nest too deep for this broker are taken for others that cannot
/// be read.
pub(crate) fn is_readable(table: &[u8]) -> bool {
    check(table).is_some()
}

/// A container that is not at its end.
struct Container {
    end: usize,
    has_keys: bool,
}

fn check(bytes: &[u8]) -> Option<()> {
    let mut at = 0;
    let end = container_end(bytes, &mut at)?;
    let mut open = vec![Container { end, has_keys: true }];
    while let Some(container) = open.last() {
        if at == container.end {
            open.pop();
            continue;
        }
        let (end, has_keys) = (container.end, container.has_keys);
        if has_keys {
            let len = usize::from(*bytes.get(at)?);
            at += 1 + len;
        }
        let kind = *bytes.get(at)?;
        at += 1;
        match kind {
            b'A' | b'F' => {
                let end = container_end(bytes, &mut at)?;
                if open.len() > DEPTH_MAX {
                    return None;
                }
                open.push(Container { end, has_keys: kind == b'F' });
            }
            b'S' | b'x' => at = container_end(bytes, &mut at)?,
            b'f' => {
                let octets = bytes.get(at..at + 4)?.try_into().ok()?;
                f32::from_be_bytes(octets).is_finite().then_some(())?;
                at += 4;
            }
            b'd' => {
                let octets = bytes.get(at..at + 8)?.try_into().ok()?;
                f64::from_be_bytes(octets).is_finite().then_some(())?;
                at += 8;
            }
            kind => at += fixed_len(kind)?,
        }
        let limit = open.last().map_or(end, |container| container.end).min(end);
        if at > limit || limit > bytes.len() {
            return None;
        }
    }
    (at == bytes.len()).then_some(())
}

/// Reads a length and returns where what follows it ends.
fn container_end(bytes: &[u8], at: &mut usize) -> Option<usize> {
    let octets = bytes.get(*at..*at + 4)?.try_into().ok()?;
    *at += 4;
    let end = *at + u32::from_be_bytes(octets) as usize;
    (end <= bytes.len()).then_some(end)
}

fn fixed_len(kind: u8) -> Option<usize> {
    Some(match kind {
        b't' | b'b' | b'B' => 1,
        b's' | b'u' => 2,
        b'I' | b'i' => 4,
        b'D' => 5,
        b'l' | b'T' | b'L' => 8,
        b'V' => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use actix_pika_actors::{Table, Value, wire::field::encode_table};
    use bytes::BytesMut;

    use super::*;

    fn encoded(table: &Table) -> BytesMut {
        let mut buf = BytesMut::new();
        encode_table(&mut buf, table).unwrap();
        buf
    }

    fn one(kind: u8, value: &[u8]) -> Vec<u8> {
        let mut table = (3 + value.len() as u32).to_be_bytes().to_vec();
        table.extend([1, b'k', kind]);
        table.extend(value);
        table
    }

    #[test]
    fn what_a_client_encodes_is_readable_and_what_is_cut_is_not() {
        let inner = Table::from([("a", Value::from(1)), ("b", Value::Void), ("c", Value::from("text"))]);
        let table = Table::from([
            ("t", Value::Table(inner)),
            ("l", Value::Array(vec![Value::from(1.5), Value::Array(vec![]), Value::from(true)])),
            ("s", Value::Timestamp(7)),
        ]);
        let bytes = encoded(&table);
        assert!(is_readable(&bytes) && is_readable(&[0; 4]));
        for len in 0..bytes.len() {
            assert!(!is_readable(&bytes[..len]), "{len}");
        }
    }

    /// scenarios.md 0.1: unknown types, NaN and infinities are a 541.
    #[test]
    fn unknown_types_and_floats_without_a_value_are_not() {
        assert!(is_readable(&one(b'd', &(-0.0f64).to_be_bytes())));
        assert!(!is_readable(&one(b'd', &f64::NAN.to_be_bytes())));
        assert!(!is_readable(&one(b'f', &f32::INFINITY.to_be_bytes())));
        assert!(!is_readable(&one(b'U', &[0, 1])) && !is_readable(&one(b'?', &[])));
    }

    #[test]
    fn a_container_may_not_reach_beyond_its_own() {
        // An array of 3 octets with a table of 4 in it.
        assert!(!is_readable(&one(b'A', b"\0\0\0\x02F\0\0\0\0")));
    }

    /// RabbitMQ takes deeper ones.
    #[test]
    fn very_deep_tables_are_not_readable() {
        let nested = |depth: usize| {
            let mut bytes = Vec::new();
            for level in (0..depth as u32).rev() {
                bytes.push(b'A');
                bytes.extend((5 * level).to_be_bytes());
            }
            let mut table = (2 + bytes.len() as u32).to_be_bytes().to_vec();
            table.extend(b"\x01k");
            table.extend(bytes);
            table
        };
        assert!(is_readable(&nested(DEPTH_MAX)));
        assert!(!is_readable(&nested(DEPTH_MAX + 1)) && !is_readable(&nested(100_000)));
    }
}
