//! Key encryption keys: made, unwrapped, and checked before they are used.
//!
//! Odd: a KEK has two checks. The key check value catches other bytes under the same
//! id. The canary catches a form or a binding that this version would compute
//! otherwise.

use std::{fmt, sync::Arc};

use ring::{aead::LessSafeKey, hmac, rand::SystemRandom};
use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use super::{
    Bits256, Error,
    envelope::{self, AssociatedData, Layer, Wrapped},
    random_bits,
    secrets_manager::{self, Managers, SecretsManager, WrappedKek},
};

const CHECK_VALUE_LENGTH: usize = 8;
const CANARY_TEXT: &[u8; 32] = b"archestra key-vault canary v1...";

/// What a KEK is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KekState {
    /// Being made known to the replicas. Opens only.
    Pending,
    /// Seals.
    Primary,
    /// Opens what it sealed before.
    DecryptOnly,
    /// Nothing needs it.
    Retired,
}

/// A KEK as the database keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KekRecord {
    pub(crate) id: String,
    /// What the secrets manager made of it.
    pub(crate) wrapped: WrappedKek,
    /// Eight bytes that only this KEK gives.
    pub(crate) check_value: Vec<u8>,
    /// A known text, wrapped by it.
    pub(crate) canary: Vec<u8>,
}

/// Why a stored KEK cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KekError {
    /// The secrets manager did not unwrap it.
    #[error("the secrets manager does not unwrap key encryption key {id}")]
    NotUnwrapped {
        /// Which.
        id: String,
        /// Why.
        source: secrets_manager::Error,
    },
    /// The unwrapped bytes are not those that the vault was set up with.
    #[error("key encryption key {id} is not the one that sealed this database: its check value differs")]
    WrongBytes {
        /// Which.
        id: String,
    },
    /// The right bytes do not open the canary.
    #[error("the canary of key encryption key {id} does not open: the database was changed")]
    WrongCanary {
        /// Which.
        id: String,
    },
    /// The system failed.
    #[error("key encryption key {id} cannot be made")]
    NotMade {
        /// Which.
        id: String,
        /// Why.
        source: Error,
    },
}

/// A KEK in memory.
pub(super) struct Kek {
    id: String,
    key: Box<LessSafeKey>,
}

impl Kek {
    pub(super) fn wrap(&self, random: &SystemRandom, bits: &Bits256, aad: &AssociatedData) -> Result<Vec<u8>, Error> {
        envelope::wrap(Layer::Dek, random, &self.key, &self.id, bits, aad)
    }

    pub(super) fn unwrap(&self, wrapped: &Wrapped<'_>, aad: &AssociatedData) -> Result<Bits256, Error> {
        // The name in a blob is not encrypted. Where it does not choose the key, as for a
        // canary, it must still be the right one.
        if wrapped.key_id != self.id {
            return Err(Error::NotAuthentic);
        }
        wrapped.unwrap(&self.key, aad)
    }
}

/// A KEK that passed its checks.
pub(crate) struct CheckedKek(Arc<Kek>);

impl fmt::Debug for CheckedKek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CheckedKek").field(&self.0.id).finish()
    }
}

impl CheckedKek {
    /// Makes a new KEK and has the secrets manager wrap it.
    pub(crate) async fn create(
        id: String,
        vault: Uuid,
        manager: &dyn SecretsManager,
    ) -> Result<(Self, KekRecord), KekError> {
        let not_made = |source| KekError::NotMade { id: id.clone(), source };
        let random = SystemRandom::new();
        let bits = random_bits(&random).map_err(not_made)?;
        let wrapped = manager
            .wrap(&bits, &secrets_manager::Context { vault, kek_id: &id })
            .await
            .map_err(|source| KekError::NotUnwrapped { id: id.clone(), source })?;
        let kek = Kek { id: id.clone(), key: envelope::aead_key(&bits).map_err(not_made)? };
        let canary = Bits256::new(*CANARY_TEXT);
        let canary = kek.wrap(&random, &canary, &canary_aad(vault, &id)).map_err(not_made)?;
        let record = KekRecord { id: id.clone(), wrapped, check_value: check_value(&bits), canary };
        Ok((Self(Arc::new(kek)), record))
    }

    /// Has the secrets manager unwrap a stored KEK, and checks that it is the right one.
    pub(crate) async fn open(record: &KekRecord, vault: Uuid, managers: &Managers) -> Result<Self, KekError> {
        let id = || record.id.clone();
        let bits = managers
            .unwrap(&record.wrapped, &secrets_manager::Context { vault, kek_id: &record.id })
            .await
            .map_err(|source| KekError::NotUnwrapped { id: id(), source })?;
        if !bool::from(check_value(&bits).ct_eq(&record.check_value)) {
            return Err(KekError::WrongBytes { id: id() });
        }
        let key = envelope::aead_key(&bits).map_err(|_| KekError::WrongBytes { id: id() })?;
        let kek = Kek { id: id(), key };
        let canary = Wrapped::parse(Layer::Dek, &record.canary)
            .and_then(|canary| kek.unwrap(&canary, &canary_aad(vault, &record.id)));
        if canary.is_ok_and(|text| text.as_slice() == CANARY_TEXT) {
            Ok(Self(Arc::new(kek)))
        } else {
            Err(KekError::WrongCanary { id: id() })
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.0.id
    }

    pub(super) fn kek(&self) -> &Kek {
        &self.0
    }

    pub(super) fn into_kek(self) -> Arc<Kek> {
        self.0
    }
}

fn check_value(bits: &Bits256) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, bits.as_slice());
    hmac::sign(&key, b"akv-kcv-v1").as_ref()[..CHECK_VALUE_LENGTH].to_vec()
}

fn canary_aad(vault: Uuid, kek_id: &str) -> AssociatedData {
    let mut aad = AssociatedData::new("akv/canary/v1");
    aad.add(vault.as_bytes());
    aad.add(kek_id.as_bytes());
    aad
}
