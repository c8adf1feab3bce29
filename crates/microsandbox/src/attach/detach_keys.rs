//! The keys that end an attach and leave the command running.
//!
//! They are written as Docker writes them: keys with commas between, each a single character or
//! `ctrl-` and a letter or one of `@ [ \ ] ^ _`. What a terminal sends for such a key is one byte.
//!
//! Whoever types only the beginning of the sequence means those bytes for the command. They are
//! held back as long as they may become the sequence and are sent on, in order, once they cannot.
//! A byte that breaks one beginning can belong to another: of `a a b`, the third `a` of `a a a b`
//! lets the first one go and keeps two. How much stays is what Knuth, Morris and Pratt's table
//! says: the longest end of what was read that is a beginning of the sequence.

use crate::error::{MicrosandboxError, MicrosandboxResult};

/// The longest sequence, in keys.
pub(super) const MAX_KEYS: usize = 32;

/// Ctrl and `]`.
const DEFAULT: u8 = 0x1d;

/// A sequence of keys that detaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachKeys {
    sequence: Vec<u8>,
}

impl DetachKeys {
    /// Reads a sequence: `ctrl-]`, `ctrl-p,ctrl-q`, `~,.`.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](MicrosandboxError::InvalidConfig) when one of the keys is none, or there are
    /// none or more than 32.
    pub fn parse(keys: &str) -> MicrosandboxResult<Self> {
        // One more is enough to know that they are too many.
        let sequence = keys
            .split(',')
            .take(MAX_KEYS + 1)
            .map(key)
            .collect::<MicrosandboxResult<Vec<u8>>>()?;
        if sequence.len() > MAX_KEYS {
            return Err(MicrosandboxError::InvalidConfig(format!(
                "detach keys: a sequence has at most {MAX_KEYS} keys"
            )));
        }
        Ok(Self { sequence })
    }

    /// The sequence when none is given: `ctrl-]`.
    pub fn default_keys() -> Self {
        Self {
            sequence: vec![DEFAULT],
        }
    }

    /// The bytes that a terminal sends for it; never empty.
    pub fn sequence(&self) -> &[u8] {
        &self.sequence
    }
}

impl Default for DetachKeys {
    fn default() -> Self {
        Self::default_keys()
    }
}

/// The byte of one key.
fn key(name: &str) -> MicrosandboxResult<u8> {
    let trimmed = if name.len() > 1 { name.trim() } else { name };
    let (ctrl, character) = match trimmed.strip_prefix("ctrl-") {
        Some(rest) => (true, rest),
        None => (false, trimmed),
    };
    match (ctrl, character.as_bytes()) {
        (false, [byte]) if byte.is_ascii() => Ok(*byte),
        (true, [byte @ (b'a'..=b'z' | b'@'..=b'_')]) => Ok(byte & 0x1f),
        _ => Err(MicrosandboxError::InvalidConfig(format!(
            "detach keys: {name:?} is no key; a key is a single character, or ctrl- with a letter \
             or one of @ [ \\ ] ^ _ after it, and commas stand between keys"
        ))),
    }
}

/// Looks for the sequence in what is typed.
#[derive(Debug)]
pub(super) struct Matcher {
    sequence: Vec<u8>,
    /// For each beginning of the sequence, by its length: how long the longest other beginning is
    /// that it ends with.
    shorter: Vec<usize>,
    /// How many bytes are held back: they are the beginning of the sequence.
    held: usize,
}

impl Matcher {
    pub(super) fn new(keys: &DetachKeys) -> Self {
        let mut matcher = Self {
            sequence: keys.sequence.clone(),
            shorter: vec![0, 0],
            held: 0,
        };
        // The sequence without its first byte, matched against itself.
        for byte in keys.sequence.iter().skip(1) {
            matcher.step(*byte, &mut Vec::new());
            matcher.shorter.push(matcher.held);
        }
        matcher.held = 0;
        matcher
    }

    /// How many bytes the sequence still wants; never 0. Whoever reads no more than that at once reads
    /// nothing that was typed after it.
    pub(super) fn missing(&self) -> usize {
        self.sequence.len().saturating_sub(self.held).max(1)
    }

    /// Takes one byte, and adds to `passed` what is now known to be for the command. Returns whether
    /// the sequence is complete; it begins anew then.
    pub(super) fn feed(&mut self, byte: u8, passed: &mut Vec<u8>) -> bool {
        self.step(byte, passed);
        let complete = self.held == self.sequence.len();
        if complete {
            self.held = 0;
        }
        complete
    }

    fn step(&mut self, byte: u8, passed: &mut Vec<u8>) {
        loop {
            if self.sequence.get(self.held) == Some(&byte) {
                self.held += 1;
                return;
            }
            if self.held == 0 {
                passed.push(byte);
                return;
            }
            let kept = self.shorter.get(self.held).copied().unwrap_or(0);
            passed.extend(self.sequence.iter().take(self.held - kept));
            self.held = kept;
        }
    }
}

#[cfg(test)]
#[path = "detach_keys_tests.rs"]
mod tests;
