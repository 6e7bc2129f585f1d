//! Public keys: their ids, where they come from, and what they have signed.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use serde::Deserialize;
use x509_cert::Certificate;
use x509_cert::der::asn1::{Any, BitString};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, DecodePem, Encode, pem};
use x509_cert::spki::SubjectPublicKeyInfo;

use super::canonical;
use crate::digest::Digest;

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

type Spki = SubjectPublicKeyInfo<Any, BitString>;

/// A key's id: the SHA-256 of what Notary writes of it, as 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Digest);

/// Why a text is no key id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a key id: 64 lower-case hex digits are wanted")]
pub struct ParseKeyIdError(String);

impl FromStr for KeyId {
    type Err = ParseKeyIdError;

    fn from_str(text: &str) -> Result<Self, ParseKeyIdError> {
        format!("sha256:{text}").parse().map(Self).map_err(|_| ParseKeyIdError(text.to_owned()))
    }
}

impl KeyId {
    fn of(keytype: &str, public: &[u8]) -> Self {
        let mut bytes = b"{\"keytype\":".to_vec();
        canonical::write_string(keytype, &mut bytes);
        bytes.extend_from_slice(b",\"keyval\":{\"private\":null,\"public\":");
        canonical::write_string(&STANDARD.encode(public), &mut bytes);
        bytes.extend_from_slice(b"}}");
        Self(Digest::of(&bytes))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.hex())
    }
}

/// What is wrong with a key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// It cannot be read at all.
    #[error("it is no public key: {0}")]
    Malformed(String),
    /// It is of a kind that we do not know.
    #[error("keys of the kind {0} are not supported")]
    Kind(String),
}

/// A key as it stands in metadata.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RawKey {
    keytype: String,
    keyval: RawValue,
}

#[derive(Debug, Clone, Deserialize)]
struct RawValue {
    public: String,
}

/// What a certificate says beside its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certified {
    pub(super) common_name: String,
    pub(super) not_before: DateTime<Utc>,
    pub(super) not_after: DateTime<Utc>,
}

/// How a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    EcdsaP256,
    EcdsaP384,
    Rsa,
    Ed25519,
}

/// A public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PublicKey {
    algorithm: Algorithm,
    /// As the crypto library takes it: a point, a PKCS#1 key, 32 bytes.
    material: Vec<u8>,
    /// The id of the bare key, by which docker tells signers apart.
    pub(super) bare_id: KeyId,
    /// For keys that come in a certificate.
    pub(super) certified: Option<Certified>,
}

impl RawKey {
    /// The id that this key has, whatever name it stands under.
    pub(super) fn id(&self) -> Result<KeyId, KeyError> {
        // Notary decodes the key and writes it again.
        Ok(KeyId::of(&self.keytype, &self.public()?))
    }

    pub(super) fn read(&self) -> Result<PublicKey, KeyError> {
        let public = self.public()?;
        let key = match self.keytype.as_str() {
            "ecdsa" | "rsa" => PublicKey::from_spki(&public)?,
            "ecdsa-x509" | "rsa-x509" => PublicKey::from_certificate(&public)?,
            "ed25519" if public.len() == 32 => {
                PublicKey { algorithm: Algorithm::Ed25519, bare_id: KeyId::of("ed25519", &public), material: public, certified: None }
            }
            "ed25519" => return Err(KeyError::Malformed(format!("{} bytes are none of Ed25519", public.len()))),
            other => return Err(KeyError::Kind(format!("`{other}`"))),
        };
        let fits = match key.algorithm {
            Algorithm::EcdsaP256 | Algorithm::EcdsaP384 => self.keytype.starts_with("ecdsa"),
            Algorithm::Rsa => self.keytype.starts_with("rsa"),
            Algorithm::Ed25519 => self.keytype == "ed25519",
        };
        if fits { Ok(key) } else { Err(KeyError::Malformed(format!("it is none of the kind `{}`", self.keytype))) }
    }

    fn public(&self) -> Result<Vec<u8>, KeyError> {
        STANDARD.decode(&self.keyval.public).map_err(|error| KeyError::Malformed(error.to_string()))
    }
}

impl PublicKey {
    /// From a PEM file with a public key or a certificate.
    pub(super) fn from_pem(bytes: &[u8]) -> Result<(Self, Digest), KeyError> {
        let (label, document) = pem::decode_vec(bytes.trim_ascii()).map_err(|error| KeyError::Malformed(error.to_string()))?;
        let spki = match label {
            "PUBLIC KEY" => document,
            "CERTIFICATE" => certificate(bytes)?.tbs_certificate().subject_public_key_info().to_der().map_err(malformed)?,
            other => return Err(KeyError::Malformed(format!("`{other}` is in the file, and `PUBLIC KEY` is wanted"))),
        };
        Ok((Self::from_spki(&spki)?, Digest::of(&spki)))
    }

