//! Everything about one picture of an eye that is not the identity: drawn from a seed, either as a gate sees people or
//! far beyond it, so that a network learns shapes and not one camera.

use std::f32::consts::{PI, TAU};

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use crate::Identity;
use crate::noise::normal;

/// How far captures vary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Style {
    /// As a cooperative person at a gate, after `biometrics.md` I.6. The spread is multiplied: 1 is normal, 1.8 hard.
    Gate {
        /// Multiplies the spread of dilation, gaze, roll, blur and noise.
        spread: f32,
    },
    /// Domain randomisation for training: every lid shape, lighting and optical fault, and eyes that are hardly there.
    Training,
    /// As `Training`, but dark irises under strong light, often small in the picture: bright skin, a low step at the
    /// pupil, dark corners of the sclera, long dark lashes. Here networks take the iris for the pupil.
    DarkEyes,
}

/// Lid edge as a function of the place across the eye, in iris radii from the iris centre, y down.
#[derive(Debug, Clone)]
pub(crate) struct Lid {
    pub(crate) left: (f32, f32),
    pub(crate) right: (f32, f32),
    pub(crate) peak: f32,
    pub(crate) apex: f32,
    pub(crate) powers: (f32, f32),
}

impl Lid {
    pub(crate) fn at(&self, x: f32) -> f32 {
        let (corner, power) = if x < self.peak {
            (self.left, self.powers.0)
        } else {
            (self.right, self.powers.1)
        };
        let t = ((x - self.peak) / (corner.0 - self.peak)).max(0.0);
        self.apex + (corner.1 - self.apex) * t.powf(power)
    }
}

/// Lashes of one lid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lashes {
    pub(crate) count: usize,
    /// Iris radii.
    pub(crate) length: f32,
    /// Negative points up, positive hangs over the eye.
    pub(crate) droop: f32,
    pub(crate) clumped: bool,
    pub(crate) grey: f32,
    /// Pixels at an iris radius of 90.
    pub(crate) width: f32,
}

/// Lamps mirrored in the cornea.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lamps {
    None,
    Spots {
        count: usize,
        spread: f32,
    },
    Grid {
        across: usize,
        down: usize,
        step: f32,
    },
    Ring {
        count: usize,
        radius: f32,
    },
}

/// Optics and sensor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Camera {
    pub(crate) blur_px: f32,
    pub(crate) motion_px: f32,
    pub(crate) uneven: f32,
    pub(crate) vignette: f32,
    pub(crate) hot_spot: f32,
    pub(crate) gain: f32,
    pub(crate) offset: f32,
    pub(crate) gamma: f32,
    pub(crate) noise: f32,
    pub(crate) denoised: bool,
    pub(crate) jpeg_quality: Option<u8>,
}

