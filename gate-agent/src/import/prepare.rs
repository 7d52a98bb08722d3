//! From the bytes of a photograph to what is sent.

use sallyport_domain::{QualityDefect, Timestamp};
use sallyport_vision::{FacePipeline, Frame, VisionError};

use super::{PictureRefusal, PreparedPicture};

/// A photograph for officers is at most this large, so that a person's five fit into one request.
const MAX_PHOTOGRAPH_BYTES: usize = 1_000_000;

/// One picture of an import: exactly one face, without defects.
///
/// # Errors
/// The outer error means that the pipeline is broken; the inner one that this picture is refused.
pub fn prepare_picture(
    pipeline: &mut FacePipeline,
    now: Timestamp,
    bytes: &[u8],
) -> Result<Result<PreparedPicture, PictureRefusal>, String> {
    let frame = match Frame::decode("import", now, bytes) {
        Ok(frame) => frame,
        Err(error) => return Ok(Err(PictureRefusal::Unreadable(error.to_string()))),
    };
    let broken = |error: VisionError| error.to_string();
    let analysis = pipeline.analyse(&frame).map_err(broken)?;
    let refused = |defects| Ok(Err(PictureRefusal::Defects(defects)));
    let Some(face) = analysis.faces.first() else {
        return refused(vec![QualityDefect::NoFace]);
    };
    if analysis.people_in_view > 1 {
        return refused(vec![QualityDefect::SeveralFaces]);
    }
    if !face.defects.is_empty() {
        return refused(face.defects.clone());
    }
    let mut jpeg = None;
    for quality in [85, 60, 35] {
        let file = frame.to_jpeg(quality).map_err(broken)?;
        if file.len() <= MAX_PHOTOGRAPH_BYTES {
            jpeg = Some(file);
            break;
        }
    }
    let Some(jpeg) = jpeg else {
        return Ok(Err(PictureRefusal::Unreadable(format!(
            "the picture of {} x {} pixels is too large to be kept; scale it down",
            frame.width(),
            frame.height()
        ))));
    };
    Ok(Ok(PreparedPicture {
        template: pipeline.embed_for_enrolment(&frame, face).map_err(broken)?,
        model: pipeline.model_digest(),
        quality: face.quality.score,
        jpeg,
    }))
}
