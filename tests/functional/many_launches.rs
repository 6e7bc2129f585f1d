//! Many sandboxes from one process: nothing piles up.

use runner::sandbox::Network;
use tests::launching::{Holdings, Scene, launch_many};
use tests::{place, skip};

/// As many as a test may take; `cargo bench --bench launch` makes 10,000 of them.
#[test]
fn launches_from_eight_threads_leave_nothing_behind() {
    if !skip::sandbox_can_run() {
        return;
    }
    let folder = place::scratch();
    let scene = Scene::make(folder.path());
    for network in [Network::Host, Network::None, Network::private()] {
        launch_many(&scene, network, 8, 80);
        let before = Holdings::now();
        launch_many(&scene, network, 8, 400);
        let after = Holdings::now();
        let counts = |of: &Holdings| (of.descriptors, of.mounts, of.processes);
        assert_eq!(counts(&after), counts(&before), "{network:?}");
        let grown = after.resident_bytes.saturating_sub(before.resident_bytes);
        assert!(grown < 4 << 20, "{network:?}: {grown} bytes more");
    }
}
