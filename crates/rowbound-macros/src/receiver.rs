//! A function becomes a receiver.
//!
//! In: `#[receiver(PostDelete)] async fn f(row: &Model, db: &Conn<'_>)`. Out: the function, unchanged, and a registration under its name.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::{Error, FnArg, ItemFn, LitInt, LitStr, Path, Result, ReturnType, Token, Type, parse::Parser, spanned::Spanned};

/// The signals: what the first argument is, how many more there may be.
const SIGNALS: [(&str, Row, usize); 5] = [
    ("PreSave", Row::ActiveModel, 2),
    ("PostSave", Row::Model, 2),
    ("PreDelete", Row::Model, 1),
    ("PostDelete", Row::Model, 1),
    ("OnCommit", Row::Gone, 0),
];

#[derive(Clone, Copy, PartialEq)]
enum Row {
    ActiveModel,
    Model,
    Gone,
}

struct Options {
    signal: Ident,
    shape: (Row, usize),
    order: TokenStream,
    manual: bool,
    follower: Option<LitStr>,
    krate: TokenStream,
}

impl Options {
    fn read(tokens: TokenStream) -> Result<Options> {
        let known = || SIGNALS.map(|(name, ..)| name).join(", ");
        let mut signal: Option<(Ident, (Row, usize))> = None;
        let mut options = (quote!(0), false, quote!(::rowbound_orm));
        let mut follower: Option<LitStr> = None;
        let parser = syn::meta::parser(|meta| {
            let name = meta.path.get_ident().map(ToString::to_string).unwrap_or_default();
            if meta.path.is_ident("order") {
                let minus: Option<Token![-]> = {
                    let value = meta.value()?;
                    value.parse()?
                };
                let number: LitInt = meta.input.parse()?;
                number.base10_parse::<i32>()?;
                options.0 = quote!(#minus #number);
            } else if meta.path.is_ident("manual") {
                options.1 = true;
            } else if meta.path.is_ident("name") {
                let name: LitStr = meta.value()?.parse()?;
                let text = name.value();
                // As `rowbound::follow::Follower` takes them.
                if text.is_empty() || text.len() > 100 || !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
                    return Err(Error::new(name.span(), "a name is made of 1 to 100 letters, digits, `.`, `_` and `-`"));
                }
                follower = Some(name);
            } else if meta.path.is_ident("crate") {
                let path: Path = meta.value()?.parse::<LitStr>()?.parse()?;
                options.2 = quote!(#path);
            } else if let Some((_, row, more)) = SIGNALS.iter().find(|(known, ..)| *known == name) {
                if signal.is_some() {
                    return Err(meta.error("one signal a receiver; write a function for each"));
                }
                signal = Some((meta.path.require_ident()?.clone(), (*row, *more)));
            } else {
                return Err(meta.error(format!("this is no signal; known are {}; and `order = 10`, `name = \"cdn\"`, `manual`", known())));
            }
            Ok(())
        });
        parser.parse2(tokens)?;
        let (signal, shape) = signal.ok_or_else(|| Error::new(Span::call_site(), format!("name the signal: {}", known())))?;
        match &follower {
            Some(name) if shape.0 != Row::Gone => {
                Err(Error::new(name.span(), "only receivers of OnCommit have a name: the database keeps their pending deliveries under it"))
            }
            _ => Ok(Options { signal, shape, order: options.0, manual: options.1, follower, krate: options.2 }),
        }
    }
}

pub fn expand(options: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let Options { signal, shape: (row, more), order, manual, follower, krate } = Options::read(options)?;
    let function: ItemFn = syn::parse2(item)?;
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        return Err(Error::new(signature.fn_token.span, "a receiver is an `async fn`"));
    }
    if matches!(signature.output, ReturnType::Default) {
        return Err(Error::new(
            signature.span(),
            "a receiver answers with a `Result<(), E>`: an error ends the statement and its transaction",
        ));
    }
    if let Some(generic) = signature.generics.type_params().next() {
        return Err(Error::new(generic.span(), "a receiver is of one entity: no type parameters"));
    }
    let wanted = match row {
        Row::ActiveModel => "`row: &mut article::ActiveModel`",
        Row::Model => "`row: &article::Model`",
        Row::Gone => "`gone: &Gone<article::Entity>`",
    };
    let mut arguments = signature.inputs.iter();
    let first = match arguments.next() {
        Some(FnArg::Typed(argument)) => argument,
        Some(FnArg::Receiver(this)) => return Err(Error::new(this.span(), "a receiver is a function, not a method")),
        None => return Err(Error::new(signature.paren_token.span.join(), format!("the first argument is the row: {wanted}"))),
    };
    let Type::Reference(reference) = &*first.ty else {
        return Err(Error::new(first.ty.span(), format!("{signal} gives the row by reference: {wanted}")));
    };
    if reference.mutability.is_some() != (row == Row::ActiveModel) {
        return Err(Error::new(first.ty.span(), format!("the first argument of a receiver of {signal} is {wanted}")));
    }
    let given = signature.inputs.len() - 1;
    if given > more {
        let spare = &signature.inputs[more + 1];
        let what = match more {
            0 => "nothing else".to_owned(),
            1 => "the connection: `db: &Conn<'_>`".to_owned(),
            _ => "the connection, `db: &Conn<'_>`, and whether the row is new, `created: bool`".to_owned(),
        };
        return Err(Error::new(spare.span(), format!("a receiver of {signal} takes the row and {what}")));
    }
    let ty = &reference.elem;
    let private = quote!(#krate::__private);
    let entity = match row {
        Row::ActiveModel => quote_spanned!(ty.span()=> <#ty as #private::sea_orm::ActiveModelTrait>::Entity),
        Row::Model => quote_spanned!(ty.span()=> <#ty as #private::sea_orm::ModelTrait>::Entity),
        Row::Gone => quote_spanned!(ty.span()=> <#ty as #private::OfEntity>::Entity),
    };
    let passed = [quote!(row), quote!(db), quote!(created)];
    let passed = &passed[..=given];
    let bound: Vec<_> = [quote!(row), quote!(db), quote!(created)]
        .into_iter()
        .take(more + 1)
        .enumerate()
        .map(|(i, name)| if i <= given { name } else { quote!(_) })
        .collect();
    let (name, visibility) = (&signature.ident, &function.vis);
    let path = quote!(::std::concat!(::std::module_path!(), "::", ::std::stringify!(#name)));
    let called = quote!(::std::boxed::Box::pin(async move { #name(#(#passed),*).await.map_err(::std::convert::Into::into) }));
    let (answer, connect, disconnect) = if row == Row::Gone {
        let follower = follower.map_or_else(|| quote!(&#private::follower_name(#path)), |name| quote!(#name));
        (
            quote!(()),
            quote!(#krate::OnCommit::connect::<#entity>(#follower, |row| #called)),
            quote!(#krate::OnCommit::disconnect(#follower)),
        )
    } else {
        (
            quote!(#krate::Connection),
            quote!(#krate::signal::connect_named::<#krate::#signal, #entity>(#order, #path, ::std::sync::Arc::new(|#(#bound),*| #called))),
            quote!(#krate::signal::disconnect_named::<#krate::#signal, #entity>(#path)),
        )
    };
    let connected = (!manual).then(|| {
        quote! { #private::inventory::submit! { #private::Receiver { module: ::std::module_path!(), name: ::std::stringify!(#name), connect: || { #name::connect(); } } } }
    });
    Ok(quote! {
        #function

        // Types and functions do not share names: `f` is the function, `f::connect()` this.
        #[allow(non_camel_case_types, reason = "it is called as the function")]
        #[doc = "Connects and disconnects the receiver of the same name."]
        #visibility struct #name {}

        #[allow(dead_code, reason = "for those who want it")]
        impl #name {
            /// Connects the receiver; more than once is the same as once.
            #visibility fn connect() -> #answer {
                #connect
            }

            /// Disconnects it; whether it was connected.
            #visibility fn disconnect() -> bool {
                #disconnect
            }
        }

        #connected
    })
}
