//! What a program is started with, as a file in memory that the new process maps (`init/programs.rs`).
//!
//! Words of 8 bytes come first: how many there are; the working directory; each candidate's path; each candidate's list of arguments; these lists and the
//! environment, each ended by a zero. All but the first and the zeroes are offsets into the file. Strings follow, each ended by a NUL byte.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::sandbox::program::{Candidate, Search};
use crate::sandbox::sys;

/// The file, and what its reader must know of it.
pub(super) struct Strings {
    pub(super) file: OwnedFd,
    pub(super) length: u64,
    pub(super) candidates: u64,
    /// The word that the environment begins at.
    pub(super) environment: u64,
    pub(super) goes_on: bool,
}

impl Strings {
    pub(super) fn of((candidates, search): (&[Candidate], Search), environment: &[CString], working_dir: &CStr) -> io::Result<Self> {
        let written = written(candidates, environment, working_dir);
        let mut file = File::from(memfd_create(c"program", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        file.write_all(&written.bytes)?;
        fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
        Ok(Self {
            file: sys::above_standard(file.into())?,
            length: written.bytes.len() as u64,
            candidates: candidates.len() as u64,
            environment: written.environment as u64,
            goes_on: search == Search::Executable,
        })
    }
}

struct Written {
    bytes: Vec<u8>,
    environment: usize,
}

fn written(candidates: &[Candidate], environment: &[CString], working_dir: &CStr) -> Written {
    const WORD: usize = size_of::<u64>();
    let lists: usize = candidates.iter().map(|candidate| candidate.arguments.len() + 1).sum();
    let environment_at = 2 + 2 * candidates.len() + lists;
    let count = environment_at + environment.len() + 1;
    let mut words = Vec::with_capacity(count);
    let mut text = Vec::new();
    let mut string = |string: &CStr| {
        let offset = count * WORD + text.len();
        text.extend_from_slice(string.to_bytes_with_nul());
        offset
    };
    words.extend([count, string(working_dir)]);
    words.extend(candidates.iter().map(|candidate| string(&candidate.path)));
    let mut list_at = 2 + 2 * candidates.len();
    for candidate in candidates {
        words.push(list_at * WORD);
        list_at += candidate.arguments.len() + 1;
    }
    for list in candidates.iter().map(|candidate| candidate.arguments.as_slice()).chain([environment]) {
        words.extend(list.iter().map(|text| string(text)));
        words.push(0);
    }
    let mut bytes: Vec<u8> = words.into_iter().flat_map(|word| (word as u64).to_ne_bytes()).collect();
    bytes.append(&mut text);
    Written { bytes, environment: environment_at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_lead_to_strings() {
        let candidate = |path: &CStr, arguments: &[&CStr]| Candidate {
            path: path.into(),
            arguments: arguments.iter().map(|argument| CString::from(*argument)).collect(),
        };
        let candidates = [candidate(c"/a", &[c"a", c""]), candidate(c"/b", &[])];
        let environment = [c"X=1".to_owned(), c"Y=2".to_owned()];
        let Written { bytes, environment: at } = written(&candidates, &environment, c"/tmp");
        let word = |at: usize| u64::from_ne_bytes(bytes[8 * at..8 * at + 8].try_into().unwrap()) as usize;
        let string = |at: usize| CStr::from_bytes_until_nul(&bytes[word(at)..]).unwrap().to_str().unwrap();
        assert_eq!((string(1), string(2), string(3)), ("/tmp", "/a", "/b"));
        let list = |first: usize| (first..).take_while(|at| word(*at) != 0).map(string).collect::<Vec<_>>();
        assert_eq!((list(word(4) / 8), list(word(5) / 8), list(at)), (vec!["a", ""], vec![], vec!["X=1", "Y=2"]));
        assert_eq!(word(0), at + 3);
    }
}
