//! Grey pictures as plain buffers, and the few OpenCV filters that the iris stages share.

use opencv::core::{self, Mat, MatTraitConst, MatTraitConstManual, Point as CvPoint, Scalar, Size};
use opencv::imgproc;

use crate::{Frame, VisionError};

/// 8-bit grey pixels, row by row without padding. Reads outside give the nearest edge pixel.
#[derive(Clone)]
pub(crate) struct Grey {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Grey {
    pub(crate) fn new(width: usize, height: usize, pixels: Vec<u8>) -> Option<Self> {
        (width > 0 && height > 0 && pixels.len() == width * height).then_some(Self {
            width,
            height,
            pixels,
        })
    }

    pub(crate) fn filled(width: usize, height: usize, value: u8) -> Self {
        Self {
            width: width.max(1),
            height: height.max(1),
            pixels: vec![value; width.max(1) * height.max(1)],
        }
    }

    /// The luminance of a frame.
    pub(crate) fn of(frame: &Frame) -> Result<Self, VisionError> {
        const STAGE: &str = "grey picture";
        let mut grey = Mat::default();
        imgproc::cvt_color_def(&frame.pixels, &mut grey, imgproc::COLOR_BGR2GRAY)
            .map_err(VisionError::cv(STAGE))?;
        Self::from_mat(&grey, STAGE)
    }

    pub(crate) fn from_mat(mat: &Mat, stage: &'static str) -> Result<Self, VisionError> {
        let whole;
        let mat = if mat.is_continuous() {
            mat
        } else {
            whole = mat.try_clone().map_err(VisionError::cv(stage))?;
            &whole
        };
        let bytes = mat.data_bytes().map_err(VisionError::cv(stage))?;
        Self::new(
            usize::try_from(mat.cols()).unwrap_or(0),
            usize::try_from(mat.rows()).unwrap_or(0),
            bytes.to_vec(),
        )
        .ok_or(VisionError::Contract { stage })
    }

    pub(crate) fn to_mat(&self, stage: &'static str) -> Result<Mat, VisionError> {
        let rows = i32::try_from(self.height).unwrap_or(i32::MAX);
        let flat = Mat::from_slice(&self.pixels).map_err(VisionError::cv(stage))?;
        let shaped = flat.reshape(1, rows).map_err(VisionError::cv(stage))?;
        shaped.try_clone().map_err(VisionError::cv(stage))
    }

    pub(crate) fn width(&self) -> usize {
        self.width
    }

    pub(crate) fn height(&self) -> usize {
        self.height
    }

    pub(crate) fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    pub(crate) fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    pub(crate) fn at(&self, x: i32, y: i32) -> u8 {
        let x = (x.max(0) as usize).min(self.width - 1);
        let y = (y.max(0) as usize).min(self.height - 1);
        self.pixels
            .get(y * self.width + x)
            .copied()
            .unwrap_or_default()
    }

    pub(crate) fn contains(&self, x: f32, y: f32) -> bool {
        x >= 0.0 && y >= 0.0 && x <= (self.width - 1) as f32 && y <= (self.height - 1) as f32
    }

    pub(crate) fn set(&mut self, x: i32, y: i32, value: u8) {
        if x < 0 || y < 0 || x as usize >= self.width || y as usize >= self.height {
            return;
        }
        if let Some(pixel) = self.pixels.get_mut(y as usize * self.width + x as usize) {
            *pixel = value;
        }
    }

    /// The nearest pixel's value.
    pub(crate) fn near(&self, x: f32, y: f32) -> f32 {
        f32::from(self.at((x + 0.5).floor() as i32, (y + 0.5).floor() as i32))
    }

    /// Bilinear interpolation.
    pub(crate) fn sample(&self, x: f32, y: f32) -> f32 {
        let (left, top) = (x.floor(), y.floor());
        let (fx, fy) = (x - left, y - top);
        let (left, top) = (left as i32, top as i32);
        let a = f32::from(self.at(left, top));
        let b = f32::from(self.at(left + 1, top));
        let c = f32::from(self.at(left, top + 1));
        let d = f32::from(self.at(left + 1, top + 1));
        let upper = a + (b - a) * fx;
        let lower = c + (d - c) * fx;
        upper + (lower - upper) * fy
    }

    /// The grey value below which `share` (0 to 1) of all pixels lie.
    pub(crate) fn percentile(&self, share: f32) -> u8 {
        let mut counts = [0_usize; 256];
        for pixel in &self.pixels {
            if let Some(count) = counts.get_mut(usize::from(*pixel)) {
                *count += 1;
            }
        }
        let wanted = (share.clamp(0.0, 1.0) * self.pixels.len() as f32) as usize;
        let mut seen = 0;
        for (value, count) in counts.iter().enumerate() {
            seen += count;
            if seen > wanted {
                return u8::try_from(value).unwrap_or(u8::MAX);
            }
        }
        u8::MAX
    }

