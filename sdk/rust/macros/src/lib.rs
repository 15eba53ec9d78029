//! The `#[filter]` attribute: looks at which hooks an `impl Filter for …` has, and exports those.
//!
//! Knows the names of the hooks and nothing of their signatures: the compiler checks them against
//! the trait. The macros that export a hook are generated with the bindings in `pillion-sdk`.

use proc_macro::TokenStream;
use proc_macro2::{Span, TokenStream as Tokens};
use quote::{format_ident, quote};
use syn::{Error, ImplItem, ItemImpl, Result, spanned::Spanned};

/// The hooks of an exchange, by the name of their method, which is that of their module too.
const HOOKS: [&str; 7] = [
    "on_request",
    "on_request_body",
    "on_request_trailers",
    "on_response",
    "on_response_body",
    "on_response_trailers",
    "on_complete",
];

/// The constant of the trait with the version of a filter's state.
const STATE_VERSION: &str = "STATE_VERSION";

/// See `pillion_sdk::filter`.
#[proc_macro_attribute]
pub fn filter(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(arguments.into(), item.into()).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(arguments: Tokens, item: Tokens) -> Result<Tokens> {
    if !arguments.is_empty() {
        return Err(Error::new(arguments.span(), "`#[filter]` takes no arguments"));
    }
    let mut item: ItemImpl = syn::parse2(item).map_err(|_| {
        Error::new(Span::call_site(), "`#[filter]` goes on an `impl Filter for ...` block")
    })?;
    check(&item)?;
    let exports = exports(&item);
    complete(&mut item)?;
    let filter = &item.self_ty;
    Ok(quote! {
        #item

        // Natively nothing calls the filter but tests: without this it would count as dead code.
        const _: () = {
            let _ = <#filter as ::pillion_sdk::Filter>::new;
        };

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type PillionFilter = ::pillion_sdk::__private::Exported<#filter>;
            #(#exports)*
        };
    })
}

/// Refuses what would compile and not be a filter.
fn check(item: &ItemImpl) -> Result<()> {
    let is_filter = item.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
    if is_filter.is_none_or(|segment| segment.ident != "Filter") {
        return Err(Error::new(item.span(), "`#[filter]` goes on an `impl Filter for ...` block"));
    }
    if !item.generics.params.is_empty() {
        return Err(Error::new(
            item.generics.span(),
            "a filter cannot be generic: the component exports one type",
        ));
    }
    if !HOOKS.iter().any(|hook| has_function(item, hook)) {
        return Err(Error::new(
            item.span(),
            format!(
                "a filter needs at least one hook: {}",
                HOOKS.map(|h| format!("`{h}`")).join(", ")
            ),
        ));
    }
    match (has_constant(item, STATE_VERSION), has_function(item, "migrate")) {
        (true, false) => Err(Error::new(
            item.span(),
            "a filter with `const STATE_VERSION` needs `fn migrate(&mut self, from: u32)`, which \
             brings the state of older versions into the new form",
        )),
        (false, true) => Err(Error::new(
            item.span(),
            "a filter with `fn migrate` needs `const STATE_VERSION: u32`, the version that it \
             migrates to",
        )),
        (true, true) | (false, false) => Ok(()),
    }
}

/// The macro calls that export the hooks which are written.
fn exports(item: &ItemImpl) -> Vec<Tokens> {
    let before = [("new", "configure"), ("wants", "wanted_hooks"), ("migrate", "state")];
    before
        .into_iter()
        .chain(HOOKS.map(|hook| (hook, hook)))
        .filter(|(method, _)| has_function(item, method))
        .map(|(_, hook)| {
            let module = format_ident!("{hook}");
            quote! {
                ::pillion_sdk::__private::#module::export!(
                    PillionFilter with_types_in ::pillion_sdk::__private::#module
                );
            }
        })
        .collect()
}

