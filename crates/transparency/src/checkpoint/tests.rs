use proptest::prelude::*;

use super::*;

const GOLDEN: &str = "sallyport.example/audit-test\n257\nC5wVnDWgLRWaqMnZZbbCKVb2btFYLO/7nI9T4bCqVOc=\n\n\u{2014} sallyport.example/audit-test Yvp/EZHg4WZ+Ot9HySZS83uzOIT7sMVWcy1zcRGG1E/v+5mJNQcCa4MSM3hUPJUhOcObsalXiGJMcPvrmIGSitwjxQM=\n\u{2014} witness.example/w1 IDJKvgAAAABlU/EAx4ZCmAJgG3rKaU5jgijlccDuBS9A5MsRXVfJUNnqjvngMIYDTVPfa0C/o/btMQ/kushZMj8H0OAWVyruVYunCg==\n";
const VKEY: &str =
    "sallyport.example/audit-test+62fa7f11+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4";
const WKEY: &str = "witness.example/w1+20324abe+BCmsuuFBvMrwsi4alNNNC8c2HlJtC/4SyJeUvJMilm3X";

fn seed(from: u8) -> [u8; 32] {
    std::array::from_fn(|index| from + index as u8)
}

fn golden_checkpoint() -> Checkpoint {
    Checkpoint {
        origin: "sallyport.example/audit-test".into(),
        size: 257,
        root: Hash::from_base64("C5wVnDWgLRWaqMnZZbbCKVb2btFYLO/7nI9T4bCqVOc=").unwrap(),
    }
}

#[test]
fn golden_keys_checkpoint_and_cosignature_bit_for_bit() {
    let signer = NoteSigner::new("sallyport.example/audit-test", &seed(0x00)).unwrap();
    assert_eq!(signer.verifier().to_string(), VKEY);
    let witness = Cosigner::new("witness.example/w1", &seed(0x20)).unwrap();
    assert_eq!(witness.verifier().to_string(), WKEY);
    let checkpoint = golden_checkpoint();
    let note = sign_checkpoint(&checkpoint, &signer).unwrap();
    let note = note + &witness.cosign(&checkpoint.to_text(), 1_700_000_000);
    assert_eq!(note, GOLDEN);
}

#[test]
fn golden_note_opens_and_its_witness_time_is_read() {
    let log = VerifierKey::parse(VKEY).unwrap();
    assert_eq!(
        Checkpoint::open(GOLDEN.as_bytes(), &log).unwrap(),
        golden_checkpoint()
    );
    let note = Note::parse(GOLDEN.as_bytes()).unwrap();
    assert_eq!(
        CosignerKey::parse(WKEY).unwrap().verify(&note),
        Ok(Some(1_700_000_000))
    );
    let other = NoteSigner::new("somebody.example/else", &[9; 32]).unwrap();
    assert_eq!(
        note.verify(std::slice::from_ref(other.verifier())),
        Err(NoteError::NoKnownSignature)
    );
}

#[test]
fn a_cosignature_key_cannot_stand_in_for_a_log_key() {
    let witness = VerifierKey::parse(WKEY).unwrap();
    assert_eq!(
        Note::parse(GOLDEN.as_bytes()).unwrap().verify(&[witness]),
        Err(NoteError::NoKnownSignature)
    );
    assert_eq!(CosignerKey::parse(VKEY), Err(NoteError::BadKey));
}

#[test]
fn malformed_checkpoints_are_refused() {
    let root = "C5wVnDWgLRWaqMnZZbbCKVb2btFYLO/7nI9T4bCqVOc=";
    for text in [
        String::new(),
        format!("o\n257\n{root}"),
        format!("o\n0257\n{root}\n"),
        format!("o\n-1\n{root}\n"),
        format!("o\n+1\n{root}\n"),
        format!("o\n99999999999999999999\n{root}\n"),
        format!("\n1\n{root}\n"),
        format!("o\n1\n{root}\nextension\n"),
        "o\n1\nAAAA\n".to_owned(),
    ] {
        assert_eq!(
            Checkpoint::from_text(&text),
            Err(CheckpointError::Malformed),
            "{text:?}"
        );
    }
}

proptest! {
    #[test]
    fn any_changed_byte_is_noticed(at in 0..GOLDEN.len(), bit in 0_u8..8) {
        let log = VerifierKey::parse(VKEY).unwrap();
        let mut bytes = GOLDEN.as_bytes().to_vec();
        bytes[at] ^= 1 << bit;
        let witness_line = GOLDEN.rfind("\u{2014} witness").unwrap();
        // Only the witness's line may change without the log's key noticing; the witness's key does.
        if Checkpoint::open(&bytes, &log).is_ok() {
            prop_assert!(at >= witness_line);
            let note = Note::parse(&bytes).unwrap();
            let verdict = CosignerKey::parse(WKEY).unwrap().verify(&note);
            prop_assert!(verdict != Ok(Some(1_700_000_000)));
        }
    }

    #[test]
    fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400), text in "\\PC{0,200}") {
        let _ = Note::parse(&bytes);
        let _ = Note::parse(text.as_bytes());
        let _ = VerifierKey::parse(&text);
        let _ = Checkpoint::from_text(&text);
    }

    #[test]
    fn what_is_written_is_read(size in any::<u64>(), root in any::<[u8; 32]>()) {
        let checkpoint = Checkpoint { origin: "a.example/log".into(), size, root: Hash(root) };
        prop_assert_eq!(Checkpoint::from_text(&checkpoint.to_text()), Ok(checkpoint));
    }
}
