//! Parts, size and seed of a run, from the environment.

use std::fmt;

/// All parts, in the order in which they run.
pub const ALL: [u8; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 9];
/// The short form leaves out the cluster, which takes longer to start than the other parts to run.
const SHORT: [u8; 8] = [1, 2, 3, 4, 5, 7, 8, 9];

#[derive(Clone, Debug)]
pub struct Plan {
    pub parts: Vec<u8>,
    pub full: bool,
    pub seed: u64,
}

impl Plan {
    /// Reads `CHAOS=full` or `short`, `CHAOS_PARTS=1,7`, `CHAOS_SEED=7`.
    pub fn from_environment() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let number = |name: &str, text: &str| -> u64 {
            text.trim().parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}"))
        };
        let full = set("CHAOS").is_some_and(|size| size == "full");
        let parts = match set("CHAOS_PARTS") {
            Some(text) => text.split(',').map(|part| number("CHAOS_PARTS", part) as u8).collect(),
            None if full => ALL.to_vec(),
            None => SHORT.to_vec(),
        };
        assert!(parts.iter().all(|part| ALL.contains(part)), "CHAOS_PARTS takes {ALL:?}, not {parts:?}");
        let seed = set("CHAOS_SEED").map(|text| number("CHAOS_SEED", &text));
        Self { parts, full, seed: seed.unwrap_or_else(|| fastrand::u64(..1_000_000)) }
    }

    /// Returns `full` in a full run, else `short`.
    pub fn pick<T>(&self, full: T, short: T) -> T {
        if self.full { full } else { short }
    }

    /// Returns the random generator of a part, which does not depend on the other parts.
    pub fn random(&self, part: u8) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed.wrapping_mul(100).wrapping_add(part.into()))
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.pick("full", "short");
        write!(f, "parts {:?}, {size}, CHAOS_SEED={}", self.parts, self.seed)
    }
}

/// Prints the log of the library from the level `CHAOS_LOG` on, if that is set.
pub fn install_logger() {
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
