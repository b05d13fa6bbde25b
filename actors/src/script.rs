//! Bytes as a script for the runs against a hostile server: each byte is a choice, and the frames of a server,
//! right or wrong, are made of them. Any bytes are a valid script.

use bytes::{BufMut, BytesMut};

/// The names of entities and consumers that a script can choose from.
const NAMES: [&str; 6] = ["", "jobs", "logs", "ctag", "other", "amq.gen-1"];

/// The methods that a script sends, with their arguments: `b`, `w`, `d`, `q` for numbers of 1, 2, 4 and 8 octets, `s`
/// and `l` for short and long strings. Some are not for servers, or do not exist.
const METHODS: &[(u16, u16, &str)] = &[
    (20, 11, "l"),
    (20, 20, "b"),
    (20, 21, "b"),
    (20, 40, "wsww"),
    (20, 41, ""),
    (60, 11, ""),
    (60, 21, "s"),
    (60, 30, "sb"),
    (60, 31, "s"),
    (60, 40, "wssb"),
    (60, 50, "wsss"),
    (60, 60, "sqbss"),
    (60, 71, "qbssd"),
    (60, 72, "s"),
    (60, 80, "qb"),
    (60, 120, "qb"),
    (60, 111, ""),
    (50, 11, "sdd"),
    (50, 21, ""),
    (50, 31, "d"),
    (50, 41, "d"),
    (50, 51, ""),
    (40, 11, ""),
    (40, 21, ""),
    (40, 31, ""),
    (40, 51, ""),
    (85, 11, ""),
    (90, 11, ""),
    (90, 21, ""),
    (90, 31, ""),
    (10, 30, "wdw"),
    (10, 50, "wsww"),
    (10, 51, ""),
    (10, 60, "s"),
    (10, 61, ""),
    (10, 71, ""),
    (99, 1, ""),
];

#[derive(Debug)]
pub(crate) struct Script<'a> {
    rest: &'a [u8],
    /// The next delivery tag of a server that counts.
    tag: u64,
}

