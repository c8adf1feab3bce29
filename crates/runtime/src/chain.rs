//! An error with all its causes, in one line: for logs, and for words that cross a socket.

use std::error::Error;

/// What `error` says, and what each of its causes says, joined by colons.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_cause_is_said_once() {
        let io = std::io::Error::other("inner");
        let outer = crate::lines::LineError::Io(io);
        assert_eq!(super::chain(&outer), "the control connection failed: inner");
    }
}
