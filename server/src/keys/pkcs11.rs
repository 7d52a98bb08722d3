//! KEKs in a PKCS#11 token (an HSM): made there, never given out, wrapping computed there.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use super::{KeyEncryptionKey, KeyError, KeyProvider};

const TAG_BITS: u64 = 128;

/// A library may be initialised once in a process only.
fn module(path: &Path) -> Result<Pkcs11, KeyError> {
    static MODULES: OnceLock<Mutex<HashMap<PathBuf, Pkcs11>>> = OnceLock::new();
    let mut modules = MODULES
        .get_or_init(Mutex::default)
        .lock()
        .map_err(|_| KeyError::Token("its library is in an unknown state".to_owned()))?;
    if let Some(module) = modules.get(path) {
        return Ok(module.clone());
    }
    let module = Pkcs11::new(path).map_err(refused)?;
    module
        .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
        .map_err(refused)?;
    modules.insert(path.to_owned(), module.clone());
    Ok(module)
}

fn refused(error: Error) -> KeyError {
    KeyError::Token(
        if matches!(error, Error::Pkcs11(RvError::PinIncorrect, _)) {
            "the PIN is wrong".to_owned()
        } else if matches!(error, Error::Pkcs11(RvError::PinLocked, _)) {
            "the PIN is locked; the token's security officer must set it anew".to_owned()
        } else if matches!(error, Error::LibraryLoading(_)) {
            "its library cannot be loaded; is the path in registry.key right?".to_owned()
        } else {
            error.to_string()
        },
    )
}

struct Connection {
    module: Pkcs11,
    token: String,
    pin: Zeroizing<String>,
    session: Mutex<Option<Session>>,
}

impl Connection {
    fn session(&self) -> Result<Session, KeyError> {
        let slots = self.module.get_slots_with_token().map_err(refused)?;
        let slot = slots
            .into_iter()
            .find(|slot| {
                self.module
                    .get_token_info(*slot)
                    .is_ok_and(|info| info.label() == self.token)
            })
            .ok_or_else(|| KeyError::Token(format!("there is no token '{}'", self.token)))?;
        let session = self.module.open_rw_session(slot).map_err(refused)?;
        match session.login(UserType::User, Some(&AuthPin::from(self.pin.as_str()))) {
            // Sessions of one process share the login.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(error) => Err(refused(error)),
        }
    }

    /// Runs `work` on the session, and once more on a new one: a token that was restarted has forgotten the old.
    fn with<T>(&self, work: impl Fn(&Session) -> Result<T, Error>) -> Result<T, KeyError> {
        let mut held = self
            .session
            .lock()
            .map_err(|_| KeyError::Token("its session is in an unknown state".to_owned()))?;
        if let Some(session) = &*held {
            match work(session) {
                Ok(done) => return Ok(done),
                // Not the token's fault: the data does not fit.
                Err(
                    error @ Error::Pkcs11(
                        RvError::EncryptedDataInvalid | RvError::EncryptedDataLenRange,
                        _,
                    ),
                ) => return Err(refused(error)),
                Err(_) => {}
            }
        }
        *held = None;
        let session = held.insert(self.session()?);
        work(session).map_err(refused)
    }
}

/// The provider: one token, in which the KEKs have labels `sallyport/SITE/VERSION`.
pub(super) struct Token {
    connection: Arc<Connection>,
    site: String,
}

impl Token {
    pub(super) fn open(
        library: &Path,
        token: &str,
        site: &str,
        pin: &Zeroizing<String>,
    ) -> Result<Self, KeyError> {
        let connection = Connection {
            module: module(library)?,
            token: token.to_owned(),
            pin: Zeroizing::new(pin.trim_end().to_owned()),
            session: Mutex::new(None),
        };
        // Wrong PINs are said now, not at the first passage.
        connection.with(|_| Ok(()))?;
        Ok(Self {
            connection: Arc::new(connection),
            site: site.to_owned(),
        })
    }
}

fn find(session: &Session, label: &str) -> Result<Vec<ObjectHandle>, Error> {
    session.find_objects(&[
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Label(label.as_bytes().to_vec()),
    ])
}

impl KeyProvider for Token {
    fn create(&self, version: u32) -> Result<Zeroizing<String>, KeyError> {
        let label = format!("sallyport/{}/{version}", self.site);
        let taken = self
            .connection
            .with(|session| Ok(!find(session, &label)?.is_empty()))?;
        if taken {
            return Err(KeyError::Token(format!(
                "it holds a key '{label}' already; another installation of this site uses it. Use another token"
            )));
        }
        self.connection.with(|session| {
            session.generate_key(
                &Mechanism::AesKeyGen,
                &[
                    Attribute::Token(true),
                    Attribute::Private(true),
                    Attribute::Sensitive(true),
                    Attribute::Extractable(false),
                    Attribute::ValueLen(32.into()),
                    Attribute::Encrypt(true),
                    Attribute::Decrypt(true),
                    Attribute::Label(label.as_bytes().to_vec()),
                ],
            )
        })?;
        Ok(Zeroizing::new(label))
    }

    fn open(&self, _: u32, text: &str) -> Result<Box<dyn KeyEncryptionKey>, KeyError> {
        let found = self.connection.with(|session| find(session, text))?;
        if found.len() != 1 {
            return Err(KeyError::Token(format!(
                "it holds {} keys '{text}', not one",
                found.len()
            )));
        }
        Ok(Box::new(TokenKey {
            connection: self.connection.clone(),
            label: text.to_owned(),
        }))
    }

    fn destroy(&self, _: u32, text: &str) -> Result<(), KeyError> {
        self.connection.with(|session| {
            for key in find(session, text)? {
                session.destroy_object(key)?;
            }
            Ok(())
        })
    }
}

struct TokenKey {
    connection: Arc<Connection>,
    label: String,
}

impl TokenKey {
    fn with_key<T>(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        work: impl Fn(&Session, &Mechanism<'_>, ObjectHandle) -> Result<T, Error>,
    ) -> Result<T, KeyError> {
        self.connection.with(|session| {
            // Handles do not outlive a restart of the token; labels do.
            let key = find(session, &self.label)?
                .into_iter()
                .next()
                .ok_or(Error::Pkcs11(
                    RvError::KeyHandleInvalid,
                    cryptoki::context::Function::FindObjects,
                ))?;
            let mut nonce = *nonce;
            let parameters = GcmParams::new(&mut nonce, aad, TAG_BITS.into())?;
            work(session, &Mechanism::AesGcm(parameters), key)
        })
    }
}

impl KeyEncryptionKey for TokenKey {
    fn encrypt(&self, nonce: &[u8; 12], aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, KeyError> {
        self.with_key(nonce, aad, |session, mechanism, key| {
            session.encrypt(mechanism, key, plain)
        })
    }

    fn decrypt(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        self.with_key(nonce, aad, |session, mechanism, key| {
            session.decrypt(mechanism, key, ciphertext)
        })
        .map(Zeroizing::new)
    }
}
