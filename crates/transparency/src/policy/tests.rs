use proptest::prelude::*;

use super::*;
use crate::{Cosigner, Hash, NoteSigner, sign_checkpoint};

fn log(seed: u8) -> NoteSigner {
    NoteSigner::new("sallyport.example/audit-test", &[seed; 32]).unwrap()
}

fn witness(number: u8) -> Cosigner {
    Cosigner::new(&format!("w{number}.example/test"), &[100 + number; 32]).unwrap()
}

fn checkpoint() -> Checkpoint {
    Checkpoint {
        origin: "sallyport.example/audit-test".into(),
        size: 9,
        root: Hash([7; 32]),
    }
}

/// The checkpoint with cosignatures of these witnesses.
fn note(witnesses: &[u8]) -> String {
    let mut note = sign_checkpoint(&checkpoint(), &log(1)).unwrap();
    for number in witnesses {
        note += &witness(*number).cosign(&checkpoint().to_text(), 1_000 + u64::from(*number));
    }
    note
}

/// The example of the specification: two of three of one body, and one of three of another.
fn two_bodies() -> String {
    let mut text = format!("# who must have seen it\n\nlog {}\n", log(1).verifier());
    for number in 1..=6 {
        text += &format!("witness W{number}\t{}\n", witness(number).verifier());
    }
    text += "group X 2 W1 W2 W3\n  group Y any W4 W5 W6 \ngroup both all X Y\nquorum both\n";
    text
}

#[test]
fn a_quorum_of_groups_is_reached_only_by_enough_of_each() {
    let policy = Policy::parse(two_bodies().as_bytes()).unwrap();
    for (cosigned, enough) in [
        (&[1, 2, 4][..], true),
        (&[2, 3, 6], true),
        (&[1, 2, 3, 4, 5, 6], true),
        (&[1, 2], false),
        (&[1, 4, 5, 6], false),
        (&[1, 2, 3], false),
        (&[], false),
    ] {
        let verdict = policy.open(note(cosigned).as_bytes());
        assert_eq!(verdict.is_ok(), enough, "{cosigned:?}: {verdict:?}");
        if let Ok(witnessed) = verdict {
            assert_eq!(witnessed.checkpoint, checkpoint());
            let expected: Vec<_> = cosigned
                .iter()
                .map(|n| (format!("W{n}"), 1_000 + u64::from(*n)))
                .collect();
            assert_eq!(witnessed.cosigned, expected);
        }
    }
    assert_eq!(
        policy.open(note(&[5]).as_bytes()).unwrap_err().to_string(),
        "too few witnesses cosigned the checkpoint for the policy: only W5"
    );
}

#[test]
fn one_witness_twice_is_one_witness() {
    let text = two_bodies();
    let policy = Policy::parse(text.as_bytes()).unwrap();
    let twice = note(&[1, 1, 4]) + &witness(1).cosign(&checkpoint().to_text(), 5);
    assert!(policy.open(twice.as_bytes()).is_err());
}

#[test]
fn a_wrong_cosignature_by_a_known_witness_rejects_the_note_and_an_unknown_one_is_ignored() {
    let policy = Policy::parse(two_bodies().as_bytes()).unwrap();
    let good = note(&[1, 2, 4]);
    assert!(
        policy
            .open((good.clone() + &witness(9).cosign("x\n", 3)).as_bytes())
            .is_ok()
    );
    let wrong = good + &witness(5).cosign("another text\n", 3);
    assert_eq!(
        policy.open(wrong.as_bytes()),
        Err(QuorumError::from(NoteError::BadSignature))
    );
}

#[test]
fn only_a_log_of_the_policy_counts_and_only_for_its_own_origin() {
    let policy = Policy::parse(two_bodies().as_bytes()).unwrap();
    let other = sign_checkpoint(&checkpoint(), &log(2)).unwrap();
    assert_eq!(
        policy.open(other.as_bytes()),
        Err(QuorumError::from(NoteError::NoKnownSignature))
    );
    // A log that is known under another name signs this origin.
    let stranger = NoteSigner::new("stranger.example/test", &[3; 32]).unwrap();
    let text = format!("log {}\nquorum none\n", stranger.verifier());
    let policy = Policy::parse(text.as_bytes()).unwrap();
    let note = stranger.sign(&checkpoint().to_text()).unwrap();
    assert_eq!(
        policy.open(note.as_bytes()),
        Err(CheckpointError::OtherLog.into())
    );
}

#[test]
fn quorum_none_asks_for_no_witness() {
    let text = format!("log {}\nquorum none\n", log(1).verifier());
    let policy = Policy::parse(text.as_bytes()).unwrap();
    assert!(!policy.asks_for_witnesses());
    assert!(policy.open(note(&[]).as_bytes()).is_ok());
}

