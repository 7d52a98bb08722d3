//! Draws one eye at twice the size and takes the picture.
#![expect(
    clippy::indexing_slicing,
    reason = "pixel loops over buffers whose sizes are fixed a few lines above"
)]

use std::f32::consts::{PI, TAU};

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::look::{Lamps, Lashes, Look, Spot, outline};
use crate::noise::{Field, normal, smooth};
use crate::stroke::{Stroke, stroke};
use crate::texture::{TEXTURE_COLUMNS, TEXTURE_ROWS, sample};
use crate::{Circle, EyeTruth, Identity, Part, RenderedEye, camera};

/// Pixels of the drawing per pixel of the picture, each way.
const SCALE: usize = 2;

/// The drawing before the picture is taken.
pub(crate) struct Canvas {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) grey: Vec<f32>,
    pub(crate) parts: Vec<u8>,
}

impl Canvas {
    /// Pixels within a square around a place.
    pub(crate) fn around(
        &self,
        x: f32,
        y: f32,
        reach: f32,
    ) -> impl Iterator<Item = (usize, usize)> + use<> {
        let range = |at: f32, end: usize| {
            let from = (at - reach).max(0.0) as usize;
            let to = ((at + reach).max(0.0) as usize + 1).min(end);
            from.min(to)..to
        };
        let across = range(x, self.width);
        range(y, self.height).flat_map(move |py| across.clone().map(move |px| (px, py)))
    }
}

/// Face coordinates: iris radii from the iris centre, head roll undone.
#[derive(Clone, Copy)]
struct Frame {
    cx: f32,
    cy: f32,
    radius: f32,
    sine: f32,
    cosine: f32,
}

impl Frame {
    fn to_face(self, x: f32, y: f32) -> (f32, f32) {
        let (dx, dy) = (x - self.cx, y - self.cy);
        (
            (dx * self.cosine + dy * self.sine) / self.radius,
            (dy * self.cosine - dx * self.sine) / self.radius,
        )
    }

    fn to_drawing(self, u: f32, v: f32) -> (f32, f32) {
        (
            self.cx + (u * self.cosine - v * self.sine) * self.radius,
            self.cy + (u * self.sine + v * self.cosine) * self.radius,
        )
    }
}

/// Draws an eye. The same arguments give the same bytes.
#[must_use]
pub fn render(identity: &Identity, look: &Look, size: (usize, usize), seed: u64) -> RenderedEye {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (width, height) = size;
    let scale = SCALE as f32;
    let (sine, cosine) = look.roll.sin_cos();
    let frame = Frame {
        cx: look.centre_px.0 * scale,
        cy: look.centre_px.1 * scale,
        radius: look.radius_px * scale,
        sine,
        cosine,
    };
    let mut canvas = Canvas {
        width: width * SCALE,
        height: height * SCALE,
        grey: vec![0.0; width * height * SCALE * SCALE],
        parts: vec![0; width * height * SCALE * SCALE],
    };
    surfaces(&mut canvas, identity, look, frame, &mut rng);
    if look.has_eye {
        if let Some(flat) = look.flat_pupil {
            for (grey, part) in canvas.grey.iter_mut().zip(&canvas.parts) {
                if *part == Part::Pupil as u8 {
                    *grey = flat;
                }
            }
        }
        lamps(&mut canvas, look, frame, &mut rng);
        sparkles(&mut canvas, look, frame, &mut rng);
    }
    hairs(&mut canvas, look, frame, &mut rng);
    covers(&mut canvas, look, frame, &mut rng);
    let (light, parts) = reduce(&canvas, width, height);
    let grey = camera::take(light, width, &look.camera, &mut rng);
    let visible = |wanted: Part| parts.iter().filter(|part| **part == wanted as u8).count();
    let whole = PI * look.radius_px * look.radius_px * (1.0 - look.dilation * look.dilation);
    let truth = look.has_eye.then(|| {
        let offset = (
            look.pupil_offset.0 * look.radius_px,
            look.pupil_offset.1 * look.radius_px,
        );
        let (ga, gb) = look.gaze_axis.sin_cos();
        let across = look.gaze.cos();
        // The pupil's offset is given in the plane of the iris; the gaze shortens it along its axis.
        let dx = offset.0 * across;
        EyeTruth {
            limbus: Circle {
                x: look.centre_px.0,
                y: look.centre_px.1,
                radius: look.radius_px,
            },
            pupil: Circle {
                x: look.centre_px.0 + dx * gb - offset.1 * ga,
                y: look.centre_px.1 + dx * ga + offset.1 * gb,
                radius: look.radius_px * look.dilation,
            },
            foreshortening: across,
            axis: look.gaze_axis,
            visible_share: visible(Part::Iris) as f32 / whole,
        }
    });
    RenderedEye {
        width,
        height,
        grey,
        parts,
        truth,
    }
}

