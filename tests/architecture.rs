//! The rules of the house that no compiler checks: which module may use which, where `unsafe` may stand, how long a file may be, and that the
//! map in `docs/architecture.md` shows what is there.
//!
//! The map has one table a crate, below a heading with the crate's name, and one line a module: `` | `module` | job | may use | ``. The last
//! column names modules of the same crate and crates of the workspace in backticks; `all above` stands for every module listed before.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use tests::place::project;

#[path = "architecture/source.rs"]
mod source;
use source::{Source, sources};

const CRATES: [&str; 3] = ["runner", "rootfs-cache", "seccomp"];

/// What each module of the runner may use at the most, whatever the map says.
const ARROWS: [(&str, &[&str]); 13] = [
    ("function", &[]),
    ("lambda", &["function"]),
    ("sandbox", &["seccomp"]),
    ("writable", &["sandbox", "rootfs_cache"]),
    ("api", &["lambda"]),
    ("watch", &[]),
    ("report", &["function", "lambda", "sandbox"]),
    ("environment", &["exit_code", "function", "lambda", "sandbox", "api", "report", "rootfs_cache"]),
    ("fleet", &["function", "lambda", "api", "environment"]),
    ("config", &["function", "sandbox", "rootfs_cache"]),
    ("records", &["config"]),
    (
        "mode",
        &[
            "function",
            "lambda",
            "sandbox",
            "api",
            "report",
            "environment",
            "fleet",
            "config",
            "rootfs_cache",
            "exit_code",
            "watch",
            "writable",
            "build",
            "records",
        ],
    ),
    ("cli", &["config", "exit_code", "rootfs_cache"]),
];

/// Where `unsafe` may stand: the sandbox's two files; the programs that live on inside it and beside us, which have no standard library; and the
/// probe's attempts.
const UNSAFE: [&str; 7] = [
    "runner/src/sandbox/sys.rs",
    "runner/src/sandbox/child.rs",
    "runner/init/init.rs",
    "runner/init/programs.rs",
    "runner/init/janitor.rs",
    "runner/init/mockserver.rs",
    "tests/src/bin/probe/system.rs",
];

/// One line of the map.
struct Listed {
    module: String,
    may_use: BTreeSet<String>,
}

fn map() -> BTreeMap<String, Vec<Listed>> {
    let text = fs::read_to_string(project().join("docs/architecture.md")).expect("docs/architecture.md is the map");
    let mut tables: BTreeMap<String, Vec<Listed>> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix('#') {
            let words: Vec<&str> = heading.split(|c: char| !(c.is_alphanumeric() || c == '-')).collect();
            current = CRATES.into_iter().find(|name| words.contains(name));
        }
        let (Some(name), Some(row)) = (current, line.strip_prefix("| `")) else {
            continue;
        };
        let cells: Vec<&str> = row.split('|').collect();
        let [module, _, may_use, ..] = cells[..] else { panic!("three columns: {line}") };
        let table = tables.entry(name.to_owned()).or_default();
        let mut allowed: BTreeSet<String> = may_use.split('`').skip(1).step_by(2).map(|name| name.replace('-', "_")).collect();
        if may_use.contains("all above") {
            allowed.extend(table.iter().map(|listed| listed.module.clone()));
        }
        table.push(Listed { module: module.trim().trim_end_matches('`').to_owned(), may_use: allowed });
    }
    tables
}

/// The top modules of a crate; its roots and what is there for tests alone are left out.
fn modules(name: &str) -> BTreeSet<String> {
    sources(name).iter().filter(|source| !source.is_test()).filter_map(Source::top_module).collect()
}

#[test]
fn the_map_lists_every_module_and_nothing_else() {
    let map = map();
    for name in CRATES {
        let listed: BTreeSet<String> = map.get(name).into_iter().flatten().map(|listed| listed.module.clone()).collect();
        assert_eq!(listed, modules(name), "docs/architecture.md against {name}/src");
    }
}

