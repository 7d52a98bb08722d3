//! Iris image records in the manner of ISO/IEC 19794-6:2011: how other systems hand over eye pictures for enrolment.
//!
//! Read and written are the general header, one header per representation (Table 4 of the standard) and 8-bit
//! monochrome pictures, raw or PNG. JPEG 2000 is refused with a sentence: its decoders are a known way into systems, and
//! any source can be asked for PNG. Whether a record may be read or written at all is for the jurisdiction's profile to say.

use sallyport_domain::{Eye, Timestamp};

use crate::frame::encode;
use crate::{DecodeError, Frame, MAX_FILE_BYTES, VisionError};

/// `IIR` and a zero byte.
const FORMAT: &[u8; 4] = b"IIR\0";
/// Version 2 of the format: the edition of 2011.
const VERSION: &[u8; 4] = b"020\0";
/// Bytes of the general header.
const GENERAL_HEADER: usize = 16;
/// Bytes of the fixed part of a quality block.
const QUALITY_BLOCK: usize = 5;
/// More pictures than this are no enrolment of one person.
const MAX_REPRESENTATIONS: u16 = 64;
/// The largest side of one picture, in pixels.
const MAX_SIDE_PX: u16 = 4_096;

const RAW: u8 = 0x02;
const PNG: u8 = 0x0E;

/// Why a file is not a usable iris record. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not an iris record of 2011.
    #[error(
        "not an iris image record: it does not begin with 'IIR' and version 020 (ISO/IEC 19794-6:2011)"
    )]
    NotARecord,
    /// Lengths in the headers do not fit the file.
    #[error("the iris record is damaged or ends early at byte {at}; copy it again from its source")]
    Damaged {
        /// Where reading stopped.
        at: usize,
    },
    /// More pictures than one person's enrolment has.
    #[error("the iris record has {0} pictures; 1 to {MAX_REPRESENTATIONS} are accepted")]
    Representations(u16),
    /// Another compression than raw or PNG.
    #[error(
        "picture {number} of the iris record is stored as format {format:#04x}; export it as raw (0x02) or PNG (0x0E), JPEG 2000 is not read"
    )]
    Format {
        /// Which picture, from 1.
        number: u16,
        /// The format's code.
        format: u8,
    },
    /// The picture is not 8-bit grey of a reasonable size.
    #[error(
        "picture {number} of the iris record is {width} x {height} pixels of {depth} bits; 8 bits and 1 to {MAX_SIDE_PX} pixels a side are accepted"
    )]
    Picture {
        /// Which picture, from 1.
        number: u16,
        /// Pixels across.
        width: u16,
        /// Pixels down.
        height: u16,
        /// Bits a pixel.
        depth: u8,
    },
    /// The picture inside cannot be decoded.
    #[error("picture {number} of the iris record: {source}")]
    Decode {
        /// Which picture, from 1.
        number: u16,
        /// Why.
        #[source]
        source: DecodeError,
    },
}

/// One eye picture of a record.
#[derive(Debug, Clone)]
pub struct IrisRecordImage {
    /// The subject's own eye; `None` when the record does not say.
    pub eye: Option<Eye>,
    /// The picture, grey in all three channels.
    pub frame: Frame,
}

/// Reads all pictures of a record. `captured_at` is given to every frame: the record's own time is not trusted.
///
/// # Errors
/// See [`RecordError`]; nothing is read past a damaged place.
pub fn read_iris_record(
    camera: &str,
    captured_at: Timestamp,
    file: &[u8],
) -> Result<Vec<IrisRecordImage>, RecordError> {
    if !file.starts_with(FORMAT) || file.get(4..8) != Some(VERSION) {
        return Err(RecordError::NotARecord);
    }
    let mut reader = Reader { file, at: 8 };
    let length = reader.u32()?;
    if file.len() > MAX_FILE_BYTES || usize::try_from(length).ok() != Some(file.len()) {
        return Err(RecordError::Damaged { at: 8 });
    }
    let count = reader.u16()?;
    if count == 0 || count > MAX_REPRESENTATIONS {
        return Err(RecordError::Representations(count));
    }
    reader.skip(GENERAL_HEADER - reader.at)?;
    let mut images = Vec::with_capacity(usize::from(count));
    for number in 1..=count {
        images.push(read_representation(
            &mut reader,
            number,
            camera,
            captured_at,
        )?);
    }
    if reader.at == file.len() {
        Ok(images)
    } else {
        Err(reader.damaged())
    }
}

