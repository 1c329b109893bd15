//! Which questions are answered, and how: no socket, no clock.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::LinkNameStats;
use crate::resolver::is_of_the_link;
use crate::resolver::mdns::{TYPE_A, TYPE_AAAA, append_name, has_answer, read_name};

/// A number of a link.
pub(crate) type LinkId = u32;

/// Most names at a time: some 1,000 connections with four addresses each.
const MAX_NAMES: usize = 4096;

/// Most questions of a message that are looked at.
const MAX_QUESTIONS: u16 = 32;

/// How long others may remember an answer (RFC 6762 §10).
const TTL: u32 = 120;

/// The same answer goes to a link once in this time at most (RFC 6762 §6).
const INTERVAL: Duration = Duration::from_secs(1);

const TYPE_NSEC: u16 = 47;
const TYPE_ANY: u16 = 255;
const CLASS_IN: u16 = 1;

/// The topmost bit of a class: of a record, that older ones are outdated (RFC 6762 §10.2).
const FLUSH: u16 = 0x8000;

#[derive(Debug)]
struct Name {
    address: IpAddr,
    /// When it was last told, and on which links.
    told: Vec<(LinkId, Instant)>,
}

/// All names, in lower case.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    names: BTreeMap<String, Name>,
    stats: LinkNameStats,
}

impl Answers {
    pub(crate) fn insert(&mut self, name: &str, address: IpAddr) -> io::Result<()> {
        let fits = is_of_the_link(name) && append_name(&mut Vec::new(), name).is_ok();
        let key = key(name);
        if !fits {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if self.names.contains_key(&key) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if self.names.len() >= MAX_NAMES {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.names.insert(key, Name { address, told: Vec::new() });
        Ok(())
    }

    /// Forgets a name; returns what tells others to.
    pub(super) fn remove(&mut self, name: &str) -> Option<Vec<u8>> {
        let key = key(name);
        let Name { address, .. } = self.names.remove(&key)?;
        Some(message(&[Record::Address(&key, address, 0)], &[]))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(super) fn stats(&self) -> LinkNameStats {
        LinkNameStats { names: self.names.len() as u64, ..self.stats }
    }

    /// The answer to a message from a link, if it asks for a name of ours.
    pub(crate) fn answer(&mut self, now: Instant, link: LinkId, message: &[u8]) -> Option<Vec<u8>> {
        let Some(questions) = questions(message) else {
            self.stats.malformed += 1;
            return None;
        };
        // Which names of ours, and whether for an address that they have.
        let mut asked: Vec<(String, bool)> = Vec::new();
        for Question { name, kind, class } in questions {
            let is_asked = [TYPE_A, TYPE_AAAA, TYPE_ANY].contains(&kind)
                && [CLASS_IN, TYPE_ANY].contains(&(class & !FLUSH));
            let Some(known) = self.names.get(&name).filter(|_| is_asked) else { continue };
            let has = known.is_of(kind);
            match asked.iter_mut().find(|(other, _)| *other == name) {
                Some((_, other)) => *other |= has,
                None => asked.push((name, has)),
            }
        }
        asked.retain(|(name, _)| self.is_to_be_told(now, link, message, name));
        let mut records = Vec::new();
        let mut denials = Vec::new();
        for (name, has) in &asked {
            let address = self.names.get(name)?.address;
            if *has {
                records.push(Record::Address(name, address, TTL));
            }
            // That there is nothing else, so that nobody waits for it (RFC 6762 §6.1).
            denials.push(Record::OnlyThat(name, address));
        }
        match (records.is_empty(), denials.is_empty()) {
            (true, true) => None,
            (true, false) => Some(self::message(&denials, &[])),
            _ => Some(self::message(&records, &denials)),
        }
    }
}

impl Answers {
    /// Whether an answer is due, which is noted.
    fn is_to_be_told(&mut self, now: Instant, link: LinkId, message: &[u8], name: &str) -> bool {
        let Some(known) = self.names.get_mut(name) else { return false };
        self.stats.asked += 1;
        if has_answer(message, name, known.address) {
            self.stats.known += 1;
            return false;
        }
        known.told.retain(|(_, at)| now.saturating_duration_since(*at) < INTERVAL);
        if known.told.iter().any(|(on, _)| *on == link) {
            self.stats.repeated += 1;
            return false;
        }
        known.told.push((link, now));
        self.stats.answered += 1;
        true
    }
}

impl Name {
    fn is_of(&self, kind: u16) -> bool {
        kind == TYPE_ANY || kind == kind_of(self.address)
    }
}

fn kind_of(address: IpAddr) -> u16 {
    if address.is_ipv4() { TYPE_A } else { TYPE_AAAA }
}

fn key(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

struct Question {
    name: String,
    kind: u16,
    class: u16,
}

/// What a message asks; nothing if it is none that asks, `None` if it is malformed.
fn questions(message: &[u8]) -> Option<Vec<Question>> {
    let word = |at: usize| Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?));
    let is_question = word(2)? & 0xf800 == 0;
    if !is_question {
        return Some(Vec::new());
    }
    let (mut at, mut questions) = (12, Vec::new());
    for _ in 0..word(4)?.min(MAX_QUESTIONS) {
        let (name, end) = read_name(message, at)?;
        questions.push(Question { name, kind: word(end)?, class: word(end + 2)? });
        at = end + 4;
    }
    Some(questions)
}

enum Record<'a> {
    /// A name's address, and for how long it is so.
    Address(&'a str, IpAddr, u32),
    /// A name has nothing but this address.
    OnlyThat(&'a str, IpAddr),
}

/// A response.
fn message(answers: &[Record<'_>], additional: &[Record<'_>]) -> Vec<u8> {
    // Authoritative; the identifier is zero (RFC 6762 §18.1).
    let mut out = vec![0, 0, 0x84, 0, 0, 0];
    // There are 32 at most.
    out.extend_from_slice(&(answers.len() as u16).to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&(additional.len() as u16).to_be_bytes());
    for record in answers.iter().chain(additional) {
        let (Record::Address(name, ..) | Record::OnlyThat(name, _)) = record;
        // It was looked at when it was inserted.
        let _ = append_name(&mut out, name);
        let (kind, ttl, data) = match record {
            Record::Address(_, address, ttl) => (kind_of(*address), *ttl, octets(*address)),
            Record::OnlyThat(name, address) => (TYPE_NSEC, TTL, bitmap(name, *address)),
        };
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&(CLASS_IN | FLUSH).to_be_bytes());
        out.extend_from_slice(&ttl.to_be_bytes());
        out.extend_from_slice(&(data.len() as u16).to_be_bytes());
        out.extend_from_slice(&data);
    }
    out
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().into(),
        IpAddr::V6(v6) => v6.octets().into(),
    }
}

/// The types that a name has (RFC 4034 §4.1): one, in the first window.
fn bitmap(name: &str, address: IpAddr) -> Vec<u8> {
    let mut out = Vec::new();
    let _ = append_name(&mut out, name);
    let kind = kind_of(address);
    let len = kind / 8 + 1;
    out.extend_from_slice(&[0, len as u8]);
    out.extend((0..len).map(|byte| if byte == kind / 8 { 0x80 >> (kind % 8) } else { 0 }));
    out
}
