use std::io;

use super::UdpStats;
use super::sys::{self, Message};
use crate::batch::Run;
use crate::{SendBatch, SendReport, SocketId};

/// Most messages of one `sendmmsg`.
pub(super) const SEND_MESSAGES: usize = SendBatch::RUNS_PER_CALL;

/// Sends a batch through `transmit`, which takes some of the messages that it is given for a
/// socket and says how many, or why not the first; `None` if there is no such socket.
///
/// `gso` says whether runs are handed over whole; it is cleared when that can never work.
pub(super) fn send_all(
    batch: &SendBatch,
    gso: &mut bool,
    stats: &mut UdpStats,
    mut transmit: impl FnMut(SocketId, &[Message<'_>]) -> Option<io::Result<usize>>,
) -> SendReport {
    let mut report = SendReport::default();
    let mut cursor = Cursor::default();
    // The run that the kernel would not take whole.
    let mut split = None;
    loop {
        let mut messages = [Message::EMPTY; SEND_MESSAGES];
        let mut ends = [cursor; SEND_MESSAGES];
        let whole = |run: usize| *gso && split != Some(run);
        let count = fill(batch, cursor, whole, &mut messages, &mut ends);
        let Some(last) = count.checked_sub(1) else { return report };
        let messages = &messages[..count];
        let Some(outcome) = transmit(batch.runs[cursor.run].socket, messages) else {
            report.dropped += datagrams(messages);
            cursor = ends[last];
            continue;
        };
        report.calls += 1;
        match outcome {
            Ok(taken @ 1..) => {
                let taken = &messages[..taken];
                report.sent += datagrams(taken);
                stats.runs_sent += taken.iter().filter(|m| m.segment.is_some()).count() as u64;
                cursor = ends[taken.len() - 1];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if messages[0].segment.is_some() && sys::refuses_segments(&error) => {
                stats.runs_split += 1;
                split = Some(cursor.run);
                if sys::never_segments(&error) {
                    *gso = false;
                    tracing::info!(%error, "segmentation offload does not work here");
                }
            }
            Err(error) if !sys::is_full(&error) => {
                report.dropped += messages[0].datagrams;
                cursor = ends[0];
            }
            Ok(_) | Err(_) => {
                // Whatever else is for this socket would not be taken either.
                stats.send_buffer_full += 1;
                report.dropped += datagrams(messages);
                cursor = ends[last];
            }
        }
    }
}

fn datagrams(messages: &[Message<'_>]) -> usize {
    messages.iter().map(|message| message.datagrams).sum()
}

/// A place between two datagrams of a batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cursor {
    run: usize,
    /// Datagrams of the run that are behind.
    datagram: usize,
}

/// Cuts what follows `cursor` into messages for one socket; returns how many. `ends` says
/// where each of them ends.
fn fill<'a>(
    batch: &'a SendBatch,
    mut cursor: Cursor,
    whole: impl Fn(usize) -> bool,
    messages: &mut [Message<'a>; SEND_MESSAGES],
    ends: &mut [Cursor; SEND_MESSAGES],
) -> usize {
    let mut count = 0;
    let socket = batch.runs.get(cursor.run).map(|run| run.socket);
    while count < SEND_MESSAGES
        && let Some(run) = batch.runs.get(cursor.run)
        && Some(run.socket) == socket
    {
        let Run { remote, offset, len, segment, .. } = *run;
        let bytes = &batch.arena[offset..offset + len];
        messages[count] = if run.count > 1 && cursor.datagram == 0 && whole(cursor.run) {
            cursor.datagram = run.count;
            let segment = u16::try_from(segment).ok();
            Message { bytes, remote, segment, datagrams: run.count }
        } else {
            let start = cursor.datagram * segment;
            let end = (start + segment).min(len);
            cursor.datagram += 1;
            Message { bytes: &bytes[start..end], remote, segment: None, datagrams: 1 }
        };
        if cursor.datagram == run.count {
            cursor = Cursor { run: cursor.run + 1, datagram: 0 };
        }
        ends[count] = cursor;
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn a_batch_is_cut_into_messages_for_one_socket_at_a_time() {
        let [a, b] = [0, 1].map(|slot| SocketId { slot, generation: 0 });
        let to: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let mut batch = SendBatch::new();
        for (socket, len) in [(a, 10), (a, 10), (a, 4), (a, 20), (b, 20)] {
            batch.push(socket, to, &vec![0; len]);
        }
        let cut = |cursor, whole: bool| {
            let mut messages = [Message::EMPTY; SEND_MESSAGES];
            let mut ends = [Cursor::default(); SEND_MESSAGES];
            let count = fill(&batch, cursor, |_| whole, &mut messages, &mut ends);
            let cut: Vec<_> =
                messages[..count].iter().map(|m| (m.bytes.len(), m.segment, m.datagrams)).collect();
            (cut, ends[count - 1])
        };
        let start = Cursor::default();
        let second_socket = Cursor { run: 2, datagram: 0 };
        assert_eq!(cut(start, true), (vec![(24, Some(10), 3), (20, None, 1)], second_socket));
        let singly = vec![(10, None, 1), (10, None, 1), (4, None, 1), (20, None, 1)];
        assert_eq!(cut(start, false), (singly, second_socket));
        // In the middle of a run, what is left of it goes singly.
        let middle = Cursor { run: 0, datagram: 2 };
        assert_eq!(cut(middle, true).0, [(4, None, 1), (20, None, 1)]);
        assert_eq!(cut(second_socket, true), (vec![(20, None, 1)], Cursor { run: 3, datagram: 0 }));
    }

    /// What came of a batch of a run of three, a single and one for another socket: the
    /// lengths of the messages tried, call by call, and the rest.
    fn tried(
        mut answer: impl FnMut(usize, &[Message<'_>]) -> io::Result<usize>,
    ) -> (Vec<Vec<usize>>, SendReport, UdpStats, bool) {
        let [a, b] = [0, 1].map(|slot| SocketId { slot, generation: 0 });
        let to: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let mut batch = SendBatch::new();
        for (socket, len) in [(a, 10), (a, 10), (a, 4), (a, 20), (b, 30)] {
            batch.push(socket, to, &vec![0; len]);
        }
        let (mut calls, mut gso, mut stats) = (Vec::new(), true, UdpStats::default());
        let report = send_all(&batch, &mut gso, &mut stats, |_, messages| {
            calls.push(messages.iter().map(|m| m.bytes.len()).collect::<Vec<_>>());
            Some(answer(calls.len(), messages))
        });
        (calls, report, stats, gso)
    }

    #[test]
    fn what_was_not_taken_is_offered_again() {
        let (calls, report, stats, gso) = tried(|_, _| Ok(1));
        assert_eq!(calls, [vec![24, 20], vec![20], vec![30]]);
        assert_eq!(report, SendReport { sent: 5, dropped: 0, calls: 3 });
        assert_eq!(stats, UdpStats { runs_sent: 1, ..UdpStats::default() });
        assert!(gso);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_run_that_is_refused_goes_singly_and_eio_ends_offloading() {
        for (errno, goes_on) in [(libc::EINVAL, true), (libc::EMSGSIZE, true), (libc::EIO, false)] {
            let (calls, report, stats, gso) = tried(|call, messages| match call {
                1 => Err(io::Error::from_raw_os_error(errno)),
                _ => Ok(messages.len()),
            });
            assert_eq!(calls, [vec![24, 20], vec![10, 10, 4, 20], vec![30]]);
            assert_eq!(report, SendReport { sent: 5, dropped: 0, calls: 3 });
            assert_eq!(stats, UdpStats { runs_split: 1, ..UdpStats::default() });
            assert_eq!(gso, goes_on);
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_buffer_drops_what_is_for_that_socket() {
        for errno in [libc::EAGAIN, libc::ENOBUFS] {
            let (calls, report, stats, _) = tried(|call, messages| match call {
                1 => Err(io::Error::from_raw_os_error(errno)),
                _ => Ok(messages.len()),
            });
            assert_eq!(calls, [vec![24, 20], vec![30]]);
            assert_eq!(report, SendReport { sent: 1, dropped: 4, calls: 2 });
            assert_eq!(stats, UdpStats { send_buffer_full: 1, ..UdpStats::default() });
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn another_error_costs_one_message_and_an_interruption_nothing() {
        let (calls, report, _, _) = tried(|call, messages| match call {
            1 => Err(io::Error::from_raw_os_error(libc::EINTR)),
            2 => Err(io::Error::from_raw_os_error(libc::ENETUNREACH)),
            _ => Ok(messages.len()),
        });
        assert_eq!(calls, [vec![24, 20], vec![24, 20], vec![20], vec![30]]);
        assert_eq!(report, SendReport { sent: 2, dropped: 3, calls: 4 });
    }

    #[test]
    fn a_socket_that_is_gone_costs_no_call() {
        let batch = {
            let mut batch = SendBatch::new();
            let gone = SocketId { slot: 0, generation: 0 };
            batch.push(gone, "127.0.0.1:1".parse().unwrap(), b"x");
            batch
        };
        let report = send_all(&batch, &mut true, &mut UdpStats::default(), |_, _| None);
        assert_eq!(report, SendReport { sent: 0, dropped: 1, calls: 0 });
    }
}
