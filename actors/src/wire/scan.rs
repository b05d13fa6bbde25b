//! A check of field tables before `amq-protocol` decodes them.
//!
//! The decoder of `amq-protocol` recurses as deep as a table nests: a table of 20 kB can overflow the stack,
//! which ends the process. [`scan`] uses a stack of its own, of fixed size.

use super::{
    cursor::Cursor,
    fault::Fault,
    field::{table_cut_short, too_deep, unknown_type},
    table::MAX_DEPTH,
};

/// Checks the table at the front of `bytes` and returns the number of bytes it takes, its length field
/// included.
///
/// `amq-protocol` decodes every table that passes: all types are known, lengths end where their container
/// ends, keys are UTF-8, and containers nest at most [`MAX_DEPTH`] deep.
///
/// # Errors
/// [`Fault`] with 502 for a table that does not pass.
pub fn scan(bytes: &[u8]) -> Result<usize, Fault> {
    let len = Cursor::new(bytes).longstr().ok_or_else(table_cut_short)?.len();
    let whole = bytes.get(..4 + len).ok_or_else(table_cut_short)?;
    let mut cursor = Cursor::new(whole);
    cursor.long();

    // The containers around the cursor, innermost last. A container never ends after the one around it.
    let mut open = [Container { end: 0, keyed: false }; MAX_DEPTH + 1];
    let mut depth = 0;
    open[0] = Container { end: whole.len(), keyed: true };
    loop {
        let Some(innermost) = open.get(depth) else { return Err(too_deep()) };
        if cursor.at() >= innermost.end {
            if cursor.at() > innermost.end {
                return Err(table_cut_short());
            }
            match depth.checked_sub(1) {
                Some(outer) => depth = outer,
                None => return Ok(whole.len()),
            }
            continue;
        }
        if innermost.keyed {
            let key = cursor.shortstr().ok_or_else(table_cut_short)?;
            if std::str::from_utf8(key).is_err() {
                return Err(Fault::syntax("field table with a key that is not UTF-8"));
            }
            if cursor.at() >= innermost.end {
                return Err(table_cut_short());
            }
        }
        let kind = cursor.octet().ok_or_else(table_cut_short)?;
        if let Some(width) = fixed_width(kind) {
            cursor.take(width).ok_or_else(table_cut_short)?;
            continue;
        }
        let len = cursor.long().ok_or_else(table_cut_short)?;
        let end = usize::try_from(len)
            .ok()
            .and_then(|len| cursor.at().checked_add(len))
            .ok_or_else(table_cut_short)?;
        if end > innermost.end {
            return Err(table_cut_short());
        }
        match kind {
            b'S' | b'x' => {
                cursor.take(end - cursor.at()).ok_or_else(table_cut_short)?;
            }
            b'A' | b'F' => {
                depth += 1;
                let Some(inner) = open.get_mut(depth) else { return Err(too_deep()) };
                *inner = Container { end, keyed: kind == b'F' };
            }
            _ => return Err(unknown_type(kind)),
        }
    }
}

#[derive(Clone, Copy)]
struct Container {
    end: usize,
    keyed: bool,
}

fn fixed_width(kind: u8) -> Option<usize> {
    match kind {
        b'V' => Some(0),
        b't' | b'b' | b'B' => Some(1),
        b's' | b'U' | b'u' => Some(2),
        b'I' | b'i' | b'f' => Some(4),
        b'D' => Some(5),
        b'l' | b'L' | b'd' | b'T' => Some(8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(body: &[u8]) -> Vec<u8> {
        let mut bytes = (body.len() as u32).to_be_bytes().to_vec();
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_table_ends_where_its_length_says() {
        let mut bytes = table(b"\x01kI\0\0\0\x2a");
        let len = bytes.len();
        bytes.extend(b"rest");
        assert_eq!(scan(&bytes), Ok(len));
        assert_eq!(scan(&table(b"")), Ok(4));
    }

    #[test]
    fn broken_tables_are_refused() {
        for bytes in [
            &b""[..],
            b"\0\0\0",
            b"\0\0\0\x01",
            b"\xff\xff\xff\xff",
            &table(b"\x05k"),
            &table(b"\x01k"),
            &table(b"\x01kZ"),
            &table(b"\x01kI\0\0\0"),
            &table(b"\x01kS\x80\0\0\0x"),
            &table(b"\x01kA\0\0\0\x09V"),
            &table(b"\x01kA\0\0\0\x02I\0\0\0\0"),
            &table(b"\x01kF\0\0\0\x02\x01kV"),
            &table(b"\x02\xc3\x28V"),
        ] {
            assert_eq!(scan(bytes).unwrap_err().code, 502, "{bytes:?}");
        }
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |levels: usize| {
            let mut body = Vec::new();
            for level in (0..levels).rev() {
                body.push(b'A');
                body.extend((5 * level as u32).to_be_bytes());
            }
            table(&[b"\x01k", &body[..]].concat())
        };
        assert!(scan(&nested(MAX_DEPTH)).is_ok());
        assert!(scan(&nested(MAX_DEPTH + 1)).is_err());
        assert!(scan(&nested(26_000)).is_err());
    }
}
