//! One request in work at the recorder, and everything an upstream may do with it, good or bad.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use super::recorder::Shared;
use super::wait::BOUND;
use super::wire::{Head, Wire};

/// One request in work.
pub struct Exchange {
    /// `None` once the connection is closed.
    wire: Option<Wire>,
    pub head: Head,
    id: usize,
    shared: Arc<Shared>,
    body_read: bool,
}

impl Exchange {
    pub fn new(wire: Wire, head: Head, id: usize, shared: &Arc<Shared>) -> Self {
        Self { wire: Some(wire), head, id, shared: Arc::clone(shared), body_read: false }
    }

    /// The connection, when it can be used for another request.
    pub fn into_wire(self) -> Option<Wire> {
        self.wire
    }

    /// Does what `X-Do` says.
    pub fn obey(&mut self) {
        let orders = self.head.get("x-do").unwrap_or_default();
        self.read_body();
        let mut status = 200;
        let mut answer = b"ok\n".to_vec();
        for order in orders.split(';') {
            let words: Vec<&str> = order.split_whitespace().collect();
            let number = |place: usize| words.get(place).and_then(|word| word.parse::<u64>().ok()).unwrap_or_default();
            match words.first().copied() {
                Some("sleep") => self.sleep(number(1)),
                Some("hold") => self.hold(),
                Some("status") => status = number(1),
                Some("body") => answer = vec![b'x'; usize::try_from(number(1)).expect("fits")],
                Some("echo") => answer = self.body(),
                Some("stream") => return self.stream(number(1), number(2)),
                Some(unknown) => panic!("the recorder does not know {unknown:?}"),
                None => {}
            }
        }
        let length = answer.len();
        let head = format!("HTTP/1.1 {status} Said\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n");
        if self.head.word(0) == "HEAD" {
            answer.clear();
        }
        self.finish([head.as_bytes(), &answer].concat());
    }

    /// Reads the whole body of the request, and asks for it first when the client waits to be asked.
    pub fn read_body(&mut self) {
        self.body_read = true;
        if self.head.get("expect").is_some() {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let length = self.head.content_length().unwrap_or(0);
        let chunked = self.head.is_chunked();
        let Some(wire) = &mut self.wire else { return };
        let body = if chunked { wire.chunked() } else { wire.up_to(length) };
        let body = body.unwrap_or_default();
        let gone = !body.whole;
        let mut state = self.shared.state();
        state.seen[self.id].body = body;
        state.seen[self.id].client_gone |= gone;
        drop(state);
        if gone {
            self.close();
        }
    }

    pub fn body(&self) -> Vec<u8> {
        self.shared.state().seen[self.id].body.bytes.clone()
    }

    pub fn sleep(&mut self, milliseconds: u64) {
        std::thread::sleep(Duration::from_millis(milliseconds));
    }

    /// Works until the test lets it go on.
    pub fn hold(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        state.held.insert(self.id);
        let id = self.id;
        state = shared.changed.wait_while(state, |state| !state.open && !state.released.contains(&id)).expect("lock");
        state.held.remove(&id);
        state.released.remove(&id);
    }

    /// Writes; whether anybody is there to read does not bother it.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let Some(wire) = &mut self.wire else { return false };
        let written = wire.stream.write_all(bytes.as_ref()).is_ok();
        if !written {
            self.shared.state().seen[self.id].client_gone = true;
        }
        written
    }

    /// Writes the last bytes of the answer; the work is over with them.
    pub fn finish(&mut self, bytes: impl AsRef<[u8]>) {
        self.ended();
        self.write(bytes);
        self.close_unread();
    }

    /// Answers in pieces, one every so many milliseconds; a piece that can't be written ends the work.
    pub fn stream(&mut self, pieces: u64, every: u64) {
        self.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in 0..pieces {
            self.sleep(every);
            let text = format!("piece {piece}\n");
            if !self.write(format!("{:x}\r\n{text}\r\n", text.len())) {
                return self.close();
            }
        }
        self.finish(b"0\r\n\r\n");
    }

    /// Waits until the client has closed its side; says whether it did in time. Reads and forgets what still comes.
    pub fn client_leaves(&mut self) -> bool {
        let Some(wire) = &mut self.wire else { return true };
        let _ = wire.stream.set_read_timeout(Some(BOUND));
        let gone = loop {
            match wire.some() {
                Ok(said) if said.is_empty() => break true,
                Ok(_) => {}
                Err(_) => break false,
            }
        };
        self.shared.state().seen[self.id].client_gone |= gone;
        gone
    }

    /// What the client says next, outside of any framing; empty at its end.
    pub fn hear(&mut self) -> Vec<u8> {
        let Some(wire) = &mut self.wire else { return Vec::new() };
        wire.some().unwrap_or_default()
    }

    pub fn close(&mut self) {
        self.wire = None;
    }

    pub fn reset(&mut self) {
        if let Some(wire) = self.wire.take() {
            wire.reset();
        }
    }

    /// The work is over, if it was not yet.
    pub fn done(&mut self) {
        self.close_unread();
        self.ended();
    }

    /// A connection with the rest of a request on its way can't be read on.
    fn close_unread(&mut self) {
        if !self.body_read && self.wire.is_some() && (self.head.is_chunked() || self.head.content_length() > Some(0)) {
            self.close();
        }
    }

    fn ended(&mut self) {
        let mut state = self.shared.state();
        if state.seen[self.id].ended.is_none() {
            state.seen[self.id].ended = Some(state.events);
            state.events += 1;
            self.shared.changed.notify_all();
        }
    }
}