/// Skin, lids, sclera, iris and pupil.
fn surfaces(
    canvas: &mut Canvas,
    identity: &Identity,
    look: &Look,
    frame: Frame,
    rng: &mut ChaCha8Rng,
) {
    let (w, h, radius) = (canvas.width as f32, canvas.height as f32, frame.radius);
    let mut field = |step: f32| Field::new(rng, w, h, step.max(2.0));
    let (coarse, middle) = (field(radius * 0.9), field(radius * 0.22));
    let (fine, shade) = (field(look.fine_step_px * SCALE as f32), field(radius * 1.2));
    let (waves, broad) = (field(radius * 0.35), field(radius * 2.4));
    let soft = look.lid_soft_px * SCALE as f32;
    let corner = look.upper.right.0.max(-look.upper.left.0);
    for by in 0..canvas.height / SCALE {
        for bx in 0..canvas.width / SCALE {
            // What is smooth is read once for the four pixels of a block.
            let (mx, my) = ((bx * SCALE) as f32 + 1.0, (by * SCALE) as f32 + 1.0);
            let (u0, v0) = frame.to_face(mx, my);
            let grain = middle.at(mx, my);
            let skin = look.skin
                + look.skin_gain * (coarse.at(mx, my) + 0.45 * grain)
                + look.fine_gain * fine.at(mx, my)
                + look.relief * broad.at(mx, my)
                - look.socket
                    * (-(((u0 - look.upper.left.0) / 0.9).powi(2) + ((v0 - 0.1) / 0.8).powi(2)))
                        .exp();
            let window = (-(u0 / corner * 1.02).powi(6)).exp();
            let wave = look.wave * waves.at(mx, my);
            let (top, bottom) = (look.upper.at(u0) + wave, look.lower.at(u0) + wave);
            let near = look.has_eye && v0 > top - 0.25 && v0 < bottom + 0.25;
            let white = if near {
                look.sclera + 7.0 * shade.at(mx, my) + 2.0 * grain
            } else {
                0.0
            };
            let lash_dark = if look.has_eye && look.lash_line.1 > 0.0 {
                look.lash_line.1 * window * (0.8 + 0.2 * grain)
            } else {
                0.0
            };
            for sub in 0..SCALE * SCALE {
                let (px, py) = (bx * SCALE + sub % SCALE, by * SCALE + sub / SCALE);
                let (x, y) = (px as f32 + 0.5, py as f32 + 0.5);
                let (u, v) = frame.to_face(x, y);
                let mut value = skin;
                let (above, below) = (top - v, v - bottom);
                if above > 0.0 {
                    value -= window
                        * look.crease.1
                        * (-0.5 * ((above - look.crease.0) / 0.05).powi(2)).exp();
                    if look.make_up.1 > 0.0 {
                        value -= window * look.make_up.1 * (-(above / look.make_up.0)).exp();
                    }
                } else if below > 0.0 && look.make_up.1 > 0.0 {
                    value -= window * look.make_up.1 * 0.5 * (-(below / look.make_up.0)).exp();
                }
                let mut part = Part::Skin;
                if near {
                    let open =
                        smooth((v - top) * radius / soft) * smooth((bottom - v) * radius / soft);
                    let white = white - look.corner_shade * (u.abs() - 1.0).max(0.0);
                    let (mut inside, inner) = eyeball(identity, look, frame, (x, y), white);
                    inside -= look.shadow.0 * (-((v - top).max(0.0) / look.shadow.1)).exp();
                    inside -=
                        look.shadow.0 * 0.3 * (-((bottom - v).max(0.0) / look.shadow.1)).exp();
                    let (rim, rim_grey) = look.rim;
                    let upper_margin = (-0.5 * ((v - top + rim * 0.5) / rim).powi(2)).exp();
                    let lower_margin = (-0.5 * ((v - bottom - rim * 0.5) / rim).powi(2)).exp();
                    value = value * (1.0 - open)
                        + inside * open
                        + rim_grey * upper_margin * if v < top { 1.0 } else { 0.3 }
                        + rim_grey.abs() * 0.6 * lower_margin * if v > bottom { 1.0 } else { 0.3 };
                    if v > top && v < bottom {
                        part = inner;
                    }
                }
                if lash_dark > 0.0 {
                    let dark = (-((v - top) / look.lash_line.0).powi(2)).exp();
                    value -= lash_dark * dark;
                    if dark * window > 0.6
                        && look.lash_line.1 > 60.0
                        && v - top > 0.01
                        && part != Part::Skin
                    {
                        part = Part::Lash;
                    }
                }
                let at = py * canvas.width + px;
                canvas.grey[at] = value;
                canvas.parts[at] = part as u8;
            }
        }
    }
}

