//! One target of `ortc_fuzz` under libFuzzer: which, the environment says.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use ortc_fuzz::Target;

static TARGET: OnceLock<&Target> = OnceLock::new();

fuzz_target!(|data: &[u8]| {
    let target = TARGET.get_or_init(|| {
        let name = std::env::var("ORTC_FUZZ_TARGET").expect("`cargo xtask fuzz` names the target");
        ortc_fuzz::target(&name).expect("`cargo xtask fuzz` knows the targets")
    });
    (target.run)(data);
});
