//! The records of a DTLS 1.2 association that has done its handshake (RFC 6347 §4.1).
//!
//! All that is left to do then is to open and seal records under two keys: application data, and
//! the alerts that end it. The engine is let go of at that point, with the hundredfold of this
//! that it holds. There is no renegotiation, so no other key ever comes. The cipher is the
//! backend's; numbers go on where the engine stopped, so no nonce is used twice, and replays are
//! told by the window that the engine's own records have moved.

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use zeroize::Zeroizing;

use crate::association::{Event, Failure};
use crate::record::{HEADER, records};
use crate::suites::{KeyInUse, SharedKey, lock, weave};

/// Bytes of a nonce, and those of them that travel with a record of GCM (RFC 5288 §3).
pub(crate) const NONCE: usize = 12;
pub(crate) const EXPLICIT: usize = 8;

/// Numbers of records have 48 bits, and may not begin anew (RFC 6347 §4.1).
pub(crate) const LAST_NUMBER: u64 = (1 << 48) - 1;

/// All suites there are have it.
const TAG: usize = 16;

/// Records of one datagram that are opened, or tried to: each takes a key schedule.
const MAX_RECORDS: usize = 8;

/// The epoch of what the only handshake has agreed upon.
const EPOCH: u64 = 1;

const VERSION: [u8; 2] = [0xfe, 0xfd];
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;
const FINISHED: u8 = 20;

/// Which numbers have been opened: the highest, and those of the 64 up to it (RFC 6347 §4.1.2.6).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ReplayWindow {
    /// One more than the highest.
    next: u64,
    /// Its lowest bit is that of the highest.
    seen: u64,
}

impl ReplayWindow {
    pub(crate) fn is_new(&self, number: u64) -> bool {
        match self.next.checked_sub(number + 1) {
            None => true,
            Some(behind) => behind < 64 && self.seen >> behind & 1 == 0,
        }
    }

    /// Only for what is authentic.
    pub(crate) fn note(&mut self, number: u64) {
        if number >= self.next {
            let ahead = number + 1 - self.next;
            self.seen = if ahead < 64 { self.seen << ahead } else { 0 };
            self.next = number + 1;
        }
        let behind = self.next - 1 - number;
        if behind < 64 {
            self.seen |= 1 << behind;
        }
    }
}

/// Both directions of such an association.
pub(crate) struct Records {
    ours: KeyInUse,
    theirs: KeyInUse,
    /// What is to be said; room for it is made when there is something.
    events: Vec<Event>,
    is_closed: bool,
}

impl Records {
    /// Takes over the keys that an engine has used: of the two it made, one has sealed and one
    /// has opened. `None` if it is otherwise; the engine goes on then.
    pub(crate) fn take_over(keys: &[SharedKey]) -> Option<Self> {
        let [one, other] = keys else { return None };
        let one_seals = lock(one).has_sealed;
        let (ours, theirs) = if one_seals { (one, other) } else { (other, one) };
        let (ours, theirs) = (lock(ours).clone(), lock(theirs).clone());
        let fits = ours.has_sealed && !ours.has_opened && theirs.has_opened && !theirs.has_sealed;
        fits.then_some(Self { ours, theirs, events: Vec::new(), is_closed: false })
    }

    /// What there is to say.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Opens what is in a datagram; whether the peer's Finished is there, as it is when it has not
    /// heard ours. What is not authentic, has been opened before or is of another epoch is passed
    /// over, and what comes behind a fatal alert.
    pub(crate) fn handle_datagram(&mut self, datagram: &[u8]) -> bool {
        let mut has_finished = false;
        let mut tried = 0;
        for (_, header, fragment) in records(datagram) {
            if !self.is_new(header) {
                continue;
            }
            tried += 1;
            if tried > MAX_RECORDS {
                break;
            }
            let Some(plaintext) = self.open(header, fragment) else { continue };
            match (header[0], &plaintext[..]) {
                (ALERT, [_, CLOSE_NOTIFY, ..]) => {
                    // RFC 5246 §7.2.1: it is answered, and nothing comes after it.
                    self.close();
                    self.events.push(Event::CloseNotify);
                }
                (ALERT, [FATAL, description, ..]) => {
                    let description = *description;
                    let alert = dimpl::SecurityError::FatalAlert { description };
                    let failure = Failure::Protocol(dimpl::Error::from(alert).to_string());
                    self.events.push(Event::Failed(failure));
                    break;
                }
                (APPLICATION_DATA, data) if !self.is_closed => {
                    self.events.push(Event::ApplicationData(Bytes::copy_from_slice(data)));
                }
                (HANDSHAKE, [FINISHED, ..]) => has_finished = true,
                _ => {}
            }
        }
        has_finished
    }

    /// Seals application data.
    ///
    /// # Errors
    /// When it has been closed.
    pub(crate) fn send(&mut self, data: &[u8]) -> Result<(), Failure> {
        if self.is_closed || !self.seal(APPLICATION_DATA, data) {
            return Err(Failure::Protocol("nothing more can be sent".to_owned()));
        }
        Ok(())
    }

