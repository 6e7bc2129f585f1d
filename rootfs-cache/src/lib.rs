//! rootfs-cache
pub mod digest;
pub mod export;
pub mod local;
pub mod lock;
pub mod made;
pub mod manifest;
pub mod pull;
pub mod reference;
pub mod rootfs;
pub mod source;
pub mod store;
pub mod trust;
pub mod unpack;
