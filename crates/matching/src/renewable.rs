//! Renewable templates: a secret of the installation turns every template before it is stored or compared.
//!
//! Faces are turned by a random orthogonal matrix (uniform over all of them), which keeps every cosine. Of irises the rings are
//! exchanged, turned and inverted, each by its own amount, which keeps every Hamming distance at every rotation of the
//! head, since all rings of a probe are turned by the same columns. Templates of two secrets have nothing to do with each
//! other: what leaks from one installation finds nobody in another, and an installation whose templates leaked gets a new
//! secret without a new capture (ISO/IEC 24745 calls this renewability and unlinkability).
//!
//! It is no encryption. Whoever has the secret, or enough pairs of a template before and after (512 for faces; very few for
//! irises), undoes it. And nothing here hides a template from the machine that compares.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use sallyport_domain::iris::IRIS_RINGS;
use sallyport_domain::{
    BiometricError, FACE_TEMPLATE_DIMENSIONS, FaceTemplate, IrisError, IrisTemplate, Template,
};
use zeroize::Zeroizing;

use crate::Protection;
use crate::locked::LockedSlice;

const DIMENSIONS: usize = FACE_TEMPLATE_DIMENSIONS;
/// Reflections in the last 2, 3, ... 512 coordinates, one vector after the other.
const NUMBERS: usize = (DIMENSIONS + 2) * (DIMENSIONS - 1) / 2;
const COLUMNS: u32 = 128;

/// A template could not be turned: it, or the result, is none. Says nothing about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a template could not be brought under the installation's secret")]
pub struct NotTurned;

impl From<BiometricError> for NotTurned {
    fn from(_: BiometricError) -> Self {
        Self
    }
}

impl From<IrisError> for NotTurned {
    fn from(_: IrisError) -> Self {
        Self
    }
}

/// What happens to one ring of an iris.
#[derive(Clone, Copy, Default)]
struct RingTurn {
    /// Which ring comes to lie here.
    from: usize,
    /// By how many columns it is turned.
    columns: u32,
    /// Whether its bits are inverted.
    inverted: bool,
}

/// One secret, ready to be used. `Debug` hides it; dropping it zeroises it.
pub struct TemplateSecret {
    /// Unit vectors of the reflections (Stewart 1980: together with random signs they are uniform over all rotations).
    mirrors: LockedSlice<f64>,
    /// Signs of the coordinates.
    signs: Zeroizing<Vec<f64>>,
    rings: Zeroizing<Vec<RingTurn>>,
}

impl zeroize::DefaultIsZeroes for RingTurn {}

impl std::fmt::Debug for TemplateSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TemplateSecret([sealed])")
    }
}

