//! Measures a closure and prints nanoseconds per operation.

use std::time::{Duration, Instant};

const SAMPLES: usize = 10;
const SAMPLE_TIME: Duration = Duration::from_millis(100);

/// Calls `run` repeatedly and prints the time of the fastest sample, divided by the number of operations. `run` does
/// `operations` operations per call.
pub fn measure(name: &str, operations: u32, mut run: impl FnMut()) {
    let started = Instant::now();
    let mut calls = 0u32;
    while started.elapsed() < SAMPLE_TIME {
        run();
        calls += 1;
    }
    let mut fastest = Duration::MAX;
    for _ in 0..SAMPLES {
        let started = Instant::now();
        for _ in 0..calls {
            run();
        }
        fastest = fastest.min(started.elapsed());
    }
    let nanoseconds = fastest.as_nanos() as f64 / f64::from(calls) / f64::from(operations);
    println!("{name:<45} {nanoseconds:>9.1} ns");
}