/// Grey value and part of a place of the eyeball; `white` is the sclera's grey there.
fn eyeball(
    identity: &Identity,
    look: &Look,
    frame: Frame,
    (x, y): (f32, f32),
    white: f32,
) -> (f32, Part) {
    let (dx, dy) = (x - frame.cx, y - frame.cy);
    let radius = frame.radius;
    // In the plane of the iris: the gaze has shortened it along its axis.
    let (ga, gb) = look.gaze_axis.sin_cos();
    let (ex, ey) = ((dx * gb + dy * ga) / look.gaze.cos(), dy * gb - dx * ga);
    let r = ex.hypot(ey);
    let soft = look.limbus_soft * radius;
    if r > radius * 1.1 + 6.0 * soft {
        return (white, Part::Sclera);
    }
    let angle = ey.atan2(ex);
    let limbus = radius * (1.0 + outline(&look.limbus_harmonics, angle));
    let (px, py) = (
        ex - look.pupil_offset.0 * radius,
        ey - look.pupil_offset.1 * radius,
    );
    let pr = px.hypot(py);
    let pupil = look.dilation * radius * (1.0 + outline(&look.pupil_harmonics, py.atan2(px)));
    let fraction = ((pr - pupil) / (limbus - pupil).max(1.0))
        .clamp(0.0, 1.0)
        .powf(1.0 + 0.5 * (look.dilation - 0.4));
    // The texture turns with the head, not with the gaze.
    let turned = angle + look.gaze_axis - look.roll;
    let column = turned.rem_euclid(TAU) / TAU * TEXTURE_COLUMNS as f32;
    let texture = sample(
        &identity.texture,
        fraction * (TEXTURE_ROWS - 1) as f32,
        column,
    );
    let iris = identity.tones.iris + look.texture_gain * texture * (1.0 - look.fade * fraction)
        - look.limbal_ring * (-(1.0 - fraction) / 0.10).exp()
        - look.pupil_ring * (-fraction / 0.12).exp()
        + look.across_gain * dx / radius;
    let iris_share = smooth((limbus - r) / soft * 1.6);
    let pupil_share = smooth((pupil - pr) / (look.pupil_soft_px * SCALE as f32) * 1.6);
    let grey = white * (1.0 - iris_share) + iris * iris_share;
    let grey = grey * (1.0 - pupil_share) + look.pupil_grey * pupil_share;
    let part = match (pr < pupil, r < limbus) {
        (true, _) => Part::Pupil,
        (false, true) => Part::Iris,
        (false, false) => Part::Sclera,
    };
    (grey, part)
}

