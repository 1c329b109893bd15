//! `cargo xtask schema`: writes the JSON Schema and the TypeScript types of what is signalled.
//!
//! The types are read where they are linked in, by a test; without the variable it only holds
//! the committed files against them, which is how CI finds stale ones.

use crate::process::{Outcome, cargo, execute};

pub(crate) fn run(_: &[String]) -> Outcome {
    let arguments = ["test", "--workspace", "--all-features", "--test", "schema"];
    let name = "the_committed_files_are_what_the_types_give";
    execute(cargo(&arguments).args(["--", name]).env("ORTC_WRITE_SCHEMA", "1"))?;
    println!("docs/ortc.schema.json, docs/ortc.d.ts and the types of the npm package are written");
    Ok(())
}
