//! The binary form of sealed values, and the bytes they are bound to.
//!
//! ```text
//! payload  "AKV" | format | algorithm | nonce[12] | ciphertext | tag[16]
//! DEK      "AKD" | format | algorithm | id length | id | nonce[12] | ciphertext[32] | tag[16]
//! KEK      "AKR" | the same as a DEK, with the id of the root key
//! ```
//!
//! Format and algorithm are one byte each, both 1. The id says which key opens the
//! value, so keys can be replaced while old values stay readable.

use ring::{
    aead::{AES_256_GCM as RING_AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom as _, SystemRandom},
};
use zeroize::Zeroizing;

use super::{Bits256, Error};

pub(super) const FORMAT: u8 = 1;
pub(super) const AES_256_GCM: u8 = 1;

/// Tag, format, algorithm.
const HEADER_LENGTH: usize = 5;
const TAG_LENGTH: usize = 16;
const KEY_LENGTH: usize = 32;

/// The longest id of a wrapping key.
pub(super) const KEY_ID_LENGTH_MAX: usize = 64;

const PAYLOAD_TAG: &[u8] = b"AKV";

/// Which key a wrapped key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layer {
    /// A data key under a KEK.
    Dek,
    /// A KEK under a root key of the local keyring.
    Kek,
}

impl Layer {
    fn tag(self) -> &'static [u8] {
        match self {
            Self::Dek => b"AKD",
            Self::Kek => b"AKR",
        }
    }
}

/// What a ciphertext is bound to: fields, each behind its length, so that no two lists
/// of fields give the same bytes.
pub(super) struct AssociatedData(Zeroizing<Vec<u8>>);

impl AssociatedData {
    pub(super) fn new(label: &str) -> Self {
        let mut data = Self(Zeroizing::new(Vec::with_capacity(256)));
        data.add(label.as_bytes());
        data
    }

    pub(super) fn add(&mut self, field: &[u8]) {
        // Fields are ids and keys of at most 512 bytes.
        let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(field);
    }
}

impl AsRef<[u8]> for AssociatedData {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// An AES-256-GCM key, boxed so that it has one place in memory.
pub(super) fn aead_key(bits: &Bits256) -> Result<Box<LessSafeKey>, Error> {
    let key = UnboundKey::new(&RING_AES_256_GCM, bits.as_slice()).map_err(|_| Error::UnknownForm)?;
    Ok(Box::new(LessSafeKey::new(key)))
}

/// Encrypts a provider key under its DEK.
pub(super) fn seal_payload(
    random: &SystemRandom,
    dek: &Bits256,
    text: &[u8],
    aad: &AssociatedData,
) -> Result<Vec<u8>, Error> {
    let mut blob = Vec::with_capacity(HEADER_LENGTH + NONCE_LEN + text.len() + TAG_LENGTH);
    blob.extend_from_slice(PAYLOAD_TAG);
    blob.extend_from_slice(&[FORMAT, AES_256_GCM]);
    append_sealed(random, &*aead_key(dek)?, text, aad, &mut blob)?;
    Ok(blob)
}

/// Decrypts what [`seal_payload`] made.
pub(super) fn open_payload(dek: &Bits256, blob: &[u8], aad: &AssociatedData) -> Result<Zeroizing<Vec<u8>>, Error> {
    let rest = after_header(PAYLOAD_TAG, blob)?;
    let (nonce, sealed) = rest.split_at_checked(NONCE_LEN).ok_or(Error::UnknownForm)?;
    open(&*aead_key(dek)?, nonce, sealed, aad)
}

/// Encrypts a key under another.
pub(super) fn wrap(
    layer: Layer,
    random: &SystemRandom,
    wrapping: &LessSafeKey,
    wrapping_id: &str,
    bits: &Bits256,
    aad: &AssociatedData,
) -> Result<Vec<u8>, Error> {
    let id_length = u8::try_from(wrapping_id.len()).map_err(|_| Error::UnknownForm)?;
    let mut blob = Vec::with_capacity(HEADER_LENGTH + 1 + wrapping_id.len() + NONCE_LEN + KEY_LENGTH + TAG_LENGTH);
    blob.extend_from_slice(layer.tag());
    blob.extend_from_slice(&[FORMAT, AES_256_GCM, id_length]);
    blob.extend_from_slice(wrapping_id.as_bytes());
    append_sealed(random, wrapping, bits.as_slice(), aad, &mut blob)?;
    Ok(blob)
}

/// A wrapped key, taken apart.
pub(super) struct Wrapped<'a> {
    /// The key that wrapped it.
    pub(super) key_id: &'a str,
    nonce: &'a [u8],
    sealed: &'a [u8],
}

