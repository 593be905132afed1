//! Every event of a run as a line of JSON.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::progress::Onlooker;
use crate::outcome::{Event, Watch};

/// Writes events while it lets somebody else look on. The first error is kept until the end.
pub(super) struct Events<'a> {
    file: Option<(PathBuf, BufWriter<File>)>,
    failed: Option<std::io::Error>,
    onlooker: Onlooker<'a>,
}

impl<'a> Events<'a> {
    /// Into a new file, or nowhere.
    pub(super) fn create(path: Option<&Path>, onlooker: Onlooker<'a>) -> Result<Self> {
        let create = |path: &Path| -> Result<_> {
            let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            Ok((path.to_path_buf(), BufWriter::with_capacity(1 << 20, file)))
        };
        Ok(Self { file: path.map(create).transpose()?, failed: None, onlooker })
    }

    /// Everything is in the file.
    pub(super) fn finish(mut self) -> Result<()> {
        let Some((path, mut file)) = self.file.take() else { return Ok(()) };
        let written = self.failed.take().map_or_else(|| file.flush(), Err);
        written.with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Watch for Events<'_> {
    fn event(&mut self, event: &Event) {
        self.onlooker.event(event);
        let Some((_, file)) = self.file.as_mut().filter(|_| self.failed.is_none()) else { return };
        let written = serde_json::to_writer(&mut *file, event).map_err(std::io::Error::from);
        self.failed = written.and_then(|()| file.write_all(b"\n")).err();
    }

    fn progress(&mut self, simulated: Duration) {
        self.onlooker.progress(simulated);
    }
}
