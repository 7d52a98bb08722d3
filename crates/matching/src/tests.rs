use super::*;
use proptest::prelude::*;
use sallyport_domain::FACE_TEMPLATE_DIMENSIONS;
use uuid::Uuid;

const MODEL: ModelDigest = ModelDigest::from_bytes([1; 32]);

fn subject(n: u8) -> SubjectId {
    SubjectId::from_uuid(Uuid::from_bytes([n; 16]))
}

fn reference(n: u32) -> ReferenceId {
    ReferenceId::from_uuid(Uuid::from_u128(u128::from(n)))
}

/// A template that depends on the seed only (xorshift).
fn template(seed: u64) -> FaceTemplate {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let values = (0..FACE_TEMPLATE_DIMENSIONS)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
        })
        .collect();
    FaceTemplate::normalise(values).unwrap()
}

fn lists(search: Search) -> Vec<CandidateList> {
    match search {
        Search::Found { candidates, .. } => candidates,
        Search::OtherModel => panic!("the model has references"),
    }
}

#[test]
fn an_empty_gallery_finds_nobody_and_another_model_is_said() {
    let mut gallery = Gallery::new();
    let probe = template(1);
    assert_eq!(
        lists(gallery.search(MODEL, &[&probe], 5)),
        [CandidateList::default()]
    );
    let _ = gallery.insert(
        ModelDigest::from_bytes([2; 32]),
        reference(1),
        subject(1),
        &probe,
    );
    assert_eq!(gallery.search(MODEL, &[&probe], 5), Search::OtherModel);
}

#[test]
fn removed_references_are_not_found_again() {
    let mut gallery = Gallery::new();
    for n in 0..5_u8 {
        let _ = gallery.insert(MODEL, reference(n.into()), subject(n), &template(n.into()));
    }
    assert!(gallery.remove(reference(1)));
    assert!(!gallery.remove(reference(1)));
    assert_eq!(gallery.remove_subject(subject(4)), 1);
    for n in 0..5_u8 {
        let found = lists(gallery.search(MODEL, &[&template(n.into())], 1));
        let best = found[0].best().unwrap();
        assert_eq!(best.subject == subject(n), n != 1 && n != 4);
    }
    assert_eq!(gallery.len(), 3);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_search_is_exact(
        rows in proptest::collection::vec((0_u8..12, any::<u64>()), 1..40),
        probes in proptest::collection::vec(any::<u64>(), 1..4),
        k in 1_usize..6,
    ) {
        let mut gallery = Gallery::new();
        for (index, (owner, seed)) in rows.iter().enumerate() {
            let _ = gallery.insert(MODEL, reference(index as u32), subject(*owner), &template(*seed));
        }
        let probes: Vec<_> = probes.into_iter().map(template).collect();
        let found = lists(gallery.search(MODEL, &probes.iter().collect::<Vec<_>>(), k));
        for (probe, list) in probes.iter().zip(found) {
            let brute = CandidateList::new(
                rows.iter()
                    .map(|(owner, seed)| Candidate {
                        subject: subject(*owner),
                        similarity: probe.similarity(&template(*seed)),
                    })
                    .collect(),
            );
            prop_assert_eq!(list.as_slice().len(), k.min(brute.as_slice().len()));
            for (got, expected) in list.as_slice().iter().zip(brute.as_slice()) {
                prop_assert!((got.similarity.value() - expected.similarity.value()).abs() < 1e-5);
            }
        }
    }
}

/// Two hundred people whose similarities with the probe differ by less than 8-bit numbers can tell.
#[test]
fn doubles_finer_than_the_coarse_copy_are_ranked_exactly() {
    let base = template(1);
    let double = |n: u64| {
        let noise = template(1_000 + n);
        let values = base.as_slice().iter().zip(noise.as_slice());
        FaceTemplate::normalise(values.map(|(a, b)| a + 0.02 * b).collect()).unwrap()
    };
    let mut gallery = Gallery::new();
    for n in 0..200_u8 {
        let _ = gallery.insert(MODEL, reference(n.into()), subject(n), &double(n.into()));
    }
    for probe in [base.clone(), double(500)] {
        let brute = CandidateList::new(
            (0..200_u8)
                .map(|n| Candidate {
                    subject: subject(n),
                    similarity: probe.similarity(&double(n.into())),
                })
                .collect(),
        );
        let spread = |list: &[Candidate]| {
            list[0].similarity.value() - list[list.len() - 1].similarity.value()
        };
        assert!(spread(brute.as_slice()) < 1e-3, "finer than the 8-bit copy");
        for k in [1, 5, 50] {
            let found = lists(gallery.search(MODEL, &[&probe], k));
            assert_eq!(found[0].as_slice().len(), k);
            for (got, expected) in found[0].as_slice().iter().zip(brute.as_slice()) {
                let apart = got.similarity.value() - expected.similarity.value();
                assert!(apart.abs() < 1e-6, "nobody better was left out");
            }
        }
    }
}
