//! PAX extended headers: records of `length key=value\n` that override an entry's header fields.

use super::tar::{Mtime, TarError};

/// What the extended header before an entry says about it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Overrides {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Mtime>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Overrides {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, TarError> {
        let mut overrides = Self::default();
        for record in Records(bytes) {
            let (key, value) = record?;
            overrides.set(key, value)?;
        }
        Ok(overrides)
    }

    /// An empty value takes back what was said before.
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        let given = (!value.is_empty()).then_some(value);
        match key {
            b"path" => self.path = given.map(<[u8]>::to_vec),
            b"linkpath" => self.link_path = given.map(<[u8]>::to_vec),
            b"size" => {
                self.size = given
                    .map(|value| decimal(value).filter(|size| i64::try_from(*size).is_ok()).ok_or(TarError::Number("size")))
                    .transpose()?
            }
            b"uid" => self.uid = given.map(owner).transpose()?,
            b"gid" => self.gid = given.map(owner).transpose()?,
            b"mtime" => self.mtime = given.map(|value| time(value).ok_or(TarError::Number("mtime"))).transpose()?,
            _ if key.starts_with(b"GNU.sparse.") => return Err(TarError::Sparse),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.retain(|(known, _)| known != name);
                    self.xattrs.extend(given.map(|value| (name.to_vec(), value.to_vec())));
                }
            }
        }
        Ok(())
    }
}

/// Go's reader ignores global headers. So do we, but refuse those that another reader would rename or resize entries by.
pub(super) fn check_global(bytes: &[u8]) -> Result<(), TarError> {
    for record in Records(bytes) {
        let (key, value) = record?;
        let telling = matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.");
        if telling && !value.is_empty() {
            return Err(TarError::Global(String::from_utf8_lossy(key).into_owned()));
        }
    }
    Ok(())
}

/// Splits a header into records. One that is malformed ends the iteration with an error: to skip it would be to guess.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), TarError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let record = split_record(self.0);
        self.0 = record.map_or(&[], |(_, _, rest)| rest);
        Some(record.map(|(key, value, _)| (key, value)).ok_or(TarError::Pax))
    }
}

fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|&byte| byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|&byte| byte == b'=')?;
    (equals > 0).then(|| (&record[..equals], &record[equals + 1..], rest))
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |sum, digit| match digit {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// As in the header: recorded, never applied.
fn owner(value: &[u8]) -> Result<u32, TarError> {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    decimal(digits).ok_or(TarError::Number("owner"))?;
    Ok(decimal(value).and_then(|id| u32::try_from(id).ok()).unwrap_or(u32::MAX))
}

/// Seconds with an optional sign and fraction; digits past the ninth are dropped.
fn time(value: &[u8]) -> Option<Mtime> {
    let (negative, value) = value.strip_prefix(b"-").map_or((false, value), |value| (true, value));
    let mut parts = value.splitn(2, |&byte| byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or(b"0");
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanos = (0..9).fold(0, |sum, at| sum * 10 + u32::from(fraction.get(at).map_or(0, |digit| digit - b'0')));
    Some(match (negative, nanos) {
        (false, _) => Mtime { seconds, nanos },
        (true, 0) => Mtime { seconds: -seconds, nanos },
        (true, _) => Mtime { seconds: -seconds - 1, nanos: 1_000_000_000 - nanos },
    })
}