impl<'a> Script<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, tag: 0 }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next byte; 0 at the end.
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end.max(1)
    }

    pub(crate) fn choice(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number that is small most of the time.
    pub(crate) fn number(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..240 => u64::from(byte % 6),
            240..248 => u64::from(self.byte()),
            _ => u64::from_be_bytes(std::array::from_fn(|_| self.byte())),
        }
    }

    pub(crate) fn name(&mut self) -> &'static str {
        NAMES.get(self.below(NAMES.len())).copied().unwrap_or_default()
    }

    /// The channel was opened: the server counts its deliveries from 1.
    pub(crate) fn restart_tags(&mut self) {
        self.tag = 0;
    }

    /// Appends a delivery to a consumer.
    pub(crate) fn delivery(&mut self, channel: u16, out: &mut BytesMut) {
        self.tag = self.tag.wrapping_add(1);
        let tag: &[u8] = if self.below(8) == 0 { b"other" } else { b"ctag" };
        let mut payload = BytesMut::from(&[0, 60, 0, 60, tag.len() as u8][..]);
        payload.put_slice(tag);
        payload.put_u64(self.tag);
        payload.put_slice(&[self.byte() & 1, 0, 4]);
        payload.put_slice(b"jobs");
        self.message(channel, &payload, out);
    }

    /// Appends a returned publish.
    pub(crate) fn returned(&mut self, channel: u16, out: &mut BytesMut) {
        let mut payload = BytesMut::from(&b"\0\x3c\0\x32\x01\x38\x08NO_ROUTE\0"[..]);
        let key = self.name();
        payload.put_u8(key.len() as u8);
        payload.put_slice(key.as_bytes());
        self.message(channel, &payload, out);
    }

    fn message(&mut self, channel: u16, method: &[u8], out: &mut BytesMut) {
        put_frame(out, 1, channel, method);
        let (parts, len) = (self.below(3), self.below(40));
        let mut header = BytesMut::from(&[0, 60, 0, 0][..]);
        header.put_u64((parts * len) as u64);
        header.put_u16(0);
        put_frame(out, 2, channel, &header);
        if len > 0 {
            (0..parts).for_each(|_| put_frame(out, 3, channel, &vec![b'x'; len]));
        }
    }

    /// Appends frames of a server for a channel, and damages some.
    pub(crate) fn server_frames(&mut self, channel: u16, out: &mut BytesMut) {
        let start = out.len();
        if self.below(16) == 0 {
            let (kind, len) = (self.byte() % 10, self.below(40));
            let payload: Vec<u8> = (0..len).map(|_| self.byte()).collect();
            put_frame(out, kind, channel, &payload);
        } else {
            self.method(channel, out);
        }
        if self.below(24) == 0 && out.len() > start {
            let at = start + self.number() as usize % (out.len() - start);
            let damage = self.byte();
            if let Some(byte) = out.get_mut(at) {
                *byte ^= damage;
            }
        }
    }

    fn method(&mut self, channel: u16, out: &mut BytesMut) {
        let at = self.below(METHODS.len());
        let Some(&(class, method, arguments)) = METHODS.get(at) else { return };
        let mut payload = BytesMut::new();
        payload.put_u16(class);
        payload.put_u16(method);
        for argument in arguments.bytes() {
            match argument {
                b'b' => payload.put_u8(self.byte()),
                b'w' => {
                    let codes = [404, 406, 200, 320, 504, 541, 60, 40, 50, 10, 0];
                    let code = codes.get(self.below(codes.len())).copied().unwrap_or_default();
                    payload.put_u16(code);
                }
                b'd' => payload.put_u32(self.number() as u32),
                b'q' => {
                    let tag = if self.below(8) == 0 { self.number() } else { self.tag.wrapping_add(1) };
                    if matches!((class, method), (60, 60 | 71)) {
                        self.tag = tag;
                    }
                    payload.put_u64(tag);
                }
                b's' => {
                    let name = if self.below(6) == 0 { "no queue 'jobs' in vhost '/'" } else { self.name() };
                    payload.put_u8(name.len() as u8);
                    payload.put_slice(name.as_bytes());
                }
                _ => payload.put_u32(0),
            }
        }
        put_frame(out, 1, channel, &payload);
        if matches!((class, method), (60, 50 | 60 | 71)) {
            self.content(channel, out);
        }
    }

    /// Appends a header and bodies, which may not match.
    fn content(&mut self, channel: u16, out: &mut BytesMut) {
        let (parts, len) = (self.below(3), self.below(30));
        let size = if self.below(10) == 0 { self.number() } else { (parts * len) as u64 };
        let mut header = BytesMut::new();
        header.put_u16(60);
        header.put_u16(0);
        header.put_u64(size);
        match self.below(4) {
            // A table whose length and content come from the script.
            0 => {
                header.put_u16(0x2000);
                let table: Vec<u8> = (0..self.below(30)).map(|_| self.byte()).collect();
                header.put_u32(table.len() as u32);
                header.put_slice(&table);
            }
            1 => header.put_u16(u16::from(self.byte()) << 8),
            _ => header.put_u16(0),
        }
        if self.below(12) > 0 {
            put_frame(out, 2, channel, &header);
        }
        for _ in 0..parts {
            put_frame(out, 3, channel, &vec![b'x'; len]);
        }
    }
}

pub(crate) fn put_frame(out: &mut BytesMut, kind: u8, channel: u16, payload: &[u8]) {
    out.put_u8(kind);
    out.put_u16(channel);
    out.put_u32(payload.len() as u32);
    out.put_slice(payload);
    out.put_u8(0xCE);
}

/// Returns the right reply to a method of a client, if it has one. `tags` counts publishes.
pub(crate) fn right_reply(method: &[u8], tags: &mut u64) -> Option<Vec<u8>> {
    let (ids, arguments) = method.split_first_chunk::<4>()?;
    let [_, class, _, id] = *ids;
    let mut reply = vec![0, class, 0, id + 1];
    let short = |bytes: &[u8]| -> Vec<u8> {
        let len = bytes.first().map_or(0, |len| usize::from(*len));
        bytes.get(..=len).unwrap_or(&[0]).to_vec()
    };
    match (class, id) {
        (20, 10) => reply.extend([0; 4]),
        (20, 40) | (40, 10 | 20 | 30) | (50, 20 | 50) | (60, 10 | 110) | (85, 10) | (90, 10 | 20 | 30) => {}
        (40, 40) => reply = vec![0, 40, 0, 51],
        (50, 10) => {
            let name = short(arguments.get(2..)?);
            reply.extend(if name == [0] { b"\x09amq.gen-1".to_vec() } else { name });
            reply.extend([0; 8]);
        }
        (50, 30 | 40) => reply.extend([0; 4]),
        (60, 20) => {
            let queue = short(arguments.get(2..)?);
            reply.extend(short(arguments.get(2 + queue.len()..)?));
        }
        (60, 30) => reply.extend(short(arguments)),
        (60, 70) => reply = vec![0, 60, 0, 72, 0],
        (60, 40) => {
            *tags += 1;
            reply = vec![0, 60, 0, 80];
            reply.extend(tags.to_be_bytes());
            reply.push(0);
        }
        _ => return None,
    }
    Some(reply)
}
