//! The policy on dependencies, as far as it can be told without a network; `deny.toml` has the
//! same and, with `cargo deny` installed, checks for known vulnerabilities as well.

use std::{collections::BTreeMap, fs, process::Command};

/// Licences that ask no more of a user than to be named.
const LICENCES: [&str; 12] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// (crate, licence) for one crate only, see `deny.toml`.
const LICENCE_EXCEPTIONS: [(&str, &str); 1] = [("webpki-roots", "CDLA-Permissive-2.0")];

/// (crate, why not)
const BANNED: [(&str, &str); 5] = [
    ("openssl-sys", "links a library of the machine; TLS is rustls"),
    ("native-tls", "TLS is rustls"),
    ("rsa", "RUSTSEC-2023-0071 has no fix; tokens are EdDSA"),
    ("sqlx-mysql", "one database"),
    ("sqlx-sqlite", "one database"),
];

/// Two versions of these have types that look alike and do not fit each other.
const ONE_VERSION: [&str; 5] = ["sqlx", "cqrs-es", "axum", "tokio", "chrono"];

/// name → the versions and licences that are built here.
fn built() -> BTreeMap<String, Vec<(String, String)>> {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["tree", "--locked", "--offline", "--edges=normal,build,dev", "--prefix=none", "--no-dedupe"])
        .arg("--format={p}|{l}")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut built: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.is_empty()) {
        let (package, licence) = line.split_once('|').unwrap();
        let mut words = package.split(' ');
        let name = words.next().unwrap().to_owned();
        let found = (words.next().unwrap().to_owned(), licence.to_owned());
        let versions = built.entry(name).or_default();
        if !versions.contains(&found) {
            versions.push(found);
        }
    }
    assert!(built.contains_key("sqlx"), "the list is complete");
    built
}

#[test]
fn every_licence_is_allowed() {
    for (name, versions) in built() {
        for (version, licence) in versions {
            let exception = LICENCE_EXCEPTIONS.contains(&(name.as_str(), licence.as_str()));
            assert!(exception || allowed(&licence), "{name} {version} is under {licence:?}");
        }
    }
}

#[test]
fn nothing_banned_is_built() {
    let built = built();
    for (name, reason) in BANNED {
        assert!(!built.contains_key(name), "{name}: {reason}");
    }
    for name in ONE_VERSION {
        assert_eq!(built[name].len(), 1, "one version of {name}: {:?}", built[name]);
    }
}

#[test]
fn every_dependency_comes_from_the_registry() {
    let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).unwrap();
    for source in lock.lines().filter(|line| line.starts_with("source = ")) {
        assert_eq!(source, "source = \"registry+https://github.com/rust-lang/crates.io-index\"");
    }
}

#[test]
fn a_licence_is_read_as_spdx_has_it() {
    assert!(allowed("MIT OR GPL-3.0"));
    assert!(allowed("MIT/Apache-2.0"));
    assert!(allowed("(MIT OR Apache-2.0) AND Unicode-3.0"));
    assert!(!allowed("MIT AND GPL-3.0"));
    assert!(!allowed("(MIT OR Apache-2.0) AND GPL-3.0"));
    assert!(!allowed("GPL-3.0 OR (MIT AND AGPL-3.0)"));
    assert!(!allowed(""));
}

/// Whether an SPDX expression lets us choose among [`LICENCES`]; `AND` binds closer than `OR`.
fn allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ");
    any(&expression, " OR ", |choice| !any(choice, " AND ", |part| !one(part)))
}

fn one(part: &str) -> bool {
    match part.trim().strip_prefix('(').and_then(|inside| inside.strip_suffix(')')) {
        Some(inside) => allowed(inside),
        None => LICENCES.contains(&part.trim()),
    }
}

/// Whether one of the parts between the `separator`s outside parentheses passes.
fn any(expression: &str, separator: &str, passes: impl Fn(&str) -> bool) -> bool {
    let (mut depth, mut start) = (0, 0);
    for (at, c) in expression.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && at >= start && expression[at..].starts_with(separator) => {
                if passes(&expression[start..at]) {
                    return true;
                }
                start = at + separator.len();
            }
            _ => {}
        }
    }
    passes(&expression[start..])
}
