//! Records which messages of each publisher were confirmed and delivered, in which order and how often.

/// One bit for each number.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    /// Sets a bit and returns whether it was set before.
    fn set(&mut self, n: u64) -> bool {
        let (word, bit) = ((n / 64) as usize, 1 << (n % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let before = self.0[word] & bit != 0;
        self.0[word] |= bit;
        before
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Returns the number of bits that are set here but not in `other`, and the first of them.
    fn not_in(&self, other: &Self) -> (u64, Option<u64>) {
        let mut first = None;
        let mut count = 0;
        for (at, word) in self.0.iter().enumerate() {
            let left = word & !other.0.get(at).copied().unwrap_or_default();
            if left != 0 && first.is_none() {
                first = Some(at as u64 * 64 + u64::from(left.trailing_zeros()));
            }
            count += u64::from(left.count_ones());
        }
        (count, first)
    }
}

#[derive(Debug, Default)]
struct Publisher {
    confirmed: Bits,
    delivered: Bits,
    /// One more than the largest number delivered.
    next: u64,
}

#[derive(Debug, Default)]
pub struct Checker {
    publishers: Vec<Publisher>,
    pub duplicates: u64,
    /// First deliveries that came after a later message of the same publisher.
    pub out_of_order: u64,
    pub first_out_of_order: Option<String>,
}

impl Checker {
    pub fn new(publishers: usize) -> Self {
        let mut checker = Self::default();
        checker.publishers.resize_with(publishers, Publisher::default);
        checker
    }

    pub fn confirmed(&mut self, publisher: usize, n: u64) {
        self.publishers[publisher].confirmed.set(n);
    }

    pub fn delivered(&mut self, publisher: usize, n: u64) {
        let state = &mut self.publishers[publisher];
        if state.delivered.set(n) {
            self.duplicates += 1;
        } else if n < state.next {
            self.out_of_order += 1;
            let next = state.next;
            self.first_out_of_order
                .get_or_insert_with(|| format!("{n} of publisher {publisher} came after {}", next - 1));
        } else {
            state.next = n + 1;
        }
    }

    pub fn publishers(&self) -> usize {
        self.publishers.len()
    }

    pub fn count_confirmed(&self) -> u64 {
        self.publishers.iter().map(|publisher| publisher.confirmed.count()).sum()
    }

    /// Returns how many messages were confirmed but not delivered, and one of them.
    pub fn lost(&self) -> (u64, Option<String>) {
        let mut lost = 0;
        let mut one = None;
        for (at, publisher) in self.publishers.iter().enumerate() {
            let (count, first) = publisher.confirmed.not_in(&publisher.delivered);
            lost += count;
            one = one.or(first.map(|n| format!("{n} of publisher {at}")));
        }
        (lost, one)
    }
}

/// Checks that the checker notices faults: a count that is always 0 would prove nothing.
pub fn self_test() {
    let mut checker = Checker::new(2);
    for n in [0, 1, 64, 200] {
        checker.confirmed(1, n);
    }
    assert_eq!(checker.count_confirmed(), 4);
    assert_eq!(checker.lost(), (4, Some("0 of publisher 1".into())));
    // 2 was not confirmed, 1 comes late, 0 comes twice.
    for n in [0, 2, 1, 64, 0] {
        checker.delivered(1, n);
    }
    assert_eq!(checker.lost(), (1, Some("200 of publisher 1".into())));
    assert_eq!((checker.duplicates, checker.out_of_order), (1, 1));
    checker.delivered(1, 200);
    assert_eq!(checker.lost(), (0, None));
}
