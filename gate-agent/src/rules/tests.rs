use sallyport_domain::SubjectCategory;
use sallyport_transparency::node_hash;

use super::*;

/// A profile with these texts instead of those of the shipped one.
fn text(name: &str, version: u32, iris: &str, photographs: &str) -> String {
    let all = FLOOR
        .replace("name = \"nsw-2014\"", &format!("name = \"{name}\""))
        .lines()
        .map(|line| match line.starts_with("version = ") {
            true => format!("version = {version}\n"),
            false => format!("{line}\n"),
        })
        .collect::<String>();
    let iris_rule = "kinds = [\"iris_image\"]";
    let (before, after) = all.split_once(iris_rule).unwrap();
    let after = after.replacen("keep = \"never\"", &format!("keep = {iris}"), 1);
    let all = format!("{before}{iris_rule}{after}");
    // The visitor's photograph has a rule of its own.
    let rule = "kinds = [\"photograph\"]\ncategories = [\"visitor\"]\n";
    let (before, after) = all.split_once(rule).unwrap();
    let (_, after) = after.split_once('\n').unwrap();
    format!("{before}{rule}keep = {photographs}\n{after}")
}

const NEVER: &str = "\"never\"";
const KEPT: &str = "{ until = { after = \"capture\", months = 1 } }";

fn mere(text: &str) -> ProfileWord {
    ProfileWord {
        text: text.to_owned(),
        named_by: None,
    }
}

/// A log of two entries with one that names this text at `index`, and the checkpoint for it.
fn proved(text: &str, names: &str, index: u64) -> (ProfileWord, Checkpoint) {
    let entry = Entry {
        decision: Some(names.to_owned()),
        content: Some(hex::encode(Sha256::digest(text))),
        ..Entry::new("id".to_owned(), "profile_change", 1)
    };
    let entry = String::from_utf8(entry.to_bytes().unwrap()).unwrap();
    let (own, other) = (leaf_hash(entry.as_bytes()), leaf_hash(b"other"));
    let root = match index {
        0 => node_hash(&own, &other),
        _ => node_hash(&other, &own),
    };
    let kept = Checkpoint {
        origin: "sallyport/test".to_owned(),
        size: 2,
        root,
    };
    let named_by = Some(ProfileEntry {
        index,
        entry,
        size: 2,
        proof: vec![other.to_base64()],
    });
    let text = text.to_owned();
    (ProfileWord { text, named_by }, kept)
}

fn visitor(rules: &Rules) -> (bool, bool) {
    let (rules, who) = (rules.in_force(), Some(SubjectCategory::Visitor));
    (rules.iris_image(who), rules.photograph(who))
}

fn opened(folder: &std::path::Path, own: Option<config::Profile>) -> Rules {
    Rules::open(Some(&StateFolder::existing(folder)), own)
}

#[test]
fn nothing_known_means_no_picture_and_a_mere_word_only_ever_makes_it_stricter() {
    let folder = tempfile::tempdir().unwrap();
    let rules = opened(folder.path(), None);
    assert_eq!(rules.in_force(), GateRules::STRICTEST);
    assert!(rules.sentence().contains("no picture is written"));
    // To a gate that knows nothing it may say as much as the strictest shipped profile, and no more.
    let loose = text("loose", 9, KEPT, KEPT);
    assert!(rules.take(&mere(&loose), None).unwrap());
    assert_eq!(visitor(&rules), (false, true));
    assert_eq!(rules.query(7).index, None);
    let strict = text("strict", 1, NEVER, NEVER);
    assert!(rules.take(&mere(&strict), None).unwrap());
    assert_eq!(visitor(&rules), (false, false));
    assert!(rules.in_force().photograph(Some(SubjectCategory::Staff)));
    for word in [&loose, &text("strict", 2, NEVER, KEPT), FLOOR] {
        assert!(!rules.take(&mere(word), None).unwrap());
        assert_eq!(visitor(&rules), (false, false));
    }
    // And after a restart.
    assert_eq!(visitor(&opened(folder.path(), None)), (false, false));
}

