//! Files that are made when there is something to be in them.

use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Most files of one name in a directory.
const MAX_NAMESAKES: u32 = 1_000;

/// A file that is made at the first write, so that there never is an empty one, and never over one
/// that is there: `NAME-2.EXT` follows.
#[derive(Debug)]
pub(super) struct NewFile {
    directory: PathBuf,
    /// The name up to where a number goes in, and what follows.
    stem: String,
    end: String,
    file: Option<File>,
    path: NewPath,
}

/// Where a [`NewFile`] is.
#[derive(Debug, Clone)]
pub(super) struct NewPath {
    wanted: PathBuf,
    made: Arc<OnceLock<PathBuf>>,
}

impl NewPath {
    /// Where it is, if it is.
    pub(super) fn made(&self) -> Option<&Path> {
        self.made.get().map(PathBuf::as_path)
    }

    /// Where it is, or is to be.
    pub(super) fn shown(&self) -> PathBuf {
        self.made.get().unwrap_or(&self.wanted).clone()
    }
}

impl NewFile {
    pub(super) fn new(directory: &Path, stem: &str, end: String) -> Self {
        let wanted = directory.join(format!("{stem}{end}"));
        let path = NewPath { wanted, made: Arc::default() };
        Self { directory: directory.to_owned(), stem: stem.to_owned(), end, file: None, path }
    }

    pub(super) fn path(&self) -> NewPath {
        self.path.clone()
    }

    fn file(&mut self) -> io::Result<&mut File> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.make()?,
        };
        Ok(self.file.insert(file))
    }

    fn make(&self) -> io::Result<File> {
        let Self { stem, end, .. } = self;
        for number in 1..=MAX_NAMESAKES {
            let name = match number {
                1 => format!("{stem}{end}"),
                _ => format!("{stem}-{number}{end}"),
            };
            let path = self.directory.join(name);
            match File::create_new(&path) {
                Ok(file) => {
                    let _ = self.path.made.set(path);
                    return Ok(file);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Seek for NewFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file()?.seek(to)
    }
}
