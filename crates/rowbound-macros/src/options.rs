//! What stands in `#[file(..)]` and `#[rowbound(..)]`.
//!
//! In: attributes. Out: checked options, with the places at which they stand. Promise: what can be told to be wrong at compile time is an error that points
//! at it and says what is known.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{
    Attribute, Error, Expr, ExprLit, Ident, Lit, LitInt, LitStr, Path, Result, Token, parenthesized, parse::ParseStream,
    punctuated::Punctuated, spanned::Spanned,
};

/// Processors that take a width and a height: the option, and the type in `rowbound_image::processors`.
const SIZED: [(&str, &str); 8] = [
    ("thumbnail", "Thumbnail"),
    ("resize", "Resize"),
    ("resize_to_fill", "ResizeToFill"),
    ("resize_to_fit", "ResizeToFit"),
    ("resize_to_cover", "ResizeToCover"),
    ("smart_resize", "SmartResize"),
    ("crop", "Crop"),
    ("smart_crop", "SmartCrop"),
];

/// What may follow a size, and for which of them it has a meaning.
const ANCHORED: [&str; 4] = ["thumbnail", "resize_to_fill", "resize_to_fit", "crop"];
const UPSCALED: [&str; 6] = ["thumbnail", "resize", "resize_to_fill", "resize_to_fit", "resize_to_cover", "smart_resize"];

/// Anchors: pilkit's names, and the constants of `rowbound_image::processors::Anchor`.
const ANCHORS: [(&str, &str); 9] = [
    ("tl", "TOP_LEFT"),
    ("t", "TOP"),
    ("tr", "TOP_RIGHT"),
    ("l", "LEFT"),
    ("c", "CENTER"),
    ("r", "RIGHT"),
    ("bl", "BOTTOM_LEFT"),
    ("b", "BOTTOM"),
    ("br", "BOTTOM_RIGHT"),
];

/// Formats that can be written: the option's text, and the variant of `rowbound_image::Format`.
const FORMATS: [(&str, &str); 7] =
    [("jpeg", "Jpeg"), ("png", "Png"), ("webp", "Webp"), ("gif", "Gif"), ("tiff", "Tiff"), ("bmp", "Bmp"), ("avif", "Avif")];

/// Every option of `#[file(..)]` but the sized processors.
const OTHERS: [&str; 19] = [
    "upload_to",
    "storage",
    "max_size",
    "max_length",
    "accept",
    "blank",
    "allow_empty",
    "keep",
    "derivatives",
    "cache_control",
    "transpose",
    "then",
    "process",
    "format",
    "quality",
    "progressive",
    "keep_profile",
    "spec",
    "column",
];

/// One `#[file(..)]`.
#[derive(Default)]
pub struct FileOptions {
    /// Calls on the `Field`, in order: `.storage("x")`.
    pub calls: Vec<TokenStream>,
    /// Calls on the pipeline, in order; empty without processing.
    pub pipeline: Vec<TokenStream>,
    /// Where the first option for pictures stands.
    pub picture: Option<Span>,
    /// The variant of `Column`.
    pub column: Option<Ident>,
}

/// One `#[rowbound(..)]`.
#[derive(Default)]
pub struct EntityOptions {
    /// The application has an `ActiveModelBehavior` of its own.
    pub no_behavior: bool,
    /// Relations with a rule that SeaORM does not know: the variant, and the rule.
    pub rules: Vec<(Ident, &'static str)>,
    /// Where `rowbound_orm` is.
    pub krate: Option<Path>,
}

impl FileOptions {
    /// Reads all `#[file(..)]` of a field; `None` without one.
    pub fn read(attributes: &[Attribute], krate: &TokenStream) -> Result<Option<FileOptions>> {
        let mut options: Option<FileOptions> = None;
        let mut seen: Vec<(String, Span)> = Vec::new();
        for attribute in attributes.iter().filter(|a| a.path().is_ident("file")) {
            let options = options.get_or_insert_default();
            if matches!(attribute.meta, syn::Meta::Path(_)) {
                continue; // #[file] alone: everything by default
            }
            attribute.parse_nested_meta(|meta| {
                let name = meta.path.require_ident().map_err(|_| unknown(&meta.path))?.clone();
                let text = name.to_string();
                let repeated = ["then", "spec", "accept", "keep", "derivatives"].contains(&&*text);
                if !repeated && seen.iter().any(|(known, _)| *known == text) {
                    return Err(Error::new(name.span(), format!("`{text}` is said twice")));
                }
                seen.push((text.clone(), name.span()));
                options.option(&name, &text, meta.input, krate)
            })?;
        }
        if let Some(options) = &options {
            options.check(&seen)?;
        }
        Ok(options)
    }

