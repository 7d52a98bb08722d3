//! Measurements that somebody signs, for `sallyport-server error-rates set`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sallyport_domain::IrisRotation;
use sallyport_transparency::{MeasuredPairs, MeasuredPoint, NoteSigner};

use crate::run::{Pairs, Sample, compare_all};
use crate::scores::{ErrorRates, Score};

/// First words of a private key, as Go's note package writes it.
const PRIVATE: &str = "PRIVATE+KEY+";
/// Ed25519, before the seed.
const ED25519: u8 = 1;

/// Makes a key pair: the private half into a new file that only this user can read. Returns the public half.
///
/// # Errors
/// The name is not allowed, the file is there already, or the disk or the system's randomness fails.
pub fn new_key(name: &str, file: &Path) -> anyhow::Result<String> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("asking the system for randomness")?;
    let signer = NoteSigner::new(name, &seed).context(
        "a key's name is a name of yours such as lab.example/eyes, without spaces and +",
    )?;
    let public = signer.verifier().to_string();
    // name+hash+key; the private half has the same name and hash.
    let hash = public
        .strip_prefix(name)
        .and_then(|rest| rest.get(1..9))
        .context("the public key has no hash")?;
    let bytes: Vec<u8> = std::iter::once(ED25519).chain(seed).collect();
    let text = format!("{PRIVATE}{name}+{hash}+{}\n", STANDARD.encode(bytes));
    let mut out = std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .with_context(|| format!("making {}; name a new file", file.display()))?;
    out.write_all(text.as_bytes())
        .and_then(|()| out.sync_all())
        .with_context(|| format!("writing {}", file.display()))?;
    Ok(public)
}

/// Reads a private key.
///
/// # Errors
/// The file cannot be read or holds none.
pub fn read_key(file: &Path) -> anyhow::Result<NoteSigner> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("reading the key {}", file.display()))?;
    let key = || {
        // Names have no +, keys in base64 may.
        let mut parts = text.trim().strip_prefix(PRIVATE)?.splitn(3, '+');
        let (name, hash, key) = (parts.next()?, parts.next()?, parts.next()?);
        let bytes = STANDARD.decode(key).ok()?;
        let seed: &[u8; 32] = bytes.strip_prefix(&[ED25519])?.try_into().ok()?;
        let signer = NoteSigner::new(name, seed).ok()?;
        let same = signer
            .verifier()
            .to_string()
            .starts_with(&format!("{name}+{hash}+"));
        same.then_some(signer)
    };
    key().with_context(|| {
        format!(
            "{} holds no private key that `sallyport-evaluate key` made",
            file.display()
        )
    })
}

/// Which group each subject of the data belongs to: lines of `subject,group`.
///
/// # Errors
/// The file cannot be read, or a line is not of this form.
pub fn groups(file: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let mut groups = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let (subject, group) = line
            .split_once(',')
            .map(|(subject, group)| (subject.trim(), group.trim()))
            .filter(|(subject, group)| !subject.is_empty() && !group.is_empty())
            .with_context(|| format!("line {number} of {} is not subject,group", file.display()))?;
        groups.insert(subject.to_owned(), group.to_owned());
    }
    Ok(groups)
}

/// Counts of everybody at the thresholds that `rates` found.
#[must_use]
pub fn counted(name: &str, identities: usize, rates: &ErrorRates) -> MeasuredPairs {
    MeasuredPairs {
        name: name.to_owned(),
        identities: identities as u64,
        mated_pairs: rates.mated_pairs as u64,
        non_mated_pairs: rates.non_mated_pairs as u64,
        points: rates
            .points
            .iter()
            .map(|point| MeasuredPoint {
                threshold: point.threshold,
                false_matches: point.false_matches as u64,
                false_non_matches: point.false_non_matches as u64,
            })
            .collect(),
    }
}

/// Different eyes among the samples.
#[must_use]
pub fn eyes(samples: &[&Sample]) -> usize {
    let eyes: BTreeSet<_> = samples
        .iter()
        .map(|sample| (&sample.picture.label.subject, sample.picture.label.eye))
        .collect();
    eyes.len()
}

/// Pairs within each group, at the thresholds of everybody. A threshold of its own would hide that a group fares worse.
#[must_use]
pub fn by_group(
    samples: &[&Sample],
    group_of: &BTreeMap<String, String>,
    everybody: &ErrorRates,
    rotation: IrisRotation,
    threads: usize,
) -> Vec<MeasuredPairs> {
    let mut groups: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        if let Some(group) = group_of.get(&sample.picture.label.subject) {
            groups.entry(group).or_default().push(sample);
        }
    }
    groups
        .into_iter()
        .map(|(group, members)| {
            let pairs = compare_all(&members, rotation, threads);
            at_thresholds(group, eyes(&members), &pairs, everybody)
        })
        .collect()
}

fn at_thresholds(
    name: &str,
    identities: usize,
    pairs: &Pairs,
    everybody: &ErrorRates,
) -> MeasuredPairs {
    let matching = |scores: &[Score], threshold: f64| {
        scores
            .iter()
            .filter(|score| score.is_some_and(|score| f64::from(score) <= threshold))
            .count() as u64
    };
    MeasuredPairs {
        name: name.to_owned(),
        identities: identities as u64,
        mated_pairs: pairs.mated.len() as u64,
        non_mated_pairs: pairs.non_mated.len() as u64,
        points: everybody
            .points
            .iter()
            .map(|point| MeasuredPoint {
                threshold: point.threshold,
                false_matches: matching(&pairs.non_mated, point.threshold),
                false_non_matches: pairs.mated.len() as u64
                    - matching(&pairs.mated, point.threshold),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scores::error_rates;

    #[test]
    fn a_key_is_read_back_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lab.key");
        let public = new_key("lab.example/eyes", &file).unwrap();
        let signer = read_key(&file).unwrap();
        assert_eq!(signer.verifier().to_string(), public);
        let again = new_key("lab.example/eyes", &file).unwrap_err();
        assert!(again.to_string().contains("name a new file"));
        new_key("two words", &folder.path().join("other")).unwrap_err();
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("lab.example", "lob.example")).unwrap();
        let error = read_key(&file).unwrap_err().to_string();
        assert!(error.contains("holds no private key"), "{error}");
    }

    #[test]
    fn groups_are_counted_at_everybodys_thresholds() {
        let mated: Vec<Score> = (0_u8..100).map(|n| Some(f32::from(n) * 0.004)).collect();
        let non_mated: Vec<Score> = (0_u16..1000)
            .map(|n| Some(0.35 + f32::from(n) * 0.0001))
            .collect();
        let everybody = error_rates(&mated, &non_mated).unwrap();
        let group = Pairs {
            mated: vec![Some(0.1), Some(0.44), None],
            mated_of: Vec::new(),
            non_mated: vec![Some(0.3501), Some(0.44), None],
        };
        let counts = at_thresholds("a", 2, &group, &everybody);
        let first = counts.points[0];
        assert!(first.threshold < 0.4);
        // What could not be compared is no match.
        assert_eq!((first.false_matches, first.false_non_matches), (1, 2));
    }

    #[test]
    fn a_line_without_a_group_is_refused_with_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("groups.csv");
        std::fs::write(&file, "001, a\n002,\n").unwrap();
        let error = groups(&file).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
        std::fs::write(&file, "001, a\n\n002,b\n").unwrap();
        assert_eq!(groups(&file).unwrap()["001"], "a");
    }
}
