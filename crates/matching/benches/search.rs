//! Exact face search beside float32 brute force and beside the time to stream the same memory once.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark prints, and stops when something is wrong"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use numkong::Dot;
use sallyport_domain::{FaceTemplate, ModelDigest, ReferenceId, SubjectId};
use sallyport_matching::{Gallery, Search};
use uuid::Uuid;

/// References unless the command line says otherwise.
const N: usize = 100_000;
/// Candidates kept.
const TOP: usize = 20;

fn template(seed: u64) -> FaceTemplate {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let values = (0..512)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
        })
        .collect();
    FaceTemplate::normalise(values).unwrap()
}

fn best_of(runs: usize, mut work: impl FnMut()) -> Duration {
    (0..runs)
        .map(|_| {
            let clock = Instant::now();
            work();
            clock.elapsed()
        })
        .min()
        .unwrap()
}

/// The rows of the `TOP` largest float32 products, best first.
fn brute_force(probe: &FaceTemplate, flat: &[f32]) -> Vec<usize> {
    let mut scores: Vec<(usize, f64)> = flat
        .chunks_exact(512)
        .map(|row| f32::dot(probe.as_slice(), row).unwrap())
        .enumerate()
        .collect();
    scores.select_nth_unstable_by(TOP, |a, b| b.1.total_cmp(&a.1));
    scores.truncate(TOP);
    scores.sort_by(|a, b| b.1.total_cmp(&a.1));
    scores.into_iter().map(|(row, _)| row).collect()
}

/// Reads every byte once.
fn stream(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks::<64>();
    let mut sums = [0_u64; 8];
    for word in words {
        for (sum, part) in sums.iter_mut().zip(word.as_chunks::<8>().0) {
            *sum ^= u64::from_ne_bytes(*part);
        }
    }
    sums.iter().fold(0, |all, sum| all ^ sum)
}

fn main() {
    let n = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(N);
    let model = ModelDigest::from_bytes([1; 32]);
    let mut gallery = Gallery::new();
    let mut flat = Vec::with_capacity(n * 512);
    for index in 0..n {
        let one = template(index as u64);
        let id = Uuid::from_u128(index as u128);
        let _ = gallery.insert(
            model,
            ReferenceId::from_uuid(id),
            SubjectId::from_uuid(id),
            &one,
        );
        flat.extend_from_slice(one.as_slice());
    }
    let probes: Vec<FaceTemplate> = (0..32).map(|seed| template(seed + 1_000_000_000)).collect();
    let search = |count: usize| {
        let probes: Vec<_> = probes[..count].iter().collect();
        gallery.search(model, &probes, TOP)
    };
    let Search::Found { candidates, .. } = search(8) else {
        panic!("one model only")
    };
    for (list, probe) in candidates.iter().zip(&probes) {
        let found: Vec<u128> = list
            .as_slice()
            .iter()
            .map(|one| one.subject.as_uuid().as_u128())
            .collect();
        let expected: Vec<u128> = brute_force(probe, &flat)
            .into_iter()
            .map(|row| row as u128)
            .collect();
        assert_eq!(found, expected, "the same {TOP} as float32 brute force");
    }
    // A copy of a quarter of the size, as the coarse templates are.
    let coarse: Vec<u8> = flat.iter().map(|value| value.to_bits() as u8).collect();
    let exact_bytes: Vec<u8> = flat.iter().flat_map(|value| value.to_ne_bytes()).collect();
    let one = best_of(9, || drop(black_box(search(1))));
    let eight = best_of(5, || drop(black_box(search(8))));
    let many = best_of(3, || drop(black_box(search(32))));
    let brute = best_of(5, || drop(black_box(brute_force(&probes[0], &flat))));
    let quarter = best_of(9, || _ = black_box(stream(&coarse)));
    let whole = best_of(5, || _ = black_box(stream(&exact_bytes)));
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    let rate = |count: usize, time: Duration| (count * n) as f64 / time.as_secs_f64() / 1e6;
    println!(
        "exact face search, N = {n}, 512 numbers, one thread, top {TOP}, the same as float32 brute force"
    );
    println!("  reading the 8-bit copy once   : {quarter:>10.2?}");
    println!("  reading the float32 rows once : {whole:>10.2?}");
    println!(
        "  float32 brute force, 1 probe  : {brute:>10.2?}  {:.1} M comparisons/s",
        rate(1, brute)
    );
    println!(
        "  1 probe                       : {one:>10.2?}  {:.1} M/s, {:.2}x reading the 8-bit copy, {:.1}x faster than brute force",
        rate(1, one),
        ratio(one, quarter),
        ratio(brute, one)
    );
    println!(
        "  8 probes in one pass          : {eight:>10.2?}  {:.1} M/s",
        rate(8, eight)
    );
    println!(
        "  32 probes                     : {many:>10.2?}  {:.1} M/s",
        rate(32, many)
    );
    println!(
        "  performance.md, other machine, two cores, N = 196,608: FAISS IndexFlatIP 2.6 / 7.2 / 11 M/s for 1 / 8 / 32 probes,\n  \
         USearch int8 9 / 35 / 40, numkong packed int8 with AMX 50 / 415 / 1,470"
    );
}
