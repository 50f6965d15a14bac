//! Encrypts provider keys at rest.
//!
//! Three tiers: the secrets manager wraps a key encryption key (KEK), a KEK wraps one
//! random data key (DEK) per version of a secret, a DEK encrypts the provider key. The
//! associated data of both inner layers names the vault, the organization, the key, the
//! provider and the version, so a ciphertext moved to another row does not open.
//!
//! Everything is AES-256-GCM through ring with random 96-bit nonces. A DEK encrypts
//! once; a KEK at most [`WRAPS_MAX`] times (NIST SP 800-38D, section 8.3: 2^32).
//!
//! This module does not know where sealed bytes are stored, and it never logs.
//!
//! Odd: ring does not wipe its keys. They are boxed, and the binary's allocator wipes the
//! box when it is freed; until then a key's bytes live as long as its [`Sealer`].

mod envelope;
mod kek;
pub(crate) mod secrets_manager;

use std::{collections::BTreeMap, fmt, sync::Arc};

use ring::{
    hmac,
    rand::{SecureRandom as _, SystemRandom},
};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::key::{KeyId, KeyMaterial, OrganizationId, Provider};
use envelope::Layer;
use kek::Kek;

pub(crate) use kek::{CheckedKek, KekError, KekRecord, KekState};

/// How often a KEK may wrap before it refuses: a tenth below the bound of 2^32 random
/// nonces.
pub(crate) const WRAPS_MAX: i64 = 3_865_470_566;

/// How often a KEK may wrap before the operator is told to rotate it.
pub(crate) const WRAPS_WARN: i64 = 1 << 31;

/// 256 bits, in the clear. Wiped on drop.
pub(crate) type Bits256 = Zeroizing<[u8; 32]>;

/// Why something did not seal or open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The operating system gave no randomness. Nothing can be sealed.
    #[error("the system's random generator failed")]
    NoRandomness,
    /// The blob is not of a form that this version knows.
    #[error("the sealed value has an unknown form")]
    UnknownForm,
    /// The blob names a KEK that the keyring does not have.
    #[error("the key encryption key of the sealed value is not in the keyring")]
    UnknownKek,
    /// The blob was changed, moved from another row, or sealed under other keys.
    #[error("the sealed value does not belong here or was changed")]
    NotAuthentic,
}

/// What a sealed value is bound to. It opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Binding<'a> {
    pub(crate) organization: &'a OrganizationId,
    pub(crate) key: KeyId,
    pub(crate) provider: Provider,
    pub(crate) version: i64,
}

/// A provider key at rest.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// The provider key under its DEK.
    pub(crate) payload: Vec<u8>,
    /// The DEK under a KEK.
    pub(crate) dek: Vec<u8>,
    /// The KEK, which the blob of the DEK names too. Kept beside it so that rows can be
    /// counted by it.
    pub(crate) kek_id: String,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("kek_id", &self.kek_id).finish_non_exhaustive()
    }
}

/// Seals and opens, with the KEKs of one vault in memory. Never changes: other KEKs make
/// another sealer.
pub(crate) struct Sealer {
    vault: Uuid,
    keks: BTreeMap<String, Arc<Kek>>,
    fingerprints: hmac::Key,
    audit: AuditKey,
    random: SystemRandom,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("vault", &self.vault).field("keks", &self.keks.keys()).finish_non_exhaustive()
    }
}

impl Sealer {
    /// A sealer over unwrapped and checked KEKs.
    ///
    /// # Errors
    ///
    /// Every error of opening `fingerprint_key`.
    pub(crate) fn new(
        vault: Uuid,
        keks: impl IntoIterator<Item = CheckedKek>,
        fingerprint_key: &[u8],
    ) -> Result<Self, Error> {
        let keks: BTreeMap<_, _> = keks.into_iter().map(|kek| (kek.id().to_owned(), kek.into_kek())).collect();
        let bits = open_fingerprint_key(vault, &keks, fingerprint_key)?;
        let fingerprints = hmac::Key::new(hmac::HMAC_SHA256, bits.as_slice());
        let audit = AuditKey::new(vault, hmac::sign(&fingerprints, b"akv/audit-key/v1").as_ref());
        Ok(Self { vault, keks, fingerprints, audit, random: SystemRandom::new() })
    }