#[test]
fn modules_use_what_the_map_allows_and_no_more() {
    let map = map();
    let mut wrong = Vec::new();
    for name in CRATES {
        let known = modules(name);
        for source in sources(name) {
            let Some(module) = source.top_module() else { continue };
            let Some(listed) = map.get(name).and_then(|table| table.iter().find(|listed| listed.module == module)) else {
                continue;
            };
            for used in source.uses() {
                let matters = known.contains(&used) || CRATES.iter().any(|other| other.replace('-', "_") == used);
                if matters && used != module && !listed.may_use.contains(&used) {
                    wrong.push(format!("{}: uses `{used}`", source.name()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_map_allows_no_more_than_the_house_does() {
    let map = map();
    let runner = map.get("runner").expect("a table for the runner");
    for (module, most) in ARROWS {
        let listed = runner.iter().find(|listed| listed.module == module).unwrap_or_else(|| panic!("`{module}` is in the map"));
        let more: Vec<&String> = listed.may_use.iter().filter(|used| !most.contains(&used.as_str())).collect();
        assert!(more.is_empty(), "`{module}` may not use {more:?}");
    }
}

/// `report` knows of the sandbox what the kernel granted, and nothing else.
#[test]
fn report_sees_of_the_sandbox_the_enforcement_alone() {
    for source in sources("runner").into_iter().filter(|source| source.top_module().as_deref() == Some("report")) {
        let code = source.code();
        for (at, _) in code.match_indices("sandbox::") {
            let rest = &code[at + "sandbox::".len()..];
            assert!(
                rest.starts_with("enforcement") || rest.starts_with("Enforcement"),
                "{}: sandbox::{}",
                source.name(),
                &rest[..rest.len().min(40)]
            );
        }
    }
}

#[test]
fn lambda_is_pure() {
    let forbidden = ["std::net", "std::fs", "std::process", "std::thread", "std::env", "tokio", "hyper", "nix::", "libc::", "::now()"];
    for source in sources("runner").into_iter().filter(|source| source.top_module().as_deref() == Some("lambda")) {
        for part in forbidden {
            assert!(!source.code().contains(part), "{} has {part}", source.name());
        }
    }
}

/// Neither library knows the runner or the other one, and the compiler of filters makes no system call.
#[test]
fn seccomp_and_rootfs_cache_stand_alone() {
    let manifest = |name: &str| fs::read_to_string(project().join(name).join("Cargo.toml")).expect("a crate has a manifest");
    let dependencies = |name: &str| -> BTreeSet<String> {
        let text = manifest(name);
        let section = text.split("\n[").find(|part| part.starts_with("dependencies]")).unwrap_or("").to_owned();
        section
            .lines()
            .skip(1)
            .filter_map(|line| line.split(['.', ' ', '=']).next())
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    };
    for (name, forbidden) in
        [("seccomp", &["runner", "rootfs-cache", "libc", "nix", "tokio"][..]), ("rootfs-cache", &["runner", "seccomp"])]
    {
        let found = dependencies(name);
        let wrong: Vec<&str> = forbidden.iter().copied().filter(|dependency| found.contains(*dependency)).collect();
        assert!(wrong.is_empty(), "{name} depends on {wrong:?}");
    }
    for source in sources("seccomp") {
        for part in ["std::fs", "std::process", "std::net", "std::env"] {
            assert!(!source.code().contains(part), "{} has {part}", source.name());
        }
    }
}

#[test]
fn unsafe_stands_where_it_is_allowed_and_nowhere_else() {
    let mut found = BTreeSet::new();
    for source in CRATES.into_iter().chain(["tests"]).flat_map(sources) {
        if source.has_word("unsafe") {
            found.insert(source.name());
        }
    }
    let wrong: Vec<&String> = found.iter().filter(|name| !UNSAFE.contains(&name.as_str())).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn every_unsafe_block_says_why_it_holds() {
    for name in UNSAFE {
        let text = fs::read_to_string(project().join(name)).expect("one of these files");
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("unsafe {") && !line.trim_start().starts_with("//"))
        {
            // The comment stands above the statement, which may itself begin a few lines before the block.
            let above = &lines[number.saturating_sub(8)..=number];
            assert!(above.iter().any(|line| line.contains("SAFETY:")), "{name}:{}: {line}", number + 1);
        }
    }
}

#[test]
fn files_and_functions_stay_small() {
    let mut wrong = Vec::new();
    for source in CRATES.into_iter().chain(["tests"]).flat_map(sources) {
        let is_test_theme = source.name().starts_with("tests/");
        let lines = source.lines_without_tests();
        if lines > 500 && !is_test_theme {
            wrong.push(format!("{}: {lines} lines", source.name()));
        }
        if source.all_lines() > 700 {
            wrong.push(format!("{}: {} lines, tests and all", source.name(), source.all_lines()));
        }
        for (function, length) in source.functions() {
            if length > 60 {
                wrong.push(format!("{}: `{function}` has {length} lines", source.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_module_is_named_for_what_it_is_not() {
    let forbidden = ["utils", "util", "common", "types", "errors", "error", "state", "helpers", "misc"];
    for source in CRATES.into_iter().flat_map(sources) {
        let stem = Path::new(&source.name()).file_stem().expect("a file has a name").to_string_lossy().into_owned();
        let folder = Path::new(&source.name()).parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        assert!(!forbidden.contains(&stem.as_str()), "{}", source.name());
        assert!(!folder.is_some_and(|folder| forbidden.contains(&folder.as_str())), "{}", source.name());
    }
}

#[test]
fn nothing_is_unfinished_silenced_or_forked() {
    let forbidden = ["todo!(", "unimplemented!(", "dbg!(", "#[allow", "#![allow", "pre_exec", "::fork("];
    let mut wrong = Vec::new();
    for source in CRATES.into_iter().flat_map(sources) {
        wrong.extend(forbidden.iter().filter(|part| source.code().contains(**part)).map(|part| format!("{} has {part}", source.name())));
    }
    // Nor is a test switched off: one that cannot run here says so when it is run.
    for source in CRATES.into_iter().chain(["tests"]).flat_map(sources) {
        let is_off = |line: &str| line.trim_start().starts_with("#[ignore");
        wrong.extend(source.text().lines().filter(|line| is_off(line)).map(|line| format!("{} has {line}", source.name())));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_module_opens_with_its_purpose() {
    for source in CRATES.into_iter().chain(["tests"]).flat_map(sources).filter(|source: &Source| !source.is_test()) {
        assert!(source.text().starts_with("//!"), "{} has no first sentence", source.name());
    }
}

/// The specification and the threat model name the test or benchmark that holds each line; those must exist.
#[test]
fn every_test_that_the_specification_names_exists() {
    let page = |name: &str| fs::read_to_string(project().join("docs").join(name)).unwrap_or_else(|error| panic!("docs/{name}: {error}"));
    let text = page("specification.md") + &page("threat-model.md");
    let tests: BTreeSet<String> =
        CRATES.into_iter().chain(["tests", "fuzz"]).flat_map(sources).flat_map(|source| source.all_functions()).collect();
    let mut named = 0;
    let mut missing = Vec::new();
    for word in text.split('`').skip(1).step_by(2) {
        // `theme::test_name` or `crate::module::tests::test_name`
        let Some(name) = word.rsplit_once("::").map(|(_, name)| name) else {
            continue;
        };
        let is_test_name = name.len() > 3
            && name.contains('_')
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if is_test_name {
            named += 1;
            if !tests.contains(name) {
                missing.push(word.to_owned());
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    assert!(named > 0, "it names none");
}

#[test]
fn the_top_of_the_house_is_as_agreed() {
    let expected = [
        "Cargo.toml",
        "runner",
        "rootfs-cache",
        "seccomp",
        "tests",
        "vendor-images.lock",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "docs",
        "fuzz",
        "examples",
        "clients",
        "packaging",
        ".ci",
    ];
    for name in expected {
        assert!(project().join(name).exists(), "{name}");
    }
    let known = ["Cargo.lock", "clippy.toml", "rustfmt.toml", ".gitignore", ".git", "target"];
    let others: Vec<PathBuf> = fs::read_dir(project())
        .expect("it is there")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().expect("it has a name").to_string_lossy();
            !expected.contains(&name.as_ref()) && !known.contains(&name.as_ref())
        })
        .collect();
    assert!(others.is_empty(), "{others:?}");
}
