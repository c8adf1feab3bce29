//! One line of the file, to and from bytes.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::cursor::FileId;
use super::writer::{Entry, MAX_CHUNK};
use super::{LogCursor, LogEntry, LogSource};

/// The longest line that is looked at. JSON writes a control character as six bytes, so a full chunk
/// of them is the longest that the writer makes.
pub(super) const MAX_LINE: usize = 6 * MAX_CHUNK + 512;

/// More than any header needs.
pub(super) const MAX_HEADER: usize = 256;

/// The only encoding besides text.
const BASE64: &str = "b64";

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    t: Cow<'a, str>,
    s: LogSource,
    #[serde(borrow)]
    d: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    e: Option<Cow<'a, str>>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    log: String,
    seq: u64,
}

/// Appends an entry's line, with its newline.
pub(super) fn write_line(line: &mut Vec<u8>, entry: &Entry<'_>) -> serde_json::Result<()> {
    let (d, e) = match std::str::from_utf8(entry.data) {
        Ok(text) => (Cow::Borrowed(text), None),
        Err(_) => (
            Cow::Owned(STANDARD.encode(entry.data)),
            Some(Cow::Borrowed(BASE64)),
        ),
    };
    let t = entry.timestamp.to_rfc3339_opts(SecondsFormat::Millis, true);
    let (t, s, id) = (Cow::Owned(t), entry.source, entry.session_id);
    serde_json::to_writer(&mut *line, &Line { t, s, d, id, e })?;
    line.push(b'\n');
    Ok(())
}

/// The entry of a line (without its newline) that ends at `cursor`; none if it is not one.
pub(super) fn parse_line(line: &[u8], cursor: LogCursor) -> Option<LogEntry> {
    if line.len() > MAX_LINE {
        return None;
    }
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let data = match line.e.as_deref() {
        None => Bytes::from(line.d.into_owned()),
        Some(BASE64) => Bytes::from(STANDARD.decode(line.d.as_bytes()).ok()?),
        Some(_) => return None,
    };
    let timestamp = DateTime::parse_from_rfc3339(&line.t).ok()?;
    Some(LogEntry {
        timestamp: timestamp.with_timezone(&Utc),
        source: line.s,
        session_id: line.id,
        data,
        cursor,
    })
}

/// A file's first line.
pub(super) fn write_header(id: FileId) -> serde_json::Result<Vec<u8>> {
    let log = format!("{:016x}", id.log);
    let mut line = serde_json::to_vec(&Header { log, seq: id.seq })?;
    line.push(b'\n');
    Ok(line)
}

/// Which file this is, by its first bytes; none for one that this module did not begin.
pub(super) fn parse_header(start: &[u8]) -> Option<FileId> {
    let end = start.iter().position(|byte| *byte == b'\n')?;
    let header: Header = serde_json::from_slice(start.get(..end)?).ok()?;
    let log = u64::from_str_radix(&header.log, 16).ok()?;
    (header.seq > 0).then_some(FileId {
        log,
        seq: header.seq,
    })
}
