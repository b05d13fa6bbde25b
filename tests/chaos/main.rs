//! Faults by the hundred, and a count of what came through: nothing confirmed may be lost, nothing may come too often or
//! out of order, nothing may leak. `make chaos` runs it in full, `cargo test` in short.
//!
//! - [`plan`]: which parts, how long, and with which seed;
//! - [`traffic`]: publishers and consumers; [`checker`] keeps the books of what they did;
//! - [`story`]: what the connections told; [`leaks`]: what the process holds; [`report`]: the table;
//! - [`parts`]: the faults, one file for each kind.

#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    unused_imports,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod checker;
mod leaks;
mod parts;
mod plan;
mod report;
mod story;
mod traffic;

use plan::Plan;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(plan) = Plan::from_environment() else {
        eprintln!("chaos: left out, it was not asked for");
        return ExitCode::SUCCESS;
    };
    plan::log();
    checker::prove();
    println!("chaos: {plan}");
    let rows = actix::System::new().block_on(async {
        let mut rows = Vec::new();
        for part in &plan.parts {
            rows.push(parts::run(*part, &plan).await);
        }
        rows
    });
    report::print(&rows, &plan)
}
