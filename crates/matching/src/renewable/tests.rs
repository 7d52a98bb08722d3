use proptest::prelude::*;
use sallyport_domain::{Eye, IrisRotation, ModelDigest, iris};

use super::*;

const ENCODER: ModelDigest = ModelDigest::from_bytes([7; 32]);

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

fn secret(seed: u64) -> TemplateSecret {
    let mut bytes = [0; 32];
    rng(seed).fill_bytes(&mut bytes);
    TemplateSecret::new(&bytes)
}

fn direction(rng: &mut ChaCha20Rng) -> Vec<f64> {
    (0..DIMENSIONS / 2).flat_map(|_| normals(rng)).collect()
}

/// `near` of 1 is the same face again, 0 a stranger.
fn face_near(base: &[f64], near: f64, rng: &mut ChaCha20Rng) -> FaceTemplate {
    let noise = direction(rng);
    let other = (1.0 - near * near).sqrt();
    let values = base.iter().zip(noise).map(|(a, b)| near * a + other * b);
    FaceTemplate::normalise(values.map(|value| value as f32).collect()).unwrap()
}

/// Codes with runs as real ones have them, some bits invalid; `flips` of the bits differ from `base`.
fn iris_near(base: Option<&IrisTemplate>, flips: f64, rng: &mut ChaCha20Rng) -> IrisTemplate {
    let mut chance = |share: f64| (rng.next_u32() as f64) < share * f64::from(u32::MAX);
    let (mut code, mut mask) = ([0_u128; IRIS_RINGS], [0_u128; IRIS_RINGS]);
    for ring in 0..IRIS_RINGS {
        let mut bit = chance(0.5);
        for column in 0..COLUMNS {
            if chance(0.18) {
                bit = !bit;
            }
            let known = base.map(|base| base.code()[ring] >> column & 1 == 1);
            let value = known.map_or(bit, |known| known != chance(flips));
            code[ring] |= u128::from(value) << column;
            mask[ring] |= u128::from(chance(0.8)) << column;
        }
    }
    IrisTemplate::new(ENCODER, Eye::Left, 80, 400, code, mask).unwrap()
}

fn face_score(one: &Template, other: &Template) -> f32 {
    let (one, other) = (one.face().unwrap(), other.face().unwrap());
    one.similarity(other).value()
}

fn iris_score(one: &Template, other: &Template) -> f32 {
    let (one, other) = (one.iris().unwrap(), other.iris().unwrap());
    iris::compare(one, other, IrisRotation::Wide)
        .unwrap()
        .dissimilarity()
        .unwrap()
        .value()
}

/// The share of pairs of a mated and a non-mated score in which the mated one is higher; 0.5 tells nothing.
fn area(mated: &[f32], other: &[f32]) -> f64 {
    let mut wins = 0.0;
    for one in mated {
        for two in other {
            wins += match one.total_cmp(two) {
                std::cmp::Ordering::Greater => 1.0,
                std::cmp::Ordering::Equal => 0.5,
                std::cmp::Ordering::Less => 0.0,
            };
        }
    }
    wins / (mated.len() * other.len()) as f64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_face_score_stays_and_the_way_back_is_exact(seed in any::<u64>(), near in 0.0..1.0_f64) {
        let secret = secret(seed);
        let mut rng = rng(!seed);
        let base = direction(&mut rng);
        let one = Template::Face(face_near(&base, 1.0, &mut rng));
        let other = Template::Face(face_near(&base, near, &mut rng));
        let (there, other_there) = (secret.protect(&one).unwrap(), secret.protect(&other).unwrap());
        let change = (face_score(&one, &other) - face_score(&there, &other_there)).abs();
        prop_assert!(change <= 1e-5, "{change}");
        prop_assert!(face_score(&one, &there).abs() < 0.3);
        let back = secret.unprotect(&there).unwrap();
        for (a, b) in one.face().unwrap().as_slice().iter().zip(back.face().unwrap().as_slice()) {
            prop_assert!((a - b).abs() <= 1e-6);
        }
    }

    #[test]
    fn every_hamming_distance_stays_at_every_rotation_and_the_way_back_is_exact(seed in any::<u64>(), flips in 0.0..0.5_f64) {
        let secret = secret(seed);
        let mut rng = rng(!seed);
        let one = iris_near(None, 0.0, &mut rng);
        let other = iris_near(Some(&one), flips, &mut rng);
        let there = secret.protect(&Template::Iris(one.clone())).unwrap();
        for columns in [0, 1, 3, 64, 127] {
            let turned = other.rotated(columns);
            let turned_there = secret.protect(&Template::Iris(turned.clone())).unwrap();
            let compared = |one: &IrisTemplate, other: &IrisTemplate| {
                iris::compare(one, other, IrisRotation::Wide).unwrap()
            };
            prop_assert_eq!(
                compared(&one, &turned),
                compared(there.iris().unwrap(), turned_there.iris().unwrap())
            );
        }
        prop_assert_eq!(secret.unprotect(&there).unwrap(), Template::Iris(one));
    }
}

