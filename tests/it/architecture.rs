//! The levels of the source tree, as ARCHITECTURE.md draws them: an import points to a lower level, and no two files
//! import each other.
//!
//! The test reads the source as text. It follows every path that begins with `crate::`, `super::` or `self::`, in
//! `use` items and elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From the top to the bottom. Modules of one level do not know each other.
const LEVELS: &[&[&str]] = &[
    &["command"],
    &["ui"],
    &["cli"],
    &["render"],
    &["install"],
    &["bundle", "doctor", "verify"],
    &["desired", "installed"],
    &["change", "gateway"],
    &["index"],
    &["node", "settings"],
    &["host"],
    &["aws", "hadoop_client"],
    &["redact"],
    &["files", "properties", "systemd"],
    &["event_log"],
    &["error", "http", "ids", "paths", "programs", "signals", "test_objects", "values"],
    &["dns", "shown"],
];

/// A module's path without `crate`: `["change", "plan"]`.
type Module = Vec<String>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every module with its source, except the two roots of the crate.
fn modules() -> BTreeMap<Module, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let relative = path.strip_prefix(root()).unwrap().with_extension("");
            let mut module: Module = relative.iter().map(|name| name.to_str().unwrap().to_string()).collect();
            if module.last().is_some_and(|name| name == "mod") {
                module.pop();
            }
            if module != ["lib"] && module != ["main"] {
                found.insert(module, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found
}

/// The source without comments and without the unit tests at its end.
fn code(source: &str) -> String {
    let source = source.split("#[cfg(test)]").next().unwrap();
    source.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Every path in the code that begins with `crate`, `super` or `self`, groups in braces spelled out.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for head in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(head) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            read_path(&code[at..], &mut Vec::new(), &mut found);
        }
    }
    found
}

/// Reads one path, or one element of a group, and gives what follows.
fn read_path<'a>(text: &'a str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start();
            if let Some(after) = rest.strip_prefix('}') {
                return after;
            }
            let depth = prefix.len();
            let after = read_path(rest, prefix, found);
            prefix.truncate(depth);
            let after = after.trim_start().strip_prefix(',').unwrap_or(after);
            if after == rest {
                return rest;
            }
            rest = after;
        }
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    if end == 0 {
        found.push(prefix.clone());
        return text;
    }
    prefix.push(text[..end].to_string());
    match text[end..].strip_prefix("::") {
        Some(rest) => read_path(rest, prefix, found),
        None => {
            found.push(prefix.clone());
            // An alias names nothing more.
            let rest = text[end..].trim_start();
            match rest.strip_prefix("as ") {
                Some(alias) => alias.trim_start().trim_start_matches(|c: char| c.is_alphanumeric() || c == '_'),
                None => &text[end..],
            }
        }
    }
}

/// The modules that a module imports.
fn imports(module: &Module, source: &str, all: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let mut found = BTreeSet::new();
    for path in paths(&code(source)) {
        let mut names = path.into_iter().peekable();
        let mut target: Module = match names.next().as_deref() {
            Some("crate") => Vec::new(),
            Some("self") => module.clone(),
            _ => module[..module.len() - 1].to_vec(),
        };
        while names.peek().is_some_and(|name| name == "super") {
            names.next();
            target.pop();
        }
        for name in names {
            target.push(name);
            if !all.contains_key(&target) {
                target.pop();
                break;
            }
        }
        if !target.is_empty() && target != *module {
            found.insert(target);
        }
    }
    found
}

fn level(module: &Module) -> usize {
    let name = module[0].as_str();
    LEVELS
        .iter()
        .position(|level| level.contains(&name))
        .unwrap_or_else(|| panic!("src/{name} has no level: add it to LEVELS and to ARCHITECTURE.md"))
}

#[test]
fn an_import_points_to_a_lower_level() {
    let all = modules();
    let mut wrong = Vec::new();
    for (module, source) in &all {
        for target in imports(module, source, &all) {
            if module[0] != target[0] && level(&target) <= level(module) {
                wrong.push(format!("{} imports {}", module.join("::"), target.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "these imports point upwards or sideways:\n{}", wrong.join("\n"));
}

/// A module and its own children may know each other: the children are parts of it.
#[test]
fn no_files_import_each_other_in_a_circle() {
    let all = modules();
    let is_inside = |a: &Module, b: &Module| a.starts_with(b) || b.starts_with(a);
    let arrows: BTreeMap<&Module, BTreeSet<Module>> = all
        .iter()
        .map(|(module, source)| {
            let mut targets = imports(module, source, &all);
            targets.retain(|target| !is_inside(module, target));
            (module, targets)
        })
        .collect();
    for start in all.keys() {
        let mut seen: BTreeMap<Module, Module> = BTreeMap::new();
        let mut todo = vec![start.clone()];
        while let Some(at) = todo.pop() {
            for next in &arrows[&at] {
                if next == start {
                    let mut way = vec![start.join("::"), at.join("::")];
                    let mut back = &at;
                    while let Some(before) = seen.get(back).filter(|_| back != start) {
                        way.push(before.join("::"));
                        back = before;
                    }
                    way.reverse();
                    panic!("a circle of files: {}", way.join(" → "));
                }
                if !seen.contains_key(next) {
                    seen.insert(next.clone(), at.clone());
                    todo.push(next.clone());
                }
            }
        }
    }
}

#[test]
fn architecture_md_draws_these_levels() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    let mut after = page.as_str();
    for level in LEVELS {
        let line = after.lines().find(|line| {
            level.iter().all(|name| line.contains(&format!("{name}/")) || line.contains(&format!("{name}.rs")))
        });
        let line = line.unwrap_or_else(|| panic!("ARCHITECTURE.md draws no level {level:?} below the ones before it"));
        after = &after[after.find(line).unwrap() + line.len()..];
    }
}

#[test]
fn the_import_parser_finds_every_form() {
    let seen = |text: &str| paths(text).into_iter().map(|path| path.join("::")).collect::<Vec<_>>();
    assert_eq!(
        seen("use crate::a::{self, b::{C, D as E}, f};"),
        ["crate::a::self", "crate::a::b::C", "crate::a::b::D", "crate::a::f"]
    );
    assert_eq!(seen("let x = crate::a::b(super::super::c::D);"), ["crate::a::b", "super::super::c::D"]);
    assert_eq!(seen("pub use crate::a::*;"), ["crate::a"]);
    let modules: BTreeMap<Module, String> =
        ["a", "b"].map(|name| (vec![name.to_string()], String::new())).into_iter().collect();
    let of = |source: &str| imports(&vec!["b".to_string()], source, &modules);
    assert_eq!(of("use crate::a::Thing;"), BTreeSet::from([vec!["a".to_string()]]));
    assert_eq!(of("// use crate::a::Thing;"), BTreeSet::new());
}