fn read_representation(
    reader: &mut Reader<'_>,
    number: u16,
    camera: &str,
    captured_at: Timestamp,
) -> Result<IrisRecordImage, RecordError> {
    let start = reader.at;
    let length = usize::try_from(reader.u32()?).map_err(|_| reader.damaged())?;
    // Date and time, device technology, vendor and type.
    reader.skip(9 + 1 + 2 + 2)?;
    let quality_blocks = usize::from(reader.u8()?);
    reader.skip(quality_blocks * QUALITY_BLOCK + 2)?;
    let eye = match reader.u8()? {
        1 => Some(Eye::Right),
        2 => Some(Eye::Left),
        _ => None,
    };
    reader.skip(1)?;
    let format = reader.u8()?;
    reader.skip(1)?;
    let (width, height, depth) = (reader.u16()?, reader.u16()?, reader.u8()?);
    // Range, roll and its uncertainty, two intervals of the centre and one of the diameter.
    reader.skip(2 * 9)?;
    let bytes = usize::try_from(reader.u32()?).map_err(|_| reader.damaged())?;
    let image = reader.take(bytes)?;
    if reader.at - start != length {
        return Err(reader.damaged());
    }
    if format != RAW && format != PNG {
        return Err(RecordError::Format { number, format });
    }
    let side = 1..=MAX_SIDE_PX;
    if depth != 8 || !side.contains(&width) || !side.contains(&height) {
        return Err(RecordError::Picture {
            number,
            width,
            height,
            depth,
        });
    }
    let frame = if format == PNG {
        Frame::decode(camera, captured_at, image)
    } else {
        let expected = usize::from(width) * usize::from(height);
        if image.len() == expected {
            let bgr: Vec<u8> = image.iter().flat_map(|grey| [*grey; 3]).collect();
            Frame::from_bgr(camera, captured_at, width.into(), height.into(), &bgr)
        } else {
            Err(DecodeError::WrongSize {
                width: width.into(),
                height: height.into(),
                expected: expected as u64,
                actual: image.len(),
            })
        }
    }
    .map_err(|source| RecordError::Decode { number, source })?;
    if frame.width() != i32::from(width) || frame.height() != i32::from(height) {
        return Err(reader.damaged());
    }
    Ok(IrisRecordImage { eye, frame })
}

/// Writes pictures as one record with PNG representations. Fields that are not known are written as the standard's
/// "undefined"; no capture time, device or quality is claimed.
///
/// # Errors
/// No picture or too many, a picture too large for the format's 16-bit sizes, or OpenCV failed.
pub fn write_iris_record(images: &[IrisRecordImage]) -> Result<Vec<u8>, VisionError> {
    const STAGE: &str = "writing an iris record";
    let contract = || VisionError::Contract { stage: STAGE };
    let count = u16::try_from(images.len()).map_err(|_| contract())?;
    if count == 0 || count > MAX_REPRESENTATIONS {
        return Err(contract());
    }
    let mut body = Vec::new();
    for (number, image) in (1_u16..).zip(images) {
        let size = |pixels: i32| {
            u16::try_from(pixels)
                .ok()
                .filter(|side| (1..=MAX_SIDE_PX).contains(side))
        };
        let width = size(image.frame.width()).ok_or_else(contract)?;
        let height = size(image.frame.height()).ok_or_else(contract)?;
        let mut grey = opencv::core::Mat::default();
        opencv::core::extract_channel(&image.frame.pixels, &mut grey, 0)
            .map_err(VisionError::cv(STAGE))?;
        let png = encode(&grey, ".png", &[])?;
        let mut header = Vec::with_capacity(64);
        header.extend([0_u8; 9]); // Capture time: not given.
        header.extend([0_u8; 1 + 2 + 2]); // Device: not given.
        header.push(0); // No quality blocks.
        header.extend(number.to_be_bytes());
        header.push(match image.eye {
            None => 0,
            Some(Eye::Right) => 1,
            Some(Eye::Left) => 2,
        });
        header.extend([1, PNG, 0]); // Uncropped; orientation and history undefined.
        header.extend(width.to_be_bytes());
        header.extend(height.to_be_bytes());
        header.push(8);
        header.extend([0_u8; 2]); // Range: not given.
        header.extend([0xff_u8; 4]); // Roll and its uncertainty: undefined.
        header.extend([0_u8; 12]); // Centre and diameter: undefined.
        let bytes = u32::try_from(png.len()).map_err(|_| contract())?;
        header.extend(bytes.to_be_bytes());
        let length = u32::try_from(4 + header.len() + png.len()).map_err(|_| contract())?;
        body.extend(length.to_be_bytes());
        body.extend(header);
        body.extend(png);
    }
    let length = u32::try_from(GENERAL_HEADER + body.len()).map_err(|_| contract())?;
    let mut file = Vec::with_capacity(GENERAL_HEADER + body.len());
    file.extend(FORMAT);
    file.extend(VERSION);
    file.extend(length.to_be_bytes());
    file.extend(count.to_be_bytes());
    file.push(0); // No certification.
    let eyes = |wanted| images.iter().any(|image| image.eye == Some(wanted));
    file.push(u8::from(eyes(Eye::Left)) + u8::from(eyes(Eye::Right)));
    file.extend(body);
    Ok(file)
}

