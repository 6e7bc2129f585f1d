//! A throw-away certificate authority, and a proxy that tunnels.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::{fs, thread};

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lasting {
    /// Today.
    Now,
    /// Only years ago.
    Before,
    /// Not before years have passed.
    Later,
}

/// A certificate and its key.
pub struct Certificate {
    /// In PEM form.
    pub certificate: PathBuf,
    /// In PEM form.
    pub key: PathBuf,
}

/// An authority that nobody knows.
pub struct Authority {
    folder: PathBuf,
    file: PathBuf,
}

impl Authority {
    /// Makes one in a folder.
    ///
    /// # Panics
    /// When openssl fails.
    pub fn create(folder: &Path) -> Authority {
        let authority = Authority { folder: folder.to_owned(), file: folder.join("authority.pem") };
        fs::write(folder.join("index.txt"), "").expect("written");
        let config = format!(
            "[ca]\ndefault_ca = own\n[own]\ndatabase = {0}/index.txt\nnew_certs_dir = {0}\nrand_serial = yes\nunique_subject = no\ndefault_md = sha256\npolicy = any\n\
             copy_extensions = copy\n[any]\ncommonName = supplied\n",
            folder.display()
        );
        fs::write(folder.join("authority.conf"), config).expect("written");
        let key =
            ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3", "-subj", "/CN=test authority"];
        authority.openssl(&[&key[..], &["-keyout", "authority.key", "-out", "authority.pem"]].concat());
        authority
    }

    /// Its certificate.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A certificate for a host, and for loopback.
    ///
    /// # Panics
    /// When openssl fails.
    pub fn certificate(&self, host: &str, lasting: Lasting) -> Certificate {
        let subject = format!("/CN={host}");
        let names = format!("subjectAltName=DNS:{host},DNS:localhost,IP:127.0.0.1");
        let request = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", &subject, "-addext", &names];
        self.openssl(&[&request[..], &["-keyout", &format!("{host}.key"), "-out", "host.csr"]].concat());
        let dates: &[&str] = match lasting {
            Lasting::Now => &["-days", "2"],
            Lasting::Before => &["-startdate", "20100101000000Z", "-enddate", "20110101000000Z"],
            Lasting::Later => &["-startdate", "20400101000000Z", "-enddate", "20450101000000Z"],
        };
        let sign = ["ca", "-batch", "-notext", "-config", "authority.conf", "-cert", "authority.pem", "-keyfile", "authority.key"];
        self.openssl(&[&sign[..], dates, &["-in", "host.csr", "-out", &format!("{host}.pem")]].concat());
        Certificate { certificate: self.folder.join(format!("{host}.pem")), key: self.folder.join(format!("{host}.key")) }
    }

    fn openssl(&self, arguments: &[&str]) {
        let done = Command::new("openssl").args(arguments).current_dir(&self.folder).output().expect("openssl starts");
        assert!(done.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

/// A proxy that answers `CONNECT` with a tunnel to one place, whatever host it is asked for.
pub struct TunnelProxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl TunnelProxy {
    /// Starts one that leads to `target`.
    ///
    /// # Panics
    /// When loopback has no free port.
    pub fn start(target: &str) -> TunnelProxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (record, target) = (Arc::clone(&asked), target.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (record, target) = (Arc::clone(&record), target.clone());
                thread::spawn(move || tunnel(client, &target, &record).is_ok());
            }
        });
        TunnelProxy { address, asked }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The first lines of all requests so far.
    ///
    /// # Panics
    /// When a serving thread has.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no holder panics").clone()
    }
}

fn tunnel(client: TcpStream, target: &str, asked: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    asked.lock().expect("no holder panics").push(first.trim_end().to_owned());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
    }
    if !first.starts_with("CONNECT ") {
        return (&client).write_all(b"HTTP/1.1 405 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let server = TcpStream::connect(target)?;
    (&client).write_all(b"HTTP/1.1 200 X\r\n\r\n")?;
    let (mut to_server, mut from_server, mut to_client) = (server.try_clone()?, server, client);
    // A client sends nothing before it has its answer, so the reader holds nothing more.
    let up = thread::spawn(move || io::copy(&mut reader, &mut to_server).and_then(|_| to_server.shutdown(Shutdown::Write)));
    io::copy(&mut from_server, &mut to_client)?;
    to_client.shutdown(Shutdown::Both)?;
    up.join().map_or(Ok(()), |done| done.or(Ok(())))
}
