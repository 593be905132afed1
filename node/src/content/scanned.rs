//! Files on their way through the malware scanner, one stream each.
//!
//! **Invariant:** a file is let through only with the scanner's word for this very file, given by a scanner that passes its
//! own test at that moment; whatever else happens is an error.

use crate::scan::{ScanError, Scanner, Stream, Verdict};

/// Why a file is not let through.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotClean {
    /// Malware, by the name of its signature.
    #[error("the malware scanner found {0}")]
    Found(String),
    /// The scanner's settings do not let it look into all of it.
    #[error("it is beyond the malware scanner's limits ({0})")]
    Beyond(String),
    /// The scanner fails; it may go later.
    #[error("the malware scanner cannot be used: {0}")]
    Unscanned(String),
}

impl From<ScanError> for NotClean {
    fn from(error: ScanError) -> NotClean {
        NotClean::Unscanned(error.to_string())
    }
}

/// Takes files apart from each other; one without a scanner lets everything through.
pub(super) struct Scanned {
    scanner: Option<Scanner>,
    stream: Option<Stream>,
}

impl Scanned {
    pub(super) fn by(scanner: Option<Scanner>) -> Scanned {
        Scanned { scanner, stream: None }
    }

    /// A text that people read; an empty one holds nothing.
    pub(super) async fn text(&mut self, text: &str) -> Result<(), NotClean> {
        self.write(text.as_bytes()).await?;
        self.end().await
    }

    /// More of the present file.
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), NotClean> {
        let Some(scanner) = self.scanner.as_ref().filter(|_| !bytes.is_empty()) else { return Ok(()) };
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => none.insert(scanner.begin().await.inspect_err(|_| scanner.doubt())?),
        };
        Ok(stream.write(bytes).await.inspect_err(|_| scanner.doubt())?)
    }

    /// The present file is whole.
    pub(super) async fn end(&mut self) -> Result<(), NotClean> {
        let (Some(scanner), Some(stream)) = (&self.scanner, self.stream.take()) else { return Ok(()) };
        let verdict = stream.finish().await.inspect_err(|_| scanner.doubt())?;
        match verdict {
            Verdict::Clean => scanner.fit().map(drop).map_err(NotClean::Unscanned),
            Verdict::Found(name) => Err(NotClean::Found(name)),
            Verdict::Beyond(limit) => Err(NotClean::Beyond(limit)),
        }
    }
}
