//! Fuzzing of parsers, as part of `cargo test`: valid samples and the committed corpus, mutated thousands of times. A target must never
//! panic and never take much memory; what it accepts it checks itself, such as that it is written back to the same value.
//!
//! `make fuzz SECONDS=60` runs each target that long instead of its fixed number of mutations; CI's runs are bounded by number, never by
//! the clock. An input that fails is printed and left in `fuzz/found`; put it into `fuzz/corpus/TARGET` when the fault is mended, and
//! every later run tries it first. There is no coverage feedback: the samples are near what is accepted, so that mutations reach deep.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The bar of `security.md` 1.1: what parsing may take beyond what the process had before.
const PEAK_MEMORY_KIB: u64 = 64 * 1024;
/// Longer inputs say nothing new.
const MAX_INPUT_BYTES: usize = 200_000;

/// SplitMix64: repeatable, and good enough to pick places.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }
}

const SPECIAL: &[u8; 24] = b"\n +-0129./=\"\\{}[],:x\0\x7f\xff\xe2";

/// One to four edits of one sample, with material of the others.
fn mutate(random: &mut Random, samples: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = samples[random.below(samples.len())].clone();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(10) {
            0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            2 if !bytes.is_empty() => bytes[at] = SPECIAL[random.below(SPECIAL.len())],
            3 if !bytes.is_empty() => {
                bytes.remove(at);
            }
            4 => bytes.insert(at, SPECIAL[random.below(SPECIAL.len())]),
            5 => bytes.truncate(at),
            6 => {
                let end = (at + random.below(40)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                for _ in 0..=random.below(8) {
                    bytes.splice(at..at, part.iter().copied());
                }
            }
            7 => {
                let other = &samples[random.below(samples.len())];
                let from = random.below(other.len());
                bytes.splice(at.., other[from..].iter().copied());
            }
            8 => {
                // A line moved to another place.
                let mut lines: Vec<Vec<u8>> = bytes
                    .split(|byte| *byte == b'\n')
                    .map(<[u8]>::to_vec)
                    .collect();
                let (a, b) = (random.below(lines.len()), random.below(lines.len()));
                lines.swap(a, b);
                bytes = lines.join(&b'\n');
            }
            _ => {
                // A number at its limits.
                let number = [
                    "0",
                    "00",
                    "18446744073709551615",
                    "18446744073709551616",
                    "9223372036854775808",
                    "-1",
                    "256",
                    "1e999",
                ][random.below(8)];
                bytes.splice(at..at, number.bytes());
            }
        }
        bytes.truncate(MAX_INPUT_BYTES);
    }
    bytes
}

fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .map(|folder| folder.join("fuzz"))
        .find(|folder| folder.join("corpus").is_dir())
        .expect("fuzz/corpus is part of the repository")
}

/// The committed inputs of a target.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = root().join("corpus").join(name);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

/// Keeps the input that made a target panic.
struct Guard<'a> {
    name: &'a str,
    input: Vec<u8>,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let folder = root().join("found");
            let path = folder.join(format!("{}-{}", self.name, std::process::id()));
            let kept =
                std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, &self.input));
            eprintln!(
                "the target {} failed on {:?} ({}: {kept:?})",
                self.name,
                String::from_utf8_lossy(&self.input[..self.input.len().min(2_000)]),
                path.display()
            );
        }
    }
}

/// Runs `target` on every sample (all of which it must accept), on the corpus, and on so many mutations of both. `name` is the folder of
/// the corpus.
pub(crate) fn fuzz(
    name: &str,
    samples: &[Vec<u8>],
    mutations: u64,
    mut target: impl FnMut(&[u8]) -> bool,
) {
    static BEFORE: OnceLock<u64> = OnceLock::new();
    let before = *BEFORE.get_or_init(|| memory_kib("VmRSS"));
    let mut guard = Guard {
        name,
        input: Vec::new(),
    };
    for sample in samples {
        guard.input.clone_from(sample);
        assert!(target(sample), "{}", String::from_utf8_lossy(sample));
    }
    let mut all = samples.to_vec();
    for input in corpus(name) {
        guard.input.clone_from(&input);
        target(&input);
        all.push(input);
    }
    let seconds = std::env::var("SALLYPORT_FUZZ_SECONDS").ok();
    let limit = seconds.map(|seconds| Duration::from_secs(seconds.parse().unwrap()));
    let begun = Instant::now();
    // Runs for a time start elsewhere each time.
    let mut random = Random(if limit.is_some() {
        u64::from(std::process::id())
    } else {
        2_026
    });
    let (mut runs, mut accepted) = (0, 0);
    while limit.map_or(runs < mutations, |limit| begun.elapsed() < limit) {
        guard.input = mutate(&mut random, &all);
        accepted += u64::from(target(&guard.input));
        runs += 1;
    }
    let grown = memory_kib("VmHWM").saturating_sub(before);
    assert!(grown < PEAK_MEMORY_KIB, "{name}: {grown} KiB");
    if limit.is_some() {
        println!("{name}: {runs} inputs, {accepted} accepted, at most {grown} KiB more");
    }
}

fn memory_kib(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