/// The parameters of one picture. Lengths with `_px` are pixels of the final picture, other lengths iris radii.
#[derive(Debug, Clone)]
pub struct Look {
    /// Centre and radius of the iris, in pixels.
    pub centre_px: (f32, f32),
    /// Radius of the iris, in pixels.
    pub radius_px: f32,
    /// Pupil radius over iris radius, 0.15 to 0.75.
    pub dilation: f32,
    /// Angle between the optical axis and the line to the camera, in radians.
    pub gaze: f32,
    /// Direction of the gaze in the picture, in radians.
    pub gaze_axis: f32,
    /// Roll of the head, in radians, clockwise.
    pub roll: f32,
    /// `false`: no eye at all, only skin, brow and hair.
    pub has_eye: bool,
    pub(crate) pupil_offset: (f32, f32),
    pub(crate) pupil_harmonics: Vec<(f32, f32)>,
    pub(crate) limbus_harmonics: Vec<(f32, f32)>,
    pub(crate) limbus_soft: f32,
    pub(crate) pupil_soft_px: f32,
    pub(crate) pupil_grey: f32,
    pub(crate) flat_pupil: Option<f32>,
    pub(crate) limbal_ring: f32,
    pub(crate) pupil_ring: f32,
    pub(crate) fade: f32,
    pub(crate) texture_gain: f32,
    pub(crate) across_gain: f32,
    pub(crate) upper: Lid,
    pub(crate) lower: Lid,
    pub(crate) wave: f32,
    pub(crate) lid_soft_px: f32,
    pub(crate) rim: (f32, f32),
    pub(crate) shadow: (f32, f32),
    pub(crate) crease: (f32, f32),
    pub(crate) make_up: (f32, f32),
    pub(crate) lash_line: (f32, f32),
    pub(crate) skin: f32,
    pub(crate) skin_gain: f32,
    pub(crate) fine_step_px: f32,
    pub(crate) fine_gain: f32,
    pub(crate) relief: f32,
    pub(crate) socket: f32,
    pub(crate) sclera: f32,
    /// How much darker the sclera gets for each iris radius beyond the limbus.
    pub(crate) corner_shade: f32,
    pub(crate) lamps: Lamps,
    pub(crate) lamp_scale: f32,
    pub(crate) wet_spots: usize,
    pub(crate) sparkles: usize,
    pub(crate) upper_lashes: Lashes,
    pub(crate) lower_lashes: Lashes,
    pub(crate) brow: Option<(f32, f32, usize, f32)>,
    pub(crate) stray_hairs: usize,
    pub(crate) frame_grey: Option<f32>,
    pub(crate) glare: usize,
    pub(crate) camera: Camera,
}

impl Look {
    /// Draws a capture of this identity. `mirrored` puts the nose on the left of the picture instead of the right.
    #[must_use]
    pub fn draw(
        identity: &Identity,
        style: Style,
        size: (usize, usize),
        mirrored: bool,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        match style {
            Style::Gate { spread } => Self::gate(identity, spread, size, mirrored, rng),
            Style::Training => Self::training(identity, size, rng),
            Style::DarkEyes => Self::training(identity, size, rng).dark(identity, size, rng),
        }
    }

    fn gate(
        identity: &Identity,
        spread: f32,
        size: (usize, usize),
        mirrored: bool,
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let anatomy = &identity.anatomy;
        let radius = anatomy.radius_px * (1.0 + 0.03 * normal(rng));
        let inner = (-1.75, 0.28);
        let outer = (1.75, 0.02);
        let (left, right) = if mirrored {
            (inner, outer)
        } else {
            ((-outer.0, outer.1), (-inner.0, inner.1))
        };
        let upper = Lid {
            left,
            right,
            peak: 0.1 * normal(rng).clamp(-1.5, 1.5),
            apex: -anatomy.lid_height + 0.08 * normal(rng).clamp(-2.0, 2.0),
            powers: (2.0, 2.0),
        };
        let lower = Lid {
            apex: anatomy.lower_lid + 0.05 * normal(rng).clamp(-2.0, 2.0),
            peak: 0.0,
            ..upper.clone()
        };
        Self {
            centre_px: (
                size.0 as f32 / 2.0 + 6.0 * spread * normal(rng).clamp(-2.5, 2.5),
                size.1 as f32 / 2.0 + 4.0 * spread * normal(rng).clamp(-2.5, 2.5),
            ),
            radius_px: radius,
            dilation: (anatomy.dilation + 0.045 * spread * normal(rng)).clamp(0.25, 0.62),
            gaze: (0.06 * spread * normal(rng)).abs().min(0.35),
            gaze_axis: rng.random_range(0.0..TAU),
            roll: 0.052 * spread * normal(rng),
            has_eye: true,
            pupil_offset: (-0.03 + 0.005 * normal(rng), 0.01 * normal(rng)),
            pupil_harmonics: harmonics(rng, 2, 0.006),
            limbus_harmonics: harmonics(rng, 1, 0.004),
            limbus_soft: 1.6 / radius.max(20.0),
            pupil_soft_px: 0.6,
            pupil_grey: rng.random_range(12.0..28.0),
            flat_pupil: None,
            limbal_ring: anatomy.limbal_ring,
            pupil_ring: 4.0,
            fade: 0.25,
            texture_gain: identity.tones.gain,
            across_gain: 5.0 * normal(rng),
            upper,
            lower,
            wave: 0.006,
            lid_soft_px: 1.2,
            rim: (0.04, 10.0),
            shadow: (18.0, 0.09),
            crease: (0.32, 14.0),
            make_up: (0.1, 0.0),
            lash_line: (0.03, 35.0),
            skin: identity.tones.skin,
            skin_gain: 5.0,
            fine_step_px: 3.0,
            fine_gain: 1.2,
            relief: 6.0,
            socket: 12.0,
            sclera: identity.tones.sclera,
            corner_shade: 14.0,
            lamps: Lamps::Spots {
                count: rng.random_range(1..=2),
                spread: 0.12,
            },
            lamp_scale: 0.55,
            wet_spots: rng.random_range(0..2),
            sparkles: 0,
            upper_lashes: Lashes {
                count: anatomy.lashes,
                length: 0.35,
                droop: anatomy.lash_droop,
                clumped: false,
                grey: 35.0,
                width: 1.1,
            },
            lower_lashes: Lashes {
                count: anatomy.lashes / 3,
                length: 0.16,
                droop: 1.0,
                clumped: false,
                grey: 60.0,
                width: 0.8,
            },
            brow: None,
            stray_hairs: 0,
            frame_grey: None,
            glare: 0,
            camera: Camera {
                blur_px: (0.85 + 0.2 * spread * normal(rng)).clamp(0.45, 2.2),
                motion_px: 0.0,
                uneven: 0.04,
                vignette: 0.05,
                hot_spot: 0.0,
                gain: rng.random_range(0.88..1.12),
                offset: 0.0,
                gamma: 1.0,
                noise: (2.4 + 0.8 * spread * normal(rng)).clamp(0.8, 6.0),
                denoised: false,
                jpeg_quality: None,
            },
        }
    }

