//! OpenID Connect as a relying party: asks the configured provider who somebody is, and believes only what it can check
//! (`docs/adr/0014`). Built with the feature `oidc` only.
//!
//! It never makes an account, never reads a role and never opens a session: `officers::provider` does the last, for an account that an
//! administrator bound to exactly this issuer and subject.

mod exchange;
mod keys;
mod token;

use std::path::PathBuf;

use crate::config::Oidc;
use crate::post::PostError;
use crate::state::AppState;

pub(crate) use exchange::{Provider, check_files, known, redeem};
pub use keys::KeySet;
pub use token::{Expected, Identity, check};

/// The provider's clock and the server's may differ by this much.
pub const SKEW_S: i64 = 30;

/// Why a sign-in through the provider was refused. Each has a stable code in the log; people are told one sentence for all.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No connection, or not to whom the authority vouches for, or too slow, or too large.
    #[error("the provider cannot be reached: {0}")]
    Unreachable(#[from] PostError),
    /// Not what was asked for.
    #[error("the provider answered {what} with status {status}")]
    Status {
        /// What was asked.
        what: &'static str,
        /// HTTP status.
        status: u16,
    },
    /// Not of its form.
    #[error("the provider's {0} is not of the form that the standard says")]
    Malformed(&'static str),
    /// A configuration of somebody else.
    #[error("the provider's configuration names another issuer, or addresses that are not https")]
    Discovery,
    /// It cannot do what is needed.
    #[error("the provider offers no way to authenticate this server, or no PKCE with S256")]
    Unsupported,
    /// A file of ours.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It signed nobody in.
    #[error("the provider says that it did not sign anybody in")]
    Declined,
    /// An answer to another question.
    #[error("state is not the one that was sent")]
    State,
    /// Mixed up (RFC 9207).
    #[error("the answer is of another issuer")]
    AnswerIssuer,
    /// `none`, HMAC, and everything else that is not on the list.
    #[error("the token is signed in a way that is not allowed")]
    Algorithm,
    /// No key, or more than one.
    #[error("no key of the provider has the token's key id")]
    UnknownKey,
    /// Not signed by that key.
    #[error("the token's signature is wrong")]
    Signature,
    /// Claim `iss`.
    #[error("the token is of another issuer")]
    Issuer,
    /// Claims `aud` and `azp`.
    #[error("the token is for somebody else")]
    Audience,
    /// Claim `exp`.
    #[error("the token has ended")]
    Expired,
    /// Claims `iat` and `nbf`.
    #[error("the token was made before it was asked for, or in the future")]
    Time,
    /// Claim `nonce`.
    #[error("the token's nonce is not the one that was sent")]
    Nonce,
    /// Claim `auth_time`.
    #[error("whoever signed in did not do so anew")]
    NotAnew,
    /// Claims `acr` and `amr`.
    #[error("the token names no authentication that is good enough here (acr, amr)")]
    Weak,
    /// Nobody's subject.
    #[error("no account is bound to whoever signed in")]
    NotBound,
    /// A provider alone would open it.
    #[error("the account has no security key, which its role needs")]
    NoKey,
    /// Somebody else's subject.
    #[error("another officer signed in than the one whose session it is")]
    Another,
}

impl Refusal {
    /// The word in the log.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "oidc_unreachable",
            Self::Status { .. } => "oidc_status",
            Self::Malformed(_) => "oidc_malformed",
            Self::Discovery => "oidc_discovery",
            Self::Unsupported => "oidc_unsupported",
            Self::File { .. } => "oidc_file",
            Self::Declined => "oidc_declined",
            Self::State => "oidc_state",
            Self::AnswerIssuer => "oidc_answer_issuer",
            Self::Algorithm => "oidc_algorithm",
            Self::UnknownKey => "oidc_unknown_key",
            Self::Signature => "oidc_signature",
            Self::Issuer => "oidc_issuer",
            Self::Audience => "oidc_audience",
            Self::Expired => "oidc_expired",
            Self::Time => "oidc_time",
            Self::Nonce => "oidc_nonce",
            Self::NotAnew => "oidc_not_anew",
            Self::Weak => "oidc_weak",
            Self::NotBound => "oidc_not_bound",
            Self::NoKey => "oidc_no_key",
            Self::Another => "oidc_another",
        }
    }
}

/// Where the provider sends the browser back to: exactly this, registered there.
pub(crate) fn redirect_uri(state: &AppState, config: &Oidc) -> String {
    if let Some(uri) = &config.redirect_uri {
        return uri.clone();
    }
    let host = state
        .config
        .hostnames
        .first()
        .map_or("localhost", String::as_str);
    match state.config.console_listen.port() {
        443 => format!("https://{host}{CALLBACK}"),
        port => format!("https://{host}:{port}{CALLBACK}"),
    }
}

/// Path of the console to which the provider sends the browser back.
pub(crate) const CALLBACK: &str = "/sign-in/oidc/callback";
