use proptest::prelude::*;

use super::*;
use crate::leaf_hash;

fn tree(size: u64) -> (NodeMap, Vec<Hash>, Vec<Hash>) {
    let (mut nodes, mut leaves, mut roots) = (NodeMap::new(), Vec::new(), vec![empty_root()]);
    for index in 0..size {
        let leaf = leaf_hash(format!("sallyport entry {index}").as_bytes());
        leaves.push(leaf);
        for needed in needed_for_append(index) {
            assert!(nodes.contains_key(&needed));
        }
        nodes.extend(append(index, leaf, &nodes).unwrap());
        roots.push(root(index + 1, &nodes).unwrap());
    }
    (nodes, leaves, roots)
}

#[test]
fn golden_roots_and_proofs() {
    let (nodes, leaves, roots) = tree(257);
    let golden = [
        (0, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
        (1, "imm16GiAXG+dsjLY4bcHKUSRcuZUy9+SjWVVDXCqOoQ="),
        (2, "/+JgCtHL1Tm3XfCc0psnBgePu6jYQsajK9Oozs34U2E="),
        (3, "S2jNUf4byMcsTBaziDGyEJI7y6i/hwI9aIN9CBOn69A="),
        (255, "IJhOi0Bc/L8r0NtQbBgFRgx0eh1y1HQr1Hmw6dwdyis="),
        (256, "Sr3pQc7LECnRypYNmmk0wSLacJakyQNGRQqA0u9dijs="),
        (257, "C5wVnDWgLRWaqMnZZbbCKVb2btFYLO/7nI9T4bCqVOc="),
    ];
    for (size, text) in golden {
        assert_eq!(roots[size].to_base64(), text, "root at {size}");
    }
    assert_eq!(inclusion_proof(256, 257, &nodes).unwrap(), vec![roots[256]]);
    assert_eq!(
        consistency_proof(256, 257, &nodes)
            .unwrap()
            .iter()
            .map(|h| h.to_base64())
            .collect::<Vec<_>>(),
        ["/9a8j2tgQzzvX0Jc3aPgbqOE8Zoo3aYbbd33cb8NQTk="]
    );
    assert_eq!(
        verify_inclusion(256, 257, leaves[256], &[roots[256]], roots[257]),
        Ok(())
    );
}

#[test]
fn golden_root_of_seventy_thousand_entries() {
    let (mut nodes, mut last) = (NodeMap::new(), 0);
    for index in 0..70_000_u64 {
        let leaf = leaf_hash(format!("sallyport entry {index}").as_bytes());
        let stored = append(index, leaf, &nodes).unwrap();
        nodes.extend(stored);
        last = index + 1;
    }
    assert_eq!(
        root(last, &nodes).unwrap().to_base64(),
        "+u4vGYQDFdaiQP4QU6ifEPRb7JXm9oq0tsm8AmM5fW4="
    );
}

/// All pairs to 300: every true proof holds, and needs exactly the nodes it names.
#[test]
fn every_proof_to_size_300_holds() {
    let (nodes, leaves, roots) = tree(300);
    let only =
        |ids: Vec<NodeId>| -> NodeMap { ids.into_iter().map(|id| (id, nodes[&id])).collect() };
    for size in 1..=300_u64 {
        let new_root = roots[size as usize];
        for index in 0..size {
            let proof =
                inclusion_proof(index, size, &only(needed_for_inclusion(index, size))).unwrap();
            assert_eq!(
                verify_inclusion(index, size, leaves[index as usize], &proof, new_root),
                Ok(())
            );
        }
        for old in 0..=size {
            let proof =
                consistency_proof(old, size, &only(needed_for_consistency(old, size))).unwrap();
            assert_eq!(
                verify_consistency(old, size, &proof, roots[old as usize], new_root),
                Ok(())
            );
        }
    }
}

#[derive(Debug, Clone)]
enum Edit {
    Flip(usize, u8),
    Drop(usize),
    Add(usize),
    Swap(usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<usize>(), any::<u8>()).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        any::<usize>().prop_map(Edit::Drop),
        any::<usize>().prop_map(Edit::Add),
        any::<usize>().prop_map(Edit::Swap),
    ]
}

/// Applies an edit; `false` when it leaves the proof as it was.
fn apply(edit: &Edit, proof: &mut Vec<Hash>) -> bool {
    let before = proof.clone();
    match edit {
        Edit::Add(at) => proof.insert(at % (proof.len() + 1), leaf_hash(b"another")),
        Edit::Flip(at, bit) if !proof.is_empty() => {
            let at = at % proof.len();
            proof[at].0[usize::from(bit / 8)] ^= 1 << (bit % 8);
        }
        Edit::Drop(at) if !proof.is_empty() => {
            proof.remove(at % proof.len());
        }
        Edit::Swap(at) if proof.len() > 1 => {
            let at = at % (proof.len() - 1);
            proof.swap(at, at + 1);
        }
        Edit::Flip(..) | Edit::Drop(_) | Edit::Swap(_) => {}
    }
    *proof != before
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn an_edited_inclusion_proof_fails(size in 1_u64..300, at in any::<u64>(), edit in edit()) {
        let (nodes, leaves, roots) = tree(size);
        let index = at % size;
        let (leaf, root) = (leaves[index as usize], roots[size as usize]);
        let mut proof = inclusion_proof(index, size, &nodes).unwrap();
        prop_assert!(index + 1 == size || verify_inclusion(index + 1, size, leaf, &proof, root).is_err());
        prop_assert!(index == 0 || verify_inclusion(index - 1, size, leaf, &proof, root).is_err());
        if apply(&edit, &mut proof) {
            prop_assert!(verify_inclusion(index, size, leaf, &proof, root).is_err());
        }
    }

    #[test]
    fn an_edited_consistency_proof_fails(new in 1_u64..300, at in any::<u64>(), edit in edit()) {
        let (nodes, _, roots) = tree(new + 1);
        let old = at % (new + 1);
        let (old_root, new_root) = (roots[old as usize], roots[new as usize]);
        let mut proof = consistency_proof(old, new, &nodes).unwrap();
        prop_assert!(old == new || old == 0 || verify_consistency(old, new, &proof, new_root, old_root).is_err());
        prop_assert!(verify_consistency(old, new, &proof, old_root, roots[new as usize + 1]).is_err() || old == 0);
        if apply(&edit, &mut proof) {
            prop_assert!(verify_consistency(old, new, &proof, old_root, new_root).is_err());
        }
    }

    #[test]
    fn verification_never_panics(a in any::<u64>(), b in any::<u64>(), length in 0_usize..70) {
        let proof = vec![Hash::default(); length];
        let _ = verify_inclusion(a, b, Hash::default(), &proof, Hash::default());
        let _ = verify_consistency(a, b, &proof, Hash::default(), Hash::default());
    }
}
