//! Video files, USB cameras (V4L2) and network cameras (RTSP) through OpenCV.

use opencv::core::{Mat, MatTraitConst, Vector};
use opencv::videoio::{self, VideoCapture, VideoCaptureTrait, VideoCaptureTraitConst};
use sallyport_domain::Timestamp;

use crate::Frame;

/// Why a camera gives no frames. The texts carry no address, since addresses can hold passwords.
#[derive(Debug, thiserror::Error)]
pub enum VideoError {
    /// The source could not be opened.
    #[error(
        "the camera or file could not be opened; check its name, its cable or network, and who else uses it"
    )]
    Open,
    /// Nothing came within the time limit, or the source ended.
    #[error("the camera gave no frame")]
    NoFrame,
    /// OpenCV failed.
    #[error("the camera failed")]
    OpenCv(#[from] opencv::Error),
}

/// An open source of frames.
pub struct VideoSource {
    name: String,
    capture: VideoCapture,
    ends: bool,
}

impl std::fmt::Debug for VideoSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VideoSource({})", self.name)
    }
}

impl VideoSource {
    /// Opens a video file.
    ///
    /// # Errors
    /// Not there, or no video that OpenCV can read.
    pub fn open_file(name: &str, path: &str) -> Result<Self, VideoError> {
        if !std::path::Path::new(path).is_file() {
            return Err(VideoError::Open);
        }
        Self::opened(name, VideoCapture::from_file(path, videoio::CAP_ANY)?, true)
    }

    /// Opens a V4L2 device by its number.
    ///
    /// # Errors
    /// Not there, or in use.
    pub fn open_device(name: &str, device: i32) -> Result<Self, VideoError> {
        Self::opened(name, VideoCapture::new(device, videoio::CAP_V4L2)?, false)
    }

    /// Opens a network stream; gives up when nothing comes for `timeout_ms`, on opening and on every read.
    ///
    /// # Errors
    /// Not reachable in time.
    pub fn open_url(name: &str, url: &str, timeout_ms: i32) -> Result<Self, VideoError> {
        let options = Vector::from_slice(&[
            videoio::CAP_PROP_OPEN_TIMEOUT_MSEC,
            timeout_ms,
            videoio::CAP_PROP_READ_TIMEOUT_MSEC,
            timeout_ms,
        ]);
        Self::opened(
            name,
            VideoCapture::from_file_with_params(url, videoio::CAP_FFMPEG, &options)?,
            false,
        )
    }

    fn opened(name: &str, capture: VideoCapture, ends: bool) -> Result<Self, VideoError> {
        if capture.is_opened()? {
            Ok(Self {
                name: name.to_owned(),
                capture,
                ends,
            })
        } else {
            Err(VideoError::Open)
        }
    }

    /// The next frame, stamped `at`; `None` at the end of a file.
    ///
    /// # Errors
    /// The camera gave nothing.
    pub fn read(&mut self, at: Timestamp) -> Result<Option<Frame>, VideoError> {
        let mut pixels = Mat::default();
        let got = self.capture.read(&mut pixels)? && !pixels.empty();
        match (got, self.ends) {
            (true, _) => Ok(Some(Frame::from_mat(&self.name, at, pixels))),
            (false, true) => Ok(None),
            (false, false) => Err(VideoError::NoFrame),
        }
    }
}
