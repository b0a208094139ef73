//! A `Model` becomes its files, its signals and its registration.
//!
//! In: the struct. Out: constants on `Model`, `ActiveModelBehavior`, `Tracked`, and what the program's start finds. Promise: nothing at all for the `ModelEx` that
//! SeaORM makes of the same struct, with the same attributes.

use heck::{ToShoutySnakeCase, ToUpperCamelCase};
use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::{Data, DeriveInput, Error, Field, Fields, Result, Type, ext::IdentExt, spanned::Spanned};

use crate::options::{EntityOptions, FileOptions};

pub fn expand(input: TokenStream, with_files: bool) -> Result<TokenStream> {
    let input: DeriveInput = syn::parse2(input)?;
    let derive = if with_files { "Files" } else { "Signals" };
    // #[sea_orm::model] copies the struct, its derives and attributes into a ModelEx with the relations as fields.
    if input.ident == "ModelEx" {
        return Ok(TokenStream::new());
    }
    if input.ident != "Model" {
        return Err(Error::new(input.ident.span(), format!("#[derive({derive})] stands on an entity's `Model`")));
    }
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(input.ident.span(), format!("#[derive({derive})] stands on a struct")));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new(input.ident.span(), format!("#[derive({derive})] wants fields with names")));
    };
    let options = EntityOptions::read(&input.attrs)?;
    let krate = options.krate.as_ref().map_or_else(|| quote!(::rowbound_orm), |path| quote!(#path));
    let mut constants = Vec::new();
    let mut names = Vec::new();
    let mut errors: Option<Error> = None;
    for field in &fields.named {
        match FileOptions::read(&field.attrs, &krate).and_then(|said| match said {
            Some(_) if !with_files => {
                Err(Error::new(field.span(), "#[derive(Signals)] is for entities without files: write #[derive(Files)]"))
            }
            Some(said) => constant(field, &said, &krate).map(Some),
            None if with_files => forgotten(field).map(|()| None),
            None => Ok(None),
        }) {
            Ok(Some((name, tokens))) => {
                names.push(name);
                constants.push(tokens);
            }
            Ok(None) => {}
            // All at once, as the compiler does.
            Err(e) => match &mut errors {
                Some(all) => all.combine(e),
                None => errors = Some(e),
            },
        }
    }
    if let Some(e) = errors {
        return Err(e);
    }
    if with_files && names.is_empty() {
        return Err(Error::new(input.ident.span(), "no field has #[file(..)]; for signals alone write #[derive(Signals)]"));
    }
    let behavior = if options.no_behavior { TokenStream::new() } else { behavior(&krate) };
    let rules = options.rules.iter().map(|(relation, rule)| {
        let rule = Ident::new(rule, relation.span());
        quote_spanned!(relation.span()=> (#krate::__private::sea_orm::RelationTrait::def(&Relation::#relation), #krate::Rule::#rule))
    });
    Ok(quote! {
        impl Model { #(#constants)* }

        impl #krate::Tracked for Entity {
            fn rules() -> ::std::vec::Vec<(#krate::__private::sea_orm::RelationDef, #krate::Rule)> {
                ::std::vec![#(#rules),*]
            }

            fn files() -> ::std::vec::Vec<#krate::AnyField> {
                ::std::vec![#(::std::convert::Into::into(Model::#names.field())),*]
            }
        }

        #krate::__private::inventory::submit! {
            #krate::__private::Registered::of::<Entity>(::std::module_path!())
        }

        #behavior
    })
}

/// A field of a file's type without `#[file]` would be a column that nobody binds.
fn forgotten(field: &Field) -> Result<()> {
    match file_type(&field.ty) {
        Some(kind) if !field.attrs.iter().any(|a| a.path().is_ident("sea_orm") && says_ignore(a)) => Err(Error::new(
            field.ty.span(),
            format!("a field of type {kind} without #[file]: its column would not be bound, and its files never collected"),
        )),
        _ => Ok(()),
    }
}

fn says_ignore(attribute: &syn::Attribute) -> bool {
    let mut ignored = false;
    let _ = attribute.parse_nested_meta(|meta| {
        ignored |= meta.path.is_ident("ignore");
        if meta.input.peek(syn::Token![=]) {
            meta.value()?.parse::<syn::Expr>()?;
        }
        Ok(())
    });
    ignored
}

/// `File` or `ImageFile`, where the type is called so.
fn file_type(ty: &Type) -> Option<String> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    if last.ident == "Option" {
        let syn::PathArguments::AngleBracketed(inner) = &last.arguments else { return None };
        let syn::GenericArgument::Type(inner) = inner.args.first()? else { return None };
        return file_type(inner);
    }
    ["File", "ImageFile"].iter().find(|name| last.ident == **name).map(|name| (*name).to_owned())
}

/// `pub const IMAGE: FileColumn<Entity, ImageFile>`.
fn constant(field: &Field, said: &FileOptions, krate: &TokenStream) -> Result<(Ident, TokenStream)> {
    let ident = field.ident.as_ref().ok_or_else(|| Error::new(field.span(), "a field without a name"))?;
    if let (Some(span), Some("File")) = (said.picture, file_type(&field.ty).as_deref()) {
        return Err(Error::new(span, "this is for pictures: the field's type must be ImageFile"));
    }
    let plain = ident.unraw();
    let name = Ident::new(&plain.to_string().to_shouty_snake_case(), ident.span());
    let column = match &said.column {
        Some(column) => column.clone(),
        None => enum_name(field)?.unwrap_or_else(|| format_ident!("{}", plain.to_string().to_upper_camel_case(), span = ident.span())),
    };
    let ty = &field.ty;
    let calls = &said.calls;
    let process = (!said.pipeline.is_empty()).then(|| {
        let steps = &said.pipeline;
        quote!(.process(#krate::__private::rowbound_image::Pipeline::new() #(#steps)*))
    });
    let doc = format!("The files of `{plain}`: saves uploads, opens the files that rows reference.");
    let declared = quote_spanned!(ty.span()=> <#ty as #krate::FileType>::declare);
    Ok((
        name.clone(),
        quote! {
            #[doc = #doc]
            pub const #name: #krate::FileColumn<Entity, <#ty as #krate::FileType>::Value> = #krate::FileColumn::new(
                || #declared(&#krate::column_of::<Entity>(Column::#column)) #(#calls)* #process
            );
        },
    ))
}

/// `#[sea_orm(enum_name = "..")]`.
fn enum_name(field: &Field) -> Result<Option<Ident>> {
    let mut found = None;
    for attribute in field.attrs.iter().filter(|a| a.path().is_ident("sea_orm")) {
        let syn::Meta::List(_) = &attribute.meta else { continue };
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("enum_name") {
                let name: syn::LitStr = meta.value()?.parse()?;
                found = Some(Ident::new(&name.value().to_upper_camel_case(), name.span()));
            } else if meta.input.peek(syn::Token![=]) {
                meta.value()?.parse::<syn::Expr>()?;
            } else if meta.input.peek(syn::token::Paren) {
                let content;
                syn::parenthesized!(content in meta.input);
                content.parse::<TokenStream>()?;
            }
            Ok(())
        })?;
    }
    Ok(found)
}

fn behavior(krate: &TokenStream) -> TokenStream {
    let private = quote!(#krate::__private);
    let orm = quote!(#private::sea_orm);
    quote! {
        #[#private::async_trait]
        impl #orm::ActiveModelBehavior for ActiveModel {
            async fn before_save<C>(self, db: &C, insert: bool) -> ::std::result::Result<Self, #orm::DbErr>
            where
                C: #orm::ConnectionTrait,
            {
                #krate::behavior::before_save(self, db, insert).await
            }

            async fn after_save<C>(model: Model, db: &C, insert: bool) -> ::std::result::Result<Model, #orm::DbErr>
            where
                C: #orm::ConnectionTrait,
            {
                #krate::behavior::after_save::<Self, C>(model, db, insert).await
            }

            async fn before_delete<C>(self, db: &C) -> ::std::result::Result<Self, #orm::DbErr>
            where
                C: #orm::ConnectionTrait,
            {
                #krate::behavior::before_delete(self, db).await
            }

            async fn after_delete<C>(self, db: &C) -> ::std::result::Result<Self, #orm::DbErr>
            where
                C: #orm::ConnectionTrait,
            {
                #krate::behavior::after_delete(self, db).await
            }
        }
    }
}
