//! Certificates beside the machine's own: authorities that the user names, and docker's `certs.d`, a folder a registry with its authorities (`*.crt`) and with
//! our own certificates (`*.cert` and `*.key`).

use std::fs;
use std::path::{Path, PathBuf};

use reqwest::{Certificate, ClientBuilder, Identity};

use super::HttpError;

/// The folders that there are for a registry.
pub(super) fn folders(parents: &[PathBuf], registry: &str) -> Vec<PathBuf> {
    parents.iter().map(|parent| parent.join(registry)).filter(|folder| folder.is_dir()).collect()
}

/// Trusts and shows what the folders hold.
pub(super) fn add(mut builder: ClientBuilder, folders: &[PathBuf]) -> Result<ClientBuilder, HttpError> {
    for folder in folders {
        for file in files(folder)? {
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => builder = add_authorities(builder, &file)?,
                Some("cert") => builder = builder.identity(identity(&file)?),
                _ => {}
            }
        }
    }
    Ok(builder)
}

/// Trusts the authorities in a file, beside those of this machine.
pub(super) fn add_authorities(builder: ClientBuilder, file: &Path) -> Result<ClientBuilder, HttpError> {
    let bundle = read(file)?;
    let authorities = Certificate::from_pem_bundle(&bundle).map_err(|error| unusable(file, error))?;
    if authorities.is_empty() {
        return Err(unusable(file, "there is no certificate in PEM form in it"));
    }
    Ok(builder.tls_certs_merge(authorities))
}

/// A certificate with the key beside it.
fn identity(certificate: &Path) -> Result<Identity, HttpError> {
    let key = certificate.with_extension("key");
    let mut both = read(certificate)?;
    both.push(b'\n');
    both.extend(read(&key)?);
    Identity::from_pem(&both).map_err(|error| unusable(certificate, error))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, HttpError> {
    let entries = fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut files: Vec<PathBuf> = entries.map_err(|error| unusable(folder, error))?;
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<Vec<u8>, HttpError> {
    fs::read(file).map_err(|error| unusable(file, error))
}

fn unusable(path: &Path, reason: impl ToString) -> HttpError {
    HttpError::Certificate { path: path.to_owned(), reason: reason.to_string() }
}
