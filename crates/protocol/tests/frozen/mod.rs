//! Golden files: each line is a message's name and its frame in hex. A line never changes;
//! `MSB_BLESS=1` appends those of new messages.

use msb_protocol::{Decoder, GuestMessage, HostMessage, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn frame<M: Serialize>(message: &M) -> String {
    let mut bytes = Vec::new();
    encode(message, &mut bytes).unwrap();
    hex::encode(bytes)
}

fn line<'a>(golden: &'a str, name: &str) -> Option<&'a str> {
    golden
        .lines()
        .find(|line| line.split(' ').next() == Some(name))
}

/// The lines that these messages make today, in this order.
pub(crate) fn lines<N: AsRef<str>>(
    host: &[(N, HostMessage)],
    guest: &[(N, GuestMessage)],
) -> Vec<(String, String)> {
    let host = host.iter().map(|(name, m)| (name.as_ref(), frame(m)));
    let guest = guest.iter().map(|(name, m)| (name.as_ref(), frame(m)));
    host.chain(guest)
        .map(|(name, hex)| (name.to_owned(), format!("{name} {hex}")))
        .collect()
}

/// Compares the messages' bytes with the file, which has those of no others.
pub(crate) fn check<N: AsRef<str>>(
    file: &str,
    host: &[(N, HostMessage)],
    guest: &[(N, GuestMessage)],
) {
    let ours = lines(host, guest);
    let mut golden = std::fs::read_to_string(file).unwrap_or_default();
    if std::env::var_os("MSB_BLESS").is_some() {
        for (name, new) in &ours {
            if line(&golden, name).is_none() {
                golden.push_str(new);
                golden.push('\n');
            }
        }
        std::fs::write(file, &golden).unwrap();
    }
    for (name, today) in &ours {
        let line = line(&golden, name).unwrap_or_else(|| panic!("{name} has no golden bytes"));
        assert_eq!(line, today, "the bytes of {name} changed");
    }
    assert_eq!(
        golden.lines().count(),
        ours.len(),
        "a golden message is no longer made"
    );
}

/// Decodes the file's bytes and compares what comes out with the messages.
pub(crate) fn decode<N: AsRef<str>>(
    file: &str,
    host: &[(N, HostMessage)],
    guest: &[(N, GuestMessage)],
) {
    fn each<N: AsRef<str>, M: DeserializeOwned + PartialEq + std::fmt::Debug>(
        golden: &str,
        messages: &[(N, M)],
    ) {
        for (name, message) in messages {
            let name = name.as_ref();
            let hex = line(golden, name).unwrap().split(' ').nth(1).unwrap();
            let mut decoder = Decoder::new();
            decoder.feed(&hex::decode(hex).unwrap());
            let decoded: Option<M> = decoder.next_message().unwrap();
            assert_eq!(decoded.as_ref(), Some(message), "{name}");
        }
    }
    let golden = std::fs::read_to_string(file).unwrap();
    each(&golden, host);
    each(&golden, guest);
}
