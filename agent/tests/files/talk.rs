//! A host that asks for one thing and takes the answers.

use std::path::Path;

use bytes::Bytes;
use msb_protocol::*;

use crate::support::Client;

/// The path's bytes.
pub(crate) fn at(path: impl AsRef<Path>) -> Bytes {
    Bytes::copy_from_slice(path.as_ref().as_os_str().as_encoded_bytes())
}

/// A conversation about files.
pub(crate) struct Call {
    pub(crate) client: Client,
    pub(crate) window: u32,
}

impl Call {
    pub(crate) fn open(request: FsRequest) -> Self {
        let mut client = Client::new();
        client.send(&HostMessage::Fs(FsCall::Open(request)));
        Self {
            client,
            window: INITIAL_FS_WINDOW,
        }
    }

    /// The next answer; `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<FsAnswer> {
        match self.client.next()? {
            GuestMessage::Fs(answer) => Some(answer),
            other => panic!("{other:?} has no place here"),
        }
    }

    pub(crate) fn answer(&mut self) -> FsAnswer {
        self.next().expect("an answer")
    }

    /// Sends a part, when the window allows. Returns an answer that came instead of credit.
    pub(crate) fn part(&mut self, part: FsPart) -> Option<FsAnswer> {
        while self.window < part.cost() {
            match self.answer() {
                FsAnswer::Consumed(cost) => self.window += cost,
                FsAnswer::Working => {}
                other => return Some(other),
            }
        }
        self.window -= part.cost();
        self.client.send(&HostMessage::Fs(FsCall::Part(part)));
        None
    }

    /// Says that this was all, and takes the last answer.
    pub(crate) fn finish(mut self) -> FsAnswer {
        self.client.send(&HostMessage::Fs(FsCall::Finish));
        self.last()
    }

    pub(crate) fn last(&mut self) -> FsAnswer {
        loop {
            match self.answer() {
                FsAnswer::Consumed(_) | FsAnswer::Working => {}
                last => {
                    assert_eq!(self.client.next(), None, "the last message is the last");
                    return last;
                }
            }
        }
    }
}

/// All that is answered to a request that takes no parts; the last answer at the end.
pub(crate) fn ask(request: FsRequest) -> Vec<FsAnswer> {
    let mut call = Call::open(request);
    std::iter::from_fn(|| call.next())
        .filter(|answer| *answer != FsAnswer::Working)
        .collect()
}

/// That it is done.
pub(crate) fn done(request: FsRequest) {
    assert_eq!(ask(request), [FsAnswer::Done]);
}

/// Why it cannot be done.
pub(crate) fn kind(request: FsRequest) -> FsFailureKind {
    match ask(request).pop() {
        Some(FsAnswer::Failed(failure)) => failure.kind,
        other => panic!("no failure: {other:?}"),
    }
}

pub(crate) fn stat(path: impl AsRef<Path>, follow: bool) -> FsStat {
    let path = at(path);
    match ask(FsRequest::Stat { path, follow }).pop() {
        Some(FsAnswer::Stat(stat)) => stat,
        other => panic!("no metadata: {other:?}"),
    }
}

/// What is in a file, and in how many pieces it came.
pub(crate) fn read(path: impl AsRef<Path>) -> (Vec<u8>, usize) {
    let mut answers = ask(FsRequest::Read { path: at(path) });
    assert_eq!(answers.remove(0), FsAnswer::Opened);
    assert_eq!(answers.pop(), Some(FsAnswer::Done));
    let mut all = Vec::new();
    for answer in &answers {
        match answer {
            FsAnswer::Part(FsPart::Data(data)) => {
                assert!(!data.is_empty() && data.len() <= MAX_CHUNK);
                all.extend_from_slice(data);
            }
            other => panic!("{other:?} is no data"),
        }
    }
    (all, answers.len())
}

/// Writes a file; the last answer.
pub(crate) fn write(path: impl AsRef<Path>, data: &[u8]) -> FsAnswer {
    let mut call = Call::open(FsRequest::Write {
        path: at(path),
        mode: 0o644,
    });
    match call.answer() {
        FsAnswer::Opened => {}
        other => return other,
    }
    for chunk in data.chunks(MAX_CHUNK) {
        let part = FsPart::Data(Bytes::copy_from_slice(chunk));
        if let Some(answer) = call.part(part) {
            return answer;
        }
    }
    call.finish()
}

/// The kind of a last answer that is a failure.
pub(crate) fn failed(answer: FsAnswer) -> FsFailureKind {
    match answer {
        FsAnswer::Failed(failure) => failure.kind,
        other => panic!("no failure: {other:?}"),
    }
}