    fn from_certificate(bytes: &[u8]) -> Result<Self, KeyError> {
        let certificate = certificate(bytes)?;
        let certificate = certificate.tbs_certificate();
        let names: Vec<String> = certificate
            .subject()
            .iter_rdn()
            .flat_map(|name| name.iter())
            .filter(|attribute| attribute.oid == COMMON_NAME)
            .map(|attribute| String::from_utf8_lossy(attribute.value.value()).into_owned())
            .collect();
        let [common_name] = <[String; 1]>::try_from(names)
            .map_err(|names| KeyError::Malformed(format!("its certificate has {} common names, and one is wanted", names.len())))?;
        let validity = certificate.validity();
        let instant = |time: x509_cert::time::Time| DateTime::<Utc>::from(time.to_system_time());
        let certified = Certified { common_name, not_before: instant(validity.not_before), not_after: instant(validity.not_after) };
        let spki = certificate.subject_public_key_info().to_der().map_err(malformed)?;
        Ok(Self { certified: Some(certified), ..Self::from_spki(&spki)? })
    }

    fn from_spki(bytes: &[u8]) -> Result<Self, KeyError> {
        let spki = Spki::from_der(bytes).map_err(malformed)?;
        let material = spki.subject_public_key.as_bytes().ok_or_else(|| KeyError::Malformed("it has odd bits".to_owned()))?.to_vec();
        let algorithm = match spki.algorithm.oid {
            EC => {
                let curve = spki.algorithm.parameters.as_ref().and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
                match curve {
                    Some(P256) => Algorithm::EcdsaP256,
                    Some(P384) => Algorithm::EcdsaP384,
                    Some(other) => return Err(KeyError::Kind(format!("EC on the curve {other}"))),
                    None => return Err(KeyError::Malformed("it names no curve".to_owned())),
                }
            }
            RSA => Algorithm::Rsa,
            ED25519 => Algorithm::Ed25519,
            other => return Err(KeyError::Kind(other.to_string())),
        };
        let keytype = match algorithm {
            Algorithm::EcdsaP256 | Algorithm::EcdsaP384 => "ecdsa",
            Algorithm::Rsa => "rsa",
            Algorithm::Ed25519 => "ed25519",
        };
        Ok(Self { algorithm, material, bare_id: KeyId::of(keytype, bytes), certified: None })
    }

    /// Whether both are the same key, whatever certificates they come in.
    pub(super) fn is_same_key(&self, other: &Self) -> bool {
        self.algorithm == other.algorithm && self.material == other.material
    }

    /// Whether a signature of Notary's, made by `method`, is this key's.
    pub(super) fn has_signed(&self, message: &[u8], method: &str, signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match (self.algorithm, method) {
            (Algorithm::EcdsaP256, "ecdsa") => &signature::ECDSA_P256_SHA256_FIXED,
            (Algorithm::Ed25519, "eddsa") => &signature::ED25519,
            (Algorithm::Rsa, "rsapss") => &signature::RSA_PSS_2048_8192_SHA256,
            (Algorithm::Rsa, "rsapkcs1v15") => &signature::RSA_PKCS1_2048_8192_SHA256,
            _ => return false,
        };
        self.verify(algorithm, message, signature)
    }

    /// Whether a signature in the forms that sigstore uses is this key's: SHA-256 whatever the curve, ASN.1, PKCS#1 v1.5.
    pub(super) fn has_signed_as_sigstore(&self, message: &[u8], signature: &[u8]) -> bool {
        let algorithm: &'static dyn VerificationAlgorithm = match self.algorithm {
            Algorithm::EcdsaP256 => &signature::ECDSA_P256_SHA256_ASN1,
            Algorithm::EcdsaP384 => &signature::ECDSA_P384_SHA256_ASN1,
            Algorithm::Rsa => &signature::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Ed25519 => &signature::ED25519,
        };
        // Newer signers take the hash that is as long as the curve.
        self.verify(algorithm, message, signature)
            || (self.algorithm == Algorithm::EcdsaP384 && self.verify(&signature::ECDSA_P384_SHA384_ASN1, message, signature))
    }

    fn verify(&self, algorithm: &'static dyn VerificationAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(algorithm, &self.material).verify(message, signature).is_ok()
    }
}

fn certificate(pem: &[u8]) -> Result<Certificate, KeyError> {
    Certificate::from_pem(pem.trim_ascii()).map_err(malformed)
}

fn malformed(error: x509_cert::der::Error) -> KeyError {
    KeyError::Malformed(error.to_string())
}

#[cfg(test)]
mod tests;
