//! Passwords: argon2id off the asynchronous threads, at most two at once.

use std::collections::{BTreeSet, HashSet};
use std::sync::LazyLock;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use tokio::sync::Semaphore;
use unicode_normalization::UnicodeNormalization as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::config::OfficerRules;

/// Two hashes at once bound the memory; further ones wait.
static HASHING: Semaphore = Semaphore::const_new(2);

/// The shortest password that stands alone.
const ALONE: usize = 15;
/// The shortest password beside a second factor.
const BESIDE: usize = 8;
/// The longest; a bound for the work of a hash only.
const LONGEST: usize = 256;

/// Common passwords of at least 15 characters; the file has mostly shorter ones.
const COMMON: &[&str] = &[
    "correcthorsebatterystaple",
    "correct horse battery staple",
    "qwertyuiopasdfgh",
    "qwertyuiopasdfghjkl",
    "qwertyuiopasdfghjklzxcvbnm",
    "administratorpassword",
    "thequickbrownfox",
    "thequickbrownfoxjumpsoverthelazydog",
    "abcdefghijklmno",
    "abcdefghijklmnop",
    "abcdefghijklmnopqrstuvwxyz",
];

/// What everybody tries first. Small letters.
static BLOCKED: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("../../assets/common-passwords.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .chain(COMMON.iter().copied())
        .collect()
});

/// Which rule a new password breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PasswordProblem {
    /// Too short.
    #[error("The password needs at least 15 characters. A few words make a good one.")]
    TooShort,
    /// Too short even beside a second factor.
    #[error("The password needs at least 8 characters.")]
    FarTooShort,
    /// Too long to hash safely.
    #[error("The password may have up to 256 characters.")]
    TooLong,
    /// Too easy to guess.
    #[error("This password is one of the first that anybody would try. Choose another.")]
    Common,
}

/// Checks a new password: length first, no rules of composition (ASVS 5.0, 6.2). `context` is what a guesser knows: names of the officer,
/// of the site, of the product.
///
/// # Errors
/// Which rule it breaks.
pub fn check_new_password(
    password: &str,
    context: &[&str],
    second_factor: bool,
) -> Result<(), PasswordProblem> {
    let password: String = password.nfc().collect();
    let length = password.chars().count();
    match (second_factor, length) {
        (false, length) if length < ALONE => return Err(PasswordProblem::TooShort),
        (true, length) if length < BESIDE => return Err(PasswordProblem::FarTooShort),
        (_, length) if length > LONGEST => return Err(PasswordProblem::TooLong),
        _ => {}
    }
    let mut plain = password.to_lowercase();
    let distinct: BTreeSet<char> = plain.chars().collect();
    if distinct.len() < 5 || is_common(&plain) {
        return Err(PasswordProblem::Common);
    }
    // What remains when everything is taken away that a guesser knows.
    let mut words: Vec<String> = context
        .iter()
        .flat_map(|text| text.split(|c: char| !c.is_alphanumeric()))
        .chain(["sallyport", "password", "prison", "officer"])
        .filter(|word| word.chars().count() >= 3)
        .map(|word| word.nfc().collect::<String>().to_lowercase())
        .collect();
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    for word in words {
        plain = plain.replace(&word, "");
    }
    let rest = plain.chars().filter(|c| c.is_alphabetic()).count();
    if rest < BESIDE / 2 || is_common(&plain) {
        return Err(PasswordProblem::Common);
    }
    Ok(())
}

/// On the list: as it is, without digits and signs around it, or written several times.
fn is_common(plain: &str) -> bool {
    let around = |c: char| c.is_ascii_digit() || c.is_ascii_punctuation() || c.is_whitespace();
    [plain, plain.trim_matches(around)].into_iter().any(|text| {
        let letters: Vec<char> = text.chars().collect();
        let once = (1..=letters.len())
            .find(|period| {
                letters
                    .iter()
                    .zip(letters.iter().skip(*period))
                    .all(|(a, b)| a == b)
            })
            .unwrap_or(letters.len());
        let repeated = once < letters.len();
        let once: String = letters.into_iter().take(once).collect();
        let length = once.chars().count();
        length < 4
            || (repeated && length < BESIDE)
            || BLOCKED.contains(once.as_str())
            || BLOCKED.contains(text)
    })
}

