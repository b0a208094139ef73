//! `rowbound sweep`.

pub mod csv; // findings -> a table for programs
pub mod html; // findings -> a page with pictures
pub mod list; // findings -> a line each
pub mod report; // what reports keep of the findings
mod thumbnails; // files that somebody uploaded -> small pictures