/// A place in the file; every step is checked against its end.
struct Reader<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    const fn damaged(&self) -> RecordError {
        RecordError::Damaged { at: self.at }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let end = self.at.checked_add(length).ok_or_else(|| self.damaged())?;
        let part = self.file.get(self.at..end).ok_or_else(|| self.damaged())?;
        self.at = end;
        Ok(part)
    }

    fn skip(&mut self, length: usize) -> Result<(), RecordError> {
        self.take(length).map(drop)
    }

    fn u8(&mut self) -> Result<u8, RecordError> {
        let damaged = self.damaged();
        self.take(1)?.first().copied().ok_or(damaged)
    }

    fn u16(&mut self) -> Result<u16, RecordError> {
        let damaged = self.damaged();
        self.take(2)?
            .try_into()
            .map(u16::from_be_bytes)
            .map_err(|_| damaged)
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        let damaged = self.damaged();
        self.take(4)?
            .try_into()
            .map(u32::from_be_bytes)
            .map_err(|_| damaged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JPEG_2000: u8 = 0x0A;

    fn picture(width: u32, height: u32, eye: Option<Eye>) -> IrisRecordImage {
        let bgr: Vec<u8> = (0..width * height)
            .flat_map(|at| [u8::try_from(at % 251).unwrap(); 3])
            .collect();
        let frame =
            Frame::from_bgr("record", Timestamp::from_micros(0), width, height, &bgr).unwrap();
        IrisRecordImage { eye, frame }
    }

    fn read(file: &[u8]) -> Result<Vec<IrisRecordImage>, RecordError> {
        read_iris_record("record", Timestamp::from_micros(0), file)
    }

    fn three() -> Vec<u8> {
        write_iris_record(&[
            picture(64, 48, Some(Eye::Left)),
            picture(32, 32, Some(Eye::Right)),
            picture(20, 10, None),
        ])
        .unwrap()
    }

    #[test]
    fn what_was_written_is_read_pixel_by_pixel() {
        let images = read(&three()).unwrap();
        let eyes: Vec<_> = images.iter().map(|image| image.eye).collect();
        assert_eq!(eyes, [Some(Eye::Left), Some(Eye::Right), None]);
        let original = picture(64, 48, None).frame.bgr().unwrap();
        assert_eq!(images.first().unwrap().frame.bgr().unwrap(), original);
    }

    #[test]
    fn a_raw_picture_is_read_and_one_of_wrong_size_is_not() {
        let png = write_iris_record(&[picture(8, 4, Some(Eye::Left))]).unwrap();
        let representation_header = 4 + 9 + 5 + 1 + 2 + 4 + 4 + 1 + 18 + 4;
        let mut file = png[..GENERAL_HEADER + representation_header].to_vec();
        // Format of the picture: after length, time, device, blocks, number, eye and type.
        file[GENERAL_HEADER + 4 + 9 + 5 + 1 + 2 + 1 + 1] = RAW;
        let with = |pixels: usize| {
            let mut file = file.clone();
            file.extend(vec![7_u8; pixels]);
            let whole = u32::try_from(file.len()).unwrap();
            file[8..12].copy_from_slice(&whole.to_be_bytes());
            file[16..20].copy_from_slice(&(whole - 16).to_be_bytes());
            let at = GENERAL_HEADER + representation_header - 4;
            file[at..at + 4].copy_from_slice(&u32::try_from(pixels).unwrap().to_be_bytes());
            file
        };
        let images = read(&with(32)).unwrap();
        assert_eq!(images.first().unwrap().frame.bgr().unwrap(), vec![7; 96]);
        assert!(matches!(read(&with(31)), Err(RecordError::Decode { .. })));
        let mut jpeg_2000 = with(32);
        jpeg_2000[GENERAL_HEADER + 4 + 9 + 5 + 1 + 2 + 1 + 1] = JPEG_2000;
        let error = read(&jpeg_2000).unwrap_err().to_string();
        assert!(error.contains("PNG"), "{error}");
    }

    #[test]
    fn cut_records_and_changed_bytes_never_panic() {
        let file = three();
        for length in 0..file.len() {
            assert!(
                read(&file[..length]).is_err(),
                "{length} bytes were accepted"
            );
        }
        for at in 0..file.len().min(400) {
            for bit in 0..8 {
                let mut changed = file.clone();
                changed[at] ^= 1 << bit;
                // Some fields are free; whatever is accepted must still be three pictures.
                if let Ok(images) = read(&changed) {
                    assert_eq!(images.len(), 3);
                }
            }
        }
        assert!(read(b"").is_err() && read(b"IIR\x00010\x00").is_err());
    }
}
