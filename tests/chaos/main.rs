//! The chaos test: breaks connections, nodes and the network under load, and counts messages. No confirmed message may
//! be lost, duplicates are limited, each publisher's messages arrive in order, nothing leaks.
//!
//! `make test` runs it in short form, `make chaos` in full.
//!
//! - [`plan`]: which parts run, at which size, with which seed;
//! - [`traffic`]: starts publishers and consumers ([`workers`]), and checks the result ([`checker`]);
//! - [`history`]: the events of a connection; [`leaks`]: memory and descriptors; [`report`]: the table of results;
//! - [`parts`]: the faults, one file for each kind.

#![allow(missing_docs, unreachable_pub, dead_code, clippy::print_stdout, clippy::print_stderr)]

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod checker;
mod history;
mod leaks;
mod parts;
mod plan;
mod report;
mod traffic;
mod workers;

use plan::Plan;
use std::process::ExitCode;

fn main() -> ExitCode {
    let plan = Plan::from_environment();
    plan::install_logger();
    checker::self_test();
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