    fn training(identity: &Identity, size: (usize, usize), rng: &mut ChaCha8Rng) -> Self {
        let (width, height) = (size.0 as f32, size.1 as f32);
        let radius =
            height / 240.0 * (40.0_f32.ln() + (130.0_f32 / 40.0).ln() * rng.random::<f32>()).exp();
        let corner = |side: f32, rng: &mut ChaCha8Rng| {
            (
                side * rng.random_range(1.35..2.3),
                rng.random_range(-0.15..0.45),
            )
        };
        let (left, right) = (corner(-1.0, rng), corner(1.0, rng));
        let openness = rng.random::<f32>();
        let upper_apex = match openness {
            o if o < 0.06 => rng.random_range(-0.15..0.35),
            o if o < 0.30 => rng.random_range(-0.65..-0.2),
            _ => rng.random_range(-1.25..-0.5),
        };
        let lower_apex: f32 = if openness < 0.06 {
            upper_apex + rng.random_range(0.05..0.4)
        } else {
            rng.random_range(0.62..1.35)
        };
        let powers =
            |rng: &mut ChaCha8Rng| (rng.random_range(1.6..3.1), rng.random_range(1.6..3.1));
        let upper = Lid {
            left,
            right,
            peak: rng.random_range(-0.45..0.45),
            apex: upper_apex,
            powers: powers(rng),
        };
        let lower = Lid {
            left,
            right,
            peak: rng.random_range(-0.45..0.45),
            apex: lower_apex.max(upper_apex + 0.05),
            powers: powers(rng),
        };
        let iris = identity.tones.iris;
        let chance = |p: f64, rng: &mut ChaCha8Rng| rng.random_bool(p);
        let dark_pupil = rng.random_range(2.0..(0.62 * iris + 3.0).max(8.0));
        let pupil_grey = match rng.random_range(0..100) {
            0..8 => iris * rng.random_range(0.7..0.95),
            8..10 => iris + rng.random_range(20.0..70.0),
            _ => dark_pupil,
        };
        let lash_grey = rng.random_range(5.0..75.0);
        let lash_width = rng.random_range(0.6..2.6);
        Self {
            centre_px: (placed(width, radius, rng), placed(height, radius, rng)),
            radius_px: radius,
            dilation: (0.40 + 0.11 * normal(rng)).clamp(0.18, 0.72),
            gaze: if chance(0.7, rng) {
                normal(rng).abs() * 0.10
            } else {
                rng.random_range(0.0..0.44)
            },
            gaze_axis: rng.random_range(0.0..TAU),
            roll: normal(rng) * 0.12,
            has_eye: !chance(0.05, rng),
            pupil_offset: (normal(rng) * 0.03, normal(rng) * 0.03),
            pupil_harmonics: if chance(0.15, rng) {
                harmonics(rng, 4, 0.03)
            } else {
                harmonics(rng, 4, 0.008)
            },
            limbus_harmonics: harmonics(rng, 2, 0.010),
            limbus_soft: rng.random_range(0.008..0.05),
            pupil_soft_px: (radius * rng.random_range(0.002..0.008)).max(0.25),
            pupil_grey,
            flat_pupil: chance(0.12, rng).then(|| rng.random_range(10.0..90.0_f32).min(iris * 0.8)),
            limbal_ring: rng.random_range(-4.0..26.0),
            pupil_ring: rng.random_range(-8.0..14.0),
            fade: rng.random_range(0.0..0.45),
            texture_gain: identity.tones.gain * rng.random_range(0.6..1.4),
            across_gain: rng.random_range(-18.0..18.0),
            upper,
            lower,
            wave: rng.random_range(0.0..0.03),
            lid_soft_px: rng.random_range(0.4..1.5),
            rim: (rng.random_range(0.02..0.10), normal(rng) * 22.0),
            shadow: (rng.random_range(0.0..45.0), rng.random_range(0.05..0.3)),
            crease: (rng.random_range(0.12..0.6), rng.random_range(0.0..40.0)),
            make_up: if chance(0.12, rng) {
                (rng.random_range(0.04..0.25), rng.random_range(20.0..90.0))
            } else {
                (0.1, 0.0)
            },
            lash_line: if chance(0.65, rng) {
                (rng.random_range(0.015..0.09), rng.random_range(30.0..170.0))
            } else {
                (0.05, 0.0)
            },
            skin: rng.random_range(60.0..268.0),
            skin_gain: rng.random_range(3.0..16.0),
            fine_step_px: rng.random_range(1.0..3.5),
            fine_gain: rng.random_range(0.5..5.0),
            relief: if chance(0.5, rng) {
                rng.random_range(0.0..38.0)
            } else {
                0.0
            },
            socket: rng.random_range(0.0..50.0),
            sclera: if chance(0.15, rng) {
                iris + rng.random_range(-12.0..15.0)
            } else {
                identity.tones.sclera
            },
            corner_shade: 14.0,
            lamps: match rng.random_range(0..100) {
                0..12 => Lamps::None,
                12..60 => Lamps::Spots {
                    count: rng.random_range(1..4),
                    spread: 0.28,
                },
                60..80 => Lamps::Grid {
                    across: rng.random_range(1..5),
                    down: rng.random_range(1..3),
                    step: rng.random_range(0.04..0.13),
                },
                80..90 => Lamps::Ring {
                    count: rng.random_range(4..13),
                    radius: rng.random_range(0.035..0.19),
                },
                _ => Lamps::Spots {
                    count: rng.random_range(2..9),
                    spread: 0.9,
                },
            },
            lamp_scale: 1.0,
            wet_spots: rng.random_range(0..4),
            sparkles: if chance(0.4, rng) {
                rng.random_range(5..140)
            } else {
                0
            },
            upper_lashes: Lashes {
                count: if chance(0.10, rng) {
                    0
                } else {
                    rng.random_range(10..190)
                },
                length: rng.random_range(0.15..0.95),
                droop: rng.random_range(-0.9..1.0),
                clumped: chance(0.35, rng),
                grey: lash_grey,
                width: lash_width,
            },
            lower_lashes: Lashes {
                count: if chance(0.4, rng) {
                    0
                } else {
                    rng.random_range(5..60)
                },
                length: rng.random_range(0.08..0.4),
                droop: if chance(0.1, rng) { -0.6 } else { 1.0 },
                clumped: false,
                grey: lash_grey,
                width: lash_width * 0.7,
            },
            brow: chance(0.35, rng).then(|| {
                (
                    rng.random_range(-2.6..-1.2),
                    rng.random_range(0.08..0.4),
                    rng.random_range(60..900),
                    rng.random_range(10.0..80.0),
                )
            }),
            stray_hairs: if chance(0.08, rng) {
                rng.random_range(1..9)
            } else {
                0
            },
            frame_grey: chance(0.08, rng).then(|| rng.random_range(5.0..240.0)),
            glare: if chance(0.10, rng) {
                rng.random_range(1..4)
            } else {
                0
            },
            camera: training_camera(rng),
        }
    }

