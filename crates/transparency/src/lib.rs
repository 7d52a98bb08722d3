//! The audit log's core.
//!
//! RFC 6962 tree hashing, inclusion and consistency proofs, C2SP signed notes, checkpoints, cosignatures and tiles, and the
//! verification of an export. No IO, no clock, no randomness: callers bring stored nodes, files and time.
//! Formats: `security.md` section 2.

mod checkpoint;
mod compact;
mod detail;
mod entry;
mod evidence;
mod export;
mod hash;
mod measurement;
mod note;
mod policy;
mod proof;
mod receipt;
mod sample;
mod selection;
mod tile;
mod tree;
mod view;
mod witness;

pub use checkpoint::{Checkpoint, CheckpointError, Cosigner, CosignerKey, sign_checkpoint};
pub use compact::CompactTree;
pub use detail::{
    DetailError, DetailLine, MAX_DETAIL_LINE, SealedDetail, detail_associated_data, detail_bound,
    detail_commitment, detail_hash,
};
pub use entry::{Entry, EntryError, MAX_ENTRY_BYTES, SOFT_ENTRY_BYTES};
pub use evidence::{Artefact, Evidence, EvidenceError, MAX_EVIDENCE_BYTES};
pub use export::{
    ExportFile, ExportWriter, Files, Finding, MemoryFiles, VerifiedExport, verify_export,
};
pub use hash::{Hash, empty_root, leaf_hash, node_hash};
pub use measurement::{MeasuredPairs, MeasuredPoint, Measurement, MeasurementError};
pub use note::{MAX_NOTE_BYTES, Note, NoteError, NoteSigner, VerifierKey};
pub use policy::{
    MAX_POLICY_BYTES, Policy, PolicyError, PolicyLog, PolicyWitness, QuorumError, Witnessed,
};
pub use proof::{ProofFile, ProofFileError};
pub use receipt::{Receipt, ReceiptError};
pub use sample::{Row as SampleRow, SAMPLE_SIZE, Sample, SampleError, SampleReader, Week};
pub use selection::{MAX_SELECTION_LINE, Selected, SelectionError};
pub use tile::{
    TILE_WIDTH, TileBuilder, TilePath, TileSpot, decode_bundle, encode_bundle, path_number,
};
pub use tree::{
    NodeId, NodeMap, ProofError, append, consistency_proof, inclusion_proof, needed_for_append,
    needed_for_consistency, needed_for_inclusion, needed_for_root, root, verify_consistency,
    verify_inclusion,
};
pub use view::{CSV_HEADER, csv_row, json_line};
pub use witness::{
    Accepted, AddCheckpoint, LogFault, MAX_WITNESS_REQUEST_BYTES, OpenedCheckpoint, Refusal,
    SIZE_CONTENT_TYPE, WitnessAnswer, add_cosignature, read_answer, watch,
};
