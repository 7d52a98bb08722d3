//! Independent Rust implementations agree with ours on hashes, roots, proofs, tile names, notes and checkpoints, and refuse what ours
//! refuses.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops when something is wrong"
)]

mod support;

use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use sallyport_transparency::{
    Checkpoint, Hash, TILE_WIDTH, TileBuilder, TilePath, VerifierKey, leaf_hash,
    verify_consistency, verify_inclusion,
};
use sha2::Sha256;
use sigstore_types::Sha256Hash;
use support::{Log, ORIGIN, entry, golden_signer};
use tlog_tiles::{HashReader as _, TileHashReader, TileReader};

/// Every implementation's opinion of an inclusion proof; all must be equal.
fn inclusion(index: u64, size: u64, data: &[u8], proof: &[Hash], root: Hash) -> Vec<bool> {
    let theirs: Vec<tlog_tiles::Hash> = proof.iter().map(|h| tlog_tiles::Hash(h.0)).collect();
    let sigstore: Vec<Sha256Hash> = proof.iter().map(|h| Sha256Hash::new(h.0)).collect();
    let digests: Vec<_> = proof.iter().map(|hash| hash.0.into()).collect();
    vec![
        verify_inclusion(index, size, leaf_hash(data), proof, root).is_ok(),
        tlog_tiles::check_record(
            &theirs,
            size,
            tlog_tiles::Hash(root.0),
            index,
            tlog_tiles::record_hash(data),
        )
        .is_ok(),
        RootHash::<Sha256>::new(root.0.into(), size)
            .verify_inclusion(&data, index, &InclusionProof::from_digests(&digests))
            .is_ok(),
        sigstore_merkle::verify_inclusion_proof(
            &Sha256Hash::new(leaf_hash(data).0),
            index,
            size,
            &sigstore,
            &Sha256Hash::new(root.0),
        )
        .is_ok(),
    ]
}

fn consistency(old: u64, new: u64, proof: &[Hash], old_root: Hash, new_root: Hash) -> Vec<bool> {
    let theirs: Vec<tlog_tiles::Hash> = proof.iter().map(|h| tlog_tiles::Hash(h.0)).collect();
    let sigstore: Vec<Sha256Hash> = proof.iter().map(|h| Sha256Hash::new(h.0)).collect();
    let digests: Vec<_> = proof.iter().map(|hash| hash.0.into()).collect();
    vec![
        verify_consistency(old, new, proof, old_root, new_root).is_ok(),
        tlog_tiles::check_tree(
            &theirs,
            new,
            tlog_tiles::Hash(new_root.0),
            old,
            tlog_tiles::Hash(old_root.0),
        )
        .is_ok(),
        RootHash::<Sha256>::new(new_root.0.into(), new)
            .verify_consistency(
                &RootHash::new(old_root.0.into(), old),
                &ConsistencyProof::from_digests(&digests),
            )
            .is_ok(),
        sigstore_merkle::verify_consistency_proof(
            old,
            new,
            &sigstore,
            &Sha256Hash::new(old_root.0),
            &Sha256Hash::new(new_root.0),
        )
        .is_ok(),
    ]
}

/// sigstore-crypto without its C library takes its hash from here; SHA-256 itself is not in question.
#[derive(Debug)]
struct Hashing;

struct Context(Sha256);

impl sigstore_crypto::HashContext for Context {
    fn update(&mut self, data: &[u8]) {
        sha2::Digest::update(&mut self.0, data);
    }
    fn finalize(self: Box<Self>) -> Vec<u8> {
        sha2::Digest::finalize(self.0).to_vec()
    }
}

