//! Drawn irises for the demo's people: no real iris is in them, and each fictional person has the same two in every picture.

use std::path::Path;

use anyhow::Context as _;
use sallyport_render::{Identity, RenderedStrip, StripLook, render_strip};

use crate::scenes::Expected;

/// Pictures of one passage.
const PASSAGE_PICTURES: u64 = 8;
/// Pictures of one enrolment.
const ENROLMENT_PICTURES: u64 = 4;

/// A number that follows from a name (FNV-1a), so that every run draws the same eyes.
fn number(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// One near-infrared picture of both eyes of a fictional person; `occasion` tells one capture of the person from another.
#[must_use]
pub fn strip(person: &str, occasion: &str, at: u64) -> RenderedStrip {
    let left = Identity::from_seed(number(&format!("{person} left")));
    let right = Identity::from_seed(number(&format!("{person} right")));
    let look = StripLook::new(number(&format!("{person} {occasion}")).wrapping_add(at));
    render_strip(&left, &right, &look, |look| look)
}

/// Writes the first `count` of them to a folder.
///
/// # Errors
/// The disk refuses.
pub fn draw(person: &str, occasion: &str, count: u64, folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    for at in 0..count {
        let path = folder.join(format!("{at:03}.png"));
        let picture = strip(person, occasion, at)
            .to_png()
            .context("encoding a strip")?;
        std::fs::write(&path, picture).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// The eyes of everybody in a scenes folder: `enrol/<person>/eyes` and `eyes/<passage>`.
///
/// # Errors
/// The disk refuses.
pub fn draw_all(scenes: &Path, expected: &Expected) -> anyhow::Result<()> {
    let enrol = scenes.join("enrol");
    for entry in
        std::fs::read_dir(&enrol).with_context(|| format!("reading {}", enrol.display()))?
    {
        let path = entry.context("reading the people")?.path();
        let person = path.file_name().unwrap_or_default().to_string_lossy();
        draw(&person, "enrolment", ENROLMENT_PICTURES, &path.join("eyes"))?;
    }
    let eyes = scenes.join("eyes");
    std::fs::create_dir_all(&eyes).with_context(|| format!("making {}", eyes.display()))?;
    for passage in &expected.passage {
        if let Some(person) = &passage.eyes {
            draw(
                person,
                &passage.folder,
                PASSAGE_PICTURES,
                &eyes.join(&passage.folder),
            )?;
        }
    }
    Ok(())
}