    fn dark(mut self, identity: &Identity, size: (usize, usize), rng: &mut ChaCha8Rng) -> Self {
        let iris = identity.tones.iris;
        if rng.random_bool(0.75) {
            self.radius_px = size.1 as f32 / 240.0 * rng.random_range(40.0..75.0);
        }
        let step: f32 = if rng.random_bool(0.5) {
            rng.random_range(9.0..22.0)
        } else {
            rng.random_range(20.0..55.0)
        };
        self.pupil_grey = (iris - step).max(rng.random_range(3.0..20.0_f32).min(iris - 9.0));
        self.flat_pupil = None;
        self.pupil_ring = rng.random_range(-4.0..5.0);
        self.limbal_ring = rng.random_range(-3.0..10.0);
        self.texture_gain = identity.tones.gain;
        self.across_gain = rng.random_range(-8.0..8.0);
        self.sclera = identity.tones.sclera;
        self.corner_shade = rng.random_range(5.0..60.0);
        self.skin = if rng.random_bool(0.75) {
            rng.random_range(190.0..300.0)
        } else {
            rng.random_range(60.0..150.0)
        };
        if rng.random_bool(0.8) {
            self.lamps = Lamps::Spots {
                count: rng.random_range(1..=2),
                spread: 0.15,
            };
            self.lamp_scale = rng.random_range(0.4..0.9);
        }
        if rng.random_bool(0.5) {
            self.upper_lashes.count = rng.random_range(40..190);
            self.upper_lashes.length = rng.random_range(0.4..0.95);
            self.upper_lashes.droop = rng.random_range(-0.6..1.0);
            self.upper_lashes.grey = rng.random_range(5.0..35.0);
            self.lower_lashes.grey = self.upper_lashes.grey;
        }
        self.camera.gain = rng.random_range(0.85..1.15);
        self.camera.offset = rng.random_range(-8.0..12.0);
        self.camera.gamma = (normal(rng) * 0.1).exp();
        self.camera.noise = self.camera.noise.min(4.0);
        self
    }

