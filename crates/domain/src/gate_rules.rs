//! The few things of a jurisdiction profile that a gate or an enrolment station must obey by itself, because it could write a picture
//! before the server sees anything.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{DataKind, Keep, Profile, SubjectCategory};

/// Of whom pictures may be kept at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateRules {
    iris_images: BTreeSet<SubjectCategory>,
    photographs: BTreeSet<SubjectCategory>,
}

impl GateRules {
    /// No picture of anybody.
    pub const STRICTEST: Self = Self {
        iris_images: BTreeSet::new(),
        photographs: BTreeSet::new(),
    };

    /// What a profile permits.
    #[must_use]
    pub fn of(profile: &Profile) -> Self {
        let permitted = |kind| {
            let all = SubjectCategory::ALL.into_iter();
            all.filter(|category| profile.rule(kind, *category).keep != Keep::Never)
                .collect()
        };
        Self {
            iris_images: permitted(DataKind::IrisImage),
            photographs: permitted(DataKind::Photograph),
        }
    }

    /// Forbids nothing: a gate's own setting where there is none.
    #[must_use]
    pub fn unrestricted() -> Self {
        Self {
            iris_images: SubjectCategory::ALL.into(),
            photographs: SubjectCategory::ALL.into(),
        }
    }

    /// No picture of an eye of anybody; nothing else is forbidden.
    #[must_use]
    pub fn without_iris_images() -> Self {
        Self {
            iris_images: BTreeSet::new(),
            ..Self::unrestricted()
        }
    }

    /// What both permit.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let both = |one: &BTreeSet<SubjectCategory>, two| one.intersection(two).copied().collect();
        Self {
            iris_images: both(&self.iris_images, &other.iris_images),
            photographs: both(&self.photographs, &other.photographs),
        }
    }

    /// May a picture of an eye be kept? Of somebody whose category is not known only where it may be of everybody.
    #[must_use]
    pub fn iris_image(&self, category: Option<SubjectCategory>) -> bool {
        permits(&self.iris_images, category)
    }

    /// May a photograph be kept? Of somebody whose category is not known only where it may be of everybody.
    #[must_use]
    pub fn photograph(&self, category: Option<SubjectCategory>) -> bool {
        permits(&self.photographs, category)
    }
}

fn permits(of: &BTreeSet<SubjectCategory>, category: Option<SubjectCategory>) -> bool {
    let has = |category| of.contains(&category);
    category.map_or_else(|| SubjectCategory::ALL.into_iter().all(has), has)
}

#[cfg(test)]
mod tests {
    use super::*;
    use SubjectCategory::{Prisoner, Visitor};

    fn rules(iris: &[SubjectCategory], photographs: &[SubjectCategory]) -> GateRules {
        GateRules {
            iris_images: iris.iter().copied().collect(),
            photographs: photographs.iter().copied().collect(),
        }
    }

    #[test]
    fn somebody_unknown_may_be_anybody_and_two_rules_permit_what_both_do() {
        let some = rules(&[Visitor], &[Prisoner, Visitor]);
        assert!(some.iris_image(Some(Visitor)) && !some.iris_image(Some(Prisoner)));
        assert!(!some.iris_image(None) && !some.photograph(None));
        let all = GateRules::unrestricted();
        assert!(all.iris_image(None) && all.photograph(None));
        assert_eq!(all.and(&some), some);
        assert_eq!(some.and(&GateRules::STRICTEST), GateRules::STRICTEST);
        assert_eq!(
            some.and(&rules(&[Prisoner], &[Visitor])),
            rules(&[], &[Visitor])
        );
        let own = GateRules::without_iris_images();
        assert!(!own.iris_image(Some(Visitor)) && own.photograph(None));
    }

    #[test]
    fn no_shipped_profile_permits_a_picture_of_an_eye_and_each_permits_photographs() {
        for text in [
            include_str!("../../../profiles/nsw-2014.toml"),
            include_str!("../../../profiles/uk.toml"),
            include_str!("../../../profiles/eu-led.toml"),
            include_str!("../../../profiles/us-generic.toml"),
        ] {
            let profile: Profile = toml::from_str(text).unwrap();
            let rules = GateRules::of(&profile);
            assert!(
                SubjectCategory::ALL
                    .iter()
                    .all(|one| !rules.iris_image(Some(*one)))
            );
            assert!(rules.photograph(None), "{}", profile.name());
            // A category that is forbidden is missed.
            let text = text.replacen("kinds = [\"photograph\"", "kinds = [\"iris_image\"", 1);
            assert!(toml::from_str::<Profile>(&text).is_err());
        }
    }
}