#[test]
fn under_two_secrets_the_same_person_is_like_anybody_else() {
    const SECRETS: u64 = 12;
    const PEOPLE: u64 = 100;
    let mut rng = rng(0x5eed);
    let secrets: Vec<_> = (0..SECRETS).map(secret).collect();
    let (mut faces, mut irises) = (Vec::new(), Vec::new());
    for _ in 0..PEOPLE {
        let base = direction(&mut rng);
        let iris = iris_near(None, 0.0, &mut rng);
        faces.push([1.0, 0.8].map(|near| Template::Face(face_near(&base, near, &mut rng))));
        let again = iris_near(Some(&iris), 0.15, &mut rng);
        irises.push([iris, again].map(Template::Iris));
    }
    for (captures, score, sign) in [
        (&faces, face_score as fn(&Template, &Template) -> f32, 1.0),
        (&irises, iris_score as fn(&Template, &Template) -> f32, -1.0),
    ] {
        let (mut own, mut mated, mut other) = (Vec::new(), Vec::new(), Vec::new());
        for (at, one) in secrets.iter().enumerate() {
            let two = &secrets[(at + 1) % secrets.len()];
            let here: Vec<_> = captures
                .iter()
                .map(|[first, _]| one.protect(first).unwrap())
                .collect();
            let there: Vec<_> = captures
                .iter()
                .map(|[_, second]| two.protect(second).unwrap())
                .collect();
            for (person, template) in here.iter().enumerate() {
                mated.push(sign * score(template, &there[person]));
                other.push(sign * score(template, &there[(person + 7) % there.len()]));
                own.push(sign * score(&captures[person][0], &captures[person][1]));
            }
        }
        // Without secrets the two tell people apart, so that the test can fail.
        assert!(area(&own, &other) > 0.999);
        let area = area(&mated, &other);
        println!(
            "area {area:.4} of {} mated and as many other pairs",
            mated.len()
        );
        assert!((area - 0.5).abs() <= 0.02, "{area}");
    }
}

#[test]
fn the_secret_is_uniform_enough_to_move_every_axis_anywhere() {
    // Each coordinate of a fixed unit vector under many secrets has mean 0 and variance 1/512.
    let mut unit = vec![0.0; DIMENSIONS];
    unit[0] = 1.0;
    let face = FaceTemplate::normalise(unit).unwrap();
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for seed in 0..400 {
        let turned = secret(1_000 + seed).face(&face, true).unwrap();
        first.push(f64::from(turned.as_slice()[0]));
        last.push(f64::from(turned.as_slice()[DIMENSIONS - 1]));
    }
    for values in [first, last] {
        let mean = values.iter().sum::<f64>() / 400.0;
        let variance = values.iter().map(|v| v * v).sum::<f64>() / 400.0 * DIMENSIONS as f64;
        // Four standard errors.
        assert!(
            mean.abs() < 4.0 / (DIMENSIONS as f64 * 400.0).sqrt(),
            "{mean}"
        );
        assert!(
            (variance - 1.0).abs() < 4.0 * (2.0_f64 / 400.0).sqrt(),
            "{variance}"
        );
    }
}

#[test]
fn debug_says_nothing() {
    assert_eq!(format!("{:?}", secret(1)), "TemplateSecret([sealed])");
}
