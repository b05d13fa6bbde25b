//! What nodes of each line answered, as rows of text in the folder `asked`.
//!
//! ```text
//! # A title begins a conversation with a new broker.
//! a1 declare q durable
//!   a1 declared q 0 0
//! a1 xdeclare x nosuchtype
//!   3.10: a0 close 503 COMMAND_INVALID - unknown exchange type 'nosuchtype' at 40 10
//!   3.13 4.0 4.3: a1 close 406 PRECONDITION_FAILED - unknown exchange type 'nosuchtype' at 40 10
//! ```
//!
//! An operation is as in `operation.rs`; what is indented are the answers, of all lines or of those that are named. What
//! has to follow an error is said without being written: `close_ok`, or the end of the socket.
//!
//! With `BROKER_ORACLE` (see `rig.rs`) everything is said to a node, too. With `BROKER_RECORD` as well, its answers are
//! written into the files; with `BROKER_RECORD=V3_13` and no node, those of the broker.

use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
};

use super::{oracle::Oracle, rig::Rig};
use crate::core::{CoreConfig, Line};

const LINES: [(Line, &str); 4] =
    [(Line::V3_10, "3.10"), (Line::V3_13, "3.13"), (Line::V4_0, "4.0"), (Line::V4_3, "4.3")];

/// How many conversations a node has at once. Most of the time is spent on waiting.
const AT_ONCE: usize = 12;

struct Conversation {
    title: String,
    steps: Vec<Step>,
}

struct Step {
    operation: String,
    answers: BTreeMap<Line, Vec<String>>,
}

fn read(text: &str) -> Vec<Conversation> {
    let mut conversations: Vec<Conversation> = Vec::new();
    for row in text.lines().filter(|row| !row.trim().is_empty()) {
        if let Some(title) = row.strip_prefix("# ") {
            conversations.push(Conversation { title: title.to_owned(), steps: Vec::new() });
            continue;
        }
        let steps = &mut conversations.last_mut().expect("a title").steps;
        let Some(answer) = row.strip_prefix("  ") else {
            let answers = LINES.map(|(line, _)| (line, Vec::new())).into();
            steps.push(Step { operation: row.to_owned(), answers });
            continue;
        };
        let named = answer.split_once(": ").map(|(names, answer)| {
            let lines: Option<Vec<Line>> = names.split(' ').map(line_named).collect();
            (lines, answer)
        });
        let (lines, answer) = match named {
            Some((Some(lines), answer)) => (lines, answer),
            _ => (LINES.map(|(line, _)| line).to_vec(), answer),
        };
        let step = steps.last_mut().expect("an operation");
        for line in lines {
            step.answers.entry(line).or_default().push(answer.to_owned());
        }
    }
    conversations
}

fn line_named(name: &str) -> Option<Line> {
    LINES.into_iter().find(|(_, known)| *known == name).map(|(line, _)| line)
}

fn write(conversations: &[Conversation]) -> String {
    let mut text = String::new();
    for (at, Conversation { title, steps }) in conversations.iter().enumerate() {
        let blank = if at == 0 { "" } else { "\n" };
        writeln!(text, "{blank}# {title}").unwrap();
        for Step { operation, answers } in steps {
            writeln!(text, "{operation}").unwrap();
            let mut groups: Vec<(Vec<&str>, &Vec<String>)> = Vec::new();
            for (line, name) in LINES {
                match groups.iter_mut().find(|(_, group)| **group == answers[&line]) {
                    Some((names, _)) => names.push(name),
                    None => groups.push((vec![name], &answers[&line])),
                }
            }
            let are_alike = groups.len() == 1;
            for (names, answers) in groups {
                for answer in answers {
                    let names = if are_alike { String::new() } else { format!("{}: ", names.join(" ")) };
                    writeln!(text, "  {names}{answer}").unwrap();
                }
            }
        }
    }
    text
}

/// What has to follow the errors among answers.
fn follow_ups(answers: &[String]) -> Vec<String> {
    let closed = answers.iter().filter_map(|answer| answer.split_once(" close "));
    let follow =
        |at: &str| if at.ends_with('0') { format!("drop {}", &at[..1]) } else { format!("{at} close_ok") };
    closed.map(|(at, _)| follow(at)).collect()
}

/// Says an operation, and what has to follow an error, to the broker and to the node.
fn say_both(rig: &mut Rig, node: Option<&mut Oracle>, operation: &str) -> (Vec<String>, Vec<String>) {
    let mut ours = rig.say(operation);
    let mut theirs = Vec::new();
    if let Some(node) = node {
        theirs = node.say_until(operation, &ours);
        for follow in follow_ups(&theirs) {
            theirs.extend(node.say(&follow, 0));
        }
    }
    for follow in follow_ups(&ours) {
        ours.extend(rig.say(&follow));
    }
    (ours, theirs)
}

/// Names in texts may have line feeds.
fn in_rows(answers: Vec<String>) -> Vec<String> {
    answers.into_iter().map(|answer| answer.replace('\n', "\\n")).collect()
}

/// Has a conversation as a line, and returns what was wrong. To record, the answers are taken for right.
fn converse(conversation: &mut Conversation, line: Line, record: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut rig = Rig::with(CoreConfig { line, ..CoreConfig::default() });
    let mut node = Oracle::of(line);
    for Step { operation, answers } in &mut conversation.steps {
        let (ours, theirs) = say_both(&mut rig, node.as_mut(), operation);
        let (ours, theirs) = (in_rows(ours), in_rows(theirs));
        if record {
            answers.insert(line, if node.is_some() { theirs.clone() } else { ours.clone() });
        }
        let right = &answers[&line][..];
        let mut check = |who: &str, found: &[String]| {
            if found != right {
                let title = &conversation.title;
                wrong
                    .push(format!("{line:?}, {title}: {operation}\n  {who}: {found:?}\n  right:  {right:?}"));
            }
        };
        if node.is_some() {
            check("node", &theirs);
        }
        check("broker", &ours);
    }
    wrong
}

/// The lines to have the conversations of: that of the node if there is one, or all.
fn lines(record: Option<&str>) -> Vec<Line> {
    let named = record.and_then(|record| LINES.into_iter().find(|(line, _)| format!("{line:?}") == record));
    match named.map(|(line, _)| line).or_else(Oracle::line) {
        Some(line) => vec![line],
        None => LINES.map(|(line, _)| line).to_vec(),
    }
}

#[test]
fn answers_are_those_that_nodes_gave() {
    let record = std::env::var("BROKER_RECORD").ok();
    let only = std::env::var("BROKER_ASKED").ok();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core/tests/asked");
    let mut files: Vec<PathBuf> = folder.read_dir().unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.retain(|file| only.as_ref().is_none_or(|only| file.to_string_lossy().contains(only)));
    let mut wrong = Vec::new();
    for file in files {
        let mut conversations = read(&std::fs::read_to_string(&file).unwrap());
        for line in lines(record.as_deref()) {
            let queue = Mutex::new(conversations.iter_mut());
            let work = || {
                let mut wrong = Vec::new();
                loop {
                    let Some(conversation) = queue.lock().unwrap().next() else { return wrong };
                    wrong.extend(converse(conversation, line, record.is_some()));
                }
            };
            let at_once = if Oracle::line() == Some(line) { AT_ONCE } else { 1 };
            wrong.extend(thread::scope(|scope| {
                let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
                threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
            }));
        }
        if record.is_some() {
            std::fs::write(&file, write(&conversations)).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
