//! Arguments and results of calls.

use super::ParseError;
use super::cursor::Cursor;
use crate::script::Expression;

/// Values up to `end`, separated by commas.
pub fn list(at: &mut Cursor<'_>, end: &str) -> Result<Vec<Expression>, ParseError> {
    let mut values = Vec::new();
    if at.eats(end) {
        return Ok(values);
    }
    loop {
        values.push(value(at)?);
        if at.eats(end) {
            return Ok(values);
        }
        at.expect(",")?;
    }
}

/// One value.
pub fn value(at: &mut Cursor<'_>) -> Result<Expression, ParseError> {
    let first = simple(at)?;
    if !at.eats("|") {
        return Ok(first);
    }
    let mut all = vec![first, simple(at)?];
    while at.eats("|") {
        all.push(simple(at)?);
    }
    Ok(Expression::Or(all))
}

fn simple(at: &mut Cursor<'_>) -> Result<Expression, ParseError> {
    if at.eats("...") {
        return Ok(Expression::Anything);
    }
    match at.peek() {
        Some('[') => {
            at.expect("[")?;
            Ok(Expression::List(list(at, "]")?))
        }
        Some('{') => structure(at),
        Some('"') => {
            let text = at.quoted('"')?;
            at.eats("...");
            Ok(Expression::Text(text))
        }
        Some(c) if c.is_ascii_digit() || c == '-' => Ok(Expression::Number(at.number()?)),
        _ => {
            let word = at.word()?;
            if word.starts_with(char::is_lowercase) && at.eats("(") {
                return Ok(Expression::Apply(word, list(at, ")")?));
            }
            Ok(Expression::Word(word))
        }
    }
}

fn structure(at: &mut Cursor<'_>) -> Result<Expression, ParseError> {
    at.expect("{")?;
    let mut fields = Vec::new();
    loop {
        let name = at.word()?;
        at.expect("=")?;
        fields.push((name, value(at)?));
        if at.eats("}") {
            return Ok(Expression::Struct(fields));
        }
        at.expect(",")?;
    }
}