    /// Seals a close_notify, once.
    pub(crate) fn close(&mut self) {
        if !std::mem::replace(&mut self.is_closed, true) {
            self.seal(ALERT, &[1, CLOSE_NOTIFY]);
        }
    }

    /// Whether there is a number left for it.
    pub(crate) fn seal(&mut self, kind: u8, plaintext: &[u8]) -> bool {
        let record = self.sealed(kind, plaintext);
        let is_sealed = record.is_some();
        self.events.extend(record.map(Event::Packet));
        is_sealed
    }

    fn sealed(&mut self, kind: u8, plaintext: &[u8]) -> Option<Bytes> {
        let (number, explicit) = (self.ours.next_sealed, self.ours.explicit());
        let length = u16::try_from(explicit + plaintext.len() + TAG).ok()?;
        if number > LAST_NUMBER {
            return None;
        }
        // Before it is used: whatever becomes of it, it is not used again.
        self.ours.next_sealed += 1;
        let sequence = (EPOCH << 48 | number).to_be_bytes();
        let key = bound(&self.ours)?;
        // The number is a nonce that comes once (RFC 5288 §3). The engine draws its own; that one
        // of those few is among ours is as likely as to guess 64 bits.
        let nonce = nonce(&self.ours, &sequence, &sequence[..explicit])?;
        let mut record = Vec::with_capacity(HEADER + usize::from(length));
        record.push(kind);
        record.extend_from_slice(&VERSION);
        record.extend_from_slice(&sequence);
        record.extend_from_slice(&length.to_be_bytes());
        record.extend_from_slice(&sequence[..explicit]);
        let begin = record.len();
        record.extend_from_slice(plaintext);
        let aad = additional(&sequence, kind, plaintext.len())?;
        let tag = key.seal_in_place_separate_tag(nonce, aad, &mut record[begin..]).ok()?;
        record.extend_from_slice(tag.as_ref());
        Some(record.into())
    }

    /// Whether a record may be one that has not been opened yet.
    fn is_new(&self, header: &[u8; HEADER]) -> bool {
        let [_, major, minor, sequence @ .., _, _] = header;
        let number = u64::from_be_bytes(*sequence);
        let (epoch, number) = (number >> 48, number & LAST_NUMBER);
        epoch == EPOCH && [*major, *minor] == VERSION && self.theirs.opened.is_new(number)
    }

    /// Opens a record that is [new](Self::is_new).
    fn open(&mut self, header: &[u8; HEADER], fragment: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let [kind, _, _, sequence @ .., _, _] = header;
        let (explicit, sealed) = fragment.split_at_checked(self.theirs.explicit())?;
        let length = sealed.len().checked_sub(TAG)?;
        let key = bound(&self.theirs)?;
        let nonce = nonce(&self.theirs, sequence, explicit)?;
        let mut plaintext = Zeroizing::new(sealed.to_vec());
        key.open_in_place(nonce, additional(sequence, *kind, length)?, &mut plaintext).ok()?;
        plaintext.truncate(length);
        self.theirs.opened.note(u64::from_be_bytes(*sequence) & LAST_NUMBER);
        Some(plaintext)
    }
}

/// Made anew for each of the few records that there are: a key schedule is ten times the key.
fn bound(key: &KeyInUse) -> Option<LessSafeKey> {
    UnboundKey::new(key.algorithm, &key.key).ok().map(LessSafeKey::new)
}

fn nonce(key: &KeyInUse, sequence: &[u8; 8], explicit: &[u8]) -> Option<Nonce> {
    let mut nonce = key.iv;
    match explicit.len() {
        0 => weave(&mut nonce, u64::from_be_bytes(*sequence)),
        _ => nonce[NONCE - explicit.len()..].copy_from_slice(explicit),
    }
    Nonce::try_assume_unique_for_key(&nonce).ok()
}

/// RFC 5246 §6.2.3.3, with epoch and number for the number (RFC 6347 §4.1.2.1).
fn additional(sequence: &[u8; 8], kind: u8, length: usize) -> Option<Aad<[u8; HEADER]>> {
    let mut aad = [0; HEADER];
    aad[..8].copy_from_slice(sequence);
    aad[8] = kind;
    aad[9..11].copy_from_slice(&VERSION);
    aad[11..].copy_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
    Some(Aad::from(aad))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_new_once_and_not_at_all_when_64_behind() {
        let mut window = ReplayWindow::default();
        for number in [0, 1, 5, 3, 70] {
            assert!(window.is_new(number), "{number}");
            window.note(number);
            assert!(!window.is_new(number), "{number}");
        }
        assert!(!window.is_new(0) && !window.is_new(6), "64 and more behind");
        assert!(window.is_new(7) && window.is_new(69) && window.is_new(71));
        window.note(LAST_NUMBER);
        assert!(!window.is_new(70) && !window.is_new(LAST_NUMBER));
        assert!(window.is_new(LAST_NUMBER - 63) && !window.is_new(LAST_NUMBER - 64));
    }
}
