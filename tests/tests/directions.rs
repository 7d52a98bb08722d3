//! The workspace's dependency directions, read from `cargo metadata`. See ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// What each member may depend on among the members. Everything else is forbidden.
const ALLOWED: &[(&str, &[&str])] = &[
    ("sallyport-domain", &[]),
    ("sallyport-protocol", &["sallyport-domain"]),
    ("sallyport-vision", &["sallyport-domain"]),
    ("sallyport-matching", &["sallyport-domain"]),
    ("sallyport-render", &[]),
    ("sallyport-transparency", &[]),
    (
        "sallyport-gate",
        &[
            "sallyport-domain",
            "sallyport-protocol",
            "sallyport-vision",
            "sallyport-transparency",
        ],
    ),
    (
        "sallyport-server",
        &[
            "sallyport-domain",
            "sallyport-protocol",
            "sallyport-matching",
            "sallyport-transparency",
        ],
    ),
    (
        "sallyport-evaluate",
        &[
            "sallyport-domain",
            "sallyport-vision",
            "sallyport-matching",
            "sallyport-render",
            "sallyport-transparency",
        ],
    ),
    ("sallyport-audit", &["sallyport-transparency"]),
];

/// Crates that only one member may know, directly.
const ONLY_ONE: &[(&str, &str)] = &[
    ("opencv", "sallyport-vision"),
    ("ort", "sallyport-vision"),
    ("axum", "sallyport-server"),
    ("sqlx", "sallyport-server"),
    ("askama", "sallyport-server"),
    ("numkong", "sallyport-matching"),
];

/// Crates that must not be reachable from a member at all, in any way.
const UNREACHABLE: &[(&str, &[&str])] = &[
    (
        "sallyport-server",
        &[
            "opencv",
            "ort",
            "ort-sys",
            "image",
            "jpeg-decoder",
            "zune-jpeg",
        ],
    ),
    (
        "sallyport-audit",
        &["opencv", "ort", "axum", "sqlx", "ureq", "tokio"],
    ),
    ("sallyport-domain", &["tokio", "getrandom", "rand", "libc"]),
    ("sallyport-transparency", &["tokio", "sqlx", "axum"]),
];

fn metadata() -> Metadata {
    MetadataCommand::new()
        .exec()
        .expect("cargo metadata describes the workspace")
}

/// Normal and build dependencies of each package, by name, as the lock file resolves them.
fn resolved(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let names: BTreeMap<_, _> = metadata
        .packages
        .iter()
        .map(|package| (&package.id, package.name.to_string()))
        .collect();
    let resolve = metadata
        .resolve
        .as_ref()
        .expect("metadata carries the resolved graph");
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in &resolve.nodes {
        let used = node
            .deps
            .iter()
            .filter(|dep| {
                dep.dep_kinds
                    .iter()
                    .any(|kind| kind.kind != DependencyKind::Development)
            })
            .map(|dep| names[&dep.pkg].clone());
        graph
            .entry(names[&node.id].clone())
            .or_default()
            .extend(used);
    }
    graph
}

/// All that a member reaches by normal and build dependencies, with the features that it asks for itself. The workspace's graph
/// would add features that other members ask for: webauthn-rs in the server wants random UUIDs, `domain` does not.
fn reached(member: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--package", member])
        .args([
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo tree runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said.lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn members_depend_only_in_the_allowed_directions() {
    let metadata = metadata();
    let graph = resolved(&metadata);
    let members: BTreeSet<String> = metadata
        .workspace_packages()
        .iter()
        .map(|package| package.name.to_string())
        .collect();
    let mut wrong = Vec::new();
    for member in members.iter().filter(|member| *member != "sallyport-tests") {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| name == member) else {
            wrong.push(format!(
                "{member} is a new member without a stated direction"
            ));
            continue;
        };
        for used in graph[member].iter().filter(|used| members.contains(*used)) {
            if !allowed.contains(&used.as_str()) {
                wrong.push(format!("{member} must not depend on {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn each_heavy_crate_is_known_to_one_member_only() {
    let metadata = metadata();
    let graph = resolved(&metadata);
    for (library, owner) in ONLY_ONE {
        let users: Vec<_> = metadata
            .workspace_packages()
            .iter()
            .map(|package| package.name.to_string())
            .filter(|member| graph[member].contains(*library))
            .collect();
        assert!(
            users.iter().all(|user| user == owner) && !users.is_empty(),
            "only {owner} may use {library}, and does; found {users:?}"
        );
    }
}

#[test]
fn the_server_cannot_see_pixels_and_pure_crates_have_no_io() {
    for (member, forbidden) in UNREACHABLE {
        let reached = reached(member);
        assert!(reached.contains(*member), "{member} was looked at");
        let found: Vec<_> = forbidden
            .iter()
            .filter(|name| reached.contains(**name))
            .collect();
        assert!(found.is_empty(), "{member} reaches {found:?}");
    }
}

/// `domain` reads no clock, randomness, environment, file or socket: its sources do not even name
/// the standard library's doors to them, nor those functions of `uuid` that ask the clock or for randomness.
#[test]
fn domain_sources_name_no_io() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/domain/src");
    let mut open = vec![folder];
    let mut files = 0;
    while let Some(path) = open.pop() {
        for entry in std::fs::read_dir(&path).expect("the folder is readable") {
            let path = entry.expect("the entry is readable").path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            files += 1;
            let text = std::fs::read_to_string(&path).expect("sources are UTF-8");
            for door in [
                "std::fs",
                "std::net",
                "std::env",
                "std::process",
                "SystemTime",
                "Instant",
                "std::thread",
                "new_v4",
                "now_v",
                "Timestamp::now",
            ] {
                assert!(!text.contains(door), "{} names {door}", path.display());
            }
        }
    }
    assert!(files > 5, "the sources were found");
}
