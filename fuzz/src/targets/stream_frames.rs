//! Streams of TURN servers and of peers, which come in pieces of any size.

use ortc_io::fuzzing::{append_to_stream, cut_stream, takes_stream};

use crate::Dice;

pub(crate) fn run(data: &[u8]) {
    let mut dice = Dice::new(data);
    let (of_turn, step) = (dice.byte() & 1 == 0, usize::from(dice.byte()) + 1);
    let stream = dice.rest();
    let whole = cut_stream(of_turn, [stream]);
    let pieces = cut_stream(of_turn, stream.chunks(step));
    assert_eq!(whole, pieces, "it is cut alike however it comes");
    // Whoever does not know the password gets in by no message.
    assert!(!takes_stream(stream, "abcd", "a password that nobody knows"));
    let Some(messages) = whole else { return };
    let mut written = Vec::new();
    for message in &messages {
        assert!(!message.is_empty());
        append_to_stream(of_turn, &mut written, message);
    }
    assert!(written.len() <= stream.len(), "nothing is made up");
    assert_eq!(cut_stream(of_turn, [&written[..]]), Some(messages), "it is read as it is written");
}
