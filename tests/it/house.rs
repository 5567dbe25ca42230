//! The rules that the sources keep, where the compiler has none.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What a module may import of ours besides itself; a module that is not listed may import
/// everything but the command line.
const LAYERS: [(&str, &[&str]); 4] = [
    // No clock, no settings, no database: the rules of the business are pure.
    ("aggregates", &[]),
    ("event_store", &["aggregates", "clock", "config"]),
    ("projections", &["event_store", "aggregates", "clock", "config"]),
    ("reports", &["projections", "event_store", "aggregates", "clock", "config"]),
];

const UNFINISHED: [&str; 4] = ["TODO", "FIXME", "todo!", "dbg!"];

#[test]
fn imports_run_one_way() {
    let mut breaches = Vec::new();
    for file in sources() {
        let module = module_of(&file);
        for (number, line) in code_lines(&file) {
            for import in imports(&line) {
                if !may_import(&module, &import) {
                    breaches.push(format!("{}:{number}: {module} imports {import}", file.display()));
                }
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

/// Where the right to a tenant's data is established: a token was verified, a password, invitation or support session
/// was accepted, or the process acts for a tenant itself.
const SCOPES_ARE_MADE_IN: [&str; 7] = [
    "src/api/auth.rs",
    "src/api/caller.rs",
    "src/api/me.rs",
    "src/api/sign_in.rs",
    "src/api/support.rs",
    "src/founding.rs",
    "src/samples/mod.rs",
];

#[test]
fn a_tenant_scope_is_made_only_where_the_right_to_it_is_known() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let makes = |file: &PathBuf| fs::read_to_string(file).unwrap().contains("TenantScope::of(");
    let mut found: Vec<String> = sources()
        .into_iter()
        .filter(makes)
        .map(|file| file.strip_prefix(root).unwrap_or(&file).display().to_string())
        .collect();
    found.sort();
    assert_eq!(found, SCOPES_ARE_MADE_IN);
}

#[test]
fn nothing_is_left_for_later() {
    let mut left = Vec::new();
    for file in sources() {
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            if let Some(word) = UNFINISHED.iter().find(|word| line.contains(**word)) {
                left.push(format!("{}:{}: {word}", file.display(), number + 1));
            }
        }
    }
    assert!(left.is_empty(), "{}", left.join("\n"));
}

#[test]
fn the_check_sees_every_form_of_import() {
    assert_eq!(imports("use crate::api::Problem;"), ["api"]);
    assert_eq!(imports("use crate::{api::{Problem, App}, clock, cli::Serve};"), ["api", "clock", "cli"]);
    assert_eq!(imports("let now = crate::clock::now();"), ["clock"]);
    assert_eq!(imports("pub(crate) fn f() {}"), [""; 0]);
    assert!(!may_import("aggregates", "clock"));
    assert!(!may_import("projections", "api"));
    assert!(!may_import("api", "cli"));
    assert!(may_import("api", "projections"));
    assert!(may_import("cli", "cli"));
}

fn may_import(module: &str, import: &str) -> bool {
    if import == module {
        return true;
    }
    match LAYERS.iter().find(|(layer, _)| *layer == module) {
        Some((_, below)) => below.contains(&import),
        None => import != "cli",
    }
}

/// The modules of ours that a statement names: `crate::a`, and each of `crate::{a::…, b}`.
fn imports(statement: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in statement.match_indices("crate::") {
        let rest = statement[at + "crate::".len()..].trim_start();
        match rest.strip_prefix('{') {
            None => found.push(identifier(rest)),
            Some(group) => {
                let (mut depth, mut start) = (0, 0);
                for (at, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth > 0 => depth -= 1,
                        ',' | '}' if depth == 0 => {
                            found.push(identifier(group[start..at].trim_start()));
                            start = at + 1;
                            if c == '}' {
                                break;
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found.retain(|name| name.starts_with(|c: char| c.is_ascii_lowercase()));
    found
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The file's code with the number of the line that each statement begins in, so that a `use`
/// over several lines is one; comments are left out.
fn code_lines(file: &Path) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (number, line) in fs::read_to_string(file).unwrap().lines().enumerate() {
        let line = line.split("//").next().unwrap_or_default();
        match lines.last_mut().filter(|_| open) {
            Some((_, statement)) => statement.push_str(line),
            None => lines.push((number + 1, line.to_owned())),
        }
        let statement = lines.last().map(|(_, statement)| statement.as_str()).unwrap_or_default();
        open = statement.contains("crate::{") && !statement.contains(';');
    }
    lines
}

/// `src/api/leads.rs` → `api`, `src/clock.rs` → `clock`.
fn module_of(file: &Path) -> String {
    let inside = file.strip_prefix(source_folder()).unwrap();
    inside
        .components()
        .next()
        .map(|first| Path::new(&first).file_stem().unwrap().to_string_lossy().into_owned())
        .unwrap()
}

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![source_folder()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty());
    found
}
