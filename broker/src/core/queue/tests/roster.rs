//! The order of consumers: broker.md section 6.

use super::*;

fn roster(turns: Turns, consumers: &[(char, i64)]) -> Roster<char> {
    let mut roster = Roster::new(turns, false);
    consumers.iter().for_each(|&(consumer, priority)| roster.add(consumer, priority));
    roster
}

fn next(roster: &mut Roster<char>, count: usize) -> String {
    (0..count).map(|_| roster.next().unwrap_or('-')).collect()
}

#[test]
fn consumers_of_one_priority_take_turns() {
    let mut roster = roster(Turns::All, &[('a', 0), ('b', 0), ('c', 0)]);
    assert_eq!(next(&mut roster, 7), "abcabca");
    assert!(roster.remove('b') && !roster.remove('b'));
    assert_eq!((next(&mut roster, 3).as_str(), roster.len()), ("cac", 2));
    assert_eq!(roster.active(), None);
    assert_eq!(roster.iter().collect::<String>(), "ac");
}

#[test]
fn the_higher_priority_is_first_until_it_is_blocked() {
    let mut roster = roster(Turns::All, &[('a', 0), ('b', 5), ('c', -1), ('d', 5)]);
    assert_eq!(next(&mut roster, 4), "bdbd");
    roster.block('b');
    assert_eq!(next(&mut roster, 2), "dd");
    roster.block('d');
    assert_eq!(next(&mut roster, 2), "aa");
    roster.block('a');
    assert_eq!(next(&mut roster, 2), "cc");
    roster.block('c');
    assert!(!roster.peek());
    assert_eq!(roster.next(), None);
    roster.unblock('d');
    assert!(roster.peek());
    assert_eq!(next(&mut roster, 2), "dd");
}

/// A blocked consumer leaves the round and joins again at the end.
#[test]
fn a_blocked_consumer_joins_at_the_end() {
    let mut roster = roster(Turns::All, &[('a', 0), ('b', 0), ('c', 0)]);
    roster.block('a');
    assert_eq!(next(&mut roster, 3), "bcb");
    roster.unblock('a');
    roster.unblock('a');
    assert_eq!(next(&mut roster, 4), "cbac");
    roster.block('x');
    roster.unblock('x');
    assert_eq!(roster.len(), 3);
}

/// The first subscribed is active, and the next takes over at once. Priority does not matter in quorum queues up to 3.13.
#[test]
fn a_single_active_consumer_is_the_first_one() {
    let turns = Turns::SingleActive(Succession::Oldest);
    let mut roster = roster(turns, &[('a', 0), ('b', 9), ('c', 0)]);
    assert_eq!((next(&mut roster, 3).as_str(), roster.active()), ("aaa", Some('a')));
    roster.set_busy('a', true);
    roster.block('a');
    assert!(!roster.peek());
    assert_eq!(roster.next(), None);
    assert!(roster.remove('a'));
    assert_eq!((roster.next(), roster.active()), (Some('b'), Some('b')));
    assert!(roster.remove('c') && roster.remove('b') && roster.is_empty());
    assert_eq!((roster.next(), roster.active()), (None, None));
}

/// Classic, asked of 3.10.8: the first subscribed is active whatever its priority, and priority chooses the next one.
#[test]
fn the_highest_priority_follows_a_single_active_consumer() {
    let turns = Turns::SingleActive(Succession::HighestPriority);
    let mut roster = roster(turns, &[('a', 0), ('b', 0), ('c', 5), ('d', 5)]);
    assert_eq!(roster.next(), Some('a'));
    for next in ['c', 'd', 'b'] {
        assert!(roster.remove(roster.active().unwrap()));
        assert_eq!((roster.next(), roster.active()), (Some(next), Some(next)));
    }
}

/// Quorum from 4.0 on: a consumer of higher priority takes over as soon as the active one has nothing outstanding.
#[test]
fn a_higher_priority_takes_over_when_the_active_one_is_idle() {
    let turns = Turns::SingleActive(Succession::TakesOver);
    let mut roster = roster(turns, &[('a', 0), ('b', 0)]);
    assert_eq!(roster.next(), Some('a'));
    roster.set_busy('a', true);
    roster.add('c', 5);
    // It finishes what it has, and gets no more.
    assert_eq!((roster.next(), roster.active(), roster.peek()), (None, Some('a'), false));
    roster.set_busy('a', false);
    assert_eq!((roster.next(), roster.active()), (Some('c'), Some('c')));
    roster.add('d', 5);
    assert_eq!(roster.next(), Some('c'));
    // It takes over at once if the active one is idle.
    roster.add('e', 7);
    assert_eq!(roster.active(), Some('e'));
    roster.set_busy('e', true);
    assert!(roster.remove('e'));
    assert_eq!(roster.active(), Some('c'));
    assert!(roster.remove('c') && roster.remove('d'));
    assert_eq!(roster.next(), Some('a'));
}

/// Whoever they are, and whoever is full.
#[test]
fn consumers_that_leave_together_leave_as_one_after_another() {
    let succession = [Succession::Oldest, Succession::HighestPriority, Succession::TakesOver];
    let all = [('a', 0), ('b', 2), ('c', 1), ('d', 2), ('e', 0)];
    for turns in succession.map(Turns::SingleActive).into_iter().chain([Turns::All]) {
        for leaves_at_turn in [false, true] {
            for (gone, full) in (0..32).flat_map(|gone| (0..32).map(move |full| (gone, full))) {
                let is = |set: u32, key: char| set & 1 << (key as u32 - 'a' as u32) != 0;
                let build = || {
                    let mut roster = Roster::new(turns, leaves_at_turn);
                    all.iter().for_each(|&(key, priority)| roster.add(key, priority));
                    all.iter().filter(|(key, _)| is(full, *key)).for_each(|(key, _)| roster.block(*key));
                    roster
                };
                let (mut together, mut singly) = (build(), build());
                together.remove_all(|key| is(gone, key));
                all.iter().filter(|(key, _)| is(gone, *key)).for_each(|(key, _)| _ = singly.remove(*key));
                let state = |roster: &mut Roster<char>| {
                    (roster.active(), roster.peek(), roster.len(), next(roster, 6))
                };
                assert_eq!(state(&mut together), state(&mut singly), "{turns:?} {gone} {full}");
            }
        }
    }
}