    /// Closes the lids, so that nothing of the iris is seen.
    #[must_use]
    pub fn closed(mut self) -> Self {
        self.upper.apex = 0.55;
        self.lower.apex = 0.56;
        self
    }

    /// Lets the upper lid hang down to the middle of the pupil.
    #[must_use]
    pub fn half_closed(mut self) -> Self {
        self.upper.apex = 0.05;
        self
    }

    /// Dark glasses: nothing is seen behind them but a dull reflection.
    #[must_use]
    pub fn behind_dark_glasses(mut self) -> Self {
        self.has_eye = false;
        self.skin = 28.0;
        self.skin_gain = 2.0;
        self.crease.1 = 0.0;
        self.lash_line.1 = 0.0;
        self.frame_grey = Some(12.0);
        self
    }
}

fn training_camera(rng: &mut ChaCha8Rng) -> Camera {
    Camera {
        blur_px: if rng.random_bool(0.75) {
            rng.random_range(0.3..1.3)
        } else {
            rng.random_range(1.3..3.2)
        },
        motion_px: if rng.random_bool(0.1) {
            rng.random_range(1.0..4.0)
        } else {
            0.0
        },
        uneven: rng.random_range(0.0..0.22),
        vignette: if rng.random_bool(0.3) {
            rng.random_range(0.0..0.5)
        } else {
            0.0
        },
        hot_spot: if rng.random_bool(0.15) {
            rng.random_range(0.0..70.0)
        } else {
            0.0
        },
        gain: rng.random_range(0.6..1.25),
        offset: rng.random_range(-15.0..30.0),
        gamma: (normal(rng) * 0.22).exp(),
        noise: if rng.random_bool(0.6) {
            rng.random_range(0.3..3.0)
        } else {
            rng.random_range(3.0..9.0)
        },
        denoised: rng.random_bool(0.2),
        jpeg_quality: rng.random_bool(0.35).then(|| rng.random_range(22..95)),
    }
}

