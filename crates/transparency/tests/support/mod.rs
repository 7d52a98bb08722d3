//! Logs with known content, for comparison with other implementations.
#![allow(
    clippy::allow_attributes,
    dead_code,
    unreachable_pub,
    reason = "each test program uses a part"
)]

use std::path::Path;

use sallyport_transparency::{
    Checkpoint, ExportWriter, Hash, NodeMap, NoteSigner, append, consistency_proof,
    inclusion_proof, leaf_hash, root, sign_checkpoint,
};

pub const ORIGIN: &str = "sallyport.example/audit-test";

/// The signer of the golden vectors (seed `00..1f`).
pub fn golden_signer() -> NoteSigner {
    NoteSigner::new(ORIGIN, &std::array::from_fn(|index| index as u8)).unwrap()
}

/// A log whose entry `i` is `sallyport entry <i>`.
pub struct Log {
    pub size: u64,
    pub nodes: NodeMap,
}

pub fn entry(index: u64) -> Vec<u8> {
    format!("sallyport entry {index}").into_bytes()
}

impl Log {
    pub fn golden(size: u64) -> Self {
        let mut nodes = NodeMap::new();
        for index in 0..size {
            let stored = append(index, leaf_hash(&entry(index)), &nodes).unwrap();
            nodes.extend(stored);
        }
        Self { size, nodes }
    }

    pub fn root(&self, size: u64) -> Hash {
        root(size, &self.nodes).unwrap()
    }

    pub fn inclusion(&self, index: u64, size: u64) -> Vec<Hash> {
        inclusion_proof(index, size, &self.nodes).unwrap()
    }

    pub fn consistency(&self, old: u64, new: u64) -> Vec<Hash> {
        consistency_proof(old, new, &self.nodes).unwrap()
    }

    pub fn checkpoint(&self, size: u64, signer: &NoteSigner) -> String {
        let checkpoint = Checkpoint {
            origin: signer.verifier().name().to_owned(),
            size,
            root: self.root(size),
        };
        sign_checkpoint(&checkpoint, signer).unwrap()
    }

    pub fn inclusion_line(&self, index: u64, size: u64) -> String {
        let leaf = leaf_hash(&entry(index));
        line(
            "inclusion",
            index,
            size,
            &[self.root(size), leaf],
            &self.inclusion(index, size),
        )
    }

    pub fn consistency_line(&self, old: u64, new: u64) -> String {
        line(
            "consistency",
            old,
            new,
            &[self.root(old), self.root(new)],
            &self.consistency(old, new),
        )
    }

    /// Writes the export as the server does.
    pub fn write(&self, folder: &Path, signer: &NoteSigner) {
        let mut writer = ExportWriter::default();
        let put = |path: &str, bytes: &[u8]| {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        for index in 0..self.size {
            for file in writer.push(entry(index)).unwrap() {
                put(&file.path, &file.bytes);
            }
        }
        let (rest, size, computed) = writer.finish().unwrap();
        assert_eq!((size, computed), (self.size, self.root(self.size)));
        for file in rest {
            put(&file.path, &file.bytes);
        }
        put("checkpoint", self.checkpoint(self.size, signer).as_bytes());
        put("log.vkey", signer.verifier().to_string().as_bytes());
    }
}

fn line(kind: &str, a: u64, b: u64, heads: &[Hash], proof: &[Hash]) -> String {
    let hashes: Vec<String> = heads
        .iter()
        .chain(proof)
        .map(|hash| hash.to_base64())
        .collect();
    format!("{kind} {a} {b} {}\n", hashes.join(" "))
}