impl<'a> Wrapped<'a> {
    pub(super) fn parse(layer: Layer, blob: &'a [u8]) -> Result<Self, Error> {
        let (&id_length, rest) = after_header(layer.tag(), blob)?.split_first().ok_or(Error::UnknownForm)?;
        let (id, rest) = rest.split_at_checked(id_length.into()).ok_or(Error::UnknownForm)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN).ok_or(Error::UnknownForm)?;
        let key_id = std::str::from_utf8(id).map_err(|_| Error::UnknownForm)?;
        if !is_key_id(key_id) || sealed.len() != KEY_LENGTH + TAG_LENGTH {
            return Err(Error::UnknownForm);
        }
        Ok(Self { key_id, nonce, sealed })
    }

    pub(super) fn unwrap(&self, wrapping: &LessSafeKey, aad: &AssociatedData) -> Result<Bits256, Error> {
        let plain = open(wrapping, self.nonce, self.sealed, aad)?;
        let mut bits = Zeroizing::new([0; KEY_LENGTH]);
        bits.copy_from_slice(plain.get(..KEY_LENGTH).ok_or(Error::UnknownForm)?);
        Ok(bits)
    }
}

/// Whether a text can name a wrapping key: 1 to 64 of `a-z 0-9 : . _ -`.
pub(super) fn is_key_id(id: &str) -> bool {
    (1..=KEY_ID_LENGTH_MAX).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b":._-".contains(&b))
}

fn after_header<'a>(tag: &[u8], blob: &'a [u8]) -> Result<&'a [u8], Error> {
    let rest = blob.strip_prefix(tag).ok_or(Error::UnknownForm)?;
    rest.strip_prefix(&[FORMAT, AES_256_GCM]).ok_or(Error::UnknownForm)
}

/// Appends nonce, ciphertext and tag to `blob`.
fn append_sealed(
    random: &SystemRandom,
    key: &LessSafeKey,
    plain: &[u8],
    aad: &AssociatedData,
    blob: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut nonce = [0; NONCE_LEN];
    random.fill(&mut nonce).map_err(|_| Error::NoRandomness)?;
    blob.extend_from_slice(&nonce);
    let start = blob.len();
    // Room for all of it was made by the caller, so the plain bytes are never copied on.
    blob.extend_from_slice(plain);
    let tag = key
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad.as_ref()),
            blob.get_mut(start..).unwrap_or_default(),
        )
        .map_err(|_| Error::NoRandomness)?;
    blob.extend_from_slice(tag.as_ref());
    Ok(())
}

fn open(key: &LessSafeKey, nonce: &[u8], sealed: &[u8], aad: &AssociatedData) -> Result<Zeroizing<Vec<u8>>, Error> {
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Error::UnknownForm)?;
    let mut buffer = Zeroizing::new(sealed.to_vec());
    let length = key
        .open_in_place(nonce, Aad::from(aad.as_ref()), buffer.as_mut_slice())
        .map_err(|_| Error::NotAuthentic)?
        .len();
    buffer.truncate(length);
    Ok(buffer)
}
