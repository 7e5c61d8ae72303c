//! Assertions about `tcp_info`: `assert tcpi_snd_cwnd == 10 and tcpi_rto >= 200000, tcpi_rto`.
//!
//! The arithmetic, comparisons and `and`, `or`, `not` of packetdrill's Python, over whole numbers.

/// Evaluates each statement of `code`; names are looked up by `lookup`.
///
/// # Errors
/// An assertion that does not hold, with the values in it, or what cannot be read.
pub fn check(code: &str, lookup: &dyn Fn(&str) -> Option<i64>) -> Result<(), String> {
    let statements = code.split(['\n', ';']).map(str::trim);
    for statement in statements.filter(|s| !s.is_empty() && !s.starts_with('#')) {
        let Some(condition) = statement.strip_prefix("assert") else {
            return Err(format!("{statement:?} is no assertion"));
        };
        // What follows a comma is what packetdrill would print.
        let condition = condition.split(',').next().unwrap_or_default();
        let mut names = Vec::new();
        let mut parser = Parser {
            rest: condition.trim(),
            lookup,
            names: &mut names,
        };
        let value = parser.either()?;
        if !parser.rest.is_empty() {
            return Err(format!("{:?} is left over in {statement:?}", parser.rest));
        }
        if value == 0 {
            names.dedup();
            let values: Vec<String> = names.iter().map(|(n, v)| format!("{n} is {v}")).collect();
            return Err(format!("{statement}: {}", values.join(", ")));
        }
    }
    Ok(())
}

struct Parser<'a> {
    rest: &'a str,
    lookup: &'a dyn Fn(&str) -> Option<i64>,
    names: &'a mut Vec<(String, i64)>,
}

type Value = Result<i64, String>;

impl Parser<'_> {
    fn eats(&mut self, token: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(token) else {
            return false;
        };
        let is_word = token.starts_with(char::is_alphabetic);
        if is_word && rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
            return false;
        }
        self.rest = rest.trim_start();
        true
    }

    fn either(&mut self) -> Value {
        let mut value = self.both()?;
        while self.eats("or") {
            let other = self.both()?;
            value = i64::from(value != 0 || other != 0);
        }
        Ok(value)
    }

    fn both(&mut self) -> Value {
        let mut value = self.negation()?;
        while self.eats("and") {
            let other = self.negation()?;
            value = i64::from(value != 0 && other != 0);
        }
        Ok(value)
    }

    fn negation(&mut self) -> Value {
        if self.eats("not") {
            return Ok(i64::from(self.negation()? == 0));
        }
        self.comparison()
    }

    /// As in Python, `1 <= a <= 3` means both.
    fn comparison(&mut self) -> Value {
        let mut left = self.sum()?;
        let mut holds = None;
        loop {
            let compare: fn(i64, i64) -> bool = if self.eats("==") {
                |a, b| a == b
            } else if self.eats("!=") {
                |a, b| a != b
            } else if self.eats("<=") {
                |a, b| a <= b
            } else if self.eats(">=") {
                |a, b| a >= b
            } else if self.eats("<") {
                |a, b| a < b
            } else if self.eats(">") {
                |a, b| a > b
            } else {
                return Ok(holds.map_or(left, i64::from));
            };
            let right = self.sum()?;
            holds = Some(holds.unwrap_or(true) && compare(left, right));
            left = right;
        }
    }

    fn sum(&mut self) -> Value {
        let mut value = self.product()?;
        loop {
            if self.eats("+") {
                value = value.wrapping_add(self.product()?);
            } else if self.eats("-") {
                value = value.wrapping_sub(self.product()?);
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Value {
        let mut value = self.atom()?;
        loop {
            if self.eats("*") {
                value = value.wrapping_mul(self.atom()?);
            } else if self.eats("/") {
                let by = self.atom()?;
                value = value.checked_div(by).ok_or("division by zero")?;
            } else if self.eats("%") {
                let by = self.atom()?;
                value = value.checked_rem(by).ok_or("division by zero")?;
            } else if self.eats("&") {
                value &= self.atom()?;
            } else {
                return Ok(value);
            }
        }
    }

    fn atom(&mut self) -> Value {
        if self.eats("-") {
            return Ok(self.atom()?.wrapping_neg());
        }
        if self.eats("(") {
            let value = self.either()?;
            return match self.eats(")") {
                true => Ok(value),
                false => Err("no closing parenthesis".into()),
            };
        }
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let len = self.rest.find(|c| !is_word(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(len);
        self.rest = rest.trim_start();
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            return word.parse().map_err(|_| format!("{word:?} is no number"));
        }
        let value = (self.lookup)(word).ok_or_else(|| format!("{word:?} is not known"))?;
        self.names.push((word.to_owned(), value));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<i64> {
        match name {
            "a" => Some(3),
            "order" => Some(10),
            _ => None,
        }
    }

    #[test]
    fn what_holds_passes() {
        for code in [
            "assert a == 3",
            "assert a * 2 + 4 == order, order",
            "assert 1 <= a <= 3 and not a > 3",
            "assert a == 1 or order >= 10; assert -a < 0",
            "assert (a - 1) * 5 == order and order % 3 == 1 and order & 2",
        ] {
            assert_eq!(check(code, &lookup), Ok(()), "{code}");
        }
    }

    #[test]
    fn what_does_not_hold_is_told_with_its_values() {
        let error = check("assert a > order", &lookup).unwrap_err();
        assert!(
            error.contains("a is 3") && error.contains("order is 10"),
            "{error}"
        );
        for code in [
            "assert b == 1",
            "a = 3",
            "assert (a",
            "assert a / 0",
            "assert a a",
        ] {
            assert!(check(code, &lookup).is_err(), "{code}");
        }
    }
}