fn argon2(rules: OfficerRules) -> Option<Argon2<'static>> {
    let memory_kib = rules.password_memory_mib.checked_mul(1_024)?;
    Params::new(memory_kib, rules.password_passes, 1, Some(32))
        .ok()
        .map(|params| Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

/// Is a stored hash weaker than what the rules ask for now?
fn is_weak(hash: &PasswordHash, rules: OfficerRules) -> bool {
    let parameter = |name: &str| {
        hash.params
            .get_decimal(name)
            .is_some_and(|value| match name {
                "m" => value >= rules.password_memory_mib.saturating_mul(1_024),
                _ => value >= rules.password_passes,
            })
    };
    hash.algorithm.as_str() != "argon2id" || !parameter("m") || !parameter("t")
}

/// The same password however a keyboard composes its accents (RFC 8265 asks for NFC).
fn composed(mut password: String) -> Zeroizing<String> {
    let composed = Zeroizing::new(password.nfc().collect());
    password.zeroize();
    composed
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let _seat = HASHING.acquire().await.ok()?;
    tokio::task::spawn_blocking(work).await.ok()
}

fn hash_now(password: &[u8], rules: OfficerRules) -> Option<String> {
    argon2(rules)?
        .hash_password(password)
        .ok()
        .map(|hash| hash.to_string())
}

/// PHC string of a new password.
pub(super) async fn hash(password: String, rules: OfficerRules) -> Option<String> {
    let password = composed(password);
    off_thread(move || hash_now(password.as_bytes(), rules)).await?
}

/// Is the password right, and if so, a new hash when the stored one is weaker than today's rules.
pub(super) async fn verify(
    password: String,
    stored: String,
    rules: OfficerRules,
) -> (bool, Option<String>) {
    let password = composed(password);
    let checked = off_thread(move || {
        let Ok(hash) = PasswordHash::new(&stored) else {
            return (false, None);
        };
        let right = Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok();
        let rehash = if right && is_weak(&hash, rules) {
            hash_now(password.as_bytes(), rules)
        } else {
            None
        };
        (right, rehash)
    });
    checked.await.unwrap_or((false, None))
}

/// The same work as [`verify`] for a name that does not exist.
pub(super) async fn verify_nobody(password: String, rules: OfficerRules) {
    let password = composed(password);
    off_thread(move || hash_now(password.as_bytes(), rules)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(password: &str) -> Result<(), PasswordProblem> {
        check_new_password(password, &["Alex Morgan", "goulburn-main"], false)
    }

    #[test]
    fn length_counts_alone_fifteen_beside_a_second_factor_eight() {
        assert_eq!(alone("short"), Err(PasswordProblem::TooShort));
        assert_eq!(alone("quietharbours1"), Err(PasswordProblem::TooShort));
        assert_eq!(alone("quietharbours12"), Ok(()));
        // Characters, not bytes.
        assert_eq!(alone("ÄÖÜßéàèìòùâêîôû"), Ok(()));
        let beside = |password: &str| check_new_password(password, &["Alex"], true);
        assert_eq!(beside("harbour"), Err(PasswordProblem::FarTooShort));
        assert_eq!(beside("harbqurt"), Ok(()));
        assert_eq!(alone("harbqurharbqurharbqur"), Err(PasswordProblem::Common));
        assert_eq!(alone(&"a quiet harbour in june ".repeat(5)[..120]), Ok(()));
        let long: String = ('a'..='z').cycle().step_by(7).take(256).collect();
        assert_eq!(alone(&long), Ok(()), "128 and more are allowed");
        assert_eq!(alone(&format!("{long}x")), Err(PasswordProblem::TooLong));
    }

    #[test]
    fn what_everybody_tries_first_is_refused() {
        assert!(BLOCKED.len() > 15_000);
        for common in [
            "PasswordPassword1!",
            "aaaaaaaaaaaaaaaa",
            "abcabcabcabcabcabc",
            "123456789012345",
            "123456789987654321",
            "sunshine1234567890",
            "!!!2026football2026",
            "dragondragondragon",
            "CorrectHorseBatteryStaple",
            "Alex.Morgan.1234567",
            "sallyport-goulburn",
            "sallyport-password-1",
            "Goulburn2026!!!!!!",
        ] {
            assert_eq!(alone(common), Err(PasswordProblem::Common), "{common}");
        }
        for good in [
            "a quiet harbour in june",
            "kettle-moss-forty-two",
            "Zwölf Boxkämpfer jagen",
        ] {
            assert_eq!(alone(good), Ok(()), "{good}");
        }
        let beside = |password: &str| check_new_password(password, &[], true);
        for common in [
            "baseball",
            "password1",
            "qwertyuiop",
            "Sunshine!",
            "iloveyou2",
        ] {
            assert_eq!(beside(common), Err(PasswordProblem::Common), "{common}");
        }
    }

    #[tokio::test]
    async fn a_hash_verifies_its_password_only_and_weak_ones_are_renewed() {
        let (today, floor) = (OfficerRules::default(), OfficerRules::FLOOR);
        let stored = hash("a quiet harbour in june".into(), today).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=65536,t=3,p=1$"));
        let right = verify("a quiet harbour in june".into(), stored.clone(), today).await;
        assert_eq!(right, (true, None));
        let right = verify("a quiet harbour in june".into(), stored.clone(), floor).await;
        assert_eq!(right, (true, None), "stronger than asked for stays");
        assert!(
            !verify("a quiet harbour in july".into(), stored, today)
                .await
                .0
        );
        let weak = hash("old".into(), floor).await.unwrap();
        assert!(weak.contains("m=19456,t=2,p=1"));
        let (right, renewed) = verify("old".into(), weak.clone(), today).await;
        assert!(right && renewed.unwrap().contains("m=65536,t=3"));
        assert_eq!(verify("new".into(), weak, today).await, (false, None));
        assert_eq!(
            verify("x".into(), "no hash".into(), today).await,
            (false, None)
        );
    }

    #[tokio::test]
    async fn accents_are_the_same_however_they_are_typed() {
        let rules = OfficerRules::FLOOR;
        let stored = hash("Zwo\u{308}lf".into(), rules).await.unwrap();
        assert!(verify("Zw\u{f6}lf".into(), stored, rules).await.0);
    }
}
