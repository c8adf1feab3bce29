//! Clients of the supervisor: the launch channel and the connections to `control.sock`.

use msb_runtime::control::{Notice, Request};
use msb_runtime::lines::{self, LineReader, LineWriter};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::event::{Event, Events};

/// The number of the client that holds the launch channel.
pub(crate) const CREATOR: u64 = 0;

/// How many clients may be connected at once; further ones wait in the backlog.
const MAX_CLIENTS: usize = 64;

/// How many notices may wait for a client that does not read.
const NOTICE_QUEUE: usize = 8;

/// Serves one client; the returned task ends when its last notice is written.
pub(crate) fn serve(
    id: u64,
    mut reader: LineReader,
    mut writer: LineWriter,
    events: &Events,
) -> (mpsc::Sender<Notice>, JoinHandle<()>) {
    let (notices, mut queue) = mpsc::channel(NOTICE_QUEUE);
    let listening = events.clone();
    let listen = tokio::spawn(async move {
        loop {
            match reader.next::<Request>().await {
                Ok(Some(request)) => {
                    if listening
                        .send(Event::ClientAsked(id, request))
                        .await
                        .is_err()
                    {
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
        let _ = listening.send(Event::ClientLeft(id)).await;
    });
    let write = tokio::spawn(async move {
        while let Some(notice) = queue.recv().await {
            if writer.send(&notice).await.is_err() {
                break;
            }
        }
        listen.abort();
    });
    (notices, write)
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
            let (notices, task) = serve(next, reader, writer, &events);
            if events
                .send(Event::ClientJoined(next, notices))
                .await
                .is_err()
            {
                return;
            }
            tokio::spawn(async move {
                let _ = task.await;
                drop(place);
            });
            next += 1;
        }
    });
}
