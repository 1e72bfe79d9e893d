//! What the store has is dropped from the journal, segment by segment.

use std::{fs, io, path::Path};

use super::{Journal, sync::lock};

impl Journal {
    /// The store has all entries up to this place. Segments that hold nothing else are dropped. It writes files:
    /// not for a thread that others wait for.
    ///
    /// # Errors
    /// Where the system refuses; entries then only stay longer than they need to.
    pub fn acknowledge(&self, seq: u64) -> io::Result<()> {
        let mut carried = lock(&self.shared.carried);
        let (shipped, going, open) = {
            let mut writer = self.shared.writer();
            let shipped = seq.saturating_add(1).min(writer.chain.next).max(writer.shipped);
            writer.shipped = shipped;
            while writer.marks.front().is_some_and(|(seq, _)| *seq < shipped) {
                writer.marks.pop_front();
            }
            if writer.marks.is_empty() && shipped < writer.chain.next {
                let last = writer.chain.next - 1;
                writer.mark(last, std::time::Instant::now());
            }
            // A segment has only shipped entries where the next one begins at or before the first that is not.
            let behind = writer.segments.iter().skip(1).take_while(|next| next.first <= shipped).count();
            let going: Vec<_> = writer.segments.iter().take(behind).map(|one| one.path.clone()).collect();
            let kept_from = writer.segments.get(behind).map_or(0, |kept| kept.first);
            let open: std::collections::HashSet<u64> = writer.open.range(..kept_from).copied().collect();
            (shipped, going, open)
        };
        self.shared.advance_shipped(shipped);
        carried.advance(shipped)?;
        if going.is_empty() {
            return Ok(());
        }
        let paths: Vec<&Path> = going.iter().map(AsRef::as_ref).collect();
        carried.settle(&paths, |seq| open.contains(&seq))?;
        for path in paths {
            fs::remove_file(path)?;
            let mut writer = self.shared.writer();
            writer.segments.pop_front();
            writer.retry();
        }
        carried.restore_ballast();
        Ok(())
    }
}
