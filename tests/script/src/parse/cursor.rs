//! A place in a script's text, and the small things that can be read there.

use super::ParseError;

pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Self {
        Cursor {
            text,
            at: 0,
            line: 1,
        }
    }

    pub fn line(&self) -> usize {
        self.line
    }

    pub fn error(&self, what: impl Into<String>) -> ParseError {
        ParseError {
            line: self.line,
            what: what.into(),
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn advance(&mut self, bytes: usize) -> &'a str {
        let taken = &self.rest()[..bytes];
        self.line += taken.matches('\n').count();
        self.at += bytes;
        taken
    }

    /// Skips white space and comments.
    fn skip(&mut self) {
        loop {
            let blank = self.rest().len() - self.rest().trim_start().len();
            self.advance(blank);
            let comment = if self.rest().starts_with("//") {
                self.rest().find('\n').unwrap_or(self.rest().len())
            } else if self.rest().starts_with("/*") {
                self.rest().find("*/").map_or(self.rest().len(), |n| n + 2)
            } else {
                return;
            };
            self.advance(comment);
        }
    }

    pub fn is_at_end(&mut self) -> Result<bool, ParseError> {
        self.skip();
        Ok(self.rest().is_empty())
    }

    pub fn peek(&mut self) -> Option<char> {
        self.skip();
        self.rest().chars().next()
    }

    /// Takes `token` if it is next.
    pub fn eats(&mut self, token: &str) -> bool {
        self.skip();
        let next = self.rest().starts_with(token);
        if next {
            self.advance(token.len());
        }
        next
    }

    /// The same for a whole word.
    pub fn eats_word(&mut self, word: &str) -> bool {
        self.skip();
        let len = self.word_len();
        let next = &self.rest()[..len] == word;
        if next {
            self.advance(len);
        }
        next
    }

    pub fn expect(&mut self, token: &str) -> Result<(), ParseError> {
        if self.eats(token) {
            return Ok(());
        }
        let found: String = self.rest().chars().take(12).collect();
        Err(self.error(format!("{token:?} expected, not {found:?}")))
    }

    fn word_len(&self) -> usize {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        self.rest()
            .find(|c| !is_word(c))
            .unwrap_or(self.rest().len())
    }

    /// Letters, digits and underscores.
    pub fn word(&mut self) -> Result<String, ParseError> {
        self.skip();
        match self.word_len() {
            0 => {
                let found: String = self.rest().chars().take(12).collect();
                Err(self.error(format!("a word expected, not {found:?}")))
            }
            len => Ok(self.advance(len).to_owned()),
        }
    }

    /// Everything up to the next white space.
    pub fn until_space(&mut self) -> String {
        let len = self.rest().find(char::is_whitespace);
        self.advance(len.unwrap_or(self.rest().len())).to_owned()
    }

    /// A whole number, decimal or hexadecimal.
    pub fn number(&mut self) -> Result<i64, ParseError> {
        let minus = self.eats("-");
        let word = self.word()?;
        let number = match word.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16),
            None => word.parse(),
        };
        let number = number.map_err(|_| self.error(format!("{word:?} is no number")))?;
        Ok(if minus { -number } else { number })
    }

    /// A number that fits.
    pub fn number_as<T: TryFrom<i64>>(&mut self) -> Result<T, ParseError> {
        let number = self.number()?;
        T::try_from(number).map_err(|_| self.error(format!("{number} is out of range")))
    }

    /// A time in seconds, as microseconds.
    pub fn micros(&mut self) -> Result<u64, ParseError> {
        self.skip();
        let digits =
            |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let whole = digits(self.rest());
        // "0...1" is a span and no fraction.
        let fraction = match self.rest()[whole..].strip_prefix('.') {
            Some(rest) => digits(rest),
            None => 0,
        };
        if whole + fraction == 0 {
            return Err(self.error("a time in seconds expected"));
        }
        let len = whole + if fraction > 0 { fraction + 1 } else { 0 };
        let seconds: f64 = self
            .advance(len)
            .parse()
            .map_err(|_| self.error("no time"))?;
        if seconds > 1e7 {
            return Err(self.error("a time beyond all reason"));
        }
        Ok((seconds * 1e6).round() as u64)
    }

    /// A text between two quotation marks of a kind.
    pub fn quoted(&mut self, mark: char) -> Result<String, ParseError> {
        let token = mark.to_string();
        self.expect(&token)?;
        let Some(len) = self.rest().find(mark) else {
            return Err(self.error(format!("no closing {mark}")));
        };
        let text = self.advance(len).to_owned();
        self.expect(&token)?;
        Ok(text)
    }

    /// What stands between `%{` and `}%`.
    pub fn code(&mut self) -> Result<String, ParseError> {
        self.expect("%{")?;
        let Some(len) = self.rest().find("}%") else {
            return Err(self.error("no closing }%"));
        };
        let text = self.advance(len).trim().to_owned();
        self.expect("}%")?;
        Ok(text)
    }

    /// A remark in parentheses.
    pub fn note(&mut self) -> Result<(), ParseError> {
        self.expect("(")?;
        let Some(len) = self.rest().find(')') else {
            return Err(self.error("no closing parenthesis"));
        };
        self.advance(len + 1);
        Ok(())
    }
}
