//! Tries the client on a hostile server: every malformed case on a live connection, then the state machines with
//! scripts of the corpus and seeded ones, on a stack of 256 KiB. A panic ends the process, which must not happen.
//!
//! ```text
//! cargo run --profile abort --example hostile --features testing -- [runs of each machine [seed [machine]]]
//! ```

#![allow(clippy::print_stdout, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

mod cases;
mod malformed;

use std::{env, time::Instant};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number =
        |at: usize, default| arguments.get(at).map_or(default, |text| text.parse().expect("a number"));
    let (runs, seed) = (number(0, 100_000), number(1, 1));
    let only = arguments.get(2);
    if only.is_none() {
        let all = actix::System::new().block_on(malformed::run());
        println!("malformed: {all} cases");
    }
    for (machine, run) in cases::MACHINES {
        if only.is_none_or(|only| only == machine) {
            let since = Instant::now();
            cases::run(machine, run, seed, runs);
            println!("{machine}: the corpus and {runs} scripts of seed {seed} in {:.1?}", since.elapsed());
        }
    }
}
