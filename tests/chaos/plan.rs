//! What is to be run: parts, size and seed, from the environment.

use std::fmt;

/// All parts, in the order in which they run.
pub const ALL: [u8; 7] = [1, 2, 3, 4, 5, 6, 7];
/// In short, what starts a cluster is left out: that alone would take longer than the rest.
const SHORT: [u8; 6] = [1, 2, 3, 4, 5, 7];

#[derive(Clone, Debug)]
pub struct Plan {
    pub parts: Vec<u8>,
    pub full: bool,
    pub seed: u64,
}

impl Plan {
    /// `CHAOS=full` or `short`, `CHAOS_PARTS=1,7`, `CHAOS_SEED=7`. `None` when tests of other names are asked for.
    pub fn from_environment() -> Option<Self> {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let number = |name: &str, text: &str| -> u64 {
            text.trim().parse().unwrap_or_else(|_| panic!("{name} is no number: {text}"))
        };
        if std::env::args().any(|arg| arg == "--list" || arg == "--ignored") {
            return None;
        }
        let filters: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
        if !filters.is_empty() && filters.iter().all(|filter| !"chaos".contains(filter.as_str())) {
            return None;
        }
        let full = set("CHAOS").is_some_and(|size| size == "full");
        let parts = match set("CHAOS_PARTS") {
            Some(text) => text.split(',').map(|part| number("CHAOS_PARTS", part) as u8).collect(),
            None if full => ALL.to_vec(),
            None => SHORT.to_vec(),
        };
        assert!(parts.iter().all(|part| ALL.contains(part)), "the parts are {ALL:?}, not {parts:?}");
        let seed = set("CHAOS_SEED").map(|text| number("CHAOS_SEED", &text));
        Some(Self { parts, full, seed: seed.unwrap_or_else(|| fastrand::u64(..1_000_000)) })
    }

    /// A figure in full, and in short.
    pub fn pick<T>(&self, full: T, short: T) -> T {
        if self.full { full } else { short }
    }

    /// The choices of a part, the same ones whatever else runs.
    pub fn random(&self, part: u8) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed.wrapping_mul(100).wrapping_add(part.into()))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.pick("full", "short");
        write!(f, "parts {:?} in {size}, CHAOS_SEED={}", self.parts, self.seed)
    }
}

/// Prints what the library logs, from the level that `CHAOS_LOG` names.
pub fn log() {
    struct Printer(std::time::Instant);

    impl log::Log for Printer {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }

        fn log(&self, record: &log::Record<'_>) {
            if record.target().starts_with("actix_pika") {
                println!("{:9.3} {} {}", self.0.elapsed().as_secs_f64(), record.level(), record.args());
            }
        }

        fn flush(&self) {}
    }

    if let Some(level) = std::env::var("CHAOS_LOG").ok().and_then(|level| level.parse().ok()) {
        let printer = Box::leak(Box::new(Printer(std::time::Instant::now())));
        if log::set_logger(printer).is_ok() {
            log::set_max_level(level);
        }
    }
}