#[test]
fn what_the_log_proves_counts_in_full_and_no_older_entry_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let rules = opened(folder.path(), None);
    let loose = text("loose", 3, KEPT, KEPT);
    let (word, kept) = proved(&loose, "loose@3", 1);
    assert!(rules.take(&word, Some(&kept)).unwrap());
    assert_eq!(visitor(&rules), (true, true));
    assert_eq!(rules.query(2).index, Some(1));
    assert!(!rules.take(&word, Some(&kept)).unwrap(), "the same again");
    assert!(rules.sentence().contains("loose version 3, log entry 1"));
    // This gate's own setting holds beside it.
    let own = opened(folder.path(), Some(config::Profile::Nsw2014));
    assert_eq!(visitor(&own), (false, true));
    assert!(own.sentence().contains("own setting nsw-2014"));

    let strict = text("strict", 4, NEVER, NEVER);
    rules.take(&mere(&strict), None).unwrap();
    assert_eq!(visitor(&rules), (false, false));
    assert!(rules.sentence().contains("by the server's word"));
    // An older entry, genuine as it is.
    let (older, of_then) = proved(&text("loose", 2, KEPT, KEPT), "loose@2", 0);
    let refused = rules.take(&older, Some(&of_then));
    assert!(matches!(
        refused,
        Err(RulesError::Older { shown: 0, known: 1 })
    ));
    assert_eq!(visitor(&rules), (false, false));
    // The proved one again, as after a server that made things up.
    assert!(rules.take(&word, Some(&kept)).unwrap());
    assert_eq!(visitor(&opened(folder.path(), None)), (true, true));
}

#[test]
fn what_is_malformed_or_proves_nothing_keeps_the_strict_rules() {
    let folder = tempfile::tempdir().unwrap();
    let rules = opened(folder.path(), None);
    rules
        .take(&mere(&text("strict", 1, NEVER, NEVER)), None)
        .unwrap();
    let loose = text("loose", 3, KEPT, KEPT);
    let (good, kept) = proved(&loose, "loose@3", 1);
    let bent = |change: &dyn Fn(&mut ProfileWord)| {
        let mut word = good.clone();
        change(&mut word);
        word
    };
    let entry = |word: &mut ProfileWord, change: &dyn Fn(&mut ProfileEntry)| {
        change(word.named_by.as_mut().unwrap());
    };
    let cases = [
        mere(""),
        mere("name = 1"),
        mere(&loose.replace("version = 3", "version = 0")),
        mere(&format!("{loose}\n# {}", "x".repeat(TEXT))),
        bent(&|word| word.text.push('\n')),
        bent(&|word| entry(word, &|entry| entry.index = 0)),
        bent(&|word| entry(word, &|entry| entry.size = 3)),
        bent(&|word| entry(word, &|entry| entry.proof.clear())),
        bent(&|word| entry(word, &|entry| entry.proof = vec!["?".to_owned()])),
        bent(&|word| entry(word, &|entry| entry.entry.push(' '))),
        bent(&|word| entry(word, &|entry| entry.entry = "{}".to_owned())),
        proved(&loose, "loose@4", 1).0,
    ];
    for (number, word) in cases.iter().enumerate() {
        assert!(rules.take(word, Some(&kept)).is_err(), "{number}");
        assert_eq!(visitor(&rules), (false, false), "{number}");
    }
    // Without a checkpoint of its own a gate believes no proof.
    assert!(rules.take(&good, None).is_err());
    assert!(rules.take(&good, Some(&kept)).unwrap());
}

#[test]
fn a_damaged_file_is_as_good_as_none() {
    let folder = tempfile::tempdir().unwrap();
    for damage in ["", "{", "{\"name\":\"x\"}", "[]"] {
        fs::write(folder.path().join(FILE), damage).unwrap();
        let rules = opened(folder.path(), None);
        assert_eq!(rules.in_force(), GateRules::STRICTEST, "{damage}");
    }
    let rules = opened(folder.path(), None);
    rules.take(&mere(FLOOR), None).unwrap();
    assert!(opened(folder.path(), None).in_force().photograph(None));
    // Where the disk refuses, it is obeyed all the same until the end.
    let nowhere = opened(&folder.path().join("no/folder"), None);
    assert!(matches!(
        nowhere.take(&mere(FLOOR), None),
        Err(RulesError::Io { .. })
    ));
    assert!(nowhere.in_force().photograph(None));
}
