//! What a program on the host says before its socket becomes a connection.
//!
//! One line, `CONNECT <port>\n`, the port in decimal. What comes after the newline belongs to the
//! guest already, so the parser says how much of its input it used. Sans-IO: bytes in, answer out.

use std::fmt::Write as _;

/// `CONNECT `, ten digits and a newline fit.
const MAX_LINE: usize = 32;

/// A line that is being read.
#[derive(Clone, Debug, Default)]
pub struct Handshake {
    line: Vec<u8>,
}

/// The line is not a request for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `CONNECT <port>` and a newline")]
pub struct Refused;

impl Handshake {
    /// Most bytes that it is worth offering at a time.
    pub const WINDOW: usize = MAX_LINE;

    /// Nothing read.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes more bytes. Returns how many of them are part of the line, and the port once the line
    /// is complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(usize, Option<u32>), Refused> {
        let newline = bytes.iter().position(|byte| *byte == b'\n');
        let used = newline.unwrap_or(bytes.len());
        if self.line.len() + used > MAX_LINE {
            return Err(Refused);
        }
        self.line.extend(bytes.iter().take(used));
        match newline {
            Some(_) => Ok((used + 1, Some(parse(&self.line)?))),
            None => Ok((used, None)),
        }
    }

    /// What the program is told once the guest has accepted.
    pub fn accepted(host_port: u32) -> String {
        let mut line = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(line, "OK {host_port}");
        line
    }
}

fn parse(line: &[u8]) -> Result<u32, Refused> {
    let digits = line.strip_prefix(b"CONNECT ").ok_or(Refused)?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(Refused);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| Refused)?;
    digits.parse().map_err(|_| Refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(line: &[u8]) -> Result<(usize, Option<u32>), Refused> {
        Handshake::new().push(line)
    }

    #[test]
    fn reads_a_port_and_leaves_the_rest() {
        assert_eq!(whole(b"CONNECT 52\nhello"), Ok((11, Some(52))));
        assert_eq!(whole(b"CONNECT 4294967295\n"), Ok((19, Some(u32::MAX))));
        assert_eq!(whole(b"CONNECT 5"), Ok((9, None)));
        assert_eq!(whole(b""), Ok((0, None)));
    }

    #[test]
    fn refuses_everything_else() {
        for line in [
            &b"\n"[..],
            b"CONNECT\n",
            b"CONNECT \n",
            b"connect 5\n",
            b"CONNECT 5 \n",
            b"CONNECT +5\n",
            b"CONNECT -5\n",
            b"CONNECT 0x5\n",
            b"CONNECT 4294967296\n",
            b"CONNECT 5\r\n",
            b"GET / HTTP/1.1\r\n",
            &[b'0'; 64],
        ] {
            assert_eq!(whole(line), Err(Refused), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_line_without_end_is_refused_however_it_comes() {
        let mut handshake = Handshake::new();
        let fed = (0..100)
            .take_while(|_| handshake.push(b"0").is_ok())
            .count();
        assert_eq!(fed, MAX_LINE);
    }

    proptest! {
        #[test]
        fn any_split_of_a_line_gives_its_port(port: u32, cuts in prop::collection::vec(0usize..32, 0..4)) {
            let line = format!("CONNECT {port}\nrest");
            let mut handshake = Handshake::new();
            let mut at = 0;
            let mut found = None;
            let mut ends: Vec<usize> = cuts.into_iter().map(|cut| cut.min(line.len())).collect();
            ends.sort_unstable();
            ends.push(line.len());
            for end in ends {
                if found.is_some() || end < at {
                    continue;
                }
                let (used, port) = handshake.push(&line.as_bytes()[at..end]).unwrap();
                at += used;
                found = port;
            }
            prop_assert_eq!(found, Some(port));
            prop_assert_eq!(&line[at..], "rest");
        }

        #[test]
        fn any_bytes_end_in_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok((used, _)) = whole(&bytes) {
                prop_assert!(used <= bytes.len());
            }
        }
    }
}
