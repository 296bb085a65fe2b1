//! Where `unsafe` stands, and whether it says why it is sound.

use super::Finding;
use super::source::Source;
use proc_macro2::{Span, TokenStream, TokenTree};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

/// The only places for `unsafe`: the unsafe half of the kernel, the supervisor's raw host calls, the image that
/// exports the kernel's hooks, and the guests of the tests, whose point is to do what no safe program does.
const PLACES: &[&str] = &["crates/machine/", "crates/xkernel/src/sys", "crates/xlibos-image/src/", "tests/"];

/// The counts of a file.
#[derive(Default)]
pub(crate) struct Safety {
    /// Blocks and implementations.
    pub(crate) blocks: usize,
    /// Those with a `SAFETY:` comment.
    pub(crate) explained: usize,
    pub(crate) findings: Vec<Finding>,
}

impl Safety {
    /// Looks at each `unsafe` of a file.
    pub(crate) fn of(source: &Source) -> Self {
        let allowed = PLACES.iter().any(|place| source.path.starts_with(place));
        let mut walk = Walk { source, allowed, anchors: Vec::new(), in_trait_impl: false, safety: Self::default() };
        walk.visit_file(&source.syntax);
        walk.safety
    }
}

struct Walk<'a> {
    source: &'a Source,
    allowed: bool,
    /// First lines of the statements, arms and items around.
    anchors: Vec<usize>,
    /// Inside `impl Trait for …`: there the trait says what the caller keeps.
    in_trait_impl: bool,
    safety: Safety,
}

impl Walk<'_> {
    fn finding(&mut self, line: usize, message: &str) {
        let place = format!("{}:{line}", self.source.path);
        self.safety.findings.push(Finding { place, message: message.to_owned() });
    }

    fn place(&mut self, span: Span) {
        if !self.allowed {
            self.finding(span.start().line, "unsafe outside the places for it");
        }
    }

    /// A block or an implementation: `SAFETY:` stands above it, or above the statement that it belongs to.
    fn block(&mut self, span: Span) {
        self.place(span);
        self.safety.blocks += 1;
        let line = span.start().line;
        let innermost = self.anchors.last().copied().unwrap_or(line);
        if [line, innermost].iter().any(|l| self.explained_above(*l)) {
            self.safety.explained += 1;
        } else {
            self.finding(line, "unsafe without a SAFETY comment");
        }
    }

    fn explained_above(&self, line: usize) -> bool {
        let above = (1..line).rev().map(|number| self.source.line(number));
        let mut comment = above.skip_while(|text| text.starts_with("#[")).take_while(|text| text.starts_with("//"));
        comment.any(|text| text.contains("SAFETY:")) || self.source.line(line).contains("// SAFETY:")
    }

    /// `unsafe fn`: the caller must be told what to keep.
    fn function(&mut self, attributes: &[syn::Attribute], signature: &syn::Signature) {
        let Some(keyword) = signature.unsafety else { return };
        self.place(keyword.span);
        if !self.in_trait_impl && !attributes.iter().any(documents_safety) {
            self.finding(keyword.span.start().line, "unsafe fn without a `# Safety` section");
        }
    }

    fn anchored(&mut self, span: Span, walk: impl FnOnce(&mut Self)) {
        self.anchors.push(span.start().line);
        walk(self);
        self.anchors.pop();
    }

    /// Bodies of macros are no syntax tree; the keyword, followed by a block, is enough.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(word) if word == "unsafe" => match tokens.peek() {
                    Some(TokenTree::Group(_)) => self.block(word.span()),
                    _ => self.place(word.span()),
                },
                _ => {}
            }
        }
    }
}

fn documents_safety(attribute: &syn::Attribute) -> bool {
    let syn::Meta::NameValue(pair) = &attribute.meta else { return false };
    let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &pair.value else { return false };
    pair.path.is_ident("doc") && text.value().contains("# Safety")
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_stmt(&mut self, statement: &'ast syn::Stmt) {
        self.anchored(statement.span(), |this| visit::visit_stmt(this, statement));
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        self.anchored(arm.span(), |this| visit::visit_arm(this, arm));
    }

    fn visit_field_value(&mut self, field: &'ast syn::FieldValue) {
        self.anchored(field.span(), |this| visit::visit_field_value(this, field));
    }

    fn visit_item(&mut self, item: &'ast syn::Item) {
        self.anchored(item.span(), |this| visit::visit_item(this, item));
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.block(block.unsafe_token.span);
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if let Some(keyword) = item.unsafety {
            self.block(keyword.span);
        }
        let outer = std::mem::replace(&mut self.in_trait_impl, item.trait_.is_some());
        visit::visit_item_impl(self, item);
        self.in_trait_impl = outer;
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.attrs, &item.sig);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.attrs, &item.sig);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        self.function(&item.attrs, &item.sig);
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_foreign_mod(&mut self, item: &'ast syn::ItemForeignMod) {
        if let Some(keyword) = item.unsafety {
            self.place(keyword.span);
        }
        visit::visit_item_foreign_mod(self, item);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if attribute.path().is_ident("unsafe") {
            self.place(attribute.span());
        }
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.tokens(call.tokens.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(path: &str, text: &str) -> Vec<String> {
        let safety = Safety::of(&Source::parse(path, text).unwrap());
        safety.findings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn unsafe_stays_in_its_places() {
        let text = "fn f() {\n    // SAFETY: nothing.\n    unsafe { g() }\n}\n";
        assert_eq!(messages("crates/machine/src/a.rs", text), [""; 0]);
        assert_eq!(
            messages("crates/xlibos/src/a.rs", text),
            ["crates/xlibos/src/a.rs:3: unsafe outside the places for it"]
        );
    }

    #[test]
    fn block_explains_itself_above_its_statement_only() {
        let path = "crates/machine/src/a.rs";
        let above_statement = "fn f() {\n    // SAFETY: a.\n    let x =\n        unsafe { g() };\n}\n";
        assert_eq!(messages(path, above_statement), [""; 0]);
        let above_function = "// SAFETY: a.\nfn f() {\n    let x = unsafe { g() };\n}\n";
        assert_eq!(messages(path, above_function), ["crates/machine/src/a.rs:3: unsafe without a SAFETY comment"]);
    }

    #[test]
    fn unsafe_in_a_macro_is_seen() {
        let text = "fn f() {\n    assert!(unsafe { g() });\n}\n";
        assert_eq!(messages("crates/xlibos/src/a.rs", text).len(), 2);
    }

    #[test]
    fn trait_says_what_the_caller_of_its_functions_keeps() {
        let text = "impl T for S {\n    unsafe fn f() {}\n}\n";
        assert_eq!(messages("crates/machine/src/a.rs", text), [""; 0]);
    }

    #[test]
    fn unsafe_function_documents_what_the_caller_keeps() {
        let path = "crates/machine/src/a.rs";
        assert_eq!(messages(path, "/// # Safety\n/// b.\nunsafe fn f() {}\n"), [""; 0]);
        assert_eq!(
            messages(path, "/// A.\nunsafe fn f() {}\n"),
            ["crates/machine/src/a.rs:2: unsafe fn without a `# Safety` section"]
        );
    }
}
