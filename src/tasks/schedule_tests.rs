//! Tests of the schedule, without a runtime.

use std::time::Duration;

use super::*;

fn started(schedule: &mut Schedule<u32>) -> Vec<u32> {
    let mut started = Vec::new();
    while let Some(slot) = schedule.start() {
        started.push(*schedule.get(slot).unwrap());
    }
    started
}

fn slot_of(schedule: &Schedule<u32>, payload: u32) -> Slot {
    let is_it = |held: &Option<Held<u32>>| held.as_ref().is_some_and(|held| held.payload == payload);
    schedule.slots.iter().position(is_it).unwrap()
}

fn finish(schedule: &mut Schedule<u32>, payload: u32) {
    let slot = slot_of(schedule, payload);
    assert_eq!(schedule.finish(slot), Some(payload));
}

#[test]
fn tasks_start_in_order_while_there_are_permits() {
    let mut schedule = Schedule::new(2);
    (1..=4).for_each(|task| {
        schedule.arrive(task, None, None);
    });
    assert_eq!(started(&mut schedule), [1, 2]);
    assert_eq!((schedule.busy(), schedule.waiting(), schedule.has_permit()), (2, 2, false));
    finish(&mut schedule, 2);
    assert_eq!(started(&mut schedule), [3]);
    finish(&mut schedule, 1);
    finish(&mut schedule, 3);
    assert_eq!(started(&mut schedule), [4]);
}

#[test]
fn a_lane_runs_one_task_at_a_time_and_lanes_take_turns() {
    let mut schedule = Schedule::new(3);
    for (task, lane) in [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 4)] {
        schedule.arrive(task, Some(lane), None);
    }
    assert_eq!(started(&mut schedule), [1, 4, 6]);
    finish(&mut schedule, 1);
    // The lane of 7 has not had its turn.
    assert_eq!(started(&mut schedule), [7]);
    finish(&mut schedule, 6);
    assert_eq!(started(&mut schedule), [2]);
    finish(&mut schedule, 4);
    finish(&mut schedule, 7);
    assert_eq!(started(&mut schedule), [5]);
    for task in [2, 5] {
        finish(&mut schedule, task);
    }
    assert_eq!(started(&mut schedule), [3]);
    finish(&mut schedule, 3);
    assert!(schedule.lanes.is_empty() && schedule.waiting() == 0 && schedule.busy() == 0);
}

#[test]
fn a_task_that_pauses_keeps_its_permit_and_its_lane() {
    let (mut schedule, now) = (Schedule::new(1), Instant::now());
    schedule.arrive(1, Some(1), None);
    schedule.arrive(2, Some(1), None);
    schedule.arrive(3, Some(2), None);
    let slot = schedule.start().unwrap();
    let until = now + Duration::from_secs(1);
    schedule.pause(slot, until);
    assert_eq!(started(&mut schedule), [0; 0]);
    assert_eq!((schedule.next_due(), schedule.resume(now)), (Some(until), None));
    assert_eq!((schedule.resume(until), schedule.next_due()), (Some(slot), None));
    assert_eq!(schedule.finish(slot), Some(1));
    assert_eq!(started(&mut schedule), [3]);
}

#[test]
fn the_end_of_a_pause_is_not_that_of_the_next_task_in_its_slot() {
    let (mut schedule, now) = (Schedule::new(1), Instant::now());
    schedule.arrive(1, None, None);
    let slot = schedule.start().unwrap();
    schedule.pause(slot, now);
    assert_eq!(schedule.finish(slot), Some(1));
    schedule.arrive(2, None, None);
    assert_eq!(schedule.start(), Some(slot));
    assert_eq!((schedule.next_due(), schedule.resume(now)), (None, None));
}

#[test]
fn a_copy_starts_when_its_original_has_ended() {
    let mut schedule = Schedule::new(2);
    schedule.arrive(1, None, None);
    let original = schedule.start().unwrap();
    schedule.arrive(2, None, Some(original));
    schedule.arrive(3, None, Some(original));
    schedule.arrive(4, None, None);
    schedule.arrive(5, None, None);
    assert_eq!(started(&mut schedule), [4]);
    finish(&mut schedule, 1);
    assert_eq!(started(&mut schedule), [2]);
    finish(&mut schedule, 4);
    assert_eq!(started(&mut schedule), [3]);
}

#[test]
fn a_copy_enters_its_lane_after_its_original() {
    let mut schedule = Schedule::new(4);
    schedule.arrive(1, None, None);
    let original = schedule.start().unwrap();
    schedule.arrive(2, Some(1), None);
    schedule.arrive(3, Some(1), Some(original));
    assert_eq!(started(&mut schedule), [2]);
    finish(&mut schedule, 1);
    assert_eq!(started(&mut schedule), [0; 0]);
    finish(&mut schedule, 2);
    assert_eq!(started(&mut schedule), [3]);
}

