//! An upload form: its values, and what a person must mend.
//!
//! In: the parts of a form, as they come. Out: values, and a message beside each field that will not do. Promise: what was typed is never lost; what is
//! our fault is never put on the person.

use rowbound_files::{Files, ImageFile};
use rowbound_web::{Part, Problem, UploadForm};

use crate::pages::{Failed, sentence};

/// The most characters of a title, and of a text.
const TITLE: usize = 200;
const TEXT: usize = 20_000;

/// What must be mended, in the order of the fields.
#[derive(Debug, Default)]
pub struct Refused(pub Vec<(String, String)>);

impl Refused {
    /// The message beside a field.
    pub fn at(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|(at, _)| at == field).map(|(_, message)| message.as_str())
    }

    pub fn say(&mut self, field: &str, message: impl Into<String>) {
        self.0.push((field.to_owned(), message.into()));
    }
}

/// A form that is being read.
pub struct Reading {
    form: UploadForm,
    pub refused: Refused,
}

impl Reading {
    pub fn new(form: UploadForm) -> Self {
        Reading { form, refused: Refused::default() }
    }

    /// The next part; `None` after the last one that can be read.
    ///
    /// # Errors
    /// A request that is no form, or was cut off.
    pub async fn next(&mut self) -> Result<Option<Part>, Failed> {
        Ok(self.form.next().await?)
    }

    /// A text, as it was typed, with line feeds alone for line ends; NUL, which not every database takes, goes.
    ///
    /// # Errors
    /// As [`Reading::next`].
    pub async fn text(&mut self, part: Part) -> Result<String, Failed> {
        Ok(part.text().await?.replace("\r\n", "\n").replace('\0', ""))
    }

    /// A picture, saved while it comes; `None` where none was chosen, and where it was refused.
    ///
    /// # Errors
    /// Those of storage and database.
    pub async fn picture(&mut self, part: Part, files: &Files<ImageFile>) -> Result<Option<ImageFile>, Failed> {
        let (field, name) = (part.name().to_owned(), part.file_name().unwrap_or_default().to_owned());
        match part.save_optional(files).await {
            Ok(picture) => Ok(picture),
            Err(problem) if problem.status().is_client_error() => {
                self.refused.say(&field, format!("{name}: {}", told(&problem)));
                Ok(None)
            }
            Err(problem) => Err(problem.into()),
        }
    }

    /// Checks what was typed.
    pub fn check_title(&mut self, title: &mut String) {
        *title = title.split_whitespace().collect::<Vec<_>>().join(" ");
        match title.chars().count() {
            0 => self.refused.0.insert(0, ("title".to_owned(), "Enter a title.".to_owned())),
            n if n > TITLE => {
                self.refused.0.insert(0, ("title".to_owned(), format!("Enter a title of at most {TITLE} characters; this one has {n}.")));
            }
            _ => {}
        }
    }

    /// Checks what was typed.
    pub fn check_text(&mut self, text: &str) {
        let n = text.chars().count();
        if n > TEXT {
            self.refused.say("text", format!("Enter a text of at most {TEXT} characters; this one has {n}."));
        }
    }
}

/// A problem for the eyes of whoever chose the file.
fn told(problem: &Problem) -> String {
    let json = problem.json();
    match json["hint"].as_str() {
        Some(hint) => format!("{} {}", sentence(problem.detail()), sentence(hint)),
        None => sentence(problem.detail()),
    }
}
