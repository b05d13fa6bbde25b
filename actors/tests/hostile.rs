//! The state machines against a hostile server: the corpus, and as many seeded scripts as `HOSTILE_RUNS` says; and every
//! malformed case on a live connection. `examples/hostile` runs the same with `panic = "abort"`.

#![allow(missing_docs, unreachable_pub)]

#[path = "../examples/hostile/cases.rs"]
mod cases;
#[path = "../examples/hostile/malformed.rs"]
mod malformed;

fn run(at: usize) {
    let runs = std::env::var("HOSTILE_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(1000);
    let (machine, run) = cases::MACHINES[at];
    cases::run(machine, run, 7, runs);
}

/// FT-11
#[test]
fn a_channel_survives_any_script() {
    run(0);
}

/// FT-11
#[test]
fn a_connection_survives_any_script() {
    run(1);
}

/// FT-11
#[test]
fn a_recovery_survives_any_script() {
    run(2);
}

/// PRO-18
#[actix::test]
async fn every_malformed_case_is_a_fault_or_goes_on() {
    malformed::run().await;
}
