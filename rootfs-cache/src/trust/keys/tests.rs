use super::*;

fn key(keytype: &str, public: &[u8]) -> RawKey {
    RawKey { keytype: keytype.to_owned(), keyval: RawValue { public: STANDARD.encode(public) } }
}

/// A P-256 key of openssl's, as PEM.
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEqS7TTveZVKtTSurFZbm+Et8f9Vvh
VZZF/AIEEYbZDpIphiUqDkMxfmCuxaKTYtCuTXSEtgJKVk1DGOr96Rfnxg==
-----END PUBLIC KEY-----
";

#[test]
fn ids_are_those_of_notary() {
    // What Notary writes of a key, hashed by hand.
    let public = [7; 32];
    let text = format!(r#"{{"keytype":"ed25519","keyval":{{"private":null,"public":"{}"}}}}"#, STANDARD.encode(public));
    let id = key("ed25519", &public).id().unwrap();
    assert_eq!(id, KeyId(Digest::of(text.as_bytes())));
    assert_eq!(id.to_string().parse(), Ok(id));
    for bad in ["", "sha256:", "0", &"G".repeat(64), &"A".repeat(64), &"0".repeat(65)] {
        assert!(bad.parse::<KeyId>().is_err(), "{bad}");
    }
}

#[test]
fn kinds() {
    let (spki, fingerprint) = PublicKey::from_pem(PUBLIC.as_bytes()).unwrap();
    let (_, der) = pem::decode_vec(PUBLIC.trim().as_bytes()).unwrap();
    assert_eq!(fingerprint, Digest::of(&der));
    for (key, wanted) in [
        (key("ecdsa", &der), Ok(Algorithm::EcdsaP256)),
        (key("ed25519", &[1; 32]), Ok(Algorithm::Ed25519)),
        (key("ed25519", &[1; 31]), Err("31 bytes are none of Ed25519")),
        (key("rsa", &der), Err("none of the kind `rsa`")),
        (key("ecdsa", &der[..40]), Err("no public key")),
        (key("ecdsa-x509", PUBLIC.as_bytes()), Err("no public key")),
        (key("dsa", &der), Err("`dsa` are not supported")),
        (RawKey { keytype: "ecdsa".to_owned(), keyval: RawValue { public: "?".to_owned() } }, Err("no public key")),
    ] {
        match (key.read(), wanted) {
            (Ok(read), Ok(wanted)) => assert_eq!(read.algorithm, wanted),
            (Err(error), Err(wanted)) => assert!(error.to_string().contains(wanted), "{error}"),
            (read, wanted) => panic!("{read:?} instead of {wanted:?}"),
        }
    }
    assert!(key("ecdsa", &der).read().unwrap().is_same_key(&spki));
    for bad in ["", "x", &PUBLIC.replace("PUBLIC", "PRIVATE"), &PUBLIC[..80]] {
        assert!(PublicKey::from_pem(bad.as_bytes()).is_err(), "{bad}");
    }
}
