//! Does nothing: what a launch of it costs is the launch.

fn main() {}
