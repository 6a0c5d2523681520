//! CSV typed by a product's JSON Schema: each row becomes one JSON object whose members are the
//! columns, in their order.
//!
//! | The column in the schema | The cell becomes |
//! |---|---|
//! | `integer`, `number` | the number as it is written, if it is a JSON number (`10.50` stays `10.50`) |
//! | `boolean` | `true` or `false`, whatever the case |
//! | `object`, `array` | the cell read as JSON |
//! | `string`, and columns the schema does not know | a string |
//!
//! With several types, the first of these that fits wins, a string last. A cell equal to the null
//! text (`--null`) is `null` in every column; without that flag nothing is.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// The types one column may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Types {
    number: bool,
    boolean: bool,
    nested: bool,
    string: bool,
}

impl Types {
    const STRING: Self = Self { number: false, boolean: false, nested: false, string: true };

    fn expected(self) -> String {
        let mut names = Vec::new();
        if self.number {
            names.push("a number");
        }
        if self.boolean {
            names.push("true or false");
        }
        if self.nested {
            names.push("JSON");
        }
        names.join(" or ")
    }

    fn add_name(&mut self, name: &str) {
        match name {
            "integer" | "number" => self.number = true,
            "boolean" => self.boolean = true,
            "object" | "array" => self.nested = true,
            "string" => self.string = true,
            _ => {}
        }
    }

    fn add_value(&mut self, value: &Value) {
        match value {
            Value::Null => {}
            Value::Bool(_) => self.boolean = true,
            Value::Number(_) => self.number = true,
            Value::String(_) => self.string = true,
            Value::Array(_) | Value::Object(_) => self.nested = true,
        }
    }
}

/// The types of the columns that a schema names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    types: HashMap<String, Types>,
}

impl Columns {
    /// The columns of a JSON Schema: its top-level properties.
    pub(crate) fn of_json_schema(text: &str) -> Result<Self, String> {
        let schema: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let mut types = HashMap::new();
        collect_properties(&schema, &mut types);
        Ok(Self { types })
    }

    /// The rows of a CSV text with these columns; `header` is its first row.
    pub(crate) fn rows(&self, header: &csv::StringRecord, null: Option<String>) -> Rows {
        let columns = header
            .iter()
            .map(|name| {
                let types = self.types.get(name).copied().unwrap_or(Types::STRING);
                Column { name: name.to_owned(), json_name: json_string(name), types }
            })
            .collect();
        Rows { columns, null }
    }
}

/// Properties of a schema and of what it refers to or combines.
fn collect_properties(root: &Value, found: &mut HashMap<String, Types>) {
    for part in parts(root, root) {
        for (name, property) in
            part.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            let mut types = Types::default();
            parts(root, property).into_iter().for_each(|part| add_types(part, &mut types));
            let types = if types == Types::default() { Types::STRING } else { types };
            found.insert(name.clone(), types);
        }
    }
}

fn add_types(schema: &Value, types: &mut Types) {
    match schema.get("type") {
        Some(Value::String(name)) => types.add_name(name),
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).for_each(|name| types.add_name(name));
        }
        _ => {
            schema.get("const").into_iter().for_each(|value| types.add_value(value));
            let values = schema.get("enum").and_then(Value::as_array);
            values.into_iter().flatten().for_each(|value| types.add_value(value));
        }
    }
}

/// The schema, what it refers to, what it combines, and so on; each once, so circles end.
fn parts<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let mut waiting = vec![schema];
    while let Some(part) = waiting.pop() {
        if !seen.insert(std::ptr::from_ref(part)) {
            continue;
        }
        found.push(part);
        let target = part.get("$ref").and_then(Value::as_str).and_then(|at| at.strip_prefix('#'));
        waiting.extend(target.and_then(|at| root.pointer(at)));
        for word in ["allOf", "anyOf", "oneOf"] {
            waiting.extend(part.get(word).and_then(Value::as_array).into_iter().flatten());
        }
    }
    found
}

#[derive(Clone, Debug)]
struct Column {
    name: String,
    json_name: String,
    types: Types,
}

/// Turns rows into JSON objects.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    columns: Vec<Column>,
    null: Option<String>,
}

impl Rows {
    /// One row as a JSON object; an error is a sentence without the line number.
    pub(crate) fn to_json(&self, row: &csv::StringRecord) -> Result<String, String> {
        if row.len() != self.columns.len() {
            return Err(format!(
                "it has {} cells, the first line of the file has {}",
                row.len(),
                self.columns.len()
            ));
        }
        let mut json = String::with_capacity(row.as_slice().len() + 16 * row.len());
        for (column, cell) in self.columns.iter().zip(row) {
            json.push(if json.is_empty() { '{' } else { ',' });
            json.push_str(&column.json_name);
            json.push(':');
            if self.null.as_deref() == Some(cell) {
                json.push_str("null");
            } else {
                push_cell(&mut json, column, cell)?;
            }
        }
        json.push('}');
        Ok(json)
    }
}

