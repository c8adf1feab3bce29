#![no_main]
//! A console between a hostile driver and programs that type, stop reading, and go away.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use libfuzzer_sys::fuzz_target;
use msb_fuzz::{Host, Script, drive};
use vmm_virtio::console::Console;

struct Programs {
    keyboard: Option<UnixStream>,
    screen: Option<UnixStream>,
}

impl Host for Programs {
    fn act(&mut self, script: &mut Script<'_>) {
        match script.u8() % 8 {
            0..=2 => {
                if let Some(keyboard) = &mut self.keyboard {
                    let _ = keyboard.write(script.bytes(255));
                }
            }
            3 => {
                if let Some(keyboard) = &mut self.keyboard {
                    let _ = keyboard.write(&vec![b'x'; usize::from(script.u16())]);
                }
            }
            4 | 5 => {
                if let Some(screen) = &mut self.screen {
                    let _ = screen.read(&mut vec![0; usize::from(script.u16())]);
                }
            }
            6 => self.keyboard = None,
            _ => self.screen = None,
        }
    }

    fn request(&mut self, script: &mut Script<'_>) -> Vec<u8> {
        match script.u8() % 4 {
            0 => vec![b'y'; usize::from(script.u16())],
            _ => script.bytes(255).to_vec(),
        }
    }
}

fn pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    ours.set_nonblocking(true).expect("a socket");
    (ours, theirs)
}

fuzz_target!(|bytes: &[u8]| {
    let (keyboard, input) = pair();
    let (screen, output) = pair();
    let mut programs = Programs {
        keyboard: Some(keyboard),
        screen: Some(screen),
    };
    let device = Console::new(Some(input.into()), output.into());
    drive(device, &mut programs, &mut Script::new(bytes));
});
