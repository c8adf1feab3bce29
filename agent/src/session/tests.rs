//! The input queue keeps its window.

use super::InputQueue;
use msb_protocol::INITIAL_STDIN_WINDOW;
use proptest::prelude::*;

proptest! {
    #[test]
    fn the_queue_takes_the_window_and_not_a_byte_more(
        sizes in prop::collection::vec(0usize..70_000, 1..20),
    ) {
        let queue = InputQueue::open();
        let mut left = usize::try_from(INITIAL_STDIN_WINDOW).unwrap();
        for size in sizes {
            let fits = size <= left;
            prop_assert_eq!(queue.push(&vec![0; size]).is_ok(), fits);
            if !fits {
                break;
            }
            left -= size;
        }
    }
}

#[test]
fn nothing_is_taken_after_the_end() {
    let queue = InputQueue::open();
    queue.push(b"before").unwrap();
    queue.end();
    queue.end();
    assert!(queue.push(b"after").is_err());
}

#[test]
fn a_command_without_input_takes_anything_and_keeps_nothing() {
    let queue = InputQueue::closed();
    for _ in 0..100 {
        queue.push(&[0; 65536]).unwrap();
    }
}
