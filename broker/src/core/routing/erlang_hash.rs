//! The hash and the random numbers with which RabbitMQ chooses a bucket of a consistent hash exchange.
//!
//! Both are Erlang's: `erlang:phash2/1`, and `rand` with the algorithm `exs1024`.

/// 2 to the power of 32, divided by the golden ratio.
const GOLDEN: u32 = 0x9e37_79b9;

fn mix(mut a: u32, mut b: u32, mut c: u32) -> [u32; 3] {
    for [right, left, last] in [[13, 8, 13], [12, 16, 5], [3, 10, 15]] {
        a = a.wrapping_sub(b).wrapping_sub(c) ^ (c >> right);
        b = b.wrapping_sub(c).wrapping_sub(a) ^ (a << left);
        c = c.wrapping_sub(a).wrapping_sub(b) ^ (b >> last);
    }
    [a, b, c]
}

/// Mixes a number into a hash; `nth` distinguishes kinds of terms.
fn mix_number(number: u32, nth: u32, hash: u32) -> u32 {
    let constant = GOLDEN.wrapping_mul(nth);
    let [.., hash] = mix(constant.wrapping_add(number), constant, hash);
    hash
}

fn binary(bytes: &[u8], hash: u32) -> u32 {
    let initial = GOLDEN.wrapping_mul(13).wrapping_add(hash);
    if bytes.is_empty() {
        return initial;
    }
    let word = |bytes: &[u8]| {
        let mut word = [0; 4];
        word[..bytes.len()].copy_from_slice(bytes);
        u32::from_le_bytes(word)
    };
    let [mut a, mut b, mut c] = [GOLDEN, GOLDEN, initial];
    let mut blocks = bytes.chunks_exact(12);
    for block in &mut blocks {
        a = a.wrapping_add(word(&block[..4]));
        b = b.wrapping_add(word(&block[4..8]));
        c = c.wrapping_add(word(&block[8..]));
        [a, b, c] = mix(a, b, c);
    }
    let rest = blocks.remainder();
    let part = |from: usize, to: usize| word(rest.get(from..to.min(rest.len())).unwrap_or_default());
    a = a.wrapping_add(part(0, 4));
    b = b.wrapping_add(part(4, 8));
    // The lowest octet is kept for the length.
    c = c.wrapping_add(part(8, 12) << 8).wrapping_add(bytes.len() as u32);
    let [.., hash] = mix(a, b, c);
    hash
}

/// The hash of the name of an atom.
fn atom(name: &str) -> u32 {
    name.bytes().fold(0, |hash: u32, octet| {
        let hash = (hash << 4).wrapping_add(octet.into());
        let high = hash & 0xf000_0000;
        hash ^ (high >> 24) ^ high
    })
}

/// What `phash2` gives without a range: 27 bits.
const fn range(hash: u32) -> u64 {
    (hash & ((1 << 27) - 1)) as u64
}

/// Returns `phash2(<<"...">>)`.
pub(super) fn of_binary(bytes: &[u8]) -> u64 {
    range(binary(bytes, 0))
}

/// Returns `phash2({longstr, <<"...">>})`, with which a header is hashed.
pub(super) fn of_typed(type_name: &str, bytes: &[u8]) -> u64 {
    let pair = mix_number(2, 9, 0);
    range(binary(bytes, mix_number(atom(type_name), 3, pair)))
}

/// Returns `phash2(undefined)`.
pub(super) fn of_undefined() -> u64 {
    range(atom("undefined"))
}

/// Returns one of `buckets` for a hash, such that few hashes change their bucket when their number does.
pub(super) fn jump(hash: u64, buckets: u64) -> u64 {
    if buckets < 2 {
        return 0;
    }
    let mut random = Exs1024::new(hash);
    let mut chosen = 0;
    let mut next = 0;
    while next < buckets {
        chosen = next;
        next = ((chosen + 1) as f64 / random.uniform()) as u64;
    }
    chosen
}

/// The generator `exs1024` of Erlang's `rand`.
struct Exs1024 {
    state: [u64; 16],
    at: usize,
}

impl Exs1024 {
    /// As `rand:seed_s(exs1024, {Seed, Seed, Seed})`.
    fn new(seed: u64) -> Self {
        const MASK: u64 = (1 << 21) - 1;
        let part = |factor: u64| (((seed & MASK) + 1) * factor) & MASK;
        let mut seed = (part(2_097_131) << 43) | (part(2_097_133) << 22) | (part(2_097_143) << 1) | 1;
        let mut state = [0; 16];
        // The list is built from its end.
        for word in state.iter_mut().rev() {
            seed ^= seed >> 12;
            seed ^= seed << 25;
            seed ^= seed >> 27;
            *word = seed.wrapping_mul(2_685_821_657_736_338_717);
        }
        Self { state, at: 0 }
    }

    fn uniform(&mut self) -> f64 {
        let first = self.state[self.at];
        self.at = (self.at + 1) % self.state.len();
        let mut second = self.state[self.at];
        second ^= second << 31;
        second ^= second >> 11;
        let next = first ^ (first >> 30) ^ second;
        self.state[self.at] = next;
        next.wrapping_mul(1_181_783_497_276_652_981) as f64 / 18_446_744_073_709_551_616.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by Erlang.
    #[test]
    fn hashes_are_those_of_erlang() {
        for (text, hash, typed) in [
            ("", 13_708_901, 116_351_706),
            ("a", 112_802_447, 65_711_459),
            ("orders.created", 66_417_991, 125_198_950),
            ("0123456789ab", 115_360_506, 79_209_820),
            ("0123456789abc", 67_923_675, 65_256_071),
            ("a long key with more than twenty-four octets", 115_710_690, 114_235_487),
        ] {
            assert_eq!(
                (of_binary(text.as_bytes()), of_typed("longstr", text.as_bytes())),
                (hash, typed),
                "{text}"
            );
        }
        assert_eq!(of_undefined(), 45_914_356);
    }

    /// Printed by Erlang.
    #[test]
    fn buckets_are_those_of_erlang() {
        for (hash, expected) in [
            (0, [0, 0, 4, 807]),
            (1, [0, 2, 3, 856]),
            (2, [0, 0, 9, 730]),
            (12345, [0, 0, 0, 485]),
            (134_217_727, [0, 2, 6, 220]),
            (99999, [0, 0, 0, 982]),
        ] {
            assert_eq!([2, 3, 10, 1000].map(|buckets| jump(hash, buckets)), expected, "{hash}");
        }
        let chosen: Vec<u64> = (1..=40).map(|n: u32| jump(of_binary(n.to_string().as_bytes()), 5)).collect();
        let expected = [
            2, 2, 2, 0, 0, 3, 2, 1, 0, 2, 3, 1, 3, 3, 4, 0, 2, 2, 2, 1, 0, 2, 2, 3, 3, 1, 3, 1, 2, 4, 2, 4,
            3, 2, 2, 2, 1, 3, 1, 4,
        ];
        assert_eq!(chosen, expected);
        assert_eq!([0, 1].map(|buckets| jump(7, buckets)), [0, 0]);
    }
}
