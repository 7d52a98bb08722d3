//! Passwords: argon2id off the asynchronous threads, at most two at once.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;
use zeroize::Zeroize;

/// 64 MiB, 3 passes, 1 lane (`security.md` 1.3; measured 114 ms on two cores).
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
/// Two hashes at once bound the memory to 128 MiB; further ones wait.
static HASHING: Semaphore = Semaphore::const_new(2);

/// Passwords that everybody tries first; compared without case and digits at the end.
const COMMON: &[&str] = &[
    "passwordpassword",
    "passwordpasswordpassword",
    "correcthorsebatterystaple",
    "correct horse battery staple",
    "qwertyuiopasdfgh",
    "qwertyuiopasdfghjkl",
    "administrator",
    "administratorpassword",
    "letmeinletmein",
    "iloveyouiloveyou",
    "thequickbrownfox",
    "changemechangeme",
    "welcomewelcome",
    "sallyportsallyport",
    "prisonprisonprison",
    "securitysecurity",
    "abcdefghijklmno",
    "abcdefghijklmnop",
    "aaaaaaaaaaaaaaa",
];

/// Which rule a new password breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordProblem {
    /// Too short.
    #[error("The password needs at least 15 characters. A few words make a good one.")]
    TooShort,
    /// Too long to hash safely.
    #[error("The password may have up to 256 characters.")]
    TooLong,
    /// Too easy to guess.
    #[error("This password is one of the first that anybody would try. Choose another.")]
    Common,
}

/// Checks a new password: length first, no rules of composition (ASVS 5.0, 6.2).
///
/// # Errors
/// Which rule it breaks.
pub fn check_new_password(password: &str, name: &str) -> Result<(), PasswordProblem> {
    let length = password.chars().count();
    if length < 15 {
        return Err(PasswordProblem::TooShort);
    }
    if length > 256 {
        return Err(PasswordProblem::TooLong);
    }
    let plain = password.to_lowercase();
    let stem = plain.trim_end_matches(|c: char| c.is_ascii_digit() || c.is_ascii_punctuation());
    let distinct = plain
        .chars()
        .collect::<std::collections::BTreeSet<_>>()
        .len();
    let name = name.to_lowercase();
    let mostly_name = !name.is_empty() && plain.replace(&name, "").chars().count() < 8;
    if stem.is_empty() || distinct < 5 || mostly_name || COMMON.contains(&stem) {
        return Err(PasswordProblem::Common);
    }
    Ok(())
}

fn argon2() -> Option<Argon2<'static>> {
    Params::new(MEMORY_KIB, PASSES, 1, Some(32))
        .ok()
        .map(|params| Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let _seat = HASHING.acquire().await.ok()?;
    tokio::task::spawn_blocking(work).await.ok()
}

fn hash_now(password: &[u8]) -> Option<String> {
    argon2()?
        .hash_password(password)
        .ok()
        .map(|hash| hash.to_string())
}

/// PHC string of a new password.
pub(super) async fn hash(mut password: String) -> Option<String> {
    off_thread(move || {
        let hash = hash_now(password.as_bytes());
        password.zeroize();
        hash
    })
    .await?
}

/// Is the password right, and if so, a new hash when the stored one is weaker than today's parameters.
pub(super) async fn verify(mut password: String, stored: String) -> (bool, Option<String>) {
    let checked = off_thread(move || {
        let right = PasswordHash::new(&stored).is_ok_and(|hash| {
            Argon2::default()
                .verify_password(password.as_bytes(), &hash)
                .is_ok()
        });
        let strong = stored.contains(&format!("m={MEMORY_KIB},t={PASSES},p=1"));
        let rehash = if right && !strong {
            hash_now(password.as_bytes())
        } else {
            None
        };
        password.zeroize();
        (right, rehash)
    });
    checked.await.unwrap_or((false, None))
}

/// The same work as [`verify`] for a name that does not exist.
pub(super) async fn verify_nobody(mut password: String) {
    off_thread(move || {
        let hash = hash_now(password.as_bytes());
        password.zeroize();
        hash
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_counts_and_common_ones_are_refused() {
        assert_eq!(
            check_new_password("short", "x"),
            Err(PasswordProblem::TooShort)
        );
        assert_eq!(
            check_new_password(&"x y".repeat(100), "x"),
            Err(PasswordProblem::TooLong)
        );
        for common in [
            "PasswordPassword1!",
            "aaaaaaaaaaaaaaaa",
            "123456789012345",
            "alexmorgan123456",
        ] {
            assert_eq!(
                check_new_password(common, "alexmorgan"),
                Err(PasswordProblem::Common),
                "{common}"
            );
        }
        assert_eq!(
            check_new_password("a quiet harbour in june", "Alex"),
            Ok(())
        );
    }

    #[tokio::test]
    async fn a_hash_verifies_its_password_only_and_weak_ones_are_renewed() {
        let stored = hash("a quiet harbour in june".into()).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=65536,t=3,p=1$"));
        assert_eq!(
            verify("a quiet harbour in june".into(), stored.clone()).await,
            (true, None)
        );
        assert!(!verify("a quiet harbour in july".into(), stored).await.0);
        let params = Params::new(19_456, 2, 1, Some(32)).unwrap();
        let weak = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password(b"old")
            .unwrap()
            .to_string();
        let (right, renewed) = verify("old".into(), weak).await;
        assert!(right && renewed.unwrap().contains("m=65536"));
    }
}
