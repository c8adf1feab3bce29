#![no_main]
//! The reader of a metrics page: any bytes as the page.

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use msb_runtime::metrics::MetricsReader;

fn page() -> &'static PathBuf {
    static PAGE: OnceLock<PathBuf> = OnceLock::new();
    PAGE.get_or_init(|| PathBuf::from(format!("/dev/shm/fuzz-metrics-{}", std::process::id())))
}

fuzz_target!(|bytes: &[u8]| {
    std::fs::write(page(), bytes).expect("memory");
    if let Ok(reader) = MetricsReader::open(page()) {
        let _ = reader.read();
    }
});