    fn option(&mut self, name: &Ident, text: &str, input: ParseStream<'_>, krate: &TokenStream) -> Result<()> {
        let span = name.span();
        let processors = quote!(#krate::__private::rowbound_image::processors);
        if let Some((_, kind)) = SIZED.iter().find(|(known, _)| *known == text) {
            let call = sized(name, text, kind, input, &processors)?;
            self.picture.get_or_insert(span);
            self.pipeline.push(quote_spanned!(span=> .then(#call)));
            return Ok(());
        }
        match text {
            "upload_to" => {
                input.parse::<Token![=]>()?;
                let call = if input.peek(LitStr) {
                    let folder: LitStr = input.parse()?;
                    check_folder(&folder)?;
                    quote_spanned!(folder.span()=> .upload_to(#folder))
                } else {
                    let function: Path = input.parse().map_err(|e| {
                        Error::new(e.span(), "`upload_to` is a text such as \"%Y/%m/%d/\", or the path of a `fn(&Arrival) -> String`")
                    })?;
                    quote_spanned!(function.span()=> .upload_by(#function))
                };
                self.calls.push(call);
            }
            "storage" | "cache_control" => {
                input.parse::<Token![=]>()?;
                let value: LitStr = input.parse()?;
                if value.value().is_empty() {
                    return Err(Error::new(value.span(), format!("`{text}` is empty")));
                }
                self.calls.push(quote_spanned!(value.span()=> .#name(#value)));
            }
            "max_size" => {
                input.parse::<Token![=]>()?;
                let value: ExprLit = input.parse()?;
                let bytes = match &value.lit {
                    Lit::Int(number) => number.base10_parse::<u64>()?,
                    Lit::Str(size) => bytes(size)?,
                    _ => return Err(Error::new(value.span(), "`max_size` is a number of bytes, or a text such as \"10MB\"")),
                };
                if bytes == 0 {
                    return Err(Error::new(value.span(), "`max_size` is 0: no file would be taken"));
                }
                self.calls.push(quote_spanned!(value.span()=> .max_size(#bytes)));
            }
            "max_length" => {
                input.parse::<Token![=]>()?;
                let value: LitInt = input.parse()?;
                if value.base10_parse::<usize>()? < 16 {
                    return Err(Error::new(value.span(), "`max_length` is less than 16 characters: too short for a name and its suffix"));
                }
                self.calls.push(quote_spanned!(value.span()=> .max_length(#value)));
            }
            "accept" | "keep" | "derivatives" => {
                let content;
                parenthesized!(content in input);
                let values = Punctuated::<LitStr, Token![,]>::parse_terminated(&content)?;
                if values.is_empty() {
                    return Err(Error::new(span, format!("`{text}(..)` is empty")));
                }
                if let Some(wrong) = values.iter().find(|v| text == "accept" && !v.value().contains('/')) {
                    return Err(Error::new(wrong.span(), "a media type has a `/`: image/png, image/*, application/pdf"));
                }
                let values = values.iter();
                self.calls.push(quote_spanned!(span=> .#name([#(#values),*])));
            }
            "blank" | "allow_empty" => self.calls.push(quote_spanned!(span=> .#name(true))),
            "transpose" => {
                self.picture.get_or_insert(span);
                self.pipeline.push(quote_spanned!(span=> .then(#processors::Transpose::auto())));
            }
            "then" => {
                input.parse::<Token![=]>()?;
                let processor: Expr = input.parse()?;
                self.picture.get_or_insert(span);
                self.pipeline.push(quote_spanned!(processor.span()=> .then(#processor)));
            }
            "process" => {
                input.parse::<Token![=]>()?;
                let process: Expr = input.parse()?;
                self.picture.get_or_insert(span);
                self.calls.push(quote_spanned!(process.span()=> .process(#process)));
            }
            "format" => {
                input.parse::<Token![=]>()?;
                let value: LitStr = input.parse()?;
                let wanted = value.value().to_ascii_lowercase();
                let wanted = if wanted == "jpg" { "jpeg" } else { &wanted };
                let Some((_, variant)) = FORMATS.iter().find(|(known, _)| *known == wanted) else {
                    let known: Vec<_> = FORMATS.iter().map(|(known, _)| *known).collect();
                    return Err(Error::new(value.span(), format!("this format is not known; known are: {}", known.join(", "))));
                };
                let variant = Ident::new(variant, value.span());
                self.picture.get_or_insert(span);
                self.pipeline.push(quote_spanned!(value.span()=> .format(#krate::__private::rowbound_image::Format::#variant)));
            }
            "quality" => {
                input.parse::<Token![=]>()?;
                let value: LitInt = input.parse()?;
                if !(1..=100).contains(&value.base10_parse::<u32>()?) {
                    return Err(Error::new(value.span(), "`quality` is a number from 1 to 100"));
                }
                self.picture.get_or_insert(span);
                self.pipeline.push(quote_spanned!(value.span()=> .quality(#value)));
            }
            "progressive" | "keep_profile" => {
                self.picture.get_or_insert(span);
                self.pipeline.push(quote_spanned!(span=> .#name(true)));
            }
            "spec" => {
                input.parse::<Token![=]>()?;
                let spec: Expr = input.parse()?;
                self.picture.get_or_insert(span);
                self.calls.push(quote_spanned!(spec.span()=> .spec(&#spec)));
            }
            "column" => {
                input.parse::<Token![=]>()?;
                self.column = Some(input.parse()?);
            }
            _ => return Err(unknown(&name.clone().into())),
        }
        Ok(())
    }

    fn check(&self, seen: &[(String, Span)]) -> Result<()> {
        let said = |name: &str| seen.iter().find(|(known, _)| known == name).map(|(_, span)| *span);
        if let (Some(_), false) = (said("process"), self.pipeline.is_empty()) {
            let span = seen.iter().find(|(name, _)| is_pipeline(name)).map_or_else(Span::call_site, |(_, span)| *span);
            return Err(Error::new(span, "`process` says all that is done: this cannot stand beside it"));
        }
        Ok(())
    }
}

fn is_pipeline(option: &str) -> bool {
    SIZED.iter().any(|(known, _)| *known == option)
        || ["transpose", "then", "format", "quality", "progressive", "keep_profile"].contains(&option)
}

/// `thumbnail(300, 300, anchor = "c", upscale = false)`.
fn sized(name: &Ident, text: &str, kind: &str, input: ParseStream<'_>, processors: &TokenStream) -> Result<TokenStream> {
    let usage = || format!("`{text}` takes a width and a height in pixels: {text}(300, 300)");
    if !input.peek(syn::token::Paren) {
        return Err(Error::new(name.span(), usage()));
    }
    let content;
    parenthesized!(content in input);
    let side = |content: ParseStream<'_>| -> Result<LitInt> {
        let side: LitInt = content.parse().map_err(|e| Error::new(e.span(), usage()))?;
        match side.base10_parse::<u32>()? {
            1..=65_535 => Ok(side),
            _ => Err(Error::new(side.span(), "a side is 1 to 65535 pixels long")),
        }
    };
    let width = side(&content)?;
    content.parse::<Token![,]>().map_err(|_| Error::new(content.span(), usage()))?;
    let height = side(&content)?;
    let mut calls = Vec::new();
    while content.parse::<Option<Token![,]>>()?.is_some() && !content.is_empty() {
        let option: Ident = content.parse()?;
        content.parse::<Token![=]>()?;
        match option.to_string().as_str() {
            "anchor" if ANCHORED.contains(&text) => {
                let value: LitStr = content.parse()?;
                let Some((_, anchor)) = ANCHORS.iter().find(|(known, _)| *known == value.value()) else {
                    let known = ANCHORS.map(|(known, _)| known).join(", ");
                    return Err(Error::new(value.span(), format!("this anchor is not known; known are: {known}")));
                };
                let anchor = Ident::new(anchor, value.span());
                calls.push(quote_spanned!(value.span()=> .anchor(#processors::Anchor::#anchor)));
            }
            "upscale" if UPSCALED.contains(&text) => {
                let value: syn::LitBool = content.parse()?;
                calls.push(quote_spanned!(value.span()=> .upscale(#value)));
            }
            other => {
                let known = [("anchor", ANCHORED.contains(&text)), ("upscale", UPSCALED.contains(&text))];
                let known: Vec<_> = known.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
                let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
                return Err(Error::new(option.span(), format!("`{text}` has no `{other}`; after the size it takes {known}")));
            }
        }
    }
    if !content.is_empty() {
        return Err(content.error(usage()));
    }
    let kind = Ident::new(kind, name.span());
    Ok(quote_spanned!(name.span()=> #processors::#kind::new(#width, #height) #(#calls)*))
}

/// A folder with `%Y` and the like: what could never be a name is refused here, not at the first upload.
fn check_folder(folder: &LitStr) -> Result<()> {
    let text = folder.value();
    let wrong = |why: &str| Err(Error::new(folder.span(), format!("`upload_to` {why}")));
    if text.starts_with('/') {
        return wrong("is absolute; names are relative to their storage");
    }
    if text.contains('\0') {
        return wrong("holds a NUL");
    }
    let body = text.strip_suffix('/').unwrap_or(&text);
    if !body.is_empty() && body.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return wrong("has a part that is empty, `.` or `..`");
    }
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        // Of strftime, those that a folder of dates is made of: the others hold blanks, colons or slashes, or depend on a locale.
        if c == '%' && !rest.next().is_some_and(|next| "YmdHMSyjBbaAuwUWVGgCeklIPpsf%".contains(next)) {
            return wrong("holds a `%` that stands for nothing; write %Y/%m/%d, and %% for a percent sign");
        }
    }
    Ok(())
}

/// `10MB`, `512 KiB`, `4096`.
fn bytes(size: &LitStr) -> Result<u64> {
    let text = size.value();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "B" => Some(1),
        "kB" | "KB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        "GiB" => Some(1 << 30),
        _ => None,
    };
    number
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .ok_or_else(|| Error::new(size.span(), "write a size such as \"10MB\" or \"512KiB\""))
}

fn unknown(path: &Path) -> Error {
    let name = path.get_ident().map(ToString::to_string).unwrap_or_default();
    let known = || SIZED.iter().map(|(name, _)| *name).chain(OTHERS);
    let like = known().map(|k| (distance(k, &name), k)).min().filter(|(d, _)| *d <= 2);
    let hint = match like {
        Some((_, like)) => format!("did you mean `{like}`?"),
        None => format!("known are: {}", known().collect::<Vec<_>>().join(", ")),
    };
    Error::new_spanned(path, format!("`#[file(..)]` has no option `{name}`; {hint}"))
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = before + usize::from(x != *y);
            before = row[j + 1];
            row[j + 1] = cost.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

impl EntityOptions {
    /// Reads all `#[rowbound(..)]` of a struct.
    pub fn read(attributes: &[Attribute]) -> Result<EntityOptions> {
        let mut options = EntityOptions::default();
        for attribute in attributes.iter().filter(|a| a.path().is_ident("rowbound")) {
            attribute.parse_nested_meta(|meta| {
                let mut relations = |rule: &'static str| -> Result<()> {
                    let content;
                    parenthesized!(content in meta.input);
                    let named = Punctuated::<Ident, Token![,]>::parse_terminated(&content)?;
                    if named.is_empty() {
                        return Err(meta.error("name the relations: the variants of `Relation`"));
                    }
                    options.rules.extend(named.into_iter().map(|relation| (relation, rule)));
                    Ok(())
                };
                if meta.path.is_ident("protect") {
                    relations("Protect")
                } else if meta.path.is_ident("extends") {
                    relations("Extends")
                } else if meta.path.is_ident("no_behavior") {
                    options.no_behavior = true;
                    Ok(())
                } else if meta.path.is_ident("crate") {
                    let path: LitStr = meta.value()?.parse()?;
                    options.krate = Some(path.parse()?);
                    Ok(())
                } else {
                    Err(meta.error("`#[rowbound(..)]` takes no_behavior, protect(Relation), extends(Relation) and crate = \"path\""))
                }
            })?;
        }
        Ok(options)
    }
}
