//! Copies an Ogg/Opus file and loses every tenth packet on the way: the copy is as long as
//! the original, and a player conceals what is missing.
//!
//! `cargo run -p ortc-media --example lossy_copy -- FROM.ogg TO.ogg`; without arguments it
//! copies the speech of the tests into the directory for temporary files.

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use ortc_media::{OggOpusConfig, OggOpusReader, OggOpusWriter};

const SPEECH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/media/speech.ogg");

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args_os().skip(1);
    let from = arguments.next().map_or_else(|| PathBuf::from(SPEECH), PathBuf::from);
    let to = arguments.next().map_or_else(|| env::temp_dir().join("copy.ogg"), PathBuf::from);
    let file = File::open(&from).map_err(|error| format!("{}: {error}", from.display()))?;
    let mut reader = OggOpusReader::new(BufReader::new(file))?;
    let config = OggOpusConfig {
        channels: reader.channels(),
        pre_skip: reader.pre_skip(),
        ..OggOpusConfig::default()
    };
    let file = File::create(&to).map_err(|error| format!("{}: {error}", to.display()))?;
    let mut writer = OggOpusWriter::new(file, config)?;
    let (mut time, mut index) = (0, 0);
    while let Some(packet) = reader.read_packet()? {
        if index % 10 != 5 {
            writer.write(time, &packet.data)?;
        }
        time += u64::from(packet.samples);
        index += 1;
    }
    eprintln!("{}: {:?}", to.display(), writer.counts());
    writer.finish()?;
    Ok(())
}
