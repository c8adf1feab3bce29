//! Clients of the supervisor: the launch channel and the connections to `control.sock`.

use msb_runtime::control::{Notice, Request};
use msb_runtime::lines::{self, LineReader, LineWriter};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::event::{Event, Events};

/// The number of the client that holds the launch channel.
pub(crate) const CREATOR: u64 = 0;

/// How many clients may be connected at once; further ones wait in the backlog. Far above what
/// waits and follows a sandbox in earnest: whoever wants to stop it must find a place.
const MAX_CLIENTS: usize = 4096;

/// How many notices may wait for a client that does not read.
const NOTICE_QUEUE: usize = 8;

/// Serves one client. The task ends when its last notice is written; what the client asks is heard
/// only after `joined` was awaited.
pub(crate) fn serve(
    id: u64,
    mut reader: LineReader,
    mut writer: LineWriter,
    events: Events,
) -> (mpsc::Sender<Notice>, JoinHandle<()>, impl FnOnce()) {
    let (notices, mut queue) = mpsc::channel(NOTICE_QUEUE);
    let (begin, begun) = tokio::sync::oneshot::channel::<()>();
    let listen = tokio::spawn(async move {
        if begun.await.is_err() {
            return;
        }
        loop {
            match reader.next::<Request>().await {
                Ok(Some(request)) => {
                    if events.send(Event::ClientAsked(id, request)).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%error, id, "a client broke the protocol");
                    break;
                }
            }
        }
        let _ = events.send(Event::ClientLeft(id)).await;
    });
    let write = tokio::spawn(async move {
        while let Some(notice) = queue.recv().await {
            if writer.send(&notice).await.is_err() {
                break;
            }
        }
        listen.abort();
    });
    let begin = move || {
        // It may have gone meanwhile.
        let _ = begin.send(());
    };
    (notices, write, begin)
}

/// Accepts connections until the supervisor ends.
pub(crate) fn accept(listener: UnixListener, events: Events) {
    tokio::spawn(async move {
        let room = std::sync::Arc::new(tokio::sync::Semaphore::new(MAX_CLIENTS));
        let mut next = CREATOR + 1;
        while let Ok(place) = std::sync::Arc::clone(&room).acquire_owned().await {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "control.sock fails; no further clients");
                    return;
                }
            };
            let (reader, writer) = lines::split(stream);
            let (notices, writing, begin) = serve(next, reader, writer, events.clone());
            let task = tokio::spawn(async move {
                let _ = writing.await;
                drop(place);
            });
            // Known first, heard second: an answer must find its way.
            if events
                .send(Event::ClientJoined(next, notices, task))
                .await
                .is_err()
            {
                return;
            }
            begin();
            next += 1;
        }
    });
}
