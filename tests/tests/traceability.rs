//! Every test that `docs/security/asvs.md` and `bars.md` name exists. A renamed or deleted one must be looked for there.

use std::path::Path;

/// What stands between backticks and looks like `file.rs::function`.
fn named(text: &str) -> Vec<(&str, &str)> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|inside| inside.split_once(".rs::"))
        .collect()
}

fn is_a_test(source: &str, function: &str) -> bool {
    let head = format!("fn {function}(");
    source.match_indices(&head).any(|(at, _)| {
        // The attribute stands in the lines before, after the function before.
        let before = &source[..at];
        let own = before.rfind('}').map_or(before, |end| &before[end..]);
        own.contains("#[test]") || own.contains("#[tokio::test")
    })
}

#[test]
fn every_named_test_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut missing = Vec::new();
    for page in ["asvs.md", "bars.md"] {
        let text = std::fs::read_to_string(root.join("docs/security").join(page)).unwrap();
        let named = named(&text);
        assert!(named.len() > 40, "{page}: only {} tests", named.len());
        for (file, function) in named {
            let path = root.join(format!("{file}.rs"));
            let source = std::fs::read_to_string(&path).unwrap_or_default();
            if !is_a_test(&source, function) {
                missing.push(format!("{page}: {file}.rs::{function}"));
            }
        }
    }
    assert!(missing.is_empty(), "no such test: {missing:#?}");
}

#[test]
fn a_missing_test_is_seen() {
    let text = "| 1.1 | x | `a/b.rs::one_works` `a/b.rs::two_works` | `no test` |";
    assert_eq!(named(text), [("a/b", "one_works"), ("a/b", "two_works")]);
    let source =
        "fn helper() {}\n\n#[test]\nfn one_works() {\n    helper();\n}\nfn two_works() {}\n";
    assert!(is_a_test(source, "one_works"));
    assert!(!is_a_test(source, "two_works") && !is_a_test(source, "three_works"));
}
