use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};

use super::*;
use crate::{NoteSigner, sign_checkpoint};

fn signer() -> NoteSigner {
    NoteSigner::new("sallyport.example/audit-test", &[3; 32]).unwrap()
}

fn export(size: u64) -> MemoryFiles {
    let mut writer = ExportWriter::default();
    let mut files = MemoryFiles::default();
    for index in 0..size {
        let entry = crate::Entry::new(format!("event-{index}"), "passage", index as i64);
        for file in writer.push(entry.to_bytes().unwrap()).unwrap() {
            files.0.insert(file.path, file.bytes);
        }
    }
    let (rest, size, root) = writer.finish().unwrap();
    files
        .0
        .extend(rest.into_iter().map(|file| (file.path, file.bytes)));
    let checkpoint = Checkpoint {
        origin: "sallyport.example/audit-test".into(),
        size,
        root,
    };
    files.0.insert(
        "checkpoint".into(),
        sign_checkpoint(&checkpoint, &signer())
            .unwrap()
            .into_bytes(),
    );
    files
}

fn verify(files: &mut MemoryFiles) -> Result<u64, String> {
    verify_export(files, signer().verifier(), |_, _| {})
        .map(|verified| verified.checkpoint.size)
        .map_err(|finding| finding.to_string())
}

#[test]
fn whole_exports_of_many_sizes_verify() {
    for size in [0, 1, 2, 255, 256, 257, 1_000] {
        assert_eq!(verify(&mut export(size)), Ok(size));
    }
}

/// Ten thousand random single-bit changes over all files: each is found.
#[test]
fn every_single_bit_change_is_found() {
    let mut files = export(300);
    let paths: Vec<String> = files.0.keys().cloned().collect();
    let total: usize = files.0.values().map(Vec::len).sum();
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    for _ in 0..10_000 {
        let mut at = random.next_u64() as usize % total;
        let bit = 1_u8 << (random.next_u32() % 8);
        let path = paths
            .iter()
            .find(|path| {
                let length = files.0[*path].len();
                if at < length {
                    true
                } else {
                    at -= length;
                    false
                }
            })
            .unwrap();
        files.0.get_mut(path).unwrap()[at] ^= bit;
        assert!(
            verify(&mut files).is_err(),
            "a change in {path} at byte {at} was not found"
        );
        files.0.get_mut(path).unwrap()[at] ^= bit;
    }
    assert_eq!(verify(&mut files), Ok(300));
}

#[test]
fn removed_added_swapped_and_cut_files_are_found() {
    let whole = export(600);
    for path in whole.0.keys() {
        let mut files = whole.clone();
        files.0.remove(path);
        assert!(verify(&mut files).is_err(), "{path} removed");
        let mut files = whole.clone();
        files.0.get_mut(path).unwrap().pop();
        assert!(verify(&mut files).is_err(), "{path} cut");
    }
    let mut files = whole.clone();
    files.0.insert("tile/entries/003".into(), vec![]);
    assert!(verify(&mut files).unwrap_err().contains("does not belong"));
    let mut files = whole.clone();
    let (a, b) = (
        files.0["tile/entries/000"].clone(),
        files.0["tile/entries/001"].clone(),
    );
    files.0.insert("tile/entries/000".into(), b);
    files.0.insert("tile/entries/001".into(), a);
    assert!(verify(&mut files).is_err());
}

#[test]
fn a_cut_back_log_signed_by_somebody_else_is_found() {
    let mut files = export(10);
    let other = NoteSigner::new("sallyport.example/audit-test", &[4; 32]).unwrap();
    let text = Checkpoint {
        origin: "sallyport.example/audit-test".into(),
        size: 10,
        root: Hash::default(),
    };
    files.0.insert(
        "checkpoint".into(),
        sign_checkpoint(&text, &other).unwrap().into_bytes(),
    );
    assert!(
        verify(&mut files)
            .unwrap_err()
            .contains("no signature by a known key")
    );
}
