//! Keys of the layer cache: what a step is made of. Pure.
//!
//! Each step's key holds the one before, so that a key stands for everything that led to it; times and owners of files do not matter, contents and modes do.

use rootfs_cache::digest::Digest;

/// Grows by parts; two lists of parts never give one text.
#[derive(Debug, Clone)]
pub struct KeyText(Vec<u8>);

impl KeyText {
    /// Of a step of this kind, after the one with the key `parent`.
    pub fn after(parent: &Digest, kind: &str) -> Self {
        Self(Vec::new()).and(parent.hex()).and(kind)
    }

    /// With one more part.
    #[must_use]
    pub fn and(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        self.0.extend_from_slice(&(part.len() as u64).to_le_bytes());
        self.0.extend_from_slice(part);
        self
    }

    /// The key.
    pub fn key(&self) -> Digest {
        Digest::of(&self.0)
    }
}

/// The key that a stage begins with. The number changes when the same step would come to something else than before.
pub fn start(base: &str, platform: &str, epoch: u64) -> Digest {
    let nothing = Digest::of(b"undocked build 3");
    KeyText::after(&nothing, "from").and(base).and(platform).and(epoch.to_le_bytes()).key()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_where_anything_does() {
        let start = start("a", "linux/amd64", 0);
        let step = |kind: &str, parts: &[&str]| parts.iter().fold(KeyText::after(&start, kind), |text, part| text.and(part)).key();
        let keys = [step("run", &["a", "b"]), step("run", &["ab"]), step("run", &["a", "b", ""]), step("copy", &["a", "b"]), start];
        for (number, key) in keys.iter().enumerate() {
            assert!(!keys[..number].contains(key), "{number}");
        }
        assert_eq!(step("run", &["a", "b"]), keys[0]);
    }
}
