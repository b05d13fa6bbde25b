//! The faults, one file for each kind.

mod alarms;
mod closes;
mod cluster;
mod cuts;
mod deletes;
mod kills;
mod limits;
mod pause;
mod topology;

use crate::{
    plan::Plan,
    report::Row,
    support::broker::{Cluster, SecondNode},
};

/// Runs one part. A part that panics has failed; its node is restored, and the next part runs.
pub async fn run(part: u8, plan: &Plan) -> Row {
    let mut row = Row::new(part, name(part));
    println!("chaos: part {part}, {}", row.name);
    let plan_of_part = plan.clone();
    let task = actix_rt::spawn(async move {
        match part {
            1 => cuts::run(&mut row, &plan_of_part).await,
            2 => closes::run(&mut row, &plan_of_part).await,
            3 => kills::run(&mut row, &plan_of_part).await,
            4 => pause::run(&mut row, &plan_of_part).await,
            5 => alarms::run(&mut row, &plan_of_part).await,
            6 => cluster::run(&mut row, &plan_of_part).await,
            7 => topology::run(&mut row, &plan_of_part).await,
            8 => deletes::run(&mut row, &plan_of_part).await,
            9 => limits::run(&mut row, &plan_of_part).await,
            _ => unreachable!("no such part"),
        }
        row
    });
    let mut row = match task.await {
        Ok(row) => row,
        Err(panic) => {
            let mut row = Row::new(part, name(part));
            row.fail(panic.to_string());
            if let Err(panic) = actix_rt::spawn(restore(part)).await {
                row.fail(format!("the node was not restored: {panic}"));
            }
            row
        }
    };
    row.check_limits(plan).await;
    row
}

/// Brings the node of a part that failed back to its initial state.
async fn restore(part: u8) {
    match part {
        3..=5 => drop(SecondNode::start().await),
        6 => drop(Cluster::start().await),
        _ => {}
    }
}

fn name(part: u8) -> &'static str {
    match part {
        1 => "network cuts",
        2 => "closes by the broker",
        3 => "killed node",
        4 => "paused node",
        5 => "memory alarms",
        6 => "cluster nodes",
        7 => "topology of every kind",
        8 => "deletes by others",
        9 => "limits of connections",
        _ => "?",
    }
}
