use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};

use super::*;

struct Signer {
    pair: EcdsaKeyPair,
    random: SystemRandom,
}

impl Signer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        Self { pair: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random).unwrap(), random }
    }

    fn key(&self) -> SignerKey {
        // The fixed head of a P-256 key in DER form.
        let head = STANDARD.decode("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgA=").unwrap();
        let der = [&head[..], self.pair.public_key().as_ref()].concat();
        SignerKey::from_pem(
            format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", wrapped(&STANDARD.encode(der))).as_bytes(),
        )
        .unwrap()
    }

    fn sign(&self, message: &[u8]) -> String {
        STANDARD.encode(self.pair.sign(&self.random, message).unwrap())
    }
}

fn wrapped(text: &str) -> String {
    text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect::<Vec<_>>().join("\n")
}

#[test]
fn payloads() {
    let (signer, image) = (Signer::new(), Digest::of(b"image"));
    let good = format!(
        r#"{{"critical":{{"identity":{{"docker-reference":"a/b"}},"image":{{"docker-manifest-digest":"{image}"}},"type":"{PAYLOAD_TYPE}"}},"optional":null}}"#
    );
    for (payload, wanted) in [
        (good.clone(), Ok(())),
        (good.replace(&image.to_string(), &Digest::of(b"other").to_string()), Err("it is for sha256:")),
        (good.replace(PAYLOAD_TYPE, "atomic container signature"), Err("it is a `atomic")),
        ("{}".to_owned(), Err("malformed")),
    ] {
        let signature = signer.sign(payload.as_bytes());
        let found = simple_signing(Some(&signature), payload.as_bytes(), &image, &signer.key());
        match (found, wanted) {
            (Ok(()), Ok(())) => {}
            (Err(found), Err(wanted)) => assert!(found.contains(wanted), "{found}"),
            (found, wanted) => panic!("{found:?} instead of {wanted:?}"),
        }
        // The signature is of these bytes and by this key.
        let changed = format!("{payload} ");
        assert_eq!(simple_signing(Some(&signature), changed.as_bytes(), &image, &signer.key()), Err("it is by another key".to_owned()));
        let other = Signer::new().key();
        assert_eq!(simple_signing(Some(&signature), payload.as_bytes(), &image, &other), Err("it is by another key".to_owned()));
    }
    assert!(simple_signing(None, good.as_bytes(), &image, &signer.key()).is_err());
    assert!(simple_signing(Some(&"?".to_owned()), good.as_bytes(), &image, &signer.key()).is_err());
}

#[test]
fn bundles_bind_their_type_and_their_statement() {
    let (signer, image) = (Signer::new(), Digest::of(b"image"));
    let statement =
        |predicate: &str, hex: &str| format!(r#"{{"subject":[{{"digest":{{"sha256":"{hex}"}}}}],"predicateType":"{predicate}"}}"#);
    let bundle = |payload: &str, kind: &str, signed_kind: &str| {
        let message = format!("DSSEv1 {} {signed_kind} {} {payload}", signed_kind.len(), payload.len());
        format!(
            r#"{{"dsseEnvelope":{{"payload":"{}","payloadType":"{kind}","signatures":[{{"sig":"{}"}}]}}}}"#,
            STANDARD.encode(payload),
            signer.sign(message.as_bytes())
        )
    };
    let good = statement(SIGN_PREDICATE, &image.hex());
    for (bundle, wanted) in [
        (bundle(&good, IN_TOTO, IN_TOTO), None),
        (bundle(&good, IN_TOTO, "text/plain"), Some("by another key")),
        (bundle(&good, "text/plain", "text/plain"), Some("`text/plain` in it")),
        (bundle(&statement("https://slsa.dev/provenance/v1", &image.hex()), IN_TOTO, IN_TOTO), Some("no signature of the image")),
        (bundle(&statement(SIGN_PREDICATE, &Digest::of(b"other").hex()), IN_TOTO, IN_TOTO), Some("about something else")),
        ("{}".to_owned(), Some("no envelope")),
        ("[".to_owned(), Some("malformed")),
    ] {
        let found = bundled(bundle.as_bytes(), &image, &signer.key());
        match (&found, wanted) {
            (Ok(()), None) => {}
            (Err(found), Some(wanted)) if found.contains(wanted) => {}
            _ => panic!("{found:?} instead of {wanted:?}"),
        }
    }
}
