//! The scenarios of `tests/README.md`: each core one has a row, each row has a test with its id or a reason, and each
//! id in the comment of a test has a row.

#![allow(missing_docs)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// What a row has in place of files when there is no test, before the reason.
const NO_TEST: &str = "— (";

/// A row of `tests/README.md`: the ids, and the files with tests.
struct Row<'a> {
    ids: Vec<&'a str>,
    tested_in: &'a str,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns whether `word` is an id: capitals, a hyphen, and at least two digits.
fn is_id(word: &str) -> bool {
    word.split_once('-').is_some_and(|(area, number)| {
        area.len() > 1
            && area.bytes().all(|byte| byte.is_ascii_uppercase())
            && number.len() > 1
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn rows(readme: &str) -> Vec<Row<'_>> {
    let rows = readme.lines().filter_map(|line| {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").collect();
        let &[ids, _, tested_in] = cells.as_slice() else { return None };
        Some(Row { ids: ids.trim().split(", ").collect(), tested_in })
    });
    rows.filter(|row| row.ids.iter().all(|id| is_id(id))).collect()
}

/// Returns the ids of the table of core scenarios.
fn core_ids(readme: &str) -> Vec<String> {
    let section = readme.split("## Core scenarios").nth(1).and_then(|rest| rest.split("\n## ").next());
    let rows = section.expect("the section").lines().filter_map(|line| line.strip_prefix("| "));
    let cells = rows.filter_map(|row| row.trim_end_matches(" |").split_once(" | "));
    let ids = cells.flat_map(|(area, numbers)| numbers.split(", ").map(move |n| format!("{area}-{n}")));
    ids.filter(|id| is_id(id)).collect()
}

/// Returns the ids in the comments of each source file, by its path from the root, without its ending.
fn ids_by_file() -> BTreeMap<String, BTreeSet<String>> {
    let folders = ["tests", "src", "examples", "actors", "fuzz/fuzz_targets"];
    let mut folders: Vec<_> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut files = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.with_extension("").strip_prefix(root()).unwrap().display().to_string();
                let source = fs::read_to_string(&path).unwrap();
                let comments = source.lines().filter_map(|line| line.trim_start().strip_prefix("//"));
                let words = comments.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '-'));
                let ids: BTreeSet<_> = words.filter(|word| is_id(word)).map(str::to_owned).collect();
                files.insert(name, ids);
            }
        }
    }
    files
}

/// Returns the source files that a row names: `a/b` is `a/b.rs` or all of the folder `a/b`, from the root or from
/// `tests`.
fn named<'a>(path: &str, files: &'a BTreeMap<String, BTreeSet<String>>) -> Vec<&'a BTreeSet<String>> {
    let in_tests = format!("tests/{path}");
    let is_named = |file: &str| {
        [path, &in_tests]
            .iter()
            .any(|name| file.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    files.iter().filter(|(file, _)| is_named(file)).map(|(_, ids)| ids).collect()
}

#[test]
fn every_scenario_has_a_test_or_a_reason() {
    // A package has only the files of its crate.
    let Ok(readme) = fs::read_to_string(root().join("tests/README.md")) else { return };
    let (rows, files) = (rows(&readme), ids_by_file());
    let mut problems = Vec::new();
    let mut listed = BTreeSet::new();
    for row in &rows {
        for id in &row.ids {
            if !listed.insert(*id) {
                problems.push(format!("{id} has two rows"));
            }
        }
        let paths: Vec<_> = row.tested_in.split('`').skip(1).step_by(2).collect();
        let mut found = BTreeSet::new();
        for path in &paths {
            let named = named(path, &files);
            if named.is_empty() {
                problems.push(format!("{}: there is no {path}", row.ids.join(", ")));
            }
            found.extend(named.into_iter().flatten().map(String::as_str));
        }
        let has_test = row.ids.iter().any(|id| found.contains(id));
        if !has_test && !row.tested_in.starts_with(NO_TEST) {
            problems.push(format!("{}: no test in {paths:?} has the id", row.ids.join(", ")));
        }
    }
    for id in core_ids(&readme).iter().filter(|id| !listed.contains(id.as_str())) {
        problems.push(format!("{id} is a core scenario and has no row"));
    }
    let areas: BTreeSet<_> =
        listed.iter().filter_map(|id| id.split_once('-')).map(|(area, _)| area).collect();
    for (file, ids) in &files {
        let of_areas = ids.iter().filter(|id| areas.contains(id.split('-').next().unwrap_or_default()));
        for id in of_areas.filter(|id| !listed.contains(id.as_str())) {
            problems.push(format!("{file}: {id} has no row"));
        }
    }
    assert!(rows.len() > 250, "{} rows", rows.len());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