impl sigstore_crypto::CryptoProvider for Hashing {
    fn hash(
        &self,
        algorithm: sigstore_types::HashAlgorithm,
    ) -> sigstore_crypto::Result<Box<dyn sigstore_crypto::HashContext>> {
        assert_eq!(algorithm, sigstore_types::HashAlgorithm::Sha2256);
        Ok(Box::new(Context(sha2::Digest::new())))
    }
    fn verify_raw(
        &self,
        _: sigstore_crypto::SigningScheme,
        _: &[u8],
        _: &[u8],
        _: &[u8],
    ) -> sigstore_crypto::Result<()> {
        unreachable!("only proofs are asked of it")
    }
    fn verify_prehashed(
        &self,
        _: sigstore_crypto::SigningScheme,
        _: &[u8],
        _: &[u8],
        _: &[u8],
    ) -> sigstore_crypto::Result<()> {
        unreachable!("only proofs are asked of it")
    }
}

fn install() {
    // Another test of this program may have been first.
    let _ = sigstore_crypto::install_default_provider(&Hashing);
}

#[test]
fn all_agree_on_true_and_on_edited_proofs() {
    install();
    let log = Log::golden(300);
    let sizes = [1, 2, 3, 5, 8, 64, 100, 255, 256, 257, 300];
    let mut asked = 0;
    for new in sizes {
        for index in 0..new {
            let proof = log.inclusion(index, new);
            let data = entry(index);
            let root = log.root(new);
            assert_eq!(inclusion(index, new, &data, &proof, root), [true; 4]);
            for edited in edits(&proof) {
                assert_eq!(
                    inclusion(index, new, &data, &edited, root),
                    [false; 4],
                    "{index} of {new}"
                );
            }
            assert_eq!(inclusion(index, new, b"other", &proof, root), [false; 4]);
            asked += 1;
        }
        for old in 1..=new {
            let proof = log.consistency(old, new);
            let (old_root, new_root) = (log.root(old), log.root(new));
            assert_eq!(
                consistency(old, new, &proof, old_root, new_root),
                [true; 4],
                "{old} to {new}"
            );
            for edited in edits(&proof) {
                assert_eq!(
                    consistency(old, new, &edited, old_root, new_root),
                    [false; 4],
                    "{old} to {new}"
                );
            }
            asked += 1;
        }
    }
    assert_eq!(asked, 2 * sizes.iter().sum::<u64>());
}

/// One hash changed, one dropped, one added, two swapped.
fn edits(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut all = Vec::new();
    let mut longer = proof.to_vec();
    longer.push(leaf_hash(b"another"));
    all.push(longer);
    if !proof.is_empty() {
        let mut changed = proof.to_vec();
        changed[proof.len() / 2].0[7] ^= 4;
        all.push(changed);
        all.push(proof[..proof.len() - 1].to_vec());
    }
    if proof.len() > 1 {
        let mut swapped = proof.to_vec();
        swapped.swap(0, 1);
        all.push(swapped);
    }
    all
}

/// Our tiles, asked for by the other implementation's names.
struct Tiles(std::collections::BTreeMap<String, Vec<u8>>);

impl TileReader for Tiles {
    fn height(&self) -> u8 {
        8
    }
    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        Ok(tiles
            .iter()
            // It writes x/mod's height element, which C2SP does not have.
            .map(|tile| self.0[&tile.path().replacen("tile/8/", "tile/", 1)].clone())
            .collect())
    }
    fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
}

#[test]
fn tlog_tiles_proves_entries_out_of_our_tiles() {
    let size = 70_000;
    let mut builder = TileBuilder::default();
    let mut tiles = std::collections::BTreeMap::new();
    for index in 0..size {
        for (path, bytes) in builder.push(leaf_hash(&entry(index))) {
            tiles.insert(path.as_str().to_owned(), bytes);
        }
    }
    let (partial, root) = builder.finish();
    tiles.extend(
        partial
            .into_iter()
            .map(|(path, bytes)| (path.as_str().to_owned(), bytes)),
    );
    let log = Log::golden(size);
    let files = Tiles(tiles);
    let reader = TileHashReader::new(size, tlog_tiles::Hash(root.0), &files);
    for index in [0, 255, 256, 65_535, 65_536, 69_887, 69_888, 69_999] {
        let stored = reader
            .read_hashes(&[tlog_tiles::stored_hash_index(0, index)])
            .unwrap();
        assert_eq!(stored[0].0, leaf_hash(&entry(index)).0);
        let proof = tlog_tiles::prove_record(size, index, &reader).unwrap();
        let ours = log.inclusion(index, size);
        assert_eq!(
            proof.iter().map(|h| h.0).collect::<Vec<_>>(),
            ours.iter().map(|h| h.0).collect::<Vec<_>>()
        );
    }
    for old in [1, 256, 257, 65_536, 69_999] {
        let proof = tlog_tiles::prove_tree(size, old, &reader).unwrap();
        let ours = log.consistency(old, size);
        assert_eq!(
            proof.iter().map(|h| h.0).collect::<Vec<_>>(),
            ours.iter().map(|h| h.0).collect::<Vec<_>>()
        );
    }
}

