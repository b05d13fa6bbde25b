//! Scripts for the machines of `testing::Hostile`: those of the corpus, random ones, and damaged ones. The same seed
//! gives the same scripts.

use std::{cell::RefCell, fs, panic, path::PathBuf};

use actix_pika_actors::testing::Hostile;

/// The longest random script.
const LONGEST: usize = 400;
/// A stack as small as that of a thread of many systems.
const STACK: usize = 256 << 10;

pub type Run = fn(&Hostile, &[u8]);

/// The machines, by the name of their fuzz target.
pub const MACHINES: [(&str, Run); 3] =
    [("channel", Hostile::channel), ("connection", Hostile::connection), ("recovery", Hostile::recovery)];

thread_local! {
    /// The script that runs, for the report of a panic.
    static CURRENT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Returns the scripts of a corpus.
pub fn corpus(machine: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds").join(machine);
    let mut files: Vec<_> =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}")).flatten().collect();
    files.sort_by_key(fs::DirEntry::file_name);
    files.into_iter().map(|file| fs::read(file.path()).expect("a file of the corpus")).collect()
}

/// Runs the corpus of a machine and then so many scripts, on a small stack.
pub fn run(machine: &'static str, run: Run, seed: u64, runs: u64) {
    let all = move || {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let script = CURRENT
                .with_borrow(|script| script.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
            let text = format!("{machine}, script {script}: {info}");
            fs::write(std::env::temp_dir().join("hostile.failed"), &text).unwrap_or_default();
            hook(info);
        }));
        let (hostile, corpus) = (Hostile::new(), corpus(machine));
        let mut random = fastrand::Rng::with_seed(seed);
        let mut seeded = (0..runs).map(|_| script(&mut random, &corpus));
        for script in corpus.iter().cloned().chain(&mut seeded) {
            CURRENT.set(script);
            CURRENT.with_borrow(|script| run(&hostile, script));
        }
    };
    let thread = std::thread::Builder::new().name(machine.into()).stack_size(STACK).spawn(all);
    if thread.expect("a thread").join().is_err() {
        panic!(
            "{machine}: {}",
            fs::read_to_string(std::env::temp_dir().join("hostile.failed")).unwrap_or_default()
        );
    }
}

fn script(random: &mut fastrand::Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    if corpus.is_empty() || random.bool() {
        return (0..random.usize(1..LONGEST)).map(|_| random.u8(..)).collect();
    }
    let mut script = corpus[random.usize(..corpus.len())].clone();
    for _ in 0..random.usize(1..8) {
        if script.is_empty() {
            break;
        }
        let at = random.usize(..script.len());
        match random.u8(..5) {
            0 => script[at] = random.u8(..),
            1 => script.insert(at, random.u8(..)),
            2 => drop(script.remove(at)),
            3 => script.truncate(at + 1),
            _ => {
                let other = &corpus[random.usize(..corpus.len())];
                let from = random.usize(..=other.len());
                script.truncate(at);
                script.extend(other.iter().skip(from).take(LONGEST));
            }
        }
    }
    script.truncate(2 * LONGEST);
    script
}
