//! Exact search beside a plain loop and beside the time to stream the same memory once.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark prints, and stops when something is wrong"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use sallyport_domain::{FaceTemplate, ModelDigest, ReferenceId, SubjectId};
use sallyport_matching::Gallery;
use uuid::Uuid;

const N: usize = 100_000;

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

fn main() {
    let model = ModelDigest::from_bytes([1; 32]);
    let templates: Vec<FaceTemplate> = (0..N as u64).map(template).collect();
    let mut gallery = Gallery::new();
    for (index, one) in templates.iter().enumerate() {
        let id = Uuid::from_u128(index as u128);
        let _ = gallery.insert(
            model,
            ReferenceId::from_uuid(id),
            SubjectId::from_uuid(id),
            one,
        );
    }
    let flat: Vec<f32> = templates
        .iter()
        .flat_map(|one| one.as_slice().to_vec())
        .collect();
    let probes: Vec<FaceTemplate> = (0..8).map(|seed| template(seed + 1_000_000)).collect();
    let one = best_of(5, || {
        black_box(gallery.search(model, &[&probes[0]], 20));
    });
    let eight = best_of(3, || {
        black_box(gallery.search(model, &probes.iter().collect::<Vec<_>>(), 20));
    });
    let plain = best_of(3, || {
        let probe = probes[0].as_slice();
        let best = flat
            .chunks_exact(512)
            .map(|row| row.iter().zip(probe).map(|(a, b)| a * b).sum::<f32>())
            .fold(f32::MIN, f32::max);
        black_box(best);
    });
    let stream = best_of(5, || {
        let sums = flat.chunks_exact(16).fold([0_u32; 16], |mut sums, row| {
            sums.iter_mut()
                .zip(row)
                .for_each(|(sum, value)| *sum ^= value.to_bits());
            sums
        });
        black_box(sums);
    });
    let ratio = |a: Duration, b: Duration| a.as_secs_f64() / b.as_secs_f64();
    println!("exact face search, N = {N}, 512-d float32, one thread, top 20");
    println!("  streaming the templates once : {stream:>10.2?}");
    println!(
        "  1 probe                      : {one:>10.2?}  {:.2}x streaming, {:.1}x faster than a plain loop ({plain:.2?})",
        ratio(one, stream),
        ratio(plain, one)
    );
    println!(
        "  8 probes in one pass         : {eight:>10.2?}  {:.2}x one probe",
        ratio(eight, one)
    );
}
