//! Round trips through the whole pipeline.
