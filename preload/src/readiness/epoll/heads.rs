//! For each socket record, a number: a table in pages, for records are many and an instance watches
//! few, near to each other.

/// Records of one page.
const PAGE: usize = 256;
const NONE: u32 = u32::MAX;

/// A number for each record, or none.
pub struct Heads {
    pages: Vec<Option<Box<[u32; PAGE]>>>,
}

impl Heads {
    /// None for any record.
    pub const fn new() -> Heads {
        Heads { pages: Vec::new() }
    }

    /// The number of a record; `u32::MAX` if it has none.
    #[inline]
    pub fn get(&self, record: u32) -> u32 {
        let record = record as usize;
        match self.pages.get(record / PAGE) {
            Some(Some(page)) => page[record % PAGE],
            _ => NONE,
        }
    }

    /// Gives a record, one of the segment's, a number, and returns what it had; `u32::MAX` is none.
    #[inline]
    pub fn replace(&mut self, record: u32, number: u32) -> u32 {
        let record = record as usize;
        match self.pages.get_mut(record / PAGE) {
            Some(Some(page)) => std::mem::replace(&mut page[record % PAGE], number),
            _ => self.begin(record, number),
        }
    }

    #[cold]
    fn begin(&mut self, record: usize, number: u32) -> u32 {
        if number != NONE {
            if self.pages.len() <= record / PAGE {
                self.pages.resize_with(record / PAGE + 1, || None);
            }
            let page = self.pages[record / PAGE].get_or_insert_with(|| Box::new([NONE; PAGE]));
            page[record % PAGE] = number;
        }
        NONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_keeps_its_own_number() {
        let mut heads = Heads::new();
        assert_eq!(heads.replace(5, NONE), NONE);
        let records = [0, 5, 255, 256, 70_000];
        for record in records {
            assert_eq!(heads.replace(record, record + 1), NONE);
        }
        for record in records {
            assert_eq!(heads.get(record), record + 1);
            assert_eq!(heads.replace(record, NONE), record + 1);
            assert_eq!(heads.get(record), NONE);
        }
        assert_eq!((heads.get(1), heads.get(u32::MAX)), (NONE, NONE));
    }
}
