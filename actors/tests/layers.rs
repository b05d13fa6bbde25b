//! What documents say of the source: the folders of each crate import one another in one direction, as the tables in
//! ARCHITECTURE.md have it, and each limit of `src/limits.rs` has its test.

#![allow(missing_docs)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// From the bottom to the top. A folder imports itself and folders of earlier rows.
const LAYERS: &[&[&str]] = &[
    &["secret", "broker_rules", "log_schedule"],
    &["wire"],
    &["returned", "script"],
    &["error"],
    &["credentials", "mismatch"],
    &["uri"],
    &["tls"],
    &["options"],
    &["transport"],
    &["message"],
    &["outbox"],
    &["internal"],
    &["watchers", "consumer"],
    &["channel", "connection"],
    &["supervisor"],
    &["facade", "testing"],
];

/// The same of the crate `actix-pika`.
const FACADE_LAYERS: &[&[&str]] = &[
    &["caught", "database", "runtime"],
    &["hook"],
    &[
        "batch_publish",
        "batches",
        "channel",
        "connect",
        "connection",
        "connector",
        "consumer",
        "delivery_stream",
        "drops_warning",
        "event_stream",
        "exchange",
        "publish_future",
        "queue",
        "transaction",
    ],
    &["codec", "pool", "retry"],
    &["tasks"],
    &["master", "publisher", "redrive", "rpc", "worker"],
    &["shutdown"],
    &["bridge", "inbox", "outbox"],
    &["aio_pika"],
    &["metrics"],
    &["testing"],
    &["actix_web"],
    &["limits"],
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().unwrap() != "tests" {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code without comments, unit tests and test hooks.
fn code(source: &str) -> String {
    let source = source.split("]\nmod tests {").next().unwrap();
    source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The folders that follow `crate::`, in paths and in grouped imports.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            None => found.insert(name(after)),
            Some(group) => {
                let mut depth = 0;
                let mut item = true;
                for (at, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => item = true,
                        c if item && c.is_alphabetic() => {
                            found.insert(name(&group[at..]));
                            item = false;
                        }
                        _ => {}
                    }
                }
                true
            }
        };
    }
    found
}

fn name(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Returns what imports a folder of the same or a later row. Single files of the handles are one layer.
fn wrong_imports(root: &Path, layers: &[&[&str]], mutual: Option<usize>) -> Vec<String> {
    let rows: BTreeMap<&str, usize> = layers
        .iter()
        .enumerate()
        .flat_map(|(row, names)| names.iter().map(move |name| (*name, row)))
        .collect();
    let mut files = Vec::new();
    sources(root, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(root).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
        let folder = first.trim_end_matches(".rs");
        let is_of_tests =
            ["test_hooks.rs", "tests.rs"].iter().any(|end| relative.to_str().unwrap().ends_with(end));
        if folder == "lib" || is_of_tests {
            continue;
        }
        let row = *rows.get(folder).unwrap_or_else(|| panic!("{folder} is not in the list of layers"));
        for import in imports(&code(&fs::read_to_string(&file).unwrap())) {
            // Names in upper case are items that the crate's root exports.
            let Some(imported) = rows.get(import.as_str()) else { continue };
            let is_below = *imported < row || (*imported == row && mutual == Some(row));
            if !is_below && import != folder {
                wrong.push(format!("{} imports {import}", relative.display()));
            }
        }
    }
    wrong
}

#[test]
fn folders_import_only_what_is_below_them() {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    assert_eq!(wrong_imports(&engine, LAYERS, None), Vec::<String>::new());
    let facade = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src");
    // A package has only the sources of its crate.
    if facade.join("limits.rs").exists() {
        // The handles return one another.
        assert_eq!(wrong_imports(&facade, FACADE_LAYERS, Some(2)), Vec::<String>::new());
    }
}

/// All source of both crates.
fn all_source() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders: Vec<PathBuf> =
        ["src", "tests", "actors/src", "actors/tests"].map(|name| root.join(name)).into();
    let mut source = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                source += &fs::read_to_string(path).unwrap();
            }
        }
    }
    source
}

#[test]
fn every_limit_has_a_test() {
    let limits = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/limits.rs");
    // A package has only the sources of its crate.
    let Ok(limits) = fs::read_to_string(limits) else { return };
    let source = all_source();
    let is_test = |name: &str| {
        source.contains(&format!("fn {name}()"))
            || source.contains(&format!("fn {name}(bench"))
            || source.contains(&format!("fn {name}(pool"))
            || source.contains(&format!("    {name}: "))
    };
    let mut checked = 0;
    for row in limits.lines().filter(|line| line.starts_with("//! | ") && !line.contains("tested by")) {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        for name in tests.split(", ").map(|name| name.trim_matches('`')) {
            assert!(is_test(name), "{name} is no test: {row}");
            checked += 1;
        }
    }
    assert!(checked > 25, "{checked}");
}
