//! Is there a rectangular border all around the face, as of a print or a screen held into view?
//!
//! 1. The surroundings are scaled so that the face is 40 pixels high, and edges are found at two sensitivities.
//! 2. A closed outline that is a convex quadrilateral, has nearly right angles, contains the whole face and does not
//!    touch the edge of the picture is such a border.
//!
//! Windows, doors and notice boards behind a person do not count: the person's body covers their lower edge. A print
//! that fills the view, or whose border is covered by a hand, is not found: this check can suspect, never vouch.

use opencv::core::{Mat, MatTraitConst, Point2f, Rect, Size, Vector};
use opencv::imgproc;

use crate::landmarks::Point;
use crate::{BoundingBox, Frame, VisionError};

const STAGE: &str = "border";
/// The face's height after scaling, pixels.
const FACE_PX: f32 = 40.0;
/// How far the surroundings reach from the face's centre, in heights of the face.
const REACH: f32 = 8.0;
/// Canny thresholds: a faint border, and a clear one in a busy scene.
const EDGE_THRESHOLDS: [(f64, f64); 2] = [(20.0, 60.0), (50.0, 120.0)];
/// How far an outline may leave the quadrilateral, as shares of its length.
const OUTLINE_TOLERANCES: [f64; 3] = [0.01, 0.02, 0.04];
/// Cosine of the most slanted corner: 70 to 110 degrees count as right angles seen in perspective.
const MAX_CORNER_COSINE: f32 = 0.35;
/// An outline this near to the edge of the surroundings is not closed inside the picture, pixels.
const EDGE_MARGIN: f32 = 3.0;

fn cv<T>(result: opencv::Result<T>) -> Result<T, VisionError> {
    result.map_err(VisionError::cv(STAGE))
}

/// The corners of a border around the face, in pixels of the frame.
///
/// # Errors
/// OpenCV failed.
pub fn border_around(frame: &Frame, face: &BoundingBox) -> Result<Option<[Point; 4]>, VisionError> {
    let Some((area, scale)) = surroundings(frame, face) else {
        return Ok(None);
    };
    let part = cv(Mat::roi(&frame.pixels, area))?;
    let mut grey_part = Mat::default();
    cv(imgproc::cvt_color_def(
        &part,
        &mut grey_part,
        imgproc::COLOR_BGR2GRAY,
    ))?;
    let mut small = Mat::default();
    let method = if scale < 1.0 {
        imgproc::INTER_AREA
    } else {
        imgproc::INTER_LINEAR
    };
    let factor = f64::from(scale);
    // Grey first: shrinking one channel takes a third of the time.
    cv(imgproc::resize(
        &grey_part,
        &mut small,
        Size::new(0, 0),
        factor,
        factor,
        method,
    ))?;
    let mut smooth = Mat::default();
    cv(imgproc::gaussian_blur_def(
        &small,
        &mut smooth,
        Size::new(5, 5),
        0.0,
    ))?;
    #[expect(clippy::cast_precision_loss, reason = "pixel positions")]
    let (left, top) = (area.x as f32, area.y as f32);
    let inset = FACE_PX / 16.0;
    let local = |x: f32, y: f32, dx: f32, dy: f32| Point {
        x: (x - left) * scale + dx,
        y: (y - top) * scale + dy,
    };
    let inside = [
        local(face.left, face.top, inset, inset),
        local(face.right, face.top, -inset, inset),
        local(face.right, face.bottom, -inset, -inset),
        local(face.left, face.bottom, inset, -inset),
    ];
    let found = quadrilateral(&smooth, &inside)?;
    Ok(found.map(|corners| {
        corners.map(|corner| Point {
            x: corner.x / scale + left,
            y: corner.y / scale + top,
        })
    }))
}

