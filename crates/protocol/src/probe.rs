//! Probes: what the agent made of the samples of one track.

use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use sallyport_domain::{Modality, ModelDigest, Template};

/// Why a probe was refused. Carries no score and no template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// `modality` says something else than the template.
    #[error(
        "the probe's modality is not its template's; send each template under its own modality"
    )]
    OtherModality,
    /// `model` is not the encoder that the iris template names.
    #[error("the probe's model is not the encoder of its iris template")]
    OtherModel,
    /// Not a number from 0 to 100.
    #[error("a probe's quality lies between 0 and 100")]
    QualityOutOfRange,
    /// A template made from nothing.
    #[error("a probe is made from at least one sample")]
    NoSamples,
}

/// A probe: the best samples of one track, fused into one template. A message with a probe that contradicts itself is
/// not read at all, see [`Probe::check`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "Fields")]
pub struct Probe {
    /// What it describes; the same as the template says.
    pub modality: Modality,
    /// SHA-256 of the model that made it.
    pub model: ModelDigest,
    /// The template.
    pub template: Template,
    /// Quality score, 0 to 100.
    pub quality: f32,
    /// How many samples were fused, at least one.
    pub samples: u8,
}

impl Probe {
    /// A probe that cannot contradict itself: the modality is the template's.
    ///
    /// # Errors
    /// See [`Probe::check`].
    pub fn new(
        model: ModelDigest,
        template: impl Into<Template>,
        quality: f32,
        samples: u8,
    ) -> Result<Self, ProbeError> {
        let template = template.into();
        let probe = Self {
            modality: template.modality(),
            model,
            template,
            quality,
            samples,
        };
        probe.check()?;
        Ok(probe)
    }

    /// Does the probe agree with itself?
    ///
    /// # Errors
    /// See [`ProbeError`].
    pub fn check(&self) -> Result<(), ProbeError> {
        if self.modality != self.template.modality() {
            return Err(ProbeError::OtherModality);
        }
        if let Some(iris) = self.template.iris()
            && iris.encoder() != self.model
        {
            return Err(ProbeError::OtherModel);
        }
        if !(0.0..=100.0).contains(&self.quality) {
            return Err(ProbeError::QualityOutOfRange);
        }
        if self.samples == 0 {
            return Err(ProbeError::NoSamples);
        }
        Ok(())
    }
}

/// A probe as it arrives.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    modality: Modality,
    model: ModelDigest,
    template: Template,
    quality: f32,
    samples: u8,
}

impl TryFrom<Fields> for Probe {
    type Error = ProbeError;

    fn try_from(fields: Fields) -> Result<Self, ProbeError> {
        let probe = Self {
            modality: fields.modality,
            model: fields.model,
            template: fields.template,
            quality: fields.quality,
            samples: fields.samples,
        };
        probe.check()?;
        Ok(probe)
    }
}

/// Reads the probes of a passage: one per modality at most, so a long list is refused before it is read.
pub(crate) fn one_per_modality<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Probe>, D::Error> {
    struct Probes;

    impl<'de> Visitor<'de> for Probes {
        type Value = Vec<Probe>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("at most one probe per modality")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<Probe>, A::Error> {
            let mut probes: Vec<Probe> = Vec::with_capacity(Modality::ALL.len());
            while let Some(probe) = sequence.next_element::<Probe>()? {
                if probes.iter().any(|known| known.modality == probe.modality) {
                    return Err(A::Error::custom("send at most one probe per modality"));
                }
                probes.push(probe);
            }
            Ok(probes)
        }
    }

    deserializer.deserialize_seq(Probes)
}

#[cfg(test)]
mod tests;
