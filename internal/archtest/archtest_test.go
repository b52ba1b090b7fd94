package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/simreach/simreach/"

// file is one parsed Go file of the repository.
type file struct {
	path string // relative to the root, with slashes
	pkg  string // its directory
	test bool
	ast  *ast.File
	set  *token.FileSet
}

// root finds the directory of go.mod.
func root(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("go.mod not found")
		}
		dir = up
	}
}

func load(t *testing.T) []file {
	t.Helper()
	top := root(t)
	var out []file
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n == "testdata" || (n != "." && strings.HasPrefix(n, ".")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") {
			return nil
		}
		rel, err := filepath.Rel(top, p)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, p, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		out = append(out, file{path: rel, pkg: path.Dir(rel), test: strings.HasSuffix(rel, "_test.go"), ast: f, set: set})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (f file) imports() []string {
	var out []string
	for _, i := range f.ast.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err == nil {
			out = append(out, p)
		}
	}
	return out
}

func (f file) generated() bool { return ast.IsGenerated(f.ast) }

// under reports whether pkg is dir or below it; a dir ending in "/." is exact.
func under(pkg, dir string) bool {
	if exact, ok := strings.CutSuffix(dir, "/."); ok {
		return pkg == exact
	}
	return pkg == dir || strings.HasPrefix(pkg, dir+"/")
}

func TestImportsFollowTheTable(t *testing.T) {
	used := map[string]bool{}
	for _, f := range load(t) {
		if f.test {
			continue // tests may stand a real peer beside what they test
		}
		r := ruleFor(f.pkg)
		if r == nil {
			t.Errorf("%s: package %s has no row in the import table", f.path, f.pkg)
			continue
		}
		used[r.pkg] = true
		for _, imp := range f.imports() {
			ours, ok := strings.CutPrefix(imp, module)
			if !ok || under(ours, strings.TrimSuffix(r.pkg, "/.")) || r.any {
				continue
			}
			if !slices.ContainsFunc(r.may, func(m string) bool { return under(ours, m) }) {
				t.Errorf("%s: %s may not import %s (%s)", f.path, f.pkg, ours, r.why)
			}
		}
	}
	for _, r := range table {
		if !used[r.pkg] {
			t.Errorf("the import table names %s, which has no Go file", r.pkg)
		}
	}
}

// ruleFor returns the most specific row for a package.
func ruleFor(pkg string) *rule {
	var best *rule
	for i := range table {
		r := &table[i]
		if under(pkg, r.pkg) && (best == nil || len(r.pkg) > len(best.pkg)) {
			best = r
		}
	}
	return best
}

func TestThirdPartyModulesStayWhereTheyBelong(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range load(t) {
		for _, imp := range f.imports() {
			for mod, home := range confined {
				if imp != mod && !strings.HasPrefix(imp, mod+"/") {
					continue
				}
				seen[mod] = true
				if f.test && home.tests {
					continue
				}
				if !slices.ContainsFunc(home.pkgs, func(p string) bool { return under(f.pkg, p) }) {
					t.Errorf("%s imports %s, which belongs to %s", f.path, imp, strings.Join(home.pkgs, ", "))
				}
			}
		}
	}
	for mod := range confined {
		if !seen[mod] {
			t.Errorf("%s is confined but not used: take the row out", mod)
		}
	}
}

func TestEveryPackageHasOneComment(t *testing.T) {
	comments, code := map[string][]string{}, map[string]bool{}
	for _, f := range load(t) {
		if !f.test && !f.generated() {
			code[f.pkg] = true
		}
		if f.test && strings.HasSuffix(f.ast.Name.Name, "_test") {
			continue
		}
		if _, ok := comments[f.pkg]; !ok {
			comments[f.pkg] = nil
		}
		if f.ast.Doc != nil && !f.test && !f.generated() {
			comments[f.pkg] = append(comments[f.pkg], f.path)
		}
	}
	for pkg, where := range comments {
		if code[pkg] && len(where) != 1 {
			t.Errorf("package %s has %d package comments, want one: %v", pkg, len(where), where)
		}
	}
}

func TestNoHiddenStateNoExits(t *testing.T) {
	for _, f := range load(t) {
		if f.test || f.generated() {
			continue
		}
		at := func(n ast.Node) string { return f.set.Position(n.Pos()).String() }
		inCmd := f.ast.Name.Name == "main"
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init function; pass what it prepares as an argument", at(fn))
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			switch name := callee(call); name {
			case "os.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln":
				if !inCmd {
					t.Errorf("%s: %s outside a main package; return an error", at(call), name)
				}
			case "panic":
				t.Errorf("%s: panic; return an error", at(call))
			case "slog.Default", "slog.SetDefault", "slog.Info", "slog.Error", "slog.Warn", "slog.Debug":
				t.Errorf("%s: %s; the logger comes in through Deps", at(call), name)
			case "time.Sleep":
				t.Errorf("%s: time.Sleep; wait for the event", at(call))
			}
			return true
		})
	}
}

// TestTestsDoNotSleep: a test that sleeps is slow when it passes and wrong when
// the machine is.
func TestTestsDoNotSleep(t *testing.T) {
	for _, f := range load(t) {
		if !f.test {
			continue
		}
		// Inside a synctest bubble time is fake and Sleep means "let this much of
		// it pass": the one legitimate use.
		bubble := slices.Contains(f.imports(), "testing/synctest")
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && callee(call) == "time.Sleep" && !bubble {
				t.Errorf("%s: time.Sleep in a test; wait for the event", f.set.Position(call.Pos()))
			}
			return true
		})
	}
}

func callee(c *ast.CallExpr) string {
	switch fn := c.Fun.(type) {
	case *ast.Ident:
		return fn.Name
	case *ast.SelectorExpr:
		if x, ok := fn.X.(*ast.Ident); ok {
			return x.Name + "." + fn.Sel.Name
		}
	}
	return ""
}

// TestGlobalsDoNotChange refuses assignments to package variables.
func TestGlobalsDoNotChange(t *testing.T) {
	globals := map[string]map[string]bool{}
	files := load(t)
	for _, f := range files {
		if f.generated() || f.test {
			continue
		}
		for _, d := range f.ast.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				for _, n := range s.(*ast.ValueSpec).Names {
					if n.Name == "_" {
						continue // a compile-time assertion
					}
					if globals[f.pkg] == nil {
						globals[f.pkg] = map[string]bool{}
					}
					globals[f.pkg][n.Name] = true
				}
			}
		}
	}
	for _, f := range files {
		if f.generated() || f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			a, ok := n.(*ast.AssignStmt)
			if !ok || a.Tok == token.DEFINE {
				return true
			}
			for _, l := range a.Lhs {
				// An identifier that the parser resolved to a local declaration has
				// an Obj of a function's scope; a package variable of this file or
				// another is resolved to a ValueSpec or not at all.
				base := l
				if ix, ok := l.(*ast.IndexExpr); ok {
					base = ix.X
				}
				id, ok := base.(*ast.Ident)
				if !ok || !globals[f.pkg][id.Name] {
					continue
				}
				if id.Obj == nil || f.ast.Scope.Lookup(id.Name) == id.Obj {
					t.Errorf("%s: package variable %s is assigned to", f.set.Position(l.Pos()), id.Name)
				}
			}
			return true
		})
	}
}

func TestFilesStayReadable(t *testing.T) {
	const most = 700
	for _, f := range load(t) {
		if f.generated() {
			continue
		}
		if n := f.set.Position(f.ast.FileEnd).Line; n > most {
			t.Errorf("%s has %d lines, more than %d: split it by procedure or concern", f.path, n, most)
		}
	}
}