/// Standard normal numbers in pairs (Box and Muller).
fn normals(rng: &mut ChaCha20Rng) -> [f64; 2] {
    // 53 random bits; never zero, whose logarithm does not exist.
    let mut uniform = || ((rng.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    let radius = (-2.0 * uniform().ln()).sqrt();
    let (sine, cosine) = (std::f64::consts::TAU * uniform()).sin_cos();
    [radius * cosine, radius * sine]
}

/// A number below `limit` without bias.
fn below(rng: &mut ChaCha20Rng, limit: u32) -> u32 {
    let usable = u32::MAX - u32::MAX % limit;
    loop {
        let number = rng.next_u32();
        if number < usable {
            return number % limit;
        }
    }
}

impl TemplateSecret {
    /// From 32 secret random bytes. The same bytes give the same secret on every machine, up to the last bits of the
    /// mathematics library.
    #[must_use]
    pub fn new(bytes: &[u8; 32]) -> Self {
        let mut rng = ChaCha20Rng::from_seed(*bytes);
        let mut mirrors = LockedSlice::<f64>::zeroed(NUMBERS);
        let mut rest: &mut [f64] = &mut mirrors;
        for length in 2..=DIMENSIONS {
            let (mirror, others) = std::mem::take(&mut rest).split_at_mut(length);
            rest = others;
            for pair in mirror.chunks_mut(2) {
                for (number, normal) in pair.iter_mut().zip(normals(&mut rng)) {
                    *number = normal;
                }
            }
            // The reflection that takes the drawn direction to the first axis.
            let norm = mirror.iter().map(|n| n * n).sum::<f64>().sqrt();
            if let Some(first) = mirror.first_mut() {
                *first += norm.copysign(*first);
            }
            let norm = mirror.iter().map(|n| n * n).sum::<f64>().sqrt();
            mirror.iter_mut().for_each(|number| *number /= norm);
        }
        let signs = (0..DIMENSIONS)
            .map(|_| if rng.next_u32() & 1 == 0 { 1.0 } else { -1.0 })
            .collect();
        let mut order: Zeroizing<Vec<usize>> = Zeroizing::new((0..IRIS_RINGS).collect());
        for last in (1..IRIS_RINGS).rev() {
            // `last` is below 64.
            let other = below(&mut rng, last as u32 + 1) as usize;
            order.swap(last, other);
        }
        let rings = order
            .iter()
            .map(|from| RingTurn {
                from: *from,
                columns: below(&mut rng, COLUMNS),
                inverted: rng.next_u32() & 1 == 1,
            })
            .collect();
        Self {
            mirrors,
            signs: Zeroizing::new(signs),
            rings: Zeroizing::new(rings),
        }
    }

    /// Whether the secret's larger part lies in locked memory.
    pub fn protection(&self) -> Protection {
        match self.mirrors.unprotected_bytes() {
            0 => Protection::Locked,
            bytes => Protection::NotLocked { bytes },
        }
    }

    /// A template as captured, brought under the secret.
    ///
    /// # Errors
    /// [`NotTurned`]: it cannot happen to a template that its type accepted.
    pub fn protect(&self, template: &Template) -> Result<Template, NotTurned> {
        self.turn(template, true)
    }

    /// The template as captured: to bring it under another secret, never to store it.
    ///
    /// # Errors
    /// As [`Self::protect`].
    pub fn unprotect(&self, template: &Template) -> Result<Template, NotTurned> {
        self.turn(template, false)
    }

    fn turn(&self, template: &Template, forth: bool) -> Result<Template, NotTurned> {
        Ok(match template {
            Template::Face(face) => Template::Face(self.face(face, forth)?),
            Template::Iris(iris) => Template::Iris(self.iris(iris, forth)?),
        })
    }

    fn face(&self, face: &FaceTemplate, forth: bool) -> Result<FaceTemplate, NotTurned> {
        let mut numbers: Zeroizing<Vec<f64>> =
            Zeroizing::new(face.as_slice().iter().map(|n| f64::from(*n)).collect());
        let sign = |numbers: &mut [f64]| {
            numbers
                .iter_mut()
                .zip(&*self.signs)
                .for_each(|(number, sign)| *number *= sign);
        };
        if forth {
            sign(&mut numbers);
            for length in 2..=DIMENSIONS {
                self.reflect(&mut numbers, length);
            }
        } else {
            // Every reflection undoes itself.
            for length in (2..=DIMENSIONS).rev() {
                self.reflect(&mut numbers, length);
            }
            sign(&mut numbers);
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "back to the template's own precision"
        )]
        let values = numbers.iter().map(|number| *number as f32).collect();
        Ok(FaceTemplate::normalise(values)?)
    }

    /// Mirrors the last `length` coordinates.
    fn reflect(&self, numbers: &mut [f64], length: usize) {
        // Vectors of 2, 3, ... length - 1 numbers lie before.
        let start = (length + 1) * (length - 2) / 2;
        let mirror = self.mirrors.get(start..start + length).unwrap_or_default();
        let part = numbers.get_mut(DIMENSIONS - length..).unwrap_or_default();
        let dot: f64 = mirror.iter().zip(&*part).map(|(a, b)| a * b).sum();
        part.iter_mut()
            .zip(mirror)
            .for_each(|(number, axis)| *number -= 2.0 * dot * axis);
    }

    fn iris(&self, iris: &IrisTemplate, forth: bool) -> Result<IrisTemplate, NotTurned> {
        let (mut code, mut mask) = ([0_u128; IRIS_RINGS], [0_u128; IRIS_RINGS]);
        for (to, turn) in self.rings.iter().enumerate() {
            let (source, target) = if forth {
                (turn.from, to)
            } else {
                (to, turn.from)
            };
            let ring = |rings: &[u128; IRIS_RINGS]| {
                let ring = rings.get(source).copied().unwrap_or_default();
                if forth {
                    ring.rotate_left(turn.columns)
                } else {
                    ring.rotate_right(turn.columns)
                }
            };
            let (bits, valid) = (ring(iris.code()), ring(iris.mask()));
            let bits = if turn.inverted { !bits } else { bits };
            if let (Some(code), Some(mask)) = (code.get_mut(target), mask.get_mut(target)) {
                // Outside the mask the template's type clears the code again.
                (*code, *mask) = (bits, valid);
            }
        }
        Ok(IrisTemplate::new(
            iris.encoder(),
            iris.eye(),
            iris.quality(),
            iris.dilation_permille(),
            code,
            mask,
        )?)
    }
}

#[cfg(test)]
mod tests;
