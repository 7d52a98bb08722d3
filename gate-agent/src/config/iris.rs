//! The near-infrared camera of a gate, and the jurisdiction's profile.

use std::time::Duration;

use sallyport_domain::GateRules;
use serde::Deserialize;

use super::CameraConfig;

/// Which law's rules hold (product.md). What a profile forbids cannot be switched on elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Profile {
    /// New South Wales: no captured image but the photograph is kept (Crimes (Administration of
    /// Sentences) Regulation 2014, clause 321).
    #[serde(rename = "nsw-2014")]
    Nsw2014,
}

impl Profile {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nsw2014 => "nsw-2014",
        }
    }

    /// What it forbids here, whatever the server says.
    #[must_use]
    pub fn rules(self) -> GateRules {
        match self {
            Self::Nsw2014 => GateRules::without_iris_images(),
        }
    }
}

impl std::str::FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "nsw-2014" => Ok(Self::Nsw2014),
            other => Err(format!("{other:?} is no known profile; use nsw-2014")),
        }
    }
}

/// `[iris_camera]`: a camera as in `[[camera]]`, and how its frames belong to the colour camera's.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "toml::Table")]
pub struct IrisCameraConfig {
    /// The camera.
    pub camera: CameraConfig,
    /// It delivers mirror images: left and right change places.
    pub mirrored: bool,
    /// Frames of both cameras belong together when captured within this many milliseconds.
    pub pair_within_ms: u32,
}

impl IrisCameraConfig {
    /// The window for pairing.
    #[must_use]
    pub const fn pair_within(&self) -> Duration {
        Duration::from_millis(self.pair_within_ms as u64)
    }
}

impl TryFrom<toml::Table> for IrisCameraConfig {
    type Error = String;

    fn try_from(mut table: toml::Table) -> Result<Self, String> {
        let mirrored = match table.remove("mirrored") {
            None => false,
            Some(toml::Value::Boolean(mirrored)) => mirrored,
            Some(_) => return Err("iris_camera.mirrored must be true or false".to_owned()),
        };
        let pair_within_ms = match table.remove("pair_within_ms") {
            None => 200,
            Some(toml::Value::Integer(ms @ 1..=2_000)) => u32::try_from(ms).unwrap_or(200),
            Some(_) => {
                return Err("iris_camera.pair_within_ms must lie between 1 and 2000".to_owned());
            }
        };
        let camera: CameraConfig = table
            .try_into()
            .map_err(|error: toml::de::Error| format!("iris_camera: {}", error.message()))?;
        Ok(Self {
            camera,
            mirrored,
            pair_within_ms,
        })
    }
}