/// Adds what a filter without configuration leaves out.
fn complete(item: &mut ItemImpl) -> Result<()> {
    let config = item.items.iter().find_map(|item| match item {
        ImplItem::Type(item) if item.ident == "Config" => Some(item.span()),
        _ => None,
    });
    let new = has_function(item, "new");
    if let (Some(span), false) = (config, new) {
        return Err(Error::new(
            span,
            "a filter with `type Config` needs `fn new(config: Self::Config)`",
        ));
    }
    if config.is_none() {
        item.items.push(syn::parse_quote! { type Config = ::pillion_sdk::NoConfig; });
    }
    if !new {
        item.items.push(syn::parse_quote! {
            fn new(_: Self::Config) -> ::core::result::Result<Self, ::pillion_sdk::ConfigError> {
                ::core::result::Result::Ok(<Self as ::core::default::Default>::default())
            }
        });
        item.items.push(syn::parse_quote! {
            fn __without_config() -> ::core::option::Option<Self> {
                ::core::option::Option::Some(<Self as ::core::default::Default>::default())
            }
        });
    }
    Ok(())
}

fn has_constant(item: &ItemImpl, name: &str) -> bool {
    item.items.iter().any(|item| match item {
        ImplItem::Const(constant) => constant.ident == name,
        _ => false,
    })
}

fn has_function(item: &ItemImpl, name: &str) -> bool {
    item.items.iter().any(|item| match item {
        ImplItem::Fn(function) => function.sig.ident == name,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(item: Tokens) -> String {
        match expand(Tokens::new(), item) {
            Ok(tokens) => tokens.to_string(),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn exactly_the_written_hooks_are_exported() {
        let text = expanded(quote! {
            impl Filter for A {
                fn on_request(&mut self) {}
                fn on_complete(&mut self) {}
            }
        });
        for hook in HOOKS.into_iter().chain(["configure", "wanted_hooks", "state"]) {
            let export = format!("{hook} :: export !");
            let written = hook == "on_request" || hook == "on_complete";
            assert_eq!(text.contains(&export), written, "{hook} in {text}");
        }
        assert!(text.contains("fn __without_config"));
    }

    #[test]
    fn configure_is_exported_with_new() {
        let text = expanded(quote! {
            impl Filter for A {
                fn new(_: NoConfig) -> Result<Self, ConfigError> { Ok(A) }
                fn on_request(&mut self) {}
            }
        });
        assert!(text.contains("configure :: export !"));
        assert!(text.contains("type Config = :: pillion_sdk :: NoConfig"));
        assert!(!text.contains("__without_config"));
    }

    #[test]
    fn wanted_hooks_are_exported_with_wants() {
        let text = expanded(quote! {
            impl Filter for A {
                fn wants(&self) -> Hooks { Hooks::ALL }
                fn on_request(&mut self) {}
            }
        });
        assert!(text.contains("wanted_hooks :: export !"));
    }

    #[test]
    fn the_state_is_exported_with_migrate() {
        let text = expanded(quote! {
            impl Filter for A {
                const STATE_VERSION: u32 = 1;
                fn migrate(&mut self, from: u32) -> Result<()> { Ok(()) }
                fn on_request(&mut self) {}
            }
        });
        assert!(text.contains("state :: export !"));
    }

    #[test]
    fn mistakes_are_named() {
        for (item, message) in [
            (quote! { impl A { fn on_request() {} } }, "goes on an `impl Filter for ...` block"),
            (quote! { struct A; }, "goes on an `impl Filter for ...` block"),
            (quote! { impl Filter for A {} }, "needs at least one hook: `on_request`"),
            (quote! { impl Filter for A { fn wants(&self) {} } }, "needs at least one hook"),
            (
                quote! { impl Filter for A { const STATE_VERSION: u32 = 1; fn on_request() {} } },
                "needs `fn migrate(&mut self, from: u32)`",
            ),
            (
                quote! { impl Filter for A { fn migrate() {} fn on_request() {} } },
                "needs `const STATE_VERSION: u32`",
            ),
            (quote! { impl<T> Filter for A<T> { fn on_request() {} } }, "cannot be generic"),
            (
                quote! { impl Filter for A { type Config = C; fn on_request() {} } },
                "needs `fn new(config: Self::Config)`",
            ),
        ] {
            let text = expanded(item);
            assert!(text.starts_with("error:") && text.contains(message), "{text}");
        }
    }
}
