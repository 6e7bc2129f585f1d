//! Tar archives byte by byte, so that a test can also write what no honest archiver would.

/// Entry types, as the header has them.
pub mod kind {
    #![expect(missing_docs, reason = "the names say it")]
    pub const FILE: u8 = b'0';
    pub const HARD_LINK: u8 = b'1';
    pub const SYMLINK: u8 = b'2';
    pub const CHARACTER_DEVICE: u8 = b'3';
    pub const FOLDER: u8 = b'5';
    pub const FIFO: u8 = b'6';
    pub const PAX: u8 = b'x';
    pub const PAX_GLOBAL: u8 = b'g';
    pub const GNU_LONG_NAME: u8 = b'L';
    pub const GNU_LONG_LINK: u8 = b'K';
}

/// One entry's header before it becomes bytes.
#[derive(Clone)]
pub struct Header {
    /// Path, raw bytes; at most 100 fit.
    pub path: Vec<u8>,
    /// One of [`kind`].
    pub kind: u8,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What the size field says; `None` means the length of the data.
    pub size: Option<u64>,
    /// Target of a link.
    pub link: Vec<u8>,
    /// Time of modification, in seconds since 1970.
    pub mtime: u64,
}

impl Header {
    /// A header of a kind, owned by root, mode 644 (755 for folders).
    pub fn new(kind: u8, path: impl AsRef<[u8]>) -> Header {
        let mode = if kind == kind::FOLDER { 0o755 } else { 0o644 };
        Header { path: path.as_ref().to_vec(), kind, mode, uid: 0, gid: 0, size: None, link: Vec::new(), mtime: 1_600_000_000 }
    }

    /// With permission bits.
    pub fn mode(mut self, mode: u32) -> Header {
        self.mode = mode;
        self
    }

    /// With a link's target.
    pub fn link(mut self, target: impl AsRef<[u8]>) -> Header {
        self.link = target.as_ref().to_vec();
        self
    }

    /// With a time of modification.
    pub fn mtime(mut self, seconds: u64) -> Header {
        self.mtime = seconds;
        self
    }

    fn to_bytes(&self, data_length: usize) -> [u8; 512] {
        let mut block = [0u8; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.path[..self.path.len().min(100)]);
        put(100, format!("{:07o}", self.mode).as_bytes());
        put(108, format!("{:07o}", self.uid).as_bytes());
        put(116, format!("{:07o}", self.gid).as_bytes());
        put(124, format!("{:011o}", self.size.unwrap_or(data_length as u64)).as_bytes());
        put(136, format!("{:011o}", self.mtime).as_bytes());
        put(148, b"        ");
        put(156, &[self.kind]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

/// An archive under construction.
#[derive(Clone, Default)]
pub struct Tar(Vec<u8>);

impl Tar {
    /// An empty one.
    pub fn new() -> Tar {
        Tar::default()
    }

    /// Any entry, exactly as its header says.
    pub fn entry(mut self, header: &Header, data: &[u8]) -> Tar {
        self.0.extend_from_slice(&header.to_bytes(data.len()));
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// A folder, mode 755.
    pub fn folder(self, path: &str) -> Tar {
        self.entry(&Header::new(kind::FOLDER, path), b"")
    }

    /// A file, mode 644.
    pub fn file(self, path: &str, data: impl AsRef<[u8]>) -> Tar {
        self.entry(&Header::new(kind::FILE, path), data.as_ref())
    }

    /// A file, mode 755.
    pub fn program(self, path: &str, data: impl AsRef<[u8]>) -> Tar {
        self.entry(&Header::new(kind::FILE, path).mode(0o755), data.as_ref())
    }

    /// A symbolic link.
    pub fn symlink(self, path: &str, target: &str) -> Tar {
        self.entry(&Header::new(kind::SYMLINK, path).mode(0o777).link(target), b"")
    }

    /// A hard link.
    pub fn hard_link(self, path: &str, target: &str) -> Tar {
        self.entry(&Header::new(kind::HARD_LINK, path).link(target), b"")
    }

    /// A PAX header for the next entry, its records well formed.
    pub fn pax(self, records: &[(&str, &str)]) -> Tar {
        let data: String = records.iter().map(|(key, value)| pax_record(key, value)).collect();
        self.entry(&Header::new(kind::PAX, "pax"), data.as_bytes())
    }

    /// The archive, ended by two zero blocks.
    pub fn finish(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}

/// `LENGTH KEY=VALUE\n`, where the length counts itself.
pub fn pax_record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len();
    loop {
        let text = format!("{length}{rest}");
        if text.len() == length {
            return text;
        }
        length = text.len();
    }
}
