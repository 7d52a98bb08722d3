//! The demo's scenes and what must come of them.

use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

/// What must come of one passage.
#[derive(Debug, Clone, Deserialize)]
pub struct ExpectedPassage {
    /// Folder of its frames.
    pub folder: String,
    /// Who it is, if enrolled.
    #[serde(default)]
    pub subject: Option<String>,
    /// Whose irises the near-infrared camera sees, if any.
    #[serde(default)]
    pub eyes: Option<String>,
    /// Acceptable verdicts.
    pub verdicts: Vec<String>,
    /// In words.
    pub why: String,
}

/// All passages, in order.
#[derive(Debug, Clone, Deserialize)]
pub struct Expected {
    /// The passages.
    pub passage: Vec<ExpectedPassage>,
}

impl Expected {
    /// Reads `expected.toml` of a scenes folder.
    ///
    /// # Errors
    /// Not there or not valid.
    pub fn load(scenes: &Path) -> anyhow::Result<Self> {
        let path = scenes.join("expected.toml");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?;
        let mut expected: Self =
            toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))?;
        expected.passage.sort_by(|a, b| a.folder.cmp(&b.folder));
        Ok(expected)
    }
}
