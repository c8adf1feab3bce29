#![no_main]
//! The frame decoder: any bytes from a peer, cut anywhere.
//!
//! The first byte says how the rest is cut into reads. Both sides' messages are tried; what
//! decodes must encode again, and never is more held than one frame and one read.

use libfuzzer_sys::fuzz_target;
use msb_protocol::{Decoder, GuestMessage, HostMessage, LENGTH_BYTES, MAX_FRAME, encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn decode<M: Serialize + DeserializeOwned>(cut: usize, stream: &[u8]) -> Vec<Vec<u8>> {
    let mut decoder = Decoder::new();
    let mut messages = Vec::new();
    for read in stream.chunks(cut) {
        decoder.feed(read);
        while let Ok(Some(message)) = decoder.next_message::<M>() {
            let mut bytes = Vec::new();
            encode(&message, &mut bytes).expect("what was decoded fits a frame");
            messages.push(bytes);
        }
        assert!(decoder.pending() <= LENGTH_BYTES + MAX_FRAME + read.len());
    }
    messages
}

fuzz_target!(|bytes: &[u8]| {
    let Some((cut, stream)) = bytes.split_first() else { return };
    let cut = usize::from(*cut).max(1);
    // However the stream is cut, the messages are the same.
    assert_eq!(decode::<HostMessage>(cut, stream), decode::<HostMessage>(usize::MAX, stream));
    assert_eq!(decode::<GuestMessage>(cut, stream), decode::<GuestMessage>(usize::MAX, stream));
});
