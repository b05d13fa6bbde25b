//! Random operations, compared with lists: nothing is lost or doubled, counts are right, the order holds.

use super::*;

#[derive(Default)]
struct Model {
    /// What was published and has not left, by the number of the message.
    present: Vec<u32>,
    taken: Vec<Stored>,
}

fn number(stored: &Stored) -> u32 {
    body(stored).parse().unwrap()
}

fn random_operations(kind: QueueKind, line: Line, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut settings = settings(line, kind);
    settings.max_length = random.bool().then(|| random.u64(0..20));
    settings.message_ttl = random.bool().then(|| random.u64(1..50));
    settings.overflow = *random
        .choice(&[Overflow::DropHead, Overflow::RejectPublish, Overflow::RejectPublishDeadLetter])
        .unwrap();
    let is_plain = settings.kind == QueueKind::Classic { max_priority: None };
    let is_soft = matches!(settings.kind, QueueKind::Quorum { .. });
    let max_length = settings.max_length;
    let mut rig = Rig::new(settings);
    let mut model = Model::default();
    let mut published = 0;
    let context = |rig: &Rig| format!("seed {seed}, {:?}", rig.queue.settings());
    for _ in 0..400 {
        match random.u8(0..10) {
            0..=3 => {
                published += 1;
                let priority = random.bool().then(|| random.u8(0..8));
                let message = message_with(&published.to_string(), |properties| match priority {
                    Some(priority) => properties.with_priority(priority),
                    None => properties,
                });
                let refused = rig.push(message) == Pushed::Refused;
                if !refused || rig.dead.iter().any(|dead| number(&dead.stored) == published) {
                    model.present.push(published);
                }
            }
            4..=5 => {
                if let Some(stored) = rig.queue.take(rig.now, &mut rig.dead) {
                    model.taken.push(stored);
                }
            }
            6 if !model.taken.is_empty() => {
                let stored = model.taken.swap_remove(random.usize(0..model.taken.len()));
                rig.queue.settle(&stored);
                model.present.retain(|known| *known != number(&stored));
            }
            7 => {
                let mut returned = model.taken.split_off(random.usize(0..=model.taken.len()));
                returned.sort_by_key(|stored| stored.place);
                let why = *random.choice(&[Return::Nack, Return::Reject, Return::ChannelClosed]).unwrap();
                rig.requeue(returned, why);
            }
            8 => rig.pass_time(random.u64(0..10)),
            _ => {}
        }
        for dead in std::mem::take(&mut rig.dead) {
            let before = model.present.len();
            model.present.retain(|known| *known != number(&dead.stored));
            assert_eq!(
                model.present.len() + 1,
                before,
                "{} died twice: {}",
                number(&dead.stored),
                context(&rig)
            );
        }
        let ready: Vec<u32> = rig.queue.iter().map(number).collect();
        let counts_properties = line.rules().quorum_counts_properties
            && matches!(rig.queue.settings().kind, QueueKind::Quorum { .. });
        let size = |stored: &Stored| {
            let properties = if counts_properties { stored.message.properties().len() } else { 0 };
            stored.message.body.len() + properties
        };
        let bytes: usize = rig.queue.iter().map(size).sum();
        assert_eq!(
            (rig.queue.ready(), rig.queue.ready_bytes()),
            (ready.len(), bytes as u64),
            "{}",
            context(&rig)
        );
        assert_eq!(rig.queue.unacked(), model.taken.len(), "{}", context(&rig));
        let mut all: Vec<u32> = ready.iter().copied().chain(model.taken.iter().map(number)).collect();
        all.sort_unstable();
        model.present.sort_unstable();
        assert_eq!(all, model.present, "{}", context(&rig));
        if is_plain {
            assert!(ready.is_sorted(), "{ready:?} {}", context(&rig));
        }
        if let (Some(max), Overflow::DropHead) = (max_length, rig.queue.settings().overflow) {
            assert!(ready.len() as u64 <= max, "{}", context(&rig));
        }
        if !is_soft {
            assert_eq!(rig.queue.next_expiry(), rig.queue.iter().next().and_then(|head| head.expires_at));
        }
    }
}

#[test]
fn nothing_is_lost_or_doubled() {
    for seed in 0..10 {
        for line in LINES {
            random_operations(QueueKind::Classic { max_priority: None }, line, seed);
            random_operations(QueueKind::Classic { max_priority: Some(5) }, line, seed);
            random_operations(QueueKind::Quorum { delivery_limit: None }, line, seed);
            random_operations(QueueKind::Quorum { delivery_limit: Some(2) }, line, seed);
        }
    }
}