#[test]
fn a_task_that_is_put_back_starts_before_later_ones() {
    let mut schedule = Schedule::new(3);
    (1..=5).for_each(|task| {
        schedule.arrive(task, None, None);
    });
    assert_eq!(started(&mut schedule), [1, 2, 3]);
    for task in [3, 1] {
        let slot = slot_of(&schedule, task);
        schedule.put_back(slot);
    }
    assert_eq!((schedule.busy(), schedule.waiting()), (1, 4));
    assert_eq!(started(&mut schedule), [1, 3]);
    assert_eq!(schedule.finish(99), None);
}

#[test]
fn what_has_not_begun_is_taken_in_order() {
    let (mut schedule, now) = (Schedule::new(2), Instant::now());
    for (task, lane) in [(1, 1), (2, 1), (3, 2), (4, 3), (5, 1)] {
        schedule.arrive(task, Some(lane), None);
    }
    assert_eq!(started(&mut schedule), [1, 3]);
    assert_eq!(schedule.take_waiting(), [2, 4, 5]);
    assert_eq!((schedule.busy(), schedule.waiting()), (2, 0));
    let slot = slot_of(&schedule, 3);
    schedule.pause(slot, now);
    assert_eq!(schedule.take_paused(), [3]);
    // The lane of 1 still has a task.
    schedule.arrive(6, Some(1), None);
    assert_eq!(started(&mut schedule), [0; 0]);
    finish(&mut schedule, 1);
    assert_eq!(started(&mut schedule), [6]);
    assert_eq!(schedule.take_waiting(), [0; 0]);
    assert_eq!(schedule.take_all(), [6]);
    assert_eq!((schedule.busy(), schedule.waiting()), (0, 0));
}

/// What a random schedule remembers of a task.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Known {
    lane: Option<u64>,
    copy_of: Option<u32>,
    begun: bool,
}

/// Random arrivals, starts, pauses and ends: lanes stay in order, no more run than have permits, copies do not overlap
/// their originals, and nothing is lost.
#[test]
fn random_schedules_keep_the_rules() {
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let at_once = random.usize(1..6);
        let mut schedule = Schedule::new(at_once);
        let mut known: HashMap<u32, Known> = HashMap::new();
        let (mut next, mut ended, mut taken, mut now) = (0, 0, 0, Instant::now());
        for _ in 0..400 {
            let begun: Vec<u32> = schedule.begun().map(|(_, task)| *task).collect();
            assert!(begun.len() <= at_once && begun.len() == schedule.busy());
            let any = |random: &mut fastrand::Rng| begun.get(random.usize(0..begun.len().max(1))).copied();
            match random.u32(0..100) {
                0..35 => {
                    let lane = random.bool().then(|| random.u64(0..4));
                    let copy_of = if random.u8(0..8) == 0 { any(&mut random) } else { None };
                    let original = copy_of.map(|task| slot_of(&schedule, task));
                    schedule.arrive(next, lane, original);
                    known.insert(next, Known { lane, copy_of, begun: false });
                    next += 1;
                }
                35..65 => {
                    if let Some(slot) = schedule.start() {
                        let task = *schedule.get(slot).unwrap();
                        let mine = known[&task];
                        assert!(!mine.begun);
                        for (other, its) in &known {
                            let same_lane = mine.lane.is_some() && mine.lane == its.lane;
                            assert!(!(same_lane && its.begun), "{task} runs beside {other} (seed {seed})");
                            let earlier =
                                same_lane && *other < task && its.copy_of.is_none() && mine.copy_of.is_none();
                            assert!(!earlier, "{task} overtakes {other} (seed {seed})");
                            assert!(mine.copy_of != Some(*other), "{task} overlaps {other} (seed {seed})");
                        }
                        known.get_mut(&task).unwrap().begun = true;
                    }
                }
                65..85 => {
                    if let Some(task) = any(&mut random) {
                        finish(&mut schedule, task);
                        known.remove(&task);
                        ended += 1;
                    }
                }
                85..92 => {
                    if let Some(task) = any(&mut random) {
                        let slot = slot_of(&schedule, task);
                        schedule.pause(slot, now + Duration::from_millis(random.u64(0..50)));
                    }
                }
                92..97 => {
                    now += Duration::from_millis(20);
                    while let Some(slot) = schedule.resume(now) {
                        if random.bool() {
                            let task = *schedule.get(slot).unwrap();
                            schedule.put_back(slot);
                            known.get_mut(&task).unwrap().begun = false;
                        }
                    }
                }
                _ if random.u8(0..10) == 0 => {
                    let waiting = schedule.take_waiting();
                    taken += waiting.len();
                    waiting.iter().for_each(|task| assert!(!known.remove(task).unwrap().begun));
                }
                _ => {}
            }
            assert_eq!(schedule.busy() + schedule.waiting(), known.len());
        }
        // Everything that waits gets its turn.
        while schedule.busy() + schedule.waiting() > 0 {
            started(&mut schedule);
            let begun: Vec<Slot> = schedule.begun().map(|(slot, _)| slot).collect();
            assert!(!begun.is_empty(), "nothing can start (seed {seed})");
            for slot in begun {
                schedule.finish(slot).unwrap();
                ended += 1;
            }
        }
        assert_eq!(ended + taken, next as usize);
        assert!(schedule.lanes.is_empty());
    }
}
