//! Ten thousand connections come and go: a test of its own, since what it counts belongs to the
//! whole process. `cargo xtask soak` goes on for as long as one likes.
#![cfg(target_os = "linux")]

mod counting;

use counting::live_everywhere;
use ortc_tests::soak::{Soak, Until, growth};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_leave_nothing_behind() {
    let mut soak = Soak::begin(live_everywhere).await.unwrap();
    let samples = soak.run(Until::Connections(10_000), 180, |_| {}).await.unwrap();
    let growth = growth(&samples).unwrap();
    soak.end().await;
    assert!(growth.connections >= 5_000, "{growth:?}");
    assert!(growth.allocated_per_connection < 16.0, "{growth:?}\n{samples:#?}");
    assert!(growth.resident_per_connection < 512.0, "{growth:?}\n{samples:#?}");
    assert_eq!((growth.descriptors, growth.threads, growth.tasks), (0, 0, 0), "{samples:#?}");
}