    /// The same with further KEKs.
    pub(crate) fn with(&self, keks: impl IntoIterator<Item = CheckedKek>) -> Self {
        let mut all = self.keks.clone();
        all.extend(keks.into_iter().map(|kek| (kek.id().to_owned(), kek.into_kek())));
        Self {
            vault: self.vault,
            keks: all,
            fingerprints: self.fingerprints.clone(),
            audit: self.audit.clone(),
            random: SystemRandom::new(),
        }
    }

    /// The vault that it seals for.
    pub(crate) fn vault(&self) -> Uuid {
        self.vault
    }

    /// What the audit log is written and checked with.
    pub(crate) fn audit_key(&self) -> &AuditKey {
        &self.audit
    }

    /// The ids of the KEKs that it has, sorted.
    pub(crate) fn kek_ids(&self) -> impl Iterator<Item = &str> {
        self.keks.keys().map(String::as_str)
    }

    /// Whether it has a KEK.
    pub(crate) fn knows(&self, kek_id: &str) -> bool {
        self.keks.contains_key(kek_id)
    }

    /// A new key for fingerprints, wrapped by `kek`. It outlives every KEK: rotation
    /// wraps it anew.
    pub(crate) fn new_fingerprint_key(vault: Uuid, kek: &CheckedKek) -> Result<Vec<u8>, Error> {
        let random = SystemRandom::new();
        let bits = random_bits(&random)?;
        kek.kek().wrap(&random, &bits, &fingerprint_aad(vault, kek.id()))
    }

    /// Encrypts `material` under a new DEK, bound to `binding`, and that under the KEK
    /// `kek_id`.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownKek`], [`Error::NoRandomness`]. Whether the KEK may still wrap is for
    /// the caller to count, against [`WRAPS_MAX`].
    pub(crate) fn seal(&self, kek_id: &str, binding: &Binding<'_>, material: &KeyMaterial) -> Result<Sealed, Error> {
        let kek = self.keks.get(kek_id).ok_or(Error::UnknownKek)?;
        let dek = random_bits(&self.random)?;
        let payload =
            envelope::seal_payload(&self.random, &dek, material.expose().as_bytes(), &self.payload_aad(binding))?;
        let dek = kek.wrap(&self.random, &dek, &self.dek_aad(binding, kek_id))?;
        Ok(Sealed { payload, dek, kek_id: kek_id.to_owned() })
    }

    /// Wraps the DEK of a sealed value with another KEK, after opening the value itself:
    /// what does not open stays as it is. Returns the wrapped DEK.
    ///
    /// # Errors
    ///
    /// Every variant of [`Error`].
    pub(crate) fn rewrap(&self, kek_id: &str, binding: &Binding<'_>, sealed: &Sealed) -> Result<Vec<u8>, Error> {
        let kek = self.keks.get(kek_id).ok_or(Error::UnknownKek)?;
        let dek = self.dek(binding, sealed)?;
        envelope::open_payload(&dek, &sealed.payload, &self.payload_aad(binding))?;
        kek.wrap(&self.random, &dek, &self.dek_aad(binding, kek_id))
    }

    /// Wraps the key of the fingerprints with another KEK.
    ///
    /// # Errors
    ///
    /// Every variant of [`Error`].
    pub(crate) fn rewrap_fingerprint_key(&self, kek_id: &str, wrapped: &[u8]) -> Result<Vec<u8>, Error> {
        let kek = self.keks.get(kek_id).ok_or(Error::UnknownKek)?;
        let bits = open_fingerprint_key(self.vault, &self.keks, wrapped)?;
        kek.wrap(&self.random, &bits, &fingerprint_aad(self.vault, kek_id))
    }

    /// A keyed hash of anything: tells two requests apart, and reveals neither.
    pub(crate) fn digest(&self, parts: [&[u8]; 2]) -> Vec<u8> {
        let mut message = envelope::AssociatedData::new("akv/request/v1");
        for part in parts {
            message.add(part);
        }
        hmac::sign(&self.fingerprints, message.as_ref()).as_ref().to_vec()
    }

    /// Decrypts what [`Sealer::seal`] made for the same binding.
    ///
    /// # Errors
    ///
    /// Every variant of [`Error`]: the value is of another form, from another place, or
    /// its KEK is not here.
    pub(crate) fn open(&self, binding: &Binding<'_>, sealed: &Sealed) -> Result<KeyMaterial, Error> {
        let dek = self.dek(binding, sealed)?;
        let mut text = envelope::open_payload(&dek, &sealed.payload, &self.payload_aad(binding))?;
        let text = String::from_utf8(std::mem::take(&mut *text)).map_err(|refused| {
            drop(Zeroizing::new(refused.into_bytes()));
            Error::NotAuthentic
        })?;
        KeyMaterial::try_from(text).map_err(|_| Error::NotAuthentic)
    }

