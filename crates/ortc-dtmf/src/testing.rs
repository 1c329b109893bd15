//! Sound for tests.

use crate::generator::AMPLITUDE_0_DBM0;

/// Adds white noise of a level in dBm0.
pub(crate) fn noise(rng: &mut fastrand::Rng, dbm0: f64, samples: &mut [i16]) {
    // Twelve uniform numbers have a variance of one, and a sum that is nearly normal; a sine of
    // the same power has an amplitude of its square root of two.
    let deviation = AMPLITUDE_0_DBM0 * 10f64.powf(dbm0 / 20.0) / std::f64::consts::SQRT_2;
    for sample in samples {
        let normal: f64 = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
        *sample = (f64::from(*sample) + normal * deviation).round() as i16;
    }
}