/// The part of the frame that is looked at, and its scale.
fn surroundings(frame: &Frame, face: &BoundingBox) -> Option<(Rect, f32)> {
    let height = face.height();
    if !(8.0..1e5).contains(&height) {
        return None;
    }
    let (x, y) = face.centre();
    #[expect(clippy::cast_possible_truncation, reason = "clamped to the frame")]
    let clamp = |value: f32, limit: i32| (value.clamp(-1e6, 1e6) as i32).clamp(0, limit);
    let reach = height * REACH;
    let (left, right) = (
        clamp(x - reach, frame.width()),
        clamp(x + reach, frame.width()),
    );
    let (top, bottom) = (
        clamp(y - reach, frame.height()),
        clamp(y + reach, frame.height()),
    );
    let area = Rect::new(left, top, right - left, bottom - top);
    (area.width > 8 && area.height > 8).then_some((area, FACE_PX / height))
}

fn quadrilateral(smooth: &Mat, inside: &[Point; 4]) -> Result<Option<[Point; 4]>, VisionError> {
    let kernel = cv(imgproc::get_structuring_element_def(
        imgproc::MORPH_RECT,
        Size::new(3, 3),
    ))?;
    for (low, high) in EDGE_THRESHOLDS {
        let (mut edges, mut wide) = (Mat::default(), Mat::default());
        cv(imgproc::canny(smooth, &mut edges, low, high, 3, false))?;
        // A wider line closes gaps of a pixel or two.
        cv(imgproc::dilate_def(&edges, &mut wide, &kernel))?;
        let mut outlines = Vector::<Vector<opencv::core::Point>>::new();
        cv(imgproc::find_contours_def(
            &wide,
            &mut outlines,
            imgproc::RETR_LIST,
            imgproc::CHAIN_APPROX_SIMPLE,
        ))?;
        for outline in &outlines {
            let length = cv(imgproc::arc_length(&outline, true))?;
            if length < 4.0 * f64::from(FACE_PX) {
                continue;
            }
            for tolerance in OUTLINE_TOLERANCES {
                let mut corners = Vector::<opencv::core::Point>::new();
                cv(imgproc::approx_poly_dp(
                    &outline,
                    &mut corners,
                    tolerance * length,
                    true,
                ))?;
                let Some(found) = four(&corners) else {
                    continue;
                };
                if cv(imgproc::is_contour_convex(&corners))?
                    && rectangular(&found)
                    && !touches_edge(&found, smooth)
                    && contains(&corners, inside)?
                {
                    return Ok(Some(found));
                }
            }
        }
    }
    Ok(None)
}

#[expect(clippy::cast_precision_loss, reason = "pixel positions")]
fn four(corners: &Vector<opencv::core::Point>) -> Option<[Point; 4]> {
    let points: Vec<Point> = corners
        .iter()
        .map(|corner| Point {
            x: corner.x as f32,
            y: corner.y as f32,
        })
        .collect();
    points.try_into().ok()
}

fn rectangular(corners: &[Point; 4]) -> bool {
    let [a, b, c, d] = *corners;
    [(d, a, b), (a, b, c), (b, c, d), (c, d, a)]
        .into_iter()
        .all(|(before, corner, after)| {
            let (ux, uy) = (before.x - corner.x, before.y - corner.y);
            let (vx, vy) = (after.x - corner.x, after.y - corner.y);
            let lengths = ux.hypot(uy) * vx.hypot(vy);
            lengths > 0.0 && ((ux * vx + uy * vy) / lengths).abs() <= MAX_CORNER_COSINE
        })
}

fn touches_edge(corners: &[Point; 4], picture: &Mat) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "pixel positions")]
    let (width, height) = (picture.cols() as f32, picture.rows() as f32);
    corners.iter().any(|corner| {
        corner.x <= EDGE_MARGIN
            || corner.y <= EDGE_MARGIN
            || corner.x >= width - 1.0 - EDGE_MARGIN
            || corner.y >= height - 1.0 - EDGE_MARGIN
    })
}

fn contains(
    corners: &Vector<opencv::core::Point>,
    inside: &[Point; 4],
) -> Result<bool, VisionError> {
    for point in inside {
        if cv(imgproc::point_polygon_test(
            corners,
            Point2f::new(point.x, point.y),
            false,
        ))? < 0.0
        {
            return Ok(false);
        }
    }
    Ok(true)
}
