//! Rules of the house that a compiler does not know.

use crate::common::path;
use std::path::{Path, PathBuf};

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![path(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let entry = entry.expect("an entry").path();
            match entry.is_dir() {
                true => folders.push(entry),
                false if entry.extension().is_some_and(|e| e == extension) => found.push(entry),
                false => {}
            }
        }
    }
    found
}

fn text(file: &Path) -> String {
    std::fs::read_to_string(file).expect("a text")
}

#[test]
fn every_file_says_what_it_is() {
    for file in files("src", "rs").iter().chain(&files("tests/it", "rs")).chain(&files("xtask", "rs")) {
        assert!(text(file).starts_with("//! "), "{} begins with `//! `", file.display());
    }
    for file in files("shaders", "wgsl") {
        assert!(text(&file).starts_with("// "), "{} begins with `// `", file.display());
    }
}

#[test]
fn no_source_file_is_too_long() {
    for file in files("src", "rs").iter().chain(&files("shaders", "wgsl")) {
        let lines = text(file).lines().count();
        assert!(lines <= 500, "{}: {lines} lines; a file has one concept", file.display());
    }
}

/// Lower ranks know nothing of higher ones, and neighbours of equal rank nothing of each other.
#[test]
fn modules_import_lower_ranks_only() {
    const RANKS: [&[&str]; 12] = [
        &["error", "platform", "random"],
        &["format", "small_file"],
        &["kernels", "hub"],
        &["plan"],
        &["placement"],
        &["model"],
        &["backend", "text"],
        &["convert", "doctor", "timing"],
        &["sample", "tune"],
        &["session"],
        &["measure"],
        &["cli"],
    ];
    let rank = |module: &str| RANKS.iter().position(|names| names.contains(&module));
    // What the crate's root re-exports, by the module that it is from.
    let home = |name: &str| match name {
        "Error" | "Result" => "error".to_string(),
        "WeightFormat" => "format".into(),
        "CacheFormat" => "kernels".into(),
        "SamplingOptions" => "sample".into(),
        "Engine" | "EngineOptions" | "Session" | "SessionOptions" | "TextNeed" => "session".into(),
        module => module.into(),
    };
    for file in files("src", "rs") {
        let own = file.strip_prefix(path("src")).expect("inside src").components().next().expect("a name");
        let own = own.as_os_str().to_string_lossy().trim_end_matches(".rs").to_string();
        let Some(own_rank) = rank(&own) else { continue };
        for name in imports(&text(&file)) {
            let module = home(&name);
            let Some(its_rank) = rank(&module) else { panic!("{}: unknown import `{name}`", file.display()) };
            assert!(its_rank < own_rank || module == own, "{}: {own} imports {module}", file.display());
        }
    }
}

/// First path segments of everything that `use crate::...` names.
fn imports(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    for part in source.split("use crate::").skip(1) {
        let statement = part.split(';').next().expect("a statement");
        let inner = statement.strip_prefix('{').map_or(statement, |s| s.trim_end().trim_end_matches('}'));
        let mut depth = 0;
        let mut name = String::new();
        for c in inner.chars().chain([',']) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    let first = name.split("::").next().expect("a segment").trim().to_string();
                    names.extend((!first.is_empty()).then_some(first));
                    name.clear();
                }
                c if depth == 0 => name.push(c),
                _ => {}
            }
        }
    }
    names
}

#[test]
fn imports_are_found() {
    let source = "use crate::{\n    error::{Error, Result},\n    plan::Plan,\n};\nuse crate::model::x;";
    assert_eq!(imports(source), ["error", "plan", "model"]);
}

#[test]
fn absences() {
    for file in files("src", "rs") {
        let (name, text) = (file.display().to_string().replace('\\', "/"), text(&file));
        let code = || text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let has = |what: &str| code().any(|line| line.contains(what));
        assert!(name.contains("/platform/") || !has("cfg(target"), "{name}: targets are told apart in platform/");
        assert!(name.contains("/backend/gpu/") || !has("wgpu::"), "{name}: only backend/gpu names wgpu");
        assert!(name.contains("/cli/") || !has("println!"), "{name}: the library never prints");
        assert!(!has("unwrap()"), "{name}: expect with a reason, or an error");
        assert!(!text.contains("TODO"), "{name}: an issue instead of a TODO");
    }
}