    pub(crate) fn blurred(&self, sigma: f64, stage: &'static str) -> Result<Self, VisionError> {
        let mut blurred = Mat::default();
        imgproc::gaussian_blur_def(&self.to_mat(stage)?, &mut blurred, Size::new(0, 0), sigma)
            .map_err(VisionError::cv(stage))?;
        Self::from_mat(&blurred, stage)
    }

    pub(crate) fn median(&self, side: i32, stage: &'static str) -> Result<Self, VisionError> {
        let mut filtered = Mat::default();
        imgproc::median_blur(&self.to_mat(stage)?, &mut filtered, side)
            .map_err(VisionError::cv(stage))?;
        Self::from_mat(&filtered, stage)
    }

    /// A morphological operation with an ellipse or a rectangle.
    pub(crate) fn morphology(
        &self,
        operation: i32,
        shape: i32,
        width: i32,
        height: i32,
        stage: &'static str,
    ) -> Result<Self, VisionError> {
        let kernel =
            imgproc::get_structuring_element(shape, Size::new(width, height), CvPoint::new(-1, -1))
                .map_err(VisionError::cv(stage))?;
        let mut result = Mat::default();
        imgproc::morphology_ex(
            &self.to_mat(stage)?,
            &mut result,
            operation,
            &kernel,
            CvPoint::new(-1, -1),
            1,
            core::BORDER_REPLICATE,
            Scalar::default(),
        )
        .map_err(VisionError::cv(stage))?;
        Self::from_mat(&result, stage)
    }

    pub(crate) fn resized(
        &self,
        width: i32,
        height: i32,
        stage: &'static str,
    ) -> Result<Self, VisionError> {
        let mut result = Mat::default();
        let method = if (width as usize) < self.width {
            imgproc::INTER_AREA
        } else {
            imgproc::INTER_LINEAR
        };
        imgproc::resize(
            &self.to_mat(stage)?,
            &mut result,
            Size::new(width, height),
            0.0,
            0.0,
            method,
        )
        .map_err(VisionError::cv(stage))?;
        Self::from_mat(&result, stage)
    }
}

impl std::fmt::Debug for Grey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Grey({} x {})", self.width, self.height)
    }
}

/// One connected component of a binary picture.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Component {
    pub(crate) width: i32,
    pub(crate) height: i32,
    pub(crate) area: i32,
    pub(crate) centroid: (f32, f32),
}

/// Labels (0 is background) and components of the pixels that are not zero.
pub(crate) fn components(
    mask: &Grey,
    stage: &'static str,
) -> Result<(Vec<i32>, Vec<Component>), VisionError> {
    let cv = |error| VisionError::OpenCv {
        stage,
        source: error,
    };
    let mut labels = Mat::default();
    let mut statistics = Mat::default();
    let mut centroids = Mat::default();
    let count = imgproc::connected_components_with_stats(
        &mask.to_mat(stage)?,
        &mut labels,
        &mut statistics,
        &mut centroids,
        8,
        core::CV_32S,
    )
    .map_err(cv)?;
    let mut found = Vec::new();
    for label in 1..count {
        let number = |column| statistics.at_2d::<i32>(label, column).copied().map_err(cv);
        let centre = |column| centroids.at_2d::<f64>(label, column).copied().map_err(cv);
        found.push(Component {
            width: number(2)?,
            height: number(3)?,
            area: number(4)?,
            centroid: (centre(0)? as f32, centre(1)? as f32),
        });
    }
    let labels = labels.data_typed::<i32>().map_err(cv)?.to_vec();
    Ok((labels, found))
}

/// Distance of every pixel that is not zero to the nearest zero pixel.
pub(crate) fn distances(mask: &Grey, stage: &'static str) -> Result<Vec<f32>, VisionError> {
    let mut distances = Mat::default();
    imgproc::distance_transform_def(
        &mask.to_mat(stage)?,
        &mut distances,
        imgproc::DIST_L2,
        imgproc::DIST_MASK_5,
    )
    .map_err(VisionError::cv(stage))?;
    Ok(distances
        .data_typed::<f32>()
        .map_err(VisionError::cv(stage))?
        .to_vec())
}

/// Median of values; 0 of none.
pub(crate) fn median(values: &mut [f32]) -> f32 {
    quantile(values, 0.5)
}

/// The value below which `share` of the values lie; 0 of none. Reorders the values.
pub(crate) fn quantile(values: &mut [f32], share: f32) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let at = ((values.len() - 1) as f32 * share.clamp(0.0, 1.0)).round() as usize;
    let (_, value, _) = values.select_nth_unstable_by(at, f32::total_cmp);
    *value
}

/// Median and robust standard deviation (1.4826 times the median absolute deviation).
pub(crate) fn robust(values: &mut [f32]) -> (f32, f32) {
    let middle = median(values);
    let mut deviations: Vec<f32> = values.iter().map(|value| (value - middle).abs()).collect();
    (middle, 1.4826 * median(&mut deviations))
}
