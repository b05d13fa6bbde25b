//! The machine of a chaos, without a broker: the same seed gives the same faults, only possible ones, and what lasts ends.

use std::collections::BTreeSet;

use slotmap::SlotMap;

use super::{
    fault::FaultKind,
    machine::{Action, Machine, Plan, Scene, Target},
};
use crate::core::{ConnectionId, Time};

fn machine(seed: u64, kinds: &[FaultKind], every: u64, most: u64) -> Machine {
    Machine::new(Plan { seed, kinds: kinds.to_vec(), every, most })
}

/// Two open connections, one whose handshake is not over, and a queue with consumers.
fn scene() -> Scene {
    let mut ids = SlotMap::<ConnectionId, ()>::with_key();
    let mut target = |peer, is_open: bool| {
        let open = is_open.then(|| ids.insert(()));
        Target { peer, open, name: format!("connection {peer}") }
    };
    let peers = vec![target(3, true), target(5, false), target(8, true)];
    Scene { peers, consumed: vec![("/".into(), "orders".into())] }
}

/// Runs with a frame for each millisecond.
fn run(machine: &mut Machine, frames: u64, scene: &Scene) -> Vec<Action> {
    let mut actions = Vec::new();
    for frame in 0..frames {
        let now = Time::from_millis(frame);
        actions.extend(machine.ends(now));
        if machine.has_counted(1) {
            actions.extend(machine.strike(now, scene));
        }
    }
    actions
}

#[test]
fn the_same_seed_gives_the_same_faults_and_another_one_others() {
    let of = |seed| {
        let mut machine = machine(seed, &FaultKind::USUAL, 10, u64::MAX);
        let actions = run(&mut machine, 5_000, &scene());
        (actions, machine.to_string())
    };
    assert_eq!(of(7), of(7));
    assert_ne!(of(7), of(8));
}

#[test]
fn every_kind_that_is_chosen_comes_and_no_other_one() {
    let mut chosen = machine(1, &FaultKind::USUAL, 1, u64::MAX);
    run(&mut chosen, 1_000, &scene());
    let kinds: BTreeSet<FaultKind> = chosen.faults().map(|fault| fault.kind).collect();
    assert_eq!(kinds, BTreeSet::from(FaultKind::USUAL));
    let mut empty = machine(1, &[FaultKind::RestartEmpty], 1, u64::MAX);
    assert_eq!(run(&mut empty, 3, &scene()), vec![Action::RestartEmpty; 3]);
}

#[test]
fn the_mean_distance_is_what_was_said() {
    let mut often = machine(3, &[FaultKind::Restart], 50, u64::MAX);
    run(&mut often, 100_000, &Scene::default());
    assert!((1_900..2_100).contains(&often.count()), "{}", often.count());
    // The last ones are kept.
    assert_eq!(often.faults().count(), 1_000);
    assert_eq!(often.faults().last().map(|fault| fault.number), Some(often.count()));
    let mut each = machine(3, &[FaultKind::Restart], 1, u64::MAX);
    run(&mut each, 10, &Scene::default());
    assert_eq!(each.faults().map(|fault| fault.frames).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
}

#[test]
fn no_more_come_than_at_most() {
    let mut few = machine(3, &[FaultKind::Restart], 1, 3);
    assert_eq!(run(&mut few, 100, &Scene::default()).len(), 3);
}

#[test]
fn what_is_not_possible_is_not_chosen() {
    let kinds = [FaultKind::Cut, FaultKind::Close, FaultKind::CancelConsumers];
    let mut nobody = machine(3, &kinds, 1, u64::MAX);
    assert!(run(&mut nobody, 100, &Scene::default()).is_empty());
    // Without an open connection only a cut is possible.
    let connecting = Scene {
        peers: vec![Target { peer: 1, open: None, name: "connection 1".into() }],
        consumed: Vec::new(),
    };
    let actions = run(&mut nobody, 100, &connecting);
    assert_eq!(actions.len(), 100);
    assert!(actions.iter().all(|action| matches!(action, Action::CutOutput(1, _) | Action::CutInput(1, _))));
}

#[test]
fn what_lasts_ends_once_at_the_latest_end() {
    let scene = Scene { peers: vec![Target { peer: 1, open: None, name: "connection 1".into() }], ..scene() };
    let mut paused = machine(3, &[FaultKind::StopReading], 1, 2);
    assert!(paused.has_counted(1));
    paused.strike(Time::ZERO, &scene);
    let first = paused.next_end().unwrap();
    assert!(first > Time::ZERO && paused.ends(Time::ZERO).is_empty());
    assert!(paused.has_counted(1));
    paused.strike(first, &scene);
    let end = paused.next_end().unwrap();
    assert!(end > first);
    assert!(paused.ends(first).is_empty());
    assert_eq!(paused.ends(end), [Action::PauseReading(1, false)]);
    assert_eq!(paused.next_end(), None);
}

#[test]
fn a_stop_ends_what_lasts() {
    let mut blocked = machine(3, &[FaultKind::Block], 1, u64::MAX);
    assert!(blocked.has_counted(1));
    blocked.strike(Time::ZERO, &scene());
    assert_eq!(blocked.stop(), [Action::Alarm(None), Action::Forget]);
    assert!(!blocked.has_counted(100) && blocked.next_end().is_none());
}
