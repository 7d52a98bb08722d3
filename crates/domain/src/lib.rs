//! Vocabulary types and pure rules of Sallyport.
//!
//! Everything here takes values and returns values. This crate never reads a clock, randomness,
//! the environment, a file or a socket; callers pass time and random bytes in.
//! Words follow ISO/IEC 2382-37 (see GLOSSARY.md).

mod biometric;
mod calibration;
pub mod consistency;
mod consultation;
mod decision;
mod enrolment;
mod fusion;
mod gate_rules;
mod ids;
pub mod iris;
mod officer;
mod pad;
mod policy;
mod profile;
mod quality;
mod share;
mod subject;
mod template;
mod time;

pub use biometric::{
    BiometricError, CalibrationPoint, Candidate, CandidateList, FACE_TEMPLATE_DIMENSIONS,
    FaceCalibration, FaceSimilarity, FaceTemplate, Modality, ModelDigest, OperatingPoint,
    Threshold,
};
pub use calibration::{
    CalibrationError, ErrorPoint, FusionCalibration, LogLikelihoodRatio, Measured,
    ScoreCalibration, ScoreKind,
};
pub use consultation::ConsultReason;
pub use decision::{
    Decision, DecisionInput, GateCondition, ReasonCode, SearchOutcome, Verdict, decide,
};
pub use enrolment::{Enrolment, EnrolmentState, InvalidTransition};
pub use fusion::{
    CandidateEvidence, Evidence, GallerySize, ModalityVerdict, OperatingPoints, Recognition,
    RecognitionDoubt, SubjectScores,
};
pub use gate_rules::GateRules;
pub use ids::{
    EnrolmentId, GateId, IdError, OfficerId, ReferenceId, ReviewId, SiteId, SubjectId,
    TransactionId,
};
pub use iris::{
    Eye, IRIS_TEMPLATE_BYTES, IrisComparison, IrisDissimilarity, IrisError, IrisRotation,
    IrisTemplate,
};
pub use officer::{Act, Role};
pub use pad::{PadAssessment, PadKind, PadVerdict, PadVote};
pub use policy::{
    AccessRule, Direction, GatePolicy, ModalityPolicy, PadPolicy, PolicyError, Purpose,
    UnrecognisedPolicy, WeeklyWindow,
};
pub use profile::{
    DataKind, Due, Group, GroupList, Keep, LifeEvents, Profile, ProfileError, ProfileRule,
    RetentionEvent, UnrecognisedRule,
};
pub use quality::{QualityDefect, QualityReport};
pub use share::Share;
pub use subject::{SubjectCategory, SubjectStatus, SubjectView};
pub use template::Template;
pub use time::{LocalMoment, Timestamp, Weekday};
