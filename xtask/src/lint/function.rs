//! Length, nesting and parameters of functions, and how often they may panic by `unwrap`.

use super::source::Source;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};

/// What is counted in one function.
pub(crate) struct Function {
    pub(crate) name: String,
    /// Of the `fn`'s first line.
    pub(crate) line: usize,
    /// From the signature to the closing brace.
    pub(crate) length: usize,
    /// Branches and loops inside each other.
    pub(crate) nesting: usize,
    /// Besides `self`, the task and the processor.
    pub(crate) parameters: usize,
    /// `// budget: why` stands above it.
    pub(crate) is_excused: bool,
}

/// What a file holds, without its tests.
#[derive(Default)]
pub(crate) struct Measure {
    pub(crate) functions: Vec<Function>,
    /// Calls of `unwrap`, `expect` and their `_err` forms.
    pub(crate) unwraps: usize,
    /// First and last lines of test code.
    tests: Vec<(usize, usize)>,
}

impl Measure {
    /// Measures a file.
    pub(crate) fn of(source: &Source) -> Self {
        let mut walk = Walk { source, measure: Self::default() };
        walk.visit_file(&source.syntax);
        walk.measure
    }

    /// Whether a line belongs to a test.
    pub(crate) fn is_test_line(&self, line: usize) -> bool {
        self.tests.iter().any(|(first, last)| (*first..=*last).contains(&line))
    }
}

struct Walk<'a> {
    source: &'a Source,
    measure: Measure,
}

impl Walk<'_> {
    fn function(&mut self, whole: proc_macro2::Span, signature: &syn::Signature, block: &syn::Block) {
        let (line, end) = (signature.span().start().line, block.span().end().line);
        let mut nesting = Nesting::default();
        nesting.visit_block(block);
        self.measure.functions.push(Function {
            name: signature.ident.to_string(),
            line,
            length: end + 1 - line,
            nesting: nesting.deepest,
            parameters: signature.inputs.iter().filter(|input| counts(input)).count(),
            is_excused: self.source.is_item_excused(whole.start().line),
        });
    }

    /// Notes the lines of an item that only tests compile; true when it is one.
    fn is_test(&mut self, attributes: &[syn::Attribute], span: proc_macro2::Span) -> bool {
        let is_test = attributes.iter().any(is_test_attribute);
        if is_test {
            self.measure.tests.push((span.start().line, span.end().line));
        }
        is_test
    }
}

impl<'ast> Visit<'ast> for Walk<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !self.is_test(&item.attrs, item.span()) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !self.is_test(&item.attrs, item.span()) {
            visit::visit_item_impl(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !self.is_test(&item.attrs, item.span()) {
            self.function(item.span(), &item.sig, &item.block);
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !self.is_test(&item.attrs, item.span()) {
            self.function(item.span(), &item.sig, &item.block);
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(item.span(), &item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        let name = call.method.to_string();
        // `expect` with one argument only: parsers have a method of that name as well.
        let is_panic = match name.as_str() {
            "unwrap" | "unwrap_err" => call.args.is_empty(),
            "expect" | "expect_err" => call.args.len() == 1,
            _ => false,
        };
        self.measure.unwraps += usize::from(is_panic);
        visit::visit_expr_method_call(self, call);
    }
}

/// `#[test]`, `#[cfg(test)]`, `#[cfg(all(test, …))]`, `#[conformance]`.
fn is_test_attribute(attribute: &syn::Attribute) -> bool {
    let path = attribute.path();
    if path.is_ident("test") || path.is_ident("conformance") {
        return true;
    }
    let syn::Meta::List(list) = &attribute.meta else { return false };
    let condition = list.tokens.to_string();
    path.is_ident("cfg") && (condition == "test" || condition.starts_with("all (test"))
}

fn counts(input: &syn::FnArg) -> bool {
    let syn::FnArg::Typed(typed) = input else { return false };
    let mut kind = &*typed.ty;
    while let syn::Type::Reference(reference) = kind {
        kind = &reference.elem;
    }
    let syn::Type::Path(path) = kind else { return true };
    !path.path.segments.last().is_some_and(|last| last.ident == "Task" || last.ident == "Cpu")
}

/// The deepest branch or loop. `else if` is no level of its own, nor is the arm of a `match`.
#[derive(Default)]
struct Nesting {
    depth: usize,
    deepest: usize,
}

impl Nesting {
    fn deeper(&mut self, walk: impl FnOnce(&mut Self)) {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        walk(self);
        self.depth -= 1;
    }

    fn branch(&mut self, branch: &syn::ExprIf) {
        self.visit_expr(&branch.cond);
        self.deeper(|this| this.visit_block(&branch.then_branch));
        match branch.else_branch.as_ref().map(|(_, other)| &**other) {
            Some(syn::Expr::If(next)) => self.branch(next),
            Some(other) => self.deeper(|this| this.visit_expr(other)),
            None => {}
        }
    }
}

impl<'ast> Visit<'ast> for Nesting {
    fn visit_expr_if(&mut self, branch: &'ast syn::ExprIf) {
        self.branch(branch);
    }

    fn visit_expr_match(&mut self, expr: &'ast syn::ExprMatch) {
        self.deeper(|this| visit::visit_expr_match(this, expr));
    }

    fn visit_expr_while(&mut self, expr: &'ast syn::ExprWhile) {
        self.deeper(|this| visit::visit_expr_while(this, expr));
    }

    fn visit_expr_for_loop(&mut self, expr: &'ast syn::ExprForLoop) {
        self.deeper(|this| visit::visit_expr_for_loop(this, expr));
    }

    fn visit_expr_loop(&mut self, expr: &'ast syn::ExprLoop) {
        self.deeper(|this| visit::visit_expr_loop(this, expr));
    }

    /// A function inside is measured by itself.
    fn visit_item(&mut self, _: &'ast syn::Item) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measure(text: &str) -> Measure {
        Measure::of(&Source::parse("a.rs", text).unwrap())
    }

    #[test]
    fn else_if_is_one_level_and_loops_add_up() {
        let chain = measure("fn f(a: u8) { if a == 1 {} else if a == 2 {} else if a == 3 {} else { loop {} } }");
        assert_eq!(chain.functions[0].nesting, 2);
        let loops = measure("fn f() { for _ in 0..1 { while true { match 1 { _ => if true {} } } } }");
        assert_eq!(loops.functions[0].nesting, 4);
    }

    #[test]
    fn the_task_and_self_are_no_parameters() {
        let found = measure("struct S; impl S { fn f(&self, task: &Task, cpu: &'static machine::Cpu, n: u32) {} }");
        assert_eq!(found.functions[0].parameters, 1);
    }

    #[test]
    fn tests_are_not_measured() {
        let found = measure("fn f() {}\n#[cfg(test)]\nmod tests {\n fn g() { x.unwrap() }\n}\n");
        assert_eq!((found.functions.len(), found.unwraps), (1, 0));
        assert!(found.is_test_line(4) && !found.is_test_line(1));
    }

    #[test]
    fn length_begins_with_the_signature() {
        let found = measure("/// Doc.\n// budget: why\n#[inline]\nfn f(\n) {\n}\n");
        assert_eq!((found.functions[0].length, found.functions[0].line), (3, 4));
    }
}