#[test]
fn tile_names_differ_only_in_the_height_element_and_the_word_for_entries() {
    for number in [0, 1, 255, 999, 1_000, 70_000, 1_234_067, 999_999_999] {
        for width in [1, 17, 255, TILE_WIDTH as u32] {
            for level in [0, 1, 5] {
                let theirs = tlog_tiles::Tile::new(8, level, number, width, false).path();
                let ours = TilePath::tile(level, number, width as usize);
                assert_eq!(ours.as_str(), theirs.replacen("tile/8/", "tile/", 1));
            }
            let theirs = tlog_tiles::Tile::new(8, 0, number, width, true).path();
            let ours = TilePath::entries(number, width as usize);
            assert_eq!(
                ours.as_str(),
                theirs.replacen("tile/8/data/", "tile/entries/", 1)
            );
        }
    }
}

#[test]
fn signed_note_and_tlog_tiles_open_our_checkpoints() {
    let signer = golden_signer();
    let log = Log::golden(257);
    for size in [1, 2, 256, 257] {
        let text = log.checkpoint(size, &signer);
        let note = signed_note::Note::from_bytes(text.as_bytes()).unwrap();
        let verifier = signed_note::StandardVerifier::new(&signer.verifier().to_string()).unwrap();
        let known = signed_note::VerifierList::new(vec![Box::new(verifier)]);
        assert_eq!(note.verify(&known).unwrap().0.len(), 1);
        let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
        assert_eq!(checkpoint.origin(), ORIGIN);
        assert_eq!(
            (checkpoint.size(), checkpoint.hash().0),
            (size, log.root(size).0)
        );
        assert_eq!(checkpoint.extension(), "");
        // One digit changed: neither accepts it.
        let edited = text.replacen(&format!("\n{size}\n"), &format!("\n{}\n", size + 1), 1);
        let note = signed_note::Note::from_bytes(edited.as_bytes()).unwrap();
        assert!(note.verify(&known).is_err());
        let key = VerifierKey::parse(&signer.verifier().to_string()).unwrap();
        assert!(Checkpoint::open(edited.as_bytes(), &key).is_err());
    }
}

#[test]
fn our_parser_opens_notes_that_signed_note_signed() {
    let seed: [u8; 32] = std::array::from_fn(|index| index as u8);
    // The signer's text form: PRIVATE+KEY+name+id+base64(type || seed), with the id of the verifier's key.
    let vkey = golden_signer().verifier().to_string();
    let id = vkey.split('+').nth(1).unwrap().to_owned();
    let mut secret = vec![1];
    secret.extend(seed);
    let skey = format!(
        "PRIVATE+KEY+{ORIGIN}+{id}+{}",
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, secret)
    );
    let signer = signed_note::StandardSigner::new(&skey).unwrap();
    let checkpoint =
        tlog_tiles::Checkpoint::new(ORIGIN, 9, tlog_tiles::Hash(leaf_hash(b"x").0), "").unwrap();
    let mut note = signed_note::Note::new(&checkpoint.to_bytes(), &[]).unwrap();
    note.add_sigs(&[&signer]).unwrap();
    let opened = Checkpoint::open(&note.to_bytes(), golden_signer().verifier()).unwrap();
    assert_eq!((opened.size, opened.root), (9, leaf_hash(b"x")));
}
