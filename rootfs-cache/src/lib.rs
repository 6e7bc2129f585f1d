//! rootfs-cache
pub mod digest;
pub mod rootfs;
pub mod store;
pub mod unpack;
pub mod manifest;
pub mod reference;
pub mod lock;
pub mod pull;
pub mod source;
