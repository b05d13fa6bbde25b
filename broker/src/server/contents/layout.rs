//! How long a method of a client is, and whether its short strings are texts: the decoder takes what is longer, and does
//! not tell why it refuses what it refuses.

use crate::core::is_readable;

/// What is wrong with the arguments of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// There are too few octets, or too many.
    Length,
    /// A short string is not UTF-8.
    Text,
    /// A table cannot be read.
    Table,
}

/// The arguments of a method: octets, then short strings, then octets, then a table.
struct Layout(usize, usize, usize, bool);

fn layout(ids: [u8; 4]) -> Option<Layout> {
    let [0, class, 0, method] = ids else { return None };
    let layout = match (class, method) {
        (20, 10) | (30, 10) => Layout(0, 1, if class == 30 { 1 } else { 0 }, false),
        (20, 20 | 21) | (60, 100 | 110) | (85, 10) => Layout(1, 0, 0, false),
        (20, 40) => Layout(2, 1, 4, false),
        (20, 41) | (90, 10 | 20 | 30) => Layout(0, 0, 0, false),
        (40, 10) => Layout(2, 2, 1, true),
        (40, 20) | (50, 30 | 40) | (60, 70) => Layout(2, 1, 1, false),
        (40, 30 | 40) | (50, 20) => Layout(2, 3, 1, true),
        (50, 10) => Layout(2, 1, 1, true),
        (50, 50) => Layout(2, 3, 0, true),
        (60, 10) => Layout(7, 0, 0, false),
        (60, 20) => Layout(2, 2, 1, true),
        (60, 30) => Layout(0, 1, 1, false),
        (60, 80 | 90 | 120) => Layout(9, 0, 0, false),
        // basic.credit of RabbitMQ, which the decoder does not know.
        (60, 200) => Layout(0, 1, 5, false),
        _ => return None,
    };
    Some(layout)
}

/// Checks a method. Those that are not known here are right.
pub(super) fn check(payload: &[u8]) -> Result<(), Misfit> {
    let Some((&ids, rest)) = payload.split_first_chunk::<4>() else { return Err(Misfit::Length) };
    let Some(Layout(octets, texts, more, has_table)) = layout(ids) else { return Ok(()) };
    let skip = |rest: &mut &[u8], octets: usize| match rest.split_at_checked(octets) {
        Some((skipped, after)) => {
            *rest = after;
            Ok(skipped.len())
        }
        None => Err(Misfit::Length),
    };
    let mut rest = rest;
    skip(&mut rest, octets)?;
    for _ in 0..texts {
        let (&len, after) = rest.split_first().ok_or(Misfit::Length)?;
        let (text, after) = after.split_at_checked(len.into()).ok_or(Misfit::Length)?;
        std::str::from_utf8(text).map_err(|_| Misfit::Text)?;
        rest = after;
    }
    skip(&mut rest, more)?;
    if has_table {
        let table = rest;
        let (&len, after) = rest.split_first_chunk().ok_or(Misfit::Length)?;
        rest = after;
        let len = skip(&mut rest, u32::from_be_bytes(len) as usize)?;
        if !is_readable(&table[..4 + len]) {
            return Err(Misfit::Table);
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(Misfit::Length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_as_long_as_its_arguments() {
        let declare = b"\0\x32\0\x0a\0\0\x01q\0\0\0\0\0";
        assert_eq!(check(declare), Ok(()));
        assert_eq!(check(&declare[..declare.len() - 1]), Err(Misfit::Length));
        assert_eq!(check(&[&declare[..], b"z"].concat()), Err(Misfit::Length));
        let with = |table: &[u8]| {
            check(&[&b"\0\x32\0\x0a\0\0\x01q\0\0\0\0"[..], &[table.len() as u8], table].concat())
        };
        assert_eq!(with(b"\x01ad\0\0\0\0\0\0\0\0"), Ok(()));
        for unreadable in [&b"\x01ad\x7f\xf8\0\0\0\0\0\0"[..], b"\x01a?", b"\x05a", b"\x01aA\0\0\0\x02I\0"] {
            assert_eq!(with(unreadable), Err(Misfit::Table), "{unreadable:?}");
        }
        assert_eq!(check(b"\0\x32\0\x0a\0\0\x01\xff\0\0\0\0\0"), Err(Misfit::Text));
        assert_eq!(check(b"\0\x3c\0\x50\0\0\0\0\0\0\0\x01\0"), Ok(()));
        assert_eq!(check(b"\0\x3c\0\xc8"), Err(Misfit::Length));
    }
}
