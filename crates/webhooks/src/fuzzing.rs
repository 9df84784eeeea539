//! Access for the fuzz targets to private parsers. Not part of the public interface.

use crate::Verdict;
use crate::asking;

/// Reads the answer of a hook's backend; `None` if it is no decision.
pub fn hook_answer(body: &[u8], is_send: bool) -> Option<Verdict> {
    asking::read(body, is_send).ok()
}
