//! The table, and what was not reached.

use std::{process::ExitCode, time::Duration};

use crate::{leaks::Leaks, plan::Plan};

/// How long consuming may take to begin again.
const AGAIN: Duration = Duration::from_secs(5);
const MEMORY: u64 = 64 << 20;

#[derive(Debug, Default)]
pub struct Row {
    pub part: u8,
    pub name: &'static str,
    pub faults: u64,
    pub messages: u64,
    /// Connections lost.
    pub lives: u64,
    pub blocked: u64,
    pub confirmed: u64,
    pub lost: u64,
    pub duplicates: u64,
    pub allowed: u64,
    pub disordered: u64,
    pub errors: u64,
    pub slowest: Duration,
    /// How long a silent peer was not noticed at most, and may be.
    pub silent: Option<(Duration, Duration)>,
    pub growth: u64,
    pub took: Duration,
    pub leaks: Option<Leaks>,
    pub failures: Vec<String>,
}

impl Row {
    pub fn new(part: u8, name: &'static str) -> Self {
        Self { part, name, ..Self::default() }
    }

    pub fn fail(&mut self, why: impl Into<String>) {
        self.failures.push(why.into());
    }

    /// Compares with the figures to reach. How fast things go is judged in full only: a short run shares its processors
    /// with other tests.
    pub async fn judge(&mut self, plan: &Plan) {
        if let Some(leaks) = self.leaks.take() {
            match leaks.descriptors().await {
                0 => {}
                left => self.fail(format!("{left} descriptors are left over")),
            }
        }
        let mut missed = Vec::new();
        if self.duplicates > self.allowed {
            missed.push(format!("{} duplicates, more than {}", self.duplicates, self.allowed));
        }
        if self.growth > MEMORY {
            missed.push(format!("memory grew by {} MiB", self.growth >> 20));
        }
        if plan.full && self.slowest > AGAIN {
            missed.push(format!("consuming again after {:?} only", self.slowest));
        }
        if let Some((found, limit)) = self.silent.filter(|(found, limit)| plan.full && found > limit) {
            missed.push(format!("a silent peer was noticed after {found:?}, not {limit:?}"));
        }
        self.failures.extend(missed);
    }
}

pub fn print(rows: &[Row], plan: &Plan) -> ExitCode {
    println!();
    println!(
        "| part | faults | connections lost | messages confirmed | lost | duplicates (allowed) | out of order \
         | errors | slowest to consume again | silent peer noticed | memory | took |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for row in rows {
        let silent = row.silent.map_or("–".into(), |(found, _)| format!("{:.1} s", found.as_secs_f64()));
        println!(
            "| {} {} | {} | {} | {} | {} | {} ({}) | {} | {} | {:.1} s | {silent} | {:.1} MiB | {:.0} s |",
            row.part,
            row.name,
            row.faults,
            row.lives,
            row.confirmed,
            row.lost,
            row.duplicates,
            row.allowed,
            row.disordered,
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