    fn dek(&self, binding: &Binding<'_>, sealed: &Sealed) -> Result<Bits256, Error> {
        let wrapped = envelope::Wrapped::parse(Layer::Dek, &sealed.dek)?;
        if wrapped.key_id != sealed.kek_id {
            return Err(Error::NotAuthentic);
        }
        let kek = self.keks.get(wrapped.key_id).ok_or(Error::UnknownKek)?;
        kek.unwrap(&wrapped, &self.dek_aad(binding, wrapped.key_id))
    }

    /// Tells two keys of one organization and provider apart, and reveals neither:
    /// 16 bytes of HMAC-SHA256, in hexadecimal.
    pub(crate) fn fingerprint(
        &self,
        organization: &OrganizationId,
        provider: Provider,
        material: &KeyMaterial,
    ) -> String {
        let mut message = envelope::AssociatedData::new("akv/fingerprint/v1");
        message.add(organization.as_str().as_bytes());
        message.add(provider.name().as_bytes());
        message.add(material.expose().as_bytes());
        let tag = hmac::sign(&self.fingerprints, message.as_ref());
        hexadecimal(&tag.as_ref()[..16])
    }

    fn payload_aad(&self, binding: &Binding<'_>) -> envelope::AssociatedData {
        let mut aad = self.row_aad("akv/secret/v1", binding);
        aad.add(&[envelope::FORMAT, envelope::AES_256_GCM]);
        aad
    }

    fn dek_aad(&self, binding: &Binding<'_>, kek_id: &str) -> envelope::AssociatedData {
        let mut aad = self.row_aad("akv/dek/v1", binding);
        aad.add(&[envelope::FORMAT, envelope::AES_256_GCM]);
        aad.add(kek_id.as_bytes());
        aad
    }

    fn row_aad(&self, label: &str, binding: &Binding<'_>) -> envelope::AssociatedData {
        let mut aad = envelope::AssociatedData::new(label);
        aad.add(self.vault.as_bytes());
        aad.add(binding.organization.as_str().as_bytes());
        aad.add(binding.key.0.as_bytes());
        aad.add(binding.provider.name().as_bytes());
        aad.add(&binding.version.to_be_bytes());
        aad
    }
}

/// The key of a vault's audit log: HMAC-SHA256. Derived from the key of the fingerprints, so
/// it outlives every KEK and is the same in all replicas.
#[derive(Clone)]
pub(crate) struct AuditKey {
    vault: Uuid,
    key: hmac::Key,
}

impl AuditKey {
    pub(crate) fn new(vault: Uuid, bits: &[u8]) -> Self {
        Self { vault, key: hmac::Key::new(hmac::HMAC_SHA256, bits) }
    }

    /// The vault whose log it is for.
    pub(crate) fn vault(&self) -> Uuid {
        self.vault
    }

    /// The MAC of a message.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        hmac::sign(&self.key, message).as_ref().to_vec()
    }

    /// Whether a MAC is that of a message. Takes as long for every MAC.
    pub(crate) fn verify(&self, message: &[u8], mac: &[u8]) -> bool {
        hmac::verify(&self.key, message, mac).is_ok()
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditKey").field("vault", &self.vault).finish_non_exhaustive()
    }
}

fn open_fingerprint_key(
    vault: Uuid,
    keks: &BTreeMap<String, Arc<Kek>>,
    fingerprint_key: &[u8],
) -> Result<Bits256, Error> {
    let parsed = envelope::Wrapped::parse(Layer::Dek, fingerprint_key)?;
    let kek = keks.get(parsed.key_id).ok_or(Error::UnknownKek)?;
    kek.unwrap(&parsed, &fingerprint_aad(vault, parsed.key_id))
}

fn fingerprint_aad(vault: Uuid, kek_id: &str) -> envelope::AssociatedData {
    let mut aad = envelope::AssociatedData::new("akv/fingerprint-key/v1");
    aad.add(vault.as_bytes());
    aad.add(kek_id.as_bytes());
    aad
}

pub(crate) fn random_bits(random: &SystemRandom) -> Result<Bits256, Error> {
    let mut bits = Zeroizing::new([0; 32]);
    random.fill(bits.as_mut_slice()).map_err(|_| Error::NoRandomness)?;
    Ok(bits)
}

fn hexadecimal(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;
