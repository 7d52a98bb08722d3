//! Quadratic strokes with soft edges: lashes, brows, hairs, spectacle frames.
#![expect(
    clippy::indexing_slicing,
    reason = "loops stay inside the canvas by their bounds"
)]

use std::collections::BTreeMap;

use crate::Canvas;

/// A stroke through three points, in pixels of the drawing.
pub(crate) struct Stroke {
    pub(crate) points: [(f32, f32); 3],
    pub(crate) width: f32,
    pub(crate) grey: f32,
    pub(crate) strength: f32,
    /// Ends thinner than it began.
    pub(crate) tapered: bool,
}

/// Draws a stroke; what it covers well is hidden, so it becomes `part`.
pub(crate) fn stroke(canvas: &mut Canvas, line: &Stroke, part: u8) {
    let [a, b, c] = line.points;
    let span = (a.0 - b.0).hypot(a.1 - b.1) + (b.0 - c.0).hypot(b.1 - c.1);
    let steps = span.ceil().clamp(2.0, 3_000.0) as usize;
    // Coverage of the whole stroke first, so that overlapping discs do not darken twice.
    let mut touched: BTreeMap<usize, f32> = BTreeMap::new();
    for i in 0..=steps {
        let t = i as f32 / steps as f32;
        let at = |a: f32, b: f32, c: f32| {
            a * (1.0 - t) * (1.0 - t) + 2.0 * b * t * (1.0 - t) + c * t * t
        };
        let (x, y) = (at(a.0, b.0, c.0), at(a.1, b.1, c.1));
        let half = line.width * 0.5 * if line.tapered { 1.0 - 0.7 * t } else { 1.0 };
        let reach = half + 1.5;
        for (px, py) in canvas.around(x, y, reach) {
            let distance = (px as f32 + 0.5 - x).hypot(py as f32 + 0.5 - y);
            let cover = (half + 0.5 - distance).clamp(0.0, 1.0);
            if cover > 0.0 {
                let kept = touched.entry(py * canvas.width + px).or_insert(0.0);
                *kept = kept.max(cover);
            }
        }
    }
    for (at, cover) in touched {
        let share = cover * line.strength;
        canvas.grey[at] += (line.grey - canvas.grey[at]) * share;
        if share > 0.4 {
            canvas.parts[at] = part;
        }
    }
}
