//! The faults, one file for each kind.

mod alarms;
mod closes;
mod cluster;
mod cuts;
mod freeze;
mod kills;
mod topology;

use crate::{plan::Plan, report::Row};

/// Runs one part; one that panics has failed, and the next one runs.
pub async fn run(part: u8, plan: &Plan) -> Row {
    let mut row = Row::new(part, name(part));
    println!("chaos: part {part}, {}", row.name);
    let of_part = plan.clone();
    let ended = actix_rt::spawn(async move {
        match part {
            1 => cuts::run(&mut row, &of_part).await,
            2 => closes::run(&mut row, &of_part).await,
            3 => kills::run(&mut row, &of_part).await,
            4 => freeze::run(&mut row, &of_part).await,
            5 => alarms::run(&mut row, &of_part).await,
            6 => cluster::run(&mut row, &of_part).await,
            7 => topology::run(&mut row, &of_part).await,
            _ => unreachable!("no such part"),
        }
        row
    });
    let mut row = ended.await.unwrap_or_else(|panic| {
        let mut row = Row::new(part, name(part));
        row.fail(format!("{panic}; what it said stands above"));
        row
    });
    row.judge(plan).await;
    row
}

fn name(part: u8) -> &'static str {
    match part {
        1 => "cuts by the network",
        2 => "closes by the broker",
        3 => "kills of the node",
        4 => "a node that stands still",
        5 => "memory alarms",
        6 => "nodes of a cluster",
        7 => "a topology of every kind",
        _ => "?",
    }
}
