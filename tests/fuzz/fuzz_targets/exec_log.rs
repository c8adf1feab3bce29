#![no_main]
//! The reader of `exec.log`: any bytes as the log and as one that was rotated, any cursor.
//!
//! The input is split in two files. However the entries are asked for, they are the same ones; a
//! tail is the end of the whole; a cursor of an entry leads to what came after it.

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use msb_runtime::logs::{LogCursor, LogOptions, LogSource, read_logs, read_logs_snapshot};

/// A directory of this process, in memory.
fn dir() -> &'static PathBuf {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = PathBuf::from(format!("/dev/shm/fuzz-exec-log-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("memory");
        dir
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Some((tail, rest)) = bytes.split_first() else { return };
    let cut = rest.len() / 2;
    let (old, new) = rest.split_at(cut);
    std::fs::write(dir().join("exec.log.1"), old).expect("memory");
    std::fs::write(dir().join("exec.log"), new).expect("memory");
    if let Ok(text) = std::str::from_utf8(rest) {
        let _ = text.parse::<LogCursor>();
    }

    let sources = vec![LogSource::Stdout, LogSource::Stderr, LogSource::Output, LogSource::System];
    let options = LogOptions { sources, ..LogOptions::default() };
    let Ok(all) = read_logs_snapshot(dir(), &options) else { return };
    for entry in &all.entries {
        let again: LogCursor = entry.cursor.to_string().parse().expect("it was just written");
        assert_eq!(again, entry.cursor);
    }
    let wanted = usize::from(*tail);
    let some = LogOptions { tail: Some(wanted), ..options };
    let some = read_logs(dir(), &some).expect("the same files");
    let skipped = all.entries.len().saturating_sub(wanted);
    assert_eq!(some, all.entries[skipped..]);
});