#[test]
fn faulty_files_are_refused_with_their_line() {
    let log = log(1).verifier().to_string();
    let one = witness(1).verifier().to_string();
    let two = witness(2).verifier().to_string();
    for (text, error) in [
        (String::new(), PolicyError::Quorum),
        (format!("log {log}\n"), PolicyError::Quorum),
        ("quorum none\nquorum none\n".into(), PolicyError::Quorum),
        ("quorum none".into(), PolicyError::Characters(1)),
        ("quorum\u{1}none\n".into(), PolicyError::Characters(1)),
        ("quorum none\r\n".into(), PolicyError::Characters(1)),
        ("\nfrobnicate\n".into(), PolicyError::Syntax(2)),
        ("log\n".into(), PolicyError::Syntax(1)),
        (format!("log {log} url more\n"), PolicyError::Syntax(1)),
        ("group g all\n".into(), PolicyError::Syntax(1)),
        ("quorum a b\n".into(), PolicyError::Syntax(1)),
        ("log what\n".into(), PolicyError::Key(1)),
        (format!("log {one}\n"), PolicyError::Key(1)),
        (format!("witness w {log}\n"), PolicyError::Key(1)),
        (
            format!("log {log}\nlog {log}\n"),
            PolicyError::DuplicateKey(2),
        ),
        (
            format!("witness a {one}\nwitness b {one}\n"),
            PolicyError::DuplicateKey(2),
        ),
        (
            format!("witness a {one}\nwitness a {two}\n"),
            PolicyError::Name(2),
        ),
        (format!("witness none {one}\n"), PolicyError::Name(1)),
        ("group g any w\n".into(), PolicyError::Undefined(1)),
        ("quorum w\n".into(), PolicyError::Undefined(1)),
        (
            format!("witness a {one}\ngroup g any g\n"),
            PolicyError::Undefined(2),
        ),
        (
            format!("witness a {one}\ngroup g any none\n"),
            PolicyError::Undefined(2),
        ),
        (
            format!("witness a {one}\ngroup g any a a\n"),
            PolicyError::DuplicateMember(2),
        ),
        (
            format!("witness a {one}\ngroup g any a\ngroup h any a\n"),
            PolicyError::DuplicateMember(3),
        ),
        (
            format!("witness a {one}\ngroup g 0 a\n"),
            PolicyError::Threshold(2),
        ),
        (
            format!("witness a {one}\ngroup g 2 a\n"),
            PolicyError::Threshold(2),
        ),
        (
            format!("witness a {one}\ngroup g 01 a\n"),
            PolicyError::Threshold(2),
        ),
        ("#".repeat(MAX_POLICY_BYTES + 1), PolicyError::TooLarge),
    ] {
        assert_eq!(Policy::parse(text.as_bytes()), Err(error), "{text:?}");
    }
}

#[test]
fn thirty_two_of_each_are_taken_and_names_are_octets() {
    let mut text = String::new();
    for number in 0..32 {
        let log = NoteSigner::new("l.example/test", &[number; 32]).unwrap();
        text += &format!("log {} https://l.example/{number}\n", log.verifier());
    }
    for number in 0..32 {
        text += &format!(
            "witness W{number} {} https://w\n",
            witness(number).verifier()
        );
        text += &format!("group G{number} all W{number}\n");
    }
    // An ASCII K and a Kelvin sign are different names.
    text += &format!("witness K {}\n", witness(40).verifier());
    text += &format!(
        "witness \u{212a} {}\nquorum \u{212a}\n",
        witness(41).verifier()
    );
    let policy = Policy::parse(text.as_bytes()).unwrap();
    assert_eq!((policy.logs().len(), policy.witnesses().len()), (32, 34));
    assert_eq!(Policy::parse(policy.to_text().as_bytes()), Ok(policy));
}

/// Random policies with groups of groups.
fn policies() -> impl Strategy<Value = String> {
    let groups = proptest::collection::vec((1_usize..6, any::<u8>(), any::<u8>()), 0..5);
    (0_u8..8, groups, any::<u8>()).prop_map(|(witnesses, groups, last)| {
        let mut text = format!("log {}\n", log(1).verifier());
        let mut free: Vec<String> = Vec::new();
        for number in 0..witnesses {
            text += &format!("witness w{number} {}\n", witness(number).verifier());
            free.push(format!("w{number}"));
        }
        for (at, (members, kind, threshold)) in groups.into_iter().enumerate() {
            let members = members.min(free.len());
            if members == 0 {
                break;
            }
            let chosen: Vec<String> = free.drain(..members).collect();
            let threshold = match kind % 3 {
                0 => "all".to_owned(),
                1 => "any".to_owned(),
                _ => (usize::from(threshold) % members + 1).to_string(),
            };
            text += &format!("group g{at} {threshold} {}\n", chosen.join(" "));
            free.push(format!("g{at}"));
        }
        let quorum = if free.is_empty() || last.is_multiple_of(7) {
            "none"
        } else {
            &free[usize::from(last) % free.len()]
        };
        text + &format!("quorum {quorum}\n")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn what_is_written_is_read(text in policies()) {
        let policy = Policy::parse(text.as_bytes()).unwrap();
        prop_assert_eq!(Policy::parse(policy.to_text().as_bytes()), Ok(policy));
    }

    /// One more witness never turns a reached quorum into one that is not reached.
    #[test]
    fn quorums_are_monotone(text in policies(), mask in any::<u8>(), more in 0_usize..8) {
        let policy = Policy::parse(text.as_bytes()).unwrap();
        let mut cosigned: Vec<Option<u64>> =
            (0..policy.witnesses().len()).map(|at| (mask >> at & 1 == 1).then_some(1)).collect();
        let before = policy.reached(&cosigned);
        if let Some(slot) = cosigned.get_mut(more) {
            *slot = Some(1);
        }
        prop_assert!(!before || policy.reached(&cosigned));
        prop_assert!(policy.reached(&vec![Some(1); policy.witnesses().len()]));
        prop_assert_eq!(policy.reached(&vec![None; policy.witnesses().len()]), !policy.asks_for_witnesses());
    }
}
