//! The results: a table, and the failures.

use std::{process::ExitCode, time::Duration};

use crate::{leaks::Leaks, plan::Plan};

/// How long it may take until deliveries come again, unless a part sets another limit.
const RECOVERY_LIMIT: Duration = Duration::from_secs(5);
const MEMORY_LIMIT: u64 = 64 << 20;

#[derive(Debug, Default)]
pub struct Row {
    pub part: u8,
    pub name: &'static str,
    pub faults: u64,
    pub messages: u64,
    /// How many times a connection was lost.
    pub losses: u64,
    pub blocked: u64,
    pub confirmed: u64,
    pub lost: u64,
    pub duplicates: u64,
    pub allowed_duplicates: u64,
    pub out_of_order: u64,
    pub errors: u64,
    /// The longest time until deliveries came again, and the limit.
    pub slowest: Duration,
    pub slowest_limit: Duration,
    /// The longest time until a silent peer was noticed, and the limit.
    pub silent_peer: Option<(Duration, Duration)>,
    pub growth: u64,
    pub took: Duration,
    pub leaks: Option<Leaks>,
    pub failures: Vec<String>,
}

impl Row {
    pub fn new(part: u8, name: &'static str) -> Self {
        Self { part, name, slowest_limit: RECOVERY_LIMIT, ..Self::default() }
    }

    pub fn fail(&mut self, reason: impl Into<String>) {
        self.failures.push(reason.into());
    }

    /// Compares the results with the limits. Limits of time hold in a full run only, because a short run may share the
    /// processors with other programs.
    pub async fn check_limits(&mut self, plan: &Plan) {
        if let Some(leaks) = self.leaks.take() {
            match leaks.leaked_descriptors().await {
                0 => {}
                left => self.fail(format!("{left} descriptors leaked")),
            }
        }
        let mut missed = Vec::new();
        if self.duplicates > self.allowed_duplicates {
            missed.push(format!("{} duplicates, limit {}", self.duplicates, self.allowed_duplicates));
        }
        if self.growth > MEMORY_LIMIT {
            missed.push(format!("memory grew by {} MiB", self.growth >> 20));
        }
        if plan.full && self.slowest > self.slowest_limit {
            missed.push(format!(
                "deliveries came again after {:?}, limit {:?}",
                self.slowest, self.slowest_limit
            ));
        }
        if let Some((noticed, limit)) =
            self.silent_peer.filter(|(noticed, limit)| plan.full && noticed > limit)
        {
            missed.push(format!("a silent peer was noticed after {noticed:?}, limit {limit:?}"));
        }
        self.failures.extend(missed);
    }
}

pub fn print(rows: &[Row], plan: &Plan) -> ExitCode {
    println!();
    println!(
        "| part | faults | connections lost | messages confirmed | lost | duplicates (allowed) | out of order \
         | errors | slowest recovery | silent peer noticed | memory | took |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        let silent =
            row.silent_peer.map_or("-".into(), |(noticed, _)| format!("{:.1} s", noticed.as_secs_f64()));
        println!(
            "| {} {} | {} | {} | {} | {} | {} ({}) | {} | {} | {:.1} s | {silent} | {:.1} MiB | {:.0} s |",
            row.part,
            row.name,
            row.faults,
            row.losses,
            row.confirmed,
            row.lost,
            row.duplicates,
            row.allowed_duplicates,
            row.out_of_order,
            row.errors,
            row.slowest.as_secs_f64(),
            row.growth as f64 / f64::from(1 << 20),
            row.took.as_secs_f64(),
        );
    }
    println!();
    let mut code = ExitCode::SUCCESS;
    for row in rows {
        for failure in &row.failures {
            println!("FAILED part {} ({}), {plan}: {failure}", row.part, row.name);
            code = ExitCode::FAILURE;
        }
    }
    code
}
