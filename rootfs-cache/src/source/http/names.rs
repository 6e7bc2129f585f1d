//! Names of hosts that a registry leads to, looked up so that none of them stands for this machine.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address;
use super::redirect::{is_near, without_port};

/// Looks a name up.
pub(super) type LookUp = fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;

/// As this machine does for every program.
pub(super) fn by_system(name: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
    // Whoever connects knows the port.
    Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
}

/// Looks up the names that a registry leads to, for connections to nowhere else.
pub(super) struct LedTo {
    /// The registry, without a port.
    registry: String,
    /// Hosts of proxies: where they are is the user's choice.
    proxies: Vec<String>,
    look_up: LookUp,
}

/// A name stands for this machine, and the registry that leads there does not.
#[derive(Debug)]
struct StandsHere;

impl fmt::Display for StandsHere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name stands for this machine")
    }
}

impl std::error::Error for StandsHere {}

impl LedTo {
    pub(super) fn new(registry: &str, proxies: Vec<String>, look_up: LookUp) -> Self {
        Self { registry: without_port(registry).to_owned(), proxies, look_up }
    }
}

impl Resolve for LedTo {
    fn resolve(&self, name: Name) -> Resolving {
        let (look_up, registry) = (self.look_up, self.registry.clone());
        let is_proxy = self.proxies.iter().any(|proxy| proxy == name.as_str());
        Box::pin(async move {
            let found = look_up(name.as_str().to_owned()).await?;
            if !is_proxy && found.iter().any(|found| is_near(found.ip())) && !is_here(&registry, look_up).await {
                return Err(StandsHere.into());
            }
            Ok::<Addrs, Box<dyn std::error::Error + Send + Sync>>(Box::new(found.into_iter()))
        })
    }
}

/// Whether a registry is on this machine, whatever it is called.
async fn is_here(registry: &str, look_up: LookUp) -> bool {
    match address(registry) {
        Some(address) => is_near(address),
        None => look_up(registry.to_owned()).await.is_ok_and(|found| found.iter().all(|found| is_near(found.ip()))),
    }
}

/// Whether a connection was refused by [`LedTo`].
pub(super) fn is_refused(error: &reqwest::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<StandsHere>() {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use reqwest::Method;
    use reqwest::header::HeaderMap;
    use tokio::net::TcpListener;

    use super::super::{Http, HttpError, Outgoing, RefusedTarget};
    use super::*;
    use crate::source::RegistryAccess;

    fn table(name: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let addresses: &[&str] = match name.as_str() {
            "registry.example" | "cdn.example" => &["192.0.2.1", "2001:db8::1"],
            "home.example" | "inner.example" => &["127.0.0.1"],
            "six.example" => &["::1"],
            "mapped.example" => &["::ffff:127.0.0.1"],
            "metadata.example" => &["169.254.169.254"],
            "one-of-them.example" => &["192.0.2.1", "127.0.0.1"],
            _ => &[],
        };
        let addresses = addresses.iter().map(|address| SocketAddr::new(address.parse().unwrap(), 0)).collect();
        Box::pin(async move { Ok(addresses) })
    }

    #[tokio::test]
    async fn names_that_stand_for_this_machine_are_for_registries_on_it() {
        for (registry, name, allowed) in [
            ("registry.example", "cdn.example", true),
            ("registry.example", "inner.example", false),
            ("registry.example:5000", "six.example", false),
            ("registry.example", "mapped.example", false),
            ("registry.example", "metadata.example", false),
            ("registry.example", "one-of-them.example", false),
            ("192.0.2.1:5000", "inner.example", false),
            ("one-of-them.example", "inner.example", false),
            ("home.example", "inner.example", true),
            ("127.0.0.1:5000", "inner.example", true),
            ("[::1]:5000", "inner.example", true),
            // A proxy's own name.
            ("registry.example", "home.example", true),
        ] {
            let names = LedTo::new(registry, vec!["home.example".to_owned()], table);
            assert_eq!(names.resolve(name.parse().unwrap()).await.is_ok(), allowed, "{registry} to {name}");
        }
    }

    #[tokio::test]
    async fn nobody_connects_to_a_name_that_stands_for_this_machine() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://inner.example:{}/layer", listener.local_addr().unwrap().port());
        let access = Arc::new(RegistryAccess::default());
        let http = Http { look_up: table, ..Http::new(&access, "registry.example") };
        let (method, headers) = (Method::GET, HeaderMap::new());
        let asked = Outgoing { method, url: url.parse().unwrap(), headers, authorization: None, body: None };
        match http.send(&asked).await {
            Err(HttpError::Refused { from, to, reason: RefusedTarget::Local }) => {
                assert_eq!((from.as_str(), to), ("registry.example", url))
            }
            other => panic!("{other:?}"),
        }
        tokio::select! {
            biased;
            _ = listener.accept() => panic!("somebody connected"),
            () = std::future::ready(()) => {}
        }
    }
}
