//! The documents of a Notary server: its API is below `/v2/` and hidden behind tokens as a registry's is, so what asks registries asks it, too.

use std::sync::Arc;

use super::access::{RegistryAccess, Transport};
use super::credentials::{Credentials, Logins};
use super::endpoint::{Ask, Capped, Endpoint, Purpose};
use super::registries::{AskedFor, Place};
use super::{Notes, SourceError};
use crate::reference::RegistryReference;

/// The most that is read of one document. Docker Hub's largest are of some MB.
pub(crate) const DOCUMENT_MAX_BYTES: u64 = 16 << 20;
const DOCUMENT: Capped = Capped { name: "trust document", max: DOCUMENT_MAX_BYTES };

/// The documents about one repository at a server.
pub(crate) struct NotaryServer<'a> {
    endpoint: Endpoint<'a>,
    repository: String,
}

impl<'a> NotaryServer<'a> {
    /// Opens them at `server`, a host with an optional port. Nothing is sent yet.
    pub(crate) async fn open(server: &str, image: &RegistryReference, access: &RegistryAccess, notes: Notes<'a>) -> Self {
        let repository = format!("{}/{}", image.registry(), image.repository());
        let reference = RegistryReference::at_trust_server(server, &repository);
        // As docker's client: there are no trust servers without TLS.
        let place = Place { reference, transport: Transport::Tls, asked_for: AskedFor::All };
        let endpoint = Endpoint::new(place, &Arc::new(access.clone()), Purpose::Pull, notes);
        // Who may read the image may read what is signed of it: the login is the registry's.
        let logins = Logins { files: &access.logins, search_path: &access.search_path, helper_limit: access.patience.helper };
        if let Some(Credentials::Password { user, password }) = logins.find(image, &notes).await {
            endpoint.use_login(&user, &password).await;
        }
        Self { endpoint, repository }
    }

    /// A document by its name without `.json`; `None` if the server has none of that name.
    pub(crate) async fn document(&self, name: &str) -> Result<Option<Vec<u8>>, SourceError> {
        let wanted = format!("`{name}.json` of `{}`", self.repository);
        let ask = Ask { document: Some(DOCUMENT), ..Ask::get(self.endpoint.path(&format!("_trust/tuf/{name}.json")), &wanted) };
        match self.endpoint.send(&ask).await {
            Ok(got) => Ok(Some(got.document)),
            Err(SourceError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