fn push_cell(json: &mut String, column: &Column, cell: &str) -> Result<(), String> {
    let types = column.types;
    if types.number {
        if is_json_number(cell) {
            json.push_str(cell);
            return Ok(());
        }
        if let Some(number) = other_number(cell) {
            json.push_str(&number);
            return Ok(());
        }
    }
    if types.boolean {
        for word in ["true", "false"] {
            if cell.eq_ignore_ascii_case(word) {
                json.push_str(word);
                return Ok(());
            }
        }
    }
    if types.nested && serde_json::from_str::<serde::de::IgnoredAny>(cell).is_ok() {
        json.push_str(cell);
        return Ok(());
    }
    if types.string {
        json.push_str(&json_string(cell));
        return Ok(());
    }
    let hint = if matches!(cell, "" | "NA" | "NULL" | "null" | "N/A" | "-") {
        format!("; if that means a missing value, add --null {}", shell_word(cell))
    } else {
        String::new()
    };
    Err(format!("column `{}`: expected {}, found `{cell}`{hint}", column.name, types.expected()))
}

fn shell_word(word: &str) -> &str {
    if word.is_empty() { "''" } else { word }
}

/// Whether the text is a number by JSON's grammar, so that it can stand in the object as it is.
fn is_json_number(text: &str) -> bool {
    let first = text.as_bytes().first();
    matches!(first, Some(b'-' | b'0'..=b'9'))
        && text.as_bytes().last().is_some_and(u8::is_ascii_digit)
        && serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
}

/// A number written as JSON does not: `+5`, `007`, `.5`.
fn other_number(text: &str) -> Option<String> {
    if let Ok(number) = text.parse::<i64>() {
        return Some(number.to_string());
    }
    let number: f64 = text.parse().ok()?;
    number.is_finite().then(|| Value::from(number).to_string())
}

fn json_string(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(schema: &str, null: Option<&str>, csv: &str) -> Vec<Result<String, String>> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(csv.as_bytes());
        let header = reader.headers().unwrap().clone();
        let rows = Columns::of_json_schema(schema).unwrap().rows(&header, null.map(str::to_owned));
        reader.records().map(|row| rows.to_json(&row.unwrap())).collect()
    }

    const SCHEMA: &str = r##"{
        "properties": {
            "count": {"type": ["integer", "null"]}, "speed": {"type": "number"},
            "on": {"type": "boolean"}, "list": {"type": "array"}, "model": {"type": "string"},
            "code": {"$ref": "#/$defs/code"}, "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
            "kind": {"enum": ["a", "b"]}
        },
        "$defs": {"code": {"type": "integer"}}
    }"##;

    #[test]
    fn cells_take_the_types_of_the_schema_and_numbers_stay_as_written() {
        let rows = convert(
            SCHEMA,
            Some("NA"),
            "count,speed,on,list,model,code,either,kind,extra\n\
             NA,10.50,TRUE,\"[1, 2]\",150,7,8,a,9\n\
             +5,.5,false,[],NA,007,x,b,\"say \"\"hi\"\"\"\n",
        );
        assert_eq!(
            rows[0].as_deref(),
            Ok(
                r#"{"count":null,"speed":10.50,"on":true,"list":[1, 2],"model":"150","code":7,"either":8,"kind":"a","extra":"9"}"#
            )
        );
        assert_eq!(
            rows[1].as_deref(),
            Ok(
                r#"{"count":5,"speed":0.5,"on":false,"list":[],"model":null,"code":7,"either":"x","kind":"b","extra":"say \"hi\""}"#
            )
        );
    }

    #[test]
    fn a_cell_that_does_not_fit_names_column_expected_and_found() {
        let rows = convert(SCHEMA, None, "count,on\nNA,true\n1,yes\n1e,true\n1\n");
        assert_eq!(
            rows[0].as_deref().unwrap_err(),
            "column `count`: expected a number, found `NA`; if that means a missing value, add --null NA"
        );
        assert_eq!(
            rows[1].as_deref().unwrap_err(),
            "column `on`: expected true or false, found `yes`"
        );
        assert!(rows[2].is_err());
        assert_eq!(
            rows[3].as_deref().unwrap_err(),
            "it has 1 cells, the first line of the file has 2"
        );
    }

    #[test]
    fn references_in_a_circle_end() {
        let schema = r##"{"$ref": "#", "allOf": [{"$ref": "#"}], "properties": {"a": {"$ref": "#/properties/a"}}}"##;
        assert_eq!(convert(schema, None, "a\n1\n"), [Ok(r#"{"a":"1"}"#.to_owned())]);
    }

    #[test]
    fn infinity_is_no_number() {
        assert!(convert(SCHEMA, None, "speed\ninf\n")[0].is_err());
        assert!(convert(SCHEMA, None, "speed\nNaN\n")[0].is_err());
        assert!(convert(SCHEMA, None, "speed\n 1\n")[0].is_err());
    }
}
