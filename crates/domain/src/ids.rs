//! Identifiers. Random ones are UUIDs built from bytes that the caller supplies; places have slugs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Timestamp;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is not a UUID.
    #[error("not a UUID")]
    NotUuid,
    /// The text is not a slug of 1 to 64 characters out of `a-z`, `0-9` and inner `-`.
    #[error("must be 1 to 64 characters of a-z, 0-9 and '-', not starting or ending with '-'")]
    NotSlug,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A version 7 UUID (RFC 9562 section 5.7): time-ordered, with 10 random bytes.
            #[must_use]
            pub fn new(now: Timestamp, random: [u8; 10]) -> Self {
                let millis = u64::try_from(now.as_micros() / 1_000).unwrap_or(0);
                Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
            }

            /// Wraps an existing UUID.
            #[must_use]
            pub fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID.
            #[must_use]
            pub fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::parse_str(text).map(Self).map_err(|_| IdError::NotUuid)
            }
        }
    };
}

uuid_id!(
    /// An enrolled person (data subject). A pseudonym: it says nothing about the person.
    SubjectId
);
uuid_id!(
    /// One stored reference (template of one modality) of a subject.
    ReferenceId
);
uuid_id!(
    /// One passage transaction; made by the gate agent, unique in the store, so a retry is answered
    /// with the stored decision.
    TransactionId
);
uuid_id!(
    /// A console account.
    OfficerId
);
uuid_id!(
    /// An officer's review of a referred or refused passage.
    ReviewId
);
uuid_id!(
    /// One enrolment, from opening to approval.
    EnrolmentId
);

macro_rules! slug_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The slug.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                if is_slug(&text) { Ok(Self(text)) } else { Err(IdError::NotSlug) }
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

slug_id!(
    /// A gate or enrolment station, such as `front-in`.
    GateId
);
slug_id!(
    /// A correctional centre.
    SiteId
);

fn is_slug(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_made_later_sort_later() {
        let early = SubjectId::new(Timestamp::from_micros(1_700_000_000_000_000), [0xff; 10]);
        let late = SubjectId::new(Timestamp::from_micros(1_700_000_000_002_000), [0; 10]);
        assert!(early < late);
        assert_eq!(early.to_string().parse(), Ok(early));
    }

    #[test]
    fn slugs_refuse_paths_spaces_and_long_names() {
        for bad in ["", "-a", "a-", "A", "a/b", "a b", "..", &"a".repeat(65)] {
            assert_eq!(bad.parse::<GateId>(), Err(IdError::NotSlug), "{bad}");
        }
        assert!("front-in-2".parse::<GateId>().is_ok());
    }
}
