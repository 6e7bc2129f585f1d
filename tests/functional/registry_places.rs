//! Where registries are and by what they are reached: mirrors, proxies, authorities, logins.