/// Lamps mirrored in the cornea and wet spots of the lid margin. A glint on the iris hides it; in the pupil it is still
/// the pupil.
fn lamps(canvas: &mut Canvas, look: &Look, frame: Frame, rng: &mut ChaCha8Rng) {
    let radius = frame.radius;
    let unit = radius / 90.0 * look.lamp_scale;
    let near = |rng: &mut ChaCha8Rng, reach: f32| {
        (
            frame.cx + normal(rng) * reach * radius,
            frame.cy + normal(rng) * reach * radius,
        )
    };
    let mut spots = Vec::new();
    match look.lamps {
        Lamps::None => {}
        Lamps::Spots { count, spread } => {
            for _ in 0..count {
                let (x, y) = near(rng, spread);
                spots.push(Spot::lamp(rng, x, y, unit));
            }
        }
        Lamps::Grid { across, down, step } => {
            let (x, y) = near(rng, 0.25);
            let lamp = Spot::lamp(rng, x, y, unit * 0.7);
            for i in 0..across * down {
                let (right, under) = ((i % across) as f32, (i / across) as f32);
                spots.push(Spot {
                    x: x + right * step * radius,
                    y: y + under * step * radius,
                    ..lamp
                });
            }
        }
        Lamps::Ring {
            count,
            radius: ring,
        } => {
            let (x, y) = near(rng, 0.15);
            let lamp = Spot {
                hole: 0.0,
                ..Spot::lamp(rng, x, y, unit * 0.6)
            };
            for i in 0..count {
                let (s, c) = (i as f32 / count as f32 * TAU).sin_cos();
                spots.push(Spot {
                    x: x + ring * radius * c,
                    y: y + ring * radius * s,
                    ..lamp
                });
            }
        }
    }
    for _ in 0..look.wet_spots {
        let u = rng.random_range(-1.6..1.6);
        let (x, y) = frame.to_drawing(u, look.lower.at(u) - rng.random_range(0.0..0.1));
        spots.push(Spot {
            x,
            y,
            radii: (
                rng.random_range(2.0..9.0) * unit,
                rng.random_range(1.0..3.0) * unit,
            ),
            turn: rng.random_range(-0.4..0.4),
            power: 2.0,
            grey: rng.random_range(150.0..255.0),
            hole: 0.0,
        });
    }
    let bloom = rng.random_range(0.0..18.0);
    for spot in spots {
        let size = spot.radii.0.max(spot.radii.1);
        for (px, py) in canvas.around(spot.x, spot.y, size * 3.0 + 4.0) {
            let at = py * canvas.width + px;
            let part = canvas.parts[at];
            if part == Part::Skin as u8 || (look.flat_pupil.is_some() && part == Part::Pupil as u8)
            {
                continue;
            }
            let (x, y) = (px as f32 + 0.5, py as f32 + 0.5);
            let share = spot.cover(x, y);
            let distance = (x - spot.x).hypot(y - spot.y) / size;
            canvas.grey[at] += (spot.grey - canvas.grey[at]) * share
                + bloom * (-distance * 0.9).exp() * (1.0 - share);
            if share > 0.35 && part == Part::Iris as u8 {
                canvas.parts[at] = Part::Glint as u8;
            }
        }
    }
}

/// Moist skin beside the lids.
fn sparkles(canvas: &mut Canvas, look: &Look, frame: Frame, rng: &mut ChaCha8Rng) {
    for _ in 0..look.sparkles {
        let u = rng.random_range(look.upper.left.0..look.upper.right.0);
        let v = match rng.random_range(0..3) {
            0 => look.lower.at(u) + normal(rng).abs() * 0.03,
            1 => look.lower.at(u) + normal(rng).abs() * 0.4,
            _ => look.upper.at(u) - normal(rng).abs() * 0.4,
        };
        let (x, y) = frame.to_drawing(u, v);
        let r = (rng.random_range(0.5..2.2) * frame.radius / 90.0).max(0.6);
        let grey = rng.random_range(25.0..120.0_f32);
        for (px, py) in canvas.around(x, y, 3.0 * r) {
            let d2 = (px as f32 - x).powi(2) + (py as f32 - y).powi(2);
            canvas.grey[py * canvas.width + px] += grey * (-d2 / (r * r)).exp();
        }
    }
}

/// Lashes, brow and stray hairs.
fn hairs(canvas: &mut Canvas, look: &Look, frame: Frame, rng: &mut ChaCha8Rng) {
    let unit = (frame.radius / 90.0).max(0.5);
    if look.has_eye {
        lashes(canvas, look, frame, &look.upper_lashes, true, rng);
        lashes(canvas, look, frame, &look.lower_lashes, false, rng);
    }
    if let Some((level, spread, count, grey)) = look.brow {
        for _ in 0..count {
            let u = rng.random_range(-3.2..3.2);
            let v = level + normal(rng) * spread + 0.08 * u * u;
            let length = rng.random_range(0.1..0.5);
            let rise = normal(rng) * 0.5 * length;
            let points = [
                frame.to_drawing(u, v),
                frame.to_drawing(u + length * 0.5, v - rise * 0.5),
                frame.to_drawing(u + length, v - rise),
            ];
            let line = Stroke {
                points,
                width: 0.84 * unit,
                grey,
                strength: 0.7,
                tapered: true,
            };
            stroke(canvas, &line, Part::Skin as u8);
        }
    }
    for _ in 0..look.stray_hairs {
        let (w, h) = (canvas.width as f32, canvas.height as f32);
        let mut place = || (rng.random_range(0.0..w), rng.random_range(0.0..h));
        let points = [place(), place(), place()];
        let line = Stroke {
            points,
            width: rng.random_range(0.8..2.5),
            grey: rng.random_range(5.0..120.0),
            strength: rng.random_range(0.4..1.0),
            tapered: true,
        };
        stroke(canvas, &line, Part::Lash as u8);
    }
}

