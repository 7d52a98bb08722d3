//! Exact iris search and fused identification: our counting loop beside numkong's packed 1-bit products and beside the
//! time to read the same memory once.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and stops when something is wrong"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use numkong::{PackedMatrix, Tensor, u1x8};
use sallyport_domain::{
    Eye, FaceTemplate, FusionCalibration, IrisDissimilarity, IrisRotation, IrisTemplate,
    ModelDigest, ReferenceId, SubjectId, Template,
};
use sallyport_matching::{Captured, Gallery, Identification};
use uuid::Uuid;

const MODEL: ModelDigest = ModelDigest::from_bytes([1; 32]);
/// Bits of a code.
const BITS: usize = 8_192;
/// References in one packed matrix.
const PACKED: usize = 4_096;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn ring(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
}

fn iris(seed: u64, eye: Eye) -> IrisTemplate {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let code = std::array::from_fn(|_| random.ring());
    let mask = std::array::from_fn(|_| random.ring() | random.ring());
    IrisTemplate::new(MODEL, eye, 80, 400, code, mask).unwrap()
}

fn face(seed: u64) -> FaceTemplate {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let values = (0..512)
        .map(|_| (random.next() >> 40) as f32 / (1_u64 << 24) as f32 - 0.5)
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

fn bytes(rings: impl Iterator<Item = u128>) -> impl Iterator<Item = u1x8> {
    rings.flat_map(u128::to_le_bytes).map(u1x8)
}

/// Ones and zeros of a code where the mask is set, and the mask; the other way round for references, so that one product
/// counts both kinds of disagreement.
fn halves(iris: &IrisTemplate, shift: u32, reference: bool) -> (Vec<u1x8>, Vec<u1x8>) {
    let turn = move |ring: &u128| ring.rotate_left(shift);
    let ones = || iris.code().iter().map(turn);
    let zeros = || {
        let pairs = iris.code().iter().zip(iris.mask());
        pairs.map(move |(code, mask)| (!code & mask).rotate_left(shift))
    };
    let both = if reference {
        bytes(zeros()).chain(bytes(ones())).collect()
    } else {
        bytes(ones()).chain(bytes(zeros())).collect()
    };
    (both, bytes(iris.mask().iter().map(turn)).collect())
}

struct PackedIrises {
    codes: Vec<PackedMatrix<u1x8>>,
    masks: Vec<PackedMatrix<u1x8>>,
}

fn pack(irises: &[IrisTemplate]) -> PackedIrises {
    let (mut codes, mut masks) = (Vec::new(), Vec::new());
    for chunk in irises.chunks(PACKED) {
        let (mut code, mut mask) = (Vec::new(), Vec::new());
        for iris in chunk {
            let (both, valid) = halves(iris, 0, true);
            code.extend(both);
            mask.extend(valid);
        }
        let code = Tensor::<u1x8>::try_from_slice(&code, &[chunk.len(), 2 * BITS]).unwrap();
        let mask = Tensor::<u1x8>::try_from_slice(&mask, &[chunk.len(), BITS]).unwrap();
        codes.push(PackedMatrix::try_pack(&code).unwrap());
        masks.push(PackedMatrix::try_pack(&mask).unwrap());
    }
    PackedIrises { codes, masks }
}

/// The closest reference by packed products.
fn packed_search(probe: &IrisTemplate, gallery: &PackedIrises) -> f32 {
    let shifts: Vec<u32> = IrisRotation::Normal.shifts().collect();
    let (mut codes, mut masks) = (Vec::new(), Vec::new());
    for shift in &shifts {
        let (both, valid) = halves(probe, *shift, false);
        codes.extend(both);
        masks.extend(valid);
    }
    let codes = Tensor::<u1x8>::try_from_slice(&codes, &[shifts.len(), 2 * BITS]).unwrap();
    let masks = Tensor::<u1x8>::try_from_slice(&masks, &[shifts.len(), BITS]).unwrap();
    let mut best = f32::MAX;
    for (code, mask) in gallery.codes.iter().zip(&gallery.masks) {
        let disagreeing = codes.try_dots_packed(code).unwrap();
        let common = masks.try_dots_packed(mask).unwrap();
        for (disagreeing, common) in disagreeing.as_slice().iter().zip(common.as_slice()) {
            if let Some(score) = IrisDissimilarity::from_counts(*disagreeing, *common) {
                best = best.min(score.value());
            }
        }
    }
    best
}

fn identify(gallery: &Gallery, captured: &Captured<'_>) -> f32 {
    let calibration = FusionCalibration::default_pair();
    match gallery.identify(captured, &calibration, IrisRotation::Normal, 8) {
        Identification::Found { scores, .. } => scores
            .iter()
            .filter_map(|one| one.left?.dissimilarity())
            .map(IrisDissimilarity::value)
            .fold(f32::MAX, f32::min),
        Identification::OtherModel(_) => panic!("one model only"),
    }
}

fn main() {
    numkong::capabilities::configure_thread();
    let n: u64 = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(100_000);
    let id = |n: u64| Uuid::from_u128(u128::from(n));
    let mut gallery = Gallery::new();
    let clock = Instant::now();
    for person in 0..n {
        let subject = SubjectId::from_uuid(id(person));
        let mut add = |modality: u64, template: Template| {
            let reference = ReferenceId::from_uuid(id(person * 3 + modality));
            gallery.insert(MODEL, reference, subject, &template)
        };
        let _ = add(0, face(person).into());
        let _ = add(1, iris(person, Eye::Left).into());
        let _ = add(2, iris(person + n, Eye::Right).into());
    }
    println!(
        "{n} people with a face and two irises, inserted in {:.1?} ({:?})",
        clock.elapsed(),
        gallery.protection()
    );
    let probes = [
        Template::from(face(n / 2)),
        iris(n / 2, Eye::Left).rotated(3).into(),
        iris(n / 2 + n, Eye::Right).rotated(126).into(),
    ];
    let left = Captured::new().with(MODEL, &probes[1]);
    let all = probes
        .iter()
        .fold(Captured::new(), |all, one| all.with(MODEL, one));
    assert!(identify(&gallery, &all) < 0.05, "the planted mate is found");

    let part = usize::try_from(n.min(20_000)).unwrap();
    let irises: Vec<IrisTemplate> = (0..part as u64).map(|n| iris(n, Eye::Left)).collect();
    let packed = pack(&irises);
    let flat: Vec<u128> = irises
        .iter()
        .flat_map(|iris| iris.code().iter().chain(iris.mask()).copied())
        .collect();
    let stream = best_of(5, || {
        black_box(flat.iter().fold(0, |sum, word| sum ^ word));
    });
    let probe = probes[1].iris().unwrap();
    let mut small = Gallery::new();
    for (n, iris) in irises.iter().enumerate() {
        let id = id(n as u64);
        let _ = small.insert(
            MODEL,
            ReferenceId::from_uuid(id),
            SubjectId::from_uuid(id),
            iris,
        );
    }
    let (theirs, ours) = (packed_search(probe, &packed), identify(&small, &left));
    assert!((theirs - ours).abs() < 1e-6, "both are exact");
    let products = best_of(3, || {
        black_box(packed_search(probe, &packed));
    });
    let counting = best_of(3, || {
        black_box(identify(&small, &left));
    });
    println!(
        "one iris against {part}, 9 positions, one thread: counting {counting:.1?}, packed 1-bit products {products:.1?}, \
         streaming the bits once {stream:.1?}"
    );

    for threads in [1, 2] {
        gallery.set_threads(threads);
        let one = best_of(3, || {
            black_box(identify(&gallery, &left));
        });
        let face = Captured::new().with(MODEL, &probes[0]);
        let face = best_of(5, || {
            black_box(identify(&gallery, &face));
        });
        let passage = best_of(3, || {
            black_box(identify(&gallery, &all));
        });
        println!(
            "N = {n}, {threads} thread(s): one face {face:.1?}; one iris {one:.1?}; face and both irises, fused over everybody {passage:.1?}"
        );
    }
}
