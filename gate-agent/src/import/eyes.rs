//! From the bytes of a file of eyes to templates. Nothing here can make a picture file.

use sallyport_domain::{QualityDefect, Timestamp};
use sallyport_vision::{
    EyeObservation, EyePrior, Frame, IrisPipeline, VisionError, find_eyes, read_iris_record,
};

use super::{PictureRefusal, PreparedEye};

/// How an iris record begins (ISO/IEC 19794-6).
const RECORD: &[u8] = b"IIR\0";

/// The eyes of one file of an import: a near-infrared picture with both eyes, or an iris record whose pictures say which
/// eye they show. An eye with a defect is left out; a file without any usable eye is refused.
///
/// # Errors
/// The outer error means that the pipeline is broken; the inner one that this file is refused.
pub fn prepare_eyes(
    pipeline: &mut IrisPipeline,
    now: Timestamp,
    bytes: &[u8],
) -> Result<Result<Vec<PreparedEye>, PictureRefusal>, String> {
    let broken = |error: VisionError| error.to_string();
    let unreadable = |text: String| Ok(Err(PictureRefusal::Unreadable(text)));
    let mut seen: Vec<EyeObservation> = Vec::new();
    let is_record = bytes.starts_with(RECORD);
    if is_record {
        let images = match read_iris_record("import", now, bytes) {
            Ok(images) => images,
            Err(error) => return unreadable(error.to_string()),
        };
        for image in images {
            let Some(eye) = image.eye else {
                return unreadable(
                    "the iris record does not say which eye a picture shows; export it with eye labels"
                        .to_owned(),
                );
            };
            seen.push(
                pipeline
                    .analyse(&image.frame, &EyePrior::unknown(eye))
                    .map_err(broken)?,
            );
        }
    } else {
        let frame = match Frame::decode("import", now, bytes) {
            Ok(frame) => frame,
            Err(error) => return unreadable(error.to_string()),
        };
        for region in find_eyes(&frame, false).map_err(broken)? {
            seen.push(
                pipeline
                    .analyse(&region.frame, &region.prior)
                    .map_err(broken)?,
            );
        }
    }
    let all: Vec<&EyeObservation> = seen.iter().collect();
    let templates = pipeline.encode(&all).map_err(broken)?;
    let mut eyes = Vec::new();
    let mut defects = Vec::new();
    for (number, (eye, template)) in (1..).zip(seen.iter().zip(templates)) {
        match template {
            Some(template) => eyes.push(PreparedEye {
                template,
                quality: f32::from(eye.quality.score),
                part: if is_record { number } else { 0 },
            }),
            // Too few usable bits show only when an eye is encoded.
            None if eye.defects.is_empty() => defects.push(QualityDefect::IrisOccluded),
            None => defects.extend(eye.defects.iter().copied()),
        }
    }
    if seen.is_empty() {
        defects.push(QualityDefect::NoEye);
    }
    if eyes.is_empty() {
        defects.sort_unstable();
        defects.dedup();
        return Ok(Err(PictureRefusal::Defects(defects)));
    }
    Ok(Ok(eyes))
}
