//! The files of the project.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::process::{Failure, Outcome};

/// Directories that hold nothing of ours.
const FOREIGN: &[&str] = &["target", "node_modules", ".git"];

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().expect("xtask is a directory of the workspace").to_path_buf()
}

/// A text file, read.
pub(crate) struct SourceFile {
    /// Path from the root, with `/` between its parts.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Reads all files of the project whose extension is one of `extensions`, in order of path.
pub(crate) fn files(extensions: &[&str]) -> Outcome<Vec<SourceFile>> {
    let mut files = Vec::new();
    visit(&root(), "", extensions, &mut files)
        .map_err(|error| Failure::new(format!("the tree cannot be read: {error}")))?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

/// Reads one file of the project.
pub(crate) fn read(path: &str) -> Outcome<String> {
    fs::read_to_string(root().join(path))
        .map_err(|error| Failure::new(format!("{path} cannot be read: {error}")))
}

fn visit(
    directory: &Path,
    prefix: &str,
    extensions: &[&str],
    files: &mut Vec<SourceFile>,
) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if !FOREIGN.contains(&name.as_str()) {
                visit(&entry.path(), &format!("{path}/"), extensions, files)?;
            }
        } else if kind.is_file()
            && name.rsplit_once('.').is_some_and(|(_, end)| extensions.contains(&end))
        {
            files.push(SourceFile { path, text: fs::read_to_string(entry.path())? });
        }
    }
    Ok(())
}
