//! Detach keys against a model that has no state at all.

#![allow(clippy::unwrap_used)]

use proptest::collection::vec;
use proptest::prelude::*;

use super::{DetachKeys, MAX_KEYS, Matcher};
use crate::MicrosandboxError;

fn sequence(keys: &str) -> Vec<u8> {
    DetachKeys::parse(keys).unwrap().sequence().to_vec()
}

#[test]
fn keys_are_the_bytes_a_terminal_sends() {
    assert_eq!(DetachKeys::default_keys().sequence(), [0x1d]);
    assert_eq!(sequence("ctrl-]"), [0x1d]);
    assert_eq!(sequence("ctrl-p,ctrl-q"), [0x10, 0x11]);
    assert_eq!(sequence("ctrl-p, ctrl-q"), [0x10, 0x11]);
    assert_eq!(
        sequence("ctrl-@,ctrl-a,ctrl-z,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_"),
        [0, 1, 26, 27, 28, 29, 30, 31]
    );
    assert_eq!(sequence("ctrl-P"), [0x10]);
    assert_eq!(sequence("~,."), b"~.");
    assert_eq!(sequence(" "), b" ");
}

#[test]
fn what_is_no_key_is_refused() {
    let long = vec!["a"; MAX_KEYS + 1].join(",");
    for keys in [
        "", ",", "a,", "ab", "ctrl-", "ctrl-1", "ctrl-é", "é", "ctrl-~", "ctrl-ab", "alt-x",
        "ctrl", &long,
    ] {
        let result = DetachKeys::parse(keys);
        assert!(
            matches!(result, Err(MicrosandboxError::InvalidConfig(_))),
            "{keys:?}: {result:?}"
        );
    }
    assert_eq!(sequence(&vec!["a"; MAX_KEYS].join(",")).len(), MAX_KEYS);
}

#[test]
fn a_sequence_that_begins_within_its_own_beginning_is_found() {
    let mut matcher = Matcher::new(&DetachKeys::parse("a,a,b").unwrap());
    let mut passed = Vec::new();
    let found: Vec<bool> = b"aaab"
        .iter()
        .map(|b| matcher.feed(*b, &mut passed))
        .collect();
    assert_eq!(found, [false, false, false, true]);
    assert_eq!(passed, b"a");
}

/// What of `typed` has passed, and where after the sequence the reading stopped.
fn model(keys: &[u8], typed: &[u8]) -> (Vec<u8>, Option<usize>) {
    for end in keys.len()..=typed.len() {
        if typed[..end].ends_with(keys) {
            return (typed[..end - keys.len()].to_vec(), Some(end));
        }
    }
    let held = (0..keys.len())
        .rev()
        .find(|length| typed.ends_with(&keys[..*length]))
        .unwrap_or(0);
    (typed[..typed.len() - held].to_vec(), None)
}

proptest! {
    // Two letters, so that beginnings overlap all the time.
    #[test]
    fn the_matcher_does_what_the_model_does(
        keys in vec(prop::sample::select(vec![b'a', b'b']), 1..8),
        typed in vec(prop::sample::select(vec![b'a', b'b', b'c']), 0..64),
    ) {
        let parsed = DetachKeys { sequence: keys.clone() };
        let mut matcher = Matcher::new(&parsed);
        let (mut passed, mut stopped, mut read) = (Vec::new(), None, 0);
        // As a reader does it: never more at once than is missing.
        'typed: while read < typed.len() {
            let most = matcher.missing().min(typed.len() - read);
            for (i, byte) in typed[read..read + most].iter().enumerate() {
                if matcher.feed(*byte, &mut passed) {
                    prop_assert_eq!(i + 1, most, "read past the sequence");
                    stopped = Some(read + most);
                    break 'typed;
                }
            }
            read += most;
        }
        prop_assert_eq!((passed, stopped), model(&keys, &typed));
    }

    #[test]
    fn any_text_is_a_sequence_or_an_error(keys in ".{0,80}") {
        if let Ok(parsed) = DetachKeys::parse(&keys) {
            prop_assert_eq!(parsed.sequence().len(), keys.split(',').count());
        }
    }
}