/// Somewhere in the picture, now and then partly outside.
fn placed(size: f32, radius: f32, rng: &mut ChaCha8Rng) -> f32 {
    let margin = if rng.random_bool(0.15) {
        radius * 0.2
    } else {
        radius * 0.85
    };
    let reach = (size / 2.0 - margin).max(size * 0.06);
    let share = if rng.random_bool(0.6) { 0.6 } else { 1.0 };
    size / 2.0 + rng.random_range(-reach..reach) * share
}

fn harmonics(rng: &mut ChaCha8Rng, count: usize, amplitude: f32) -> Vec<(f32, f32)> {
    (0..count)
        .map(|_| (normal(rng) * amplitude, rng.random_range(0.0..TAU)))
        .collect()
}

/// Relative widening of an outline at an angle: harmonics from the second on.
pub(crate) fn outline(harmonics: &[(f32, f32)], angle: f32) -> f32 {
    harmonics
        .iter()
        .zip(2_u8..)
        .map(|((amplitude, phase), k)| amplitude * (f32::from(k) * angle + phase).sin())
        .sum()
}

/// One mirrored lamp or other bright spot, in pixels of the drawing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot {
    pub(crate) x: f32,
    pub(crate) y: f32,
    pub(crate) radii: (f32, f32),
    pub(crate) turn: f32,
    /// 2 is an ellipse, more is squarer.
    pub(crate) power: f32,
    pub(crate) grey: f32,
    /// Inner radius of a ring as a share of the outer one, 0 for a disc.
    pub(crate) hole: f32,
}

impl Spot {
    pub(crate) fn lamp(rng: &mut ChaCha8Rng, x: f32, y: f32, unit: f32) -> Self {
        let r = rng.random_range(2.0..11.0) * unit;
        Self {
            x,
            y,
            radii: (r, r * rng.random_range(0.4..1.0)),
            turn: rng.random_range(0.0..PI),
            power: if rng.random_bool(0.7) { 2.0 } else { 6.0 },
            grey: rng.random_range(185.0..270.0),
            hole: if rng.random_bool(0.08) { 0.6 } else { 0.0 },
        }
    }

    /// Share of the spot at a pixel, 0 to 1.
    pub(crate) fn cover(&self, x: f32, y: f32) -> f32 {
        let (dx, dy) = (x - self.x, y - self.y);
        let (sine, cosine) = self.turn.sin_cos();
        let u = ((dx * cosine + dy * sine) / self.radii.0).abs();
        let v = ((dy * cosine - dx * sine) / self.radii.1).abs();
        let r = (u.powf(self.power) + v.powf(self.power)).powf(1.0 / self.power);
        let px = self.radii.0.min(self.radii.1) * 2.2;
        let outer = crate::noise::smooth((1.0 - r) * px);
        if self.hole > 0.0 {
            outer * crate::noise::smooth((r - self.hole) * px)
        } else {
            outer
        }
    }
}