fn lashes(
    canvas: &mut Canvas,
    look: &Look,
    frame: Frame,
    lashes: &Lashes,
    upper: bool,
    rng: &mut ChaCha8Rng,
) {
    let unit = (frame.radius / 90.0).max(0.5);
    let (left, right) = (look.upper.left.0, look.upper.right.0);
    let mut root = left;
    for i in 0..lashes.count {
        if !lashes.clumped || i % 4 == 0 {
            root = rng.random_range(left..right);
        }
        let u = root + normal(rng) * 0.03;
        let length = lashes.length * rng.random_range(0.5..1.2);
        let fan = u / 2.2 + normal(rng) * 0.18;
        let (v, middle, end) = if upper {
            let v = look.upper.at(u) - 0.01;
            let sag = 0.45 * length * lashes.droop.abs().max(0.25) + normal(rng) * 0.05;
            (v, v + sag, v + lashes.droop * length + normal(rng) * 0.06)
        } else {
            let v = look.lower.at(u);
            (
                v,
                v + lashes.droop * length * 0.6,
                v + lashes.droop * length,
            )
        };
        let points = [
            frame.to_drawing(u, v),
            frame.to_drawing(u + fan * length * 0.38, middle),
            frame.to_drawing(u + fan * length, end),
        ];
        let line = Stroke {
            points,
            width: lashes.width * unit * 1.2,
            grey: lashes.grey + normal(rng) * 8.0,
            strength: rng.random_range(0.45..1.0),
            tapered: true,
        };
        stroke(canvas, &line, Part::Lash as u8);
    }
}

/// Spectacle frame and glare.
fn covers(canvas: &mut Canvas, look: &Look, frame: Frame, rng: &mut ChaCha8Rng) {
    let (w, h) = (canvas.width as f32, canvas.height as f32);
    if let Some(grey) = look.frame_grey {
        let y = h * if rng.random_bool(0.5) {
            rng.random_range(0.0..0.25)
        } else {
            rng.random_range(0.75..1.0)
        };
        let (sag, tilt) = (normal(rng) * 0.15 * h, normal(rng) * 0.1 * h);
        let points = [(0.0, y), (w / 2.0, y + sag), (w, y + tilt)];
        let width = rng.random_range(5.0..26.0) * SCALE as f32;
        let line = Stroke {
            points,
            width,
            grey,
            strength: 1.0,
            tapered: false,
        };
        stroke(canvas, &line, Part::Cover as u8);
    }
    for _ in 0..look.glare {
        let size = rng.random_range(6.0..60.0) * SCALE as f32 * (frame.radius / 90.0).max(0.6);
        let spot = Spot {
            x: rng.random_range(0.0..w),
            y: rng.random_range(0.0..h),
            radii: (size, size * rng.random_range(0.3..1.0)),
            turn: rng.random_range(0.0..PI),
            power: rng.random_range(1.5..6.0),
            grey: rng.random_range(170.0..255.0),
            hole: 0.0,
        };
        for (px, py) in canvas.around(spot.x, spot.y, size * 1.5) {
            let share = spot.cover(px as f32, py as f32);
            let at = py * canvas.width + px;
            canvas.grey[at] += (spot.grey - canvas.grey[at]) * share;
            let small_in_pupil =
                canvas.parts[at] == Part::Pupil as u8 && size <= frame.radius * 0.3;
            if share > 0.5 && !small_in_pupil {
                canvas.parts[at] = Part::Cover as u8;
            }
        }
    }
}

/// Means of grey values and majorities of parts, down to the picture's size.
fn reduce(canvas: &Canvas, width: usize, height: usize) -> (Vec<f32>, Vec<u8>) {
    let mut light = Vec::with_capacity(width * height);
    let mut parts = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            let mut sum = 0.0;
            let mut votes = [0_usize; Part::COUNT];
            for sub in 0..SCALE * SCALE {
                let at = (y * SCALE + sub / SCALE) * canvas.width + x * SCALE + sub % SCALE;
                sum += canvas.grey[at];
                votes[usize::from(canvas.parts[at])] += 1;
            }
            light.push(sum / (SCALE * SCALE) as f32);
            let most = (0..Part::COUNT).max_by_key(|part| votes[*part] * 16 + part);
            parts.push(most.map_or(0, |part| part as u8));
        }
    }
    (light, parts)
}
